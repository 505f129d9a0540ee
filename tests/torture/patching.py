# SPDX-License-Identifier: GPL-2.0-or-later
"""A live patch of a generated program, made by the builder's own stages, and put into the running program.

The stages are those of kgbuild/pipeline/findout.py: units compiled with a section for each function, parity against
the linked program, difference, closure with the call graph of a real index, accounting, extraction, `ld -r`,
injection. What the kernel does with the module is done by `loader`, independently. With the back end kallsyms it is
the module that looks up symbols, from its own tables, and the program's code that the digests are compared with.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from kgbuild.accounting.account import UnitLedger, account_all
from kgbuild.arch import arch_of
from kgbuild.callgraph.model import CallGraph
from kgbuild.closure.close import close
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.closure.proof_record import make_record
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diff.changes import compute_changes
from kgbuild.diff.types_in_use import check_types
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.elf.write import write
from kgbuild.emit.backends import BACKENDS
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.extract import extract
from kgbuild.emit.klp_relocations import inject
from kgbuild.emit.patch_tables import Identity, TargetIdentity
from kgbuild.host.index.queries import Index
from kgbuild.host.index.writer import build_index
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.ledger.ledger import compute_ledger
from kgbuild.model import Kernel, KernelId, UnitCommand
from kgbuild.module_abi import NOTES_BOUNDS
from kgbuild.objects.view import View
from kgbuild.progress import SilentProgress
from kgbuild.proof.parity import ParityProof, compute_parity
from tests.support.toolchain import run
from tests.torture.loader import BadModule, Loaded, Module
from tests.torture.machine import AGAIN, FLAGS, PATCH, SPLIT, TARGET, Image, compile_c, link
from tests.torture.program import KERNEL, MODULE, Program, render

MAX_ROUNDS = 16
OUTSIDE = ("trace", "say", "source", "complain", "die", "keep", "call_kept", "is_kept", "__fentry__")


@dataclass
class Running:
    """A program as a kernel: compiled as a distribution does, linked, and its units compiled again when asked for.
    `module` is the file of its module, where it has one."""

    folder: Path
    program: Program
    texts: dict[str, str]
    objects: dict[str, Path]
    image: Image
    kernel: KernelImage
    exports: dict[str, Export]
    module: bytes = b""
    _views: dict[str, tuple[bytes, View, ParityProof]] = field(default_factory=dict)
    _index: list[Index] = field(default_factory=list)

    def orig(self, name: str) -> tuple[bytes, View, ParityProof]:
        """A unit compiled again, and its parity with what runs."""
        if name not in self._views:
            data = compile_c(
                self.folder, self.texts[name], name, f"{name}.split.o", (*FLAGS, *SPLIT, *self.program.flags)
            )
            view = View(read(data))
            self._views[name] = (data, view, compute_parity(view, self.image_of(self.target_of(name))))
        return self._views[name]

    def target_of(self, name: str) -> str:
        """The object that a unit is part of."""
        return next(u.target for u in self.program.units if u.name == name)

    def image_of(self, target: str) -> KernelImage:
        return self.kernel if target == KERNEL else self.modules[target]

    @cached_property
    def modules(self) -> dict[str, ModuleImage]:
        return {MODULE: ModuleImage(read(self.module), MODULE)} if self.module else {}

    @cached_property
    def placed(self) -> tuple[Module, ...]:
        """The module as it is loaded first, and again at another place."""
        if not self.module:
            return ()
        return tuple(Module(read(self.module), base, self.image, self.exports) for base in (TARGET, AGAIN))

    def graph(self) -> CallGraph:
        """The index that `kgbuild graph` asks, of this program."""
        if not self._index:
            root = self.folder
            inside = [u.name for u in self.program.units if u.target == MODULE]
            units = [UnitCommand(n, f"{n}.o", MODULE, MODULE, True, (), ()) for n in inside]
            write_units(units, root / "units.sqlite")
            (root / "modules").mkdir(exist_ok=True)
            if self.module:
                (root / "modules" / f"{MODULE}.ko").write_bytes(self.module)
            kernel = Kernel(
                *(KernelId("torture", "6.1.0-torture", "1", "00" * 20), root, root, root, root / "config"),
                *(
                    root / "Module.symvers",
                    self.image.path,
                    root / "none",
                    root / "modules",
                    root / "units.sqlite",
                    "gcc",
                    "gcc",
                ),
            )
            build_index(kernel, root / "index.sqlite", SilentProgress())
            self._index.append(Index(root / "index.sqlite", kernel))
        return self._index[0]


def start(folder: Path, program: Program) -> Running:
    """Compile and link a program."""
    texts = {u.name: render(program, u) for u in program.units}
    objects = {}
    for name, text in texts.items():
        compile_c(folder, text, name, f"{name}.whole.o", (*FLAGS, "-g1", *program.flags))
        objects[name] = folder / f"{name}.whole.o"
    image, module = link_both(folder, program, objects, "program")
    symvers = folder / "Module.symvers"
    names = dict.fromkeys([*OUTSIDE, *program.entries(KERNEL), *sorted(program.exports)])
    symvers.write_text("".join(f"0x00000000\t{n}\tvmlinux\tEXPORT_SYMBOL\t\n" for n in names))
    exports = parse_symvers(symvers.read_text())
    return Running(folder, program, texts, objects, image, KernelImage(image.obj), exports, module)


def link_both(folder: Path, program: Program, objects: Mapping[str, Path], out: str) -> tuple[Image, bytes]:
    """The kernel of a program, and the file of its module (empty where it has none)."""
    own = {u.name: u.target for u in program.units}
    # only relocations tell who refers weakly to what is not there, and a new name may be just that
    image = link(folder, [o for n, o in objects.items() if own[n] == KERNEL], out, relocations=program.has_module())
    parts = [o for n, o in objects.items() if own[n] == MODULE]
    if not parts:
        return image, b""
    run("ld", "-r", "-o", folder / f"{out}.ko", *parts)
    return image, (folder / f"{out}.ko").read_bytes()


def with_lines(before: str, after: str) -> str:
    """The patched text with a #line directive behind each difference, as the builder leaves them: what only moved keeps
    the line it had."""
    old, new = before.splitlines(), after.splitlines()
    out: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal" and out:
            out.append(f"#line {i1 + 1}")
        out += old[i1:i2] if tag == "equal" else new[j1:j2]
    return "\n".join(out) + "\n"


@dataclass
class Patch:
    """What became of a change. `objects` are the patched units' objects by name; where nothing is refused and there
    is something to patch, `module` is the module."""

    objects: dict[str, Path]
    before: dict[str, Object]
    after: dict[str, Object]
    closure: Closure | None = None
    refusals: list[Refusal] = field(default_factory=list)
    module: bytes = b""

    @property
    def codes(self) -> list[str]:
        return sorted({r.code for r in self.refusals})


def make_patch(
    running: Running, after: Program, sabotage: Callable[[Closure], Closure] | None = None, backend: str = "klp"
) -> Patch:
    """Build the live patch that turns the running program into `after`."""
    patch = Patch({}, {}, {})
    units: list[UnitResult] = []
    ledgers: list[UnitLedger] = []
    for unit in after.units:
        text = render(after, unit)
        if text == running.texts[unit.name]:
            continue
        text = with_lines(running.texts[unit.name], text)
        out = f"{unit.name}.patched.o"
        data = compile_c(running.folder, text, unit.name, out, (*FLAGS, *SPLIT, *after.flags))
        before, view, parity = running.orig(unit.name)
        patch.objects[unit.name] = running.folder / out
        patch.before[unit.name], patch.after[unit.name] = read(before), read(data)
        changes = compute_changes(view, View(patch.after[unit.name]), unit.name, lines=False)
        if changes.changed or changes.new:
            patch.refusals += check_types(changes, frozenset())[0]
        ledgers.append(UnitLedger(compute_ledger(changes.orig.obj, changes.patched.obj)))
        units.append(UnitResult(unit.name, changes, parity, unit.target))
    if all(u.changes.nothing for u in units):
        patch.refusals += [r for a in account_all(ledgers, units, None) for r in a.refusals]
        return patch
    patch.closure = _close(running, units)
    patch.refusals += patch.closure.refusals
    patch.refusals += [r for a in account_all(ledgers, units, patch.closure) for r in a.refusals]
    if patch.refusals or not patch.closure.redirects:
        return patch
    if sabotage is not None:
        patch.closure = sabotage(patch.closure)
    try:
        patch.module = make_module(running, patch.closure, backend)
    except Refused as error:
        patch.refusals += error.refusals
    return patch


def _close(running: Running, units: list[UnitResult]) -> Closure:
    """Close to a fixed point, as the pipeline does."""
    for _ in range(MAX_ROUNDS):
        closure = close(tuple(units), running.kernel, running.exports, frozenset(), running.modules, running.graph)
        if closure.refusals or not closure.needs:
            return closure
        for name in closure.needs:
            if name not in running.texts or any(u.source == name for u in units):
                return _refused(closure, name, "is not found in its unit")
            _, view, parity = running.orig(name)
            changes = compute_changes(view, view, name, lines=False)
            units.append(UnitResult(name, changes, parity, running.target_of(name)))
    return _refused(closure, "all", "no end")


def _refused(closure: Closure, place: str, fact: str) -> Closure:
    return replace(closure, refusals=(*closure.refusals, Refusal("K15-pull", place, fact)))


def make_module(running: Running, closure: Closure, backend: str) -> bytes:
    """The module of a closure, the wrapper aside. Raises Refused for what the back end can't emit."""
    targets, own = (), [(KERNEL, name, 0) for name in NOTES_BOUNDS]
    if any(r.object == MODULE for r in closure.redirects):
        # how a module is known is another test's: any symbol will do
        anchor = next(n for n in running.program.entries(MODULE) if n in running.placed[0].symbols)
        targets = (TargetIdentity(MODULE, bytes(20), anchor, 0, 0),)
        own.append((MODULE, anchor, 0))
    identity = Identity(bytes(20), True, "{}", targets, clear_late=backend == "klp")
    output, folder, injects = extract(closure, identity), running.folder, True
    if backend == "kallsyms":
        places = {p.key: p for p in make_record(closure, running.image_of, {}, own).bound}
        request = Request(arch_of(output.machine), frozenset(), places, running.image_of)
        refusals = BACKENDS[backend].check(output, request)
        if refusals:
            raise Refused(refusals)
        output, injects = BACKENDS[backend].transform(output, request), False
    (folder / "extracted.o").write_bytes(write(output))
    run("ld", "-r", "-o", folder / "linked.o", folder / "extracted.o")
    linked = (folder / "linked.o").read_bytes()
    return inject(read(linked)) if injects else linked


def load(module: bytes, image: Image, exports: Mapping[str, Export], base: int = PATCH) -> Loaded:
    """Lay out, relocate and enable a module, with its first byte at `base`. Raises BadModule."""
    return Loaded(module, image, exports, base)


__all__ = ["BadModule", "Loaded", "Patch", "Running", "link_both", "load", "make_module", "make_patch", "start"]
