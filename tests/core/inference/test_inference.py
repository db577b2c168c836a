"""Predictor: support frames of each target, boxes in source pixels, files from end to end."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import Config, load_config
from sparsevod_core.data.sampling import CausalSampler, uniform_supports, window_supports
from sparsevod_core.errors import CheckpointError, ConfigError, DataError, VideoError
from sparsevod_core.inference import Predictor, detect_video, resolve_device
from sparsevod_core.inference.drawing import Drawing
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import top_detections
from sparsevod_core.model.support import StageMemory, SupportMemory
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.structures import Category, DetectorOutput, FrameDetections
from sparsevod_core.version import version
from sparsevod_core.video.containers import Encoding
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source
from sparsevod_core.video.writer import VideoWriter

CATEGORIES = (Category(7, "square"), Category(3, "bar"))
SIZE = (48, 32)  # width, height
LENGTH = 23


class NumberDetector(VideoDetector):
    """Fake detector that reads the number of a grey frame and records which frames it gets."""

    uses_supports = True

    def __init__(self) -> None:
        super().__init__()
        self.remembered: list[int] = []
        self.seen: list[tuple[list[int], list[int]]] = []

    def encode(self, images: Tensor, image_sizes: Tensor) -> Any:
        return SimpleNamespace(images=images, image_sizes=image_sizes)

    def remember(self, supports: Any) -> SupportMemory:
        numbers = _numbers(supports.images, supports.image_sizes.tolist())
        self.remembered += numbers
        kept = torch.tensor(numbers, dtype=torch.float32).view(1, -1, 1, 1)
        return SupportMemory((StageMemory(None, None, (kept,)),), len(numbers))

    def detect(self, targets: Any, memory: SupportMemory | None) -> DetectorOutput:
        images, image_sizes = targets.images, targets.image_sizes
        supports = []
        if memory is not None:
            supports = memory.stages[0].proposals[0].flatten().int().tolist()
        self.seen.append((_numbers(images, image_sizes.tolist()), supports))
        batch = len(images)
        boxes = torch.tensor([[8.0, 8.0, 24.0, 24.0], [-16.0, 0.0, 1000.0, 16.0], [5.0, 5, 5, 9]])
        logits = torch.tensor([[2.0, -9.0], [-9.0, 1.0], [0.0, -9.0]])
        return DetectorOutput(
            logits.expand(1, batch, 3, 2),
            boxes.expand(1, batch, 3, 4),
            boxes.expand(batch, 3, 4),
            image_sizes,
        )

    def join(self, memories: Any, global_memories: Any = ()) -> SupportMemory | None:
        return SupportMemory.joined(memories) if memories else None

    def top(self, output: DetectorOutput) -> Any:
        return top_detections(output)

    def supports_of(self) -> dict[int, list[int]]:
        return {target: supports for targets, supports in self.seen for target in targets}


def _numbers(images: Tensor, sizes: Sequence[Sequence[int]]) -> list[int]:
    return [
        round(float(image[:, :height, :width].float().mean()) / 8)
        for image, (height, width) in zip(images, sizes, strict=True)
    ]


def grey(number: int) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), 8 * number, np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video at 29.97 frames per second whose frame i has the gray level 8 i."""
    path = tmp_path_factory.mktemp("grey") / "grey.mp4"
    rate, best = Fraction(30000, 1001), Encoding(crf=1)
    with VideoWriter(path, *SIZE, frame_rate=rate, encoding=best) as writer:
        for number in range(LENGTH):
            writer.write(grey(number))
    return path


@pytest.fixture(scope="module")
def broken_video(video: Path) -> Path:
    """The same video with 17 frames that decode."""
    import av

    with av.open(str(video)) as container:
        packet = list(container.demux(video=0))[17]
    assert packet.pos is not None
    path = video.with_name("broken.mp4")
    content = bytearray(video.read_bytes())
    content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    return path


def settings(**inference: object) -> Config:
    texts = [
        f"inference.{name}={value}"
        for name, value in ({"batch": 1, "fast": False} | inference).items()
    ]
    return load_config("tiny", overrides=["model.num_classes=2", "data.short_side=64", *texts])


