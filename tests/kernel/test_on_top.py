# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches on top of patches: what is refused when they are built, and what the kernel makes of them, in one boot."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from kgbuild.host.vm.run import PatchRun, TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.booted import SCHEMA
from tests.support.booting.cases import HERE, Ran, kgbuild

PATCHES = HERE / "ontop"
SETTLE = 'until [ "$(cat /sys/kernel/livepatch/{0}/transition)" = 0 ]; do sleep 0.1; done'


class Maker:
    """Builds patches of this folder; `made` holds the modules by name."""

    def __init__(self, kernel_name: str, folder: Path) -> None:
        self.kernel_name, self.folder = kernel_name, folder
        self.made: dict[str, Path] = {}

    def build(self, name: str, patches: list[str], *options: str | Path) -> tuple[Ran, dict]:
        """The run of the command, and its report."""
        module, report = self.folder / f"livepatch-{name}.ko", self.folder / f"{name}.json"
        words = [*(PATCHES / f"{p}.patch" for p in patches), "--kernel", self.kernel_name, "-o", module]
        ran = kgbuild("build", *words, "--report", report, *options)
        said = json.loads(report.read_text()) if report.exists() else {}
        if said:
            jsonschema.validate(said, SCHEMA)
        self.made[name] = module
        return ran, said


