# SPDX-License-Identifier: GPL-2.0-or-later
"""New variables of a target module: what begins anew with it and how, what a section is in a module, and what must not
wait for a module that comes later."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import pytest

from kgbuild.closure.close import close
from kgbuild.closure.lifetime import initial_values, new_variables
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diff.changes import compute_changes
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, OutSection, write
from kgbuild.emit.extract import extract
from kgbuild.emit.klp_relocations import inject
from kgbuild.emit.patch_tables import Identity, TargetIdentity
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.module_abi import InitialKind
from kgbuild.proof.parity import compute_parity
from kgbuild.verification.data import check_data
from kgbuild.verification.reading.reader import ModuleFile, ModuleSymbol, read_module
from tests.support.kernel import EXPORTS, close_text, link_kernel
from tests.support.toolchain import compile_text, pair_flags, view

ROW = struct.Struct("<QQQQQQ")
PARAMETER = """
struct module;
extern struct module __this_module;
struct ops { int (*set)(const char *, void *), (*get)(char *, void *); };
struct param { const char *name; struct module *mod; const struct ops *ops; u64 rest; const void *arg; };
extern const struct ops param_ops_int;
#define parameter(n, o, a) \\
    static const struct param __param_##n used section("__param") = { #n, &__this_module, o, 0, a }
"""
BASE = """
int level = 5;
noinline int own(int x) { return level++ + source(x); }
noinline int shown(int x);
#define percpu section(".data..percpu")
"""


def text(new: str, body: str, before: str = "return own(x) + 2;") -> str:
    """A unit whose function `shown` gets another body, with the new text before it."""
    return (
        f"{BASE}{PARAMETER}\n#ifdef PATCHED\n{new}\nint shown(int x) {{ {body} }}\n#else\n"
        f"int shown(int x) {{ {before} }}\n#endif\n"
    )


def close_module(code: str, *names: str) -> Closure:
    """The closure of one unit that is part of each of these modules."""
    code = f'#include "kernel.h"\n{code}'
    vmlinux = link_kernel((compile_text("int beside;", *pair_flags(split=False), name="beside.c"),), REST_OF_PARAMETERS)
    before = view(compile_text(code, *pair_flags()))
    after = view(compile_text(code, *pair_flags(("-DPATCHED",))))
    units, modules = [], {}
    for name in names or ("m",):
        modules[name] = ModuleImage(read(compile_text(code, *pair_flags(split=False))), name)
        proof = compute_parity(before, modules[name])
        units.append(UnitResult("unit.c", compute_changes(before, after, "unit.c"), proof, name))
    return close(tuple(units), vmlinux, EXPORTS, modules=modules)


REST_OF_PARAMETERS = """
#include "kernel.h"
int source(int x) { return x; }
int printk(const char *f, ...) { return 0; }
void sink(const void *p) { }
void __fentry__(void) { }
struct ops { void *set, *get; };
const struct ops param_ops_int = { 0, 0 }, param_ops_charp = { 0, 0 };
char __start_notes[4] = "abc", __stop_notes[4] = "abd";
"""


def refused(closure: Closure) -> list[str]:
    return sorted({f"{r.code}:{r.symbol}" for r in closure.refusals})


@dataclass(frozen=True)
class Made:
    """The object of a closure as it is read back, and the rows of kgbuild_initial: object, name of the variable, offset
    in it, size, kind, and the names that the value refers to by offset; the value's bytes."""

    file: ModuleFile
    rows: list[tuple[str, str, int, int, int]]
    values: dict[str, bytes]
    refs: dict[str, dict[int, str]]

    def of(self, name: str) -> list[tuple[int, int, int]]:
        return [(at, size, kind) for _, variable, at, size, kind in self.rows if variable == name]


def read_back(out: OutObject) -> ModuleFile:
    out.sections.append(OutSection(".modinfo", data=bytearray(b"license=GPL\0")))
    return read_module(inject(read(write(out))), "unit.o", 62)


