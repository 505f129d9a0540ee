# SPDX-License-Identifier: GPL-2.0-or-later
"""Every case of built-in code is built by the real command, then all are booted in one guest: loaded, checked,
disabled, unloaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.booted import test_report, test_the_guest_as_a_whole, test_works  # noqa: F401
from tests.support.booting.cases import HERE, Built, build_cases, kgbuild, load_cases

CASES = [c for c in load_cases(HERE / "cases" / "cases.toml") if not c.list("targets")]
PROOF_SCHEMA = json.loads((HERE.parent.parent / "docs" / "schema" / "proof-2.json").read_text())


@pytest.fixture(scope="session")
def built(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every case, built."""
    return build_cases(CASES, kernel_name, tmp_path_factory.mktemp("built-in"))


@pytest.fixture(scope="session")
def booted(
    kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes], guest_modules: dict[str, Path]
) -> TestRun:
    """One boot for all of them."""
    runs = [b.run for b in built.values()]
    modules = sorted({name for case in CASES for name in case.list("modules")})
    silent = SilentProgress()
    files = {**guest_files, "/guest/kgbuild_caller.ko": guest_modules["kgbuild_caller"].read_bytes()}
    return run_vm(kernel, runs, progress=silent, timeout=900, files=files, modules=modules, oot_modules=guest_modules)


def test_two_builds_are_the_same(kernel_name: str, built: dict[str, Built], tmp_path: Path) -> None:
    """In another directory, with nothing cached of the results."""
    for name in ("proc-version", "fork"):
        patches = [HERE / "cases" / p for p in built[name].case.list("patches")]
        again = tmp_path / f"livepatch-{name}.ko"
        ran = kgbuild("build", *patches, "--kernel", kernel_name, "-o", again, cwd=tmp_path)
        assert ran.status == 0, ran.stderr
        assert again.read_bytes() == built[name].module.read_bytes()


def test_crypto_binds_the_third(built: dict[str, Built]) -> None:
    """Three functions are called c_start; the position is proven by the function's own bytes."""
    assert [(f["name"], f["sympos"]) for f in built["crypto"].report["module"]["functions"]] == [("c_start", 3)]


# -- the proof record ------------------------------------------------------------------------------------------------


def test_proof_records_of_all_cases(built: dict[str, Built], kernel: Kernel) -> None:
    """Each is the one in the report; and the digests are those of the kernel's bytes, read here by pyelftools."""
    with kernel.vmlinux.open("rb") as file:
        elf = ELFFile(file)
        contents = {s.name: (s["sh_addr"], s["sh_offset"]) for s in elf.iter_sections() if s["sh_addr"]}
        checked = 0
        for case in built.values():
            record = json.loads(case.proof.read_text())
            jsonschema.validate(record, PROOF_SCHEMA)
            assert record == case.report["proof"]
            for place in [*record["replaced"], *record["bound"]]:
                assert place["evidence"] and place["proven"]
                if place["object"] != "vmlinux" or not place["digest"]:
                    continue
                address, offset = contents[place["section"]]
                file.seek(offset + int(place["address"], 16) - address)
                assert hashlib.sha256(file.read(place["size"])).hexdigest() == place["digest"], place["name"]
                checked += 1
    assert checked > len(built)


def test_verify_holds_the_record_against_module_and_kernel(
    built: dict[str, Built], kernel_name: str, tmp_path: Path
) -> None:
    case = built["fork"]

    def verify(module: Path, record: Path | None) -> tuple[int, str]:
        words = ("--proof", record) if record is not None else ()
        ran = kgbuild("verify", module, "--kernel", kernel_name, *words)
        return ran.status, ran.stdout + ran.stderr

    assert verify(case.module, case.proof)[0] == 0
    # the record of another module
    status, said = verify(case.module, built["proc-version"].proof)
    assert status == 1 and "V29-proof-binding" in said and "V30" not in said
    # one that is tampered with, in turn: a digest, an address, a function left out
    for number, code in ((0, "V30-proof-digest"), (1, "V30-proof-digest"), (2, "V29-proof-binding")):
        record = json.loads(case.proof.read_text())
        function = next(p for p in record["bound"] if p["kind"] == "function")
        if number == 0:
            function["digest"] = record["replaced"][0]["digest"]
        elif number == 1:
            function["address"] = record["replaced"][0]["address"]
        else:
            record["bound"].remove(function)
        (tmp_path / "proof.json").write_text(json.dumps(record))
        status, said = verify(case.module, tmp_path / "proof.json")
        assert status == 1 and code in said and function["name"] in said, said
    # a module whose note has another digest: without a record, and with one that has the same
    record = json.loads(case.proof.read_text())
    function = next(p for p in record["bound"] if p["kind"] == "function")
    other = hashlib.sha256(b"other").hexdigest()
    data = case.module.read_bytes()
    assert data.count(function["digest"].encode()) == 1
    spoiled = tmp_path / case.module.name
    spoiled.write_bytes(data.replace(function["digest"].encode(), other.encode()))
    status, said = verify(spoiled, None)
    assert status == 1 and "V28-note-digest" in said and function["name"] in said
    function["digest"] = other
    (tmp_path / "proof.json").write_text(json.dumps(record))
    status, said = verify(spoiled, tmp_path / "proof.json")
    assert status == 1 and "V28-note-digest" in said and "V30-proof-digest" in said
    (tmp_path / "proof.json").write_text("{")
    assert verify(case.module, tmp_path / "proof.json")[0] == 2


def test_accepted_risks_are_in_report_note_and_message(kernel_name: str, tmp_path: Path) -> None:
    """Nothing of this kernel is unproven, so the name accepts nothing, which is said; it is recorded all the same."""
    module, report = tmp_path / "livepatch-accepted.ko", tmp_path / "report.json"
    patch = HERE.parent.parent / "examples" / "proc-version" / "fix.patch"
    words = ("--kernel", kernel_name, "-o", module, "--report", report, "--allow-unproven", "version_proc_shown")
    ran = kgbuild("build", patch, *words)
    assert ran.status == 0, ran.stderr
    said = json.loads(report.read_text())
    assert (
        said["allowed"] == said["proof"]["allowed"] == [{"option": "--allow-unproven", "value": "version_proc_shown"}]
    )
    assert "version_proc_shown: --allow-unproven accepts nothing" in ran.stdout
    with module.open("rb") as file:
        data = ELFFile(file).get_section_by_name(".note.kgbuild").data()
    note = json.loads(data[20:].rstrip(b"\0"))
    assert note["schema"] == 2
    assert note["allowed"] == ["--allow-unproven version_proc_shown"]
    assert note["accepted"] == said["warnings"] and len(note["accepted"]) == 1
    assert [f["digest"] for f in note["functions"]] == [p["digest"] for p in said["proof"]["replaced"]]
    assert kgbuild("verify", module, "--kernel", kernel_name).status == 0
