# SPDX-License-Identifier: GPL-2.0-or-later
"""Warnings about the transition, on the real kernel: from its index, and for a patch that is compiled, not booted."""

from __future__ import annotations

import difflib
import json
import subprocess
from functools import cache
from pathlib import Path

import jsonschema
import pytest

from kgbuild.diagnostics.warnings import NMI, NOINSTR, STACK, UNSEEN
from kgbuild.elf.read import read
from kgbuild.host.index.queries import Index
from kgbuild.host.index.store import load_index
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.livepatch.consistency import Consistency, thread_functions
from kgbuild.livepatch.foreign_patches import read_other
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import KERNEL_NAME, kgbuild

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schema" / "report-1.json"


@pytest.fixture(scope="module")
def index(kernel: Kernel) -> Index:
    return load_index(kernel, SilentProgress())


@pytest.fixture(scope="module")
def questions(index: Index) -> Consistency:
    return Consistency(index, index.noinstr)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("kswapd", {STACK}),
        ("kthread_worker_fn", {STACK}),
        ("worker_thread", {STACK}),
        ("smpboot_thread_fn", {STACK}),
        ("schedule", {STACK}),
        ("schedule_timeout", {STACK}),
        ("do_exit", {STACK}),
        ("do_idle", {STACK}),
        ("cpu_startup_entry", {STACK}),
        ("perf_event_nmi_handler", {NMI}),
        ("ghes_notify_nmi", {NMI}),
        ("do_user_addr_fault", {NOINSTR}),
        ("version_proc_show", set()),
        ("tcp_ack", set()),
        ("kmem_cache_free", set()),
        ("vfs_read", set()),
    ],
)
def test_functions_of_the_real_kernel(index: Index, questions: Consistency, name: str, codes: set[str]) -> None:
    found = questions.check(index.choose(name).id)
    assert {w.code for w in found} == codes
    assert all(w.evidence or w.code == NMI for w in found)


def test_threads_are_those_of_the_source(index: Index, kernel: Kernel) -> None:
    """Each is an argument somewhere in its directory: kthread_run(NAME, or its like."""
    found = [index.function(n) for n in thread_functions(index)]
    assert len(found) > 80
    assert {"kauditd_thread", "kcompactd", "khugepaged", "rcu_gp_kthread", "ksm_scan_thread"} <= {f.name for f in found}
    in_directory = cache(
        lambda folder: "".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.[ch]")))
    )
    named = [f for f in found if f.in_vmlinux and f.unit.endswith(".c")]
    missing = []
    for f in named:
        text = in_directory((kernel.source / f.unit).parent)
        if f"{f.name}," not in text and f"({f.name}" not in text:
            missing.append(f.name)
    assert len(named) > 40 and not missing


def patch_of(kernel: Kernel, source: str, old: str, new: str, folder: Path) -> Path:
    text = (kernel.source / source).read_text()
    assert text.count(old) == 1
    lines = (t.splitlines(keepends=True) for t in (text, text.replace(old, new)))
    path = folder / f"{Path(source).stem}.patch"
    path.write_text("".join(difflib.unified_diff(*lines, f"a/{source}", f"b/{source}")))
    return path


def test_impact_and_build_say_it(kernel: Kernel, index: Index, tmp_path: Path) -> None:
    """A worker's loop; then the same once more, against the module that came of it."""
    old = "\tset_freezable();\n\nrepeat:"
    patch = patch_of(kernel, "kernel/kthread.c", old, old.replace("\n", "\n\tworker->flags |= 4;\n", 1), tmp_path)
    report, module = tmp_path / "report.json", tmp_path / "first.ko"
    done = kgbuild("impact", patch, "--kernel", KERNEL_NAME, "--offline", "--report", report)
    assert done.status == 0 and "W1-stack" in done.stdout, done.stderr
    found = json.loads(report.read_text())
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    (row,) = [w for w in found["consistency"] if w["code"] == STACK]
    assert (row["function"], row["unit"], row["object"]) == ("kthread_worker_fn", "kernel/kthread.c", "vmlinux")
    assert "address taken of kthread_worker_fn" in row["evidence"][0]
    seconds = {s["name"]: s["seconds"] for s in found["stages"]}
    assert seconds["consistency"] < seconds["compile"] + seconds["parity"] + seconds["diff"]
    assert kgbuild("build", patch, "--kernel", KERNEL_NAME, "--offline", "-o", module).status == 0
    second = tmp_path / "second.ko"
    words = ("build", patch, "--kernel", KERNEL_NAME, "--offline", "-o", second, "--against", module)
    done = kgbuild(*words, "--report", report)
    assert done.status == 0 and "first.ko patches kthread_worker_fn too" in done.stdout
    codes = [w["code"] for w in json.loads(report.read_text())["consistency"]]
    assert "W5-patched" in codes and "W6-unread" not in codes and UNSEEN not in codes


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("livepatch-sample", [("vmlinux", "cmdline_proc_show")]),
        ("livepatch-callbacks-demo", [("livepatch_callbacks_busymod", "busymod_work_func")]),
        ("livepatch-shadow-fix1", [("livepatch_shadow_mod", "dummy_alloc"), ("livepatch_shadow_mod", "dummy_free")]),
    ],
)
def test_the_kernels_own_samples(kernel: Kernel, tmp_path: Path, sample: str, expected: list[tuple[str, str]]) -> None:
    """Modules in plain C, compiled as this kernel compiles modules."""
    (command,) = read_units(kernel, ["net/key/af_key.c"])["net/key/af_key.c"]
    source = kernel.source / "samples" / "livepatch" / f"{sample}.c"
    out = tmp_path / "sample.o"
    argv = [w.replace("{src}", str(kernel.source)).replace("af_key", sample.replace("-", "_")) for w in command.argv]
    argv = [w for w in argv if not w.endswith(".c") and w != "-c"]
    argv += ["-c", str(source), "-o", str(out)]
    done = subprocess.run(argv, cwd=kernel.build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_other(read(out.read_bytes()), sample)
    assert found.functions is not None and [(f.object, f.name) for f in found.functions] == expected
