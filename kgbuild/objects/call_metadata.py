# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's tracer shows of a system call: its name, and the types and names of its arguments.

SYSCALL_DEFINE makes a `struct syscall_metadata` for each call, __syscall_meta_NAME, which refers to two arrays of
texts, types_NAME and args_NAME (SYSCALL_METADATA in include/linux/syscalls.h, CONFIG_FTRACE_SYSCALLS). Only the tracer
reads it (kernel/trace/trace_syscalls.c), through the table of the section __syscalls_metadata and the two events of the
call.
"""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.objects.atoms import DATA, Ambiguous, Atom
from kgbuild.objects.view import View

_METADATA = "__syscall_meta_"
# how the name of such a variable begins -> how the names of those begin that may refer to it
_REFERRERS = {
    _METADATA: ("__p_syscall_meta_", "event_enter_", "event_exit_"),
    "types_": (_METADATA,),
    "args_": (_METADATA,),
}


def is_call_metadata(view: View, atom: Atom) -> bool:
    """Whether a variable is metadata of a system call: by its name, and by what refers to it."""
    allowed = next((to for begins, to in _REFERRERS.items() if atom.name.startswith(begins)), None)
    if allowed is None or atom.kind != DATA or not atom.is_local:
        return False
    try:
        referrers = list(_referrers(view, atom))
    except Ambiguous:
        return False
    # its lists of fields refer to themselves
    others = [r for r in referrers if r.id != atom.id]
    return bool(others) and all(r.kind == DATA and r.name.startswith(allowed) for r in others)


def _referrers(view: View, atom: Atom) -> Iterator[Atom]:
    sections = view.sections_referring_to({atom.section}) | {atom.section}
    for section in sections:
        for number in view.in_section.get(section, ()):
            if any(ref.atom == atom.id for ref in view.refs(view.atoms[number])):
                yield view.atoms[number]
