"""The settings of a run, resolved before anything heavy is imported or started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsevod_core.config import Config, DataConfig, file_overrides, load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.reporting import Reporter, SilentReporter

FROM_NOISE = ("model.norm=group", "model.frozen_stages=0")
NO_VALIDATION = "data.val_annotations=none"

MAY_CHANGE = (
    "data.train_annotations",
    "data.train_root",
    "data.val_annotations",
    "data.val_root",
    "data.workers",
    "train.backbone_weights",
    "train.init_from",
    "train.epochs",
    "train.max_steps",
    "train.patience",
    "train.tensorboard",
    "train.checkpoint_stages",
    "train.record",
    "train.log_every",
    "train.checkpoint_every",
    "train.eval_every",
    "inference.",
)
"""What a resumed run may have otherwise: how long, where files are, how often something is said."""


def new_run_settings(
    backbone: str,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Config:
    """Preset, file and overrides, and what follows from them.

    Without pretrained weights nothing is frozen and every norm is a GroupNorm, and own training
    annotations go without the default validation set, unless file or overrides say otherwise.

    Raises:
        ConfigError: unknown setting, or values that do not fit together.
        DataError: the annotation files are not there.
    """
    reporter = reporter or SilentReporter()
    given = [*([] if file is None else file_overrides(file)), *overrides]
    # Those of the model may fit together only once `FROM_NOISE` is among them.
    of_model = [text for text in given if text.startswith("model.")]
    preset = load_config(backbone)
    others = load_config(backbone, overrides=[text for text in given if text not in of_model])
    is_from_noise = others.train.backbone_weights == "none" and others.train.init_from is None
    has_own_data = others.data.train_annotations != DataConfig().train_annotations
    defaults = [*(FROM_NOISE if is_from_noise else ()), *([NO_VALIDATION] if has_own_data else ())]
    config = load_config(backbone, overrides=[*defaults, *given])
    norm, frozen = config.model.norm, config.model.frozen_stages
    if is_from_noise and (norm, frozen) != (preset.model.norm, preset.model.frozen_stages):
        reporter.message(
            "training from scratch, without backbone weights: "
            f"model.norm={norm}, model.frozen_stages={frozen}"
        )
    require_annotations(config.data)
    _require_weights_that_fit(config)
    return config


def resumed_settings(saved: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings of a run's `config.yaml` with those changes that leave it the same run.

    Raises:
        ConfigError: unknown setting, or one that would make it another run.
        DataError: the annotation files are not there.
    """
    before = load_config(file=saved)
    config = load_config(file=saved, overrides=overrides)
    require_same_run(before, config)
    require_annotations(config.data)
    return config


def require_same_run(before: Config, after: Config) -> None:
    """Check that `after` differs from `before` only where a resumed run may.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    old, new = before.flat(), after.flat()
    for key, value in new.items():
        if value != old[key] and not key.startswith(MAY_CHANGE):
            raise ConfigError(
                f"a resumed run cannot change {key} from {old[key]} to {value}",
                hint="start a new run from its weights: --init-from RUN/checkpoints/last.pth",
            )


def require_annotations(data: DataConfig) -> None:
    """Check that the annotation files are there.

    Raises:
        DataError: naming the missing file and how to prepare it.
    """
    default = DataConfig()
    if not Path(data.train_annotations).is_file():
        hint = "give a COCO-VID JSON: --annotations train.json --root FRAMES"
        if data.train_annotations == default.train_annotations:
            folder = Path(data.train_annotations).parent
            hint = (
                "this is where a prepared ImageNet VID belongs: "
                f"sparsevod prepare-vid ILSVRC_ROOT -o {folder}; "
                "your own data: --annotations train.json --root FRAMES"
            )
        raise DataError(f"{data.train_annotations}: no training annotations there", hint)
    if data.val_annotations is not None and not Path(data.val_annotations).is_file():
        raise DataError(
            f"{data.val_annotations}: no validation annotations there",
            hint="give them with --val, or train without: --set data.val_annotations=none",
        )


def _require_weights_that_fit(config: Config) -> None:
    weights, frozen = config.train.backbone_weights, config.model.frozen_stages
    if config.train.init_from is not None or (weights == "none" and not frozen):
        return
    if weights == "none":
        raise ConfigError(
            f"model.frozen_stages={frozen} would freeze random weights",
            hint="add --set model.frozen_stages=0, or give weights: --backbone-weights imagenet",
        )
    why = None
    if config.model.backbone == "tiny":
        why = "the tiny backbone has no pretrained weights"
    elif config.model.norm == "group":
        why = "pretrained backbones have BatchNorm, and model.norm=group"
    if why is not None:
        raise ConfigError(
            f"--backbone-weights {weights}: {why}", hint="add --backbone-weights none"
        )
