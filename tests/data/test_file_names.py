import pytest

from jaxmaskrcnn.data.coco.file_names import FileNames
from jaxmaskrcnn.data.images import SUFFIXES
from jaxmaskrcnn.data.importers.image_folder import ImageFolder
from jaxmaskrcnn.data.inputs import find_files


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
