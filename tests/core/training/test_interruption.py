"""Signals are deferred until the loop allows them to take effect."""

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
def test_a_signal_is_deferred_until_it_may_take_effect(
    number: int, error: type[BaseException]
) -> None:
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


def test_a_second_ctrl_c_takes_effect_immediately() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        send(signal.SIGINT)
        send(signal.SIGINT)
        pytest.fail("the second signal was deferred")


def test_a_patient_interruption_defers_every_signal() -> None:
    with Interruption(patient=True) as interruption:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert interruption.requested


def test_a_signal_in_an_immediate_context_takes_effect_at_once() -> None:
    with pytest.raises(SystemExit), Interruption() as interruption, interruption.immediate():
        send(signal.SIGTERM)
        pytest.fail("the signal was deferred")


def test_an_earlier_signal_takes_effect_on_entering_an_immediate_context() -> None:
    with pytest.raises(SystemExit), Interruption() as interruption:
        send(signal.SIGTERM)
        with interruption.immediate():
            pytest.fail("the signal was lost")
