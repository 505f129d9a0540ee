# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases of one list with each back end, in one guest: they behave alike. And a module with the back end kallsyms that
does not find what it was made for is refused, and changes nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.arch import arch_of
from kgbuild.arch.x86_64.special_sections import ORC_ENTRY
from kgbuild.elf.read import read
from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.module_abi import MOVED, STUBS_SECTION, SYMBOLS
from kgbuild.progress import SilentProgress
from kgbuild.verification.reading.reader import read_module
from tests.support.booting.booted import SCHEMA
from tests.support.booting.cases import (
    HERE,
    Built,
    KernelCase,
    build_cases,
    check_report,
    check_works,
    kgbuild,
    load_cases,
    make_guest_files,
)

# Exports only and one variable; a function among several of its name; folded functions; static calls; alternatives;
# target modules: by themselves, two of them, of another module's exports, with an author's callbacks.
NAMES = (
    *("proc-version", "crypto", "folded", "user-access", "alternatives", "ext4"),
    *("af-key", "three-objects", "overlay", "callbacks", "slots"),
)
BACKENDS = ("klp", "kallsyms")
NEWER_NAMES = ("proc-version", "crypto", "dcache", "pointers", "slots")
KNOWN = {c.name: c for c in load_cases(HERE / "cases" / "newer.toml") + load_cases(HERE / "cases" / "cases.toml")}


def _with_backend(case: KernelCase, backend: str) -> KernelCase:
    options = [*case.list("options"), "--backend", backend]
    return replace(case, name=f"{case.name}-{backend}", fields={**case.fields, "options": options})


def _cases(names: Iterable[str]) -> list[KernelCase]:
    return [_with_backend(KNOWN[name], backend) for name in names for backend in BACKENDS]


CASES, NEWER_CASES = _cases(NAMES), _cases(NEWER_NAMES)


# A breakpoint on every instruction that slots have made: each is reached, and from each the kernel finds its way back
# through the function to the system call. A module of another back end has no such instruction.
TRACE = """
set -e
module=$(basename /sys/module/livepatch_slots_*)
[ -e /guest/moved-$module ] || exit 0
cd /sys/kernel/tracing
echo 0 > /proc/sys/debug/kprobes-optimization
for at in $(cat /guest/moved-$module); do echo "p:moved/at_$at $module:version_proc_show+$at" >> kprobe_events; done
echo 1 > options/stacktrace
echo 1 > events/moved/enable
cat /proc/version > /dev/null
echo 0 > events/moved/enable
echo 0 > options/stacktrace
cp trace /tmp/moved
echo > kprobe_events
all=$(cat /guest/moved-$module | wc -w)
echo "$all instructions, $(grep -c 'at_0x[0-9a-f]*: ' /tmp/moved) reached" >&2
[ $(grep -o 'at_0x[0-9a-f]*: ' /tmp/moved | sort -u | wc -l) = $all ]
[ $(grep -A1 '<stack trace>' /tmp/moved | grep -c '=> version_proc_show') = $all ]
[ $(grep -c '=> entry_SYSCALL_64' /tmp/moved) = $all ]
"""


def moved_instructions(module: bytes, function: str) -> list[int]:
    """Offsets in a function of the instructions that its references were moved to."""
    file = read_module(module, "x.ko", arch_of(62).machine)
    out = []
    for section in file.by_name.get(MOVED.section, ()):
        for base in MOVED.rows(section.data):
            to = file.at(section.index, base + 8)
            place = file.place_of(to) if to is not None else None
            assert place is not None
            (start,) = (s.value for s in file.symbols if s.name == function and s.shndx == place[0].index)
            size = MOVED.number(section.data, base, "size")
            code = place[0].data[place[1] : place[1] + size]
            out += [place[1] + at - start for at, _ in arch_of(62).slot_code.depths(code)]
    return out


