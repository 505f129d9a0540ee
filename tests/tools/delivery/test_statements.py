# SPDX-License-Identifier: GPL-2.0-or-later
"""Statements that packages are held against, signed statements of builds, and what building again finds."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from kgbuild.cli.main import main
from kgbuild.delivery.package_statement import is_stated, read_package_statement, without_rpm_signature
from kgbuild.delivery.provenance import make_statement, open_envelope
from kgbuild.delivery.signature import split_signature
from kgbuild.errors import UserError
from kgbuild.host.delivery.signing import open_key, sign_module
from kgbuild.pipeline.delivery import provenance
from kgbuild.pipeline.stages.options import Options
from tests.support.keys import make_keys
from tests.support.live_kernel import module_bytes


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, "key", "other")
    yield folder


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def dist(keys: Path, tmp_path: Path) -> Path:
    """Packages of both kinds with a signed statement beside their directory."""
    module = tmp_path / "livepatch-3.ko"
    module.write_bytes(module_bytes("livepatch_3"))
    made = run(
        *("package", module, "--deb", "--rpm", "-o", tmp_path / "dist", "--provenance", tmp_path / "p.json"),
        *("--sign-key", keys / "key.pem", "--sign-cert", keys / "key.crt"),
    )
    assert made.exit_code == 0, made.output
    return tmp_path / "dist"


def test_packages_are_held_against_their_statement(dist: Path, keys: Path) -> None:
    statement = dist.parent / "p.json"
    text, signatures = open_envelope(statement.read_bytes())
    assert len(signatures) == 1
    stated = read_package_statement(text)
    for path in dist.iterdir():
        assert is_stated(path.name, path.read_bytes(), stated)
    asked: list[str | Path] = ["repo", dist, "--provenance", statement, "--certificate", keys / "key.crt"]
    assert run(*asked).exit_code == 0
    refused = run(*asked[:-1], keys / "other.crt")
    assert isinstance(refused.exception, UserError) and "not signed by the key" in str(refused.exception)
    (deb,) = dist.glob("livepatch-6*.deb")
    whole = deb.read_bytes()
    deb.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused = run(*asked)
    assert isinstance(refused.exception, UserError) and "not the package that --provenance names" in str(
        refused.exception
    )
    deb.write_bytes(whole)
    (dist / "another_1_all.deb").write_bytes(whole)
    refused = run(*asked)
    assert isinstance(refused.exception, UserError) and "named by no --provenance" in str(refused.exception)


def test_signing_an_rpm_leaves_it_the_one_that_is_stated(dist: Path, tmp_path: Path) -> None:
    """rpmsign changes the file, and neither its header nor its payload."""
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    words = ["--batch", "--passphrase", "", "--quick-gen-key", "live@example.org", "rsa2048", "sign", "never"]
    subprocess.run(["gpg", "--homedir", home, *words], check=True, capture_output=True)
    (rpm,) = dist.glob("livepatch-6*.rpm")
    before = rpm.read_bytes()
    for _ in range(2):
        ran = run(
            "repo", dist, "--gpg-key", "live@example.org", "--gpg-home", home, "--provenance", tmp_path / "p.json"
        )
        assert ran.exit_code == 0, ran.exception
    after = rpm.read_bytes()
    assert after != before and without_rpm_signature(after) == without_rpm_signature(before)
    rpm.write_bytes(after[:-1] + bytes([after[-1] ^ 1]))
    assert isinstance(run("repo", dist, "--provenance", tmp_path / "p.json").exception, UserError)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"predicate": 1}', b"[" * 5000])
def test_what_is_no_statement_of_packages(text: bytes) -> None:
    with pytest.raises(UserError, match="no statement of packages"):
        read_package_statement(text)


@pytest.mark.parametrize("data", [b"", b"\xed\xab\xee\xdb", b"\xed\xab\xee\xdb" + bytes(200), b"\xed\xab\xee\xdb" * 50])
def test_what_is_no_rpm(data: bytes) -> None:
    assert without_rpm_signature(data) == data


OPTIONS = {
    "allow_compiler": False,
    "allow_unproven": [],
    "allow_type": [],
    "ignore_init": False,
    "pull": "proof",
    "on_top_of": [],
    "drop": [],
    "against": [],
    "oot": [],
    "toolchain": "exact",
    "sandbox": True,
}


@pytest.fixture
def built(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed module with a signed provenance; `again.bin` is what building it again gives."""
    module = module_bytes("livepatch_3")
    signed = sign_module(module, open_key(str(keys / "key.pem"), keys / "key.crt"))
    (tmp_path / "livepatch-3.ko").write_bytes(signed)
    (tmp_path / "again.bin").write_bytes(module)
    report = {
        "kernel": {"name": "debian:x", "version": "1", "build_id": "ab" * 20, "compiler": "gcc", "sandbox": True},
        "module": {"name": "livepatch_3", "replace": True, "backend": "klp", "options": OPTIONS},
        "toolchain": {},
    }
    statement = make_statement(report, {}, {}, [("fix.patch", b"--- a\n")], {}, signed, split_signature(signed)[0])
    key = open_key(str(keys / "key.pem"), keys / "key.crt")
    (tmp_path / "p.json").write_bytes(provenance.statement_file(statement, key))

    def build(paths: list[Path], kernel: str, *_: object) -> object:
        assert [path.read_bytes() for path in paths] == [b"--- a\n"] and kernel == "debian:x=1"
        return SimpleNamespace(assembled=SimpleNamespace(module=(tmp_path / "again.bin").read_bytes()))

    monkeypatch.setattr(provenance, "build", build)
    return tmp_path


