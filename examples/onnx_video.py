"""Detect objects in a video with ONNX Runtime, without PyTorch.

sparsevod export best.pth -o model.onnx --size 600x1000
pip install onnxruntime av opencv-python-headless numpy
python examples/onnx_video.py model.onnx video.mp4
"""

import json
import sys

import av
import cv2
import numpy as np
import onnxruntime

SUPPORTS = 6


def main(model: str, video: str) -> None:
    frame_graph = onnxruntime.InferenceSession(model)
    support_graph = onnxruntime.InferenceSession(model.replace(".onnx", "_support.onnx"))
    about = json.loads(frame_graph.get_modelmeta().custom_metadata_map["sparsevod"])
    names = [category["name"] for category in about["categories"]]

    with av.open(video) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    images, scales = zip(*(fitted(frame, about["image_size"]) for frame in frames), strict=True)
    # Support frames are sampled uniformly from the video and computed once.
    chosen = np.linspace(0, len(frames) - 1, SUPPORTS).round().astype(int)
    remembered = [support_graph.run(None, {"image": images[index]}) for index in chosen]
    supports = {
        output.name: np.concatenate(parts)
        for output, parts in zip(
            support_graph.get_outputs(), zip(*remembered, strict=True), strict=True
        )
    }
    for number, (image, scale) in enumerate(zip(images, scales, strict=True)):
        inputs = {"image": image, **supports}
        for box, score, label in zip(*frame_graph.run(None, inputs), strict=True):
            if score > 0.3:
                corners = " ".join(f"{value:.0f}" for value in box / scale)
                print(f"frame {number}: {names[label]} {score:.2f} at {corners}")


def fitted(frame: np.ndarray, size: list[int]) -> tuple[np.ndarray, float]:
    """Return the frame, resized and padded to [1, 3, height, width], and its scale."""
    height, width = size
    scale = min(height / frame.shape[0], width / frame.shape[1])
    inner = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    image = np.zeros((height, width, 3), np.uint8)
    image[: inner[1], : inner[0]] = cv2.resize(frame, inner, interpolation=cv2.INTER_AREA)
    return image.transpose(2, 0, 1)[None].copy(), scale


if __name__ == "__main__":
    main(*sys.argv[1:])
