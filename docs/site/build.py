# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the documentation site, without a network: `python docs/site/build.py DIR` (make site).

The pages are those of the repository, at their paths, so that a link which works there works here. What pages link to
besides (sources, patches, schemas) is copied along. The reference of commands is made from the commands. mkdocs is
strict: a link that leads nowhere, or to a heading that is not there, ends the build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "examples/**/*.md")
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
CONFIG = """\
site_name: kgbuild
site_description: Live patches from source diffs, for one exact kernel, with proof
docs_dir: pages
use_directory_urls: false
theme:
  name: material
  font: false
  features: [navigation.tabs, navigation.top, content.code.copy]
  palette:
    - {media: "(prefers-color-scheme: light)", scheme: default, primary: white, accent: indigo}
    - {media: "(prefers-color-scheme: dark)", scheme: slate, primary: black, accent: indigo}
plugins: [search]
markdown_extensions: [tables, toc, fenced_code]
validation:
  nav: {omitted_files: info, not_found: warn, absolute_links: warn}
  links: {not_found: warn, anchors: warn, absolute_links: warn, unrecognized_links: warn}
nav:
  - Start: README.md
  - Tutorials:
      - One server, one CVE: docs/site/tutorial-server.md
      - A distribution: docs/site/tutorial-distribution.md
  - How to:
      - Write a patch: docs/author-guide.md
      - Review a patch: docs/site/howto-review.md
      - Build without kgbuild: docs/emit-module.md
      - Use it from Python: docs/api.md
  - Reference:
      - Commands: docs/reference-commands.md
      - Refusals and limits: docs/limits.md
      - JSON, files and exit statuses: docs/json.md
      - Impact: docs/impact.md
      - Back ends: docs/backends.md
      - Sections: docs/sections.md
      - Noise: docs/noise.md
      - Probes: docs/probes.md
      - Size of input: docs/input-limits.md
      - The module's note: docs/schema/note.md
      - The index: docs/schema/index.md
      - Words: docs/glossary.md
  - Laboratory:
      - Cases: docs/hazards.md
      - Audit of kernels: docs/audit.md
      - Field report: docs/field-report.md
      - Parity: docs/parity.md
  - Design:
      - Design: docs/design.md
      - Contributing: CONTRIBUTING.md
      - Changes: CHANGELOG.md
"""


def collect(folder: Path) -> int:
    """Copy pages and what they link to below `folder`. Returns how many pages there are."""
    pages = sorted({page for pattern in PAGES for page in ROOT.glob(pattern)})
    for page in pages:
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = _LINK.sub(lambda found, page=page: _link(found, page, folder), page.read_text(encoding="utf-8"))
        target.write_text(text, encoding="utf-8")
    (folder / "docs" / "reference-commands.md").write_text("\n".join(commands()) + "\n", encoding="utf-8")
    return len(pages) + 1


def _link(found: re.Match[str], page: Path, folder: Path) -> str:
    """A link as the site has it: to a folder it leads to its README, to a file that is no page the file comes along."""
    if "://" in found[1] or found[1].startswith("mailto:"):
        return found[0]
    target = (page.parent / found[1]).resolve()
    if not target.exists() or not target.is_relative_to(ROOT):
        sys.exit(f"{page.relative_to(ROOT)}: {found[1]} leads nowhere")
    if target.is_dir():
        readme = target / "README.md"
        return (
            f"]({found[1].rstrip('/')}/README.md{found[2] or ''})"
            if readme.exists()
            else _listed(target, folder, found)
        )
    if target.suffix != ".md":
        copy = folder / target.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # a web server shows no source of Python or C, but gives it away: as text it is shown
        shutil.copy(target, copy)
    return found[0]


def _listed(target: Path, folder: Path, found: re.Match[str]) -> str:
    """A folder without a README, as a page that lists its files."""
    listing = folder / target.relative_to(ROOT) / "README.md"
    listing.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in target.iterdir() if not path.name.startswith((".", "__")))
    lines = [f"- `{name}`" for name in names]
    listing.write_text("\n".join([f"# {target.relative_to(ROOT)}", "", *lines]) + "\n", encoding="utf-8")
    return f"]({found[1].rstrip('/')}/README.md)"


def commands() -> Iterator[str]:
    """The reference of all commands, from their own help."""
    from kgbuild.cli.install.commands import all_commands

    yield "# Commands"
    yield ""
    yield "Made from the commands; `kgbuild COMMAND --help` and `kgbuild man COMMAND` say the same."
    for path, command in all_commands().items():
        context = click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        yield from ("", f"{'#' * min(len(path) + 1, 3)} {' '.join(path)}", "", "```text")
        yield command.get_help(context).replace("\b", "")
        yield "```"


def main() -> None:
    output = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="kgbuild-site-") as name:
        work = Path(name)
        (work / "pages").mkdir()
        count = collect(work / "pages")
        (work / "mkdocs.yml").write_text(CONFIG, encoding="utf-8")
        argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", "mkdocs.yml", "-d", str(output)]
        done = subprocess.run(argv, cwd=work, check=False, env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"})
    if done.returncode:
        sys.exit(done.returncode)
    print(f"{output}  {count} pages")


if __name__ == "__main__":
    main()
