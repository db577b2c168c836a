"""Export of a detector as two graphs for other programs."""

from sparsevod_core.export.files import SUFFIXES, export_detector

__all__ = ["SUFFIXES", "export_detector"]
