"""Settings and their defaults as frozen dataclasses, with YAML files and `a.b=c` overrides.

The defaults are the paper's recipe (ResNet-50 on ImageNet VID). `presets/*.yaml` contain only what
differs for other backbones. No default is stated anywhere else in the project.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from sparsevod_core.errors import ConfigError

PRESETS_DIR = Path(__file__).parent / "presets"

Backbone = Literal["tiny", "r50", "r101", "x101_32x8d", "x101_64x4d"]
Aggregation = Literal["off", "average", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Detector (paper, section 3; `docs/method.md` gives the source of each choice)."""

    backbone: Backbone = "r50"
    """ResNet or ResNeXt of torchvision, or `tiny` (ResNet-10)."""
    norm: Literal["batch", "batch_frozen", "group"] = "batch"
    """Norm of the backbone. `batch`: BatchNorm with stored statistics, weight and bias are trained.
    `batch_frozen`: the same, nothing is trained (original Sparse R-CNN). `group`: GroupNorm, to
    train from scratch."""
    map_norm: Literal["none", "layer"] = "none"
    """Norm of P2..P5. `none`: as in the reference. `layer`: LayerNorm over the channels of each
    position, to train from scratch. Without it, the scale of the maps grows until TFE's softmax
    selects one frame and learns nothing."""
    frozen_stages: int = 2
    """Number of ResNet stages that are not trained, counted from the stem; 2: stem and layer1."""
    num_classes: int = 30
    """Number of classes; `train` sets it to the number of categories in the annotations."""
    num_proposals: int = 100
    """Number of learned proposals per frame."""
    proposal_init: Literal["image", "random", "grid"] = "image"
    """Initial boxes of the learned proposals. `image`: the entire image (the reference). `random`
    and `grid` scatter them, as in the paper's Fig. 3(a)."""
    channels: int = 256
    """Number of channels of pyramid levels, RoI features and proposal features."""
    num_heads: int = 8
    """Number of heads of the self-attention among proposals."""
    ffn_dim: int = 2048
    """Hidden size of the feed-forward network of a head stage."""
    dynamic_dim: int = 64
    """Hidden size of the instance interaction."""
    num_stages: int = 6
    """Number of head stages, 1 to 6."""
    tfe: Aggregation = "attention"
    """Temporal RoI feature extraction; `average` is "Avg." in the paper's Table 4."""
    tfe_blocks: int = 4
    """Number of channel blocks (heads) of TFE's attention."""
    tfe_top_k: int = 2
    """Number of similar positions used per RoI bin and support frame."""
    support_level: Literal["p2", "p3", "p4", "p5"] = "p5"
    """Pyramid level of the support frames in which TFE searches for similar features."""
    spfa: Aggregation = "attention"
    """Semantic proposal feature aggregation; `average` is "Avg." in the paper's Table 4."""
    spfa_heads: int = 8
    """Number of heads of SPFA's attention."""
    box_decode: Literal["mmdetection", "original"] = "mmdetection"
    """Clamp of the size deltas: to +-4.135 (MMDetection), or only from above to 8.74 (original)."""

    def __post_init__(self) -> None:
        _check_range("model.num_stages", self.num_stages, 1, 6)
        _check_range("model.num_proposals", self.num_proposals, 1)
        _check_range("model.num_classes", self.num_classes, 1)
        _check_range("model.frozen_stages", self.frozen_stages, 0, 5)
        for name in ("channels", "ffn_dim", "dynamic_dim", "tfe_top_k"):
            _check_range(f"model.{name}", getattr(self, name), 1)
        for name in ("num_heads", "tfe_blocks", "spfa_heads"):
            parts = getattr(self, name)
            _check_range(f"model.{name}", parts, 1)
            if self.channels % parts:
                raise ConfigError(
                    f"model.{name}={parts}: expected a divisor of model.channels={self.channels}"
                )
        if self.norm == "group" and self.frozen_stages:
            raise ConfigError(
                f"model.frozen_stages={self.frozen_stages} would freeze random weights: "
                "model.norm=group is for training from scratch",
                hint="add --set model.frozen_stages=0",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Annotations, frame size, augmentation and sampling of training clips."""

    train_annotations: str = "data/imagenet_vid/train.json"
    """Path of the training annotations (COCO-VID JSON)."""
    train_root: str | None = None
    """Folder of the training frames; none: as recorded in the JSON, or the folder of the JSON."""
    val_annotations: str | None = "data/imagenet_vid/val.json"
    """Path of the validation annotations; none: no validation."""
    val_root: str | None = None
    """Folder of the validation frames, as `train_root`."""
    short_side: int = 600
    """Length of the shorter side of resized frames, in pixels."""
    long_side: int = 1000
    """Maximum length of the longer side of resized frames, in pixels."""
    flip: float = 0.5
    """Probability of flipping a training clip horizontally."""
    crop: float = 0.0
    """Maximum share of each side that a random crop of a training clip removes; for small sets."""
    colour: float = 0.0
    """Maximum relative change of brightness, contrast, saturation and hue; for small sets."""
    supports: int = 2
    """Number of support frames of a training clip."""
    support_range: int = 9
    """Maximum distance of support frames from the target frame of a training clip, in frames."""
    workers: int = 2
    """Number of loader processes per rank; 0: load in the training process."""

    def __post_init__(self) -> None:
        _check_range("data.short_side", self.short_side, 32)
        if self.long_side < self.short_side:
            raise ConfigError(
                f"data.long_side={self.long_side}: expected at least data.short_side, "
                f"{self.short_side}"
            )
        _check_range("data.flip", self.flip, 0, 1)
        _check_range("data.crop", self.crop, 0, 0.9)
        _check_range("data.colour", self.colour, 0, 0.9)
        _check_range("data.supports", self.supports, 0)
        _check_range("data.support_range", self.support_range, 1)
        _check_range("data.workers", self.workers, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the matching cost and the loss (paper, section 3.1; values of Sparse R-CNN)."""

    class_weight: float = 2.0
    """Weight of the focal loss."""
    l1_weight: float = 5.0
    """Weight of the L1 loss of boxes."""
    giou_weight: float = 2.0
    """Weight of the GIoU loss of boxes."""
    focal_alpha: float = 0.25
    """Weight of positives in the focal loss; negatives have 1 - alpha."""
    focal_gamma: float = 2.0
    """Exponent of the focal loss."""

    def __post_init__(self) -> None:
        for field_ in dataclasses.fields(self):
            _check_range(f"loss.{field_.name}", getattr(self, field_.name), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Training recipe (paper, section 4.1)."""

    backbone_weights: str = "imagenet"
    """Initial weights of the backbone: `imagenet` (downloaded by torchvision), `none` (random,
    needs model.norm=group), or the path of a file."""
    init_from: str | None = None
    """Checkpoint to start from: ours, MMDetection's or the original Sparse R-CNN's."""
    clips_per_gpu: int = 1
    """Number of clips per batch on each GPU."""
    accumulate: int = 1
    """Number of batches whose gradients are summed before a step."""
    epochs: int = 12
    """Number of epochs."""
    max_steps: int | None = None
    """Stop after this step; the schedule still spans `epochs`, so that training can be resumed."""
    learning_rate: float = 2.5e-5
    """Learning rate after warm-up."""
    backbone_rate: float = 1.0
    """Learning rate of the backbone without the FPN, as a multiple of `learning_rate`."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    clip_grad_norm: float = 1.0
    """Maximum norm of the gradient."""
    warmup_steps: int = 1000
    """Number of steps of linear warm-up."""
    warmup_start: float = 0.01
    """Initial learning rate of the warm-up as a fraction of `learning_rate`."""
    schedule: Literal["step", "cosine"] = "step"
    """Schedule of the learning rate after warm-up."""
    milestones: tuple[int, ...] = (8, 11)
    """Epochs after which the `step` schedule divides the learning rate by 10."""
    ema: float = 0.0
    """Decay per step of the moving average of the weights, which is evaluated and saved; 0: off."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """`tf32`: fp32 with TensorFloat-32 products on a GPU, same as fp32 elsewhere; `bf16`:
    autocast."""
    record: bool = True
    """On a GPU, capture forward and backward of each shape of clips as CUDA graphs."""
    recompute_stages: bool = False
    """Compute the head stages again in the backward pass instead of storing their activations:
    less memory, more time, same gradients."""
    log_every: int = 50
    """Steps between log lines."""
    tensorboard: bool = False
    """Also write the metrics of metrics.jsonl for TensorBoard."""
    checkpoint_every: int = 1000
    """Steps between checkpoints; the end of each epoch is saved too."""
    eval_every: int = 1
    """Epochs between evaluations on `data.val_annotations`; 0: never."""
    patience: int = 0
    """Stop after this many evaluations in a row without a better AP; 0: never."""

    def __post_init__(self) -> None:
        for name in ("clips_per_gpu", "accumulate", "epochs", "log_every", "checkpoint_every"):
            _check_range(f"train.{name}", getattr(self, name), 1)
        if self.max_steps is not None:
            _check_range("train.max_steps", self.max_steps, 1)
        not_negative = ("learning_rate", "backbone_rate", "weight_decay", "clip_grad_norm")
        for name in (*not_negative, "warmup_steps", "eval_every", "patience"):
            _check_range(f"train.{name}", getattr(self, name), 0)
        if not 0 <= self.ema < 1:
            raise ConfigError(f"train.ema={self.ema}: expected at least 0 and less than 1")
        _check_range("train.warmup_start", self.warmup_start, 0, 1)
        if self.patience and not self.eval_every:
            raise ConfigError(
                f"train.patience={self.patience} counts evaluations, but train.eval_every=0",
                hint="add --set train.eval_every=1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Inference on videos (paper, section 4.4)."""

    supports: int = 6
    """Number of support frames."""
    support: Literal["uniform", "window", "causal"] = "uniform"
    """Choice of support frames: spread over the video, around the target frame, or before it."""
    window_stride: int = 1
    """Distance in frames between the support frames of `window`."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"
    """Precision of maps and RoI features. `fp32`: full fp32 on every device. `tf32`: fp32 with
    TensorFloat-32 products on a GPU, same as fp32 elsewhere. `auto`: bf16 if the hardware supports
    it, else fp32."""
    fast: bool = True
    """Use the optimized implementation (`sparsevod_core.fast`): same results, faster."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the model on a GPU; `auto`: only if there are enough frames to make up for it."""
    batch: int | None = None
    """Number of target frames of a video per forward pass; none: 16 on a GPU, else 1, and always 1
    with `causal` support frames, so that a stream is not delayed."""

    def __post_init__(self) -> None:
        _check_range("inference.supports", self.supports, 0)
        _check_range("inference.window_stride", self.window_stride, 1)
        if self.batch is not None:
            _check_range("inference.batch", self.batch, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run, saved in its folder and in every checkpoint."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    seed: int = 0
    """Seed of all random choices of a run."""

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0, 2**63 - 1)

    def replace(self, overrides: Mapping[str, Any]) -> Config:
        """Return a copy with dotted keys set, e.g. `{"train.epochs": 1}`; text is cast.

        Raises:
            ConfigError: unknown key, or a value of the wrong type or outside its range.
        """
        return _build({**self.flat(), **overrides})

    def flat(self) -> dict[str, Any]:
        """Return every setting by its dotted key, e.g. `train.learning_rate`."""
        return _flat(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return a plain nested dict, as written to YAML files and checkpoints."""
        plain = dataclasses.asdict(self)
        for section in plain.values():
            if isinstance(section, dict):
                section.update({k: list(v) for k, v in section.items() if isinstance(v, tuple)})
        return plain

    def to_yaml(self) -> str:
        """Return the resolved config as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def preset_names() -> list[str]:
    """Return the names that `load_config(preset=...)` and `--backbone` accept."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def load_config(
    preset: str | None = None,
    file: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """Merge the defaults, a preset, a YAML file and `a.b=c` overrides; later ones win.

    Raises:
        ConfigError: unknown preset or key, unreadable file, or a value of the wrong type or outside
            its range.
    """
    settings: dict[str, Any] = {}
    if preset is not None:
        if preset not in preset_names():
            raise ConfigError(
                f"unknown backbone preset {preset!r}: expected one of {', '.join(preset_names())}",
                hint=_did_you_mean(preset, preset_names()),
            )
        settings |= _read_yaml(PRESETS_DIR / f"{preset}.yaml")
    if file is not None:
        settings |= _read_yaml(Path(file))
    return Config().replace(settings | override_pairs(overrides))


def override_pairs(overrides: Sequence[str]) -> dict[str, str]:
    """Parse `a.b=c` texts into values by dotted key, for `Config.replace`; the last one wins.

    Raises:
        ConfigError: a text without `=`.
    """
    pairs = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set {text!r}: expected key=value, e.g. --set train.epochs=1")
        pairs[key.strip()] = value.strip()
    return pairs


def file_overrides(file: Path | str) -> list[str]:
    """Return the settings of a YAML file as `a.b=c` texts, to override a checkpoint's config.

    Raises:
        ConfigError: unreadable file or an unknown key.
    """
    settings = _read_yaml(Path(file))
    for key, value in settings.items():
        _require_setting(key, value)
    return [f"{key}={value}" for key, value in settings.items()]


def config_from_dict(tree: Mapping[str, Any]) -> Config:
    """Invert `Config.to_dict`; missing keys keep their defaults.

    Raises:
        ConfigError: unknown key, or a value of the wrong type or outside its range.
    """
    return Config().replace(_flat(tree))


class _SettingsLoader(yaml.SafeLoader):
    """YAML loader that keeps a bare `on` or `off` as a word; YAML 1.1 reads them as bools."""

    def construct_word_or_bool(self, node: yaml.ScalarNode) -> str | bool:
        word = str(node.value).lower()
        return word if word in ("on", "off") else self.construct_yaml_bool(node)


_SettingsLoader.add_constructor("tag:yaml.org,2002:bool", _SettingsLoader.construct_word_or_bool)


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings of a YAML file by dotted key."""
    try:
        loaded = _SettingsLoader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config file: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).replace("\n", " ")
        raise ConfigError(f"{path}: not a YAML file: {first_line}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected settings by name, got {type(loaded).__name__}")
    return _flat(loaded)


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a nested dict of settings by dotted key."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"expected settings by name, got {tree!r}")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": setting for name, setting in _flat(value).items()}
        elif value is not None or key not in _sections():  # None: all its lines commented out
            flat[str(key)] = value
    # Older versions wrote a bool; `false` was the default.
    if isinstance(flat.get("inference.compile"), bool):
        flat["inference.compile"] = "on" if flat["inference.compile"] else "auto"
    # Older versions called this setting `checkpoint_stages`.
    if "train.checkpoint_stages" in flat:
        flat["train.recompute_stages"] = flat.pop("train.checkpoint_stages")
    return flat


@cache
def _sections() -> dict[str, type]:
    """Return the dataclass of each section of `Config`."""
    hints = get_type_hints(Config)
    return {
        name: kind
        for name, kind in hints.items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }


@cache
def _types() -> dict[str, Any]:
    """Return the type hint of every setting by its dotted key."""
    types = {name: kind for name, kind in get_type_hints(Config).items() if name not in _sections()}
    for section, kind in _sections().items():
        types |= {f"{section}.{name}": hint for name, hint in get_type_hints(kind).items()}
    return types


def _require_setting(key: str, value: Any) -> None:
    if key in _sections():
        raise ConfigError(f"{key}: expected settings by name, got {value!r}")
    if key not in _types():
        raise ConfigError(f"unknown setting {key!r}", hint=_did_you_mean(key, list(_types())))


def _did_you_mean(word: str, choices: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if not close:  # a bare name without its section
        close = [name for name in choices if name.rpartition(".")[2] == word.rpartition(".")[2]][:1]
    return f"did you mean {close[0]}?" if close else None


def _build(settings: Mapping[str, Any]) -> Config:
    """Build a config from values by dotted key, cast to the types of the fields."""
    top_level: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {name: {} for name in _sections()}
    for key, value in settings.items():
        _require_setting(key, value)
        section, _, name = key.rpartition(".")
        values = sections[section] if section else top_level
        values[name] = _cast(value, _types()[key], key)
    built = {name: kind(**sections[name]) for name, kind in _sections().items()}
    return Config(**built, **top_level)


def _cast(value: Any, hint: Any, dotted: str) -> Any:
    """Cast a value from YAML or text to the type of its field; PyYAML reads 1e-4 as text."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        is_none = value is None or (isinstance(value, str) and value.lower() in ("none", "null"))
        if is_none and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        return _cast(value, rest[0], dotted)
    if origin is Literal:
        if value not in arguments:
            choices = ", ".join(map(str, arguments))
            raise ConfigError(
                f"{dotted}={value}: expected one of {choices}",
                hint=_did_you_mean(str(value), [str(choice) for choice in arguments]),
            )
        return value
    if origin is tuple:
        items = value
        if isinstance(value, str):
            items = [part for part in value.strip("[]() ").split(",") if part.strip()]
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{dotted}={value}: expected a list, e.g. [8,11]")
        return tuple(_cast(item, arguments[0], dotted) for item in items)
    if hint is bool:
        text = str(value).lower()
        if text not in ("true", "on", "false", "off"):
            raise ConfigError(f"{dotted}={value}: expected true or false")
        return text in ("true", "on")
    try:
        if hint is int and not isinstance(value, bool):
            if not isinstance(value, float) or value.is_integer():
                return int(value)
        elif hint is float and not isinstance(value, bool):
            if math.isfinite(float(value)):
                return float(value)
        elif hint is str and isinstance(value, str | int | float):
            return str(value)
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"{dotted}={value}: expected {hint.__name__}, got {value!r}")


def _check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    if value < low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{name}={value}: expected {expected}")
