"""Commands name a setting as it is typed, and no field of a class."""

import json

import pytest
from data.test_spellings import good

from jaxmaskrcnn.cli.main import main as command


@pytest.mark.parametrize(("flags", "said"), [
    (["--intensity=range"], "--intensity_range is not given; with --intensity=range give the two values"),
    (["--intensity=range", "--intensity_range=5,1"], "--intensity_range is 5,1; with --intensity=range give"),
    (["--intensity=range", "--intensity_range=nan,1"], "--intensity_range is nan,1; with --intensity=range"),
    (["--intensity_range=0,5"], "--intensity_range is 0,5, which has no effect with --intensity=dtype"),
    (["--intensity=percentile", "--intensity_range=0,5"], "no effect with --intensity=percentile; give"),
    (["--page=-2"], "--page is -2; pages are counted from 0"),
    (["--max_size=99999999999"], "--max_size is 99999999999; give less than"),
    (["--min_size=0"], "--min_size is 0; give 1 or more"),
])  # fmt: skip
def test_inspect(flags, said, tmp_path, capsys):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(good()))
    assert command(["inspect", str(path), "--count=0", *flags]) == 2
    told = capsys.readouterr().err
    assert said in told and "Config" not in told and "data." not in told


@pytest.mark.parametrize("flag", ["score_threshold=1.5", "score_threshold=nan", "batch_size=0"])
def test_predict(flag, tmp_path, capsys):
    (tmp_path / "a.png").touch()
    assert command(["predict", str(tmp_path / "a.png"), f"--checkpoint={tmp_path}", f"--{flag}"]) == 2
    assert f"--{flag.replace('=', ' is ')}; give" in capsys.readouterr().err
