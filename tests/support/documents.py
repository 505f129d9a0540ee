# SPDX-License-Identifier: GPL-2.0-or-later
"""Every JSON document that kgbuild writes while a test runs is held against its schema in docs/schema.

`watching` looks at each run of the command, in a process of its own (subprocess.run) or in this one (CliRunner): with
--format json there is exactly one document on standard output, whatever came of the run; it and those in the files that
were written keep to the schemas that they name.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from click.testing import CliRunner

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schema"
_NAME = re.compile(r"kgbuild/([a-z]+)/(\d+)")


@cache
def _validator(name: str, number: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}-{number}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_document(text: str, status: int | None = None) -> dict[str, Any]:
    """The one document of a text. Fails where there is none or more than one, it names no schema or does not keep to
    it, or says another exit status than `status` (None: it need not say any)."""
    document = json.loads(text)
    assert isinstance(document, dict), text[:200]
    named = _NAME.fullmatch(str(document.get("schema")))
    assert named is not None, f"no schema is named: {text[:200]}"
    _validator(*named.groups()).validate(document)
    if status is not None:
        assert document["exit_status"] == status, (status, text[:500])
        assert bool(document["errors"]) == bool(status), text[:500]
    return document


def _value(words: Sequence[str], option: str) -> str:
    """What an option of a command line is given last; "" where it is not there."""
    found = ""
    for number, word in enumerate(words):
        if word == "--":
            break
        if word == option:
            found = words[number + 1] if number + 1 < len(words) else ""
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def words_of(argv: Sequence[Any]) -> list[str] | None:
    """The words behind `kgbuild` of a command line; None where another program is run."""
    words = [str(word) for word in argv]
    if "kgbuild.cli.main" in words[:4]:
        return words[words.index("kgbuild.cli.main") + 1 :]
    return words[1:] if words and Path(words[0]).name == "kgbuild" else None


def check_run(words: Sequence[str], status: int, stdout: str | None, cwd: Path) -> None:
    """Hold what one run wrote against what it was asked for."""
    if {"-h", "--help", "--version"} & set(words):
        return
    if stdout is not None and (_value(words, "--format") == "json" or _value(words, "--json") == "-"):
        check_document(stdout, status)
    for option in ("--report", "--json", "--proof", "-o", "--output"):
        named = _value(words, option)
        path = cwd / named if named and named != "-" else None
        if path is not None and path.is_file():
            with path.open("rb") as stream:
                head = stream.read(100)
            if re.match(rb'\{\s*"schema": "kgbuild/', head):
                check_document(path.read_text())


@contextmanager
def watching() -> Iterator[None]:
    """Within this, runs of the command are looked at."""
    run, invoke = subprocess.run, CliRunner.invoke

    def checked_run(*args: Any, **named: Any) -> Any:
        done = run(*args, **named)
        argv = args[0] if args else named.get("args")
        words = words_of(argv) if isinstance(argv, (list, tuple)) else None
        if words is not None:
            out = done.stdout
            text = out.decode(errors="replace") if isinstance(out, bytes) else out
            to_file = named.get("stdout") not in (None, subprocess.PIPE)
            check_run(words, done.returncode, None if to_file else text, Path(named.get("cwd") or Path.cwd()))
        return done

    def checked_invoke(self: CliRunner, cli: Any, args: Any = None, *more: Any, **named: Any) -> Any:
        result = invoke(self, cli, args, *more, **named)
        module = getattr(getattr(cli, "callback", None), "__module__", "")
        if module.startswith("kgbuild.") and isinstance(args, (list, tuple)):
            ended = result.exception is None or isinstance(result.exception, SystemExit)
            # an error is made a document by `kgbuild` itself, above the command
            check_run([*map(str, args)], result.exit_code, result.stdout if ended else None, Path.cwd())
        return result

    subprocess.run, CliRunner.invoke = checked_run, checked_invoke  # type: ignore[method-assign]
    try:
        yield
    finally:
        subprocess.run, CliRunner.invoke = run, invoke  # type: ignore[method-assign]