def predictor(**inference: object) -> tuple[Predictor, NumberDetector]:
    detector: Any = NumberDetector()
    return Predictor(detector, settings(**inference), CATEGORIES, device="cpu"), detector


def causal(count: int) -> dict[int, list[int]]:
    sampler, supports = CausalSampler(count), {}
    for target in range(LENGTH):
        supports[target] = sampler.supports()
        sampler.add(target)
    return supports


# --- supports ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4, 50])
@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_uniform_supports_are_the_same_for_every_target(
    video: Path, batch: int, count: int
) -> None:
    predict, detector = predictor(supports=count, batch=batch)
    found = list(predict.video(video))
    assert [frame.frame.index for frame in found] == list(range(LENGTH))
    wanted = uniform_supports(LENGTH, count)
    assert detector.supports_of() == dict.fromkeys(range(LENGTH), wanted)
    assert detector.remembered == list(dict.fromkeys(wanted))
    assert max(len(targets) for targets, _ in detector.seen) == min(batch, LENGTH)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_window_supports_move_with_the_target(
    video: Path, count: int, stride: int, batch: int
) -> None:
    predict, detector = predictor(
        support="window", supports=count, window_stride=stride, batch=batch
    )
    assert len(list(predict.video(video))) == LENGTH
    assert detector.supports_of() == {
        target: window_supports(target, LENGTH, count, stride) for target in range(LENGTH)
    }
    assert len(detector.remembered) == len(set(detector.remembered))
    if stride == 3 and batch == 4:
        assert max(len(targets) for targets, _ in detector.seen) == 3


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_causal_supports_are_of_the_past(video: Path, count: int, batch: int) -> None:
    predict, detector = predictor(support="causal", supports=count, batch=batch)
    assert len(list(predict.video(video))) == LENGTH
    assert detector.supports_of() == causal(count)
    assert len(detector.remembered) == len(set(detector.remembered))


@pytest.mark.parametrize("support", ["uniform", "window", "causal"])
def test_no_supports(video: Path, support: str) -> None:
    predict, detector = predictor(support=support, supports=0, batch=4)
    assert len(list(predict.video(video))) == LENGTH
    assert detector.remembered == []
    assert set(map(tuple, detector.supports_of().values())) == {()}
    assert len(detector.seen) == 6


def test_a_detector_without_tfe_and_spfa_needs_none(video: Path) -> None:
    predict, detector = predictor(supports=6)
    detector.uses_supports = False
    assert len(list(predict.video(video))) == LENGTH
    assert detector.remembered == []
    assert predict.remember([grey(1)]) is None


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("support", ["uniform", "window", "causal"])
def test_a_broken_video_gives_all_frames_before_the_break(
    broken_video: Path, support: str, batch: int
) -> None:
    predict, detector = predictor(support=support, supports=4, batch=batch)
    found: list[FrameDetections] = []
    with pytest.raises(VideoError, match="breaks off after 17 frames"):
        found.extend(predict.video(broken_video))
    assert [frame.frame.index for frame in found] == list(range(17))
    if support == "uniform":
        assert detector.supports_of()[3] == uniform_supports(17, 4)
    if support == "window":
        assert detector.supports_of()[16] == window_supports(16, 17, 4)


def test_only_images_that_are_needed_are_kept(video: Path) -> None:
    for support in ("uniform", "window", "causal"):
        predict, _ = predictor(support=support, supports=4)
        kept = []
        with VideoReader(video) as reader:
            for batch in predict._batches(reader, iter(())):
                predict._launch(batch.fill(), True)
                kept.append(len(batch.supports._images))
        assert len(kept) == LENGTH and max(kept[4:]) <= 4


# --- pixels --------------------------------------------------------------------------------------


def test_boxes_come_in_source_pixels_clipped_and_not_empty() -> None:
    predict, _ = predictor()
    # 48x32 becomes 96x64: the detector's pixels are half as large.
    (found,) = predict.detect([grey(3)], None)
    assert found.boxes_xyxy.tolist() == [[4, 4, 12, 12], [0, 0, 48, 8]]
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))])
    assert found.boxes_xyxy.dtype == np.float32
    assert [one.class_name for one in found] == ["square", "bar"]
    assert [one.class_id for one in found] == [7, 3]
    (unclipped,) = predict.detect([grey(3)], None, clip=False)
    assert unclipped.boxes_xyxy.tolist() == [[4, 4, 12, 12], [-8, 0, 500, 8]]


