"""Compiles the whole model for TPUs that are not there, and says what the compiler expects of it.

    pip install 'libtpu==0.0.42.*'    # beside jax 0.10.2, whose metadata name the version
    python benchmarks/compile_for.py --topology=v5e:2x2 --case=train --batch=4

``libtpu`` has the compiler and needs no TPU. Nothing is run: the program is compiled for a described
machine, and the figures are what stands in the compiled program (`compiled_text.py`).

Cases:
    train: the training step of train.py (`Layout`, `make_train_step`), 80 classes, 10 objects an image.
    detect: from uint8 images on the device to boxes and masks, as evaluate.py runs it.
    box512, mask128: RoIAlign of 512 regions to 7 x 7 and of 128 regions to 14 x 14, of each image, from
        levels of 256 channels, with --sampling_ratio samples a bin and side and an --implementation.
    ...-gradient: the gradient of the features alone; ...-both: pooling and gradient as one program.
    backbone, proposals, box_pool, box_head, detections, mask_pool, mask_head: the parts of a prediction, one
        after the other, each by itself, which compile sooner and show where the time goes.
    rpn: objectness and deltas of all anchors, as training has them.
    conv: a 3x3 convolution with a ReLU, of 256 channels at stride 16.
    top_k: the best 2000 of 201600 scores.
    nms: of five times 2000 boxes.

Topologies are v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2 and larger ones, such as v5e:16x16 for 256 chips.
--chips uses the first ones of it alone. --batch is of one chip. --width narrows the model (and makes its
backbone an R18), which compiles sooner.

--effort=-1 tells XLA to compile soon rather than well. What the compiler says of memory and of what the chips
exchange is then there sooner; the cycles are of a program that nobody would run.

--platform=cuda --topology=h200:8 describes eight GPUs to jax's CUDA plugin, which needs no GPU for it either.
It plans memory and collectives, but expects no cycles, and leaves the choice of cuDNN's algorithms, and their
memory, to the GPU.

The cycles are the compiler's estimates, of which no measurement says how good they are. What is in a loop is
multiplied by its turns; loops whose turns depend on the data are counted once, and their share is told.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

from compiled_text import Cost, read_cost
from measuring import CLASSES, HEIGHT, WIDTH, photograph, table

ROI_CASES = {"box512": (512, 7), "mask128": (128, 14)}
PARTS = (
    "backbone", "rpn", "proposals", "box_pool", "box_head", "detections", "mask_pool", "mask_head",
)  # fmt: skip
CASES = (
    "train", "detect", *PARTS,
    *(name + suffix for name in ROI_CASES for suffix in ("", "-gradient", "-both")), "conv", "top_k", "nms",
)  # fmt: skip
STRIDES = (4, 8, 16, 32)


# What XLA asks of a GPU, from NVIDIA's data sheets and the CUDA programming guide's table of capabilities.
_H200 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
  memory_bandwidth: 4800000000000 device_memory_size: 151397597184
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H200"
"""


def described(platform: str, topology: str, chips: int):
    """The devices of a machine that is not there; ends the command with a sentence where that fails."""
    # libtpu otherwise asks the host for TPUs, and lets one process at a time load it.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    from jax.experimental import topologies

    kind, _, count = topology.partition(":")
    try:
        if platform == "cuda":
            options = {"target_config": {"h200": _H200}[kind], "topology": f"1x1x{count or 1}"}
            devices = topologies.get_topology_desc(kind, platform, **options).devices
        else:
            # The two cores of a v4 chip are one device, as jax has them where they are.
            options = {"chip_config_name": "megacore"} if kind == "v4" else {}
            devices = topologies.get_topology_desc(topology, platform, **options).devices
    except Exception as error:  # whatever a plugin raises
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise SystemExit(
            f"compile_for.py: {platform} {topology!r} cannot be described ({words[0]}); TPUs need the "
            "package libtpu in the version that jax's metadata name, and h200:8 the CUDA plugin of jax."
        ) from None
    if chips > len(devices):
        raise SystemExit(f"compile_for.py: --chips is {chips}, and {topology} has {len(devices)}.")
    return devices[: chips or None]


