# SPDX-License-Identifier: GPL-2.0-or-later
"""Which keys a kernel has, by what keyctl prints, and whether a module's is one of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgbuild.cli.delivery.sign import look_at_signature
from kgbuild.delivery.kernel_keys import KernelKey, keyrings_with, read_certificate_names, read_kernel_keys
from kgbuild.errors import ToolError, UserError
from kgbuild.host.delivery.kernel_keys import certificate_names, kernel_keys
from kgbuild.host.delivery.signing import open_key, sign_module
from tests.support.live_kernel import module_bytes

MODULE = module_bytes("livepatch_2")
SHOWN = """\
Keyring
 921856277 ---lswrv      0     0  keyring: .builtin_trusted_keys
 771997900 ---lswrv      0     0   \\_ asymmetric: Debian Secure Boot CA: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1
Keyring
 521856277 ---lswrv      0     0  keyring: .secondary_trusted_keys
 921856277 ---lswrv      0     0   \\_ keyring: .builtin_trusted_keys
 771997900 ---lswrv      0     0   |   \\_ asymmetric: Debian Secure Boot CA: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1
 771997901 ---lswrv      0     0   \\_ asymmetric: Second: aa00
Keyring
  21856277 ---lswrv      0     0  keyring: .platform
 771997902 --als--v      0     0   \\_ asymmetric: {name}: {identifier}
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """mine.crt with a key identifier, bare.crt without, and another."""
    folder = tmp_path_factory.mktemp("keys")
    for name, more in (
        ("mine", []),
        ("other", []),
        ("bare", ["-addext", "subjectKeyIdentifier=none", "-set_serial", "0x0123456789abcdef"]),
    ):
        words = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.pem", "-out", f"{name}.crt"]
        words += ["-subj", f"/O=Example/CN={name} key", *more]
        subprocess.run(["openssl", "req", "-new", "-x509", *words], cwd=folder, check=True, capture_output=True)
    yield folder


def signed(keys: Path, name: str) -> bytes:
    return sign_module(MODULE, open_key(str(keys / f"{name}.pem"), keys / f"{name}.crt"))


def test_what_keyctl_shows() -> None:
    found = read_kernel_keys(SHOWN.format(name="Example: mine key", identifier="0badcafe"))
    assert [(key.keyring, key.name) for key in found] == [
        (".builtin_trusted_keys", "Debian Secure Boot CA"),
        (".secondary_trusted_keys", "Second"),
        (".platform", "Example: mine key"),
    ]
    assert found[0].identifier == "6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Session Keyring\n 771997900 --alswrv      0 65534  keyring: _ses\n"
        " 771997901 --alswrv      0     0   \\_ asymmetric: mine: aabb\n",
        " 771997901 --alswrv      0     0   \\_ asymmetric: mine: aabb\n",
        " 771997900 --alswrv      0     0  keyring: .platform\n"
        " 771997901 --alswrv      0     0   \\_ user: mine: aabb\n",
        " 771997900 --alswrv      0     0  keyring: .ima\n 771997901 --alswrv 0 0   \\_ asymmetric: mine: aabb\n",
        "\x00\xff" * 50,
    ],
)
def test_what_is_no_key_that_counts(text: str, tmp_path: Path) -> None:
    assert read_kernel_keys(text) == ()
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match="names no key") as caught:
        kernel_keys(str(tmp_path / "keys"))
    assert "keyctl show %:.builtin_trusted_keys" in caught.value.remedy


def test_whether_a_kernel_has_the_key(keys: Path, tmp_path: Path) -> None:
    names = certificate_names(keys / "mine.crt")
    assert names.common_name == "mine key" and len(names.identifier) == 40
    path = tmp_path / "keys"
    path.write_text(SHOWN.format(name="Example: mine key", identifier=names.identifier))
    listed = kernel_keys(str(path))
    seen = look_at_signature(signed(keys, "mine"), keys / "mine.crt", "x", listed)
    assert seen.data is not None and (seen.data["trusted"], seen.data["keyrings"]) == (True, [".platform"])
    assert ".platform" in seen.text and seen.findings == ()
    other = look_at_signature(signed(keys, "other"), keys / "other.crt", "x", listed)
    assert other.data is not None and (other.data["trusted"], other.data["keyrings"]) == (False, [])
    (finding,) = other.findings
    assert finding.code == "V61-signature" and "does not have the key" in finding.fact and "mokutil" in finding.remedy
    (finding,) = look_at_signature(MODULE, None, "x", listed).findings
    assert "has no signature" in finding.fact


def test_a_certificate_without_a_key_identifier(keys: Path) -> None:
    names = certificate_names(keys / "bare.crt")
    assert (names.identifier, names.serial) == ("", "0123456789abcdef")
    listed = [KernelKey(".machine", "Example: bare key", "123456789abcdef")]
    assert keyrings_with(listed, names) == (".machine",)
    assert keyrings_with([KernelKey(".machine", "Another", "0123456789abcdef")], names) == ()
    assert keyrings_with(listed, read_certificate_names("")) == ()


def test_without_a_certificate_a_name_is_no_answer(keys: Path) -> None:
    """Two certificates may have one name: what is trusted stays open."""
    for name, words in (
        ("Example: mine key", ".platform has a certificate of that name"),
        ("x", "no certificate of that"),
    ):
        listed = read_kernel_keys(SHOWN.format(name=name, identifier="aa"))
        seen = look_at_signature(signed(keys, "mine"), None, "x", listed)
        assert words in seen.text and seen.data is not None and seen.data["trusted"] is None and seen.findings == ()


def test_the_kernel_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "keyctl"
    program.write_text("#!/bin/sh\necho 'keyctl_read_alloc: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ToolError, match="shows no key that it trusts: keyctl_read_alloc"):
        kernel_keys("running")
    (tmp_path / "shown").write_text(SHOWN.format(name="mine", identifier="aabb"))
    program.write_text(f'#!/bin/sh\n[ "$1 $2" = "show %:.platform" ] && cat {tmp_path}/shown\n')
    assert KernelKey(".platform", "mine", "aabb") in kernel_keys("running")


def test_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(UserError, match="no certificate"):
        certificate_names(tmp_path / "x")
