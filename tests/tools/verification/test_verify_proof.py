# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests and proof records: computed by two readers and by hand, written, read back, and spoiled in every way."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.arch import arch_of
from kgbuild.closure.close import close
from kgbuild.closure.proof_record import locate_address, make_record
from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.model import Finding
from kgbuild.pipeline.stages.verify import read_record
from kgbuild.proof.record import BadRecord, Constant, ProofRecord, compute_digest, parse_record
from kgbuild.verification.checks import check_module
from kgbuild.verification.modules import Shipped
from kgbuild.verification.proof import place_in_module, place_in_vmlinux
from kgbuild.verification.reading.reader import read_module
from tests.support.kernel import EXPORTS, close_text
from tests.support.small_module import (
    ARCH,
    BUILD_ID,
    FACTS,
    NAME,
    OLD,
    Small,
    check,
    complete_record,
)
from tests.support.small_record import FAKE, GOOD, place
from tests.support.small_target import MODULE_FACTS, TARGET_ID, SmallTarget
from tests.support.toolchain import compile_text, pair_flags

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schema" / "proof-2.json").read_text())
UNIT = """
static int state;
static noinline int inner(int x) { return printk("inner %d\\n", x) + state; }
int outer(int x) { sink(inner); return inner(x + 3) + source(x) + state++; }
"""
PATCH = UNIT.replace("x + 3", "x + STEP") + "noinline int other(int x) { return inner(x); }\n"
STEP = "#ifdef PATCHED\n#define STEP 5\n#else\n#define STEP 4\n#endif\n"


def check_with(record: ProofRecord, small: Small | None = None) -> list[Finding]:
    return check_module(read_module((small or Small()).data, NAME, 62), NAME, ARCH, FACTS, record)


def test_a_good_record_has_no_finding() -> None:
    assert check_with(GOOD) == []


# -- the digest ------------------------------------------------------------------------------------------------------


def by_hand(elf: bytes, name: str, *, relocatable: bool) -> str:
    """The digest as the schema describes it, with pyelftools."""
    file = ELFFile(io.BytesIO(elf))
    (symbol,) = file.get_section_by_name(".symtab").get_symbol_by_name(name)
    section = file.get_section(symbol["st_shndx"])
    start = symbol["st_value"] - (0 if relocatable else section["sh_addr"])
    data = bytearray(section.data()[start : start + symbol["st_size"]])
    lines = []
    if relocatable:
        symbols = file.get_section_by_name(".symtab")
        rela = file.get_section_by_name(f".rela{section.name}")
        for r in rela.iter_relocations():
            at = r["r_offset"] - start
            if not 0 <= at < len(data):
                continue
            kind = r["r_info_type"]
            size = {1: 8, 2: 4, 4: 4, 11: 4}[kind]
            data[at : at + size] = bytes(size)
            target = symbols.get_symbol(r["r_info_sym"])
            text, number = target.name, r["r_addend"]
            if target["st_shndx"] != "SHN_UNDEF":
                text, number = file.get_section(target["st_shndx"]).name, number + target["st_value"]
            lines.append((at, size, kind, f"\n{at:x} {kind} {text}{number:+d}"))
    return hashlib.sha256(bytes(data) + "".join(t[-1] for t in sorted(lines)).encode()).hexdigest()


def test_digest_in_vmlinux() -> None:
    p = close_text(STEP + PATCH)
    data = bytes(p.image.obj.data)
    for name in ("inner", "other"):
        (symbol,) = p.image.named(name)
        made = locate_address(p.image, "vmlinux", name, 0, symbol.value)
        assert made.digest == by_hand(data, name, relocatable=False)
        assert made == place_in_vmlinux(p.image, name, 0, symbol)
        assert (made.kind, made.section, made.size) == ("function", ".text", symbol.size)
    (state,) = p.image.named("state")
    assert locate_address(p.image, "vmlinux", "state", 0, state.value).digest == ""


def module_of(text: str) -> bytes:
    """An object file with what makes it a module's."""
    text = f'#include "kernel.h"\n{text}\nsection(".modinfo") used const char info[] = "name=small";\n'
    return compile_text(text, *pair_flags(split=False))


def test_digest_in_a_module_by_both_readers() -> None:
    data = module_of(UNIT)
    image = ModuleImage(read(data), "small")
    shipped = Shipped("small", read_module(data, "small.ko", 62))
    for name in ("inner", "outer"):
        (symbol,) = image.named(name)
        made = locate_address(image, "small", name, 0, symbol.value)
        assert made.digest == by_hand(data, name, relocatable=True)
        found, _ = shipped.locate(name, 0)
        assert found is not None
        assert made == place_in_module(shipped, 0, found, arch_of(62))


