"""Text files of MOT Challenge, VisDrone and UAVDT, one per sequence.

`sequences.py` finds them, `rows.py` reads their numbers, `columns.py` tells what these mean,
`parser.py` makes entries of them, and `labels.py` makes annotated videos of the entries.
"""
