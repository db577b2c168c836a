"""Example scripts, run on a small rendered set."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = "--max-steps 2 --set data.short_side=64 --set data.long_side=96 --set model.num_stages=2"


def run(script: str, *arguments: object, folder: Path) -> str:
    finished = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Output folder of the demo, made with a small set instead of the one that it renders."""
    from sparsevod_core.prepare.synthetic.render import SyntheticConfig, prepare_synthetic

    folder = tmp_path_factory.mktemp("demo")
    small = SyntheticConfig(
        train_videos=2, val_videos=1, frames=6, val_frames=6, width=128, height=96
    )
    prepare_synthetic(folder / "demo" / "synthetic", small)
    out = run(
        "demo.py", "--video", "demo/synthetic/preview.mp4", "--", *SMALL.split(), folder=folder
    )
    assert "== Done in" in out
    assert out.index("embedded.mp4") < out.index("sparsevod train")  # boxes first
    return folder / "demo"


@pytest.mark.slow
def test_demo_writes_the_files_it_lists_and_resumes(demo):
    of_embedded = ("embedded.mp4", "preview_embedded.mp4")
    for name in (*of_embedded, "detections.mp4", "preview_detections.mp4", "stages.png"):
        assert (demo / name).stat().st_size > 1000
    assert 0 <= json.loads((demo / "eval.json").read_text())["AP50"] <= 1
    assert len(json.loads((demo / "detections.json").read_text())["frames"]) == 6
    again = run("demo.py", folder=demo.parent)  # finished: nothing is trained again
    assert "train --resume" in again


@pytest.mark.slow
def test_scripts_on_the_demo(demo):
    best = demo / "run" / "checkpoints" / "best.pth"
    zone = run("supervision_zone.py", best, demo / "synthetic" / "preview.mp4", folder=demo)
    assert zone.splitlines()[0].endswith("in the left half")
    run("detect_video.py", best, demo / "synthetic" / "preview.mp4", folder=demo)
    images = sorted((demo / "synthetic" / "Data" / "VID" / "val").rglob("*.JPEG"))[:2]
    assert len(run("detect_images.py", best, *images, folder=demo).splitlines()) == 10
    table = run("evaluate_supports.py", best, demo / "synthetic" / "val.json", folder=demo)
    assert [line.split()[0] for line in table.splitlines()] == ["0", "2", "6"]


@pytest.fixture
def package_model(monkeypatch):
    """Function that runs `embedded/package.py CHECKPOINT -o OUTPUT` in this process."""

    def run_package(checkpoint: Path, output: Path) -> None:
        monkeypatch.setattr(sys, "argv", ["package.py", str(checkpoint), "-o", str(output)])
        runpy.run_path(str(EXAMPLES / "embedded" / "package.py"), run_name="__main__")

    return run_package


def test_a_packaged_model_has_half_the_size_and_no_paths(tmp_path, package_model, capsys):
    from sparsevod_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from sparsevod_core.config import load_config
    from sparsevod_core.structures import Category

    places = ["data.train_annotations=/data/a.json", "data.val_annotations=b", "data.val_root=/c"]
    config = load_config("tiny", overrides=[*places, "train.init_from=d", "model.num_classes=1"])
    model = {"weight": torch.rand(500, 100), "count": torch.tensor(3)}
    trained = Checkpoint(config, (Category(4, "kite"),), model, {"step": 1})
    before, after = tmp_path / "best.pth", tmp_path / "packaged.pth"
    save_checkpoint(before, trained)
    package_model(before, after)
    num_bytes = after.stat().st_size
    assert capsys.readouterr().out == f"{after}: {num_bytes:,} bytes, 50,001 parameters; kite\n"
    assert num_bytes < 0.6 * before.stat().st_size
    found = load_checkpoint(after)
    assert found.training is None and found.categories == trained.categories
    assert (found.model["weight"].dtype, found.model["count"].dtype) == (torch.half, torch.int64)
    assert found.config.model == config.model
    settings = found.config.to_yaml()
    assert [place for place in ("/data", "/c", "init_from: d") if place in settings] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pth", "packaged.pth"]


def test_a_model_that_is_too_large_is_not_packaged(tmp_path, package_model, capsys):
    from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
    from sparsevod_core.config import load_config
    from sparsevod_core.structures import Category

    config = load_config("tiny", overrides=["model.num_classes=1"])
    model = {"weight": torch.zeros(()).expand(8_000_001)}  # a file of a few bytes
    save_checkpoint(tmp_path / "best.pth", Checkpoint(config, (Category(4, "kite"),), model))
    with pytest.raises(SystemExit) as stopped:
        package_model(tmp_path / "best.pth", tmp_path / "packaged.pth")
    assert stopped.value.code == 1
    assert "8,000,001 parameters" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]


def test_own_forward():
    out = run("own_forward.py", folder=EXAMPLES)
    assert "same as the first clip: True" in out


def test_own_videos(tmp_path):
    import cv2
    import numpy as np

    folder = tmp_path / "mine"
    for number in (1, 2):
        path = folder / "clip" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.zeros((64, 96, 3), np.uint8))[1].tobytes())
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 1.8 nan\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    lines = run("own_videos.py", folder, tmp_path / "mine.json", folder=tmp_path).splitlines()
    assert lines[0].endswith("is yolo: it has classes.txt")
    assert [line.startswith("skipped: ") for line in lines[1:3]] == [True, True]
    assert lines[3] == "clip: 2 frames of (64, 96, 3), first ['cat']"


