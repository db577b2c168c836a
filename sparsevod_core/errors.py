"""Errors with a one-line message for the user and a hint on what to do."""


class SparseVodError(Exception):
    """Base class of all errors that this project raises deliberately.

    Args:
        message: one line: place, problem, expected and actual value.
        hint: what to do next, often a command to run.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def in_one_line(self) -> str:
        """Return the message with the hint, for a list of several errors."""
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


class ConfigError(SparseVodError):
    """Invalid setting or option (usage error)."""

    exit_code = 2


class DataError(SparseVodError):
    """Missing or corrupt annotation file, image or data set folder."""


class VideoError(SparseVodError):
    """Video that cannot be opened, decoded or written."""


class CheckpointError(SparseVodError):
    """Checkpoint that is missing, truncated, unsafe, or of another model."""
