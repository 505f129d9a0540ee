# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that only init code calls, though they are not marked __init.

They have run when a patch is loaded, and a change of them takes no effect: in vmlinux never, in a module when it is
loaded the next time while the patch is active. Who calls a local function the object itself shows; who calls a global
one only the kernel's call graph, or a module's relocations, or, for vmlinux, its bytes: everything there that may be a
branch to the function or its address is looked at, so that what is no such thing can only hide a warning. A function
whose address is taken, that is exported, or that nobody is seen to call, is no such function; nor is one that the patch
calls from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from kgbuild.arch import for_object
from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.model import CallGraph
from kgbuild.callgraph.outside_callers import holds_for_no_call
from kgbuild.closure.model import Closure, Redirect, UnitResult
from kgbuild.diagnostics.warnings import INIT_ONLY, ConsistencyWarning
from kgbuild.elf.consts import SHT, STB
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import ANON, DATA, FUNCTION, Ambiguous, Atom
from kgbuild.objects.symbol_kinds import INIT_SECTIONS, cold_parents, is_branch, is_cold
from kgbuild.objects.view import View

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kgbuild.elf.object import Section
    from kgbuild.kernel.vmlinux_image import KernelImage

_MANY, _DEPTH = 64, 8  # callers looked at, and callers of callers
_CALLS = (EdgeKind.CALL, EdgeKind.TAIL_CALL)
_EXIT = (".exit", ".memexit")
_INIT = tuple(s for s in INIT_SECTIONS if s not in _EXIT)
_INITCALL = ".initcall"
# Sections of vmlinux that say something of every function, and hold nothing that is called, beside special sections.
_NO_HOLDERS = (
    ".BTF",
    "__kcrctab",
    "__ksymtab_strings",
    ".notes",
)
_REACH = 1 << 16
_LOW = 0xFFFF_FFFF


def find_init_only(
    closure: Closure,
    numbers: dict[Redirect, int],
    graph: CallGraph | None,
    images: Mapping[str, KernelImage] | None = None,
) -> list[ConsistencyWarning]:
    """Redirected functions that only init code calls. `numbers` are those of the functions that the graph knows; of
    other global functions `images` (vmlinux and modules, by name) tell."""
    out = []
    elsewhere: set[tuple[int, str]] = set()  # what runs by way of another body of the same function
    unknown = [r.address for r in closure.redirects if r.object == VMLINUX and r not in numbers]
    scanned: dict[int, list[tuple[Section, int]] | None] = {}
    for redirect in closure.redirects:
        unit = closure.units[redirect.unit]
        view = unit.changes.orig
        originals = unit.changes.correlation.to_original.get(redirect.atom.id, ())
        local = [view.atoms[o] for o in originals if redirect.name in view.atoms[o].names]
        chain: tuple[str, ...] | None = None
        if len(local) == 1 and local[0].bind == STB.LOCAL:
            chain = _in_object(view, local[0], unit.target == VMLINUX)
        elif graph is not None and redirect in numbers:
            chain = _in_graph(graph, numbers[redirect])
        elif images is not None and redirect.object in images:
            image = images[redirect.object]
            if redirect.object != VMLINUX:
                chain = _in_module(image, redirect)
            else:
                scanned = scanned or _scan(image, unknown)
                chain = _in_bytes(image, redirect.address, scanned[redirect.address])
        if chain is None or _patch_calls(closure, unit, redirect.atom) or _is_inlined(unit, redirect.name):
            elsewhere.add((redirect.unit, name_in_source(redirect.name)))
            continue
        callers = ", ".join(chain[:3]) + (f" and {len(chain) - 3} more" if len(chain) > 3 else "")
        if redirect.object == VMLINUX:
            fact = f"only init code calls {redirect.name} ({callers}): it runs at boot only, a change takes no effect"
        else:
            m = redirect.object
            fact = (
                f"only init code of {m} calls {redirect.name} ({callers}): where {m} is loaded it has run, and the "
                f"change takes effect when {m} is loaded again while the patch is active"
            )
        key = (redirect.unit, name_in_source(redirect.name))
        out.append((key, ConsistencyWarning(INIT_ONLY, redirect.name, unit.source, redirect.object, fact, chain)))
    return [warning for key, warning in out if key not in elsewhere]


def name_in_source(name: str) -> str:
    """What a function or a clone of it is called in the source."""
    return name.partition(".")[0]


def _is_inlined(unit: UnitResult, name: str) -> bool:
    """Whether gcc put the body of a function into one that is no init code, too."""
    view = unit.changes.patched
    for holder in unit.clones.inlined_into(name_in_source(name)):
        if any(a.kind == FUNCTION and not _is_init(view, a) for a in view.by_name.get(holder, ())):
            return True
    return False


# -- by the object -----------------------------------------------------------------------------------------------------