def program(
    case: str, devices, batch: int, size: tuple[int, int], config, options, compile_sooner: bool = False
):
    """A function to compile, and the shapes of its arguments on the devices.

    Args:
        case: One of ``CASES``.
        devices: The devices that share the images.
        batch: Images of a device.
        size: Height and width of an image.
        config: The model's configuration.
        options: ``sampling_ratio`` and ``implementation`` of the cases of one operator.
        compile_sooner: As ``train.compile_sooner``.
    """
    import jax
    from jax.experimental.layout import Format
    from jax.experimental.layout import Layout as ArrayLayout
    from jax.sharding import NamedSharding, PartitionSpec

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.parallel.layout import AXIS, Layout

    layout = Layout("auto", devices)
    count = batch * len(devices)

    def whole(tree):
        sharding = NamedSharding(layout.mesh, PartitionSpec())
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    def rows(tree):
        sharding = NamedSharding(layout.mesh, PartitionSpec(AXIS))

        def of_all(x):  # from the shape for one image
            return jax.ShapeDtypeStruct((count * x.shape[0], *x.shape[1:]), x.dtype, sharding=sharding)

        return jax.tree.map(of_all, tree)

    if case not in ("train", "detect", *PARTS):
        function, arguments = operator(case, size, **options)
        arguments = rows(arguments)
        # XLA chooses the orders of the arguments and results in memory, as it does inside of a model.
        own = Format(ArrayLayout.AUTO, jax.tree.leaves(arguments)[0].sharding)
        orders = {"in_shardings": (None, own), "out_shardings": own}
        return layout.map_rows(lambda _, arrays: jax.vmap(function)(*arrays), **orders), ((), arguments)
    image, target = photograph(*size)
    images = jmr.make_batch(config, [image], [target])
    if case == "detect":
        model = abstract_model(config)
        function = layout.map_rows(lambda model, images: model.detect(images))
        return function, (whole(model), rows(images._replace(targets=None)))
    if case in PARTS:
        model = abstract_model(config)
        call, *arrays = part(case, model, images._replace(targets=None))
        function = layout.map_rows(lambda model, arrays: call(model, *arrays))
        return function, (whole(model), rows(tuple(arrays)))
    step, state = training(config, layout, count, compile_sooner)
    return step, (whole(state), rows(images), whole(jax.eval_shape(lambda: jax.random.key(0))))


def abstract_model(config):
    import jax
    from flax import nnx

    import jaxmaskrcnn as jmr

    return jax.eval_shape(lambda: jmr.MaskRCNN(config, rngs=nnx.Rngs(0)))


def part(case: str, model, batch):
    """One of `PARTS` as a function of the model and arrays, and the shapes of these for one image."""
    import jax

    from jaxmaskrcnn.models.detections import select_detections
    from jaxmaskrcnn.models.features import Pass
    from jaxmaskrcnn.models.heads.box import box_channels
    from jaxmaskrcnn.models.inputs import network_input
    from jaxmaskrcnn.structures import Proposals

    config = model.config
    classes, dtype = config.classes, config.compute.dtype
    slots, found = config.rpn.post_nms_test, config.detections.per_image

    def shape(*sides, dtype="float32"):
        return jax.ShapeDtypeStruct((1, *sides), dtype)

    def regions(count, pool):
        return jax.ShapeDtypeStruct((count, pool.size, pool.size, config.region_channels), dtype)

    def backbone(model, batch):
        return model.features(network_input(batch, config), Pass(batch.extents))

    def select(_, logits, deltas, proposals, sizes):
        def one(*arrays):
            return select_detections(*arrays, classes, config.box, config.detections)

        return jax.vmap(one)(logits, deltas, proposals, sizes)

    def mask_head(model, pooled, labels):
        return jax.nn.sigmoid(model.mask_head.own_class(pooled, labels))

    if case == "backbone":
        return backbone, batch
    levels = jax.eval_shape(backbone, model, batch)
    pools = {"box_pool": (slots, config.box.pool), "mask_pool": (found, config.mask.pool)}
    if case in pools:
        number, pool = pools[case]

        def align(model, batch, levels, boxes):
            return model.pool(batch, levels, boxes, pool)

        return align, batch, levels, shape(number, 4)
    extents = jax.ShapeDtypeStruct((1, 2), batch.extents.dtype)
    proposals = Proposals(shape(slots, 4), shape(slots), shape(slots, dtype=bool))
    deltas = shape(slots, box_channels(config.box, classes), 4, dtype=dtype)
    return {
        "rpn": (lambda model, levels, extents: model.rpn(levels, Pass(extents)), levels, extents),
        "proposals": (lambda model, batch, levels: model.propose(batch, levels)[3], batch, levels),
        "box_head": (lambda model, pooled: model.box_head(pooled), regions(slots, config.box.pool)),
        "detections": (select, shape(slots, classes.logits, dtype=dtype), deltas, proposals, extents),
        "mask_head": (mask_head, regions(found, config.mask.pool), jax.ShapeDtypeStruct((found,), "int32")),
    }[case]


