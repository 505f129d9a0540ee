# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds spans of C text for rewriting a patch: the members of a structure, an expression, a definition.

This is no parser: the rewritten text is compiled, so a wrong guess is noticed. All positions are offsets in the text.
`masked` is the text with comments, strings and characters blanked (`mask`), of the same length. Definitions are only
found at the beginning of a line, where kernel code has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SKIPPED = re.compile(
    r"""/\*.*?(?:\*/|\Z) | //(?:\\\n|[^\n])* | "(?:\\.|[^"\\\n])*+"? | '(?:\\.|[^'\\\n])*+'?""", re.DOTALL | re.VERBOSE
)
_BLANK = re.compile(r"\s*")
_CLOSES = {"}": "{", ")": "(", "]": "["}
_OPENS = {opening: closing for closing, opening in _CLOSES.items()}
# words before a parenthesis that are not a function's name: `return (a)->b`
_KEYWORDS = frozenset({"return", "if", "while", "for", "switch", "sizeof", "case", "else", "do", "goto", "typeof"})
# words that may follow a member's name or be part of its type
_ATTRIBUTE = re.compile(
    r"\b__(?:aligned|attribute__|counted_by\w*)\s*\([^()]*(?:\([^()]*\)[^()]*)*\)"
    r"|\b(?:____cacheline_aligned\w*|__(?:rcu|user|iomem|percpu|packed|private|randomize_layout))\b"
)


def mask(text: str) -> str:
    """The text with comments, strings and character constants blanked; newlines are kept."""
    return _SKIPPED.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def line_of(text: str, at: int) -> int:
    """The number, from 1, of the line that contains offset `at`."""
    return text.count("\n", 0, at) + 1


def closing(masked: str, at: int) -> int:
    """The offset of the bracket that closes the one at `at`; -1 if there is none."""
    stack: list[str] = []
    for here in range(at, len(masked)):
        char = masked[here]
        if char in _OPENS:
            stack.append(char)
        elif char in _CLOSES:
            if stack.pop() != _CLOSES[char]:
                return -1
            if not stack:
                return here
    return -1


def opening(masked: str, at: int) -> int:
    """The offset of the bracket that opens the one closed at `at`; -1 if there is none."""
    stack: list[str] = []
    for here in range(at, -1, -1):
        char = masked[here]
        if char in _CLOSES:
            stack.append(char)
        elif char in _OPENS:
            if stack.pop() != _OPENS[char]:
                return -1
            if not stack:
                return here
    return -1


def find_outside(masked: str, wanted: str, start: int, end: int) -> int:
    """The offset of the first character of `wanted` outside brackets opened after `start`; -1 if there is none."""
    here = start
    while here < end:
        if masked[here] in wanted:
            return here
        if masked[here] in _OPENS:
            here = closing(masked, here)
            if here < 0:
                return -1
        here += 1
    return -1


@dataclass(frozen=True)
class DeclarationSpan:
    """A member's declaration: its text, a normalised text for comparison (single blanks, no comments), and whether it
    is inside an #if."""

    text: str
    normal: str
    conditional: bool

    @property
    def names(self) -> list[str]:
        """The members that it declares; empty if that is not clear."""
        names = []
        parts = self.normal.removesuffix(";").strip()
        start = 0
        while start <= len(parts):
            end = find_outside(parts, ",", start, len(parts))
            end = len(parts) if end < 0 else end
            name = _declared(parts[start:end])
            if not name:
                return []
            names.append(name)
            start = end + 1
        return names


def _declared(declarator: str) -> str:
    pointer = re.search(r"\(\s*\*+\s*(?:const\s+)?(\w+)", declarator)
    if pointer:
        return pointer.group(1)
    if "{" in declarator:
        declarator = declarator[declarator.rindex("}") + 1 :]
    plain = re.split(r"[\[:]", _ATTRIBUTE.sub(" ", declarator))[0]
    words = re.findall(r"\w+", plain)
    return words[-1] if words else ""


@dataclass(frozen=True)
class StructBody:
    """The part of a structure's definition between its braces: offsets, members, and preprocessor lines."""

    start: int
    end: int
    members: tuple[DeclarationSpan, ...]
    directives: tuple[str, ...]


def struct_body(text: str, masked: str, name: str) -> StructBody | None:
    """The definition of `struct name`; None if the text has none."""
    found = re.search(rf"\bstruct\s+{re.escape(name)}\s*\{{", masked)
    end = closing(masked, found.end() - 1) if found else -1
    if found is None or end < 0:
        return None
    start = found.end()
    members, directives, depth, here = [], [], 0, start
    while here < end:
        line = re.compile(r"\s*#[ \t]*(\w+)[^\n]*").match(masked, here, end)
        if line:
            directives.append(" ".join(line.group().split()))
            depth += {"if": 1, "ifdef": 1, "ifndef": 1, "endif": -1}.get(line.group(1), 0)
            here = line.end()
            continue
        stop = find_outside(masked, ";#", here, end)
        if stop >= 0 and masked[stop] == "#":
            stop = masked.rfind("\n", here, stop)
        if stop < 0:
            break
        normal = " ".join(masked[here : stop + 1].split())
        if normal not in ("", ";"):
            first = _BLANK.match(masked, here).end()  # type: ignore[union-attr]  # it matches anything
            members.append(DeclarationSpan(text[first : stop + 1].strip(), normal, depth > 0))
        here = stop + 1
    return StructBody(start, end, tuple(members), tuple(directives))


