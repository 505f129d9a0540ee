# SPDX-License-Identifier: GPL-2.0-or-later
"""Named types that both objects have: what counts as a change of structure."""

from __future__ import annotations

import pytest

from kgbuild.debuginfo.btf import Btf, compare_names
from kgbuild.elf.read import FormatError, read
from kgbuild.errors import ToolError
from kgbuild.objects.variable_types import unit_types
from kgbuild.objects.view import View
from tests.support.toolchain import compile_text, pair_flags, without_btf

USE = "\nint size_of(%s *p) { return sizeof(*p) + (p != 0); }\n"
BASE = "struct s { int a; long b; char c; };"


def differences(old: str, new: str, use: str = "struct s") -> list[str]:
    """What differs, by BTF and DWARF; by DWARF alone it is the same."""
    out = []
    sides = [compile_text(text + USE % use, *pair_flags(("-g", "-gbtf"))) for text in (old, new)]
    for datas in (sides, map(without_btf, sides)):
        found = unit_types(*(View(read(data)) for data in datas)).changed
        out.append([f"{kind} {name}: {difference}" for (kind, name), difference in found.items()])
    assert out[0] == out[1]
    return out[0]


@pytest.mark.parametrize(
    ("new", "facts"),
    [
        (BASE, []),
        ("struct s { int a; long b; char c; long d; };", ["struct s: 24 -> 32 bytes, new member d at byte 24"]),
        ("struct s { int a; long b; char c; char d; };", ["struct s: new member d at byte 17"]),
        ("struct s { long b; int a; char c; };", None),
        ("struct s { int renamed; long b; char c; };", []),
        ("struct s { int a; long b; };", None),
        ("struct s { int a; long b; short c; };", ["struct s: c changes from 8 to 16 bits"]),
        ("struct s { int a; void *b; char c; };", ["struct s: b: long int -> void *"]),
        ("struct s { int a; long long b; char c; };", []),
        ("struct s { int a; long b; _Bool c; };", ["struct s: c: char -> _Bool"]),
        ("struct s { int a; long renamed; char c; } __attribute__((aligned(8)));", []),
        ("struct s { unsigned a; long b; char c; };", []),
        ("struct s { int a; int hole; long b; char c; };", ["struct s: new member hole at byte 4"]),
        ("struct s { int a; union { long b; void *other; }; char c; };", ["struct s: new member other at byte 8"]),
        ("struct s { struct { int a; long b; char c; }; };", []),
    ],
)
def test_structure(new: str, facts: list[str] | None) -> None:
    found = differences(BASE, new)
    if facts is None:
        assert [f.partition(":")[0] for f in found] == ["struct s"]
    else:
        assert found == facts


def test_members_that_change_places_have_the_same_size() -> None:
    assert len(differences("struct s { int a; int b; };", "struct s { int b; int a; };")) == 1


def test_bit_fields() -> None:
    old = "struct s { unsigned a : 3; unsigned b : 5; unsigned c : 8; };"
    assert differences(old, old) == []
    assert len(differences(old, "struct s { unsigned a : 4; unsigned b : 4; unsigned c : 8; };")) == 1
    assert len(differences(old, "struct s { unsigned b : 5; unsigned a : 3; unsigned c : 8; };")) == 1
    assert len(differences(old, "struct s { unsigned a : 3; unsigned b : 5; unsigned c : 8; unsigned d : 1; };")) == 1
    assert differences(old, "struct s { unsigned z : 3; unsigned b : 5; unsigned c : 8; };") == []


def test_members_of_a_nested_unnamed_structure() -> None:
    """`struct { int x, y; } pos`: its size stays where x and y change places."""
    old, new = "struct s { struct { int x, y; } pos; };", "struct s { struct { int y, x; } pos; };"
    assert len(differences(old, new)) == 1
    old, new = "struct s { struct { int x, y; } pos[4]; };", "struct s { struct { int y, x; } pos[4]; };"
    assert len(differences(old, new)) == 1


def test_unnamed_structure_behind_a_typedef() -> None:
    old, new = "typedef struct { int x, y; } pos_t;", "typedef struct { int x, y, z; } pos_t;"
    assert differences(old, old, "pos_t") == []
    found = differences(old, new, "pos_t")
    assert len(found) == 1
    assert "pos_t" in found[0]


