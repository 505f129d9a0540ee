# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest reports over its serial channel, and the verdict that follows.

data/guest/init writes the records; `ChannelParser` (guest/channel.py) parses them; `Session` makes phases and findings
of them, one patch after the other. The guest reports only facts; the verdict is made here:

run    one patch module:  before, load, after, disable, disabled, log   (its phases, in this order; those of a
       patch of loadable modules are in guest/reload_scenario.py)
G1..   what can go wrong in a run; the meaning of a code never changes, as with refusals
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from kgbuild.diagnostics.guest_findings import RULES
from kgbuild.diagnostics.unused_options import unused_option
from kgbuild.guest import reload_scenario as targets
from kgbuild.guest.channel import ChannelParser, GuestRecord, parse_guest_record
from kgbuild.guest.kernel_log import EXPECTED, LogLine, find_faults, find_used, parse_raw
from kgbuild.guest.loaded_patches import PatchLoad, compare_patches, parse_patches
from kgbuild.guest.model import OUTPUT_LIMIT, PHASES, CommandRun, GuestCommand, GuestPlan, PhaseRun
from kgbuild.model import Finding

__all__ = [
    "PHASES",
    "ChannelParser",
    "CommandRun",
    "GuestCommand",
    "GuestPlan",
    "GuestRecord",
    "PhaseRun",
    "Session",
    "parse_guest_record",
]

OK, NO, NOT_TRIED, PARTLY_TRIED = "ok", "no", "not tried", "partly tried"
_LOG_LINES = 8

# Findings that the kernel's log explains better than insmod does.
_KERNEL_SAYS = ("G2-load", "G12-target")
_CODE_OF_PHASE = {"before": "G1-before", "after": "G5-after", "disabled": "G8-disabled", "absent": "G14-absent"}

# What insmod says where a signature is wanted (kernel/module/signing.c; 6.1 says of none that the key was rejected).
_WANTS_SIGNATURE = ("Key was rejected", "Required key not available", "Operation not permitted")

# Bits of /proc/sys/kernel/tainted that mean a fault (Documentation/admin-guide/tainted-kernels.rst). W is separate.
_TAINT_FAULTS = {4: "machine check", 5: "bad page", 7: "oops", 14: "soft lockup"}
_TAINT_WARN = 9


