# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild.toml and fix.toml: what is in a directory of fixes (docs/releases.md).

Both files are checked against one table of keys (`_ROOT`, `_FIX_FILE`), from which the schema for editors
(docs/schema/config-1.json) is made too. Every fault of a file is found in one run, each with line and column.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kgbuild.errors import UserError
from kgbuild.releases.config_names import name_faults
from kgbuild.releases.toml_places import Key, Place, parse_toml
from kgbuild.shown_text import printable

CONFIG, FIX_FILE, FIXES, PATCH = "kgbuild.toml", "fix.toml", "fixes", "fix.patch"
VERSION = 1
_SEE = "docs/releases.md lists the keys"
_ID = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
# a module's name has at most 55 characters (MODULE_NAME_LEN of the kernel); three digits are left for the release
_MODULE = r"(?=.{1,60}$)[A-Za-z0-9_-]*(?:\{release\}[A-Za-z0-9_-]*)?"
_COMMIT = r"[0-9a-f]{7,40}"
_CVE = r"CVE-[0-9]{4}-[0-9]{4,}"
_CODE = r"\*|[A-Z][0-9]+(?:-[a-z-]+)?"
_KERNEL = r"[^\s/]+"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"


@dataclass(frozen=True)
class Kind:
    """What a key may hold.

    type     "string", "integer", "boolean", "array" (of `items`), "table" (of `keys`), "map" (any name to `items`)
    pattern  what a string must match as a whole; `about` says it in words
    """

    type: str
    pattern: str = ""
    about: str = ""
    items: Kind | None = None
    keys: Mapping[str, Kind] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    least: int = 0


_NAMES = Kind("array", items=Kind("string", _KERNEL, "the name, pattern or @group of a kernel"))
_IDS = Kind("array", items=Kind("string", _ID, "the id of a fix"))
_FIX = Kind(
    "table",
    keys={
        "id": Kind("string", _ID, "letters, digits, `.`, `_`, `+` and `-`"),
        "release": Kind("integer", least=1),
        "after": _IDS,
        "kernels": _NAMES,
    },
    required=("id",),
)
_ROOT = Kind(
    "table",
    keys={
        "version": Kind("integer", least=1),
        "module": Kind("string", _MODULE, "a module's name of at most 55 characters, with {release} for the number"),
        "replace": Kind("boolean"),
        "kernels": _NAMES,
        "groups": Kind("map", items=_NAMES),
        "fix": Kind("array", items=_FIX),
        "gates": Kind(
            "table",
            keys={
                "unproven": Kind("boolean"),
                "boot": Kind("boolean"),
                "warnings": Kind("array", items=Kind("string", _CODE, "the code of a warning, or *")),
            },
        ),
        "build": Kind(
            "table",
            keys={
                "ignore-init": Kind("boolean"),
                "allow-unproven": Kind("array", items=Kind("string")),
                "drop": Kind("array", items=Kind("string")),
            },
        ),
        "sign": Kind(
            "table",
            keys={
                "key": Kind("string", r"[^\x00-\x1f]+", "a PEM file, or a pkcs11: URI"),
                "certificate": Kind("string", r"[^\x00-\x1f]+", "a certificate in PEM"),
            },
            required=("key", "certificate"),
        ),
        "package": Kind(
            "table",
            keys={
                "deb": Kind("boolean"),
                "rpm": Kind("boolean"),
                "output": Kind("string"),
                "maintainer": Kind("string"),
                "kernel-package": Kind("string"),
            },
        ),
    },
    required=("version",),
)
_FIX_FILE = Kind(
    "table",
    keys={
        "cves": Kind("array", items=Kind("string", _CVE, "the number of a CVE: CVE-2026-12345")),
        "subject": Kind("string"),
        "author": Kind("string"),
        "date": Kind("string", f"(?:{_DATE})?", "a date in UTC: 2026-11-02T10:00:00Z"),
        "commit": Kind("string", f"(?:{_COMMIT})?", "the id of a commit: 7 to 40 hexadecimal digits"),
        "fixes": Kind("array", items=Kind("string", _COMMIT, "the id of a commit: 7 to 40 hexadecimal digits")),
        "patches": Kind("map", items=Kind("string")),
    },
)
_TYPES: Mapping[str, tuple[type, str]] = {
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "array": (list, "an array"),
    "table": (dict, "a table"),
    "map": (dict, "a table"),
}