def make(closure: Closure) -> Made:
    assert not closure.refusals, closure.refusals
    targets = tuple(TargetIdentity(t, bytes(20), "shown", 0, 0) for t in closure.targets)
    file = read_back(extract(closure, Identity(bytes(20), True, "{}", targets)))
    (table,) = file.global_symbols["kgbuild_initial"]
    raw = file.object_bytes("kgbuild_initial")
    assert raw is not None
    assert raw[-ROW.size :] == bytes(ROW.size)
    rows, values, refs = [], {}, {}
    for number, row in enumerate(ROW.iter_unpack(raw[: -ROW.size])):
        at = table.value + number * ROW.size
        places = {o: file.at(table.shndx, at + o) for o in (0, 8, 16)}
        where = {o: file.place_of(r) for o, r in places.items() if r is not None}
        name = where[0][0].data[where[0][1] :].split(b"\0")[0].decode() if 0 in where else ""
        section, offset = where[8]
        variable = owner(file, section.index, offset)
        rows.append((name, variable.name, offset - variable.value, row[3], row[4]))
        if 16 in where:
            source, start = where[16]
            values[variable.name] = source.data[start : start + row[3]]
            refs[variable.name] = {
                o - start: s.name or owner(file, s.shndx, s.value + r[0].addend).name
                for o, r in file.targets.get(source.index, {}).items()
                if start <= o < start + row[3] and (s := file.symbol_of(r[0])) is not None
            }
    return Made(file, rows, values, refs)


def owner(file: ModuleFile, section: int, offset: int) -> ModuleSymbol:
    return next(s for s in file.symbols if s.shndx == section and s.type == 1 and s.value <= offset < s.value + s.size)


# -- what begins anew ------------------------------------------------------------------------------------------------


def test_variables_of_a_module_begin_anew() -> None:
    made = make(
        close_module(
            text(
                """
                struct list { struct list *next, *prev; };
                static struct list head = { &head, &head };
                static int counter, started = 7, rare section(".data..read_mostly") = 3;
                static int once section(".data..ro_after_init") = 2;
                static int (*function)(int) = own;
                static int *pointer = &level;
                static const int table[] = { 1, 2, 3 };
                """,
                """
                sink(&head); sink(table); sink(&pointer); sink(&function);
                return counter++ + started++ + rare++ + once++;
                """,
            )
        )
    )
    assert {(name, variable) for name, variable, *_ in made.rows} == {
        ("m", v) for v in ("head", "counter", "started", "rare", "once", "function", "pointer")
    }
    assert made.of("head") == [(0, 16, InitialKind.MEMORY)]
    assert made.refs["head"] == {0: "head", 8: "head"}
    assert "counter" not in made.values, "zeros need no copy"
    assert made.values["started"] == struct.pack("<I", 7)
    assert (made.refs["function"][0], made.refs["pointer"][0]) == (".klp.sym.m.own,0", ".klp.sym.m.level,0")


def test_no_variable_holds_a_late_relocation() -> None:
    made = make(
        close_module(
            text(
                "static int (*function)(int) = own; static int *const there = &level;",
                "sink(&function); sink(&there); return function(x);",
            )
        )
    )
    late = {
        made.file.sections[made.file.sections[row.source].info].name
        for rows in made.file.relocs.values()
        for row in rows
        if (s := made.file.symbol_of(row)) is not None and s.name.startswith(".klp.sym.m.")
    }
    assert not any(name.startswith((".data", ".bss")) for name in late), late
    assert ".rodata.kgbuild_values" in late


def test_what_is_read_only_after_init_can_be_written_when_a_module_comes() -> None:
    """The init function of the patch module is long over then, and over as well when post_patch is called."""
    code = text('static int once section(".data..ro_after_init") = 2;', "return once++;")
    made = make(close_module(code))
    assert made.file.section(".data..ro_after_init") is None
    assert made.of("once") == [(0, 4, InitialKind.MEMORY)]
    out = extract(close_text(code).closure, Identity(bytes(20), True, "{}"))
    assert {s.name for s in out.sections if s.name.startswith(".data")} == {".data"}


