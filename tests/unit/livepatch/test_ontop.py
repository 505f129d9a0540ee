# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of older patches when a new one is loaded."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from kgbuild.closure.model import NewVariable
from kgbuild.elf.consts import SHF, STB, STT
from kgbuild.elf.write import OutSymbol
from kgbuild.errors import UserError
from kgbuild.livepatch.cumulative import Lost, Older, Patched, active, check_kernel, put_on_top
from kgbuild.livepatch.data_handover import warn_of_lost_values
from kgbuild.verification.reading.patch_manifest import read_older
from tests.support.small_module import Small

A, W = SHF.ALLOC, SHF.WRITE

F, G, H = (Patched("vmlinux", name, 0) for name in "fgh")
IN_MODULE = Patched("af_key", "f", 2)


def older(name: str, *functions: Patched, replace: bool = True, states: Mapping[int, int] | None = None) -> Older:
    return Older(name, "debian:x", {"vmlinux": "aa"}, frozenset(functions), replace, states or {})


def codes(*args: object, **options: object) -> list[str]:
    return sorted(r.code for r in put_on_top(*args, **options).refusals)  # type: ignore[arg-type]


def test_one_that_replaces_leaves_nothing_before_it() -> None:
    a, b, c = older("a", F), older("b", G, replace=False), older("c", H)
    assert active([a, b]) == (a, b)
    assert active([a, b, c]) == (c,)
    assert active([]) == ()


def test_a_cumulative_patch_loses_nothing() -> None:
    found = put_on_top("new", [F, G, H], {}, True, [older("a", F), older("b", G, replace=False)], [])
    assert not found.taken_back
    assert not found.refusals


def test_each_function_that_is_lost_is_named() -> None:
    found = put_on_top("new", [F], {}, True, [older("a", F, G, IN_MODULE)], [])
    assert [str(t.function) for t in found.taken_back] == ["af_key:f", "g"]
    assert [(r.code, r.symbol) for r in found.refusals] == [("L2-taken-back", "af_key:f"), ("L2-taken-back", "g")]


def test_what_was_replaced_already_is_not_lost_again() -> None:
    assert codes("new", [G], {}, True, [older("a", F), older("b", G)], []) == []


@pytest.mark.parametrize(("drop", "left"), [(["g"], ["af_key:f"]), (["f"], ["g"]), (["af_key:f", "vmlinux:g"], [])])
def test_drop(drop: list[str], left: list[str]) -> None:
    found = put_on_top("new", [F], {}, True, [older("a", F, G, IN_MODULE)], drop)
    assert [r.symbol for r in found.refusals] == left
    assert not found.unused


def test_a_drop_of_what_is_kept_is_unused() -> None:
    assert put_on_top("new", [F], {}, True, [older("a", F)], ["f", "nix"]).unused == ("f", "nix")


def test_stacked_on_the_same_function() -> None:
    found = put_on_top("new", [F, H], {}, False, [older("a", F, G)], [])
    assert [(t.function, t.how) for t in found.taken_back] == [(F, "covered")]
    assert [r.code for r in found.refusals] == ["L3-covered"]
    assert codes("new", [H], {}, False, [older("a", F, G)], []) == []


LINE = Lost("a", "f", "x.c", 7)
BESIDE = Lost("a", "x.c", "x.c", 2)


def lost(drop: list[str], *found: Lost, mine: list[Patched] | None = None) -> list[tuple[str, str]]:
    result = put_on_top("new", mine or [F, G], {}, True, [older("a", F, G)], drop, found)
    assert not result.unused
    return [(r.code, r.symbol) for r in result.refusals]


def test_a_change_of_a_function_that_both_have() -> None:
    assert lost([], LINE) == [("L2-taken-back", "f")]
    assert lost([], LINE, BESIDE) == [("L2-taken-back", "f"), ("L2-taken-back", "x.c")]
    assert lost(["f"], LINE) == lost(["vmlinux:f"], LINE) == []
    found = put_on_top("new", [F], {}, True, [older("a", F)], ["f"], [LINE])
    assert found.warnings == ("f: a has a change at x.c:7 that is missing in this patch's source; accepted by --drop",)


def test_what_is_beside_functions_goes_with_all_of_them() -> None:
    other = Lost("a", "g", "x.c", 30)
    assert lost(["f"], LINE, BESIDE) == []
    assert lost(["f"], LINE, BESIDE, other) == [("L2-taken-back", "x.c"), ("L2-taken-back", "g")]
    assert lost(["f", "g"], LINE, BESIDE, other) == []
    assert lost([], BESIDE) == [("L2-taken-back", "x.c")]
    assert lost(["x.c"], BESIDE) == []


def test_a_function_that_goes_as_a_whole_is_named_once() -> None:
    assert lost([], LINE, mine=[G]) == [("L2-taken-back", "f")]
    assert lost(["f"], LINE, BESIDE, mine=[G]) == []


def test_a_patch_that_does_not_say_what_it_changes() -> None:
    assert lost([], Lost("a")) == [("L2-taken-back", "f"), ("L2-taken-back", "g")]
    assert lost(["f"], Lost("a")) == [("L2-taken-back", "g")]
    assert lost([], Lost("b", "f", "x.c", 7)) == []  # replaced by the other already
    assert codes("new", [F], {}, False, [older("a", G)], [], [LINE]) == []


