# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusals of real fixes: drawn changes between two Debian kernel sources, each analysed, counted by code.

    python benchmarks/refusals.py draw STATE [--series NAME] [--files N] [--headers N] [--seed N] [--only PATH]...
    python benchmarks/refusals.py run STATE [--at-most N] [--jobs N]
    python benchmarks/refusals.py show STATE... [--again STATE] [-o FILE]

`draw` writes patches into the directory STATE: --files of the .c files that differ and --headers of the headers, each
with what belongs to it (benchmarks/field_report.py says how that is found), and, where that is more than one file, the
.c file alone as well. `run` analyses those that have no result yet, as `kgbuild impact` does, and keeps what came of
each beside it; what an earlier run found is not done again. `show` counts outcomes and codes, with the first refusals
of each code, as a section of docs/field-report.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import field_report
import ledger

from kgbuild.diagnostics.refusals import Refused
from kgbuild.errors import KgbuildError, NoChange
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.options import Options
from tests.support.fixes import SERIES, both

ROOT = Path(__file__).resolve().parent.parent
HEADING = "## Refusals by code"
LIMIT = 90  # seconds that one patch may take
ABOUT = """\
`benchmarks/refusals.py` draws .c files and headers that differ between two Debian sources, and has each analysed as
`kgbuild impact` does: with what belongs to it, and, where that is more than one file, the .c file alone as well. A file
alone that needs what changed beside it is refused for P10-compile. The last column says what reading one or two
refusals of each code showed; not every single one was read. Not finished: 90 seconds were over."""
AGAIN = """\
The table above was made before headers were judged by what they mean. Those of it that were refused for
P12-too-many-units then (and some others), analysed again with the same patches:"""
# What reading some refusals of each code showed.
JUDGED = {
    "P10-compile": "true: a file without what changed beside it, or a fix that its names did not put together whole",
    "K3-init": "true of init code; --ignore-init is offered where nothing else in the patch needs it. Four are exit "
    "code of modules, which is refused without asking whether ftrace could redirect it. New rows of tables for "
    "quirks (atkbd) have no effect on a running system",
    "K9-type-layout": "true where members come, go or move. Too strict once: `[1]` at the end of a structure of a "
    "protocol that becomes `[]` (smb2_error_context_rsp)",
    "K1-data": "true: device ids, versions and policies that the running kernel reads from its own tables",
    "K7-export": "true: a new export; the author can keep the function to the patched files",
    "K14-vanished": "true where other units call what is gone. Too strict once: code of the patch itself that gave the "
    "function to one that does not keep it (load_mapping)",
    "K8-crc": "true: other modules were built for the old type of the export",
    "P12-too-many-units": "true in effect: the structure that grows is K9-type-layout where a .c file comes first",
    "K4-not-traceable": "changed here: an exported function that can't be redirected is patched with "
    "--assume-in-tree-callers",
}


def draw(state: Path, series: str, files: int, headers: int, seed: int, only: tuple[str, ...] = ()) -> None:
    """Write the patches of a draw, and a list of them; of those alone that `only` names, where it names some."""
    chosen = SERIES[series]
    kernel, new = both(chosen)
    groups, alone = state / "groups", state / "alone"
    groups.mkdir(parents=True, exist_ok=True)
    alone.mkdir(exist_ok=True)
    cases = field_report.collect(kernel, new, groups, files, headers, seed)
    listed: list[dict[str, Any]] = []
    for case in (c for c in cases if c.path in only or not only):
        listed.append({"path": case.path, "beside": case.beside, "patch": str(case.patch.relative_to(state))})
        if case.beside and case.path.endswith(".c"):
            patch = alone / case.patch.name
            patch.write_text(field_report.difference(kernel.source, new, case.path), errors="surrogateescape")
            listed.append({"path": case.path, "beside": [], "patch": str(patch.relative_to(state))})
    about = {"series": series, "kernel": f"{chosen.kernel}={chosen.older}", "cases": listed}
    (state / "draw.json").write_text(json.dumps(about, indent=1))
    print(f"{len(listed)} patches", file=sys.stderr)


class _TakesLong(BaseException):
    """Raised when a patch has taken LIMIT seconds."""


def _give_up(number: int, frame: object) -> None:
    raise _TakesLong


def analyse_one(patch: Path, kernel: str, jobs: int) -> dict[str, Any]:
    """What came of one patch: the outcome and its refusals."""
    began = time.monotonic()
    refusals: list[dict[str, str]] = []
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT)
    try:
        analyse([patch], kernel, Options(jobs=jobs))
        outcome = "accepted"
    except Refused as error:
        outcome = "refused"
        refusals = [
            {"code": r.code, "place": r.place, "symbol": r.symbol, "fact": r.fact, "remedy": r.remedy}
            for r in error.refusals
        ]
    except NoChange:
        outcome = "no change"
    except _TakesLong:
        outcome = "not finished"
    except KgbuildError as error:
        outcome, refusals = "error", [{"code": "", "place": "", "symbol": "", "fact": str(error), "remedy": ""}]
    except Exception as error:  # a fault of kgbuild's own: counted, and the run goes on
        outcome = "fault"
        refusals = [{"code": "", "place": "", "symbol": "", "fact": repr(error), "remedy": ""}]
    finally:
        signal.alarm(0)
    return {"outcome": outcome, "refusals": refusals, "seconds": round(time.monotonic() - began, 1)}


