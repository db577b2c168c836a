"""YOLO: `labels.py` finds and reads the videos, `data_yaml.py` reads classes and splits."""
