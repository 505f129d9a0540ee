# SPDX-License-Identifier: GPL-2.0-or-later
"""Small C files compiled as the kernel compiles, for the tests of the core. Results are kept (store.py)."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from kgbuild.arch import default_arch
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, write
from kgbuild.host.compile.assembler import convert, make_assembler, restore_types
from kgbuild.objects.view import View
from tests.support.store import digest_of, is_stored, program, stored

CC = shutil.which("gcc-12") or shutil.which("gcc") or "gcc-12"
CLANG = "clang"
PAIRS = Path(__file__).resolve().parents[1] / "objects" / "pairs"
# What the kernel's code looks like: no PIC, top 2 GB, traceable functions.
KERNEL_FLAGS = (
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Werror",
    "-Wno-unused",
    "-fno-strict-aliasing",
    "-fno-pie",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-sse",
    "-ffreestanding",
    "-fno-common",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    "-pg",
    "-mfentry",
    "-mrecord-mcount",
)
# clang makes no __mcount_loc on x86; the kernel leaves that to objtool. Options that it ignores are no fault here.
CLANG_FLAGS = (*(f for f in KERNEL_FLAGS if f != "-mrecord-mcount"), "-Qunused-arguments")
_INCLUDE = re.compile(rb"^[ \t]*#[ \t]*include\b(.*)$", re.MULTILINE)
# Options that read other files, or write more than an object.
_BESIDES = ("-I", "-i", "-B", "-M", "-Wp,", "-Wa,", "-fdump", "-fplugin", "-save", "-gsplit", "@")
# What kgbuild adds to compile a unit for comparison.
SPLIT_FLAGS = ("-ffunction-sections", "-fdata-sections")


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kgbuild-tests-")


def scratch() -> Path:
    """A directory of this session's."""
    return Path(_scratch().name)


def empty_vmlinux(folder: Path) -> Path:
    """A vmlinux with nothing in it, for tests in which a kernel only has to be one of this architecture."""
    path = folder / "vmlinux"
    path.write_bytes(write(OutObject(default_arch().machine)))
    return path


def run(*argv: str | Path, stdin: bytes | None = None, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, cwd=cwd, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr.decode()}"
    return done.stdout.decode()


@cache
def compile_file(path: Path, *flags: str, compiler: str = CC) -> bytes:
    """The object of one C file, compiled with these flags alone."""
    key = _key(path, flags, compiler)
    return _compile(path, flags, compiler) if key is None else stored(key, lambda: _compile(path, flags, compiler))


def _key(path: Path, flags: tuple[str, ...], compiler: str) -> object:
    """All that goes into the object of a file; None where that is not known."""
    text = path.read_bytes()
    included = {m[1].strip() for m in _INCLUDE.finditer(text)}
    if included - {b'"kernel.h"'} or b".incbin" in text or any(f.startswith(_BESIDES) for f in flags):
        return None
    what = (path.name, hashlib.sha256(text).hexdigest(), digest_of(PAIRS / "kernel.h") if included else "", flags)
    return "compile", what, _programs(compiler)


@cache
def _programs(compiler: str) -> tuple[object, ...]:
    """What makes an object of a file, this one included."""
    own = (digest_of(Path(__file__)), digest_of(Path(make_assembler.__code__.co_filename)))
    if compiler != CC:
        return own, program(shutil.which(compiler) or compiler), run(compiler, "--version")
    parts = [real_assembler(), run(CC, "-print-prog-name=cc1").strip()]
    return own, program(CC), *(program(shutil.which(part) or part) for part in parts)


def _compile(path: Path, flags: tuple[str, ...], compiler: str) -> bytes:
    digest = hashlib.sha256(repr((path, flags, compiler)).encode()).hexdigest()[:16]
    out = scratch() / f"{path.stem}-{digest}.o"
    if compiler != CC or not assembler():
        run(compiler, *flags, "-I", PAIRS, "-c", path.name, "-o", out, cwd=path.parent)
        return out.read_bytes()
    # what gcc does with kgbuild's assembler, in two processes less
    words = [path.name if word == _ANY else word for word in _compiler(flags)]
    text = subprocess.run(words, cwd=path.parent, capture_output=True, check=False)
    kept, _ = convert(text.stdout, False)
    debug = any(f.startswith("-g") and f != "-g0" for f in flags)
    own = any(f.startswith(("-gz", "-Wa,")) for f in flags)  # for the assembler
    if own or text.returncode or not _assembled(kept, out, ["--gdwarf-5"] if debug else []):
        run(CC, *flags, *assembler(), "-I", PAIRS, "-c", path.name, "-o", out, cwd=path.parent)
    return restore_types(out.read_bytes())


