"""Parity with MEGA: boxes, geometry, relations, a video with its memories, and a training step.

All numbers are float64. The reference counts the background first and also gives it box deltas,
which no result depends on; ours counts it last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from report import EXACT, Report
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from sparsevod_core.model.mega.boxes import PIXEL_CORNERS, pixel_anchors, to_edges, to_pixels
from sparsevod_core.model.mega.detector import pooled
from sparsevod_core.model.mega.geometry import CHANNELS, GeometryWeight
from sparsevod_core.model.mega.memory import FrameMemory, RecursiveMemory
from sparsevod_core.model.mega.proposal_features import ProposalFeatures
from sparsevod_core.model.mega.stages import RelationHead
from sparsevod_core.model.two_stage.box_code import clip, decode, encode

TOLERANCE = 1e-9
PARTS = ("query", "key", "value")


def check_mega(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check every part with stored inputs, then a whole video, then a training step."""
    head = build_head(config).double()
    head.load_state_dict(our_state(weights, config))
    with torch.no_grad():
        check_boxes(io, config, report)
        check_relations(head, io, report)
        check_video(head, io, config, report)
    check_training(head, weights, io, config, report)


def build_head(config: dict) -> RelationHead:
    """Return the head that the configuration describes."""
    return RelationHead(
        roi_channels=config["in"],
        channels=config["fc"],
        num_heads=config["groups"],
        num_stages=config["stages"],
        num_global=1 + config["global_res"],
        num_advanced=config["advanced_num"],
        num_classes=config["num_classes"],
    )


def our_name(name: str) -> str:
    """Return our name of a weight of the reference (mega.pytorch's names)."""
    name = name.replace("cls_score", "class_logits").replace("bbox_pred", "box_deltas")
    name = name.replace("l_fcs", "fcs")
    for start, relations in (("l_", "local_relations"), ("g_", "global_relations")):
        for theirs, ours in (
            ("Wgs", "geometry.weight"),
            ("Wqs", "query"),
            ("Wks", "key"),
            ("Wvs", "value"),
            ("us", "key_bias"),
        ):
            if name.startswith(f"{start}{theirs}."):
                _, number, *part = name.split(".")
                return ".".join([relations, number, ours, *part])
    return name


def our_weight(name: str, weight: Tensor) -> Tensor:
    """Return a weight, or its gradient, of the reference in our layout."""
    if name.startswith("cls_score"):
        return weight.roll(-1, dims=0)  # background last
    if name.startswith("bbox_pred"):
        return weight[4:]  # no box deltas of the background
    if "us." in name:
        return weight.flatten()
    return weight.flatten(1) if weight.dim() == 4 else weight


def our_state(weights: dict, config: dict) -> dict[str, Tensor]:
    """Return the reference's weights as our state_dict."""
    return {our_name(name): our_weight(name, weight) for name, weight in weights.items()}


def proposals(features: Tensor, rois: Tensor) -> ProposalFeatures:
    """Return proposals `[1, ...]`, all of them real."""
    is_valid = torch.ones(rois.shape[:-1], dtype=torch.bool)
    return ProposalFeatures(features[None], to_edges(rois)[None], is_valid[None])


def check_boxes(io: dict, config: dict, report: Report) -> None:
    """Check anchors, box code, clipping, NMS and RoIAlign in the convention of pixel corners."""

    def check(name: str, ours: Tensor) -> None:
        report.forced(f"box.{name}", ours, io[f"box.{name}"], TOLERANCE)

    check("anchors", to_pixels(pixel_anchors((64, 128, 256, 512), (0.5, 1, 2))))
    boxes = to_edges(io["box.proposals"])
    stds = [1 / weight for weight in config["box_weights"]]
    decoded = decode(boxes, io["box.deltas"], stds, limits=PIXEL_CORNERS)
    check("decoded", to_pixels(decoded))
    size = torch.tensor(config["image_hw"])
    check("clipped", to_pixels(clip(decoded, size, PIXEL_CORNERS.corner_px)))
    check("encoded", encode(boxes, to_edges(io["box.targets"]), stds))
    kept = nms(to_edges(io["box.nms_boxes"]), io["box.nms_scores"], 0.5)
    report.forced("box.nms_keep", kept, io["box.nms_keep"], EXACT)
    rois = pooled(io["box.map"], boxes[None, : len(io["box.roi_align"])])
    check("roi_align", rois)


