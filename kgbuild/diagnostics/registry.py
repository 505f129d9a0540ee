# SPDX-License-Identifier: GPL-2.0-or-later
"""Every code that kgbuild can report, in one registry. docs/limits.md is made from it."""

from __future__ import annotations

from kgbuild.diagnostics import guest_findings, module_findings, refusals, run_errors, warnings
from kgbuild.diagnostics.rule import Rule

RULES: dict[str, Rule] = {
    **refusals.RULES,
    **warnings.RULES,
    **module_findings.RULES,
    **guest_findings.RULES,
    **run_errors.RULES,
}