def run(state: Path, at_most: int, jobs: int) -> int:
    """Analyse what has no result yet; how many are left."""
    drawn = json.loads((state / "draw.json").read_text())
    left = [c for c in drawn["cases"] if not (state / c["patch"]).with_suffix(".json").exists()]
    for case in left[:at_most]:
        found = analyse_one(state / case["patch"], drawn["kernel"], jobs)
        (state / case["patch"]).with_suffix(".json").write_text(json.dumps(found, indent=1))
        print(f"{found['outcome']:<10} {found['seconds']:6.1f} s  {case['patch']}", file=sys.stderr)
    return len(left[at_most:])


def show(states: list[Path]) -> str:
    """The section: a line for each series, and a row for each code."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    refusals: Counter[str] = Counter()
    examples: dict[str, list[str]] = defaultdict(list)
    drawn_in: Counter[str] = Counter()
    for state in states:
        drawn = json.loads((state / "draw.json").read_text())
        name = drawn["series"]
        drawn_in[name] += len(drawn["cases"])
        for case in drawn["cases"]:
            kept = (state / case["patch"]).with_suffix(".json")
            if not kept.exists():
                continue
            found = json.loads(kept.read_text())
            outcomes[name][found["outcome"]] += 1
            for code in dict.fromkeys(r["code"] for r in found["refusals"]):
                codes[code][name] += 1
                one = next(r for r in found["refusals"] if r["code"] == code)
                examples[code].append(f"{one['place']}: {one['fact']}" if one["place"] else one["fact"])
            refusals.update(r["code"] for r in found["refusals"])
    names = list(outcomes)
    lines = [HEADING, "", ABOUT, ""]
    for name in names:
        counts = ", ".join(f"{n} {o}" for o, n in outcomes[name].most_common())
        series = SERIES[name]
        tried = f"{outcomes[name].total()} of {drawn_in[name]} patches drawn"
        lines.append(f"- {series.package} {series.older} to {series.newer}: {tried}: {counts}.")
    lines.append(f"- {refusals.total()} refusals in all.")
    lines += ["", f"| code | patches {' | patches '.join(names)} | refusals | one of them | judged |"]
    lines.append(f"| --- | {' | '.join('---:' for _ in names)} | ---: | --- | --- |")
    for code, found_in in sorted(codes.items(), key=lambda item: -item[1].total()):
        example = examples[code][0].replace("|", "\\|").replace("\n", " ")[:160]
        numbers = " | ".join(str(found_in[name]) for name in names)
        judged = JUDGED.get(code, "not read yet")
        lines.append(f"| {code or 'error'} | {numbers} | {refusals[code]} | {example} | {judged} |")
    return "\n".join(lines) + "\n"


def show_again(state: Path) -> str:
    """What came of the groups of a draw that an older kgbuild refused for P12-too-many-units."""
    rows = []
    for case in json.loads((state / "draw.json").read_text())["cases"]:
        kept = (state / case["patch"]).with_suffix(".json")
        if not case["patch"].startswith("groups/") or not kept.exists():
            continue
        found = json.loads(kept.read_text())
        first = next((f"{r['place']}: {r['fact']}" for r in found["refusals"]), "")
        codes = ", ".join(dict.fromkeys(r["code"] for r in found["refusals"]))
        shown = first.replace("|", "\\|").replace("\n", " ")[:160]
        rows.append(f"| {case['path']} | {codes or found['outcome']} | {found['seconds']:.0f} | {shown} |")
    head = ["| file | now | seconds | first refusal |", "| --- | --- | ---: | --- |"]
    return "\n".join(["", AGAIN, "", *head, *rows]) + "\n"


def write_section(file: Path, section: str) -> None:
    """Put the section into a report, in the place of an older one or before what benchmarks/ledger.py wrote."""
    text = file.read_text()
    rest = ledger.section_of(file)
    head = text.partition(f"\n{HEADING}\n")[0].partition(f"\n{ledger.HEADING}\n")[0].rstrip("\n")
    file.write_text(f"{head}\n\n{section}" + (f"\n{rest}" if rest else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("state", type=Path)
    drawing.add_argument("--series", choices=SERIES, default="6.1")
    drawing.add_argument("--files", type=int, default=200)
    drawing.add_argument("--headers", type=int, default=30)
    drawing.add_argument("--seed", type=int, default=19)
    drawing.add_argument("--only", action="append", default=[])
    running = commands.add_parser("run")
    running.add_argument("state", type=Path)
    running.add_argument("--at-most", type=int, default=1_000_000)
    running.add_argument("--jobs", type=int, default=1)
    showing = commands.add_parser("show")
    showing.add_argument("states", type=Path, nargs="+")
    showing.add_argument("--again", type=Path)
    showing.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.command == "draw":
        draw(options.state, options.series, options.files, options.headers, options.seed, tuple(options.only))
    elif options.command == "run":
        print(f"{run(options.state, options.at_most, options.jobs)} left")
    else:
        section = show(options.states) + (show_again(options.again) if options.again else "")
        if options.output is None:
            print(section)
        else:
            write_section(options.output, section)


if __name__ == "__main__":
    main()
