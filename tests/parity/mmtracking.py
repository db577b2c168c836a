"""Parity with entire video detectors of MMTracking, from frames to detections in source pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from faster_rcnn import narrow_resnet
from report import EXACT, FEATURES, Report
from torch import Tensor

from sparsevod_core.checkpoint.foreign import from_foreign, shapes
from sparsevod_core.data.transforms import pad_to_multiple
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.support_frames import support_numbers
from sparsevod_core.model.build import build_detector, two_stage
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.fgfa.map_aggregation import similarity
from sparsevod_core.structures import Frame

# The networks are random and amplify the rounding of float32: with weights off by 2e-7, the
# reference itself moves by about a tenth of these, and TROI's boxes by a fifth.
MAPS = 2e-4
PROPOSALS_PX = 0.05
BOXES_PX = {"selsa": 0.1, "troi": 1.0, "fgfa": 0.1}
SCORES = {"selsa": 2e-3, "troi": 0.05, "fgfa": 2e-3}
# TROI takes the two most similar of all positions for each bin of a RoI. Where similarities are
# equal up to rounding, a row of logits moves by up to 0.15, while the others stay.
ROWS = ((0.5, 1e-3), (0.9, 5e-3))  # share, tolerance
ZERO = torch.tensor(0.0)


class Clip:
    """Frames of a video in memory."""

    def __init__(self, images: Tensor) -> None:
        self._frames = [Frame(index, None, image.numpy()) for index, image in enumerate(images)]

    def num_frames(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Return the frames of these numbers, in this order."""
        return [self._frames[index] for index in indices]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)


