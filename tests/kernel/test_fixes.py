# SPDX-License-Identifier: GPL-2.0-or-later
"""Real fixes: what `kgbuild diff` finds, held against what bytes and relocations show.

The files of FILES differ between two of Debian's kernel sources. Each is compiled both ways and compared by kgbuild and
by a plain reading that shares nothing with it (tests/support/plain.py). Every function on which they disagree must be
explained: by a noise rule that kgbuild names for this very function and that can make such a difference, or by what
the plain reading is known to misread, with evidence from a third reading by objdump. Nothing is excused by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from kgbuild.correlation import noise
from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.support.compare import Disassembly
from tests.support.fixes import NEWER, OLDER, Skipped, fixes
from tests.support.plain import PlainDiff, PlainObject, compare

FILES = (Path(__file__).parent / "fixes.txt").read_text().split()
JOBS = 2
# The rules that can explain a difference of each kind.
NAMES = {noise.STATIC_LOCAL, noise.ONCE_FLAG, noise.CLONE, noise.CONSTANT, noise.LABEL, noise.MODULE_HASH}
EXPLAINS = {
    "code": {noise.LINE_ARGUMENT, noise.BRANCH_WIDTH},
    "meaning": {noise.LINE_STRING, noise.LINE_DATA, noise.LABEL},
    "names": NAMES,
    "__bug_table": {noise.LINE_BUG},
    "__jump_table": {noise.LINE_DEBUG},
}
Pair = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    """Every file of FILES, compiled both ways; one that does not compile fails here."""
    skipped = Skipped()
    made = {path: (o, p) for path, o, p in fixes(jobs=JOBS, skipped=skipped, only=FILES)}
    assert not skipped.reasons, f"linux-source-6.1 {OLDER} to {NEWER}: {skipped.reasons}"
    return made


def test_there_are_enough() -> None:
    assert len(FILES) == len(set(FILES)) >= 60


@pytest.mark.parametrize("path", FILES)
def test_fix(path: str, pairs: dict[str, Pair]) -> None:
    """Both ways round: what a fix adds, its reverse takes away."""
    orig, patched = pairs[path]
    for o, p in ((orig, patched), (patched, orig)):
        answer = diff_objects(read_relocatable(o, path), read_relocatable(p, path), path)
        assert not list(unexplained(answer, o, p))


def test_the_yardstick_is_no_empty_one(pairs: dict[str, Pair]) -> None:
    """The plain reading finds changes in most of the files, and none between an object and itself."""
    found = {path: compare(PlainObject(o), PlainObject(p)) for path, (o, p) in pairs.items()}
    assert sum(bool(d.changed or d.new) for d in found.values()) > 0.8 * len(FILES)
    assert sum(len(d.changed) for d in found.values()) >= len(FILES)
    for orig, _ in pairs.values():
        assert compare(PlainObject(orig), PlainObject(orig)) == PlainDiff({}, frozenset(), frozenset())


def unexplained(answer: ObjectDiff, o: bytes, p: bytes) -> Iterator[str]:
    """Each disagreement that nothing explains: the function, and who says what."""
    orig, patched = PlainObject(o), PlainObject(p)
    plain = compare(orig, patched)
    # that names of one kind of thing have other numbers is a difference too, and must be reported as noise
    numbered = compare(PlainObject(o, numbers=True), PlainObject(p, numbers=True)).changed
    theirs = {name: kinds or ("names",) for name, kinds in {**dict.fromkeys(numbered, ()), **plain.changed}.items()}
    ours = {c.name: str(c.reason) for c in answer.changed}
    init = {alias for name in answer.changes.init_changed for alias in (*patched.aliases(name), name)}
    rules: dict[str, set[str]] = {}
    for n in answer.noise:
        for alias in patched.aliases(n.function):
            rules.setdefault(alias.partition(".cold")[0], set()).add(n.rule)
    for name in sorted(ours.keys() - theirs.keys() - plain.new):
        yield f"{name} is changed ({ours[name]}), and plainly the same"
    third = cache(lambda: (Disassembly(o), Disassembly(p)))
    for name in sorted(theirs.keys() - ours.keys() - init):
        named = rules.get(name, set())
        if not all(named & EXPLAINS.get(kind, set()) for kind in theirs[name]) and not (
            theirs[name] == ("meaning",) and same_by_objdump(name, *third())
        ):
            yield f"{name} differs in {' '.join(theirs[name])}, and kgbuild has it as the same, with noise {named}"
    for name in sorted({*answer.new} ^ (plain.new - init)):
        yield f"{name} is new, says only {'kgbuild' if name in answer.new else 'the plain reading'}"
    gone = plain.removed - {alias for name in answer.changes.init_changed for alias in orig.aliases(name)}
    for name in sorted({*answer.removed} ^ gone):
        yield f"{name} is gone, says only {'kgbuild' if name in answer.removed else 'the plain reading'}"


def same_by_objdump(name: str, orig: Disassembly, patched: Disassembly) -> bool:
    """Whether a function is the same instruction by instruction. The plain reading counts a relative reference from
    the end of its field; in front of an immediate the section symbol's addend then leads to the variable before."""
    return all(orig.function(half) == patched.function(half) for half in (name, f"{name}.cold") if half in patched)


def test_what_nothing_explains_is_found(pairs: dict[str, Pair]) -> None:
    """An answer that leaves out a change, the noise, or what is new does not pass."""
    silenced: Counter[str] = Counter()
    for path, (o, p) in pairs.items():
        answer = diff_objects(read_relocatable(o, path), read_relocatable(p, path), path)
        for part in ("changed", "new", "removed", "noise"):
            if getattr(answer, part):
                said = list(unexplained(answer._replace(**{part: ()}), o, p))
                # noise may also be what the plain reading has no notion of
                assert said or part == "noise", (path, part)
                silenced[part] += bool(said)
    assert silenced["changed"] > len(FILES) / 2
    assert min(silenced[part] for part in ("new", "removed", "noise")) > 0, silenced
