"""Frames per second of every table row, measured with random weights in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch

from sparsevod_core.config import Config
from sparsevod_core.inference import Predictor
from sparsevod_core.machine import describe_machine
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import Reporter
from sparsevod_core.reproduce.experiment import Experiment
from sparsevod_core.reproduce.grid import Row
from sparsevod_core.reproduce.json_files import write_json
from sparsevod_core.reproduce.results import saved_speed, speed_key
from sparsevod_core.structures import Category, Frame

ROUNDS = 3  # over all rows, so that other load on the machine does not hit a single row
FIRST = 26  # timed frame: MEGA's memory of 25 frames is full, and support frames are remembered
TIMED = 10
LENGTH = 64  # frames of the video: windows of support frames do not reach its end


def frames_per_second(
    experiment: Experiment, rows: Iterable[Row], device: str, reporter: Reporter
) -> dict[str, float]:
    """Return frames per second by `speed_key`: the median over all rounds, one frame at a time.

    A frame of a video costs what it takes once the video has begun: its own encoding, and those of
    support frames that are new. Frames have the short and long side of the recipe. The results and
    the machine are saved to `speed.json`; if it has all rows, nothing is measured.
    """
    by_key = {speed_key(row): row for row in rows}
    file = experiment.output / "speed.json"
    known = saved_speed(file)
    if by_key.keys() <= known.keys():
        return known
    seconds: dict[str, list[float]] = {key: [] for key in by_key}
    about: dict[str, Any] = {}
    for number in range(ROUNDS):
        for key, row in by_key.items():
            reporter.message(f"speed, round {number + 1} of {ROUNDS}: {key}")
            config = experiment.config(row.cell)
            supports = config.inference.supports if row.supports is None else row.supports
            config = config.replace({"inference.batch": 1, "inference.supports": supports})
            predictor = _predictor(config, device)
            size = config.data.short_side, config.data.long_side
            seconds[key] += _seconds_per_frame(predictor, _Video(size))
            about = {
                "machine": asdict(describe_machine()),
                "run": predictor.run,
                "settings": {"size": list(size), "frames": [FIRST, FIRST + TIMED]},
            }
    fps = known | {key: 1 / statistics.median(values) for key, values in seconds.items()}
    write_json(file, {"fps": fps, **about})
    return fps


def _predictor(config: Config, device: str) -> Predictor:
    torch.manual_seed(0)
    classes = [Category(number, f"class {number}") for number in range(config.model.num_classes)]
    return Predictor(build_detector(config.model), config, classes, device=device)


def _seconds_per_frame(predictor: Predictor, video: _Video) -> list[float]:
    marks = []
    for _ in islice(predictor.frames(video, is_live=True), FIRST + TIMED):
        marks.append(time.perf_counter())  # the detections of a frame are on the host
    return [after - before for before, after in pairwise(marks[FIRST - 1 :])]


class _Video:
    """Frames of one smooth random texture that moves, in memory."""

    def __init__(self, size: tuple[int, int]) -> None:
        coarse = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
        self._image = (255 * smooth[0]).byte().permute(1, 2, 0).numpy()

    def num_frames(self) -> int:
        return LENGTH

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        return [Frame(index, None, np.roll(self._image, 3 * index, 1)) for index in indices]

    def __iter__(self) -> Iterator[Frame]:
        for index in range(LENGTH):
            yield from self.frames_at([index])
