"""Batches on the device before they are needed."""

import collections
import functools
import time
from collections.abc import Callable, Iterator

import jax


class DevicePrefetch:
    """Hands out batches that are already on their way to the device.

    Attributes:
        iterator: Where they come from.
    """

    def __init__(self, iterator, size: int, place: Callable):
        self.iterator, self._size, self._place = iterator, size, place
        self._queue: collections.deque = collections.deque()
        self._state = iterator.get_state() if hasattr(iterator, "get_state") else None

    def __iter__(self) -> "DevicePrefetch":
        return self

    def __next__(self):
        while len(self._queue) < max(self._size, 1):
            try:
                batch = next(self.iterator)
            except StopIteration:
                break
            state = self.iterator.get_state() if self._state is not None else None
            self._queue.append((self._place(batch), state))
        if not self._queue:
            raise StopIteration
        batch, self._state = self._queue.popleft()
        return batch

    def get_state(self):
        """The position behind the batch handed out last, whatever has been fetched since."""
        return self._state

    def set_state(self, state) -> None:
        """Continues from a state of ``get_state``; what was fetched ahead is dropped."""
        self._queue.clear()
        self.iterator.set_state(state)
        self._state = state

    def close(self) -> None:
        """Drops what was fetched ahead and closes the iterator."""
        self._queue.clear()
        if hasattr(self.iterator, "close"):
            self.iterator.close()


def prefetch_to_device(iterator, size: int = 2, device=None) -> DevicePrefetch:
    """Keeps the next batches on the device while the current one is computed on.

    Args:
        iterator: Of pytrees of arrays; if it has ``get_state``, so has the result.
        size: How many batches to hold on the device.
        device: A ``jax.Device`` or ``Sharding`` (or a pytree of them); None is the default device.
            Or a function that brings a pytree to its place, such as ``Layout.place_batch``.

    Returns:
        An iterator of the same pytrees with JAX arrays.
    """
    place = device if callable(device) else functools.partial(jax.device_put, device=device)
    return DevicePrefetch(iter(iterator), size, place)


class DataWait:
    """How long the device has nothing to do because the next batch is not there yet.

    While something is being computed, waiting for a batch costs nothing. So a wait counts where nothing is
    under way at its end; the computation may have ended in between, which makes the sum an upper limit.

    Attributes:
        seconds: The waits so far.

    Example:
        >>> wait = DataWait()
        >>> wait.next(iter(["batch"]), ()), wait.seconds < 1
        ('batch', True)
    """

    def __init__(self):
        self.seconds = 0.0

    def next(self, batches: Iterator, computing):
        """The next batch.

        Args:
            batches: Where it comes from.
            computing: A pytree of JAX arrays, results of what was dispatched last.

        Raises:
            StopIteration: There is no batch left.
        """
        start = time.monotonic()
        batch = next(batches)
        if all(array.is_ready() for array in jax.tree.leaves(computing)):
            self.seconds += time.monotonic() - start
        return batch
