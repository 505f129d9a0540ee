# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of small objects with one kind of difference each: it is in the ledger, and what becomes of it is right."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kgbuild.accounting.account import no_effects, summary
from kgbuild.accounting.unit_facts import NO_EFFECT, NOISE, UNACCOUNTED
from tests.support.ledger.pairs import CHANGED, K30, NOTHING, answer, outcome, table


@dataclass(frozen=True)
class EditedPair:
    """`before` and `after` are the two texts. `ends` is what comes of it: NOTHING, CHANGED, or codes of refusals;
    `said` is part of a line that tells a user; `kind` and `section` are those of one difference that must be there,
    `claim` what becomes of that; `counts` are functions that count as changed by it, though it is refused."""

    name: str
    before: str
    after: str
    ends: str
    kind: str
    section: str
    claim: str = ""
    said: str = ""
    counts: tuple[str, ...] = ()


def quads(section: str, *targets: str, flags: str = "a") -> str:
    """A table of pointers."""
    return table(section, "; ".join(f".quad {t}" for t in targets), flags)


def label(name: str, body: str) -> str:
    """A local label with a size, as BTF_ID makes it."""
    return f".local {name}; .type {name}, STT_OBJECT; .size {name}, 4; {name}: {body}"


INITCALL = (
    'static int used SECTION(".init.text") setup(void) { sink(1); return 0; } '
    'static int (*call)(void) used SECTION(".initcall6.init") = setup;'
)
BTF = ".local ids; .type ids, STT_OBJECT; ids: .long 1; "
DATA_ALIAS = 'extern int cur __attribute__((alias("%s"))); long reads(void) { return cur; }'

FUNCTION_ALIAS = (
    "noinline long a(long x) { return x * 3; } noinline long b(long x) { return x * 5; } "
    'long c(long) __attribute__((alias("%s")));'
)
LOCK = (
    'void f(void) { asm volatile("1: lock; incl one; .pushsection .smp_locks, \\"a\\"; .balign 4; .long 1b - .; '
    '.popsection"); }'
)

CASES = (
    "case 0: return %d; case 1: return 77; case 2: return 5; case 3: return 901; case 4: return 44; case 5: return 31;"
)
SWITCHES = (
    f"long a(int x) {{ switch (x) {{ {CASES} default: return 1; }} }} "
    f"long b(int x) {{ sink(x); switch (x) {{ {CASES % 13} default: return 2; }} }}"
)

