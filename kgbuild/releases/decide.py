# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a kernel is affected by what a fix repairs, from its source and configuration alone.

Fixes are looked at in order: each on the text that those before it leave, so that a fix may build on another. A file
that this kernel has elsewhere, or does not compile, is told from one that it does not have at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kgbuild.diagnostics.fix_states import (
    ABSENT,
    AFFECTED,
    CONFLICT,
    FIXED,
    NO_CODE,
    NOT_CONFIGURED,
    NOT_INTRODUCED,
    STATES,
)
from kgbuild.patch.apply import HunkFinder, apply_file
from kgbuild.patch.tree_paths import FileKind, check_path, choose_path, classify, find_strip
from kgbuild.patch.unified_diff import FilePatch, ParsedPatch, strip_path
from kgbuild.releases import hunk_states
from kgbuild.releases.hunk_states import APPLIES, THERE, HunkState, judge_hunk
from kgbuild.shown_text import printable

_CHANGED = 3  # of several hunks with the same fault, so many are told


class SourceTree(Protocol):
    """What is known of a kernel's source without compiling."""

    def read(self, path: str) -> bytes | None:
        """The text of a file, None where there is none."""

    def is_built(self, path: str) -> bool:
        """Whether a file is compiled into this kernel or one of its modules; of a header, whether it could be."""

    def option(self, path: str) -> str:
        """The option of the configuration that leaves a file out; "" where the Makefiles do not tell."""

    def of_name(self, name: str) -> Sequence[str]:
        """The compiled files of that name (without folder)."""


@dataclass(frozen=True)
class Decision:
    """What there is to say of one fix and one kernel.

    state     one of diagnostics/fix_states.py; `code` is its code
    fact      why, in words; "" where the state says all
    place     file:line that a person should look at first, "" where there is none
    hunks     each hunk of kernel code
    left_out  files of the patch that this kernel does not compile, which a build must leave out
    texts     for a fix that applies: each file it changes -> the text with it
    files     for a fix that applies: what of the patch is applied, with the paths in this tree
    """

    state: str
    fact: str = ""
    place: str = ""
    hunks: tuple[HunkState, ...] = ()
    left_out: tuple[str, ...] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    files: tuple[tuple[str, FilePatch], ...] = field(default=(), repr=False)

    @property
    def code(self) -> str:
        """The code of the state."""
        return STATES[self.state]


Reader = Callable[[str], bytes | None]


def decide(patches: Sequence[ParsedPatch], tree: SourceTree, texts: Mapping[str, bytes] | None = None) -> Decision:
    """Decide for one fix, which is one patch or several in order. `texts` are those of files that earlier fixes have
    changed, by path."""
    made: dict[str, bytes] = dict(texts or {})
    found: list[HunkState] = []
    applied: list[tuple[str, FilePatch]] = []
    reasons = Counter[str]()
    missing: list[tuple[str, str]] = []
    left_out: list[str] = []
    options: dict[str, None] = {}
    changed: dict[str, bytes] = {}

    def read(path: str) -> bytes | None:
        return made[path] if path in made else tree.read(path)

    for patch in patches:
        strip = find_strip(patch.files, lambda path: read(path) is not None)
        for file in patch.files:
            faults = check_path(file, strip)
            if faults:
                found.append(HunkState(printable(file.path(strip)), 1, hunk_states.CONFLICT, 1, faults[0].fact))
                continue
            path = choose_path(file, strip, lambda name: read(name) is not None)
            if classify(path) is FileKind.SKIPPED or not (file.hunks or file.kind == "new"):
                reasons["skipped"] += 1
                continue
            orig = read(path)
            if orig is None and file.kind != "new":
                missing.append((path, strip_path(file.old_path, strip)))
                found += _elsewhere(file, path, tree, read)
                continue
            if classify(path) is FileKind.CODE and not tree.is_built(path) and not _is_new(file, path, patches):
                left_out.append(path)
                option = tree.option(path)
                if option:
                    options[option] = None
                continue
            states, text = _judge(file, path, orig)
            found += states
            if text is not None:
                made[path] = changed[path] = text
                applied.append((path, file))
    return _sum_up(found, missing, left_out, list(options), changed, applied)


def _is_new(file: FilePatch, path: str, patches: Sequence[ParsedPatch]) -> bool:
    """Whether a file is created by the fix itself: no Makefile can say anything of it."""
    return file.kind == "new" or any(
        other.kind == "new" and other.path(1) == path for p in patches for other in p.files
    )


def _judge(file: FilePatch, path: str, orig: bytes | None) -> tuple[list[HunkState], bytes | None]:
    """The states of a file's hunks, and the text with the change where it applies as a whole."""
    if file.kind == "new":
        whole = b"".join(line for hunk in file.hunks for line in hunk.new)
        if orig is None:
            return [HunkState(path, 1, APPLIES, 1, "is a new file")], whole
        same = orig == whole
        fact = "" if same else "the fix creates this file, and the kernel has another of its name"
        return [HunkState(path, 1, hunk_states.APPLIED if same else hunk_states.CONFLICT, 1, fact)], None
    assert orig is not None
    states = _states(file, path, orig)
    if any(state.state != APPLIES for state in states):
        return states, None
    result = apply_file(orig, file, path)
    if isinstance(result, list):
        fact = result[0].fact
        return [HunkState(path, s.hunk, hunk_states.CONFLICT, s.line, fact) for s in states], None
    return states, result.text


