# SPDX-License-Identifier: GPL-2.0-or-later
"""Large inputs of every kind that kgbuild reads, made to find what takes the square of their size.

`KINDS` has a row for each: a function that makes an input of about `size` pieces and gives what reads it. Reading may
end with a KgbuildError; what counts is how many steps it takes (tests/tools/test_linear.py).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress

from kgbuild.csource.definitions import FUNCTION, read_items
from kgbuild.csource.header_impact import changed_names, read_pieces
from kgbuild.csource.include_graph import read_includes
from kgbuild.csource.lexer import read_tokens
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.csource.text_spans import find_function, find_variable, mask, postfix_start, struct_body
from kgbuild.csource.token_equality import same_active
from kgbuild.csource.token_pasting import PasteChain, Pastes, has_word, read_aliases, read_chains, read_words
from kgbuild.debuginfo.btf import Btf
from kgbuild.debuginfo.compile_flags import find_optimized, optimize_macros
from kgbuild.debuginfo.type_comparison import Comparison
from kgbuild.debuginfo.type_graph import read_types
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.elf.consts import ET, SHF, SHT
from kgbuild.elf.read import EHDR, SHDR
from kgbuild.elf.read import read as read_elf
from kgbuild.estimation.source_changes import compare_items, spread, users_of
from kgbuild.guest.channel import ChannelParser
from kgbuild.guest.kernel_log import find_faults, parse_console, parse_raw
from kgbuild.guest.loaded_patches import compare_patches, describe_loads, parse_patches
from kgbuild.guest.session import group_stalled
from kgbuild.host.modules.files import read_modinfo
from kgbuild.kernel.config import parse_config
from kgbuild.kernel.exports import parse_symvers
from kgbuild.kernel.parent_symtab import read_parent
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.ledger.btf import _BtfTypes as _Btf
from kgbuild.patch.added_code import measure_code
from kgbuild.patch.apply import apply_file
from kgbuild.patch.include_policy import check_dependencies, check_includes
from kgbuild.patch.kept_changes import find_missing_changes, from_note, read_change
from kgbuild.patch.line_directives import with_line_directives
from kgbuild.patch.mail import split_lines
from kgbuild.patch.tree_paths import choose_path, classify, find_strip
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.proof.record import ALGORITHM, SCHEMA, VERSION, parse_record
from kgbuild.releases.config import parse_config as parse_directory
from kgbuild.releases.decide import decide
from kgbuild.releases.mail_metadata import read_metadata
from tests.support.fix_cases import SourceInMemory
from tests.support.toolchain import compile_text

Read = Callable[[], object]
CONFIG = Conditions({}, False)


def diff_of(path: str, before: list[str], after: list[str]) -> str:
    """A patch of one hunk that takes all of the old lines and puts the new ones there."""
    head = f"--- a/{path}\n+++ b/{path}\n@@ -1,{len(before)} +1,{len(after)} @@\n"
    return head + "".join(f"-{line}\n" for line in before) + "".join(f"+{line}\n" for line in after)


def parsing(text: str) -> Read:
    """Reading a patch."""
    data = text.encode()
    return lambda: parse_patch("x.patch", data)


def groups_in_groups(size: int) -> Read:
    """Groups of kernels of which each names the next one twice."""
    rows = "".join(f'g{i} = ["@g{i + 1}", "@g{i + 1}"]\n' for i in range(size))
    text = f"version = 1\nkernels = ['@g0']\n[groups]\n{rows}g{size} = ['local:x']\n"
    return lambda: parse_directory(text).expand(["@g0"])


def many_files(size: int) -> str:
    return "".join(diff_of(f"fs/f{i}.c", ["a"], ["b"]) for i in range(size))


def many_hunks(size: int) -> str:
    hunks = "".join(f"@@ -{3 * i + 1},2 +{3 * i + 1},2 @@\n-a\n+b\n c\n" for i in range(size))
    return f"--- a/x.c\n+++ b/x.c\n{hunks}"


def nested_mail(size: int) -> str:
    """Parts inside each other, `size` deep."""
    heads = "".join(f'Content-Type: multipart/mixed; boundary="b{i}"\n\n--b{i}\n' for i in range(size))
    return f"From: a\nSubject: x\n{heads}Content-Type: text/plain\n\n{diff_of('x.c', ['a'], ['b'])}"


def wide_mail(size: int) -> str:
    """As many parts beside each other."""
    parts = f"--b\nContent-Type: text/plain\n\n{diff_of('x.c', ['a'], ['b'])}" * size
    return f'From: a\nSubject: x\nContent-Type: multipart/mixed; boundary="b"\n\n{parts}--b--\n'


def applying(lines: list[str], patch: str) -> Read:
    """Applying a patch of one file to a text."""
    file = parse_patch("x.patch", patch.encode()).files[0]
    text = "".join(f"{line}\n" for line in lines).encode()
    return lambda: apply_file(text, file, "x.c")


def equal_lines(size: int, shift: int) -> Read:
    """A hunk that fits everywhere, and is not where it says."""
    context = "".join(" x\n" for _ in range(size // 2))
    hunk = f"@@ -{1 + shift},{size // 2} +{1 + shift},{size // 2 + 1} @@\n{context}+y\n"
    return applying(["x"] * size, f"--- a/x.c\n+++ b/x.c\n{hunk}")


def failing_hunks(size: int) -> Read:
    """Hunks of which none applies, each of common lines."""
    hunks = "".join(f"@@ -{3 * i + 1},2 +{3 * i + 1},2 @@\n-no{i}\n+b\n x\n" for i in range(size))
    return applying(["x"] * size, f"--- a/x.c\n+++ b/x.c\n{hunks}")


def directives(text: str) -> Read:
    """Line numbers for a text in which every other line is new."""
    lines = split_lines(text.encode())
    final = [(line, None if i % 2 else i + 1) for i, line in enumerate(lines)]
    return lambda: with_line_directives("x.c", final)


def policy(text: str) -> Read:
    """What patched code may read, of a text."""
    data = text.encode()
    return lambda: check_includes("fs/x.c", data)


def cutting(text: str) -> Read:
    """The definitions of a text."""
    data = text.encode()
    return lambda: read_items(data, CONFIG)


def scanning(text: str) -> Read:
    """Everything that looks at a text as a whole."""
    data = text.encode()

    def read() -> None:
        read_tokens(data)
        read_pieces(data)
        read_includes(data)
        read_words(data)
        read_aliases(data)
        list(read_chains(data))
        find_optimized(text, optimize_macros([text]))
        same_active(data, data + b"\n;")
        measure_code(data)
        read_items(data, CONFIG)
        check_includes("fs/x.c", data)
        masked = mask(text)
        find_variable(text, masked, "wanted")
        find_function(masked, "wanted")
        struct_body(text, masked, "s")

    return read


def keeping(before: list[str], after: list[str]) -> Read:
    """A change as a module's note keeps it, and looked for again."""
    old, new = ("".join(f"{line}\n" for line in lines).encode() for lines in (before, after))
    numbers = [None] * len(after)

    def read() -> None:
        change = read_change(old, numbers, new)
        find_missing_changes({"x.c": change}, {"x.c": (old, numbers, new)})

    return read