def test_frames_of_other_sizes_have_their_own_pixels() -> None:
    predict, detector = predictor()
    small, large = predict.detect([grey(3), np.full((64, 96, 3), 40, np.uint8)], None)
    assert small.boxes_xyxy[0].tolist() == [4, 4, 12, 12]
    assert large.boxes_xyxy[0].tolist() == [8, 8, 24, 24]
    assert detector.seen == [([3, 5], [])]


def test_no_frames() -> None:
    predict, detector = predictor()
    assert predict.detect([], None) == []
    assert predict.remember([]) is None
    assert detector.seen == []


@pytest.mark.parametrize(
    "frame", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))]
)
def test_invalid_frames(frame: np.ndarray) -> None:
    predict, _ = predictor()
    with pytest.raises(DataError, match="expected RGB"):
        predict.detect([frame], None)


def test_views_and_read_only_frames(recwarn: pytest.WarningsRecorder) -> None:
    predict, _ = predictor()
    flipped = grey(2)[::-1, ::-1]
    frozen = grey(2)
    frozen.flags.writeable = False
    assert len(predict.detect([flipped, frozen], None)) == 2
    assert [str(one.message) for one in recwarn if "writable" in str(one.message)] == []


def test_scores_that_are_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    predict, _ = predictor()
    nan = torch.full((1, 3), torch.nan)
    monkeypatch.setattr(
        predict.detector,
        "top",
        lambda output: (torch.zeros(1, 3, 4), nan, torch.zeros(1, 3, dtype=torch.int64)),
    )
    with pytest.raises(CheckpointError, match="not finite"):
        predict.detect([grey(1)], None)


# --- the real detector ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector with random weights."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    config = load_config(
        "tiny", overrides=["model.num_classes=2", "data.short_side=64", "data.long_side=96"]
    )
    torch.manual_seed(3)
    detector = build_detector(config.model)
    for stage in detector.stages:
        nn.init.normal_(stage.class_logits.weight, std=0.3)
        if stage.aggregation is not None:
            nn.init.normal_(stage.aggregation.output.weight, std=0.1)
    save_checkpoint(path, Checkpoint(config, CATEGORIES, detector.state_dict()))
    return path


@pytest.mark.parametrize("support", ["uniform", "window", "causal"])
def test_the_result_does_not_depend_on_the_batch(
    checkpoint: Path, video_set: Any, support: str
) -> None:
    path = video_set.annotations.parent / "narrow.mp4"
    runs = []
    for batch in (1, 5):
        predict = Predictor.from_checkpoint(
            checkpoint,
            device="cpu",
            overrides=[f"inference.batch={batch}", f"inference.support={support}"],
        )
        runs.append(list(predict.video(path)))
    differences = []
    for one, other in zip(*runs, strict=True):
        differences.append(np.abs(one.boxes_xyxy - other.boxes_xyxy).max())
        assert np.abs(one.scores - other.scores).max() < 1e-4
        assert np.array_equal(one.labels, other.labels)
    assert max(differences) < 0.01


def test_supports_matter(checkpoint: Path, video_set: Any) -> None:
    def scores(supports: int) -> np.ndarray:
        overrides = [f"inference.supports={supports}"]
        predict = Predictor.from_checkpoint(checkpoint, device="cpu", overrides=overrides)
        memory = predict.remember(video_set.images["long"][10:14])
        assert (0 if memory is None else memory.num_supports) == min(supports, 4)
        (found,) = predict.detect(video_set.images["long"][:1], memory, clip=False)
        return found.scores

    assert np.abs(scores(0) - scores(4)).max() > 1e-3


