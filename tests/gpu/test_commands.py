"""Every command with its defaults on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import ON_A_GPU

pytestmark = ON_A_GPU

REPOSITORY = Path(__file__).parents[2]
SMALL = """
model: {num_stages: 2, num_proposals: 10, channels: 32, ffn_dim: 64, dynamic_dim: 8, num_heads: 2,
  spfa_heads: 2}
data: {short_side: 64, long_side: 96, workers: 0}
train: {clips_per_gpu: 2, log_every: 1, eval_every: 1, warmup_steps: 2}
inference: {batch: 4}
"""


def run(*arguments: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a separate process from the source folder, which is not installed."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "sparsevod_cli", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 or not ok, done.stderr
    return done


@pytest.fixture(scope="module")
def run_folder(image_set: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two steps, then resume with --gpus 1 for two more; return the run folder."""
    pytest.importorskip("orjson", reason="data sets need orjson")
    folder = tmp_path_factory.mktemp("train")
    config, out = folder / "small.yaml", folder / "run"
    config.write_text(SMALL)
    common = ("--config", config, "--backbone", "tiny")
    run("train", "--annotations", image_set.annotations, *common, "--output", out, "--max-steps", 2)
    run("train", "--resume", out, "--max-steps", 4, "--gpus", 1)
    return out


@pytest.fixture(scope="module")
def video(image_set: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av", reason="videos need PyAV")
    from sparsevod_core.video.writer import VideoWriter

    path = tmp_path_factory.mktemp("video") / "long.mp4"
    with VideoWriter(path, 96, 64, frame_rate=Fraction(25)) as writer:
        for frame in image_set.images["long"]:
            writer.write(frame)
    return path


def test_training_goes_on_where_it_stopped(run_folder: Path) -> None:
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == [1, 2, 3, 4]


def test_eval(run_folder: Path, image_set: Any, tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    checkpoint = run_folder / "checkpoints" / "last.pth"
    run("eval", checkpoint, "--annotations", image_set.annotations, "--json", out)
    assert 0 <= json.loads(out.read_text())["AP"] <= 1 or json.loads(out.read_text())["AP"] == -1


def test_detect(video: Path, tmp_path: Path) -> None:
    out, found = tmp_path / "out.mp4", tmp_path / "found.json"
    run("detect", video, "-o", out, "--json", found)
    assert out.exists()
    assert len(json.loads(found.read_text())["frames"]) == 24


def test_a_detect_that_was_cut_off_goes_on(video: Path, tmp_path: Path) -> None:
    from sparsevod_core.inference import Predictor, detect_video

    class CutOff(Predictor):
        def frames(self, *arguments: Any, **options: Any) -> Any:
            yield from islice(super().frames(*arguments, **options), 9)
            raise RuntimeError("cut off")

    def made_by(kind: type[Predictor], name: str, resume: bool = False) -> Any:
        predictor = kind.from_checkpoint(overrides=["inference.batch=4"])
        results = {"json": tmp_path / f"{name}.json"}
        detect_video(predictor, video, tmp_path / f"{name}.mp4", results=results, resume=resume)
        return json.loads(results["json"].read_text())["frames"]

    with pytest.raises(RuntimeError, match="cut off"):
        made_by(CutOff, "cut")
    assert (tmp_path / "cut.mp4.journal.jsonl").exists()
    assert made_by(Predictor, "cut", resume=True) == made_by(Predictor, "whole")


def test_visualize_stages(video: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need Matplotlib")
    run("visualize-stages", video, "-o", tmp_path / "stages.png", "--frames", "3,9")
    assert (tmp_path / "stages.png").stat().st_size > 1000


def test_bench(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="bench decodes a video")
    out = tmp_path / "bench.json"
    run("bench", "--backbone", "tiny", "--size", "96x160", "--repeats", 2, "--compile", "off",
        "--json", out)  # fmt: skip
    found = json.loads(out.read_text())
    assert found["device"].startswith("cuda") and found["settings"]["precision"] == "bf16"


def test_export(run_folder: Path, tmp_path: Path) -> None:
    checkpoint = run_folder / "checkpoints" / "last.pth"
    run("export", checkpoint, "-o", tmp_path / "model.pt2", "--size", "64x96")
    assert any(tmp_path.glob("*.pt2"))


@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32", "bf16"])
@pytest.mark.parametrize("support", ["uniform", "window", "causal"])
def test_a_predictor(precision: str, support: str) -> None:
    from sparsevod_core.inference import Predictor
    from sparsevod_core.structures import Frame

    frames = [
        Frame(index, None, np.full((120, 160, 3), 10 * index, np.uint8)) for index in range(11)
    ]

    class Footage:
        def num_frames(self) -> int:
            return len(frames)

        def frames_at(self, indices: Any) -> list[Frame]:
            return [frames[index] for index in indices]

        def __iter__(self) -> Any:
            return iter(frames)

    settings = [f"inference.precision={precision}", f"inference.support={support}"]
    predictor = Predictor.from_checkpoint(overrides=[*settings, "inference.batch=4"])
    assert predictor.device.type == "cuda"
    assert predictor.config.inference.precision == ("bf16" if precision == "auto" else precision)
    predictor.expect(11)
    found = list(predictor.frames(Footage()))
    assert [one.frame.index for one in found] == list(range(11))
    assert all(np.isfinite(one.detections.boxes_xyxy).all() for one in found)


# A separate process, because the compiler cannot trace the shape checks of the tests.
COMPILED = """
import numpy as np
from sparsevod_core.inference import Predictor

frame = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
scores = []
for setting in ("on", "off"):
    predictor = Predictor.from_checkpoint(overrides=[f"inference.compile={setting}"])
    memory = predictor.remember([frame, frame[::-1]])
    for _ in range(3):
        (found,) = predictor.detect([frame], memory)
    scores.append(np.sort(found.scores)[::-1][:5])
np.testing.assert_allclose(*scores, atol=0.05)
"""


def test_a_predictor_that_compiles() -> None:
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "without compilation" not in done.stderr
