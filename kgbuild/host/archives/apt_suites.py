# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives of suites that apt reads, without touching the system's apt: package lists of kgbuild's own in the cache.

A recipe names the suites and the keyring that signs them; the mirror is the one that this system's own sources name,
or what the user says. apt reads a configuration of ours (APT_CONFIG, see apt.conf(5)): its own sources, lists, and
caches, and of the system's settings only how to reach the network. Signatures are required whatever the system's
apt was told: the sources are written here, with Signed-By and nothing else.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.apt import Apt, apt_environment
from kgbuild.host.archives.apt_toolchain import SuiteLists, fetch_packages, plan_toolchain
from kgbuild.host.archives.archive import Archive
from kgbuild.host.archives.suites import MIRROR_VARIABLE, Suites, ToolchainPlan, ToolchainRule
from kgbuild.host.system.run import DISK_FULL, Completed, disk_full, run
from kgbuild.host.system.sealed import write_atomic
from kgbuild.progress import Progress

# Lists are asked for again when they are older than this.
LIST_SECONDS = 24 * 3600.0
_UPDATE_SECONDS = 1800
# Of the system's settings these tell how to reach the network; everything else would change what is believed.
_NETWORK = re.compile(
    r"^(Acquire::(?:(?:http|https|ftp|tor)(?:::|\s)|Retries|ForceIPv[46]|Check-(?:Valid-Until|Date)|Max-ValidTime|"
    r"EnableSrvRecords|AuthConf)|Dir::Etc::netrc)"
)
_INSECURE = re.compile(r"Verify-Peer|Verify-Host|AllowInsecure|AllowWeak|AllowDowngrade", re.IGNORECASE)
# How apt says that something is wrong with a suite.
_FAULT = re.compile(
    r"^[EW]: (?:The repository '\S+ (?P<a>\S+) (?:In)?Release'|Failed to fetch \S*/dists/(?P<b>[^/\s]+)/\S*|"
    r"(?:An error occurred during the signature verification\. .* )?GPG error: \S+ (?P<c>\S+) (?:In)?Release:|"
    r"Release file for \S*/dists/(?P<d>[^/\s]+)/\S+) *(?P<reason>.*)"
)
_GONE = re.compile(r"/(?:In)?Release  404  |no(?:t have| longer has) a Release file")
# What apt says, and what that means.
_PLAIN = {
    "Undetermined Error": "the mirror stopped in the middle of a file",
    "404  Not Found": "the mirror does not have a list that it says it has",
}
_ADDRESS = re.compile(r" *\[IP: [^]]*\]")
_REMEDIES = (
    (
        re.compile(r"GPG|sign|NO_PUBKEY|Clearsigned"),
        "use a mirror of the distribution (--mirror): this one's lists are not its",
    ),
    (
        re.compile(r"expired|not valid yet"),
        "use a mirror that is up to date (--mirror), and check the clock of this machine",
    ),
)
_MIRROR = re.compile(r"^(?:https?|file|ftp)://[^\s'\"]+$|^file:/[^\s'\"]*$")


def find_mirrors(sites: Mapping[str, str], chosen: str, configured: Iterable[str]) -> dict[str, str]:
    """The address of each site: from `chosen` (the user's word for the first site), else the first of the system's
    own addresses that ends as the site does. A site that nobody names lies beside one that is known.

    Raises UserError for what is no address, ToolError where there is none at all.
    """
    found: dict[str, str] = {}
    first = next(iter(sites))
    if chosen:
        if not _MIRROR.match(chosen):
            raise UserError(
                "not the address of a mirror", place=repr(chosen), remedy="an address like http://HOST/debian"
            )
        found[first] = chosen.rstrip("/")
    else:
        for site, ending in sites.items():
            fitting = (uri.rstrip("/") for uri in configured)
            address = next((uri for uri in fitting if uri.rsplit("/", 1)[-1] == ending), None)
            if address is not None:
                found[site] = address
    if not found:
        raise ToolError(
            "the sources of this system name no mirror of the distribution",
            place="apt",
            remedy=f"name one with --mirror or {MIRROR_VARIABLE}",
        )
    known_site, known = next(iter(found.items()))
    stem = known.removesuffix(f"/{sites[known_site]}")
    for site, ending in sites.items():
        # a mirror with an address of another form has all sites in one place
        found.setdefault(site, f"{stem}/{ending}" if stem != known else known)
    return found


