# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the packages, as text: the files of each, and what package managers run when one comes or goes.

No time of day and no path of the machine is in them. Everything of a module went through patch_facts.py, which lets no
character pass that a control file, a spec file or a shell could take for more than a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

from kgbuild.arch import arch_of, known
from kgbuild.delivery.patch_facts import PatchFacts
from kgbuild.errors import UserError

TOOLS = "kgbuild-livepatch"
MAINTAINER = "kgbuild developers <developers@kgbuild.invalid>"  # where nobody is named
STORE = "usr/lib/livepatch"
# Debian's word for a package of every architecture
ALL = "all"
LICENCE = "GPL-2.0-or-later"

_MAINTAINER = re.compile(r"[^\x00-\x1f<>%\x7f]{1,100} <\w[\w.+-]{0,60}@\w[\w.-]{0,100}>", re.ASCII)


def check_maintainer(text: str) -> str:
    """Who is named in a package: `Name <mail>`. Raises UserError, also for what a terminal does not show or turns
    round."""
    if not _MAINTAINER.fullmatch(text) or not text.isprintable():
        fact = f"{text!r} does not name a person and an address"
        raise UserError(fact, place="--maintainer", remedy="give it as 'Name <name@example.org>'")
    return text


_INSTALL = """\
status=0
livepatch install /{store}/{kernel}/{name}.ko || status=$?
# not in force, or not yet, is no failed installation: it is loaded at the next boot, and `livepatch status` says so
case $status in
0 | 1 | 4) ;;
*) exit "$status" ;;
esac
"""
_REMOVE = "livepatch remove {kernel} || true\n"


@dataclass(frozen=True)
class Package:
    """One package, of whatever kind.

    files      path -> bytes and mode; `kept` are those that a user may change
    after      shell commands when it has come or was upgraded, `before` when it goes for good, `purged` (Debian) when
               its last files go
    lint       tags of lintian that are meant to be there
    depends    names and versions as Debian writes them; `requires` as RPM does
    """

    name: str
    version: str
    arch: str
    summary: str
    about: str
    files: Mapping[str, tuple[bytes, int]]
    depends: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    after: str = ""
    before: str = ""
    kept: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    purged: str = ""
    lint: tuple[str, ...] = ()

    @property
    def rpm_arch(self) -> str:
        """What RPM calls the architecture."""
        if self.arch == ALL:
            return "noarch"
        return next(arch.platform.rpm_arch for arch in known() if arch.platform.deb_arch == self.arch)


def patch_package(
    facts: PatchFacts,
    module: bytes,
    documents: Mapping[str, bytes],
    kernel_package: str,
    kernel_requires: str,
) -> Package:
    """The package of one module. `documents` go to its folder below /usr/share/doc, by name; `kernel_package` is the
    dependency on exactly that kernel for Debian, `kernel_requires` for RPM."""
    platform = arch_of(facts.machine).platform
    words = {"store": STORE, "kernel": facts.kernel_release, "name": facts.name}
    place = f"{STORE}/{facts.kernel_release}/{facts.name}"
    doc = f"usr/share/doc/{facts.package}"
    fixed = f"fixes {', '.join(facts.cves)}" if facts.cves else f"patches {', '.join(facts.patches)}"
    return Package(
        facts.package,
        str(facts.release),
        platform.deb_arch,
        f"live patch for the kernel {facts.kernel_release}",
        f"Release {facts.release} for the running kernel {facts.kernel_release} ({facts.kernel_version}) with\n"
        f"build-id {facts.build_id}. It is loaded when it is\ninstalled and at every boot of that kernel.",
        {
            f"{place}.ko": (module, 0o644),
            f"{place}.info": (facts.info.encode(), 0o644),
            **{f"{doc}/{name}": (data, 0o644) for name, data in sorted(documents.items())},
        },
        (TOOLS, kernel_package),
        (TOOLS, kernel_requires),
        _INSTALL.format(**words),
        _REMOVE.format(**words),
        changes=(f"Release {facts.release}: {fixed}.", *(f"Replaces {f}." for f in facts.functions[:50])),
        lint=("unstripped-binary-or-object",),
    )


