# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild.host.compile.candidate_search import MAX_UNITS
from kgbuild.model import EXACT_TOOLS, ToolChoice

PROOF, ALWAYS = "proof", "always"  # which callees stay in the kernel: proven ones, or no clone


MAX_PULL = 20  # limit of units that come along because of their functions


@dataclass(frozen=True)
class Options:
    """The options of a build, besides patches and kernel. `against`: other live patch modules. `make_index`: make the
    kernel's index for the warnings if there is none. `backend`: its name (emit/backends), "" for the kernel's best.
    `directory`: also write the module as a directory. `oot`: the directory of an out-of-tree module's source, to which
    the paths in patches are relative; `oot_modules`: the .ko files that are loaded. `tools`: which programs compile.
    `share`: take objects that were compiled for another kernel from the same text. `fixes`: what the module says that
    it fixes, as CVE numbers; `release`: its number in a row of releases, 0 for none.
    `assume_in_tree_callers`: an exported function that can't be redirected has no callers but the kernel's own.
    `all_reasons`: go on with all units where the first ones show that the patch is refused.
    `dynamic_keys`: patched code reads static keys of its module at run time where they can't be set up.
    """

    allow_compiler: bool = False
    allow_unproven: frozenset[str] = frozenset()
    allow_types: frozenset[str] = frozenset()
    ignore_init: bool = False
    replace: bool = True
    jobs: int = 2
    offline: bool = False
    keep: Path | None = None
    max_units: int = MAX_UNITS
    max_pull: int = MAX_PULL
    pull: str = PROOF
    on_top_of: tuple[Path, ...] = ()
    drop: frozenset[str] = frozenset()
    against: tuple[Path, ...] = ()
    make_index: bool = False
    backend: str = ""
    directory: bool = False
    oot: Path | None = None
    oot_modules: tuple[Path, ...] = ()
    tools: ToolChoice = EXACT_TOOLS
    fixes: tuple[str, ...] = ()
    release: int = 0
    all_reasons: bool = False
    dynamic_keys: bool = True
    share: bool = False
    assume_in_tree_callers: bool = False

    @property
    def for_bytes(self) -> dict[str, Any]:
        """Every option that changes bytes of a module beside `replace` and the back end, for report and note; of files
        the name alone."""
        return {
            "pull": self.pull,
            "ignore_init": self.ignore_init,
            "allow_compiler": self.allow_compiler,
            "allow_unproven": sorted(self.allow_unproven),
            "allow_type": sorted(self.allow_types),
            "drop": sorted(self.drop),
            "on_top_of": [path.name for path in self.on_top_of],
            "against": [path.name for path in self.against],
            "oot": self.oot is not None,
            "oot_modules": [path.name for path in self.oot_modules],
            "toolchain": "host" if self.tools.host or not self.tools.sandbox else "exact",
            "sandbox": self.tools.sandbox,
            **({} if self.dynamic_keys else {"dynamic_keys": False}),
            **({"assume_in_tree_callers": True} if self.assume_in_tree_callers else {}),
            **({"fixes": list(self.fixes)} if self.fixes else {}),
            **({"release": self.release} if self.release else {}),
        }

    @property
    def allowed(self) -> list[dict[str, str]]:
        """The options by which the user accepts a risk, for the report."""
        out = [{"option": "--allow-compiler", "value": ""}] if self.allow_compiler else []
        out += [{"option": "--allow-unproven", "value": v} for v in sorted(self.allow_unproven)]
        out += [{"option": "--allow-type", "value": v} for v in sorted(self.allow_types)]
        out += [] if self.tools.sandbox else [{"option": "--no-sandbox", "value": ""}]
        out += [{"option": "--assume-in-tree-callers", "value": ""}] if self.assume_in_tree_callers else []
        return out + ([{"option": "--ignore-init", "value": ""}] if self.ignore_init else [])
