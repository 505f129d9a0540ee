# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches of loadable modules in the guest: which modules are found, and what is made of the guest's records."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from kgbuild.cli.vm import vm
from kgbuild.diagnostics.guest_findings import RULES
from kgbuild.elf.consts import SHF, SHT
from kgbuild.elf.write import OutObject, OutSection, write
from kgbuild.errors import UserError
from kgbuild.guest.model import GuestCommand, GuestPlan
from kgbuild.guest.reload_scenario import ABSENT, CYCLES, EARLY, PHASES, RELOADS, NotTried, TargetRun
from kgbuild.guest.session import Session
from kgbuild.host.vm.patch_targets import (
    Targets,
    collect_targets,
    has_functions,
    module_entries,
    read_targets,
    run_entries,
)
from kgbuild.host.vm.run import TestRun
from kgbuild.model import Finding
from tests.support.guest_records import codes, encoded, session
from tests.support.module_files import modinfo_object

LOG = f"log run=000 taint=32768 text64={encoded('<14>[    2.9] kgbuild: run 000 begins' + chr(10))}"
FUNCTIONS = f"functions64={encoded('af_key/f,1/' + chr(10))}"


def loaded(step: str, *names: str) -> list[str]:
    return [f"target run=000 step={step} action=load name={n} status=0 took=3 out64=" for n in names]


def unloaded(step: str, *names: str) -> list[str]:
    return [f"target run=000 step={step} action=unload name={n} refs=-1 holders= status=0 took=3 out64=" for n in names]


def command(step: str, status: int) -> str:
    return f"command run=000 step={step} index=0 status={status} took=7 out64="


def end(step: str) -> str:
    return f"phase run=000 step={step}"


def patch(prefix: str = "") -> list[str]:
    step = f"{prefix}load"
    moved = f"transition run=000 step={step} done=1 took=12 enabled=1 {FUNCTIONS}"
    return [f"load run=000 step={step} status=0 took=3 out64=", moved, end(step)]


def gone(prefix: str = "") -> list[str]:
    step = f"{prefix}disable"
    return [
        f"disable run=000 step={step} status=0 took=3 out64=",
        f"transition run=000 step={step} done=1 took=10",
        f"unload run=000 step={step} present=0 status=0 took=2 out64=",
        end(step),
    ]


def good() -> list[str]:
    """The records of a run in which all is well: af_key needs xfrm_algo, which stays."""
    reloads = [
        body
        for out, back in zip(ABSENT, RELOADS, strict=True)
        for body in (
            *(*unloaded(out, "af_key"), command(out, 0), end(out)),
            *(*loaded(back, "af_key"), command(back, 0), end(back)),
        )
    ]
    return [
        "hello release=6.1.0 cpus=1 taint=0",
        "run run=000",
        *loaded("setup", "xfrm_algo", "af_key"),
        end("setup"),
        *(command("before", 1), end("before")),
        *(*unloaded("trial", "af_key"), *loaded("trial", "af_key"), end("trial")),
        *(*patch(), command("after", 0), end("after")),
        *reloads,
        *(*gone(), command("disabled", 1), end("disabled")),
        *(*unloaded("early-load", "af_key"), *patch("early-")),
        *(command("early-absent", 0), end("early-absent")),
        *(*loaded("early-after", "af_key"), command("early-after", 0), end("early-after")),
        *(*gone("early-"), command("early-disabled", 1), end("early-disabled")),
        *(end("targets"), LOG, end("log"), "end"),
    ]


def plan(commands: bool = False) -> GuestPlan:
    check = {"before": (GuestCommand("c", False, True),), "after": (GuestCommand("c", True, True),)}
    run = TargetRun("lp", ("af_key",), ("xfrm_algo",), ("af_key",), commands=commands, absences=True)
    return GuestPlan(
        "lp", {**check, "absent": (GuestCommand("a"),), "disabled": (GuestCommand("c", False, True),)}, targets=run
    )


def ran(bodies: list[str], commands: bool = False) -> Session:
    return session(bodies, plan(commands))


def without(bodies: list[str], *steps: str) -> list[str]:
    return [b for b in bodies if not any(f"step={step}" in b.split() for step in steps)]


def failing(bodies: list[str], step: str, action: str, **values: str) -> list[str]:
    """The records of a run, with one module's saying that it went wrong."""
    old = next(b for b in bodies if f"step={step} action={action} name=af_key" in b)
    new = old.replace("status=0", "status=1").replace("out64=", f"out64={encoded('rmmod: x: busy')}")
    for key, value in values.items():
        new = " ".join(f"{key}={value}" if w.startswith(f"{key}=") else w for w in new.split(" "))
    return [new if b is old else b for b in bodies]


