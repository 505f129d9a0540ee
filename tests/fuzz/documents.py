# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands of releases, delivery and review read, broken: kgbuild.toml and fix.toml, lists of patches, the
manifest of a release, provenance and its envelope, signatures, reports, and preprocessed units.

As commands.py, of which this is a part: nothing but a KgbuildError may come of one.
"""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kgbuild.cli.review.pages import answer_of, make_page
from kgbuild.csource.reached_changes import may_emit_other
from kgbuild.delivery.patch_facts import read_facts
from kgbuild.delivery.provenance import envelope_text, make_statement, open_envelope, read_statement, statement_text
from kgbuild.delivery.signature import append_signature, read_signer, split_signature
from kgbuild.errors import KgbuildError
from kgbuild.host.patches.patch_sources import read_patch_source
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.pipeline.releases.vex import statements_of
from kgbuild.releases.backport import port_file
from kgbuild.releases.config import parse_config, parse_fix, render_fix
from kgbuild.releases.decide import decide
from kgbuild.releases.mail_metadata import read_metadata
from kgbuild.releases.manifest import changed_inputs, parse_manifest
from kgbuild.releases.vex import FORMATS, render_vex
from kgbuild.report.formats import FOR_REVIEW
from tests.fuzz.breaking import broken, file_of
from tests.support.small_module import Small

REPORTS = Path(__file__).resolve().parents[1] / "support" / "reports"
CONFIG = b"""version = 1
module = "livepatch-{release}"
replace = true
kernels = ["debian:6.1*-cloud-amd64", "@old"]
[groups]
old = ["debian:6.1.0-47-cloud-amd64"]
[[fix]]
id = "CVE-2026-12345"
release = 1
after = ["other"]
[[fix]]
id = "other"
kernels = ["@old"]
[gates]
boot = true
warnings = ["W1-x"]
[build]
drop = ["a"]
"""
FIX = b"""cves = ["CVE-2026-12345"]
subject = "x: \\u0041 fix"
commit = "0123456789abcdef"
fixes = ["89abcdef"]
date = "2026-11-02T10:00:00Z"
[patches]
"debian:6.1*" = "old.patch"
"""
SERIES = b"# first\nfix.patch\nsub/other.patch -p1\n"
DSC = b"Format: 3.0 (quilt)\nChecksums-Sha256:\n " + b"0" * 64 + b" 12 x_1.debian.tar.xz\n"
MAIL = b"""From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001
From: =?utf-8?q?A?= <a@example.org>
Date: Mon, 2 Nov 2026 10:00:00 +0000
Subject: [PATCH 6.1 1/2] x: fix CVE-2026-12345
Fixes: 89abcdef0123 ("x: add")

commit 0123456789abcdef0123456789abcdef01234567 upstream.
---
--- a/x.c
+++ b/x.c
@@ -1,3 +1,4 @@
 int a;
-int b;
+int c;
+int d;
 int e;
"""
SIGNERS = b"""signerInfos:
  version: 1
  d.issuerAndSerialNumber:
    issuer: CN=a
    serialNumber: 0x1234
  digestAlgorithm:
    algorithm: sha256 (2.16)
"""
UNIT = b"""# 1 "x.c"
struct s { int a; struct { char b[4]; } c; };
enum e { A = 1, B = sizeof(struct s) };
static inline __attribute__((always_inline)) int f(struct s *p) { return p->a + A; }
extern int g(int) __asm__("h");
typedef int (*call)(struct s *);
_Static_assert(sizeof(int) == 4, "x");
asm(".pushsection .x; .popsection");
static call table[] = { f, [2] = f };
int use(struct s *p) { return table[0](p) + g(B) + ({ int x = 1; x; }); }
"""
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        2**64,
        1e308,
        "",
        "x" * 3000,
        "\x1b[2J",
        "<script>",
        "\ud800",
        [],
        {},
        [None],
        {"": []},
    ),
)


@cache
def _reports() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(REPORTS.glob("*.json")))


@cache
def _statement() -> dict[str, Any]:
    report = next(r for r in map(json.loads, _reports()) if r["schema"].startswith("kgbuild/build/") and r["module"])
    return make_statement(report, {"vmlinux": "0" * 64}, {"linux": "1"}, [("x.patch", MAIL)], {}, b"written", b"bare")


@cache
def _small() -> bytes:
    small = Small()
    kernel = {"name": "debian:6.1.0-test", "version": "6.1-1"}
    small.note.update(kernel=kernel, patches=[{"name": "x.patch"}], replace=True)
    return small.data


def altered(value: Any, rng: random.Random) -> Any:
    """JSON data with some of its parts replaced, taken away or repeated."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at: Any = value
        while isinstance(at, (dict, list)) and at:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            inner = at[key]
            if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.2:
                _alter(at, key, rng)
                break
            at = inner
    return value


