"""CVAT for video 1.1: `labels.py` finds and reads the tasks, `parser.py` parses the XML."""
