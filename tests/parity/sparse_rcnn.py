"""Parity with MMDetection's Sparse R-CNN: stages, assignments, losses and gradients."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from report import BOXES_PX, EXACT, FEATURES, Report
from torch import Tensor, nn

from sparsevod_core.config import LossConfig
from sparsevod_core.foreign_names.sparse_rcnn import from_mmdetection
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.losses.matcher import match
from sparsevod_core.model.backbone import Backbone
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.proposals import LearnedProposals
from sparsevod_core.model.pyramid import WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.stage import BoxDecoder, RefinementStage
from sparsevod_core.structures import DetectorOutput, Targets


def check_sparse_rcnn(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check every stage with stored inputs, then free-running; assignments, losses, gradients."""
    detector = build_sparse_rcnn(config)
    ours = from_mmdetection(weights).state
    head = {name: value for name, value in ours.items() if _is_compared(name)}
    missing, unexpected = detector.load_state_dict(head, strict=False)
    if missing or unexpected:
        raise SystemExit(f"weights do not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")

    sizes = torch.tensor([config["input_hw"]])
    pyramid = [io[f"fpn.P{level}"] for level in range(2, 2 + len(config["strides"]))]
    maps = OrderedDict((f"p{i}", io[f"backbone.C{i}"]) for i in range(2, 2 + len(pyramid)))
    with torch.no_grad():
        for level, (mine, reference) in enumerate(
            zip(detector.backbone.fpn(maps).values(), pyramid, strict=True), start=2
        ):
            report.forced(f"fpn.P{level}", mine, reference, FEATURES)
        boxes, features = detector.proposals(sizes)
        report.forced("init_boxes_xyxy", boxes, io["init_boxes_xyxy"], BOXES_PX)
        report.forced("init_features", features, io["init_features"], FEATURES)
        for number in range(config["num_stages"]):
            check_stage(detector, number, pyramid, io, report)
        check_final(stored_output(io, config, sizes), io, report.forced, "final")
        output = detector.detect(WholePyramid(pyramid, sizes, detector.roi_align), None)
    for number in range(config["num_stages"]):
        for name, mine in (
            ("cls_logits", output.logits[number]),
            ("boxes_xyxy", output.boxes_xyxy[number]),
        ):
            report.free(f"free.stage{number}.{name}", mine, io[f"stage{number}.{name}"])
    check_final(output, io, lambda *row: report.free(*row[:3]), "free.final")
    if "loss.gt_boxes_xyxy" in io:
        check_losses(detector, maps, io, config, sizes, report)


def check_stage(
    detector: SparseVOD, number: int, pyramid: list[Tensor], io: dict, report: Report
) -> None:
    """Check one stage with the inputs of the reference."""
    stage, name = detector.stages[number], f"stage{number}"
    boxes, features = io["init_boxes_xyxy"], io["init_features"]
    if number > 0:
        boxes, features = (
            io[f"stage{number - 1}.boxes_xyxy"],
            io[f"stage{number - 1}.obj_feats"],
        )
    levels = detector.roi_align.levels(boxes)
    report.forced(f"{name}.roi_levels", levels, io[f"{name}.roi_levels"], EXACT)
    roi_features = pooled(detector.roi_align, pyramid, boxes)
    report.forced(f"{name}.roi_feats", roi_features, io[f"{name}.roi_feats"], FEATURES)
    report.forced(f"{name}.attn_feats", stage.attend(features), io[f"{name}.attn_feats"], FEATURES)
    objects = stage.interact(features, io[f"{name}.roi_feats"].view_as(roi_features))
    report.forced(f"{name}.obj_feats", objects, io[f"{name}.obj_feats"], FEATURES)
    objects = io[f"{name}.obj_feats"].view_as(objects)
    logits = stage.class_logits(stage.class_branch(objects))
    report.forced(f"{name}.cls_logits", logits, io[f"{name}.cls_logits"], FEATURES)
    deltas = stage.box_deltas(stage.box_branch(objects))
    report.forced(f"{name}.deltas", deltas, io[f"{name}.deltas"], FEATURES)
    decoded = stage.box_decoder(boxes, io[f"{name}.deltas"])
    report.forced(f"{name}.boxes_xyxy", decoded, io[f"{name}.boxes_xyxy"], BOXES_PX)
    logits, refined, _ = stage(features, boxes, roi_features, None)
    report.forced(f"{name} whole: cls_logits", logits, io[f"{name}.cls_logits"], FEATURES)
    report.forced(f"{name} whole: boxes_xyxy", refined, io[f"{name}.boxes_xyxy"], BOXES_PX)


def check_final(output: DetectorOutput, io: dict, row: Callable[..., None], prefix: str) -> None:
    """Check the top-N selection."""
    boxes, scores, labels = top_detections(output)
    count = len(io["final.scores"])
    row(f"{prefix}.scores", scores[:, :count], io["final.scores"], FEATURES)
    row(f"{prefix}.labels", labels[:, :count], io["final.labels"], EXACT)
    row(f"{prefix}.boxes_xyxy", boxes[:, :count], io["final.boxes_xyxy"], BOXES_PX)


