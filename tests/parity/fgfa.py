"""Parity with MMTracking's FGFA without its detector: flow, warping and aggregation of maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from report import FEATURES, Report
from torch import Tensor

from sparsevod_core.model.fgfa.flow import SLOPE, FlowNetSimple, halved
from sparsevod_core.model.fgfa.map_aggregation import MapAggregation, similarity
from sparsevod_core.model.fgfa.warp import warp

FLOW_PX = 1e-3


def check_fgfa(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check every level of the flow, warped maps, and both forms of the aggregation."""
    network = FlowNetSimple(width=config["flow_width"])
    network.load_state_dict(
        {
            name.removeprefix("motion.").replace(".conv.", "."): value
            for name, value in weights.items()
            if name.startswith("motion.")
        }
    )
    aggregation = MapAggregation(channels=config["C"])
    for part in ("weight", "bias"):
        stored = weights[f"aggregator.embed_convs.0.conv.{part}"]
        getattr(aggregation.embed, part).data.copy_(stored)
    with torch.no_grad():
        check_flow(network, io, config, report)
        check_aggregation(aggregation, io, config, report)


def check_flow(network: FlowNetSimple, io: dict, config: dict, report: Report) -> None:
    """Check the input of FlowNet and each of its layers with the reference's inputs."""
    mean, std = (torch.tensor(config[f"image_{part}"]).view(3, 1, 1) for part in ("mean", "std"))
    size = torch.tensor([config["image_hw"]])
    target, supports = (
        halved(io[name] * std + mean, size.expand(len(io[name]), 2))
        for name in ("target_image", "support_images")
    )
    target = target.expand_as(supports)
    report.forced("flow_input", torch.cat([target, supports], 1), io["flow_input"], FEATURES)
    target, supports = io["flow_input"].split(3, dim=1)

    maps = [io["flow_input"], *(io[f"flow.conv{number}"] for number in range(1, 7))]
    for number in range(1, 7):
        convolutions = network.get_submodule(f"conv{number}")
        name = f"flow.conv{number}"
        report.forced(name, convolutions(maps[number - 1]), io[name], FEATURES)
    features = maps[6]
    for level in (5, 4, 3, 2):
        flow = io[f"flow.predict_flow{level + 1}"]
        parts = {
            f"predict_flow{level + 1}": features,
            f"upsample_flow{level}": flow,
            f"deconv{level}": features,
        }
        for name, given in parts.items():
            ours = network.get_submodule(name)(given)
            if name.startswith("deconv"):
                ours = F.leaky_relu(ours, SLOPE)
            report.forced(f"flow.{name}", ours, io[f"flow.{name}"], FEATURES)
        height, width = maps[level].shape[-2:]
        expanded, upsampled = (
            io[f"flow.{name}{level}"][..., :height, :width] for name in ("deconv", "upsample_flow")
        )
        joined = torch.cat([maps[level], expanded, upsampled], dim=1)
        ours = network.expand(level, features, maps[level])
        report.forced(f"level {level}", ours, joined, FEATURES)
        features = joined
    prediction = network.predict_flow(features)
    report.forced("flow.predict_flow", prediction, io["flow.predict_flow"], FEATURES)
    flow = F.interpolate(network(target, supports), io["flow"].shape[-2:], mode="bilinear")
    report.forced("flow", flow, io["flow"], FLOW_PX)
    # The detector does not upsample the flow to the image.
    warped = warp(io["support_maps"], network(target, supports), config["map_stride"])
    report.forced("warped", warped, io["warped"], FEATURES)


def check_aggregation(aggregation: MapAggregation, io: dict, config: dict, report: Report) -> None:
    """Check embeddings, weights and means, without (training) and with the target's map (test)."""
    target, maps = io["target_map"], io["warped"][None]
    report.forced("embed.target", aggregation.embed(target), io["embed.target"], FEATURES)
    report.forced("embed.supports", aggregation.embed(maps[0]), io["embed.supports"], FEATURES)

    own, others = (io[f"embed.{part}"] for part in ("target", "supports"))
    train = similarity(others, own)
    left = config["num_left"]
    test = torch.cat([train[:left], similarity(own, own), train[left:]])
    chunked = list(maps.split(1, dim=1))
    for form, unnormalized in (("train", train), ("test", test)):
        weights = unnormalized / unnormalized.sum(0)
        report.forced(f"{form}.weights", weights, io[f"{form}.weights"], FEATURES)
        for chunks, name in (([maps], "whole"), (chunked, "in chunks")):
            mean = aggregation(target, chunks, includes_targets=form == "test")
            stored: Tensor = io[f"{form}.aggregated"]
            report.forced(f"{form}.aggregated, {name}", mean, stored, FEATURES)
