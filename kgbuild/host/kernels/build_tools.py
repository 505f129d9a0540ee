# SPDX-License-Identifier: GPL-2.0-or-later
"""How the programs of a kernel's build are run: compiler, assembler, make, objtool, modpost, genksyms.

With a toolchain they run in a sandbox whose system is that toolchain. Paths are the same inside and outside, so that
no command has to be written twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kgbuild.host.system.children import ChildLimits
from kgbuild.host.system.run import Completed, run, stream_lines
from kgbuild.host.system.sandbox import Sandbox, own_directories, run_in, stream_in
from kgbuild.model import Kernel


@dataclass(frozen=True)
class BuildTools:
    """Programs of one toolchain, or of this machine where `sandbox` is None; `seconds` is how long one of them that has
    limits may take, 0 for the limit itself."""

    sandbox: Sandbox | None = None
    seconds: int = 0

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        writable: Sequence[Path] = (),
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
        stdin: str | None = None,
        limits: ChildLimits | None = None,
    ) -> Completed:
        """Run a program as `host/system/run.py` does, which may write into the directories `writable`."""
        limits = self._own(limits) if limits is not None else None
        if self.sandbox is None:
            return run(
                argv, cwd=cwd, env=env, check=check, timeout=timeout, stdin=stdin, limits=limits, writes=writable
            )
        sandbox = self.sandbox.with_writable(writable)
        return run_in(sandbox, argv, cwd=cwd, env=env, check=check, timeout=timeout, stdin=stdin, limits=limits)

    def stream(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], limits: ChildLimits, writable: Sequence[Path] = ()
    ) -> Iterator[str]:
        """The lines that a program prints (`stream_lines` of host/system/run.py), which may write into the directories
        `writable`."""
        limits = self._own(limits)
        if self.sandbox is None:
            return stream_lines(argv, cwd=cwd, env=env, limits=limits, writes=writable)
        return stream_in(self.sandbox.with_writable(writable), argv, cwd=cwd, env=env, limits=limits)

    def _own(self, limits: ChildLimits) -> ChildLimits:
        return limits._replace(wait=limits.wait._replace(most=self.seconds)) if self.seconds else limits

    def with_mount(self, folder: Path, place: Path) -> BuildTools:
        """These programs, which also see a directory at another place. Without a sandbox they do not."""
        if self.sandbox is None:
            return self
        return replace(self, sandbox=replace(self.sandbox, mounts=(*self.sandbox.mounts, (folder, place))))

    def outside(self, path: Path) -> Path:
        """The file that a program calls by this absolute path. What the sandbox is given has its own path; all else is
        the toolchain's."""
        given = (*self.sandbox.readable, *self.sandbox.writable) if self.sandbox is not None else ()
        if self.sandbox is None or self.sandbox.root == Path("/") or any(path.is_relative_to(one) for one in given):
            return path
        return self.sandbox.root / path.relative_to("/")

    def path_of(self, program: str) -> Path | None:
        """The file of a program, outside of the sandbox; None where there is none."""
        if self.sandbox is None:
            found = shutil.which(program)
            return Path(found) if found else None
        for folder in ("usr/bin", "bin"):
            path = self.sandbox.root / folder / program
            if os.path.lexists(path):
                return path
        return None


HOST_TOOLS = BuildTools()  # without a sandbox


def host_tools(*readable: Path, cc: str = "", sandboxed: bool = True) -> BuildTools:
    """The programs of this machine, which see what is `readable`; `cc` is a compiler that may lie outside of /usr."""
    if not sandboxed:
        return BuildTools()
    found = Path(shutil.which(cc) or "/usr").resolve() if cc else Path("/usr")
    return BuildTools(Sandbox(readable=(*own_directories(found), *readable)))


def tools_of(kernel: Kernel, *readable: Path) -> BuildTools:
    """The programs that built a kernel. They see its trees, and what else is `readable`."""
    trees = [kernel.root, kernel.source, kernel.build]
    if kernel.outside is not None:
        trees += [kernel.outside.folder, kernel.outside.kernel]
    seen = (*dict.fromkeys(trees), *readable)
    if kernel.toolchain is None:
        tools = host_tools(*seen, cc=kernel.cc, sandboxed=kernel.sandboxed)
        return replace(tools, seconds=kernel.compile_seconds)
    return BuildTools(Sandbox(kernel.toolchain, seen), kernel.compile_seconds)