def test_ap_by_size_counts_each_object_in_its_range(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}
    boxes = [[10, 10, 20, 20], [100, 10, 20, 20], [200, 10, 40, 40]]
    truth = {
        "categories": [{"id": 3, "name": "cat"}],
        "images": [image],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 3, "bbox": box, "area": box[2] * box[3]}
            for n, box in enumerate(boxes, start=1)
        ],
    }
    del truth["annotations"][0]["area"]  # as `eval` accepts it
    crowd = {"id": 9, "image_id": 1, "category_id": 3, "bbox": [300, 10, 20, 20], "iscrowd": 1}
    truth["annotations"].append(crowd)
    # One of the two small objects is found, and the large one.
    found = [{"image_id": 1, "category_id": 3, "bbox": boxes[n], "score": 0.9} for n in (0, 2)]
    (tmp_path / "val.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    lines = run("ap_by_size.py", "val.json", "found.json", folder=tmp_path).splitlines()
    assert lines == [
        "all                  3 boxes  AP at IoU 0.5 0.663",  # 67 of 101 recall levels
        "0 to 16 px           0 boxes  AP at IoU 0.5 -",
        "16 to 24 px          2 boxes  AP at IoU 0.5 0.505",  # 51 of them
        "24 to 32 px          0 boxes  AP at IoU 0.5 -",
        "32 to 64 px          1 boxes  AP at IoU 0.5 1.000",
        "from 64 px           0 boxes  AP at IoU 0.5 -",
    ]
    found[0]["bbox"] = [15, 10, 20, 20]  # IoU 0.6
    (tmp_path / "found.json").write_text(json.dumps(found))
    for iou, ap in ((0.55, "0.505"), (0.65, "0.000")):
        lines = run("ap_by_size.py", "val.json", "found.json", iou, folder=tmp_path).splitlines()
        assert lines[2] == f"16 to 24 px          2 boxes  AP at IoU {iou} {ap}"


def test_one_class_counts_a_correct_box_of_a_wrong_class(tmp_path):
    image = {"file_name": "a.jpg", "width": 64, "height": 48}
    box = [10, 10, 20, 20]
    truth = {
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "images": [{"id": 1, **image}, {"id": 2, **image}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 3, "bbox": box, "area": 400}
            for number in (1, 2)
        ],
    }
    # Frame 1 is correct; in frame 2 a cat is detected as a dog, twice.
    found = [(1, 3, 0.9), (2, 5, 0.8), (2, 5, 0.7)]
    (tmp_path / "val.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(
        json.dumps(
            [
                {"image_id": frame, "category_id": label, "bbox": box, "score": score}
                for frame, label, score in found
            ]
        )
    )
    out = run("one_class.py", "val.json", "found.json", folder=tmp_path).splitlines()
    assert out[0].startswith("with classes    all frames AP50 0.505")  # 51 of 101 recall levels
    assert out[1].startswith("all one class   all frames AP50 1.000")


def test_tfe_matches_counts_places_on_the_same_object(tmp_path):
    from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
    from sparsevod_core.config import load_config
    from sparsevod_core.model.build import build_detector
    from sparsevod_core.structures import Category

    torch.manual_seed(0)
    settings = ["model.num_classes=1", "model.tfe=average", "inference.precision=bf16"]
    config = load_config("tiny", overrides=settings)
    detector = build_detector(config.model)
    checkpoint = Checkpoint(config, (Category(1, "texture"),), detector.state_dict())
    save_checkpoint(tmp_path / "ckpt.pth", checkpoint)
    (tmp_path / "frames").mkdir()
    texture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    images, labels = [], []
    # Shifts by the coarsest stride of 32 pixels leave the features of the object as they are.
    for number, left in enumerate((24, 56, 88, 56, 24, 88, 24, 56, 88, 56, 24)):
        pixels = np.full((96, 160, 3), 128, np.uint8)
        pixels[32:72, left : left + 40] = texture
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), pixels)
        image = {"id": number, "video_id": 1, "frame_id": number, "file_name": f"{number}.png"}
        images.append({**image, "width": 160, "height": 96})
        place = {"image_id": number, "instance_id": 7, "bbox": [left, 32, 40, 40]}
        labels.append({"id": number + 1, "category_id": 1, **place})
    images[5]["degradation"] = {"blur": 3}

    def shares() -> dict[str, list[str]]:
        truth = {
            "info": {"root": "frames"},
            "videos": [{"id": 1, "name": "texture"}],
            "images": images,
            "annotations": labels,
            "categories": [{"id": 1, "name": "texture"}],
        }
        (tmp_path / "val.json").write_text(json.dumps(truth))
        lines = run("tfe_matches.py", "ckpt.pth", "val.json", folder=tmp_path).splitlines()[1:]
        return {line.split()[0]: line.split()[1:] for line in lines}

    found = shares()
    # Targets are frames 0, 5 and 10, supports 0, 2, 4, 6, 8 and 10.
    assert {name: row[0] for name, row in found.items()} == {"clean": "10", "degraded": "6"}
    assert {name: row[3] for name, row in found.items()} == {"clean": "-", "degraded": "14.3%"}
    assert all(row[2] == "10.4%" for row in found.values())  # 40 x 40 of 96 x 160
    assert all(float(row[1].rstrip("%")) > 90 for row in found.values())
    for label in labels[2:10:2]:
        label["bbox"] = [0, 0, 20, 20]  # beside the object
    assert float(shares()["clean"][1].rstrip("%")) < 50
