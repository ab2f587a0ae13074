"""What the documentation says to run runs, and its links and file names lead somewhere.

The blocks of a page run in their order in one folder, as a reader would run them. Commands run as
they are written, but with small models, few small pictures and one training step. Neither the step nor
the detections are computed, unless slow tests are asked for; test_train_loop.py computes a whole run.
"""

import contextlib
import functools
import hashlib
import logging
import pickle
import re
import shlex
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging as absl_logging
from conversion_helpers import imagenet_weights
from detectors import random_model, small_config
from jax.experimental.compilation_cache import compilation_cache as jax_cache
from measured_files import cityscapes_files, lvis_files
from pages import BLOCK, NAMES, PAGES, ROOT, RUN_HERE, blocks, earlier_blocks
from PIL import Image

import jaxmaskrcnn
from jaxmaskrcnn.cli.main import main as package_command
from jaxmaskrcnn.cli.main import run_command
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert import choice, named_model, to_state_dict
from jaxmaskrcnn.convert.files.writer import write_state_dict
from jaxmaskrcnn.data import write_shapes
from jaxmaskrcnn.data.shapes import NAMES as NAMES_OF_SHAPES
from jaxmaskrcnn.models.heads.mask import MaskHead
from jaxmaskrcnn.models.mask_rcnn import MaskRCNN
from jaxmaskrcnn.structures import Batch, Detections
from jaxmaskrcnn.training import dry_run, setup
from jaxmaskrcnn.training.first_weights import first_model
from jaxmaskrcnn.utils import compilation_cache
from jaxmaskrcnn.weights.cache import place
from jaxmaskrcnn.zoo import PRESETS

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Pages with many commands, run in quick mode with the slow tests alone.
SLOW_PAGES = (
    "README.md", "benchmarks.md", "conversion.md", "evaluating.md", "exporting.md", "fine-tuning.md",
    "getting-started.md", "keypoints.md",
    "lvis-and-cityscapes.md", "panoptic.md", "point-rend.md", "predicting.md", "reading-results.md",
    "serving.md", "training.md", "weights.md",
)  # fmt: skip

# The model of every command and block, whatever preset it names.
SMALL_MODEL = {
    "backbone.depth": 18,
    "backbone.width": 8,
    "backbone.norm": "frozen_bn",
    "backbone.norm_epsilon": 1e-5,
    "neck.channels": 8,
    "neck.norm": "none",
    "box.norm": "none",
    "mask.norm": "none",
    "box.fc_dim": 8,
    "mask.convs": 1,
    "mask.dim": 8,
    "rpn.pre_nms_train": 50,
    "rpn.pre_nms_test": 50,
    "rpn.post_nms_train": 10,
    "rpn.post_nms_test": 10,
    "rpn.batch_size": 16,
    "regions.batch_size": 8,
    "detections.per_image": 6,
    "input.test_min_size": 64,
    "input.test_max_size": 64,
}
SMALL_RUN = {
    **{f"config.model.{name}": value for name, value in SMALL_MODEL.items()},
    "config.data.batch_size": 2, "config.data.eval_batch_size": 2, "config.data.min_sizes": 64,
    "config.data.max_size": 64, "config.data.shapes.train_images": 4, "config.data.shapes.eval_images": 2,
    "config.data.shapes.size": 64, "config.optimizer.learning_rate": 0.001,
    "config.optimizer.schedule": "constant", "config.optimizer.warmup_steps": 0, "config.train.steps": 1,
}  # fmt: skip


# Whole detectors that the pages read.
CHECKPOINTS = {
    "torchvision": "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    "detectron2": "model_final_f10217.pkl",
}

# Names whose published weights are kept already, since nothing is fetched.
PUBLISHED = {
    "torchvision": "torchvision/maskrcnn_resnet50_fpn",
    "detectron2": "detectron2/mask_rcnn_R_50_FPN_3x",
}

