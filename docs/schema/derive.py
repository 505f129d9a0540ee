# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes build-1.json and impact-1.json: report-1.json, which describes both, for one of them each (make docs)."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent


def derive(name: str) -> str:
    """The schema of a report of `build` or `impact`."""
    schema = json.loads((HERE / "report-1.json").read_text())
    schema["$id"] = f"{name}-1.json"
    schema["title"] = f"kgbuild {name} report, version 1"
    schema["properties"]["schema"] = {"const": f"kgbuild/{name}/1"}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    for report in ("build", "impact"):
        (HERE / f"{report}-1.json").write_text(derive(report))
