# SPDX-License-Identifier: GPL-2.0-or-later
"""The name of a live patch module: derived from a patch's, or given by the user and then checked by the rule."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from kgbuild.diagnostics.refusals import Refusal, Refused

# struct module has MODULE_NAME_LEN = 64 - sizeof(unsigned long) bytes for it, the last one 0
MAX_NAME = 55
_RULE = f"a module's name has letters, digits and _ or - (which is the same), at most {MAX_NAME} in all"
_PREFIX = "livepatch-"
_PATCH_ENDINGS = re.compile(r"(\.(patch|diff|mbox|eml|txt))?(\.(gz|xz|zst))?$", re.IGNORECASE)


def default_output(patch: str) -> Path:
    """The file that a module is written to where nothing is said, from the first patch's file name; always valid.

    The ending goes, each run of what is no letter or digit becomes one "-", and what is too long is cut, as upstream's
    scripts/livepatch/klp-build does.
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", _PATCH_ENDINGS.sub("", patch)).strip("-")
    name = f"{_PREFIX}{words or 'patch'}"[:MAX_NAME].rstrip("-")
    return Path(f"{name}.ko")


def patch_module_name(path: Path) -> str:
    """The module's name for an output path: `a-b.ko` is module `a_b`. Raises Refused (K16-name) with the rule."""
    name = path.name.removesuffix(".ko").replace("-", "_")
    if not re.fullmatch(r"[A-Za-z0-9_]+", name) or len(name) > MAX_NAME:
        fact = f"{name!r} has {len(name)} characters" if len(name) > MAX_NAME else f"{name!r} is no module name"
        raise Refused([Refusal("K16-name", path.name, f"{fact}; {_RULE}", symbol=name)])
    return name


def check_free(name: str, modules: Container[str], release: str) -> None:
    """Raise Refused (K16-name) where a module of this kernel has the name: the two could not be loaded together, and
    who loads one by its name gets the other."""
    if name in modules:
        fact = f"{name} is the name of one of the modules of {release}"
        raise Refused([Refusal("K16-name", f"{name}.ko", fact, symbol=name, remedy="choose another name with -o")])