@dataclass(frozen=True)
class FixMetadata:
    """What is known of a fix beside its patch. `commit` and `fixes` are ids of commits, `patches` names another patch
    in the fix's folder for kernels of a name or pattern."""

    cves: tuple[str, ...] = ()
    subject: str = ""
    author: str = ""
    commit: str = ""
    fixes: tuple[str, ...] = ()
    patches: Mapping[str, str] = field(default_factory=dict)
    date: str = ""


@dataclass(frozen=True)
class FixEntry:
    """One fix as kgbuild.toml lists it. `release` is 0 where none is given; without `kernels` it is for all."""

    id: str
    release: int = 0
    after: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder, relative to the directory."""
        return f"{FIXES}/{self.id}"


@dataclass(frozen=True)
class Gates:
    """What a release may have: functions without proof, modules that were not booted, warnings by code."""

    unproven: bool = False
    boot: bool = True
    warnings: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class BuildChoices:
    """Options of `kgbuild build` that hold for all modules of the directory."""

    ignore_init: bool = False
    allow_unproven: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class SignChoices:
    """By what a release's modules are signed: a key (PEM file or pkcs11: URI) and its certificate. Files are relative
    to the directory, and may lie elsewhere."""

    key: str
    certificate: str


@dataclass(frozen=True)
class PackageChoices:
    """Which packages are made of a release, and the folder for them, relative to the directory."""

    deb: bool = True
    rpm: bool = False
    output: str = "dist"
    maintainer: str = ""
    kernel_package: str = ""


@dataclass(frozen=True)
class Config:
    """A directory's kgbuild.toml."""

    module: str = "livepatch-{release}"
    replace: bool = True
    kernels: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixes: tuple[FixEntry, ...] = ()
    gates: Gates = Gates()
    build: BuildChoices = BuildChoices()
    sign: SignChoices | None = None
    package: PackageChoices | None = None

    def module_name(self, release: int) -> str:
        """The name of a release's module file, without .ko."""
        return self.module.replace("{release}", str(release))

    def fix(self, name: str) -> FixEntry:
        """The fix of that id. Raises UserError with the nearest ones."""
        for fix in self.fixes:
            if fix.id == name:
                return fix
        ids = [fix.id for fix in self.fixes]
        near = difflib.get_close_matches(name, ids, 1)
        known = f"did you mean {near[0]}?" if near else f"there are {', '.join(ids)}" if ids else "kgbuild add adds one"
        raise UserError("there is no such fix", place=name, remedy=known)

    def choose(self, names: Sequence[str]) -> tuple[FixEntry, ...]:
        """The fixes of these ids with those they need, in the order in which they are applied; all without a name."""
        if not names:
            return self.fixes
        wanted: set[str] = set()
        waiting = [self.fix(name).id for name in names]
        while waiting:
            one = waiting.pop()
            if one not in wanted:
                wanted.add(one)
                waiting += self.fix(one).after
        return tuple(fix for fix in self.fixes if fix.id in wanted)

    def of_release(self, number: int) -> tuple[FixEntry, ...]:
        """The fixes that are in a release: those of earlier ones, and those without a number."""
        return tuple(fix for fix in self.fixes if fix.release <= number)

    def expand(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names and patterns of kernels, each once, with the members of each @group in its place."""
        out: dict[str, None] = {}
        seen: set[str] = set()
        waiting = list(names)[::-1]
        while waiting:
            name = waiting.pop()
            if not name.startswith("@"):
                out[name] = None
            elif name not in seen:
                seen.add(name)
                waiting += self.groups[name[1:]][::-1]
        return tuple(out)


def is_pattern(name: str) -> bool:
    """Whether a name of a kernel is a pattern."""
    return any(char in name for char in "*?[")


def matches_kernel(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern, or a name, is one of the names that a kernel has: with its distribution, or its release."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def parse_config(text: str, name: str = CONFIG) -> Config:
    """Read kgbuild.toml. Raises UserError with every fault of it, each with line and column."""
    values, places = parse_toml(text, name)
    faults = _Faults(name, places)
    _check(values, _ROOT, (), faults)
    if not faults.found:
        if values["version"] != VERSION:
            faults.add(
                ("version",), f"is of version {values['version']}, and this kgbuild reads {VERSION}", "update kgbuild"
            )
        for fault in name_faults(values):
            faults.add(*fault)
    if not faults.found and path_fault(values.get("package", {}).get("output", "dist")):
        given = values["package"]["output"]
        faults.add(("package", "output"), f"`{printable(given)}` {path_fault(given)}", "name a folder in the directory")
    faults.raise_found()
    gates, build = values.get("gates", {}), values.get("build", {})
    return Config(
        values.get("module", Config.module),
        values.get("replace", True),
        tuple(values.get("kernels", ())),
        {group: tuple(members) for group, members in values.get("groups", {}).items()},
        tuple(
            FixEntry(fix["id"], fix.get("release", 0), tuple(fix.get("after", ())), tuple(fix.get("kernels", ())))
            for fix in values.get("fix", ())
        ),
        Gates(gates.get("unproven", False), gates.get("boot", True), tuple(gates.get("warnings", ("*",)))),
        BuildChoices(
            build.get("ignore-init", False), tuple(build.get("allow-unproven", ())), tuple(build.get("drop", ()))
        ),
        SignChoices(**values["sign"]) if "sign" in values else None,
        _package(values["package"]) if "package" in values else None,
    )


def _package(table: Mapping[str, Any]) -> PackageChoices:
    rpm = table.get("rpm", False)
    return PackageChoices(
        table.get("deb", not rpm),
        rpm,
        table.get("output", "dist"),
        table.get("maintainer", ""),
        table.get("kernel-package", ""),
    )


def parse_fix(text: str, name: str = FIX_FILE) -> FixMetadata:
    """Read fix.toml. Raises UserError with every fault of it, each with line and column."""
    values, places = parse_toml(text, name)
    faults = _Faults(name, places)
    _check(values, _FIX_FILE, (), faults)
    for pattern, path in values.get("patches", {}).items() if not faults.found else ():
        fact = path_fault(path)
        if fact:
            faults.add(("patches", pattern), f"`{printable(path)}` {fact}", "name a file in the fix's folder")
    faults.raise_found()
    return FixMetadata(
        tuple(values.get("cves", ())),
        values.get("subject", ""),
        values.get("author", ""),
        values.get("commit", ""),
        tuple(values.get("fixes", ())),
        dict(values.get("patches", {})),
        values.get("date", ""),
    )


def path_fault(path: str) -> str:
    """Why a relative path must not be used; "" where it stays in its directory, as far as its text tells."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts:
        return "leads out of the directory" if path else "names no file"
    if any(ord(char) < 32 or char == "\\" for char in path):
        return "has a character that no file's name here has"
    return ""


def config_schema() -> dict[str, Any]:
    """The JSON schema of kgbuild.toml, for editors (docs/schema/config-1.json)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "config-1.json",
        "title": "kgbuild.toml, version 1 (docs/releases.md)",
        **_schema(_ROOT),
    }


def _schema(kind: Kind) -> dict[str, Any]:
    out: dict[str, Any] = {"type": {"table": "object", "map": "object"}.get(kind.type, kind.type)}
    if kind.pattern:
        out["pattern"] = f"^(?:{kind.pattern})$"
    if kind.about:
        out["description"] = kind.about
    if kind.type == "integer":
        out["minimum"] = kind.least
    if kind.type == "array" and kind.items is not None:
        out["items"] = _schema(kind.items)
    if kind.type == "map" and kind.items is not None:
        out["additionalProperties"] = _schema(kind.items)
    if kind.type == "table":
        out["additionalProperties"] = False
        out["properties"] = {name: _schema(below) for name, below in kind.keys.items()}
        out["required"] = list(kind.required)
    return out


class ConfigError(UserError):
    """A file of the directory is wrong. `faults` are all that was found, each with place, fact and remedy."""

    def __init__(self, faults: Sequence[UserError]) -> None:
        first = faults[0]
        super().__init__(first.fact, place=first.place, remedy=first.remedy)
        self.faults = tuple(faults)


class _Faults:
    """Faults of one file, each at the key it is of."""

    def __init__(self, name: str, places: Mapping[Key, Place]) -> None:
        self._name = name
        self._places = places
        self.found: list[UserError] = []

    def add(self, key: Key, fact: str, remedy: str = _SEE) -> None:
        while key and key not in self._places:
            key = key[:-1]
        line, column = self._places.get(key, (1, 1))
        self.found.append(UserError(fact, place=f"{self._name}:{line}:{column}", remedy=remedy))

    def raise_found(self) -> None:
        """Raise what was found."""
        if self.found:
            raise ConfigError(self.found)


def _called(key: Key) -> str:
    """A key for a message: fix[2].id, counted from 1."""
    out = ""
    for part in key:
        out += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return printable(out)


def _check(value: Any, kind: Kind, key: Key, faults: _Faults) -> None:
    """Add what is wrong with a value and all that is in it."""
    wanted, words = _TYPES[kind.type]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind.type != "boolean"):
        faults.add(key, f"{_called(key)} must be {words}, and is {_said(value)}")
        return
    _check_content(value, kind, key, faults)


def _check_content(value: Any, kind: Kind, key: Key, faults: _Faults) -> None:
    """Add what is wrong with a value that is of the right type."""
    if kind.type == "string" and kind.pattern and re.fullmatch(kind.pattern, value) is None:
        faults.add(key, f"{_called(key)} is `{printable(value)[:80]}`; it must be {kind.about}")
    elif kind.type == "integer" and not kind.least <= value < 1 << 31:
        faults.add(key, f"{_called(key)} must be at least {kind.least}, and is {value}")
    elif kind.type == "array" and kind.items is not None:
        for number, item in enumerate(value):
            _check(item, kind.items, (*key, number), faults)
    elif kind.type == "map" and kind.items is not None:
        for name, item in value.items():
            _check(item, kind.items, (*key, name), faults)
    elif kind.type == "table":
        for name, item in value.items():
            if name in kind.keys:
                _check(item, kind.keys[name], (*key, name), faults)
                continue
            near = difflib.get_close_matches(name, kind.keys, 1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(kind.keys)}"
            faults.add((*key, name), f"the key {_called((*key, name))} is not known", remedy)
        for name in kind.required:
            if name not in value:
                faults.add(key, f"the key {_called((*key, name))} is missing", _SEE)


def _said(value: Any) -> str:
    """A value for a message."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "an array"
    return f"`{printable(str(value).lower() if isinstance(value, bool) else str(value))[:60]}`"


def render_fix(metadata: FixMetadata) -> str:
    """fix.toml of what is known of a fix."""
    rows: list[tuple[str, str | tuple[str, ...]]] = [
        ("cves", metadata.cves),
        ("subject", metadata.subject),
        ("author", metadata.author),
        ("date", metadata.date),
        ("commit", metadata.commit),
        ("fixes", metadata.fixes),
    ]
    lines = []
    for name, value in rows:
        if value:
            shown = f"[{', '.join(map(quote, value))}]" if isinstance(value, tuple) else quote(value)
            lines.append(f"{name} = {shown}")
    if metadata.patches:
        lines += ["", "[patches]", *(f"{quote(key)} = {quote(path)}" for key, path in metadata.patches.items())]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """A TOML string of a text; what TOML does not allow in one is escaped."""
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    out = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", out)
    return '"' + re.sub(r"[\ud800-\udfff]", "?", out) + '"'
