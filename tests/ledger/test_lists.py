# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists, parameters and flags: what comes along with a changed function, what only seems to, and what is shared."""

from __future__ import annotations

import pytest

from kgbuild.accounting.account import no_effects
from kgbuild.accounting.claims import Claim
from kgbuild.accounting.unit_facts import CARRIED, NO_EFFECT, NOISE, UNACCOUNTED
from kgbuild.livepatch.kept_tables import find_kept_tables
from kgbuild.pipeline.object_diff import ObjectDiff
from tests.support.ledger.pairs import CHANGED, K30, NOTHING, answer, outcome, table

PRINT = """
extern int _printk(const char *, ...);
struct ratelimit_state { long state[5]; };
int ___ratelimit(struct ratelimit_state *, const char *);
#define ONCE(flag, text) if (!flag) { flag = 1; _printk(text); }
#define OWN(name) static _Bool SECTION(".data.once") name;
"""


def claims_of(found: ObjectDiff, section: str) -> list[Claim]:
    return [c for c in found.accounting.claims if c.difference.section == section]


# -- a list that no patch module has -----------------------------------------------------------------------------------


def test_error_injection_of_a_changed_function() -> None:
    """The function is replaced; that it may be made to fail does not come along."""
    listed = table("_error_injection_whitelist", ".quad beside; .long 1, 0")
    found = answer("", listed, "+1")
    assert outcome(found) == K30 and [c.name for c in found.changed] == ["beside"]
    assert [c.by for c in claims_of(found, "_error_injection_whitelist")] == [UNACCOUNTED]


def test_error_injection_that_is_gone() -> None:
    listed = table("_error_injection_whitelist", ".quad beside; .long 1, 0")
    for beside, ends in (("", NOTHING), ("+1", CHANGED)):
        found = answer(listed, "", beside)
        assert outcome(found) == ends
        assert any("what was there stays" in line for line in no_effects([found.accounting]))


def test_a_function_that_may_be_probed() -> None:
    """What must not be probed is known by address, and the kernel's own function stays as it is: one that must not be
    probed any more would be, one that may be still can't, and that is said."""
    listed = table("_kprobe_blacklist", ".quad beside", "aw")
    assert outcome(answer("", listed, "+1")) == "K26-unaccounted"
    found = answer(listed, "", "+1")
    assert outcome(found) == CHANGED
    assert any("beside (_kprobe_blacklist)" in line for line in no_effects([found.accounting]))


@pytest.mark.parametrize("section", [".kprobes.text", ".sched.text", ".noinstr.text", ".irqentry.text"])
def test_a_changed_function_that_moves_between_borders(section: str) -> None:
    """Its new body comes along, outside of all borders. That calls enter at the old place is said where that is
    between borders, and refused where kprobes would be accepted there though they must not be."""
    f = "long %s f(long x) { return x + %d; }"
    there = f'SECTION("{section}")'
    into, out = answer(f % ("", 1), f % (there, 2)), answer(f % (there, 1), f % ("", 2))
    assert outcome(out) == CHANGED
    if section in (".kprobes.text", ".noinstr.text"):
        assert outcome(into) == "K26-unaccounted"
        assert any("which kprobes keep out of" in line for line in no_effects([out.accounting]))
    else:
        assert outcome(into) == CHANGED
        assert any(section in line and "stays where it is" in line for line in no_effects([into.accounting]))


# -- parameters --------------------------------------------------------------------------------------------------------

PARAMETER = 'static int *parameter used SECTION("__param") = &one;'


def test_a_new_parameter_has_no_module_to_come_along_in() -> None:
    found = answer("", PARAMETER)
    assert outcome(found) == K30
    assert [c.by for c in claims_of(found, "__param")] == [UNACCOUNTED]


def test_a_new_parameter_beside_a_changed_function() -> None:
    found = answer("", PARAMETER, "+1")
    assert outcome(found) == CHANGED
    assert [c.by for c in claims_of(found, "__param")] == [CARRIED]


