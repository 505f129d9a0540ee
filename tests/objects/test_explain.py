# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild diff --explain`: what it prints for pairs of pairs/, and that it fits, hides nothing and needs no colour.

The expected texts are in golden/explain; `python -m tests.objects.test_explain` writes them anew, to be read before
they are committed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kgbuild.errors import UserError
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from kgbuild.report.explain import explain
from kgbuild.report.explanation import CHANGED, NEW, NOISE, REMOVED, SAME, Explanation
from kgbuild.report.listing import AlignedLine, align_listings, quote
from kgbuild.report.side_by_side import Style, render
from tests.support.command import run_command, run_on_pty
from tests.support.pair_cases import ALL, Case
from tests.support.toolchain import compile_pair_side, compile_text, pair_flags, scratch

GOLDEN = Path(__file__).parent / "golden" / "explain"
ICF = ("-fipa-icf",)
# name of the pair, function, flags
CASES: list[tuple[str, str, tuple[str, ...]]] = [
    ("alternative_code", "first", ()),
    ("alternative_feature", "first", ()),
    ("bug_flags", "first", ()),
    ("bug_line", "first", ()),
    ("changed_body", "second", ("-g",)),
    ("clones_renumbered", "work.constprop.0", ("-fipa-cp-clone",)),
    ("cold_only", "first", ()),
    ("cold_only", "first.cold", ()),
    ("constprop_vanished", "work", ()),
    ("constprop_vanished", "work.constprop.0", ()),
    ("extable_type", "first", ()),
    ("icf_unfolded", "call_b", ICF),
    ("icf_unfolded", "twin_b", ICF),
    ("init", "start", ()),
    ("jump_table", "first", ()),
    ("static_key", "first", ()),
    ("static_local_moved", "second", ()),
    ("string_changed", "first", ()),
    ("switch_table", "first", ()),
]
IDS = [f"{pair}-{function}" for pair, function, _ in CASES]
WIDTHS = (20, 60, 61, 80, 97, 120, 200)


def explained(pair: str, function: str, flags: tuple[str, ...] = ()) -> tuple[Explanation, ...]:
    sides = [read_relocatable(compile_pair_side(pair, *flags, *f), pair) for f in ((), ("-DPATCHED",))]
    found = diff_objects(sides[0], sides[1], f"{pair}.o")
    return explain(found.changes, found.closure, function)


def text_of(values: tuple[Explanation, ...], style: Style) -> str:
    lines = ["".join(t for t, _ in line).rstrip() for value in values for line in render(value, style)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("pair", "function", "flags"), CASES, ids=IDS)
def test_output(pair: str, function: str, flags: tuple[str, ...]) -> None:
    expected = (GOLDEN / f"{pair}-{function}.txt").read_text()
    assert text_of(explained(pair, function, flags), Style(100)) == expected


def test_every_golden_file_is_used() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {*IDS}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("pair", "function", "flags"), CASES, ids=IDS)
def test_lines_fit_and_nothing_is_cut_off(pair: str, function: str, flags: tuple[str, ...], width: int) -> None:
    values = explained(pair, function, flags)
    for verbose in (False, True):
        text = text_of(values, Style(width, verbose=verbose, unicode=False))
        assert max(len(line) for line in text.splitlines()) <= max(width, 60)
        assert text.isascii()
        squeezed = re.sub(r"\s", "", text)
        steps = [s for v in values for b in v.blocks for r in b.rows for s in (r.orig, r.patched) if s is not None]
        assert steps
        # an operand that is too wide goes on in the next line, beside that of the other side
        assert all(s.mnemonic.replace(" ", "") in squeezed for s in steps)
        if width == 200:
            assert all(re.sub(r"\s", "", s.text) in squeezed for s in steps)


def states(value: Explanation) -> set[str]:
    return {r.state for b in value.blocks for r in b.rows} | {state for state, _ in value.details}


@pytest.mark.parametrize(("pair", "function", "flags"), CASES, ids=IDS)
def test_what_is_marked_agrees_with_the_verdict(pair: str, function: str, flags: tuple[str, ...]) -> None:
    for value in explained(pair, function, flags):
        if value.verdict == "changed":
            assert states(value) & {CHANGED, NEW, REMOVED}
        elif value.verdict == "not changed":
            assert not states(value) & {CHANGED, NEW, REMOVED}
        else:
            assert states(value) == {value.verdict}


@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
def test_marks_agree_with_verdicts_in_every_pair(case: Case) -> None:
    sides = [
        read_relocatable(compile_pair_side(case.name, *case.flags, *f, compiler=case.compiler), case.name)
        for f in ((), ("-DPATCHED",))
    ]
    found = diff_objects(sides[0], sides[1], case.name)
    names = {n for v in (found.changes.orig, found.changes.patched) for a in v.functions for n in a.names}
    assert names
    for function in sorted(names):
        for value in explain(found.changes, found.closure, function):
            marks = states(value)
            if value.verdict in (NEW, REMOVED):
                assert marks == {value.verdict}
                continue
            assert bool(marks & {CHANGED, NEW, REMOVED}) == (value.verdict == "changed"), function
            if NOISE in marks and value.verdict == "not changed":
                assert any(s.startswith("noise rule") for s in value.sentences), function


