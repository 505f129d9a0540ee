# SPDX-License-Identifier: GPL-2.0-or-later
"""Which back end a kernel gets, and what is said where it can't take one."""

from __future__ import annotations

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.emit.backends import BACKENDS, choose_backend, preferred_backend
from kgbuild.kernel.feature_probes import (
    KGRAFT,
    KLP_CALLBACKS,
    KLP_RELOCATIONS,
    KPROBES,
    LIVEPATCH,
    LOOKUP_EXPORTED,
    PROBES,
    TEXT_POKE,
)

ALL = frozenset(p.name for p in PROBES)


def test_livepatch_relocations_are_preferred() -> None:
    assert choose_backend("", ALL, "k").name == "klp"
    assert choose_backend("", ALL - {KLP_RELOCATIONS}, "k").name == "kallsyms"
    assert preferred_backend(ALL - {KLP_RELOCATIONS}) == "kallsyms"
    assert preferred_backend(frozenset()) == ""


@pytest.mark.parametrize("name", BACKENDS)
def test_the_one_asked_for_is_taken_where_the_kernel_can(name: str) -> None:
    assert choose_backend(name, ALL, "k").name == name


@pytest.mark.parametrize("way", [KPROBES, LOOKUP_EXPORTED])
def test_one_way_to_look_names_up_is_enough(way: str) -> None:
    assert choose_backend("kallsyms", frozenset({way, TEXT_POKE, LIVEPATCH, KLP_CALLBACKS}), "k").name == "kallsyms"


def test_without_kprobes_and_export_it_says_which_back_end_would_do() -> None:
    with pytest.raises(Refused) as caught:
        choose_backend("kallsyms", ALL - {KPROBES, LOOKUP_EXPORTED}, "some-kernel")
    (refusal,) = caught.value.refusals
    assert (refusal.code, refusal.place) == ("B1-backend", "some-kernel")
    assert "CONFIG_KPROBES" in refusal.fact
    assert "--backend klp" in refusal.remedy


def test_a_kernel_that_takes_none_hears_of_each() -> None:
    with pytest.raises(Refused) as caught:
        choose_backend("", frozenset(), "some-kernel")
    (refusal,) = caught.value.refusals
    assert all(name in refusal.fact for name in BACKENDS)


def test_a_kernel_with_kgraft_alone_takes_that() -> None:
    """Whatever else of a newer kernel was carried back: without CONFIG_LIVEPATCH the others can't load."""
    assert choose_backend("", ALL - {LIVEPATCH}, "k").name == "kgraft"
    with pytest.raises(Refused) as caught:
        choose_backend("klp", ALL - {LIVEPATCH}, "k")
    assert "--backend kgraft" in caught.value.refusals[0].remedy
    with pytest.raises(Refused, match="CONFIG_KGRAFT"):
        choose_backend("kgraft", ALL - {KGRAFT}, "k")