def summary(result: Session) -> str:
    return next(p.fact for p in result.phases if p.phase == "targets")


def test_a_good_run() -> None:
    result = ran(good())
    assert result.findings == []
    assert result.finished
    assert not result.incomplete
    assert tuple(p.phase for p in result.phases) == PHASES
    assert all(p.ok for p in result.phases)
    assert summary(result) == "af_key  both orders, reloaded 3 times, absent 4 times"


@pytest.mark.parametrize("lost", range(1, len(good()) - 1))
def test_no_lost_record_makes_a_yes_of_a_no(lost: int) -> None:
    bodies = good()
    result = ran(bodies[:lost] + bodies[lost + 1 :])
    assert result.incomplete or result.findings or bodies[lost].startswith("run")


def test_a_target_that_does_not_load_ends_the_run() -> None:
    bodies = without(failing(good(), "setup", "load"), *PHASES[1:-2])
    result = ran(bodies)
    assert codes(result) == ["G12-target"]
    assert "af_key could not be loaded: rmmod: x: busy" in result.findings[0].fact
    assert not result.incomplete


DEVICE = "insmod: can't insert '/kgbuild/targets/x.ko': No such device"


@pytest.mark.parametrize("said", ["No such device", "No such device or address", "Operation not supported"])
def test_a_target_without_its_device_is_not_tried(said: str) -> None:
    text = encoded(f"insmod: can't insert '/kgbuild/targets/af_key.ko': {said}")
    bodies = [b.replace(encoded("rmmod: x: busy"), text) for b in failing(good(), "setup", "load")]
    result = ran(without(bodies, *PHASES[1:-2]))
    assert result.findings == [] and result.finished and not result.incomplete
    assert result.not_tried == [NotTried("lp", "af_key", said)]
    assert result.outcome == "not tried"
    assert summary(result) == f"af_key not tried ({said})"


@pytest.mark.parametrize("said", ["Exec format error", "Key was rejected by service", "unknown symbol in module"])
def test_any_other_reason_is_a_finding(said: str) -> None:
    text = encoded(f"insmod: can't insert '/kgbuild/targets/af_key.ko': {said}")
    bodies = [b.replace(encoded("rmmod: x: busy"), text) for b in failing(good(), "setup", "load")]
    result = ran(without(bodies, *PHASES[1:-2]))
    assert codes(result) == ["G12-target"] and result.not_tried == [] and result.outcome == "no"


def with_another() -> list[str]:
    """A run in which kvm_intel is a target too, and does not load; nor does what needs it."""
    refused = f"target run=000 step=setup action=load name=kvm_intel status=1 took=3 out64={encoded(DEVICE)}"
    needs = "insmod: can't insert 'y.ko': unknown symbol in module, or unknown parameter"
    more = f"target run=000 step=setup action=load name=needs_it status=1 took=3 out64={encoded(needs)}"
    bodies = good()
    at = bodies.index(end("setup"))
    return [*bodies[:at], refused, more, *bodies[at:]]


def test_the_other_targets_are_tried() -> None:
    run = TargetRun(
        "lp", ("af_key", "kvm_intel", "needs_it"), ("xfrm_algo",), ("af_key", "kvm_intel", "needs_it"), absences=True
    )
    whole = GuestPlan("lp", plan().commands, targets=run)
    result = session(with_another(), whole)
    assert result.findings == [] and not result.incomplete
    assert result.outcome == "partly tried"
    assert [(n.module, n.fact) for n in result.not_tried] == [
        ("kvm_intel", "No such device"),
        ("needs_it", "kvm_intel, which it needs: No such device"),
    ]
    assert "af_key" in summary(result) and "both orders, reloaded 3 times" in summary(result)
    assert "kvm_intel not tried (No such device)" in summary(result)


