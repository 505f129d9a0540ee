# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild toolchain`: the compilers that the cache holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import Group
from kgbuild.report.formats import Answer

if TYPE_CHECKING:
    from kgbuild.model import ToolChoice


@click.group(cls=Group, short_help="Show, fetch and remove compilers.")
def toolchain() -> None:
    """Show, fetch and remove the toolchains in the cache: compiler, assembler, linker and make of the packages that
    built a kernel, each in a directory of its own.

    A build fetches the one that it needs. A toolchain is named by the first digits of its key.
    """


@toolchain.command("list")
@options.common_options()
def list_(
    common: options.Common,
) -> None:
    """List the toolchains in the cache, with their size and the kernels that were built by them. --verbose shows their
    keys in full, --quiet the keys alone.

    \b
    Example:
      kgbuild toolchain list
    """
    from kgbuild.host.system.cache import Cache
    from kgbuild.pipeline.toolchains import list_toolchains
    from kgbuild.report.documents import schema_name
    from kgbuild.shown_text import readable_size

    cache = Cache()
    rows = list_toolchains(cache)

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        if common.quiet:
            yield from (row["key"] for row in rows)
            return
        if not rows:
            yield f"no toolchain in {cache.root}; a build fetches the one that it needs"
        for row in rows:
            yield f"{row['key'] if common.verbose else row['key'][:12]}  {row['name']}  {readable_size(row['bytes'])}"
            yield from (f"              {name}" for name in row["kernels"])

    common.deliver(Answer(lambda: {"schema": schema_name("toolchain"), "toolchains": rows}, lines))


@toolchain.command()
@click.argument("key")
@options.common_options()
def show(
    key: str,
    common: options.Common,
) -> None:
    """Show one toolchain: its packages with the SHA-256 of their files, and whether it is as it was unpacked. --quiet
    leaves the packages out.

    \b
    Example:
      kgbuild toolchain show 3f2a
    """
    from kgbuild.host.system.cache import Cache
    from kgbuild.pipeline.toolchains import describe_toolchain
    from kgbuild.report.documents import schema_name

    row = describe_toolchain(Cache(), key)

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        yield f"name      {row['name']}"
        yield f"key       {row['key']}"
        yield f"folder    {row['folder']}"
        yield f"state     {'as it was unpacked' if row['unchanged'] else 'changed since it was unpacked'}"
        yield from (f"kernel    {name}" for name in row["kernels"])
        for package in row["packages"] if not common.quiet else ():
            yield f"package   {package['name']} {package['version']}"
            yield f"          {package['sha256']}"

    common.deliver(Answer(lambda: {"schema": schema_name("toolchain"), **row}, lines))


@toolchain.command()
@click.argument("kernel")
@options.jobs_option
@options.tool_options
@options.common_options()
def fetch(
    kernel: str,
    jobs: int,
    tools: ToolChoice,
    common: options.Common,
) -> None:
    """Fetch the toolchain that built KERNEL, and the kernel, unless they are in the cache.

    \b
    Example:
      kgbuild toolchain fetch debian:newest-6.12-deb13-cloud
    """
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.host.system.cache import Cache
    from kgbuild.pipeline.toolchains import toolchain_of
    from kgbuild.report.documents import schema_name

    output = common.output()
    found = ensure_kernel(kernel, progress=output, offline=common.offline, jobs=jobs, choice=tools)
    row = toolchain_of(found, Cache())
    common.deliver(Answer(lambda: {"schema": schema_name("toolchain"), **row}))
    output.line("toolchain", row["name"])


@toolchain.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@options.common_options()
def remove(
    keys: tuple[str, ...],
    common: options.Common,
) -> None:
    """Remove toolchains from the cache. A kernel that needs one fetches it again.

    \b
    Example:
      kgbuild toolchain remove 3f2a
    """
    from kgbuild.host.system.cache import Cache
    from kgbuild.pipeline.toolchains import remove_toolchains
    from kgbuild.report.documents import schema_name
    from kgbuild.shown_text import readable_size

    output = common.output()
    removed = remove_toolchains(Cache(), keys)
    for row in removed:
        output.line("removed", f"{row['name']}, {readable_size(row['bytes'])}")
    common.deliver(Answer(lambda: {"schema": schema_name("toolchain"), "removed": removed}))
