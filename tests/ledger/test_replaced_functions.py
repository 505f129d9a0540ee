# SPDX-License-Identifier: GPL-2.0-or-later
"""A static function that another one replaces in the tables that point to it: redirected, or refused."""

from __future__ import annotations

import pytest

from kgbuild.accounting.unit_facts import UNACCOUNTED
from kgbuild.pipeline.object_diff import ObjectDiff
from tests.support.ledger.pairs import CHANGED, NOTHING, answer, outcome

HEAD = "struct ops { long (*get)(long); long (*set)(long); long flags; };\n"
OLD = "static noinline long old(long x) { return x + source; }\n"
NEW = "static noinline long new(long x) { return x * 3 + source; }\n"
SAME = OLD.replace("old", "new")
TABLE = "const struct ops table = { %s, stays, 1 };\n"
SECOND = "const struct ops second = { %s, %s, 2 };\n"


def compared(before: str, after: str) -> ObjectDiff:
    return answer(HEAD + before, HEAD + after)


def changed(found: ObjectDiff) -> list[tuple[str, str]]:
    return [(c.orig.name, c.patched.name) for c in found.changes.changed]


@pytest.mark.parametrize(
    ("before", "after", "pairs"),
    [
        (OLD + TABLE % "old", SAME + TABLE % "new", []),
        (OLD + TABLE % "old", NEW + TABLE % "new", [("old", "new")]),
        (OLD + TABLE % "old" + SECOND % ("old", "0"), NEW + TABLE % "new" + SECOND % ("new", "0"), [("old", "new")]),
        # a writable table, and one in a function
        (OLD + (TABLE % "old").replace("const ", ""), NEW + (TABLE % "new").replace("const ", ""), [("old", "new")]),
        # called as well
        (
            OLD + TABLE % "old" + "long calls(long x) { return old(x) * 2; }",
            NEW + TABLE % "new" + "long calls(long x) { return new(x) * 2; }",
            [("old", "new")],
        ),
        # two at once, each by its own place
        (
            OLD + OLD.replace("old", "more").replace("+", "-") + SECOND % ("old", "more"),
            NEW + NEW.replace("new", "less").replace("+", "-") + SECOND % ("new", "less"),
            [("old", "new"), ("more", "less")],
        ),
    ],
    ids=["renamed", "replaced", "in two tables", "writable", "called as well", "two at once"],
)
def test_the_old_function_is_redirected(before: str, after: str, pairs: list[tuple[str, str]]) -> None:
    found = compared(before, after)
    assert changed(found) == pairs
    assert outcome(found) == (CHANGED if pairs else NOTHING)
    assert not [c for c in found.accounting.claims if c.by == UNACCOUNTED]
    assert all("in place of" in c.reason.detail for c in found.changes.changed)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # the old function is still there: others may reach it
        (OLD + TABLE % "old", OLD.replace("static", "static used") + NEW + TABLE % "new"),
        # two tables that come to differ
        (
            OLD + TABLE % "old" + SECOND % ("old", "0"),
            NEW + NEW.replace("new", "other").replace("3", "5") + TABLE % "new" + SECOND % ("other", "0"),
        ),
        # two places of one table that come to be the same
        (OLD + OLD.replace("old", "more").replace("+", "-") + SECOND % ("old", "more"), NEW + SECOND % ("new", "new")),
        # a function that was there already
        (OLD + TABLE % "old", TABLE % "beside"),
        # no function any more, or another place in one
        (OLD + TABLE % "old", TABLE % "0"),
        (OLD + TABLE % "old", NEW + TABLE % "(void *)((char *)new + 4)"),
        # a table of the running kernel that the patched source has no more
        (OLD + TABLE % "old" + SECOND % ("old", "0"), NEW + TABLE % "new"),
        # other units may refer to what is global
        (OLD.replace("static ", "") + TABLE % "old", NEW + TABLE % "new"),
        # another value beside it
        (OLD + TABLE % "old", NEW + (TABLE % "new").replace(", 1 }", ", 7 }")),
    ],
    ids=[
        "still there",
        "two tables apart",
        "two become one",
        "an old one",
        "none",
        "inside",
        "a table that is gone",
        "global",
        "another value",
    ],
)
def test_what_can_not_be_told_is_refused(before: str, after: str) -> None:
    found = compared(before, after)
    assert "K1-data" in outcome(found) or "K14-vanished" in outcome(found), outcome(found)


