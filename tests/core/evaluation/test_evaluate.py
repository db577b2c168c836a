"""evaluate(): the frames and support frames that the detector gets, class matching and results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevod_core.config import Config, load_config
from sparsevod_core.data.records import VideoSet
from sparsevod_core.data.sampling import uniform_supports, window_supports
from sparsevod_core.distributed import Tally, processes
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.evaluation.evaluate import evaluate, progress_of_all, shard_videos
from sparsevod_core.evaluation.score import evaluate_predictions
from sparsevod_core.inference import Predictor
from sparsevod_core.inference.intake import InputBatch, Intake
from sparsevod_core.inference.support_frames import SupportPlan
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.support import StageMemory, SupportMemory
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.structures import Category, Detections

if TYPE_CHECKING:
    from conftest import TinySet

CAR, DOG, BOAT = Category(3, "car"), Category(1, "dog"), Category(8, "boat")
LENGTHS = {"long": 12, "short": 3, "still": 1}


def make_videos(folder: Path, categories: Sequence[Category] = (CAR, DOG)) -> Path:
    """Write frames whose color is their number: a car in each, a dog in even ones."""
    images: list[dict[str, Any]] = []
    annotations = []
    for video, (name, length) in enumerate(LENGTHS.items()):
        for index in range(length):
            number = 10 + len(images)
            file = folder / name / f"{index:03}.png"
            file.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(file), np.full((40, 60, 3), number, np.uint8))
            size = {"width": 60, "height": 40}
            where = {"file_name": f"{name}/{index:03}.png", "frame_id": 5 * index}
            images.append({"id": 1000 - number, "video_id": video + 7, **where, **size})
            for category in (CAR, DOG)[: 1 + (number % 2 == 0)]:
                x, y, w, h = box_of(number, category)
                annotations.append(
                    {"image_id": 1000 - number, "category_id": category.id, "bbox": [x, y, w, h]}
                )
    known = {category.id for category in categories}
    boxes = [entry for entry in annotations if entry["category_id"] in known]
    content = {
        "videos": [{"id": i + 7, "name": name} for i, name in enumerate(LENGTHS)],
        "images": images,
        "annotations": [{"id": id_, **entry} for id_, entry in enumerate(boxes)],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def box_of(number: int, category: Category) -> tuple[float, float, float, float]:
    return (number % 7 + category.id + 0.1, number % 5 + 0.3, 20.7, 15.9)


def _join(
    memories: Sequence[SupportMemory], global_memories: Sequence[SupportMemory] = ()
) -> SupportMemory | None:
    return SupportMemory.joined(memories) if memories else None


@dataclass
class PerfectDetector(Predictor):
    """Detector that reads a frame's number from its color and returns the boxes of `make_videos`.

    Its memory holds the numbers of the support frames, and it records its inputs. Iteration over a
    video is that of `Predictor`.
    """

    config: Config = field(default_factory=Config)
    categories: Sequence[Category] = (CAR, DOG)
    remembered: list[int] = field(default_factory=list)
    detected: list[tuple[list[int], list[int]]] = field(default_factory=list)
    clips: set[bool] = field(default_factory=set)
    model_digest: str = "sha256 12ab"

    def __post_init__(self) -> None:
        self.device, self._num_expected = torch.device("cpu"), 0
        self.checkpoint = None
        self.batch = self.config.inference.batch or 1
        self.intake = Intake.for_device(torch.device("cpu"), self.config.data)
        self.supports = SupportPlan.of(self.config)
        self.detector: Any = SimpleNamespace(
            uses_supports=True, is_ordered=False, keeps_encodings=False, join=_join
        )

    def encode_frame(self, frame: np.ndarray) -> np.ndarray:
        return frame

    def remember_frame(self, encoded: np.ndarray) -> SupportMemory:
        numbers = [int(encoded[0, 0, 0])]
        self.remembered += numbers
        kept = torch.tensor(numbers, dtype=torch.float32).view(1, -1, 1, 1)
        return SupportMemory((StageMemory(None, None, (kept,)),), len(numbers))

    def _start(
        self,
        inputs: InputBatch,
        memory: SupportMemory | None,
        *,
        clip: bool,
        batch: Any = None,
    ) -> Callable[[], list[Detections]]:
        numbers = [int(frame[0, 0, 0]) for frame in inputs.frames]
        supports = []
        if memory is not None:
            supports = memory.stages[0].proposals[0].flatten().int().tolist()
        self.detected.append((numbers, supports))
        self.clips.add(clip)
        return lambda: [self._find(number) for number in numbers]

    def _find(self, number: int) -> Detections:
        names = ["car", "dog"][: 1 + (number % 2 == 0)]
        labels = [i for i, category in enumerate(self.categories) if category.name in names]
        boxes = [box_of(number, {"car": CAR, "dog": DOG}[self.categories[i].name]) for i in labels]
        low, size = np.split(np.array(boxes, np.float32).reshape(-1, 4), 2, axis=1)
        scores = np.linspace(0.9, 0.5, len(labels), dtype=np.float32)
        return Detections(
            np.concatenate([low, low + size], axis=1), scores, np.array(labels, np.int64)
        )


class Recorder(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


def detector_with(categories: Sequence[Category] = (CAR, DOG), **inference: Any) -> PerfectDetector:
    settings = {f"inference.{key}": value for key, value in inference.items()}
    return PerfectDetector(Config().replace(settings), categories)


def test_a_perfect_detector(tmp_path: Path) -> None:
    videos = VideoSet.load(make_videos(tmp_path))
    result = evaluate(detector_with(), videos).to_dict()
    assert result["AP"] == pytest.approx(1)
    assert result["per_class"]["dog"]["AP75"] == pytest.approx(1)
    assert (result["num_frames"], result["num_boxes"], result["num_detections"]) == (16, 24, 24)


def test_uniform_supports_are_processed_once_per_video(tmp_path: Path) -> None:
    model = detector_with(supports=4, batch=5)
    evaluate(model, VideoSet.load(make_videos(tmp_path)))
    supports = [10 + i for i in uniform_supports(12, 4)]
    assert [number for number in model.remembered if number < 22] == supports
    assert model.detected[:3] == [
        (list(range(10, 15)), supports),
        (list(range(15, 20)), supports),
        ([20, 21], supports),  # a batch never spans two videos
    ]
    # A video shorter than S repeats frames: each is processed once, and used as often as listed.
    assert [number for number in model.remembered if 22 <= number < 25] == [22, 23, 24]
    assert model.detected[3] == ([22, 23, 24], [22 + i for i in uniform_supports(3, 4)])
    assert model.detected[4] == ([25], [25, 25, 25, 25])


def test_the_backbone_runs_once_per_frame_and_once_more_per_support(
    video_set: TinySet,
) -> None:
    """A video's memory is computed once, whatever the batch size."""
    small = ["model.num_stages=1", "model.num_proposals=4", "model.num_classes=2"]
    sizes = ["data.short_side=32", "data.long_side=64", "inference.batch=5"]
    videos = VideoSet.load(video_set.annotations)
    passed: dict[str, int] = {}
    for support in ("uniform", "window", "causal"):
        settings = [*small, *sizes, f"inference.support={support}", "inference.supports=3"]
        settings.append("inference.fast=false")  # for the hook; iteration over a video is the same
        config = load_config("tiny", overrides=settings)
        detector = build_detector(config.model)
        counts: list[int] = []
        detector.backbone.register_forward_pre_hook(
            lambda _, inputs, counts=counts: counts.append(len(inputs[0]))
        )
        evaluate(Predictor(detector, config, videos.categories, device="cpu"), videos)
        passed[support] = sum(counts) - videos.num_frames
    lengths = [len(videos.video_frames(video)) for video in range(videos.num_videos)]
    assert passed["uniform"] == sum(min(length, 3) for length in lengths)
    assert passed["window"] == videos.num_frames
    assert passed["causal"] < videos.num_frames / 2  # 0, 1, 2, 4, 8, 16 of 24 frames


