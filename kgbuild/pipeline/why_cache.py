# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of answers of `why`. The same patches, kernel, compiler, options and kgbuild give the same chains, so a
second question about a patch needs no analysis."""

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
    """The cache key of an answer; None if an input can't be read, which the analysis will report."""
    try:
        compiler = (tools_of(kernel).path_of(kernel.cc) or Path()).stat()
        package = Path(__file__).resolve().parents[1]
        # includes headers that patched code may include
        files = [p for p in package.rglob("*.*") if p.suffix in (".py", ".c", ".h")]
        code = sorted((str(p.relative_to(package)), p.stat().st_mtime_ns) for p in files)
        texts = [(patch.name, patch.sha256) for patch in patches]
    except OSError:
        return None
    # options without influence on the result are left out
    told = {k: v for k, v in vars(options).items() if k not in ("jobs", "offline", "keep", "make_index", "tools")}
    chosen = {k: sorted(map(str, v)) if isinstance(v, (tuple, frozenset)) else v for k, v in told.items()}
    kernel_files = [str(kernel.source), kernel.symvers.stat().st_mtime_ns, kernel.config.stat().st_mtime_ns]
    tools = [__version__, code, compiler.st_mtime_ns, compiler.st_size]
    parts = ["why", tools, kernel.id.build_id, kernel_files, texts, chosen]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_answer(cache: Cache, key: str | None) -> dict[str, Any] | None:
    """A cached answer, None if there is none that can be read."""
    raw = cache.get(key) if key is not None else None
    try:
        found = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def keep_answer(cache: Cache, key: str | None, answer: Mapping[str, Any]) -> None:
    """Store an answer in the cache."""
    if key is not None:
        cache.put(key, json.dumps(answer).encode())
