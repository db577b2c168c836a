"""Settings of a run, resolved before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsevod_core.config import (
    Config,
    DataConfig,
    file_overrides,
    load_config,
    override_pairs,
    with_roots,
)
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.weights.by_name import checkpoint_file
from sparsevod_core.weights.lite0_package import lite0_weights_file

FROM_SCRATCH: tuple[str, ...] = ("model.norm=group", "model.frozen_stages=0")
NO_VALIDATION = ("data.val_annotations=none",)

MAY_DIFFER = (
    "data.train_annotations",
    "data.train_root",
    "data.val_annotations",
    "data.val_root",
    "data.workers",
)
"""Settings that may differ between machines: places of files, and loader processes."""

MAY_CHANGE = (
    *MAY_DIFFER,
    "train.backbone_weights",
    "train.init_from",
    "train.epochs",
    "train.max_steps",
    "train.patience",
    "train.tensorboard",
    "train.recompute_stages",
    "train.record",
    "train.log_every",
    "train.checkpoint_every",
    "train.eval_every",
    "inference.",
    "track.",
)
"""Settings that a resumed run may change: length, paths, logging, and how a step is computed."""


def new_run_settings(
    backbone: str,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
    *,
    system: str | None = None,
) -> Config:
    """Return the settings of a preset, a file and overrides, with defaults that depend on them.

    Unless file or overrides set them, two defaults change. Without pretrained weights, all norms
    are GroupNorm and no stage is frozen. With the user's own training annotations, there is no
    validation set.

    Raises:
        ConfigError: Unknown setting, or values that do not fit together.
        DataError: An annotation file is missing.
        CheckpointError: Published weights as `train.init_from` that cannot be had, or the weights
            of lite0 are not installed.
    """
    reporter = reporter or SilentReporter()
    given = [*([] if file is None else file_overrides(file)), *with_roots(overrides)]
    system = system or override_pairs(given).get("model.system")
    preset = load_config(backbone, system=system)
    # Model settings may be valid only together with FROM_SCRATCH.
    not_model = [text for text in given if not text.startswith("model.")]
    others = load_config(backbone, overrides=not_model, system=system)
    is_from_scratch = others.train.backbone_weights == "none" and others.train.init_from is None
    has_own_data = others.data.train_annotations != DataConfig().train_annotations
    defaults = FROM_SCRATCH if is_from_scratch else ()
    defaults += NO_VALIDATION if has_own_data else ()
    config = load_config(backbone, overrides=[*defaults, *given], system=system)
    norm, frozen = config.model.norm, config.model.frozen_stages
    if is_from_scratch and (norm, frozen) != (preset.model.norm, preset.model.frozen_stages):
        reporter.message(
            "training from scratch, without backbone weights: "
            f"using model.norm={norm}, model.frozen_stages={frozen}"
        )
    require_annotations(config.data)
    _require_weights_that_fit(config)
    if config.train.init_from is not None:
        # A download comes before the processes, which would all wait for it.
        checkpoint_file(config.train.init_from, reporter, is_start=True)
    return config


def resumed_settings(saved: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the settings in a run's `config.yaml` with the overrides that resuming allows.

    Raises:
        ConfigError: Unknown setting, or one that a resumed run cannot change.
        DataError: An annotation file is missing.
    """
    before = load_config(file=saved)
    config = load_config(file=saved, overrides=with_roots(overrides))
    require_same_run(before, config)
    require_annotations(config.data)
    return config


def require_same_run(before: Config, after: Config) -> None:
    """Check that `after` differs from `before` only in settings that a resumed run may change.

    Raises:
        ConfigError: With the first other setting that differs.
    """
    old, new = before.flat(), after.flat()
    for key, value in new.items():
        if value != old[key] and not key.startswith(MAY_CHANGE):
            raise ConfigError(
                f"a resumed run cannot change {key} from {old[key]} to {value}",
                hint="start a new run from its weights: --init-from RUN/checkpoints/last.pth",
            )


def require_annotations(data: DataConfig) -> None:
    """Check that the annotation files exist.

    Raises:
        DataError: With the missing file and how to prepare it.
    """
    default = DataConfig()
    if not Path(data.train_annotations).is_file():
        hint = "give a COCO-VID JSON file: --annotations train.json --root FRAMES"
        if data.train_annotations == default.train_annotations:
            folder = Path(data.train_annotations).parent
            hint = (
                "to train on ImageNet VID, prepare it first: "
                f"sparsevod prepare-vid ILSVRC_ROOT -o {folder}; "
                "to train on your own data: --annotations train.json --root FRAMES"
            )
        raise DataError(f"{data.train_annotations}: no such file of training annotations", hint)
    if data.val_annotations is not None and not Path(data.val_annotations).is_file():
        raise DataError(
            f"{data.val_annotations}: no such file of validation annotations",
            hint="use --val FILE, or train without: --set data.val_annotations=none",
        )


def _require_weights_that_fit(config: Config) -> None:
    weights, frozen = config.train.backbone_weights, config.model.frozen_stages
    if config.train.init_from is not None or (weights == "none" and not frozen):
        return
    if weights == "none":
        raise ConfigError(
            f"model.frozen_stages={frozen} would freeze random weights",
            hint="add --set model.frozen_stages=0, or use --backbone-weights imagenet",
        )
    problem = None
    if config.model.backbone == "tiny":
        problem = "the tiny backbone has no pretrained weights"
    elif config.model.norm == "group":
        problem = "pretrained backbones use BatchNorm, but model.norm=group"
    if problem is not None:
        raise ConfigError(
            f"--backbone-weights {weights}: {problem}", hint="use --backbone-weights none"
        )
    if config.model.backbone == "lite0" and weights == "imagenet":
        lite0_weights_file()  # raises an error before anything is created