def postfix_start(masked: str, end: int) -> int:
    """The start of the postfix expression that ends before `end` (`a->b[i].c`, `f(x)`, `(p)`); `end` if none."""
    here = end
    while True:
        stop = _strip_end(masked, here)
        if stop and masked[stop - 1] in ")]":
            start = opening(masked, stop - 1)
            if start < 0:
                return end
            if masked[stop - 1] == "]":
                here = start
                continue
            before = _strip_end(masked, start)
            word = _word_start(masked, before)
            if word == before and masked.endswith("]", 0, before):
                here = start
                continue
            # `(*f)(x)` is a call, `(struct s *)(x)` a cast, which binds weaker
            if word == before and masked.endswith(")", 0, before):
                inner = opening(masked, before - 1) + 1
                if masked.startswith("*", inner):
                    here = start
                    continue
            start = start if masked[word:before] in ("", *_KEYWORDS) else word
        else:
            start = _word_start(masked, stop)
            if masked[start:stop] in ("", *_KEYWORDS):
                return end
        before = _strip_end(masked, start)
        if masked.endswith("->", 0, before):
            here = before - 2
        elif masked.endswith(".", 0, before) and not masked.endswith("..", 0, before):
            here = before - 1
        else:
            return start


def _strip_end(text: str, end: int) -> int:
    """Where the blanks that end before `end` begin."""
    while end and text[end - 1].isspace():
        end -= 1
    return end


def _word_start(text: str, end: int) -> int:
    """Where the word that ends before `end` begins; `end` where there is none."""
    while end and (text[end - 1].isalnum() or text[end - 1] == "_"):
        end -= 1
    return end


@dataclass(frozen=True)
class Definition:
    """A definition of a variable or function: its start and end; for a variable also its specifiers and the text after
    the `=`."""

    start: int
    end: int
    head: str = ""
    value: str = ""


def find_variable(text: str, masked: str, name: str) -> Definition | None:
    """The definition with an initial value of a variable of the file; None where there is none at a line's start."""
    if name not in masked:
        return None
    pattern = rf"^[A-Za-z_][\w \t\n*]{{0,1000}}\b{re.escape(name)}\b[ \t]*((?:\[[^\]]*\])*[ \t\w]*)(=\s*|;)"
    for found in re.finditer(pattern, masked, re.MULTILINE):
        if found.group().split()[0] in ("extern", "typedef", "return"):
            continue
        if found.group(2) == ";":
            return Definition(found.start(), found.end(), found.group()[:-1])
        end = find_outside(masked, ";", found.end(), len(masked))
        if end < 0 or find_outside(masked, ",;", found.end(), len(masked)) != end:
            return None  # several variables in one declaration
        head = found.group()[: found.start(2) - found.start()]
        return Definition(found.start(), end + 1, head, text[found.end() : end])
    return None


def find_function(masked: str, name: str) -> Definition | None:
    """The definition of a function; None where there is none at a line's start."""
    if name not in masked:
        return None
    for found in re.finditer(rf"^[A-Za-z_][^;{{}}#=:]{{0,1000}}?\b{re.escape(name)}\s*\(", masked, re.MULTILINE):
        end = closing(masked, found.end() - 1)
        brace = re.compile(r"[\s\w]*\{").match(masked, end + 1) if end >= 0 else None
        stop = closing(masked, brace.end() - 1) if brace else -1
        if stop >= 0:
            return Definition(found.start(), stop + 1)
    return None


def split_values(value: str) -> dict[str, str] | None:
    """The parts of a flat `{ ... }` by `[N]` for their position, or by `.member`; None if it is not flat."""
    text = value.strip()
    masked = mask(text)
    if not masked.startswith("{") or closing(masked, 0) != len(masked) - 1 or "#" in masked:
        return None
    out: dict[str, str] = {}
    start, position = 1, 0
    while start < len(text) - 1:
        end = find_outside(masked, ",", start, len(text) - 1)
        end = len(text) - 1 if end < 0 else end
        part, shape = text[start:end].strip(), masked[start:end].strip()
        start = end + 1
        if not shape:
            continue
        named = re.match(r"(\.\w+)\s*=\s*", shape)
        if "{" in shape or shape.startswith("[") or '"' in part:
            return None
        if named:
            out[named.group(1)] = part[named.end() :]
        else:
            out[f"[{position}]"] = part
            position += 1
    return out if not position or position == len(out) else None
