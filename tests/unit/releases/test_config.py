# SPDX-License-Identifier: GPL-2.0-or-later
"""kgbuild.toml and fix.toml: every fault has its line and column, none is missed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from kgbuild.errors import UserError
from kgbuild.releases.config import FixMetadata, config_schema, parse_config, parse_fix, render_fix

SCHEMA = Path(__file__).parents[3] / "docs" / "schema" / "config-1.json"
GOOD = """\
version = 1
module = "lp-{release}"
replace = false
kernels = ["debian:newest-6.1-cloud", "@mine"]

[groups]
mine = ["debian:6.1.0-5?-cloud-amd64", "@other"]
other = ["local:x"]

[[fix]]
id = "CVE-2026-12345"

[[fix]]
id = "second"
release = 2
after = ["CVE-2026-12345"]
kernels = ["debian:6.1*"]

[gates]
warnings = ["W1-stack", "W2"]

[sign]
key = "anything"
certificate = "cert.pem"
"""


def faults(text: str) -> list[str]:
    """What is said against a kgbuild.toml, a line each."""
    with pytest.raises(UserError) as error:
        parse_config(text)
    return [str(fault) for fault in getattr(error.value, "faults", (error.value,))]


def test_what_a_good_file_says() -> None:
    config = parse_config(GOOD)
    assert config.module_name(3) == "lp-3" and not config.replace
    assert config.expand(config.kernels) == ("debian:newest-6.1-cloud", "debian:6.1.0-5?-cloud-amd64", "local:x")
    assert [fix.id for fix in config.of_release(1)] == ["CVE-2026-12345"]
    assert [fix.id for fix in config.choose(["second"])] == ["CVE-2026-12345", "second"]
    assert config.gates.boot and not config.gates.unproven and config.gates.warnings == ("W1-stack", "W2")


@pytest.mark.parametrize(
    ("text", "place", "fact"),
    [
        ("", "1:1", "the key version is missing"),
        ("version = 2", "1:1", "is of version 2"),
        ("version = true", "1:1", "must be a whole number"),
        ('version = 1\n  kernals = ["x"]', "2:3", "did you mean kernels?"),
        ('version = 1\nkernels = ["a",\n "b c"]', "3:2", "must be the name, pattern or @group"),
        ("version = 1\nkernels = 3", "2:1", "must be an array"),
        ('version = 1\nkernels = ["@gone"]', "2:12", "there is no group gone"),
        ('version = 1\n[groups]\na = ["@b"]\nb = ["@a"]', "3:1", "contains itself"),
        ('version = 1\n[[fix]]\nid = "../../etc"', "3:1", "must be letters, digits"),
        ('version = 1\n[[fix]]\nid = "/etc"', "3:1", "must be letters, digits"),
        ('version = 1\n[[fix]]\nid = ".hidden"', "3:1", "must be letters, digits"),
        ('version = 1\n[[fix]]\nname = "x"', "3:1", "the key fix[1].name is not known"),
        ('version = 1\n[[fix]]\nid = "x"\n[[fix]]\nid = "x"', "5:1", "is listed twice"),
        ('version = 1\nfix = [{id = "x", after = ["y"]}]', "2:28", "is not listed"),
        ('version = 1\n[[fix]]\nid = "x"\nafter = ["y"]\n[[fix]]\nid = "y"', "4:10", "comes later"),
        ('version = 1\n[[fix]]\nid = "x"\nrelease = 0', "4:1", "at least 1"),
        ('version = 1\n[[fix]]\nid="x"\nrelease=3\n[[fix]]\nid="y"\nrelease=2\nafter=["x"]', "8:8", "is in a later"),
        ('version = 1\nmodule = "a b"', "2:1", "a module's name"),
        ('version = 1\nmodule = "{release}{release}"', "2:1", "a module's name"),
        ('version = 1\n[gates]\nboot = "yes"', "3:1", "must be true or false"),
        ('version = 1\n[gates]\nwarnings = ["x"]', "3:13", "the code of a warning"),
        ("version = 1\nsign = 3", "2:1", "sign must be a table"),
        ("version = 1\nversion = 1", "2:12", "is no TOML"),
        ('version = 1\nmodule = "x', "2:12", "is no TOML"),
        ("a.b.c = 1\nversion = 1", "1:1", "the key a is not known"),
        (f"version = {'9' * 5000}", "1:5011", "is no TOML"),
    ],
)
def test_faults_have_line_and_column(text: str, place: str, fact: str) -> None:
    first = faults(text)[0]
    assert first.startswith(f"kgbuild.toml:{place}: ") and fact in first, first


def test_what_is_nested_too_deep() -> None:
    for deep in (50, 500, 5000, 100_000):
        assert faults(f"version = 1\nkernels = {'[' * deep}{']' * deep}")


def test_all_faults_are_told_at_once() -> None:
    found = faults('version = 1\nkernals = []\n[[fix]]\nid = "a/b"\n[gates]\nboot = 3\n')
    assert [one.split(": ")[0] for one in found] == ["kgbuild.toml:2:1", "kgbuild.toml:4:1", "kgbuild.toml:6:1"]


def test_places_are_right_below_strings_of_several_lines_and_comments() -> None:
    text = 'version = 1 # a "comment\nmodule = """\\\n  lp"""\n# [x]\nkernels = [ # one\n  "a", # ]\n  3,\n]\n'
    assert faults(text)[0].startswith("kgbuild.toml:7:3: kernels[2] must be a string")


@pytest.mark.parametrize("path", ["../x.patch", "/etc/passwd", "a/../../x", "", "a\\b"])
def test_a_patch_out_of_its_folder_is_refused(path: str) -> None:
    shown = path.replace("\\", "\\\\")
    with pytest.raises(UserError) as error:
        parse_fix(f'[patches]\n"debian:6*" = "{shown}"\n')
    assert error.value.place == "fix.toml:2:1"


@pytest.mark.parametrize(
    "text", ['cves = ["CVE-1"]', 'commit = "xyz"', 'fixes = ["12"]', 'date = "today"', 'cve = "CVE-2026-12345"']
)
def test_fix_toml_takes_only_what_it_knows(text: str) -> None:
    with pytest.raises(UserError):
        parse_fix(text)


def test_fix_toml_is_read_as_it_was_written() -> None:
    known = FixMetadata(
        ("CVE-2026-12345",),
        'a "b" \\ c\x01',
        "x <y@z>",
        "abcdef0",
        ("1234567",),
        {"debian:6*": "a.patch"},
        "2026-11-02T10:00:00Z",
    )
    assert parse_fix(render_fix(known)) == known


def test_the_schema_for_editors_is_that_of_the_reader() -> None:
    import tomllib

    schema = json.loads(SCHEMA.read_text())
    assert schema == config_schema(), "run make docs"
    jsonschema.validate(tomllib.loads(GOOD), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "kernals": []}, schema)
