# SPDX-License-Identifier: GPL-2.0-or-later
"""Single faults in finished modules, seeded: with the proof record each is found, and nothing that is no fault."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.elf.write import OutReloc
from kgbuild.errors import UserError
from kgbuild.proof.record import BoundSymbol, ProofRecord, parse_record
from kgbuild.verification.checks import check_module
from kgbuild.verification.kernel_facts import KernelFacts
from kgbuild.verification.reading.contents import digest_contents
from kgbuild.verification.reading.reader import read_module
from tests.support.small_module import ARCH, BUILD_ID, FACTS, NAME, R_64, A, FakeImage, Small, W, complete_record
from tests.support.small_target import MODULE_FACTS, TARGET_ID, SmallTarget
from tests.support.tamper import FAULTS, HARMLESS, File, inject

SEEDS = range(4)


class WithBytes(Small):
    """With variables, so that each kind of fault has something to spoil."""

    def __init__(self) -> None:
        super().__init__()
        data = self.section(".data.own", A | W, b"\1\2\3\4" + bytes(12), align=8)
        data.relocs.append(OutReloc(8, R_64, self.symbols["new"], 0))
        self.section(".note.gnu.build-id", A, b"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0" + bytes(20), kind=7, align=4)


def places(small: Small, facts: KernelFacts) -> ProofRecord:
    """What a module of the tests replaces and is bound to, as its record has it."""
    from kgbuild.verification.proof import place_in_module, place_in_vmlinux

    image, known = FakeImage(), facts.modules("ext4")

    def place(object_name: str, name: str) -> BoundSymbol:
        if object_name == "vmlinux":
            return replace(place_in_vmlinux(image, name, 0, image.named(name)[0]), evidence="own bytes")
        assert known is not None
        symbol, _ = known.locate(name, 0)
        assert symbol is not None
        return replace(place_in_module(known, 0, symbol, ARCH), evidence="own bytes")

    replaced = sorted({(r["object"], r["name"]) for r in small.note["functions"]})
    late = [s.name.removeprefix(".klp.sym.").removesuffix(",0") for s in small.out.symbols if ".klp.sym." in s.name]
    bound = sorted({(p[0], p[2]) for p in (name.partition(".") for name in late)})
    ids = {"vmlinux": BUILD_ID.hex(), **({"ext4": TARGET_ID.hex()} if replaced[0][0] == "ext4" else {})}
    return ProofRecord(ids, tuple(place(*p) for p in replaced), tuple(place(*p) for p in bound))


@cache
def finished(kind: type[Small]) -> tuple[bytes, ProofRecord, KernelFacts]:
    """The bytes of a module, its record, and the kernel that it is for."""
    facts = MODULE_FACTS if issubclass(kind, SmallTarget) else FACTS
    small = kind()
    value = complete_record(small, places(small, facts))
    return small.data, parse_record(json.loads(json.dumps(value))), facts


def codes(data: bytes, record: ProofRecord | None, facts: KernelFacts) -> set[str]:
    try:
        return {f.code for f in check_module(read_module(data, NAME, 62), NAME, ARCH, facts, record)}
    except UserError:
        return {"unreadable"}


@pytest.mark.parametrize("module", [WithBytes, SmallTarget], ids=lambda m: m.__name__)
def test_a_module_without_a_fault_is_what_its_record_says(module: type[Small]) -> None:
    data, record, facts = finished(module)
    assert codes(data, record, facts) == set()


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_is_found_with_the_record(kind: str) -> None:
    made = Counter[type[Small]]()
    for module in (WithBytes, SmallTarget):
        data, record, facts = finished(module)
        for seed in SEEDS:
            spoiled = inject(data, kind, seed)
            if spoiled is None or spoiled[0] == data:
                continue
            made[module] += 1
            assert codes(spoiled[0], record, facts), (module.__name__, seed, spoiled[1])
    assert made[WithBytes] and made.total() >= 3


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_no_kernel_acts_on_is_no_fault(kind: str) -> None:
    for seed in SEEDS:
        data, record, facts = finished(WithBytes)
        changed = inject(data, kind, seed)
        assert changed is not None and (changed[0] != data or kind == "written-again")
        assert codes(changed[0], record, facts) == set(), changed[1]


def test_a_fault_behind_a_signature_is_found() -> None:
    data, record, facts = finished(WithBytes)
    spoiled = inject(data, "code-bit", 1)
    assert spoiled is not None
    signed = inject(spoiled[0], "signature", 1)
    assert signed is not None and "V38-proof-contents" in codes(signed[0], record, facts)
    # a marker without a signature of its length is no signature
    assert codes(data + b"~Module signature appended~\n", record, facts) == {"V40-file"}


def test_bytes_between_the_parts_of_a_file() -> None:
    data, record, facts = finished(WithBytes)
    spans = sorted((p, p + n) for p, n in _extents(data))
    gap = next(end for (_, end), (start, _) in pairwise(spans) if start > end)
    assert codes(data[:gap] + b"\1" + data[gap + 1 :], record, facts) == {"V40-file"}


def _extents(data: bytes) -> list[tuple[int, int]]:
    file = ELFFile(io.BytesIO(data))
    parts = [
        (s["sh_offset"], s["sh_size"]) for s in file.iter_sections() if s["sh_type"] not in ("SHT_NULL", "SHT_NOBITS")
    ]
    return [(0, 64), *parts]


def test_digests_are_those_of_the_description_by_hand() -> None:
    """One section's text, written down as the description says, from what pyelftools reads."""
    data, record, _ = finished(WithBytes)
    file = ELFFile(io.BytesIO(data))
    names = [s.name for s in file.iter_sections()]
    counted = [n for n in names[1:] if not n.startswith((".rela", ".symtab", ".strtab", ".shstrtab"))]
    section, rela = file.get_section_by_name(".data.own"), file.get_section_by_name(".rela.data.own")
    (row,) = rela.iter_relocations()
    symbol = file.get_section_by_name(".symtab").get_symbol(row["r_info_sym"])
    lines = [
        [".data.own", 1, 3, 0, 16, 8, 0, 0, 0],
        [hashlib.sha256(section.data()).hexdigest()],
        [".rela.data.own", rela["sh_flags"], 0, 8, 24, 24],
        [8, 1, 0, ["new", symbol["st_value"], 2, 0, counted.index(".text.new") + 1]],
    ]
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    assert record.module is not None
    assert dict(record.module.sections)[".data.own"] == hashlib.sha256(text.encode()).hexdigest()
    assert [name for name, _ in record.module.sections] == counted
    whole = ["kgbuild-module-sha256-1", record.module.header, record.module.symbols]
    whole += [f"{name} {digest}" for name, digest in record.module.sections]
    assert record.module.digest == hashlib.sha256("\n".join(whole).encode()).hexdigest()


def test_the_injector_writes_what_it_read() -> None:
    data, record, _ = finished(WithBytes)
    assert digest_contents(read_module(File(data).data(), NAME, 62)) == record.module
    assert inject(data, "code-bit", 7) == inject(data, "code-bit", 7) != inject(data, "code-bit", 8)
