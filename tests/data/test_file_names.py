import json

import pytest
from PIL import Image

from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.data.coco.file_names import FileNames, leads_outside
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.image_folder import ImageFolder
from jaxmaskrcnn.data.inputs import find_files
from jaxmaskrcnn.data.records.prepare import prepare
from jaxmaskrcnn.errors import UserError


@pytest.mark.parametrize(
    ("files", "written", "expected"),
    [
        (["12.jpg", "12.json", "12.txt"], "12", "12.jpg"),
        (["a/12.JPG", "a/12.xml"], "a/12", "a/12.JPG"),
        (["12.json"], "12", None),
        (["in/12.jpg", "in/.ipynb_checkpoints/12.jpg"], "12.jpg", "in/12.jpg"),
        (["in/12.jpg", "in/._12.jpg"], "12", "in/12.jpg"),
        (["in/._12.jpg"], "x/._12.jpg", None),
    ],
)
def test_only_images_are_found_loosely(files, written, expected, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert FileNames(tmp_path).find({"file_name": written}).name == expected


def test_files_that_macos_and_jupyter_leave_behind_are_no_images(tmp_path):
    names = ("in/12.jpg", "in/._12.jpg", "in/._13.jpg", "in/.ipynb_checkpoints/12.jpg", "__MACOSX/in/14.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = ImageFolder(tmp_path)
    assert folder.names() == ["in/12.jpg"]
    assert folder.find("12.jpg", "here") == tmp_path / "in" / "12.jpg"
    assert FileNames(tmp_path).find({"file_name": "14.jpg"}).name is None
    assert find_files([str(tmp_path / "in")], SUFFIXES) == [tmp_path / "in" / "12.jpg"]


@pytest.fixture
def secret(tmp_path):
    """A file beside an image folder, and a folder whose name begins like it."""
    for name in ("images/inner/1.png", "secret.png", "images_more/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("written", ["../secret.png", "inner/../../secret.png", "{}/secret.png"])
def test_a_path_out_of_the_folder_is_followed_only_where_that_is_allowed(written, secret):
    entry = {"file_name": written.format(secret)}
    found = FileNames(secret / "images").find(entry)
    assert found.name is None and found.outside
    assert FileNames(secret / "images", allow_outside=True).find(entry) == (entry["file_name"], "", (), False)


@pytest.mark.parametrize("written", ["inner/1.png", "inner/../inner/1.png", "{}/images/inner/1.png"])
def test_a_path_that_stays_in_the_folder_is_followed(written, secret):
    name = written.format(secret)
    assert FileNames(secret / "images").find({"file_name": name}).name == name


def test_a_folder_whose_name_begins_alike_is_outside(secret):
    assert leads_outside("../images_more/2.png", secret / "images")
    assert not leads_outside("../images/2.png", secret / "images")


def test_a_file_of_the_folder_comes_before_one_outside(secret):
    """A path of another computer may lead somewhere here by chance."""
    Image.new("RGB", (8, 6)).save(secret / "images" / "secret.png")
    found = FileNames(secret / "images").find({"file_name": "../secret.png"})
    assert found.name == "secret.png" and not found.outside


def test_commands_refuse_files_outside_unless_they_are_allowed(secret, capsys):
    content = {
        "images": [
            {"id": 1, "file_name": "inner/1.png", "height": 6, "width": 8},
            {"id": 2, "file_name": "../secret.png", "height": 6, "width": 8},
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 12, "bbox": [1, 1, 4, 3],
             "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
            for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }  # fmt: skip
    annotations = secret / "annotations.json"
    annotations.write_text(json.dumps(content))
    inspect = ["inspect", str(annotations), f"--images={secret / 'images'}", "--count=0"]
    assert main(inspect) == 2
    assert (
        f"image 2 (../secret.png) leads out of the image folder {secret / 'images'}"
        in capsys.readouterr().out
    )
    assert main([*inspect, "--allow_outside"]) == 0

    with pytest.raises(UserError, match=r"leads out of the image folder .*data\.allow_outside=true"):
        prepare(annotations, secret / "images", secret / "cache")
    source = prepare(annotations, secret / "images", secret / "cache", reading=Reading(allow_outside=True))
    assert len(source) == 2
