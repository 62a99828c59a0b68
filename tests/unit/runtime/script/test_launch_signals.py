"""Signals are noted while the launch runs, and everything is as before afterwards."""

from __future__ import annotations

import os
import signal

from ithaca.runtime.script.signals import Signals


def test_signals_are_noted_in_order_and_handlers_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)]
    with Signals((signal.SIGUSR1, signal.SIGUSR2)) as signals:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.received == [signal.SIGUSR2, signal.SIGUSR1]
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with Signals((signal.SIGUSR1,)) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.received == []
    finally:
        signal.signal(signal.SIGUSR1, before)
