"""Names of the ResNet in MMDetection and MMTracking, which are torchvision's."""

from __future__ import annotations

RESNET = {
    "backbone.conv1.": "backbone.stem.conv1.",
    "backbone.bn1.": "backbone.stem.bn1.",
    **{
        f"backbone.layer{stage + 1}.*.{part}.": f"backbone.stages.{stage}.*.{part}."
        for stage in range(4)
        for part in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample.*")
    },
}
