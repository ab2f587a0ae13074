"""Configs of a few lines that describe more than a machine can hold: refused at once, with a sentence."""

import subprocess
import sys

import pytest

from jaxmaskrcnn.convert.config_files import config_from_file, config_from_mmdet_text
from jaxmaskrcnn.errors import UserError

DOUBLED = "a = dict(x=1)\n" + 60 * "a = dict(x=a, y=a)\n" + "model = dict(type='MaskRCNN')\n"
PYTHON = {
    "dictionaries that share their values": DOUBLED,
    "lists that share their values": "a = [0]\n" + 60 * "a = [a, a]\n" + "model = dict(type=a)\n",
    "a list of repeated lists": "a = [0] * 10000\nb = [a] * 10000\nc = [b] * 10000\nmodel = dict(type=c)\n",
    "squares": "a = 10**16\n" + 60 * "a = a * a\n" + "model = dict(type=a)\n",
    "negative squares": "a = -10**16\n" + 60 * "a = a * a * a\n" + "model = dict(type=a)\n",
    "text of large lists": "a = [0] * 10000\nb = [a] * 10000\nmodel = dict(type='%s' % b)\n",
    "text of a tuple": "a = [0] * 10000\nb = [a] * 10000\nmodel = dict(type='%s%s' % (b, b))\n",
    "formatted text": "a = 'xxxxxxxx'\n" + 60 * "a = f'{a}{a}'\n" + "model = dict(type=a)\n",
    "starred lists": "a = [0]\n" + 60 * "a = [*a, *a]\n" + "model = dict(type=a)\n",
    "many large lists": 3000 * "a = [0] * 9999\n" + "model = dict(type=a)\n",
    "a dictionary within itself": "a = dict(x=1)\na['y'] = a\nmodel = a\n",
    "a written number": f"model = dict(type={10**400})\n",
}
LINES = "".join(
    f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "".join(
    f"{b}: &{b}\n  <<: [{', '.join(9 * [f'*{a}'])}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
YAML = {
    "lists of aliases": f"a: &a [x]\n{LINES}MODEL: {{BACKBONE: {{NAME: *j}}}}\n",
    "merge keys": f"a: &a {{x: 1}}\n{MERGES}MODEL: {{BACKBONE: *j}}\n",
    "a list within itself": "a: &a [*a]\nMODEL: {BACKBONE: {NAME: *a}}\n",
    "a hexadecimal number": f"MODEL: {{MASK_ON: 0x{'f' * 10_000}}}\n",
    "a number as text": f"MODEL: {{MASK_ON: '0x{'f' * 10_000}'}}\n",
    "a number": f"MODEL: {{MASK_ON: {'9' * 5000}}}\n",
    "another person's home": "_BASE_: ~nobody_of_this_name/x.yaml\n",
}

# A process of its own for each file, so that one that never ends is ended.
CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.errors import UserError
for path in sys.argv[1:]:
    try:
        config_from_file(path)
    except UserError as error:
        print(str(error)[:1000].count(chr(10)), len(str(error)) < 1000, path in str(error))
"""


def test_every_file_is_refused_at_once(tmp_path):
    paths = []
    for suffix, texts in (("py", PYTHON), ("yaml", YAML)):
        for i, text in enumerate(texts.values()):
            paths.append(tmp_path / f"{i}.{suffix}")
            paths[-1].write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, paths)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    said = dict(zip([*PYTHON, *YAML], done.stdout.splitlines(), strict=True))
    assert set(said.values()) == {"0 True True"}, said


def test_a_config_within_a_checkpoint_has_the_same_limits():
    with pytest.raises(UserError, match="model.pth holds more than 100000 values"):
        config_from_mmdet_text(DOUBLED, "model.pth")


def test_configs_may_use_a_part_several_times(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {PIXEL_MEAN: &a [3.0, 2.0, 1.0], PIXEL_STD: *a}\n")
    config = config_from_file(path)
    assert config.input.pixel_std == config.input.pixel_mean
