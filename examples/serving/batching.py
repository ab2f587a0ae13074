"""Collects single requests into batches, with limits on waiting."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple


class Overloaded(Exception):
    """So many requests wait already that another one is refused."""


class Waiting(NamedTuple):
    """A request in the queue.

    Attributes:
        item: What is to be computed.
        future: Gets the result; cancelled if nobody waits for it any more.
        arrived: When it came, in seconds of ``time.monotonic``.
    """

    item: Any
    future: asyncio.Future
    arrived: float


class Batcher:
    """Calls a function of many items for single items that come at any time.

    A batch is complete with ``max_batch`` items, or when its first item has waited for ``deadline`` seconds.
    While ``workers`` batches are computed, items wait, at most ``max_waiting`` of them. An item whose request
    was cancelled is dropped before it is computed.

    Args:
        function: A function of a list of items, which returns a list of as many results. It runs in a thread.
        max_batch: Largest number of items of a batch.
        deadline: Seconds that the first item of a batch waits for others.
        max_waiting: Largest number of items that wait.
        workers: Batches that are computed at a time; with two, the results of one are written while the next
            one is computed.

    Attributes:
        batches: The number of batches by their size.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], Sequence[Any]],
        *,
        max_batch: int = 8,
        deadline: float = 0.01,
        max_waiting: int = 64,
        workers: int = 2,
    ):
        self.batches: dict[int, int] = {}
        self._function, self._max_batch, self._deadline = function, max_batch, deadline
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(max_waiting)
        self._pool = ThreadPoolExecutor(workers)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return self._queue.qsize()

    async def submit(self, item: Any) -> Any:
        """Waits for the result of an item.

        Raises:
            Overloaded: ``max_waiting`` items wait already.
            Exception: What the function raised.
        """
        future = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(Waiting(item, future, time.monotonic()))
        except asyncio.QueueFull:
            raise Overloaded from None
        return await future  # cancelled with the task that waits here

    async def close(self) -> None:
        """Stops; whoever still waits is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait().future.cancel()
        self._pool.shutdown(wait=False)

    async def _work(self) -> None:
        while True:
            batch = await self._collect()
            if not batch:
                continue
            self.batches[len(batch)] = self.batches.get(len(batch), 0) + 1
            items = [entry.item for entry in batch]
            try:
                results = await asyncio.get_running_loop().run_in_executor(self._pool, self._function, items)
            except asyncio.CancelledError:
                for entry in batch:
                    entry.future.cancel()
                raise
            except Exception as error:
                for entry in batch:
                    if not entry.future.done():
                        entry.future.set_exception(error)
                continue
            for entry, result in zip(batch, results, strict=True):
                if not entry.future.done():
                    entry.future.set_result(result)

    async def _collect(self) -> list[Waiting]:
        first = await self._queue.get()
        batch = [first]
        while len(batch) < self._max_batch:
            left = first.arrived + self._deadline - time.monotonic()
            try:
                # What waits already joins the batch, even after the deadline.
                entry = (
                    self._queue.get_nowait() if left <= 0 else await asyncio.wait_for(self._queue.get(), left)
                )
            except (asyncio.QueueEmpty, TimeoutError):
                break
            batch.append(entry)
        return [entry for entry in batch if not entry.future.done()]
