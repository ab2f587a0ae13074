"""A model behind HTTP: POST a picture, get its objects as JSON.

    pip install 'jaxmaskrcnn[serve]'
    python examples/serving/server.py models/coco --port=8000

    curl --data-binary @street.jpg http://localhost:8000/predict

docs/serving.md describes the answers, the limits and the metrics.
"""

import argparse
import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from batching import Batcher, Overloaded
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import jaxmaskrcnn as jmr
from jaxmaskrcnn.data.inputs import read_image
from jaxmaskrcnn.utils import compilation_cache

_DISCARDED = 8  # a body that is so many times longer than allowed is not read to its end
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds


class Metrics:
    """Counts of requests by their status, and their times; only used by the event loop's thread."""

    def __init__(self):
        self.requests: Counter[int] = Counter()
        self.times: Counter[float] = Counter()
        self.seconds = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Counts a request."""
        self.requests[status] += 1
        if status == 200:
            self.seconds += seconds
            self.times[next((limit for limit in BUCKETS if seconds <= limit), float("inf"))] += 1

    def text(self, batcher: Batcher) -> str:
        """All metrics in the format of Prometheus."""
        lines = ["# TYPE jmr_requests_total counter"]
        lines += [f'jmr_requests_total{{status="{s}"}} {n}' for s, n in sorted(self.requests.items())]
        lines += ["# TYPE jmr_request_seconds histogram"]
        for limit in (*BUCKETS, float("inf")):
            count = sum(n for time_, n in self.times.items() if time_ <= limit)
            name = "+Inf" if limit == float("inf") else limit
            lines.append(f'jmr_request_seconds_bucket{{le="{name}"}} {count}')
        lines += [
            f"jmr_request_seconds_sum {self.seconds:.6f}",
            f"jmr_request_seconds_count {self.times.total()}",
        ]
        lines += ["# TYPE jmr_batches_total counter"]
        lines += [f'jmr_batches_total{{size="{size}"}} {n}' for size, n in sorted(batcher.batches.items())]
        lines += ["# TYPE jmr_waiting gauge", f"jmr_waiting {batcher.waiting}"]
        return "\n".join(lines) + "\n"


def make_app(
    predictor: jmr.Predictor,
    *,
    sizes: list[tuple[int, int]] | None = None,
    max_batch: int = 8,
    deadline: float = 0.01,
    max_waiting: int = 64,
    max_bytes: int = 20_000_000,
    timeout: float = 30.0,
) -> Starlette:
    """Makes the web application.

    Args:
        predictor: Its ``config.input.pixels.max_pixels`` limits the pixels of a picture.
        sizes: Sizes of pictures to compile for before ``/ready`` says so; None compiles all canvases.
        max_batch: As in `Batcher`.
        deadline: As in `Batcher`.
        max_waiting: As in `Batcher`.
        max_bytes: Largest file in bytes.
        timeout: Seconds after which a request that still waits is given up.
    """
    metrics, names = Metrics(), dict(predictor.categories)
    ready = threading.Event()

    def detect(pictures: list) -> list[dict]:
        found = predictor(pictures, masks="rle")
        return [answer(out, picture.shape[:2]) for out, picture in zip(found, pictures, strict=True)]

    def answer(out: dict, size: tuple[int, int]) -> dict:
        objects = []
        for i, label in enumerate(out["labels"].tolist()):
            entry = {"category_id": label, "category_name": names[label], "score": float(out["scores"][i])}
            entry["box"] = out["boxes"][i].tolist()
            if "masks" in out:
                entry["mask"] = out["masks"][i]
            objects.append(entry)
        return {"height": size[0], "width": size[1], "objects": objects}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.batcher = Batcher(detect, max_batch=max_batch, deadline=deadline, max_waiting=max_waiting)

        def warm_up() -> None:
            predictor.warm_up(sizes, batches=[2**i for i in range(max_batch.bit_length())])
            ready.set()

        warming = asyncio.create_task(run_in_threadpool(warm_up))
        yield
        warming.cancel()
        await app.state.batcher.close()

    async def predict(request: Request) -> Response:
        start = time.monotonic()
        response = await _predict(request)
        metrics.add(response.status_code, time.monotonic() - start)
        return response

    async def _predict(request: Request) -> Response:
        batcher: Batcher = request.app.state.batcher
        if not ready.is_set():
            return _problem(503, "the model is being compiled; try again later", {"Retry-After": "5"})
        full = batcher.waiting >= max_waiting  # then no memory and no time are spent on the picture
        try:
            data = await _body(request, 0 if full else max_bytes)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; it is counted
        if full:
            return _overloaded()
        if data is None:
            return _problem(413, f"the picture has more than {max_bytes} bytes")
        try:
            picture = await run_in_threadpool(read_image, data, predictor.config.input.pixels, "the picture")
        except jmr.UserError as error:
            return _problem(400, str(error))
        waiting = asyncio.create_task(batcher.submit(picture))
        leaving = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({waiting, leaving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return JSONResponse(waiting.result())
            return Response(status_code=499) if leaving.done() else _problem(504, "it took too long")
        except Overloaded:
            return _overloaded()
        except Exception as error:  # of the model; the next request is not affected
            return _problem(500, f"the prediction failed: {error}")
        finally:
            waiting.cancel()
            leaving.cancel()

    async def health(request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def is_ready(request: Request) -> Response:
        return PlainTextResponse(
            "ready\n" if ready.is_set() else "compiling\n", 200 if ready.is_set() else 503
        )

    async def show_metrics(request: Request) -> Response:
        return PlainTextResponse(metrics.text(request.app.state.batcher))

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/ready", is_ready),
        Route("/metrics", show_metrics),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def _body(request: Request, most: int) -> bytes | None:
    """The body, or None if it is longer than ``most``.

    What is longer is read, up to some more of it, and thrown away: if the connection were closed before, many
    clients would see that and not the answer.
    """
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length <= most:
            parts.append(part)
        else:
            parts.clear()
            if length > _DISCARDED * max(most, 1_000_000):
                break
    return b"".join(parts) if length <= most else None


async def _gone(request: Request) -> None:
    while not (await request.receive())["type"] == "http.disconnect":
        pass


def _overloaded() -> Response:
    return _problem(503, "too many requests wait already; try again later", {"Retry-After": "1"})


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers)


def main() -> None:
    """Reads the command line, loads the model, and serves until the process is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model directory, training workdir or checkpoint file")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--score_threshold", type=float, default=0.5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--device", help="such as cpu or gpu:1")
    parser.add_argument("--max_batch", type=int, default=8, help="pictures computed together")
    parser.add_argument("--deadline", type=float, default=0.01, help="seconds to wait for further pictures")
    parser.add_argument("--max_waiting", type=int, default=64, help="pictures in the queue")
    parser.add_argument("--max_bytes", type=int, default=20_000_000, help="bytes of a file")
    parser.add_argument("--max_pixels", type=int, default=50_000_000, help="pixels of a picture")
    parser.add_argument("--timeout", type=float, default=30, help="seconds of a request")
    parser.add_argument("--sizes", help="compile for pictures of these sizes alone, such as 480x640,640x480")
    arguments = parser.parse_args()
    compilation_cache.enable()
    model = jmr.load_model(arguments.model)
    pixels = model.config.input.pixels.changed(max_pixels=arguments.max_pixels)
    model.config = model.config.replace({"input.pixels": pixels})
    predictor = jmr.Predictor(
        model, arguments.score_threshold, max_batch=arguments.max_batch, device=arguments.device,
        dtype=arguments.dtype,
    )  # fmt: skip
    sizes = None
    if arguments.sizes:
        sizes = [tuple(map(int, size.split("x"))) for size in arguments.sizes.split(",")]
    app = make_app(
        predictor, sizes=sizes, max_batch=arguments.max_batch, deadline=arguments.deadline,
        max_waiting=arguments.max_waiting, max_bytes=arguments.max_bytes, timeout=arguments.timeout,
    )  # fmt: skip
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
