# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild kernel`: fetch, list, add and remove kernels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kgbuild.cli import options
from kgbuild.errors import UserError
from kgbuild.model import Kernel

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_directory = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(short_help="Fetch, list, add and remove kernels.")
def kernel() -> None:
    """Fetch, list, add and remove kernels.

    Kernels are kept in the cache (~/.cache/kgbuild, or below XDG_CACHE_HOME).

    \b
    Names:
      debian:newest-6.1-cloud       the newest complete one of a series
      debian:6.1.0-56-cloud-amd64   a release, optionally =VERSION
      local:NAME                    one added by hand
      running                       the kernel of this machine
    """


@kernel.command()
@click.argument("name")
@options.jobs_option
@options.common_options
def fetch(
    name: str,
    jobs: int,
    common: options.Common,
) -> None:
    """Download and prepare a kernel, unless it is in the cache.

    \b
    Example:
      kgbuild kernel fetch debian:newest-6.1-cloud
    """
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.report.build import kernel_report

    output = common.output()
    found = ensure_kernel(name, progress=output, offline=common.offline, jobs=jobs)
    common.write_report(kernel_report(found))
    output.line("kernel", str(found.id))


@kernel.command()
@click.argument("name")
@click.option("--source", type=_directory, required=True, help="Source tree (only read).")
@click.option("--config", type=_file, required=True, help="The kernel's .config.")
@click.option("--vmlinux", type=_file, required=True, help="Unstripped vmlinux, with debug information if any.")
@click.option("--image", type=_file, required=True, help="Bootable bzImage of the same build.")
@click.option("--symvers", type=_file, required=True, help="Module.symvers of the same build.")
@click.option("--modules", type=_directory, help="Directory with the kernel's .ko files.")
@click.option("--cc", default="", help="Compiler; else the one the config names, for example gcc-12.")
@options.jobs_option
@options.common_options
def add(
    name: str,
    source: Path,
    config: Path,
    vmlinux: Path,
    image: Path,
    symvers: Path,
    modules: Path | None,
    cc: str,
    jobs: int,
    common: options.Common,
) -> None:
    """Add a kernel of one's own; it is then named local:NAME. Its files are only read.

    \b
    Example:
      kgbuild kernel add mine --source linux --config linux/.config --vmlinux linux/vmlinux \\
        --image linux/arch/x86/boot/bzImage --symvers linux/Module.symvers
    """
    from kgbuild.host.kernels.local import LocalKernel, add_kernel
    from kgbuild.report.build import kernel_report

    output = common.output()
    name = name.removeprefix("local:")
    local = LocalKernel(name, source, config, vmlinux, image, symvers, modules, cc)
    added = add_kernel(local, progress=output, jobs=jobs)
    common.write_report(kernel_report(added))
    output.line("kernel", str(added.id))


@kernel.command("list")
@options.common_options
def list_(
    common: options.Common,
) -> None:
    """List the kernels in the cache with the space they take (a source tree may be shared).

    \b
    Example:
      kgbuild kernel list
    """
    from kgbuild.host.system.cache import Cache, readable_size

    cache = Cache()
    rows = [_row(found, *_sizes(cache, found)) for found in cache.kernels()]
    common.write_report(rows)
    if common.silent:
        return
    if not rows:
        click.echo(f"no kernel in {cache.root}; kgbuild kernel fetch debian:newest-6.1-cloud fetches one")
        return
    table = [
        (
            row["name"],
            row["version"],
            row["build_id"][:12],
            readable_size(row["bytes"]),
            f"+ {readable_size(row['source_bytes'])} source",
        )
        for row in rows
    ]
    _print_table(table)


@kernel.command()
@click.argument("name")
@options.common_options
def show(
    name: str,
    common: options.Common,
) -> None:
    """Show everything about one kernel in the cache.

    \b
    Example:
      kgbuild kernel show debian:newest-6.1-cloud --format json
    """
    from kgbuild.host.kernels.compile_commands import read_sources
    from kgbuild.host.kernels.kbuild import check_compiler
    from kgbuild.host.system.cache import Cache
    from kgbuild.kernel.config import check_config

    found = _in_cache(name)
    units = read_sources(found.units)
    refusals = check_config(found.config.read_text(errors="replace"))
    compiler = check_compiler(found)
    faults = [f"{r.code} {r}" for r in [*refusals, *([compiler] if compiler else [])]]
    record: dict[str, Any] = {
        **_row(found, *_sizes(Cache(), found)),
        "compiler": found.compiler,
        "cc": found.cc,
        "units": sum(not module for _, _, module in units),
        "units_in_modules": sum(module for _, _, module in units),
        "packages": found.packages,
        **{
            field: str(getattr(found, field))
            for field in ("source", "build", "config", "symvers", "vmlinux", "image", "modules")
        },
        "refusals": faults,
    }
    common.write_report(record)
    if common.silent:
        return
    for label, value in record.items():
        if isinstance(value, dict):
            value = "\n".join(f"{package} {version}" for package, version in value.items())  # noqa: PLW2901
        elif isinstance(value, list):
            value = "\n".join(value) or "none: live patches can be built for it"  # noqa: PLW2901
        first, *more = str(value).splitlines() or [""]
        click.echo(f"{label.replace('_', ' '):<18}{first}".rstrip())
        for line in more:
            click.echo(" " * 18 + line)


