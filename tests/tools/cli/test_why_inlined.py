# SPDX-License-Identifier: GPL-2.0-or-later
"""`why` of a function that gcc inlined: where it went, and that this is an answer."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from kgbuild.cli.main import main
from kgbuild.errors import UserError
from tests.support.cache_cases import tiny_place

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs/schema/why-1.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_place(tmp_path_factory.mktemp("why"))


@pytest.fixture
def why(place: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))

    def call(name: str, *options: str) -> Result:
        argv = ["why", name, str(place / "fix.patch"), "--kernel", "local:tiny", *options]
        return CliRunner().invoke(main, argv)

    return call


def test_where_an_inlined_function_went(why) -> None:  # type: ignore[no-untyped-def]
    for _ in range(2):  # the second answer is one that was kept
        done = why("twice")
        assert done.exit_code == 0
        assert "twice is edited by hunk 1" in done.output and "gcc inlined it into" in done.output
        assert "one is in the patch because" in done.output
        assert "init/main.c" in done.output and "shared is in the patch because" in done.output


def test_as_data(why) -> None:  # type: ignore[no-untyped-def]
    found = json.loads(why("twice", "--format", "json").output)
    jsonschema.validate(found, SCHEMA)
    assert {row["unit"]: row["into"] for row in found["inlined"]}["fs/one.c"] == ["one"]
    assert found["chains"][0][-1]["function"] == "one"


def test_in_one_unit(why) -> None:  # type: ignore[no-untyped-def]
    found = json.loads(why("twice@one.c", "--format", "json").output)
    assert [row["unit"] for row in found["inlined"]] == ["fs/one.c"]
    assert len(found["chains"]) == 1


def test_functions_with_code_have_no_such_rows(why) -> None:  # type: ignore[no-untyped-def]
    found = json.loads(why("one", "--format", "json").output)
    jsonschema.validate(found, SCHEMA)
    assert "inlined" not in found


@pytest.mark.parametrize("name", ["thrice", "twice@nowhere.c"])
def test_what_is_nowhere_is_an_error(why, name: str) -> None:  # type: ignore[no-untyped-def]
    assert isinstance(why(name).exception, UserError)
