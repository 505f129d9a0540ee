# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in kgbuild.toml that refer to each other: groups of kernels in groups, fixes that come after others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kgbuild.releases.toml_places import Key
from kgbuild.shown_text import printable


def name_faults(values: Mapping[str, Any]) -> Iterator[tuple[Key, str, str]]:
    """What is wrong with names that refer to each other: the key it is at, the fact and the remedy of each fault.

    Input: the tables of kgbuild.toml, which have the form that its table of keys asks for.
    """
    groups = values.get("groups", {})
    lists: list[tuple[Key, Sequence[str]]] = [(("kernels",), values.get("kernels", ()))]
    lists += [(("groups", name), members) for name, members in groups.items()]
    fixes = values.get("fix", ())
    lists += [(("fix", number, "kernels"), fix.get("kernels", ())) for number, fix in enumerate(fixes)]
    for key, names in lists:
        for number, name in enumerate(names):
            if name.startswith("@") and name[1:] not in groups:
                known = f"there are {', '.join(groups)}" if groups else "add it to [groups]"
                yield ((*key, number), f"there is no group {printable(name[1:])}", known)
    for name in _circular(groups):
        yield (("groups", name), f"the group {printable(name)} contains itself", "take it out")
    ids = {fix["id"] for fix in fixes}
    seen: dict[str, int] = {}
    for number, fix in enumerate(fixes):
        if fix["id"] in seen:
            fact = f"the fix {fix['id']} is listed twice"
            yield (("fix", number, "id"), fact, "leave one of the two out")
        for place, name in enumerate(fix.get("after", ())):
            if name not in seen:
                later = name in ids
                fact = f"the fix {name}, which {fix['id']} needs, " + ("comes later" if later else "is not listed")
                yield (("fix", number, "after", place), fact, "list it before")
            elif 0 < fix.get("release", 0) < fixes[seen[name]].get("release", 0):
                fact = f"the fix {name}, which {fix['id']} needs, is in a later release"
                yield (("fix", number, "after", place), fact, "give it the same release, or an earlier one")
        seen.setdefault(fix["id"], number)


def _circular(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The groups that contain themselves, or a group that does."""
    open_in = {
        name: {m[1:] for m in members if m.startswith("@") and m[1:] in groups} for name, members in groups.items()
    }
    users: dict[str, list[str]] = {}
    for name, inner in open_in.items():
        for one in inner:
            users.setdefault(one, []).append(name)
    waiting = [name for name, inner in open_in.items() if not inner]
    left = dict.fromkeys(groups)
    while waiting:
        done = waiting.pop()
        del left[done]
        for user in users.get(done, ()):
            open_in[user].discard(done)
            if not open_in[user]:
                waiting.append(user)
    return list(left)