# the calls of `%s` and `%s` lead equally far
IN_ONE_SECTION = """
#define OURS SECTION(".sched.text") noinline
static long OURS left_of(long x);
static long OURS right_of(long x);
long OURS %s(long x) { asm volatile(""); return left_of(x) + 1; }
long OURS %s(long x) { asm volatile(""); return right_of(x) + 1; }
static long OURS left_of(long x) { asm volatile("" : "+r"(x)); return x * 3; }
static long OURS right_of(long x) { asm volatile("" : "+r"(x)); return x * 5; }
"""
PAIRS = [
    EditedPair(
        "constants of two functions that were one",
        SWITCHES % 13,
        SWITCHES % 14,
        CHANGED,
        "alias",
        ".rodata",
        NO_EFFECT,
    ),
    EditedPair(
        "bytes of a function",
        "long f(long x) { return x + 1; }",
        "long f(long x) { return x + 2; }",
        CHANGED,
        "content",
        ".text",
        "replaced",
    ),
    EditedPair(
        "a call of a function",
        "void a(void); void b(void); void f(void) { a(); }",
        "void a(void); void b(void); void f(void) { b(); }",
        CHANGED,
        "reference",
        ".text",
        "replaced",
    ),
    EditedPair(
        "a symbol that is needed anew",
        "void a(void); void f(void) { a(); }",
        "void a(void); void b(void); void f(void) { a(); b(); }",
        CHANGED,
        "came",
        "",
        "bound",
    ),
    EditedPair(
        "a symbol that is not needed any more",
        "void a(void); void b(void); void f(void) { a(); b(); }",
        "void a(void); void f(void) { a(); }",
        CHANGED,
        "went",
        "",
        NO_EFFECT,
    ),
    EditedPair("a new function", "", "long g(long x) { return x; }", CHANGED, "came", ".text", "carried"),
    EditedPair(
        "a function that is gone",
        "static long used g(long x) { return x; }",
        "",
        NOTHING,
        "went",
        ".text",
        NO_EFFECT,
        "g (.text): taken away",
    ),
    EditedPair(
        "a new variable",
        "long f(void) { return one; }",
        "int three = 3; long f(void) { return three; }",
        CHANGED,
        "came",
        ".data",
        "carried",
    ),
    EditedPair("a new variable that nobody uses", "", "int three = 3;", NOTHING, "came", ".data", NO_EFFECT),
    EditedPair(
        "a variable that is gone",
        "int three = 3; long f(void) { return three; }",
        "long f(void) { return one; }",
        CHANGED,
        "went",
        ".data",
        NO_EFFECT,
    ),
    EditedPair("an initial value", "int v = 3;", "int v = 4;", "K1-data", "content", ".data", "refused"),
    EditedPair("a size", "int v[2] = {3};", "int v[3] = {3};", "K1-data", "size", ".data", "refused"),
    EditedPair("a pointer in data", "int *v = &one;", "int *v = &two;", "K1-data", "reference", ".data", "refused"),
    EditedPair(
        "a string",
        'const char *f(void) { return "left"; }',
        'const char *f(void) { return "right"; }',
        CHANGED,
        "text",
        "strings of 1",
        "carried",
    ),
    EditedPair(
        "an alias of data that means another",
        DATA_ALIAS % "zero",
        DATA_ALIAS % "nought",
        K30,
        "alias",
        ".bss",
        UNACCOUNTED,
    ),
    EditedPair(
        "another name of data",
        "",
        'extern int cur __attribute__((alias("one")));',
        NOTHING,
        "alias",
        ".data",
        NO_EFFECT,
    ),
    EditedPair(
        "a name of data that is gone",
        'extern int cur __attribute__((alias("one")));',
        "",
        NOTHING,
        "alias",
        ".data",
        NO_EFFECT,
    ),
    EditedPair(
        "an alias of a function that means another",
        FUNCTION_ALIAS % "a",
        FUNCTION_ALIAS % "b",
        "K12-folded",
        "alias",
        ".text",
        "refused",
    ),
    EditedPair(
        "a function that must not be probed",
        "long f(long x) { return x; }",
        'long SECTION(".kprobes.text") f(long x) { return x; }',
        K30,
        "section",
        ".kprobes.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "a function that may be probed again",
        'long SECTION(".kprobes.text") f(long x) { return x; }',
        "long f(long x) { return x; }",
        K30,
        "section",
        ".text",
        UNACCOUNTED,
    ),
    EditedPair(
        "a function that is listed as one not to be probed",
        "long f(long x) { return x; }",
        "long f(long x) { return x; }" + quads("_kprobe_blacklist", "f"),
        K30,
        "entries",
        "_kprobe_blacklist",
        UNACCOUNTED,
        counts=("f",),
    ),
    EditedPair(
        "a function that is no longer listed as one not to be probed",
        "long f(long x) { return x; }" + quads("_kprobe_blacklist", "f"),
        "long f(long x) { return x; }",
        CHANGED,
        "entries",
        "_kprobe_blacklist",
        "no effect",
        "what kprobes may do there stays as it is",
        counts=("f",),
    ),
    EditedPair(
        "a function that stays listed as one not to be probed",
        "long f(long x) { return x; }" + quads("_kprobe_blacklist", "f"),
        "long f(long x) { return x + 2; }" + quads("_kprobe_blacklist", "f"),
        CHANGED,
        "content",
        ".text",
        "replaced",
    ),
    EditedPair(
        "a new function that must not be probed",
        "",
        "long g(long x) { return x; }" + quads("_kprobe_blacklist", "g"),
        CHANGED,
        "entries",
        "_kprobe_blacklist",
        "carried",
    ),
    EditedPair(
        "two functions of one section in each other's place: their branches have no relocation, and equal bytes",
        IN_ONE_SECTION % ("first", "second"),
        IN_ONE_SECTION % ("second", "first"),
        CHANGED,
        "reference",
        ".sched.text",
        "replaced",
    ),
    EditedPair(
        "a function of the scheduler",
        "long f(long x) { return x; }",
        'long SECTION(".sched.text") f(long x) { return x; }',
        K30,
        "section",
        ".sched.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "an entry of interrupts",
        "long f(long x) { return x; }",
        'long SECTION(".irqentry.text") f(long x) { return x; }',
        K30,
        "section",
        ".irqentry.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "code of idle CPUs",
        "long f(long x) { return x; }",
        'long SECTION(".cpuidle.text") f(long x) { return x; }',
        K30,
        "section",
        ".cpuidle.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "code that is not instrumented",
        "long f(long x) { return x; }",
        'long SECTION(".noinstr.text") f(long x) { return x; }',
        K30,
        "section",
        ".noinstr.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "code of entries",
        "long f(long x) { return x; }",
        'long SECTION(".entry.text") f(long x) { return x; }',
        K30,
        "section",
        ".entry.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "cold code",
        "long f(long x) { return x; }",
        'long SECTION(".text.unlikely") f(long x) { return x; }',
        NOTHING,
        "section",
        ".text.unlikely",
        NOISE,
    ),
    EditedPair(
        "code of a section that nobody knows",
        "long f(long x) { return x; }",
        'long SECTION(".mine.text") f(long x) { return x; }',
        K30,
        "section",
        ".mine.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "a function in init memory",
        "long f(long x) { return x; }",
        'long SECTION(".init.text") f(long x) { return x; }',
        K30,
        "section",
        ".init.text",
        UNACCOUNTED,
    ),
    EditedPair(
        "alignment of code",
        "long f(long x) { return x; }",
        "long __attribute__((aligned(64))) f(long x) { return x; }",
        NOTHING,
        "alignment",
        ".text",
        NO_EFFECT,
    ),
    EditedPair(
        "more alignment of data",
        "int v[8] = {1};",
        "int v[8] __attribute__((aligned(128))) = {1};",
        K30,
        "alignment",
        ".data",
        UNACCOUNTED,
    ),
    EditedPair(
        "less alignment of data",
        "int v[8] __attribute__((aligned(128))) = {1};",
        "int v[8] = {1};",
        NOTHING,
        "alignment",
        ".data",
        NO_EFFECT,
    ),
    EditedPair(
        "a static that is global now",
        "static long noinline f(long x) { return x + source; } long g(long x) { return f(x) + 1; }",
        "long noinline f(long x) { return x + source; } long g(long x) { return f(x) + 1; }",
        NOTHING,
        "binding",
        ".text",
        NO_EFFECT,
    ),
    EditedPair(
        "a weak variable", "int v = 3;", "int __attribute__((weak)) v = 3;", NOTHING, "binding", ".data", NO_EFFECT
    ),
    EditedPair(
        "hidden",
        "int v = 3;",
        'int __attribute__((visibility("hidden"))) v = 3;',
        NOTHING,
        "visibility",
        ".data",
        NO_EFFECT,
    ),
    EditedPair(
        "a lock prefix on one CPU only",
        LOCK,
        'void f(void) { asm volatile("1: lock; incl one"); }',
        CHANGED,
        "entries",
        ".smp_locks",
        "replaced",
    ),
    EditedPair(
        "another lock prefix",
        'void f(void) { asm volatile("lock; incl one"); }',
        LOCK,
        CHANGED,
        "entries",
        ".smp_locks",
        "replaced",
    ),
    EditedPair("an initcall that is gone", INITCALL, "", NOTHING, "went", ".initcall6.init", NO_EFFECT, "taken away"),
    EditedPair("a new initcall", "", INITCALL, "K3-init K7-export", "came", ".initcall6.init", "refused"),
    EditedPair(
        "an export that is gone",
        'static int *e used SECTION("___ksymtab+one") = &one;',
        "",
        NOTHING,
        "went",
        "___ksymtab+one",
        NO_EFFECT,
        "exports",
    ),
    EditedPair(
        "a new export",
        "",
        'static int *e used SECTION("___ksymtab+one") = &one;',
        "K7-export",
        "came",
        "___ksymtab+one",
        "refused",
    ),
    EditedPair(
        "a parameter that is gone",
        'static int *e used SECTION("__param") = &one;',
        "",
        NOTHING,
        "went",
        "__param",
        NO_EFFECT,
        "parameters",
    ),
    EditedPair(
        "a new governor",
        quads("__governor_thermal_table", "one"),
        quads("__governor_thermal_table", "one", "two"),
        "K2-special",
        "size",
        "__governor_thermal_table",
    ),
    EditedPair(
        "a governor that is gone",
        'static int *g used SECTION("__governor_thermal_table") = &one;',
        "",
        NOTHING,
        "went",
        "__governor_thermal_table",
        NO_EFFECT,
        "thermal",
    ),
    EditedPair(
        "a new governor with a name",
        "",
        'static int *g used SECTION("__governor_thermal_table") = &one;',
        K30,
        "came",
        "__governor_thermal_table",
        UNACCOUNTED,
    ),
    EditedPair(
        "the order of drivers",
        'static int *a used SECTION(".apicdrivers") = &one; static int *b used SECTION(".apicdrivers") = &two;',
        'static int *b used SECTION(".apicdrivers") = &two; static int *a used SECTION(".apicdrivers") = &one;',
        NOTHING,
        "order",
        ".apicdrivers",
        NO_EFFECT,
        "order",
    ),
    EditedPair(
        "a mending of devices",
        "",
        'static int *a used SECTION(".pci_fixup_final") = &one;',
        NOTHING,
        "came",
        ".pci_fixup_final",
        NO_EFFECT,
        "workarounds for PCI devices",
    ),
    EditedPair(
        "a mending of devices that is gone",
        'static int *a used SECTION(".pci_fixup_final") = &one;',
        "",
        NOTHING,
        "went",
        ".pci_fixup_final",
        NO_EFFECT,
        "workarounds for PCI devices",
    ),
    EditedPair(
        "a table that nobody knows",
        "",
        'static int *a used SECTION("my_table") = &one;',
        K30,
        "came",
        "my_table",
        UNACCOUNTED,
    ),
    EditedPair(
        "an entry of such a table that is gone",
        'static int *a used SECTION("my_table") = &one;',
        "",
        K30,
        "went",
        "my_table",
        UNACCOUNTED,
    ),
    EditedPair(
        "another BTF id",
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4")),
        table(".BTF_ids", label("__BTF_ID__func__b__1", ".zero 4")),
        K30,
        "came",
        ".BTF_ids",
        UNACCOUNTED,
    ),
    EditedPair(
        "one more BTF id",
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4")),
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4") + "; " + label("__BTF_ID__func__b__2", ".zero 4")),
        K30,
        "came",
        ".BTF_ids",
        UNACCOUNTED,
    ),
    EditedPair(
        "BTF ids counted otherwise",
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4")),
        table(".BTF_ids", label("__BTF_ID__func__a__7", ".zero 4")),
        NOTHING,
        "",
        "",
    ),
    EditedPair(
        "the order of BTF ids",
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4") + "; " + label("__BTF_ID__func__b__2", ".zero 4")),
        table(".BTF_ids", label("__BTF_ID__func__b__1", ".zero 4") + "; " + label("__BTF_ID__func__a__2", ".zero 4")),
        K30,
        "order",
        ".BTF_ids",
        UNACCOUNTED,
    ),
    EditedPair(
        "flags of a BTF id",
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4; .long 0")),
        table(".BTF_ids", label("__BTF_ID__func__a__1", ".zero 4; .long 1")),
        K30,
        "content",
        ".BTF_ids",
        UNACCOUNTED,
    ),
    EditedPair(
        "an alias of a module",
        "",
        'INFO(i, "alias=net-pf-16");',
        NOTHING,
        "came",
        ".modinfo",
        NO_EFFECT,
        "read by depmod",
    ),
    EditedPair(
        "a soft dependency that is gone",
        'INFO(i, "softdep=pre: loop");',
        "",
        NOTHING,
        "went",
        ".modinfo",
        NO_EFFECT,
        "read by depmod",
    ),
    EditedPair(
        "a license",
        'INFO(i, "license=GPL");',
        'INFO(i, "license=GPL v2");',
        NOTHING,
        "came",
        ".modinfo",
        NO_EFFECT,
        "license",
    ),
    EditedPair(
        "unwinding of unchanged code",
        table(".orc_unwind_ip", ".long stays - .") + table(".orc_unwind", ".zero 6"),
        table(".orc_unwind_ip", ".long stays - .") + table(".orc_unwind", ".byte 1; .zero 5"),
        NOTHING,
        "entries",
        ".orc_unwind_ip",
        NO_EFFECT,
        "unwind",
    ),
    EditedPair(
        "error injection",
        "",
        table("_error_injection_whitelist", ".quad stays; .long 1, 0"),
        K30,
        "entries",
        "_error_injection_whitelist",
        UNACCOUNTED,
    ),
    EditedPair(
        "what is dropped by the linker",
        "",
        quads(".discard.addressable", "one"),
        NOTHING,
        "came",
        ".discard.addressable",
        NO_EFFECT,
    ),
    EditedPair(
        "a section that is not loaded",
        table(".mine", ".quad 1", ""),
        table(".mine", ".quad 2", ""),
        K30,
        "content",
        ".mine",
        UNACCOUNTED,
    ),
    EditedPair(
        "a static local counted otherwise",
        "long a(void) { static long n; return n += source; }",
        "long z(void) { static long m = 3; return m += source; } long a(void) { static long n; return n += source; }",
        CHANGED,
        "came",
        ".text",
        "carried",
    ),
    EditedPair(
        "an absolute symbol",
        'asm(".globl magic; .set magic, 3");',
        'asm(".globl magic; .set magic, 4");',
        K30,
        "binding",
        "",
        UNACCOUNTED,
    ),
    EditedPair(
        "writable now",
        "static const long v = 3; const long *f(void) { return &v; }",
        "static long v = 3; const long *f(void) { return &v; }",
        CHANGED,
        "section",
        ".data",
        "carried",
    ),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name)