class Session:
    """The state of one boot. Feed it records in order; `phases` and `findings` grow until `finished` is set."""

    def __init__(self, plans: list[GuestPlan]) -> None:
        self.plans = plans
        self.phases: list[PhaseRun] = []
        self.findings: list[Finding] = []
        self.not_tried: list[targets.NotTried] = []
        self.faulty_modules: list[tuple[str, str]] = []
        self.kernel_log: list[str] = []
        self.allowed: set[str] = set()  # the patterns of --allow-log that something was accepted for
        self.booted = False
        self.release = ""
        self.cpus = 0
        self.finished = False
        self.loading = False
        self.step = "boot"
        self._taint = 0
        self._began = 0.0
        self._phase_records: list[GuestRecord] = []

    def feed(self, record: GuestRecord) -> PhaseRun | None:
        """Process one record; returns the phase that it completes, if any."""
        match record.kind:
            case "hello":
                self.booted = True
                self.release = record.values.get("release", "")
                self.cpus = record.number("cpus")
                self._taint = record.number("taint")
                self.step = "start"
                self._began = record.uptime
            case "begin":
                self._begin(record)
            case "module":
                if record.values.get("status") != "0":
                    self.faulty_modules.append(
                        (
                            record.values.get("name", ""),
                            record.values.get("output", "") or record.values.get("out", ""),
                        )
                    )
            case "run":
                self._began = record.uptime
                self._phase_records = []
            case "phase":
                return self._end_phase(record)
            case "end":
                self.finished = True
            case _:
                self._phase_records.append(record)
        return None

    def died(self, fact: str) -> None:
        """Called if the guest stopped by itself, or hung with a panic on its console, after a patch began to load."""
        self._find("G10-panic", self._current_name(), fact, "see the console (--keep-log)")

    @property
    def outcome(self) -> str:
        """The verdict: OK, NO, or that nothing or not everything was tried. A finding takes precedence."""
        if self.findings or not self.finished:
            return NO
        if not self.not_tried:
            return OK
        tried = [p for p in self.phases if p.phase == "load"]
        return PARTLY_TRIED if tried else NOT_TRIED

    @property
    def warnings(self) -> tuple[str, ...]:
        """Patterns of --allow-log that accepted nothing in any run, each once; none of a boot that did not finish."""
        given = dict.fromkeys(pattern.pattern for plan in self.plans for pattern in plan.allow_log)
        why = "no warning or oops in the kernel's log has a line that it matches"
        unused = [pattern for pattern in given if pattern not in self.allowed]
        return tuple(unused_option("--allow-log", why, pattern) for pattern in unused) if self.finished else ()

    @property
    def incomplete(self) -> bool:
        """True if an expected phase is missing: with lost records the verdict is never OK."""
        loaded = {p.patch for p in self.phases if p.phase == "load" and p.ok}
        for plan in self.plans:
            wanted: tuple[str, ...] = PHASES if plan.name in loaded else ("before", "load", "log")
            if plan.targets:
                wanted = tuple(phase for phase in plan.phases if phase not in plan.targets.skipped)
            have = [p.phase for p in self.phases if p.patch == plan.name]
            if any(phase not in have for phase in wanted):
                return True
        return False

    # One record

    def _begin(self, record: GuestRecord) -> None:
        step = record.values.get("step", "")
        place = record.values.get("name") or self._name(record)
        self.step = f"{step} of {place}"
        if step == "load":
            self.loading = True
        if targets.PLAIN.get(step) in _CODE_OF_PHASE and "index" in record.values:
            command = self._command(record, step)
            self.step = f"`{_short(command.text)}` ({self.step})" if command else self.step

    def _name(self, record: GuestRecord) -> str:
        plan = self._plan(record)
        return plan.name if plan else ""

    def _plan(self, record: GuestRecord) -> GuestPlan | None:
        number = record.values.get("run", "")
        if not number.isdigit() or int(number) >= len(self.plans):
            return None
        return self.plans[int(number)]

    def _current_name(self) -> str:
        return self.step.rpartition(" of ")[2].rstrip(")")

    def _command(self, record: GuestRecord, step: str) -> GuestCommand | None:
        plan = self._plan(record)
        commands = plan.commands.get(targets.PLAIN.get(step, step), ()) if plan else ()
        index = record.number("index")
        return commands[index] if index < len(commands) else None

    def _find(self, code: str, place: str, fact: str, remedy: str = "") -> None:
        assert code in RULES
        self.findings.append(Finding(code, place, fact, remedy))

    # One phase

    def _end_phase(self, record: GuestRecord) -> PhaseRun | None:
        plan = self._plan(record)
        step = record.values.get("step", "")
        if plan is None or step not in plan.phases:
            return None
        records, self._phase_records = self._phase_records, []
        seconds = round(max(0.0, record.uptime - self._began), 2)
        self._began = record.uptime
        faults = self._judge_targets(plan, step, records)
        match targets.PLAIN.get(step):
            case "load" if not (plan.targets and plan.targets.without_load(step)):
                phase = self._load(plan, step, records, seconds)
            case "disable":
                phase = self._disable(plan, step, records, seconds)
            case "log":
                phase = self._log(plan, records, seconds)
            case "before" | "after" | "absent" | "disabled" if not (
                plan.targets and plan.targets.without_commands(step)
            ):
                phase = self._commands(plan, step, records, seconds)
            case _:
                fact = plan.targets.summary if plan.targets and step == "targets" else "done"
                phase = PhaseRun(plan.name, step, True, fact, seconds)
        loads = _loads(records)
        if loads:
            phase = replace(phase, loads=loads)
        if faults:
            phase = replace(phase, ok=False, fact="; ".join(faults))
        self.phases.append(phase)
        return phase

    def _judge_targets(self, plan: GuestPlan, step: str, records: list[GuestRecord]) -> list[str]:
        """Report what the target modules did wrong in a phase; returns the facts."""
        found = plan.targets.judge(step, records) if plan.targets else []
        if plan.targets and step == "setup":
            self.not_tried += plan.targets.not_tried
        for code, fact in found:
            self._find(code, plan.name, fact)
        return [fact for _, fact in found]

    def _commands(self, plan: GuestPlan, step: str, records: list[GuestRecord], seconds: float) -> PhaseRun:
        runs = []
        for record in records:
            command = self._command(record, step)
            if record.kind == "command" and command is not None:
                runs.append(_command_run(command, record))
        plain, when = targets.PLAIN[step], targets.describe_when(step)
        for run in runs:
            if not run.ok:
                self._find(_CODE_OF_PHASE[plain], plan.name, describe_command(run) + when, _last_words(run))
        missing = len(plan.commands.get(plain, ())) - len(runs)
        if missing > 0:
            self._find(_CODE_OF_PHASE[plain], plan.name, f"the guest did not report {missing} command(s) of {step}")
        ok = missing <= 0 and all(run.ok for run in runs)
        if plan.targets:
            plan.targets.active(step)
        return PhaseRun(plan.name, step, ok, describe_commands(runs), seconds, tuple(runs))

    def _load(self, plan: GuestPlan, step: str, records: list[GuestRecord], seconds: float) -> PhaseRun:
        phase = self._judge_load(plan, step, records, seconds)
        if plan.targets and not phase.ok:
            plan.targets.not_loaded(step)
        return phase

    def _judge_load(self, plan: GuestPlan, step: str, records: list[GuestRecord], seconds: float) -> PhaseRun:
        load = _first(records, "load")
        moved = _first(records, "transition")
        status = load.values.get("status", "") if load else ""
        if load is None or status != "0":
            said = load.values.get("out", "").strip() if load else ""
            fact = f"the module could not be loaded{targets.describe_when(step)}" + (f": {said}" if said else "")
            if status == "timeout":
                fact = "loading the module did not end in time"
            self._find("G2-load", plan.name, fact, load_remedy(fact))
            return PhaseRun(plan.name, step, False, fact, seconds)
        problem = self._transition(plan, step, moved)
        functions = tuple(moved.values.get("functions", "").replace("/\n", "\n").split()) if moved else ()
        if problem:
            return PhaseRun(plan.name, step, False, problem, seconds, functions=functions)
        assert moved is not None
        names = {name.partition(",")[0] for name in functions}
        absent = [name for name in plan.functions if name not in names]
        if moved.values.get("enabled") != "1":
            problem = "the module is loaded, but the patch is not enabled in /sys/kernel/livepatch"
        elif not functions and plan.replaces:
            problem = "the patch lists no function in /sys/kernel/livepatch"
        elif absent:
            problem = f"the patch does not list {', '.join(absent)} in /sys/kernel/livepatch"
        elif plan.atomic_replace and any(load.kept for load in _loads(records)):
            kept = [name for load in _loads(records) for name in load.kept]
            problem = f"the patch is to replace the older ones, and {', '.join(kept)} stays enabled"
        if problem:
            self._find("G4-sysfs", plan.name, problem)
            return PhaseRun(plan.name, step, False, problem, seconds, functions=functions)
        count = f"{len(functions)} function{'s' if len(functions) != 1 else ''}"
        return PhaseRun(plan.name, step, True, f"{count}, transition complete", seconds, functions=functions)

    def _transition(self, plan: GuestPlan, step: str, record: GuestRecord | None) -> str:
        """Report a transition that did not end; returns the fact, or ""."""
        if record is not None and record.values.get("done") == "1":
            return ""
        waited = record.number("took") / 100 if record else 0.0
        stalled = record.values.get("stalled", "").rstrip() if record else ""
        fact = f"the transition ({step}) did not end in {waited:.0f} s"
        if stalled:
            count, text = group_stalled(stalled)
            fact += f"; {count} stalled task{'s' if count != 1 else ''}:\n{text}"
        self._find("G3-transition", plan.name, fact)
        return fact.partition(":\n")[0]

    def _disable(self, plan: GuestPlan, step: str, records: list[GuestRecord], seconds: float) -> PhaseRun:
        problems = []
        disable = _first(records, "disable")
        if disable is None or disable.values.get("status") != "0":
            said = disable.values.get("out", "").strip() if disable else "its directory in sysfs is gone"
            problems.append(f"the patch could not be disabled: {said}")
            self._find("G6-disable", plan.name, problems[-1])
        else:
            moved = self._transition(plan, step, _first(records, "transition"))
            problems += [moved] if moved else []
        unload = _first(records, "unload")
        if unload is None or unload.values.get("status") != "0" or unload.values.get("present") != "0":
            said = unload.values.get("out", "").strip() if unload else "no report"
            problems.append(f"the module could not be removed: {said}")
            self._find("G7-unload", plan.name, problems[-1])
        fact = "; ".join(problems) or "disabled, transition complete, module unloaded"
        return PhaseRun(plan.name, step, not problems, fact, seconds)

    def _log(self, plan: GuestPlan, records: list[GuestRecord], seconds: float) -> PhaseRun:
        record = _first(records, "log")
        text = record.values.get("text", "") if record else ""
        self.kernel_log.append(text)
        lines = parse_raw(text)
        self._explain_refusal(plan, lines)
        if not any(line.user and line.text.endswith("begins") for line in lines):
            fact = "the kernel log of this run is incomplete: its beginning is gone"
            self._find("G9-log", plan.name, fact, "the patch logs too much; see the console (--keep-log)")
            return PhaseRun(plan.name, "log", False, fact, seconds, faults=tuple(find_faults(lines, plan.allow_log)))
        faults = tuple(find_faults(lines, plan.allow_log))
        self.allowed |= find_used(find_faults(lines), plan.allow_log)
        for fault in faults:
            self._find("G9-log", plan.name, f"{fault.kind}: {fault.headline}")
        problem = self._judge_taint(plan, record, bool(faults), len(find_faults(lines)) > len(faults))
        fact = "no warning, no oops"
        if faults:
            fact = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}: {faults[0].headline}"
        elif problem:
            fact = problem
        elif find_faults(lines):
            fact = "nothing but what was expected"
        return PhaseRun(plan.name, "log", not faults and not problem, fact, seconds, faults=faults)

    def _explain_refusal(self, plan: GuestPlan, lines: list[LogLine]) -> None:
        """Add the kernel's own messages to the finding for a module that could not be loaded."""
        own = [line.text.strip() for line in lines if not line.user and not EXPECTED.search(line.text)]
        words = list(dict.fromkeys(own))
        for number, finding in enumerate(self.findings):
            if finding.code in _KERNEL_SAYS and finding.place == plan.name and words:
                fact = f"{finding.fact}; the kernel says: {' | '.join(words[-_LOG_LINES:])}"
                self.findings[number] = replace(finding, fact=fact)

    def _judge_taint(self, plan: GuestPlan, record: GuestRecord | None, explained: bool, allowed: bool) -> str:
        """Report a new taint of the kernel even if its log shows no known fault."""
        taint = record.number("taint") if record else 0
        new = taint & ~self._taint
        self._taint |= taint
        names = [name for bit, name in _TAINT_FAULTS.items() if new & 1 << bit]
        if new & 1 << _TAINT_WARN and not allowed:
            names.append("warning")
        if explained or not names:
            return ""
        fact = f"the kernel is newly tainted ({', '.join(names)}), though its log shows nothing"
        self._find("G11-taint", plan.name, fact)
        return fact


