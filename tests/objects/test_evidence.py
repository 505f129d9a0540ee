# SPDX-License-Identifier: GPL-2.0-or-later
"""What shows that a function belongs in a patch: for each role, from relocations, parity and gcc's own word."""

from __future__ import annotations

from kgbuild.closure.close import close
from kgbuild.closure.evidence import evidence_of
from kgbuild.closure.model import Closure
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.report.build import closure_report
from kgbuild.report.chains import chains_of
from kgbuild.report.why import render_chain
from tests.support.clones import ISRA, SECOND, again
from tests.support.kernel import EXPORTS, Patched, close_text
from tests.support.toolchain import CC, PAIRS, pair_flags, run, scratch

TEXT = """
#ifdef PATCHED
#define BY 5
#else
#define BY 3
#endif
static inline int small(int x) { return source(x) * BY; }
static notrace noinline int deep(int x) { barrier(); return source(x) * BY; }
noinline int top(int x) { barrier(); return deep(x + 2) + 2; }
noinline int user(int x) { barrier(); return small(x) + 7; }
#ifdef PATCHED
noinline int fresh(int x) { barrier(); return source(x) + 8; }
#endif
"""


def with_clones(p: Patched, text: str, **options: bool) -> Closure:
    """The closure of a pair, with what gcc says of the patched side."""
    folder = scratch() / "evidence"
    folder.mkdir(exist_ok=True)
    (folder / "unit.c").write_text(f'#include "kernel.h"\n{text}')
    flags = (*pair_flags(("-DPATCHED",)), "-I", PAIRS, f"-fdump-ipa-clones={folder / 'dump'}")
    run(CC, *flags, "-c", "unit.c", "-o", "unit.o", cwd=folder)
    clones = parse_ipa_clones((folder / "dump").read_text())
    assert clones.complete and not clones.unread
    units = tuple(u._replace(clones=clones) for u in p.closure.units)
    return close(units, p.image, EXPORTS, pull_always=options.get("always", False))


def of(closure: Closure, name: str) -> list[str]:
    (member,) = (m for m in closure.members.values() if m.atom.name == name)
    return evidence_of(closure, member)


def test_each_role() -> None:
    p = close_text(TEXT)
    closure = with_clones(p, TEXT)
    assert not closure.refusals
    address = p.image.named("user")[0].value
    assert of(closure, "user") == [
        f"user recompiles to what runs at {address:#x}: bytes and relocations",
        "gcc put small into it: .ipa-clones",
    ]
    assert of(closure, "fresh") == ["not in the original object"]
    pulled = of(closure, "top")
    assert pulled[0].startswith("top recompiles to what runs at ")
    assert pulled[1].startswith("branch to deep at top+0x") and pulled[1].endswith(": patched object")


def test_a_copy_and_what_gcc_made_it_of() -> None:
    p = close_text(ISRA + SECOND)
    closure = with_clones(p, ISRA + SECOND, always=True)
    link, parity, made = of(closure, "calc.isra.0")
    assert link.startswith("branch to calc.isra.0 at first+0x")
    assert parity.startswith("calc.isra.0 recompiles to what runs at ")
    assert made == "gcc made calc.isra.0 of calc (isra): .ipa-clones"
    # without gcc's word, its name says so
    named = of(again(p, always=True).closure, "calc.isra.0")[-1]
    assert named.startswith("gcc made it of calc (") and named.endswith(": its name")


def test_a_copy_that_is_not_proven_says_why() -> None:
    other = ISRA.replace("* x + source(x)", "* x - source(x)")
    p = close_text(ISRA, kernel_text=other)
    evidence = of(p.closure, "calc.isra.0")
    assert evidence[1].startswith("calc.isra.0 is not proven at ")
    assert evidence[1].endswith(": bytes and relocations")


def test_report_and_why_have_it() -> None:
    p = close_text(TEXT)
    closure = with_clones(p, TEXT)
    report = closure_report(closure)
    for key in ("changed", "new", "pulled"):
        for row in report[key]:
            assert row["evidence"] == of(closure, row["function"]), row
    (chain,) = chains_of(closure, "top")
    text = "\n".join(render_chain(chain))
    assert [s.function for s in chain] == ["deep", "top"]
    for step in chain:
        assert step.evidence and all(seen in text for seen in step.evidence)


def test_a_name_that_accepts_nothing_is_said() -> None:
    p = again(close_text(TEXT), "usr", "user", "unit.c")
    said = [w for w in p.closure.warnings if "accepts nothing" in w]
    assert [w.partition(":")[0] for w in said] == ["unit.c", "user", "usr"]
    other = ISRA.replace("* x + source(x)", "* x - source(x)")
    q = again(close_text(ISRA + SECOND, kernel_text=other + SECOND), "calc.isra.0")
    assert not [w for w in q.closure.warnings if "accepts nothing" in w]
