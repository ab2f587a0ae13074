"""`map` for long work on many things, over several processes or threads."""

import contextlib
import functools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from jaxmaskrcnn.errors import UserError

_MOST = 8  # processes, beyond which the one that hands out the work does not keep up
_AHEAD = 2  # items for each process that are handed out before the first result is waited for


class Mapper(Protocol):
    """Applies a function to items and yields the results in their order, as `map` does."""

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterable[Any]:
        """See the class."""
        ...


def core_count() -> int:
    """The number of processes that are worth starting: the cores that this one may use, up to a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST)


def map_ahead(
    pool: Executor, ahead: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """`map` by a pool that does not read all items at once.

    Args:
        pool: Calls the function.
        ahead: Items that are read before the first result is waited for.
        function: The function.
        items: What it is called with.

    Yields:
        The results, in the order of the items.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(map_ahead(pool, 4, abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that this program started has ended before its work was done, perhaps for lack of "
            "memory; give --processes=1 to do all work in one."
        ) from error
    finally:
        for future in waiting:
            future.cancel()


@contextlib.contextmanager
def process_map(processes: int) -> Iterator[Mapper | None]:
    """A `map` over several processes; the results are the same, and in the same order.

    The processes are new ones, in which nothing of this one is copied, on every system alike. So functions
    have to be importable, and a program that calls this has to be guarded by ``if __name__ == "__main__"``.

    Args:
        processes: Their number.

    Yields:
        What takes a function and items, as `map` does; None where there would be one process, or the system
        has none to give.

    Example:
        >>> with process_map(1) as mapped:
        ...     list((mapped or map)(abs, [-1, 2]))
        [1, 2]
    """
    pool = _pool(processes) if processes > 1 else None
    if pool is None:
        yield None
        return
    try:
        yield functools.partial(map_ahead, pool, _AHEAD * processes)
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(processes: int) -> ProcessPoolExecutor | None:
    try:
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _ignore_interrupts)
        pool.submit(_nothing)  # they start now, beside what comes before the work
    # What Python's multiprocessing raises on a system without semaphores or processes.
    except (ImportError, NotImplementedError, OSError):
        return None
    return pool


def _ignore_interrupts() -> None:
    """Leaves Ctrl-C, which a terminal sends to all processes, to the one that started the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _nothing() -> None:
    pass