def _in_object(view: View, function: Atom, built_in: bool) -> tuple[str, ...] | None:
    """Names of the init functions that alone lead to a local function, None where something else does. Exit code of
    vmlinux (`built_in`) never runs."""
    found: dict[str, None] = {}
    seen = {function.id}
    todo = [function]
    while todo:
        atom = todo.pop()
        callers = [c for c in _callers(view, atom) if c is None or not (built_in and _is_exit(view, c))]
        if not callers:
            return None
        for caller in callers:
            if caller is None:
                return None
            if _is_init(view, caller):
                found.setdefault(caller.name)
            elif caller.bind != STB.LOCAL:
                return None
            elif caller.id not in seen:
                seen.add(caller.id)
                todo.append(caller)
    return tuple(found) or None


def _is_init(view: View, atom: Atom) -> bool:
    return view.section_name(atom).startswith((*_INIT, _INITCALL))


def _is_exit(view: View, atom: Atom) -> bool:
    return view.section_name(atom).startswith(_EXIT)


def _callers(view: View, target: Atom) -> Iterator[Atom | None]:
    """Functions that call another of the object, itself left out; None for anything that could lead to it otherwise."""
    sections = view.sections_referring_to({target.section}) | {target.section}
    for section in sections:
        if section >= 0 and view.obj.sections[section].name in view.arch.auxiliary:
            yield None
    for source in view.atoms:
        if source.section not in sections or source.kind not in (FUNCTION, DATA, ANON) or source.id == target.id:
            continue
        section_name = view.section_name(source)
        if holds_for_no_call(source.name, section_name):
            continue
        try:
            refs = [r for r in view.refs(source) if r.atom == target.id]
        except Ambiguous:
            yield None
            continue
        for ref in refs:
            code = source.kind == FUNCTION and is_branch(view, source, ref)
            if code and is_cold(source):
                parents = cold_parents(source, view)
                yield from (p for p in parents if p.id != target.id)
            elif code or section_name.startswith(_INITCALL):
                yield source
            elif ref.delta == 0:
                yield None


def _patch_calls(closure: Closure, unit: UnitResult, function: Atom) -> bool:
    """Whether the patch calls a function from code that is no init code."""
    if function.bind == STB.LOCAL:
        return _in_object(unit.changes.patched, function, unit.target == VMLINUX) is None
    for number, atom in ((m.unit, m.atom) for m in closure.members.values() if m.atom.kind == FUNCTION):
        view = closure.units[number].changes.patched
        try:
            names = {view.atoms[r.atom].name for r in view.refs(atom)}
        except Ambiguous:  # refused where it is followed
            continue
        if names.intersection(function.names) and atom.name.removesuffix(".cold") not in function.names:
            return True
    return False


# -- by the call graph -------------------------------------------------------------------------------------------------


def _in_graph(graph: CallGraph, number: int) -> tuple[str, ...] | None:
    """Why only init code calls a function, by the kernel's call graph; None if other code does."""
    found: dict[str, None] = {}
    seen, todo = {number}, [(number, 0)]
    while todo:
        current, depth = todo.pop()
        edges = [e for e in graph.callers(current, _MANY) if e.kind is not EdgeKind.SPLIT and e.caller != current]
        if len(edges) >= _MANY or depth > _DEPTH:
            return None
        if any(e.kind not in _CALLS for e in edges) or graph.strays(current):
            return None
        if any(name.exported for name in graph.aliases(current)):
            return None
        takers = [t for t in graph.address_takers(current) if not holds_for_no_call(t.name, t.section)]
        if any(not t.initcall for t in takers):
            return None
        if not edges and not takers:
            return None
        found.update(dict.fromkeys(t.name for t in takers))
        for edge in edges:
            caller = graph.function(edge.caller)
            if caller.in_vmlinux and caller.section.startswith(_EXIT):
                continue
            if caller.init:
                found.setdefault(caller.name)
            elif edge.caller not in seen:
                seen.add(edge.caller)
                todo.append((edge.caller, depth + 1))
    return tuple(found) or None


# -- by the relocations of a module ------------------------------------------------------------------------------------


def _in_module(image: KernelImage, redirect: Redirect) -> tuple[str, ...] | None:
    """The init functions of a module that alone call a global function of it: each reference to a global symbol has a
    relocation that names it."""
    obj = image.obj
    if image.named(f"__ksymtab_{redirect.name}"):
        return None
    symbols = {s.index for s in image.named(redirect.name) if s.value == redirect.address and not s.is_local}
    call = for_object(obj).call_reloc
    found: dict[str, None] = {}
    for index in obj.rela_of:
        section = obj.sections[index]
        if not section.alloc or holds_for_no_call("", section.name):
            continue
        for offset, kind, sym, _ in obj.reloc_rows(index):
            if sym not in symbols:
                continue
            if kind != call or not section.executable or not section.name.startswith(_INIT):
                return None
            inside = (s for s in obj.iter_symbols() if s.shndx == index and s.value <= offset < s.value + s.size)
            found.setdefault(next((s.name for s in inside if s.is_function), section.name))
    return tuple(found) or None


# -- by the bytes of vmlinux -------------------------------------------------------------------------------------------


