"""Checkpoints of other projects.

Their files say little about the network besides its weights, so settings are inferred from names
and shapes. `conversion` recognizes a file; each family of detectors has a module of its own.
"""

from sparsevod_core.checkpoint.foreign.conversion import from_foreign, names_in_file, state_dict_in

__all__ = ["from_foreign", "names_in_file", "state_dict_in"]
