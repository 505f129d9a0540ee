# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a finished module what the kernel will accept and what we meant? All checks of verify, in one list.

Data in, findings out, all of a module at once; nothing is raised for a module that can be read at all. Who the module
is for is checked in verification/identity.py, what it binds to and replaces in bindings.py, sections, relocations and
code in code.py and reloc_fields.py, variables in data.py, what concerns loadable modules in modules.py, the wrapper's
code in wrapper.py, digests and proof records in proof.py and reading/contents.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding, in_order
from kgbuild.model import Finding
from kgbuild.module_abi import KLP_RELOCATIONS
from kgbuild.proof.record import ProofRecord
from kgbuild.verification.code import DecodedCode, check_code, check_relocations, check_sections
from kgbuild.verification.data import check_data
from kgbuild.verification.ibt import check_constants, check_counted_calls
from kgbuild.verification.identity import (
    check_backend,
    check_end_of_file,
    check_identity,
    check_modinfo,
    check_own_wrapper,
)
from kgbuild.verification.kallsyms import (
    as_livepatch,
    read_tables,
)
from kgbuild.verification.kernel_facts import (
    KernelFacts,
    located,
    outside,
)
from kgbuild.verification.literals import check_literals, noted_literals
from kgbuild.verification.proof import check_note_digests, check_record
from kgbuild.verification.reach import check_reach
from kgbuild.verification.reading.contents import check_contents
from kgbuild.verification.reading.reader import (
    SHN_LIVEPATCH,
    ModuleFile,
)
from kgbuild.verification.reading.statements import (
    PatchedFunction,
    livepatch_name,
    modinfo,
    note_of,
    read_function_table,
    replacements_of,
)
from kgbuild.verification.reloc_fields import check_fields
from kgbuild.verification.slots import check_slots
from kgbuild.verification.symbols import (
    check_code_pointers,
    check_functions,
    check_imports,
    check_livepatch_symbols,
    check_symbols,
)
from kgbuild.verification.wrapper import check_struct


def check_module(
    module: ModuleFile, name: str, arch: Arch, facts: KernelFacts, record: ProofRecord | None = None
) -> list[Finding]:
    """Every finding of a module, in the order of the registry.

    Input: the module as read, its file's name (`a-b.ko`), the architecture's table, the kernel's facts, and a proof
    record, where the module is to be compared with one.
    """
    if stripped := list(_stripped(module)):
        return stripped
    functions, faults = read_function_table(module)
    tables = read_tables(module)
    bound = as_livepatch(module, tables, arch)
    code = DecodedCode(bound, arch)
    return in_order(
        [
            *check_identity(bound, arch, functions, facts),
            *check_backend(module, tables, arch, facts),
            *check_slots(module, tables, arch, code),
            *check_modinfo(module, name, facts),
            *check_imports(module, facts),
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
                lambda name: outside(name, facts),
                _literals(module),
                [p for _, p in replacements_of(functions)],
            ),
            *check_data(bound, [(f.object, (f.section, f.offset)) for f in functions if f.section is not None]),
            *check_constants(bound, arch),
            *check_counted_calls(bound, code.instructions),
            *check_reach(bound, replacements_of(functions), tables, arch, code.instructions, facts.modules),
            *(check_code_pointers(bound, arch, code, facts) if facts.tracked else ()),
            *check_proof(bound, functions, arch, facts, record),
            *_check_literals(module, arch, facts, code, record),
            *(check_contents(module, record.module) if record is not None and record.module is not None else ()),
            *check_end_of_file(module),
            *check_struct(module, facts.struct, arch, "".join(modinfo(module).get("name", [])[:1])),
            *(check_own_wrapper(module, arch, facts) if record is None or record.module is None else ()),
        ]
    )


def _stripped(module: ModuleFile) -> Iterator[Finding]:
    """The one finding of a module that a program took apart: it has livepatch symbols, and no livepatch relocations."""
    named = [s.name for s in module.symbols if livepatch_name(s.name)]
    if named and not any(s.name.startswith(KLP_RELOCATIONS) for s in module.sections):
        fact = f"there are {len(named)} livepatch symbols and no livepatch relocations: the module was stripped"
        yield finding("V60-stripped", named[0], fact)


def check_proof(
    module: ModuleFile, functions: list[PatchedFunction], arch: Arch, facts: KernelFacts, record: ProofRecord | None
) -> Iterator[Finding]:
    """The note's digests and a proof record against what the module replaces and is bound to. What the kernel does not
    have is found by other checks."""
    note = note_of(module)
    names = (livepatch_name(s.name) for s in module.symbols if s.shndx == SHN_LIVEPATCH)
    wanted = {name for name in names if name is not None}
    replaced = located([(f.object, f.name, f.sympos) for f in functions], arch, facts)
    bound = located(wanted, arch, facts)
    if note is not None:
        yield from check_note_digests(note, [*replaced, *bound])
    if record is not None:
        yield from check_record(record, replaced, bound, note, facts.build_id, facts.modules)


def _literals(module: ModuleFile) -> frozenset[str]:
    """The exports that constants of the kernel are reached from, by the note."""
    note = note_of(module)
    return frozenset(c.symbol for c in noted_literals(note) or ()) if note is not None else frozenset()


def _check_literals(
    module: ModuleFile, arch: Arch, facts: KernelFacts, code: DecodedCode, record: ProofRecord | None
) -> Iterator[Finding]:
    note = note_of(module)
    if note is not None:
        yield from check_literals(module, note, record, arch, facts.image, code)
