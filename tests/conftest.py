"""What every test run needs before JAX is imported."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a run's time is compilation. The tests' programs are small and run a few times each, so
# code that is made quickly beats quick code; this halves the time.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax  # noqa: E402  (JAX reads its settings when imported)
import pytest  # noqa: E402

from jaxmaskrcnn.utils import compilation_cache  # noqa: E402


def pytest_configure(config):
    """Keep compiled programs between test runs."""
    if hasattr(config, "cache"):
        compilation_cache.enable(config.cache.mkdir("xla"))


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
