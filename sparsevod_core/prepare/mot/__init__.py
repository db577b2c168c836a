"""MOT Challenge: `labels.py` finds and reads the sequences, `parser.py` parses `gt.txt`."""
