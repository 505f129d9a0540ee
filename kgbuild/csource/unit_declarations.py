# SPDX-License-Identifier: GPL-2.0-or-later
"""A preprocessed unit as a list of top-level declarations: where each begins, what it declares, whether it emits code.

Macros are expanded in such a text (`gcc -E`), so declarations have the regular shapes of C11 6.7 with gcc's extensions.
A declaration *emits* if the compiler may make code, data or symbols of it even if nothing else of the unit mentions it:
functions that are not inline, variables that are defined, assembly, whatever has an attribute that is not known to be
harmless. What is not understood is None, and the caller has to assume the worst.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kgbuild.csource.lexer import NEWLINE, SPACE, read_tokens

_MARKER = re.compile(rb"^# \d[^\n]*\n", re.MULTILINE)
_MARK = re.compile(rb'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[{};]|^[ \t]*#[^\n]*', re.DOTALL | re.MULTILINE)
_PLAIN_ATTRIBUTE = re.compile(rb"\b__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)")
_WORD = re.compile(rb"[A-Za-z_$][\w$]*")
_BEFORE = re.compile(rb"[\w$]")
_RECORDS = frozenset((b"struct", b"union", b"enum"))
_ATTRIBUTE = frozenset((b"__attribute__", b"__attribute"))
_ASM = frozenset((b"asm", b"__asm__", b"__asm"))
_TYPEOF = frozenset((b"typeof", b"__typeof__", b"__typeof", b"typeof_unqual", b"__typeof_unqual__"))
_INLINE = frozenset((b"inline", b"__inline", b"__inline__"))
_QUALIFIERS = frozenset(
    b"const volatile restrict __const __const__ __volatile __volatile__ __restrict __restrict__ _Atomic "
    b"extern static register auto _Noreturn _Thread_local __thread typedef __extension__ inline __inline "
    b"__inline__".split()
)
_BASIC = frozenset(
    b"void char short int long float double signed unsigned __signed __signed__ _Bool bool _Complex __complex__ "
    b"__int128 __int128_t __uint128_t _Float16 _Float32 _Float64 _Float128 __float128 __auto_type "
    b"__builtin_va_list".split()
)
_MAX_TRIES = 100
_OPEN, _CLOSE = frozenset((b"(", b"[", b"{")), frozenset((b")", b"]", b"}"))
_ATOM = frozenset((b"_Atomic", b"_Alignas", b"__seg_gs", b"__seg_fs"))

# Attributes that make nothing of a declaration that is not used (gcc manual, "Declaring Attributes of Functions").
# `weak`, `alias`, `used`, `constructor` and their like are not among them, and neither is what is unknown.
_HARMLESS = frozenset(
    name
    for plain in (
        b"unused always_inline noinline gnu_inline no_instrument_function const pure nonnull format format_arg malloc "
        b"warn_unused_result cold hot flatten deprecated error warning aligned assume_aligned alloc_size alloc_align "
        b"access returns_nonnull leaf nothrow noreturn patchable_function_entry no_profile_instrument_function "
        b"no_stack_protector stack_protect no_sanitize no_sanitize_address no_sanitize_thread no_sanitize_undefined "
        b"no_sanitize_coverage nocf_check may_alias packed mode transparent_union designated_init section noclone "
        b"noipa no_reorder artificial sentinel returns_twice regparm fastcall cdecl stdcall ms_abi sysv_abi "
        b"vector_size warn_if_not_aligned unavailable fallthrough noderef address_space counted_by nonstring "
        b"zero_call_used_regs indirect_branch function_return btf_type_tag overloadable"
    ).split()
    for name in (plain, b"__" + plain + b"__")
)

# Functions that gcc calls, or treats in its own way, without the unit naming them (gcc manual, "Other Builtins").
_BUILTIN = re.compile(
    rb"(?:__builtin_|__sync_|__atomic_|__sanitizer_|__asan_|__hwasan_|__tsan_|__ubsan_|__kcsan_|__kmsan_|__msan_|__gcov_"
    rb"|__cyg_profile|__stack_chk|__[a-z0-9]+_(?:indirect|return)_|__cfi_|__kcfi|__llvm_)\w*|_{0,2}[a-z]*(?:count|entry__)"
    rb"|__\w+_chk|__\w+[dsthx][ifc][234]"
    rb"|(?:mem|str|stp|wmem|wcs|is|isw|to)[a-z]{2,12}|b(?:cmp|copy|zero)|r?index|ffs(?:l|ll)?|(?:l|ll|imax)?abs"
    rb"|(?:v?(?:f|s|sn|d|as)?(?:printf|scanf))(?:_unlocked)?|f?puts|f?putc|putchar|fwrite|(?:f?put[sc]|putchar|fwrite)_unlocked"
    rb"|abort|_?exit|_Exit|alloca|(?:m|c|re|aligned_)alloc|posix_memalign|free|fork|exec[lv][pe]{0,2}|main"
    rb"|(?:a?(?:sin|cos|tan)h?|atan2|ceil|floor|round|trunc|rint|nearbyint|l?lrint|l?lround|l?lceil|l?lfloor|sqrt|cbrt|pow"
    rb"|exp(?:2|10|m1)?|log(?:2|10|1p|b)?|ilogb|fabs|fmod|fmin|fmax|fdim|fma|hypot|ldexp|frexp|modf|copysign|scalbl?n"
    rb"|nan|inf|erfc?|l?gamma|signbit|remainder|remquo)[fl]?"
)


def is_implied(name: bytes) -> bool:
    """Whether the compiler may call a function of this name, or treat it in its own way, without being told to."""
    return _BUILTIN.fullmatch(name) is not None


@dataclass(frozen=True)
class Declaration:
    """One top-level declaration.

    names    what it declares at file scope: functions, variables, types, tags, enumerators
    tags     tags that it only mentions, outside of parameters: it declares them if nothing before it does
    emits    whether the compiler may make something of it by itself
    implied  whether it declares a function that the compiler uses without being told to
    """

    names: frozenset[bytes]
    tags: frozenset[bytes] = frozenset()
    emits: bool = False
    implied: bool = False


class UnitText:
    """A preprocessed text, split into declarations; faster where it is much like another one that is split already.
    Raises ValueError if its braces do not match."""

    def __init__(self, preprocessed: bytes, like: UnitText | None = None) -> None:
        self.text = without_markers(preprocessed)
        self.spans = list(_split(self.text)) if like is None else _split_like(self.text, like)
        self._starts = [start for start, _ in self.spans]
        self._judged: dict[int, Declaration | None] = {}

    def __len__(self) -> int:
        return len(self.spans)

    def piece(self, number: int) -> bytes:
        """The text of a declaration."""
        start, end = self.spans[number]
        return self.text[start:end]

    def judge(self, number: int) -> Declaration | None:
        """What a declaration declares; None if that is not understood."""
        if number not in self._judged:
            self._judged[number] = read_declaration(code_of(self.piece(number)))
        return self._judged[number]

    def mentions(self, word: bytes) -> list[int]:
        """The declarations that contain a word, ascending. Strings count."""
        text, out = self.text, list[int]()
        at = text.find(word)
        while at >= 0:
            after = at + len(word)
            if not _BEFORE.match(text[at - 1 : at] if at else b"") and not _BEFORE.match(text, after):
                number = bisect_right(self._starts, at) - 1
                out.append(number)
                at = text.find(word, max(after, self.spans[number][1]))
            else:
                at = text.find(word, after)
        return out


def without_markers(preprocessed: bytes) -> bytes:
    """A preprocessed text without the lines that tell which file and line follows."""
    return _MARKER.sub(b"", preprocessed)


def code_of(text: bytes) -> tuple[bytes, ...]:
    """The tokens of a preprocessed text."""
    return tuple(t for t in read_tokens(text) if t not in (SPACE, NEWLINE))


def common_start(orig: bytes, patched: bytes) -> int:
    """How many bytes two texts have in common at their beginning."""
    low, high = 0, min(len(orig), len(patched))
    while low < high:
        middle = (low + high + 1) // 2
        if orig[low:middle] == patched[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _split_like(text: bytes, like: UnitText) -> list[tuple[int, int]]:
    """The declarations of a text. Before the first difference and behind the last one, both texts have the same ones:
    only what is between is read."""
    same = common_start(like.text, text)
    kept = bisect_right([end for _, end in like.spans], same)
    # a directive ends at its line's end: the one before a difference may go on
    kept = max(kept - 1, 0)
    spans = like.spans[:kept]
    shift = len(text) - len(like.text)
    alike_from = len(text) - common_start(like.text[same:][::-1], text[same:][::-1])
    ends = {end + shift: number for number, (_, end) in enumerate(like.spans)}
    for span in _split(text, spans[-1][1] if spans else 0):
        spans.append(span)
        number = ends.get(span[1])
        if span[1] >= alike_from and number is not None:
            return spans + [(start + shift, end + shift) for start, end in like.spans[number + 1 :]]
    return spans


def _split(text: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where each top-level declaration or directive from a place on begins and ends."""
    depth = tries = 0
    looked = -1  # the declaration whose braces are counted
    body = False
    for mark in _MARK.finditer(text, start):
        first = text[mark.start()]
        if first == 0x3B:  # ;
            if not depth:
                yield start, mark.end()
                start = mark.end()
        elif first == 0x7B:  # {
            if not depth:
                looked, tries = start, tries + 1 if looked == start else 1
                if tries > _MAX_TRIES:
                    raise ValueError("no declaration has so many braces")
                body = _begins_body(text[start : mark.start()])
            depth += 1
        elif first == 0x7D:  # }
            depth -= 1
            if depth < 0:
                raise ValueError("a brace closes nothing")
            if not depth and body:
                yield start, mark.end()
                start, body = mark.end(), False
        elif first not in b"\"'" and not depth and not text[start : mark.start()].strip():
            yield mark.start(), mark.end()
            start = mark.end()
    if depth:
        raise ValueError("a brace is not closed")
    if text[start:].strip():
        yield start, len(text)