def test_keys_are_switched_and_not_written_over() -> None:
    made = make(
        close_module(
            text(
                """
                static struct static_key off, on = { 1, NULL };
                static struct { long before; struct static_key key; int behind; } mixed = { 3, { 0, NULL }, 4 };
                """,
                """
                int n = static_branch(&off, false) + 2 * static_branch(&on, true);
                n += static_branch(&mixed.key, false);
                sink(&off); sink(&on); sink(&mixed);
                return own(x) + n + mixed.behind;
                """,
            )
        )
    )
    assert made.of("off") == [(0, 16, InitialKind.KEY)]
    assert made.of("on") == [(0, 16, InitialKind.KEY)]
    assert made.of("mixed") == [(0, 8, InitialKind.MEMORY), (8, 16, InitialKind.KEY), (24, 8, InitialKind.MEMORY)]


def test_a_static_call_is_switched_back() -> None:
    made = make(
        close_module(
            text(
                """
                static noinline notrace int one(int x) { return source(x) + 1; }
                struct call { int (*func)(int); void *sites; };
                struct call __SCK__c = { one, NULL };
                asm(".pushsection .static_call.text, \\"ax\\"; .globl __SCT__c; .type __SCT__c, @function;"
                    "__SCT__c: jmp one; .size __SCT__c, . - __SCT__c; .popsection");
                int __SCT__c(int);
                """,
                "sink(&__SCK__c); return __SCT__c(x);",
            )
        )
    )
    assert made.of("__SCK__c") == [(0, 16, InitialKind.CALL)]
    assert made.refs["__SCK__c"] == {0: "one"}


def test_per_cpu_variables() -> None:
    made = make(
        close_module(
            text(
                "static percpu long counter = 4; static percpu void *here = &level;",
                'asm volatile("incq %%gs:%0; incq %%gs:%1" : "+m"(counter), "+m"(here)); return own(x);',
            )
        )
    )
    assert made.of("counter") == [(0, 8, InitialKind.PER_CPU)]
    assert made.of("here") == [(0, 8, InitialKind.PER_CPU)]
    section = made.file.section(".data..percpu")
    assert section is not None
    assert not made.file.targets.get(section.index)


def test_vmlinux_keeps_its_values_but_for_pointers_in_per_cpu_data() -> None:
    code = text(
        "static int counter = 3; static percpu long plain = 4; static percpu void *here = &level;",
        'asm volatile("incq %%gs:%0; incq %%gs:%1" : "+m"(plain), "+m"(here)); return own(x) + counter++;',
    )
    made = make(close_text(code).closure)
    assert made.rows == [("", "here", 0, 8, InitialKind.PER_CPU)]
    assert made.refs["here"] == {0: ".klp.sym.vmlinux.level,0"}
    without = close_text(text("static int counter = 3;", "return own(x) + counter++;")).closure
    assert not initial_values(without)


def test_of_two_modules_each_has_its_own() -> None:
    made = make(close_module(text("static int counter = 3;", "return own(x) + counter++;"), "m", "n"))
    assert sorted(name for name, *_ in made.rows) == ["m", "n"]
    places = {(s.shndx, s.value) for s in made.file.symbols if s.name == "counter"}
    assert len(places) == 2


def test_the_note_names_what_holds_a_state() -> None:
    closure = close_module(
        text(
            "static int counter = 3; static const int fixed = 1;",
            "static bool __warned; sink(&fixed); __warned = 1; return counter++;",
        )
    )
    assert [(v.object, v.unit, v.name, v.size) for v in new_variables(closure)] == [("m", "unit.c", "counter", 4)]


# -- parameters --------------------------------------------------------------------------------------------------------


def test_a_parameter_begins_as_the_patch_was_loaded() -> None:
    closure = close_module(
        text("static int fresh = 3; parameter(fresh, &param_ops_int, &fresh);", "return own(x) + fresh++;")
    )
    made = make(closure)
    assert made.of("fresh") == [(0, 4, InitialKind.SAVED)]
    assert not closure.warnings


