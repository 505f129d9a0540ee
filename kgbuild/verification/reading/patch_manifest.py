# SPDX-License-Identifier: GPL-2.0-or-later
"""What a finished patch module says of itself: read back from its tables and its note, for patches that come after."""

from __future__ import annotations

from typing import Any

from kgbuild.closure.model import NewVariable
from kgbuild.errors import UserError
from kgbuild.kernel.module_loader import row_of
from kgbuild.livepatch.cumulative import Older, Patched
from kgbuild.module_abi import REPLACE
from kgbuild.objects.symbol_kinds import stem, variable
from kgbuild.patch.kept_changes import from_note
from kgbuild.verification.reading.reader import STT_OBJECT, ModuleFile, machine_of, read_module
from kgbuild.verification.reading.statements import modinfo, note_of

# What macros call their once-flags, rate limits and lock classes; a symbol is all that such a module tells.
_MACROS_OWN = frozenset(
    ("__warned", "__already_done", "__print_once", "__key", "_rs", "__UNIQUE_ID_ddebug", "descriptor")
)


def read_older(data: bytes, path: str) -> Older:
    """A module that kgbuild made, from its bytes. Raises UserError for any other file."""
    machine = machine_of(data)  # any: the build-ids decide
    module = read_module(data, path, machine)
    note = note_of(module) or {}
    try:
        functions = [Patched(f["object"], f["name"], f["sympos"]) for f in note["functions"]]
        states = {s["id"]: s["version"] for s in note.get("states", ())}
        kernel = f"{note['kernel']['name']} ({note['kernel']['version']})"
        build_ids = dict(note["build_ids"])
        patches = tuple(str(p["sha256"]) for p in note.get("patches", ()))
        changes = from_note(note["changes"]) if "changes" in note else None
        said = note.get("data")
        own = _variables(module) if said is None else [_variable(v) for v in said]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"its note is not understood: {error!r}", place=path, remedy="give modules that kgbuild made"
        ) from error
    flag = module.object_bytes(REPLACE)
    if flag is None or len(flag) != 4:
        raise UserError("it does not say whether it replaces older patches", place=path, remedy="build it again")
    name = _name(module)
    if not name:
        raise UserError("it does not say its name", place=path, remedy="build it again")
    replace, callbacks = flag != bytes(4), bool(note.get("callbacks"))
    return Older(
        name, kernel, build_ids, frozenset(functions), replace, states, callbacks, patches, changes, tuple(own)
    )


def _variable(row: dict[str, Any]) -> NewVariable:
    return NewVariable(row["object"], row["unit"], row["name"], row["size"])


def _variables(module: ModuleFile) -> list[NewVariable]:
    """The patch's own variables by the symbols, for a module whose note does not name them. Those of the wrapper lie
    in `.data` and `.bss`, the patch's in sections of their own."""
    out = []
    for symbol in module.symbols:
        if symbol.type != STT_OBJECT or not symbol.size or not 0 < symbol.shndx < len(module.sections):
            continue
        section = module.sections[symbol.shndx]
        row = row_of(section.name)
        plain = section.name in (".data", ".bss") or row is None or not row.reinitialised
        if section.writable and not plain and (variable(symbol.name) or stem(symbol.name)) not in _MACROS_OWN:
            out.append(NewVariable("", "", symbol.name, symbol.size))
    return out


def _name(module: ModuleFile) -> str:
    """The module's own name: its file may have another."""
    return "".join(modinfo(module).get("name", ())[:1])