def test_same_function_is_all_the_same() -> None:
    (value,) = explained("changed_body", "first")
    assert value.verdict == "not changed"
    assert states(value) == {SAME}


def test_a_long_function_is_folded_and_shown_in_full_when_asked() -> None:
    body = "".join(f"\tsink((void *){n}L);\n" for n in range(200))
    text = '#include "kernel.h"\nvoid first(void)\n{\n%s%s}\n'
    sides = [compile_text(text % (body, end), *pair_flags(), name="long.c") for end in ("", "\tsink((void *)7777L);\n")]
    found = diff_objects(*(read_relocatable(s, "long.c") for s in sides), "long.c")
    (value,) = explain(found.changes, found.closure, "first")
    short, full = (text_of((value,), Style(120, verbose=v)) for v in (False, True))
    assert "more that are the same" in short
    assert len(short.splitlines()) < 20
    assert "0x1e61" in short
    assert "more that are the same" not in full
    assert len(full.splitlines()) > 400


def test_source_lines_need_debug_information() -> None:
    (plain,), (debug,) = explained("changed_body", "second"), explained("changed_body", "second", ("-g",))
    lines = [[r.orig.line for b in v.blocks for r in b.rows if r.orig is not None] for v in (plain, debug)]
    assert not any(lines[0])
    assert all(lines[1])


def test_lines_of_headers_name_their_file() -> None:
    (value,) = explained("static_key", "first", ("-g",))
    lines = {r.orig.line for b in value.blocks for r in b.rows if r.orig is not None}
    assert any(line.startswith("kernel.h:") for line in lines)
    assert any(line.isdigit() for line in lines)


def test_unknown_name_says_what_is_near() -> None:
    with pytest.raises(UserError) as error:
        explained("constprop_vanished", "frist")
    assert "first" in error.value.remedy
    with pytest.raises(UserError) as error:
        explained("isra_renumbered", "read_one")
    assert "read_one.isra.0" in error.value.remedy
    with pytest.raises(UserError, match="is data in"):
        explained("data_initial", "limit")
    with pytest.raises(UserError, match="called, but not defined"):
        explained("static_key", "source")


def test_quotes_as_c_does() -> None:
    assert quote(b'\x016a "b"\n\0') == '"\\x016a \\"b\\"\\n"'
    assert len(quote(b"x" * 1000)) < 210


def step(text: str, key: str) -> AlignedLine:
    return AlignedLine(0, 1, text, "", None, (), b"", "", key)


def test_inserted_code_stands_alone() -> None:
    left = [step(c, c) for c in "abcdef"]
    right = [step(c, c) for c in "abXcdef"]
    assert [(x and x.key, y and y.key) for x, y in align_listings(left, right)] == [
        ("a", "a"),
        ("b", "b"),
        (None, "X"),
        ("c", "c"),
        ("d", "d"),
        ("e", "e"),
        ("f", "f"),
    ]
    assert [(x and x.key, y and y.key) for x, y in align_listings(right, left)][2] == ("X", None)


# -- the command ---------------------------------------------------------------------------------------------------


def files(pair: str, *flags: str) -> tuple[str, str]:
    out = []
    for side, extra in (("orig", ()), ("patched", ("-DPATCHED",))):
        path = scratch() / f"{pair}.{side}.explain.o"
        path.write_bytes(compile_pair_side(pair, *flags, *extra))
        out.append(str(path))
    return out[0], out[1]


def command(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_command("diff", *argv, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **env})


def test_exit_status_says_whether_it_was_explained() -> None:
    sides = files("static_key")
    assert command(*sides, "--explain", "first").returncode == 0
    assert command(*sides, "--explain", "second").returncode == 0
    unknown = command(*sides, "--explain", "frist")
    assert unknown.returncode == 2
    assert "first" in unknown.stderr
    assert not unknown.stdout
    assert command(*sides, "--explain", "first", "--json", "-").returncode == 2


def test_an_init_function_is_explained_though_it_is_refused() -> None:
    done = command(*files("init"), "--explain", "start")
    assert done.returncode == 0
    assert "K3-init" in done.stdout


def test_fits_the_terminal_and_needs_no_utf8() -> None:
    sides = files("static_key")
    done = subprocess.run(
        [sys.executable, "-m", "kgbuild.cli.main", "diff", *sides, "--explain", "first"],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONUTF8": "0",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "72",
            "PYTHONIOENCODING": "ascii",
        },
    )
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert max(len(line) for line in done.stdout.splitlines()) <= 72


def test_colour_on_a_terminal_says_nothing_more() -> None:
    sides = files("icf_unfolded", *ICF)
    argv = ["diff", *sides, "--explain", "call_b"]
    env = {"PATH": "/usr/bin:/bin", "COLUMNS": "100", "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    coloured = run_on_pty(argv, scratch(), env).decode().replace("\r\n", "\n")
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == command(*sides, "--explain", "call_b", COLUMNS="100").stdout


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for pair, function, flags in CASES:
        shown = text_of(explained(pair, function, flags), Style(100))
        (GOLDEN / f"{pair}-{function}.txt").write_text(shown)
