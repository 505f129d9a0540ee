# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of data/guest/init for a patch of loadable modules, run by a shell with nothing of a guest around it: what
it says of modules that do not load, and what is made of that."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kgbuild.guest.model import GuestCommand, GuestPlan
from kgbuild.guest.reload_scenario import NotTried, TargetRun
from kgbuild.guest.session import Session
from tests.support.guest_records import session

INIT = Path(__file__).resolve().parents[3] / "kgbuild" / "data" / "guest" / "init"
# In place of what talks to the kernel. `refused` has a file for each module that does not load, with what insmod says.
STUBS = """
say() { echo "$*"; }
mark() { :; }
patches() { :; }
await_replaced() { :; }
sleep() { :; }
settle() { waited=1; }
captured() { echo "status=$status took=1 out64=$(printf %s "$said" | base64 | tr -d '\\n')"; }
capture() {
    status=0 said= dir=none
    base=${2##*/}
    if [ "$1" = insmod ] && [ -e "refused/${base%.ko}" ]; then
        status=1
        said="insmod: can't insert '$2': $(cat "refused/${base%.ko}")"
    fi
}
commands() {
    [ -n "$2" ] && stage=$2 || stage=$1
    case $1 in after) result=0 ;; *) result=1 ;; esac
    [ "$1" = absent ] || say command "run=$id" "step=$stage" index=0 "status=$result" took=1 out64=
    say phase "run=$id" "step=$stage"
}
"""
CHECK = {"before": (GuestCommand("c", False, True),), "after": (GuestCommand("c", True, True),)}
COMMANDS = CHECK | {"disabled": (GuestCommand("c", False, True),)}


def run(tmp_path: Path, fixed: str, cycled: str, targets: str, refused: dict[str, str]) -> Session:
    """What is made of a run with these modules, some of which insmod refuses with a text."""
    text = INIT.read_text()
    functions = text[text.index("# load [early-]") : text.index("exec 3>/dev/ttyS1")]
    (tmp_path / "refused").mkdir()
    for name, said in refused.items():
        (tmp_path / "refused" / name).write_text(said)
    own = tmp_path / "run" / "000"
    own.mkdir(parents=True)
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "enabled").write_text("1\n")
    (tmp_path / "sys" / "vmlinux" / "f,1").mkdir(parents=True)
    lists = {"fixed": fixed, "cycled": cycled, "reversed": " ".join(reversed(cycled.split())), "targets": targets}
    for name, words in (lists | {"name": "lp"}).items():
        (own / name).write_text(f"{words}\n")
    script = (
        f'encode() {{ base64 | tr -d "\\n"; }}\n{functions}\n{STUBS}\nrun=run/000 id=000 name=lp sysfs=sys ours=\n'
        'say hello release=6.1 cpus=1 taint=0\nsay run "run=$id"\nwith_targets\nput_away\n'
        'say log "run=$id" taint=0 text64=\nsay phase "run=$id" step=log\nsay end\n'
    )
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    target = TargetRun("lp", tuple(targets.split()), tuple(fixed.split()), tuple(cycled.split()))
    return session(done.stdout.splitlines(), GuestPlan("lp", COMMANDS, targets=target))


def test_all_load(tmp_path: Path) -> None:
    result = run(tmp_path, "lib", "a b", "a", {})
    assert [str(f) for f in result.findings if f.code != "G9-log"] == []
    assert result.not_tried == []
    assert {"load", "reload-3", "early-after", "targets"} <= {p.phase for p in result.phases}


@pytest.mark.parametrize(
    ("refused", "lacking"),
    [
        ({"a": "No such device"}, [("a", "No such device")]),
        (
            {"lib": "No such device", "a": "unknown symbol in module, or unknown parameter"},
            [("a", "lib, which it needs: No such device")],
        ),
    ],
)
def test_the_only_target_does_not_load(tmp_path: Path, refused: dict[str, str], lacking: list[tuple[str, str]]) -> None:
    result = run(tmp_path, "lib", "a", "a", refused)
    assert result.not_tried == [NotTried("lp", name, fact) for name, fact in lacking]
    assert "load" not in {p.phase for p in result.phases}
    assert not result.incomplete and {f.code for f in result.findings} <= {"G9-log"}


def test_one_of_two_targets_does_not_load(tmp_path: Path) -> None:
    result = run(tmp_path, "", "a b", "a b", {"a": "Operation not supported"})
    assert result.not_tried == [NotTried("lp", "a", "Operation not supported")]
    assert not result.incomplete and {f.code for f in result.findings} <= {"G9-log"}
    (said,) = [p.fact for p in result.phases if p.phase == "targets"]
    assert said == "b  both orders, reloaded 3 times, a not tried (Operation not supported)"


def test_a_target_that_is_broken_is_a_finding(tmp_path: Path) -> None:
    result = run(tmp_path, "", "a", "a", {"a": "invalid module format"})
    assert result.not_tried == [] and result.outcome == "no"
    assert [f.code for f in result.findings][:1] == ["G12-target"]
