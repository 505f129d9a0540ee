# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a module comes from, as an in-toto statement with SLSA provenance, and its parts as an SPDX document.

in-toto.io/Statement/v1, slsa.dev/provenance/v1, SPDX 2.3, DSSE (github.com/secure-systems-lab/dsse). A statement holds
all that a build depends on: every option that changes bytes, the kernel's files with digests, the packages that
compiled, the patches themselves. It holds no time, no path of the machine and no key.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild import __version__
from kgbuild.errors import UserError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://kgbuild.invalid/build/v1"
PAYLOAD = "application/vnd.in-toto+json"
_REMEDY = "give the file that kgbuild build --provenance wrote"


@dataclass(frozen=True)
class Told:
    """What a statement says that is needed to build again.

    module   the module's name; sha256 of the module without a signature
    kernel   its name with version, build_id
    patches  name and bytes of each, in order
    options  as in the module's report, with `replace` and `backend`
    tool     the kgbuild that built it
    """

    module: str
    sha256: str
    kernel: str
    build_id: str
    patches: tuple[tuple[str, bytes], ...]
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    tool: str


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_statement(
    report: Mapping[str, Any],
    files: Mapping[str, str],
    packages: Mapping[str, str],
    patches: Sequence[tuple[str, bytes]],
    inputs: Mapping[str, str],
    written: bytes,
    unsigned: bytes,
) -> dict[str, Any]:
    """The statement of one build.

    report    of the build (docs/schema/report-1.json)
    files     the kernel's own files -> SHA-256; packages: those it was taken from -> version
    patches   name and bytes of each, in order; inputs: other modules that were given -> SHA-256
    written, unsigned   the module as it was written, and without a signature
    """
    kernel, module = report["kernel"], report["module"]
    name = str(module["name"])
    subject = [{"name": f"{name}.ko", "digest": {"sha256": _sha256(written)}}]
    if written != unsigned:
        subject.append({"name": f"{name}.ko without signature", "digest": {"sha256": _sha256(unsigned)}})
    toolchain = report.get("toolchain") or {}
    depends: list[dict[str, Any]] = [
        {
            "name": kernel["name"],
            "uri": f"kernel:{kernel['name']}={kernel['version']}",
            "digest": {"gnuBuildId": kernel["build_id"]},
            "annotations": {"packages": dict(sorted(packages.items()))},
        },
        *({"name": f"kernel/{path}", "digest": {"sha256": value}} for path, value in sorted(files.items())),
        *(
            {"name": patch, "digest": {"sha256": _sha256(data)}, "content": base64.b64encode(data).decode()}
            for patch, data in patches
        ),
        *({"name": f"input/{path}", "digest": {"sha256": value}} for path, value in sorted(inputs.items())),
        *(
            {
                "name": f"toolchain/{p['name']}",
                "uri": f"pkg:deb/debian/{p['name']}@{p['version']}",
                "digest": {"sha256": p["sha256"]},
            }
            for p in toolchain.get("packages", ())
        ),
    ]
    return {
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "module": name,
                    "kernel": f"{kernel['name']}={kernel['version']}",
                    "patches": [patch for patch, _ in patches],
                    "replace": module["replace"],
                    "backend": module["backend"],
                    "options": module["options"],
                },
                "internalParameters": {
                    "compiler": kernel["compiler"],
                    "toolchain": {k: toolchain[k] for k in ("name", "key", "digest") if k in toolchain},
                    "sandbox": kernel["sandbox"],
                },
                "resolvedDependencies": depends,
            },
            "runDetails": {
                "builder": {"id": BUILD_TYPE, "version": {"kgbuild": __version__}},
                "metadata": {},
            },
        },
    }


