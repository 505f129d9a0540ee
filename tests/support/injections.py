# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile texts, for everything that shows names, subjects and logs that somebody else wrote; and documents of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARK = "kgbuildinjected"  # what runs if one of them gets through
INJECTIONS = (
    f"<script>window.{MARK}=1</script>",
    f"</script><script>window.{MARK}=1</script>",
    f"</style><script>window.{MARK}=1</script>",
    f"</title><script>window.{MARK}=1</script>",
    f"</textarea></pre></svg><script>window.{MARK}=1</script>",
    f"<img src=x onerror=window.{MARK}=1>",
    f'"><img src=x onerror="window.{MARK}=1">',
    f"' onmouseover='window.{MARK}=1' autofocus onfocus='window.{MARK}=1",
    f"<svg/onload=window.{MARK}=1>",
    f"<svg><animate onbegin=window.{MARK}=1 attributeName=x dur=1s>",
    f"<iframe srcdoc='<script>parent.{MARK}=1</script>'>",
    f"<a href=javascript:window.{MARK}=1>x</a>",
    f"javascript:window.{MARK}=1",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror=window.{MARK}=1>",
    f"{{{{ ''.__class__ }}}} {{% raw %}} {{{{ config }}}} ${{{MARK}}}",
    f"<!--><script>window.{MARK}=1</script>-->",
    "<meta http-equiv=refresh content='0;url=//example.org'>",
    "<base href=//example.org/>",
    "<link rel=stylesheet href=//example.org/x.css>",
    "<style>@import '//example.org/x.css';*{display:none}</style>",
    "&lt;script&gt; &amp;amp; &#60;b&#62;",
    "[x](javascript:alert(1)) ![x](//example.org/x.png) <details open>",
    "@everyone #1 www.example.org https://example.org/x",
    "```\n</details>\n# heading\n| a | b |\n- item",
    "`code` *bold* _it_ ~~no~~ $x$ \\",
    "::error file=x::forged\n::stop-commands::x",
    "a%0A::error::forged",
    "]]><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>",
    "\x00\x01\x07\x08\x0b\x1b[31mred\x1b[0m\x7f\x85\u2028\u2029",
    "\u202egnirts\u202c \u2066x\u2069 \ufeff\ufffe",
    "\ud800 lone \udc80",
    'x"] --> y["z',
    "end\n  click n_f0 callback",
    "%%{init: {'securityLevel': 'loose'}}%%",
    "A" * 5000,
    "",
    " \t\n ",
)
# what a schema says the values of, and what names other things of the document
_KEPT = {"schema", "role", "how", "state", "status", "kind", "verdict", "level", "phase", "id", "source", "target"}


def hostile(value: Any, text: str, key: str = "") -> Any:
    """A document with `text` added to each of its texts, but for those that a schema limits and the ends of arrows."""
    if isinstance(value, Mapping):
        return {name: hostile(inner, text, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner, text, key) for inner in value]
    if isinstance(value, str) and key not in _KEPT:
        return f"{value}{text}"
    return value
