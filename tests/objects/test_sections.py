# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections of several variables: the end of an array, and places before its first byte, are the array's, whatever lies
there. The assembler that kgbuild puts before gcc's keeps the names; where there are none, nothing is guessed."""

from __future__ import annotations

import subprocess

import pytest

from kgbuild.diff.changes import compute_changes
from kgbuild.elf.consts import STT
from kgbuild.elf.read import read
from kgbuild.host.compile.assembler import make_assembler, restore_types
from kgbuild.objects.view import View
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.kernel import Patched, close_text, make_module
from tests.support.toolchain import CC, PAIRS, assembler, compile_file, compile_text, convert, pair_flags, scratch, view

HEAD = """
#pragma GCC diagnostic ignored "-Warray-bounds"
#define HOT section(".data..read_mostly")
#define ONCE section(".data..ro_after_init")
#define EACH section(".data..percpu")
"""
LOOP = "noinline int sum(void) { int s = 0, *p; for (p = %s; p != %s; p%s) { s += *p%s; barrier(); } return s; }\n"
KINDS = (STT.OBJECT, STT.FUNC, 10)  # no indirect function
BODY = "#ifdef PATCHED\n#define MORE * 3\n#else\n#define MORE\n#endif\n"
SETS = "noinline void set(int i, int v) { array[i] = v; third[i & 1] += v; %s }\n"
GONE = """
static int third[2] HOT = { 5, 6 };
#ifndef PATCHED
static int gone[2] HOT = { 1000, 2000 };
#define TOO gone[i & 1] += v; sink(gone);
#else
#define TOO
#endif
static int array[8] HOT = { 10, 11 };
"""
NEW = """
static int third[2] HOT = { 5, 6 };
static int array[8] HOT = { 10, 11 };
#ifdef PATCHED
static int fresh[2] HOT = { 1, 2 };
#define TOO fresh[i & 1] += v; sink(fresh);
#else
#define TOO
#endif
"""


def loop(first: str, last: str, step: str = "++") -> str:
    return BODY + LOOP % (first, last, step, " MORE") + SETS % "TOO"


def relocations(p: Patched, function: str) -> list[tuple[str, int]]:
    """(symbol, addend) of the data that a function of the module refers to."""
    linked, _ = make_module(p.closure)
    found = View(read(linked))
    (atom,) = found.by_name[function]
    out = []
    for _, kind, symbol, addend in found.relocs_in(atom.section, atom.offset, atom.offset + atom.size):
        name = found.obj.name_of(symbol)
        if kind not in (2, 4):  # R_X86_64_PC32, R_X86_64_PLT32
            out.append((name.removeprefix(".klp.sym.vmlinux.").partition(",")[0], addend))
    return sorted(out)


@pytest.mark.parametrize("section", ["HOT", "ONCE", "EACH"])
def test_the_end_of_an_array_is_the_arrays(section: str) -> None:
    text = HEAD + (GONE + loop("array", "array + 8")).replace("HOT", section)
    p = close_text(text)
    assert not p.closure.refusals
    assert {c.patched.name for u in p.closure.units for c in u.changes.changed} == {"sum", "set"}
    assert relocations(p, "sum") == [("array", 0), ("array", 32)]


def test_a_new_variable_at_the_end_of_an_array() -> None:
    p = close_text(HEAD + NEW.replace("array[8]", "array[8]") + loop("array", "array + 8"))
    assert not p.closure.refusals
    assert p.roles("data") == ["fresh"]
    assert relocations(p, "sum") == [("array", 0), ("array", 32)]


@pytest.mark.parametrize("variables", [GONE, NEW])
def test_a_place_before_the_first_byte(variables: str) -> None:
    text = "noinline int at(int *p) { return (p == array - 1) MORE; }\n"
    p = close_text(HEAD + variables + BODY + text + SETS % "TOO")
    assert not p.closure.refusals
    assert relocations(p, "at") == [("array", -4)]


def test_what_lies_behind_changes_nothing_for_the_loop() -> None:
    """A near miss: the loop itself is as it was."""
    text = HEAD + GONE + LOOP % ("array", "array + 8", "++", "") + SETS % "TOO"
    p = close_text(text)
    assert [c.patched.name for u in p.closure.units for c in u.changes.changed] == ["set"]


def test_an_end_in_data() -> None:
    text = """
static int *const end HOT = array + 8; static int *volatile at HOT = array;
noinline int next(void) { if (at == end) at = array; return *at++ MORE; }
"""
    p = close_text(HEAD + NEW + BODY + text + SETS % "TOO")
    assert not p.closure.refusals
    assert p.bound["at"] == "klp"
    assert ("array", 32) in relocations(p, "next")


def test_the_end_of_a_string_is_the_strings() -> None:
    text = (
        BODY
        + """
noinline int sum(void) { int s = 0; const char *p;
	for (p = "aeiou"; p != "aeiou" + 6; p++) { s += *p MORE; barrier(); } sink("other"); return s; }
"""
    )
    p = close_text(text)
    (string,) = [
        m.atom
        for m in p.closure.members.values()
        if m.atom.kind == "string"
        and m.atom.size == 6
        and p.closure.units[0].changes.patched.content(m.atom) == b"aeiou\0"
    ]
    found = p.closure.units[0].changes.patched
    (function,) = found.by_name["sum"]
    assert sorted(r.delta for r in found.refs(function) if r.atom == string.id) == [0, 6]


