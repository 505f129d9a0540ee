# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of `why`, kept: the same patches, kernel, compiler, options and kgbuild have the same chains, so that a
second question about a patch does not analyse it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kgbuild import __version__
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel
from kgbuild.patch.unified_diff import ParsedPatch
from kgbuild.pipeline.stages.options import Options


def answer_key(kernel: Kernel, patches: Sequence[ParsedPatch], options: Options) -> str | None:
    """What an answer is kept under; None where something it depends on can't be read, which the analysis then says."""
    try:
        compiler = (tools_of(kernel).path_of(kernel.cc) or Path()).stat()
        package = Path(__file__).resolve().parents[1]
        # headers that patched code may include are part of it
        files = [p for p in package.rglob("*.*") if p.suffix in (".py", ".c", ".h")]
        code = sorted((str(p.relative_to(package)), p.stat().st_mtime_ns) for p in files)
        texts = [(patch.name, patch.sha256) for patch in patches]
    except OSError:
        return None
    # how it is done has no part in what comes of it
    told = {k: v for k, v in vars(options).items() if k not in ("jobs", "offline", "keep", "make_index")}
    chosen = {k: sorted(map(str, v)) if isinstance(v, (tuple, frozenset)) else v for k, v in told.items()}
    kernel_files = [str(kernel.source), kernel.symvers.stat().st_mtime_ns, kernel.units.stat().st_mtime_ns]
    tools = [__version__, code, compiler.st_mtime_ns, compiler.st_size]
    parts = ["why", tools, kernel.id.build_id, kernel_files, texts, chosen]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_answer(cache: Cache, key: str | None) -> dict[str, Any] | None:
    """An answer that was kept, None where there is none that can be read."""
    raw = cache.get(key) if key is not None else None
    try:
        found = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def keep_answer(cache: Cache, key: str | None, answer: Mapping[str, Any]) -> None:
    """Keep an answer for the next question."""
    if key is not None:
        cache.put(key, json.dumps(answer).encode())
