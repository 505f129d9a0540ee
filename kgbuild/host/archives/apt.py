# SPDX-License-Identifier: GPL-2.0-or-later
"""What apt knows: package names, versions, sizes. Reads through apt-cache, fetches through apt-get.

Nothing here needs root. Integrity is apt's business: `apt-get download` checks every file against the
signed package lists.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.archive import Archive, GoneError, PackageVersion
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.system.run import DISK_FULL, disk_full, run, tied
from kgbuild.progress import Progress

UPDATE_REMEDY = "apt-get update"

_STALE = ("404  Not Found", "Hash Sum mismatch", "no longer has a Release file")


def version_key(version: str) -> Any:
    """Sort key that orders package versions as Debian policy 5.6.12 says. What is no version comes before all that
    are."""
    from debian.debian_support import NativeVersion

    try:
        return True, NativeVersion(version)
    except ValueError:
        return False, version


def parse_madison(text: str) -> dict[str, list[str]]:
    """Versions of each package, newest first, from what `apt-cache madison` printed; no source entries."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and not fields[2].endswith("Sources"):
            found.setdefault(fields[0], set()).add(fields[1])
    return {name: sorted(versions, key=version_key, reverse=True) for name, versions in found.items()}


def parse_records(text: str) -> list[dict[str, str]]:
    """Fields of every record in the output of `apt-cache show`, of each its first line."""
    from debian.deb822 import Deb822

    paragraphs = Deb822.iter_paragraphs(text.splitlines())
    records = [{name: value.partition("\n")[0] for name, value in record.items()} for record in paragraphs]
    return [record for record in records if "Package" in record]


def apt_environment(config: Path | None = None) -> dict[str, str]:
    """The environment of apt's programs: with an apt.conf(5) of our own, or with this machine's."""
    own = child_environment(network=True)
    return own if config is None else {**own, "APT_CONFIG": str(config)}


_ASK_SECONDS = 20.0


