"""Weight names of other projects and what we call these weights, one file per family of detectors.

`renaming` applies the tables. Nothing here depends on sizes: what a file contains is decided by
names alone.
"""