def test_union() -> None:
    old = "union s { int a; char b[4]; };"
    assert differences(old, "union s { int a; char b[8]; };", "union s") != []
    assert differences(old, "union s { int z; char b[4]; };", "union s") == []


ENUM = "enum e { RED, GREEN = 5, BLUE };\nstruct s { enum e e; };"


def test_enumeration() -> None:
    assert differences(ENUM, ENUM.replace("BLUE", "BLUE, BLACK")) == []
    assert differences(ENUM, ENUM.replace("= 5", "= 4")) != []
    assert "GREEN changes from 5 to 4" in differences(ENUM, ENUM.replace("= 5", "= 4"))[0]
    assert differences(ENUM, ENUM.replace("RED,", "BLACK, RED,")) != []


def test_enumeration_behind_a_typedef() -> None:
    old = "typedef enum { FIRST, SECOND } order_t;"
    assert differences(old, old.replace("SECOND", "SECOND, THIRD"), "order_t") == []
    assert differences(old, old.replace("FIRST", "ZEROTH, FIRST"), "order_t") != []


def test_type_that_is_only_pointed_to() -> None:
    """A structure of which a unit knows the name alone has no layout to compare."""
    assert differences("struct s;\nint f(struct s *p);", "struct s;\nint g(struct s *p);", "int") == []
    assert differences("struct s;", BASE, "int") == []


def test_new_type_is_no_change() -> None:
    assert differences(BASE, BASE + "\nstruct fresh { int a; };\nint f(struct fresh *p) { return p->a; }") == []


def test_type_nested_in_another_by_value() -> None:
    old = "struct inner { int a; };\nstruct s { struct inner in; int z; };"
    found = differences(old, old.replace("int a;", "int a; int b;"))
    assert {f.partition(":")[0] for f in found} == {"struct inner", "struct s"}


def test_array_grows() -> None:
    old = "struct s { int a[4]; int z; };"
    assert len(differences(old, old.replace("4", "5"))) == 1


def test_flexible_array() -> None:
    old = "struct s { int n; int rest[]; };"
    assert differences(old, old) == []
    assert len(differences(old, "struct s { int n; int more; int rest[]; };")) == 1


def test_object_without_types() -> None:
    obj = read(compile_text("int f(void) { return 1; }", *pair_flags()))
    assert compare_names(obj, obj) is None


def test_broken_type_information() -> None:
    data = compile_text(BASE + USE % "struct s", *pair_flags(("-g", "-gbtf")))
    whole = View(read(data))
    for name in (".BTF", ".debug_info", ".debug_abbrev"):
        section = whole.obj.section_named(name)
        assert section is not None
        for at in range(section.offset, section.offset + section.size, 7):
            broken = bytearray(data)
            broken[at] ^= 0xFF
            try:
                assert unit_types(whole, View(read(bytes(broken)))).changed is not None
            except (ToolError, FormatError) as error:
                assert "can't be read" in str(error)


@pytest.mark.parametrize(
    "more", ["", "struct first { int a; } first;", "int first(int a);\nint second(int a) { return first(a); }"]
)
def test_what_is_the_same_is_no_suspect(more: str) -> None:
    """Types that come earlier on one side give all others new numbers."""
    old, new = (BASE + text + USE % "struct s" for text in ("", ""))
    sides = [read(compile_text(text, *pair_flags(("-gbtf",)))) for text in (old, more + new)]
    for pair in (sides, sides[::-1]):
        names = compare_names(*pair)
        assert names is not None
        assert names.suspects == frozenset()


def test_texts_of_types() -> None:
    text = "typedef struct { int a : 3; const struct s *next; int (*call)(long, void *); } t;\nstruct s { t t[4]; } v;"
    section = (obj := read(compile_text(text, *pair_flags(("-gbtf",))))).section_named(".BTF")
    assert section is not None
    btf = Btf(bytes(obj.contents(section.index)))
    named = btf.named()
    assert btf.body(named["struct", "s"][0]) == "96;t 0 t[4];0"
    inner = "24;a 50331648 int;next 64 tag s*;call 128 int(long int,void*)*;1"
    assert btf.body(named["typedef", "t"][0]) == f"struct{{{inner}}}"
