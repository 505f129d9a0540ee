# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands read besides the objects of `kgbuild diff`, broken: modules, proof records, patches and mails, what a
guest and the compiler say, and all of it compressed.

An input is made from its number alone, as those of target.py are. Nothing but a KgbuildError may come of one.
"""

from __future__ import annotations

import gzip
import json
import lzma
import random
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path

import zstandard

from kgbuild.csource.definitions import read_items
from kgbuild.csource.include_graph import read_includes
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.csource.token_pasting import read_chains
from kgbuild.debuginfo.compile_flags import find_optimized
from kgbuild.decompression import READERS, decompress
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.elf.read import read
from kgbuild.errors import KgbuildError
from kgbuild.guest.channel import ChannelParser
from kgbuild.guest.kernel_log import find_faults, parse_console, parse_raw
from kgbuild.host.modules.files import depends_of, read_modinfo
from kgbuild.host.modules.images import name_modules
from kgbuild.host.modules.out_of_tree import exports_of
from kgbuild.host.system.input_files import read_packed
from kgbuild.host.vm.patch_targets import has_functions, read_targets
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.livepatch.foreign_patches import read_other
from kgbuild.patch.apply import apply_file
from kgbuild.patch.compile_effects import find_effects, may_hide
from kgbuild.patch.include_policy import check_includes
from kgbuild.patch.kept_changes import find_missing_changes, from_note
from kgbuild.patch.line_directives import with_line_directives
from kgbuild.patch.tree_paths import check_kind, check_path, choose_path, find_strip
from kgbuild.patch.unified_diff import parse_patch, printable
from kgbuild.pipeline.stages.verify import read_record
from kgbuild.proof.record import record_json
from kgbuild.verification.checks import check_module
from kgbuild.verification.reading.patch_manifest import read_older
from kgbuild.verification.reading.reader import read_module
from tests.fuzz.breaking import broken, file_of
from tests.fuzz.documents import DOCUMENT_USES
from tests.fuzz.mutate import Breaker
from tests.support.small_module import ARCH, FACTS, NAME, Small
from tests.support.small_record import GOOD
from tests.support.small_target import MODULE_FACTS, SmallTarget

CASES = Path(__file__).resolve().parents[1] / "kernel"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
LOG = b"""<4>[   12.345678] ------------[ cut here ]------------
<4>[   12.345679] WARNING: CPU: 0 PID: 1 at fs/proc/version.c:12 f+0x1/0x2
<6>[   12.345680] livepatch: enabling patch 'x'
<4>[   12.345681] Call Trace:
<4>[   12.345682]  <TASK>
<4>[   12.345683] ---[ end trace 0000000000000000 ]---
<14>[   12.345684] kgbuild: user
kgb 1 12.5 phase name=load ok=1 text64=aGVsbG8= .
"""
CLONES = b"""Callgraph clone;f;12;fs/x.c;10;5;g;13;fs/x.c;20;5;inlining to
Callgraph clone;f;12;fs/x.c;10;5;f.isra.0;14;fs/x.c;10;5;isra
Callgraph removal;f;12;fs/x.c;10;5
"""


class _Seeds:
    """Intact files of every kind."""

    @cached_property
    def modules(self) -> tuple[Breaker, ...]:
        return Breaker(Small().data), Breaker(SmallTarget().data)

    @cached_property
    def patches(self) -> tuple[bytes, ...]:
        paths = sorted(CASES.rglob("*.patch"))
        texts = [path.read_bytes() for path in paths if path.stat().st_size < 20_000]
        head = b"From: a\nSubject: =?utf-8?q?x?=\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
        parts = b"Content-Transfer-Encoding: quoted-printable\n\n" + texts[0].replace(b"=", b"=3D") + b"\n--b--\n"
        return (*texts, head + parts)

    @cached_property
    def record(self) -> bytes:
        return json.dumps(record_json(GOOD)).encode()


@cache
def seeds() -> _Seeds:
    """Made once, by whom they are first asked for."""
    return _Seeds()


def use_verify(rng: random.Random) -> str:
    """`kgbuild verify`, of a module of vmlinux or of a loadable module."""
    which = rng.randrange(2)
    data = seeds().modules[which].broken(rng)
    findings = check_module(read_module(data, NAME, ARCH.machine), NAME, ARCH, (FACTS, MODULE_FACTS)[which], GOOD)
    return "findings" if findings else "no finding"


def use_module(rng: random.Random) -> str:
    """What vm, --oot-module, --on-top-of and --against take of a module. A fault in one does not keep others away."""
    data = rng.choice(seeds().modules).broken(rng)
    read_targets(data)
    has_functions(data)
    read_modinfo(data)
    depends_of(data)
    ends = [_end(step, data) for step in (_as_older, _as_other, _as_image, _as_out_of_tree)]
    return ends[rng.randrange(len(ends))]


def _end(step: Callable[[bytes], None], data: bytes) -> str:
    try:
        step(data)
    except KgbuildError as error:
        return type(error).__name__
    return "read"


def _as_older(data: bytes) -> None:
    older = read_older(data, "x.ko")
    if older.changes is not None:
        find_missing_changes(older.changes, dict.fromkeys(older.changes, (b"a\nb\n", (1, 2), b"a\nb\n")))


def _as_other(data: bytes) -> None:
    read_other(read(data), "x.ko")


def _as_image(data: bytes) -> None:
    image = ModuleImage(read(data), "x")
    _ = image.modinfo, image.depends, image.build_id, image.note_anchor, image.release
    for symbol in image.obj.iter_symbols():
        placed = image.symbol_at(symbol.index)
        image.read(placed.value, min(placed.size, 1 << 16))
        image.section_at(placed.value)
        image.sympos(symbol.name, placed.value)
        image.functions_at(placed.value)


def _as_out_of_tree(data: bytes) -> None:
    modules = name_modules([file_of("x.ko", data)])
    exports_of(modules)


def use_record(rng: random.Random) -> str:
    """`kgbuild verify --proof`."""
    record = read_record(file_of("record.json", broken(seeds().record, rng)))
    module = read_module(seeds().modules[0].data, NAME, ARCH.machine)
    return "findings" if check_module(module, NAME, ARCH, FACTS, record) else "no finding"


def use_patch(rng: random.Random) -> str:
    """A patch or a mail: read, applied to its own old lines, and judged."""
    patch = parse_patch("x.patch", broken(rng.choice(seeds().patches), rng))
    strip = find_strip(patch.files, lambda path: len(path) % 2 == 0)
    refused = 0
    for file in patch.files:
        path = choose_path(file, strip, lambda _: False)
        refused += len(check_path(file, strip)) + len(check_kind(file, path))
        orig = b"" if file.kind == "new" else b"".join(b"".join(hunk.old) for hunk in file.hunks)
        if rng.random() < 0.3:
            orig = broken(orig, rng)
        applied = apply_file(orig, file, path)
        if isinstance(applied, list):
            refused += len(applied)
            continue
        refused += len(check_includes(path, applied.text, orig))
        with_line_directives(path, applied.final)
        read_items(applied.text, Conditions({}, False))
        read_includes(applied.text)
        list(read_chains(applied.text))
        find_optimized(applied.text.decode("utf-8", "replace"))
        may_hide(orig, applied.text)
        find_effects(path, orig, applied.text)
    return "refused" if refused else "applied"


def use_said(rng: random.Random) -> str:
    """What a guest and the compiler say."""
    log = broken(LOG, rng)
    text = log.decode("utf-8", "replace")
    faults = find_faults([*parse_raw(text), *parse_console(text)])
    records = list(ChannelParser().feed(log))
    clones = parse_ipa_clones(broken(CLONES, rng).decode("utf-8", "replace"))
    for name in ("f", "f.isra.0"):
        clones.history(name)
        clones.inlined_into(name)
    assert all(c.isprintable() for fault in faults for line in fault.lines for c in printable(line))
    return "faults" if faults else "records" if records else "nothing"


def use_packed(rng: random.Random) -> str:
    """Compressed files, damaged before and after."""
    data = rng.choice(seeds().modules).broken(rng)
    kind = rng.choice(sorted(PACKERS))
    packed = broken(PACKERS[kind](data), rng)
    name = f"x.ko{rng.choice(('', '.xz', '.gz', '.zst'))}"
    out = read_packed(file_of(name, packed))
    decompress(packed, rng.choice(sorted(READERS)), name)
    return "whole" if out == data else "other"


def use_changes(rng: random.Random) -> str:
    """What a note keeps of a patch's changes."""
    number = rng.choice((0, 1, 2, 3, -1, 10**6, 10**18, 1.5, "1", None))
    hunk = [rng.choice((0, 1, number)), rng.choice((0, 1, number)), rng.choice(([], ["00000000"], [1], None))]
    value = {"x.c": {"original": rng.choice(("", "0")), "hunks": [hunk] * rng.choice((0, 1, 2))}}
    try:
        changes = from_note(rng.choice((value, {"x.c": None}, value)))
    except (AttributeError, TypeError, ValueError, KeyError):  # as its caller expects
        return "no changes"
    find_missing_changes(changes, {"x.c": (b"a\nb\n", (1, 2), b"a\nb\n")})
    return "changes"


USES: tuple[Callable[[random.Random], str], ...] = (
    *(use_verify, use_module, use_module, use_patch, use_patch, use_record, use_said, use_packed, use_changes),
    *DOCUMENT_USES,
)


def use_command(base: int, number: int) -> str:
    """Read input `number`; a word for how it ended."""
    rng = random.Random(f"command {base}/{number}")
    use = USES[number % len(USES)]
    name = use.__name__.removeprefix("use_")
    try:
        return f"{name}: {use(rng)}"
    except KgbuildError as error:
        return f"{name}: {type(error).__name__}"
