"""Reading of files of initial weights: a state_dict of a network, and nothing else."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sparsevod_core.errors import CheckpointError
from sparsevod_core.weights_file import read_weights, require_finite


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        CheckpointError: the file is missing, unsafe or no state_dict, or a number is not finite.
    """
    state = read_weights(path)
    is_state = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    if not is_state:
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(state).__name__}")
    require_finite(path, state)
    return state


def require_same_tensors(
    path: Path, state: dict[str, Tensor], ours: dict[str, Tensor], name: str
) -> None:
    """Check that the tensors of a file have the names and shapes of those of a network.

    Args:
        path: the file.
        state: its tensors.
        ours: tensors of the network.
        name: of the network, for the error.

    Raises:
        CheckpointError: with the number of tensors that differ.
    """
    missing, unexpected = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    other = [key for key in ours.keys() & state.keys() if ours[key].shape != state[key].shape]
    if missing or unexpected or other:
        raise CheckpointError(
            f"{path}: not the weights of {name}: {len(missing)} missing (first "
            f"{missing[:1]}), {len(unexpected)} unexpected, {len(other)} of another shape"
        )
