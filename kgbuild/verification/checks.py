# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a finished module what the kernel will accept and what we meant? Who it is for, what it binds to, what it patches.

Data in, findings out, all of a module at once; nothing is raised for a module that can be read at all. The checks
follow what the kernel does when it loads a live patch (kernel/module/main.c, kernel/module/version.c,
kernel/livepatch/core.c of 6.1) and Documentation/livepatch/module-elf-format.rst. Sections, relocations and code are
checked in verification/code.py and reloc_fields.py, variables in data.py, what concerns loadable modules in modules.py,
the wrapper's code in wrapper.py, digests and proof records in proof.py and contents.py.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kgbuild import __version__
from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding, in_order
from kgbuild.elf.object import Symbol as KernelSymbol
from kgbuild.kernel.exports import Export
from kgbuild.model import Finding
from kgbuild.module_abi import (
    BUILD_ID,
    BUILD_ID_SIZE,
    CALLBACKS,
    FUNCTIONS,
    KLP_SYMBOL,
    NOTE_NAME,
    NOTE_SECTION,
    NOTE_TYPE,
    NOTES,
    NOTES_BOUNDS,
)
from kgbuild.proof.record import BoundSymbol, Key, ProofRecord
from kgbuild.verification.code import Code, check_code, check_relocations, check_sections
from kgbuild.verification.data import check_data
from kgbuild.verification.ibt import check_constants, check_counted_calls, check_pointers, module_lacks_landing
from kgbuild.verification.kallsyms import (
    WrittenTables,
    as_livepatch,
    check_kallsyms,
    is_kallsyms,
    is_kgraft,
    read_tables,
)
from kgbuild.verification.literals import check_literals, noted_literals
from kgbuild.verification.modules import Modules, Target, check_bound, check_objects, check_target, no_modules
from kgbuild.verification.proof import check_note_digests, check_record, place_in_module, place_in_vmlinux
from kgbuild.verification.reach import check_reach
from kgbuild.verification.reading.contents import check_contents
from kgbuild.verification.reading.reader import (
    SHN_ABS,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_NOTE,
    STB_LOCAL,
    STB_WEAK,
    STT_FILE,
    STT_FUNC,
    ModuleFile,
    Symbol,
)
from kgbuild.verification.reloc_fields import check_fields
from kgbuild.verification.slots import check_slots
from kgbuild.verification.wrapper import Compile, ModuleStruct, check_struct, check_wrapper, no_wrapper

OBJECT = "vmlinux"
# MODULE_NAME_LEN less the NUL; klp_resolve_symbols reads at most so many characters
MAX_OBJECT = 55
VERSION_ENTRY = struct.Struct("<Q56s")
_KLP_NAME = re.compile(re.escape(KLP_SYMBOL) + r"([^.]+)\.([^,]+),(\d+)")


class ImageReader(Protocol):
    """What verify asks of the kernel's vmlinux; KernelImage is one."""

    def named(self, name: str) -> Sequence[KernelSymbol]: ...
    def in_kallsyms(self, symbol: KernelSymbol) -> bool: ...
    def read(self, address: int, size: int) -> bytes | None: ...
    def is_init(self, address: int) -> bool: ...
    def section_at(self, address: int) -> str: ...
    @property
    def sealed(self) -> frozenset[int]: ...


@dataclass(frozen=True)
class KernelFacts:
    """What is true of the kernel.

    build_id     hex; vermagic "" and module_size 0 (bytes of struct module) where nothing tells them
    exports      Module.symvers by name
    modules      the kernel's loadable modules by name; None for one it does not have
    modversions  CONFIG_MODVERSIONS
    name_length  KSYM_NAME_LEN, the NUL counted
    tracked      whether the kernel can track indirect branches (IBT)
    struct       where the fields of struct module are
    wrapper      compiles the wrapper that a module has for this kernel
    """

    build_id: str
    vermagic: str
    exports: Mapping[str, Export]
    image: ImageReader
    modules: Modules = no_modules
    modversions: bool = True
    module_size: int = 0
    name_length: int = 512
    tracked: bool = False
    struct: ModuleStruct | None = None
    wrapper: Compile = no_wrapper