def test_a_finding_counts_more_than_what_was_not_tried() -> None:
    run = TargetRun("lp", ("af_key", "kvm_intel"), ("xfrm_algo",), ("af_key", "kvm_intel"), absences=True)
    bodies = [b.replace(command("after", 0), command("after", 1)) for b in with_another() if "needs_it" not in b]
    result = session(bodies, GuestPlan("lp", plan().commands, targets=run))
    assert codes(result) == ["G5-after"] and result.outcome == "no"


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        ("ok", 0, []),
        ("not tried", 3, ["lp: not tried on kvm_intel", "No such device", "a machine that has the device"]),
        ("partly tried", 3, ["lp: not tried on kvm_intel", "the rest is as it should be"]),
        ("no", 1, ["G5-after"]),
    ],
)
def test_the_verdict_in_words_in_json_and_as_exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: str, status: int, words: list[str]
) -> None:
    findings = (Finding("G5-after", "lp", "it failed"),) if outcome == "no" else ()
    lacking = (NotTried("lp", "kvm_intel", "No such device"),) if "tried" in outcome else ()
    ok = outcome == "ok"
    run = TestRun("k", "6.1", "tcg", 1, (), findings, ok, outcome, lacking, "", "", 1.0, 2.0)
    monkeypatch.setattr("kgbuild.host.kernels.acquire.ensure_kernel", lambda *args, **words: None)
    monkeypatch.setattr("kgbuild.host.vm.run.run_vm", lambda *args, **words: run)
    (tmp_path / "lp.ko").write_bytes(b"")
    report = tmp_path / "report.json"
    done = CliRunner().invoke(vm, [str(tmp_path / "lp.ko"), "--kernel", "k", "--report", str(report)])
    assert done.exit_code == status, done.output
    assert outcome in done.output
    for word in words:
        assert word in done.output
    said = json.loads(report.read_text())
    assert (said["outcome"], said["verdict"]) == (outcome, ok)
    assert said["not_tried"] == [vars(one) for one in lacking]


def test_the_reload_fault_is_found_and_explained() -> None:
    said = "module: x86/modules: Skipping invalid relocation target, existing value is nonzero for type 1"
    log = f"<14>[    2.9] kgbuild: run 000 begins\n<3>[    3.0] {said}\n"
    bodies = without(failing(good(), "reload-1", "load"), *CYCLES[2:], "disabled", *EARLY)
    bodies = [b for b in bodies if "command run=000 step=reload-1" not in b]
    result = ran([b.replace(LOG, f"log run=000 taint=0 text64={encoded(log)}") for b in bodies])
    assert codes(result) == ["G12-target", "G9-log"]
    assert "again with the patch active" in result.findings[0].fact
    assert said in result.findings[0].fact
    assert not result.incomplete
    assert summary(result) == "af_key  loaded before the patch only, absent 1 time"


def test_a_target_that_can_never_be_unloaded_is_a_note() -> None:
    bodies = failing(good(), "trial", "unload", refs="2")
    result = ran(without(bodies, *CYCLES, *EARLY))
    assert result.findings == []
    assert not result.incomplete
    expected = "af_key can't be unloaded (in use, 2 references), also without the patch"
    assert summary(result) == f"af_key  loaded before the patch only, never absent ({expected})"


def held(holders: str) -> list[str]:
    bodies = failing(good(), "absent-1", "unload", refs="1", holders=holders)
    return [b for b in without(bodies, *CYCLES[1:]) if b != command("absent-1", 0)]


def test_a_target_that_the_patch_holds_is_found() -> None:
    for commands in (False, True):
        result = ran(held("lp,"), commands)
        assert codes(result) == ["G13-reload"]
        assert "can't be unloaded while the patch is active (used by lp)" in result.findings[0].fact


def test_a_target_that_the_users_commands_hold_is_a_note() -> None:
    bodies = held("")
    assert codes(ran(bodies)) == ["G13-reload"]
    result = ran(bodies, commands=True)
    assert result.findings == []
    assert not result.incomplete
    assert (
        summary(result)
        == "af_key  both orders, absent 1 time (af_key is left in use by the commands (in use, 1 references))"
    )


def test_a_target_that_comes_after_the_patch_and_is_refused() -> None:
    bodies = without(failing(good(), "early-after", "load"), "early-disabled")
    result = ran([b for b in bodies if b != command("early-after", 0)])
    assert codes(result) == ["G12-target"]
    assert "with the patch already there" in result.findings[0].fact
    assert not result.incomplete


@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        ("reload-2", "G5-after", "target loaded again, 2 of 3"),
        ("early-after", "G5-after", "patch loaded before its target"),
        ("absent-2", "G14-absent", "target taken out, 2 of 3"),
        ("early-absent", "G14-absent", "patch loaded, its target never"),
    ],
)
def test_checks_hold_every_time(step: str, code: str, words: str) -> None:
    result = ran([b.replace("status=0", "status=1") if b == command(step, 0) else b for b in good()])
    assert codes(result) == [code]
    assert words in result.findings[0].fact
    assert summary(result) == "af_key  both orders, reloaded 3 times, absent 4 times"


def test_a_patch_that_does_not_load_before_its_target() -> None:
    bodies = [b.replace("status=0", "status=1") if b.startswith("load run=000 step=early") else b for b in good()]
    result = ran(without(bodies, *EARLY[1:]))
    assert codes(result) == ["G2-load"]
    assert "patch loaded before its target" in result.findings[0].fact
    assert not result.incomplete


def test_every_code_has_a_meaning() -> None:
    assert {"G12-target", "G13-reload", "G14-absent"} <= set(RULES)


