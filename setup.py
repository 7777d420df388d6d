"""The packages; all else is in setup.cfg. schemas/ lies at the top of the repository and is installed as converters.schemas."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["converters", "converters.*"]), "converters.schemas"],
    package_dir={"converters.schemas": "schemas"},
)
