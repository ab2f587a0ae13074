"""Names of a box head's arrays in other libraries, and settings that they imply; see `names/layers.py`."""

from types import ModuleType
from typing import Any

from jaxmaskrcnn.config import SCORES, BoxConfig, ModelConfig
from jaxmaskrcnn.models.names_files import names_file
from jaxmaskrcnn.names.layers import (
    KERAS_NORM,
    NORM,
    Shapes,
    count_layers,
    keras_layer,
    mmdet_norm_rows,
    norm_in_files,
    norm_of,
)
from jaxmaskrcnn.names.tables import (
    LINEAR,
    YX_DELTAS,
    Names,
    Row,
    flattened,
    keras_flattened,
    weight_and_bias,
)


def _states() -> dict[str, ModuleType]:
    """Return the names files of the kinds of class scores that have a state, which arrays show."""
    return {kind: names_file(scores) for kind, scores in SCORES.items() if scores.names}


# Arrays show how many stages there are, not their settings, so it is none of these.
_STAGES = "stages of a cascade (box.stages)"


def names(library: str, part: BoxConfig) -> Names:
    """Return the rows of a library, those of a single head and those of a head for each stage of a cascade.

    Args:
        library: "torchvision", "detectron2", "mmdet" or "matterport".
        part: Determines the size of pooled regions; torchvision's names also depend on its convolutions.
    """
    if library == "torchvision":
        return _torchvision(part)
    if library == "matterport":
        return _matterport(part)
    rows_of = _detectron2 if library == "detectron2" else _mmdet
    rows = [*rows_of(part, ""), *rows_of(part, ".{stage}")]
    return Names(rows, {"norm": NORM, "count": {str(i + 1): str(i) for i in range(9)}})


def _detectron2(part: BoxConfig, stage: str) -> list[Row]:
    """Return the rows of a head; ``stage`` is what follows its name, "" or a placeholder after a dot."""
    head, predictor, own = f"roi_heads.box_head{stage}", f"roi_heads.box_predictor{stage}", f"box_head{stage}"
    return [
        *weight_and_bias(f"{head}.conv{{count}}", f"{own}.convs.{{count}}.conv"),
        Row(f"{head}.conv{{count}}.norm.{{norm}}", f"{own}.convs.{{count}}.norm.{{norm}}"),
        *weight_and_bias(f"{head}.fc1", f"{own}.fcs.0", flattened(part.pool.size)),
        *weight_and_bias(f"{head}.fc{{count}}", f"{own}.fcs.{{count}}", LINEAR),
        *weight_and_bias(f"{predictor}.cls_score", f"{own}.cls_score", LINEAR),
        *weight_and_bias(f"{predictor}.bbox_pred", f"{own}.bbox_pred", LINEAR),
    ]


def _mmdet(part: BoxConfig, stage: str) -> list[Row]:
    """Return the rows of a head, as `_detectron2` does."""
    head, own = f"roi_head.bbox_head{stage}", f"box_head{stage}"
    return [
        *mmdet_norm_rows(f"{head}.shared_convs.{{i}}", f"{own}.convs.{{i}}", part.norm),
        *weight_and_bias(f"{head}.shared_convs.{{i}}.conv", f"{own}.convs.{{i}}.conv"),
        *weight_and_bias(f"{head}.shared_fcs.0", f"{own}.fcs.0", flattened(part.pool.size)),
        *weight_and_bias(f"{head}.shared_fcs.{{i}}", f"{own}.fcs.{{i}}", LINEAR),
        *weight_and_bias(f"{head}.fc_cls", f"{own}.cls_score", LINEAR),
        *weight_and_bias(f"{head}.fc_reg", f"{own}.bbox_pred", LINEAR),
        *(row for file in _states().values() for row in file.names("mmdet", head, own)),
    ]


