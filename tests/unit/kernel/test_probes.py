# SPDX-License-Identifier: GPL-2.0-or-later
"""Each probe's yes and no, on evidence as an older and a newer kernel give it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgbuild.kernel import feature_probes
from kgbuild.kernel.feature_probes import PROBES, ProbeEvidence, for_builtin, probe

GETOPT = 'while ((opt = getopt(argc, argv, "{}")) != -1) {{'
EACH = "int kallsyms_on_each_symbol(int (*fn)(void *, const char *, {}unsigned long),\n\t\t\t    void *data);\n"
OLD = ProbeEvidence(
    config={},
    has_symbol=lambda name: False,
    source={
        feature_probes.MODPOST_SOURCE: GETOPT.format("ei:mnT:o:aWwENd:"),
        feature_probes.KALLSYMS_HEADER: EACH.format("struct module *,\n\t"),
    }.get,
    objtool=("./tools/objtool/objtool", "--orc"),
)
NEW = ProbeEvidence(
    config=dict.fromkeys(("X86_KERNEL_IBT", "KPROBES", "LIVEPATCH", "KGRAFT"), "y"),
    has_symbol={
        "clear_relocate_add",
        "blocking_notifier_call_chain_robust",
        *feature_probes.TEXT_POKE_SYMBOLS,
        *feature_probes.SYNCS,
    }.__contains__,
    source={
        feature_probes.MODPOST_SOURCE: GETOPT.format("ei:MmnT:to:au:WwENd:"),
        feature_probes.MODULE_COMMON_SOURCE: "#include <linux/module.h>",
        feature_probes.KALLSYMS_HEADER: EACH.format(""),
        feature_probes.LIVEPATCH_HEADER: (
            "struct klp_callbacks {\nstruct klp_state {\nint klp_register_patch(struct klp_patch *);\n"
        ),
        feature_probes.LIVEPATCH_ARCH: 'strncmp(".klp.arch.", name, 10)',
        feature_probes.KGRAFT_HEADER: "struct kgr_patch {\n",
        feature_probes.LIVEPATCH_SOURCE: "\t\tif (sym->st_shndx != SHN_LIVEPATCH) {\n",
    }.get,
    objtool=("./tools/objtool/objtool", "--orc", "--link", "--module"),
    exported={"register_kprobe", "kallsyms_lookup_name"}.__contains__,
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
        ("config", {feature_probes.INDIRECT_BRANCHES, feature_probes.LIVEPATCH}),
        (
            "has_symbol",
            {
                *(feature_probes.CLEARS_LATE, feature_probes.TEXT_POKE, feature_probes.SYNC_EACH_CPU),
                feature_probes.MODULES_REFUSED,
            },
        ),
        ("objtool", {feature_probes.DELAYED_OBJTOOL}),
        (
            "source",
            {
                *(
                    feature_probes.MODULE_COMMON,
                    feature_probes.MODPOST_MODULES,
                    feature_probes.KLP_RELOCATIONS,
                    feature_probes.EACH_PLAIN,
                ),
                *(
                    feature_probes.KLP_CALLBACKS,
                    feature_probes.KLP_STATES,
                    feature_probes.REGISTERS,
                    feature_probes.KLP_ARCH,
                ),
            },
        ),
        ("exported", {feature_probes.LOOKUP_EXPORTED}),
    ],
)
def test_each_answer_comes_from_its_own_evidence(field: str, names: set[str]) -> None:
    """A kernel with one change carried back answers the questions that it concerns otherwise, and no other."""
    several = {
        feature_probes.KPROBES: ("config", "exported"),
        feature_probes.KGRAFT: ("config", "has_symbol", "source"),
    }
    both = {name for name, fields in several.items() if field in fields}
    assert probe(replace(OLD, **{field: getattr(NEW, field)})) == names
    assert probe(replace(NEW, **{field: getattr(OLD, field)})) == {p.name for p in PROBES} - names - both


@pytest.mark.parametrize("missing", feature_probes.TEXT_POKE_SYMBOLS)
def test_all_that_writing_into_code_needs_must_be_there(missing: str) -> None:
    kernel = replace(NEW, has_symbol=lambda name: name != missing)
    assert probe(kernel) == {p.name for p in PROBES} - {feature_probes.TEXT_POKE, feature_probes.KGRAFT}


@pytest.mark.parametrize("name", feature_probes.SYNCS)
def test_either_name_of_what_makes_cpus_see_code_will_do(name: str) -> None:
    features = probe(replace(OLD, has_symbol={*feature_probes.TEXT_POKE_SYMBOLS, name}.__contains__))
    assert feature_probes.TEXT_POKE in features
    assert feature_probes.text_poke_symbols(features) == (*feature_probes.TEXT_POKE_SYMBOLS, name)


def test_code_can_not_be_written_where_neither_name_is_there() -> None:
    features = probe(replace(OLD, has_symbol=set(feature_probes.TEXT_POKE_SYMBOLS).__contains__))
    assert feature_probes.TEXT_POKE not in features


def test_the_builtin_command_is_the_module_one_without_module() -> None:
    assert for_builtin(NEW.objtool) == NEW.objtool[:-1]
