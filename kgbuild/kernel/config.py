# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel's configuration rules out: the refusals C1-config and C2-no-livepatch."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kgbuild.diagnostics.refusals import Refusal

# Option (every name it has had), and why code built with it is not handled.
_UNTESTED: tuple[tuple[str, str], ...] = (
    ("RANDSTRUCT", "members of structures are shuffled by a seed of the build"),
    ("RANDSTRUCT_FULL", "members of structures are shuffled by a seed of the build"),
    ("RANDSTRUCT_PERFORMANCE", "members of structures are shuffled by a seed of the build"),
    ("GCC_PLUGIN_RANDSTRUCT", "members of structures are shuffled by a seed of the build"),
    ("GCC_PLUGIN_LATENT_ENTROPY", "every build puts other constants into functions"),
    ("KASAN", "functions and data carry address sanitizer instrumentation"),
    ("KCSAN", "functions carry race detector instrumentation"),
    ("KCOV", "functions carry coverage instrumentation"),
    ("GCOV_KERNEL", "functions carry coverage instrumentation"),
    ("CFI_CLANG", "indirect calls check the type of what they call"),
    ("CFI", "indirect calls check the type of what they call"),
    ("LTO", "the compiler optimizes across translation units"),
    ("LTO_CLANG", "the compiler optimizes across translation units"),
    ("LTO_GCC", "the compiler optimizes across translation units"),
)

_SET = re.compile(r"^CONFIG_([A-Za-z0-9_]+)=(.*)$", re.MULTILINE)


def parse_config(text: str) -> dict[str, str]:
    """Options of a .config without CONFIG_, with their values ("y", "m", a number or a quoted string).

    An option that is not set is not in the result.
    """
    return {match.group(1): match.group(2).strip() for match in _SET.finditer(text)}


def check_config(text: str) -> list[Refusal]:
    """Everything in a kernel's .config that rules out a live patch; empty where nothing does."""
    options = parse_config(text)
    return [*_check_untested(options), *_check_livepatch(options)]


def _check_untested(options: Mapping[str, str]) -> list[Refusal]:
    found: dict[str, Refusal] = {}
    for option, reason in _UNTESTED:
        # One refusal a reason: RANDSTRUCT_FULL selects RANDSTRUCT.
        if options.get(option) == "y" and reason not in found:
            found[reason] = Refusal("C1-config", f"CONFIG_{option}", f"is set: {reason}")
    return list(found.values())


def _check_livepatch(options: Mapping[str, str]) -> list[Refusal]:
    if "y" in (options.get("LIVEPATCH"), options.get("KGRAFT")):
        return []
    return [Refusal("C2-no-livepatch", "CONFIG_LIVEPATCH", "is not set: this kernel can't load live patches")]