def test_what_a_reference_leads_to_is_in_the_digest() -> None:
    """The bytes of both are the same: they differ in what is called, and how far into what is read."""
    text = "int called(int), other(int); int tab[9]; int %s(int x) { return %s(x) + tab[%d]; }"
    digests = set()
    for values in (("called", 3), ("other", 3), ("called", 4)):
        image = ModuleImage(read(module_of(text % ("f", *values))), "small")
        digests.add(locate_address(image, "small", "f", 0, image.named("f")[0].value).digest)
    assert len(digests) == 3


def test_digest_does_not_depend_on_what_a_field_holds() -> None:
    plain = compute_digest(b"\xe8\1\2\3\4\xc3", [(1, 4, 4, "f", -4)])
    assert plain == compute_digest(b"\xe8\0\0\0\0\xc3", [(1, 4, 4, "f", -4)])
    assert plain == hashlib.sha256(b"\xe8\0\0\0\0\xc3\n1 4 f-4").hexdigest()
    assert compute_digest(b"\xe8\0", [(1, 4, 4, "f", -4)]) == hashlib.sha256(b"\xe8\0\n1 4 f-4").hexdigest()
    assert compute_digest(b"") == ""


# -- a record of a closure, as a file --------------------------------------------------------------------------------


def record_of(text: str, *allowed: str, kernel_text: str | None = None) -> ProofRecord:
    p = close_text(text, kernel_text=kernel_text)
    closure = close(p.closure.units, p.image, EXPORTS, frozenset(allowed))
    assert not closure.refusals
    own = [("vmlinux", "__start_notes", 0)]
    risks = [("--allow-unproven", name) for name in allowed]
    return make_record(closure, lambda name: p.image, {"vmlinux": "00" * 20}, own, risks)


def test_record_of_a_closure() -> None:
    record = record_of(STEP + PATCH)
    assert [(p.name, p.evidence, p.proven) for p in record.replaced] == [("outer", "own bytes", True)]
    bound = {p.name: p for p in record.bound}
    assert set(bound) == {"__start_notes", "inner", "sink", "state"}
    assert (bound["inner"].kind, bound["state"].kind) == ("function", "data")
    assert bound["state"].evidence.startswith("read at ")
    assert len(bound["inner"].digest) == 64 and bound["state"].digest == ""
    assert set(record.digests) == {("vmlinux", n, 0) for n in ("outer", "inner", "sink")}
    written = complete_record(Small(), record)
    jsonschema.validate(written, SCHEMA)
    again = parse_record(json.loads(json.dumps(written)))
    assert dataclasses.replace(again, module=None, made={}, digest="") == record


def test_what_is_accepted_without_proof_says_so() -> None:
    text = STEP + PATCH
    record = record_of(text, "outer", kernel_text=text.replace("source(x) + state++", "source(x) - state++"))
    (replaced,) = record.replaced
    assert not replaced.proven and replaced.evidence.startswith("not proven (")
    assert record.allowed == (("--allow-unproven", "outer"),)
    record = record_of(text, "inner", kernel_text=text.replace("inner %d", "other %d"))
    inner = next(p for p in record.bound if p.name == "inner")
    assert not inner.proven and "--allow-unproven" in inner.evidence


def test_the_schema_is_valid_and_closed() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = complete_record(Small(), GOOD)
    jsonschema.validate(good, SCHEMA)
    for spoiled in (
        {**good, "more": 1},
        {**good, "schema_version": 3},
        {**good, "module": {**good["module"], "more": 1}},
        {k: v for k, v in good.items() if k != "module"},
        {k: v for k, v in good.items() if k != "bound"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoiled, SCHEMA)


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lambda d: d.update(schema="other"), "schema is 'other'"),
        (lambda d: d.update(schema_version=3), "schema_version is version 3"),
        (lambda d: d.update(schema_version=1), "schema_version is 1: it has no digests of the module"),
        (lambda d: d.pop("options"), "is without options"),
        (lambda d: d.pop("module"), "module is no object"),
        (lambda d: d["module"].update(algorithm="md5"), "module.algorithm is 'md5'"),
        (lambda d: d["module"].update(sections={}), "module.sections is no list"),
        (lambda d: d["module"]["sections"].append(1), "is no object"),
        (lambda d: d["module"]["sections"][0].update(digest=1), "module does not hold names and digests as texts"),
        (lambda d: d["module"].pop("digest"), "module does not hold names and digests as texts"),
        (lambda d: d.update(digest="md5"), "digest 'md5'"),
        (lambda d: d.pop("build_ids"), "build_ids is no object"),
        (lambda d: d.update(build_ids={"vmlinux": 1}), "build_ids does not hold texts"),
        (lambda d: d.update(bound={}), "bound is no list"),
        (lambda d: d.update(allowed=[{"option": 1, "value": ""}]), "allowed[0] does not hold"),
        (lambda d: d["bound"].append(3), "bound[4] is no object"),
        (lambda d: d["bound"][0].pop("digest"), "bound[0] does not have, or should not have, digest"),
        (lambda d: d["replaced"][0].update(address="here"), "address 'here' is no hexadecimal number"),
        (lambda d: d["replaced"][0].update(address=None), "address None is no hexadecimal number"),
        (lambda d: d["replaced"][0].update(sympos="0"), "sympos is '0'"),
        (lambda d: d["replaced"][0].update(size=True), "size is True"),
        (lambda d: d["replaced"][0].update(proven=1), "proven is 1"),
    ],
)
def test_records_that_are_none(spoil: Callable[[dict[str, Any]], object], fact: str, tmp_path: Path) -> None:
    value = complete_record(Small(), GOOD)
    assert parse_record(value).bound == GOOD.bound
    spoil(value)
    with pytest.raises(BadRecord) as caught:
        parse_record(value)
    assert fact in " ".join(caught.value.args)
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(value))
    with pytest.raises(UserError) as refused:
        read_record(file)
    assert fact in refused.value.fact and refused.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100000, "\0", '"proof"'])
