"""What every test run needs before JAX is imported."""

import gc
import os
import tempfile

from xla_flags import QUICK

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Flags that the user sets come last and count.
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"

import jax  # noqa: E402  (JAX reads its settings when imported)
import pytest  # noqa: E402

from jaxmaskrcnn.config import parts  # noqa: E402
from jaxmaskrcnn.utils import compilation_cache  # noqa: E402


def pytest_configure(config):
    """Keep compiled programs between test runs, also those of commands, which would use the user's cache."""
    directory = config.cache.mkdir("xla") if hasattr(config, "cache") else tempfile.mkdtemp()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    compilation_cache.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark all variants of a test as slow but those that its ``slow_except`` names, before -m chooses."""
    named, found = set(), set()
    for item in items:
        for marker in item.iter_markers("slow_except"):
            test = item.nodeid.partition("[")[0]
            named |= {(test, name) for name in marker.args}
            found.add((test, item.callspec.id))
            if item.callspec.id not in marker.args:
                item.add_marker(pytest.mark.slow)
    if not any("::" in argument for argument in config.args) and named - found:
        raise pytest.UsageError(f"slow_except names variants that do not exist: {sorted(named - found)}")


def pytest_collection_finish():
    """Look for garbage less often: JAX's traces are millions of objects, and nearly all of them stay.

    With Python 3.11 and jax 0.10.2 the collector took 6.0 s of the 96 s of processor time of 107 tests of
    networks and losses; so it takes 1.3 s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="module")
def quick_compilation():
    """For whole training runs, whose time is nearly all compilation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def highest_precision():
    """Products in float32 on every device, as the libraries compute them."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def own_kinds():
    """Kinds that a test adds are gone after it."""
    before = {family: dict(classes) for family, classes in parts._FAMILIES.items()}
    yield
    parts._FAMILIES.clear()
    parts._FAMILIES.update(before)
