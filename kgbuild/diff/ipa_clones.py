# SPDX-License-Identifier: GPL-2.0-or-later
"""What gcc itself says it made of the functions of a unit: the file that -fdump-ipa-clones writes.

A line a step, in the order of the passes (gcc's dump_callgraph_transformation, cgraph_node::remove):

    Callgraph clone;NAME;order;file;line;column;OTHER;order;file;line;column;KIND
    Callgraph removal;NAME;order;file;line;column

KIND says what was done. "inlining to": a copy of NAME went into OTHER. "isra", "constprop", "part" and their like:
OTHER was made of NAME. "(null)": OTHER is a copy of NAME made for recursive inlining, and has its name. Before gcc 7.1
the same stood with the words `<-` between the two functions and `optimization:` before KIND. Identical code folding,
ipa-ra, pure-const and modref do not stand there: a fact of this file is certain, its absence proves nothing.

A unit without any of it has an empty file. A compile that was killed leaves a file whose last line is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

EVIDENCE = ".ipa-clones"
INLINED, COPIED = "inlining to", "(null)"
_CLONE, _REMOVAL = "Callgraph clone", "Callgraph removal"
_DIGITS = 18  # of a number; Python makes none of thousands
_NODE = 5  # name, order, file, line, column


class GccFunction(NamedTuple):
    """A function as gcc knows it: assembler name, declaration; `order` distinguishes functions of one name."""

    name: str
    order: int
    file: str
    line: int
    column: int


class CloneStep(NamedTuple):
    """One thing gcc did: `kind` was done to `source`, and `result` is what it went into or became."""

    source: GccFunction
    result: GccFunction
    kind: str


@dataclass(frozen=True)
class IpaClones:
    """Everything a file says.

    steps     in the order of the file
    removed   functions of which no body of their own was left at that point
    complete  whether the last line is whole
    unread    line numbers (from 1) of lines that are of no known form
    """

    steps: tuple[CloneStep, ...] = ()
    removed: tuple[GccFunction, ...] = ()
    complete: bool = True
    unread: tuple[int, ...] = ()

    @cached_property
    def _origins(self) -> dict[str, CloneStep]:
        return {s.result.name: s for s in self.steps if s.kind not in (INLINED, COPIED)}

    @cached_property
    def _inlined(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for s in self.steps:
            if s.kind == INLINED:
                out.setdefault(s.source.name, []).append(s.result.name)
        return out

    @cached_property
    def _made(self) -> dict[str, list[CloneStep]]:
        out: dict[str, list[CloneStep]] = {}
        for s in self.steps:
            if s.kind not in (INLINED, COPIED):
                out.setdefault(s.source.name, []).append(s)
        return out

    @cached_property
    def _holds(self) -> dict[str, list[GccFunction]]:
        out: dict[str, list[GccFunction]] = {}
        for s in self.steps:
            if s.kind == INLINED:
                out.setdefault(s.result.name, []).append(s.source)
        return out

    def origin(self, name: str) -> CloneStep | None:
        """The step that made a function of another, None where gcc does not say it made it."""
        return self._origins.get(name)

    def history(self, name: str) -> list[CloneStep]:
        """The steps that made a clone, first to last; empty for a function that was written so."""
        out: list[CloneStep] = []
        seen = {name}
        while (step := self.origin(name)) is not None:
            out.append(step)
            name = step.source.name
            if name in seen:  # a damaged file
                break
            seen.add(name)
        return out[::-1]

    def made_of(self, name: str) -> list[CloneStep]:
        """The clones that gcc made of a function directly."""
        return self._made.get(name, [])

    def inlined_into(self, name: str) -> list[str]:
        """Functions that hold a copy of the body of `name`, also by way of others that were inlined; by name."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for other in self._inlined.get(todo.pop(), ()):
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return sorted(found - {name})

    def inlines(self, name: str, file: str = "") -> list[str]:
        """Functions of whose body `name` holds a copy directly, of one source file where one is given; by name."""
        found = self._holds.get(name, ())
        return sorted({p.name for p in found if not file or p.file == file} - {name})


NO_CLONES = IpaClones()


def parse_ipa_clones(text: str) -> IpaClones:
    """Read the text of an .ipa-clones file, of either form. Never raises: what can't be read is counted."""
    steps: list[CloneStep] = []
    removed: list[GccFunction] = []
    unread: list[int] = []
    complete = text == "" or text.endswith("\n")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        # a line without its end may be cut in the middle of its last word
        if not line or (number == len(lines) and not complete):
            continue
        head, *words = line.split(";")
        found = _step(words) if head == _CLONE else _place(words) if head == _REMOVAL else None
        if isinstance(found, CloneStep):
            steps.append(found)
        elif isinstance(found, GccFunction):
            removed.append(found)
        else:
            unread.append(number)
    return IpaClones(tuple(steps), tuple(removed), complete, tuple(unread))


def _step(words: list[str]) -> CloneStep | None:
    if len(words) == 2 * _NODE + 3 and words[_NODE] == "<-" and words[-2] == "optimization:":
        words = [*words[:_NODE], *words[_NODE + 1 : -2], words[-1]]
    if len(words) != 2 * _NODE + 1 or not words[-1]:
        return None
    source, result = _place(words[:_NODE]), _place(words[_NODE:-1])
    return CloneStep(source, result, words[-1]) if source is not None and result is not None else None


def _place(words: list[str]) -> GccFunction | None:
    if len(words) != _NODE or not words[0]:
        return None
    name, order, file, line, column = words
    if not all(n.isascii() and n.isdigit() and len(n) <= _DIGITS for n in (order, line, column)):
        return None
    return GccFunction(name, int(order), file, int(line), int(column))


def describe(steps: Iterable[CloneStep]) -> str:
    """The history of a clone in words: "f.constprop.0 of f (constprop), f.constprop.0.isra.0 of ..."; "" for none."""
    return ", ".join(f"{s.result.name} of {s.source.name} ({s.kind})" for s in steps)
