"""Times of frames that always ascend, from time stamps that may not."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer

GUESSED_RATE = Fraction(25)
"""Frames per second of a stream that states neither times nor a rate, as FFmpeg assumes."""

_MAX_JUMPS = 10_000  # more than any recording has

SHORTEST_FALL_S = Fraction(1, 10)
"""Least time in seconds by which a clock that starts again falls, as in FFmpeg."""

_LONGEST_GAP_S = Fraction(3600)
_LONGEST_GAP_FREE_S = Fraction(10)  # FFmpeg's
_DISCONTINUOUS = 0x0200  # FFmpeg's AVFMT_TS_DISCONT
_NO_TIMES = 0x0080  # FFmpeg's AVFMT_NOTIMESTAMPS


def has_times(container: InputContainer) -> bool:
    """Return False for a raw stream, which states no times: FFmpeg makes them up."""
    return not int(container.format.flags) & _NO_TIMES


def is_free_running(container: InputContainer) -> bool:
    """Return True for formats, such as MPEG-TS, whose clock starts anywhere and may jump."""
    return bool(int(container.format.flags) & (_DISCONTINUOUS | _NO_TIMES))


def longest_gap_s(is_free: bool) -> Fraction:
    """Return the longest time in seconds between two frames that is not a jump of the clock."""
    return _LONGEST_GAP_FREE_S if is_free else _LONGEST_GAP_S


@dataclass(frozen=True, slots=True)
class Jump:
    """A place where the clock of a stream becomes another one.

    Attributes:
        stamp_s: First time stamp after it, in seconds.
        shift_s: What is added to the time stamps from there on, in seconds.
    """

    stamp_s: Fraction
    shift_s: Fraction


class Clock:
    """Turns the time stamps of a stream, in presentation order, into ascending times.

    Ascending time stamps are kept exactly, so that a variable frame rate stays variable. Where the
    clock starts again or jumps, the next frame follows after the duration of a frame, and the
    frames behind it move along. A frame whose time stamp is missing, repeated or late follows
    after the duration of a frame; the next ones catch up.

    Args:
        time_base: Unit of time stamps in seconds.
        frame_rate: Frame rate in frames per second; None: unknown.
        is_free: Whether the container's clock may start again or jump, as in broadcast formats.
        jumps: List to which jumps are appended.

    Attributes:
        longest_gap: Longest time between two frames that is kept, in units of the time base.
    """

    def __init__(
        self,
        time_base: Fraction | None,
        frame_rate: Fraction | None,
        *,
        is_free: bool,
        jumps: list[Jump] | None = None,
    ) -> None:
        self.time_base = time_base or Fraction(1, 90_000)
        self.jumps = [] if jumps is None else jumps
        self._frame = self._ticks(1 / (frame_rate or GUESSED_RATE))
        self.longest_gap = self._ticks(longest_gap_s(is_free))
        self._shortest_fall = self._ticks(SHORTEST_FALL_S)
        self._count = 0
        self._first = 0  # time of the first frame
        self._last: int | None = None  # time of the last frame
        self._stamp: int | None = None  # its last time stamp that was not missing
        self._gap: int | None = None  # last regular time between two frames
        self._shift = 0
        self._earlier_shift: int | None = None  # after a jump that nothing has confirmed yet
        self._is_late = False  # whether the last frame is later than its time stamp
        self._num_repairs = 0
        self._first_repair = ""

    def time_of(self, stamp: int | None) -> int:
        """Return the time of the next frame in units of the time base."""
        last = self._last
        if last is None:
            self._first = time = 0 if stamp is None else stamp
        elif stamp is None:
            time = last + self._step()
            self._is_late = True
            if self._stamp is not None:  # else a stream without any
                self._repaired("is missing", time)
        elif self._stamp is None:  # the first one
            time = stamp
            if not 0 < time - last <= self.longest_gap:
                time = self._jump(stamp, last)
        else:
            time = self._after(last, stamp, self._stamp)
        if stamp is not None:
            self._stamp = stamp
        self._last = time
        self._count += 1
        return time

    @property
    def note(self) -> str | None:
        """What was repaired, with the first place; None if nothing was."""
        if not self._num_repairs:
            return None
        more = f" and in {self._num_repairs - 1:,} more places" if self._num_repairs > 1 else ""
        return (
            f"{self._first_repair}{more}; such a frame is shown one frame "
            f"({float(self._frame * self.time_base):.3g} s) after the one before"
        )

    def _after(self, last: int, stamp: int, previous_stamp: int) -> int:
        time = stamp + self._shift
        gap = time - last
        step = self._step()
        if self._earlier_shift is not None:
            # A single wrong time stamp: the clock goes on as it did before.
            earlier, self._earlier_shift = self._earlier_shift, None
            is_regular = 0 < gap <= 2 * step
            if not is_regular and 0 < stamp + earlier - last <= 3 * step:
                self._set_shift(stamp, earlier)
                return stamp + earlier
        fall = previous_stamp - stamp
        if fall > max(self._shortest_fall, 2 * step) or gap > max(self.longest_gap, 4 * step):
            return self._jump(stamp, last)
        if not self._is_late:
            if gap > 0:
                self._gap = gap
                return time
            self._repaired("repeats" if fall == 0 else f"falls by {self._text(fall)}", last + step)
        is_progress = fall < 0
        least = last + (max(step // 2, 1) if is_progress else step)
        self._is_late = time < least
        return max(time, least)

    def _jump(self, stamp: int, last: int) -> int:
        time = last + self._step()
        self._earlier_shift = self._shift
        fall = last - (stamp + self._shift)
        self._repaired(
            f"falls by {self._text(fall)}" if fall >= 0 else f"jumps by {self._text(-fall)}", time
        )
        self._set_shift(stamp, time - stamp)
        self._is_late = False
        return time

    def _set_shift(self, stamp: int, shift: int) -> None:
        self._shift = shift
        if len(self.jumps) < _MAX_JUMPS:
            self.jumps.append(Jump(stamp * self.time_base, shift * self.time_base))

    def _step(self) -> int:
        """Return the duration of a frame: by the frame rate unless the last frames contradict."""
        if self._gap is None or self._gap <= 4 * self._frame <= 16 * self._gap:
            return self._frame
        return self._gap

    def _repaired(self, what: str, time: int) -> None:
        self._num_repairs += 1
        if self._num_repairs == 1:
            self._first_repair = (
                f"the time stamp of frame {self._count:,} ({self._text(time - self._first)}) {what}"
            )

    def _text(self, ticks: int) -> str:
        return f"{float(ticks * self.time_base):,.2f} s"

    def _ticks(self, seconds: Fraction) -> int:
        return max(round(seconds / self.time_base), 1)
