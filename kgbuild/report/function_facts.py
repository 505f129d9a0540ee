# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts about a function as text for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from kgbuild.callgraph.function_facts import Caller, FunctionFacts, InlinedInto
from kgbuild.callgraph.traversal import NO_BODY
from kgbuild.objects.clone_names import SUFFIXES
from kgbuild.report.documents import schema_name
from kgbuild.report.formats.answer import Answer

LABEL = 12


def render_facts(facts: FunctionFacts) -> Iterator[str]:
    """Lines: what it is first, then what the compiler did, then who reaches it."""
    function = facts.function
    if function.id == NO_BODY:
        yield _line(function.name, "no body of its own: inlined wherever it is called")
        for one in facts.inlined:
            yield from _into(one)
        if len(facts.inlined) < facts.inlined_count:
            yield _line("", f"... {facts.inlined_count - len(facts.inlined)} more: --limit 0 shows all")
        if facts.inlined_unknown:
            yield _line("", f"... {facts.inlined_unknown}")
        return
    yield _line(
        function.name,
        f"{function.object}  {facts.unit or '(unit not known)'}  {function.section} {function.address:#x}  "
        f"{function.size} bytes",
    )
    redirect = facts.why_not_redirectable
    yield _line("redirect", f"no: {redirect}" if redirect else f"yes, ftrace site at +{function.trace_site:#x}")
    for name in facts.names:
        position = "unique" if name.sympos == 0 else f"position {name.sympos}"
        exported = ", exported" if name.exported else ""
        shown = "no position names it" if name.sympos is None else position
        yield _line("symbol", f"{name.name}  {name.bind}, {shown}{exported}")
    if facts.shared is not None:
        verdict = {True: "folded", False: "alias", None: "alias or folded"}[facts.shared.folded]
        yield _line(verdict, f"{' = '.join(facts.shared.names)}  ({facts.shared.evidence})")
    if facts.clone is not None:
        done = "; ".join(SUFFIXES.get(kind, kind) for kind in facts.clone.kinds)
        yield _line("made from", f"{facts.clone.family}: {done}")
    for relative in facts.relatives:
        done = "; ".join(SUFFIXES.get(kind, kind) for kind in relative.kinds) or "the function itself"
        yield _line("family", f"{relative.name}  {relative.size} bytes  {done}")
    yield from _inlined(facts)
    yield from _compiler(facts)
    yield from _callers("called by", facts.callers, facts.caller_count, "no direct call")
    yield from _callers("address in", facts.takers, facts.taker_count, "")
    for holder in facts.holders:
        kind = f" ({holder.type})" if holder.type else ""
        shown = ", ".join(holder.users[:3]) + (f" and {holder.user_count - 3} more" if holder.user_count > 3 else "")
        users = f"  used by {shown}" if holder.users else ""
        where = f"{holder.object}: {holder.name or holder.section}{kind}+{holder.offset:#x}"
        yield _line("pointer in", where + users)
    if len(facts.holders) < facts.holder_count:
        yield _line("", f"... {facts.holder_count - len(facts.holders)} more: --limit 0 shows all")
    indirect = f", {_count(facts.indirect_calls, 'call')} through pointers" if facts.indirect_calls else ""
    yield _line("calls", f"{_count(facts.callee_count, 'function')}{indirect}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _line(label: str, text: str) -> str:
    gap = " " if len(label) >= LABEL else ""
    return f"{label:<{LABEL}}{gap}{text}".rstrip()


def _inlined(facts: FunctionFacts) -> Iterator[str]:
    if facts.inlined_unknown:
        yield _line("inlined", facts.inlined_unknown)
        return
    if not facts.inlined:
        yield _line("inlined", "nowhere in its unit (debugging information)")
    for one in facts.inlined:
        yield from _into(one)
    if len(facts.inlined) < facts.inlined_count:
        yield _line("", f"... {facts.inlined_count - len(facts.inlined)} more: --limit 0 shows all")


def _into(one: InlinedInto) -> Iterator[str]:
    lines = ", ".join(map(str, one.lines[:6]))
    times = f" {one.copies} times" if one.copies > 1 else ""
    yield _line("inlined", f"into {one.name}{times}, line {lines}")


def _compiler(facts: FunctionFacts) -> Iterator[str]:
    """What gcc said when the unit was compiled here."""
    compiler = facts.compiler
    if compiler is None:
        yield _line("gcc says", "not asked: no build has compiled its unit yet")
        return
    for one in compiler.made:
        yield _line("gcc made", f"{one.name} of {one.of}  {one.how} ({compiler.evidence})")
    for one in compiler.clones:
        yield _line("gcc made", f"{one.name} of it  {one.how} ({compiler.evidence})")
    for label, names, count in (
        ("gcc put it", compiler.into, compiler.into_count),
        ("it holds", compiler.holds, compiler.holds_count),
    ):
        if count:
            more = f" and {count - 6} more" if count > 6 else ""
            into = "into " if label == "gcc put it" else ""
            yield _line(label, f"{into}{', '.join(names[:6])}{more} ({compiler.evidence})")
    if not (compiler.made or compiler.clones or compiler.into_count or compiler.holds_count):
        yield _line(
            "gcc says",
            f"no clone, nothing inlined ({compiler.evidence}{'' if compiler.complete else ', which is cut off'})",
        )
    for flag in compiler.flags:
        yield _line("unit", f"{flag.option}  {flag.meaning} ({flag.evidence})")
    for file, line, text in compiler.optimized[:6]:
        yield _line("", f"{file}:{line}: {text}: a function with options of its own")


def _callers(label: str, callers: tuple[Caller, ...], count: int, nobody: str) -> Iterator[str]:
    if not count and nobody:
        yield _line(label, nobody)
    for one in callers:
        place = ", ".join(f"+{p:#x}" for p in one.places[:3]) + (" ..." if len(one.places) > 3 else "")
        where = "" if one.object == "vmlinux" else f"  {one.object}"
        kinds = "" if one.kinds in (("call",), ("address taken",)) else f"  {', '.join(one.kinds)}"
        yield _line(label, f"{one.name}{place}{where}{kinds}")
    if len(callers) < count:
        yield _line("", f"... {count - len(callers)} more of {count}: --limit 0 shows all")


def facts_json(facts: FunctionFacts) -> dict[str, Any]:
    """Facts about a function as plain data; addresses are hexadecimal text."""
    record = asdict(facts)
    record["function"]["address"] = hex(facts.function.address)
    for name, value in (("shared", facts.shared), ("clone", facts.clone)):
        record[name] = value._asdict() if value is not None else None
    record.update(traceable=facts.traceable, exported=facts.exported, why_not_redirectable=facts.why_not_redirectable)
    return {"schema": schema_name("facts"), "schema_version": 1, **record}


def answer_of_facts(facts: FunctionFacts) -> Answer:
    """What `facts` answers."""
    return Answer(lambda: facts_json(facts), lambda _: render_facts(facts))