def _alter(at: Any, key: Any, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        del at[key]
    elif kind == 1 and isinstance(at, list):
        at.extend(copy.deepcopy(at[:20]))
    else:
        at[key] = copy.deepcopy(rng.choice(ODD))


def use_config(rng: random.Random) -> str:
    """kgbuild.toml and fix.toml."""
    text = broken(CONFIG, rng).decode("utf-8", "replace")
    if rng.random() < 0.5:
        parsed = parse_config(text)
        for number in (0, 1, 10**9):
            parsed.module_name(number)
        return "config"
    fix = parse_fix(broken(FIX, rng).decode("utf-8", "replace"))
    if parse_fix(render_fix(fix)) != fix:
        raise AssertionError("a written fix.toml says something else")
    return "fix"


class _ReleaseTree:
    """A kernel's source of two files."""

    def __init__(self, text: bytes) -> None:
        self._files = {"x.c": text, "lib/y.c": b"int y;\n"}

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    def is_built(self, path: str) -> bool:
        return len(path) % 5 != 0

    def option(self, path: str) -> str:
        return "CONFIG_Y" if path.startswith("lib") else ""

    def of_name(self, name: str) -> Sequence[str]:
        return [path for path in self._files if path.endswith(f"/{name}")]


def use_fix(rng: random.Random) -> str:
    """A mail that `add` reads, `affected` decides of, and `backport` carries over."""
    mail = broken(MAIL, rng)
    read_metadata([("x.mbox", mail)])
    patch = parse_patch("x.mbox", mail)
    text = broken(b"/* head */\nint a;\nint b;\nint e;\nint z;\n" * 3, rng)
    decision = decide([patch], _ReleaseTree(text))
    for file in patch.files:
        port_file(text, file, "x.c")
    return decision.state


def use_list(rng: random.Random) -> str:
    """A series, a source package, a patch: what a command line may name as a patch."""
    name, text = rng.choice((("series", SERIES), ("x.dsc", DSC), ("x.mbox", MAIL), ("x.patch.gz", MAIL)))
    path = file_of(f"list/{name}", broken(text, rng))
    (path.parent / "fix.patch").write_bytes(MAIL)
    return f"{len(read_patch_source(path))} patches"


def use_manifest(rng: random.Random) -> str:
    """The manifest of a release, and what is made of it."""
    value = altered(json.loads((REPORTS / "release.json").read_bytes()), rng)
    text = json.dumps(value).encode()
    manifest = parse_manifest(broken(text, rng) if rng.random() < 0.3 else text, "manifest.json")
    changed_inputs(manifest, {"fixes/x/fix.patch": b""})
    statements = list(statements_of(manifest))
    for name in FORMATS:
        render_vex(name, statements, 1)
    return "read"


def use_statement(rng: random.Random) -> str:
    """Provenance, alone and in a signed envelope."""
    text = statement_text(altered(_statement(), rng))
    if rng.random() < 0.5:
        text = envelope_text(text, b"s" * 64, "key")
    payload, signatures = open_envelope(broken(text, rng) if rng.random() < 0.5 else text)
    read_statement(payload)
    return f"{len(signatures)} signatures"


def use_signature(rng: random.Random) -> str:
    """A module with a signature, and what openssl says of it."""
    bare = _small()
    signed = append_signature(bare, rng.randbytes(rng.choice((0, 1, 700))))
    data = bytearray(signed)
    for _ in range(rng.choice((0, 1, 2))):
        data[-rng.randrange(1, 60)] = rng.randrange(256)
    found, _ = split_signature(bytes(data))
    if bytes(data) == signed and found != bare:
        raise AssertionError("another module comes out of a signature than went into it")
    read_signer(broken(SIGNERS, rng).decode("utf-8", "replace"))
    read_facts(bytes(data), "livepatch-1.ko", 1)
    return "read"


def use_report(rng: random.Random) -> str:
    """A report that `kgbuild report` shows."""
    document = altered(json.loads(rng.choice(_reports())), rng)
    if not isinstance(document, Mapping) or not isinstance(document.get("schema"), str):
        return "no report"
    if rng.random() < 0.1:
        page = make_page([document])
        if page.count("<script") != 1:
            raise AssertionError("a text of the report is a script in the page")
        return "page"
    answer_of(document, rng.choice(FOR_REVIEW))
    return "text"


def use_unit(rng: random.Random) -> str:
    """Two preprocessed texts of a unit."""
    lines = [line for line in UNIT.splitlines(True) if rng.random() < 0.8]
    whole = b"".join(lines)
    if not may_emit_other(whole + b"int last(void) { return 1; }\n", whole + b"int last(void) { return 2; }\n"):
        raise AssertionError("another body of a function passes for no change")
    at = rng.randrange(len(lines) + 1)
    if may_emit_other(whole, b"".join([*lines[:at], b"extern int nobody(int);\n", *lines[at:]])):
        raise AssertionError("a prototype that nothing uses passes for a change")
    orig = broken(UNIT, rng)
    return "may differ" if may_emit_other(orig, broken(orig, rng)) else "same"


def use_encoded(rng: random.Random) -> str:
    """A provenance whose patch was replaced with its digest kept is refused."""
    value = copy.deepcopy(_statement())
    rows = [row for row in value["predicate"]["buildDefinition"]["resolvedDependencies"] if "content" in row]
    rows[0]["content"] = base64.b64encode(broken(MAIL, rng) + b"x\n").decode()
    try:
        read_statement(statement_text(value))
    except KgbuildError:
        return "refused"
    raise AssertionError("another patch passes for the one that was built")


DOCUMENT_USES = (
    *(use_config, use_fix, use_list, use_manifest, use_statement, use_signature, use_report, use_unit, use_encoded),
)