def _begins_body(head: bytes) -> bool:
    """Whether a brace after `head` begins the body of a function, not of a type or of a value."""
    if not head.rstrip().endswith(b")"):
        return False
    if b'"' not in head:  # most heads need not be read as tokens
        plain = _PLAIN_ATTRIBUTE.sub(b"", head)
        if b"=" not in plain and b"__attribute" not in plain and b"typeof" not in plain:
            return plain.rstrip().endswith(b")")
    tokens = code_of(head)
    flat: list[bytes] = []
    index = 0
    while index < len(tokens):
        if tokens[index] in _ATTRIBUTE or tokens[index] in _TYPEOF:
            index = _behind(tokens, index + 1)
            continue
        flat.append(tokens[index])
        index = _behind(tokens, index) if tokens[index] in _OPEN else index + 1
    return flat[-1:] == [b"("] and b"=" not in flat


def _behind(tokens: Sequence[bytes], index: int) -> int:
    """The index behind the bracket that opens at `index`, or behind the token there if it is none."""
    depth = 0
    for at in range(index, len(tokens)):
        depth += (tokens[at] in _OPEN) - (tokens[at] in _CLOSE)
        if depth <= 0:
            return at + 1
    return len(tokens)


class _NotUnderstoodError(Exception):
    pass


