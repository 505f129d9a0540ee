# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of objects of real kernels that lie beside the checkout, and what another differ found."""

from __future__ import annotations

import json
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "objects"


EXPECTED = json.loads((SAMPLES / "expected.json").read_text()) if SAMPLES.is_dir() else {}


NAMES = sorted(n for n in EXPECTED if n.startswith("x86_64/"))
