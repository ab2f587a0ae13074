"""examples/serving: batches, limits and answers, with a stand-in for the model."""

import asyncio
import importlib.util
import io
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.structures import Category

FOLDER = Path(__file__).parents[2] / "examples" / "serving"


@pytest.fixture
def load(monkeypatch):
    """A script of the example by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def script(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return script


def test_items_that_come_together_are_computed_together(load):
    batching, seen = load("batching"), []

    def double(items):
        seen.append(list(items))
        return [2 * item for item in items]

    async def run():
        batcher = batching.Batcher(double, max_batch=3, deadline=0.05, workers=1)
        results = await asyncio.gather(*(batcher.submit(i) for i in range(7)))
        await batcher.close()
        return results, batcher.batches

    results, batches = asyncio.run(run())
    assert results == [0, 2, 4, 6, 8, 10, 12]
    assert seen == [[0, 1, 2], [3, 4, 5], [6]] and batches == {3: 2, 1: 1}


def test_too_many_waiting_items_are_refused_and_cancelled_ones_are_dropped(load):
    batching, seen, go = load("batching"), [], threading.Event()

    def slow(items):
        seen.extend(items)
        assert go.wait(30)
        return items

    async def run():
        batcher = batching.Batcher(slow, max_batch=1, deadline=0.0, max_waiting=2, workers=1)
        tasks = [asyncio.create_task(batcher.submit(0))]
        while not seen:  # the first one is being computed
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(batcher.submit(i)) for i in (1, 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(batching.Overloaded):
            await batcher.submit(3)
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()
        return results

    first, cancelled, last = asyncio.run(run())
    assert (first, last) == (0, 2) and isinstance(cancelled, asyncio.CancelledError)
    assert seen == [0, 2]


def test_an_error_reaches_those_of_its_batch_alone(load):
    batching = load("batching")

    def invert(items):
        return [1 / item for item in items]

    async def run():
        batcher = batching.Batcher(invert, max_batch=1, workers=1)
        results = await asyncio.gather(*map(batcher.submit, (0, 2)), return_exceptions=True)
        await batcher.close()
        return results

    wrong, right = asyncio.run(run())
    assert isinstance(wrong, ZeroDivisionError) and right == 0.5


class Seer:
    """In place of a Predictor: one object in each picture, whose score is the picture's first pixel."""

    config = ModelConfig().replace({"input.pixels.max_pixels": 5000})
    categories = (Category(3, "cat"),)
    delay = 0.0

    def warm_up(self, sizes, batches):
        assert batches == [1, 2, 4]

    def __call__(self, pictures, masks):
        assert masks == "rle" and len(pictures) <= 4
        time.sleep(self.delay)
        return [
            {
                "boxes": np.float32([[1, 2, 3, 4]]),
                "scores": picture[0, 0, :1] / np.float32(255),
                "labels": np.array([3]),
                "masks": [{"size": list(picture.shape[:2]), "counts": "0"}],
            }
            for picture in pictures
        ]


def png(value=255, size=(40, 30)):
    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, "png")
    return file.getvalue()


@pytest.fixture
def client(load):
    testing = pytest.importorskip("starlette.testclient", reason="the extra [serve] is not installed")
    pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
    app = load("server").make_app(Seer(), max_batch=4, deadline=0.001, max_bytes=2000, timeout=0.5)
    with testing.TestClient(app) as client:
        while client.get("/ready").status_code != 200:
            time.sleep(0.01)
        yield client


def test_a_picture_gets_its_objects(client):
    answer = client.post("/predict", content=png(51))
    assert answer.status_code == 200
    assert answer.json() == {
        "height": 30,
        "width": 40,
        "objects": [
            {
                "category_id": 3,
                "category_name": "cat",
                "score": pytest.approx(0.2),
                "box": [1, 2, 3, 4],
                "mask": {"size": [30, 40], "counts": "0"},
            }
        ],
    }
    assert client.get("/health").text == "alive\n"


def test_what_is_refused_and_what_is_counted(client):
    for body, status, words in (
        (b"no picture", 400, "the picture"),
        (png()[:60], 400, "the picture"),
        (png(size=(100, 100)), 400, "100 x 100 pixels, and max_pixels is 5000"),
        (bytes(2001), 413, "more than 2000 bytes"),
    ):
        answer = client.post("/predict", content=body)
        assert answer.status_code == status and words in answer.json()["error"]
    assert client.post("/predict", content=png()).status_code == 200
    Seer.delay = 1.0
    try:
        assert client.post("/predict", content=png()).status_code == 504
    finally:
        Seer.delay = 0.0
    text = client.get("/metrics").text
    for line in (
        'jmr_requests_total{status="200"} 1',
        'jmr_requests_total{status="400"} 3',
        'jmr_requests_total{status="413"} 1',
        'jmr_requests_total{status="504"} 1',
        'jmr_request_seconds_bucket{le="+Inf"} 1',
        'jmr_batches_total{size="1"} 2',
        "jmr_waiting 0",
    ):
        assert line in text.splitlines()