def test_a_parameter_that_may_own_memory_keeps_its_value() -> None:
    closure = close_module(
        text(
            "extern const struct ops param_ops_charp; static char *fresh; static int other;"
            "parameter(fresh, &param_ops_charp, &fresh);",
            "return own(x) + (fresh ? fresh[0] : 0) + other++;",
        )
    )
    assert [v for _, v, *_ in make(closure).rows] == ["other"]
    (warning,) = closure.warnings
    assert "fresh is shown by a parameter" in warning


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        ("parameter(level, &param_ops_int, &level);", "K25-too-early:__param_level"),
        (
            "static int get(char *b, void *a) { return own(1); } static const struct ops o = { NULL, get };"
            "parameter(n, &o, NULL);",
            "K25-too-early:__param_n",
        ),
        ("static const void *const leads = &level; parameter(n, &param_ops_int, &leads);", "K25-too-early:__param_n"),
        (
            "static int *kept = &level; static int get(char *b, void *a) { return *kept; }"
            "static const struct ops o = { NULL, get }; parameter(n, &o, NULL);",
            "K25-too-early:__param_n",
        ),
        # these lead to what is there with the patch
        ("static int fresh; parameter(n, &param_ops_int, &fresh);", ""),
        (
            "static int fresh; static int get(char *b, void *a) { return source(fresh); }"
            "static const struct ops o = { NULL, get }; parameter(n, &o, &fresh);",
            "",
        ),
    ],
)
def test_a_parameter_must_not_lead_to_the_module(new: str, wanted: str) -> None:
    assert " ".join(refused(close_module(text(new, "return own(x) + 1;")))) == wanted


def test_the_same_parameter_of_built_in_code_is_right() -> None:
    code = text("parameter(level, &param_ops_int, &level);", "return own(x) + 1;")
    assert not close_text(code, beside=["const struct { int a; } param_ops_int;"]).closure.refusals


def test_a_static_call_of_the_modules_function() -> None:
    new = "struct call { int (*func)(int); void *sites; }; struct call __SCK__c = { own, NULL };"
    assert "K25-too-early:__SCK__c" in refused(close_module(text(new, "sink(&__SCK__c); return x;")))


CALL = "struct call { int (*func)(int); void *sites; }; struct call __SCK__c = { %s, NULL };"
CODE_OF_CALL = """
asm(".pushsection .static_call.text, \\"ax\\"; .globl __SCT__c; .type __SCT__c, @function;"
    "__SCT__c: jmp one; .size __SCT__c, . - __SCT__c; .popsection");
int __SCT__c(int);
"""
ONE = "static noinline notrace int one(int x) { return source(x) + 1; }"


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        (CALL % "own" + CODE_OF_CALL.replace("one", "own"), ["K25-too-early:__SCK__c"]),
        # no code that could be switched back with it
        (ONE + CALL % "one" + "\n#define __SCT__c one\n", ["K17-module-key:__SCK__c"]),
        # near misses: what it leads to is there with the patch, or always
        (ONE + CALL % "one" + CODE_OF_CALL, []),
        (CALL % "source" + CODE_OF_CALL.replace("one", "source"), []),
    ],
)
def test_a_static_call_and_its_code(new: str, wanted: list[str]) -> None:
    assert refused(close_module(text(new, "sink(&__SCK__c); return __SCT__c(x);"))) == wanted


def test_a_static_call_of_built_in_code_may_lead_to_it() -> None:
    code = text(CALL % "own" + CODE_OF_CALL.replace("one", "own"), "sink(&__SCK__c); return __SCT__c(x);")
    assert not close_text(code).closure.refusals


DISTANCE = """
extern int away;
asm(".pushsection .data.away, \\"aw\\"; .globl away; .type away, @object; away: .long %s - .;"
    ".size away, 4; .popsection");
"""


@pytest.mark.parametrize("leads", ["own", "source"])
def test_an_initial_value_that_is_a_distance(leads: str) -> None:
    """It would be written from another place than its own. In built-in code it is written where it is."""
    code = text(DISTANCE % leads, "return own(x) + away;")
    assert refused(close_module(code)) == ["K11-reloc:away"]
    assert not close_text(code).closure.refusals