def group_stalled(text: str) -> tuple[int, str]:
    """How many tasks did not change over, and each stack once below the names of all tasks that have it.

    `text` is what the guest says: a line "COMM TID" for each task, and its stack in indented lines below.
    """
    stacks: dict[tuple[str, ...], list[str]] = {}
    tasks: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(" ") and tasks:
            tasks[-1][1].append(line)
        else:
            tasks.append((line, []))
    for name, stack in tasks:
        stacks.setdefault(tuple(stack), []).append(name)
    shown = []
    for frames, names in stacks.items():
        head = names[0] if len(names) == 1 else f"{len(names)} tasks with one stack: {', '.join(names)}"
        shown.append("\n".join([head, *frames]))
    return len(tasks), "\n".join(shown)


def _loads(records: list[GuestRecord]) -> tuple[PatchLoad, ...]:
    """Each change of the live patches that the kernel had, and the load of the patch itself, from what the guest saw
    one after the other."""
    seen = [parse_patches(record.values.get("list", "")) for record in records if record.kind == "patches"]
    loads = [compare_patches(before, after) for before, after in pairwise(seen)]
    return tuple(load for load in loads if load.loaded or load.replaced)


def _first(records: list[GuestRecord], kind: str) -> GuestRecord | None:
    return next((record for record in records if record.kind == kind), None)