def interleaved(size: int) -> Read:
    """A line put in behind each of many equal ones."""
    old = b"x\n" * size
    new = b"x\nx\n" * size
    numbers = [n for i in range(size) for n in (i + 1, None)]
    return lambda: read_change(old, numbers, new)


def postfixes(size: int) -> Read:
    text = "a->b[1].c(x)." * size + "end"
    return lambda: postfix_start(text, len(text))


def proof(size: int) -> Read:
    row = dict.fromkeys(("object", "name", "kind", "how", "digest"), "x") | {"address": "0x1"}
    value = {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "digest": ALGORITHM,
        "build_ids": {str(i): "" for i in range(size)},
        "allowed": [{"option": "", "value": ""}] * size,
        "replaced": [],
        "bound": [row] * size,
    }
    text = json.dumps(value)

    def read() -> object:
        try:
            return parse_record(json.loads(text))
        except Exception as error:
            if type(error).__name__ != "BadRecord":
                raise
            return error

    return read


def feeding(pieces: list[bytes]) -> Read:
    def read() -> None:
        parser = ChannelParser()
        for piece in pieces:
            list(parser.feed(piece))

    return read


def with_modinfo(content: bytes) -> bytes:
    """An ELF file that has nothing but .modinfo."""
    strings = b"\0.modinfo\0.shstrtab\0"
    body = content + strings
    headers = (
        (0,) * 10,
        (1, SHT.PROGBITS, SHF.ALLOC, 0, EHDR.size, len(content), 0, 0, 1, 0),
        (10, SHT.STRTAB, 0, 0, EHDR.size + len(content), len(strings), 0, 0, 1, 0),
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    place = EHDR.size + len(body)
    head = EHDR.pack(ident, ET.REL, 62, 1, 0, 0, place, 0, EHDR.size, 0, 0, SHDR.size, len(headers), 2)
    return head + body + b"".join(SHDR.pack(*header) for header in headers)


def names(size: int) -> Read:
    old, new = ("".join(f"#define M{i} {word}\n" for i in range(size)).encode() for word in ("1", "2"))
    return lambda: changed_names(old, new)


def deep(size: int) -> Read:
    """A path with very many components, where a patch names it."""
    path = "a/" * size + "x.c"
    file = parse_patch("x.patch", diff_of("x.c", ["a"], ["b"]).encode()).files[0]

    def read() -> None:
        classify(path)
        find_strip([file], lambda _: False)
        choose_path(file, 1, lambda _: False)
        check_dependencies([f"/{path}"] * 3, ["/a/b", f"/{path[: len(path) // 2]}"])

    return read


def btf(size: int) -> bytes:
    """BTF of integers, each with a name that begins a byte later in one long string."""
    types = b"".join(struct.pack("<IIII", i + 1, 1 << 24, 4, 32) for i in range(size))
    strings = b"\0" + b"a" * 10 * size + b"\0"
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def naming(make: Callable[[bytes], Btf | _Btf], size: int) -> Read:
    """The names of all types, as the comparison or the ledger reads them."""
    data = btf(size)

    def read() -> None:
        found = make(data)
        with suppress(ValueError):
            for at in range(1, size):
                found.name(at)

    return read


def sections(size: int) -> bytes:
    """An object of sections that each link to the next, whose names lie inside each other."""
    strings = b"\0" + b"a" * size + b"\0.shstrtab\0"
    rows = [(0,) * 10]
    rows += [(min(i, size), SHT.PROGBITS, 0, 0, EHDR.size, 0, i + 1, 0, 1, 0) for i in range(1, size)]
    rows += [(size + 2, SHT.STRTAB, 0, 0, EHDR.size, len(strings), 0, 0, 1, 0)]
    head = EHDR.pack(
        b"\x7fELF\x02\x01\x01" + bytes(9),
        ET.REL,
        62,
        1,
        0,
        0,
        EHDR.size + len(strings),
        0,
        64,
        0,
        0,
        64,
        len(rows),
        size,
    )
    return head + strings + b"".join(SHDR.pack(*row) for row in rows)


def symbols(size: int) -> bytes:
    """An object whose symbols have names inside each other."""
    strings = b"\0" + b"a" * 10 * size + b"\0.symtab\0"
    table = bytes(24) + b"".join(struct.pack("<IBBHQQ", i, 0x10, 0, 0, 0, 0) for i in range(1, size))
    at = EHDR.size
    rows = [
        (0,) * 10,
        (10 * size + 2, SHT.SYMTAB, 0, 0, at + len(strings), len(table), 2, 1, 1, 24),
        (10 * size + 2, SHT.STRTAB, 0, 0, at, len(strings), 0, 0, 1, 0),
    ]
    head = EHDR.pack(
        b"\x7fELF\x02\x01\x01" + bytes(9), ET.REL, 62, 1, 0, 0, at + len(strings) + len(table), 0, 64, 0, 0, 64, 3, 2
    )
    return head + strings + table + b"".join(SHDR.pack(*row) for row in rows)


def renamed(keyword: str, size: int) -> Read:
    """A type whose members all have other names."""
    orig, patched = (
        read_types(read_elf(compile_text(f"{keyword} k {{ {members} }};\n{keyword} k v;\n", "-g", "-O2", "-c")))
        for members in ("".join(f"int *{letter}{i};" for i in range(size)) for letter in "ab")
    )
    at = orig.named[keyword, "k"], patched.named[keyword, "k"]
    return lambda: Comparison(orig, patched).difference(at[0][0], at[1][0])


def of_one_name(size: int) -> Read:
    """Symbols of one name, each of which is asked for."""
    text = "".join(f'asm("local{i}: ret");\n' for i in range(size))
    obj = read_elf(compile_text(text, "-c").replace(b"local", b"same\0"))

    def read() -> None:
        image = KernelImage(obj)
        for symbol in image.named("same"):
            image.is_global("same", symbol.value)

    return read


def spreading(size: int) -> Read:
    """Macros that each use the one before, of which the first changes, and functions that use them."""
    macros = "".join(f"#define M{i + 1} M{i}\n" for i in range(size))
    uses = "".join(f"int f{i}(void)\n{{\n\treturn M{i};\n}}\n" for i in range(size))
    orig, patched = (read_items(f"#define M0 {n}\n{macros}{uses}".encode(), CONFIG) for n in (1, 2))

    def read() -> None:
        changes = compare_items(orig, patched)
        list(users_of(spread(changes, [*orig, *patched]), patched, (FUNCTION,)))

    return read


def equal_items(size: int) -> Read:
    """Definitions of one name that all change."""
    orig, patched = (read_items(b"static int f(int a);\n".replace(b"a", n) * size, CONFIG) for n in (b"x", b"y"))
    return lambda: compare_items(orig, patched)


def pasting(parts: int, name: bytes) -> Read:
    """Whether one of some pastes makes a name."""
    chains = [PasteChain(b"m", (None,) * parts), PasteChain(b"n", (None, b"1") * parts)]
    pastes = Pastes(chains, (), lambda word: True)
    return lambda: pastes.making(name)


def patches_in_a_guest(size: int) -> Read:
    old, new = ("".join(f"{name}{i} 1 0\n vmlinux/f{i},1/\n" for i in range(size)) for name in ("a", "b"))
    return lambda: describe_loads([compare_patches(parse_patches(old), parse_patches(old + new))])


CLONE = "Callgraph clone;f{0};{0};x.c;1;1;f{1};{1};x.c;1;1;{2}\n"

KINDS: dict[str, Callable[[int], Read]] = {
    # the patch
    "blanks in a diff --git line": lambda n: parsing("diff --git a/a" + " a" * n + " b/a\nold mode 1\nnew mode 2\n"),
    "blanks in a file name": lambda n: parsing("--- a/" + " " * n + "x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"),
    "a name without a date": lambda n: parsing("--- a/x" + " Mon " * n + "\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"),
    "files": lambda n: parsing(many_files(n)),
    "hunks": lambda n: parsing(many_hunks(n)),
    "headers of git": lambda n: parsing("diff --git a/x b/x\n" + "index 1..2\n" * n + "old mode 1\nnew mode 2\n"),
    "renames": lambda n: parsing("diff --git a/x y b/x y\nrename from x y\nrename to x y\n" * n),
    "binary files": lambda n: parsing("diff -r a b\nBinary files a/x" + " and b" * n + "\n"),
    "lines of prose": lambda n: parsing("Only in x: y\n" * n + "1a2\n" * n),
    "a series": lambda n: parsing("a.patch -p1\n" * n),
    "mails inside each other": lambda n: parsing(nested_mail(n)),
    "parts of a mail": lambda n: parsing(wide_mail(n)),
    "mails": lambda n: parsing(f"From a Mon Jan 1 2024\nSubject: [a] {n}\n\n{diff_of('x.c', ['a'], ['b'])}" * n),
    "lines of a header": lambda n: parsing("Subject: x\n" + " y\n" * n + "\n" + diff_of("x.c", ["a"], ["b"])),
    "subjects in brackets": lambda n: parsing("Subject: " + "[a] [" * n + "\n\n" + diff_of("x.c", ["a"], ["b"])),
    "encoded words": lambda n: parsing("Subject: " + "=?x?q?y?= " * n + "\n\n" + diff_of("x.c", ["a"], ["b"])),
    "equal lines": lambda n: equal_lines(n, 0),
    "equal lines elsewhere": lambda n: equal_lines(n, 7),
    "hunks that fail": failing_hunks,
    "components of a path": deep,
    # C as text
    "#if inside #if": lambda n: scanning("#if A\n" * n + "x;\n" + "#endif\n" * n),
    "#if after #if": lambda n: scanning("#if A\nx;\n#elif B\n#else\n#endif\n" * n),
    "numbered #if inside #if": lambda n: directives("#if A\nx;\n" * n + "#else\n#endif\n" * n),
    "numbered lines": lambda n: directives("int x;\n/* a */ f(\n);\n" * n),
    "else if": lambda n: scanning("void f(void)\n{\n" + "\tif (a)\n\t\tb();\n\telse\n" * n + "\t\tc();\n}\n"),
    "functions": lambda n: scanning("".join(f"int f{i}(int a)\n{{\n\treturn a;\n}}\n" for i in range(n))),
    "braces": lambda n: cutting("struct x " + "{ 1 } " * n),
    "old declarations": lambda n: cutting("int f(a) int a; " + "int a; " * n + "{ }"),
    "brackets": lambda n: scanning("x = " + "({[" * n + "]})" * n + ";"),
    "operators": lambda n: scanning("#if " + "!" * n + "1\n#endif\n"),
    "parentheses in #if": lambda n: scanning("#if " + "(" * n + "1" + ")" * n + "\n#endif\n"),
    "shifts": lambda n: scanning("#if 1" + " << 64" * n + "\n#endif\n"),
    "comments": lambda n: scanning("/**/" * n + "x\n"),
    "comments without an end": lambda n: scanning("x /*" * n),
    "quotes": lambda n: scanning('"' * n + "\n" + '\\"' * n + "\n'" + "\\'" * n),
    "a long string": lambda n: scanning('x = "' + "a" * n + '"' + '"b" ' * n + ";"),
    "continued lines": lambda n: scanning("#define x \\\n" + "y \\\n" * n + "\n" + "\\ " * n),
    "empty lines": lambda n: scanning("\n" * n + " \n" * n),
    "words on lines": lambda n: scanning("word\n" * n + "word, word(a)\n" * n),
    "a long word": lambda n: scanning("a" * n + "\n#define " + "b" * n + "\n#define x" + " " * n + "\n"),
    "pastes": lambda n: scanning("#define x(a) " + "a" * n + " " + "a ## b " * n + "\n" + "#define y a##b\n" * n),
    "includes": lambda n: scanning('#include "a.h"\n#include <b.h>\n#include X\n' * n),
    "long includes": lambda n: scanning('#include "' + "a" * n + '"\n#define X "' + "a.c" * n + "\n"),
    "__has_include": lambda n: policy("#if " + "__has_include(<" * n + "\n#endif\n"),
    "assembler strings": lambda n: policy('asm(".x" "y");\n_Pragma("a")\n' * n + "asm(" + '"a" ' * n + ");\n"),
    "digraphs": lambda n: policy("%:define x\n??=define y\n" * n),
    "optimize": lambda n: scanning("__attribute__((optimize(1)))\n#pragma GCC optimize 1\n#define a optimize(\n" * n),
    "macros that change": names,
    "members": lambda n: scanning("struct s {\n" + "\tint a;\n#ifdef B\n\tint b[2];\n#endif\n" * n + "};\n"),
    "postfix expressions": postfixes,
    "a word in a word": lambda n: lambda: has_word(b"a" * n, b"a"),
    # a directory of fixes
    "keys": lambda n: lambda: parse_directory("version = 1\n" + "".join(f"a{i} = [1, 'x']\n" for i in range(n))),
    "items": lambda n: lambda: parse_directory("version = 1\nkernels = [" + '"a", # x\n' * n + "]\n"),
    "fixes": lambda n: (
        lambda: parse_directory(
            "version = 1\n" + "".join(f'[[fix]]\nid = "a{i}"\nafter = ["a{i + 1}"]\n' for i in range(n))
        )
    ),
    "groups in groups": groups_in_groups,
    "trailers of a mail": lambda n: (
        lambda: read_metadata([("x", b"Subject: x\n\n" + b"Fixes: 1234567 CVE-2026-1234\n" * n)])
    ),
    "hunks of a fix that is not there": lambda n: (
        lambda: decide([parse_patch("x", many_hunks(n).encode())], SourceInMemory({"x.c": "int y;\n" * n}))
    ),
    # what a note keeps of a change
    "lines that give way": lambda n: keeping([f"a{i}" for i in range(n)], [f"b{i}" for i in range(n)]),
    "equal lines that give way": lambda n: keeping(["x"] * n, ["y", "x"] * n),
    "lines put in": interleaved,
    "a note that lies": lambda n: (
        lambda: find_missing_changes(
            from_note({"x.c": {"original": "", "hunks": [[10**12 + i, 10**12, []] for i in range(n)]}}), {}
        )
    ),
    # what the compiler, the kernel and a guest say
    "clones": lambda n: lambda: parse_ipa_clones("".join(CLONE.format(i, i + 1, "isra") for i in range(n))),
    "histories of clones": lambda n: (
        lambda: parse_ipa_clones("".join(CLONE.format(i, i + 1, "isra") for i in range(n))).history(f"f{n}")
    ),
    "lines of a log": lambda n: lambda: find_faults(parse_raw("<4>[ 1.0] WARNING: x\n<4>[ 1.1] Call Trace:\n" * n)),
    "a long line of a log": lambda n: lambda: find_faults(parse_raw("rcu: " * n + "\nlivepatch: " + "failed 'a" * n)),
    "a console": lambda n: lambda: find_faults(parse_console("[    1.0] ------------[ cut here ]------------\n" * n)),
    "records": lambda n: feeding([b"kgb %d 1.0 phase a=b c64=eA== .\n" % i for i in range(n)]),
    "a record without an end": lambda n: feeding([b"kgb a=b "] * n),
    "modinfo": lambda n: lambda: read_modinfo(with_modinfo(b"".join(b"k%d=v\0" % i for i in range(n)))),
    "settings": lambda n: lambda: parse_config("".join(f"CONFIG_A{i}=y\n" for i in range(n))),
    "exports": lambda n: lambda: parse_symvers("".join(f"0x1\ts{i}\tvmlinux\tEXPORT_SYMBOL\t\n" for i in range(n))),
    "symbols": lambda n: lambda: read_parent(b"".join(b"%x T s%d\n" % (i, i) for i in range(n)), "x", ()),
    "proofs": proof,
    # names inside each other, and what follows from names
    "names in BTF": lambda n: naming(Btf, n),
    "names in BTF for the ledger": lambda n: naming(_Btf, n),
    "sections": lambda n: lambda: read_elf(sections(n)),
    "names of symbols": lambda n: lambda: read_elf(symbols(n)),
    "symbols of one name": of_one_name,
    "renamed members of a structure": lambda n: renamed("struct", n),
    "renamed members of a union": lambda n: renamed("union", n),
    "macros with an optimize attribute": lambda n: (
        lambda: find_optimized("f" * 30 + "\nint f(void);" * n, frozenset(f"m{i}" for i in range(n)))
    ),
    "macros that use each other": spreading,
    "definitions of one name": equal_items,
    "parts of a paste": lambda n: pasting(n, b"1" * 8),
    "a pasted name": lambda n: pasting(8, b"1" * 30 * n),
    "ways to paste a name": lambda n: pasting(min(n, 60), b"1" * 60),
    "live patches": patches_in_a_guest,
    "stalled tasks": lambda n: lambda: group_stalled("".join(f"t{i} {i}\n    f{i}+0x0\n" for i in range(n))),
}
