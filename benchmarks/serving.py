"""Load test of examples/serving/server.py on this machine: speed, lost requests, and what it refuses.

    python benchmarks/serving.py [--model=DIRECTORY] [--seconds=10] [--clients=1,8,32]

Without --model, a narrow model with random weights serves pictures of 120 x 160 pixels. The server runs in a
process of its own with --max_waiting=64, and these clients follow one another, each group for --seconds:
    steady: so many clients, each sending the next picture when it has an answer.
    leaving: 8 steady clients, beside 8 that close the connection while they wait for the answer.
    bad: 8 steady clients, beside 8 that send no pictures, damaged ones, or too many bytes or pixels.
    overload: as many clients as twice the queue and the batches hold.

A request is lost if a client that stays gets no answer, or another status than its picture should get.
Afterwards the first picture must have the same answer as in the beginning.
"""

import argparse
import asyncio
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from measuring import hardware, table

ROOT = Path(__file__).resolve().parents[1]
MAX_BATCH, MAX_WAITING, MAX_BYTES, MAX_PIXELS = 8, 64, 1_000_000, 1_000_000


def pictures(height: int = 120, width: int = 160, count: int = 8) -> list[bytes]:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.NEAREST).save(file, "jpeg")
        files.append(file.getvalue())
    return files


def bad_bodies(good: bytes) -> list[tuple[bytes, int]]:
    """Bodies that are refused, and the status of the answer."""
    from PIL import Image

    large = io.BytesIO()
    Image.new("L", (1200, 1200)).save(large, "png")
    return [
        (b"", 400), (b"no picture", 400), (good[: len(good) // 2], 400), (bytes(MAX_BYTES + 1), 413),
        (large.getvalue(), 400),
    ]  # fmt: skip


def save_narrow_model(directory: Path) -> None:
    from jaxmaskrcnn.checkpoints.directory import save_model
    from jaxmaskrcnn.models.new_models import init_model
    from jaxmaskrcnn.zoo.lookup import model_config

    narrow = {
        "backbone.width": 16, "neck.channels": 32, "box.fc_dim": 64, "mask.dim": 32, "rpn.pre_nms_test": 200,
        "rpn.post_nms_test": 50, "detections.per_image": 20, "input.test_min_size": 128,
        "input.test_max_size": 192,
    }  # fmt: skip
    config = model_config("jaxmaskrcnn/shapes", num_classes=3, **narrow)
    save_model(init_model(config), directory)


async def request(port: int, path: str, body: bytes | None = None, leave: float | None = None):
    """Status and body of an answer; None if the client leaves after some seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body or b'')}\r\n\r\n".encode())
        try:
            writer.write(body or b"")
            await writer.drain()
        except ConnectionError:
            pass  # the server answers before it has read everything
        if leave is not None:
            await asyncio.sleep(leave)
            return None
        answer = await asyncio.wait_for(reader.read(), 60)
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), content
    finally:
        writer.close()


class Clients:
    """What the clients of one group saw."""

    def __init__(self, port: int):
        self.port, self.seconds, self.statuses, self.lost, self.left = port, [], Counter(), 0, 0

    async def stay(self, bodies: list[tuple[bytes, tuple[int, ...]]], until: float) -> None:
        """Sends bodies, for each of which some statuses are right."""
        number = 0
        while time.monotonic() < until:
            body, right = bodies[number % len(bodies)]
            number += 1
            start = time.monotonic()
            try:
                status, content = await request(self.port, "/predict", body)
                json.loads(content)
            except (OSError, TimeoutError, ValueError, IndexError):
                self.lost += 1
                continue
            self.statuses[status] += 1
            if status not in right:
                self.lost += 1
            elif status == 200:
                self.seconds.append(time.monotonic() - start)
            elif status == 503:
                await asyncio.sleep(0.05)

    async def leave(self, bodies: list[bytes], until: float) -> None:
        """Sends bodies, and closes the connection before or while they are computed."""
        while time.monotonic() < until:
            for leave in (0.0, 0.002, 0.02):
                await request(self.port, "/predict", bodies[self.left % len(bodies)], leave)
                self.left += 1

    def row(self, name: str, seconds: float) -> list:
        times = sorted(self.seconds) or [float("nan")]
        quantile = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
        statuses = ", ".join(f"{n} x {status}" for status, n in sorted(self.statuses.items()))
        milliseconds = [f"{1e3 * quantile[i]:.0f}" for i in (49, 94, 98)]
        return [name, f"{len(self.seconds) / seconds:.1f}", *milliseconds, statuses, self.left, self.lost]


async def measure(port: int, seconds: float, counts: list[int], files: list[bytes]) -> list[list]:
    good = [(file, (200,)) for file in files]
    bad = [(body, (status,)) for body, status in bad_bodies(files[0])]
    first = await request(port, "/predict", files[0])
    rows = []

    async def group(name: str, makers) -> Clients:
        clients, start = Clients(port), time.monotonic()
        await asyncio.gather(*(maker(clients, start + seconds) for maker in makers))
        rows.append(clients.row(name, time.monotonic() - start))
        return clients

    def steady(clients, until):
        return clients.stay(good, until)

    for count in counts:
        await group(f"steady, {count}", [steady] * count)
    refused = [(file, (200, 503)) for file in files]  # a full queue is no fault

    def patient(clients, until):
        return clients.stay(refused, until)

    await group("leaving", [patient] * 8 + [lambda clients, until: clients.leave(files, until)] * 8)
    await group("bad", [steady] * 8 + [lambda clients, until: clients.stay(bad, until)] * 8)
    many = 2 * (MAX_WAITING + 2 * MAX_BATCH)
    await group(f"overload, {many}", [patient] * many)
    status, text = await request(port, "/metrics")
    assert status == 200 and (await request(port, "/health"))[0] == 200
    again = await request(port, "/predict", files[0])
    same = first[0] == again[0] == 200 and first[1] == again[1]
    print(f"The first picture has the same answer afterwards: {same}.")
    print(
        "\n".join(
            line for line in text.decode().splitlines() if line.startswith(("jmr_batches", "jmr_waiting"))
        )
    )
    return rows


async def wait_until_ready(port: int, process: subprocess.Popen) -> float:
    start = time.monotonic()
    while process.poll() is None:
        try:
            if (await request(port, "/ready"))[0] == 200:
                return time.monotonic() - start
        except (OSError, IndexError):
            pass
        await asyncio.sleep(0.2)
    raise SystemExit(f"The server ended with {process.returncode}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", default="1,8,32")
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            model = Path(folder) / "model"
            save_narrow_model(model)
        words = [
            sys.executable, str(ROOT / "examples" / "serving" / "server.py"), str(model), f"--port={port}",
            f"--max_batch={MAX_BATCH}", f"--max_waiting={MAX_WAITING}", f"--max_bytes={MAX_BYTES}",
            f"--max_pixels={MAX_PIXELS}", "--sizes=120x160", "--score_threshold=0.05",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        with subprocess.Popen(words, env=environment) as process:
            try:
                seconds = asyncio.run(wait_until_ready(port, process))
                print(f"{hardware()}; ready after {seconds:.1f} s")
                counts = [int(count) for count in arguments.clients.split(",")]
                rows = asyncio.run(measure(port, arguments.seconds, counts, pictures()))
            finally:
                process.terminate()
    print(table(["clients", "answers/s", "p50 ms", "p95", "p99", "answers", "left", "lost"], rows))


if __name__ == "__main__":
    main()
