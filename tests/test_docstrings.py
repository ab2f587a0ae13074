"""Every public name has a docstring; what people import has a complete one, with an example that runs.

Complete is: Google style, the parameters of the signature with the shapes of arrays, what is returned
and raised, and for a formula or a convention where it comes from.
"""

import ast
import doctest
import functools
import importlib
import inspect
import pickle
import pkgutil
import re
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conversion_helpers import imagenet_weights
from detectors import random_model, small_config
from flax import nnx
from PIL import Image

import jaxmaskrcnn
from jaxmaskrcnn import losses, models, ops
from jaxmaskrcnn.errors import UserError

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Neither a formula nor a convention of somebody else: containers, lookups, files, packing.
WITHOUT_SOURCE = {
    "Backbone", "Pass", "Pooler", "RegionHead",
    "TiledPredictor", "draw_comparison",
    "Batch", "Category", "ConfigError", "Detections", "LossTerm", "Matches", "ModelConfig", "Predictor",
    "Proposals", "Regions", "Samples", "Targets", "UserError", "backbone_info", "download", "draw_detections",
    "every_derivative",
    "index_priority", "list_backbones", "list_models", "load_model", "load_serving", "model_config",
    "model_info", "pack_masks", "random_priority", "reduce_terms", "save_model", "serving_function",
    "sort_targets", "unpack_masks",
}  # fmt: skip
SOURCE = re.compile(
    r"et al\.|\(\w+ and \w+, \d{4}\)|\b(torchvision|Detectron2|MMDetection|COCO|Caffe2|Flax|NumPy)\b"
    r"|\b(R-CNN|FPN|ResNet|RPN)\b.*\b(section|equation|figure)\b",
    re.S,
)


# -- finding names


def modules() -> list:
    names = ["jaxmaskrcnn", *(m.name for m in pkgutil.walk_packages(jaxmaskrcnn.__path__, "jaxmaskrcnn."))]
    public = [name for name in names if not any(part.startswith("_") for part in name.split("."))]
    return [importlib.import_module(name) for name in public]


def is_documentable(value) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value) or hasattr(value, "__wrapped__")


def name_of(value) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def methods(cls) -> dict[str, object]:
    """The public methods and properties that a class defines itself, and how it is called."""
    found = {}
    for name, value in vars(cls).items():
        function = getattr(value, "fget", None) or getattr(value, "func", None) or value
        function = getattr(function, "__func__", function)
        if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__"):
            found[name] = function
    return found


def public_names() -> dict[str, object]:
    found = {}
    for module in modules():
        found[module.__name__] = module
        for name, value in vars(module).items():
            exported = name in getattr(module, "__all__", ())
            here = getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
            if not ((exported or here) and is_documentable(value)):
                continue
            found[name_of(value)] = value
            if inspect.isclass(value) and value.__module__.startswith("jaxmaskrcnn"):
                found |= {f"{name_of(value)}.{m}": getattr(value, m) for m in methods(value)}
    return found


def imported_names() -> dict[str, object]:
    """What is exported for others to import; by its short name."""
    found = {}
    for module in (jaxmaskrcnn, ops, models, losses):
        found |= {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in found.items() if is_documentable(value)}


IMPORTED = imported_names()
CALLABLES = {
    **{n: v for n, v in IMPORTED.items() if not inspect.isclass(v)},
    **{f"{n}.{m}": f for n, v in IMPORTED.items() if inspect.isclass(v) for m, f in methods(v).items()},
}


# -- reading docstrings


def sections(doc: str) -> dict[str, list[str]]:
    """The lines of each Google-style section, indented as they are; what stands outside under ''."""
    found: dict[str, list[str]] = {"": []}
    current = found[""]
    for line in inspect.cleandoc(doc).splitlines():
        if title := re.fullmatch(r"(Args|Attributes|Returns|Yields|Raises|Example):", line):
            current = found[title[1]] = []
            continue
        if line and not line.startswith(" "):
            current = found[""]
        current.append(line)
    return found


def entries(lines: list[str]) -> dict[str, str]:
    """``name: text`` of a section; several names may share a text."""
    found, names = {}, []
    for line in lines:
        if match := re.match(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):(.*)", line):
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2])
        elif names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def parameters(function) -> dict[str, inspect.Parameter]:
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    signature = inspect.signature(inspect.unwrap(function)).parameters.values()
    return {marks.get(p.kind, "") + p.name: p for p in signature if p.name != "self"}


@functools.cache
def functions_of(module_name: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(sys.modules[module_name]))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def raised(function) -> set[str]:
    """Errors for the caller that a function raises, itself or in private helpers of its file."""
    helpers = functions_of(function.__module__)
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    found, seen, open_trees = set(), set(), [tree]
    while open_trees:
        for node in ast.walk(open_trees.pop()):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found.add(ast.unparse(node.exc.func))
            if isinstance(node, ast.Name) and node.id.startswith("_") and node.id in helpers:
                if node.id not in seen:
                    seen.add(node.id)
                    open_trees.append(helpers[node.id])
    return found & {"UserError", "ConfigError", "ValueError", "TypeError"}


def returns_something(function) -> bool:
    returned = inspect.signature(inspect.unwrap(function)).return_annotation
    return returned not in (None, "None", inspect.Signature.empty)


