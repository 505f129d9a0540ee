# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of what can go wrong in a guest: code, what is expected, what to do if it fails."""

from __future__ import annotations

from kgbuild.diagnostics.rule import Rule

_TABLE = [
    Rule(
        "G1-before",
        "A command of --before succeeds, and a check fails, while the patch is not loaded.",
        "write the commands so that they distinguish the patched kernel from the unpatched one",
    ),
    Rule(
        "G2-load",
        "The kernel accepts the module.",
        "the kernel's log says why; kgbuild verify checks the module without booting",
    ),
    Rule(
        "G3-transition",
        "The transition of all tasks ends.",
        "see which task stays in the old code: the finding names it, and its stack",
    ),
    Rule(
        "G4-sysfs",
        "The patch is enabled, and its functions are listed in sysfs.",
        "compare with kgbuild verify; a function that is not listed is not replaced",
    ),
    Rule(
        "G5-after",
        "A command of --after and a check succeed while the patch is active.",
        "see what the command printed: the patch does not do what the command asks for",
    ),
    Rule(
        "G6-disable",
        "The patch can be disabled.",
        "see the kernel's log; a patch that was replaced can't be disabled any more",
    ),
    Rule(
        "G7-unload",
        "The module can be removed after that.",
        "see what holds the module: for example a callback or a timer of the patch that was not undone",
    ),
    Rule(
        "G8-disabled",
        "A command of --disabled succeeds, and a check fails again, when the patch is unloaded.",
        "what the patch wrote remains: restore it in a post_unpatch callback",
    ),
    Rule(
        "G9-log",
        "The kernel log has no warning and no oops.",
        "read the lines of the log; --allow-log accepts expected ones",
    ),
    Rule(
        "G10-panic",
        "The kernel stays alive.",
        "read the last lines of the console (--keep-log)",
    ),
    Rule(
        "G11-taint",
        "The kernel does not become tainted by a fault.",
        "look in the kernel's log for the cause",
    ),
    Rule(
        "G12-target",
        "A target module can be loaded: before the patch, after it, and again.",
        "see the kernel's log; try the module without the patch",
    ),
    Rule(
        "G13-reload",
        "A target module that can be unloaded without the patch can be unloaded with it.",
        "see what in the patch keeps the module in use",
    ),
    Rule(
        "G14-absent",
        "A command of --absent succeeds while a target module is unloaded and the patch is active.",
        "make sure that the command calls no code that is bound to the module",
    ),
]

RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE}
