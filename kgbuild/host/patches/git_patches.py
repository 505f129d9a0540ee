# SPDX-License-Identifier: GPL-2.0-or-later
"""Commits of a git tree as patches, and which commits a kernel has.

The tree is somebody else's as far as is known: no hook, pager, filter or external diff that its configuration names is
run, and nothing in it is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.run import Completed, run
from kgbuild.shown_text import printable

_NO_PROGRAMS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat")
_PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--full-index", "--no-signature", "-p", "-k")
_SECONDS = 600.0
_MOST = 1000  # commits of one range
_COMMIT = re.compile(r"[0-9a-f]{40}")


class GitTree:
    """A kernel's git tree. Raises UserError where there is none, or it is that of something else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise UserError("is no directory", place=str(path), remedy="name a kernel's git tree")
        if self._git("rev-parse", "--git-dir", check=False).status:
            raise UserError("is no git tree", place=str(path), remedy="name a kernel's git tree")

    def check_kernel(self, commit: str) -> None:
        """Raise UserError where the tree of a commit is no kernel's."""
        for name in ("Kbuild", "kernel/fork.c", "include/linux/sched.h"):
            if self._git("cat-file", "-e", f"{commit}:{name}", check=False).status:
                fact = f"is no kernel's git tree: {commit[:12]} has no {name}"
                raise UserError(fact, place=str(self.path), remedy="name a kernel's git tree")

    def patches(self, revisions: Sequence[str]) -> list[tuple[str, bytes]]:
        """The commits of ranges (A..B) and single commits, oldest first in each range, as mails; merges are left out.

        Raises UserError for what names no commit, and for an empty range.
        """
        out: list[tuple[str, bytes]] = []
        for revision in revisions:
            for commit in self._commits(revision):
                if not out:
                    self.check_kernel(commit)
                done = self._git("format-patch", "--stdout", *_PLAIN, "-1", commit)
                out.append((commit[:12], done.stdout.encode("utf-8", "surrogateescape")))
        return out

    def _commits(self, revision: str) -> list[str]:
        place = f"{self.path}: {printable(revision)}"
        if revision.startswith("-") or not revision.strip() or "\0" in revision:
            raise UserError("names no commit", place=place, remedy="give a commit, or a range A..B")
        if ".." in revision:
            done = self._git("rev-list", "--reverse", "--no-merges", revision, "--", check=False)
        else:
            done = self._git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
        if done.status:
            raise UserError("names no commit of this tree", place=place, remedy="git log shows what there is")
        commits = [line for line in done.stdout.split("\n") if _COMMIT.fullmatch(line)]
        if not commits:
            raise UserError("is a range without a commit", place=place, remedy="give the older end first: A..B")
        if len(commits) > _MOST:
            raise UserError(f"has {len(commits)} commits", place=place, remedy=f"give at most {_MOST}")
        return commits

    def has(self, commit: str, version: str) -> bool | None:
        """Whether a kernel of an upstream version (6.1.170) has a commit: as itself, or as a backport that names it.
        None where the tree has no tag of that version, or does not know the commit."""
        tag = f"v{version.removesuffix('.0')}"
        if self._git("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}", check=False).status:
            return None
        full = self._git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", check=False)
        if full.status:
            return None
        name = full.stdout.strip()
        if not self._git("merge-base", "--is-ancestor", name, f"refs/tags/{tag}", check=False).status:
            return True
        base = "v" + ".".join(version.split(".")[:2])
        found = self._git(
            "log", "-1", "--format=%H", "-E", f"--grep=(commit {name} upstream|Upstream commit {name})",
            f"refs/tags/{base}..refs/tags/{tag}", "--", check=False,
        )  # fmt: skip
        return None if found.status else bool(found.stdout.strip())

    def text(self, commit: str, path: str) -> bytes | None:
        """A file as it is in a commit; None where either is not there."""
        done = self._git("cat-file", "blob", f"{commit}:{path}", check=False)
        return None if done.status else done.stdout.encode("utf-8", "surrogateescape")

    def _git(self, *words: str, check: bool = True) -> Completed:
        argv = ["git", "-C", str(self.path), "--no-pager", "--no-optional-locks", "--no-replace-objects"]
        for setting in _NO_PROGRAMS:
            argv += ["-c", setting]
        try:
            return run([*argv, *words], check=check, timeout=_SECONDS)
        except ToolError as error:
            if "dubious ownership" in str(error):
                remedy = "git config --global --add safe.directory says that you trust it"
                raise UserError("belongs to another user", place=str(self.path), remedy=remedy) from error
            raise
