"""Polygons far outside of any image are refused before they are drawn, by one rule at every door."""

import json

import pytest
from data.test_spellings import good, saved

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.importers.points import polygon
from jaxmaskrcnn.data.importers.shapes import unite, with_holes
from jaxmaskrcnn.errors import UserError

NEAR, FAR = 999_999.0, 1_000_001.0


def ring(x):
    return [5.0, 6.0, x, 6.0, 25.0, 36.0]


def studio(x, size=(60, 80)):
    """Label Studio's json, in percent of the image."""
    points = [[x / size[1] * 100, 10], [50, 10], [50, 90]]
    region = {
        "type": "polygonlabels", "original_width": size[1], "original_height": size[0], "from_name": "l",
        "to_name": "i", "value": {"points": points, "polygonlabels": ["cat"]},
    }  # fmt: skip
    return [{"id": 1, "data": {"image": "1.png"}, "annotations": [{"result": [region]}]}]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_is_the_same_at_every_door(sign, tmp_path, capsys):
    data = good()
    for x, code in ((NEAR, 0), (FAR, 2), (1e8, 2), (1e300, 2)):
        data["annotations"][0] |= {"segmentation": [ring(sign * x)], "bbox": None, "area": None}
        path, images = saved(tmp_path, data)
        assert command(["inspect", str(path), "--count=0"]) == code
        if code:
            assert "which lies far outside of any image" in capsys.readouterr().out
            with pytest.raises(UserError, match="lies far outside of any image"):
                prepare(path, images, tmp_path / "cache")
        tasks = tmp_path / "tasks.json"
        tasks.write_text(json.dumps(studio(sign * x)))
        output = f"--output={tmp_path / 'o.json'}"
        arguments = ["import", str(tasks), "--format=label-studio", f"--images={images}", output]
        assert command(arguments) == code
        assert ("far from its image of 80 x 60 pixels" in capsys.readouterr().err) == bool(code)


def test_shapes_of_importers():
    size = (60, 80)
    assert polygon([[0, 0], [NEAR, 0], [5, 5]], "a", size)[2] == NEAR
    with pytest.raises(UserError, match="a has the x coordinate 1e.06, far from its image"):
        polygon([[0, 0], [FAR, 0], [5, 5]], "a", size)
    with pytest.raises(UserError, match="lies far outside"):
        with_holes(ring(40.0), [ring(FAR)], *size, "a")
    rle = with_holes(ring(40.0), [ring(20.0)], *size, "a")
    assert unite([ring(FAR), rle], *size) == [ring(FAR)]  # is not drawn; the checks of the object say why
