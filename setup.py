"""What pyproject.toml cannot say: the folder configs is a part of the package once it is installed."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxmaskrcnn*"]), "jaxmaskrcnn.configs"],
    package_dir={"jaxmaskrcnn.configs": "configs"},
)
