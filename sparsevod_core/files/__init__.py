"""Output files: what may be written, files that are complete or absent, and locks.

Every command writes its files through this package. `check` decides before the work begins,
`unfinished`, `new_folder` and `stdout` write, `lock` keeps a second process away.
"""
