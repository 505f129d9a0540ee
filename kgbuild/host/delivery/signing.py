# SPDX-License-Identifier: GPL-2.0-or-later
"""Signs modules and statements by openssl, with a key in a file or in a PKCS#11 token, and looks at signatures.

The key is read by openssl alone. Its passphrase or PIN comes from the environment variable KGBUILD_SIGN_PIN and goes to
openssl through a pipe: it is on no command line, in no file and in no message.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from kgbuild.delivery.signature import ModuleSignature, append_signature, read_signer, split_signature
from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.locks import temporary_directory
from kgbuild.host.system.run import Completed, run

PIN = "KGBUILD_SIGN_PIN"
_PASSED_ON = ("SOFTHSM2_CONF", "PKCS11_MODULE_PATH", "OPENSSL_CONF", "OPENSSL_ENGINES")
_SECONDS = 60.0
_SIGN = ("-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap", "-outform", "DER")


@dataclass(frozen=True)
class SigningKey:
    """A private key (a PEM file, or a pkcs11: URI) and the certificate that belongs to it."""

    key: str
    certificate: Path
    digest: str = "sha256"

    @property
    def in_token(self) -> bool:
        return self.key.startswith("pkcs11:")


def open_key(key: str, certificate: Path | None) -> SigningKey:
    """A key that works: something is signed with it, and the certificate fits. Raises UserError where it does not."""
    if certificate is None:
        raise UserError("a key without its certificate", place="--sign-key", remedy="say --sign-cert CERT too")
    opened = SigningKey(key, certificate)
    if opened.in_token:
        if re.search(r"[?&;]pin-value=", key):
            fact = "the URI holds a PIN, which everybody could read in the list of processes"
            raise UserError(fact, place="--sign-key", remedy=f"put the PIN into the environment as {PIN}")
    elif not Path(key).is_file():
        raise UserError("no such file", place=f"--sign-key {key}", remedy="name a PEM file or a pkcs11: URI")
    if not certificate.is_file():
        raise UserError("no such file", place=f"--sign-cert {certificate}", remedy="name a certificate in PEM")
    _check_fit(opened)
    return opened


def _check_fit(key: SigningKey) -> None:
    probe = b"kgbuild"
    made = _pkcs7(probe, key)
    if _verify(probe, made, key.certificate).status != 0:
        fact = "the certificate is not that of the key"
        raise UserError(fact, place=f"--sign-cert {key.certificate}", remedy="give the certificate of --sign-key")


def sign_module(module: bytes, key: SigningKey) -> bytes:
    """The module with a signature by this key, in place of one that it had. Raises UserError where the key can't be
    used, ToolError where openssl is missing."""
    bare, _ = split_signature(module)
    return append_signature(bare, _pkcs7(bare, key))


def sign_blob(data: bytes, key: SigningKey) -> bytes:
    """A plain signature over some bytes, as DSSE has it: by the key alone, with its digest."""
    words = ["dgst", f"-{key.digest}", *(("-engine", "pkcs11", "-keyform", "engine") if key.in_token else ())]
    with temporary_directory("sign") as work:
        path, made = Path(work, "data"), Path(work, "signature")
        path.write_bytes(data)
        _openssl([*words, "-sign", key.key, "-passin", "stdin", "-out", str(made), str(path)], key)
        return made.read_bytes()


def _pkcs7(data: bytes, key: SigningKey) -> bytes:
    """The bytes that scripts/sign-file makes with the same key."""
    engine = ("-engine", "pkcs11", "-keyform", "engine") if key.in_token else ()
    with temporary_directory("sign") as work:
        path, made = Path(work, "data"), Path(work, "signature")
        path.write_bytes(data)
        words = ["cms", *_SIGN, *engine, "-md", key.digest, "-signer", str(key.certificate), "-inkey", key.key]
        _openssl([*words, "-in", str(path), "-out", str(made), "-passin", "stdin"], key)
        return made.read_bytes()


def _openssl(words: list[str], key: SigningKey) -> None:
    done = run(["openssl", *words], env=_environment(), check=False, timeout=_SECONDS, stdin=_pin() + "\n")
    if done.status == 0:
        return
    place = f"--sign-key {key.key}"
    said = done.stderr
    if "private key does not match" in said or "key values mismatch" in said:
        fact = "the certificate is not that of the key"
        raise UserError(fact, place=f"--sign-cert {key.certificate}", remedy="give the certificate of --sign-key")
    if re.search(r"bad decrypt|maybe wrong password|PIN|bad password|login|empty password", said, re.IGNORECASE):
        fact = "the passphrase or PIN is wrong" if _pin() else "the key has a passphrase or PIN, and none is given"
        raise UserError(fact, place=place, remedy=f"put it into the environment as {PIN}")
    if "signer certificate" in said or "Could not read signer" in said or "unable to load signing cert" in said.lower():
        raise UserError(
            "is no certificate in PEM", place=f"--sign-cert {key.certificate}", remedy="openssl x509 -in FILE"
        )
    lines = [line for line in said.strip().splitlines() if line][:3]
    raise UserError(
        f"openssl can't use the key: {' / '.join(lines)}", place=place, remedy="give a PEM file or pkcs11: URI"
    )


def _pin() -> str:
    return os.environ.get(PIN, "").split("\n", 1)[0]


def _environment() -> dict[str, str]:
    return {**child_environment(), **{name: os.environ[name] for name in _PASSED_ON if name in os.environ}}


def _verify(data: bytes, pkcs7: bytes, certificate: Path) -> Completed:
    with temporary_directory("sign") as work:
        content, message = Path(work, "data"), Path(work, "signature")
        content.write_bytes(data)
        message.write_bytes(pkcs7)
        words: list[str | Path] = ["cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-content", content]
        more: list[str | Path] = ["-certfile", certificate, "-nointern", "-noverify", "-out", os.devnull]
        return run(["openssl", *words, *more], check=False, timeout=_SECONDS)


def read_signature(module: bytes) -> ModuleSignature | None:
    """Who signed a module; None where nobody did. Raises ToolError where the signature is damaged or openssl is
    missing."""
    _, message = split_signature(module)
    if message is None:
        return None
    with temporary_directory("sign") as work:
        path = Path(work, "signature")
        path.write_bytes(message)
        words: list[str | Path] = ["cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", path]
        done = run(["openssl", *words], check=False, timeout=_SECONDS)
    found = read_signer(done.stdout) if done.status == 0 else None
    if found is None:
        raise ToolError("its signature is damaged", place="openssl", remedy="sign it again")
    return found


def is_signed_by(module: bytes, certificate: Path) -> bool:
    """Whether a module's signature is by the key of a certificate, over the module's very bytes. Raises UserError where
    the certificate can't be read."""
    data, message = split_signature(module)
    if not certificate.is_file():
        raise UserError("no such file", place=f"--certificate {certificate}", remedy="name a certificate in PEM")
    if not message:
        return False
    checked = run(["openssl", "x509", "-noout", "-in", certificate], check=False, timeout=_SECONDS)
    if checked.status != 0:
        raise UserError(
            "is no certificate in PEM", place=f"--certificate {certificate}", remedy="openssl x509 -in FILE"
        )
    return _verify(data, message, certificate).status == 0


def is_blob_signed_by(data: bytes, signature: bytes, certificate: Path) -> bool:
    """Whether a plain signature over some bytes is by the key of a certificate."""
    public = run(["openssl", "x509", "-noout", "-pubkey", "-in", certificate], check=False, timeout=_SECONDS)
    if public.status != 0:
        raise UserError(
            "is no certificate in PEM", place=f"--certificate {certificate}", remedy="openssl x509 -in FILE"
        )
    with temporary_directory("sign") as work:
        content, made, key = Path(work, "data"), Path(work, "signature"), Path(work, "public.pem")
        content.write_bytes(data)
        made.write_bytes(signature)
        key.write_text(public.stdout)
        words: list[str | Path] = ["dgst", "-sha256", "-verify", key, "-signature", made, content]
        return run(["openssl", *words], check=False, timeout=_SECONDS).status == 0
