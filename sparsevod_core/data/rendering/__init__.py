"""Draws the frames of the synthetic set. Needs numpy and OpenCV, knows no file."""
