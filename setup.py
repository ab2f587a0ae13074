"""What pyproject.toml cannot say: the folder configs is a part of the package once it is installed, and the
README becomes a page of a package index, where links to files of the repository lead nowhere."""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

_PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)]+)\)(\n\n\*[^*]+\*\n)?")  # with the caption below it
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)([^)]+)\)")


def index_page(readme: str, repository: str | None) -> str:
    """The README for a package index.

    Args:
        readme: The text, with links and pictures relative to the repository.
        repository: The repository's https address, or None where there is none.

    Returns:
        The text with absolute addresses; without a repository, links are plain text and pictures left out.
    """
    if repository is None:
        return _LINK.sub(r"\1", _PICTURE.sub("", readme))
    at = repository.rstrip("/")
    readme = _PICTURE.sub(rf"![\1]({at}/raw/HEAD/\2)\3", readme)
    return _LINK.sub(rf"[\1]({at}/blob/HEAD/\2)", readme)


if __name__ == "__main__":
    here = Path(__file__).parent
    project = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        packages=[*find_packages(include=["jaxmaskrcnn*"]), "jaxmaskrcnn.configs"],
        package_dir={"jaxmaskrcnn.configs": "configs"},
        long_description=index_page(
            (here / "README.md").read_text(encoding="utf-8"), project.get("urls", {}).get("Repository")
        ),
        long_description_content_type="text/markdown",
    )
