"""Images per second of the input pipeline, from JPEG files to arrays on the device.

    python benchmarks/data.py [--annotations=instances.json --images=images] [--size=800,1333] [--threads=1,2]

Without --annotations, --count photographs of 640 x 480 are generated: noise with the spectrum of photographs
at a JPEG quality of 95, with ten polygons each. For a preset of every library the table has

    read, decode, resize, masks: milliseconds of an image on one thread: its record; JPEG to pixels; pixels
        to the network's size; polygons, boxes and bitmaps to targets.
    images/s: of the whole pipeline (`train_iterator` and `prefetch_to_device`, batches of --batch), by the
        number of threads, with the canvas of every batch in device memory.
    images/s per core: the same, by seconds of all processors instead of the clock's.
    MB: that an image takes in device memory, its targets with it.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from measuring import hardware, spread, table, write_figures

PRESETS = (
    "torchvision/maskrcnn_resnet50_fpn",
    "detectron2/mask_rcnn_R_50_FPN_3x",
    "mmdet/mask-rcnn_r50_fpn_2x_coco",
)
PARTS = ("read", "decode", "resize", "masks")


def write_photographs(folder: Path, count: int, height: int = 480, width: int = 640) -> tuple[Path, Path]:
    """JPEG files with noise of amplitude 1 / frequency, as photographs have, and a json with polygons."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "images").mkdir()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    for i in range(count):
        noise = np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency
        pixels = np.fft.irfft2(noise, (height, width)).transpose(1, 2, 0)
        pixels = np.clip(128 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.jpg", quality=95)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": height, "width": width})
        for radius in np.geomspace(0.03, 0.4, 10) * height:
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            centre = rng.uniform(radius, np.array([width, height]) - radius)
            points = centre + radius * rng.uniform(0.7, 1, 40)[:, None] * np.stack(
                [np.cos(angles), np.sin(angles)], 1
            )
            low, high = points.min(0), points.max(0)
            annotations.append({
                "id": len(annotations), "image_id": i, "category_id": 1, "iscrowd": 0,
                "bbox": [*low.tolist(), *(high - low).tolist()], "area": float(2.3 * radius**2),
                "segmentation": [points.ravel().tolist()],
            })  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json", folder / "images"


def parts(source, config, count: int) -> dict[str, list[float]]:
    """Seconds of each part for each of the first images."""
    from jaxmaskrcnn.config import DataConfig
    from jaxmaskrcnn.data.fields.targets import to_targets
    from jaxmaskrcnn.data.images import decode_image
    from jaxmaskrcnn.data.pipeline import train_iterator
    from jaxmaskrcnn.data.preprocess import eval_size, resize_for
    from jaxmaskrcnn.data.transforms import round_up

    seconds = {name: [] for name in PARTS}
    iterator = train_iterator(source, config, DataConfig(batch_size=1), seed=0)
    load = iterator._load._load  # the parts are those of the pipeline itself
    for i in range(min(count, len(source))):
        times = [time.perf_counter()]
        example = source[i]
        times.append(time.perf_counter())
        pixels = decode_image(example.image, size=example.size)
        times.append(time.perf_counter())
        size = eval_size(config, *example.size)
        resize_for(config, pixels, size)
        times.append(time.perf_counter())
        canvas = tuple(round_up(length, config.input.pad_divisor) for length in size)
        to_targets([load.objects(example, size, False)], iterator.max_objects, canvas, load.room)
        times.append(time.perf_counter())
        for name, start, end in zip(PARTS, times, times[1:], strict=False):
            seconds[name].append(end - start)
    return seconds


def whole(source, config, canvas, batch: int, threads: int, seconds: float, device_resize: bool) -> dict:
    """The pipeline for some seconds."""
    import jax

    from jaxmaskrcnn.config import DataConfig
    from jaxmaskrcnn.data import prefetch_to_device, train_iterator

    data = DataConfig(
        batch_size=batch, min_sizes=(0,), canvases=canvas, threads=threads, device_resize=device_resize
    )
    batches = prefetch_to_device(train_iterator(source, config, data, seed=0))
    size = sum(x.nbytes for x in jax.tree.leaves(jax.block_until_ready(next(batches)))) / batch
    start, processor, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        jax.block_until_ready(next(batches))
        count += batch
    clock, processor = time.perf_counter() - start, time.process_time() - processor
    batches.close()
    return {"per_second": count / clock, "per_core": count / processor, "bytes": size}


def measure_preset(preset: str, paths, args) -> dict:
    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.data import prepare

    size = tuple(map(int, args.size.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(*paths, folder)
        config = jmr.model_config(
            preset,
            num_classes=len(source.categories),
            **{"input.test_min_size": min(size), "input.test_max_size": max(size)},
        )
        # One canvas for both orientations of the longest side, so that every batch has the same size.
        canvases = _canvases(size, config.input.pad_divisor)
        seconds = parts(source, config, args.count)
        rows = {
            str(threads): [
                whole(source, config, canvases, args.batch, threads, args.seconds, args.device_resize)
                for _ in range(args.repeats)
            ]
            for threads in map(int, args.threads.split(","))
        }
    return {"parts": seconds, "whole": rows}


def _canvases(size: tuple[int, int], divisor: int) -> tuple[int, ...]:
    short, long = (-(-side // divisor) * divisor for side in (min(size), max(size)))
    return short, long, long, short


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--annotations", help="COCO-format json of JPEG photographs; default: generated ones")
    parser.add_argument("--images", help="its image folder")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--size", default="800,1333", help="limits of the short and the long side in pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--count", type=int, default=64, help="images that the parts are measured with")
    parser.add_argument("--seconds", type=float, default=5, help="of every measurement of the pipeline")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device_resize", action="store_true", help="the pipeline leaves it to the device")
    parser.add_argument("--output", help="write all figures to this json file as well")
    args = parser.parse_args(argv)
    if bool(args.annotations) != bool(args.images):
        parser.error("--annotations and --images belong together; give both or none of them.")
    with tempfile.TemporaryDirectory() as folder:
        paths = (args.annotations, args.images)
        if not args.annotations:
            paths = write_photographs(Path(folder), args.count)
        figures = {preset: measure_preset(preset, paths, args) for preset in args.presets.split(",")}
    print(f"{hardware()}; {args.repeats} times {args.seconds:g} s\n")
    rows = []
    for preset, found in figures.items():
        row = [preset, *(spread(found["parts"][name], 1e3, 1) for name in PARTS)]
        for runs in found["whole"].values():
            row.append(spread([run["per_second"] for run in runs], 1, 1))
        every = [run for runs in found["whole"].values() for run in runs]
        row += [spread([run["per_core"] for run in every], 1, 1), f"{every[0]['bytes'] / 1e6:.1f}"]
        rows.append(row)
    head = ["preset", *(f"{name} ms" for name in PARTS)]
    head += [f"images/s, {threads} threads" for threads in args.threads.split(",")]
    print(table([*head, "images/s per core", "MB"], rows))
    write_figures(args.output, {"size": args.size, "batch": args.batch, "presets": figures})


if __name__ == "__main__":
    main(sys.argv[1:])