def _states(file: FilePatch, path: str, orig: bytes) -> list[HunkState]:
    finder = HunkFinder(orig, path)
    states: list[HunkState] = []
    offset = 0
    for number, hunk in enumerate(file.hunks, 1):
        state = judge_hunk(finder, hunk, number, offset)
        if state.state in (APPLIES, hunk_states.APPLIED):
            offset = state.line - hunk.old_start
        states.append(state)
    return states


def _elsewhere(file: FilePatch, path: str, tree: SourceTree, read: Reader) -> list[HunkState]:
    """Where a kernel has a file of the same name in another folder that knows the code of the fix: the hunks, each as a
    conflict, since a patch names the file by its path."""
    name = path.rpartition("/")[2]
    best: list[HunkState] = []
    for other in tree.of_name(name):
        text = read(other)
        if text is None:
            continue
        states = _states(file, other, text)
        known = [state for state in states if state.state != hunk_states.CONFLICT or "nothing like" not in state.fact]
        if len(known) * 2 > len(states) and len(known) > sum("nothing like" not in s.fact for s in best):
            best = states
    fact = f"is {path} in the fix"
    return [
        s
        if s.state in THERE
        else HunkState(s.path, s.hunk, hunk_states.CONFLICT, s.line, "; ".join(filter(None, (fact, s.fact))))
        for s in best
    ]


def _sum_up(
    found: Sequence[HunkState],
    missing: Sequence[tuple[str, str]],
    left_out: Sequence[str],
    options: Sequence[str],
    changed: Mapping[str, bytes],
    applied: Sequence[tuple[str, FilePatch]],
) -> Decision:
    hunks, out = tuple(found), tuple(left_out)
    if not hunks and missing and not left_out:
        names = ", ".join(path for path, _ in missing[:_CHANGED])
        return Decision(ABSENT, f"this kernel has no {names}", missing[0][0])
    code = [state for state in hunks if not state.path.endswith(".h")]
    if left_out and not code:
        names = ", ".join(left_out[:_CHANGED])
        why = f"{', '.join(options)} is not set" if options else "no Makefile rule of this configuration compiles it"
        return Decision(NOT_CONFIGURED, f"{why} ({names})", left_out[0], hunks, out)
    if not hunks:
        return Decision(NO_CODE, "the fix changes no kernel code")
    gone = [path for path, _ in missing if not any(state.path.endswith(path.rpartition("/")[2]) for state in hunks)]
    there = [state for state in hunks if state.state in THERE]
    if len(there) == len(hunks) and not gone:
        return Decision(FIXED, _how_fixed(there), "", hunks, out)
    if all(state.state == APPLIES for state in hunks) and not gone:
        fact = f"without {', '.join(out)}, which this kernel does not compile" if out else ""
        return Decision(AFFECTED, fact, "", hunks, out, changed, tuple(applied))
    wrong = [state for state in hunks if state.state == hunk_states.CONFLICT]
    facts = []
    if there:
        facts.append(f"{len(there)} of {len(hunks)} hunks {'is' if len(there) == 1 else 'are'} in the source already")
    if gone:
        facts.append(f"this kernel has no {', '.join(gone[:_CHANGED])}")
    if wrong:
        facts.append(wrong[0].fact + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""))
    first = wrong[0] if wrong else next((state for state in hunks if state.state == APPLIES), hunks[0])
    return Decision(CONFLICT, "; ".join(facts), f"{first.path}:{first.line}", hunks, out)


def _how_fixed(there: Sequence[HunkState]) -> str:
    exact = sum(state.state == hunk_states.APPLIED for state in there)
    if exact == len(there):
        return "its only hunk is in the source" if exact == 1 else f"all {exact} hunks are in the source"
    other = len(there) - exact
    form = "in another form" if any(state.state == hunk_states.PIECES for state in there) else "at another place"
    of = f" {other} of them" if exact else ""
    return f"all {len(there)} hunks are in the source,{of} {form}" if len(there) > 1 else f"its hunk is there {form}"


def decide_in_order(
    fixes: Sequence[tuple[str, Sequence[ParsedPatch]]],
    tree: SourceTree,
    introduced: Callable[[str], bool | None] = lambda fix: None,
) -> dict[str, Decision]:
    """Decide for several fixes, each on the text that those before it leave; by the id of each.

    `introduced` says of a fix whether what it repairs is in this kernel; None where that is not known. A fix that only
    conflicts because of one before it says so.
    """
    out: dict[str, Decision] = {}
    texts: dict[str, bytes] = {}
    owners: dict[str, list[str]] = {}
    for name, patches in fixes:
        known = introduced(name)
        decision = decide(patches, tree, texts)
        if known is False and decision.state in (AFFECTED, CONFLICT):
            decision = Decision(NOT_INTRODUCED, "the commit that it is for is not in this kernel", "", decision.hunks)
        elif decision.state == CONFLICT and texts:
            alone = decide(patches, tree)
            paths = {state.path for state in decision.hunks}
            before = [fix for path in paths for fix in owners.get(path, ())]
            if alone.state == AFFECTED and before:
                others = ", ".join(dict.fromkeys(before))
                fact = f"applies alone, but not after {others}, which changes the same lines; {decision.fact}"
                decision = Decision(CONFLICT, fact, decision.place, decision.hunks, decision.left_out)
        out[name] = decision
        if decision.state == AFFECTED:
            texts.update(decision.texts)
            for path in decision.texts:
                owners.setdefault(path, []).append(name)
    return out
