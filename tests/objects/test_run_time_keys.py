# SPDX-License-Identifier: GPL-2.0-or-later
"""Static keys and static calls that are read at run time: what the assembler's input becomes, run as a program; and
closures of objects that read keys of their module."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kgbuild.accounting.account import Accounting
from kgbuild.accounting.run_time_keys import account_run_time
from kgbuild.closure.close import close
from kgbuild.closure.model import Closure, LateKey, ReadKey, UnitResult
from kgbuild.closure.run_time.keys import find_read_keys, keys_to_read, static_calls, static_keys
from kgbuild.closure.run_time.objects import NotTheSame, as_static, with_object
from kgbuild.diff.changes import compute_changes
from kgbuild.elf.read import read
from kgbuild.host.compile.assembler import RunTimeKeys, make_assembler, restore_types
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.proof.parity import compute_parity
from tests.support.kernel import EXPORTS, link_kernel, make_module
from tests.support.toolchain import CC, PAIRS, compile_text, pair_flags, real_assembler, run, scratch, view

NOP, JUMP, FAR = (
    ".byte 0x0f,0x1f,0x44,0x00,0x00",
    "jmp %l[yes] # objtool NOPs this",
    ".byte 0xe9\\n\\t .long %l[yes] - 2f\\n\\t2:",
)
HERE, PLACES = "1:", ".long 1b - . \\n\\t.long %l[yes] - . \\n\\t .quad %c0 + %c1 - .\\n\\t"
NOTE = (
    '912: .pushsection .discard.annotate_data, \\"M\\", @progbits, 8; .long 912b - ., 1; .popsection\\n'
    ".long 1b - . \\n\\t.long %l[yes] - . \\n\\t .quad  %c0 + %c1 + 2 - . \\n\\t"
)
# (the site, what is in its entry, what is added to its bit): those of Linux 5.10, 6.1 and 7.x
FORMS = {
    "5.10 no-op": (NOP, ".long 1b - ., %l[yes] - . \\n\\t .quad %c0 + %c1 - .\\n\\t", 0),
    "5.10 jump": (FAR, ".long 1b - ., %l[yes] - . \\n\\t .quad %c0 + %c1 - .\\n\\t", 0),
    "6.1 no-op": (NOP, PLACES, 0),
    "6.1 objtool": (JUMP, PLACES, 2),
    "6.1 jump": ("jmp %l[yes]", PLACES, 0),
    "7.3": (" " + JUMP, NOTE, 0),
}
PROGRAM = """
#include <stdio.h>
struct static_key { int enabled; void *entries; };
struct call { void *func; void *sites; };
struct static_key key, many[3], other;
static inline __attribute__((always_inline)) _Bool branch(struct static_key *k, _Bool bit)
{
	asm goto("1:SITE\\n\\t.pushsection __jump_table,  \\"aw\\" \\n\\t .balign 8 \\n\\tENTRY.popsection \\n\\t"
		: : "i"(k), "i"(ADD | bit) : : yes);
	return 0;
yes:
	return 1;
}
int plus(int x) { return x + 1; }
int minus(int x) { return x - 1; }
void mark(int *x) { *x += 1000; }
struct call __SCK__pick = { plus, 0 }, __SCK__maybe;
int __SCT__pick(int);
void __SCT__maybe(int *);
__attribute__((noinline)) int keys(void)
{
	int sum = 0;
	if (branch(&key, 0)) sum += 1;
	if (branch(&key, 1)) sum += 10;
	if (branch(&many[1], 0)) sum += 100;
	if (branch(&many[2], 1)) sum += 1000;
	return sum;
}
__attribute__((noinline)) int last(int x) { return __SCT__pick(x * 2); }
__attribute__((noinline)) void last_maybe(int *x) { *x += 5; __SCT__maybe(x); }
__attribute__((noinline)) int calls(int x) { __SCT__maybe(&x); return __SCT__pick(x) + x; }
int main(void)
{
	for (int on = 0; on < 2; on++) {
		int x = 0;
		key.enabled = many[2].enabled = on ? -1 : 0;
		many[1].enabled = on * 7;
		__SCK__pick.func = on ? minus : plus;
		__SCK__maybe.func = on ? mark : 0;
		last_maybe(&x);
		printf("%d %d %d %d\\n", keys(), last(4), calls(5), x);
	}
	return 0;
}
"""
THUNKS = """
asm(".globl __x86_indirect_thunk_r11, __x86_return_thunk\\n"
    "__x86_indirect_thunk_r11: jmp *%r11\\n__x86_return_thunk: ret");
