# SPDX-License-Identifier: GPL-2.0-or-later
"""The output object of every pair: other tools take it, it is the same every time, and its
functions do what those of the patched object do.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import lief
import pytest

from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.compare import ENTRIES, SIZES, Disassembly, disassembly
from tests.support.pair_cases import CASES
from tests.support.pairs import PAIRS, Pair, answer
from tests.support.toolchain import CC, compile_all, scratch

# Why there is no output object: the refusal, or that nothing changed.
NO_OUTPUT = {
    "absolute": "K11-reloc K26-unaccounted",
    "absolute-reverse": "K11-reloc K26-unaccounted",
    "address_taken_gone": "K14-vanished",
    "becomes_global": "nothing",
    "becomes_global-reverse": "nothing",
    "branch_width": "K4-not-traceable",
    "branch_width-real": "K4-not-traceable",
    "branch_width-reverse": "K4-not-traceable",
    "bug_line": "nothing",
    "bug_line-reverse": "nothing",
    "call_sites-reverse": "K14-vanished",
    "clones_renumbered": "nothing",
    "clones_renumbered-reverse": "nothing",
    "data_initial": "K1-data",
    "data_initial-reverse": "K1-data",
    "data_percpu": "K1-data",
    "data_percpu-reverse": "K1-data",
    "data_size": "K1-data",
    "data_size-reverse": "K1-data",
    "data_writable-reverse": "K1-data",
    "export": "K7-export",
    "export-reverse": "nothing",
    "export_license": "K7-export",
    "export_license-reverse": "K7-export",
    "export_symbol": "K7-export",
    "export_symbol-reverse": "K7-export",
    "fixup-reverse": "K14-vanished",
    "group_changed": "K20-group",
    "group_changed-reverse": "K20-group",
    "ibt_endbr_seal": "nothing",
    "ibt_endbr_seal-reverse": "nothing",
    "init": "K3-init",
    "init-reverse": "K3-init",
    "init_moved": "K3-init",
    "init_moved-reverse": "K3-init",
    "init_reference": "K6-init-memory",
    "initcall": "K7-export",
    "initcall-reverse": "nothing",
    "label_number": "nothing",
    "label_number-reverse": "nothing",
    "line_debug": "nothing",
    "line_debug-reverse": "nothing",
    "line_lockdep": "nothing",
    "line_lockdep-reverse": "nothing",
    "line_might_sleep": "nothing",
    "line_might_sleep-reverse": "nothing",
    "line_panic": "nothing",
    "line_panic-reverse": "nothing",
    "line_printk": "nothing",
    "line_printk-reverse": "nothing",
    "line_string": "nothing",
    "line_string-reverse": "nothing",
    "line_ubsan_bounds": "nothing",
    "line_ubsan_bounds-reverse": "nothing",
    "line_ubsan_shift": "nothing",
    "line_ubsan_shift-reverse": "nothing",
    "line_warn": "nothing",
    "line_warn-reverse": "nothing",
    "llvm_data": "K1-data",
    "llvm_data-reverse": "K1-data",
    "llvm_suffix": "nothing",
    "llvm_suffix-reverse": "nothing",
    "notrace_change": "K4-not-traceable",
    "notrace_change-reverse": "K4-not-traceable",
    "ops_changed": "K1-data",
    "ops_changed-reverse": "K1-data",
    "param": "K7-export",
    "param-reverse": "K7-export",
    "part_renumbered": "nothing",
    "part_renumbered-reverse": "nothing",
    "patchable_entries-reverse": "K14-vanished",
    "prefixes-reverse": "K14-vanished",
    "function_renamed": "nothing",
    "function_renamed-reverse": "nothing",
    "printk_index": "nothing",
    "printk_index-reverse": "nothing",
    "section_cold": "nothing",
    "section_cold-reverse": "nothing",
    "section_hot": "nothing",
    "section_hot-reverse": "nothing",
    "section_sched": "K26-unaccounted",
    "section_sched-real": "K26-unaccounted",
    "section_sched-reverse": "K26-unaccounted",
    "shared_section": "K4-not-traceable",
    "shared_section-reverse": "K4-not-traceable",
    "shared_section_moved-real": "K4-not-traceable",
    "shared_section_moved-reverse": "K14-vanished",
    "stacked_clones": "nothing",
    "stacked_clones-reverse": "nothing",
    "static_local_moved": "K13-ambiguous",
    "static_local_moved-reverse": "K13-ambiguous",
    "static_locals_declared": "K13-ambiguous",
    "static_locals_declared-reverse": "K13-ambiguous",
    "static_locals_exchanged": "K1-data",
    "static_locals_exchanged-reverse": "K1-data",
    "static_locals_of_scopes-real": "K13-ambiguous",
    "static_locals_of_scopes_swapped": "nothing",
    "static_locals_of_scopes_swapped-reverse": "nothing",
    "static_locals_renumbered-real": "K13-ambiguous",
    "static_locals_swapped": "nothing",
    "static_locals_swapped-reverse": "nothing",
    "temporary_labels": "nothing",
    "temporary_labels-reverse": "nothing",
    "tracepoint_new": "K7-export",
    "unknown_entry": "K2-special",
    "unknown_entry-reverse": "K2-special",
    "unknown_table": "K2-special",
    "unknown_table-reverse": "K2-special",
    "unnamed_constants": "nothing",
    "unnamed_constants-reverse": "nothing",
    "weak": "K10-weak",
    "weak-reverse": "K10-weak",
}
WITHOUT = [p for p in PAIRS if p.name in NO_OUTPUT]
WITH = [p for p in PAIRS if p.name not in NO_OUTPUT]
every_output = pytest.mark.parametrize("pair", WITH, ids=lambda p: p.name)
BY_NAME = {p.name: p for p in PAIRS}


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    compile_all([(c.name, (*c.flags, *define), CC) for c in CASES for define in ((), ("-DPATCHED",))])


@cache
def output(pair: Pair) -> bytes:
    return answer(pair).output()


def tool(*argv: str | Path) -> str:
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), argv
    return done.stdout


@pytest.mark.parametrize("pair", WITHOUT, ids=lambda p: p.name)
def test_pairs_without_an_output(pair: Pair) -> None:
    found = answer(pair)
    assert ({r.code for r in found.refusals} or {"nothing"}) == {*NO_OUTPUT[pair.name].split()}
    assert found.nothing == (NO_OUTPUT[pair.name] == "nothing")
    with pytest.raises(ValueError, match="no output object"):
        found.output()


@every_output
def test_other_tools_accept_it(pair: Pair) -> None:
    path = scratch() / f"{pair.name.replace('/', '-')}.out.o"
    path.write_bytes(output(pair))
    text = tool("readelf", "-aW", path)
    assert "Warning" not in text and "Error" not in text and "<corrupt" not in text and "<unknown" not in text
    linked = path.with_suffix(".linked.o")
    assert tool("ld", "-r", "--fatal-warnings", "-o", linked, path) == ""
    tool("readelf", "-aW", linked)
    names = {s.name for s in Disassembly(linked.read_bytes()).symbols}
    assert names >= {*answer(pair).output_functions}
    tool("objdump", "-dr", path)


@every_output
def test_lief_sees_what_was_written(pair: Pair) -> None:
    data = output(pair)
    messages = scratch() / "lief.log"
    messages.write_text("")
    lief.logging.set_path(str(messages))
    try:
        binary = lief.ELF.parse(list(data))
    finally:
        lief.logging.set_path("/dev/stderr")
    assert isinstance(binary, lief.ELF.Binary)
    assert messages.read_text() == ""
    obj = read_relocatable(data, "out.o")
    assert [s.name for s in binary.sections] == [s.name for s in obj.sections]
    ours = [s.name for s in obj.iter_symbols() if s.type != 3]
    assert [s.name for s in binary.symtab_symbols if s.type.value != 3][1:] == ours
    assert len(binary.object_relocations) == sum(len(obj.relocs(s.index)) for s in obj.sections)


@every_output
def test_the_same_every_time(pair: Pair) -> None:
    first = output(pair)
    orig, patched = pair.orig(), pair.patched()
    again = diff_objects(read_relocatable(orig, "x.o"), read_relocatable(patched, "y.o"), "another/place.c")
    assert again.output() == first


@every_output
def test_functions_do_what_the_patched_ones_do(pair: Pair) -> None:
    """Instruction by instruction, with what each relocation finally means; read by other tools than kgbuild."""
    ours, theirs = disassembly(output(pair)), disassembly(pair.patched())
    assert answer(pair).output_functions
    for name in answer(pair).output_functions:
        assert ours.function(name) == theirs.function(name), name


@every_output
def test_entries_are_those_of_the_patched_functions(pair: Pair) -> None:
    """Entry by entry of every special section, with what each relocation finally means; and there are no others."""
    ours, theirs = disassembly(output(pair)), disassembly(pair.patched())
    dropped = {section for _, section, _ in answer(pair).closure.dropped}
    assert not dropped
    counts = {}
    for name in answer(pair).output_functions:
        mine = ours.entries(name)
        assert mine == theirs.entries(name), name
        counts[ours.place(name)] = len(mine)
    assert sum(counts.values()) == len(ours.all_entries())


def test_the_tables_that_are_compared_are_in_the_pairs() -> None:
    seen = {e.table for p in WITH for name in answer(p).output_functions for e in disassembly(output(p)).entries(name)}
    assert seen >= {*ENTRIES}


@pytest.mark.parametrize(
    ("name", "function"),
    [("alternative_code", "first"), ("static_key", "first"), ("bug_flags", "first"), ("extable_type", "first")],
)
def test_the_comparison_of_entries_sees_every_fault(name: str, function: str) -> None:
    """Each byte of a table, of its relocations' targets and addends, and of replacement code, set to something else."""
    data = output(BY_NAME[name])
    intact = Disassembly(data).entries(function)
    assert intact
    obj = read_relocatable(data, "out.o")
    places = []
    for section in obj.sections:
        if section.name in ENTRIES and section.name != "__mcount_loc":
            rows = obj.reloc_rows(section.index)
            fields = {at + i for at, kind, *_ in rows for i in range(SIZES[kind])}
            places += [section.offset + i for i in range(section.size) if i not in fields]
            table = obj.sections[obj.rela_of[section.index]].offset
            places += [table + 24 * row + i for row in range(len(rows)) for i in (12, 16)]
        elif section.name == ".altinstr_replacement":
            places += range(section.offset, section.offset + section.size)
    assert len(places) > 4
    for at in places:
        broken = bytearray(data)
        broken[at] ^= 1
        try:
            found = Disassembly(bytes(broken)).entries(function)
        except (AssertionError, KeyError):
            continue
        assert found != intact, hex(at)


def test_the_comparison_sees_every_fault() -> None:
    """Each byte of a function's code and each target and addend of its relocations, set to something else."""
    pair = BY_NAME["string_changed"]
    data = output(pair)
    intact = Disassembly(data).function("first")
    assert intact == Disassembly(pair.patched()).function("first")
    obj = read_relocatable(data, "out.o")
    symbol = next(s for s in obj.iter_symbols() if s.name == "first")
    section = obj.sections[symbol.shndx]
    rows = obj.relocs(symbol.shndx)
    table = obj.sections[obj.rela_of[symbol.shndx]].offset
    fields = {at + i for at in rows["offset"].tolist() for i in range(4)}
    places = [section.offset + i for i in range(symbol.size) if i not in fields]
    places += [table + 24 * row + i for row in range(len(rows)) for i in (12, 16)]
    assert len(rows) > 2 and len(places) > 10
    for at in places:
        broken = bytearray(data)
        broken[at] ^= 1
        try:
            found = Disassembly(bytes(broken)).function("first")
        except AssertionError:
            continue
        assert found != intact, hex(at)