class Apt:
    """Package lists of Debian and what is made from it: those of this machine, or those that an apt.conf(5) of our own
    names (host/archives/suites.py); an `Archive`."""

    refresh = UPDATE_REMEDY
    programs: Mapping[str, str] = {
        "apt-cache": "finding kernels",
        "apt-get": "downloading kernels",
        "dpkg-deb": "unpacking kernels",
    }

    def __init__(self, config: Path | None = None) -> None:
        self._environment = apt_environment(config)

    def narrowed(self, label: str) -> Archive:
        """See `Archive`: of the lists of this machine nobody knows which release they are of."""
        raise UserError("the package lists of this machine are not separated by release", place=label)

    def version_key(self, version: str) -> Any:
        """Sort key that orders package versions as Debian policy 5.6.12 says."""
        return version_key(version)

    def members(self, package: Path) -> Sequence[str]:
        """The command that writes a binary package's files to its standard output, as a tar archive."""
        return ("dpkg-deb", "--fsys-tarfile", str(package))

    def package_names(self, prefix: str) -> list[str]:
        """Names of all packages that begin with `prefix`. Raises ToolError where there are none."""
        names = sorted(set(self._query("pkgnames", prefix).split()))
        if not names:
            raise ToolError(
                f"the package lists of this machine have no {prefix}* at all",
                place="apt",
                remedy=UPDATE_REMEDY,
            )
        return names

    def versions(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Versions of each package that can be downloaded, newest first; unknown names are left out."""
        wanted = sorted(set(names))
        return parse_madison(self._query("madison", *wanted)) if wanted else {}

    def packages(self, wanted: Iterable[tuple[str, str]]) -> list[PackageVersion]:
        """The given (name, version) pairs with sizes. Raises ToolError where one is not in the lists."""
        pairs = list(wanted)
        text = self._query("show", *(f"{name}={version}" for name, version in pairs))
        sizes = {
            (record["Package"], record.get("Version", "")): int(record.get("Size", "0"))
            for record in parse_records(text)
        }
        for name, version in pairs:
            if (name, version) not in sizes:
                raise ToolError(f"version {version} is not in the package lists", place=name, remedy=UPDATE_REMEDY)
        return [PackageVersion(name, version, sizes[name, version]) for name, version in pairs]

    def download(
        self, packages: list[PackageVersion], directory: Path, progress: Progress, title: str
    ) -> dict[str, Path]:
        """Fetch packages into `directory` and return the file of each by package name.

        `title` is what the progress bar calls it.

        Files that are already there and whole are kept (apt checks them). Raises ToolError with
        what apt said.
        """
        total = sum(package.size for package in packages)
        with progress.step(f"download {title}", total, "bytes") as task:
            shown = 0
            stop = threading.Event()

            def watch() -> None:
                nonlocal shown
                while not stop.wait(0.2):
                    now = _bytes_in(directory)
                    task.advance(now - shown)
                    shown = now

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            try:
                done = self._fetch([f"{p.name}={p.version}" for p in packages], directory)
            finally:
                stop.set()
                watcher.join()
            task.advance(max(0, total - shown))
        if done.returncode != 0:
            self._fail(done.stderr)
        return {package.name: self._file_of(package, directory) for package in packages}

    def are_there(self, packages: Iterable[PackageVersion]) -> bool:
        """See `Archive`."""
        specs = [f"{p.name}={p.version}" for p in packages]
        done = run(["apt-get", "download", "-q", "--print-uris", *specs], env=self._environment, check=False)
        addresses = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("'")]
        return done.status == 0 and len(addresses) == len(specs) and all(map(_is_there, addresses))

    def _query(self, *argv: str) -> str:
        try:
            return run(["apt-cache", *argv], env=self._environment, check=False).stdout
        except ToolError as error:
            if "not found" in error.fact:
                raise ToolError(
                    "this machine has no apt, which fetches the kernels of its archive",
                    place="apt-cache",
                    remedy="kgbuild kernel add takes any kernel by its files",
                ) from error
            raise

    def _fetch(self, specs: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                tied(["apt-get", "download", "-q", *specs]),
                cwd=directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError as error:
            raise ToolError("not found on this machine", place="apt-get", remedy=remedy_for("apt-get")) from error

    def _fail(self, stderr: str) -> None:
        gone = re.search(r"Failed to fetch (\S+)\s+404", stderr)
        if gone is not None:
            fact = f"the archive has dropped it, though its lists still name it: {gone[1].rpartition('/')[2]}"
            raise GoneError(fact, place="apt-get download", remedy="kgbuild kernel search lists others")
        lines = [line for line in stderr.splitlines() if line.startswith("E: ")] or stderr.splitlines()[-3:]
        fact = "; ".join(line.removeprefix("E: ").strip() for line in lines[:3]) or "download failed"
        remedy = "check the network, then run the command again"
        if any(word in stderr for word in _STALE) or "Unable to locate" in stderr:
            remedy = f"{UPDATE_REMEDY} (the package lists are older than the archive)"
        if disk_full(stderr):
            remedy = DISK_FULL
        raise ToolError(fact, place="apt-get download", remedy=remedy)

    def _file_of(self, package: PackageVersion, directory: Path) -> Path:
        version = package.version.replace(":", "%3a")
        for file in directory.glob(f"{package.name}_*.deb"):
            if file.name.startswith(f"{package.name}_{version}_"):
                return file
        raise ToolError("apt-get download left no file", place=package.name, remedy="run the command again")


def _bytes_in(directory: Path) -> int:
    total = 0
    for file in directory.iterdir():
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


def _is_there(address: str) -> bool:
    """Whether a file of the archive can be fetched, asked without fetching it. What can't be asked counts as there."""
    import urllib.error
    import urllib.request

    if not address.startswith(("http://", "https://")):
        return True
    request = urllib.request.Request(address, method="HEAD")  # an address of apt's
    try:
        with urllib.request.urlopen(request, timeout=_ASK_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in (404, 410)
    except (OSError, ValueError):
        return True
