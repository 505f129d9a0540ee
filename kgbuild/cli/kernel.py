# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild kernel`: fetch, list, add and remove kernels."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import Group
from kgbuild.errors import ToolError, UserError
from kgbuild.report.documents import schema_name
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.model import ToolChoice

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_directory = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Group, short_help="Fetch, list, add and remove kernels.")
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
@options.tool_options
@options.common_options()
def fetch(
    name: str,
    jobs: int,
    tools: ToolChoice,
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
    found = ensure_kernel(name, progress=output, offline=common.offline, jobs=jobs, choice=tools)
    common.deliver(Answer(lambda: {"schema": schema_name("kernel"), **kernel_report(found)}))
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
@options.tool_options
@options.common_options()
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
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Add a kernel of your own; it is then named local:NAME. Its files are only read.

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
    added = add_kernel(local, progress=output, jobs=jobs, sandboxed=tools.sandbox, seconds=tools.seconds)
    common.deliver(Answer(lambda: {"schema": schema_name("kernel"), **kernel_report(added)}))
    output.line("kernel", str(added.id))


@kernel.command("list")
@options.common_options()
def list_(
    common: options.Common,
) -> None:
    """List the kernels in the cache with the space they take (a source tree may be shared). --verbose shows build-ids
    in full, --quiet the names alone.

    \b
    Example:
      kgbuild kernel list
    """
    from kgbuild.host.system.cache import Cache
    from kgbuild.pipeline.kernels import list_kernels
    from kgbuild.shown_text import readable_size

    cache = Cache()
    rows = list_kernels(cache)

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        if common.quiet:
            yield from (row["name"] for row in rows)
            return
        if not rows:
            yield f"no kernel in {cache.root}; kgbuild kernel fetch debian:newest-6.1-cloud fetches one"
        yield from _table(
            (
                row["name"],
                row["version"],
                row["build_id"] if common.verbose else row["build_id"][:12],
                readable_size(row["bytes"]),
                f"+ {readable_size(row['source_bytes'])} source",
            )
            for row in rows
        )

    common.deliver(Answer(lambda: {"schema": schema_name("kernel"), "kernels": rows}, lines))


@kernel.command()
@click.argument("name")
@options.common_options()
def show(
    name: str,
    common: options.Common,
) -> None:
    """Show everything about one kernel in the cache; with --quiet its name, version and build-id.

    \b
    Example:
      kgbuild kernel show debian:newest-6.1-cloud --format json
    """
    from kgbuild.pipeline.kernels import describe_kernel, find_in_cache

    record = describe_kernel(find_in_cache(name))
    brief = f"{record['name']}  {record['version']}  {record['build_id']}"
    common.deliver(
        Answer(
            lambda: {"schema": schema_name("kernel"), **record}, lambda _: [brief] if common.quiet else _pairs(record)
        )
    )


def _pairs(record: Mapping[str, Any]) -> Iterator[str]:
    """Each entry of a record: its name in a column, its lines in another."""
    for label, value in record.items():
        if isinstance(value, dict):
            text = "\n".join(f"{package} {version}" for package, version in value.items())
        elif isinstance(value, list):
            text = "\n".join(value) or "none: live patches can be built for it"
        else:
            text = str(value)
        first, *more = text.splitlines() or [""]
        yield f"{label.replace('_', ' '):<18}{first}".rstrip()
        yield from (" " * 18 + line for line in more)


@kernel.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@options.common_options()
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
    from kgbuild.pipeline.kernels import find_all_in_cache
    from kgbuild.report.build import kernel_report

    cache = Cache()
    output = common.output()
    removed = []
    for found in find_all_in_cache(names):
        if not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise UserError("asks before it removes, and can't here", place=found.id.name, remedy="give --yes")
            if not click.confirm(f"remove {found.id}?", err=True):
                continue
        if not cache.remove(found):
            raise ToolError("a running kgbuild uses it", place=found.id.name, remedy="wait for its end")
        removed.append(kernel_report(found))
        output.line("removed", str(found.id))
    common.deliver(Answer(lambda: {"schema": schema_name("kernel"), "removed": removed}))


@kernel.command()
@click.argument("pattern", default="")
@click.option("--all", "every", is_flag=True, help="Also those of which parts are missing.")
@options.tool_options
@options.common_options()
def search(
    pattern: str,
    every: bool,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """List the kernels in the archive whose name contains PATTERN, newest first; with --quiet the names alone.

    \b
    Example:
      kgbuild kernel search 6.1
      kgbuild kernel search cloud --all
    """
    from kgbuild.pipeline.kernels import search_kernels

    found = search_kernels(pattern, common.output(), partial=every, mirror=tools.mirror, offline=common.offline)

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        if common.quiet:
            yield from (str(row["name"]) for row in found.rows)
            return
        yield from _table(
            (
                str(row["name"]),
                str(row["version"]),
                "in the cache" if row["cached"] else "" if row["missing"] else "complete",
                f"without {', '.join(row['missing'])}" if row["missing"] else "",
            )
            for row in found.rows
        )
        if found.more:
            yield f"{found.more} more with missing parts (--all)"

    common.deliver(
        Answer(lambda: {"schema": schema_name("kernel"), "kernels": list(found.rows), "more": found.more}, lines)
    )


def _table(given: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Rows with their columns below each other."""
    rows = list(given)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
