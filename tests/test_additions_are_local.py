"""Which files of the package know a part, beside the part's own: what adding the next one would change."""

import ast
import io
import re
import tokenize

import pytest
from folders import ROOT

PACKAGE = ROOT / "jaxmaskrcnn"
# Of each part, words that only it has in code; the files that came with it; those that were there before.
PARTS = {
    "CARAFE": (
        r"carafe",
        "config/carafe models/carafe models/carafe_names models/necks/carafe_fpn "
        "models/necks/carafe_fpn_names",  # and ops/carafe, which has no such word
        "config/__init__ zoo/mmdet_blocks",
    ),
    "GRoIE": (
        r"groie",
        "config/groie models/groie models/groie_names",  # and ops/position_attention, which has no such word
        "config/__init__ zoo/mmdet_blocks",
    ),
    "the seesaw loss": (
        r"seesaw|two_softmaxes|region_?counts|mitigation",
        "losses/seesaw models/heads/region_counts models/heads/region_counts_names zoo/mmdet_seesaw",
        "config/class_scores zoo/__init__",
    ),
    "predictors of cosines": (
        r"cosine_scale|Cosine|cosines",
        "convert/mmdet/cosines models/cosine zoo/mmdet_seesaw",
        "config/heads convert/mmdet/table models/predictors",
    ),
    "Soft-NMS": (
        r"soft_?nms|nms_sigma|nms_min_score",
        "convert/mmdet/soft_nms ops/soft_nms",
        "config/inputs convert/mmdet/nms models/suppression ops/__init__ zoo/mmdet_blocks",
    ),
    "HRNet": (
        r"hrnet|hrfpn",
        "config/hrnet models/backbones/hrnet models/backbones/hrnet_names models/necks/hrfpn "
        "models/necks/hrfpn_names",
        "config/__init__ zoo/mmdet_blocks",
    ),
}


def code(text):
    """A file's text without its comments and docstrings, which may name a part as an example."""
    tree = ast.parse(text)
    places = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {
        node.body[0].lineno
        for node in ast.walk(tree)
        if isinstance(node, places) and ast.get_docstring(node, clean=False) is not None
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(
        token.string
        for token in tokens
        if token.type != tokenize.COMMENT and not (token.type == tokenize.STRING and token.start[0] in docs)
    )


@pytest.fixture(scope="module")
def codes():
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    words = re.compile("|".join(pattern for pattern, _, _ in PARTS.values()), re.IGNORECASE)
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): code(text)
        for path, text in texts.items()
        if words.search(text)
    }


@pytest.mark.parametrize("part", PARTS)
def test_few_files_know_a_part(part, codes):
    pattern, own, others = PARTS[part]
    flags = 0 if "Cosine" in pattern else re.IGNORECASE
    known = {name for name, text in codes.items() if re.search(pattern, text, flags)}
    assert known == {*own.split(), *others.split()}
    assert len(others.split()) <= 5