def statement_text(statement: Mapping[str, Any]) -> bytes:
    """The statement as a file; the same statement gives the same bytes."""
    return (json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def preauthentication(payload: bytes, kind: str = PAYLOAD) -> bytes:
    """What DSSE signs: PAE(type, body)."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


def envelope_text(payload: bytes, signature: bytes, key_id: str) -> bytes:
    """A DSSE envelope with one signature."""
    value = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def open_envelope(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The statement in a file, and its signatures: none where the file is the statement itself. Raises UserError."""
    try:
        value = json.loads(data)
        if "payload" not in value:
            return data, ()
        if value["payloadType"] != PAYLOAD:
            raise UserError(f"holds {value['payloadType']!r}", remedy=_REMEDY)
        return base64.b64decode(value["payload"], validate=True), tuple(
            base64.b64decode(s["sig"], validate=True) for s in value["signatures"]
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError("is no statement and no envelope", remedy=_REMEDY) from error


def read_statement(text: bytes) -> Told:
    """What a statement says. Raises UserError for any other text, and where a patch is not the one of its digest."""
    try:
        value = json.loads(text)
        if (value["_type"], value["predicateType"]) != (STATEMENT, PREDICATE):
            raise UserError("is another kind of statement", remedy=_REMEDY)
        predicate = value["predicate"]
        definition = predicate["buildDefinition"]
        asked, depends = definition["externalParameters"], definition["resolvedDependencies"]
        if definition["buildType"] != BUILD_TYPE:
            raise UserError(f"is of a build by {definition['buildType']!r}", remedy=_REMEDY)
        by_name = {str(d["name"]): d for d in depends}
        kernel_name = str(asked["kernel"])
        patches = []
        held = [row for row in depends if "content" in row]
        for name, row in zip(asked["patches"], held, strict=True):
            data = base64.b64decode(row["content"], validate=True)
            if _sha256(data) != row["digest"]["sha256"]:
                raise UserError(f"its patch {name!r} is not the one of its digest", remedy=_REMEDY)
            patches.append((str(name), data))
        inputs = {n.removeprefix("input/"): str(d["digest"]["sha256"]) for n, d in by_name.items() if n[:6] == "input/"}
        return Told(
            str(asked["module"]),
            str(value["subject"][-1]["digest"]["sha256"]),
            kernel_name,
            str(by_name[kernel_name.rpartition("=")[0]]["digest"]["gnuBuildId"]),
            tuple(patches),
            {**asked["options"], "replace": bool(asked["replace"]), "backend": str(asked["backend"])},
            inputs,
            str(predicate["runDetails"]["builder"]["version"]["kgbuild"]),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"is no provenance of kgbuild: {error!r}", remedy=_REMEDY) from error


def make_sbom(statement: Mapping[str, Any], cves: Sequence[str] = ()) -> dict[str, Any]:
    """The module's parts as SPDX 2.3: the module, the kernel's files, the patches, the programs that built it.
    `created` is the epoch: an SBOM of the same build is the same file."""
    definition = statement["predicate"]["buildDefinition"]
    subject, depends = statement["subject"][0], definition["resolvedDependencies"]
    root = {
        "SPDXID": "SPDXRef-module",
        "name": subject["name"],
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseDeclared": "GPL-2.0-or-later",
        "checksums": [{"algorithm": "SHA256", "checksumValue": subject["digest"]["sha256"]}],
        **({"comment": f"fixes {', '.join(cves)}"} if cves else {}),
    }
    packages, relations = [root], [_relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-module")]
    for number, row in enumerate(depends):
        ref = f"SPDXRef-{number}"
        digest = row["digest"].get("sha256")
        packages.append(
            {
                "SPDXID": ref,
                "name": row["name"],
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                **({"checksums": [{"algorithm": "SHA256", "checksumValue": digest}]} if digest else {}),
                **({"comment": row["uri"]} if "uri" in row else {}),
            }
        )
        builds = str(row["name"]).startswith("toolchain/")
        relations.append(
            _relation(ref, "BUILD_TOOL_OF", "SPDXRef-module")
            if builds
            else _relation("SPDXRef-module", "GENERATED_FROM", ref)
        )
    name = f"{subject['name']}-{subject['digest']['sha256'][:12]}"
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://kgbuild.invalid/spdx/{subject['digest']['sha256']}",
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": [f"Tool: kgbuild-{__version__}"]},
        "packages": packages,
        "relationships": relations,
    }


def _relation(of: str, kind: str, to: str) -> dict[str, str]:
    return {"spdxElementId": of, "relationshipType": kind, "relatedSpdxElement": to}


@dataclass(frozen=True)
class PartDifference:
    """One part of a module that differs from the one built again: a section's name, and why, as far as it is known."""

    part: str
    why: str


def compare_modules(given: Sequence[tuple[str, bytes]], built: Sequence[tuple[str, bytes]]) -> list[PartDifference]:
    """The sections that differ, each with a reason; `given` and `built` are the sections of both, by name, in order."""
    given_parts, built_parts = _numbered(given), _numbered(built)
    found = []
    for name in dict.fromkeys([*given_parts, *built_parts]):
        if name not in built_parts:
            found.append(PartDifference(name, "is not in the module that was built again"))
        elif name not in given_parts:
            found.append(PartDifference(name, "is only in the module that was built again"))
        elif given_parts[name] != built_parts[name]:
            found.append(PartDifference(name, _why(name, given_parts[name], built_parts[name])))
    return found


def _numbered(sections: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for name, data in sections:
        number = sum(known == name or known.startswith(f"{name} #") for known in out)
        out[f"{name} #{number + 1}" if number else name] = data
    return out


_KNOWN = {
    ".note.gnu.build-id": "it is the digest of all others",
    ".note.kgbuild": "patch, options or kgbuild are others: compare the notes",
    ".modinfo": "name, version magic or description are others",
    ".comment": "another compiler or assembler",
    "__versions": "another Module.symvers",
    ".symtab": "symbols have other names or places",
    ".strtab": "symbols have other names",
}


def _why(name: str, given: bytes, built: bytes) -> str:
    if name in _KNOWN:
        return _KNOWN[name]
    if len(given) != len(built):
        return f"{len(given)} bytes, built again {len(built)}"
    at = next(i for i, (one, other) in enumerate(zip(given, built, strict=True)) if one != other)
    count = sum(one != other for one, other in zip(given, built, strict=True))
    return f"{count} bytes differ, the first at {at:#x}"