def test_a_description_of_a_parameter() -> None:
    """Read by modinfo alone, and said, since no entry of a parameter tells it."""
    found = answer('INFO(i, "parm=pp:one");', 'INFO(i, "parm=pp:two");')
    assert outcome(found) == NOTHING
    assert len(no_effects([found.accounting])) == 2


def test_a_table_of_devices() -> None:
    alias = 'extern const int __mod_pci__one_device_table __attribute__((alias("one")));'
    for before, after in (("", alias), (alias, "")):
        found = answer(before, after)
        assert outcome(found) == NOTHING
        assert [c.by for c in claims_of(found, ".data")] == [NO_EFFECT]
        assert any("read by depmod" in line for line in no_effects([found.accounting]))


# -- flags, rate limits ------------------------------------------------------------------------------------------------

OWN = 'void f(void) { OWN(w) ONCE(w, "f") } void g(void) { OWN(w) ONCE(w, "g") }'
SHARED = 'OWN(w) void f(void) { ONCE(w, "f") } void g(void) { ONCE(w, "g") }'
LIMIT = "static struct ratelimit_state _rs = {{1, 2}};"
LIMITS = f'void f(void) {{ {LIMIT} if (___ratelimit(&_rs, "f")) _printk("f"); }}'
LIMITS += f' void g(void) {{ {LIMIT} if (___ratelimit(&_rs, "g")) _printk("g"); }}'
ONE_LIMIT = LIMIT + LIMITS.replace(LIMIT, "")


@pytest.mark.parametrize(
    ("before", "after"),
    [(OWN, SHARED), (SHARED, OWN), (LIMITS, ONE_LIMIT), (ONE_LIMIT, LIMITS)],
    ids=["a flag is shared", "a flag of each", "a rate limit is shared", "a rate limit of each"],
)
def test_who_shares_a_flag(before: str, after: str) -> None:
    """Two messages with one flag are one message; with one rate limit, half as many."""
    found = answer(PRINT + before, PRINT + after)
    assert outcome(found) == CHANGED
    assert {c.name for c in found.changed} <= {"f", "g"}


def test_flags_in_another_order() -> None:
    """The numbers of the flags change with the order of the functions, and who has one with whom does not."""
    f, g = OWN.split("} void g")
    found = answer(PRINT + OWN, PRINT + "void g" + g + f + "}")
    assert outcome(found) == NOTHING
    assert {c.by for c in found.accounting.claims} <= {NOISE, NO_EFFECT}


def test_one_more_user_of_a_flag() -> None:
    """A function that comes to use a flag changes by itself; those that had it before do not."""
    helper = 'OWN(w) static inline __attribute__((always_inline)) void h(void) { ONCE(w, "h") }'
    found = answer(
        PRINT + helper + "void f(void) { h(); } void g(void) { sink(1); }",
        PRINT + helper + "void f(void) { h(); } void g(void) { sink(1); h(); }",
    )
    assert [c.name for c in found.changed] == ["g"] and outcome(found) == CHANGED


def test_a_flag_that_is_not_cleared_any_more() -> None:
    """What lies in .data.once is cleared by debugfs' clear_warn_once: elsewhere it is not."""
    plain = 'static _Bool SECTION(".data.unlikely") w; void f(void) { ONCE(w, "f") }'
    for before, after in ((plain, plain.replace("unlikely", "once")), (plain.replace("unlikely", "once"), plain)):
        assert outcome(answer(PRINT + before, PRINT + after)) == K30


@pytest.mark.parametrize(
    ("text", "section"),
    [("long %s f(long x) { return x; }", ".ref.text"), ("int %s v = 3; long f(void) { return v; }", ".ref.data")],
)
def test_what_modpost_alone_tells_apart(text: str, section: str) -> None:
    found = answer(text % "", text % f'SECTION("{section}")')
    assert outcome(found) == NOTHING
    assert {c.by for c in found.accounting.claims} == {NOISE}


