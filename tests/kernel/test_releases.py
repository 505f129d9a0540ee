# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk-through of examples/releases, command by command, on two real kernels: three releases, each booted on top of
the one before, and one fix that needs a backport."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kgbuild.delivery.signature import split_signature
from kgbuild.host.vm.patch_notes import note_in
from kgbuild.model import Kernel
from tests.support.booting.cases import kgbuild
from tests.support.documents import check_document
from tests.support.keys import make_keys

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "releases"
STATUS = re.compile(r"\s+# exit status (\d)$")


def commands() -> Iterator[tuple[str, int]]:
    """Each command of the walk-through, and the exit status that it says."""
    for line in re.findall(r"^ {4}(\S.*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE):
        found = STATUS.search(line)
        yield STATUS.sub("", line), int(found[1]) if found else 0


@pytest.fixture(scope="module")
def walked(kernel: Kernel, newer: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example in which all commands were run."""
    folder = tmp_path_factory.mktemp("releases") / "example"
    shutil.copytree(EXAMPLE, folder)
    tool = folder / "kgbuild"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m kgbuild.cli.main "$@"\n')
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for command, status in commands():
        named = command.replace("debian:newest-6.1-cloud", kernel.id.name)
        named = named.replace("debian:newest-6.12-deb12-cloud", newer.id.name)
        ran = subprocess.run(
            ["sh", "-c", named], cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        assert ran.returncode == status, f"{named}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return folder / "fixes"


def manifest(root: Path, number: int) -> dict[str, Any]:
    return check_document((root / f"release-{number}" / "manifest.json").read_text())


def test_each_release_has_what_its_manifest_says(walked: Path) -> None:
    for number in (1, 2, 3):
        told = manifest(walked, number)
        folder = walked / f"release-{number}"
        files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
        assert files == {row["path"] for row in told["files"]}
        for row in told["files"]:
            data = (folder / row["path"]).read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (row["sha256"], row["bytes"])
            if row["path"].endswith(("report.json", "vm.json")):
                check_document(data.decode())


def test_releases_are_cumulative_and_stand_on_each_other(walked: Path) -> None:
    before: dict[str, set[str]] = {}
    for number in (1, 2, 3):
        told = manifest(walked, number)
        assert [fix["release"] for fix in told["fixes"]] == list(range(1, number + 1))
        for row in told["kernels"]:
            functions = {f["name"] for f in row["module"]["functions"]}
            assert functions > before.get(row["kernel"], set()) and row["taken_back"] == []
            before[row["kernel"]] = functions
            steps = [f"livepatch-{number}"]
            if number > 1:
                older = f"livepatch-{number - 1}"
                steps = [older, f"livepatch-{number} on {older}", older]
                assert row["on_top_of"]["path"] == f"release-{number - 1}/{row['folder']}/{older}.ko"
            assert row["booted"] == {"verdict": True, "steps": steps}
    for functions in before.values():
        assert functions == {"version_proc_show", "loadavg_proc_show", "cmdline_proc_show"}


def test_modules_say_what_they_fix(walked: Path) -> None:
    for row in manifest(walked, 3)["kernels"]:
        data = (walked / "release-3" / row["module"]["path"]).read_bytes()
        note = note_in(data)
        wanted = ["CVE-2026-10001", "CVE-2026-10002", "CVE-2026-10003"]
        assert note is not None and note["fixes"] == wanted and note["release"] == 3
        assert f"kgbuild_fixes={' '.join(wanted)}\0".encode() in data


def test_the_newer_kernel_has_the_backport(walked: Path, newer: Kernel) -> None:
    told = manifest(walked, 3)
    row = next(row for row in told["kernels"] if row["kernel"] == newer.id.name)
    text = (walked / "release-3" / row["folder"] / "CVE-2026-10003.patch").read_text()
    assert '+\tseq_puts(m, " kgbuild");' in text
    inputs = [one["path"] for one in told["fixes"][2]["inputs"]]
    assert "fixes/CVE-2026-10003/6.12.patch" in inputs
    made = (walked / "fixes" / "CVE-2026-10003" / "6.12.patch").read_text()
    assert "made by kgbuild backport for review" in made and "please look at it" in made


def test_vex_of_a_release(walked: Path) -> None:
    told = json.loads((walked / "release-3" / "vex.openvex.json").read_text())
    assert told["timestamp"] == "2026-01-07T12:00:00Z"
    assert {s["vulnerability"]["name"] for s in told["statements"]} == {f"CVE-2026-1000{n}" for n in (1, 2, 3)}


def test_a_release_is_signed_and_packed_in_one_go(walked: Path, kernel: Kernel, tmp_path: Path) -> None:
    """Release 3 again, in a copy, by a directory that has a key and wants packages: nothing is built again."""
    root = tmp_path / "fixes"
    shutil.copytree(walked, root)
    first = root / "fixes" / "CVE-2026-10001" / "fix.toml"
    first.write_text(first.read_text().removesuffix("# changed\n"))  # the end of the walk
    unsigned = manifest(root, 3)
    shutil.rmtree(root / "release-3")
    make_keys(tmp_path, "key")
    with (root / "kgbuild.toml").open("a") as stream:
        stream.write('\n[sign]\nkey = "../key.pem"\ncertificate = "../key.crt"\n\n[package]\ndeb = true\n')
    ran = kgbuild("release", "3", "-C", root)
    assert ran.status == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    told = manifest(root, 3)
    for row, before in zip(told["kernels"], unsigned["kernels"], strict=True):
        folder = root / "release-3" / row["folder"]
        module = folder / "livepatch-3.ko"
        assert split_signature(module.read_bytes())[0] == (walked / "release-3" / before["module"]["path"]).read_bytes()
        words = ("--proof", folder / "proof.json", "--certificate", tmp_path / "key.crt")
        checked = kgbuild("verify", module, "--kernel", row["kernel"], *words)
        assert checked.status == 0, checked.stdout + checked.stderr
        (package,) = (root / "dist").glob(f"livepatch-{row['folder']}_3_*.deb")
        assert _of_dpkg("-f", package, "Package", "Version").split() == [
            "Package:",
            f"livepatch-{row['folder']}",
            "Version:",
            "3",
        ]
        unpacked = tmp_path / row["folder"]
        _of_dpkg("-x", package, unpacked)
        assert [path.read_bytes() for path in unpacked.rglob("livepatch_3.ko")] == [module.read_bytes()]
    # those that no kernel has: the script, and the newest of a flavour
    assert len(list((root / "dist").glob("*.deb"))) == len(told["kernels"]) + 2
    assert kernel.id.name in {row["kernel"] for row in told["kernels"]}


def _of_dpkg(*words: str | Path) -> str:
    return subprocess.run(["dpkg-deb", *words], check=True, capture_output=True, text=True, timeout=60).stdout