def test_each_half_has_its_own() -> None:
    cold = (
        "extern void __attribute__((cold, noreturn)) fail(const char *);\n"
        'static noinline long %s(long x) { if (x == %d) fail("at %d"); return x + source; }\n'
    )
    found = compared(cold % ("old", 5, 5) + TABLE % "old", cold % ("new", 5, 5) + TABLE % "new")
    assert outcome(found) == NOTHING
    found = compared(cold % ("old", 5, 5) + TABLE % "old", cold % ("new", 5, 6) + TABLE % "new")
    assert changed(found) == [("old", "new")] and outcome(found) == CHANGED


def test_what_begins_anew_is_not_passed_over() -> None:
    """A counter of the old function is that of the new one, or refused."""
    counting = "static noinline long %s(long x) { static long count; count += x; return count %s source; }\n"
    found = compared(counting % ("old", "+") + TABLE % "old", counting % ("new", "*") + TABLE % "new")
    if outcome(found) == CHANGED:
        counts = [a for a in found.changes.patched.data if a.name.startswith("count")]
        assert counts and all(a.id in found.changes.correlation.to_original for a in counts)
    else:
        assert outcome(found) in ("K22-state", "K13-ambiguous")


@pytest.mark.parametrize(
    "section", [".pci_fixup_final", "my_table", ".rodata.unnamed", ".init.data", ".initcall6.init"]
)
def test_a_table_without_a_name_that_points_to_the_old_function(section: str) -> None:
    """Nothing tells what its entry becomes: the old function must go on doing what it did there."""
    flags = "aw" if section.startswith(".init") else "a"
    row = f'asm(".pushsection {section},\\"{flags}\\"; .quad %s; .popsection");\n'
    found = compared(OLD + TABLE % "old" + row % "old", NEW + TABLE % "new" + row % "beside")
    assert changed(found) == [] and outcome(found) not in (CHANGED, NOTHING)


SWITCH = """static noinline long %s(long x) { switch (x) { case 0: return source; case 1: stays(3); return 5;
    case 2: return source * 7; case 3: sink(1); return 2; case 4: return 9 - source; case 5: sink(4); return %d; }
    return x; }
"""


def test_a_table_of_labels_is_the_functions_own() -> None:
    found = compared(SWITCH % ("old", 1) + TABLE % "old", SWITCH % ("new", 1) + TABLE % "new")
    assert outcome(found) == NOTHING
    found = compared(SWITCH % ("old", 1) + TABLE % "old", SWITCH % ("new", 2) + TABLE % "new")
    assert changed(found) == [("old", "new")] and outcome(found) == CHANGED
    inside = "const char *const inside = (char *)%s + 4;\n"
    found = compared(OLD + TABLE % "old" + inside % "old", NEW + TABLE % "new" + inside % "new")
    assert changed(found) == [] and outcome(found) not in (CHANGED, NOTHING)


KEEPS = "long (*kept)(long), (*more)(long); void keeps(void) { kept = %s; } void sets(void) { more = %s; }\n"


@pytest.mark.parametrize(
    ("before", "after", "pairs"),
    [
        (KEEPS % ("old", "stays"), KEEPS % ("new", "stays"), [("old", "new")]),
        # what was stored before is called with the old function's meaning
        (KEEPS % ("old", "stays"), KEEPS % ("beside", "stays"), None),
        (KEEPS % ("old", "old"), KEEPS % ("new", "beside"), None),
        (KEEPS % ("old", "stays"), "", None),
    ],
    ids=["the new one", "another", "one of two", "code that is gone"],
)
def test_code_that_takes_the_address(before: str, after: str, pairs: list[tuple[str, str]] | None) -> None:
    found = compared(OLD + TABLE % "old" + before, NEW + TABLE % "new" + after)
    if pairs is None:
        assert ("old", "new") not in changed(found) and outcome(found) not in (CHANGED, NOTHING)
    else:
        assert changed(found) == pairs and outcome(found) == CHANGED


THERE = "static noinline long there(long x) { return x * 3 + source; }\n"
OTHERS = "const struct ops others = { there, 0, 4 };\nlong calls(long x) { return there(x) * 2; }\n"


