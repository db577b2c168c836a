"""Parity with TransVOD (SJTU-LuHe/TransVOD): from the backbone's map to the detections."""

from __future__ import annotations

import torch
from report import BOXES_PX, EXACT, FEATURES, Report
from torch import Tensor, nn

from sparsevod_core.boxes import cxcywh_to_xyxy
from sparsevod_core.foreign_names.transvod import from_transvod
from sparsevod_core.model.backbone import ResNetStages
from sparsevod_core.model.transvod.assembly import assemble
from sparsevod_core.model.transvod.deformable import sample
from sparsevod_core.model.transvod.detector import EncodedFrames, TransVOD
from sparsevod_core.model.transvod.image_map import ImageMap, positions_inside
from sparsevod_core.model.transvod.temporal_queries import QueryMemory
from sparsevod_core.model.transvod.transformer import DeformableEncoder, sine_positions
from sparsevod_core.structures import DetectorOutput


def check_transvod(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check every part with stored inputs, then the path from the maps, free-running."""
    config = {**config, "points": io["msda.weights"].shape[-1]}
    model = build(config, released_points=False)
    model.load_state_dict(from_transvod(weights).state)
    inside = io["mask"] == 0
    with torch.no_grad():
        check_frame_detector(model, inside, io, config, report)
        queries, boxes = io[f"dec{config['dec'] - 1}.queries"], io["dec.boxes_cxcywh"][-1]
        scores = model.decoder.class_logits[-1](queries).sigmoid()
        memory = QueryMemory(queries[None, 1:], scores[None, 1:])
        rows = io[f"enc{config['enc'] - 1}"]
        target = (queries[:1], boxes[:1], ImageMap(rows[:1], inside[:1]))
        check_query_layers(model, memory, io, config, report)
        check_temporal(model, target, memory, io, config, report, "")
        if "released.pred_logits" in io:
            released = build(config, released_points=True)
            released.load_state_dict(from_transvod(weights).state)
            check_temporal(released, target, memory, io, config, report, "released.")
        encoded = encode_maps(model, io["maps"], inside, config)
        output = model.detect(encoded[:1], model.remember(encoded[1:]))
    report.free("free.pred_logits", output.logits, io["pred_logits"])
    report.free("free.boxes_xyxy", output.boxes_xyxy, pixels(io["pred_boxes_cxcywh"], config))


def check_frame_detector(
    model: TransVOD, inside: Tensor, io: dict, config: dict, report: Report
) -> None:
    """Check projection, positions, deformable attention, encoder and decoder."""
    sizes = torch.tensor([config["image_hw"]] * len(inside))
    mine = positions_inside(sizes, tuple(config["padded_hw"]), tuple(inside.shape[-2:]))
    report.forced("mask", ~mine, io["mask"], EXACT)
    report.forced("src", model.projection(io["maps"]), io["src"], FEATURES)
    positions = sine_positions(inside[:1], config["C"])
    report.forced("pos", positions, rows_of(io["pos"]), FEATURES)
    locations, weights = io["msda.locations"][:, :, :, 0], io["msda.weights"][:, :, :, 0]
    size = ImageMap(io["enc0"], inside).size
    values = io["msda.value"].flatten(2)
    mine = sample(values, size, locations, weights)
    report.forced("msda.out", mine, io["msda.out"], FEATURES)

    src = rows_of(io["src"])
    for number in range(config["enc"]):
        before = src if number == 0 else io[f"enc{number - 1}"]
        encoder = DeformableEncoder(layers=[model.encoder.layers[number]], channels=config["C"])
        encoder.level = model.encoder.level
        mine = encoder(ImageMap(before, inside)).rows
        report.forced(f"enc{number}", mine, io[f"enc{number}"], FEATURES)

    image_map = ImageMap(io[f"enc{config['enc'] - 1}"], inside)
    decoder = model.decoder
    decoded = decoder(image_map)
    report.forced("dec.reference_points", decoded.points, io["dec.reference_points"], FEATURES)
    positions = decoder.query_positions.expand(len(inside), -1, -1)
    queries, references = decoder.query_features.expand(len(inside), -1, -1), decoded.points
    for number, layer in enumerate(decoder.layers):
        mine = layer(queries, positions, references, image_map, image_map.padding)
        report.forced(f"dec{number}.queries", mine, io[f"dec{number}.queries"], FEATURES)
        queries, references = io[f"dec{number}.queries"], io["dec.boxes_cxcywh"][number]
    report.forced("decoder whole: queries", decoded.queries, queries, FEATURES)
    mine, theirs = (pixels(x, config) for x in (decoded.boxes_cxcywh, io["dec.boxes_cxcywh"]))
    report.forced("decoder whole: boxes", mine, theirs, BOXES_PX)


def check_query_layers(
    model: TransVOD, memory: QueryMemory, io: dict, config: dict, report: Report
) -> None:
    """Check the chosen support queries, and each temporal query layer."""
    for number, layer in enumerate(model.temporal.query_layers, start=1):
        chosen = memory.best(config["topk_per_ref"][number - 1] * config["S"])
        # Attention does not depend on their order, in which nearly equal scores may differ.
        mine, theirs = (rows.sort(dim=1).values for rows in (chosen, io[f"tqe{number}.refs"]))
        report.forced(f"tqe{number}.refs", mine, theirs, EXACT)
        mine = layer(io[f"tqe{number}.in"], io[f"tqe{number}.refs"])
        report.forced(f"tqe{number}.out", mine, io[f"tqe{number}.out"], FEATURES)


def check_temporal(
    model: TransVOD,
    target: tuple[Tensor, Tensor, ImageMap],
    memory: QueryMemory,
    io: dict,
    config: dict,
    report: Report,
    prefix: str,
) -> None:
    """Check the last decoder layer, the temporal part as a whole, and the detections."""
    temporal, (queries, boxes, image_map) = model.temporal, target
    copies = config["S"] if temporal.released_points else 1
    mine = temporal.decoder_layer(
        io[f"tqe{len(temporal.query_layers)}.out"], 0.0, boxes, image_map, None, copies
    )
    report.forced(f"{prefix}tdec.out", mine, io[f"{prefix}tdec.out"], FEATURES)
    logits, boxes = temporal(queries, boxes, image_map, memory)
    report.forced(f"{prefix}pred_logits", logits, io[f"{prefix}pred_logits"], FEATURES)
    theirs = pixels(io[f"{prefix}pred_boxes_cxcywh"], config)
    report.forced(f"{prefix}pred_boxes", pixels(boxes, config), theirs, BOXES_PX)

    size = torch.tensor([config["image_hw"]])
    output = DetectorOutput(io[f"{prefix}pred_logits"][None], theirs[None], theirs, size)
    found, scores, labels = model.top(output)
    report.forced(f"{prefix}det.scores", scores, io[f"{prefix}det.scores"], FEATURES)
    report.forced(f"{prefix}det.labels", labels, io[f"{prefix}det.labels"], EXACT)
    report.forced(f"{prefix}det.boxes_xyxy", found, io[f"{prefix}det.boxes_xyxy"], BOXES_PX)


def encode_maps(model: TransVOD, maps: Tensor, inside: Tensor, config: dict) -> EncodedFrames:
    """Return what `encode` gives for images with these maps."""
    image_map = model.encoder(ImageMap(rows_of(model.projection(maps)), inside))
    decoded = model.decoder(image_map)
    boxes = pixels(decoded.boxes_cxcywh, config)
    sizes = torch.tensor([config["image_hw"]] * len(maps))
    output = DetectorOutput(decoded.logits, boxes, boxes[0], sizes)
    return EncodedFrames(image_map, decoded.queries, decoded.boxes_cxcywh[-1], output)


def rows_of(maps: Tensor) -> Tensor:
    """Return maps as rows."""
    return maps.flatten(2).transpose(1, 2)


def pixels(boxes_cxcywh: Tensor, config: dict) -> Tensor:
    """Return boxes as pixels of the image."""
    height, width = config["image_hw"]
    return cxcywh_to_xyxy(boxes_cxcywh) * torch.tensor([width, height] * 2)


def build(config: dict, released_points: bool) -> TransVOD:
    """Build our detector in the sizes of the fixture, without its backbone."""
    return assemble(
        backbone=ResNetStages(
            stem=nn.Identity(),
            stages=[nn.Identity()],
            frozen_stages=0,
            freeze_norms=False,
            read_stages=(3,),
        ),
        map_channels=config["backbone_channels"],
        num_groups=config["gn_groups"],
        channels=config["C"],
        num_heads=config["heads"],
        num_points=config["points"],
        ffn_dim=config["ffn"],
        dropout=0.0,
        num_encoder_layers=config["enc"],
        num_decoder_layers=config["dec"],
        num_queries=config["N"],
        num_classes=config["num_classes"],
        rows_per_support=config["topk_per_ref"],
        released_points=released_points,
        num_detections=100,
    ).eval()
