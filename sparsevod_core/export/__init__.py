"""A detector as two graphs that other programs run."""

from sparsevod_core.export.files import SUFFIXES, export_detector

__all__ = ["SUFFIXES", "export_detector"]