def _in_bytes(image: KernelImage, address: int, places: list[tuple[Section, int]] | None) -> tuple[str, ...] | None:
    """The init functions that alone branch to a function, None where something else may lead there; `places` as from
    `_scan`."""
    if places is None:
        return None
    found: dict[str, None] = {}
    for section, place in places:
        if section.executable and place + 4 == address:
            continue  # zeros at the end of what fills up to the function
        branch = _branch_at(image, place, address) if section.executable else "an initcall"
        if branch == "":
            continue  # no field of an instruction
        if branch is None or not image.is_init(place):
            return None
        if not section.name.startswith(_EXIT):
            found.setdefault(branch)
    return tuple(found) or None


def _scan(image: KernelImage, addresses: Iterable[int]) -> dict[int, list[tuple[Section, int]] | None]:
    """The sections and places of vmlinux that may mean one of these functions, relative to where they are; None for one
    that is exported, that code calls which is no init code, or of which something holds the address itself."""
    import numpy as np

    found: dict[int, list[tuple[Section, int]] | None] = {a: [] for a in addresses}
    silent = (*_NO_HOLDERS, *for_object(image.obj).of_every_function)
    for address in found:
        if any(image.named(f"__ksymtab_{s.name}") for s in image.functions_at(address)):
            found[address] = None
    for section in image.obj.sections:
        wanted = [a for a, places in found.items() if places is not None]
        if not wanted:
            break
        if not section.alloc or section.type == SHT.NOBITS or section.name.startswith(silent):
            continue
        raw = _without_trace_sites(image, section, bytes(image.obj.contents(section.index)))
        relative = section.executable or section.name.startswith((".init.data", ".rodata", ".data"))
        bias = 4 if section.executable else 0
        for shift in range(min(4, len(raw))):
            words = np.frombuffer(raw, image.obj.dtype("u4"), max(len(raw) - shift, 0) // 4, shift)
            for _, address in _matches(words, {a & _LOW: a for a in wanted}):
                found[address] = None
            ends = words + np.arange(0, 4 * len(words), 4, dtype=np.uint32) if relative else words[:0]
            for at, address in _matches(ends, {(a - section.addr - shift - bias) & _LOW: a for a in wanted}):
                _note(found, address, section, section.addr + shift + 4 * at)
        for address in wanted:
            if section.executable and section.addr <= address < section.addr + section.size:
                for place in _near(raw, section.addr, address):
                    _note(found, address, section, place)
        for address in wanted if section.executable else ():
            if _runs_later(image, address, found[address]):
                found[address] = None
    return found


def _runs_later(image: KernelImage, address: int, places: list[tuple[Section, int]] | None) -> bool:
    """Whether one of some places is a branch of code that is no init code."""
    return any(not image.is_init(place) and _branch_at(image, place, address) for _, place in places or ())


def _note(found: dict[int, list[tuple[Section, int]] | None], address: int, section: Section, place: int) -> None:
    places = found[address]
    if places is not None:
        places.append((section, place))


def _matches(words: npt.NDArray[np.uint32], wanted: dict[int, int]) -> Iterator[tuple[int, int]]:
    """By index of each word that is one of the wanted ones, what it refers to."""
    import numpy as np

    table = np.zeros(1 << 16, bool)
    table[[word & 0xFFFF for word in wanted]] = True
    for at in np.nonzero(table[words.view(np.uint16)[::2]])[0].tolist():
        word = int(words[at])
        if word in wanted:
            yield at, wanted[word]


def _without_trace_sites(image: KernelImage, section: Section, raw: bytes) -> bytes:
    """A section without the kernel's table of places that can be traced, which is part of .init.data and has the
    beginning of every function."""
    start, stop = image.named("__start_mcount_loc"), image.named("__stop_mcount_loc")
    if len(start) != 1 or len(stop) != 1 or not section.addr <= start[0].value < section.addr + section.size:
        return raw
    first, end = start[0].value - section.addr, stop[0].value - section.addr
    return raw[:first] + bytes(end - first) + raw[end:]


def _near(raw: bytes, base: int, address: int) -> list[int]:
    """Addresses of the 8-bit fields that mean an address, relative to their own end."""
    at = address - base
    return [
        base + i
        for i in range(max(at - 128, 0), min(at + 128, len(raw)))
        if i + 1 + (raw[i] ^ 0x80) - 0x80 == at and raw[i]
    ]


def _branch_at(image: KernelImage, place: int, target: int) -> str | None:
    """The function of which a place is the displacement of a direct branch; "" where it is no field of an instruction,
    or a branch of the target itself, None where it is a field of another one, or no function is seen to hold it."""
    holder = next((s for at in range(place, place - _REACH, -1) for s in image.functions_at(at)), None)
    if holder is None or place >= holder.value + holder.size:
        return None
    if holder.value == target:
        return ""
    code = image.read(holder.value, holder.size) or b""
    for i in for_object(image.obj).decode(code):
        if i.field_offset == place - holder.value and i.target is not None:
            return holder.name if i.is_branch else None
    return ""