@dataclass
class _DeclarationReader:
    """Reads the specifiers and declarators of one declaration."""

    tokens: Sequence[bytes]
    at: int = 0
    words: set[bytes] = field(default_factory=set)  # storage classes and qualifiers
    attributes: set[bytes] = field(default_factory=set)
    names: set[bytes] = field(default_factory=set)
    tags: set[bytes] = field(default_factory=set)
    labelled: bool = False
    called: bool = False  # whether the last declarator is that of a function
    pointed: bool = False  # whether its name is in parentheses, behind an asterisk

    def peek(self) -> bytes:
        return self.tokens[self.at] if self.at < len(self.tokens) else b""

    def inside(self) -> Sequence[bytes]:
        """The tokens of the bracket that opens here, which is passed."""
        if self.peek() not in _OPEN:
            raise _NotUnderstoodError
        start, self.at = self.at, _behind(self.tokens, self.at)
        return self.tokens[start + 1 : self.at - 1]

    def skip(self) -> bool:
        """Pass an attribute, a qualifier or an asm label; False if there is none."""
        token = self.peek()
        if token in _ATTRIBUTE:
            self.at += 1
            self.attributes |= _attribute_names(self.inside())
        elif token in _ASM:
            self.at += 1
            self.inside()
            self.labelled = True
        elif token in _ATOM or token in _QUALIFIERS:
            self.at += 1
            self.words.add(token)
            if token in _ATOM and self.peek() == b"(":
                self.inside()
        else:
            return False
        return True

    def specifiers(self) -> None:
        """Pass everything before the first declarator."""
        typed = False
        while True:
            token = self.peek()
            if self.skip():
                continue
            if token in _BASIC:
                self.at += 1
            elif token in _TYPEOF:
                self.at += 1
                self.inside()
            elif token in _RECORDS:
                self.record()
            elif not typed and _WORD.fullmatch(token):
                self.at += 1  # the name of a type
            else:
                break
            typed = True
        if not typed:
            raise _NotUnderstoodError

    def record(self) -> None:
        """Pass a struct, union or enum with its tag and members."""
        kind = self.peek()
        self.at += 1
        while self.skip():
            pass
        tag = b""
        if _WORD.fullmatch(self.peek()):
            tag = self.peek()
            self.at += 1
        while self.skip():
            pass
        if self.peek() != b"{":
            if not tag:
                raise _NotUnderstoodError
            self.tags.add(tag)
            return
        if tag:
            self.names.add(tag)
        members = self.inside()
        self.names |= _enumerators(members) if kind == b"enum" else set()
        for index, word in enumerate(members):
            if word not in _RECORDS:
                continue
            inner = index + 1
            while inner < len(members) and members[inner] in _ATTRIBUTE:
                inner = _behind(members, inner + 1)
            named = members[inner : inner + 1]
            if named and _WORD.fullmatch(named[0]):
                self.tags.add(named[0])
                inner += 1
            if members[inner : inner + 1] == [b"{"] or members[inner : inner + 1] == (b"{",):
                self.names |= set(named) - {b"{"}
                if word == b"enum":
                    self.names |= _enumerators(members[inner + 1 : _behind(members, inner) - 1])

    def declarator(self) -> bytes:
        """Pass a declarator up to its initial value, and return its name."""
        name = b""
        self.called = self.pointed = False
        while True:
            token = self.peek()
            if token == b"*" or self.skip():
                self.at += token == b"*"
            elif token == b"(" and not name:
                inner = _DeclarationReader(self.inside())
                self.pointed = b"*" in inner.tokens
                name = inner.declarator()
                if inner.at != len(inner.tokens):
                    raise _NotUnderstoodError
                self.attributes |= inner.attributes
            elif token in (b"(", b"["):
                self.called = self.called or (token == b"(" and not self.pointed)
                self.inside()
            elif not name and _WORD.fullmatch(token) and token not in _RECORDS:
                name = token
                self.at += 1
            else:
                break
        if not name:
            raise _NotUnderstoodError
        return name


