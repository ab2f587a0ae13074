"""What every test run needs before JAX is imported."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxmaskrcnn import compilation_cache  # noqa: E402  (JAX reads the platform when imported)


def pytest_configure(config):
    """Keep compiled programs between test runs; most of a run's time is compilation."""
    if hasattr(config, "cache"):
        compilation_cache.enable(config.cache.mkdir("xla"))
