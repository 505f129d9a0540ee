# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures of modules, by keys in files and in a token, and provenance."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kgbuild.cli.delivery.sign import look_at_signature
from kgbuild.delivery.provenance import (
    compare_modules,
    envelope_text,
    make_sbom,
    make_statement,
    open_envelope,
    preauthentication,
    read_statement,
    statement_text,
)
from kgbuild.delivery.signature import split_signature
from kgbuild.errors import UserError
from kgbuild.host.delivery.signing import PIN, is_blob_signed_by, open_key, sign_blob, sign_module
from tests.support.keys import make_keys
from tests.support.live_kernel import module_bytes

MODULE = module_bytes("livepatch_2")
TOKEN = "pkcs11:token=lp;object=signing;type=private"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """key.pem, its certificate, the same key with a passphrase and in a SoftHSM token, and another key."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, "key", "other")
    words = ["rsa", "-aes256", "-passout", "pass:secret", "-in", "key.pem", "-out", "locked.pem"]
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    (folder / "tokens").mkdir()
    (folder / "softhsm.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    env = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm.conf")}
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-out", "key.p8"], cwd=folder, check=True
    )
    init = ["--init-token", "--free", "--label", "lp", "--pin", "1234", "--so-pin", "1234"]
    put = ["--import", "key.p8", "--label", "signing", "--id", "01", "--token", "lp", "--pin", "1234"]
    for more in (init, put):
        subprocess.run(["softhsm2-util", *more], cwd=folder, check=True, capture_output=True, env=env)
    yield folder


def sign_file() -> Path | None:
    """The kernel's own program, of Debian's linux-kbuild."""
    found = sorted(Path("/usr/lib").glob("linux-kbuild-*/scripts/sign-file"))
    return found[0] if found else None


def test_the_same_from_file_and_token(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sign_module(MODULE, open_key(str(keys / "key.pem"), keys / "key.crt"))
    assert plain.startswith(MODULE) and split_signature(plain)[0] == MODULE
    monkeypatch.setenv(PIN, "secret")
    assert sign_module(MODULE, open_key(str(keys / "locked.pem"), keys / "key.crt")) == plain
    monkeypatch.setenv(PIN, "1234")
    monkeypatch.setenv("SOFTHSM2_CONF", str(keys / "softhsm.conf"))
    token = open_key(TOKEN, keys / "key.crt")
    assert sign_module(MODULE, token) == plain
    assert sign_module(plain, token) == plain, "a signature is replaced, not added"
    assert is_blob_signed_by(b"x", sign_blob(b"x", token), keys / "key.crt")


def test_as_the_kernels_own_program(keys: Path, tmp_path: Path) -> None:
    """Where the machine has it: byte for byte. Its signature is read in any case."""
    path = tmp_path / "a.ko"
    path.write_bytes(MODULE)
    program = sign_file()
    ours = sign_module(MODULE, open_key(str(keys / "key.pem"), keys / "key.crt"))
    if program is not None:
        subprocess.run([program, "sha256", keys / "key.pem", keys / "key.crt", path], check=True)
        assert path.read_bytes() == ours
    assert ours.endswith(b"~Module signature appended~\n")


def test_who_signed(keys: Path) -> None:
    signed = sign_module(MODULE, open_key(str(keys / "key.pem"), keys / "key.crt"))
    assert look_at_signature(MODULE, None, "x").text == "by nobody"
    seen = look_at_signature(signed, keys / "key.crt", "x")
    assert seen.text.startswith("by CN=key, serial 0x") and seen.data is not None and seen.data["trusted"] is True
    for wrong, certificate in (
        (MODULE, "key.crt"),
        (signed, "other.crt"),
        (signed[:100] + b"!" + signed[101:], "key.crt"),
        (signed[: len(MODULE)] + b"!" + signed[len(MODULE) + 1 :], "key.crt"),
    ):
        (finding,) = look_at_signature(wrong, keys / certificate, "x").findings
        assert finding.code == "V61-signature"


@pytest.mark.parametrize(
    ("key", "certificate", "pin", "fact"),
    [
        ("key.pem", None, "", "without its certificate"),
        ("none.pem", "key.crt", "", "no such file"),
        ("key.pem", "none.crt", "", "no such file"),
        ("key.pem", "other.crt", "", "not that of the key"),
        ("key.pem", "key.pem", "", "no certificate"),
        ("key.crt", "key.crt", "", "can't use the key"),
        ("locked.pem", "key.crt", "", "none is given"),
        ("locked.pem", "key.crt", "wrong-secret", "is wrong"),
        (TOKEN, "key.crt", "9999", "is wrong"),
        (f"{TOKEN}?pin-value=1234", "key.crt", "", "holds a PIN"),
        ("pkcs11:token=none;object=x", "key.crt", "1234", "can't use the key"),
    ],
)
def test_keys_that_will_not_do(
    keys: Path, monkeypatch: pytest.MonkeyPatch, key: str, certificate: str | None, pin: str, fact: str
) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", str(keys / "softhsm.conf"))
    monkeypatch.setenv(PIN, pin)
    name = key if key.startswith("pkcs11:") else str(keys / key)
    with pytest.raises(UserError, match=fact) as caught:
        open_key(name, keys / certificate if certificate else None)
    assert not pin or pin not in str(caught.value)
    assert caught.value.remedy


def test_no_command_line_has_the_pin(keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program in place of openssl writes down how it was called, and with which environment."""
    real = shutil.which("openssl")
    log = tmp_path / "log"
    (tmp_path / "openssl").write_text(f'#!/bin/sh\necho "$*" >>{log}\nenv >>{log}\nexec {real} "$@"\n')
    (tmp_path / "openssl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(PIN, "secret")
    sign_module(MODULE, open_key(str(keys / "locked.pem"), keys / "key.crt"))
    assert "cms" in log.read_text() and "secret" not in log.read_text()


REPORT: dict[str, Any] = {
    "kernel": {
        "name": "debian:6.1.0-test",
        "version": "6.1-1",
        "build_id": "ab" * 20,
        "compiler": "gcc-12",
        "sandbox": True,
    },
    "module": {"name": "livepatch_2", "replace": True, "backend": "klp", "options": {"pull": "proof"}},
    "toolchain": {"name": "gcc-12", "packages": [{"name": "gcc-12", "version": "12", "sha256": "cd" * 32}]},
}
PATCHES = [("fix.patch", b"one"), ("fix.patch", b"two \xff")]


def statement() -> dict[str, Any]:
    return make_statement(
        REPORT, {"vmlinux": "ef" * 32}, {"linux-image": "1"}, PATCHES, {"old.ko": "01" * 32}, b"x", b"x"
    )


def test_a_statement_is_read_again(keys: Path) -> None:
    text = statement_text(statement())
    told = read_statement(text)
    assert (told.module, told.kernel, told.patches) == ("livepatch_2", "debian:6.1.0-test=6.1-1", tuple(PATCHES))
    assert told.inputs == {"old.ko": "01" * 32}
    assert statement_text(statement()) == text
    key = open_key(str(keys / "key.pem"), keys / "key.crt")
    envelope = envelope_text(text, sign_blob(preauthentication(text), key), "id")
    opened, signatures = open_envelope(envelope)
    assert opened == text
    assert is_blob_signed_by(preauthentication(opened), signatures[0], keys / "key.crt")
    assert not is_blob_signed_by(preauthentication(opened), signatures[0], keys / "other.crt")
    assert not is_blob_signed_by(preauthentication(opened + b" "), signatures[0], keys / "key.crt")


def _without(path: str) -> bytes:
    value = statement()
    at: Any = value
    *way, last = path.split("/")
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    del at[int(last) if last.isdigit() else last]
    return statement_text(value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"payload": 1}',
        b'{"payload": "!", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        b"[" * 5000,
        statement_text(statement()).replace(b"slsa.dev/provenance/v1", b"slsa.dev/provenance/v9"),
        statement_text(statement()).replace(b"b25l", b"b25m"),
        *map(_without, ("subject/0", "predicate", "predicate/buildDefinition/externalParameters/kernel")),
        _without("predicate/buildDefinition/resolvedDependencies/0"),
        _without("predicate/buildDefinition/resolvedDependencies/2"),
    ],
)
def test_broken_statements(text: bytes) -> None:
    with pytest.raises(UserError):
        read_statement(open_envelope(text)[0])


def test_an_sbom_names_all_parts() -> None:
    value = make_sbom(statement(), ["CVE-2026-12345"])
    names = {p["name"] for p in value["packages"]}
    assert {"livepatch_2.ko", "debian:6.1.0-test", "kernel/vmlinux", "fix.patch", "toolchain/gcc-12"} <= names
    refs = {p["SPDXID"] for p in value["packages"]} | {"SPDXRef-DOCUMENT"}
    assert {r["relatedSpdxElement"] for r in value["relationships"]} <= refs
    assert json.dumps(value, sort_keys=True) == json.dumps(make_sbom(statement(), ["CVE-2026-12345"]), sort_keys=True)


def test_which_sections_differ() -> None:
    given = [(".text", b"abcd"), (".rela.x", b"1"), (".rela.x", b"2"), (".gone", b"")]
    built = [(".text", b"abxd"), (".rela.x", b"1"), (".rela.x", b"22"), (".new", b"")]
    found = {d.part: d.why for d in compare_modules(given, built)}
    assert found == {
        ".text": "1 bytes differ, the first at 0x2",
        ".rela.x #2": "1 bytes, built again 2",
        ".gone": "is not in the module that was built again",
        ".new": "is only in the module that was built again",
    }