# Packages of extras that a page needs.
EXTRAS = {"exporting.md": "flatbuffers", "serving.md": "flatbuffers"}


def commands(text: str) -> list[list[str]]:
    """The words of each command of a bash block."""
    words = []
    for line in text.replace("\\\n", " ").splitlines():
        words += [part for part in re.split(r"\s&&\s", line) if part.strip()]
    return [command for part in words if (command := shlex.split(part, comments=True))]


def publish(name: str, checkpoint: Path, patch: pytest.MonkeyPatch) -> None:
    """Keep a file where a name's published weights are kept, under an address with the file's own hash."""
    row, content = PRESETS[name], checkpoint.read_bytes()
    known = row.weights.checksum
    start = hashlib.new(known.algorithm, content).hexdigest()[: len(known.start)]
    weights = row.weights._replace(address=row.weights.address.replace(known.start, start), mebibytes=None)
    patch.setitem(PRESETS, name, row._replace(weights=weights))
    place(weights.address).parent.mkdir(parents=True, exist_ok=True)
    place(weights.address).write_bytes(content)


def ci_commands() -> list[list[str]]:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    tools = re.compile(r"(pip|ruff|pyright|lint-imports|pytest)\b")
    return [shlex.split(line) for line in lines if tools.match(line)]


# -- running


@pytest.fixture
def one_process(monkeypatch):
    """Commands set up logging, flags and a cache for a process of their own; tests share one."""
    monkeypatch.setattr(compilation_cache, "enable", lambda: None)
    root, ours = logging.getLogger(), logging.getLogger("jaxmaskrcnn")
    kept = [(log, list(log.handlers), log.level, log.propagate) for log in (root, ours)]
    verbosity = absl_logging.get_verbosity()
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    cache = {name: getattr(jax.config, name) for name in options}
    yield
    for name, value in cache.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()
    absl_logging.set_verbosity(verbosity)
    for log, handlers, level, propagate in kept:
        log.handlers[:] = handlers
        log.setLevel(level)
        log.propagate = propagate