_ANY = "any file.c"


@cache
def _compiler(flags: tuple[str, ...]) -> list[str]:
    """The compiler proper, and what gcc gives it to make assembly on standard output of the file _ANY."""
    argv = [CC, "-###", *flags, "-I", str(PAIRS), "-S", _ANY, "-o", "-"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stderr
    (words,) = (words for line in said.splitlines() if (words := line.split()) and words[0].endswith("/cc1"))
    return shlex.split(" ".join(words))


def _assembled(text: bytes, out: Path, options: Sequence[str]) -> bool:
    argv = [real_assembler(), *options, "--64", "-o", str(out)]
    return subprocess.run(argv, input=text, capture_output=True, check=False).returncode == 0


@cache
def real_assembler() -> str:
    return run(CC, "-print-prog-name=as").strip()


@cache
def assembler() -> tuple[str, ...]:
    """Options by which gcc assembles as kgbuild has it do."""
    return ("-pipe", *make_assembler(scratch() / "bin", real_assembler()))


def compile_text(text: str, *flags: str, name: str = "unit.c", compiler: str = CC) -> bytes:
    """The object of a C text; its file is called `name`."""
    folder = scratch() / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    path = folder / name
    if not path.exists():
        path.write_text(text)
    return compile_file(path, *flags, compiler=compiler)


def pair_flags(flags: Iterable[str] = (), *, split: bool = True, compiler: str = CC) -> tuple[str, ...]:
    """Flags of one side of a pair."""
    return (*(CLANG_FLAGS if compiler == CLANG else KERNEL_FLAGS), *(SPLIT_FLAGS if split else ()), *flags)


def compile_pair_side(name: str, *flags: str, split: bool = True, compiler: str = CC) -> bytes:
    """`pairs/NAME.c` compiled with -DPATCHED or the like among `flags`."""
    return compile_file(PAIRS / f"{name}.c", *pair_flags(flags, split=split, compiler=compiler), compiler=compiler)


def compile_all(jobs: Sequence[tuple[str, tuple[str, ...], str]]) -> None:
    """Compile sides of pairs (name, flags, compiler) in parallel, so that the tests find them done."""
    together: dict[tuple[str, ...], list[Path]] = {}
    for name, flags, compiler in jobs:
        if compiler == CLANG:
            together.setdefault(pair_flags(flags, compiler=CLANG), []).append(PAIRS / f"{name}.c")
    for all_flags, paths in together.items():
        _clang_together(paths, all_flags)
    scratch()  # before there are threads
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: compile_pair_side(job[0], *job[1], compiler=job[2]), jobs))


def without_btf(data: bytes) -> bytes:
    """An object compiled with -g -gbtf as -g alone makes it, for who looks for BTF: the section has another name."""
    assert data.count(b"\0.BTF\0") == 1
    return data.replace(b"\0.BTF\0", b"\0.FTB\0")


def _clang_together(paths: Sequence[Path], flags: tuple[str, ...]) -> None:
    """Put the objects of files with the same flags into the store. It takes clang longer to start than to compile one,
    and its compiler proper takes any number."""
    keys = {path: key for path in paths if (key := _key(path, flags, CLANG)) is not None and not is_stored(key)}
    if len(keys) < 2:
        return
    with tempfile.TemporaryDirectory(prefix="kgbuild-tests-") as folder:
        for path in keys:
            (Path(folder) / path.name).symlink_to(path)
        first = next(iter(keys)).name
        argv = [CLANG, "-###", *flags, "-I", str(PAIRS), "-c", first, "-o", "out.o"]
        said = subprocess.run(argv, capture_output=True, text=True, cwd=folder, check=True).stderr
        (words,) = (found for line in said.splitlines() if '"-cc1"' in line and (found := shlex.split(line)))
        for option, value in (("-o", "out.o"), ("-main-file-name", first)):  # of one file only
            at = words.index(option)
            assert words[at + 1] == value
            del words[at : at + 2]
        assert words.pop() == first
        run(*words, *(path.name for path in keys), cwd=Path(folder))
        for path, key in keys.items():
            data = (Path(folder) / path.name).with_suffix(".o").read_bytes()
            stored(key, lambda data=data: data)


def obj(data: bytes) -> Object:
    return read(data)


def view(data: bytes) -> View:
    return View(read(data))