def check_mmtracking(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check the resize, the model on the reference's resized frames, and the whole path."""
    predictor = predictor_of(weights, config)
    video = Clip(io["frames"])
    images = torch.cat([predictor.as_seen([frame.image])[0] for frame in video])
    if "resized" in io:  # by the reference, all frames or the first ones
        resized = list(io["resized"].permute(0, 3, 1, 2))
        padded, _ = pad_to_multiple(resized, config["image"]["pad_multiple"])
        report.forced("resized and padded frames", images[: len(padded)], padded, EXACT)
        images[: len(padded)] = padded
    stored_of = {
        target: {
            name.removeprefix(f"t{target}."): value
            for name, value in io.items()
            if name.startswith(f"t{target}.")
        }
        for target in config["sizes"]["targets"]
    }
    size = torch.tensor([config["image"]["resized_hw"]])
    with predictor.computing():
        for target, stored in stored_of.items():
            if "input" in stored:
                image = predictor.detector.normalize(images[target : target + 1], size)
                report.forced(f"t{target} input", image, stored["input"], FEATURES)
        encoded = [predictor.detector.encode(image[None], size) for image in images]
        for target, stored in stored_of.items():
            check_target(predictor, encoded, target, stored, report)
    for found in predictor.frames(video):
        if stored := stored_of.get(found.index):
            columns = (found.boxes_xyxy, found.scores, found.labels)
            boxes, scores, labels = map(torch.from_numpy, columns)
            check_detections(
                f"t{found.index} whole path",
                (boxes, scores, labels),
                [stored[f"det_{part}"] for part in ("boxes_original", "scores", "labels")],
                predictor.config.model.system,
                report,
            )


def check_target(
    predictor: Predictor, encoded: list[Any], target: int, stored: dict, report: Report
) -> None:
    """Check a target frame: map, support frames, proposals, head and detections."""
    detector, system = predictor.detector, predictor.config.model.system
    own, name = encoded[target], f"t{target}"
    report.forced(f"{name} neck", own.maps[0], stored["neck"], MAPS)
    (chosen,) = support_numbers([target], len(encoded), predictor.supports)
    supports = [encoded[number] for number in chosen.supports]
    memory = detector.join([detector.remember(support) for support in supports])
    numbers = chosen.supports
    if isinstance(detector, FGFA):
        middle = len(numbers) // 2
        check_aggregation(detector, own, memory, name, stored, report)
        numbers = [*numbers[:middle], target, *numbers[middle:]]
    else:
        for number, (support, boxes) in enumerate(
            zip(supports, stored["support_proposals"], strict=True)
        ):
            check_proposals(f"{name} support {number}", support.proposals, boxes, report)
    report.forced(f"{name} frames", torch.tensor(numbers), stored["support_frames"], EXACT)
    output = detector.detect(own, memory)
    rows = check_proposals(name, output.proposals, stored["proposals"], report)
    for part, ours in (("cls_logits", output.logits), ("deltas", output.deltas)):
        differences = (ours[0, rows] - stored[part]).abs().amax(1)
        for share, tolerance in ROWS:
            difference = differences.quantile(share)
            report.forced(f"{name} {part}, {share:.0%} of rows", difference, ZERO, tolerance)
    check_detections(
        name,
        [column[0] for column in detector.top(output)],
        [stored[f"det_{part}"] for part in ("boxes", "scores", "labels")],
        system,
        report,
    )


def check_aggregation(
    detector: FGFA, own: Any, memory: Any, name: str, stored: dict, report: Report
) -> None:
    """Check warped maps, weights, and their weighted mean."""
    maps = torch.cat(list(detector.warped(own, memory)), dim=1)[0]
    middle = len(maps) // 2
    maps = torch.cat([maps[:middle], own.maps, maps[middle:]])
    if "warped" in stored:
        report.forced(f"{name} warped", maps, stored["warped"], MAPS)
    embed = detector.map_aggregation.embed
    weights = similarity(embed(maps), embed(own.maps))[:, 0]
    report.forced(f"{name} weights", weights / weights.sum(0), stored["weights"], MAPS)
    mean = detector.map_aggregation(own.maps, detector.warped(own, memory), includes_targets=True)
    report.forced(f"{name} aggregated", mean[0], stored["aggregated"], MAPS)


def check_proposals(name: str, found: Any, expected: Tensor, report: Report) -> Tensor:
    """Check the proposals of a frame, and return our row of each of the reference's."""
    boxes = found.boxes[0, : int(found.counts)]
    report.forced(f"{name} number of proposals", found.counts, torch.tensor(len(expected)), EXACT)
    distances, rows = farthest_sides(expected, boxes).min(1)
    report.forced(f"{name} proposals", distances.max(), ZERO, PROPOSALS_PX)
    return rows


def check_detections(
    name: str, found: Sequence[Tensor], expected: Sequence[Tensor], system: str, report: Report
) -> None:
    """Check that every detection has a partner, but for the worst, of which some were cut off.

    They are matched by label and box instead of rank, since scores may be equal up to rounding.
    """
    cut = max(float(column[1][column[1] > 0].min()) for column in (found, expected))
    for direction, (these, those) in {
        "of the reference": (expected, found),
        "of ours": (found, expected),
    }.items():
        boxes = farthest_sides(these[0], those[0]) / BOXES_PX[system]
        scores = (these[1][:, None] - those[1]).abs() / SCORES[system]
        is_other = these[2][:, None] != those[2]
        misfit = torch.maximum(boxes, scores).masked_fill(is_other, torch.inf)
        is_safe = these[1] > cut + SCORES[system]
        worst = (misfit.min(1).values * is_safe).max()
        report.forced(f"{name} {int(is_safe.sum())} detections {direction}", worst, ZERO, 1.0)


def farthest_sides(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Return the largest distance of two sides for each pair of boxes, in pixels."""
    return (boxes_xyxy[:, None] - others_xyxy).abs().amax(-1)


def predictor_of(weights: dict, config: dict) -> Predictor:
    """Return a predictor with the weights and settings of the reference.

    Its network is narrower than any of torchvision's.
    """
    prefix = "detector.backbone."
    first = weights[f"{prefix}layer1.0.conv2.weight"].shape[:2]
    names = {((3, 4, 6, 3), tuple(first)): "r50"}
    with patch.dict(shapes.BACKBONES, names):
        checkpoint = from_foreign({"state_dict": weights})
    assert checkpoint is not None and not checkpoint.unknown
    rpn, roi, temporal = config["rpn"], config["roi"], config["temporal"]
    long_side, short_side = sorted(config["sizes"]["img_scale"], reverse=True)
    settings = {
        "model.num_proposals": rpn["max_per_img"],
        "model.faster_rcnn.support_proposals": rpn["max_per_img"],
        "model.faster_rcnn.candidates": rpn["nms_pre"],
        "model.faster_rcnn.anchor_sides": [scale * rpn["stride"] for scale in rpn["scales"]],
        "model.faster_rcnn.min_score": roi["score_thr"],
        "model.faster_rcnn.nms_iou": roi["nms_iou"],
        "model.faster_rcnn.max_detections": roi["max_per_img"],
        "data.short_side": short_side,
        "data.long_side": long_side,
    }
    stated = {
        "attention_heads": "model.faster_rcnn.attention_heads",
        "num_most_similar_points": "model.tfe_top_k",
        "num_temporal_attention_blocks": "model.tfe_blocks",
        "supports": "inference.supports",
    }
    settings |= {key: temporal[name] for name, key in stated.items() if name in temporal}
    if "window" in temporal:
        settings["inference.supports"] = temporal["window"] - 1
        settings["inference.window_stride"] = temporal["stride"]
    resolved = checkpoint.config.replace(settings)
    with patch.object(two_stage, "network_parts", lambda *_: narrow_resnet(weights, prefix)):
        detector = build_detector(resolved.model)
    detector.load_state_dict(checkpoint.model)
    return Predictor(detector, resolved, checkpoint.categories, device="cpu")