def training(config, layout, count: int, compile_sooner: bool):
    """The training step of ``count`` images, and the shapes of its state."""
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.config import OptimizerConfig
    from jaxmaskrcnn.training import optimizer as optimizers
    from jaxmaskrcnn.training.compiled_step import make_train_step
    from jaxmaskrcnn.training.step import init_state

    options, step = OptimizerConfig(reference_batch_size=0, decay_steps=()), None
    schedule = optimizers.learning_rate(options, count, 1000)

    def build(model):
        nonlocal step
        graphdef, optimizer, state = init_state(
            model,
            jmr.trainable(model),
            lambda params: optimizers.make_optimizer(options, schedule, params, config),
        )
        step = make_train_step(
            graphdef, optimizer, schedule, layout, batch_size=count, compile_sooner=compile_sooner
        )
        return state

    state = jax.eval_shape(build, abstract_model(config))
    return step, state


def operator(case: str, size: tuple[int, int], sampling_ratio: int, implementation: str | None, dtype: str):
    """An operator of one image, and the shapes of its arguments for a batch of one."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxmaskrcnn.ops.convolution import convolution
    from jaxmaskrcnn.ops.nms import nms
    from jaxmaskrcnn.ops.roi_align import assign_levels, multilevel_roi_align
    from jaxmaskrcnn.ops.top_k import top_k

    def shape(*sides, dtype="float32"):
        return jax.ShapeDtypeStruct((1, *sides), dtype)

    if case == "conv":
        maps = shape(size[0] // 16, size[1] // 16, 256, dtype=dtype)
        kernel = np.ones((3, 3, 256, 256), dtype)
        return lambda x: convolution(x[None], jnp.asarray(kernel), relu=True)[0], (maps,)
    if case == "top_k":
        return lambda scores: top_k(scores, 2000), (shape(201_600),)
    if case == "nms":
        suppress = jax.vmap(lambda boxes, scores: nms(boxes, scores, 0.7))
        return suppress, (shape(5, 2000, 4), shape(5, 2000))
    name, _, wanted = case.partition("-")
    count, bins = ROI_CASES[name]
    height, width = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in size)
    maps = tuple(shape(height // s, width // s, 256, dtype=dtype) for s in STRIDES)

    def pool(features, boxes):
        return multilevel_roi_align(
            features, boxes, assign_levels(boxes, rule="log_epsilon") - 2, bins,
            spatial_scales=jnp.array([1 / s for s in STRIDES]), sampling_ratio=sampling_ratio,
            aligned=sampling_ratio == 0, implementation=implementation,
        )  # fmt: skip

    if not wanted:
        return pool, (maps, shape(count, 4))

    def gradient(features, boxes, cotangent):
        pooled, backward = jax.vjp(lambda features: pool(features, boxes), features)
        return backward(cotangent) if wanted == "gradient" else (pooled, backward(cotangent))

    return gradient, (maps, shape(count, 4), shape(count, bins, bins, 256, dtype=dtype))


def compile_and_read(function, arguments, text: str | None = None, options: dict | None = None) -> dict:
    """Compiles for the devices of the arguments; what it took, the planned memory and the cost."""
    start, processor = time.perf_counter(), _processor()
    lowered = function.lower(*arguments)
    lowering, processor_lowering = time.perf_counter() - start, _processor() - processor
    start, processor = time.perf_counter(), _processor()
    compiled = lowered.compile(compiler_options=options)
    memory, content = compiled.memory_analysis(), compiled.as_text()
    if text:
        Path(text).write_text(content)
    return {
        "lowering_s": lowering,
        "lowering_processor_s": processor_lowering,
        "compile_s": time.perf_counter() - start,
        "compile_processor_s": _processor() - processor,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
        "cost": read_cost(content)._asdict(),
    }


def _processor() -> float:
    """Seconds of processor time of this process, in all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def report(title: str, found: dict) -> str:
    """The figures of one program as Markdown."""
    cost = Cost(**found["cost"])
    total = max(1, cost.cycles)
    parts = ("arguments", "temporaries", "results", "program")
    lines = [
        f"## {title}",
        "",
        f"- compiled in {found['compile_s']:.0f} s ({found['compile_processor_s']:.0f} s of processor time), "
        f"traced and lowered in {found['lowering_s']:.0f} s",
        "- GiB of a chip: " + ", ".join(f"{found[part] / 2**30:.2f} {part}" for part in parts),
        f"- estimated cycles: {cost.cycles:.3g}; with every loop counted once {cost.once:.3g}; in loops of "
        f"unknown turns, counted once, {cost.unknown:.3g}",
        "- by kind: " + ", ".join(f"{kind} {n / total:.1%}" for kind, n in cost.by_kind.items()),
        f"- without an estimate: {_listed(cost.without, at_least=2**16)}",
        f"- collectives: {_listed(cost.collectives)}; {cost.overlapped} of them overlap with other work",
        "",
    ]
    head = ["cycles", "share", "turns", "operation", "result", "in JAX", "source"]
    body = [
        [f"{cycles:.3g}", f"{cycles / total:.1%}", turns, name, f"`{shape}`", f"`{jax_name}`", source]
        for cycles, turns, name, shape, jax_name, source in cost.top
    ]
    return "\n".join(lines) + table(head, body)


