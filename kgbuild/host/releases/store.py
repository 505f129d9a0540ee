# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of a matrix, kept in the directory of fixes (.kgbuild/matrix), so that a run that was stopped goes on where
it was. Each result is one folder, which appears whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.host.system.run import disk_remedy
from kgbuild.releases.job_graph import JobId, JobResult

FOLDER = ".kgbuild/matrix"
_RESULT = "result.json"


class ResultStore:
    """The results in one directory of fixes, by key."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    def get(self, job: JobId, key: str) -> JobResult | None:
        """The result that was kept for a job, None where there is none that can be read."""
        folder = self._folder / key
        try:
            told = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
            files = {name: (folder / name).read_bytes() for name in told["files"]}
            return JobResult(job, told["status"], told["data"], tuple(told["errors"]), told["seconds"], files, True)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, result: JobResult, key: str) -> None:
        """Keep a result. Raises ToolError where the disk does not take it."""
        folder = self._folder / key
        part = self._folder / f".{key}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
        told = {
            "job": str(result.id),
            "status": result.status,
            "data": result.data,
            "errors": list(result.errors),
            "seconds": result.seconds,
            "files": sorted(result.files),
        }
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _write(part, {**result.files, _RESULT: json.dumps(told, sort_keys=True).encode()})
            if folder.exists() and self.get(result.id, key) is None:
                shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return  # another run has kept the result of the same inputs meanwhile
            raise ToolError(error.strerror or str(error), place=str(folder), remedy=disk_remedy(error)) from error


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        with (folder / name).open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