def _matterport(part: BoxConfig) -> Names:
    """Return the rows of fully connected layers that are convolutions there, over a whole region first."""
    head, count = "mrcnn_class", {str(i + 1): str(i) for i in range(9)}
    rows = [
        *keras_layer(f"{head}_conv1", "box_head.fcs.0", keras_flattened(part.pool.size)),
        *keras_layer(f"{head}_conv{{count}}", "box_head.fcs.{count}", keras_flattened(1)),
        Row(f"{head}_bn{{count}}/{{norm}}", "box_head.fc_norms.{count}.{norm}"),
        *keras_layer(f"{head}_logits", "box_head.cls_score"),
        *keras_layer("mrcnn_bbox_fc", "box_head.bbox_pred", YX_DELTAS, YX_DELTAS),
    ]
    return Names(rows, {"norm": KERAS_NORM, "count": count})


def _torchvision(part: BoxConfig) -> Names:
    """Return the rows of two fully connected layers, numbered together with the convolutions before them."""
    first, head = flattened(part.pool.size), "roi_heads.box_head"
    # Convolutions, flatten, linear, ReLU, linear, ReLU, ...
    number = {str(part.convs + 1 + 2 * i): str(i) for i in range(1, 9)}
    with_convs = part.convs > 0
    rows = [
        *weight_and_bias(f"{head}.fc6", "box_head.fcs.0", first, alias=with_convs),
        *weight_and_bias(f"{head}.fc7", "box_head.fcs.1", LINEAR, alias=with_convs),
        *weight_and_bias(f"{head}.{{i}}.0", "box_head.convs.{i}.conv"),
        Row(f"{head}.{{i}}.1.{{norm}}", "box_head.convs.{i}.norm.{norm}"),
        *weight_and_bias(f"{head}.{part.convs + 1}", "box_head.fcs.0", first),
        *weight_and_bias(f"{head}.{{number}}", "box_head.fcs.{number}", LINEAR),
        *weight_and_bias("roi_heads.box_predictor.cls_score", "box_head.cls_score", LINEAR),
        *weight_and_bias("roi_heads.box_predictor.bbox_pred", "box_head.bbox_pred", LINEAR),
    ]
    return Names(rows, {"norm": NORM, "number": number})


def read_structure(shapes: Shapes, what: str) -> dict[str, Any] | None:
    """Infer settings from arrays, of a cascade from those of its first stage."""
    stages = count_layers(shapes, "box_head.{}.cls_score.bias")
    head = "box_head.0" if stages else "box_head"
    convs = count_layers(shapes, head + ".convs.{}.conv.kernel")
    fcs = count_layers(shapes, head + ".fcs.{}.kernel")
    scores = next((kind for kind, file in _states().items() if file.read_structure(shapes, head)), None)
    more = SCORES[scores].more_logits if scores else 0
    found = {
        **({"box.scores": scores} if scores else {}),
        "box.convs": convs,
        "box.norm": norm_of(shapes, f"{head}.convs.0"),
        "box.fcs": fcs,
        "num_classes": shapes[f"{head}.cls_score.bias"][0] - 1 - more,
        "box.class_agnostic": shapes[f"{head}.bbox_pred.bias"][0] == 4,
    }
    if stages:
        found[_STAGES] = stages
    if convs:
        found["box.conv_dim"] = shapes[f"{head}.convs.0.conv.kernel"][-1]
    if fcs:
        found["box.fc_dim"] = shapes[f"{head}.fcs.0.kernel"][-1]
    if f"{head}.fc_norms.0.scale" in shapes:
        found["box.fc_norm"] = "bn"
    return found


def structure(config: ModelConfig) -> dict[str, Any]:
    """Return what `read_structure` infers for a model of this configuration."""
    part, classes = config.box, config.classes
    # With one class (and no slot for the background), class-agnostic arrays have the same shapes.
    ambiguous = classes.count + classes.offset == 1
    found = {
        **({"box.scores": part.scores} if SCORES[part.scores].names else {}),
        "box.convs": part.convs,
        "box.norm": norm_in_files(part.norm, part.conv_dim) if part.convs else "none",
        "box.fcs": part.fcs,
        "num_classes": classes.count,
        "box.class_agnostic": part.class_agnostic or ambiguous,
    }
    if len(part.stages) > 1:
        found[_STAGES] = len(part.stages)
    if part.convs:
        found["box.conv_dim"] = part.conv_dim
    if part.fcs:
        found["box.fc_dim"] = part.fc_dim
        if part.fc_norm != "none":
            found["box.fc_norm"] = norm_in_files(part.fc_norm)
    return found
