"""Pascal VOC: `labels.py` finds and reads the videos, `parser.py` parses the XML of a frame."""
