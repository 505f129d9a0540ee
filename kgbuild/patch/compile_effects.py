# SPDX-License-Identifier: GPL-2.0-or-later
"""What patched code must not make of its compile: a module with the time in it, or code for another processor.

`__DATE__`, `__TIME__` and `__TIMESTAMP__` make a module that nobody can build again. gcc tells of them itself
(-Werror=date-time), unless a pragma keeps it silent. `target` attributes and pragmas give functions instructions that
kernel code must not use, whatever the options of the unit say. Both can be put together by macros, so that the
preprocessor has to be asked; it is where the patch adds words by which they could come (`may_hide`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from kgbuild.csource.lexer import C_TOKEN, splice
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.shown_text import printable

DATE_TIME = "-Werror=date-time"
"""The option by which gcc refuses the macros of the time."""
EPOCH = "4000000003"
"""SOURCE_DATE_EPOCH (seconds) for asking the preprocessor: a time that no text has by accident."""
_TIMES = (b'"Oct  2 2096"', b'"07:06:43"')  # what the macros say then
_STAMP = re.compile(rb'"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"')
_TOLD = re.compile(r"macro [^\w]*(__DATE__|__TIME__|__TIMESTAMP__)[^\w]* might prevent reproducible builds")
_HIDING = re.compile(rb"attribute|pragma|paste|concat|target|diag|date|__time", re.IGNORECASE)
_DOUBLE = (b"#", b"%:", b"[")  # two of them: a paste, the attributes of C23
_TARGET = re.compile(
    rb"(?:[(,]|::)\s*+((?:__)?target(?:_clones|_version)?(?:__)?)\s*+(\(\s*+\"[^\"\n]{0,200}\")"
    rb"|^[ \t]*+#[ \t]*+pragma[ \t]+(?:GCC|clang)[ \t]+(target|attribute)\b([^\n]{0,200})",
    re.MULTILINE,
)


def told_by_compiler(place: str, stderr: str) -> list[Refusal]:
    """A refusal (P20-build-time) for each macro of the time that the compiler complained of."""
    names = dict.fromkeys(_TOLD.findall(stderr))
    return [Refusal("P20-build-time", place, f"the code uses {name}") for name in names]


def may_hide(orig: bytes, patched: bytes) -> bool:
    """Whether the patched text of a file has more of the words by which a pragma, an attribute or the name of a macro
    of the time can come to be, than the text before."""
    return bool(_hiding(patched) - _hiding(orig))


def _hiding(text: bytes) -> Counter[bytes]:
    tokens = (t[0] for t in C_TOKEN.finditer(splice(text)[0]) if t.lastgroup not in ("space", "comment", "newline"))
    found: Counter[bytes] = Counter()
    before = b""
    for token in tokens:
        # `# 1 "file" 3` says that what follows is a system header, in which gcc is silent
        is_marker = before in _DOUBLE[:2] and token[:1].isdigit()
        if _HIDING.search(token) or (token == before and token in _DOUBLE) or is_marker:
            found[token] += 1
        before = token
    return found


def find_effects(place: str, orig: bytes, patched: bytes) -> list[Refusal]:
    """Refusals (P20-build-time, P21-target) for what a unit has after preprocessing that it did not have before.

    original, patched   the output of gcc -E with SOURCE_DATE_EPOCH=EPOCH
    """
    out = []
    if any(patched.count(time) > orig.count(time) for time in _TIMES):
        out.append(Refusal("P20-build-time", place, "the code uses __DATE__ or __TIME__, put together by macros"))
    if _new(_STAMP.findall(orig), _STAMP.findall(patched)):
        out.append(Refusal("P20-build-time", place, "the code uses __TIMESTAMP__"))
    for found in _new(_targets(orig), _targets(patched)):
        out.append(Refusal("P21-target", place, f"the code asks for another target: `{printable(found)[:70]}`"))
    return out


def _targets(text: bytes) -> list[bytes]:
    """Each attribute or pragma that changes the target, as written."""
    found = []
    for match in _TARGET.finditer(text):
        if match[1] is not None:
            found.append(b"%s%s)" % (match[1], match[2]))
        elif match[3] == b"target":
            found.append(b"#pragma GCC target" + match[4])
    return found


def _new(orig: Iterable[bytes], patched: Iterable[bytes]) -> list[bytes]:
    return list(Counter(patched) - Counter(orig))
