# SPDX-License-Identifier: GPL-2.0-or-later
"""The documentation site: it is built without a network, and a link that leads nowhere ends the build."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kgbuild.cli.install.commands import all_commands

BUILD = Path(__file__).resolve().parents[2] / "docs" / "site" / "build.py"


def test_the_site_is_built(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, BUILD, tmp_path / "site"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    start = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "docs/site/tutorial-server.html" in start
    assert "fonts.googleapis" not in start and 'src="http' not in start
    reference = (tmp_path / "site" / "docs" / "reference-commands.html").read_text(encoding="utf-8")
    for path in all_commands():
        assert f'id="{"-".join(path)}"' in reference


@pytest.mark.parametrize("text", ["[x](nothing.md)", "[x](../kgbuild/nothing.py)"])
def test_a_link_that_leads_nowhere_ends_it(tmp_path: Path, text: str) -> None:
    made: dict[str, Any] = runpy.run_path(str(BUILD))
    link: Callable[..., str] = made["_link"]
    found = made["_LINK"].search(text)
    with pytest.raises(SystemExit, match="leads nowhere"):
        link(found, BUILD.parents[1] / "design.md", tmp_path)
