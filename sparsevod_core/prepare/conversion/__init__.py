"""Conversion of annotated videos to COCO-VID JSON, whatever format they were read from."""