def test_bf16_is_close(video_set: Any) -> None:
    """With trained weights: random ones amplify rounding errors from stage to stage."""

    def scores(precision: str) -> np.ndarray:
        overrides = [f"inference.precision={precision}"]
        predict = Predictor.from_checkpoint(device="cpu", overrides=overrides)
        memory = predict.remember(video_set.images["long"][10:14])
        return np.stack(
            [one.scores for one in predict.detect(video_set.images["long"][:3], memory, clip=False)]
        )

    exact, rounded = scores("fp32"), scores("bf16")
    assert exact.max() > 0.5
    assert 0 < np.abs(rounded - exact).max() < 0.02


def test_many_supports_pass_the_backbone_a_few_at_a_time(checkpoint: Path, video_set: Any) -> None:
    predict = Predictor.from_checkpoint(checkpoint, device="cpu")
    frames = video_set.images["long"][:11]
    together, apart = predict.remember(frames), [predict.remember([frame]) for frame in frames]
    assert together is not None
    assert together.num_supports == 11
    (found,) = predict.detect(frames[:1], together)
    (same,) = predict.detect(frames[:1], SupportMemory.joined(apart))
    np.testing.assert_allclose(found.boxes_xyxy, same.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, same.scores, atol=1e-5)


def test_settings_of_a_checkpoint_can_be_overridden_but_not_its_model(checkpoint: Path) -> None:
    predict = Predictor.from_checkpoint(
        checkpoint, device="cpu", overrides=["inference.supports=3", "data.short_side = 32"]
    )
    assert predict.num_supports == 3
    assert predict.config.data.short_side == 32
    assert predict.categories == CATEGORIES
    with pytest.raises(ConfigError, match="cannot be changed"):
        Predictor.from_checkpoint(checkpoint, device="cpu", overrides=["model.tfe=off"])
    with pytest.raises(ConfigError, match="expected key=value"):
        Predictor.from_checkpoint(checkpoint, device="cpu", overrides=["inference.batch"])


def test_categories_must_match_classes() -> None:
    detector: Any = NumberDetector()
    with pytest.raises(ConfigError, match=r"expected 2 categories.*got 1"):
        Predictor(detector, settings(), CATEGORIES[:1], device="cpu")


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "meta", "xpu:0", ""):
        with pytest.raises(ConfigError, match=f"unknown device '{name}'"):
            resolve_device(name)
    with pytest.raises(ConfigError, match=r"cuda:99: torch sees (no|\d+) GPU"):
        resolve_device("cuda:99")


# --- a file in, files out ------------------------------------------------------------------------


def test_video_and_json_agree_with_the_source(video: Path, tmp_path: Path) -> None:
    predict, _ = predictor(supports=2)
    output, as_json = tmp_path / "out.mp4", tmp_path / "new" / "out.json"
    result = detect_video(predict, video, output, results={"json": as_json}, drawing=Drawing(0.8))
    assert (result.num_frames, result.num_detections, result.num_drawn) == (LENGTH, 46, LENGTH)
    assert result.broken is None
    assert not result.is_interrupted
    with VideoReader(video) as source, VideoReader(output) as drawn:
        before, after = list(source), list(drawn)
    assert [frame.time_s for frame in after] == [frame.time_s for frame in before]
    red, _, blue = (after[10].image[4:12, 2:5].astype(int).mean(axis=(0, 1))).tolist()
    assert red - blue > 20  # the outline of class 0, left of its box

    content = json.loads(as_json.read_text())
    frames = content.pop("frames")
    run = content.pop("run")
    assert (run["version"], run["device"], run["precision"]) == (version(), "cpu", "fp32")
    assert run["threads"] == torch.get_num_threads()
    assert (run["seed"], run["settings"]) == (0, predict.config.flat())
    assert run["model"] == predict.model_digest
    assert content == {
        "schema": "sparsevod.detections/1",
        "video": str(video),
        "width": 48,
        "height": 32,
        "frame_rate": "30000/1001",
        "checkpoint": None,
        "support": {"mode": "uniform", "supports": 2, "window_stride": 1},
        "seed": 0,
        "categories": [{"id": 7, "name": "square"}, {"id": 3, "name": "bar"}],
        "num_frames": LENGTH,
        "truncated": False,
    }
    assert [frame["index"] for frame in frames] == list(range(LENGTH))
    assert frames[3]["time_s"] == float(3 * Fraction(1001, 30000))
    assert frames[3]["detections"] == [
        {"box_xyxy": [4, 4, 12, 12], "score": 0.880797, "label": "square", "class_id": 7},
        {"box_xyxy": [0, 0, 48, 8], "score": 0.731059, "label": "bar", "class_id": 3},
    ]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "out.json", "out.mp4"]


