# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of what ends a run beside refusals and findings: code, what it means, what to do.

The codes stand in JSON documents (`errors`); a person is shown place, fact and remedy.
"""

from __future__ import annotations

from kgbuild.diagnostics.rule import Rule

USAGE, SYSTEM, INTERRUPTED, INTERNAL = "E1-usage", "E5-system", "E6-interrupted", "E7-internal"
MACHINE, REPRODUCED = "E9-machine", "E10-reproduced"

_TABLE = [
    Rule(USAGE, "Options and arguments are those that the command has (exit status 2).", "see kgbuild COMMAND --help"),
    Rule(
        "E2-input",
        "Files, names of kernels and names of functions that are given can be read and are known (exit status 2).",
        "the message names what was given and what is near",
    ),
    Rule(
        "E3-tool",
        "The programs, packages and places that kgbuild needs are there and work (exit status 3).",
        "kgbuild doctor says what this machine is missing",
    ),
    Rule(
        "E4-no-change",
        "The patch changes code that runs (exit status 4).",
        "nothing is to be patched; see the accounting of kgbuild impact where you expect a change",
    ),
    Rule(
        SYSTEM, "The operating system reads and writes files when asked (exit status 3).", "see the file that is named"
    ),
    Rule(INTERRUPTED, "The run is not stopped from outside (exit status 130).", "run the command again"),
    Rule(
        INTERNAL,
        "kgbuild has no fault of its own (exit status 3).",
        "please report it, with the command and what it printed on standard error",
    ),
    Rule(
        "E8-output",
        "No file of the user's is lost: what is written is no input of the run, no other output, and no file that "
        "kgbuild did not make (exit status 2).",
        "name another file; --force overwrites a file that is neither",
    ),
    Rule(
        MACHINE,
        "The running kernel is patched as it should be, and takes and gives back live patches when asked "
        "(exit status 1, 3 or 4).",
        "see kgbuild status, and the kernel's log",
    ),
    Rule(
        REPRODUCED,
        "A module that is built again by its provenance has the same bytes (exit status 1).",
        "ask who built it; another version of kgbuild may write other bytes: use the one that the provenance names",
    ),
]

RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE}
