# SPDX-License-Identifier: GPL-2.0-or-later
"""Three real fixes, as bookworm's kernels got them from 6.1.170 to 6.1.192, over all kernels of that series that the
archive has and one 6.12: three releases, each booted, on top of the one before, and back.

One fix needs a backport for 6.12, one is there already; the newest kernels need none.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import kgbuild
from tests.support.documents import check_document

OLDEST, NEWEST = "debian:6.1.0-47-cloud-amd64", "debian:6.1.0-56-cloud-amd64"
OTHER = "debian:6.12.107+deb12-cloud-amd64"
BETWEEN = [f"debian:6.1.0-{number}-cloud-amd64" for number in (50, 53, 55)]
KERNELS = os.environ.get("KGBUILD_TEST_RELEASES", " ".join([OLDEST, *BETWEEN, NEWEST, OTHER])).split()
FIXES = {"keys-gc": "security/keys/gc.c", "pipe-fasync": "fs/pipe.c", "pid-getfd": "kernel/pid.c"}


def run(root: Path, status: int, *words: str) -> Any:
    """Run a command over the directory; its document, checked against its schema."""
    ran = kgbuild(*words, "-C", root, "--format", "json", timeout=7200)
    assert ran.status == status, ran.stdout[-3000:] + ran.stderr[-3000:]
    return check_document(ran.stdout)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the three fixes, one a release."""
    folder = tmp_path_factory.mktemp("list")
    older, newer = (ensure_kernel(name, progress=SilentProgress()).source for name in (OLDEST, NEWEST))
    root = folder / "d"
    assert kgbuild("init", root).status == 0
    file = root / "kgbuild.toml"
    lines = file.read_text().split("\n")
    file.write_text("\n".join(f"kernels = {json.dumps(KERNELS)}" if x.startswith("kernels") else x for x in lines))
    for number, (name, path) in enumerate(FIXES.items(), 1):
        before, after = ((tree / path).read_text().splitlines(keepends=True) for tree in (older, newer))
        patch = folder / f"{name}.patch"
        patch.write_text("".join(difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")))
        assert kgbuild("add", name, patch, "--cve", f"CVE-2026-2000{number}", "-C", root).status == 0
        with file.open("a") as stream:
            stream.write(f"release = {number}\n")
    return root


def states(rows: Sequence[dict[str, Any]], kernel: str) -> dict[str, str]:
    (row,) = [row for row in rows if row["kernel"] == kernel]
    return {cell["fix"]: cell["state"] for cell in row["fixes"]}


def test_three_releases_over_the_list(root: Path) -> None:
    rows = run(root, 5, "affected")["kernels"]
    assert set(states(rows, OLDEST).values()) == {"affected"}
    assert set(states(rows, NEWEST).values()) == {"fixed"}
    assert states(rows, OTHER) == {"keys-gc": "affected", "pipe-fasync": "conflict", "pid-getfd": "fixed"}
    made = run(root, 0, "backport", "pipe-fasync", "--kernel", OTHER)
    assert "please look at it" in made["notes"][0]
    toml = root / "fixes" / "pipe-fasync" / "fix.toml"
    toml.write_text(f'{toml.read_text()}\n[patches]\n"debian:6.12*" = "{Path(made["path"]).name}"\n')
    assert states(run(root, 0, "affected")["kernels"], OTHER)["pipe-fasync"] == "affected"
    before: dict[str, set[str]] = {}
    for number in range(1, len(FIXES) + 1):
        told = run(root, 0, "release", str(number))
        assert [fix["release"] for fix in told["fixes"]] == list(range(1, number + 1))
        found = {row["kernel"]: row for row in told["kernels"]}
        assert found[NEWEST]["status"] == "nothing" and found[NEWEST]["module"] is None
        for name in (OLDEST, OTHER):
            row = found[name]
            functions = {f["name"] for f in row["module"]["functions"]}
            assert functions >= before.get(name, set()) and row["taken_back"] == []
            before[name] = functions
            own, older = f"livepatch-{number}", f"livepatch-{number - 1}"
            steps = [own] if number == 1 else [older, f"{own} on {older}", older]
            assert row["booted"] == {"verdict": True, "steps": steps}
            data = (root / f"release-{number}" / row["module"]["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["module"]["sha256"]
    assert "pipe_fasync" in before[OTHER] and len(before[OLDEST]) > len(before[OTHER])
    assert not run(root, 0, "release", "3")["written"]
