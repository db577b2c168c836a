"""Rendering of a small video set of moving, patterned objects."""