# -- a module's sections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "wanted"),
    [
        ("static char big[8192] __attribute__((aligned(8192)));", "K24-module-memory:big"),
        ("static char big[8192] __attribute__((aligned(4096)));", ""),
        ("static percpu char big[8200];", "K24-module-memory:big"),
        ("static percpu char big[8192];", ""),
        ("static percpu char big[100] __attribute__((aligned(8192)));", "K24-module-memory:big"),
        ('static char big[100] section("my_section") = "x";', "K2-special:big"),
        ('static char big[100] section(".data..nosave") = "x";', "K2-special:big"),
        ('static char big[100] section(".bss..decrypted");', "K2-special:big"),
        ('static char big[100] section(".data..percpu..first");', "K2-special:big"),
        ('static char big[100] section(".data..percpu..read_mostly") = "x";', ""),
        ('static char big[100] section(".data..cacheline_aligned") = "x";', ""),
        ('static char big[100] section(".data..page_aligned") __attribute__((aligned(4096))) = "x";', ""),
    ],
)
@pytest.mark.parametrize("built_in", [True, False], ids=["vmlinux", "module"])
def test_memory_that_a_module_has(variable: str, wanted: str, built_in: bool) -> None:
    code = text(variable, "sink(&big); return own(x) + 1;")
    closure = close_text(code).closure if built_in else close_module(code)
    assert " ".join(refused(closure)) == wanted


def test_all_per_cpu_variables_share_the_room() -> None:
    code = text("static percpu char a[5000], b[5000];", "sink(&a); sink(&b); return own(x) + 1;")
    (refusal,) = close_module(code).refusals
    assert refusal.code == "K24-module-memory"
    assert re.search(r"has 100\d\d bytes for each CPU", refusal.fact)


def test_an_entry_that_is_read_with_the_module_itself() -> None:
    new = (
        "struct srcu { void *sda; long n; }; static struct srcu guard;"
        'struct srcu *const __srcu_struct_guard section("___srcu_struct_ptrs") = &guard;'
    )
    body = "sink(&guard); return own(x) + 1;"
    assert refused(close_module(text(new, body))) == ["K2-special:guard"]
    there = (
        f"{BASE}{new}\nint shown(int x) {{\n#ifdef PATCHED\n{body}\n#else\nsink(&guard); return own(x) + 2;\n#endif\n}}"
    )
    assert not close_module(there).refusals, "the module's own was read when it was loaded"


# -- verify ----------------------------------------------------------------------------------------------------------


def findings(file: ModuleFile, object_name: str = "m") -> list[str]:
    starts = [(object_name, (s.shndx, s.value)) for s in file.symbols if s.name == "shown" and s.type == 2 and s.size]
    assert starts
    return sorted(f"{f.code}:{f.place}" for f in check_data(file, starts))


LIVE = "static int counter = 3; static percpu void *here = &level;"
USES = 'asm volatile("incq %%gs:%0" : "+m"(here)); return own(x) + counter++;'


def test_verify_finds_nothing_in_what_was_made() -> None:
    assert findings(make(close_module(text(LIVE, USES))).file) == []
    assert findings(make(close_text(text(LIVE, USES)).closure).file, "vmlinux") == []


def test_verify_finds_what_does_not_begin_anew() -> None:
    made = make(close_module(text(LIVE, USES)))
    assert findings(made.file, "n") == ["V37-initial-value:counter", "V37-initial-value:here"]


def test_verify_finds_relocations_that_nobody_applies_in_time() -> None:
    """What an extraction without rows would be: of an object that has no target."""
    closure = close_module(text(f"{LIVE} static int (*kept)(int) = own;", f"sink(&kept); {USES}"))
    out = extract(closure, None)
    file = read_back(out)
    assert findings(file) == [
        "V27-late-special:.data..percpu+0x0",
        "V27-late-special:.data.kept+0x0",
        "V36-module-memory:.data..percpu+0x0",
        "V37-initial-value:counter",
        "V37-initial-value:here",
        "V37-initial-value:kept",
    ]
