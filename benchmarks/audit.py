# SPDX-License-Identifier: GPL-2.0-or-later
"""The audit of kernels as a page: what of gcc's optimisations stands in the way of live patches, in figures.

kgbuild audit --kernel debian:newest-6.1-cloud --sample 60 --report a.json
python benchmarks/audit.py a.json b.json -o docs/audit.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kgbuild.callgraph.audit.whole_kernel import NOT_REDIRECTED, OPTIMISATIONS
from kgbuild.report.page.audit import ranges, variant_rows

Document = Mapping[str, Any]
_ANSWER = """\
## The answer

A live patch replaces whole functions, so what matters is in how many places the code of one function of the
source is.

- **Inlining is what matters, and nothing else comes near it.** Half of the functions of the source that have
  code in vmlinux were inlined somewhere. Still more than three of four changes replace one function; the mean
  is so much higher only because a few hundred functions of headers (`test_bit`, `rcu_read_lock`, `spin_lock`,
  `kmalloc`) are in everything.
- **Clones (isra, constprop, part) are few**: one function of thirty. A clone is a symbol that can be redirected
  like any other; what makes it dangerous is that its name and its calling convention are nobody's promise.
  kgbuild recompiles the unit and compares bytes, so it knows. [Laboratory 1, 2, 3 and 10](hazards.md) show
  each.
- **Identical code folding is rare** in kernels (some dozen names), and ipa-ra does not happen at all: gcc
  switches it off where functions are profiled (`-pg`), as ftrace needs it. [Laboratory 4, 5 and 8](hazards.md).
- **Pure-const and value ranges** change the code of callers without leaving a name ([laboratory 11 and
  17](hazards.md)). They are few, and a recompiled unit shows them.
- **What can't be patched is not gcc's doing.** Functions without an ftrace site are tracepoint glue,
  trampolines of static calls, exit code, noinstr and assembly. Most have their address in a table, so their
  callers are not known.
- **Switching the optimisations off buys little.** Each costs a fraction of a percent of code size, and makes a
  change of a function touch about as many symbols as before: what is not cloned is inlined, or the other way
  round. `-flive-patching=inline-only-static` leaves no clones at all,
  changes one function in four to six, and saves nothing that counts: one symbol in a hundred fewer on 6.1, one
  more on 6.12. A kernel built otherwise is another kernel, to be tested anew; recompiling the unit
  and proving it costs seconds.

So the question that live patching with a source diff begins with, whether one has to give up optimisations, has
the answer no: one has to look at what the compiler made.
"""


def page(documents: Sequence[Document]) -> Iterator[str]:
    """The page, in Markdown."""
    yield "<!-- made by benchmarks/audit.py -->"
    yield "# Audit: which optimisations stand in the way, and what they cost"
    yield ""
    yield "`kgbuild audit --kernel K --sample N --html audit.html` counts this for any kernel: all functions, from the"
    yield "index and the debugging information of vmlinux, and a random sample of units, compiled with other options."
    yield ""
    yield from _ANSWER.splitlines()
    yield ""
    yield "## Functions"
    yield ""
    yield from table(documents, "functions that stay after boot", _functions, {})
    yield ""
    yield '"By its callers": it has no ftrace site, and all callers are known and can be redirected. "Not at all": a'
    yield "pointer, an export or assembly leads to it."
    yield ""
    yield from table(documents, "no ftrace site", lambda w: w["not_redirected"], NOT_REDIRECTED)
    yield ""
    yield from table(documents, "what ends the way over callers", lambda w: w["blocked"], {})
    yield ""
    yield "## What gcc made"
    yield ""
    yield from table(documents, "made by gcc", lambda w: w["optimised"], OPTIMISATIONS)
    yield ""
    yield "## How far a change of one function reaches"
    yield ""
    yield from table(documents, "functions replaced", lambda w: {**dict(ranges(w["touched"])), **_means(w)}, {})
    yield ""
    yield "## Without an optimisation"
    for document in documents:
        if document["sample"]:
            yield from variants(document)
    yield ""
    yield "## The hardest functions"
    for document in documents:
        yield ""
        yield f"{document['kernel']['name']}, the first fifteen of a hundred:"
        yield ""
        yield "| function | file | replaced | inlined into | in the way |"
        yield "| --- | --- | ---: | ---: | --- |"
        for one in document["whole"]["hardest"][:15]:
            cells = (f"`{one['name']}`", one["file"], f"{one['replaced']:,}", f"{one['copies']:,}", one["blocked"])
            yield f"| {' | '.join(cells)} |"


def _functions(whole: Document) -> dict[str, Any]:
    named = {"redirected": "redirected by ftrace", "by its callers": "by its callers", "not at all": "not at all"}
    counts = {label: whole["patchable"].get(name, 0) for name, label in named.items()}
    places = {f"of {name}": count for name, count in whole["functions"].items()}
    same = {"names that several functions have": whole["same_name"]["names"]}
    same["of these without a position"] = whole["same_name"]["without position"]
    return {**places, **counts, "exported without an ftrace site": whole["exported"], **same}


def _means(whole: Document) -> dict[str, Any]:
    return {"mean": whole["mean"], "median": whole["median"], "most": whole["most"]}


def table(
    documents: Sequence[Document], title: str, get: Callable[[Document], Mapping[str, Any]], about: Mapping[str, str]
) -> Iterator[str]:
    """One table with a column for each kernel."""
    found = [get(document["whole"]) for document in documents]
    names = list(dict.fromkeys(name for one in found for name in one))
    kernels = [str(document["kernel"]["name"]) for document in documents]
    yield f"| {title} | {' | '.join(kernels)} |" + (" |" if about else "")
    yield f"| --- |{' ---: |' * len(kernels)}" + (" --- |" if about else "")
    for name in names:
        values = " | ".join(f"{one.get(name, 0):,}" for one in found)
        yield f"| {name} | {values} |" + (f" {about.get(name, '')} |" if about else "")


def variants(document: Document) -> Iterator[str]:
    """The table of one kernel's sample."""
    sample = document["sample"]
    share = 100 * sample["proven"] / sample["functions"]
    yield ""
    kernel = document["kernel"]
    yield f"{kernel['name']}, {kernel['compiler']}: {sample['compiled']} units drawn with seed {sample['seed']};"
    yield f"{sample['proven']:,} of {sample['functions']:,} functions ({share:.2f} %) are those that run."
    yield ""
    yield "Symbols touched: how many symbols of its unit hold code of a function of the source, on average."
    yield ""
    yield "| compiled with | functions that differ | code size | clones | symbols touched | units that fail |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in variant_rows(sample):
        yield (
            f"| `{row['name']}` | {row['changed']:,} ({row['changed_percent']:.1f} %) | {row['size_percent']:+.2f} % | "
            f"{row['clones']} | {row['reach']:.3f} | {row['failed']} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in options.reports]
    text = "\n".join(page(documents)) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