def test_the_end_of_unwinding_in_a_section() -> None:
    """The last entry for a section's code is one of its end; with a function behind it there is none any more. The
    function before has not changed, and nobody needs to know."""
    last = 'long SECTION(".sched.text") last(long x) { return x + source; }'
    ends = 'asm(".pushsection .sched.text, \\"ax\\"; .subsection 1; .Lend: .popsection");'
    orc = table(".orc_unwind_ip", ".long last - .; .long .Lend - .") + table(".orc_unwind", ".zero 12")
    more = 'long SECTION(".sched.text") more(long x) { return x - source; }'
    fewer = table(".orc_unwind_ip", ".long last - .; .long more - .; .long .Lend - .") + table(
        ".orc_unwind", ".zero 18"
    )
    found = answer(last + ends + orc, last + more + ends + fewer)
    of = [c for c in claims_of(found, ".orc_unwind_ip") if c.difference.symbol == "last"]
    assert len(of) == 1 and of[0].by == NO_EFFECT and not of[0].said


def test_another_text_of_a_debug_message() -> None:
    """The descriptor shows the text: with another one it is another descriptor, and the patch module has its own."""
    debug = """
struct ddebug { const char *module, *function, *file, *text; long line; };
int __dynamic_pr_debug(struct ddebug *, const char *, ...);
void f(long x) {
    static struct ddebug SECTION("__dyndbg") __UNIQUE_ID_ddebug1 = {"m", "f", "x.c", TEXT, 7};
    __dynamic_pr_debug(&__UNIQUE_ID_ddebug1, TEXT, x);
}
"""
    found = answer(debug.replace("TEXT", '"left %ld"'), debug.replace("TEXT", '"right %ld"'))
    assert outcome(found) == CHANGED and [c.name for c in found.changed] == ["f"]
    assert [c.by for c in claims_of(found, "__dyndbg")] == [CARRIED]


FIXUP = ".balign 16; .short %d, 7; .long 0, 0; .quad %s"  # struct pci_fixup: vendor, device, class, shift, hook
HOOKS = "noinline void hook(long x) { sink(x + %d); }"


def fixups(*rows: tuple[int, str]) -> str:
    return table(".pci_fixup_final", "; ".join(FIXUP % row for row in rows))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(1, "hook")], [(1, "hook"), (2, "hook")]),
        ([(1, "hook"), (2, "hook")], [(2, "hook")]),
        ([(1, "hook")], [(3, "hook")]),
        ([(1, "hook")], [(1, "beside")]),
    ],
    ids=["new", "gone", "another device", "another function"],
)
def test_workarounds_of_devices(before: list[tuple[int, str]], after: list[tuple[int, str]]) -> None:
    """The kernel reads its own table: what changes there has no effect, which is said."""
    hook = HOOKS % 1
    found = answer(hook + fixups(*before), hook + fixups(*after))
    assert outcome(found) == NOTHING
    assert len(no_effects([found.accounting])) == 1
    found = answer(hook + fixups(*before), hook + fixups(*after), "+1")
    assert outcome(found) == CHANGED
    assert [w.code for w in find_kept_tables(found.closure)] == ["W14-table-stays"]


def test_a_workaround_that_changes_is_patched() -> None:
    """It is called by its address, which the patch redirects; its entry is the kernel's own."""
    found = answer(HOOKS % 1 + fixups((1, "hook")), HOOKS % 2 + fixups((1, "hook")))
    assert outcome(found) == CHANGED and [c.name for c in found.changed] == ["hook"]
    assert find_kept_tables(found.closure) == []


def test_a_table_that_is_only_called_so_is_none() -> None:
    found = answer(
        HOOKS % 1 + table("pci_fixup_final", ".quad hook"), HOOKS % 2 + table("pci_fixup_final", ".quad hook")
    )
    assert outcome(found) == "K2-special"
