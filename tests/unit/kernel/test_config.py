# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration rules out."""

from __future__ import annotations

import pytest

from kgbuild.kernel.config import check_config, parse_config

GOOD = "# Linux/x86 6.1 Kernel Configuration\nCONFIG_LIVEPATCH=y\n# CONFIG_KASAN is not set\nCONFIG_LTO_NONE=y\n"


def test_good_config() -> None:
    assert check_config(GOOD) == []


def test_parse() -> None:
    text = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x=y"\n  CONFIG_D=y\nCONFIG_E=12\n'
    assert parse_config(text) == {"A": "y", "C": '"x=y"', "E": "12"}


@pytest.mark.parametrize("text", ["", "CONFIG_LIVEPATCH=n\n", "# CONFIG_LIVEPATCH is not set\n"])
def test_no_livepatch(text: str) -> None:
    (refusal,) = check_config(text)
    assert refusal.code == "C2-no-livepatch"
    assert refusal.place == "CONFIG_LIVEPATCH"


@pytest.mark.parametrize(
    "option",
    [
        "RANDSTRUCT",
        "GCC_PLUGIN_RANDSTRUCT",
        "GCC_PLUGIN_LATENT_ENTROPY",
        "KASAN",
        "KCSAN",
        "KCOV",
        "GCOV_KERNEL",
        "CFI_CLANG",
        "LTO_CLANG",
    ],
)
def test_untested(option: str) -> None:
    (refusal,) = check_config(f"{GOOD}CONFIG_{option}=y\n")
    assert refusal.code == "C1-config"
    assert refusal.place == f"CONFIG_{option}"


def test_one_refusal_a_reason() -> None:
    assert len(check_config(f"{GOOD}CONFIG_RANDSTRUCT=y\nCONFIG_RANDSTRUCT_FULL=y\n")) == 1


def test_all_at_once() -> None:
    codes = [refusal.code for refusal in check_config("CONFIG_KASAN=y\nCONFIG_KCOV=y\n")]
    assert codes == ["C1-config", "C1-config", "C2-no-livepatch"]


@pytest.mark.parametrize(
    "text", ["CONFIG_KASAN_GENERIC=y", "CONFIG_HAVE_ARCH_KASAN=y", "CONFIG_ARCH_SUPPORTS_LTO_CLANG=y"]
)
def test_similar_names_are_fine(text: str) -> None:
    assert check_config(f"{GOOD}{text}\n") == []