def geometry_embedding(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Return sines and cosines of each pair of boxes, which ours never holds one by one."""
    geometry = GeometryWeight(num_heads=CHANNELS).double()
    nn.init.eye_(geometry.weight.weight)
    nn.init.zeros_(geometry.weight.bias)
    return geometry.sums(boxes_xyxy[None], others_xyxy[None])[0].movedim(0, -1)


def check_relations(head: RelationHead, io: dict, report: Report) -> None:
    """Check the geometry embedding and both kinds of relation modules."""
    embedding = geometry_embedding(to_edges(io["geo.a"]), to_edges(io["geo.b"]))
    report.forced("geo.embedding", embedding, io["geo.embedding"], TOLERANCE)
    queries = proposals(io["rel.x"], io["geo.a"])
    others = proposals(io["rel.ref"], io["geo.b"])
    for name, relation in (
        ("local", head.local_relations[0]),
        ("global", head.global_relations[0]),
    ):
        related = relation(queries, relation.project(others))
        report.forced(f"rel.{name}", related, io[f"rel.{name}"], TOLERANCE)


@contextmanager
def traced_stages(head: RelationHead) -> Iterator[list[Tensor]]:
    """Collect features after each local relation and its residual, in float64."""
    outputs: list[Tensor] = []

    def collect(_: object, inputs: tuple, output: Tensor) -> None:
        outputs.append(inputs[0].features + output)

    hooks = [relation.register_forward_hook(collect) for relation in head.local_relations]
    yield outputs
    for hook in hooks:
        hook.remove()


def check_video(head: RelationHead, io: dict, config: dict, report: Report) -> None:
    """Check all frames of a video in order: local window, global queue and recursive memory."""
    frames = proposals(head.embed(io["ref_feats"]), io["ref_rois"])
    memories = [FrameMemory(frames.frames(slice(t, t + 1))) for t in range(config["T"])]
    order, size = io["global_order"].tolist(), config["global_size"]
    queue = [order[i % len(order)] for i in reversed(range(size))]
    state, remembered = None, []
    for t in range(config["T"]):
        if t > 0:
            queue = [*queue[1:], order[(t + size - 1) % len(order)]]
        reach = config["window"] // 2
        window = [min(max(i, 0), config["T"] - 1) for i in range(t - reach, t + reach + 1)]
        memory = FrameMemory.joined([memories[i] for i in window], [memories[i] for i in queue])
        key = proposals(head.embed(io["key_feats"][t]), io["key_rois"][t])
        past = None if state is None else state.stages
        with traced_stages(head) as stages:
            features, before = head.relate(key, memory.local, memory.global_frames, past)
        oldest = [one.frames(slice(1)) for one in before]
        state = RecursiveMemory.after(state, head.project(oldest), config["window"])
        remembered = (
            [
                ProposalFeatures.joined(list(parts)).frames(slice(-config["window"], None))
                for parts in zip(remembered, oldest, strict=True)
            ]
            if remembered
            else oldest
        )
        report.forced(f"f{t}.out", features, io[f"f{t}.out"], TOLERANCE)
        check_outputs(head, features, io, f"f{t}", report)
        if t in config["trace"]:
            check_frame(f"f{t}", stages, before, remembered, io, report)
            for i, (ours, stage) in enumerate(
                zip(head.project(remembered), state.stages, strict=True)
            ):
                report.forced(f"f{t}.memory{i} kept", stage.values, ours.values, TOLERANCE)


def check_frame(
    name: str,
    stages: Sequence[Tensor],
    before: Sequence[ProposalFeatures],
    remembered: Sequence[ProposalFeatures],
    io: dict,
    report: Report,
) -> None:
    """Check the intermediates of a frame."""
    report.forced(f"{name}.refs_global", before[0].features, io[f"{name}.refs_global"], TOLERANCE)
    for i, (stage, past) in enumerate(zip(stages, remembered, strict=True)):
        report.forced(f"{name}.stage{i}.out", stage, io[f"{name}.stage{i}.out"], TOLERANCE)
        rois = to_edges(io[f"{name}.memory{i}.rois"])
        report.forced(f"{name}.memory{i}.rois", past.boxes_xyxy, rois, TOLERANCE)
        feats = io[f"{name}.memory{i}.feats"]
        report.forced(f"{name}.memory{i}.feats", past.features, feats, TOLERANCE)


def check_outputs(
    head: RelationHead, features: Tensor, io: dict, name: str, report: Report
) -> None:
    """Check the output layers."""
    logits = our_weight("cls_score", io[f"{name}.cls_logits"].T).T
    report.forced(f"{name}.cls_logits", head.class_logits(features), logits, TOLERANCE)
    deltas = io[f"{name}.deltas"][:, 4:]
    report.forced(f"{name}.deltas", head.box_deltas(features), deltas, TOLERANCE)


def check_training(
    head: RelationHead, weights: dict, io: dict, config: dict, report: Report
) -> None:
    """Check a training step: memory without gradient, then the key frame, then gradients."""
    global_features = head.embed(io["tr.global_feats"])
    nowhere = torch.zeros_like(global_features[..., :4])  # global relations read no boxes
    global_frames = proposals(global_features, nowhere)
    key = proposals(head.embed(io["tr.key_feats"]), io["tr.key_rois"])
    local = proposals(head.embed(io["tr.local_feats"]), io["tr.local_rois"])
    with torch.no_grad():
        past = proposals(head.embed(io["tr.mem_feats"]), io["tr.mem_rois"])
        remembered = head.remember(past, global_frames)
    for i, one in enumerate(remembered):
        report.forced(f"tr.memory{i}.feats", one.features, io[f"tr.memory{i}.feats"], TOLERANCE)
        rois = to_edges(io[f"tr.memory{i}.rois"])
        report.forced(f"tr.memory{i}.rois", one.boxes_xyxy, rois, TOLERANCE)
    with traced_stages(head) as stages:
        features, _ = head.relate(key, local, global_frames, head.project(remembered))
    for i, stage in enumerate(stages):
        report.forced(f"tr.stage{i}.out", stage, io[f"tr.stage{i}.out"], TOLERANCE)
    report.forced("tr.out", features, io["tr.out"], TOLERANCE)
    check_outputs(head, features, io, "tr", report)

    seed = our_weight("cls_score", io["tr.seed_cls"].T).T
    seed_deltas = io["tr.seed_deltas"]
    background = F.linear(features, weights["bbox_pred.weight"][:4], weights["bbox_pred.bias"][:4])
    total = (head.class_logits(features) * seed).sum()
    total = total + (head.box_deltas(features) * seed_deltas[:, 4:]).sum()
    (total + (background * seed_deltas[:, :4]).sum()).backward()
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    for name, reference in io.items():
        if name.startswith("grad."):
            weight = name.removeprefix("grad.")
            ours = gradients[our_name(weight)]
            report.forced(name, ours, our_weight(weight, reference), TOLERANCE)
