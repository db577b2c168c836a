"""The published weights that have a name here.

Sources: the model zoos of github.com/open-mmlab/mmtracking and github.com/open-mmlab/mmdetection,
whose code is under Apache-2.0. The data that they were trained on have terms of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BASE_URL = "https://download.openmmlab.com/"


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One file of trained weights.

    Attributes:
        name: What users call it.
        path: Where it lies below the base address.
        system: Method of the detector.
        backbone: Name of the backbone, as in `model.backbone`.
        data: Data set that it was trained on, and whose classes it detects.
        num_classes: Number of classes; None if it is no detector.
        metric: `AP50` on ImageNet VID's validation set, or `AP` on COCO's.
        published: Value of the metric in percent, as its authors publish it.
    """

    name: str
    path: str
    system: str
    backbone: str | None
    data: str
    num_classes: int | None = None
    metric: str | None = None
    published: float | None = None

    @property
    def is_detector(self) -> bool:
        """Whether it is a detector, or a part of one to start its training from."""
        return self.num_classes is not None

    @property
    def project(self) -> str:
        """Project that published it."""
        return {"mmtracking": "MMTracking", "mmdetection": "MMDetection"}[self.path.split("/")[0]]

    @property
    def license(self) -> str:
        """License of the project's code."""
        return "Apache-2.0"

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def digits(self) -> str:
        """First hexadecimal digits of the file's SHA-256; empty if its name has none."""
        found = re.search(r"-([0-9a-f]{8,64})\.pth$", self.path)
        return found[1] if found else ""

    def described(self) -> str:
        """Return what it is, in one line."""
        backbone = f" with {self.backbone}" if self.backbone else ""
        classes = f" ({self.num_classes} classes)" if self.is_detector else ""
        result = f", {self.metric} {self.published}" if self.metric else ""
        return (
            f"{self.name}: {self.system}{backbone} by {self.project}, trained on {self.data}"
            f"{classes}{result}; code under {self.license}, the data have their own terms"
        )


def _vid(
    name: str, system: str, backbone: str, published: float, folder: str, date_and_digits: str
) -> PublishedWeights:
    path = f"mmtracking/vid/{folder}/{folder.rpartition('/')[2]}_{date_and_digits}.pth"
    return PublishedWeights(name, path, system, backbone, "ImageNet VID", 30, "AP50", published)


def _coco(
    name: str, backbone: str, published: float, folder: str, date_and_digits: str
) -> PublishedWeights:
    path = f"mmdetection/v2.0/sparse_rcnn/{folder}/{folder}_{date_and_digits}.pth"
    return PublishedWeights(name, path, "Sparse R-CNN", backbone, "COCO", 80, "AP", published)


_ROWS = (
    _vid(
        "selsa-r50-vid",
        "SELSA",
        "r50",
        78.4,
        "selsa/selsa_faster_rcnn_r50_dc5_1x_imagenetvid",
        "20201227_204835-2f5a4952",
    ),
    _vid(
        "selsa-r101-vid",
        "SELSA",
        "r101",
        81.5,
        "selsa/selsa_faster_rcnn_r101_dc5_1x_imagenetvid",
        "20201218_172724-aa961bcc",
    ),
    _vid(
        "selsa-x101-vid",
        "SELSA",
        "x101_64x4d",
        83.1,
        "selsa/selsa_faster_rcnn_x101_dc5_1x_imagenetvid",
        "20210825_205641-10252965",
    ),
    _vid(
        "troi-r50-vid",
        "Temporal ROI Align",
        "r50",
        79.8,
        "temporal_roi_align/selsa_troialign_faster_rcnn_r50_dc5_7e_imagenetvid",
        "20210820_162714-939fd657",
    ),
    _vid(
        "troi-r101-vid",
        "Temporal ROI Align",
        "r101",
        82.6,
        "temporal_roi_align/selsa_troialign_faster_rcnn_r101_dc5_7e_imagenetvid",
        "20210822_111621-22cb96b9",
    ),
    _vid(
        "troi-x101-vid",
        "Temporal ROI Align",
        "x101_64x4d",
        84.1,
        "temporal_roi_align/selsa_troialign_faster_rcnn_x101_dc5_7e_imagenetvid",
        "20210822_164036-4471ac42",
    ),
    _vid(
        "fgfa-r50-vid",
        "FGFA",
        "r50",
        74.7,
        "fgfa/fgfa_faster_rcnn_r50_dc5_1x_imagenetvid",
        "20201228_022657-f42016f3",
    ),
    _vid(
        "fgfa-r101-vid",
        "FGFA",
        "r101",
        77.8,
        "fgfa/fgfa_faster_rcnn_r101_dc5_1x_imagenetvid",
        "20201219_011831-9c9d8183",
    ),
    _vid(
        "fgfa-x101-vid",
        "FGFA",
        "x101_64x4d",
        79.6,
        "fgfa/fgfa_faster_rcnn_x101_dc5_1x_imagenetvid",
        "20210818_223334-8723c594",
    ),
    _coco(
        "sparse-rcnn-r50-coco",
        "r50",
        42.8,
        "sparse_rcnn_r50_fpn_mstrain_480-800_3x_coco",
        "20201218_154234-7bc5c054",
    ),
    _coco(
        "sparse-rcnn-r101-coco",
        "r101",
        44.2,
        "sparse_rcnn_r101_fpn_mstrain_480-800_3x_coco",
        "20201223_121552-6c46c9d6",
    ),
    PublishedWeights(
        "flownet-simple",
        "mmtracking/pretrained_weights/flownet_simple.pth",
        "FlowNetSimple",
        None,
        "FlyingChairs",
    ),
)
PUBLISHED = {weights.name: weights for weights in _ROWS}
"""All published weights by name."""
