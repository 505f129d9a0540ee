# SPDX-License-Identifier: GPL-2.0-or-later
"""What `release` writes of jobs that went well: signed by the key of kgbuild.toml, and packed. Nothing is compiled."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kgbuild.delivery.signature import split_signature
from kgbuild.errors import UserError
from kgbuild.host.delivery.signing import is_signed_by
from kgbuild.host.releases.directory import add_fix, make_directory, read_directory
from kgbuild.host.releases.workers import LostWorker
from kgbuild.pipeline.releases.jobs import Job
from kgbuild.pipeline.releases.packages import pack_release
from kgbuild.pipeline.releases.release import Released, make_release
from kgbuild.pipeline.releases.signing import key_of
from kgbuild.pipeline.stages.options import Options
from kgbuild.releases.config import FixMetadata
from kgbuild.releases.job_graph import ACQUIRE, AFFECTED, BUILD, DONE, IMPACT, VM, JobResult
from tests.support.fix_cases import FIX
from tests.support.live_kernel import RELEASE, module_bytes

KERNEL = f"debian:{RELEASE}"
FIX_ID = "CVE-2026-12345"


def act(job: Job) -> JobResult:
    """A job that goes well."""
    cell = {"fix": FIX_ID, "state": "affected", "code": "P23-affected", "fact": "", "place": "", "hunks": []}
    found: Mapping[str, dict[str, Any]] = {
        ACQUIRE: {"kernel": KERNEL, "release": RELEASE, "version": "1", "build_id": "00", "compiler": "gcc"},
        AFFECTED: {"fixes": [cell], "affected": [FIX_ID]},
        IMPACT: {"effect": {"replaced": ["f"], "pulled": [], "carried": [], "refusals": []}, "why": {}},
        VM: {"verdict": True, "steps": [job.module]},
    }
    files: dict[str, bytes] = {}
    if job.id.step == AFFECTED:
        files = {f"{FIX_ID}.patch": FIX.encode()}
    if job.id.step == BUILD:
        patches = [{"name": "fix.patch", "sha256": "0" * 64}]
        module = module_bytes(job.module.replace("-", "_"), patches=patches)
        about = {"sha256": hashlib.sha256(module).hexdigest(), "size": len(module)}
        report = {"module": about, "consistency": []}
        files = {"module.ko": module, "report.json": json.dumps(report).encode(), "proof.json": b"{}"}
        told = {"name": job.module.replace("-", "_"), "functions": [], "fixes": [FIX_ID], "warnings": [], "codes": []}
        return JobResult(job.id, DONE, {**told, "unproven": [], "taken_back": []}, files=files)
    if job.id.step == VM:
        files = {"vm.json": b"{}"}
    return JobResult(job.id, DONE, found.get(job.id.step, {}), files=files)


class Inline:
    """Runs each job at once."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: list[Job] = []

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def results(self) -> Iterator[tuple[Job, JobResult | LostWorker]]:
        while self._waiting:
            job = self._waiting.pop(0)
            yield job, act(job)

    def close(self) -> None:
        self._waiting.clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with a fix, and beside it an elliptic key, whose signatures are never twice the same."""
    root = tmp_path / "d"
    make_directory(root)
    add_fix(root, FIX_ID, FIX.encode(), FixMetadata(date="2026-01-01T00:00:00Z"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test"]
    words = [*curve, "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(["openssl", "req", "-new", "-x509", *words], cwd=tmp_path, check=True, capture_output=True)
    return root


def say(root: Path, text: str) -> None:
    with (root / "kgbuild.toml").open("a") as stream:
        stream.write(text)


def release(root: Path, number: int = 1) -> Released:
    directory = read_directory(root)
    return make_release(
        directory, number, [KERNEL], Inline(), Options(), key=key_of(root, directory.config), resume=False
    )


SIGN = '\n[sign]\nkey = "../key.pem"\ncertificate = "../cert.pem"\n'


def test_a_release_without_a_key_is_not_signed(root: Path) -> None:
    made = release(root)
    data = (root / "release-1" / RELEASE / "livepatch-1.ko").read_bytes()
    assert split_signature(data)[1] is None and pack_release(read_directory(root), 1) is None
    assert made.manifest["kernels"][0]["module"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_release_is_signed_by_the_key_of_the_directory(root: Path, tmp_path: Path) -> None:
    say(root, SIGN)
    made = release(root)
    folder = root / "release-1" / RELEASE
    data = (folder / "livepatch-1.ko").read_bytes()
    assert is_signed_by(data, tmp_path / "cert.pem")
    module = made.manifest["kernels"][0]["module"]
    assert (module["sha256"], module["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    told = json.loads((folder / "report.json").read_text())["module"]
    assert told == {"sha256": module["sha256"], "size": len(data)}
    again = release(root)
    assert not again.written and (folder / "livepatch-1.ko").read_bytes() == data


def test_the_next_release_stands_on_the_signed_module(root: Path) -> None:
    say(root, SIGN)
    release(root)
    made = release(root, 2)
    data = (root / "release-1" / RELEASE / "livepatch-1.ko").read_bytes()
    assert made.manifest["kernels"][0]["on_top_of"]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('[sign]\nkey = "gone.pem"\ncertificate = "../cert.pem"\n', "no such file"),
        ('[sign]\nkey = "../key.pem"\ncertificate = "gone.pem"\n', "no such file"),
        ('[sign]\nkey = "../key.pem"\n', "sign.certificate is missing"),
        ('[sign]\nkey = "pkcs11:object=x?pin-value=1"\ncertificate = "../cert.pem"\n', "holds a PIN"),
        ('[sign]\nkey = "../cert.pem"\ncertificate = "../cert.pem"\n', "can't use the key"),
        ('[package]\noutput = "../dist"\n', "leads out of the directory"),
        ("[package]\ndep = true\n", "package.dep is not known"),
    ],
)
def test_keys_and_packages_that_cannot_be(root: Path, text: str, fact: str) -> None:
    say(root, text)
    with pytest.raises(UserError, match=fact):
        release(root)
    assert not (root / "release-1").exists()


def test_packages_of_a_release(root: Path, tmp_path: Path) -> None:
    say(root, SIGN + '[package]\nmaintainer = "A. Person <person@debian.org>"\n')
    release(root)
    packed = pack_release(read_directory(root), 1)
    assert packed is not None and packed.output == "dist"
    (name,) = [name for name in packed.files if name.startswith(f"livepatch-{RELEASE}_1_")]
    (tmp_path / name).write_bytes(packed.files[name])
    subprocess.run(["dpkg-deb", "-x", tmp_path / name, tmp_path / "out"], check=True)
    (module,) = (tmp_path / "out").rglob("*.ko")
    assert is_signed_by(module.read_bytes(), tmp_path / "cert.pem")
