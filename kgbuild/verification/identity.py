# SPDX-License-Identifier: GPL-2.0-or-later
"""Who a module is for: its note, .modinfo, the build-ids it compares when it is loaded, its back end, its wrapper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kgbuild import __version__
from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import VMLINUX, Finding
from kgbuild.module_abi import (
    BUILD_ID,
    BUILD_ID_SIZE,
    FIXES_KEY,
    KLP_SYMBOL,
    NOTE_SECTION,
    NOTES,
    NOTES_BOUNDS,
    NUMBER,
)
from kgbuild.proof.record import SymbolKey
from kgbuild.verification.kallsyms import (
    WrittenTables,
    check_kallsyms,
    is_kallsyms,
    is_kgraft,
)
from kgbuild.verification.kernel_facts import (
    MAX_OBJECT,
    KernelFacts,
    locate_symbol,
)
from kgbuild.verification.modules import check_objects
from kgbuild.verification.reading.reader import (
    SHT_NOTE,
    ModuleFile,
)
from kgbuild.verification.reading.statements import (
    PatchedFunction,
    modinfo,
    note_of,
    read_note,
)
from kgbuild.verification.wrapper import check_wrapper


def check_identity(
    module: ModuleFile, arch: Arch, functions: list[PatchedFunction], facts: KernelFacts
) -> Iterator[Finding]:
    """The note, the data that the module's init compares with the running kernel, and the modules that are patched."""
    code, place = "V1-identity", NOTE_SECTION
    build_ids: object = None
    section = module.section(place)
    if section is None or section.type != SHT_NOTE:
        yield finding(code, place, "is missing" if section is None else "is no note section")
    else:
        note, fault = read_note(section.data)
        if note is None:
            yield finding(code, place, fault)
        else:
            build_ids = note.get("build_ids")
            yield from _check_note(note, functions, facts)
    yield from check_objects(module, arch, [f.object for f in functions], build_ids, facts.modules)
    built_for = module.object_bytes(BUILD_ID)
    size = module.object_bytes(BUILD_ID_SIZE)
    if built_for is None or built_for.hex() != facts.build_id:
        text = built_for.hex() if built_for is not None else "missing"
        yield finding(code, BUILD_ID, f"is {text or 'empty'}, the kernel's build-id is {facts.build_id}")
    if size is None or built_for is None or size != NUMBER.pack(len(built_for)):
        yield finding(code, BUILD_ID_SIZE, f"is missing or not the length of {BUILD_ID}")
    for symbol in module.global_symbols.get(NOTES, ())[:1]:
        for offset, wanted in zip((0, 8), NOTES_BOUNDS, strict=True):
            reloc = module.at(symbol.shndx, symbol.value + offset)
            bound = module.symbol_of(reloc) if reloc is not None else None
            if bound is None or bound.name != f"{KLP_SYMBOL}{VMLINUX}.{wanted},0":
                yield finding(code, NOTES, f"+{offset} is not bound to {wanted} of the kernel")
    if NOTES not in module.global_symbols:
        yield finding(code, NOTES, "is missing")


def _check_note(note: dict[str, Any], functions: list[PatchedFunction], facts: KernelFacts) -> Iterator[Finding]:
    code, place = "V1-identity", NOTE_SECTION
    build_ids = note.get("build_ids")
    stated = build_ids.get(VMLINUX) if isinstance(build_ids, dict) else None
    if stated != facts.build_id:
        yield finding(code, place, f"is for build-id {stated or 'none'}, the kernel's is {facts.build_id}")
    listed = note.get("functions")
    rows = [r for r in listed if isinstance(r, dict)] if isinstance(listed, list) else []
    told = sorted((str(r.get("object")), str(r.get("name")), str(r.get("sympos"))) for r in rows)
    if told != sorted((f.object, f.name, str(f.sympos)) for f in functions):
        yield finding(code, place, f"lists {len(told)} functions that are not those of the module's table")


def check_modinfo(module: ModuleFile, name: str, facts: KernelFacts) -> Iterator[Finding]:
    """.modinfo against the kernel and the file's name."""
    info = modinfo(module)
    found = info.get("vermagic", [])
    if facts.vermagic and found != [facts.vermagic]:
        yield finding("V2-vermagic", ".modinfo", f"has {', '.join(map(repr, found)) or 'none'}, not {facts.vermagic!r}")
    stem = name.removesuffix(".ko").replace("-", "_")
    # a kernel with kGraft alone refuses modules that say they are live patches of the other kind
    mark = [] if is_kgraft(module) else ["Y"]
    for key, values in (("livepatch", mark), ("license", ["GPL"]), ("name", [stem])):
        found = info.get(key, [])
        if found != values:
            wanted = ", ".join(values) or "nothing"
            yield finding("V4-modinfo", ".modinfo", f"{key} is {', '.join(found) or 'missing'}, not {wanted}")
    for key in ("depends", "alias"):
        values = [v for v in info.get(key, []) if v]
        if values:
            yield finding("V4-modinfo", ".modinfo", f"has {key}={', '.join(values)}")
    told = (note_of(module) or {}).get("fixes", [])
    wanted_fixes = [" ".join(map(str, told))] if isinstance(told, list) and told else []
    if info.get(FIXES_KEY, []) != wanted_fixes:
        said = ", ".join(info.get(FIXES_KEY, [])) or "missing"
        fact = f"{FIXES_KEY} is {said}, and the note says {', '.join(wanted_fixes) or 'nothing'}"
        yield finding("V4-modinfo", ".modinfo", fact)
    for value in {*info.get("name", []), stem}:
        if len(value) > MAX_OBJECT:
            yield finding("V24-name-length", value, f"the module's name has {len(value)} characters, not {MAX_OBJECT}")


def check_backend(module: ModuleFile, tables: WrittenTables, arch: Arch, facts: KernelFacts) -> Iterator[Finding]:
    """The note names the back end that the module has, and that one's tables are right."""
    note = note_of(module)
    stated = note.get("backend", "klp") if note is not None else None
    own = "kgraft" if is_kgraft(module) else "kallsyms" if is_kallsyms(module) else "klp"
    if stated is not None and stated != own:
        yield finding("V1-identity", NOTE_SECTION, f"says the back end is {stated}, the module has {own}")

    def read(key: SymbolKey, offset: int, size: int) -> bytes | None:
        object_name, name, sympos = key
        if object_name == VMLINUX:
            found, _ = locate_symbol(facts.image, name, sympos)
            inside = found is not None and offset + size <= found.size
            return facts.image.read(found.value + offset, size) if found is not None and inside else None
        shipped = facts.modules(object_name)
        return shipped.stable_bytes(name, sympos, offset, size, arch) if shipped is not None else None

    yield from check_kallsyms(module, tables, arch, read, facts.modules)


def check_own_wrapper(module: ModuleFile, arch: Arch, facts: KernelFacts) -> Iterator[Finding]:
    """The wrapper's code, where the same kgbuild made the module: another may have another text. A record of the
    module says the same of all code, and needs no compiler."""
    note = note_of(module)
    if note is not None and note.get("tool") == f"kgbuild {__version__}":
        wrapper = facts.wrapper(module)
        if wrapper is not None:
            yield from check_wrapper(module, wrapper, arch)


def check_end_of_file(module: ModuleFile) -> Iterator[Finding]:
    """Nothing is behind the file's sections but a signature."""
    if module.stray >= 0:
        yield finding("V40-file", f"byte {module.stray:#x}", "belongs to no part of the file, and is no signature")
