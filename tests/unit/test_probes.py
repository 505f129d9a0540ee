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
    has_symbol={"clear_relocate_add", *probes.TEXT_POKE_SYMBOLS}.__contains__,
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
    ("field", "names"),
    [
        ("config", {probes.INDIRECT_BRANCHES}),
        ("has_symbol", {probes.CLEARS_LATE, probes.TEXT_POKE}),
        ("objtool", {probes.DELAYED_OBJTOOL}),
        ("source", {probes.MODULE_COMMON, probes.MODPOST_MODULES}),
    ],
)
def test_each_answer_comes_from_its_own_evidence(field: str, names: set[str]) -> None:
    """A kernel with one change carried back answers the questions that it concerns otherwise, and no other."""
    assert probe(replace(OLD, **{field: getattr(NEW, field)})) == names
    assert probe(replace(NEW, **{field: getattr(OLD, field)})) == {p.name for p in PROBES} - names


@pytest.mark.parametrize("missing", probes.TEXT_POKE_SYMBOLS)
def test_all_that_writing_into_code_needs_must_be_there(missing: str) -> None:
    kernel = replace(NEW, has_symbol=lambda name: name != missing)
    assert probe(kernel) == {p.name for p in PROBES} - {probes.TEXT_POKE}


def test_the_builtin_command_is_the_module_one_without_module() -> None:
    assert for_builtin(NEW.objtool) == NEW.objtool[:-1]