def test_json_on_stdout(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.StringIO()
    monkeypatch.setattr("sys.stdout", stdout)
    predict, _ = predictor(supports=0)
    detect_video(predict, video, tmp_path / "out.mp4", results={"json": Path("-")})
    assert json.loads(stdout.getvalue())["num_frames"] == LENGTH


def test_the_results_of_stdin_name_it(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(video.read_bytes())))
    predict, _ = predictor(supports=0)
    as_json = tmp_path / "out.json"
    detect_video(predict, Source("stdin", "-"), None, results={"json": as_json})
    assert json.loads(as_json.read_text())["video"] == "stdin"


def test_outputs_of_a_broken_source_are_complete_up_to_the_break(
    broken_video: Path, tmp_path: Path
) -> None:
    predict, _ = predictor(supports=2, batch=4)
    output, as_json = tmp_path / "out.mp4", tmp_path / "out.json"
    result = detect_video(predict, broken_video, output, results={"json": as_json})
    assert result.num_frames == 17
    assert result.broken is not None
    assert "breaks off after 17 frames" in result.broken
    content = json.loads(as_json.read_text())
    assert content["truncated"] is True
    assert content["num_frames"] == len(content["frames"]) == 17
    with VideoReader(output) as reader:
        assert reader.num_frames() == 17


def test_an_error_leaves_only_the_journal(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, detector = predictor(supports=0)
    detect = detector.detect

    def run_out_of_memory(targets: Any, memory: None) -> DetectorOutput:
        if len(detector.seen) == 5:
            raise MemoryError
        return detect(targets, memory)

    monkeypatch.setattr(detector, "detect", run_out_of_memory)
    with pytest.raises(MemoryError):
        detect_video(predict, video, tmp_path / "out.mp4", results={"json": tmp_path / "out.json"})
    (journal,) = tmp_path.iterdir()
    assert journal.name == "out.mp4.journal.jsonl"
    monkeypatch.undo()
    result = detect_video(predict, video, tmp_path / "out.mp4", resume=True)
    assert result.num_frames == LENGTH
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_resuming_needs_the_same_weights_wherever_they_come_from(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_weight(value: float, file: str | None) -> Predictor:
        detector: Any = NumberDetector()
        detector.weight = nn.Parameter(torch.tensor(value))
        path = None if file is None else Path(file)
        return Predictor(detector, settings(), CATEGORIES, device="cpu", checkpoint=path)

    def stop(*_: Any) -> DetectorOutput:
        raise MemoryError

    cut_off = with_weight(0.5, None)
    detect = cut_off.detector.detect
    monkeypatch.setattr(
        cut_off.detector,
        "detect",
        lambda targets, memory: (stop if cut_off.detector.seen else detect)(targets, memory),
    )
    with pytest.raises(MemoryError):
        detect_video(cut_off, video, tmp_path / "out.mp4")
    with pytest.raises(ConfigError, match="the journal was made with model sha256"):
        detect_video(with_weight(0.25, None), video, tmp_path / "out.mp4", resume=True)
    same = with_weight(0.5, "not/there.pth")
    assert detect_video(same, video, tmp_path / "out.mp4", resume=True).num_frames == LENGTH


def test_the_source_is_never_overwritten(video: Path, tmp_path: Path) -> None:
    predict, _ = predictor()
    link = tmp_path / "link.mp4"
    link.hardlink_to(video)
    for output, as_json in [
        (video, None),
        (link, None),
        (tmp_path / "out.mp4", link),
        (tmp_path / "a.mp4", tmp_path / "a.mp4"),
    ]:
        with pytest.raises(ConfigError):
            detect_video(predict, video, output, results={"json": as_json} if as_json else {})
    assert [path.name for path in tmp_path.iterdir()] == ["link.mp4"]
