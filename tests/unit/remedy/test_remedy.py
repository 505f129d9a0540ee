# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch written again: what is rewritten in its text, and what is refused with its place."""

from __future__ import annotations

import difflib

import pytest

from kgbuild.csource.text_spans import (
    closing,
    find_function,
    find_variable,
    mask,
    opening,
    postfix_start,
    split_values,
    struct_body,
)
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.patch.apply import Applied, apply_file
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.remedy.rewrite import DATA, INIT, TYPE, RewrittenPatch, Source, find_grown, render_diff, write_remedy


def source(path: str, before: str, after: str, target: str = "vmlinux") -> Source:
    """A file with the lines that a plain comparison finds added."""
    match = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    added = {n for tag, _, _, a, b in match.get_opcodes() if tag in ("insert", "replace") for n in range(a, b)}
    return Source(path, before, after, frozenset(added), target)


def remedied(sources: list[Source], code: str, symbol: str, kind: str = "struct ") -> RewrittenPatch:
    place = f"{sources[0].path}: {kind if code == TYPE else ''}{symbol}"
    return write_remedy(sources, [Refusal(code, place, "", symbol=symbol)], [code])


def refused(sources: list[Source], code: str, symbol: str) -> Refusal:
    with pytest.raises(Refused) as caught:
        remedied(sources, code, symbol)
    (refusal,) = caught.value.refusals
    assert refusal.code == code
    return refusal


# -- C text ----------------------------------------------------------------------------------------------------------


def test_mask_keeps_length_and_lines() -> None:
    text = 'a /* { \n */ "}\\"" \'{\' // (\nb'
    masked = mask(text)
    assert len(masked) == len(text) and masked.count("\n") == 2
    assert not set("{}()\"'") & set(masked)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("x = a->b.c", "a->b.c"),
        ("return a", "a"),
        ("return (a)", "(a)"),
        ("y + f(x, g(2))[3].z", "f(x, g(2))[3].z"),
        ("(struct s *)p", "p"),
        ("if (((struct s *)p)", "((struct s *)p)"),
        ("*p", "p"),
        ("list[i][j]", "list[i][j]"),
        ("a\n\t->b", "a\n\t->b"),
        ("{ ", ""),
        ("= { .x = 1, ", ""),
        ("for (;;) (p)", "(p)"),
    ],
)
def test_postfix_expressions(text: str, expression: str) -> None:
    assert text[postfix_start(text, len(text)) :].strip() == expression


def test_brackets() -> None:
    assert closing("(a[1]{2})x", 0) == 8 and opening("(a[1]{2})x", 8) == 0
    assert closing("(a]", 0) == -1 and opening("[a)", 2) == -1 and closing("((", 0) == -1


def test_members_of_a_structure() -> None:
    text = """struct s {
	int a, *b; /* two */
	void (*call)(int, char);
#ifdef X
	char text[4];
#endif
	union { int u; long v; };
	unsigned flag : 1;
	struct list_head list __aligned(8);
};
"""
    body = struct_body(text, mask(text), "s")
    assert body is not None
    assert [m.names for m in body.members] == [["a", "b"], ["call"], ["text"], [], ["flag"], ["list"]]
    assert [m.conditional for m in body.members] == [False, False, True, False, False, False]
    assert body.directives == ("#ifdef X", "#endif")
    assert struct_body(text, mask(text), "t") is None


def test_definitions() -> None:
    text = """extern int a;
static int a __read_mostly = 5;
int b[3] = {1, 2, 3}, c = 4;
static DEFINE_MUTEX(d);
int
f(int x)
{
	return x;
}
int g(void);
static int __init g(void)
{
}
"""
    masked = mask(text)
    a = find_variable(text, masked, "a")
    assert a is not None and (a.value, a.head) == ("5", "static int a __read_mostly ")
    assert find_variable(text, masked, "b") is find_variable(text, masked, "d") is None
    f, g = find_function(masked, "f"), find_function(masked, "g")
    assert f is not None and text[f.start : f.end].splitlines()[0] == "int"
    assert g is not None and text[g.start : g.end] == "static int __init g(void)\n{\n}"
    assert find_function(masked, "a") is None


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("{1, 2 + f(1, 2),}", {"[0]": "1", "[1]": "2 + f(1, 2)"}),
        ("{ .a = 1, .b = x }", {".a": "1", ".b": "x"}),
        ("{ {1}, 2 }", None),
        ("{ [3] = 1 }", None),
        ("{ 1, .b = 2 }", None),
        ("5", None),
    ],
)
def test_flat_values(value: str, parts: dict[str, str] | None) -> None:
    assert split_values(value) == parts


