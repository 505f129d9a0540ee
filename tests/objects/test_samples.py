# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of objects of real kernels (see the README beside them), compared with what another differ found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgbuild.analysis.diff import compute_changes
from tests.toolchain import view

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "objects"
EXPECTED = json.loads((SAMPLES / "expected.json").read_text()) if SAMPLES.is_dir() else {}
NAMES = sorted(n for n in EXPECTED if n.startswith("x86_64/"))
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample objects are not beside this checkout")
