"""Degraded copy of a prepared set, with the degradation of each frame recorded."""
