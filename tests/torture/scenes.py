# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens in the runs of a case: calls, the patch, a module that goes and comes.

`PatchedScene` does it to the running program, `ReferenceScene` to the program that holds both versions and switches.
Both make the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from kgbuild.elf.consts import STT
from kgbuild.elf.object import Symbol
from tests.torture.loader import Coming, Loaded, Module
from tests.torture.machine import Image, Job
from tests.torture.patching import Running
from tests.torture.program import FLAG, MODULE, of_object

Calls = list[tuple[str, int, int]]
FORGET = ("forget", 0, 0)  # rest.c: what a module does when it goes


class Scene(Job):
    """A run, with the names of what is in memory."""

    def load(self, image: Image, *modules: Module) -> None:
        super().load(image)
        self._image, self._modules = image, list(modules)
        for module in modules:
            self.map(module.pieces())

    def come(self, module: Module) -> None:
        self._modules.append(module)
        self.map(module.pieces())

    def go(self) -> None:
        self.make([FORGET])
        self.unmap(self._modules.pop().pieces())

    def make(self, calls: Calls) -> None:
        for name, a, b in calls:
            # the reference is one program: the module's have the module's name before them
            names = (name, of_object(MODULE, name))
            found = [s.value for o in (self._image, *self._modules) for n in names for s in o.symbols.get(n, ())]
            assert len(found) == 1, name
            self.call(found[0], a, b)


class ReferenceScene:
    """The runs of the reference. `resets` are variables that can't be carried over, by their names in it."""

    def __init__(self, oracle: Image, first: Calls, then: Calls, alone: Calls, resets: Sequence[str]) -> None:
        self.oracle, self.first, self.then, self.alone, self.resets = oracle, first, then, alone, resets

    def _begin(self, calls: Calls) -> Scene:
        scene = Scene()
        scene.load(self.oracle)
        scene.make(calls)
        scene.write(self.oracle.address(FLAG), b"\1\0\0\0")
        self._write(scene, (s for name in self.resets for s in self.oracle.symbols.get(name, ())))
        return scene

    def _write(self, scene: Scene, symbols: Iterable[Symbol]) -> None:
        """Give variables the values that they began with, and what has no name and is pointed to by them too."""
        for symbol in symbols:
            value = self.oracle.initial(symbol)
            if self.oracle.obj.sections[symbol.shndx].writable:
                scene.write(symbol.value, value)
            for nameless in self._nameless.get(int.from_bytes(value, "little"), ()):
                scene.write(nameless.value, self.oracle.initial(nameless))

    @cached_property
    def _nameless(self) -> dict[int, list[Symbol]]:
        """Compound literals by their address."""
        out: dict[int, list[Symbol]] = {}
        for symbol in self._variables():
            if symbol.name.startswith("__compound_literal"):
                out.setdefault(symbol.value, []).append(symbol)
        return out

    def switched(self, *, cold: bool = False) -> Scene:
        scene = self._begin([] if cold else self.first)
        scene.make(self.then)
        return scene

    def replaced(self) -> Scene:
        scene = self.switched()
        self._write(scene, (s for s in self._variables() if s.name.endswith("__1")))
        scene.make(self.then)
        return scene

    def reloaded(self) -> Scene:
        scene = self.switched()
        scene.make([FORGET])
        scene.make(self.alone)
        self._write(scene, (s for s in self._variables() if s.name.startswith(f"{MODULE}_")))
        scene.make(self.then)
        return scene

    def late(self) -> Scene:
        scene = self._begin(self.alone)
        scene.make(self.alone)
        scene.make(self.then)
        return scene

    def _variables(self) -> list[Symbol]:
        """Names that end in __1 are of what only the patched program has; those of the module begin with its name."""
        return [s for symbols in self.oracle.symbols.values() for s in symbols if s.type == STT.OBJECT]


class PatchedScene:
    """The runs of the program that is patched, with a patch that is loaded once, and a second time in its own place.
    Raises BadModule."""

    def __init__(self, running: Running, loaded: Sequence[Loaded], first: Calls, then: Calls, alone: Calls) -> None:
        self.running, self.loaded = running, loaded
        self.first, self.then, self.alone = first, then, alone
        self.comings = {
            (number, at): patch.come(MODULE, module)
            for number, patch in enumerate(loaded)
            for at, module in enumerate(running.placed)
        }

    def _begin(self, *, late: bool = False) -> Scene:
        scene = Scene()
        scene.load(self.running.image, *(() if late else self.running.placed[:1]))
        return scene

    def _enable(self, scene: Scene, number: int = 0, *, late: bool = False) -> None:
        if number < len(self.loaded):
            _jump(scene, self.loaded[number].kernel)
            if self.running.placed and not late:
                self._patch(scene, number, 0)

    def _patch(self, scene: Scene, number: int, at: int) -> None:
        """Patch the module, in its first place or its second."""
        if (number, at) in self.comings:
            for address, data, protection in self.comings[number, at].writes:
                scene.poke(address, data, protection)
            _jump(scene, self.comings[number, at])

    def _map(self, scene: Scene, count: int = 1) -> None:
        for one in self.loaded[:count]:
            scene.map(one.pieces)

    def cold(self) -> Scene:
        return self._patched([])

    def warm(self) -> Scene:
        return self._patched(self.first)

    def _patched(self, calls: Calls) -> Scene:
        scene = self._begin()
        self._map(scene)
        scene.make(calls)
        self._enable(scene)
        scene.make(self.then)
        return scene

    def replaced(self) -> Scene:
        scene = self._begin()
        self._map(scene, 2)
        scene.make(self.first)
        for number in (0, 1):
            self._enable(scene, number)
            scene.make(self.then)
        return scene

    def reloaded(self) -> Scene:
        scene = self.warm()
        if self.running.placed:
            scene.go()
            scene.make(self.alone)
            scene.come(self.running.placed[1])
            self._patch(scene, 0, 1)
            scene.make(self.then)
        return scene

    def late(self) -> Scene:
        scene = self._begin(late=True)
        self._map(scene)
        scene.make(self.alone)
        self._enable(scene, late=True)
        scene.make(self.alone)
        if self.running.placed:
            scene.come(self.running.placed[0])
        self._patch(scene, 0, 0)
        scene.make(self.then)
        return scene


def _jump(scene: Scene, coming: Coming) -> None:
    for place, code in coming.jumps:
        scene.write(place, code, code=True)
