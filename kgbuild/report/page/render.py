# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents as one HTML file: every text escaped, style and script inside, nothing loaded from anywhere.

The content security policy in the file allows the one style and the one script that are in it, by their digests, and
nothing else: a text that got through the escaping could still not run, load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from kgbuild.report.page.view import page_of
from kgbuild.shown_text import escape_controls

STYLE, SCRIPT = "page.css", "page.js"
REVIEW, AUDIT, TABLE = "review.html.j2", "audit.html.j2", "table.html.j2"


def render_review(documents: Sequence[Mapping[str, Any]], parts: Mapping[str, str]) -> str:
    """The page of a patch. `parts`: the templates, the style and the script by file name (kgbuild/data/page)."""
    view = page_of(documents)
    return render_page(REVIEW, {"page": view, "title": view.title}, parts)


def render_page(template: str, values: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    """A page of one of the templates."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader(dict(parts)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # what is printed may hold anything: control characters, lone surrogates, signs that turn the direction
        finalize=_shown,
    )
    environment.filters["unbroken"] = _unbroken
    style, script = parts[STYLE].strip(), parts[SCRIPT].strip()
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(**values, style=_Raw(style), script=_Raw(script), policy=policy)


class _Raw(str):
    """Our own style and script, which are not escaped."""

    def __html__(self) -> str:
        return str(self)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _shown(value: Any) -> Any:
    if type(value) is not str:  # what is marked as safe, and numbers
        return value
    return escape_controls(value)


def _unbroken(value: Any) -> str:
    """A path or symbol with places where a line may be broken: after slashes, underscores and dots."""
    from markupsafe import Markup, escape

    shown = str(escape(_shown(str(value))))
    for sign in "/_.":
        shown = shown.replace(sign, f"{sign}<wbr>")
    return Markup(shown)  # escaped above


def _render_audit(document: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    from kgbuild.report.page.audit import audit_page

    return render_page(AUDIT, audit_page(document), parts)


def _render_kernels(document: Mapping[str, Any], parts: Mapping[str, str]) -> str:
    from kgbuild.report.page.kernels import kernels_page

    return render_page(TABLE, kernels_page(document), parts)


BY_SCHEMA = {"audit": _render_audit, "matrix": _render_kernels, "release": _render_kernels}
"""Documents that have a page of their own kind."""