"""
READ = RunTimeKeys(("key", "many"), ("maybe", "pick"))
HARDENED = (
    "-mindirect-branch=thunk-extern",
    "-mindirect-branch-cs-prefix",
    "-mfunction-return=thunk-extern",
    "-mharden-sls=all",
)


def build_program(folder: Path, form: str, keys: RunTimeKeys, *options: str) -> Path:
    site, entry, add = FORMS[form]
    text = PROGRAM.replace("SITE", site).replace("ENTRY", entry).replace("ADD", str(add))
    (folder / "program.c").write_text(text + (THUNKS if options else ""))
    assembler = make_assembler(folder / "bin", real_assembler(), keys, options)
    flags = ("-O2", "-fno-pie", "-no-pie", "-fcf-protection=none", "-pipe", *options)
    run(CC, *flags, *assembler, "-c", "program.c", "-o", "program.o", cwd=folder)
    (folder / "program.o").write_bytes(restore_types((folder / "program.o").read_bytes()))
    return folder / "program.o"


@pytest.mark.parametrize("options", [(), HARDENED], ids=["plain", "hardened"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_asks_the_key(form: str, options: tuple[str, ...], tmp_path: Path) -> None:
    made = build_program(tmp_path, form, READ, *options)
    assert not [s for s in read(made.read_bytes()).sections if s.name == "__jump_table" and s.size]
    run(CC, "-no-pie", "-o", "program", "program.o", cwd=tmp_path)
    said = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert said == "1010 9 11 5\n101 7 2009 1005\n"


def test_only_what_is_named_is_read(tmp_path: Path) -> None:
    made = read(build_program(tmp_path, "6.1 no-op", RunTimeKeys(("other", "many"), ("pick",))).read_bytes())
    (table,) = (s for s in made.sections if s.name == "__jump_table")
    assert table.size == 32
    undefined = {s.name for s in made.iter_symbols() if s.shndx == 0}
    assert "__SCT__maybe" in undefined and "__SCT__pick" not in undefined


@pytest.mark.parametrize(
    "site",
    [
        ".byte 0x90",  # not as long as a jump
        "jmp 3f\\n\\t3:",  # to elsewhere than the entry says
        "call 3f\\n\\t3: pop %%rax",
        "nopl 8(%%rax, %%rax)",
    ],
)
def test_an_unknown_form_stays(site: str, tmp_path: Path) -> None:
    FORMS["unknown"] = (site, PLACES, 0)
    made = read(build_program(tmp_path, "unknown", READ).read_bytes())
    del FORMS["unknown"]
    assert [s.size for s in made.sections if s.name == "__jump_table"] == [64]


# -- closures --------------------------------------------------------------------------------------------------------

HEAD = '#include "kernel.h"\n'
KEYS = """
struct static_key quick, slow[2], other;
noinline int plain(int x) { if (static_branch(&quick, 0)) return source(x); return 3; }
#ifdef PATCHED
int shown(int x) { if (static_branch(&quick, 1) || static_branch(&slow[1], 0)) return source(x) + 1; return plain(x); }
#else
int shown(int x) { return plain(x) + source(x); }
#endif
"""
REST = """
#include "kernel.h"
int source(int x) { return x; }
int printk(const char *f, ...) { return 0; }
void sink(const void *p) { }
void __fentry__(void) { }
char __start_notes[4] = "abc", __stop_notes[4] = "abd";
"""


def close_unit(unit: UnitResult, module: ModuleImage) -> Closure:
    kernel = link_kernel((compile_text("int beside;", *pair_flags(split=False), name="beside.c"),), REST)
    return close((unit,), kernel, EXPORTS, modules={"m": module})


def unit_of(code: str) -> tuple[UnitResult, ModuleImage]:
    """The unit of a module, as the kernel's build makes it."""
    before, after = (view(compile_text(HEAD + code, *pair_flags(flags))) for flags in ((), ("-DPATCHED",)))
    module = ModuleImage(read(compile_text(HEAD + code, *pair_flags(split=False))), "m")
    return UnitResult("unit.c", compute_changes(before, after, "unit.c"), compute_parity(before, module), "m"), module


def reading_object(code: str, names: frozenset[str]) -> bytes:
    """The patched object that reads keys at run time."""
    folder = scratch() / f"reading-{abs(hash((code, names)))}"
    folder.mkdir(exist_ok=True)
    (folder / "unit.c").write_text(HEAD + code)
    keys = RunTimeKeys(static_keys(names), static_calls(names))
    option = make_assembler(folder / "bin", real_assembler(), keys)
    flags = (*pair_flags(("-DPATCHED",)), "-pipe", *option, "-I", PAIRS)
    run(CC, *flags, "-c", "unit.c", "-o", "unit.o", cwd=folder)
    return restore_types((folder / "unit.o").read_bytes())


