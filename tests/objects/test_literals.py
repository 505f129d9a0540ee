# SPDX-License-Identifier: GPL-2.0-or-later
"""String literals and constants without a name: whose bytes patched code means, and what the module says of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from kgbuild.closure.proof_record import make_record
from kgbuild.elf.consts import SHF, SHT
from kgbuild.elf.read import read
from kgbuild.elf.write import OutSection, write
from kgbuild.emit.extract import extract
from kgbuild.kernel.exports import Export
from kgbuild.objects.view import View
from kgbuild.proof.record import parse_record
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.literals import check_literals
from kgbuild.verification.reading.reader import read_module
from tests.support.kernel import ANCHOR, EXPORTS, WITH_ANCHOR, Patched, close_text
from tests.support.small_module import ARCH, Small, complete_record

COMMON = """
struct ops { const char *name; long n; }; const char *kept; struct pair { long a, b, c, d; } *where;
#ifdef PATCHED
#define S(a, b) b
#else
#define S(a, b) a
#endif
"""


def closed(text: str, exports: dict[str, Export] | None = None) -> Patched:
    return close_text(COMMON + text, beside=(ANCHOR,), exports=WITH_ANCHOR if exports is None else exports)


def literals(patched: Patched) -> list[bytes]:
    """The kernel's constants that the module is bound to; each at a place where the kernel has these bytes."""
    found = set()
    for literal in patched.closure.literals.values():
        assert patched.image.read(literal.address, len(literal.data)) == literal.data
        assert literal.bound.name == "anchor" and literal.delta == literal.address - literal.bound.address
        found.add(literal.data)
    return sorted(found)


def copies(patched: Patched) -> list[bytes]:
    """Strings and constants without a name that the module has itself."""
    found = []
    for m in patched.closure.members.values():
        view = patched.closure.units[m.unit].changes.patched
        if m.atom.kind in ("string", "anon") and not view.section_of(m.atom).executable:
            found.append(view.content(m.atom))
    return sorted(found)


CASES: list[tuple[str, str, list[bytes], list[bytes]]] = [
    ("kept", 'void f(int x) { kept = "name"; sink(S(0, kept)); }', [b"name\0"], []),
    ("passed", 'void f(int x) { printk("text %d\\n", x + S(1, 2)); }', [b"text %d\n\0"], []),
    ("new", 'void f(int x) { printk(S("old\\n", "new\\n")); }', [], [b"new\n\0"]),
    ("both", 'void f(int x) { printk("same"); S(, kept = "other"); }', [b"same\0"], [b"other\0"]),
    ("compared", 'int f(const char *p) { const void *m = "me"; return (p == m) + S(1, 2); }\n'
     'void g(void) { sink("me"); }',
     [b"me\0"], []),
    # of another function of the unit, whose code is proven
    ("elsewhere", 'void g(void) { sink("shared"); }\nvoid f(int x) { S(, sink("shared")); source(x); }',
     [b"shared\0"], []),
    ("of init code", '__init void g(void) { sink("at boot"); }\nvoid f(int x) { S(, sink("at boot")); source(x); }',
     [b"at boot\0"], []),
    ("the end of another", 'void f(int x) { sink("a tail"); sink("tail"); S(, source(x)); }',
     [b"a tail\0", b"tail\0"], []),
    ("a part", 'void f(int x) { sink(&"abcdef"[2] + x); S(, source(x)); }', [b"abcdef\0"], []),
    # read, and not kept: a copy does
    ("only read", 'int f(int x) { return "0123456789abcdef"[x] + S(1, 2); }', [], [b"0123456789abcdef\0"]),
    ("read and kept", 'int f(int x) { kept = "0123456789"; return "0123456789"[x] + S(1, 2); }',
     [b"0123456789\0"], [b"0123456789\0"]),
    ("in new data", 'void g(void) { sink("field"); }\nvoid f(int x) { S(, static const char *t = "field"; sink(&t)); }',
     [b"field\0"], []),
    # no code refers to it, and the initial value of a variable leads there
    ("compared with a field", 'static struct ops o = {"field", 1}; void g(void) { sink(&o); }\n'
     'int f(struct ops *p) { const char *own = "field"; return S(1, (p->name == own) + 2); }',
     [b"field\0"], []),
    ("kept, of a table", 'const char *const names[2] = {"zero", "one"};\n'
     'void f(int x) { S(, kept = "one"); source(x); }', [b"one\0"], []),
    ("the end of a field's", 'struct ops o = {&"long tail"[5], 1};\n'
     'void f(int x) { S(, kept = &"long tail"[5]); source(x); }',
     [b"long tail\0"], []),
    ("of a field that is none's any more", 'struct ops o = {"field", 1};\n'
     'void f(int x) { S(, kept = "yield"); source(x); }', [], [b"yield\0"]),
    ("wide", 'void f(int x) { sink(L"wide"); S(, source(x)); }', ["wide\0".encode("utf-32-le")], []),
    ("wide and narrow", 'void g(void) { sink(""); }\nvoid f(int x) { S(, sink(L"")); source(x); }', [], [bytes(4)]),
    # in the section of constants, under a name that says nothing
    ("function's name", 'void f(int x) { sink(__func__); S(, source(x)); }', [], []),
    ("switch of strings", '''const char *f(int x) { switch (x) { case 0: return "zero"; case 1: return "one";
      case 2: return "two"; case 3: return "three"; case 4: return "four"; } return S("?", "!"); }''',
     [b"four\0", b"one\0", b"three\0", b"two\0", b"zero\0"], [b"!\0"]),
    ("compound", "void f(int x) { sink(&(const struct pair){1, 2, 3, x}); S(, source(x)); }", [], []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "bound", "copied"), CASES, ids=[c[0] for c in CASES])