@pytest.fixture
def desk(tmp_path, monkeypatch, one_process):
    """A folder with what the pages take for granted: the configs, some data, weights and a picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for seed, name in enumerate(("train", "val")):
        annotations, images = write_shapes(tmp_path, 4, 64, seed)
        annotations.rename(f"{name}.json")
        images.rename(name)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("picture.png")
    weights = imagenet_weights(random_model(small_config(**SMALL_MODEL)))
    Path("R-50.pkl").write_bytes(pickle.dumps({"model": weights}, protocol=2))
    Image.fromarray(pixels).save("photo.jpg")
    monkeypatch.setenv("JAXMASKRCNN_HOME", str(tmp_path / "home"))
    backbone = place(jaxmaskrcnn.backbone_info("detectron2/MSRA/R-50").weights[0].address)
    backbone.parent.mkdir(parents=True)
    backbone.write_bytes(Path("R-50.pkl").read_bytes())

    def narrow(*args, **overrides) -> ModelConfig:
        config = make_config(*args, **overrides)
        left_out = "mask." if getattr(config.mask, "kind", None) != "fcn" else "-"
        return config.replace({k: v for k, v in SMALL_MODEL.items() if not k.startswith(left_out)})

    make_config = jaxmaskrcnn.model_config
    monkeypatch.setattr(jaxmaskrcnn, "model_config", narrow)
    monkeypatch.setattr(choice, "model_config", narrow)
    monkeypatch.setattr(named_model, "model_config", narrow)
    for library, name in CHECKPOINTS.items():
        presets = [preset for preset in jaxmaskrcnn.list_models() if preset.startswith(f"{library}/")]
        detector = random_model(narrow(presets[0]))
        write_state_dict("detector.safetensors", to_state_dict(detector, library), library)
        Path("detector.safetensors").rename(name)  # files are recognised by what is in them
        publish(PUBLISHED[library], Path(name), monkeypatch)
    categories = [jaxmaskrcnn.Category(i + 1, name) for i, name in enumerate(NAMES_OF_SHAPES)]
    shapes = narrow("jaxmaskrcnn/shapes", num_classes=3, categories=tuple(categories))
    detector = random_model(shapes)
    bias = detector.box_head.cls_score.bias
    bias[...] = bias[...].at[shapes.foreground_offset].set(3.0)  # it takes everything for a circle
    jaxmaskrcnn.save_model(detector, "models/shapes")
    # Pages make some hundred pictures; what is done with each is the same.
    few = lambda directory, count, size, seed: write_shapes(directory, min(count, 4), size, seed)  # noqa: E731
    monkeypatch.setattr(jaxmaskrcnn.data, "write_shapes", few)
    lvis_files(tmp_path / "lvis", tmp_path / "coco")
    cityscapes_files(tmp_path / "cityscapes")
    return tmp_path


@contextlib.contextmanager
def nothing_computed():
    """Training steps that change nothing, and the same two detections in every picture."""

    def still(*parts, **options):
        metrics = {"loss": jnp.float32(1), "learning_rate": jnp.float32(0), "finite": jnp.array(True)}
        return lambda state, batch, key: ({**state, "step": state["step"] + 1}, metrics)

    def detect_boxes(model: MaskRCNN, batch: Batch) -> tuple[list, Detections]:
        count = batch.images.shape[0]
        side = batch.image_sizes.min(-1)[:, None, None]
        return [], Detections(
            boxes=jnp.array([[0.1, 0.1, 0.5, 0.6], [0.3, 0.3, 0.9, 0.8]]) * side,
            scores=jnp.full((count, 2), 0.9),
            labels=jnp.zeros((count, 2), jnp.int32),
            masks=None,
            valid=jnp.ones((count, 2), bool),
        )

    def predict(head: MaskHead, pooler, found: Detections):
        return {"masks": jnp.full((*found.valid.shape, 28, 28), 0.8)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_train_step", still)
        patch.setattr(setup, "first_model", functools.partial(first_model, init=random_model))
        patch.setattr(dry_run, "compile_step", lambda *_: dry_run.Compiled(1.0, 1, 1))
        patch.setattr(MaskRCNN, "detect_boxes", detect_boxes)
        patch.setattr(MaskHead, "predict", predict)
        yield


def run(words: list[str]) -> None:
    """One command; raises where it does not succeed or is none that the project knows."""
    match words:
        case ["python", "train.py", *arguments] | ["jaxmaskrcnn", "train", *arguments]:
            # As it is written, but small.
            kept = [a for a in arguments if a.removeprefix("--").split("=")[0] not in SMALL_RUN]
            small, head = SMALL_RUN, "--config.model.mask=point_rend"
            if head in arguments:  # which has other layers
                small = {k: v for k, v in small.items() if not k.startswith("config.model.mask.")}
                small |= {"config.model.mask.fc_dim": 8, "config.model.mask.point_dim": 8}
            kept += [f"--{name}={value}" for name, value in small.items()]
            assert run_command("train", kept, "train.py") == 0
        case ["python", "evaluate.py", *arguments]:
            assert run_command("evaluate", arguments, "evaluate.py") == 0
        case ["jaxmaskrcnn", *arguments] | ["python", "-m", "jaxmaskrcnn", *arguments]:
            assert package_command(arguments) == 0
        case ["python", script, *arguments]:
            # Benchmarks take minutes, and goldens need torch.
            source = (ROOT / script).read_text()
            for option in filter(None, (re.match(r"--(\w+)", argument) for argument in arguments)):
                assert option[1] in source, f"{script} has no {option[0]}"
        case ["pip", "install", "-e", target]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            asked = re.fullmatch(r"\.(?:\[(.+)\])?", target)
            assert asked and set(filter(None, (asked[1] or "").split(","))) <= extras.keys()
        case ["pytest", "-m", marker]:
            assert f'"{marker}: ' in (ROOT / "pyproject.toml").read_text()
        case ["pytest", "-n", "0", "-s", *tests]:
            assert all((ROOT / test).is_file() for test in tests)
        case _:
            assert words in ci_commands(), f".ci/run does not run {shlex.join(words)}"


@pytest.mark.parametrize(
    ("page", "real"),
    [
        pytest.param(
            page, real,
            marks=pytest.mark.slow if real or page.name in SLOW_PAGES else (),
            id=f"{page.relative_to(ROOT)}-{'real' if real else 'quick'}",
        )
        for page in RUN_HERE
        for real in (False, True)
    ],
)  # fmt: skip
def test_blocks_run(page, real, desk):
    if page.name in EXTRAS:
        pytest.importorskip(EXTRAS[page.name], reason=f"{page.name} needs an extra that is not installed")
    for block in [*earlier_blocks(page), *blocks(page)]:
        if block.reason is not None:
            continue
        assert block.language in ("python", "bash", "text"), f"{page.name}:{block.line}: which language?"
        if block.language == "python":
            with tell(f"{page.name}:{block.line}"), contextlib.nullcontext() if real else nothing_computed():
                exec(compile(block.text, f"{page.name}:{block.line}", "exec"), {"__name__": "__main__"})
        for words in commands(block.text) if block.language == "bash" else ():
            with tell(f"{page.name}:{block.line}: {shlex.join(words)}"):
                with contextlib.nullcontext() if real else nothing_computed():
                    run(words)


@contextlib.contextmanager
def tell(place: str):
    try:
        yield
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{place} does not run: {error!r}") from error


def test_the_first_commands_of_the_readme_are_the_documented_ones():
    first, second = [block for block in blocks(ROOT / "README.md") if block.language == "bash"][:2]
    assert commands(first.text) == [["pip", "install", "-e", "."], ["python", "train.py"]]
    assert commands(second.text) == [["pip", "install", "-e", ".[test]"], ["pytest"]]
    assert ["pip", "install", "--quiet", "-e", ".[test]"] in ci_commands() and ["pytest"] in ci_commands()


# -- links


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


OTHER_NAMES = ["CHANGELOG.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / name for name in OTHER_NAMES)], ids=[*NAMES, *OTHER_NAMES])
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def source_files() -> list[str]:
    """The repository's files, by their path from its root."""
    kept = ("jaxmaskrcnn", "tests", "benchmarks", "configs", "docs", "examples")
    found = [path for folder in kept for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in (*found, *ROOT.glob("*"))]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_source_files_that_are_named_exist(page):
    # `ops/nms.py` is short for jaxmaskrcnn/ops/nms.py: the end of a path is enough.
    named = re.findall(r"`([\w./-]+\.py)`", BLOCK.sub("", page.read_text()))
    ends = tuple(f"/{file}" for file in source_files())
    assert not [file for file in named if not any(end.endswith(f"/{file}") for end in ends)]


def test_scripts_that_record_goldens_are_listed():
    listed = re.findall(
        r"^python (tests/goldens/record_\w+\.py)(?: CHECKOUT)?$",
        (ROOT / "docs/contributing.md").read_text(),
        re.M,
    )
    assert sorted(listed) == sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("tests/goldens/record_*.py"))


def test_functions_that_are_named_exist():
    page = (ROOT / "docs" / "how-it-is-built.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "jaxmaskrcnn").rglob("*.py"))
    defined = set(re.findall(r"^ *(?:def|class) (\w+)|^ *(\w+)\s*(?::|=)", sources, re.M))
    defined = {name for pair in defined for name in pair}
    named = set(re.findall(r"`(?:\w+\.)?(\w+)`", BLOCK.sub("", page))) - {"py"}
    # What others define: transformations of JAX, variables of NNX, markers of shapes.
    foreign = {"vmap", "psum", "jit", "pmap", "shard_map", "cond", "Param", "Module"}
    assert not sorted(named - defined - foreign)