def _command_run(command: GuestCommand, record: GuestRecord) -> CommandRun:
    status = record.values.get("status", "")
    output = record.values.get("out", "")
    raw = output.encode("utf-8", "replace")
    return CommandRun(
        command.text,
        command.succeeds,
        int(status) if status.isdigit() else None,
        raw[:OUTPUT_LIMIT].decode("utf-8", "ignore"),
        record.number("took") / 100,
        command.check,
        len(raw) > OUTPUT_LIMIT,
    )


def _short(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    return first[:60] + ("…" if rest or len(first) > 60 else "")


def _last_words(run: CommandRun) -> str:
    lines = run.output.strip().splitlines()
    return "its last output: " + " | ".join(lines[-3:])[:300] if lines else "it printed nothing"


def describe_command(run: CommandRun) -> str:
    """What went wrong with a command, in one line."""
    what = "check" if run.check else "command"
    if run.status is None:
        return f"{what} `{_short(run.cmd)}` did not end in {run.seconds:.0f} s"
    if run.expected:
        return f"{what} `{_short(run.cmd)}` should succeed and ended with status {run.status}"
    return f"{what} `{_short(run.cmd)}` should fail and succeeded"


def describe_commands(runs: list[CommandRun]) -> str:
    """One line for a phase: how its commands ended."""
    bad = [run for run in runs if not run.ok]
    if bad:
        more = f" ({len(bad)} of {len(runs)})" if len(runs) > 1 else ""
        return describe_command(bad[0]) + more
    if not runs:
        return "no command"
    if len(runs) == 1:
        what = "check" if runs[0].check else "command"
        return f"{what} {'succeeds' if runs[0].expected else 'fails'}, as it should"
    return f"{len(runs)} commands do as they should"


def load_remedy(said: str) -> str:
    """What to do where the kernel does not load a module, by what insmod says; "" for what the rule's remedy is for."""
    if not any(words in said for words in _WANTS_SIGNATURE):
        return ""
    return (
        "this kernel takes only modules signed by a key that it trusts (module.sig_enforce, lockdown): sign it with "
        "--sign-key and --sign-cert, and enrol the certificate there; a guest trusts the distribution's keys and "
        "those that vm --trust-cert names"
    )
