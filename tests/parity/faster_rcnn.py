"""Parity with MMTracking's Faster R-CNN (DC5) up to the proposals, and with the loss of its RPN."""

from __future__ import annotations

from collections import OrderedDict
from unittest.mock import patch

import torch
from report import BOXES_PX, EXACT, FEATURES, Report
from torch import nn
from torchvision.models import resnet

from sparsevod_core.losses.region_proposals import proposal_losses
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.two_stage import region_proposals
from sparsevod_core.model.two_stage.anchors import centered_anchors, grid_anchors
from sparsevod_core.model.two_stage.assignment import NEGATIVE
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.structures import Targets


def check_faster_rcnn(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check maps, RPN outputs, anchors, proposals of both lengths, assignment and RPN loss."""
    backbone, rpn = _backbone(weights), _region_proposals(weights, config)
    with torch.no_grad():
        for level, ours in enumerate(backbone.stage_maps(io["image"]), start=2):
            report.forced(f"C{level}", ours, io[f"C{level}"], FEATURES)
        report.forced("neck", backbone(io["image"]), io["neck"], FEATURES)
        logits, deltas = rpn(io["neck"])
    report.forced("rpn.logits", logits, io["rpn.logits"], FEATURES)
    report.forced("rpn.deltas", deltas, io["rpn.deltas"], FEATURES)
    anchors = grid_anchors(rpn.base_anchors, logits.shape[-2:], rpn.stride)
    report.forced("rpn.base_anchors", rpn.base_anchors, io["rpn.base_anchors"], FEATURES)
    report.forced("rpn.anchors", anchors, io["rpn.anchors"], FEATURES)

    image_sizes = torch.tensor([config["image_hw"]])
    outputs = io["rpn.logits"], io["rpn.deltas"], image_sizes
    for mode in ("test", "train"):
        found = rpn.proposals(*outputs, config[f"max_{mode}"])
        boxes, scores = found.boxes[found.valid], found.scores[found.valid]
        report.forced(f"{mode}.proposals", boxes, io[f"{mode}.proposals"], BOXES_PX)
        report.forced(f"{mode}.objectness", scores, io[f"{mode}.objectness"], FEATURES)
    _check_training(rpn, outputs, io, config, report)


def _check_training(
    rpn: RegionProposals, outputs: tuple, io: dict, config: dict, report: Report
) -> None:
    is_used, is_foreground = io["train.is_used"].bool(), io["train.is_foreground"].bool()
    anchors, truth = io["rpn.anchors"], io["gt_boxes"]

    def reference_draw(assigned_inside, num, positive_share):
        """Return the anchors that the reference has drawn, as positions among those inside."""
        limits = torch.tensor(config["image_hw"]).flip(0)
        inside = ((anchors[:, :2] >= 0) & (anchors[:, 2:] < limits)).all(-1)
        positives = (is_used & is_foreground)[inside].nonzero()[:, 0]
        negatives = (is_used & ~is_foreground)[inside].nonzero()[:, 0]
        drawn = len(positives) + len(negatives)
        report.forced("anchors inside", is_used.sum(), torch.tensor(drawn), EXACT)
        wrong = (assigned_inside[positives] < 0).sum() + (
            assigned_inside[negatives] != NEGATIVE
        ).sum()
        report.forced("assignment", wrong, torch.tensor(0), EXACT)
        return positives, negatives

    with patch.object(region_proposals, "sample", reference_draw):
        samples = rpn.samples(*outputs, [Targets(truth, torch.zeros(len(truth)).long())])
    targets = io["train.bbox_targets"][is_used & is_foreground]
    report.forced("train.bbox_targets", samples.delta_targets, targets, FEATURES)
    losses = proposal_losses(samples, config["beta"])
    report.forced("train.loss_cls", losses.objectness, io["train.loss_cls"], FEATURES)
    report.forced("train.loss_bbox", losses.boxes, io["train.loss_bbox"], FEATURES)


def _backbone(weights: dict) -> DilatedBackbone:
    """Return our backbone with the weights of the reference."""
    stem, stages, widths = narrow_resnet(weights, "backbone.")
    neck = _part(weights, "neck.convs.0.conv.")
    backbone = DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=len(neck["bias"]),
        frozen_stages=0,
        freeze_norms=False,
    )
    backbone.neck.load_state_dict(neck)
    return backbone.eval()


def narrow_resnet(weights: dict, prefix: str) -> tuple[nn.Module, list[nn.Module], list[int]]:
    """Return stem, stages and stage channels of a ResNet of any width and depth, with weights."""
    before = len(weights[f"{prefix}conv1.weight"])
    stem = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, before, 7, stride=2, padding=3, bias=False),
            bn1=nn.BatchNorm2d(before),
            relu=nn.ReLU(),
            maxpool=nn.MaxPool2d(3, stride=2, padding=1),
        )
    )
    stem.load_state_dict(
        {**_part(weights, f"{prefix}conv1.", "conv1."), **_part(weights, f"{prefix}bn1.", "bn1.")}
    )
    stages: list[nn.Module] = []
    widths = []
    for number in range(1, 5):
        state = _part(weights, f"{prefix}layer{number}.")
        width = len(state["0.conv1.weight"])
        stride = 1 if number == 1 else 2
        shortcut = nn.Sequential(
            nn.Conv2d(before, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
        )
        count = 1 + max(int(name.split(".")[0]) for name in state)
        stage = nn.Sequential(
            resnet.Bottleneck(before, width, stride, shortcut),
            *(resnet.Bottleneck(4 * width, width) for _ in range(count - 1)),
        )
        stage.load_state_dict(state)
        stages.append(stage)
        widths.append(before := 4 * width)
    return stem, stages, widths


def _region_proposals(weights: dict, config: dict) -> RegionProposals:
    """Return our RPN with the weights of the reference."""
    state = {
        f"{ours}.{part}": weights[f"rpn_head.{theirs}.{part}"]
        for ours, theirs in (("conv", "rpn_conv"), ("logits", "rpn_cls"), ("deltas", "rpn_reg"))
        for part in ("weight", "bias")
    }
    width, channels = state["conv.weight"].shape[:2]
    rpn = RegionProposals(
        channels=channels,
        width=width,
        base_anchors=centered_anchors(
            [scale * config["stride"] for scale in config["scales"]], config["ratios"]
        ),
        stride=config["stride"],
        num_candidates=config["nms_pre"],
        nms_iou=config["nms_iou"],
        positive_iou=config["pos_iou"],
        negative_iou=config["neg_iou"],
        min_positive_iou=config["min_pos_iou"],
        num_samples=config["rpn_sample"],
        positive_share=0.5,
    )
    rpn.load_state_dict(state)
    return rpn


def _part(weights: dict, prefix: str, renamed: str = "") -> dict:
    """Return the weights whose names begin with `prefix`, with `renamed` in its place."""
    return {
        renamed + name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