@pytest.fixture(scope="module")
def maker(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    made = Maker(kernel_name, tmp_path_factory.mktemp("on-top"))
    first = ["--on-top-of", made.folder / "livepatch-first.ko"]
    instead = ["--drop", "version_proc_show"]
    for name, patches, options in (
        ("first", ["first"], []),
        ("second", ["second", "other"], [*first, *instead]),
        ("stacked", ["other"], [*first, "--no-replace"]),
        ("dropping", ["other"], [*first, *instead]),
    ):
        ran, _ = made.build(name, patches, *options)
        # `dropping` does not know the state of the first
        assert ran.status == (1 if name == "dropping" else 0), ran.stderr
    return made


def test_what_would_be_taken_back_is_refused(maker: Maker) -> None:
    ran, said = maker.build("lacking", ["other"], "--on-top-of", maker.made["first"])
    assert ran.status == 1
    assert {r["code"] for r in said["refusals"]} == {"L2-taken-back", "L4-state"}
    assert "version_proc_show" in ran.stderr
    assert "--drop" in ran.stderr
    assert [(t["name"], t["how"], t["dropped"]) for t in said["taken_back"]] == [
        ("version_proc_show", "replaced", False)
    ]
    assert not maker.made["lacking"].exists()


def test_drop(maker: Maker) -> None:
    """It allows that the function goes; the state is another matter."""
    said = json.loads((maker.folder / "dropping.json").read_text())
    assert {r["code"] for r in said["refusals"]} == {"L4-state"}
    assert [t["dropped"] for t in said["taken_back"]] == [True]
    ran, _ = maker.build("typo", ["other"], "--on-top-of", maker.made["first"], "--drop", "version_proc_shwo")
    assert ran.status == 2
    assert "version_proc_shwo" in ran.stderr


@pytest.mark.parametrize("patches", [["second", "other"], ["third"]])
def test_a_change_within_a_function_would_be_taken_back(maker: Maker, patches: list[str]) -> None:
    """Both have version_proc_show; the new one's is made of the kernel's own, without what the first did to it."""
    ran, said = maker.build("lacking", patches, "--on-top-of", maker.made["first"])
    assert ran.status == 1
    found = [(r["symbol"], r["fact"]) for r in said["refusals"] if r["code"] == "L2-taken-back"]
    assert ("version_proc_show", "fs/proc/version.c:16") in [(name, fact.split()[5]) for name, fact in found]
    assert "--drop version_proc_show" in ran.stderr
    assert not maker.made["lacking"].exists()


def test_a_later_patch_with_the_older_change_is_built(maker: Maker, tmp_path: Path) -> None:
    """A patch given again, and its change in another file, of which only the source tells."""
    ran, said = maker.build("third", ["first", "third"], "--on-top-of", maker.made["first"])
    assert ran.status == 0, ran.stderr
    assert said["warnings"] == ["livepatch_first has callbacks; they do not run when it is replaced"]
    joined = tmp_path / "joined.patch"
    joined.write_text("".join((PATCHES / f"{name}.patch").read_text() for name in ("first", "third")))
    ran, _ = maker.build("joined", [str(joined.with_suffix(""))], "--on-top-of", maker.made["first"])
    assert ran.status == 0, ran.stderr


def test_an_older_version_of_a_state_is_refused(maker: Maker) -> None:
    drop = ["--drop", "version_proc_show"]
    ran, said = maker.build("older", ["first", "other"], "--on-top-of", maker.made["second"], *drop)
    assert ran.status == 1
    assert [(r["code"], r["fact"]) for r in said["refusals"]] == [
        ("L4-state", "has version 2 of the state 7, this patch 1")
    ]


def test_the_same_function_twice_without_replace_is_refused(maker: Maker) -> None:
    ran, said = maker.build("twice", ["second"], "--on-top-of", maker.made["first"], "--no-replace")
    assert ran.status == 1
    assert {r["code"] for r in said["refusals"]} == {"L3-covered"}


def test_a_variable_of_both_begins_anew_and_that_is_said(maker: Maker) -> None:
    maker.build("counts", ["counts"])
    # it shows the count in another form
    on_top = ("--on-top-of", maker.made["counts"], "--drop", "version_proc_show")
    ran, said = maker.build("counts-more", ["counts-more"], *on_top)
    assert ran.status == 0
    (warning,) = (w for w in said["warnings"] if w.startswith("kgb_reads of "))
    assert warning.startswith("kgb_reads of livepatch_counts begins again with the initial value in this patch; ")
    assert "shadow variable" in warning
    assert warning in ran.stdout


def test_not_a_module_of_ours(maker: Maker, tmp_path: Path) -> None:
    junk = tmp_path / "junk.ko"
    junk.write_bytes(b"\x7fELF junk")
    ran, _ = maker.build("junk", ["other"], "--on-top-of", junk)
    assert ran.status == 2
    assert "Traceback" not in ran.stderr


@pytest.fixture(scope="module")
def booted(kernel: Kernel, maker: Maker) -> TestRun:
    first, second, stacked = (maker.made[n] for n in ("first", "second", "stacked"))
    log = "dmesg | sed -n 's/.*kgbuild: run //p; s/.*kgbuild \\(first: .*\\|second: .*\\)/\\1/p'"
    replacing = PatchRun(
        second,
        before=["grep -q ^first /proc/version", "! grep -q ^other /proc/loadavg"],
        checks=["grep -q ^other /proc/loadavg", "grep -q ^second /proc/version"],
        after=["[ ! -e /sys/kernel/livepatch/livepatch_first ]", "! grep -q ^first /proc/version"],
        disabled=[
            "! grep -q ^first /proc/version",
            # the callbacks of a patch that is replaced do not run; the new one's see its state
            f"{log} | grep -v begin | grep : >/said; printf 'first: pre_patch after 0\\nsecond: pre_patch after 1\\n"
            "second: post_unpatch\\n' | cmp - /said",
            # and back: the first again, then one of an older state on top, which the kernel refuses as well
            f"rmmod livepatch_first && insmod /guest/second.ko && {SETTLE.format('livepatch_second')}",
            "! insmod /guest/first.ko && grep -q ^second /proc/version",
            "echo 0 >/sys/kernel/livepatch/livepatch_second/enabled;"
            "while [ -e /sys/kernel/livepatch/livepatch_second ]; do sleep 0.1; done; sleep 1; rmmod livepatch_second",
            f"insmod /guest/first.ko && {SETTLE.format('livepatch_first')} && grep -q ^first /proc/version",
        ],
        older=[first],
        allow_log=["not compatible"],
    )
    stacking = PatchRun(
        stacked,
        before=["grep -q ^first /proc/version"],
        checks=["grep -q ^other /proc/loadavg"],
        after=["grep -q ^first /proc/version", "[ $(ls /sys/kernel/livepatch | wc -l) = 2 ]"],
        disabled=["grep -q ^first /proc/version"],
        older=[first],
    )
    files = {"/guest/first.ko": first, "/guest/second.ko": second}
    return run_vm(kernel, [replacing, stacking], progress=SilentProgress(), timeout=600, files=files)


def test_booted(booted: TestRun) -> None:
    commands = [c for p in booted.phases for c in p.commands if not c.ok]
    assert booted.findings == (), commands
    assert booted.verdict
    assert {p.patch for p in booted.phases} == {"livepatch_second", "livepatch_stacked"}