def check_module(
    module: ModuleFile, name: str, arch: Arch, facts: KernelFacts, record: ProofRecord | None = None
) -> list[Finding]:
    """Every finding of a module, in the order of the registry.

    Input: the module as read, its file's name (`a-b.ko`), the architecture's table, the kernel's facts, and a proof
    record, where one is to be held against it.
    """
    functions, faults = read_functions(module)
    tables = read_tables(module)
    bound = as_livepatch(module, tables, arch)
    code = Code(bound, arch)
    return in_order(
        [
            *check_identity(bound, arch, functions, facts),
            *_check_backend(module, tables, arch, facts),
            *check_slots(module, tables, arch, code),
            *check_modinfo(module, name, facts),
            *check_exports(module, facts),
            *check_livepatch_symbols(bound, facts),
            *faults,
            *check_functions(module, functions, arch, facts),
            *check_symbols(module, facts),
            *check_sections(module, arch),
            *check_relocations(module, arch),
            *check_code(bound, arch, code),
            *check_fields(
                bound,
                arch,
                code,
                lambda name: _outside(name, facts),
                _literals(module),
                [p for _, p in _roots(functions)],
            ),
            *check_data(bound, [(f.object, (f.section, f.offset)) for f in functions if f.section is not None]),
            *check_constants(bound, arch),
            *check_counted_calls(bound, code.instructions),
            *check_reach(bound, _roots(functions), tables, arch, code.instructions, facts.modules),
            *(_check_pointers(bound, arch, code, facts) if facts.tracked else ()),
            *check_proof(bound, functions, arch, facts, record),
            *_check_literals(module, arch, facts, code, record),
            *(check_contents(module, record.module) if record is not None and record.module is not None else ()),
            *_check_file(module),
            *check_struct(module, facts.struct, arch, "".join(modinfo(module).get("name", [])[:1])),
            *(_check_wrapper(module, arch, facts) if record is None or record.module is None else ()),
        ]
    )


def _check_wrapper(module: ModuleFile, arch: Arch, facts: KernelFacts) -> Iterator[Finding]:
    """The wrapper's code, where the same kgbuild made the module: another may have another text. A record of the
    module says the same of all code, and needs no compiler."""
    section = module.section(NOTE_SECTION)
    note = read_note(section.data)[0] if section is not None else None
    if note is not None and note.get("tool") == f"kgbuild {__version__}":
        wrapper = facts.wrapper(module)
        if wrapper is not None:
            yield from check_wrapper(module, wrapper, arch)


def _check_file(module: ModuleFile) -> Iterator[Finding]:
    if module.stray >= 0:
        yield finding("V40-file", f"byte {module.stray:#x}", "belongs to no part of the file, and is no signature")


def _outside(name: str, facts: KernelFacts) -> tuple[int, bool] | None:
    """Bytes of a symbol outside the module, and whether it is a function; None where that is not known."""
    match = _KLP_NAME.fullmatch(name)
    if match is None:
        found = [s for s in facts.image.named(name) if not s.is_local]
        symbol = found[0] if len(found) == 1 else None
    elif match[1] != OBJECT:
        shipped = facts.modules(match[1])
        own = shipped.locate(match[2], int(match[3]))[0] if shipped is not None else None
        return (own.size, own.type == STT_FUNC) if own is not None else None
    else:
        symbol, _ = _locate(facts.image, match[2], int(match[3]))
    return (symbol.size, symbol.is_function) if symbol is not None else None


# -- who it is for -----------------------------------------------------------------------------------------------


def modinfo(module: ModuleFile) -> dict[str, list[str]]:
    """Values of .modinfo by key."""
    out: dict[str, list[str]] = {}
    for section in module.by_name.get(".modinfo", ()):
        for item in section.data.split(b"\0"):
            key, equals, value = item.decode("utf-8", "replace").partition("=")
            if equals:
                out.setdefault(key, []).append(value)
    return out


