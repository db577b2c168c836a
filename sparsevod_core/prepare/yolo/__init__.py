"""YOLO: `labels.py` finds and reads the videos, `parser.py` parses a line of a label file."""