def test_window_supports_follow_the_target_and_are_processed_once(tmp_path: Path) -> None:
    model = detector_with(support="window", supports=3, window_stride=2)
    evaluate(model, VideoSet.load(make_videos(tmp_path)), only=[0])
    assert model.detected == [
        ([10 + target], [10 + i for i in window_supports(target, 12, 3, 2)]) for target in range(12)
    ]
    assert sorted(model.remembered) == list(range(10, 22))


def test_causal_supports_come_before_the_target(tmp_path: Path) -> None:
    model = detector_with(support="causal", supports=2, batch=8)
    evaluate(model, VideoSet.load(make_videos(tmp_path)), only=[0])
    assert model.detected[0] == ([10], [])
    for numbers, supports in model.detected:
        assert all(support < numbers[0] for support in supports)
    # Supports: 0 and 1, then 0 and 2, 0 and 4, 0 and 8. Targets in between share a batch.
    assert model.detected[-1] == ([19, 20, 21], [10, 18])
    assert sum(len(numbers) for numbers, _ in model.detected) == 12


def test_zero_supports(tmp_path: Path) -> None:
    for support in ("uniform", "window", "causal"):
        model = detector_with(support=support, supports=0)
        evaluate(model, VideoSet.load(make_videos(tmp_path)), only=[1])
        assert model.remembered == []
        assert model.detected == [([number], []) for number in (22, 23, 24)]