def test_the_position_is_part_of_a_function() -> None:
    """c_start is three functions of vmlinux."""
    first, third = Patched("vmlinux", "c_start", 1), Patched("vmlinux", "c_start", 3)
    assert codes("new", [third], {}, False, [older("a", first)], []) == []
    assert codes("new", [third], {}, True, [older("a", first)], []) == ["L2-taken-back"]


@pytest.mark.parametrize(
    ("mine", "theirs", "replace", "refused"),
    [
        ({1: 2}, {1: 2}, True, False),
        ({1: 3}, {1: 2}, True, False),
        ({1: 1}, {1: 2}, True, True),
        ({}, {1: 2}, True, True),
        ({}, {1: 2}, False, False),
        ({1: 1}, {1: 2}, False, True),
        ({9: 1}, {}, True, False),
    ],
)
def test_states(mine: dict[int, int], theirs: dict[int, int], replace: bool, refused: bool) -> None:
    """As klp_is_patch_compatible() decides."""
    functions = [F] if replace else [G]
    found = codes("new", functions, mine, replace, [older("a", F, states=theirs)], [])
    assert found == (["L4-state"] if refused else [])


def test_names_differ() -> None:
    assert codes("a", [F], {}, True, [older("a", F)], []) == ["L5-name"]
    assert codes("n", [F], {}, True, [older("a", F), older("a", F)], []) == ["L5-name"]


def test_another_kernel() -> None:
    assert check_kernel([older("a", F)], {"vmlinux": "aa"}) == []
    assert [r.code for r in check_kernel([older("a", F)], {"vmlinux": "bb"})] == ["L1-kernel"]
    assert check_kernel([older("a", F)], {"af_key": "bb"}) == []


# -- variables ---------------------------------------------------------------------------------------------------------


def with_data(name: str, *data: NewVariable, replace: bool = True) -> Older:
    return Older(name, "debian:x", {"vmlinux": "aa"}, frozenset((F,)), replace, data=data)


READS = NewVariable("vmlinux", "fs/a.c", "reads", 4)


@pytest.mark.parametrize(
    ("mine", "again"),
    [
        (READS, True),
        (READS._replace(size=8), True),
        (READS._replace(object="", unit=""), True),
        (READS._replace(name="writes"), False),
        (READS._replace(unit="fs/b.c"), False),
        (READS._replace(object="fat"), False),
    ],
)
def test_a_variable_of_both_begins_anew(mine: NewVariable, again: bool) -> None:
    """Objects and units are distinguished where both are known."""
    stacked = list(warn_of_lost_values([with_data("a", READS)], [mine], replace=False))
    assert [t.partition(";")[0] for t in stacked] == [
        "reads of a begins again with the initial value in this patch"
    ] * again
    replaced = list(warn_of_lost_values([with_data("a", READS)], [mine], replace=True))
    lost = "the value of reads goes with a, and this patch has no such variable"
    assert [t.partition(";")[0] for t in replaced] == [stacked[0].partition(";")[0] if again else lost]


def test_static_locals_are_numbered_anew() -> None:
    older = with_data("a", READS._replace(name="n.12"), READS._replace(name="m.3"))
    mine = [READS._replace(name="n.4"), READS._replace(name="m.3")]
    (said,) = warn_of_lost_values([older], mine, replace=True)
    assert said.startswith("m.3 and n.12 of a begin again with the initial value in this patch; ")


def test_nothing_is_said_where_nothing_is_lost() -> None:
    assert not list(warn_of_lost_values([with_data("a")], [READS], replace=True))
    assert not list(warn_of_lost_values([], [READS], replace=True))


class SmallOlder(Small):
    """A patch module with variables of its own and of the wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.note["kernel"] = {"name": "debian:x", "version": "1"}
        self.data_object("kgbuild_replace", self.section(".rodata.kgbuild_replace", A, struct.pack("<I", 1)))
        for section, name in (
            (".data.reads", "reads"),
            (".data.n.12", "n.12"),
            (".data.once", "__already_done.3"),
            (".data..percpu", "each"),
            (".rodata.fixed", "fixed"),
            (".data", "wrapper"),
        ):
            made = self.section(section, A if section == ".rodata.fixed" else A | W, bytes(8), align=8)
            self.symbol(OutSymbol(name, made, 0, 8, STB.LOCAL, STT.OBJECT))


def test_variables_by_the_symbols_of_a_module_that_does_not_name_them() -> None:
    found = read_older(SmallOlder().data, "older.ko")
    assert [v.name for v in found.data] == ["reads", "n.12", "each"]
    assert found.data[0] == NewVariable("", "", "reads", 8)


def test_variables_that_the_note_names() -> None:
    small = SmallOlder()
    small.note["data"] = [{**READS._asdict(), "more": "of a later version"}]
    assert read_older(small.data, "older.ko").data == (READS,)


@pytest.mark.parametrize("said", [7, [7], [{"object": "vmlinux"}], ["reads"]])
def test_a_note_that_is_not_understood(said: object) -> None:
    small = SmallOlder()
    small.note["data"] = said
    with pytest.raises(UserError, match="not understood"):
        read_older(small.data, "older.ko")
