"""Settings and their defaults as frozen dataclasses, with YAML files and `a.b=c` overrides.

The defaults are the paper's recipe (ResNet-50 on ImageNet VID). `presets/SYSTEM.yaml` contains only
what differs for another system (section `all`) and its backbones. No default is stated anywhere
else in the project.
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
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from sparsevod_core.errors import ConfigError
from sparsevod_core.safe_yaml import read_yaml

PRESETS_DIR = Path(__file__).parent / "presets"
_EXCERPT = 80  # characters of a value in an error message


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a setting may have, both ends included; a file from a stranger states some too.

    The upper ends of sizes and numbers are far above any useful value. They keep a typing error or
    a hostile file from allocating all memory.
    """

    low: float
    high: float


Count = Annotated[int, Range(1, 1_000_000_000)]
CountOrZero = Annotated[int, Range(0, 1_000_000_000)]
Fraction = Annotated[float, Range(0, 1)]
Factor = Annotated[float, Range(0, 1e30)]

MAX_HEAD_PARAMETERS = 1_000_000_000
"""Maximum number of parameters of all head stages, estimated; the paper's model has 70 million."""

System = Literal["sparsevod", "selsa", "troi", "mamba", "mega", "transvod", "fgfa"]
ResNetName = Literal["tiny", "r50", "r101", "x101_32x8d", "x101_64x4d"]
LayerNormName = Literal["swin_t", "swin_s", "swin_b", "convnext_t", "convnext_s", "convnext_b"]
Backbone = Literal[ResNetName, "lite0", LayerNormName]
Aggregation = Literal["off", "average", "attention"]