def tools_package(version: str, data: Mapping[str, bytes], *, debian: bool) -> Package:
    """The package of the script. `data` are the files of kgbuild/data/delivery; `debian`: units where Debian has them,
    and init scripts for machines without systemd."""
    systemd = "usr/lib/systemd/system"
    scripts = {
        "etc/init.d/livepatch": (data["livepatch.init"], 0o755),
        "etc/init.d/livepatch-booted": (data["livepatch-booted.init"], 0o755),
    }
    return Package(
        TOOLS,
        version,
        ALL,
        "load live patches made by kgbuild, and show and roll them back",
        "The program livepatch loads live patches for the kernel that runs, at boot too,\n"
        "shows what is patched, and takes patches back. It is a shell script.",
        {
            "usr/sbin/livepatch": (data["livepatch"], 0o755),
            "usr/share/man/man8/livepatch.8": (data["livepatch.8"], 0o644),
            f"{systemd}/livepatch.service": (data["livepatch.service"], 0o644),
            f"{systemd}/livepatch-booted.service": (data["livepatch-booted.service"], 0o644),
            **(scripts if debian else {}),
        },
        ("kmod",),
        ("kmod", "systemd"),
        _DEBIAN_ENABLE if debian else _ENABLE,
        _DEBIAN_DISABLE if debian else _DISABLE,
        tuple(scripts) if debian else (),
        (f"kgbuild {version}.",),
        _DEBIAN_GONE if debian else "",
        ("init.d-script-depends-on-all-virtual-facility",) if debian else (),
    )


# How services are enabled and disabled, by Debian's helpers and by systemd alone.
_DEBIAN_ENABLE = """\
deb-systemd-helper enable livepatch.service livepatch-booted.service >/dev/null || true
update-rc.d livepatch defaults >/dev/null || true
update-rc.d livepatch-booted defaults >/dev/null || true
"""
_DEBIAN_DISABLE = """\
deb-systemd-helper disable livepatch.service livepatch-booted.service >/dev/null || true
"""
_DEBIAN_GONE = """\
update-rc.d livepatch remove >/dev/null || true
update-rc.d livepatch-booted remove >/dev/null || true
deb-systemd-helper purge livepatch.service livepatch-booted.service >/dev/null || true
"""
_ENABLE = "systemctl enable livepatch.service livepatch-booted.service >/dev/null 2>&1 || :\n"
_DISABLE = "systemctl disable livepatch.service livepatch-booted.service >/dev/null 2>&1 || :\n"


def meta_package(facts: PatchFacts) -> Package:
    """The package that follows the newest kernel of a flavour: livepatch-cloud-amd64."""
    flavour = facts.flavour or "kernel"
    return Package(
        f"livepatch-{flavour}",
        str(facts.release),
        ALL,
        f"live patches for the newest {flavour} kernel",
        "This metapackage depends on the newest live patch of the newest kernel that has\n"
        'one. For the kernel that runs, install "livepatch-$(uname -r)".',
        {},
        (f"{facts.package} (>= {facts.release})",),
        (f"({facts.package} >= {facts.release} if {rpm_kernel(facts)})",),
        changes=(f"Release {facts.release}.",),
    )


# -- Debian ------------------------------------------------------------------------------------------------------------


def deb_control(package: Package, size: int, maintainer: str) -> str:
    """DEBIAN/control; `size` is what the files take, in bytes."""
    section = "kernel" if package.files else "metapackages"
    about = "\n".join(f" {line}" if line else " ." for line in package.about.split("\n"))
    depends = f"Depends: {', '.join(package.depends)}\n" if package.depends else ""
    return (
        f"Package: {package.name}\nVersion: {package.version}\nArchitecture: {package.arch}\n"
        f"Maintainer: {maintainer}\nInstalled-Size: {(size + 1023) // 1024}\n{depends}"
        f"Section: {section}\nPriority: optional\nDescription: {package.summary}\n{about}\n"
    )


