# SPDX-License-Identifier: GPL-2.0-or-later
"""What live patches fix, in the formats in which vulnerabilities are exchanged: OpenVEX 0.2.0, CSAF 2.0 (profile VEX),
OSV 1.6.

A kernel without the module is affected, and the module is what to do about it; the kernel with the module is a product
of its own, which is fixed. Everything is made of the statements alone, so that the same statements give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kgbuild import __version__
from kgbuild.diagnostics.fix_states import ABSENT, AFFECTED, FIXED, NO_CODE, NOT_CONFIGURED, NOT_INTRODUCED

EPOCH = "1970-01-01T00:00:00Z"
_NAMESPACE = "https://kgbuild.invalid/"
_AUTHOR = "kgbuild"
_TOOL = f"kgbuild {__version__}"
_COMMIT = "https://git.kernel.org/linus/"
_NOT_AFFECTED = {
    ABSENT: "vulnerable_code_not_present",
    NOT_CONFIGURED: "vulnerable_code_not_present",
    NOT_INTRODUCED: "vulnerable_code_not_present",
    NO_CODE: "vulnerable_code_not_present",
}


def _quoted(text: str) -> str:
    """A text as it stands in a package URL (RFC 3986)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "+~.:-_") else _percent(c) for c in text)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


@dataclass(frozen=True)
class Statement:
    """What is said of one CVE and one kernel.

    kernel, version  its name (`debian:RELEASE`) and the version of its package
    state            one of diagnostics/fix_states.py; `fact` says why
    module, sha256   the live patch that fixes it, "" where there is none
    commit           the upstream commit of the fix, ""
    """

    cve: str
    subject: str
    kernel: str
    version: str
    state: str
    fact: str
    module: str = ""
    sha256: str = ""
    commit: str = ""

    @property
    def product(self) -> str:
        """The kernel as a package URL."""
        distro, _, release = self.kernel.partition(":")
        kind = f"deb/{distro}/linux-image-{release}" if distro == "debian" else f"generic/{distro}-linux-{release}"
        return f"pkg:{kind}@{_quoted(self.version or '0')}"

    @property
    def patched(self) -> str:
        """The live patch as a package URL."""
        return f"pkg:generic/{_quoted(self.module)}?checksum=sha256:{self.sha256}"

    @property
    def status(self) -> str:
        """The status of the kernel without a live patch, in OpenVEX's words."""
        if self.state == FIXED:
            return "fixed"
        if self.state in _NOT_AFFECTED:
            return "not_affected"
        return "affected" if self.state == AFFECTED else "under_investigation"

    @property
    def action(self) -> str:
        """What is to be done where the kernel is affected."""
        if self.module:
            return f"load the live patch {self.module} (SHA-256 {self.sha256})"
        return "update the kernel; there is no live patch for it"


def render_vex(form: str, statements: Sequence[Statement], release: int = 0, date: str = EPOCH) -> Any:
    """A document of one of FORMATS. `date` is when the statements were made (RFC 3339, UTC)."""
    ordered = sorted(dict.fromkeys(statements), key=lambda one: (one.cve, one.kernel, one.module))
    return FORMATS[form](ordered, release, date)


def _digest(statements: Sequence[Statement]) -> str:
    return hashlib.sha256(json.dumps([asdict(one) for one in statements], sort_keys=True).encode()).hexdigest()


def _openvex(statements: Sequence[Statement], release: int, date: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for one in statements:
        said: dict[str, Any] = {
            "vulnerability": {"name": one.cve, **({"description": one.subject} if one.subject else {})},
            "products": [{"@id": one.product}],
            "status": one.status,
        }
        if one.status == "not_affected":
            # the published schema takes one of justification and impact_statement, not both
            said["justification"] = _NOT_AFFECTED[one.state]
            said["status_notes"] = one.fact or one.state
        elif one.status == "affected":
            said["action_statement"] = one.action
        elif one.fact:
            said["status_notes"] = one.fact
        rows.append(said)
        if one.module:
            rows.append(
                {
                    "vulnerability": {"name": one.cve},
                    "products": [{"@id": one.product, "subcomponents": [_subcomponent(one)]}],
                    "status": "fixed",
                    "status_notes": f"with the live patch {one.module} loaded",
                }
            )
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": f"{_NAMESPACE}openvex/{_digest(statements)}",
        "author": _AUTHOR,
        "timestamp": date,
        "version": max(release, 1),
        "tooling": _TOOL,
        "statements": rows,
    }


def _subcomponent(one: Statement) -> dict[str, Any]:
    return {"@id": one.patched, "hashes": {"sha-256": one.sha256}}


