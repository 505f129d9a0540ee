# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the script that is on servers too (data/delivery/livepatch) on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from importlib import resources

from kgbuild.errors import ToolError
from kgbuild.host.system.children import child_environment

SHELL = "/bin/sh"
_SEARCHED = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def run_livepatch(words: Sequence[str], tell: Callable[[str], None]) -> tuple[int, str]:
    """Run the script to its end. Returns its exit status and what it printed; `tell` gets each line of standard error
    as it comes. What interrupts kgbuild interrupts the script too, which then leaves the system as it was: it is never
    killed from here. Raises ToolError where there is no shell."""
    script = resources.files("kgbuild").joinpath("data/delivery/livepatch").read_text()
    env = {**child_environment(), "PATH": f"{os.environ.get('PATH', '')}:{_SEARCHED}"}
    if "LIVEPATCH_ROOT" in os.environ:
        env["LIVEPATCH_ROOT"] = os.environ["LIVEPATCH_ROOT"]
    try:
        # the text itself and no path, so that a package in an archive will do
        process = subprocess.Popen(
            [SHELL, "-c", script, "livepatch", *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        )
    except OSError as error:
        raise ToolError(error.strerror or str(error), place=SHELL) from error
    assert process.stdout is not None and process.stderr is not None
    try:
        for line in process.stderr:
            tell(line.rstrip("\n"))
        said = process.stdout.read()
    finally:
        status = process.wait()
    return status, said