def render_sources(suites: Suites, mirrors: Mapping[str, str], names: Iterable[str]) -> str:
    """The sources (deb822, see sources.list(5)) of the suites with these names."""
    wanted = set(names)
    stanzas = []
    for suite in suites.suites:
        if suite.name not in wanted:
            continue
        lines = [
            "Types: deb",
            f"URIs: {mirrors[suite.site]}",
            f"Suites: {suite.name}",
            f"Components: {' '.join(suites.components)}",
            f"Architectures: {suites.architecture}",
            f"Signed-By: {suites.keyring}",
        ]
        if suite.archived:
            lines.append("Check-Valid-Until: no")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def network_settings(dump: str) -> list[str]:
    """Of what `apt-config dump` printed, the lines that tell how to reach the network."""
    return [line for line in dump.splitlines() if _NETWORK.match(line) and not _INSECURE.search(line)]


def render_config(root: Path, sources: Path, name: str, network: Iterable[str]) -> str:
    """An apt.conf(5) for one set of sources. Lists are shared by all sets below `root`."""
    rows = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{sources}",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": "/dev/null",
        "Dir::State": f"{root}/state",
        "Dir::State::Lists": f"{root}/lists",
        "Dir::State::status": f"{root}/status",
        "Dir::Cache": f"{root}/cache",
        "Dir::Cache::archives": f"{root}/packages",
        "Dir::Cache::pkgcache": f"{name}.bin",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Log": f"{root}/log",
        "Acquire::Languages": "none",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "APT::Sandbox::User": "root",
    }
    return "".join([*(f'{key} "{value}";\n' for key, value in rows.items()), *(f"{line}\n" for line in network)])


def read_faults(said: str) -> dict[str, str]:
    """What `apt-get update` complained of, by suite: "" for one that the mirror does not have, else why its lists were
    not taken, in apt's words."""
    found: dict[str, str] = {}
    for line in said.splitlines():
        match = _FAULT.match(line)
        if match is None:
            continue
        suite = next(value for value in match.group("a", "b", "c", "d") if value)
        if _GONE.search(line):
            found.setdefault(suite, "")
        elif not found.get(suite):
            reason = _ADDRESS.sub("", match["reason"]).strip(" .")
            found[suite] = _PLAIN.get(reason, reason) or line[3:]
    return found


def _remedy(said: str) -> str:
    if disk_full(said) or "enough free space" in said:
        return DISK_FULL
    return next(
        (text for pattern, text in _REMEDIES if pattern.search(said)), "check the network and the mirror (--mirror)"
    )


