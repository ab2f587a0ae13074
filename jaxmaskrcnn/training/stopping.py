"""Signals that end a run after it has saved its state: SIGTERM, SIGINT (Ctrl-C) and SIGHUP.

Cluster schedulers send SIGTERM, a terminal that is closed SIGHUP.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
_NOTICE = (
    b"\nStopping after this step, with a checkpoint. Press Ctrl-C again to stop at once, without the steps "
    b"since the last checkpoint.\n"
)


class StopRequest:
    """Whether the run should stop, from `stop_request`.

    Attributes:
        signal: The first signal that came, or None.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None

    @property
    def name(self) -> str:
        """The signal's name. Where several processes agreed to stop, only some of them know it."""
        return self.signal.name if self.signal is not None else "SIGTERM"

    def after(self, step: int) -> bool:
        """Whether to stop after a step.

        Several processes may get the signal at different times, or only some of them may get it. JAX makes
        them agree on a step that none has passed yet, so that all save the same one.

        Args:
            step: The number of completed steps. All processes must call this after each.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.signal is not None

    def at_once(self) -> bool:
        """Whether what is not a step, such as an evaluation, should be broken off.

        It is always False with several processes, which have no way to agree on it.
        """
        return jax.process_count() == 1 and self.signal is not None

    def _notice(self, number: int, _frame) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C, or one after another signal
        if self.signal is None:
            self.signal = signal.Signals(number)
            if number == signal.SIGINT:
                # Neither logging nor print, which may be what the signal has interrupted.
                with contextlib.suppress(OSError):
                    os.write(2, _NOTICE)
            if number != signal.SIGTERM and jax.process_count() > 1:
                os.kill(os.getpid(), signal.SIGTERM)  # the signal that JAX hands to the other processes


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Handle the signals within the block.

    A signal that is ignored stays ignored, as SIGHUP under ``nohup``. Threads other than the main one
    cannot handle signals; a run there is never asked to stop.

    Yields:
        Tells whether a signal has come.

    Example:
        >>> with stop_request() as request:
        ...     request.after(step=1)
        False
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # With several processes, SIGTERM is handled by JAX.
    numbers = [number for number in _SIGNALS if number != signal.SIGTERM or jax.process_count() == 1]
    previous = {
        number: signal.signal(number, request._notice)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
