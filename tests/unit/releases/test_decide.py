# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a kernel is affected: hunks that apply, are there in some form, or conflict; files that are elsewhere, not
compiled, or absent."""

from __future__ import annotations

import pytest

from kgbuild.patch.unified_diff import parse_patch
from kgbuild.releases.decide import Decision, decide, decide_in_order
from tests.support.fix_cases import BEFORE, FILE, FIX, FIXED, SourceInMemory


def state(text: str, fix: str = FIX) -> Decision:
    return decide([parse_patch("fix", fix.encode())], SourceInMemory({FILE: text}))


def test_it_applies() -> None:
    found = state(BEFORE)
    assert (found.state, found.code, found.texts[FILE].decode()) == ("affected", "P23-affected", FIXED)


@pytest.mark.parametrize("lines", [1, 40])
def test_it_applies_at_another_line(lines: int) -> None:
    assert state("/* more */\n" * lines + BEFORE).state == "affected"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (FIXED, "its only hunk"),
        ("/* more */\n" * 30 + FIXED, "its only hunk"),
        (FIXED.replace("\tfinish(x);\n", "\tfinish_all(x);\n"), "another form"),
        (FIXED.replace("\tprepare(x);\n", "\tprepare(x);\n\tlog(x);\n"), "another form"),
        (FIXED.replace("\tif (size", "    if (size"), "another form"),
        (FIXED.replace("\t\treturn -E2BIG;\n", "\t\treturn -E2BIG;\n\n"), "another form"),
    ],
)
def test_it_is_there(text: str, word: str) -> None:
    found = state(text)
    assert found.state == "fixed" and found.code == "P0-applied" and word in found.fact, found


@pytest.mark.parametrize(
    "text",
    [
        BEFORE.replace("\tfinish(x);\n", "\tfinish_all(x);\n"),
        BEFORE.replace("\tprepare(x);\n", "\tprepare(x, size);\n"),
        # the same check in another function, or only half of it, is not the fix
        BEFORE.replace("\tfinish(x);", "\tend(x);").replace(
            "\tif (!x)\n", "\tif (size > x->most)\n\t\treturn -E2BIG;\n\tif (!x)\n"
        ),
        FIXED.replace("\t\treturn -E2BIG;\n", "\t\tlog(x);\n"),
        FIXED.replace("size > x->most", "size >= x->most"),
        "int nothing;\n",
    ],
)
def test_it_conflicts(text: str) -> None:
    found = state(text)
    assert found.state == "conflict" and found.code == "P1-conflict" and found.place.startswith("net/x.c:"), found


def test_a_conflict_says_what_differs() -> None:
    found = state(BEFORE.replace("\tfinish(x);\n", "\tfinish_all(x);\n"))
    assert found.place == "net/x.c:18"
    assert found.fact == "1 line differs: expected `finish(x);`, found `finish_all(x);`"


REMOVES = """\
--- a/net/x.c
+++ b/net/x.c
@@ -14,6 +14,5 @@ int run(struct x *x, int size)
 \t\treturn ret;
 \tprepare(x);
 \tcopy(x->data, size);
-\tfinish(x);
 \treturn 0;
 }
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (BEFORE, "affected"),
        (BEFORE.replace("\tfinish(x);\n", ""), "fixed"),
        (BEFORE.replace("\tfinish(x);\n", "").replace("\t\treturn ret;\n", "\t\treturn -1;\n"), "fixed"),
        (BEFORE.replace("\tfinish(x);\n", "\tlog(x);\n\tfinish(x);\n"), "conflict"),
        (BEFORE.replace("\tfinish(x);\n", "\tend(x);\n"), "conflict"),
    ],
)
def test_a_fix_that_only_removes(text: str, wanted: str) -> None:
    assert state(text, REMOVES).state == wanted


def test_half_of_a_fix_is_a_conflict() -> None:
    second = "--- a/net/y.c\n+++ b/net/y.c\n@@ -1,3 +1,3 @@\n int one;\n-int size;\n+unsigned int size;\n int two;\n"
    tree = SourceInMemory({FILE: FIXED, "net/y.c": "int one;\nint size;\nint two;\n"})
    found = decide([parse_patch("fix", (FIX + second).encode())], tree)
    assert found.state == "conflict" and "1 of 2 hunks is in the source already" in found.fact


def test_files_that_are_not_compiled() -> None:
    found = decide([parse_patch("fix", FIX.encode())], SourceInMemory({FILE: BEFORE}, {FILE: "CONFIG_NET_X"}))
    assert (found.state, found.code) == ("not configured", "P25-not-configured")
    assert found.fact == "CONFIG_NET_X is not set (net/x.c)"


