# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory (examples/hazards): its modules built by kbuild as a user's would be, and what they must answer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.kbuild import clean_environment
from kgbuild.model import Kernel

HERE = Path(__file__).resolve().parents[2] / "kernel" / "hazards"
SOURCE = HERE.parents[2] / "examples" / "hazards"
_LISTS = ("beside", "symbols", "changed", "pulled", "new", "refused", "warned", "wrong", "left", "allow_log")
_INCLUDED = re.compile(r"#include <([^>]+)>")


@dataclass(frozen=True)
class Naive:
    """A patch that closes over nothing, and what comes of it (see naive.py for the fields of `rules`).

    result   "refused" by the kernel when it is loaded, "wrong", "oops" or "lost" (hazards.toml)
    reads    lines that the module then answers
    """

    name: str
    patch: str
    result: str
    reads: tuple[str, ...]
    rules: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Hazard:
    """One patch of the laboratory.

    beside      other modules that the patch is for
    symbols     what gcc made: symbols that the module has
    changed, pulled, new   functions of the patch, as the report has them
    module      the module that is patched; "" where the patch is of the kernel's own source
    refused     codes with which kgbuild refuses it; () where it is built
    warned      codes of what it warns of (W8 to W12)
    wrong, left   lines of the module's answer while the patch is active, and when it is disabled, where that is not
                what the source says: what is warned of
    parameters  of the module, while the patch is active
    prepare     command before the module is read
    show        command in place of reading the module; with `kernel` and `patched` as its answers, where these are
                not to be computed
    """

    name: str
    folder: str
    patch: str
    module: str
    beside: tuple[str, ...]
    symbols: tuple[str, ...]
    changed: tuple[str, ...]
    pulled: tuple[str, ...]
    new: tuple[str, ...]
    refused: tuple[str, ...]
    warned: tuple[str, ...]
    wrong: tuple[str, ...]
    left: tuple[str, ...]
    parameters: dict[str, int]
    prepare: str
    show: str
    answers: tuple[str, str]
    allow_log: tuple[str, ...]
    naive: tuple[Naive, ...]

    def command(self, active: bool) -> str:
        """What the guest runs to read the module; `active` while a patch is."""
        if self.show:
            return self.show
        folder = f"/sys/module/{self.module}/parameters"
        turn = self.parameters if active else {}
        before = [f"echo {value} > {folder}/{name}" for name, value in turn.items()]
        after = [f"echo 0 > {folder}/{name}" for name in turn]
        # dd reads in its own memory; cat would hold the lock of the pipe to its reader where the module oopses
        read = f"dd if=/proc/{self.module} bs=4k 2> /dev/null; s=$?"
        lines = [*before, *([self.prepare] if self.prepare else []), read, *after]
        return "\n".join([*lines, "exit $s"])


def load_hazards() -> list[Hazard]:
    """Every [[case]] of hazards.toml, in order."""
    out = []
    for c in tomllib.loads((HERE / "hazards.toml").read_text())["case"]:
        stem = c["patch"].removesuffix(".patch")
        name = f"{c['folder'].partition('-')[2]}-{stem}"
        naive = tuple(
            Naive(f"{name}-{n['name']}", n.get("patch", c["patch"]), n["result"], tuple(n.get("reads", ())), n)
            for n in c.get("naive", ())
        )
        lists = {key: tuple(c.get(key, ())) for key in _LISTS}
        answers = (c.get("kernel", ""), c.get("patched", ""))
        texts = {key: c.get(key, "") for key in ("prepare", "show")}
        out.append(
            Hazard(
                name,
                c["folder"],
                c["patch"],
                c.get("module", ""),
                **lists,
                **texts,
                parameters=c.get("parameters", {}),
                answers=answers,
                naive=naive,
            )
        )
    return out


def build_modules(kernel: Kernel, folder: Path, source: Path = SOURCE) -> dict[str, Path]:
    """Copy out-of-tree modules to `folder`, let kbuild build them there against a prepared kernel, by the programs that
    built it; the .ko files by name."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    argv = ["make", "-s", "-C", str(kernel.source), f"O={kernel.build}", f"M={folder}", f"CC={kernel.cc}"]
    # without BTF, which nothing here reads
    argv += [f"KERNELRELEASE={kernel.id.release}", "PAHOLE=true", "RESOLVE_BTFIDS=true", "modules"]
    if (Path(kernel.source) / "scripts" / "gen-btf.sh").is_file():  # it takes for granted that pahole wrote a file
        argv.append("CONFIG_DEBUG_INFO_BTF_MODULES=")
    done = tools_of(kernel).run(
        argv, writable=[folder, kernel.build], cwd=folder, env=clean_environment(), check=False, timeout=600
    )
    assert done.status == 0, done.stdout + done.stderr
    return {path.stem: path for path in sorted(folder.rglob("*.ko"))}


def clean_copy(folder: Path) -> Path:
    """A copy of the sources, to apply a patch to."""
    return Path(shutil.copytree(SOURCE, folder, dirs_exist_ok=True))


def compute_answer(hazard: Hazard, patched: bool, folder: Path) -> str:
    """What a module answers by the C standard: compiled for user space at -O0, with the patch or without it; or what
    the case says."""
    if any(hazard.answers):
        return hazard.answers[patched]
    tree = clean_copy(folder)
    if patched:
        subprocess.run(
            ["patch", "-sp1", "-d", tree, "-i", SOURCE / hazard.folder / hazard.patch], check=True, timeout=60
        )
    sources = sorted((tree / hazard.folder).glob("*.c"))
    for text in [path.read_text() for path in [*sources, tree / "lab.h"]]:
        for name in _INCLUDED.findall(text):
            header = folder / "include" / name
            header.parent.mkdir(parents=True, exist_ok=True)
            header.write_text(f'#include "{HERE / "stub.h"}"\n')
    program = folder / "program"
    subprocess.run(["gcc", "-w", "-O0", f"-I{folder}/include", "-o", program, *sources], check=True, timeout=60)
    env = {**os.environ, **({k: str(v) for k, v in hazard.parameters.items()} if patched else {})}
    return subprocess.run([program], env=env, capture_output=True, text=True, check=True, timeout=20).stdout
