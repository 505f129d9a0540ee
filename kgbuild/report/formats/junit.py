# SPDX-License-Identifier: GPL-2.0-or-later
"""JUnit's XML, as CI systems read it: a case for each stage of a build, kernel of a matrix, or phase of a guest."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kgbuild.report.formats.annotations import ERROR, Annotation, annotations_of, command_of, kernel_name, outcome_of
from kgbuild.report.formats.answer import Answer, Format

# what XML 1.0 can't hold in any form
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PASSED, FAILED, BROKEN, SKIPPED = "", "failure", "error", "skipped"


class Case(NamedTuple):
    """One case: its class and name, seconds, how it ended, and what to say of that."""

    group: str
    name: str
    seconds: float
    ended: str = PASSED
    message: str = ""
    text: str = ""


def render_junit(answer: Answer, unicode: bool) -> Iterator[str]:
    """One suite of cases."""
    del unicode
    document = answer.data()
    suite = f"kgbuild {command_of(document)}".strip()
    cases = _cases(document, suite)
    counts = {ended: sum(case.ended == ended for case in cases) for ended in (FAILED, BROKEN, SKIPPED)}
    seconds = sum(case.seconds for case in cases)
    attributes = (
        f"name={_attribute(suite)} tests={_attribute(str(len(cases)))} failures={_attribute(str(counts[FAILED]))} "
        f"errors={_attribute(str(counts[BROKEN]))} skipped={_attribute(str(counts[SKIPPED]))} "
        f"time={_attribute(f'{seconds:.3f}')}"
    )
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f"<testsuites {attributes}>"
    yield f" <testsuite {attributes}>"
    kernel = kernel_name(document)
    if kernel:
        yield f'  <properties><property name="kernel" value={_attribute(kernel)}/></properties>'
    for case in cases:
        yield from _case(case)
    yield from (" </testsuite>", "</testsuites>")


def _case(case: Case) -> Iterator[str]:
    named = f"classname={_attribute(case.group)} name={_attribute(case.name)}"
    head = f"  <testcase {named} time={_attribute(f'{case.seconds:.3f}')}"
    if case.ended == PASSED:
        yield head + ("/>" if not case.text else f"><system-out>{_text(case.text)}</system-out></testcase>")
        return
    yield head + ">"
    message = f" message={_attribute(case.message)}" if case.message else ""
    kind = f" type={_attribute(case.ended)}" if case.ended != SKIPPED else ""
    yield f"   <{case.ended}{message}{kind}>{_text(case.text)}</{case.ended}>"
    yield "  </testcase>"


def _cases(document: Mapping[str, Any], suite: str) -> list[Case]:
    """The cases of a document: phases, kernels or stages, whichever it has; else the run as a whole."""
    status = int(document.get("exit_status", 0))
    found = annotations_of(document)
    against = [one for one in found if one.level == ERROR]
    text = "\n\n".join(f"{one.code}  {one.text}" for one in found)
    ended = {0: PASSED, 1: FAILED, 4: SKIPPED, 5: FAILED}.get(status, BROKEN)
    message = _message(against) or outcome_of(document)
    if document.get("phases"):
        return [_phase(phase, suite) for phase in document["phases"]]
    if isinstance(document.get("kernels"), list) and document["kernels"]:
        return [_kernel(row, suite) for row in document["kernels"]]
    stages = [Case(suite, str(stage["name"]), float(stage["seconds"])) for stage in document.get("stages") or ()]
    if not stages:
        return [Case(suite, kernel_name(document) or "run", 0.0, ended, message if ended else "", text)]
    last = stages[-1]
    return [*stages[:-1], last._replace(ended=ended, message=message if ended else "", text=text)]


def _message(against: Sequence[Annotation]) -> str:
    if not against:
        return ""
    more = f" and {len(against) - 1} more" if len(against) > 1 else ""
    return f"{against[0].code}: {against[0].fact}{more}"


def _phase(phase: Mapping[str, Any], suite: str) -> Case:
    lines = [line for fault in phase.get("faults", ()) for line in fault["lines"]]
    lines += [f"$ {run['cmd']}\n{run['output']}" for run in phase.get("commands", ())]
    ended = PASSED if phase["ok"] else FAILED
    group = f"{suite}.{phase['patch']}"
    return Case(group, str(phase["phase"]), float(phase["seconds"]), ended, str(phase["fact"]), "\n".join(lines))


def _kernel(row: Mapping[str, Any], suite: str) -> Case:
    """The case of one kernel of a matrix or a release: what became of its module, and of the module in a guest."""
    name = str(row.get("kernel") or row.get("requested") or "kernel")
    error, module = row.get("error"), row.get("module") or {}
    guest = row["vm"] if isinstance(row.get("vm"), Mapping) else row.get("booted") or {}
    told = [error] if error else [*module.get("errors", ()), *guest.get("errors", ())]
    status = str(module.get("status") or row.get("status") or "done")
    bad = bool(error) or status in ("refused", "failed") or bool(told)
    ended = BROKEN if error or status == "failed" else FAILED if bad else SKIPPED if status == "nothing" else PASSED
    texts = [f"{one.get('code', '')}  {one.get('place', '')}: {one.get('fact', '')}" for one in told]
    message = texts[0] if texts else status if ended else ""
    return Case(suite, name, 0.0, ended, message, "\n".join(texts))


def _clean(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _text(text: str) -> str:
    return html.escape(_clean(text), quote=False)


def _attribute(text: str) -> str:
    # a parser makes a blank of a tab, and would of a carriage return (XML 1.0, 3.3.3)
    plain = html.escape(" ".join(_clean(text).split("\n")))
    return '"' + plain.replace("\t", "&#9;").replace("\r", "&#13;") + '"'


OFFERED = (Format("junit", render_junit, of_data=True),)
