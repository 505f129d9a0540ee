# SPDX-License-Identifier: GPL-2.0-or-later
"""From the text by which a kernel names its compiler to the exact packages of a toolchain.

CONFIG_CC_VERSION_TEXT is the first line of the compiler's --version: the distribution writes the version of its package
into it. apt resolves what that version and the kernel's build tools depend on, against a system without any package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.apt import apt_environment, parse_madison, parse_records
from kgbuild.host.archives.suites import ToolchainPackage, ToolchainPlan, ToolchainRule
from kgbuild.host.system.run import run

# 'http://HOST/debian/pool/...deb' make_4.4.1-2_amd64.deb 463280 SHA256:97... (the digest may be missing: apt has it)
_URI = re.compile(r"^'[^']+' (?P<file>\S+) (?P<size>\d+)(?: \S*)?$")
_DEPENDENCY = re.compile(r"^\s*(?P<name>[a-z0-9][a-z0-9+.-]*)")


@dataclass(frozen=True)
class SuiteLists:
    """Package lists that apt_suites.py keeps below `root`, and the bases that its suites belong to."""

    root: Path
    bases: tuple[str, ...]

    @property
    def config(self) -> Path:
        """The apt.conf(5) for all suites."""
        return self.root / "all.conf"

    def config_of(self, base: str) -> Path:
        """The apt.conf(5) for the suites of one base."""
        return self.root / f"{base}.conf"


def match_compiler(rule: ToolchainRule, text: str) -> tuple[str, str] | None:
    """(command, package version) of a compiler's text, or None where it is not one of this distribution."""
    found = rule.text.match(text)
    return (found["command"], found["version"]) if found else None


def parse_dependencies(field: str) -> list[str]:
    """Names in a Depends field: of alternatives the first."""
    found = (_DEPENDENCY.match(part.partition("|")[0]) for part in field.split(","))
    return [m["name"] for m in found if m]


def parse_uris(text: str) -> list[ToolchainPackage]:
    """Package files in the output of `apt-get --print-uris`, by name."""
    found = []
    for line in text.splitlines():
        match = _URI.match(line)
        if match is None:
            continue
        name, _, rest = match["file"].partition("_")
        version = rest.rpartition("_")[0].replace("%3a", ":")
        found.append(ToolchainPackage(name, version, match["file"], int(match["size"])))
    return sorted(found, key=lambda p: p.name)


def find_base(lists: SuiteLists, command: str, version: str) -> str:
    """The base whose suites have this version of the compiler. Raises UserError where none has."""
    known: list[str] = []
    for base in lists.bases:
        done = run(["apt-cache", "madison", command], env=apt_environment(lists.config_of(base)), check=False)
        versions = parse_madison(done.stdout).get(command, [])
        if version in versions:
            return base
        known += [f"{one} ({base})" for one in versions]
    raise UserError(
        f"no suite has version {version} of this compiler",
        place=command,
        remedy=f"there are {', '.join(known)}; --allow-compiler accepts another" if known else "kgbuild kernel search",
    )


def plan_toolchain(
    rule: ToolchainRule, lists: SuiteLists, text: str, packages: Iterable[tuple[str, str]]
) -> ToolchainPlan:
    """The toolchain of the compiler that calls itself `text`. `packages` are (name, version) of the kernel's own
    packages: the libraries that its build tools need come along.

    Raises UserError where the text is no compiler of the distribution or no suite has it, ToolError where apt fails.
    """
    matched = match_compiler(rule, text)
    if matched is None:
        raise UserError(
            f"the kernel was built by {text!r}, which is no compiler of this distribution",
            place="CONFIG_CC_VERSION_TEXT",
            remedy="--toolchain host takes the compiler of this machine",
        )
    command, version = matched
    base = find_base(lists, command, version)
    environment = apt_environment(lists.config_of(base))
    libraries = _libraries(rule, apt_environment(lists.config), packages)
    wanted = [f"{command}={version}", *rule.packages, *libraries]
    # apt does not name what is downloaded already, by a run that was interrupted: so it is shown a folder with nothing
    nothing = lists.root / "none"
    (nothing / "partial").mkdir(parents=True, exist_ok=True)
    argv = ["apt-get", "install", "-qq", "-y", "--print-uris", "-o", f"Dir::Cache::archives={nothing}", *wanted]
    done = run(argv, env=environment, check=False)
    if done.status != 0:
        lines = [line[3:] for line in done.stderr.splitlines() if line.startswith("E: ")]
        raise ToolError("; ".join(lines[:3]) or "the packages can't be resolved", place=f"{base}: {command}")
    return ToolchainPlan(command, version, base, tuple(wanted), tuple(parse_uris(done.stdout)))


def _libraries(rule: ToolchainRule, environment: Mapping[str, str], packages: Iterable[tuple[str, str]]) -> list[str]:
    specs = [f"{name}={version}" for name, version in packages]
    if not specs:
        return []
    records = parse_records(run(["apt-cache", "show", *specs], env=environment, check=False).stdout)
    names = [name for record in records for name in parse_dependencies(record.get("Depends", ""))]
    return sorted({name for name in names if rule.depends.match(name)})


def fetch_packages(lists: SuiteLists, plan: ToolchainPlan) -> list[Path]:
    """Download the package files of a plan, each checked by apt against the signed lists; their paths. Raises
    ToolError."""
    argv = ["apt-get", "install", "-qq", "-y", "--download-only", *plan.wanted]
    done = run(argv, env=apt_environment(lists.config_of(plan.base)), check=False)
    folder = lists.root / "packages"
    paths = [folder / package.file for package in plan.packages]
    if done.status != 0 or not all(path.is_file() for path in paths):
        lines = [line[3:] for line in done.stderr.splitlines() if line.startswith("E: ")]
        raise ToolError(
            "; ".join(lines[:3]) or "a package was not downloaded",
            place=f"{plan.base}: {plan.command}",
            remedy="check the network and the disk, then run the command again",
        )
    return paths
