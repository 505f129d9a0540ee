# SPDX-License-Identifier: GPL-2.0-or-later
"""What kgbuild does with a patch: find out what it does to a kernel, and make the module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kgbuild.diagnostics.refusals import Refused
from kgbuild.errors import KgbuildError
from kgbuild.host.system.cache import Cache
from kgbuild.pipeline.assemble import check_written, emit, module_name, put_on_older
from kgbuild.pipeline.findout import find_out
from kgbuild.pipeline.options import Options
from kgbuild.pipeline.state import Build
from kgbuild.progress import Progress, SilentProgress
from kgbuild.report.build import (
    error_report,
    refusal_report,
)


def build(
    patch_files: Sequence[Path],
    kernel_name: str,
    output: Path,
    options: Options,
    progress: Progress | None = None,
    state: Build | None = None,
) -> Build:
    """Build a live patch module and return everything that was found on the way; `module` holds its bytes.

    Nothing is written outside the cache (and `options.keep`). Raises Refused with every refusal of the stage that
    found them, NoChange where nothing is left to patch, ToolError or UserError for the rest. `state`, where given,
    is filled as the build goes, so that a report can be written for one that was refused.
    """
    progress = progress or SilentProgress()
    b = state if state is not None else Build()
    cache = Cache()
    with _reporting(b, options):
        name = module_name(output)
        image = find_out(b, patch_files, kernel_name, options, cache, progress)
        put_on_older(b, name, options)
        emit(b, image, name, cache, options)
        check_written(b, output, image)
    return b


def analyse(
    patch_files: Sequence[Path],
    kernel_name: str,
    options: Options,
    progress: Progress | None = None,
    state: Build | None = None,
) -> Build:
    """What `build` would put into a module, and why; no module is made. Raises as `build` does."""
    b = state if state is not None else Build()
    with _reporting(b, options):
        find_out(b, patch_files, kernel_name, options, Cache(), progress or SilentProgress())
    return b


@contextmanager
def _reporting(b: Build, options: Options) -> Iterator[None]:
    """Keep the report true to what happens, whatever that is."""
    b.report["allowed"], b.report["pull"] = options.allowed, options.pull
    try:
        yield
    except Refused as error:
        b.report["refusals"] = refusal_report(error.refusals)
        raise
    except KgbuildError as error:
        b.report["error"] = error_report(error)
        raise


__all__ = ["Build", "Options", "analyse", "build"]
