import io
import os
import signal
import threading

import pytest

from runbook_lib.system.signals import ending_signals_raise, undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_ending_signal_raises_and_the_handler_is_restored(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, ending_signals_raise():
        os.kill(os.getpid(), number)
    assert ended.value.code == code
    assert signal.getsignal(number) is before


class Response(io.BufferedIOBase):
    """Closed when nothing refers to it any more, as a response is; a signal comes while it is."""

    def close(self) -> None:
        if not self.closed:
            os.kill(os.getpid(), signal.SIGTERM)
        super().close()


def test_a_signal_that_comes_while_an_object_is_finalized_is_obeyed() -> None:
    with pytest.raises(SystemExit) as ended, ending_signals_raise():
        Response()
        signal.pause()
    assert ended.value.code == 143
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_signal_that_was_heeded_is_not_raised_again() -> None:
    with ending_signals_raise(lambda number: KeyboardInterrupt(number.name)) as heeded:
        with pytest.raises(KeyboardInterrupt, match="SIGHUP"):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        heeded()
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_undisturbed_is_finished(number: signal.Signals) -> None:
    with undisturbed():
        os.kill(os.getpid(), number)


def test_another_thread_leaves_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def look() -> None:
        with ending_signals_raise():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