def _attribute_names(tokens: Sequence[bytes]) -> set[bytes]:
    """The names in the double parentheses of an attribute."""
    if tokens[:1] != (b"(",) and list(tokens[:1]) != [b"("]:
        raise _NotUnderstoodError
    out: set[bytes] = set()
    depth = 0
    for token in tokens:
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 1 and token not in (b"(", b")", b","):
            out.add(token)
    return out


def _enumerators(members: Sequence[bytes]) -> set[bytes]:
    out: set[bytes] = set()
    index, fresh = 0, True
    while index < len(members):
        token = members[index]
        if fresh and _WORD.fullmatch(token):
            out.add(token)
        fresh = token == b","
        index = _behind(members, index) if token in _OPEN else index + 1
    return out


def read_declaration(tokens: Sequence[bytes]) -> Declaration | None:
    """What a top-level declaration (its tokens) declares; None if its shape is not understood."""
    if not tokens or tokens[0] == b";":
        return Declaration(frozenset())
    if tokens[0] == b"#":
        return Declaration(frozenset(), emits=tuple(tokens[1:4:1])[:3] != (b"pragma", b"GCC", b"diagnostic"))
    if tokens[0] in _ASM or tokens[0] in (b"_Static_assert", b"static_assert"):
        return Declaration(frozenset(), emits=True)
    try:
        return _read(tokens)
    except _NotUnderstoodError:
        return None


def _read(tokens: Sequence[bytes]) -> Declaration:
    reader = _DeclarationReader(tokens)
    reader.specifiers()
    types = frozenset(reader.names)
    declared: set[bytes] = set()
    is_body = defines = False
    while reader.peek() not in (b";", b"{"):
        declared.add(reader.declarator())
        if reader.peek() == b"=":
            defines = True
            while reader.peek() not in (b",", b";", b""):
                reader.at = _behind(tokens, reader.at)
        elif not reader.called and b"extern" not in reader.words and b"typedef" not in reader.words:
            defines = True
        if reader.peek() == b",":
            reader.at += 1
        elif reader.peek() == b"{" and (reader.called or reader.pointed):
            is_body = True
        elif reader.peek() != b";":
            raise _NotUnderstoodError
    if is_body:
        end = _behind(tokens, reader.at)
        if end != len(tokens):
            raise _NotUnderstoodError
        declared |= _declared_in_body(tokens[reader.at + 1 : end - 1])
        kept_apart = b"static" in reader.words or (
            {b"gnu_inline", b"__gnu_inline__"} & reader.attributes and (b"extern" in reader.words)
        )
        emits = not (_INLINE & reader.words and kept_apart)
    else:
        emits = defines
        if reader.at + 1 != len(tokens):
            raise _NotUnderstoodError
    emits = emits or reader.labelled or not reader.attributes <= _HARMLESS
    implied = any(is_implied(name) for name in declared)
    return Declaration(types | frozenset(declared), frozenset(reader.tags) - types, bool(emits), implied)


def _declared_in_body(body: Sequence[bytes]) -> set[bytes]:
    """What the body of a function declares for the whole unit: functions and variables that are `extern` there."""
    out: set[bytes] = set()
    index = 0
    while index < len(body):
        if body[index] in _ATTRIBUTE or body[index] in _TYPEOF:
            if index and body[index - 1] == b")":
                raise _NotUnderstoodError  # a function may be declared without `extern`
            while index < len(body) and (body[index] in _ATTRIBUTE or body[index] in _TYPEOF):
                index = _behind(body, index + 1)
            continue
        if body[index] == b"extern":
            end = index
            while end < len(body) and body[end] != b";":
                end = _behind(body, end)
            found = _read(body[index : end + 1])
            if found.emits:
                raise _NotUnderstoodError
            out |= found.names
            index = end
        index += 1
    return out