def test_files_that_are_no_record(text: str, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text(text)
    with pytest.raises(UserError):
        read_record(tmp_path / "proof.json")
    with pytest.raises(UserError):
        read_record(tmp_path / "missing.json")


# -- what verify finds -----------------------------------------------------------------------------------------------


def bound(index: int, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["bound"][index].update(fields)


def replaced(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["replaced"][0].update(fields)


RECORD_SPOILERS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("V29-proof-binding", lambda d: d["bound"].pop()),
    ("V29-proof-binding", lambda d: d["bound"].pop(0)),
    ("V29-proof-binding", lambda d: d["bound"].append(d["bound"][0])),
    ("V29-proof-binding", lambda d: d["bound"].append({**d["bound"][2], "name": "plain"})),
    ("V29-proof-binding", lambda d: d["replaced"].clear()),
    ("V29-proof-binding", lambda d: d["replaced"].append({**d["replaced"][0], "name": "twin"})),
    ("V29-proof-binding", replaced(sympos=1)),
    ("V29-proof-binding", replaced(object="ext4")),
    ("V29-proof-binding", lambda d: d["build_ids"].update(vmlinux="00" * 20)),
    ("V29-proof-binding", lambda d: d["build_ids"].clear()),
    ("V29-proof-binding", lambda d: d["build_ids"].update(ext4="11" * 20)),
    ("V29-proof-binding", lambda d: d["allowed"].append({"option": "--allow-unproven", "value": "old"})),
    ("V30-proof-digest", replaced(digest="00" * 32)),
    ("V30-proof-digest", replaced(digest="")),
    ("V30-proof-digest", replaced(address="0x2010")),
    ("V30-proof-digest", replaced(size=15)),
    ("V30-proof-digest", replaced(section=".init.text")),
    ("V30-proof-digest", bound(2, digest=FAKE.digest("old", 0))),
    ("V30-proof-digest", bound(0, address="0x7100")),
    ("V30-proof-digest", bound(0, digest="00" * 32)),
    ("V30-proof-digest", bound(0, kind="function")),
]


@pytest.mark.parametrize("number", range(len(RECORD_SPOILERS)))
def test_a_record_that_is_not_the_module_s(number: int) -> None:
    code, spoil = RECORD_SPOILERS[number]
    small = Small()
    value = complete_record(small, GOOD)
    assert check_with(parse_record(value), small) == []
    spoil(value)
    found = check_with(parse_record(value), small)
    # that the record as a whole is not the module's is found with each
    assert {f.code for f in found} == {code, "V39-proof-origin"}, found


def leaves(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each text, number and truth value of a record, and to each list that is empty."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in items:
        yield from leaves(inner, (*path, key))
    if not items:
        yield path


def altered(value: object) -> object:
    """Another value of the same type, and form where it is a number in a text."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [{"option": "--ignore-init", "value": ""}]
    assert isinstance(value, str)
    if value.startswith("0x"):
        return hex(int(value, 16) + 1)
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def test_each_field_of_a_record_is_checked() -> None:
    small = Small()
    literal = Constant(0x100, 4, "ab" * 32, "helper", "why")
    value = complete_record(small, dataclasses.replace(GOOD, literals=(literal,)))
    paths = list(leaves(value))
    assert len(paths) > 100 and ("bound", 0, "proven") in paths and ("options", "drop") in paths
    before = set(check_with(parse_record(value), small))
    for path in paths:
        spoiled = copy.deepcopy(value)
        holder = spoiled
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = altered(holder[path[-1]])
        try:
            found = check_with(parse_record(spoiled), small)
        except BadRecord:
            continue
        assert set(found) - before, path
        del holder[path[-1]]
        try:
            assert set(check_with(parse_record(spoiled), small)) - before, path
        except BadRecord:
            continue


def test_a_module_that_is_not_the_record_s() -> None:
    """What is bound to something else is good by itself, and not what was proven."""
    small = Small()
    small.symbols[".klp.sym.vmlinux.helper,0"].name = ".klp.sym.vmlinux.plain,0"
    assert check(small.data) == []
    found = check_with(GOOD, small)
    assert [(f.code, f.place) for f in found] == [("V29-proof-binding", "helper"), ("V29-proof-binding", "plain")]


def note(**fields: Any) -> Callable[[Small], object]:
    return lambda m: m.note.update(fields)


ROW = {"object": "vmlinux", "name": "old", "sympos": 0}
HELPER_DIGEST = {"helper,0": FAKE.digest("helper", 0), "old,0": FAKE.digest("old", 0)}
NOTE_SPOILERS: list[Callable[[Small], object]] = [
    note(bound={}),
    note(bound=[]),
    note(bound={"vmlinux": []}),
    note(bound={"vmlinux": {**HELPER_DIGEST, "helper,0": "00" * 32}}),
    note(bound={"vmlinux": {**HELPER_DIGEST, "helper,0": ""}}),
    note(bound={"vmlinux": {**HELPER_DIGEST, "helper,0": FAKE.digest("plain", 0)}}),
    note(bound={"vmlinux": {**HELPER_DIGEST, "plain,0": FAKE.digest("plain", 0)}}),
    note(bound={"vmlinux": {**HELPER_DIGEST, "helper,x": "00" * 32}}),
    note(bound={"vmlinux": HELPER_DIGEST, "ext4": {"f,0": "00" * 32}}),
    note(functions=[{**ROW, "digest": "00" * 32}], bound={"vmlinux": {"helper,0": FAKE.digest("helper", 0)}}),
    note(functions=[{**ROW, "digest": 7}]),
    note(schema=1),
    note(schema="2"),
]


@pytest.mark.parametrize("number", range(len(NOTE_SPOILERS)))
def test_a_note_that_does_not_have_the_kernel_s_digests(number: int) -> None:
    small = Small()
    NOTE_SPOILERS[number](small)
    found = check(small.data)
    assert found and {f.code for f in found} == {"V28-note-digest"}, found


def test_a_note_without_digests_says_nothing_is_proven() -> None:
    small = Small()
    small.note_with_digests = lambda: dict(small.note)  # type: ignore[method-assign]
    assert {f.code for f in check(small.data)} == {"V28-note-digest"}


def test_a_note_and_a_record_that_agree_with_each_other_only() -> None:
    """Both are spoiled in the same way: the kernel's own bytes decide."""
    small = Small()
    note(bound={"vmlinux": {**HELPER_DIGEST, "helper,0": "00" * 32}})(small)
    spoiled = dataclasses.replace(GOOD.bound[2], digest="00" * 32)
    record = dataclasses.replace(GOOD, bound=(*GOOD.bound[:2], spoiled, GOOD.bound[3]))
    value = complete_record(small, record)
    assert {f.code for f in check_with(parse_record(value), small)} == {"V28-note-digest", "V30-proof-digest"}


def test_functions_of_modules() -> None:
    small = SmallTarget()
    old = {"object": "ext4", "section": ".text", "size": 6, "digest": small.digest("ext4", "old", 0)}
    table = {"object": "ext4", "section": ".data", "size": 6}
    record = ProofRecord(
        {"vmlinux": BUILD_ID.hex(), "ext4": TARGET_ID.hex()},
        (place("old", 0, **old),),
        (place("table", 0, "data", **table), *GOOD.bound[:2], place("old", OLD)),
    )

    def found(r: ProofRecord) -> list[Finding]:
        return check_module(read_module(small.data, NAME, 62), NAME, ARCH, MODULE_FACTS, r)

    assert found(record) == []
    spoiled = dataclasses.replace(record.replaced[0], digest="00" * 32)
    record = dataclasses.replace(record, build_ids={**record.build_ids, "ext4": "00" * 20}, replaced=(spoiled,))
    assert {(f.code, f.place) for f in found(record)} == {
        ("V29-proof-binding", "ext4"),
        ("V30-proof-digest", "ext4:old"),
    }
