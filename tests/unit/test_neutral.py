# SPDX-License-Identifier: GPL-2.0-or-later
"""What is true of one architecture or one distribution only is said in its own place, and nowhere else.

Looked at are names and texts of the code. Comments and docstrings may cite a file of the kernel's (arch/x86/...) or an
example; they decide nothing.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from tests.support.sources import nodes_of, text_of

PACKAGE = Path(__file__).resolve().parents[2] / "kgbuild"

X86 = re.compile(
    r"x86|amd64|i386|(?<![a-z])iced(?![a-z])|endbr|retpoline|rethunk|bzimage|ttys0|q35|qemu-system|iopl|r_x86_64|em_x86|kaslr|"
    r"(?<![a-z])(?:rip|rax|rbx|rcx|rdx|rsi|rdi|rsp|rbp|int3(?!2)|ud2|movabs|nop5|apic|tsc)(?![a-z])",
    re.IGNORECASE,
)
DEBIAN = re.compile(
    r"(?<![a-z])(?:apt-get|apt-cache|apt|dpkg-deb|dpkg|debs|deb|madison|debian)(?![a-z])", re.IGNORECASE
)

# (file or folder, a word) -> why it is there. Emptier is better.
X86_ALLOWED = {
    ("arch/__init__.py", "x86"): "the registry: e_machine and the folder",
    ("kernel/section_readers.py", "x86"): "a table for people, which cites the linker script that each row is from",
    ("kernel/section_readers.py", "retpoline"): "the same table: names of sections",
    ("kernel/section_readers.py", "rethunk"): "the same table: names of sections",
    ("kernel/section_readers.py", "endbr"): "the same table: names of sections",
    ("kernel/section_readers.py", "APIC"): "the same table: what a section holds",
    ("kernel/feature_probes.py", "x86"): "probes are shown in docs/probes.md with the file or option that they look at",
    ("kernel/feature_probes.py", "endbr"): "the same page",
    ("kernel/feature_probes.py", "retpoline"): "the same page",
    ("diagnostics", "endbr"): "codes and rules keep their texts; V32-endbr and K21-endbr are contracts",
    ("closure/passes/ibt.py", "endbr"): "raises K21-endbr",
    ("verification/ibt.py", "endbr"): "raises V32-endbr",
    ("host/kernels/build_id.py", "bzImage"): "what a message calls the file of the user",
    ("cli", "bzImage"): "a help text that names what users have",
    ("patch/tree_paths.py", "x86"): "which files of the kernel's tree are no code that can be patched, by their paths",
    ("host/system/required_packages.py", "qemu-system"): "which package has a program, of all that kgbuild may run",
    ("host/system/required_packages.py", "x86"): "the same table",
}
DEBIAN_ALLOWED = {
    ("host/archives/apt.py", ""): "what speaks to the archive",
    ("host/archives/apt_suites.py", ""): "what keeps the lists of an archive's suites",
    ("host/archives/apt_toolchain.py", ""): "what asks the archive for compilers",
    ("host/archives/archive.py", "apt"): "the registry of archives",
    ("host/archives/suites.py", "apt"): "the registry of archives of suites",
    ("host/system/required_packages.py", ""): "how this machine, whatever kernel is patched, installs a program",
    ("host/system/children.py", "APT"): "variables that tell how to reach the network",
    ("host/archives/recipe.py", "debian"): "an example in a remedy",
    ("host/kernels/acquire.py", "debian"): "an example in a remedy",
    ("arch", "deb"): "what packages call an architecture, one row each",
    ("delivery", ""): "the packages of distributions, as texts",
    ("host/delivery", ""): "the programs that make packages and repositories",
    ("pipeline/delivery", ""): "packages and repositories",
    ("cli/delivery", ""): "options and help of package and repo",
    ("cli/main.py", "apt"): "the help of repo",
    ("cli", "debian"): "examples in help texts",
    ("host/releases/directory.py", "debian"): "examples in a file that is made for a user",
    ("releases/config.py", "deb"): "a key of kgbuild.toml: which packages are made of a release",
    ("pipeline/releases/packages.py", "deb"): "makes these packages",
    ("pipeline/releases/kernels.py", "debian"): "an example in a remedy",
    ("host/patches/patch_sources.py", "debian"): "reads patches out of a source package of this distribution",
    ("releases/vex.py", ""): "names packages as formats of others do, which list the distributions",
}


@cache
def code_of(path: Path) -> tuple[tuple[int, str], ...]:
    """(line, text) of the names and strings of a file, its docstrings and comments left out."""
    text = text_of(path)
    docstrings = {
        node.body[0].lineno for node in nodes_of(path) if isinstance(node, _DOCUMENTED) and ast.get_docstring(node)
    }
    out = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_code = token.type == tokenize.NAME or token.type in _TEXTS
        if is_code and not (token.type == tokenize.STRING and token.start[0] in docstrings):
            out.append((token.start[0], token.string))
    return tuple(out)


_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# text between the braces of an f-string is a token of its own from Python 3.12 on
_TEXTS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def found(words: re.Pattern[str], own: str) -> dict[tuple[str, str], list[str]]:
    """Every word outside its own folder, by file and word, with the places."""
    out: dict[tuple[str, str], list[str]] = {}
    for path in FILES:
        name = str(path.relative_to(PACKAGE))
        if (own and name.startswith(own)) or not words.search(text_of(path)):
            continue  # its own place; or the text has none, and most have none, so that they need not be read further
        for line, text in code_of(path):
            for word in words.findall(text):
                out.setdefault((name, word), []).append(f"{name}:{line}: {text.strip()[:60]}")
    return out


def is_allowed(key: tuple[str, str], allowed: dict[tuple[str, str], str]) -> tuple[str, str] | None:
    """The row that allows a word in a file."""
    file, word = key
    for place, of in allowed:
        if of.lower() in ("", word.lower()) and (file == place or file.startswith(f"{place}/")):
            return place, of
    return None


@pytest.mark.parametrize(
    ("words", "own", "allowed"),
    [(X86, "arch/x86_64/", X86_ALLOWED), (DEBIAN, "", DEBIAN_ALLOWED)],
    ids=["architecture", "distribution"],
)
def test_words_stay_where_they_belong(words: re.Pattern[str], own: str, allowed: dict[tuple[str, str], str]) -> None:
    hits = found(words, own)
    wrong = [place for key, places in hits.items() if is_allowed(key, allowed) is None for place in places]
    assert not wrong, "\n".join(wrong)
    used = {row for key in hits if (row := is_allowed(key, allowed)) is not None}
    assert not {*allowed} - used, "rows that allow what is no longer there"
    assert all(allowed.values())


def test_the_words_are_found(tmp_path: Path) -> None:
    """The test above looks at names and texts, and passes over what only explains."""
    path = tmp_path / "a.py"
    lines = ('"""arch/x86/kernel/module.c"""', 'ENDBR = f("R_X86_64_64")  # bzImage', 'rip_relative = "apt-get update"')
    path.write_text("\n".join(lines) + "\n")
    words = [word for _, text in code_of(path) for word in (*X86.findall(text), *DEBIAN.findall(text))]
    assert words == ["ENDBR", "R_X86_64", "rip", "apt-get"]


ORDER = re.compile(r"""^[rbf]*["'](?:little|big|[<>][bBhHiIqQ0-9]+s?|[<>][iuf][248])["']$""")
ORDER_SOMEWHERE = re.compile(ORDER.pattern.strip("^$"))  # in a text that is not yet read by tokens
ORDER_ALLOWED = {
    "arch/": "an architecture's own code and tables have its byte order",
    "elf/records.py": "where byte order is read from a file",
    "verification/reading/reader.py": "where the independent reader reads it from a file",
    "debuginfo/line_table.py": "asks which order an object has",
    "host/compile/result_cache.py": "a format of kgbuild's own",
    "host/compile/shared_objects.py": "a format of kgbuild's own",
    "remedy/rewrite.py": "a digest as a number",
}


def test_byte_order_comes_from_the_object() -> None:
    """A number in an object is read in the object's order: no literal says another one."""
    wrong, used = [], set()
    for path in FILES:
        name = str(path.relative_to(PACKAGE))
        for line, text in code_of(path) if ORDER_SOMEWHERE.search(text_of(path)) else ():
            if ORDER.match(text):
                place = next((p for p in ORDER_ALLOWED if name.startswith(p)), None)
                used.add(place)
                if place is None:
                    wrong.append(f"{name}:{line}: {text}")
    assert not wrong, "\n".join(wrong)
    assert used == {*ORDER_ALLOWED}