_YES, _NO = ("true", "on", "yes"), ("false", "off", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class FasterRCNNConfig:
    """Two-stage detector of SELSA, TROI, MAMBA, FGFA and MEGA (Ren et al., NeurIPS 2015)."""

    anchor_sides: tuple[Annotated[float, Range(1, 8192)], ...] = (64.0, 128.0, 256.0, 512.0)
    """Square roots of the areas of the anchors, in pixels; each has the ratios 0.5, 1 and 2."""
    candidates: Annotated[int, Range(1, 100_000)] = 6000
    """Number of best anchors of a frame that enter NMS."""
    train_proposals: Annotated[int, Range(1, 10_000)] = 600
    """Number of proposals of a target frame in training, from which the head's are sampled."""
    support_proposals: Annotated[int, Range(1, 10_000)] = 300
    """Number of proposals of a support frame."""
    rpn_samples: Annotated[int, Range(1, 100_000)] = 256
    """Number of anchors of a frame in the loss of the region proposal network."""
    head_samples: Annotated[int, Range(1, 10_000)] = 256
    """Number of proposals of a frame in the loss of the head."""
    head_dim: Annotated[int, Range(1, 65_536)] = 1024
    """Width of the head's fully connected layers."""
    head_layers: Annotated[int, Range(1, 16)] = 2
    """Number of fully connected layers of the head; an aggregation follows each."""
    attention_heads: Annotated[int, Range(1, 1024)] = 16
    """Number of heads of each aggregation."""
    min_score: Fraction = 0.0001
    """Detections with a score greater than this remain."""
    nms_iou: Fraction = 0.5
    """IoU with a better detection of the same class above which a detection is dropped."""
    max_detections: Annotated[int, Range(1, 10_000)] = 100
    """Maximum number of detections of a frame."""

    def __post_init__(self) -> None:
        _check_ranges(self, "model.faster_rcnn.")
        if self.head_dim % self.attention_heads:
            raise ConfigError(
                f"model.faster_rcnn.attention_heads={self.attention_heads}: expected a divisor of "
                f"model.faster_rcnn.head_dim={self.head_dim}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MAMBAConfig:
    """Memory bank of MAMBA (Sun et al., AAAI 2021)."""

    bank_rows: Annotated[int, Range(1, 1_000_000)] = 20_000
    """Number of proposal features that the bank of a video holds."""
    read_rows: Annotated[int, Range(1, 100_000)] = 2000
    """Number of them that a target frame attends to, drawn at random."""

    def __post_init__(self) -> None:
        _check_ranges(self, "model.mamba.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MEGAConfig:
    """Relation modules of MEGA (Chen et al., CVPR 2020)."""

    advanced_proposals: Annotated[int, Range(1, 10_000)] = 15
    """Number of best proposals of a support frame that take part in the later stages."""
    memory_frames: Annotated[int, Range(1, 1000)] = 25
    """Number of past frames whose features the memory of each stage holds."""
    global_layers: Annotated[int, Range(1, 8)] = 1
    """Number of relation modules over the global frames: 1 before the local stages, others after;
    2 with ResNet-101."""
    reduction: Annotated[int, Range(0, 8192)] = 256
    """Number of channels of the map from which RoIs are pooled; 0: all channels of layer4, as with
    ResNet-101."""

    def __post_init__(self) -> None:
        _check_ranges(self, "model.mega.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FGFAConfig:
    """Flow-guided feature aggregation (Zhu et al., ICCV 2017)."""

    flow: Literal["flownet", "none"] = "flownet"
    """Network that predicts the motion between frames; `none`: maps are not warped."""
    flow_width: Annotated[int, Range(1, 1024)] = 64
    """Number of channels of FlowNet's first layer."""

    def __post_init__(self) -> None:
        _check_ranges(self, "model.fgfa.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransVODConfig:
    """Deformable DETR and temporal layers of TransVOD (He et al., ACM MM 2021)."""

    encoder_layers: Annotated[int, Range(1, 32)] = 6
    """Number of layers of the encoder."""
    decoder_layers: Annotated[int, Range(1, 32)] = 6
    """Number of layers of the decoder of each frame."""
    points: Annotated[int, Range(1, 64)] = 4
    """Number of points that a head of the deformable attention reads."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.1
    """Share of the activations that training drops."""
    support_queries: tuple[Annotated[int, Range(1, 10_000)], ...] = (80, 50, 30)
    """Number of best queries per support frame that each temporal layer attends to."""
    released_points: bool = False
    """Read reference points as the released CUDA code does, for its checkpoints: queries look
    where others point."""

    def __post_init__(self) -> None:
        _check_ranges(self, "model.transvod.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Detector (paper, section 3; `docs/method.md` gives the source of each choice)."""

    system: System = "sparsevod"
    """Video object detector. Settings outside the sections are SparseVOD's unless they name other
    systems; `faster_rcnn` is used by selsa, troi, mamba, mega and fgfa."""
    temporal: bool = True
    """If False, only the frame detector of the system is built, which uses no support frames:
    Sparse R-CNN, Faster R-CNN or Deformable DETR."""
    backbone: Backbone = "r50"
    """ResNet, ResNeXt, Swin Transformer or ConvNeXt of torchvision, `lite0` (EfficientNet-Lite0),
    or `tiny` (ResNet-10)."""
    norm: Literal["batch", "batch_frozen", "group", "layer"] = "batch"
    """Norm of the backbone. `batch`: BatchNorm with stored statistics, weight and bias are trained.
    `batch_frozen`: the same, nothing is trained (original Sparse R-CNN). `group`: GroupNorm, to
    train from scratch. `layer`: LayerNorm, the only norm of Swin and ConvNeXt, and only theirs."""
    map_norm: Literal["none", "layer"] = "none"
    """Norm of P2..P5. `none`: as in the reference. `layer`: LayerNorm over the channels of each
    position, to train from scratch. Without it, the scale of the maps grows until TFE's softmax
    selects one frame and learns nothing."""
    frozen_stages: Annotated[int, Range(0, 5)] = 2
    """Number of backbone stages that are not trained, counted from the stem; 2: stem and layer1."""
    num_classes: Annotated[int, Range(1, 100_000)] = 30
    """Number of classes; `train` sets it to the number of categories in the annotations."""
    num_proposals: Annotated[int, Range(1, 10_000)] = 100
    """Number of learned proposals (or object queries) per frame; for two-stage detectors, of
    proposals of a target frame at test time."""
    proposal_init: Literal["image", "random", "grid"] = "image"
    """Initial boxes of the learned proposals. `image`: the entire image (the reference). `random`
    and `grid` scatter them, as in the paper's Fig. 3(a)."""
    channels: Annotated[int, Range(1, 8192)] = 256
    """Number of channels of pyramid levels, RoI features and proposal features. All systems: number
    of channels of the map that the detector reads."""
    num_heads: Annotated[int, Range(1, 1024)] = 8
    """Number of heads of the self-attention among proposals; transvod: of every attention."""
    ffn_dim: Annotated[int, Range(1, 65_536)] = 2048
    """Hidden size of the feed-forward network of a head stage; transvod: of every layer."""
    dynamic_dim: Annotated[int, Range(1, 8192)] = 64
    """Hidden size of the instance interaction."""
    num_stages: Annotated[int, Range(1, 6)] = 6
    """Number of head stages, 1 to 6."""
    tfe: Aggregation = "attention"
    """Temporal RoI feature extraction; `average` is "Avg." in the paper's Table 4."""
    tfe_blocks: Annotated[int, Range(1, 1024)] = 4
    """Number of channel blocks (heads) of TFE's attention; troi too."""
    tfe_top_k: Annotated[int, Range(1, 1024)] = 2
    """Number of similar positions used per RoI bin and support frame; troi too."""
    support_level: Literal["p2", "p3", "p4", "p5"] = "p5"
    """Pyramid level of the support frames in which TFE searches for similar features."""
    spfa: Aggregation = "attention"
    """Semantic proposal feature aggregation; `average` is "Avg." in the paper's Table 4."""
    spfa_heads: Annotated[int, Range(1, 1024)] = 8
    """Number of heads of SPFA's attention."""
    box_decode: Literal["mmdetection", "original"] = "mmdetection"
    """Clamp of the size deltas: to +-4.135 (MMDetection), or only from above to 8.74 (original)."""
    faster_rcnn: FasterRCNNConfig = field(default_factory=FasterRCNNConfig)
    mamba: MAMBAConfig = field(default_factory=MAMBAConfig)
    mega: MEGAConfig = field(default_factory=MEGAConfig)
    fgfa: FGFAConfig = field(default_factory=FGFAConfig)
    transvod: TransVODConfig = field(default_factory=TransVODConfig)

    @property
    def uses_supports(self) -> bool:
        """Whether the detector uses support frames."""
        is_off = self.system == "sparsevod" and self.tfe == self.spfa == "off"
        return self.temporal and not is_off

    def __post_init__(self) -> None:
        _check_ranges(self, "model.")
        for name in ("num_heads", "tfe_blocks", "spfa_heads"):
            parts = getattr(self, name)
            if self.channels % parts:
                raise ConfigError(
                    f"model.{name}={parts}: expected a divisor of model.channels={self.channels}"
                )
        num_parameters = self.num_head_parameters()
        if num_parameters > MAX_HEAD_PARAMETERS:
            raise ConfigError(
                f"model: expected at most {MAX_HEAD_PARAMETERS:,} parameters in the head, "
                f"got about {num_parameters:,}",
                hint="use smaller model.channels, model.ffn_dim, model.dynamic_dim or "
                "model.faster_rcnn.head_dim",
            )
        has_layer_norm = self.backbone in get_args(LayerNormName)
        if has_layer_norm != (self.norm == "layer"):
            fitting = "layer" if has_layer_norm else "batch, batch_frozen or group"
            raise ConfigError(
                f"model.norm={self.norm}: expected {fitting} for model.backbone={self.backbone}",
                hint=f"add --set model.norm={fitting.partition(',')[0]}",
            )
        if self.norm == "group" and self.frozen_stages:
            raise ConfigError(
                f"model.frozen_stages={self.frozen_stages} would freeze random weights: "
                "model.norm=group is for training from scratch",
                hint="add --set model.frozen_stages=0",
            )

    def num_head_parameters(self) -> int:
        """Return the number of parameters of the large layers of the head."""
        attention = 4 * self.channels**2
        if self.system == "sparsevod":
            interaction = self.channels**2 * (2 * self.dynamic_dim + 49)
            others = self.channels * (2 * self.ffn_dim + self.num_classes + self.num_proposals)
            return self.num_stages * (interaction + 3 * attention + others)
        if self.system == "transvod":
            layers = self.transvod.encoder_layers + self.transvod.decoder_layers + 4
            queries = self.channels * (self.num_proposals + layers * self.num_classes)
            return layers * (2 * attention + 2 * self.channels * self.ffn_dim) + queries
        head = self.faster_rcnn
        pooled = 49 * (self.mega.reduction or 2048 if self.system == "mega" else self.channels)
        layers = head.head_dim**2 * 5 * head.head_layers + 9 * self.channels**2
        return head.head_dim * (pooled + 5 * self.num_classes) + layers


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
    short_side: Annotated[int, Range(32, 8192)] = 600
    """Length of the shorter side of resized frames, in pixels."""
    long_side: Annotated[int, Range(32, 16_384)] = 1000
    """Maximum length of the longer side of resized frames, in pixels."""
    resize: Literal["antialias", "opencv"] = "antialias"
    """How frames are resized. `antialias`: bilinear with antialiasing. `opencv`: bilinear without
    it, in 8 bits, as MMTracking and MMDetection do."""
    pad_multiple: Annotated[int, Range(1, 1024)] = 32
    """Sides of resized frames are padded to a multiple of this number of pixels."""
    flip: Fraction = 0.5
    """Probability of flipping a training clip horizontally."""
    crop: Annotated[float, Range(0, 0.9)] = 0.0
    """Maximum share of each side that a random crop of a training clip removes; for small sets."""
    colour: Annotated[float, Range(0, 0.9)] = 0.0
    """Maximum relative change of brightness, contrast, saturation and hue; for small sets."""
    supports: Annotated[int, Range(0, 1000)] = 2
    """Number of support frames of a training clip."""
    support_range: Count = 9
    """Maximum distance of support frames from the target frame of a training clip, in frames."""
    support_choice: Literal["sides", "anywhere", "mega"] = "sides"
    """Choice of the support frames of a training clip. `sides`: at random, half on each side of the
    target frame. `anywhere`: at random, `support_range` has no effect. `mega`: MEGA's local frames
    (the target and `supports` others), frames for its memory, and `supports` global ones."""
    workers: Annotated[int, Range(0, 1024)] = 2
    """Number of loader processes per rank; 0: load in the training process."""

    def __post_init__(self) -> None:
        _check_ranges(self, "data.")
        if self.long_side < self.short_side:
            raise ConfigError(
                f"data.long_side={self.long_side}: expected at least data.short_side, "
                f"{self.short_side}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the matching cost and the loss (paper, section 3.1; values of Sparse R-CNN)."""

    class_weight: Factor = 2.0
    """Weight of the focal loss, in the matching cost and in the loss."""
    l1_weight: Factor = 5.0
    """Weight of the L1 distance of boxes, in the matching cost and in the loss."""
    giou_weight: Factor = 2.0
    """Weight of the GIoU of boxes, in the matching cost and in the loss."""
    focal_alpha: Fraction = 0.25
    """Weight of positives in the focal loss; negatives have 1 - alpha."""
    focal_gamma: Annotated[float, Range(0, 100)] = 2.0
    """Exponent of the focal loss."""

    def __post_init__(self) -> None:
        _check_ranges(self, "loss.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Training recipe (paper, section 4.1)."""

    backbone_weights: str = "imagenet"
    """Initial weights of the backbone: `imagenet` (downloaded by torchvision; of lite0: from a
    package), `none` (random, needs model.norm=group or layer), or the path of a file."""
    init_from: str | None = None
    """Checkpoint to start from: ours, MMTracking's, MMDetection's or the original Sparse R-CNN's,
    or the name of published weights."""
    clips_per_gpu: Annotated[int, Range(1, 4096)] = 1
    """Number of clips per batch on each GPU."""
    accumulate: Count = 1
    """Number of batches whose gradients are summed before a step."""
    epochs: Count = 12
    """Number of epochs."""
    max_steps: Count | None = None
    """Stop after this step; the schedule still spans `epochs`, so that training can be resumed."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    learning_rate: Factor = 2.5e-5
    """Learning rate after warm-up."""
    backbone_rate: Factor = 1.0
    """Learning rate of the backbone without the FPN or neck, as a multiple of `learning_rate`."""
    offset_rate: Factor = 1.0
    """Learning rate of the layers that predict reference points and sampling offsets (transvod), as
    a multiple of `learning_rate`."""
    bias_rate: Factor = 1.0
    """Learning rate of biases, as a multiple of `learning_rate`; if it is not 1, biases have no
    weight decay (mega)."""
    trained: Literal["all", "temporal"] = "all"
    """Weights to train. `temporal`: only those of the temporal layers, to be added to a trained
    frame detector."""
    weight_decay: Factor = 1e-4
    """Weight decay."""
    clip_grad_norm: Factor = 1.0
    """Maximum norm of the gradient."""
    warmup_steps: CountOrZero = 1000
    """Number of steps of linear warm-up."""
    warmup_start: Fraction = 0.01
    """Initial learning rate of the warm-up as a fraction of `learning_rate`."""
    schedule: Literal["step", "cosine"] = "step"
    """Schedule of the learning rate after warm-up."""
    milestones: tuple[CountOrZero, ...] = (8, 11)
    """Epochs after which the `step` schedule divides the learning rate by 10."""
    ema: Fraction = 0.0
    """Decay per step of the moving average of the weights, which is evaluated and saved; 0: off."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """`tf32`: fp32 with TensorFloat-32 products on a GPU, same as fp32 elsewhere; `bf16`:
    autocast."""
    record: bool = True
    """On a GPU, capture forward and backward of each shape of clips as CUDA graphs."""
    recompute_stages: bool = False
    """Compute the head stages again in the backward pass instead of storing their activations:
    less memory, more time, same gradients."""
    log_every: Count = 50
    """Steps between log lines."""
    tensorboard: bool = False
    """Also write the metrics of metrics.jsonl for TensorBoard."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints; the end of each epoch is saved too."""
    eval_every: CountOrZero = 1
    """Epochs between evaluations on `data.val_annotations`; 0: never."""
    patience: CountOrZero = 0
    """Stop after this many evaluations in a row without a better AP; 0: never."""

    def __post_init__(self) -> None:
        _check_ranges(self, "train.")
        if self.ema == 1:
            raise ConfigError(f"train.ema={self.ema}: expected at least 0 and less than 1")
        if self.patience and not self.eval_every:
            raise ConfigError(
                f"train.patience={self.patience} counts evaluations, but train.eval_every=0",
                hint="add --set train.eval_every=1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Inference on videos (paper, section 4.4)."""

    supports: Annotated[int, Range(0, 10_000)] = 6
    """Number of support frames."""
    support: Literal["uniform", "window", "causal", "strided", "mega"] = "uniform"
    """Choice of support frames. `uniform`: spread over the video. `window`: around the target
    frame. `causal`: before it. `strided`: TransVOD's, from before the target frame to the end of
    the video. `mega`: a window, and `global_supports` frames from the entire video."""
    window_stride: Count = 1
    """Distance in frames between the support frames of `window`."""
    global_supports: Annotated[int, Range(0, 10_000)] = 10
    """Number of global support frames (mega)."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"
    """Precision of maps and RoI features. `fp32`: full fp32 on every device. `tf32`: fp32 with
    TensorFloat-32 products on a GPU, same as fp32 elsewhere. `auto`: bf16 if the hardware supports
    it, else fp32."""
    fast: bool = True
    """Use the optimized implementation (`sparsevod_core.fast`): same results, faster."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the model on a GPU; `auto`: only if there are enough frames to make up for it."""
    batch: Annotated[int, Range(1, 4096)] | None = None
    """Number of target frames of a video per forward pass; none: 16 on a GPU, else 1; always 1
    for mamba and mega, and where every target frame has support frames of its own."""

    def __post_init__(self) -> None:
        _check_ranges(self, "inference.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackConfig:
    """Identities of objects over the frames of a video: SORT (Bewley et al., 2016), per class."""

    min_score: Fraction = 0.3
    """Detections with a score greater than this take part."""
    max_overlap: Fraction = 0.7
    """A detection whose IoU with a better one of its class is greater takes no part: it is another
    box of the same object."""
    min_iou: Annotated[float, Range(0.01, 1)] = 0.3
    """Minimum IoU of a detection with the predicted box of the object that it continues."""
    min_frames: Annotated[int, Range(2, 1000)] = 3
    """Number of consecutive frames with an object after which it has an id."""
    max_lost: Annotated[int, Range(0, 10_000)] = 5
    """Maximum number of consecutive frames in which an object that has an id may be missed."""

    def __post_init__(self) -> None:
        _check_ranges(self, "track.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run, saved in its folder and in every checkpoint."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of all random choices of a run."""

    def __post_init__(self) -> None:
        _check_ranges(self, "")
        model = self.model
        if self.train.trained == "temporal" and not (model.system == "transvod" and model.temporal):
            raise ConfigError(
                f"train.trained=temporal: the {model.system} detector is trained as a whole"
                + ("" if model.temporal else ", as model.temporal=false"),
                hint="add --set train.trained=all",
            )
        if self.train.recompute_stages and model.system != "sparsevod":
            raise ConfigError(
                f"train.recompute_stages=true: {model.system} has no stages to recompute",
                hint="add --set train.recompute_stages=false",
            )
        if self.inference.support == "mega" and self.inference.window_stride != 1:
            raise ConfigError(
                f"inference.window_stride={self.inference.window_stride}: "
                "the window of inference.support=mega has no gaps",
                hint="add --set inference.window_stride=1",
            )
        choices = {
            "data.support_choice": self.data.support_choice,
            "inference.support": self.inference.support,
        }
        for key, value in choices.items():
            if value == "mega" and model.system != "mega":
                raise ConfigError(f"{key}=mega: expected model.system=mega, got {model.system}")

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
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain

    def to_yaml(self) -> str:
        """Return the resolved config as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


SYSTEMS: tuple[System, ...] = get_args(System)
"""Names of the systems that `load_config(system=...)` and `--system` accept."""


def preset_names(system: str = "sparsevod") -> list[str]:
    """Return the backbone presets of a system: what `load_config(preset=...)` accepts."""
    return sorted(name for name in _presets(system) if name != "all")


def preset_settings(system: str, preset: str | None) -> dict[str, Any]:
    """Return what a system and a preset change, by dotted key.

    Args:
        system: One of `SYSTEMS`.
        preset: One of `preset_names(system)`; None: the system only.

    Raises:
        ConfigError: Unknown system or preset.
    """
    sections = _presets(system)
    if preset is not None and preset not in preset_names(system):
        raise ConfigError(
            f"unknown backbone preset {preset!r}: "
            f"expected one of {', '.join(preset_names(system))}",
            hint=_did_you_mean(preset, preset_names(system)),
        )
    return _flat(sections["all"]) | ({} if preset is None else _flat(sections[preset]))


@cache
def _presets(system: str) -> dict[str, Any]:
    """Return the sections of a system's preset file."""
    if system not in SYSTEMS:
        raise ConfigError(
            f"unknown system {system!r}: expected one of {', '.join(SYSTEMS)}",
            hint=_did_you_mean(system, SYSTEMS),
        )
    sections: dict[str, Any] = read_yaml(PRESETS_DIR / f"{system}.yaml", ConfigError)
    return sections


def load_config(
    preset: str | None = None,
    file: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    system: str | None = None,
) -> Config:
    """Merge the defaults, a preset, a YAML file and `a.b=c` overrides; later ones win.

    Args:
        preset: Backbone preset, see `preset_names`.
        file: YAML file of settings.
        overrides: Settings such as `train.epochs=1`.
        system: One of `SYSTEMS`, whose presets are used; None: the `model.system` of the file, or
            SparseVOD.

    Raises:
        ConfigError: unknown system, preset or key, unreadable file, or a value of the wrong type or
            outside its range.
    """
    in_file = {} if file is None else _read_settings(Path(file))
    pairs = override_pairs(overrides)
    stated = pairs.get("model.system", in_file.get("model.system"))
    if system is not None and stated not in (None, system):
        raise ConfigError(
            f"model.system={_excerpt(stated)} contradicts the system {system}",
            hint="state the system once",
        )
    system = system or stated or "sparsevod"
    settings = {"model.system": system, **preset_settings(system, preset)}
    return Config().replace(settings | in_file | pairs)


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


def with_roots(overrides: Sequence[str]) -> list[str]:
    """Return the overrides; the recorded root of a set is not that of another annotation file.

    Raises:
        ConfigError: a text without `=`.
    """
    given = override_pairs(overrides)
    others = [
        name
        for name in ("data.train", "data.val")
        if f"{name}_annotations" in given and f"{name}_root" not in given
    ]
    return [*overrides, *(f"{name}_root=none" for name in others)]


def file_overrides(file: Path | str) -> list[str]:
    """Return the settings of a YAML file as `a.b=c` texts, to override a checkpoint's config.

    Raises:
        ConfigError: unreadable file or an unknown key.
    """
    settings = _read_settings(Path(file))
    for key, value in settings.items():
        _require_setting(key, value)
    return [
        f"{key}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in settings.items()
    ]


def config_from_dict(tree: Mapping[str, Any]) -> Config:
    """Invert `Config.to_dict`; missing keys keep their defaults.

    Raises:
        ConfigError: unknown key, or a value of the wrong type or outside its range.
    """
    return Config().replace(_flat(tree))


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a YAML file by dotted key, as text, lists of text, or None."""
    loaded = read_yaml(path, ConfigError)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected settings by name, got {_excerpt(loaded)}")
    return _flat(loaded)


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a dict of settings, nested by section, by dotted key."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"expected settings by name, got {_excerpt(tree)}")
    flat = _joined_keys(tree, "")
    # Older versions wrote a bool; `false` was the default.
    is_compiled = flat.get("inference.compile")
    if isinstance(is_compiled, bool) or is_compiled in ("true", "false"):
        flat["inference.compile"] = "on" if is_compiled in (True, "true") else "auto"
    # Older versions called this setting `checkpoint_stages`.
    if "train.checkpoint_stages" in flat:
        flat["train.recompute_stages"] = flat.pop("train.checkpoint_stages")
    return flat


def _joined_keys(tree: Mapping[Any, Any], prefix: str) -> dict[str, Any]:
    """Return the values of nested sections by dotted key; what is below another key stays."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + _name(name)
        if isinstance(value, Mapping) and (key in _sections() or not prefix):
            flat |= _joined_keys(value, f"{key}.")
        elif value is not None or key not in _sections():  # None: all its lines commented out
            flat[key] = value
    return flat


def _plain(value: Any) -> Any:
    """Return nested dicts with lists instead of tuples."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _name(key: Any) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"expected the name of a setting, got {_excerpt(key)}")
    return key


@cache
def _sections() -> dict[str, type]:
    """Return the dataclass of each section of `Config` by its dotted key, outer ones first."""
    sections: dict[str, type] = {}
    for prefix, owner in (("", Config), ("model.", ModelConfig)):
        for name, kind in get_type_hints(owner).items():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                sections[prefix + name] = kind
    return sections


@cache
def _types() -> dict[str, Any]:
    """Return the type hint of every setting by its dotted key."""
    types: dict[str, Any] = {}
    for prefix, kind in (("", Config), *((f"{name}.", kind) for name, kind in _sections().items())):
        types |= {prefix + name: hint for name, hint in get_type_hints(kind).items()}
    return {name: hint for name, hint in types.items() if name not in _sections()}


def _require_setting(key: str, value: Any) -> None:
    if key in _sections():
        raise ConfigError(f"{key}: expected settings by name, got {_excerpt(value)}")
    if key not in _types():
        raise ConfigError(
            f"unknown setting {key[:_EXCERPT]!r}", hint=_did_you_mean(key, list(_types()))
        )


def _did_you_mean(word: str, choices: Sequence[str]) -> str | None:
    word = word[:_EXCERPT]  # the comparison takes time with the square of the length
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if not close:  # a bare name without its section
        close = [name for name in choices if name.rpartition(".")[2] == word.rpartition(".")[2]][:1]
    return f"did you mean {close[0]}?" if close else None


def _build(settings: Mapping[str, Any]) -> Config:
    """Build a config from values by dotted key, cast to the types of the fields."""
    values: dict[str, dict[str, Any]] = {name: {} for name in ("", *_sections())}
    for key, value in settings.items():
        _require_setting(key, value)
        section, _, name = key.rpartition(".")
        values[section][name] = _cast(value, _types()[key], key)
    for key, kind in reversed(_sections().items()):  # inner sections first
        section, _, name = key.rpartition(".")
        values[section][name] = kind(**values[key])
    return Config(**values[""])


def _cast(value: Any, hint: Any, dotted: str) -> Any:
    """Cast text, or a value of a checkpoint, to the type of its field."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        is_none = value is None or (isinstance(value, str) and value.lower() in ("none", "null"))
        if is_none and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        return _cast(value, rest[0], dotted)
    shown = _excerpt(value)
    if origin is Literal:
        word = value.lower() if isinstance(value, str) else value
        if not isinstance(value, str) or word not in arguments:
            raise ConfigError(
                f"{dotted}={shown}: expected one of {', '.join(arguments)}",
                hint=_did_you_mean(shown, arguments),
            )
        return word
    if origin is tuple:
        items = value
        if isinstance(value, str):
            items = [part for part in value.strip("[]() ").split(",") if part.strip()]
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{dotted}={shown}: expected a list, e.g. [8,11]")
        return tuple(_cast(item, arguments[0], dotted) for item in items)
    if hint is bool:
        text = str(value).lower() if isinstance(value, str | bool) else ""
        if text not in (*_YES, *_NO):
            raise ConfigError(f"{dotted}={shown}: expected true or false")
        return text in _YES
    try:
        if hint is int and not isinstance(value, bool):
            if not isinstance(value, float) or value.is_integer():
                return int(value)
        elif hint is float and not isinstance(value, bool):
            if math.isfinite(float(value)):
                return float(value)
        elif hint is str and isinstance(value, str | int | float) and "\0" not in str(value):
            return str(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ConfigError(f"{dotted}={shown}: expected {hint.__name__}, got {shown!r}")


def _check_ranges(section: Any, prefix: str) -> None:
    """Raise ConfigError if a number in a section is outside the range beside its field."""
    kind: Any = type(section)  # mypy does not take the type of Any for hashable
    for name, allowed in _ranges(kind).items():
        value = getattr(section, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not allowed.low <= number <= allowed.high:
                raise ConfigError(
                    f"{prefix}{name}={_excerpt(number)}: "
                    f"expected {allowed.low:,} to {allowed.high:,}"
                )


@cache
def _ranges(section: type) -> dict[str, Range]:
    """Return the ranges of the fields that have one."""
    hints = get_type_hints(section, include_extras=True)
    return {name: found for name, hint in hints.items() if (found := _range_in(hint)) is not None}


def _range_in(hint: Any) -> Range | None:
    """Return the range in a type hint, which may be part of a union or a tuple."""
    if get_origin(hint) is Annotated:
        return next(extra for extra in hint.__metadata__ if isinstance(extra, Range))
    return next((found for part in get_args(hint) if (found := _range_in(part)) is not None), None)


def _excerpt(value: Any) -> str:
    """Return a short text for an error message, of any value that a file may contain."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print long ones
    if isinstance(value, str | int | float | None):
        return str(value)[:_EXCERPT]
    return f"a {type(value).__name__}"