def test_a_unit_that_reads_its_keys_is_closed() -> None:
    static, module = unit_of(KEYS)
    first = close_unit(static, module)
    assert {r.code for r in first.refusals} == {"K17-module-key"}
    names = keys_to_read(first)
    assert names == {0: frozenset({"quick", "slow"})}
    reading, atoms = with_object(static, view(reading_object(KEYS, names[0])))
    # what merely reads a key in another way has not changed
    assert [c.patched.name for c in reading.changes.changed] == ["shown"]
    closure = close_unit(reading, module)
    assert not closure.refusals and not closure.late_keys
    assert [m.atom.name for m in closure.members.values()] == ["shown"]
    assert find_read_keys(closure, (static,), names, {0: atoms}) == {
        ReadKey("unit.c", "shown", "m", "static key", "quick", 1),
        ReadKey("unit.c", "shown", "m", "static key", "slow", 1),
    }
    assert {b.name for b in closure.bound.values()} >= {"quick", "slow", "plain"}
    _, made = make_module(closure)
    assert "__jump_table" not in {s.name for s in read(made).sections}
    accounting = account_run_time(static, reading, names[0], atoms, closure, 0)
    assert accounting.counts.keys() == {"replaced", "no effect"}
    told = {c.difference.symbol: c.by for c in accounting.claims if c.difference.symbol in ("shown", "plain")}
    assert told == {"shown": "replaced", "plain": "no effect"}
    back = as_static(closure, (static,), {0: atoms})
    patched = static.changes.patched
    assert [(n, patched.atoms[i].name) for n, i in back.members] == [(0, "shown")]
    assert {patched.atoms[i].name for _, i in back.bound} >= {"quick", "slow", "plain"}


def test_code_that_an_alternative_jumps_to_has_moved() -> None:
    code = KEYS.replace(
        "return source(x) + 1;", 'alternative("nop;nop;nop;nop;nop", "jmp 662b", 3); return source(x) + 1;'
    )
    static, module = unit_of(code)
    names = frozenset({"quick", "slow"})
    reading, atoms = with_object(static, view(reading_object(code, names)))
    accounting = account_run_time(static, reading, names, atoms, close_unit(reading, module), 0)
    assert any(c.difference.section == ".altinstr_replacement" for c in accounting.claims)
    assert accounting.unaccounted == []


def wrong(other: str, names: frozenset[str] = frozenset({"quick", "slow"})) -> Accounting:
    """The accounting where the object that reads keys is of another text."""
    static, module = unit_of(KEYS)
    reading, atoms = with_object(static, view(reading_object(other, names)))
    return account_run_time(static, reading, frozenset({"quick", "slow"}), atoms, close_unit(reading, module), 0)


@pytest.mark.parametrize(
    ("other", "names"),
    [
        # another body beside
        (KEYS.replace("return 3", "return 4").replace("static_branch(&quick, 0)", "x"), {"quick", "slow"}),
        # one reading too few, or too many
        (KEYS.replace(" || static_branch(&slow[1], 0)", ""), {"quick", "slow"}),
        (KEYS.replace("source(x) + 1", "source(x) + 1 + quick.enabled"), {"quick", "slow"}),
        # something else is called
        (KEYS.replace("return source(x) + 1;", "sink(NULL); return 1;"), {"quick", "slow"}),
        # a key that is not read
        (KEYS, {"slow"}),
        (KEYS.replace("slow[2], other", "slow[3], other"), {"quick", "slow"}),
    ],
)
def test_what_does_not_come_of_reading_keys_is_refused(other: str, names: set[str]) -> None:
    assert other != KEYS or names == {"slow"}
    assert {r.code for r in wrong(other, frozenset(names)).refusals} == {"K26-unaccounted"}


@pytest.mark.parametrize("more", ["int extra(int x) { return x; }", "int extra = 5;"])
def test_objects_of_other_functions_or_variables_are_not_exchanged(more: str) -> None:
    static, _ = unit_of(KEYS)
    with pytest.raises(NotTheSame, match="extra"):
        with_object(static, view(reading_object(KEYS + more, frozenset({"quick"}))))
    static, _ = unit_of(KEYS + more)
    with pytest.raises(NotTheSame, match="extra"):
        with_object(static, view(reading_object(KEYS, frozenset({"quick"}))))


def test_a_key_of_noinstr_code_is_not_read() -> None:
    static, module = unit_of(KEYS.replace("int shown(", 'section(".noinstr.text") int shown('))
    found = close_unit(static, module)
    assert "K17-module-key" in {r.code for r in found.refusals}
    assert found.late_keys == frozenset()


def test_a_static_call_is_named_by_its_key() -> None:
    assert (LateKey(0, "__SCK__pick").call, LateKey(0, "pick").call) == ("pick", "")
    assert static_keys(["b", "__SCK__c", "a"]) == ("a", "b")
    assert static_calls(["b", "__SCK__c", "__SCK__a"]) == ("a", "c")