def stub_states(module: bytes) -> list[tuple[int, int]]:
    """What the unwind entries of the stubs say: how far the caller's stack is from which register."""
    file = read_module(module, "x.ko", arch_of(62).machine)
    places, states = file.section(".orc_unwind_ip"), file.section(".orc_unwind")
    assert places is not None and states is not None
    out = []
    for offset, relocs in file.targets[places.index].items():
        place = file.place_of(relocs[0])
        if place is not None and place[0].name == STUBS_SECTION:
            sp_offset, _, rest = struct.unpack_from("<hhH", states.data, offset // 4 * ORC_ENTRY)
            out.append((sp_offset, rest & 0xF))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_a_task_in_a_stub_can_be_seen(name: str, built: dict[str, Built]) -> None:
    """The return address is all that is on the stack there (register 5 is the stack pointer)."""
    data = built[f"{name}-kallsyms"].module.read_bytes()
    stubs = read(data).section_named(STUBS_SECTION) is not None
    assert stub_states(data) == [(8, 5)] * stubs


def _traced(built: dict[str, Built]) -> tuple[dict[str, Built], dict[str, bytes]]:
    """The case slots with a trace of each instruction that was moved, and the files that it needs."""
    runs, files = dict(built), {"/guest/trace-moved.sh": TRACE.encode()}
    for backend in BACKENDS:
        b = built[f"slots-{backend}"]
        fields = {**b.case.fields, "after": [*b.case.list("after"), "sh /guest/trace-moved.sh"]}
        runs[b.case.name] = replace(b, case=replace(b.case, fields=fields))
        moved = moved_instructions(b.module.read_bytes(), "version_proc_show")
        assert (len(moved) > 20) == (backend == "kallsyms")
        if moved:
            files[f"/guest/moved-{b.report['module']['name']}"] = " ".join(map(hex, moved)).encode()
    return runs, files


def _boot(kernel: Kernel, built: dict[str, Built], files: dict[str, bytes], smp: int = 1) -> TestRun:
    built, traced = _traced(built)
    files = files | traced
    modules = sorted({name for b in built.values() for name in b.case.list("modules")})
    runs = [b.run for b in built.values()]
    return run_vm(kernel, runs, progress=SilentProgress(), timeout=1800, files=files, modules=modules, smp=smp)


@pytest.fixture(scope="session")
def built(kernel_name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    return build_cases(CASES, kernel_name, tmp_path_factory.mktemp("backends"))


@pytest.fixture(scope="session")
def booted(kernel: Kernel, built: dict[str, Built], guest_files: dict[str, bytes]) -> TestRun:
    """Before proc-version, modules that do not find what they were made for must be refused, each with the reason in
    the log, and leave nothing: another digest, a name that is missing, one that the kernel has several times."""
    module = built["crypto-kallsyms"].module.read_bytes()
    wrong = {
        "has other code than this patch was made for": falsify(module),
        "text_muter,0 of the kernel is not there": rename(module, "text_mutex", "text_muter"),
        "c_start,0 of the kernel is there more than once": rename(module, "text_mutex", "c_start"),
    }
    files = {f"/guest/wrong-{number}.ko": data for number, data in enumerate(wrong.values())}
    refused = [
        f"! insmod {file} && dmesg | grep -q 'livepatch_crypto_kallsyms: refused: .*{said}'"
        for file, said in zip(files, wrong, strict=True)
    ]
    gone = "[ ! -e /sys/kernel/livepatch/livepatch_crypto_kallsyms ] && [ ! -e /sys/module/livepatch_crypto_kallsyms ]"
    runs = dict(built)
    for name in (f"proc-version-{backend}" for backend in BACKENDS):
        case = built[name].case
        fields = {**case.fields, "before": [*case.list("before"), *refused, gone]}
        runs[name] = replace(built[name], case=replace(case, fields=fields))
    return _boot(kernel, runs, guest_files | files)


@pytest.fixture(scope="session")
def newer_built(newer: Kernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    return build_cases(NEWER_CASES, f"{newer.id.name}={newer.id.version}", tmp_path_factory.mktemp("backends-newer"))


@pytest.fixture(scope="session")
def newer_booted(newer: Kernel, newer_built: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> TestRun:
    return _boot(newer, newer_built, make_guest_files(newer, tmp_path_factory.mktemp("guest-backends")), smp=2)


def falsify(module: bytes) -> bytes:
    """The module with another digest for the first function that has one."""
    obj = read(module)
    section = obj.section_named(".rodata.kgbuild_symbols")
    assert section is not None
    for at in range(section.offset, section.offset + section.size, SYMBOLS.size):
        row = list(SYMBOLS.layout.unpack_from(module, at))
        if row[4]:
            row[5] ^= 1
            return module[:at] + SYMBOLS.layout.pack(*row) + module[at + SYMBOLS.size :]
    raise AssertionError("no function has a digest")


def rename(module: bytes, name: str, other: str) -> bytes:
    """The module with another name to look up, of at most the same length."""
    section = read(module).section_named(".rodata.kgbuild_names")
    assert section is not None
    end = section.offset + section.size
    at = module.index(f"\0{name}\0".encode(), section.offset, end) + 1
    return module[:at] + other.encode().ljust(len(name), b"\0") + module[at + len(name) :]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_works(case: KernelCase, built: dict[str, Built], booted: TestRun) -> None:
    check_report(built[case.name], SCHEMA)
    backend = case.name.rpartition("-")[2]
    assert built[case.name].report["backend"] == backend
    assert {"klp": " looked up (", "kallsyms": " klp ("}[backend] not in built[case.name].output
    check_works(built[case.name], booted)


@pytest.mark.parametrize("case", NEWER_CASES, ids=lambda c: c.name)
def test_works_on_a_newer_kernel(case: KernelCase, newer_built: dict[str, Built], newer_booted: TestRun) -> None:
    check_report(newer_built[case.name], SCHEMA)
    check_works(newer_built[case.name], newer_booted)


def test_the_guests_as_a_whole(booted: TestRun, newer_booted: TestRun) -> None:
    for run in (booted, newer_booted):
        assert run.findings == ()
        assert run.verdict


@pytest.mark.parametrize("name", NAMES)
def test_they_behave_alike(name: str, built: dict[str, Built], booted: TestRun) -> None:
    """Each back end gives equal phases, commands and results."""
    seen = []
    for backend in BACKENDS:
        phases = booted.of(built[f"{name}-{backend}"].report["module"]["name"])
        seen.append({k: (p.ok, [(c.cmd, c.status) for c in p.commands]) for k, p in phases.items()})
    assert all(other == seen[0] for other in seen)


def test_a_back_end_that_the_kernel_lacks_is_refused_before_anything_is_compiled(
    kernel_name: str, tmp_path: Path
) -> None:
    patch = HERE / "cases" / KNOWN["slots"].list("patches")[0]
    ran = kgbuild("build", patch, "--kernel", kernel_name, "--backend", "kgraft", "-o", tmp_path / "livepatch-x.ko")
    assert ran.status == 1
    assert "B1-backend" in ran.stderr
    assert "use --backend klp" in ran.stderr
    assert "parity" not in ran.stdout
    assert list(tmp_path.iterdir()) == []
