# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof record of a closure: what it replaces in the running kernel and what it is bound to there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256

from kgbuild.arch import for_object
from kgbuild.closure.binding import KLP
from kgbuild.closure.model import Closure, Redirect
from kgbuild.elf.consts import SHN, STT
from kgbuild.elf.object import Symbol
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.proof.parity import EXACT
from kgbuild.proof.record import DATA, FUNCTION, BoundSymbol, Constant, ProofRecord, SymbolKey, compute_digest


def make_record(
    closure: Closure,
    image_of: Callable[[str], KernelImage],
    build_ids: Mapping[str, str],
    own: Iterable[SymbolKey],
    allowed: Iterable[tuple[str, str]] = (),
) -> ProofRecord:
    """The record of a closure without refusals. `own` are symbols that the patch module's own code is bound to."""
    replaced = tuple(sorted(_replaced(closure, r, image_of) for r in closure.redirects))
    bound: dict[SymbolKey, BoundSymbol] = {}
    for b in sorted([*closure.bound.values(), *closure.constants.values()]):
        key = (b.object, b.name, b.sympos)
        if b.how == KLP and (key not in bound or bound[key].proven):
            bound[key] = locate_address(image_of(b.object), *key, b.address, b.proof, not b.unproven)
    for object_name, name, sympos in own:
        image = image_of(object_name)
        (symbol,) = (s for s in image.named(name) if image.in_kallsyms(s))
        place = locate_address(
            image, object_name, name, sympos, symbol.value, "its name is unique; the module's own code"
        )
        bound.setdefault(place.key, place)
    literals = {
        x.address: Constant(x.address, len(x.data), sha256(x.data).hexdigest(), x.bound.name, x.evidence)
        for x in sorted(closure.literals.values(), reverse=True)
    }
    found = tuple(sorted(literals.values()))
    return ProofRecord(dict(build_ids), replaced, tuple(sorted(bound.values())), tuple(allowed), found)


def _replaced(closure: Closure, redirect: Redirect, image_of: Callable[[str], KernelImage]) -> BoundSymbol:
    unit = closure.units[redirect.unit]
    evidence, proven = "", False
    for i in unit.changes.correlation.to_original.get(redirect.atom.id, ()):
        found, binding = unit.parity.of(i), unit.parity.bindings.get(i)
        if found is None or found.address != redirect.address:
            continue
        proven = found.status == EXACT
        evidence = binding.evidence if proven and binding is not None else f"not proven ({found.reason})"
    image = image_of(redirect.object)
    return locate_address(image, redirect.object, redirect.name, redirect.sympos, redirect.address, evidence, proven)


def locate_address(
    image: KernelImage, object_name: str, name: str, sympos: int, address: int, evidence: str = "", proven: bool = True
) -> BoundSymbol:
    """What the kernel's file has at the address of a symbol. Raises LookupError where it has no such symbol."""
    symbol = next((s for s in image.named(name) if s.value == address), None)
    if symbol is None:
        raise LookupError(f"{object_name} has no {name} at {address:#x}")
    kind = FUNCTION if symbol.type == STT.FUNC else DATA
    place, digest = address, ""
    section = image.section_at(address)
    if isinstance(image, ModuleImage):
        place = int(image.obj.symbols[symbol.index]["value"])
        digest = digest_in_module(image, symbol, place) if kind == FUNCTION else ""
    elif kind == FUNCTION:
        digest = compute_digest(image.read(address, symbol.size) or b"")
    return BoundSymbol(object_name, name, sympos, kind, section, place, symbol.size, digest, evidence, proven)


def digest_in_module(image: ModuleImage, symbol: Symbol, start: int) -> str:
    obj = image.obj
    data = bytes(obj.contents(symbol.shndx)[start : start + symbol.size])
    sizes = for_object(obj).relocs.sizes
    references = []
    for offset, kind, sym, addend in obj.relocs(symbol.shndx).tolist():
        if start <= offset < start + symbol.size:
            target = obj.symbol(sym)
            inside = SHN.UNDEF < target.shndx < SHN.LORESERVE
            leads = (obj.sections[target.shndx].name, target.value + addend) if inside else (target.name, addend)
            references.append((offset - start, sizes.get(kind, 0), kind, *leads))
    return compute_digest(data, references)