def reproduce(folder: Path, *more: str | Path) -> Any:
    words = ["--provenance", folder / "p.json", "--format", "json", *more]
    return run("reproduce", folder / "livepatch-3.ko", *words)


def test_the_same_bytes_by_a_signed_statement(built: Path, keys: Path) -> None:
    ran = reproduce(built, "--certificate", keys / "key.crt")
    said = json.loads(ran.stdout)
    assert (ran.exit_code, said["same"], said["signed"], said["differences"]) == (0, True, True, [])
    refused = reproduce(built, "--certificate", keys / "other.crt")
    assert isinstance(refused.exception, UserError) and "not signed by the key" in str(refused.exception)


def test_the_section_that_differs_is_named(built: Path) -> None:
    again = built / "again.bin"
    again.write_bytes(again.read_bytes().replace(b"6.1.0-test SMP", b"6.1.0-text SMP"))
    ran = reproduce(built)
    said = json.loads(ran.stdout)
    assert (ran.exit_code, said["same"]) == (1, False)
    assert [row["part"] for row in said["differences"]] == [".modinfo"]
    text = run("reproduce", built / "livepatch-3.ko", "--provenance", built / "p.json")
    assert text.exit_code == 1 and "differs" in text.output and ".modinfo: name, version magic" in text.output


def test_a_signature_of_another_statement(built: Path, keys: Path) -> None:
    """What is signed is the statement with its type: one byte or another type, and it is not that any more."""
    envelope = json.loads((built / "p.json").read_bytes())
    for change in (
        {
            "payload": base64.b64encode(
                base64.b64decode(envelope["payload"]).replace(b"livepatch_3", b"livepatch_4")
            ).decode()
        },
        {"signatures": []},
        {"signatures": [{"keyid": "x", "sig": base64.b64encode(b"x" * 256).decode()}]},
    ):
        (built / "p.json").write_text(json.dumps({**envelope, **change}))
        refused = reproduce(built, "--certificate", keys / "key.crt")
        assert isinstance(refused.exception, UserError), change


@pytest.mark.parametrize(("told", "dynamic"), [(b"", True), (b'"dynamic_keys":false,', False)])
def test_it_is_built_with_the_same_way_of_reading_keys(
    built: Path, told: bytes, dynamic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module says of --no-dynamic-keys only where it was given; older ones say nothing of it."""
    envelope = json.loads((built / "p.json").read_bytes())
    statement = base64.b64decode(envelope["payload"])
    assert statement.count(b'"ignore_init"') == 1
    changed = statement.replace(b'"ignore_init"', told + b'"ignore_init"')
    (built / "p.json").write_text(json.dumps({**envelope, "payload": base64.b64encode(changed).decode()}))
    asked: list[bool] = []
    build = provenance.build

    def ask(paths: Any, kernel: Any, output: Any, options: Options, *more: Any) -> object:
        asked.append(options.dynamic_keys)
        return build(paths, kernel, output, options, *more)

    monkeypatch.setattr(provenance, "build", ask)
    assert reproduce(built).exit_code == 0
    assert asked == [dynamic]
    assert Options(dynamic_keys=dynamic).for_bytes.get("dynamic_keys", True) is dynamic