@pytest.mark.parametrize(
    ("before", "after", "pairs"),
    [
        (OLD + THERE + OTHERS + TABLE % "old", THERE + OTHERS + TABLE % "there", [("old", "there")]),
        # called alone
        (
            OLD + THERE + "long calls(long x) { return there(x) * 2; }" + TABLE % "old",
            THERE + "long calls(long x) { return there(x) * 2; }" + TABLE % "there",
            [("old", "there")],
        ),
        # it changes as well, for whoever reaches it otherwise
        (
            OLD + THERE + OTHERS + TABLE % "old",
            THERE.replace("3", "5") + OTHERS + TABLE % "there",
            [("old", "there"), ("there", "there")],
        ),
        # by two tables
        (
            OLD + THERE + OTHERS + TABLE % "old" + SECOND % ("old", "0"),
            THERE + OTHERS + TABLE % "there" + SECOND % ("there", "0"),
            [("old", "there")],
        ),
    ],
    ids=["in a table", "called", "changed", "two tables"],
)
def test_one_that_was_there_already(before: str, after: str, pairs: list[tuple[str, str]]) -> None:
    found = compared(before, after)
    assert sorted(changed(found)) == pairs
    assert outcome(found) == CHANGED
    assert not [c for c in found.accounting.claims if c.by == UNACCOUNTED]


COMPARED = "long asks(const struct ops *o) { return o->get == there; }\n"
STORED = "long (*kept)(long); void keeps(void) { kept = there; }\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OLD + THERE + OTHERS + COMPARED + TABLE % "old", THERE + OTHERS + COMPARED + TABLE % "there"),
        (OLD + THERE + OTHERS + STORED + TABLE % "old", THERE + OTHERS + STORED + TABLE % "there"),
        (OLD + THERE + OTHERS + TABLE % "old", THERE + OTHERS + COMPARED + TABLE % "there"),
        # a table that comes with the patch would point to the copy
        (
            OLD + THERE + OTHERS + TABLE % "old",
            THERE + OTHERS + TABLE % "there" + "const struct ops fresh = { there, 0, 9 };\n",
        ),
        # other units may compare what is global
        (OLD + THERE.replace("static ", "") + TABLE % "old", THERE.replace("static ", "") + TABLE % "there"),
        # others reach the old one
        (
            OLD + THERE + OTHERS + TABLE % "old" + "long more(long x) { return old(x) * 7 + old(2); }",
            OLD + THERE + OTHERS + TABLE % "there" + "long more(long x) { return old(x) * 7 + old(2); }",
        ),
        (
            OLD + THERE + OTHERS + TABLE % "old" + SECOND % ("old", "0"),
            OLD + THERE + OTHERS + TABLE % "there" + SECOND % ("old", "0"),
        ),
        # the two change places
        (OLD + THERE + SECOND % ("old", "there"), OLD + THERE + SECOND % ("there", "old")),
        # code that keeps the old one's address
        (
            OLD + THERE + OTHERS + TABLE % "old" + "long (*kept)(long); void keeps(void) { kept = old; }",
            THERE + OTHERS + TABLE % "there" + "long (*kept)(long); void keeps(void) { kept = there; }",
        ),
        # one of the kernel, or of another unit
        (OLD + "extern long beyond(long);" + TABLE % "old", "extern long beyond(long);" + TABLE % "beyond"),
    ],
    ids=[
        "compared",
        "stored",
        "compared by the patch",
        "a new table",
        "global",
        "called",
        "in another table",
        "swapped",
        "kept by code",
        "elsewhere",
    ],
)
def test_one_that_was_there_and_whose_address_means_something(before: str, after: str) -> None:
    found = compared(before, after)
    assert "K1-data" in outcome(found), outcome(found)


def test_a_refusal_names_the_functions() -> None:
    found = compared(OLD + TABLE % "old" + SECOND % ("old", "0"), OLD + NEW + TABLE % "new" + SECOND % ("old", "0"))
    (refusal,) = [r for r in found.refusals if r.code == "K1-data"]
    assert refusal.fact == "changed initial value of table (old -> new)"
    assert "have old do what new does, if nothing else reaches it" in refusal.remedy
    beyond = "extern long beyond(long), further(long);"
    found = compared(beyond + TABLE % "beyond", beyond + TABLE % "further")
    (refusal,) = found.refusals
    assert refusal.fact.endswith("(beyond -> further)") and refusal.remedy.startswith("set the pointer in a callback")
    # another value beside it: nothing but the value is named
    found = compared(beyond + TABLE % "beyond", beyond + (TABLE % "further").replace(", 1 }", ", 7 }"))
    assert [r.fact for r in found.refusals] == ["changed initial value of table at byte 16"]
