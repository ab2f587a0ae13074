"""What some libraries' models have and others' have not."""

import dataclasses

import pytest

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.extras import Extra, missing
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.names_files import classes_with_names, names_file

PLACES = ("backbone", "neck", "extractor", "trunk", "mask", "keypoints", "semantic")
KINDS = [(place, kind) for place in PLACES for kind in classes_with_names(place)]


@pytest.mark.parametrize(("place", "kind"), KINDS)
def test_a_library_that_has_a_part_has_names_for_it(place, kind):
    part = classes_with_names(place)[kind]
    file = names_file(part)
    assert set(file.LIBRARIES) <= set(LIBRARIES)
    # A trunk's layers are named by those of the backbone.
    arguments = {"backbone": ("",), "trunk": (ModelConfig().backbone,)}.get(place, ())
    for library in file.LIBRARIES:
        assert file.names(library, part(), *arguments).rows, library


def test_a_new_row_of_one_library_is_refused_in_all_others():
    extra = Extra(lambda c: c.box.fcs == 3, "its box head has three layers")
    config = ModelConfig(box=dataclasses.replace(ModelConfig().box, fcs=3))
    mmdet = dataclasses.replace(LIBRARIES["mmdet"], has=(*LIBRARIES["mmdet"].has, extra))
    others = [mmdet, *(library for name, library in LIBRARIES.items() if name != "mmdet")]
    found = {library.name: extra.text in missing(config, library, others) for library in others}
    assert found == {"mmdet": False, "torchvision": True, "detectron2": True, "matterport": True}
    assert extra.text not in missing(ModelConfig(), LIBRARIES["torchvision"], others)


def test_kinds_that_a_library_does_not_have_are_refused():
    start = ModelConfig().replace(LIBRARIES["matterport"].convention)
    with pytest.raises(UserError, match="its neck is 'pafpn', which no setting there describes; export it"):
        export_settings(start.replace({"neck": "pafpn"}), "matterport")
