# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages for reviewers, as headless Chromium shows them: at two widths, light and dark, printed, by keyboard, with
axe's rules, and with hostile texts in all places."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from click.testing import CliRunner
from playwright.sync_api import Browser

from kgbuild.cli.main import main
from kgbuild.cli.review.pages import make_page
from kgbuild.report.formats import FOR_REVIEW
from kgbuild.report.page.view import page_of
from tests.support.browser import SCHEMES, WIDTHS, Shown, chromium
from tests.support.injections import INJECTIONS, MARK, hostile
from tests.support.reports import report

GUEST: dict[str, Any] = report("guest")
PAGES: dict[str, list[dict[str, Any]]] = {
    "built": [report("inline-switch")],
    "tried": [report("inline-switch"), GUEST],
    "pulled": [report("pulled")],
    "refused": [report("bad-data-value")],
    "refused-type": [report("bad-export-type")],
    "audit": [report("audit")],
    "release": [report("release")],
}
_MOST = 1 << 20
OF_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}  # of axe
_BELOW = re.compile(r"[\w+~][\w.+~-]*(/[\w+~][\w.+~-]*)*")  # beside the page, as a release has its kernels


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, documents in PAGES.items():
        (folder / f"{name}.html").write_text(make_page(documents), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_each_page_is_shown_as_it_should_be(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """A picture of each at both widths in both schemes; nothing is wider than the window, nothing is asked of anybody,
    and the console is empty."""
    assert pages[name].stat().st_size < _MOST
    for width in WIDTHS:
        shown = Shown(browser, pages[name], width)
        for scheme in SCHEMES:
            shown.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            picture = shown.page.screenshot(full_page=True, type="jpeg", scale="css")
            assert len(picture) > 10_000
            assert shown.page.locator("h1").inner_text().strip()
            assert (shown.said, shown.asked, shown.overflow) == ([], [], 0), (width, scheme)
        shown.close()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_axe_finds_nothing(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Every rule in one colour scheme, and in the other one those that depend on colours."""
    shown = Shown(browser, pages[name], scheme=SCHEMES[0])
    shown.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    # axe is put into the page by the driver, which the page's own policy does not bind
    found = Axe().run(shown.page).response["violations"]
    shown.page.emulate_media(color_scheme=SCHEMES[1], reduced_motion="reduce")  # type: ignore[arg-type]
    found += Axe().run(shown.page, options=OF_COLOURS).response["violations"]
    told = [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in found]
    shown.close()
    assert not told


def test_what_a_reviewer_clicks(browser: Browser, pages: dict[str, Path]) -> None:
    shown = Shown(browser, pages["tried"])
    page = shown.page
    assert page.locator("#evidence").is_hidden()
    page.locator("a.node.redirected").first.click()
    evidence = page.locator("#evidence")
    assert evidence.is_visible() and "filesystems_proc_show" in evidence.inner_text()
    assert "recompiles to what runs" in evidence.inner_text()
    assert evidence.locator("tr.first").count() == 1 and evidence.locator(".plus").count() > 1
    assert page.locator(".edge.chosen").count() == 2
    width = page.locator(".picture svg").bounding_box()
    page.get_by_role("button", name="Larger").click()
    larger = page.locator(".picture svg").bounding_box()
    assert width is not None and larger is not None and larger["width"] > width["width"]
    evidence.get_by_role("link", name="filesystems_proc_show").first.click()
    assert page.locator("#function-0").get_attribute("open") is not None
    page.get_by_role("link", name="Guest").click()
    assert page.locator("#guest").is_visible() and "verdict" not in shown.said
    assert (shown.said, shown.asked) == ([], [])
    shown.close()


def test_the_first_difference_is_marked_on_both_sides(browser: Browser, pages: dict[str, Path]) -> None:
    shown = Shown(browser, pages["built"])
    shown.page.locator("summary").first.click()
    row = shown.page.locator("#function-0 tr.first")
    assert row.count() == 1 and "the first difference" in row.inner_text()
    assert shown.page.locator("#function-0 .source pre").first.is_visible()
    shown.close()


def test_by_keyboard_alone(browser: Browser, pages: dict[str, Path]) -> None:
    shown = Shown(browser, pages["pulled"])
    page = shown.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.closest('section, nav, header')?.id ?? ''"))
        if page.evaluate("document.activeElement.matches('.function > summary')"):
            page.keyboard.press("Enter")
            break
    assert {"graph", "functions"} <= seen
    assert page.locator("details.function[open]").count() == 1
    shown.close()


def test_a_filter_keeps_rows(browser: Browser, pages: dict[str, Path]) -> None:
    shown = Shown(browser, pages["pulled"])
    page = shown.page
    every = page.locator("#references tbody tr:visible").count()
    page.get_by_label("Filter").fill("mutex export")
    some = page.locator("#references tbody tr:visible").count()
    assert 0 < some < every
    assert page.locator("output").inner_text() == f"{some} shown"
    shown.close()


def test_the_verdict_counts_what_the_guest_said() -> None:
    assert page_of(PAGES["tried"]).verdict.state == "good"
    assert page_of([report("inline-switch"), {**GUEST, "verdict": False}]).verdict.state == "bad"
    assert page_of(PAGES["pulled"]).verdict.state == "open" and page_of(PAGES["refused"]).verdict.state == "bad"


def test_printed_all_is_there(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    shown = Shown(browser, pages["built"])
    shown.page.emulate_media(media="print")
    assert shown.page.locator("nav").is_hidden()
    printed = shown.page.pdf(path=tmp_path / "page.pdf")
    assert printed.startswith(b"%PDF") and shown.said == []
    shown.close()


def test_without_script_it_can_be_read(browser: Browser, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["built"].as_uri())
    page.locator("a.node.redirected").first.click()
    assert page.url.endswith("#function-0") and page.locator("#decide").is_visible()
    context.close()


class _Elements(HTMLParser):
    """Names of elements with their attributes' names, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        for name, value in attrs:
            assert not name.startswith("on"), (tag, attrs)
            if name in ("href", "src", "action", "formaction", "xlink:href"):
                assert (value or "").startswith("#") or _BELOW.fullmatch(value or ""), (tag, attrs)


def _elements(documents: list[dict[str, Any]]) -> list[str]:
    reader = _Elements()
    reader.feed(make_page(documents))
    return sorted({tag for tag, _ in reader.found})


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_no_hostile_text_becomes_an_element(text: str) -> None:
    for name in ("tried", "refused", "audit", "release"):
        assert set(_elements([hostile(d, text) for d in PAGES[name]])) <= _own_elements(name) | {"output"}


@cache
def _own_elements(name: str) -> frozenset[str]:
    """The elements of a page without any hostile text."""
    return frozenset(_elements(PAGES[name]))


def test_hostile_texts_do_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    for name in ("tried", "refused", "audit", "release"):
        path = tmp_path / f"{name}.html"
        documents = [hostile(d, "".join(INJECTIONS)) for d in PAGES[name]]
        path.write_bytes(make_page(documents).encode("utf-8", "backslashreplace"))
        for width in WIDTHS:
            shown = Shown(browser, path, width)
            shown.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            for number in range(min(shown.page.locator("a.node").count(), 5)):
                shown.page.locator("a.node").nth(number).dispatch_event("click")
            assert shown.page.evaluate(f"window.{MARK}") is None
            assert (shown.said, shown.asked, shown.overflow) == ([], [], 0)
            assert shown.page.locator("script").count() == 1 and shown.page.locator("img, iframe, form").count() == 0
            shown.close()


def test_the_policy_allows_only_what_is_in_the_file(browser: Browser, tmp_path: Path) -> None:
    text = make_page(PAGES["built"])
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src &#39;none&#39;") and "unsafe" not in policy and "http" not in policy
    path = tmp_path / "broken.html"  # as if escaping had failed
    path.write_text(text.replace("</main>", f"<script>window.{MARK}=1</script><img src=//example.org/x></main>"))
    shown = Shown(browser, path)
    assert shown.page.evaluate(f"window.{MARK}") is None and len(shown.said) == 2
    shown.close()


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(main, ["report", *map(str, words)])


def test_the_command_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fix.json").write_text(json.dumps(report("pulled")))
    assert run("fix.json").exit_code == 0 and Path("fix.html").read_text().startswith("<!DOCTYPE html>")
    assert run("fix.json").exit_code == 0, "its own page may be written over"
    Path("mine.html").write_text("<p>mine</p>")
    assert run("fix.json", "-o", "mine.html").exit_code != 0 and Path("mine.html").read_text() == "<p>mine</p>"
    assert run("fix.json", "-o", "-").stdout.startswith("<!DOCTYPE html>")
    assert "### kgbuild build" in run("fix.json", "--format", "markdown").stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": "other"}',
        '{"schema": "kgbuild/diff/1"}',
        '{"schema": "kgbuild/build/1", "changed": 5}',
        '{"schema": "kgbuild/build/1", "changed": [1]}',
        '{"schema": "kgbuild/build/1", "hunks": [{"lines": 3}]}',
        '{"schema": "kgbuild/vm/1", "phases": {"a": 1}}',
        '{"schema": "kgbuild/audit/1"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_report_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(text)
    done = run("a.json")
    assert done.exit_code != 0 and type(done.exception).__name__ == "UserError", done.exception
    assert not Path("a.html").exists()


@pytest.mark.parametrize("form", FOR_REVIEW)
@pytest.mark.parametrize(
    "change", [{"errors": True}, {"exit_status": ""}, {"consistency": [1]}, {"errors": [{}]}, {"refusals": {"a": 1}}]
)
def test_no_form_is_made_of_what_is_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(json.dumps({**PAGES["refused"][0], "errors": [], **change}))
    done = run("a.json", "--format", form)
    assert done.exit_code == 0 or type(done.exception).__name__ == "UserError", done.exception