def check_losses(
    detector: SparseVOD,
    maps: OrderedDict[str, Tensor],
    io: dict,
    config: dict,
    sizes: Tensor,
    report: Report,
) -> None:
    """Check assignments and losses of stored predictions, and gradients through our forward."""
    targets = [Targets(io["loss.gt_boxes_xyxy"], io["loss.gt_labels"])]
    num_boxes = float(len(targets[0].labels))
    criterion = SetCriterion(LossConfig())
    stored = stored_output(io, config, sizes)
    for number, ((proposals, boxes),) in enumerate(match(stored, targets, LossConfig())):
        assigned = torch.zeros(config["num_proposals"], dtype=torch.long)
        assigned[proposals] = boxes + 1
        name = f"loss.stage{number}.assigned_gt_inds_1based"
        report.forced(name, assigned, io[name], EXACT)
    losses = criterion(stored, targets, num_boxes)
    for number in range(config["num_stages"]):
        for part, mine in (
            ("cls", losses["class"]),
            ("bbox", losses["l1"]),
            ("iou", losses["giou"]),
        ):
            name = f"loss.s{number}.loss_{part}"
            report.forced(name, mine[number], io[name], FEATURES)
    report.forced("loss.total", losses.total, io["loss.total"], FEATURES)

    pyramid = list(detector.backbone.fpn(maps).values())
    with torch.no_grad():
        encoded = WholePyramid(pyramid, sizes, detector.roi_align)
        free = criterion(detector.detect(encoded, None), targets, num_boxes)
    report.free("free.loss.total", free.total, io["loss.total"])
    criterion(forced_output(detector, pyramid, io, sizes), targets, num_boxes).total.backward()
    stored_gradients = {
        name.removeprefix("grad."): value for name, value in io.items() if name.startswith("grad.")
    }
    parameters = dict(detector.named_parameters())
    for name, reference in from_mmdetection(stored_gradients).state.items():
        if _is_compared(name):
            # Gradients have no natural scale: relative to the largest entry if that is above 1.
            tolerance = FEATURES * max(1.0, reference.abs().max().item())
            report.forced(f"grad.{name}", parameters[name].grad, reference, tolerance)


def forced_output(
    detector: SparseVOD, pyramid: list[Tensor], io: dict, sizes: Tensor
) -> DetectorOutput:
    """Run our forward with the values of every stage replaced by the reference's, not gradients."""

    def force(mine: Tensor, name: str) -> Tensor:
        return mine + (io[name].view_as(mine) - mine).detach()

    pyramid = [force(level, f"fpn.P{number}") for number, level in enumerate(pyramid, start=2)]
    proposals, features = detector.proposals(sizes)
    boxes = proposals
    stage_logits, stage_boxes = [], []
    for number, stage in enumerate(detector.stages):
        roi_features = pooled(detector.roi_align, pyramid, boxes.detach())
        logits, boxes, features = stage(features, boxes, roi_features, None)
        stage_logits.append(force(logits, f"stage{number}.cls_logits"))
        stage_boxes.append(force(boxes, f"stage{number}.boxes_xyxy"))
        features = force(features, f"stage{number}.obj_feats")
        boxes = stage_boxes[-1].detach()
    return DetectorOutput(torch.stack(stage_logits), torch.stack(stage_boxes), proposals, sizes)


def pooled(align: PyramidRoIAlign, levels: list[Tensor], boxes: Tensor) -> Tensor:
    """Return the RoI features of boxes on these levels."""
    return WholePyramid(levels, torch.zeros(len(boxes), 2, dtype=torch.long), align).pool(boxes)


def build_sparse_rcnn(config: dict) -> SparseVOD:
    """Build our FPN and head in the sizes of the fixture, without its backbone."""
    clamp = abs(math.log(config["wh_ratio_clip"]))
    stages = [
        RefinementStage(
            temporal_roi=None,
            aggregation=None,
            box_decoder=BoxDecoder(-clamp, clamp, *map(float, config["bbox_stds"][1:3])),
            channels=config["hidden"],
            num_heads=config["heads"],
            ffn_dim=config["ffn"],
            dynamic_dim=config["dyn"],
            num_classes=config["num_classes"],
            roi_size=config["pool"],
            num_cls_layers=config["num_cls_fcs"],
            num_reg_layers=config["num_reg_fcs"],
        )
        for _ in range(config["num_stages"])
    ]
    return SparseVOD(
        backbone=Backbone(
            stem=nn.Identity(),
            stages=[nn.Identity() for _ in config["fpn_in"]],
            stage_channels=config["fpn_in"],
            channels=config["hidden"],
            frozen_stages=0,
            normalize_maps=False,
            freeze_norms=False,
        ),
        proposals=LearnedProposals(
            num_proposals=config["num_proposals"], channels=config["hidden"], init="image"
        ),
        roi_align=PyramidRoIAlign(
            strides=config["strides"],
            output_size=config["pool"],
            sampling_ratio=config["roi_align"]["sampling_ratio"],
            finest_scale=config["finest_scale"],
        ),
        stages=stages,
        support_level=len(config["strides"]) - 1,
    )


def stored_output(io: dict, config: dict, sizes: Tensor) -> DetectorOutput:
    """Return the reference's predictions of all stages."""
    numbers = range(config["num_stages"])
    return DetectorOutput(
        torch.stack([io[f"stage{k}.cls_logits"] for k in numbers]),
        torch.stack([io[f"stage{k}.boxes_xyxy"] for k in numbers]),
        io["init_boxes_xyxy"],
        sizes,
    )


def _is_compared(name: str) -> bool:
    return not name.startswith("backbone.") or name.startswith("backbone.fpn.")
