"""Transfers batches to the device before they are needed."""

import collections
import functools
import time
from collections.abc import Callable, Iterator

import jax


class DevicePrefetch:
    """Yields batches whose transfer to the device has already started.

    Attributes:
        iterator: The iterator that yields the batches.
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
        """The position after the batch returned last, however many have been fetched since."""
        return self._state

    def set_state(self, state) -> None:
        """Continues from a state returned by ``get_state``; batches fetched ahead are dropped."""
        self._queue.clear()
        self.iterator.set_state(state)
        self._state = state

    def close(self) -> None:
        """Drops the batches fetched ahead and closes the iterator."""
        self._queue.clear()
        if hasattr(self.iterator, "close"):
            self.iterator.close()


def prefetch_to_device(iterator, size: int = 2, device=None) -> DevicePrefetch:
    """Transfers the next batches to the device while the current one is computed on.

    Args:
        iterator: Yields pytrees of arrays; if it has ``get_state``, so has the result.
        size: How many batches to hold on the device.
        device: A ``jax.Device`` or ``Sharding`` (or a pytree of them); None is the default device.
            Or a function that places a pytree on devices, such as ``Layout.place_batch``.

    Returns:
        An iterator of the same pytrees with JAX arrays.
    """
    place = device if callable(device) else functools.partial(jax.device_put, device=device)
    return DevicePrefetch(iter(iterator), size, place)


class DataWait:
    """Measures how long the device is idle because the next batch is not there yet.

    Waiting for a batch costs nothing while the device is still computing. So a wait counts only if the
    device is idle at its end. The computation may have ended during the wait, which makes the sum an upper
    limit.

    Attributes:
        seconds: Sum of the waits so far.

    Example:
        >>> wait = DataWait()
        >>> wait.next(iter(["batch"]), ()), wait.seconds < 1
        ('batch', True)
    """

    def __init__(self):
        self.seconds = 0.0

    def next(self, batches: Iterator, computing):
        """Returns the next batch and counts the wait for it.

        Args:
            batches: The iterator to take it from.
            computing: A pytree of JAX arrays, the results of the computation dispatched last.

        Raises:
            StopIteration: There is no batch left.
        """
        start = time.monotonic()
        batch = next(batches)
        if all(array.is_ready() for array in jax.tree.leaves(computing)):
            self.seconds += time.monotonic() - start
        return batch
