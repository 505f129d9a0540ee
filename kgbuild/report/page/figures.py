# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures of an audit as lines of text, and as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kgbuild.report.page.audit import ranges, variant_rows

_WIDTH = 36


def render_audit(document: Mapping[str, Any], hardest: int = 10) -> Iterator[str]:
    """What matters most, as lines; the first `hardest` of the hardest functions."""
    whole, sample = document["whole"], document["sample"]
    functions = sum(whole["patchable"].values())
    yield f"{document['kernel']['name']}: {functions:,} functions that stay after boot"
    for title, rows in (
        ("can be patched", whole["patchable"]),
        ("what ends the way over callers", whole["blocked"]),
        ("no ftrace site", whole["not_redirected"]),
        ("made by gcc", whole["optimised"]),
    ):
        yield ""
        yield title
        yield from (f"  {name:<{_WIDTH}} {count:>9,}" for name, count in rows.items())
    yield ""
    yield f"a change of one function of the source replaces (mean {whole['mean']}, median {whole['median']})"
    yield from (f"  {name:<{_WIDTH}} {count:>9,}" for name, count in ranges(whole["touched"]))
    if sample:
        yield ""
        share = 100 * sample["proven"] / sample["functions"] if sample["functions"] else 0.0
        yield f"{sample['compiled']} units compiled again: {share:.2f} % of their functions are those of the kernel"
        yield f"  {'option':<{_WIDTH}} {'differ':>9} {'size':>9} {'touched':>9}"
        for row in variant_rows(sample):
            changed, size = f"{row['changed_percent']:.1f} %", f"{row['size_percent']:+.2f} %"
            yield f"  {row['name']:<{_WIDTH}} {changed:>9} {size:>9} {row['reach']:>9.3f}"
    yield ""
    yield "hardest functions"
    for one in whole["hardest"][:hardest]:
        why = f"  {one['blocked']}" if one["blocked"] else ""
        yield f"  {one['name']:<{_WIDTH}} {one['replaced']:>9,}  {one['file']}{why}"


def csv_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Every figure as (kernel, part, name, value)."""
    kernel, whole = str(document["kernel"]["name"]), document["whole"]
    for part in ("functions", "patchable", "blocked", "not_redirected", "optimised", "same_name"):
        yield from ((kernel, part, str(name), value) for name, value in whole[part].items())
    for name in ("exported", "sources", "copies", "mean", "median", "most"):
        yield kernel, "whole", name, whole[name]
    yield from ((kernel, "touched", name, count) for name, count in ranges(whole["touched"]))
    if document["sample"]:
        for name in ("seed", "drawn", "compiled", "functions", "proven"):
            yield kernel, "sample", name, document["sample"][name]
        for row in document["sample"]["variants"]:
            yield from ((kernel, row["name"], name, row[name]) for name in row if name != "name")
    for one in whole["hardest"]:
        yield kernel, "hardest", f"{one['name']} ({one['file']})", one["replaced"]
