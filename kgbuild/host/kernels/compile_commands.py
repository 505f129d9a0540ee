# SPDX-License-Identifier: GPL-2.0-or-later
"""The compile command of every unit: parsed out of what `make -n` prints, kept in one SQLite file.

Schema (format 1), in units.sqlite of a prepared kernel:

    units(source TEXT, object TEXT, modfile TEXT, modname TEXT, module INTEGER, argv INTEGER, objtool INTEGER)
    arguments(id INTEGER PRIMARY KEY, words TEXT)        JSON list of words; `argv` and `objtool` refer to it
    index units_source on units(source)

`argv` runs in the build tree, has {src} for the source tree, keeps -c, and is without the dependency output, `-o
OBJECT` and the source file: whoever compiles adds its own.

Where kbuild runs objtool on vmlinux.o and on whole modules only (kernel/feature_probes.py), the commands of most units
have none; they are read back with the one that does the same to a single object.
"""

from __future__ import annotations

import json
import posixpath
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.kernel.feature_probes import for_builtin, is_delayed
from kgbuild.model import UnitCommand

SOURCE = "{src}"

_WORD = re.compile(r"""(?:[^\s'"\\;]|'[^']*'|"(?:[^"\\]|\\.)*"|\\.)+|;""")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)""")
_ESCAPED = re.compile(r"\\(.)")
_DEPENDENCIES = "-Wp,-MMD,"
_FIXDEP = "scripts/basic/fixdep "
# A unit of the kernel is compiled with -c and knows its module; host programs and .S files don't.
_MODNAME = "-DKBUILD_MODNAME="
_MODFILE = "-DKBUILD_MODFILE="
_OBJTOOL = "/objtool "


def split_command(text: str) -> list[str]:
    """The words of a shell command; quotes are taken off, a `;` outside quotes is a word of its own."""
    words = _WORD.findall(text)
    return [_unquote(word) if "'" in word or '"' in word or "\\" in word else word for word in words]


def _unquote(word: str) -> str:
    def plain(match: re.Match[str]) -> str:
        single, double, escaped = match.groups()
        if single is not None:
            return single
        return _ESCAPED.sub(r"\1", double) if double is not None else escaped

    return _QUOTED.sub(plain, word)


def parse_line(line: str, source_tree: str) -> UnitCommand | None:
    """The unit that a line of `make -n` compiles, or None where it compiles none.

    `source_tree` is the path by which the commands name the source tree. kbuild prints a command up to three
    times in a unit's lines: the real one stands before the call of fixdep, which quotes it; genksyms has one
    with -E.
    """
    if _DEPENDENCIES not in line or _FIXDEP not in line or _MODNAME not in line:
        return None
    real = line[: line.index(_FIXDEP)]
    start = real.rfind(";", 0, real.find(_DEPENDENCIES)) + 1
    words = split_command(real[start:])
    end = words.index(";") if ";" in words else len(words)
    compile_words, rest = words[:end], words[end + 1 :]
    if "-c" not in compile_words or "-o" not in compile_words:
        return None
    at = compile_words.index("-o")
    obj, source = compile_words[at + 1], compile_words[-1]
    if not source.endswith(".c") or not obj.endswith(".o"):
        return None
    modname = _value(compile_words, _MODNAME)
    modfile = _value(compile_words, _MODFILE)
    kept = compile_words[:at] + compile_words[at + 2 : -1]
    argv = tuple(word.replace(source_tree, SOURCE) for word in kept if not word.startswith(_DEPENDENCIES))
    return UnitCommand(
        source=source.removeprefix(f"{source_tree}/"),
        object=obj,
        modfile=modfile or obj.removesuffix(".o"),
        modname=modname,
        module="-DMODULE" in argv,
        argv=argv,
        objtool=_objtool(rest, obj),
    )


def _value(words: Sequence[str], prefix: str) -> str:
    return next((word[len(prefix) :].strip('"') for word in words if word.startswith(prefix)), "")


def _objtool(words: Sequence[str], obj: str) -> tuple[str, ...]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word != ";":
            command.append(word)
            continue
        if command and command[0].endswith("/objtool"):
            return tuple(command[:-1] if command[-1] == obj else command)
        command = []
    return ()


def parse_units(lines: Iterable[str], source_tree: str) -> Iterator[UnitCommand]:
    """Every unit in the output of `make -n`, in its order. Before 5.16, objtool has a line of its own behind that of
    the compiler."""
    last: UnitCommand | None = None
    for line in lines:
        unit = parse_line(line, source_tree)
        if unit is None:
            if last is not None and not last.objtool and _OBJTOOL in line and line.rstrip().endswith(f" {last.object}"):
                words = split_command(line.strip())
                last = last._replace(objtool=_objtool(words, last.object))
            continue
        if last is not None:
            yield last
        last = unit
    if last is not None:
        yield last


def write_units(units: Iterable[UnitCommand], path: Path) -> int:
    """Write units.sqlite and return how many units it holds. An object that is given twice is kept once."""
    if path.exists():
        path.write_bytes(b"")
    seen: set[str] = set()
    ids: dict[tuple[str, ...], int] = {}
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE units(source TEXT NOT NULL, object TEXT NOT NULL, modfile TEXT NOT NULL,"
            " modname TEXT NOT NULL, module INTEGER NOT NULL, argv INTEGER NOT NULL,"
            " objtool INTEGER NOT NULL);"
            "CREATE TABLE arguments(id INTEGER PRIMARY KEY, words TEXT NOT NULL);"
        )

        def id_of(words: tuple[str, ...]) -> int:
            if words not in ids:
                ids[words] = len(ids)
                database.execute("INSERT INTO arguments VALUES (?, ?)", (ids[words], json.dumps(words)))
            return ids[words]

        for unit in units:
            if unit.object in seen:
                continue
            seen.add(unit.object)
            database.execute(
                "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    unit.source,
                    unit.object,
                    unit.modfile,
                    unit.modname,
                    unit.module,
                    id_of(unit.argv),
                    id_of(unit.objtool),
                ),
            )
        database.execute("CREATE INDEX units_source ON units(source)")
        database.commit()
    return len(seen)


_SELECT = """
SELECT source, object, modfile, modname, module, a.words, o.words
FROM units JOIN arguments a ON a.id = argv JOIN arguments o ON o.id = objtool
"""


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """units.sqlite, to read. Raises ToolError where it can't be."""
    try:
        with closing(open_database(path)) as database:
            yield database
    except sqlite3.Error as error:
        raise ToolError(
            f"can't be read ({error})",
            place=str(path),
            remedy="run kgbuild again, which looks at it and makes it again",
        ) from error


