"""Trained weights by name: the list of published ones, their download and the cache.

The weights of the bundled model are in this folder as well; `sparsevod_core.embedded` finds them.
"""
