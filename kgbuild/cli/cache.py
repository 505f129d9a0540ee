# SPDX-License-Identifier: GPL-2.0-or-later
"""`kgbuild cache`: what the cache holds, and making it smaller."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from kgbuild.cli import options
from kgbuild.cli.contract.commands import Group
from kgbuild.report.formats import Answer

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds of a time as 30d: a number with s, min, h, d or w. Raises click.BadParameter."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", value.strip())
    if found is None:
        fact = f"{value!r} is no time; say a number with s, min, h, d or w, for example 30d"
        raise click.BadParameter(fact, ctx, param)
    return float(found[1]) * _SECONDS[found[2]]


def read_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes of a size as 20G: a number with k, M, G or T (1000), or ki, Mi, Gi, Ti (1024), B optional. Raises
    click.BadParameter."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", value.strip().lower())
    if found is None or (found[3] and not found[2]):
        fact = f"{value!r} is no size; say a number with k, M, G or T, for example 20G"
        raise click.BadParameter(fact, ctx, param)
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]])


@click.group(cls=Group, short_help="Show what the cache holds, and make it smaller.")
def cache() -> None:
    """Show what the cache holds, and make it smaller.

    The cache is ~/.cache/kgbuild, or kgbuild below XDG_CACHE_HOME. All in it can be made again; only kernels added by
    hand need the files that they were added from.
    """


@cache.command()
@options.common_options()
def show(
    common: options.Common,
) -> None:
    """Show the kernels, source trees and results in the cache, with the space they take and when they were last used.

    \b
    Example:
      kgbuild cache show
    """
    from kgbuild.host.kernels.cache_space import survey
    from kgbuild.host.system.cache import Cache
    from kgbuild.report.cache_space import day_and_time, space_record
    from kgbuild.shown_text import readable_size

    space = survey(Cache())

    def lines(unicode: bool) -> Iterator[str]:
        del unicode
        if common.quiet:
            yield f"{space.root}  {readable_size(space.total)}"
            return
        yield space.root
        for entry in space.kernels:
            marks = ["in use"] if entry.in_use else [f"used {day_and_time(entry.last_used)[:10]}"]
            marks += ["added by hand"] if entry.own else []
            yield f"  {readable_size(entry.size):>8}  {entry.kernel.id.name}, {', '.join(marks)}"
            if common.verbose:
                yield f"  {'':>8}  {entry.kernel.root}"
        for name, size in space.sources.items():
            yield f"  {readable_size(size):>8}  source {name}"
        for one in space.toolchains:
            count = len(one.kernels)
            uses = f"for {count} kernel{'s' * (count != 1)}" if count else f"used {day_and_time(one.last_used)[:10]}"
            yield f"  {readable_size(one.size):>8}  toolchain {one.name}, {'in use' if one.in_use else uses}"
        for size, what in (
            (space.lists, "package lists"),
            (space.results[1], f"{space.results[0]} results of compiles and analyses"),
            (space.work, "work of runs"),
            (space.other, "other files"),
        ):
            if size:
                yield f"  {readable_size(size):>8}  {what}"
        yield f"  {readable_size(space.total):>8}  in all"

    common.deliver(Answer(lambda: space_record(space), lines))


@cache.command()
@click.option("--older", callback=read_seconds, metavar="TIME", help="Remove what was not used for so long, e.g. 30d.")
@click.option(
    "--to", callback=read_size, metavar="SIZE", help="Remove what was used longest ago until this is left, e.g. 20G."
)
@click.option("--own", is_flag=True, help="Also kernels that were added by hand.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be removed.")
@options.common_options()
def prune(
    older: float | None,
    to: int | None,
    own: bool,
    dry_run: bool,
    common: options.Common,
) -> None:
    """Remove what was not used for long, and say what that frees. What a running kgbuild uses stays.

    \b
    Examples:
      kgbuild cache prune --older 30d
      kgbuild cache prune --to 20G --dry-run
    """
    from kgbuild.host.kernels.cache_space import prune as prune_cache
    from kgbuild.host.system.cache import Cache
    from kgbuild.report.cache_space import prune_record
    from kgbuild.shown_text import readable_size

    if older is None and to is None:
        raise click.UsageError("say what may go: --older TIME, --to SIZE, or both")
    place = Cache()
    pruned = prune_cache(place, older=older, to=to, own=own, dry_run=dry_run)
    output = common.output()
    common.deliver(Answer(lambda: prune_record(str(place.root), pruned, older, to, dry_run)), out=output)
    for item in pruned.removed:
        counted = f"{item.count} " if item.kind == "results" else ""
        kind = {"source": "source ", "toolchain": "toolchain "}.get(item.kind, "")
        output.line("would go" if dry_run else "removed", f"{readable_size(item.size):>8}  {counted}{kind}{item.name}")
    for item in pruned.kept:
        output.line("kept", f"{readable_size(item.size):>8}  {item.name}: {item.reason}")
    output.line("would free" if dry_run else "freed", f"{readable_size(pruned.freed):>8}")
    output.line("left", f"{readable_size(pruned.left):>8}  {place.root}")
    if to is not None and pruned.left > to:
        output.line("", f"that is more than {readable_size(to)}: nothing else may go")