def is_array(annotation) -> bool:
    return bool(re.search(r"Array|ndarray", str(annotation)))


def has_shape(text: str) -> bool:
    return bool(re.search(r"\[.*\]|scalar", text))


# -- tests


def test_every_public_name_has_a_docstring():
    without = []
    for name, value in public_names().items():
        doc = inspect.getdoc(value) or ""  # of the method that is overridden, where there is none
        generated = inspect.isclass(value) and doc.startswith(f"{value.__name__}(")  # NamedTuple, dataclass
        if not doc.strip() or generated:
            without.append(name)
    assert not without


@pytest.mark.parametrize("name", CALLABLES)
def test_arguments_results_and_errors_are_documented(name):
    function = CALLABLES[name]
    found = sections(function.__doc__ or "")
    wanted = parameters(function)
    described = entries(found.get("Args", []))
    assert list(described) == list(wanted)
    for parameter, text in described.items():
        annotation = wanted[parameter].annotation
        assert annotation is not inspect.Parameter.empty, f"{parameter} has no type"
        assert has_shape(text) or not is_array(annotation), f"{parameter} has no shape"
    returned = inspect.signature(inspect.unwrap(function)).return_annotation
    assert returned is not inspect.Signature.empty, "the result has no type"
    if returns_something(function) and not is_property(name):
        assert "Returns" in found
        assert has_shape(" ".join(found["Returns"])) or not is_array(returned), "the result has no shape"
    assert raised(function) <= entries(found.get("Raises", [])).keys()


def is_property(name: str) -> bool:
    cls, _, member = name.rpartition(".")
    return bool(cls) and isinstance(vars(IMPORTED[cls])[member], property)


@pytest.mark.parametrize("name", [name for name, value in IMPORTED.items() if inspect.isclass(value)])
def test_classes_say_what_they_are_made_of(name):
    cls = IMPORTED[name]
    found = sections(cls.__doc__)
    if hasattr(cls, "_fields"):
        described = entries(found.get("Attributes", []))
        assert tuple(described) == cls._fields
        for field, annotation in cls.__annotations__.items():
            assert has_shape(described[field]) or annotation not in (
                jaxmaskrcnn.structures.Array, jax.Array,
            ), f"{field} has no shape"  # fmt: skip
    made = "__init__" in vars(cls) and not hasattr(cls, "__dataclass_fields__")
    made = made and not getattr(cls, "_is_protocol", False)
    if made:
        assert list(entries(found.get("Args", []))) == list(parameters(cls.__init__))
        assert raised(cls.__init__) <= entries(found.get("Raises", [])).keys()


def test_formulas_and_conventions_have_a_source():
    without = {name for name, value in IMPORTED.items() if not SOURCE.search(value.__doc__)}
    assert without <= WITHOUT_SOURCE
    assert WITHOUT_SOURCE <= IMPORTED.keys()


@pytest.mark.parametrize("name", IMPORTED)
def test_what_is_imported_has_an_example_that_runs(name):
    shown = doctest.DocTestParser().get_examples(IMPORTED[name].__doc__)
    assert any(doctest.SKIP not in example.options for example in shown)


# -- examples


def examples() -> list[doctest.DocTest]:
    found = [test for module in modules() for test in doctest.DocTestFinder().find(module)]
    return [t for t in found if not all(doctest.SKIP in e.options for e in t.examples)]


@pytest.fixture(scope="module")
def detector():
    return random_model(small_config())


@pytest.fixture
def desk(detector, tmp_path, monkeypatch):
    """What examples take for granted: a small detector, some files, and the usual names."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("picture.png")
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps({"model": imagenet_weights(detector)}, protocol=2))
    return {
        "jax": jax, "jnp": jnp, "jmr": jaxmaskrcnn, "model": nnx.clone(detector), "nnx": nnx, "np": np,
        "optax": optax,
    }  # fmt: skip


# Each of these compiles something: together 99 of 131 s of processor time.
COMPILING = ("jaxmaskrcnn.losses.", "jaxmaskrcnn.models.", "jaxmaskrcnn.ops.")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(
            example, id=example.name, marks=pytest.mark.slow if example.name.startswith(COMPILING) else ()
        )
        for example in examples()
    ],
)
def test_examples_in_docstrings(example, desk):
    example.globs = {**desk, **example.globs}
    report = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)


# -- the checks themselves


def shape_of_nothing(a: jax.Array) -> jax.Array:
    """Nothing.

    Args:
        a: An array.
        b: Of no use.

    Returns:
        [N].
    """
    if a is None:
        raise UserError("No array.")
    return _refuse(a)


def _refuse(a):
    raise ValueError("Never.")


def test_the_checks_find_what_is_wrong():
    found = sections(shape_of_nothing.__doc__)
    assert list(entries(found["Args"])) == ["a", "b"] != list(parameters(shape_of_nothing))
    assert not has_shape(entries(found["Args"])["a"]) and has_shape(" ".join(found["Returns"]))
    assert is_array(parameters(shape_of_nothing)["a"].annotation) and returns_something(shape_of_nothing)
    assert raised(shape_of_nothing) == {"UserError", "ValueError"}
    assert not SOURCE.search(shape_of_nothing.__doc__)
