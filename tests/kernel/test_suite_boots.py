# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases on kernels of other releases of Debian, each built by the compiler of its kernel, and all of a kernel's booted
in one guest: those of built-in code, of modules, of headers, and of what authors may write."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.vm.run import TestRun, run_vm
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.booted import SCHEMA
from tests.support.booting.cases import (
    HERE,
    WANTED,
    Built,
    KernelCase,
    build_cases,
    check_report,
    check_works,
    load_cases,
    make_guest_files,
)

FILES = ("cases/cases.toml", "features/features.toml", "cases/newer.toml", "cases/suites.toml")


def filled(case: KernelCase, known: dict[str, KernelCase]) -> KernelCase:
    """A case with the fields of the one that it is `like`, in which the module has another name."""
    if "like" not in case.fields:
        return case
    old, new = (f"livepatch_{name.replace('-', '_')}" for name in (case.fields["like"], case.name))
    like = {
        key: [item.replace(old, new) for item in value] if isinstance(value, list) else value
        for key, value in known[case.fields["like"]].fields.items()
    }
    return replace(case, fields={**like, **case.fields})


KNOWN: dict[str, KernelCase] = {}
for _case in [one for file in FILES for one in load_cases(HERE / file)]:
    KNOWN[_case.name] = filled(_case, KNOWN)
# name of the kernel -> its cases. A name with -kallsyms is that case with the other back end.
SUITES: dict[str, tuple[str, ...]] = {
    "debian:newest-6.12-deb13-cloud": (
        *("proc-version", "kept-literal", "fork", "crypto", "inline-switch", "static-local", "percpu"),
        *("user-access", "alternatives", "pulled", "pointers", "two-files", "stack", "switch-table"),
        *("dcache", "ext4", "overlay", "nft-counter", "af-key-reqid", "vfat", "folded"),
        *("header-macro", "header-inline-v2", "new-files"),
        *("callbacks", "klp-helpers", "shadow", "log", "paravirt", "static-call", "syscall-macro", "ignored"),
        *("printk-once", "user-copy-612", "paths-612", "sleeper-612"),
        *("proc-version-kallsyms", "crypto-kallsyms", "overlay-kallsyms"),
    ),
    "debian:newest-7.3-cloud": (
        *("proc-version", "fork-7", "crypto-7", "static-local", "percpu", "user-access-7", "pointers-7", "dcache"),
        *("ext4-7", "overlay", "nft-counter", "af-key-lifetime-7", "vfat", "header-macro", "header-inline-v2"),
        *("callbacks-7", "klp-helpers", "shadow", "log", "paravirt", "static-call", "syscall-macro", "ignored"),
        *("printk-once-7", "user-copy-612", "paths-7", "sleeper-7"),
        *("proc-version-kallsyms", "crypto-7-kallsyms", "overlay-kallsyms", "dcache-kallsyms", "slots-kallsyms"),
    ),
    "debian:newest-7.2-deb14-cloud": (
        *("proc-version", "fork-7", "crypto-7", "percpu", "pointers-7", "dcache", "overlay", "af-key-lifetime-7"),
        *("callbacks-7", "shadow", "log", "static-call", "sleeper-7"),
        *("proc-version-kallsyms", "overlay-kallsyms"),
    ),
    "debian:5.10.0-43-cloud-amd64": (
        *("proc-version", "crypto", "inline-switch", "static-local", "alternatives", "af-key-reqid", "overlay"),
        *("log", "paravirt", "syscall-macro", "printk-once", "sleeper", "user-copy"),
        *("proc-version-kallsyms", "overlay-kallsyms"),
    ),
}


@dataclass(frozen=True)
class Suite:
    """One kernel, the cases that were built for it, and what became of them in its guest."""

    kernel: Kernel
    built: dict[str, Built]
    booted: TestRun


def case_of(name: str) -> KernelCase:
    plain = name.removesuffix("-kallsyms")
    case = KNOWN[plain]
    if plain == name:
        return case
    fields = {**case.fields, "options": [*case.list("options"), "--backend", "kallsyms"]}
    return replace(case, name=name, fields=fields)


@pytest.fixture(scope="session", params=[name for name in SUITES if name in WANTED])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Everything of one kernel: a boot each."""
    name: str = request.param
    silent = SilentProgress()
    kernel = ensure_kernel(name, progress=silent)
    folder = tmp_path_factory.mktemp("suite")
    cases = [case_of(one) for one in SUITES[name]]
    built = build_cases(cases, f"{kernel.id.name}={kernel.id.version}", folder)
    modules = sorted({one for case in cases for one in case.list("modules")})
    files = make_guest_files(kernel, folder)
    runs = [one.run for one in built.values()]
    return Suite(
        kernel, built, run_vm(kernel, runs, progress=silent, timeout=1800, files=files, modules=modules, smp=2)
    )


def test_reports(suite: Suite) -> None:
    """Since 7.0 the linker script joins the section that ends the code of a module with others (.text.kgbuild_end)."""
    ended = not suite.kernel.id.release.startswith("7.")
    for built in suite.built.values():
        check_report(built, SCHEMA, ended=ended)


def test_every_case_works(suite: Suite) -> None:
    for built in suite.built.values():
        check_works(built, suite.booted)


def test_the_guest_as_a_whole(suite: Suite) -> None:
    assert suite.booted.findings == ()
    assert suite.booted.verdict
