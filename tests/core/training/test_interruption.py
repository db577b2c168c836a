"""Signals wait for the loop, and then do what they always do."""

from __future__ import annotations

import os
import signal

import pytest

from sparsevod_core.training.interruption import Interruption


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_waits_until_it_may_take_effect(number: int, error: type[BaseException]) -> None:
    before = signal.getsignal(number)
    finished = False
    with pytest.raises(error) as raised, Interruption() as interruption:
        assert not interruption.requested
        send(number)
        finished = interruption.requested
        interruption.take_effect()
    assert finished
    assert signal.getsignal(number) is before
    if number == signal.SIGTERM:
        assert raised.value.code == 143  # type: ignore[attr-defined]


def test_a_second_ctrl_c_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        send(signal.SIGINT)
        send(signal.SIGINT)
        pytest.fail("the second signal waited")


def test_a_patient_one_waits_however_often() -> None:
    with Interruption(patient=True) as interruption:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert interruption.requested


def test_where_nothing_would_be_lost_it_takes_effect_at_once() -> None:
    with pytest.raises(SystemExit), Interruption() as interruption, interruption.immediate():
        send(signal.SIGTERM)
        pytest.fail("the signal waited")


def test_one_that_came_before_takes_effect_there_too() -> None:
    with pytest.raises(SystemExit), Interruption() as interruption:
        send(signal.SIGTERM)
        with interruption.immediate():
            pytest.fail("the signal was forgotten")
