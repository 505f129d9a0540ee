# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/limits.md, made from the registry of refusals, so that what is documented is what is refused; and docs/noise.md,
made from the rules for accidental differences; docs/probes.md, from the questions that a kernel is asked; and
docs/input-limits.md, from the table of limits."""

from __future__ import annotations

from collections.abc import Iterable

from kgbuild.correlation import noise
from kgbuild.diagnostics.registry import RULES
from kgbuild.diagnostics.rule import Rule
from kgbuild.kernel.feature_probes import PROBES, SEEN
from kgbuild.kernel.section_readers import TABLE
from kgbuild.limits import LIMITS

# Letter of a code -> heading, and what the group has in common. A new letter needs a row here.
GROUPS = {
    "P": (
        "The patch",
        "Seen from the text of the patch, before anything is compiled (P10 while it is, P14 and P15 in the result).",
    ),
    "C": ("The kernel", "Seen from the kernel's configuration and the compiler."),
    "L": ("What is loaded before", "Seen from the modules given with --on-top-of."),
    "B": ("The back end", "Seen when the module is put together, of what the kernel offers and the patch needs."),
    "Y": ("Parity", "The kernel's own source, compiled again, must give the code that runs."),
    "K": ("The change", "Seen from the compiled code: what can't be replaced while a kernel runs."),
    "W": (
        "Warnings",
        "Nothing is refused for these: the module is right, but may not take effect as one expects. `impact` and "
        "`build` show them, and the report has them under `consistency`, with the places they were seen at.",
    ),
    "V": ("Findings in a module", "What `verify` finds in a finished module, reading it with another reader."),
    "G": ("Findings in a guest", "What `vm` finds when the kernel is booted and the patch goes through its life."),
    "E": (
        "Other ends of a run",
        "What ends a run before there is an answer. The codes stand in the JSON, under `errors`.",
    ),
}

_HEAD = """\
<!-- Made by `make docs` from kgbuild/diagnostics. Do not edit. -->

# What kgbuild refuses, warns of and finds, and what to do then

A refusal has a code that stays the same for ever, a place, a fact and a remedy. All refusals of a run are
given together, the exit status is 1 and nothing is written. What kgbuild does not know, it refuses.
"""


def render_limits() -> str:
    """The whole of docs/limits.md: one table a group, its rows in the order of the registry.

    Raises KeyError for a code whose letter is in no group.
    """
    rows: dict[str, list[Rule]] = {letter: [] for letter in GROUPS}
    for code, rule in RULES.items():
        rows[code[0]].append(rule)
    return _HEAD + "".join(
        f"\n## {GROUPS[letter][0]}\n\n{GROUPS[letter][1]}\n\n{_table(rules)}" for letter, rules in rows.items() if rules
    )


_NOISE = """\
<!-- Made by `make docs` from kgbuild/correlation/noise.py. Do not edit. -->

# Differences that are no change

Two compiles of the same source differ here and there by accident. `kgbuild diff` sets such a difference aside only by
one of these rules, and names function and rule in its answer. What no rule covers is a change.

| rule | what differs | why it is no change |
| --- | --- | --- |
"""


def render_noise() -> str:
    """The whole of docs/noise.md."""
    return _NOISE + "".join(f"| `{r.name}` | {_cell(r.what)} | {_cell(r.why)} |\n" for r in noise.RULES.values())


_PROBES = """\
<!-- Made by `make docs` from kgbuild/kernel/feature_probes.py. Do not edit. -->

# What a kernel is asked

Kernels differ, and versions say little about it: distributions carry changes back, and leave some out. So kgbuild never
compares versions; it asks the kernel itself. The last column says since when kernels usually answer yes; nothing
depends on it.

| probe | what is looked at | what follows | since |
| --- | --- | --- | --- |
"""


_SEEN = """
## What shows by itself

These need no question: the object, the configuration or the tree itself shows them.

| difference | seen by | what follows | since |
| --- | --- | --- | --- |
"""


def render_probes() -> str:
    """The whole of docs/probes.md."""
    probes = (f"| `{p.name}` | {_cell(p.looks_at)} | {_cell(p.then)} | {_cell(p.since)} |\n" for p in PROBES)
    seen = (f"| {_cell(s.what)} | {_cell(s.seen_by)} | {_cell(s.then)} | {_cell(s.since)} |\n" for s in SEEN)
    return "".join((_PROBES, *probes, _SEEN, *seen))


_INPUT_LIMITS = """\
<!-- Made by `make docs` from kgbuild/limits.py. Do not edit. -->

# How large input may be

Each limit is many times what real input has. What is larger is refused (exit status 2; 1 where a patch makes a compile
that large), with a message that has the limit's name. What is no regular file (a device, a pipe, a directory) is
refused by what it is.

| limit | at most | of what |
| --- | --- | --- |
"""


def render_input_limits() -> str:
    """The whole of docs/input-limits.md."""
    return _INPUT_LIMITS + "".join(f"| `{i.name}` | {_cell(i.amount)} | {_cell(i.what)} |\n" for i in LIMITS)


def _table(rules: Iterable[Rule]) -> str:
    lines = ["| code | rule | remedy |", "| --- | --- | --- |"]
    lines += [f"| `{rule.code}` | {_cell(rule.rule)} | {_cell(rule.remedy)} |" for rule in rules]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text fit for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|")


_SECTIONS_HEAD = """<!-- Made by `make docs` from kgbuild/kernel/section_readers.py. Do not edit. -->

# Sections of the kernel, and who reads them

What a difference in a section can do to a kernel that runs follows from who reads it, and when. kgbuild takes this
table for it when it accounts for every difference between the original and the patched object (`impact --accounting`).
A difference in a section that is not here stops a build, with the section's name. `*` means any end of a name.

| section | what is in it | who reads it | when | source |
| --- | --- | --- | --- | --- |
"""


def render_sections() -> str:
    """The page as Markdown; rows that differ only in the section's name are one."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in TABLE:
        groups.setdefault((row.what, row.who, row.when, row.source), []).append(f"`{row.section}`")
    rows = (f"| {' '.join(names)} | {' | '.join(rest)} |" for rest, names in groups.items())
    return _SECTIONS_HEAD + "\n".join(rows) + "\n"
