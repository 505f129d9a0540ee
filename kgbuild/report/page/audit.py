# SPDX-License-Identifier: GPL-2.0-or-later
"""What the page of an audit shows: figures, plots, the hardest functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild.callgraph.audit.variants import AS_BUILT
from kgbuild.callgraph.audit.whole_kernel import NOT_REDIRECTED, OPTIMISATIONS


@dataclass(frozen=True)
class Bar:
    """One bar of a plot: label, what it counts, the value as text, its length in percent of the longest."""

    label: str
    about: str
    value: str
    length: float


def bars(rows: Sequence[tuple[str, str, float]], unit: str = "") -> list[Bar]:
    """A plot of (label, meaning, value) in the order given."""
    longest = max((value for _, _, value in rows), default=0) or 1
    return [Bar(label, about, f"{value:,g}{unit}", round(100 * value / longest, 2)) for label, about, value in rows]


def ranges(touched: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """The distribution of how many functions a change replaces, with the ranges in words."""
    lows = [int(row["from"]) for row in touched]
    out = []
    for at, row in enumerate(touched):
        low, high = lows[at], lows[at + 1] - 1 if at + 1 < len(lows) else 0
        name = f"{low} or more" if not high else f"{low}" if low == high else f"{low} to {high}"
        out.append((name, int(row["functions"])))
    return out


def variant_rows(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The variants of a sample with their shares and differences in percent."""
    out = []
    for row in sample["variants"]:
        changed = 100 * row["changed"] / row["functions"] if row["functions"] else 0.0
        size = 100 * (row["size"] / row["size_as_built"] - 1) if row["size_as_built"] else 0.0
        fewer = 100 * (1 - row["reach"] / row["reach_as_built"]) if row["reach_as_built"] else 0.0
        out.append({**row, "changed_percent": changed, "size_percent": size, "fewer_percent": fewer})
    return out


def audit_page(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the template (kgbuild/data/page/audit.html.j2), from a document of `audit`."""
    whole, sample = document["whole"], document["sample"]
    patchable = {str(name): int(count) for name, count in whole["patchable"].items()}
    functions = sum(patchable.values())
    variants = variant_rows(sample) if sample else []
    return {
        "title": f"audit of {document['kernel']['name']}",
        "document": document,
        "whole": whole,
        "sample": sample,
        "functions": functions,
        "redirected": 100 * patchable.get("redirected", 0) / functions if functions else 0.0,
        "patchable": bars([(name, "", count) for name, count in patchable.items()]),
        "optimised": bars([(name, OPTIMISATIONS.get(name, ""), int(n)) for name, n in whole["optimised"].items()]),
        "reasons": bars([(name, NOT_REDIRECTED.get(name, ""), int(n)) for name, n in whole["not_redirected"].items()]),
        "blocked": bars([(name, "", int(count)) for name, count in whole["blocked"].items()]),
        "touched": bars([(name, "", count) for name, count in ranges(whole["touched"])]),
        "variants": variants,
        "changed": bars(
            [(row["name"], "", round(row["changed_percent"], 1)) for row in variants if row["name"] != AS_BUILT], " %"
        ),
        "hardest": whole["hardest"],
    }
