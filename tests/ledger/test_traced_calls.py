# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tracer shows of system calls: a change there has no effect, unless something else reads it too."""

from __future__ import annotations

import pytest

from kgbuild.accounting.account import no_effects
from kgbuild.accounting.unit_facts import NO_EFFECT
from kgbuild.livepatch.kept_tables import find_kept_tables
from kgbuild.pipeline.object_diff import ObjectDiff
from tests.support.ledger.pairs import CHANGED, NOTHING, answer, outcome

HEAD = """
struct list { struct list *next, *prev; };
struct call { const char *name; int number; int nb; const char **types; const char **args; struct list fields;
              void *enter, *leave; };
struct event { long flags; void *data; };
extern void syscall_enter(void);
#define CALL(sname, count, ...) \\
static struct event event_enter_##sname, event_exit_##sname; \\
static struct call used __syscall_meta_##sname = { "sys" #sname, -1, count, \\
    count ? types_##sname : 0, count ? args_##sname : 0, \\
    { &__syscall_meta_##sname.fields, &__syscall_meta_##sname.fields }, &event_enter_##sname, &event_exit_##sname }; \\
static struct event used event_enter_##sname = { 1, &__syscall_meta_##sname }; \\
static struct event used event_exit_##sname = { 1, &__syscall_meta_##sname }; \\
static struct call used SECTION("__syscalls_metadata") *__p_syscall_meta_##sname = \\
    &__syscall_meta_##sname;
"""
ONE = 'static const char *types__read[] = { "int", "char *" }; static const char *args__read[] = { "fd", "buf" };\n'
READ = "CALL(_read, 2)\nlong sys_read(long fd) { return source + fd; }\n"
MORE = ONE.replace('"char *"', '"char *", "long"').replace('"buf"', '"buf", "count"')


def compared(before: str, after: str, beside: str = "") -> ObjectDiff:
    return answer(HEAD + before, HEAD + after, beside)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ONE + READ, ONE.replace('"buf"', '"ubuf"') + READ),
        (ONE + READ, ONE.replace('"char *"', '"void *"') + READ),
        (ONE + READ, MORE + READ.replace("2", "3")),
        (MORE + READ.replace("2", "3"), ONE + READ),
        (ONE + READ, ONE + READ.replace("2", "1")),
    ],
    ids=["name", "type", "one more", "one fewer", "number"],
)
def test_arguments_for_tracing(before: str, after: str) -> None:
    found = compared(before, after)
    assert outcome(found) == NOTHING
    assert {c.by for c in found.accounting.claims} == {NO_EFFECT}
    said = no_effects([found.accounting])
    assert said and all("for tracing" in line for line in said)
    # each variable is said once, whatever differs in it
    assert len(said) == len({line.partition(" (")[0] for line in said})
    # beside a changed function
    found = compared(before, after, "+1")
    assert outcome(found) == CHANGED and no_effects([found.accounting]) == []
    (warning,) = find_kept_tables(found.closure)
    assert warning.code == "W13-traced" and "__read" in warning.fact


@pytest.mark.parametrize(
    "use",
    [
        "const char *f(int i) { return args__read[i]; }",
        "const char **kept = args__read;",
        "struct call *f(void) { return &__syscall_meta__read; }",
    ],
)
def test_what_something_else_reads_is_data(use: str) -> None:
    other = ONE.replace('"buf"', '"ubuf"')
    if "__syscall_meta__read" in use:
        assert outcome(compared(ONE + READ + use, ONE + READ.replace("2", "1") + use)) == "K1-data"
    else:
        assert outcome(compared(ONE + READ + use, other + READ + use)) == "K1-data"


@pytest.mark.parametrize("name", ["args__read", "types__read", "__syscall_meta__read"])
def test_a_name_alone_does_not_tell(name: str) -> None:
    """A table that is only called so is a table."""
    text = f'static const char *{name}[] = {{ "a", %s }}; const char *f(int i) {{ return {name}[i]; }}'
    assert outcome(compared(text % '"b"', text % '"c"')) == "K1-data"
    # nothing refers to it: whoever finds it by other means is not known
    text = f'static const char *used {name}[] = {{ "a", %s }};'
    assert outcome(compared(text % '"b"', text % '"c"')) == "K1-data"


def test_a_new_call_is_registered_at_boot() -> None:
    write = ONE.replace("__read", "__write") + READ.replace("_read", "_write")
    assert outcome(compared(ONE + READ, ONE + READ + write)) == "K7-export"