def _csaf(statements: Sequence[Statement], release: int, date: str) -> dict[str, Any]:
    products: dict[str, dict[str, Any]] = {}
    relations: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for one in statements:
        name = f"{one.kernel} {one.version}".strip()
        products[one.product] = _product(one.product, name, one.product)
        entry = found.setdefault(one.cve, _vulnerability(one))
        groups = {"fixed": "fixed", "not_affected": "known_not_affected", "affected": "known_affected"}
        group = groups.get(one.status, "under_investigation")
        entry["product_status"].setdefault(group, []).append(one.product)
        if one.status == "not_affected":
            _join(entry["flags"], {"label": _NOT_AFFECTED[one.state]}, one.product)
            _join(entry["threats"], {"category": "impact", "details": one.fact or one.state}, one.product)
        if one.status == "affected":
            kind = "vendor_fix" if one.module else "none_available"
            _join(entry["remediations"], {"category": kind, "details": one.action}, one.product)
        if one.module:
            patch = f"livepatch-{one.sha256[:32]}"
            both = f"{one.product}:{patch}"
            products[patch] = _product(patch, one.module, one.patched, {"sha256": one.sha256, "name": one.module})
            relations[both] = {
                "category": "installed_on",
                "product_reference": patch,
                "relates_to_product_reference": one.product,
                "full_product_name": {"product_id": both, "name": f"{name} with {one.module}"},
            }
            entry["product_status"].setdefault("fixed", []).append(both)
    tree: dict[str, Any] = {"full_product_names": list(products.values())}
    if relations:
        tree["relationships"] = list(relations.values())
    version = str(max(release, 1))
    return {
        "document": {
            "category": "csaf_vex",
            "csaf_version": "2.0",
            "title": f"Live patches{f', release {release}' if release else ''}",
            "lang": "en",
            "publisher": {"category": "vendor", "name": _AUTHOR, "namespace": _NAMESPACE},
            "tracking": {
                "id": f"kgbuild-{_digest(statements)[:16]}",
                "status": "final",
                "version": version,
                "initial_release_date": date,
                "current_release_date": date,
                "generator": {"engine": {"name": "kgbuild", "version": __version__}},
                "revision_history": [
                    {"number": str(number), "date": date, "summary": f"release {number}"}
                    for number in range(1, max(release, 1) + 1)
                ],
            },
        },
        "product_tree": tree,
        "vulnerabilities": [_without_empty(entry) for entry in found.values()],
    }


def _product(key: str, name: str, purl: str, file: Mapping[str, str] | None = None) -> dict[str, Any]:
    helper: dict[str, Any] = {"purl": purl.split("?", maxsplit=1)[0]}
    if file is not None:
        digest = {"algorithm": "sha256", "value": file["sha256"]}
        helper["hashes"] = [{"filename": file["name"], "file_hashes": [digest]}]
    return {"product_id": key, "name": name, "product_identification_helper": helper}


def _vulnerability(one: Statement) -> dict[str, Any]:
    out: dict[str, Any] = {
        "cve": one.cve,
        "notes": [{"category": "description", "text": one.subject or one.cve}],
        "product_status": {},
        "flags": [],
        "threats": [],
        "remediations": [],
    }
    if one.commit:
        summary = "the upstream fix"
        out["references"] = [{"category": "external", "summary": summary, "url": f"{_COMMIT}{one.commit}"}]
    return out


def _join(rows: list[dict[str, Any]], row: dict[str, Any], product: str) -> None:
    """Add a product to the row that says the same, or the row."""
    for there in rows:
        if {key: value for key, value in there.items() if key != "product_ids"} == row:
            there["product_ids"].append(product)
            return
    rows.append({**row, "product_ids": [product]})


def _without_empty(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value != []}


def _osv(statements: Sequence[Statement], release: int, date: str) -> list[dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for one in statements:
        if one.status not in ("affected", "under_investigation"):
            continue
        entry = out.setdefault(
            one.cve,
            {
                "schema_version": "1.6.0",
                "id": one.cve,
                "modified": date,
                **({"summary": one.subject} if one.subject else {}),
                "affected": [],
                **({"references": [{"type": "FIX", "url": f"{_COMMIT}{one.commit}"}]} if one.commit else {}),
                **({"database_specific": {"release": release}} if release else {}),
            },
        )
        distro, _, name = one.kernel.partition(":")
        told: dict[str, Any] = {"kernel": one.kernel, "status": one.status}
        if one.module:
            told["livepatch"] = {"name": one.module, "sha256": one.sha256}
        package = {"ecosystem": "Debian", "name": f"linux-image-{name}"}
        if distro != "debian":
            package = {"ecosystem": "Linux", "name": "Kernel"}
        entry["affected"].append({"package": package, "versions": [one.version or "0"], "database_specific": told})
    return list(out.values())


FORMATS: dict[str, Callable[[Sequence[Statement], int, str], Any]] = {"openvex": _openvex, "csaf": _csaf, "osv": _osv}
"""The formats by name."""