# -- types -----------------------------------------------------------------------------------------------------------

HEAD = "#include <linux/fs.h>\n#ifdef X\n#include <linux/mm.h>\n#endif\n\n"
STRUCT = "struct s {\n\tint a;\n};\n\n"
GROWN = "struct s {\n\tint a;\n\tlong hint; /* new */\n};\n\n"
CODE = "int f(struct s *p, struct s q)\n{\n\tother->hint = 1;\n\treturn 0;\n}\n"
USES = CODE.replace("\treturn 0", "\tp->hint += q.hint + (*p).hint + p[g(1)].hint;\n\treturn 0")


def test_new_member_becomes_a_shadow_variable() -> None:
    (text,) = remedied([source("a.c", HEAD + STRUCT + CODE, HEAD + GROWN + USES)], TYPE, "s").texts.values()
    shadow = "kgbuild_shadow_s"
    assert (
        f"\t{shadow}(p)->hint += {shadow}(&(q))->hint + {shadow}(&(*p))->hint + {shadow}(&(p[g(1)]))->hint;\n" in text
    )
    assert "\tother->hint = 1;\n" in text
    assert STRUCT.strip() in text and "struct kgbuild_shadow_s {\n\tlong hint;\n};" in text
    assert text.index("struct s {") < text.index("#ifndef KGBUILD_SHADOW_s") < text.index("int f(")
    assert text.index("#include <linux/livepatch.h>") < text.index("#ifdef X")
    assert "klp_shadow_free_all(KGBUILD_SHADOW_s, NULL);" in text
    assert text.endswith("KLP_POST_UNPATCH_CALLBACK(kgbuild_remedy_post_unpatch);\n")


def test_structure_of_a_header_with_two_users() -> None:
    sources = [
        source("a.h", STRUCT, GROWN),
        source("a.c", HEAD + CODE, HEAD + USES, "mod"),
        source("b.c", '#include "kpatch-macros.h"\n' + CODE, '#include "kpatch-macros.h"\n' + USES),
    ]
    made = remedied(sources, TYPE, "s")
    assert made.texts["a.h"] == STRUCT
    assert "KPATCH_POST_UNPATCH_CALLBACK(" in made.texts["b.c"] and "POST_UNPATCH" not in made.texts["a.c"]
    assert all("static struct kgbuild_shadow_s *kgbuild_shadow_s(" in made.texts[p] for p in ("a.c", "b.c"))
    assert made.notes


def test_what_grows_is_seen_in_the_text() -> None:
    other = "struct t {\n\tint b;\n};\n"
    assert find_grown([source("a.h", STRUCT + other, GROWN + other), source("a.c", CODE, USES)]) == ["s"]
    assert find_grown([source("a.h", STRUCT + other, STRUCT + other.replace("b;", "b; /* c */"))]) == []
    # nothing of a new type exists
    assert find_grown([source("a.h", STRUCT, STRUCT + other)]) == []


@pytest.mark.parametrize(
    ("before", "after", "place", "fact"),
    [
        (STRUCT, STRUCT.replace("int a", "long a"), "a.c:1", "loses or changes `int a;`"),
        (STRUCT, STRUCT.replace("\tint a;\n", "\tint a;\n#ifdef X\n\tint b;\n#endif\n"), "a.c:1", "inside an #if"),
        (STRUCT, GROWN + "struct s x = {\n\t.hint = 1,\n};\n", "a.c:7", "initial value"),
        (STRUCT, STRUCT + "int x;\n", "a.c", "does not change"),
        (STRUCT, STRUCT.replace("\tint a;\n", "\tint a;\n\tunion { int b; };\n"), "a.c:1", "is not clear"),
        (
            STRUCT + CODE,
            GROWN + USES + "KLP_POST_UNPATCH_CALLBACK(mine);\n",
            "a.c:12",
            "a post_unpatch callback for vmlinux already",
        ),
    ],
)
def test_what_no_shadow_variable_can_be_made_of(before: str, after: str, place: str, fact: str) -> None:
    refusal = refused([source("a.c", before, after)], TYPE, "s")
    assert refusal.place == place and fact in refusal.fact and refusal.remedy


def test_use_in_a_header_and_in_two_modules_are_refused() -> None:
    assert "in a header" in refused([source("a.h", STRUCT + CODE, GROWN + USES)], TYPE, "s").fact
    sources = [source("a.h", STRUCT, GROWN), *(source(f"{m}.c", CODE, USES, m) for m in ("x", "y"))]
    assert "several modules: x, y" in refused(sources, TYPE, "s").fact