def test_pair(pair: EditedPair) -> None:
    found = answer(pair.before, pair.after)
    claims = found.accounting.claims
    shown = "\n".join(f"{c.by}: {c.difference}: {c.why}" for c in claims)
    assert outcome(found) == pair.ends, shown
    if pair.kind:
        of = [c for c in claims if (c.difference.kind, c.difference.section) == (pair.kind, pair.section)]
        assert of, shown
        assert not pair.claim or pair.claim in {c.by for c in of}, shown
    if found.nothing:
        assert {c.by for c in claims} <= {NO_EFFECT, NOISE}, shown
    if pair.said:
        assert any(pair.said in line for line in no_effects([found.accounting])), shown


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.ends in (NOTHING, K30)], ids=lambda p: p.name)
def test_beside_a_changed_function(pair: EditedPair) -> None:
    """It is not lost where something else changes: refused all the same, or said."""
    found = answer(pair.before, pair.after, "+1")
    assert [c.name for c in found.changed] == ["beside", *pair.counts]
    assert outcome(found) == (CHANGED if pair.ends == NOTHING else K30)
    alone = answer(pair.before, pair.after)
    kept = {c.difference for c in alone.accounting.claims}
    assert kept <= {c.difference for c in found.accounting.claims} or len(found.accounting.claims) > len(kept)
    if pair.said and "taken away" not in pair.said:
        assert any(pair.said in c.why for c in found.accounting.said) or found.accounting.said


