# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of sections in the kernel's linker scripts and its module loader.

    python -m tests.support.ledger.sections LINUX_SOURCE > tests/ledger/sections-VERSION.txt

writes those of one kernel as the tests read them, for kernels whose sources are not fetched by the tests.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SCRIPTS = ("include/asm-generic/vmlinux.lds.h", "arch/x86/kernel/vmlinux.lds.S", "scripts/module.lds.S")
# input sections: `*(.a .b)`, `KEEP(*(SORT(.a.*)))`
_INPUT = re.compile(r"\*\(\s*((?:SORT(?:_BY_\w+)?\(\s*)?[^()*][^()]*|SORT\([^()]*)\)")
_ASKED = re.compile(
    r'(?:section_objs|section_addr|find_sec|find_any_sec)\(\s*\w+,\s*"([^"]+)"|!strcmp\("(\.[^"]+)", secstr'
)
# of the linker's own language, and what macros put together
_WORDS = re.compile(r"^[._A-Za-z][\w.+*#]*$")
_MACROS = re.compile(r"^[A-Z_]+$|^name$|^_sec_$")


def linked(source: Path) -> set[str]:
    """The names of input sections in the linker scripts; what a macro fills in is `x`."""
    found: set[str] = set()
    for script in SCRIPTS:
        text = (source / script).read_text()
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).replace("\\\n", "\n")
        for group in _INPUT.findall(text):
            for word in group.removeprefix("SORT(").split():
                name = re.sub(r"\s*##\s*\w+\s*(##\s*)?", "x", word)
                if _WORDS.match(name) and not _MACROS.match(name):
                    found.add(name.rstrip("*").rstrip(".") or name)
    return found


def asked(source: Path) -> set[str]:
    """The names of sections that the module loader looks for."""
    found: set[str] = set()
    for path in [*sorted((source / "kernel" / "module").glob("*.c")), source / "arch/x86/kernel/module.c"]:
        found |= {a or b for a, b in _ASKED.findall(path.read_text())}
    return found


if __name__ == "__main__":
    print("\n".join(sorted(linked(Path(sys.argv[1])) | asked(Path(sys.argv[1])))))