@kernel.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@options.common_options
def remove(
    names: tuple[str, ...],
    yes: bool,
    common: options.Common,
) -> None:
    """Remove kernels from the cache. Files of a kernel added by hand stay where they are.

    \b
    Example:
      kgbuild kernel remove debian:6.1.0-50-cloud-amd64 --yes
    """
    from kgbuild.host.system.cache import Cache
    from kgbuild.report.build import kernel_report

    cache = Cache()
    output = common.output()
    doomed = list({found.id.build_id: found for found in map(_in_cache, names)}.values())
    removed = []
    for found in doomed:
        if not yes:
            if not sys.stdin.isatty():
                raise UserError("asks before it removes, and can't here", place=found.id.name, remedy="give --yes")
            if not click.confirm(f"remove {found.id}?"):
                continue
        cache.remove(found)
        removed.append(kernel_report(found))
        output.line("removed", str(found.id))
    common.write_report(removed)


@kernel.command()
@click.argument("pattern", default="")
@click.option("--all", "every", is_flag=True, help="Also those of which parts are missing.")
@options.common_options
def search(
    pattern: str,
    every: bool,
    common: options.Common,
) -> None:
    """List the kernels in the archive whose name contains PATTERN, newest first.

    \b
    Example:
      kgbuild kernel search 6.1
      kgbuild kernel search cloud --all
    """
    from kgbuild.host.archives.archive import open_archive
    from kgbuild.host.archives.recipe import load_recipes
    from kgbuild.host.archives.recipe import search as search_archive
    from kgbuild.host.kernels.acquire import find_kernel

    found = [
        entry
        for recipe in load_recipes().values()
        for entry in search_archive(pattern, recipe, open_archive(recipe.archive))
    ]
    shown = [entry for entry in found if every or not entry.missing]
    rows = [
        {
            "name": entry.name,
            "version": entry.version,
            "missing": list(entry.missing),
            "cached": find_kernel(f"{entry.name}={entry.version}") is not None,
        }
        for entry in shown
    ]
    common.write_report(rows)
    if not found:
        raise UserError("the archive has no such kernel", place=pattern, remedy="kgbuild kernel search lists all")
    if common.silent:
        return
    _print_table(
        [
            (
                str(row["name"]),
                str(row["version"]),
                "in the cache" if row["cached"] else "complete" if not entry.missing else "",
                f"lacks {', '.join(entry.missing)}" if entry.missing else "",
            )
            for row, entry in zip(rows, shown, strict=True)
        ]
    )
    if len(found) > len(shown):
        click.echo(f"{len(found) - len(shown)} more lack parts (--all)")


def _in_cache(name: str) -> Kernel:
    from kgbuild.host.archives.recipe import LOCAL, load_recipes, parse_name
    from kgbuild.host.kernels.acquire import find_kernel
    from kgbuild.host.system.cache import Cache

    found = find_kernel(name) or find_kernel(name, offline=True)
    if found is None:
        recipes = load_recipes()
        distro = parse_name(name, recipes).distro
        remedies = [f"kgbuild kernel fetch {name} fetches it"] if distro in recipes else []
        remedies += ["kgbuild kernel add adds one"] if distro == LOCAL else []
        there = ", ".join(kernel.id.name for kernel in Cache().kernels()) or "none"
        raise UserError("is not in the cache", place=name, remedy="; ".join([*remedies, f"there are: {there}"]))
    return found


def _sizes(cache: Any, found: Kernel) -> tuple[int, int]:
    from kgbuild.host.system.cache import tree_size

    own = tree_size(found.root)
    return own, tree_size(found.source) if found.source.is_relative_to(cache.root / "sources") else 0


def _row(found: Kernel, own: int, source: int) -> dict[str, Any]:
    return {
        "name": found.id.name,
        "version": found.id.version,
        "build_id": found.id.build_id,
        "bytes": own,
        "source_bytes": source,
    }


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
