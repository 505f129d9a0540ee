# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's kernel says of its live patches, before and after a load: the shell that lists it, and what is made
of it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from kgbuild.guest.loaded_patches import PatchState, compare_patches, describe_loads, parse_patches
from tests.support.guest_records import PLAN, codes, encoded, session

INIT = Path(__file__).resolve().parents[3] / "kgbuild" / "data" / "guest" / "init"

OLD = "old 1 0\n vmlinux/f,1/\n vmlinux/g,1/\n"
NEW = "lp 1 0\n vmlinux/f,1/\n"


def run(before: str, after: str, older: str = "") -> list[str]:
    """What a guest says of a patch that loads, with these live patches before and after it."""
    return [
        "hello release=6.1 cpus=1 taint=0",
        "run run=000",
        f"patches run=000 step=before when=begin list64={encoded('')}",
        "command run=000 step=before index=0 status=1 took=1 out64=",
        f"patches run=000 step=before when=0 list64={encoded(older)}",
        "phase run=000 step=before",
        f"patches run=000 step=load when=before list64={encoded(before)}",
        "load run=000 status=0 took=3 out64=",
        f"patches run=000 step=load when=after list64={encoded(after)}",
        f"transition run=000 step=load done=1 took=12 enabled=1 functions64={encoded('vmlinux/f,1/')}",
        "phase run=000 step=load",
    ]


def test_states() -> None:
    assert parse_patches(f"{OLD}other 0 -\nno\n x 1\n") == (
        PatchState("old", True, False, ("vmlinux/f,1", "vmlinux/g,1")),
        PatchState("other", False, None, ("x 1",)),
    )
    assert parse_patches(" vmlinux/f,1/\n") == ()


def test_a_patch_that_replaces() -> None:
    found = session(run(OLD, NEW, OLD), PLAN)
    assert codes(found) == []
    before, load = found.phases
    assert [one.loaded for one in before.loads] == [("old",)]
    (only,) = load.loads
    assert (only.loaded, only.replaced, only.kept) == (("lp",), ("old",), ())
    assert describe_loads(load.loads) == [
        "loaded before lp: old",
        "lp replaced old, by /sys/kernel/livepatch",
    ]
    assert describe_loads(before.loads) == []
    assert describe_loads(before.loads, first=True) == ["loaded before old: no live patch"]


def test_a_patch_that_stays_below() -> None:
    (load,) = session(run(OLD, OLD + NEW), PLAN).phases[1].loads
    assert describe_loads([load]) == ["loaded before lp: old", "old stays active below lp, which has f too"]
    # one that is to replace, by its note, must do so
    assert codes(session(run(OLD, OLD + NEW), replace(PLAN, atomic_replace=True))) == ["G4-sysfs"]
    assert codes(session(run(OLD, OLD + NEW), replace(PLAN, atomic_replace=False))) == []
    assert codes(session(run(OLD, NEW), replace(PLAN, atomic_replace=True))) == []


def test_a_replaced_patch_may_still_be_there_disabled() -> None:
    before, after = parse_patches(OLD + "idle 0 0\n"), parse_patches("old 0 0\nidle 0 0\n" + NEW)
    load = compare_patches(before, after)
    assert (load.loaded, load.replaced, load.kept) == (("lp",), ("old",), ())
    assert describe_loads([load])[0] == "loaded before lp: old, idle (disabled)"


def test_what_the_guest_lists(tmp_path: Path) -> None:
    sysfs = tmp_path / "livepatch"
    (sysfs / "old" / "vmlinux" / "f,1").mkdir(parents=True)
    (sysfs / "old" / "enabled").write_text("1\n")
    (sysfs / "old" / "transition").write_text("0\n")
    (sysfs / "half").mkdir()
    text = INIT.read_text()
    functions = text[text.index("# patches STEP WHEN") : text.index("# load [early-]")]
    script = functions.replace("/sys/kernel/livepatch", str(sysfs)) + "\nsleep() { :; }\nawait_replaced\nlist_patches\n"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "half - -\nold 1 0\n vmlinux/f,1/\n" and done.stderr == ""
    assert parse_patches(done.stdout)[1].functions == ("vmlinux/f,1",)