def read_note(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """The JSON of a .note.kgbuild section, or None and what is wrong with it."""
    if len(data) < 12:
        return None, f"{len(data)} bytes are too few for a note"
    namesz, descsz, kind = struct.unpack_from("<III", data)
    start = 12 + (namesz + 3 & ~3)
    if data[12 : 12 + namesz] != NOTE_NAME or kind != NOTE_TYPE:
        return None, "is no note of owner kgbuild, type 1"
    if start + descsz > len(data):
        return None, f"says {descsz} bytes and has {max(len(data) - start, 0)}"
    try:
        value = json.loads(data[start : start + descsz])
    except ValueError as error:
        return None, f"is no JSON text: {error}"
    return (value, "") if isinstance(value, dict) else (None, "is no JSON object")


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
    if size is None or built_for is None or size != struct.pack("<I", len(built_for)):
        yield finding(code, BUILD_ID_SIZE, f"is missing or not the length of {BUILD_ID}")
    for symbol in module.global_symbols.get(NOTES, ())[:1]:
        for offset, wanted in zip((0, 8), NOTES_BOUNDS, strict=True):
            reloc = module.at(symbol.shndx, symbol.value + offset)
            bound = module.symbol_of(reloc) if reloc is not None else None
            if bound is None or bound.name != f"{KLP_SYMBOL}{OBJECT}.{wanted},0":
                yield finding(code, NOTES, f"+{offset} is not bound to {wanted} of the kernel")
    if NOTES not in module.global_symbols:
        yield finding(code, NOTES, "is missing")


def _check_note(note: dict[str, Any], functions: list[PatchedFunction], facts: KernelFacts) -> Iterator[Finding]:
    code, place = "V1-identity", NOTE_SECTION
    build_ids = note.get("build_ids")
    stated = build_ids.get(OBJECT) if isinstance(build_ids, dict) else None
    if stated != facts.build_id:
        yield finding(code, place, f"is for build-id {stated or 'none'}, the kernel's is {facts.build_id}")
    listed = note.get("functions")
    rows = [r for r in listed if isinstance(r, dict)] if isinstance(listed, list) else []
    told = sorted((str(r.get("object")), str(r.get("name")), str(r.get("sympos"))) for r in rows)
    if told != sorted((f.object, f.name, str(f.sympos)) for f in functions):
        yield finding(code, place, f"lists {len(told)} functions that are not those of the module's table")


def check_proof(
    module: ModuleFile, functions: list[PatchedFunction], arch: Arch, facts: KernelFacts, record: ProofRecord | None
) -> Iterator[Finding]:
    """The note's digests and a proof record against what the module replaces and is bound to. What the kernel does not
    have is found by other checks."""
    section = module.section(NOTE_SECTION)
    note = read_note(section.data)[0] if section is not None else None
    matches = [_KLP_NAME.fullmatch(s.name) for s in module.symbols if s.shndx == SHN_LIVEPATCH]
    wanted = {(m[1], m[2], int(m[3])) for m in matches if m is not None}
    replaced = _places([(f.object, f.name, f.sympos) for f in functions], arch, facts)
    bound = _places(wanted, arch, facts)
    if note is not None:
        yield from check_note_digests(note, [*replaced, *bound])
    if record is not None:
        yield from check_record(record, replaced, bound, note, facts.build_id, facts.modules)


def _literals(module: ModuleFile) -> frozenset[str]:
    """The exports that constants of the kernel are reached from, by the note."""
    section = module.section(NOTE_SECTION)
    note = read_note(section.data)[0] if section is not None else None
    return frozenset(c.symbol for c in noted_literals(note) or ()) if note is not None else frozenset()


def _check_literals(
    module: ModuleFile, arch: Arch, facts: KernelFacts, code: Code, record: ProofRecord | None
) -> Iterator[Finding]:
    section = module.section(NOTE_SECTION)
    note = read_note(section.data)[0] if section is not None else None
    if note is not None:
        yield from check_literals(module, note, record, arch, facts.image, code)


def _places(keys: Iterable[tuple[str, str, int]], arch: Arch, facts: KernelFacts) -> list[BoundSymbol]:
    out = []
    for object_name, name, sympos in sorted(set(keys)):
        if object_name == OBJECT:
            found, _ = _locate(facts.image, name, sympos)
            if found is not None:
                out.append(place_in_vmlinux(facts.image, name, sympos, found))
        elif (shipped := facts.modules(object_name)) is not None:
            symbol, _ = shipped.locate(name, sympos)
            if symbol is not None:
                out.append(place_in_module(shipped, sympos, symbol, arch))
    return out


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
    for value in {*info.get("name", []), stem}:
        if len(value) > MAX_OBJECT:
            yield finding("V24-name-length", value, f"the module's name has {len(value)} characters, not {MAX_OBJECT}")


# -- what it binds to --------------------------------------------------------------------------------------------


def _undefined(module: ModuleFile) -> list[Symbol]:
    return [s for s in module.symbols if s.shndx == SHN_UNDEF and s.name and s.type != STT_FILE]


def check_exports(module: ModuleFile, facts: KernelFacts) -> Iterator[Finding]:
    """Undefined symbols, __versions and import_ns against Module.symvers."""
    versions: dict[str, int] = {}
    section = module.section("__versions")
    data = section.data if section is not None else b""
    if len(data) % VERSION_ENTRY.size:
        yield finding("V5-crc", "__versions", f"{len(data)} bytes are no whole number of {VERSION_ENTRY.size}")
    whole = len(data) // VERSION_ENTRY.size * VERSION_ENTRY.size
    for crc, raw in VERSION_ENTRY.iter_unpack(data[:whole]):
        name = raw.split(b"\0")[0].decode("utf-8", "replace")
        if name in versions:
            yield finding("V5-crc", "__versions", f"names {name} twice")
        versions[name] = crc
        export = facts.exports.get(name)
        if export is None:
            yield finding("V5-crc", "__versions", f"names {name or 'nothing'}, which the kernel does not export")
        elif export.crc != crc:
            yield finding("V5-crc", "__versions", f"has {crc:#010x} for {name}, the kernel has {export.crc:#010x}")
    if facts.modversions and "module_layout" not in versions:
        yield finding("V5-crc", "__versions", "has no entry for module_layout")
    imported = set(modinfo(module).get("import_ns", []))
    for symbol in _undefined(module):
        export = facts.exports.get(symbol.name)
        if export is None or not export.in_vmlinux:
            if symbol.bind != STB_WEAK:
                whose = f"only the module {export.object} exports" if export is not None else "vmlinux does not export"
                yield finding("V6-undefined", symbol.name, f"is undefined, and {whose} it")
            continue
        if facts.modversions and export.crc and symbol.name not in versions:
            yield finding("V5-crc", symbol.name, "has no entry in __versions")
        if export.namespace and export.namespace not in imported:
            yield finding("V7-namespace", symbol.name, f"is in the namespace {export.namespace}, which is not imported")


def _locate(image: ImageReader, name: str, sympos: int) -> tuple[KernelSymbol | None, str]:
    """The kernel's symbol at a position, as klp_find_object_symbol finds it, or None and why there is none."""
    listed = [s for s in image.named(name) if image.in_kallsyms(s)]
    if not listed:
        return None, f"the kernel has no symbol {name}"
    if sympos == 0 and len(listed) > 1:
        return None, f"the kernel has {len(listed)} symbols {name}; position 0 means it has one"
    if sympos > len(listed):
        return None, f"the kernel has {len(listed)} symbols {name}, none at position {sympos}"
    return listed[max(sympos - 1, 0)], ""


def _is_init(image: ImageReader, symbol: KernelSymbol) -> bool:
    """Whether a symbol is in init memory; one of no size may mark the end of what is before it."""
    return image.is_init(symbol.value) and (symbol.size > 0 or image.is_init(symbol.value - 1))


def check_livepatch_symbols(module: ModuleFile, facts: KernelFacts) -> Iterator[Finding]:
    """Every `.klp.sym.*` symbol: its form, and that the kernel has it at that position."""
    for symbol in module.symbols:
        named, marked = symbol.name.startswith(KLP_SYMBOL), symbol.shndx == SHN_LIVEPATCH
        if not named and not marked:
            continue
        if not (named and marked):
            fact = "is not SHN_LIVEPATCH" if named else "is SHN_LIVEPATCH, but not named .klp.sym.*"
            yield finding("V8-livepatch-symbol", symbol.name or f"symbol {symbol.index}", fact)
        match = _KLP_NAME.fullmatch(symbol.name)
        if match is None:
            if named:
                yield finding("V8-livepatch-symbol", symbol.name, "is not of the form .klp.sym.OBJECT.NAME,POSITION")
            continue
        object_name, name, sympos = match.group(1), match.group(2), int(match.group(3))
        if len(object_name) > MAX_OBJECT or len(name) >= facts.name_length:
            fact = f"has parts of {len(object_name)} and {len(name)} characters; the kernel reads "
            yield finding("V24-name-length", symbol.name, f"{fact}{MAX_OBJECT} and {facts.name_length - 1}")
        elif object_name != OBJECT:
            yield from check_bound(symbol.name, Target(object_name, name, sympos), facts.modules)
        else:
            yield from _check_bound(symbol.name, name, sympos, facts)


def _check_backend(module: ModuleFile, tables: WrittenTables, arch: Arch, facts: KernelFacts) -> Iterator[Finding]:
    """The note names the back end that the module has, and that one's tables are right."""
    section = module.section(NOTE_SECTION)
    note = read_note(section.data)[0] if section is not None else None
    stated = note.get("backend", "klp") if note is not None else None
    own = "kgraft" if is_kgraft(module) else "kallsyms" if is_kallsyms(module) else "klp"
    if stated is not None and stated != own:
        yield finding("V1-identity", NOTE_SECTION, f"says the back end is {stated}, the module has {own}")

    def read(key: Key, offset: int, size: int) -> bytes | None:
        object_name, name, sympos = key
        if object_name == OBJECT:
            found, _ = _locate(facts.image, name, sympos)
            inside = found is not None and offset + size <= found.size
            return facts.image.read(found.value + offset, size) if found is not None and inside else None
        shipped = facts.modules(object_name)
        return shipped.stable_bytes(name, sympos, offset, size, arch) if shipped is not None else None

    yield from check_kallsyms(module, tables, arch, read, facts.modules)


def _check_bound(place: str, name: str, sympos: int, facts: KernelFacts) -> Iterator[Finding]:
    found, fact = _locate(facts.image, name, sympos)
    if found is None:
        yield finding("V3-sympos", place, fact)
    elif _is_init(facts.image, found):
        yield finding("V10-init-memory", place, f"{name} is in memory that is freed after boot")


def _check_pointers(module: ModuleFile, arch: Arch, code: Code, facts: KernelFacts) -> Iterator[Finding]:
    return check_pointers(
        module, arch, code.instructions, lambda name, export: _lacks_landing(name, export, arch, facts)
    )


def _lacks_landing(name: str, export: bool, arch: Arch, facts: KernelFacts) -> str:
    """What is wrong with a pointer to a symbol outside the module, "" where nothing is."""
    match = _KLP_NAME.fullmatch(name)
    if not export and match is not None and match[1] != OBJECT:
        shipped = facts.modules(match[1])
        found = shipped.locate(match[2], int(match[3]))[0] if shipped is not None else None
        bad = shipped is not None and found is not None and module_lacks_landing(shipped.file, found, arch)
        return f"takes the address of {match[2]} of {match[1]}, where an indirect branch may not go" if bad else ""
    plain = name if export or match is None else match[2]
    if export:
        symbols = [s for s in facts.image.named(plain) if not s.is_local]
    else:
        located = _locate(facts.image, plain, int(match[3]) if match is not None else 0)[0]
        symbols = [located] if located is not None else []
    for symbol in (s for s in symbols if s.is_function):
        if facts.image.read(symbol.value, len(arch.landing)) != arch.landing:
            return f"takes the address of {plain}, which does not begin with {arch.landing_name} in the kernel"
        if symbol.value in facts.image.sealed:
            return f"takes the address of {plain}, whose {arch.landing_name} the kernel overwrites when it boots"
    return ""


# -- what it patches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatchedFunction:
    """One row of kgbuild_funcs as read: what it replaces, and where the replacement is (None: nowhere)."""

    object: str
    name: str
    sympos: int
    section: int | None
    offset: int


def _text_at(module: ModuleFile, section: int, offset: int) -> str | None:
    """The string a pointer field leads to, "" where the field is a null pointer, None where it leads nowhere."""
    reloc = module.at(section, offset)
    if reloc is None:
        return ""
    place = module.place_of(reloc)
    if place is None or not 0 <= place[1] < len(place[0].data):
        return None
    end = place[0].data.find(b"\0", place[1])
    return place[0].data[place[1] : end].decode("utf-8", "replace") if end >= 0 else None


def read_functions(module: ModuleFile) -> tuple[list[PatchedFunction], list[Finding]]:
    """The rows of kgbuild_funcs up to the empty one, and what is wrong with the table itself."""
    code, place = "V11-function", FUNCTIONS.symbol
    data = module.object_bytes(place)
    if data is None:
        return [], [finding(code, place, "is missing")]
    symbol = module.global_symbols[place][0]
    faults = []
    if len(data) % FUNCTIONS.size:
        faults.append(finding(code, place, f"{len(data)} bytes are no whole number of {FUNCTIONS.size}"))
    rows: list[PatchedFunction] = []
    for at in FUNCTIONS.rows(data):
        start = symbol.value + at
        object_name, name = (_text_at(module, symbol.shndx, start + FUNCTIONS.offsets[f]) for f in ("object", "name"))
        if name == "":
            last = at + FUNCTIONS.size == len(data)
            fields = [module.at(symbol.shndx, start + FUNCTIONS.offsets[f]) for f in ("object", "func")]
            if not last or any(data[at:]) or any(fields):
                faults.append(
                    finding(code, place, f"row {at // FUNCTIONS.size} has no name and is not the empty last one")
                )
            break
        if name is None or object_name is None:
            faults.append(finding(code, place, f"row {at // FUNCTIONS.size} points to no text"))
            continue
        sympos = FUNCTIONS.number(data, at, "sympos")
        reloc = module.at(symbol.shndx, start + FUNCTIONS.offsets["func"])
        target = module.place_of(reloc) if reloc is not None else None
        section, offset = (target[0].index, target[1]) if target is not None else (None, 0)
        rows.append(PatchedFunction(object_name or OBJECT, name, sympos, section, offset))
    else:
        faults.append(finding(code, place, "does not end with an empty row"))
    if not rows and module.object_bytes(CALLBACKS.symbol) is None:
        faults.append(finding(code, place, "names no function"))
    return rows, faults


def _roots(functions: list[PatchedFunction]) -> list[tuple[str, tuple[int, int]]]:
    """Where the replacements of each object begin."""
    return [(f.object, (f.section, f.offset)) for f in functions if f.section is not None]


def check_functions(
    module: ModuleFile, functions: list[PatchedFunction], arch: Arch, facts: KernelFacts
) -> Iterator[Finding]:
    """Every patched function: in the kernel at its position, traceable, once; and its replacement."""
    trace = {s.value for s in facts.image.named(arch.trace_call)}
    starts = {(s.shndx, s.value) for s in module.symbols if s.type == STT_FUNC and s.size > 0}
    seen: set[int] = set()
    targets: set[Target] = set()
    for f in functions:
        if f.section is None or not module.sections[f.section].executable:
            yield finding("V11-function", f.name, "is replaced by nothing that is code of the module")
        elif (f.section, f.offset) not in starts:
            where = f"{module.sections[f.section].name}+{f.offset:#x}"
            yield finding("V11-function", f.name, f"is replaced by {where}, where no function begins")
        if f.object != OBJECT:
            target = Target(f.object, f.name, f.sympos)
            if target in targets:
                yield finding("V11-function", f.name, f"is replaced twice in {f.object}")
            targets.add(target)
            yield from check_target(target, arch, facts.modules)
            continue
        found, fact = _locate(facts.image, f.name, f.sympos)
        if found is None:
            yield finding("V3-sympos", f.name, fact)
            continue
        if found.value in seen:
            yield finding("V11-function", f.name, f"the function at {found.value:#x} is replaced twice")
        seen.add(found.value)
        if not found.is_function:
            yield finding("V11-function", f.name, "is no function in the kernel")
        elif _is_init(facts.image, found):
            yield finding("V10-init-memory", f.name, "is in memory that is freed after boot")
        elif arch.trace_target(facts.image.read(found.value, arch.trace_bytes) or b"", found.value) not in trace:
            yield finding("V12-not-traceable", f.name, f"does not begin with a call to {arch.trace_call} in the kernel")


# -- its symbols and struct module -------------------------------------------------------------------------------


def check_symbols(module: ModuleFile, facts: KernelFacts) -> Iterator[Finding]:
    """Definitions, entry points, struct module."""
    code = "V23-symbol"
    for symbol in module.symbols[1:]:
        known = symbol.shndx in (SHN_UNDEF, SHN_LIVEPATCH, SHN_ABS)
        if not known and symbol.shndx >= len(module.sections):
            fact = f"is in section {symbol.shndx:#x}, which the kernel's loader does not know"
            yield finding(code, symbol.name or f"symbol {symbol.index}", fact)
        elif symbol.shndx == SHN_UNDEF and symbol.bind == STB_LOCAL and symbol.name:
            yield finding("V6-undefined", symbol.name, "is local and undefined")
    for name, symbols in module.global_symbols.items():
        if len(symbols) > 1:
            yield finding(code, name, f"is defined {len(symbols)} times")
    for name in ("init_module", "cleanup_module"):
        defined = module.global_symbols.get(name, [])
        ok = [s for s in defined if s.shndx < len(module.sections) and module.sections[s.shndx].executable]
        if not ok:
            yield finding(code, name, "is no code of the module" if defined else "is missing")
    structs = module.by_name.get(".gnu.linkonce.this_module", [])
    if len(structs) != 1:
        yield finding("V25-this-module", ".gnu.linkonce.this_module", f"is there {len(structs)} times")
    elif facts.module_size and structs[0].size != facts.module_size:
        fact = f"has {structs[0].size} bytes, the kernel's modules have {facts.module_size}"
        yield finding("V25-this-module", ".gnu.linkonce.this_module", fact)