MINE = "%snoinline long mine(long x) { return stays(x) + %d; }"


@pytest.mark.parametrize(
    ("before", "after", "ends", "said"),
    [
        ("", ".kprobes.text", K30, ""),
        ("", ".noinstr.text", K30, ""),
        (".sched.text", ".kprobes.text", K30, ""),
        (".kprobes.text", "", CHANGED, "which kprobes keep out of"),
        ("", ".sched.text", CHANGED, "stays where it is"),
        ("", ".cpuidle.text", CHANGED, "stays where it is"),
        (".sched.text", "", CHANGED, ""),
        (".kprobes.text", ".kprobes.text", CHANGED, ""),
        ("", ".text.hot", CHANGED, ""),
    ],
)
def test_a_changed_function_that_moves(before: str, after: str, ends: str, said: str) -> None:
    """Its copy lies in the module, and calls enter at its old place: what the move was for may be lost."""
    found = answer(*(MINE % (f'SECTION("{s}") ' if s else "", n) for s, n in ((before, 3), (after, 4))))
    lines = no_effects([found.accounting])
    assert outcome(found) == ends
    assert len(lines) == bool(said) and all(said in line for line in lines)


def test_there_are_enough() -> None:
    assert len({p.name for p in PAIRS}) == len(PAIRS) >= 60


def test_an_object_and_itself() -> None:
    found = answer("", "")
    assert found.nothing and not found.accounting.claims and summary([found.accounting]) == ""
