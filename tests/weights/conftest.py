"""What tests of published weights need."""

import pytest
from weights_server import weights_server


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine, a cache of its own, and no mirror."""
    monkeypatch.setenv("JAXMASKRCNN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("JAXMASKRCNN_MIRROR", "JAXMASKRCNN_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with weights_server() as running:
        yield running