def deb_changelog(package: Package, epoch: int, maintainer: str) -> str:
    """The changelog of one release, in Debian's form. `epoch` is seconds since 1970."""
    lines = "".join(f"  * {change}\n" for change in package.changes)
    when = formatdate(epoch, usegmt=False).replace("-0000", "+0000")
    return f"{package.name} ({package.version}) stable; urgency=high\n\n{lines}\n -- {maintainer}  {when}\n"


def deb_scripts(package: Package) -> dict[str, str]:
    """Maintainer scripts by name. An upgrade runs `after` of the new package alone, so that the kernel replaces one
    patch by the next in one transition."""
    scripts = {}
    if package.after:
        body = "".join(f"    {line}\n" for line in package.after.splitlines())
        scripts["postinst"] = f'#!/bin/sh\nset -e\n\nif [ "$1" = configure ]; then\n{body}fi\n\nexit 0\n'
    if package.before:
        body = "".join(f"    {line}\n" for line in package.before.splitlines())
        scripts["prerm"] = f'#!/bin/sh\nset -e\n\nif [ "$1" = remove ]; then\n{body}fi\n\nexit 0\n'
    if package.purged:
        body = "".join(f"    {line}\n" for line in package.purged.splitlines())
        scripts["postrm"] = f'#!/bin/sh\nset -e\n\nif [ "$1" = purge ]; then\n{body}fi\n\nexit 0\n'
    return scripts


COPYRIGHT = f"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: made by kgbuild from the kernel's source and the patches in this folder

Files: *
Copyright: 1991 the authors of the Linux kernel and of the patches
License: {LICENCE}
 On Debian systems, the text of the GNU General Public License version 2 is in
 /usr/share/common-licenses/GPL-2.
"""


def rpm_kernel(facts: PatchFacts) -> str:
    """The kernel as an RPM dependency: what kernel packages provide, or, where its release is no version of RPM, the
    folder of its modules."""
    plain = facts.kernel_release.count("-") < 2
    return f"kernel-uname-r = {facts.kernel_release}" if plain else f"/lib/modules/{facts.kernel_release}"


# -- RPM ---------------------------------------------------------------------------------------------------------------


def rpm_spec(package: Package, epoch: int, maintainer: str) -> str:
    """A spec file that packs the files below %{livepatch_tree} as they are: nothing is stripped, compressed or looked
    into, because `strip -g` would make a live patch module useless."""
    requires = "".join(f"Requires: {one}\n" for one in package.requires)
    scripts = f"\n%post\n{package.after}" if package.after else ""
    if package.before:
        body = "".join(f"    {line}\n" for line in package.before.splitlines())
        scripts += f'\n%preun\nif [ "$1" = 0 ]; then\n{body}fi\n'
    files = "".join(
        f"{'%config ' if path in package.kept else ''}%attr({mode:04o},root,root) /{path}\n"
        for path, (_, mode) in sorted(package.files.items())
    )
    changes = "".join(f"- {change}\n" for change in package.changes)
    day = formatdate(epoch).split()  # Mon, 05 Jan 2026 ...
    when = f"{day[0].rstrip(',')} {day[2]} {day[1]} {day[3]}"
    return f"""\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global __strip /bin/true
%global _build_id_links none
%global _binary_payload w19.zstdio
Name: {package.name}
Version: {package.version}
Release: 1
Summary: {package.summary[:1].upper()}{package.summary[1:]}
Packager: {maintainer}
License: {LICENCE}
Group: System Environment/Kernel
URL: https://www.kernel.org/doc/html/latest/livepatch/livepatch.html
BuildArch: {package.rpm_arch}
AutoReqProv: no
{requires}
%description
{package.about}

%install
cp -a %{{livepatch_tree}}/. %{{buildroot}}/
{scripts}
%files
{files}
%changelog
* {when} {maintainer} - {package.version}-1
{changes}"""