def test_a_file_that_is_not_compiled_is_left_out_of_the_others() -> None:
    second = FIX.replace("net/x.c", "net/y.c")
    tree = SourceInMemory({FILE: BEFORE, "net/y.c": BEFORE}, {"net/y.c": "CONFIG_Y"})
    found = decide([parse_patch("fix", (FIX + second).encode())], tree)
    assert found.state == "affected" and found.left_out == ("net/y.c",) and list(found.texts) == [FILE]
    assert [path for path, _ in found.files] == [FILE]


def test_absent_files() -> None:
    found = decide([parse_patch("fix", FIX.encode())], SourceInMemory({"net/other.c": BEFORE}))
    assert (found.state, found.place) == ("absent", FILE)


@pytest.mark.parametrize(("text", "wanted"), [(BEFORE, "conflict"), (FIXED, "fixed"), ("int unlike;\n", "absent")])
def test_a_file_that_is_in_another_folder_is_not_absent(text: str, wanted: str) -> None:
    found = decide([parse_patch("fix", FIX.encode())], SourceInMemory({"fs/net/x.c": text}))
    assert found.state == wanted
    assert wanted != "conflict" or "is net/x.c in the fix" in found.fact


def test_documentation_is_no_code() -> None:
    text = FIX.replace("net/x.c", "Documentation/x.rst")
    assert decide([parse_patch("fix", text.encode())], SourceInMemory({})).state == "no code"


@pytest.mark.parametrize(("there", "wanted"), [(None, "affected"), ("int a;\n", "fixed"), ("int b;\n", "conflict")])
def test_a_fix_that_creates_a_file(there: str | None, wanted: str) -> None:
    patch = "diff --git a/net/new.h b/net/new.h\nnew file mode 100644\n--- /dev/null\n+++ b/net/new.h\n"
    patch += "@@ -0,0 +1 @@\n+int a;\n"
    files = {} if there is None else {"net/new.h": there}
    assert decide([parse_patch("fix", patch.encode())], SourceInMemory(files)).state == wanted


def order(*fixes: tuple[str, str], text: str = BEFORE) -> dict[str, Decision]:
    return decide_in_order(
        [(name, [parse_patch(name, fix.encode())]) for name, fix in fixes], SourceInMemory({FILE: text})
    )


def test_a_fix_may_stand_on_another() -> None:
    later = FIX.replace(
        "+\tif (size > x->most)\n+\t\treturn -E2BIG;\n",
        " \tif (size > x->most)\n-\t\treturn -E2BIG;\n+\t\treturn -EFBIG;\n",
    )
    later = later.replace("-13,5 +13,7", "-13,7 +13,7")
    found = order(("first", FIX), ("second", later))
    assert [one.state for one in found.values()] == ["affected", "affected"]
    assert order(("second", later))["second"].state == "conflict"


def test_two_fixes_that_conflict_name_each_other() -> None:
    other = FIX.replace("size > x->most", "size > x->limit")
    found = order(("first", FIX), ("second", other))
    assert found["first"].state == "affected" and found["second"].state == "conflict"
    assert "applies alone, but not after first, which changes the same lines" in found["second"].fact


def test_what_is_repaired_is_not_there() -> None:
    patches = [("a", [parse_patch("a", FIX.encode())])]
    for known, wanted in ((False, "not introduced"), (True, "affected"), (None, "affected")):
        found = decide_in_order(patches, SourceInMemory({FILE: BEFORE}), lambda _, said=known: said)
        assert found["a"].state == wanted


@pytest.mark.parametrize(("text", "wanted"), [(BEFORE + "END\n", "affected"), (BEFORE, "fixed")])
def test_a_line_at_the_end_of_a_file(text: str, wanted: str) -> None:
    fix = "--- a/net/x.c\n+++ b/net/x.c\n@@ -18,4 +18,3 @@\n \tfinish(x);\n \treturn 0;\n }\n-END\n"
    assert state(text, fix).state == wanted


def test_repeated_code_is_told_apart_by_its_place() -> None:
    twice = BEFORE + BEFORE.replace("run(", "again(").replace("check(", "look(")
    assert state(twice).texts[FILE].decode().index("E2BIG") < len(FIXED)
    fixed_first = FIXED + BEFORE.replace("run(", "again(").replace("check(", "look(")
    assert state(fixed_first).state == "fixed"


def test_a_hunk_that_fits_only_in_another_function_is_a_conflict() -> None:
    """Two functions have the same lines, and the kernel has changed those of the one that the fix is for."""
    twin = BEFORE.partition("int run(")[2].replace("copy(", "copy_all(")
    text = BEFORE.replace("int run(", "int other(") + "\nint run(" + twin
    found = decide([parse_patch("fix", FIX.encode())], SourceInMemory({FILE: "\n" + text}))
    assert found.state == "conflict" and "fits only in other()" in found.fact and "is for run()" in found.fact
    renamed = BEFORE.replace("int run(", "int other(")
    assert decide([parse_patch("fix", FIX.encode())], SourceInMemory({FILE: "\n" + renamed})).state == "affected"