def test_whose_bytes(name: str, text: str, bound: list[bytes], copied: list[bytes]) -> None:
    patched = closed(text)
    assert not patched.refused, name
    assert literals(patched) == bound
    assert copies(patched) == copied


def test_a_table_of_jumps_comes_along() -> None:
    """It holds places inside the function that changes."""
    cases = " ".join(f"case {n}: a = source(a + {n}); break;" for n in range(8))
    patched = closed(f"int f(int a) {{ switch (a) {{ {cases} }} return a + S(1, 2); }}")
    assert not patched.refused and not patched.closure.literals
    assert any(m.atom.kind == "anon" for m in patched.closure.members.values())


def test_without_an_export_in_the_section() -> None:
    patched = closed('void f(int x) { kept = "name"; S(, source(x)); }', EXPORTS)
    assert not patched.closure.literals and copies(patched) == [b"name\0"]


def test_code_that_is_not_what_runs_proves_no_place() -> None:
    text = 'void f(int x) { printk("a"); }\nvoid g(int x) { sink("b" S1); source(S(1, 2)); }'
    ours, theirs = (COMMON + text.replace("S1", extra) for extra in ("", '"c"'))
    patched = close_text(ours, kernel_text=theirs, beside=(ANCHOR,), exports=WITH_ANCHOR)
    assert not patched.closure.literals


@pytest.fixture(scope="module")
def kept() -> Patched:
    return closed('void f(int x) { kept = "name" + 1; sink("other"); printk("%d", x + S(1, 2)); }')


def _note(patched: Patched) -> dict[str, Any]:
    record = make_record(patched.closure, lambda _: patched.image, {}, [])
    rows: dict[str, dict[str, str]] = {}
    for c in record.literals:
        rows.setdefault(c.symbol, {})[f"{c.address:#x},{c.size}"] = c.digest
    return {"literals": rows}


def test_a_record_has_them_and_reads_back(kept: Patched) -> None:
    record = make_record(kept.closure, lambda _: kept.image, {}, [])
    assert sorted(c.size for c in record.literals) == [3, 5, 6]
    assert hashlib.sha256(b"name\0").hexdigest() in {c.digest for c in record.literals}
    assert all(c.evidence.startswith("read at f+") for c in record.literals)
    back = parse_record(json.loads(json.dumps(complete_record(Small(), record))))
    assert (back.replaced, back.bound, back.literals) == (record.replaced, record.bound, record.literals)


def test_the_module_refers_to_what_its_note_says(kept: Patched) -> None:
    """And verify finds each way in which it would not."""
    output = extract(kept.closure, None)
    output.sections.append(OutSection(".modinfo", SHT.PROGBITS, SHF.ALLOC, bytearray(b"license=GPL\0")))
    module = read_module(write(output), "m", 62)
    code, note = DecodedCode(module, ARCH), _note(kept)
    record = make_record(kept.closure, lambda _: kept.image, {}, [])

    def check(note: dict[str, Any], against: Any = None) -> list[str]:
        return [f.code for f in check_literals(module, note, against, ARCH, kept.image, code)]

    assert check(note, record) == []
    assert check(note, replace(record, literals=record.literals[1:])) == ["V29-proof-binding"]
    rows = note["literals"]["anchor"]
    place = next(iter(rows))
    address, size = place.split(",")
    for spoilt in (
        {**rows, place: "0" * 64},
        {k: v for k, v in rows.items() if k != place},
        {**rows, f"{int(address, 16) + 0x100:#x},{size}": rows[place]},
        {**rows, "0x10,4": rows[place]},
    ):
        assert "V35-literal" in check({"literals": {"anchor": spoilt}})
    for unread in ({"literals": []}, {"literals": {"anchor": []}}, {"literals": {"anchor": {"x": ""}}}):
        assert check(unread) == ["V35-literal"]
    assert check({"literals": {"printk": rows}}) and check({"literals": {"none": rows}})


def test_strings_of_modules_are_copies() -> None:
    patched = closed('void f(int x) { kept = "name"; S(, source(x)); }')
    (unit,) = patched.closure.units
    from kgbuild.closure.binding import World
    from kgbuild.closure.kernel_literals import Literals

    world = World(patched.image, WITH_ANCHOR)
    view: View = unit.changes.patched
    function = next(a for a in view.functions if a.name == "f")
    found = {
        target: [r for r in view.refs(function) if Literals(unit._replace(target=target), world).find(function, r)]
        for target in ("vmlinux", "fat")
    }
    assert len(found["vmlinux"]) == 1 and not found["fat"]
    assert read(patched.patched).section_named(".text.f") is not None
