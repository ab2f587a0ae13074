"""A web server on this machine that plays the place where weights are published, with its failures."""

import contextlib
import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple


class Asked(NamedTuple):
    """A question that the server got."""

    path: str
    range: str | None
    condition: str | None


class WeightsServer(http.server.ThreadingHTTPServer):
    """Serves ``files`` by their paths.

    Attributes:
        files: Contents by path.
        asked: The questions, in their order.
        ranges: Whether it knows ranges.
        conditions: Whether it heeds If-Range.
        mark: "etag", "weak", "date" or "": how it marks versions.
        cuts: For each of the next answers, after how many bytes of it the connection ends; None for never.
        statuses: For each of the next questions, the status to answer with, or None.
        headers: Sent with every file.
        pause: Seconds before every 64 KiB.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.ranges, self.conditions, self.mark = True, True, "etag"
        self.cuts: list[int | None] = []
        self.statuses: list[int | None] = []
        self.headers: dict[str, str] = {}
        self.pause = 0.0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that was killed is no error of the server."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: WeightsServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, headers = self.server, self.headers
        server.asked.append(Asked(self.path, headers.get("Range"), headers.get("If-Range")))
        self.close_connection = True
        if server.statuses and (status := server.statuses.pop(0)):
            return self._head(status, {"Content-Length": "0"})
        if self.path in server.redirects:
            return self._head(302, {"Location": server.redirects[self.path], "Content-Length": "0"})
        content = server.files.get(self.path)
        if content is None:
            return self._head(404, {"Content-Length": "0"})
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        marks = {
            "etag": {"ETag": tag},
            "weak": {"ETag": f"W/{tag}"},
            "date": {"Last-Modified": "Tue, 01 Sep 2020 10:00:00 GMT"},
        }.get(server.mark, {})
        start, condition = 0, headers.get("If-Range")
        if server.ranges and (found := re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))):
            if condition is None or not server.conditions or condition in marks.values():
                start = int(found[1])
        described = {"Content-Type": "application/octet-stream", **marks, **server.headers}
        if start and start >= len(content):
            return self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
        if start:
            described["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        described = {"Content-Length": str(len(content) - start), **described}
        self._head(206 if start else 200, described)
        cut = server.cuts.pop(0) if server.cuts else None
        end = len(content) if cut is None else min(start + cut, len(content))
        for i in range(start, end, 2**16):
            time.sleep(server.pause)
            self.wfile.write(content[i : min(i + 2**16, end)])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def weights_server() -> Iterator[WeightsServer]:
    """A server that runs within the block."""
    server = WeightsServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
