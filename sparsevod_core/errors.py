"""Errors that a user can act on: one line on what is wrong, and a hint on what to do."""


class SparseVodError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        message: what, where, expected and got, in one line.
        hint: what to do next, often the command to run.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(SparseVodError):
    """A setting or an option that cannot be used; a usage error."""

    exit_code = 2


class DataError(SparseVodError):
    """An annotation file, image or data set folder that is missing or broken."""


class VideoError(SparseVodError):
    """A video that cannot be opened, decoded or written."""


class CheckpointError(SparseVodError):
    """A checkpoint that is missing, truncated, unsafe, or of another model."""