def _listed(found: dict, at_least: int = 0) -> str:
    parts = [f"{n} {kind} ({size / 2**20:.1f} MiB)" for kind, (n, size) in found.items() if size >= at_least]
    return ", ".join(parts) or "none"


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--platform", default="tpu", help="default: tpu")
    parser.add_argument("--topology", default="v5e:2x2", help="default: v5e:2x2")
    parser.add_argument("--chips", type=int, default=0, help="use so many of its chips; default: all")
    parser.add_argument("--case", default="train", choices=CASES)
    parser.add_argument("--batch", type=int, default=4, help="images of a chip; default: 4")
    parser.add_argument("--preset", default="torchvision/maskrcnn_resnet50_fpn")
    parser.add_argument("--dtype", default="bfloat16", help="of the activations; default: bfloat16")
    parser.add_argument("--size", default=f"{HEIGHT},{WIDTH}", help="height and width of the images")
    parser.add_argument("--width", type=float, default=1.0, help="share of the channels; default: 1")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="of the model")
    parser.add_argument("--sampling_ratio", type=int, default=2, help="of RoIAlign's cases; default: 2")
    parser.add_argument("--implementation", help="of RoIAlign's cases; default: the platform's")
    parser.add_argument("--xla", action="append", default=[], metavar="NAME=VALUE", help="option of XLA")
    parser.add_argument(
        "--effort", type=float, default=0.0, help="-1 compiles sooner, to slower programs; default: 0"
    )
    parser.add_argument(
        "--compile_sooner", action="store_true", help="the training step of train.compile_sooner"
    )
    parser.add_argument("--text", help="write the compiled program to this file as well")
    parser.add_argument("--output", help="write the figures to this json file as well")
    args = parser.parse_args(argv)
    if args.compile_sooner and args.case != "train":
        parser.error(f"--compile_sooner is for --case=train, not {args.case}.")
    size = tuple(map(int, args.size.split(",")))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    devices = described(args.platform, args.topology, args.chips)
    import jax
    from growth import narrow

    import jaxmaskrcnn as jmr

    jax.config.update("jax_exec_time_optimization_effort", args.effort)
    fields = {
        "backbone.norm_epsilon": 1e-5,
        "compute.dtype": args.dtype,
        "input.test_min_size": min(size),
        "input.test_max_size": max(size),
        **{name: json.loads(value) for name, value in (field.split("=", 1) for field in args.set)},
    }
    if args.width < 1:
        config = narrow(args.width, **fields)
    else:
        config = jmr.model_config(args.preset, num_classes=CLASSES, **fields)
    options = {
        "sampling_ratio": args.sampling_ratio, "implementation": args.implementation, "dtype": args.dtype,
    }  # fmt: skip
    function, arguments = program(args.case, devices, args.batch, size, config, options, args.compile_sooner)
    found = compile_and_read(
        function, arguments, args.text, dict(option.split("=", 1) for option in args.xla)
    )
    if args.output:
        Path(args.output).write_text(json.dumps({"options": vars(args), **found}, indent=1))
    chips = f"{len(devices)} {devices[0].device_kind}"
    print(report(f"{args.case}, {args.batch} images a chip, {chips}", found))


if __name__ == "__main__":
    sys.exit(main())