def open_database(path: Path) -> sqlite3.Connection:
    """An SQLite file that nobody writes to, to read; any characters may be in its name."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def is_units_file(path: Path) -> bool:
    """Whether SQLite finds a file with the compile commands in order."""
    try:
        with closing(open_database(path)) as database:
            database.execute(f"{_SELECT} LIMIT 1").fetchall()
            return bool(database.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)])
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def read_units(path: Path, sources: Iterable[str]) -> dict[str, list[UnitCommand]]:
    """The units made of each source file (relative to the source tree).

    A file that is no unit has an empty list. Raises ToolError where the file can't be read.
    """
    found: dict[str, list[UnitCommand]] = {source: [] for source in sources}
    with _opened(path) as database:
        objtool = _module_objtool(database)
        for source in found:
            rows = database.execute(f"{_SELECT} WHERE source = ? ORDER BY object", (source,))
            found[source] = [_unit(row, objtool) for row in rows]
    return found


def read_all_units(path: Path) -> Iterator[UnitCommand]:
    """Every unit of the kernel, by source."""
    with _opened(path) as database:
        objtool = _module_objtool(database)
        for row in database.execute(f"{_SELECT} ORDER BY source, object"):
            yield _unit(row, objtool)


def partial_file(units: Path) -> Path:
    """Where units are kept while not all of them are known (host/kernels/unit_listing.py); `units` is the file for all
    of them."""
    return units.with_name("units.part.sqlite")


def read_plain_units(path: Path) -> Iterator[UnitCommand]:
    """Every unit of the file as it was written: objtool's command only where kbuild printed one for the unit."""
    with _opened(path) as database:
        for row in database.execute(f"{_SELECT} ORDER BY source, object"):
            yield _unit(row, ())


def read_detours(path: Path) -> dict[str, list[str]]:
    """Files that units name by a way with ".." in it (arch/x86/kvm/../../../virt/kvm/vfio.c): plain path -> names."""
    found: dict[str, list[str]] = {}
    with _opened(path) as database:
        for (source,) in database.execute(
            "SELECT DISTINCT source FROM units WHERE instr(source, '/../') ORDER BY source"
        ):
            found.setdefault(posixpath.normpath(source), []).append(source)
    return found


def names_in_commands(path: Path, names: Iterable[bytes]) -> bool:
    """Whether a command of any unit has one of these names in it (a -D may)."""
    with _opened(path) as database:
        query = "SELECT 1 FROM arguments WHERE instr(words, ?) LIMIT 1"
        return any(database.execute(query, (name.decode("latin-1"),)).fetchone() for name in names)


def read_sources(path: Path) -> list[tuple[str, str, bool]]:
    """(source, object, is it part of a module) of every unit of the kernel, by source."""
    with _opened(path) as database:
        rows = database.execute("SELECT source, object, module FROM units ORDER BY source, object")
        return [(source, obj, bool(module)) for source, obj, module in rows]


def read_modules(path: Path) -> dict[str, list[str]]:
    """Source files of each loadable module, by its name (with underscores). A unit may be in several: kbuild joins
    their names by colons. KBUILD_MODFILE does not tell: of a module of several units it names the unit."""
    found: dict[str, list[str]] = {}
    with _opened(path) as database:
        for names, source in database.execute(
            "SELECT DISTINCT modname, source FROM units WHERE module = 1 ORDER BY modname, source"
        ):
            for name in names.split(":"):
                found.setdefault(name.replace("-", "_"), []).append(source)
    return found


def read_module_objtool(path: Path) -> tuple[str, ...]:
    """kbuild's objtool command for a unit that is a module by itself; empty where it runs none."""
    with _opened(path) as database:
        return _module_objtool(database)


def _module_objtool(database: sqlite3.Connection) -> tuple[str, ...]:
    query = (
        "SELECT o.words FROM units JOIN arguments o ON o.id = objtool WHERE module = 1 AND o.words != '[]' "
        "GROUP BY o.id ORDER BY count(*) DESC, o.id LIMIT 1"
    )
    row = database.execute(query).fetchone()
    return tuple(json.loads(row[0])) if row is not None else ()


def _unit(row: tuple[str, str, str, str, int, str, str], module_objtool: tuple[str, ...]) -> UnitCommand:
    source, obj, modfile, modname, module, argv, words = row
    objtool = tuple(json.loads(words))
    if not objtool and is_delayed(module_objtool):
        objtool = module_objtool if module else for_builtin(module_objtool)
    return UnitCommand(source, obj, modfile, modname, bool(module), tuple(json.loads(argv)), objtool)