def test_a_model_without_temporal_modules(tmp_path: Path) -> None:
    """The configured support frames are neither read nor recorded."""

    settings = {"inference.support": "window", "inference.batch": 4}
    model = PerfectDetector(Config().replace(settings))
    model.detector.uses_supports = False
    result = evaluate(model, VideoSet.load(make_videos(tmp_path)), only=[0])
    assert model.remembered == []
    assert [len(numbers) for numbers, _ in model.detected] == [4, 4, 4]
    assert result.settings is not None and result.settings["supports"] == 0


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """Class ids, order and additional classes do not matter."""
    model = detector_with(categories=(Category(4, "dog"), Category(77, "car")))
    recorder = Recorder()
    result = evaluate(model, VideoSet.load(make_videos(tmp_path)), reporter=recorder)
    assert result.to_dict()["AP"] == pytest.approx(1)
    assert recorder.lines == ["scoring 24 detections in 16 frames"]


def test_a_class_that_the_annotations_lack_is_skipped_and_reported(tmp_path: Path) -> None:
    recorder = Recorder()
    videos = VideoSet.load(make_videos(tmp_path, categories=(CAR,)))
    result = evaluate(detector_with(categories=(DOG, CAR)), videos, reporter=recorder)
    assert result.boxes.num_detections == 16
    assert result.classes_left_out == ("dog",)
    assert result.to_dict()["AP"] == pytest.approx(1)
    assert any("skipping classes" in line and line.endswith("dog") for line in recorder.lines)


def test_a_class_that_the_model_lacks_scores_0_and_is_reported(tmp_path: Path) -> None:
    recorder = Recorder()
    videos = VideoSet.load(make_videos(tmp_path))
    result = evaluate(detector_with(categories=(CAR,)), videos, reporter=recorder)
    assert result.boxes.per_class["dog"].AP == 0
    assert result.to_dict()["AP"] == pytest.approx(0.5)
    assert result.classes_unknown == ("dog",)
    assert any(line.startswith("warning:") and line.endswith("dog") for line in recorder.lines)


def test_no_class_in_common(tmp_path: Path) -> None:
    videos = VideoSet.load(make_videos(tmp_path))
    with pytest.raises(DataError, match=r"no class in common .* have car, dog; the model has boat"):
        evaluate(detector_with(categories=(BOAT,)), videos)


