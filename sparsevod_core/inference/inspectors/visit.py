"""Runs of a detector on chosen frames of a video, with everything that an inspector tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparsevod_core.inference.inspectors.inspector import (
    Inspector,
    Layer,
    Stages,
    Step,
    recording,
)
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.readout import require_finite
from sparsevod_core.inference.support_frames import (
    Images,
    SupportedFrame,
    support_numbers,
    supported_frames,
)
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Frame
from sparsevod_core.video.opening import OpenVideo


@dataclass(frozen=True, slots=True)
class Look:
    """A chosen frame, its way through the detector, and what the inspector told of it."""

    frame: Frame
    step: Step
    stages: Stages
    layers: list[Layer]


def visit(
    predictor: Predictor, inspector: Inspector, video: OpenVideo, numbers: Sequence[int]
) -> list[Look]:
    """Look at frames in any order."""
    detector = predictor.detector
    plan = support_numbers(numbers, video.num_frames(), predictor.supports)
    remembered: tuple[list[int], Any | None] = ([], None)
    looks = []
    for frame, chosen in zip(video.frames_at(numbers), plan, strict=True):
        if chosen.supports != remembered[0]:  # with `uniform` only once
            # One by one, as in `Predictor.video`.
            memories = [
                predictor.remember_frame(predictor.encode_frame(support.image))
                for support in video.frames_at(chosen.supports)
            ]
            remembered = chosen.supports, detector.join(memories)
        target = SupportedFrame(frame, chosen.supports)
        encoded = predictor.encode_frame(frame.image)
        looks.append(_look(predictor, inspector, target, encoded, remembered[1], None)[0])
    return looks


def go_through(
    predictor: Predictor,
    inspector: Inspector,
    video: OpenVideo,
    numbers: Sequence[int],
    reporter: Reporter,
) -> list[Look]:
    """Look at frames on the way through the video, for an ordered detector."""
    images: Images = {}
    supports = predictor.video_supports(video, images)
    looks: dict[int, Look] = {}
    last = max(numbers)
    frames = supported_frames(video, predictor.supports, images)
    with reporter.progress("frames up to the last one to draw", last + 1) as progress:
        for target in frames:
            number, memory = target.frame.index, supports.memory_of([target])
            encoded = supports.encoding_of(target) or predictor.encode_frame(target.frame.image)
            look, state = _look(
                predictor, inspector, target, encoded, memory, supports.state, number in numbers
            )
            inspector.follow(look.step)
            supports.state = state
            supports.drop_images([target])
            if number in numbers:
                looks[number] = look
            progress.advance()
            if number == last:
                break
    return [looks[number] for number in numbers]


def _look(
    predictor: Predictor,
    inspector: Inspector,
    target: SupportedFrame,
    encoded: Any,
    memory: Any | None,
    state: Any | None,
    has_layers: bool = True,
) -> tuple[Look, Any]:
    """Run the detector on one frame; return also the state after it."""
    watched = inspector.watched if has_layers else ()
    with predictor.computing(), recording(watched) as inputs:
        output, after = predictor.detector.advance(encoded, memory, state)
    step = Step(
        number=target.frame.index,
        supports=target.supports,
        global_supports=target.global_supports,
        encoded=encoded,
        memory=memory,
        state=state,
        output=output,
    )
    with predictor.computing():
        stages = inspector.stages(step)
        require_finite(stages.scores.float().cpu().numpy())
        is_asked = has_layers and memory is not None
        layers = inspector.layers(step, inputs, stages) if is_asked else []
    return Look(target.frame, step, stages, layers), after
