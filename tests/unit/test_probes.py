# SPDX-License-Identifier: GPL-2.0-or-later
"""Each probe's yes and no, on evidence as an older and a newer kernel give it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgbuild.analysis import probes
from kgbuild.analysis.probes import PROBES, Evidence, for_builtin, probe

GETOPT = 'while ((opt = getopt(argc, argv, "{}")) != -1) {{'
OLD = Evidence(
    config=frozenset({"# CONFIG_X86_KERNEL_IBT is not set"}),
    has_symbol=lambda name: False,
    source={probes.MODPOST_SOURCE: GETOPT.format("ei:mnT:o:aWwENd:")}.get,
    objtool=("./tools/objtool/objtool", "--orc"),
)
NEW = Evidence(
    config=frozenset({"CONFIG_X86_KERNEL_IBT=y"}),
    has_symbol=lambda name: name == "clear_relocate_add",
    source={
        probes.MODPOST_SOURCE: GETOPT.format("ei:MmnT:to:au:WwENd:"),
        probes.MODULE_COMMON_SOURCE: "#include <linux/module.h>",
    }.get,
    objtool=("./tools/objtool/objtool", "--orc", "--link", "--module"),
)


def test_names_are_unique() -> None:
    assert len({p.name for p in PROBES}) == len(PROBES)


def test_an_older_kernel_says_no_to_all() -> None:
    assert probe(OLD) == frozenset()


def test_a_newer_one_says_yes_to_all() -> None:
    assert probe(NEW) == {p.name for p in PROBES}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("config", probes.INDIRECT_BRANCHES),
        ("has_symbol", probes.CLEARS_LATE),
        ("objtool", probes.DELAYED_OBJTOOL),
    ],
)
def test_each_answer_comes_from_its_own_evidence(field: str, name: str) -> None:
    """A kernel with one change carried back answers that one question otherwise."""
    assert probe(replace(OLD, **{field: getattr(NEW, field)})) == {name}
    assert probe(replace(NEW, **{field: getattr(OLD, field)})) == {p.name for p in PROBES} - {name}


def test_a_source_without_modpost_is_no_new_one() -> None:
    assert probe(replace(NEW, source=lambda path: None)) == {
        probes.CLEARS_LATE,
        probes.DELAYED_OBJTOOL,
        probes.INDIRECT_BRANCHES,
    }


def test_the_builtin_command_is_the_module_one_without_module() -> None:
    assert for_builtin(NEW.objtool) == NEW.objtool[:-1]
