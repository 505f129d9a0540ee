# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the condition of an #if holds for one kernel, as far as its configuration decides it.

Parsing the source without a compiler requires knowing which branch of an #ifdef CONFIG_X applies. Configuration names
are evaluated as kbuild does (include/linux/kconfig.h), integers and operators as in C11 6.10.1. Every other name is
unknown, and the result is unknown unless the rest of the condition decides it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence

from kgbuild.limits import CONDITION_WORDS

_NUMBER = re.compile(rb"(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*")
_OPERATORS = re.compile(rb"&&|\|\||[=!<>]=|<<|>>|.", re.DOTALL)
_LEVELS: tuple[dict[bytes, Callable[[int, int], int]], ...] = (
    {b"==": operator.eq, b"!=": operator.ne},
    {
        b"<": operator.lt,
        b">": operator.gt,
        b"<=": operator.le,
        b">=": operator.ge,
    },
    {b"<<": lambda number, bits: number << min(bits, 64), b">>": lambda number, bits: number >> min(bits, 64)},
    {b"+": operator.add, b"-": operator.sub},
)
_MAX_DEPTH = 50


class Conditions:
    """Evaluates conditions for one unit of a kernel, given the kernel's settings (`config.parse_config`) and whether
    the unit is part of a module."""

    def __init__(self, config: Mapping[str, str], module: bool) -> None:
        self.config, self.module = config, module

    def _setting(self, name: bytes) -> str:
        return self.config.get(name.decode("latin-1").removeprefix("CONFIG_"), "")

    def defined(self, name: bytes) -> bool | None:
        """Whether a macro of that name is defined; None if the configuration does not say."""
        if name.startswith(b"CONFIG_"):
            if self._setting(name) not in ("", "m"):
                return True
            return name.endswith(b"_MODULE") and self._setting(name[:-7]) == "m"
        return {b"MODULE": self.module, b"__KERNEL__": True, b"__ASSEMBLY__": False}.get(name)

    def holds(self, words: Sequence[bytes]) -> bool | None:
        """What the condition of an #if or #elif says, given its tokens without blanks; None where that is unknown."""
        if len(words) > CONDITION_WORDS.most:
            return None
        joined = _joined(words)
        try:
            value, at = self._ternary(joined, 0, 0)
        except (IndexError, ValueError, OverflowError):
            return None
        return None if value is None or at != len(joined) else value != 0

    def _ternary(self, words: Sequence[bytes], at: int, depth: int) -> tuple[int | None, int]:
        if depth > _MAX_DEPTH:
            raise ValueError("too deep")
        value, at = self._or(words, at, depth)
        if words[at : at + 1] != [b"?"]:
            return value, at
        first, at = self._ternary(words, at + 1, depth + 1)
        if words[at] != b":":
            raise ValueError("no colon")
        second, at = self._ternary(words, at + 1, depth + 1)
        return (first if value else second) if value is not None else None, at

    def _or(self, words: Sequence[bytes], at: int, depth: int) -> tuple[int | None, int]:
        value, at = self._and(words, at, depth)
        while words[at : at + 1] == [b"||"]:
            other, at = self._and(words, at + 1, depth)
            value = 1 if value or other else None if value is None or other is None else 0
        return value, at

    def _and(self, words: Sequence[bytes], at: int, depth: int) -> tuple[int | None, int]:
        value, at = self._binary(words, at, depth, 0)
        while words[at : at + 1] == [b"&&"]:
            other, at = self._binary(words, at + 1, depth, 0)
            value = 0 if value == 0 or other == 0 else None if value is None or other is None else 1
        return value, at

    def _binary(self, words: Sequence[bytes], at: int, depth: int, level: int) -> tuple[int | None, int]:
        if level == len(_LEVELS):
            return self._unary(words, at, depth)
        value, at = self._binary(words, at, depth, level + 1)
        while at < len(words) and words[at] in _LEVELS[level]:
            operator = _LEVELS[level][words[at]]
            other, at = self._binary(words, at + 1, depth, level + 1)
            value = operator(value, other) if value is not None and other is not None else None
        return value, at

    def _unary(self, words: Sequence[bytes], at: int, depth: int) -> tuple[int | None, int]:
        word = words[at]
        if depth > _MAX_DEPTH:
            raise ValueError("too deep")
        if word == b"!":
            value, at = self._unary(words, at + 1, depth + 1)
            return None if value is None else int(not value), at
        if word == b"(":
            value, at = self._ternary(words, at + 1, depth + 1)
            if words[at] != b")":
                raise ValueError("no parenthesis")
            return value, at + 1
        if word == b"defined":
            inner = words[at + 1] == b"("
            known = self.defined(words[at + 1 + inner])
            return None if known is None else int(known), at + 2 + 2 * inner
        if (number := _NUMBER.fullmatch(word)) is not None:
            digits = number[1].decode()
            return int(digits, 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10), at + 1
        if words[at + 1 : at + 2] == [b"("]:
            return self._call(words, at)
        if word.startswith(b"CONFIG_"):
            value_of = self._setting(word)
            return (int(value_of, 0) if _NUMBER.fullmatch(value_of.encode()) else int(value_of == "y")), at + 1
        return None, at + 1

    def _call(self, words: Sequence[bytes], at: int) -> tuple[int | None, int]:
        """Evaluate IS_ENABLED and similar macros; any other macro is unknown."""
        end, depth = at + 2, 1
        while depth:
            depth += (words[end] == b"(") - (words[end] == b")")
            end += 1
        setting = self._setting(words[at + 2])
        built_in, as_module = setting == "y", setting == "m"
        value = {
            b"IS_ENABLED": built_in or as_module,
            b"IS_BUILTIN": built_in,
            b"IS_MODULE": as_module,
            b"IS_REACHABLE": built_in or (as_module and self.module),
        }.get(words[at])
        return None if value is None or end != at + 4 else int(value), end


def _joined(words: Sequence[bytes]) -> list[bytes]:
    """The tokens, with two-character operators joined again."""
    out: list[bytes] = []
    run: list[bytes] = []
    for word in [*words, b"x"]:
        if len(word) == 1 and not (word.isalnum() or word in b"_()"):
            run.append(word)
            continue
        out += _OPERATORS.findall(b"".join(run))
        run = []
        out.append(word)
    return out[:-1]