# What is found in files


def live_patch(sections: list[str], note: bytes | None = None) -> bytes:
    out = OutObject(62)
    out.sections.append(OutSection(".modinfo", SHT.PROGBITS, SHF.ALLOC, bytearray(b"livepatch=Y\0name=lp\0")))
    out.sections += [OutSection(name, SHT.PROGBITS, SHF.ALLOC, bytearray(8)) for name in sections]
    if note is not None:
        data = struct.pack("<III", 8, len(note), 1) + b"kgbuild\0" + note
        out.sections.append(OutSection(".note.kgbuild", SHT.NOTE, SHF.ALLOC, bytearray(data), 4))
    return write(out)


def test_targets_come_from_relocation_sections_and_from_the_note() -> None:
    rows = [{"object": "nf_tables", "name": "f"}, {"object": "vmlinux", "name": "g"}, {"name": "h"}]
    note = json.dumps({"functions": rows}).encode()
    sections = [".klp.rela.vmlinux..text.f", ".klp.rela.af_key..text.f", ".klp.rela.af_key..data"]
    assert read_targets(live_patch(sections)) == ["af_key"]
    assert read_targets(live_patch(sections, note)) == ["af_key", "nf_tables"]
    assert read_targets(live_patch([".klp.rela.vmlinux..text.f"])) == []


def test_a_patch_of_callbacks_only() -> None:
    callbacks = [{"object": "vmlinux", "kind": "pre_patch"}, {"object": "loop", "kind": "post_patch"}]
    only = live_patch([], json.dumps({"functions": [], "callbacks": callbacks}).encode())
    both = live_patch([], json.dumps({"functions": [{"object": "vmlinux"}], "callbacks": callbacks}).encode())
    assert read_targets(only) == ["loop"]
    assert not has_functions(only)
    # what another tool made, or is damaged, is taken to have some
    assert has_functions(both) and has_functions(live_patch([])) and has_functions(live_patch([], b"no json"))


@pytest.mark.parametrize("note", [b"", b"no json", b"[1]", b"\xff"])
def test_a_damaged_note_is_no_error(note: bytes) -> None:
    assert read_targets(live_patch([], note)) == []
    assert read_targets(b"no elf") == []


def tree(root: Path, **depends: str) -> Path:
    for name, needed in depends.items():
        (root / f"{name.replace('_', '-')}.ko").write_bytes(modinfo_object(depends=needed))
    (root / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    return root


def test_targets_are_loaded_with_what_they_need(tmp_path: Path) -> None:
    root = tree(tmp_path, vfat="fat", fat="nls_base", nls_base="", other="")
    one = collect_targets(root, ["vfat"])
    assert (one.names, one.fixed, one.cycled) == (("vfat",), ("nls_base", "fat"), ("vfat",))
    both = collect_targets(root, ["vfat", "fat"])
    assert (both.names, both.fixed, both.cycled) == (("fat", "vfat"), ("nls_base",), ("fat", "vfat"))
    assert set(both.files) == {"fat", "vfat", "nls_base"}


def test_what_stands_between_two_targets_is_cycled_too(tmp_path: Path) -> None:
    found = collect_targets(tree(tmp_path, low="", mid_one="low", top="mid-one"), ["low", "top"])
    assert found.cycled == ("low", "mid_one", "top")
    assert found.names == ("low", "top")


def test_a_target_that_is_built_in_is_not_loaded(tmp_path: Path) -> None:
    found = collect_targets(tree(tmp_path, fat=""), ["ext4", "fat"])
    assert (found.names, found.builtin, found.cycled) == (("fat", "ext4"), ("ext4",), ("fat",))
    assert TargetRun("lp", found.names, builtin=found.builtin).summary == "fat, ext4  ext4 built into this kernel"


def test_an_unknown_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the patch is for gone"):
        collect_targets(tree(tmp_path), ["gone"])
    with pytest.raises(UserError, match="without modules"):
        collect_targets(None, ["af_key"])
    assert collect_targets(None, []) == Targets()


def test_what_the_guest_reads(tmp_path: Path) -> None:
    found = collect_targets(tree(tmp_path, vfat="fat", fat=""), ["vfat", "fat"])
    files = {e.path: e.data for e in run_entries(2, found)}
    assert files["kgbuild/runs/002/cycled"] == b"fat vfat\n"
    assert files["kgbuild/runs/002/reversed"] == b"vfat fat\n"
    assert files["kgbuild/runs/002/fixed"] == b"\n"
    assert [e.path for e in module_entries([found, found])] == ["kgbuild/targets/fat.ko", "kgbuild/targets/vfat.ko"]