def test_the_end_of_another_string_is_another_place() -> None:
    text = """
noinline int at(const char *p) { return p == %s + 6; }
noinline const char *strings(void) { sink("aeiou"); sink("other"); return "third"; }
"""
    flags = pair_flags()
    sides = [view(compile_text('#include "kernel.h"\n' + text % s, *flags)) for s in ('"aeiou"', '"other"')]
    assert [c.patched.name for c in compute_changes(*sides, "unit.c").changed] == ["at"]


# -- objects in which variables have no names ----------------------------------------------------------------------


def plain(text: str, *flags: str) -> bytes:
    """An object as the compiler's own assembler writes it."""
    path = scratch() / "plain.c"
    path.write_text(f'#include "kernel.h"\n{text}')
    out = scratch() / "plain.o"
    argv = [CC, *pair_flags(flags), "-I", PAIRS, "-c", path, "-o", out]
    subprocess.run(argv, check=True, capture_output=True)
    return out.read_bytes()


def test_without_names_nothing_is_guessed() -> None:
    """The loop's end may be that of the array, or the start of what comes next; only a change beside it makes it so."""
    text = HEAD + GONE + LOOP % ("array", "array + 8", "++", "") + SETS % "TOO"
    sides = [plain(text, *flags) for flags in ((), ("-DPATCHED",))]
    found = diff_objects(*(read_relocatable(data, "unit.o") for data in sides), "unit.c")
    reasons = {c.name: c.reason.kind for c in found.changed}
    assert reasons == {"set": "code", "sum": "ambiguous"}
    same = diff_objects(*(read_relocatable(data, "unit.o") for data in (sides[0], sides[0])), "unit.c")
    assert not same.changed


def test_without_names_a_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.toolchain.assembler", lambda: ())
    p = close_text(HEAD + "/* no names */" + GONE + loop("array", "array + 8"))
    assert {r.code for r in p.closure.refusals} == {"K13-ambiguous"}
    facts = [r.fact for r in p.closure.refusals if r.symbol == "sum"]
    assert any("may mean third or the end of array" in f for f in facts), facts
    # where all lies as it lay, each meaning is the same place
    p = close_text(HEAD + "/* no names */" + GONE.replace("PATCHED", "NEVER") + loop("array", "array + 8"))
    assert not p.closure.refusals


# -- the assembler -------------------------------------------------------------------------------------------------


def test_only_gccs_own_lines_are_changed() -> None:
    text = b"\t.type\ta, @object\n#APP\n\t.type\tb, @object\n#NO_APP\n\t.type\tc, @object\n\t.type\tf, @function\n"
    kept = text.replace(b"a, @object", b"a, @gnu_indirect_function").replace(
        b"c, @object", b"c, @gnu_indirect_function"
    )
    assert convert(text) == kept
    assert passed_on([text]) == kept
    # in pieces, wherever one ends
    for size in (1, 7, 40):
        assert passed_on([text[at : at + size] for at in range(0, len(text), size)]) == kept
    open_end = b"#APP\n\t.type\tb, @object\n"
    assert passed_on([open_end]) == convert(open_end) == open_end


def passed_on(pieces: list[bytes]) -> bytes:
    """What the program before the assembler passes on of its input, which comes in pieces."""
    folder = scratch() / "passed-on"
    real = folder / "real"
    (option,) = make_assembler(folder / "bin", str(real))
    real.write_text(f'#!/bin/sh\ncat > "{folder}/text"\n')
    real.chmod(0o755)
    process = subprocess.Popen([f"{option.removeprefix('-B')}as"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    for piece in pieces:
        process.stdin.write(piece)
        process.stdin.flush()
    process.stdin.close()
    assert process.wait() == 0
    return (folder / "text").read_bytes()


def test_code_and_data_are_as_they_were() -> None:
    """Nothing but names in relocations differs, and the types of symbols are what they were."""
    text = HEAD + GONE + loop("array", "array + 8")
    before, after = read(plain(text)), read(compile_text(f'#include "kernel.h"\n{text}', *pair_flags()))
    assert [(s.name, s.flags, s.align) for s in before.sections if s.alloc] == [
        (s.name, s.flags, s.align) for s in after.sections if s.alloc
    ]
    for a, b in zip(before.sections, after.sections, strict=True):
        if a.alloc:
            assert bytes(before.contents(a.index)) == bytes(after.contents(b.index)), a.name
    symbols = [
        {(s.name, s.value, s.size, s.type, s.bind, s.shndx) for s in o.iter_symbols() if s.type in KINDS}
        for o in (before, after)
    ]
    assert symbols[0] == symbols[1]


def test_text_that_needs_the_symbol_as_it_is_is_assembled_as_it_is() -> None:
    text = """
static int one[2] HOT used = { 1 }, two[2] HOT used = { 2 };
asm(".pushsection my_table,\\"a\\"\\n.long two - one\\n.popsection");
"""
    made = read(compile_text(f'#include "kernel.h"\n{HEAD}{text}', *pair_flags()))
    section = made.section_named("my_table")
    assert section is not None
    assert abs(int.from_bytes(made.contents(section.index), "little", signed=True)) == 8


def test_a_mistake_is_told_once() -> None:
    path = scratch() / "mistake.c"
    path.write_text('asm("no such instruction");\n')
    done = subprocess.run(
        [CC, *assembler(), "-c", path, "-o", scratch() / "mistake.o"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.count("Error") == 1


def test_other_files_are_left_alone() -> None:
    for data in (b"", b"\x7fELF\x01\x01" + bytes(80), b"text"):
        assert restore_types(data) == data
    data = compile_file(PAIRS / "changed_body.c", *pair_flags())
    assert restore_types(data) == data
