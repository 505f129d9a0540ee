# SPDX-License-Identifier: GPL-2.0-or-later
"""What pyproject.toml can't say: the folder recipes/ at the top of the tree is the package kgbuild.recipes."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kgbuild", "kgbuild.*"]), "kgbuild.recipes"],
    package_dir={"kgbuild.recipes": "recipes"},
    package_data={"kgbuild": ["data/**/*", "py.typed"], "kgbuild.recipes": ["*.toml"]},
)
