# SPDX-License-Identifier: GPL-2.0-or-later
"""A mirror of a distribution with packages of a few bytes, signed by a key that the test made, which can lie, stop in
the middle, and lack files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kgbuild.host.archives.suites import Suite, Suites

ARCHITECTURE = "amd64"
SUITE = "stable"


@contextmanager
def signing_keys(count: int) -> Iterator[Path]:
    """A directory of gpg with keys, key0 to key(COUNT - 1), each also in a file keyN.gpg. Its name is short: gpg's
    sockets lie in it."""
    home = Path(tempfile.mkdtemp(prefix="kg", dir="/tmp"))
    try:
        for number in range(count):
            _gpg(home, "--quick-gen-key", f"key{number}@test.invalid", "ed25519", "sign", "never")
            exported = home / f"key{number}.gpg"
            exported.write_bytes(_gpg(home, "--export", f"key{number}@test.invalid"))
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, timeout=30)
        shutil.rmtree(home, ignore_errors=True)


def _gpg(home: Path, *words: str, data: bytes = b"") -> bytes:
    argv = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", *words]
    return subprocess.run(argv, input=data, check=True, capture_output=True, timeout=60).stdout


@dataclass
class Mirror:
    """What a mirror has below `root`: one suite. `faults` maps the end of a path to what is wrong with it when it is
    asked for: "404", "500", "cut" (half of it comes), "other" (as long, but other bytes), "endless"."""

    root: Path
    keys: Path
    suite: str = SUITE
    faults: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def suites(self, *more: Suite) -> Suites:
        """What a recipe would say of it."""
        own = Suite(self.suite, "main", "deb99", self.suite)
        return Suites(self.keys / "key0.gpg", ARCHITECTURE, ("main",), {"main": "debian"}, (own, *more))

    def pad(self, size: int) -> None:
        """Let the list of packages be larger by so many bytes."""
        for number in range(size // 1000):
            self._records.append(
                f"Package: padding{number}\nVersion: 1\nArchitecture: {ARCHITECTURE}\nFilename: none\nSize: 1\n"
                f"SHA256: {'0' * 64}\nDescription: {'x' * 1000}\n"
            )

    def add(
        self, name: str, version: str, files: Mapping[str, bytes], depends: str = "", *, packed: bool = False
    ) -> Path:
        """Put a package there, and into the list that `publish` makes; its file. It is small where it is `packed`."""
        tree = self.root / "build" / name
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {ARCHITECTURE}\nMaintainer: T <t@test.invalid>\n"
        control += (f"Depends: {depends}\n" if depends else "") + "Description: test\n"
        (tree / "DEBIAN" / "control").write_text(control)
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        pool = self.root / "debian" / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        package = pool / f"{name}_{version}_{ARCHITECTURE}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz" if packed else "-Znone", "-b", tree, package],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
        data = package.read_bytes()
        self._records.append(
            f"{control}Filename: pool/{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        return package

    @cached_property
    def _records(self) -> list[str]:
        return []

    def publish(
        self, key: str = "key0", *, suite: str = "", fields: str = "", listed: bytes | None = None, signed: bool = True
    ) -> None:
        """Write the lists and sign them. `fields` are more of Release; `listed` is what the list of packages really is,
        where that is not what Release says."""
        suite = suite or self.suite
        packages = "\n".join(self._records).encode()
        folder = self.root / "debian" / "dists" / suite
        (folder / "main" / f"binary-{ARCHITECTURE}").mkdir(parents=True, exist_ok=True)
        name = f"main/binary-{ARCHITECTURE}/Packages"
        (folder / name).write_bytes(packages if listed is None else listed)
        release = f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: {ARCHITECTURE}\n"
        if "Date:" not in fields:
            release += "Date: Mon, 05 Jan 2026 12:00:00 UTC\n"
        release += fields
        release += f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} {name}\n"
        (folder / "Release").write_text(release)
        (folder / "InRelease").unlink(missing_ok=True)
        if signed:
            words = ("--local-user", f"{key}@test.invalid", "--clearsign")
            (folder / "InRelease").write_bytes(_gpg(self.keys, *words, data=release.encode()))

    @contextmanager
    def served(self) -> Iterator[str]:
        """The address of the mirror while the context lasts."""
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/debian"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One answer of the server."""
        self.asked.append(handler.path)
        path = self.root / handler.path.lstrip("/")
        fault = next((fault for end, fault in self.faults.items() if handler.path.endswith(end)), "")
        if fault in ("404", "500") or not path.is_file():
            handler.send_error(int(fault) if fault.isdigit() else 404)
            return
        data = path.read_bytes()
        handler.send_response(200)
        if fault == "endless":
            handler.end_headers()
            try:
                for _ in range(200):
                    handler.wfile.write(bytes(1 << 20))
            except OSError:
                return
            return
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if fault == "cut":
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
            return
        handler.wfile.write(bytes(byte ^ 1 for byte in data) if fault == "other" else data)
