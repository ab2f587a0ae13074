"""A disk that takes no more: a limit to the size of files stands for it."""

import contextlib
import gc
import resource
import time


@contextlib.contextmanager
def files_of_at_most(size):
    """Writes beyond the limit fail with EFBIG, in C++ as well, as they fail with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        time.sleep(0.3)  # so that the complaints of Orbax's unfinished writes fall into this test
        gc.collect()