class AptSuites(Apt):
    """Package lists of a distribution's suites in one directory of the cache; a `SuiteArchive`. Creating the object
    touches nothing."""

    def __init__(self, root: Path, suites: Suites, mirror: str = "") -> None:
        self._lists = SuiteLists(root, tuple(dict.fromkeys(s.base for s in suites.suites)))
        super().__init__(self._lists.config)
        self.root = root
        self.suites = suites
        self.mirror = mirror or os.environ.get(MIRROR_VARIABLE, "")

    def update(self, progress: Progress, *, force: bool = False) -> list[str]:
        """See `SuiteArchive`."""
        stamp = self.root / "refreshed"
        mirrors = find_mirrors(self.suites.sites, self.mirror, () if self.mirror else self._configured())
        text = render_sources(self.suites, mirrors, (s.name for s in self.suites.suites))
        if not force and self._is_recent(stamp, text):
            return stamp.read_text().splitlines()
        self._check_keyring()
        self._write(mirrors, text)
        with progress.step("update package lists"):
            done = self._apt("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any", timeout=_UPDATE_SECONDS)
        faults = read_faults(done.stderr)
        names = [suite.name for suite in self.suites.suites]
        lines = [line[3:] for line in done.stderr.splitlines() if line.startswith(("E: ", "W: "))]
        if set(faults) >= set(names) or (done.status != 0 and not faults):
            fact = "; ".join(f"{name}: {fault}" for name, fault in faults.items() if fault)
            raise ToolError(
                fact or ("the mirror has none of the suites" if faults else "; ".join(lines[:3]) or "apt-get failed"),
                place="apt-get update",
                remedy=_remedy(done.stderr),
            )
        gone = [name for name in names if faults.get(name) == ""]
        notes = [f"the mirror has no {', '.join(gone)}"] if gone else []
        notes += [f"the lists of {name} were not taken: {faults[name]}" for name in names if faults.get(name)]
        write_atomic(stamp, "\n".join(notes).encode())
        if any(faults.values()):
            os.utime(stamp, (0, 0))  # they are asked for again by the next run
        return notes

    def _write(self, mirrors: Mapping[str, str], text: str) -> None:
        for folder in ("lists/partial", "packages/partial", "cache", "state", "log"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        write_atomic(self.root / "status", b"")
        network = network_settings(run(["apt-config", "dump"], env=apt_environment()).stdout)
        bases = dict.fromkeys(s.base for s in self.suites.suites)
        sets = {"all": text, **{b: render_sources(self.suites, mirrors, self._names(b)) for b in bases}}
        for name, sources in sets.items():
            own = self.root / "sources" / name
            write_atomic(own / "own.sources", sources.encode())
            write_atomic(self.root / f"{name}.conf", render_config(self.root, own, name, network).encode())

    def _names(self, base: str) -> Sequence[str]:
        return [s.name for s in self.suites.of_base(base)]

    def _is_recent(self, stamp: Path, text: str) -> bool:
        own = self.root / "sources" / "all" / "own.sources"
        try:
            age = time.time() - stamp.stat().st_mtime
            return 0 <= age <= LIST_SECONDS and own.read_text() == text
        except OSError:
            return False

    def _configured(self) -> list[str]:
        done = run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            env=apt_environment(),
            check=False,
        )
        return list(dict.fromkeys(done.stdout.split()))

    def _apt(self, *argv: str, timeout: float | None = None) -> Completed:
        return run(list(argv), env=self._environment, check=False, timeout=timeout)

    @property
    def has_lists(self) -> bool:
        """See `SuiteArchive`."""
        return (self.root / "refreshed").is_file()

    def check(self) -> str:
        """See `SuiteArchive`."""
        self._check_keyring()
        mirrors = find_mirrors(self.suites.sites, self.mirror, () if self.mirror else self._configured())
        return f"{len(self.suites.suites)} suites of {next(iter(mirrors.values()))}"

    def _check_keyring(self) -> None:
        if not self.suites.keyring.is_file():
            raise ToolError(
                "the keyring that signs the package lists is missing",
                place=str(self.suites.keyring),
                remedy=f"install it (Debian: apt-get install {self.suites.keyring.stem})",
            )

    def narrowed(self, label: str) -> Archive:
        """See `Archive`."""
        base = next((s.base for s in self.suites.suites if s.label == label), None)
        if base is None:
            known = dict.fromkeys(s.label for s in self.suites.suites)
            raise UserError("no release of the distribution is called that", place=label, remedy=", ".join(known))
        return Apt(self._lists.config_of(base))

    def plan_toolchain(self, rule: ToolchainRule, text: str, packages: Iterable[tuple[str, str]]) -> ToolchainPlan:
        """See `SuiteArchive`."""
        return plan_toolchain(rule, self._lists, text, packages)

    def fetch_toolchain(self, plan: ToolchainPlan) -> list[Path]:
        """See `SuiteArchive`."""
        return fetch_packages(self._lists, plan)