def test_at_most_100_detections_per_frame_among_common_classes(tmp_path: Path) -> None:
    class ManyDetections(PerfectDetector):
        def _find(self, number: int) -> Detections:
            boxes = np.tile(np.array([[0, 0, 5, 5]], np.float32), (300, 1))
            scores = np.linspace(1, 0, 300, dtype=np.float32)
            return Detections(boxes, scores, np.arange(300) % 2)

    videos = VideoSet.load(make_videos(tmp_path, categories=(CAR,)))
    saved = tmp_path / "found.json"
    model = ManyDetections(categories=(BOAT, CAR))
    assert evaluate(model, videos, save_predictions=saved).boxes.num_detections == 16 * 100
    assert json.loads(saved.read_text())[99]["score"] == pytest.approx(1 - 199 / 299)


def test_saved_predictions_give_identical_results(tmp_path: Path) -> None:
    class InexactDetector(PerfectDetector):
        def _find(self, number: int) -> Detections:
            clear = super()._find(number)
            noise = np.random.default_rng(number).normal(0, 1.5, (len(clear), 4))
            boxes = (clear.boxes_xyxy + noise).astype(np.float32)
            return Detections(boxes, clear.scores, clear.labels)

    annotations, saved = make_videos(tmp_path), tmp_path / "found.json"
    direct = evaluate(InexactDetector(), VideoSet.load(annotations), save_predictions=saved)
    again = evaluate_predictions(annotations, saved)
    assert 0.1 < direct.boxes.AP < 0.9
    assert again.boxes == direct.boxes


class Interrupted(PerfectDetector):
    """Detector interrupted by Ctrl-C at frame 23, in the second video."""

    def _find(self, number: int) -> Detections:
        if number == 23:
            raise KeyboardInterrupt
        return super()._find(number)


def test_an_interrupted_evaluation_resumes_with_the_unfinished_video(tmp_path: Path) -> None:
    videos = VideoSet.load(make_videos(tmp_path))
    saved, recorder = tmp_path / "found.json", Recorder()
    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(), videos, save_predictions=saved, reporter=recorder)
    assert recorder.lines == [f"{saved}: finished videos are kept; use --resume to continue"]
    model = detector_with()
    result = evaluate(model, videos, save_predictions=saved, resume=True, reporter=recorder)
    assert min(number for numbers, _ in model.detected for number in numbers) == 22
    assert recorder.lines[1] == f"{saved}: skipping 12 frames: already done"
    assert result == evaluate(detector_with(), videos, save_predictions=tmp_path / "found.json")


def test_resuming_needs_the_same_settings_and_files(tmp_path: Path) -> None:
    annotations = make_videos(tmp_path)
    videos = VideoSet.load(annotations)
    files = {"save_predictions": tmp_path / "found.json"}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(), videos, **files)

    def resume(model: PerfectDetector | None = None, **changes: Any) -> None:
        evaluate(model or detector_with(), videos, **(files | {"resume": True} | changes))

    with pytest.raises(ConfigError, match="interrupted"):
        resume(resume=False)
    with pytest.raises(ConfigError, match="made with supports 6, which is 2 now"):
        resume(detector_with(supports=2))
    with pytest.raises(ConfigError, match="made with batch 1, which is 4 now"):
        resume(detector_with(batch=4))
    with pytest.raises(ConfigError, match="made with clip True, which is False now"):
        resume(clip=False)
    with pytest.raises(ConfigError, match=r"made with frames 16 in 3 videos.* which is 12 in 1"):
        resume(only=[0])
    trained_on = detector_with()
    trained_on.model_digest = "sha256 34cd"
    with pytest.raises(ConfigError, match="made with model sha256 12ab, which is sha256 34cd now"):
        resume(trained_on)
    annotations.write_text(annotations.read_text() + " ")
    with pytest.raises(ConfigError, match="made with annotations sha256"):
        resume()


