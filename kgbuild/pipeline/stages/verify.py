# SPDX-License-Identifier: GPL-2.0-or-later
"""`verify_module`: collects facts about the kernel and checks a module against them (verification/checks.py)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kgbuild import __version__
from kgbuild.arch import for_object
from kgbuild.emit.backends import BACKENDS
from kgbuild.errors import UserError
from kgbuild.host.kernels.kernel_files import config_of, exports_of, probe_kernel
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.link.module_objects import main_object
from kgbuild.host.modules.files import module_name
from kgbuild.host.modules.shipped import ShippedModules, read_vermagic
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.input_files import read_input
from kgbuild.kernel.feature_probes import INDIRECT_BRANCHES
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.limits import RECORD_BYTES
from kgbuild.model import Finding, Kernel
from kgbuild.proof.record import BadRecord, ProofRecord, parse_record
from kgbuild.report.build import finding_report, kernel_report
from kgbuild.report.documents import schema_name
from kgbuild.verification.checks import check_module
from kgbuild.verification.kallsyms import is_kallsyms, is_kgraft
from kgbuild.verification.kernel_facts import KernelFacts
from kgbuild.verification.reading.module_input import for_another_kernel, own_name, unwrap
from kgbuild.verification.reading.reader import ModuleFile, read_module
from kgbuild.verification.reading.statements import read_function_table
from kgbuild.verification.wrapper import wrapper_macros


@dataclass(frozen=True)
class Verified:
    """The findings in one module; `path` and `proof` as given. `notes` are no faults, `signature` is who signed it."""

    kernel: Kernel
    path: str
    sha256: str
    size: int
    proof: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    signature: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as plain data (docs/schema/verify-1.json)."""
        return {
            "schema": schema_name("verify"),
            "schema_version": 1,
            "tool": {"name": "kgbuild", "version": __version__},
            "kernel": kernel_report(self.kernel),
            "module": {"path": self.path, "sha256": self.sha256, "size": self.size},
            "proof": self.proof,
            "signature": self.signature,
            "findings": finding_report(self.findings),
        }


def verify(
    data: bytes,
    kernel: Kernel,
    path: str,
    *,
    record: ProofRecord | None = None,
    own: Mapping[str, Path] | None = None,
    proof: str | None = None,
) -> Verified:
    """Every fault of a live patch module for this kernel (see `verify_module`). `path` names the module."""
    module = unwrap(data, path)
    other = for_another_kernel(module, kernel)
    name = own_name(module)
    named = f"{name}.ko" if name else PurePath(path).name
    findings = [other] if other is not None else verify_module(module, kernel, named, record=record, own=own)
    stem = module_name(path)
    notes = (f"the file is called {PurePath(path).name}, the module in it {name}",) if name not in ("", stem) else ()
    return Verified(kernel, path, hashlib.sha256(data).hexdigest(), len(data), proof, tuple(findings), notes)


def verify_module(
    data: bytes,
    kernel: Kernel,
    name: str,
    image: KernelImage | None = None,
    record: ProofRecord | None = None,
    own: Mapping[str, Path] | None = None,
) -> list[Finding]:
    """Every fault of a live patch module for this kernel; empty if none was found.

    Input: the file's bytes and its name (`a-b.ko`). `image`: the kernel's image, if already mapped. `record`: a proof
    record to check. `own`: out-of-tree modules, by name. Raises UserError (exit 2) for a file that is no intact kernel
    module of the kernel's architecture, ToolError (exit 3) if the cached kernel is damaged.
    """
    if image is None:
        image = load_image(kernel)
    arch = for_object(image.obj)
    module = read_module(data, name, arch.machine)
    shipped = ShippedModules(kernel, arch.machine, own)
    return check_module(module, name, arch, kernel_facts(kernel, image, shipped), record)


def read_record(path: Path) -> ProofRecord:
    """A proof record from a file. Raises UserError if this version can't read it."""
    remedy = "name a record that kgbuild build --proof wrote"
    try:
        return parse_record(json.loads(read_input(path, RECORD_BYTES, remedy)))
    except BadRecord as error:
        raise UserError(f"{error.args[0]} {error.args[1]}", place=str(path), remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise UserError("is no JSON text", place=str(path), remedy=remedy) from error


def kernel_facts(kernel: Kernel, image: KernelImage, modules: ShippedModules) -> KernelFacts:
    """What a module is checked against, for all modules of one kernel. `image` is the kernel's vmlinux."""
    vermagic, size = modules.layout
    config, features = config_of(kernel), probe_kernel(kernel, image)
    return KernelFacts(
        build_id=kernel.id.build_id,
        vermagic=vermagic or read_vermagic(image),
        exports=exports_of(kernel),
        image=image,
        modules=modules,
        modversions=config.get("MODVERSIONS") == "y",
        module_size=size,
        name_length=_name_length(kernel.source),
        tracked=INDIRECT_BRANCHES in features,
        struct=modules.struct,
        wrapper=lambda module: _wrapper(module, kernel, features, image),
    )


def _wrapper(module: ModuleFile, kernel: Kernel, features: frozenset[str], image: KernelImage) -> ModuleFile:
    """The wrapper that a module has, compiled for this kernel, or taken from the cache."""
    backend = BACKENDS["kgraft" if is_kgraft(module) else "kallsyms" if is_kallsyms(module) else "klp"]
    rows = [(f.object, f.name, f.sympos) for f in read_function_table(module)[0]]
    defines = [*wrapper_macros(module), *backend.defines(features), *backend.macros(rows)]
    data = main_object(kernel, Cache(), backend.wrapper, defines)
    return read_module(data, backend.wrapper, image.obj.machine)


def _name_length(source: Path) -> int:
    """KSYM_NAME_LEN in the kernel's source: 128 before 6.1, 512 since."""
    header = source / "include" / "linux" / "kallsyms.h"
    text = header.read_text(errors="replace") if header.is_file() else ""
    match = re.search(r"^#define\s+KSYM_NAME_LEN\s+(\d+)", text, re.MULTILINE)
    return int(match.group(1)) if match else 512
