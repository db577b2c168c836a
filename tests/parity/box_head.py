"""Parity with the box heads of MMTracking's SELSA and Temporal RoI Align, and that of MAMBA."""

from __future__ import annotations

import torch
from report import BOXES_PX, EXACT, FEATURES, Report
from torch import Tensor
from two_stage import detector_of, encoded, our_names

from sparsevod_core.losses.box_head import head_losses
from sparsevod_core.model.temporal_roi import bins_of
from sparsevod_core.model.two_stage.detections import BoxHeadOutput, class_scores, decoded_boxes
from sparsevod_core.model.two_stage.mamba import Mamba
from sparsevod_core.model.two_stage.proposal_sampling import SampledProposals
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi
from sparsevod_core.structures import Targets


def check_box_head(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check a target with supports and a training step, or a video of MAMBA."""
    detector = detector_of(weights, config)
    if isinstance(detector, Mamba):
        with torch.no_grad():
            _check_video(detector, io, config, report)
        return
    with torch.no_grad():
        _check_layers(detector, "test", io, config, report)
        _check_layers(detector, "train", io, config, report)
        _check_test(detector, io, config, report)
    _check_training(detector, io, config, report)


def _check_layers(detector: Selsa, mode: str, io: dict, config: dict, report: Report) -> None:
    """Check RoI features and every layer with the inputs of the reference."""
    targets, supports = _target(io, config), _supports(io, config)
    head = detector.head
    keys = torch.cat([detector.pool(supports).flatten(0, 1), detector.pool(targets)[0]])
    if mode == "train":
        keys = keys[: -config["N"]]
        targets = encoded(io["target_map"], io["train.sampled_boxes"][None], config)
    report.forced(f"{mode}.roi.ref_x", keys, io[f"{mode}.roi.ref_x"], FEATURES)
    rois = detector.pool(targets)
    if isinstance(detector, Troi):
        if mode == "test":
            report.forced("test.plain_roi", rois, io["test.plain_roi"], FEATURES)
            _check_similar(detector, io, config, report)
        maps = [detector.support_maps(supports, videos=1)]
        if mode == "test":
            maps.append(detector.support_maps(targets, videos=1))
        rois = detector.mixed(rois, maps)
    report.forced(f"{mode}.roi.x", rois, io[f"{mode}.roi.x"], FEATURES)

    for number, aggregation in enumerate(head.aggregations):
        for x, before in (("x", f"out{number - 1}"), ("ref_x", f"fc{number - 1}.ref_x")):
            if number == 0:
                ours = head.embed(io[f"{mode}.roi.{x}"][None])
            else:
                ours = head.before_aggregation(number, io[f"{mode}.{before}"][None])
            report.forced(f"{mode}.fc{number}.{x}", ours, io[f"{mode}.fc{number}.{x}"], FEATURES)
        x, ref_x = (io[f"{mode}.fc{number}.{x}"][None] for x in ("x", "ref_x"))
        attended = aggregation.attend(x, *aggregation.project(ref_x))
        report.forced(f"{mode}.agg{number}", attended, io[f"{mode}.agg{number}"], FEATURES)
    predicted = head.predict(io[f"{mode}.out{number}"][None])
    for ours, name in zip(predicted, ("cls_logits", "deltas"), strict=True):
        report.forced(f"{mode}.{name}", ours, io[f"{mode}.{name}"], FEATURES)


def _check_similar(detector: Troi, io: dict, config: dict, report: Report) -> None:
    rois = io["test.plain_roi"][None]
    frames = _target(io, config)
    groups = [
        detector.temporal_roi.similar(bins_of(rois, 1), detector.support_maps(some, videos=1))
        for some in (_supports(io, config), frames)
    ]
    shape = (rois.shape[1], *rois.shape[3:], rois.shape[2])
    similar = torch.cat(groups, dim=1)[0].unflatten(1, shape[:3]).movedim(-1, 2)
    reference = io["test.most_similar_bins"]
    kept = similar[:, : reference.shape[1]]
    report.forced("test.most_similar_bins", kept, reference, FEATURES)


def _check_test(detector: Selsa, io: dict, config: dict, report: Report) -> None:
    """Check the whole head, and the choice of detections from stored predictions."""
    targets = _target(io, config)
    output = detector.detect(targets, detector.remember(_supports(io, config)))
    report.forced("whole: test.cls_logits", output.logits, io["test.cls_logits"], FEATURES)
    report.forced("whole: test.deltas", output.deltas, io["test.deltas"], FEATURES)
    stored = BoxHeadOutput(
        io["test.cls_logits"][None],
        io["test.deltas"][None],
        targets.proposals,
        targets.image_sizes,
    )
    scores = io["test.class_scores"][:, :-1]
    report.forced("test.class_scores", class_scores(stored), scores, FEATURES)
    decoded = decoded_boxes(stored, config["box_stds"])
    report.forced("test.decoded_boxes", decoded, io["test.decoded_boxes"], BOXES_PX)
    _check_detections(detector, stored, "test.", io, report)


def _check_detections(
    detector: Selsa, output: BoxHeadOutput, prefix: str, io: dict, report: Report
) -> None:
    boxes, scores, labels = detector.top(output)
    count = len(io[f"{prefix}det_scores"])
    report.forced(f"{prefix}det_scores", scores[:, :count], io[f"{prefix}det_scores"], FEATURES)
    report.forced(f"{prefix}det_labels", labels[:, :count], io[f"{prefix}det_labels"], EXACT)
    report.forced(f"{prefix}det_boxes", boxes[:, :count], io[f"{prefix}det_boxes"], BOXES_PX)
    surplus = scores[:, count:].sum()
    report.forced(f"{prefix}further detections", surplus, torch.zeros(()), EXACT)


def _check_training(detector: Selsa, io: dict, config: dict, report: Report) -> None:
    """Check assignment, what is to be predicted, losses and gradients."""
    truth = Targets(io["train.gt_boxes"], io["train.gt_labels"])
    sampler = detector.sampler
    candidates, assigned = sampler.candidates(io["proposals"], truth)
    of_proposals = assigned[len(truth.labels) :] + 1
    report.forced("train.assigned", of_proposals, io["train.assigned_gt_1based"], EXACT)

    boxes, num_objects = io["train.sampled_boxes"], int(io["train.num_pos"])
    distance, chosen = (boxes[:, None] - candidates).abs().sum(-1).min(dim=1)
    report.forced("train.sampled_boxes", distance, torch.zeros(len(boxes)), EXACT)
    objects = assigned[chosen[:num_objects]]
    report.forced("train.pos_gt_index", objects, io["train.pos_gt_index"], EXACT)
    labels, delta_targets = sampler.goals(candidates, assigned, chosen, truth)
    report.forced("train.labels", labels, io["train.labels"], EXACT)
    report.forced("train.bbox_targets", delta_targets, io["train.bbox_targets"], FEATURES)
    drawn = sampler(_target(io, config).proposals, [truth])
    report.forced("number drawn", drawn.is_sampled.sum(), torch.tensor(len(boxes)), EXACT)
    report.forced("objects drawn", _objects(drawn.labels, config), io["train.num_pos"], EXACT)

    memory = detector.remember(_supports(io, config))
    rois = detector.pool(encoded(io["target_map"], boxes[None], config))
    predicted = detector.predict(rois, memory)
    for ours, name in zip(predicted, ("cls_logits", "deltas"), strict=True):
        report.forced(f"whole: train.{name}", ours, io[f"train.{name}"], FEATURES)
    everything = torch.ones(1, len(boxes), dtype=torch.bool)
    sampled = SampledProposals(boxes[None], labels[None], delta_targets[None], everything)
    losses = head_losses(sampled.with_predictions(*predicted), beta=1.0)
    report.forced("train.loss_cls", losses.classes, io["train.loss_cls"], FEATURES)
    report.forced("train.loss_bbox", losses.boxes, io["train.loss_bbox"], FEATURES)
    losses.total.backward()
    parameters = dict(detector.named_parameters())
    stored = {
        name.removeprefix("grad."): value for name, value in io.items() if name.startswith("grad.")
    }
    for name, reference in our_names(stored).items():
        report.forced(f"grad.{name}", parameters[name].grad, reference, FEATURES)


def _objects(labels: Tensor, config: dict) -> Tensor:
    return (labels < config["num_classes"]).sum()


def _target(io: dict, config: dict):
    return encoded(io["target_map"], io["proposals"][None], config)


def _supports(io: dict, config: dict):
    return encoded(io["support_maps"], io["support_proposals"], config)


def _check_video(detector: Mamba, io: dict, config: dict, report: Report) -> None:
    """Check every target of a video: what the reference has in its bank, and the detections."""
    memory = detector.remember(encoded(io["init_maps"], io["init_proposals"], config))
    state = None
    for number in range(config["T"]):
        draws = iter(range(2 * len(detector.head.fcs)))
        detector.draws = lambda _seed, _number, f=number, j=draws: (
            lambda count: io[f"f{f}.draw{next(j)}"]
        )
        frame = slice(number, number + 1)
        target = encoded(io["maps"][frame], io["proposals"][frame], config)
        output, state = detector.advance(target, memory, state)
        used = sum(f"f{number}.draw{j}" in io for j in range(2 * len(detector.head.fcs)))
        report.forced(
            f"f{number}: draws", torch.tensor(next(draws, used)), torch.tensor(used), EXACT
        )
        for layer, bank in enumerate(state.banks):
            name = f"f{number}.memory{layer}_after"
            key, value = detector.head.aggregations[layer].project(io[name][None])
            report.forced(f"{name}: keys", bank.key, key, FEATURES)
            report.forced(f"{name}: values", bank.value, value, FEATURES)
        _check_detections(detector, output, f"f{number}.", io, report)
