# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes package files by dpkg-deb and rpmbuild, from values. The same values give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from kgbuild.delivery.package_texts import COPYRIGHT, Package, deb_changelog, deb_control, deb_scripts, rpm_spec
from kgbuild.errors import ToolError
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.locks import temporary_directory
from kgbuild.host.system.run import run

# Where nothing says when: a date that lies before every package, so that no machine finds it in its future.
DEFAULT_EPOCH = 1577836800  # 2020-01-01
# Findings of lintian and rpmlint that are meant to be there.
LINT_TAGS = (
    *("unstripped-binary-or-object", "statically-linked-binary", "missing-PT_GNU_STACK-section"),  # it is a module
    "requires-on-release",  # exactly one kernel is meant
    *("no-signature", "invalid-license"),  # signed by repo; Fedora's and Debian's names of licences differ
    *("only-non-binary-in-usr-lib", "no-documentation", "manpage-not-compressed", "no-manual-page-for-binary"),
)
_SECONDS = 120.0


def source_date() -> int:
    """Seconds since 1970 that packages bear: SOURCE_DATE_EPOCH (reproducible-builds.org), or a fixed date."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(said) if said.isdecimal() and len(said) < 12 else DEFAULT_EPOCH


def delivery_data() -> dict[str, bytes]:
    """The script, its manual page, its units and init scripts, by name."""
    folder = resources.files("kgbuild").joinpath("data/delivery")
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


def _write_tree(root: Path, files: Mapping[str, tuple[bytes, int]], epoch: int) -> None:
    for path, (data, mode) in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(mode)
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            os.utime(Path(folder, name), (epoch, epoch))
        Path(folder).chmod(0o755)
        os.utime(folder, (epoch, epoch))


def make_deb(package: Package, epoch: int, maintainer: str) -> tuple[str, bytes]:
    """The .deb of a package, as its file's name and bytes. Raises ToolError where dpkg-deb is missing or fails."""
    doc = f"usr/share/doc/{package.name}"
    files = {
        **package.files,
        f"{doc}/changelog.gz": (gzip.compress(deb_changelog(package, epoch, maintainer).encode(), 9, mtime=0), 0o644),
        f"{doc}/copyright": (COPYRIGHT.encode(), 0o644),
    }
    for path in [path for path in files if path.startswith("usr/share/man/")]:
        files[f"{path}.gz"] = (gzip.compress(files.pop(path)[0], 9, mtime=0), 0o644)
    if package.lint:
        overrides = "".join(f"{package.name}: {tag}\n" for tag in package.lint)
        files[f"usr/share/lintian/overrides/{package.name}"] = (overrides.encode(), 0o644)
    sums = "".join(
        f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}\n"
        for path, (data, _) in sorted(files.items())
        if path not in package.kept
    )
    control: dict[str, tuple[bytes, int]] = {
        "control": (deb_control(package, sum(len(data) for data, _ in files.values()), maintainer).encode(), 0o644),
        "md5sums": (sums.encode(), 0o644),
        **{name: (text.encode(), 0o755) for name, text in deb_scripts(package).items()},
    }
    if package.kept:
        control["conffiles"] = ("".join(f"/{path}\n" for path in package.kept).encode(), 0o644)
    name = f"{package.name}_{package.version}_{package.arch}.deb"
    with temporary_directory("deb") as work:
        root, made = Path(work) / "root", Path(work) / "made.deb"
        root.mkdir()
        _write_tree(root, {**files, **{f"DEBIAN/{n}": v for n, v in control.items()}}, epoch)
        env = {**child_environment(), "SOURCE_DATE_EPOCH": str(epoch)}
        run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, made], env=env, timeout=_SECONDS)
        return name, made.read_bytes()


def make_rpm(package: Package, epoch: int, maintainer: str) -> tuple[str, bytes]:
    """The .rpm of a package, as its file's name and bytes. Raises ToolError where rpmbuild is missing or fails."""
    with temporary_directory("rpm") as work:
        top = Path(work)
        tree, spec = top / "tree", top / "package.spec"
        tree.mkdir()
        _write_tree(tree, package.files, epoch)
        spec.write_text(rpm_spec(package, epoch, maintainer))
        defines = {
            "_topdir": str(top / "build"),
            "livepatch_tree": str(tree),
            "_buildhost": "localhost",
            "use_source_date_epoch_as_buildtime": "1",
            "clamp_mtime_to_source_date_epoch": "1",
            "_dbpath": str(top / "db"),
        }
        words = [word for key, value in defines.items() for word in ("--define", f"{key} {value}")]
        env = {**child_environment(), "SOURCE_DATE_EPOCH": str(epoch), "HOME": str(top)}
        run(["rpmbuild", "-bb", "--target", package.rpm_arch, *words, spec], env=env, timeout=_SECONDS)
        made = sorted((top / "build").rglob("*.rpm"))
        if len(made) != 1:
            raise ToolError("made no package", place="rpmbuild")
        return made[0].name, made[0].read_bytes()
