# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/sections.md: who reads each section of the kernel, and when."""

from __future__ import annotations

from kgbuild.kernel.section_readers import TABLE

_HEAD = """<!-- Made by `make docs` from kgbuild/kernel/section_readers.py. Do not edit. -->

# Sections of the kernel, and who reads them

What a difference in a section can do to a kernel that runs follows from who reads it, and when. kgbuild takes this
table for it when it accounts for every difference between the original and the patched object (`impact --accounting`).
A difference in a section that is not here stops a build, with the section's name. `*` stands for any end of a name.

| section | what is in it | who reads it | when | source |
| --- | --- | --- | --- | --- |
"""


def render_sections() -> str:
    """The page as Markdown; rows that differ only in the section's name are one."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in TABLE:
        groups.setdefault((row.what, row.who, row.when, row.source), []).append(f"`{row.section}`")
    rows = (f"| {' '.join(names)} | {' | '.join(rest)} |" for rest, names in groups.items())
    return _HEAD + "\n".join(rows) + "\n"
