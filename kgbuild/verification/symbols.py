# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module is bound to, and what it replaces: exports, livepatch symbols, patched functions, its own symbols.

The checks follow what the kernel does when it loads a live patch (kernel/module/main.c, kernel/module/version.c,
kernel/livepatch/core.c of 6.1) and Documentation/livepatch/module-elf-format.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import VMLINUX, Finding
from kgbuild.module_abi import (
    KLP_SYMBOL,
)
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.ibt import check_pointers, module_without_landing
from kgbuild.verification.kernel_facts import (
    MAX_OBJECT,
    KernelFacts,
    in_init_memory,
    locate_symbol,
)
from kgbuild.verification.modules import Target, check_bound, check_target
from kgbuild.verification.reading.reader import (
    SHN_ABS,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    STB_LOCAL,
    STB_WEAK,
    STT_FILE,
    STT_FUNC,
    ModuleFile,
    ModuleSymbol,
)
from kgbuild.verification.reading.statements import (
    PatchedFunction,
    livepatch_name,
    modinfo,
)

VERSION_ENTRY, VERSION_SIZE = "Q56s", 64


def _undefined(module: ModuleFile) -> list[ModuleSymbol]:
    return [s for s in module.symbols if s.shndx == SHN_UNDEF and s.name and s.type != STT_FILE]


def check_imports(module: ModuleFile, facts: KernelFacts) -> Iterator[Finding]:
    """Undefined symbols, __versions and import_ns against Module.symvers."""
    versions: dict[str, int] = {}
    section = module.section("__versions")
    data = section.data if section is not None else b""
    if len(data) % VERSION_SIZE:
        yield finding("V5-crc", "__versions", f"{len(data)} bytes are no whole number of {VERSION_SIZE}")
    whole = len(data) // VERSION_SIZE * VERSION_SIZE
    for at in range(0, whole, VERSION_SIZE):
        crc, raw = module.unpack(VERSION_ENTRY, data, at)
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


def check_livepatch_symbols(module: ModuleFile, facts: KernelFacts) -> Iterator[Finding]:
    """Every `.klp.sym.*` symbol: its form, and that the kernel has it at that position."""
    for symbol in module.symbols:
        named, marked = symbol.name.startswith(KLP_SYMBOL), symbol.shndx == SHN_LIVEPATCH
        if not named and not marked:
            continue
        if not (named and marked):
            fact = "is not SHN_LIVEPATCH" if named else "is SHN_LIVEPATCH, but not named .klp.sym.*"
            yield finding("V8-livepatch-symbol", symbol.name or f"symbol {symbol.index}", fact)
        livepatch = livepatch_name(symbol.name)
        if livepatch is None:
            if named:
                yield finding("V8-livepatch-symbol", symbol.name, "is not of the form .klp.sym.OBJECT.NAME,POSITION")
            continue
        object_name, name, sympos = livepatch
        if len(object_name) > MAX_OBJECT or len(name) >= facts.name_length:
            fact = f"has parts of {len(object_name)} and {len(name)} characters; the kernel reads "
            yield finding("V24-name-length", symbol.name, f"{fact}{MAX_OBJECT} and {facts.name_length - 1}")
        elif object_name != VMLINUX:
            yield from check_bound(symbol.name, Target(object_name, name, sympos), facts.modules)
        else:
            yield from _check_bound(symbol.name, name, sympos, facts)


def _check_bound(place: str, name: str, sympos: int, facts: KernelFacts) -> Iterator[Finding]:
    found, fact = locate_symbol(facts.image, name, sympos)
    if found is None:
        yield finding("V3-sympos", place, fact)
    elif in_init_memory(facts.image, found):
        yield finding("V10-init-memory", place, f"{name} is in memory that is freed after boot")


def check_functions(
    module: ModuleFile, functions: list[PatchedFunction], arch: Arch, facts: KernelFacts
) -> Iterator[Finding]:
    """Every patched function: in the kernel at its position, traceable, once; and its replacement."""
    trace = {s.value for s in facts.image.named(arch.trace_call)}
    starts = {(s.shndx, s.value) for s in module.symbols if s.type == STT_FUNC and s.size > 0}
    seen: set[int] = set()
    targets: set[Target] = set()
    for function in functions:
        if function.section is None or not module.sections[function.section].executable:
            yield finding("V11-function", function.name, "is replaced by nothing that is code of the module")
        elif (function.section, function.offset) not in starts:
            where = f"{module.sections[function.section].name}+{function.offset:#x}"
            yield finding("V11-function", function.name, f"is replaced by {where}, where no function begins")
        if function.object != VMLINUX:
            target = Target(function.object, function.name, function.sympos)
            if target in targets:
                yield finding("V11-function", function.name, f"is replaced twice in {function.object}")
            targets.add(target)
            yield from check_target(target, arch, facts.modules)
            continue
        found, fact = locate_symbol(facts.image, function.name, function.sympos)
        if found is None:
            yield finding("V3-sympos", function.name, fact)
            continue
        if found.value in seen:
            yield finding("V11-function", function.name, f"the function at {found.value:#x} is replaced twice")
        seen.add(found.value)
        if not found.is_function:
            yield finding("V11-function", function.name, "is no function in the kernel")
        elif in_init_memory(facts.image, found):
            yield finding("V10-init-memory", function.name, "is in memory that is freed after boot")
        elif arch.trace_target(facts.image.read(found.value, arch.trace_bytes) or b"", found.value) not in trace:
            yield finding(
                "V12-not-traceable", function.name, f"does not begin with a call to {arch.trace_call} in the kernel"
            )


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


def check_code_pointers(module: ModuleFile, arch: Arch, code: DecodedCode, facts: KernelFacts) -> Iterator[Finding]:
    """Every pointer that the module takes: an indirect branch must be able to go there (IBT)."""
    return check_pointers(
        module, arch, code.instructions, lambda name, export: _why_no_landing(name, export, arch, facts)
    )


def _why_no_landing(name: str, export: bool, arch: Arch, facts: KernelFacts) -> str:
    """What is wrong with a pointer to a symbol outside the module, "" where nothing is."""
    livepatch = livepatch_name(name)
    if not export and livepatch is not None and livepatch.object != VMLINUX:
        shipped = facts.modules(livepatch.object)
        found = shipped.locate(livepatch.name, livepatch.sympos)[0] if shipped is not None else None
        bad = shipped is not None and found is not None and module_without_landing(shipped.file, found, arch)
        return (
            f"takes the address of {livepatch.name} of {livepatch.object}, where an indirect branch may not go"
            if bad
            else ""
        )
    plain = name if export or livepatch is None else livepatch.name
    if export:
        # the loader binds an undefined symbol to an export alone, and leaves a weak one without at 0
        row = facts.exports.get(plain)
        ours = row is not None and row.in_vmlinux
        symbols = [s for s in facts.image.named(plain) if ours and not s.is_local]
    else:
        located = locate_symbol(facts.image, plain, livepatch.sympos if livepatch is not None else 0)[0]
        symbols = [located] if located is not None else []
    for symbol in (s for s in symbols if s.is_function):
        if facts.image.read(symbol.value, len(arch.landing)) != arch.landing:
            return f"takes the address of {plain}, which does not begin with {arch.landing_name} in the kernel"
        if symbol.value in facts.image.sealed:
            return f"takes the address of {plain}, whose {arch.landing_name} the kernel overwrites when it boots"
    return ""
