"""Interactive page of the stages, as one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from sparsevod_core.figures.stage_view import StageNames, StageView, are_alike, end_objects
from sparsevod_core.figures.stages import proposal_colors
from sparsevod_core.figures.style import Color

MAX_SIDE_PX, SUPPORT_SIDE_PX = 1280, 480  # of the images in the page
MAX_LINKS = 8  # support proposals shown for each proposal, highest weight first
MAX_ATTENDING = 32  # proposals of a frame whose attention is in the page
JPEG_QUALITY = 88


def stage_html(
    views: Sequence[StageView],
    class_names: Sequence[str],
    *,
    score: float,
    names: StageNames,
    caption: str = "",
    times_s: Sequence[float | None],
    indices: Sequence[int],
) -> str:
    """Return the page, to be written as UTF-8.

    Args:
        views: Views of the frames.
        class_names: Name of each label.
        score: Score above which a box of the last stage is an object.
        names: What the stages are called.
        caption: Description of model and video.
        times_s: Time of each frame in seconds.
        indices: Number of each frame in the video.
    """
    supports: dict[str, Any] = {}
    for view in views:
        for support in view.supports:
            height, width = support.image.shape[:2]
            supports.setdefault(
                str(support.index),
                {
                    "index": support.index,
                    "width": width,
                    "height": height,
                    "image": _jpeg(support.image, SUPPORT_SIDE_PX),
                },
            )
    content = {
        "caption": caption,
        "classes": list(class_names),
        "score": score,
        "proposals": names.proposals.lower(),
        "stages": [f"{name[0].lower()}{name[1:]}" for name in names.stages],
        "alike": any(are_alike(view.proposals_xyxy) for view in views),
        "supports": supports,
        "frames": [
            {"index": index, "time": time_s, **_frame(view, score)}
            for view, index, time_s in zip(views, indices, times_s, strict=True)
        ],
    }
    # Class names are untrusted: nothing in them may end the script or begin a tag.
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    template = files("sparsevod_core.figures").joinpath("stage_html.html").read_text("utf-8")
    return template.replace("/*DATA*/", text)


def _frame(view: StageView, score: float) -> dict[str, Any]:
    height, width = view.image.shape[:2]
    objects = end_objects(view, score)
    best = objects.best.tolist()
    shown = (objects.of_proposal >= 0) | (view.stage_scores > score).any(axis=0)
    others = [n for n in np.flatnonzero(shown).tolist() if n not in best]
    return {
        "width": width,
        "height": height,
        "image": _jpeg(view.image, MAX_SIDE_PX),
        "boxes": _rounded(np.concatenate([view.proposals_xyxy[None], view.stage_boxes]), 1),
        "scores": _rounded(view.stage_scores, 4),
        "labels": view.stage_labels.tolist(),
        "colors": [_css(color) for color in proposal_colors(view, objects)],
        "best": best,
        "supports": [str(support.index) for support in view.supports],
        "layers": [
            {
                "name": layer.name,
                "boxes": [] if layer.boxes_xyxy is None else _rounded(layer.boxes_xyxy, 1),
            }
            for layer in view.attention
        ],
        "layersAt": [view.layers_at(number) for number in range(1, view.num_stages + 1)],
        "drawnAt": [view.last_layers(number) for number in range(1, view.num_stages + 1)],
        "looks": {str(n): _attention(view, n) for n in [*best, *others][:MAX_ATTENDING]},
    }


def _attention(view: StageView, proposal: int) -> list[dict[str, Any]]:
    """Return the attention of one proposal in each layer."""
    layers = []
    for layer in view.attention:
        values: dict[str, Any] = {"weights": _rounded(layer.weights[proposal], 4)}
        if layer.proposals is not None:
            values["links"] = _strongest(layer.proposals[proposal])
        if layer.points is not None and layer.point_weights is not None:
            points = [layer.points[proposal], layer.point_weights[proposal][..., None]]
            values["points"] = _rounded(np.concatenate(points, axis=-1), 2)
        layers.append(values)
    return layers


def _strongest(weights: np.ndarray) -> list[list[Any]]:
    """Return support frame, proposal and weight of the highest of the weights [S, N]."""
    flat = weights.ravel()
    order = np.argsort(-flat, kind="stable")[:MAX_LINKS].tolist()
    count = weights.shape[1]
    return [[n // count, n % count, round(float(flat[n]), 4)] for n in order]


def _jpeg(image: np.ndarray, max_side_px: int) -> str:
    from PIL import Image

    scaled = Image.fromarray(image)
    scaled.thumbnail((max_side_px, max_side_px))
    content = io.BytesIO()
    scaled.save(content, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _css(color: Color) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(float), digits).tolist()