def test_the_result_records_model_and_settings(tmp_path: Path) -> None:
    annotations = make_videos(tmp_path)
    model = detector_with(supports=2, batch=3)
    result = evaluate(
        model, VideoSet.load(annotations), clip=False, checkpoint=Path("runs/a/last.pth")
    ).to_dict()
    assert model.clips == {False}
    assert result["schema"] == "sparsevod.eval/1"
    assert result["annotations"] == str(annotations)
    assert result["checkpoint"] == "runs/a/last.pth"
    assert result["predictions"] is None
    assert result["settings"] == {
        "supports": 2,
        "support": "uniform",
        "window_stride": 1,
        "global_supports": 10,
        "seed": 0,
        "precision": "fp32",
        "fast": True,
        "compile": "auto",
        "batch": 3,
        "short_side": 600,
        "long_side": 1000,
        "resize": "antialias",
        "pad_multiple": 32,
        "clip": False,
    }
    json.dumps(result, allow_nan=False)


def test_only_the_chosen_videos_are_run_and_scored(tmp_path: Path) -> None:
    model = detector_with()
    result = evaluate(model, VideoSet.load(make_videos(tmp_path)), only=[1, 2])
    assert {number for numbers, _ in model.detected for number in numbers} == {22, 23, 24, 25}
    assert (result.boxes.num_frames, result.boxes.num_boxes) == (4, 6)
    assert result.to_dict()["AP"] == pytest.approx(1)


def test_weights_that_diverged(tmp_path: Path) -> None:
    class Broken(PerfectDetector):
        def _find(self, number: int) -> Detections:
            clear = super()._find(number)
            return Detections(clear.boxes_xyxy, clear.scores * np.float32("nan"), clear.labels)

    with pytest.raises(DataError, match="not finite"):
        evaluate(Broken(), VideoSet.load(make_videos(tmp_path)))


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(1, 8))
def test_shards_cover_every_video_once_and_are_balanced(
    lengths: list[int], world_size: int
) -> None:
    shards = [shard_videos(lengths, rank, world_size) for rank in range(world_size)]
    assert sorted(video for shard in shards for video in shard) == list(range(len(lengths)))
    loads = [sum(lengths[video] for video in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(lengths, default=0)


def _evaluate_on(rank: int, world_size: int, folder: Path, port: int) -> None:
    import os

    from sparsevod_core import distributed

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with distributed.process_group(torch.device("cpu")):
        model = detector_with()
        result = evaluate(model, VideoSet.load(folder / "truth.json"))
    seen = sorted(number for numbers, _ in model.detected for number in numbers)
    (folder / f"{rank}.json").write_text(json.dumps({"result": result.to_dict(), "seen": seen}))


def test_two_processes_get_the_results_of_one(tmp_path: Path, free_port: int) -> None:
    videos = VideoSet.load(make_videos(tmp_path))
    torch.multiprocessing.start_processes(
        _evaluate_on, args=(2, tmp_path, free_port), nprocs=2, start_method="spawn"
    )
    saved = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    single = json.loads(json.dumps(evaluate(detector_with(), videos).to_dict()))
    assert saved[0]["result"] == saved[1]["result"] == single
    assert saved[0]["seen"] == list(range(10, 22))
    assert saved[1]["seen"] == list(range(22, 26))


def test_the_first_process_does_not_wait_for_one_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: dict[str, int] = {}

    def add(name: str, count: int) -> int:
        counts[name] = counts.get(name, 0) + count
        return counts[name]

    monkeypatch.setattr(processes, "_store", SimpleNamespace(add=add))
    first = Tally._num_created
    with (
        pytest.raises(DataError, match="another process failed"),
        progress_of_all(5, SilentReporter()) as advance,
    ):
        advance(2)
        Tally._num_created = first  # as in another process
        with pytest.raises(OSError), progress_of_all(5, SilentReporter()):
            raise OSError("a corrupt frame")