# -- data and init code ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("static int v = 5;", "static int v = 2 * 4;", ["if (v == 5)", "v = (2 * 4);", "if (v == (2 * 4))", "v = 5;"]),
        ("int v;", "int v = 1;", ["if (v == 0)", "v = 1;", "if (v == 1)", "v = 0;"]),
        ("int v[3] = {4, 2, 30};", "int v[3] = {4, 3, 30};", ["if (v[1] == 2)", "v[1] = 3;"]),
        ("struct t v = { .a = 1 };", "struct t v = { .a = 1, .b = f };", ["if (v.b == 0)", "v.b = f;"]),
        ("const char *v = N;", "const char *v = M;", ["if (v == N)", "v = M;"]),
    ],
)
def test_values_are_set_by_callbacks(old: str, new: str, lines: list[str]) -> None:
    (text,) = remedied([source("a.c", HEAD + old + "\n", HEAD + new + "\n")], DATA, "v").texts.values()
    assert old in text and new not in text
    for line in lines:
        assert f"\t{line}\n" in text
    assert "KLP_POST_PATCH_CALLBACK(" in text and "KLP_POST_UNPATCH_CALLBACK(" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('char v[] = "ab";', 'char v[] = "cd";'),
        ("int v[2][2] = { {1, 2}, {3, 4} };", "int v[2][2] = { {1, 2}, {3, 5} };"),
        ("int v[2] = {1 /* one */, 2};", "int v[2] = {1, [1] = 3};"),
    ],
)
def test_other_values_are_left_to_the_author(old: str, new: str) -> None:
    made = remedied([source("a.c", old + "\n", new + "\n")], DATA, "v")
    (text,) = made.texts.values()
    assert text.count("/*") == text.count("*/") and " * TODO: do on a running system" in text
    assert any("TODO" in note for note in made.notes)


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("const int v = 1;", "const int v = 2;", "read-only"),
        ("int v __ro_after_init = 1;", "int v __ro_after_init = 2;", "read-only"),
        ("int v[1] = {1};", "int v[2] = {1, 2};", "another type, size or place"),
        ("static DEFINE_RATELIMIT_STATE(v, 1);", "static DEFINE_RATELIMIT_STATE(v, 2);", "no definition of its own"),
    ],
)
def test_data_that_no_callback_can_set(old: str, new: str, fact: str) -> None:
    assert fact in refused([source("a.c", old + "\n", new + "\n")], DATA, "v").fact


def test_init_code_goes_into_a_comment() -> None:
    old = "static int __init start(void)\n{\n\treturn 0;\n}\nmodule_init(start);\n"
    new = old.replace("\treturn", "\tg(); /* why */\n\treturn")
    for symbol in ("start", "init_module"):
        made = remedied([source("a.c", HEAD + old, HEAD + new, "mod")], INIT, symbol)
        (text,) = made.texts.values()
        assert old in text and "\tg();" not in mask(text) and "+\tg();" in text
        assert "KLP_POST_PATCH_CALLBACK(" in text and "POST_UNPATCH" not in text


def test_init_code_that_only_uses_what_changes() -> None:
    start = "static int __init start(void)\n{\n\treturn SIZE;\n}\n"
    refusal = refused([source("a.c", "#define SIZE 1\n" + start, "#define SIZE 2\n" + start)], INIT, "start")
    assert "does not change, but what it uses does" in refusal.fact


def test_work_in_several_files_is_one_callback() -> None:
    sources = [source(f"{n}.c", f"int {n} = 1;\n", f"int {n} = 2;\n") for n in ("a", "b")]
    refusals = [Refusal(DATA, f"{n}.c: {n}", "", symbol=n) for n in ("a", "b")]
    made = write_remedy(sources, refusals, [DATA])
    both = made.texts["a.c"] + made.texts["b.c"]
    assert both.count("_POST_PATCH_CALLBACK(") == both.count("_POST_UNPATCH_CALLBACK(") == 1
    assert "\tkgbuild_remedy_post_patch_0();\n" in made.texts["a.c"]
    assert "void kgbuild_remedy_post_patch_0(void)\n{\n\tif (b == 1)" in made.texts["b.c"]


# -- the patch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [("a\nb\n", "a\nc\n"), ("a\nb", "a\nb\nc"), ("", "x\n"), ("a\fb\n", "a\fc\n")]
)
def test_a_diff_is_read_back(before: str, after: str) -> None:
    text = render_diff({"x/a.c": before, "same.c": "s\n"}, {"x/a.c": after, "same.c": "s\n"})
    (file,) = parse_patch("p", text.encode("latin-1")).files
    applied = apply_file(before.encode(), file, "x/a.c")
    assert isinstance(applied, Applied) and applied.text == after.encode()
