# SPDX-License-Identifier: GPL-2.0-or-later
"""The test of a patch of loadable modules in the guest: its phases, and what the guest's records of them mean.

The kernel links such a patch to its target in two places: when the patch is enabled (the target is loaded already) and
when a target is loaded (klp_module_coming); the latter happens again whenever the target is reloaded. Therefore the
guest tries both orders, and reloads the target while the patch is active:

setup                the targets are loaded, with the modules they need; the patch is not tried on a target that this
                     machine can't load because it has no such device
before, trial        commands; then the targets are unloaded and loaded without a patch: does that work at all?
load, after          target first
absent-1, reload-1   target unloaded with the patch active, then the commands of `absent`; loaded again, then those
                     of `after`; and twice more
disable, disabled    the patch is unloaded, the target stays
early-load           the target is unloaded, the patch loaded
early-absent         the commands of `absent`
early-after          the target is loaded, then the commands of `after` run
early-disable, early-disabled
targets              everything is unloaded; this phase has the summary in one line

A target that can't be unloaded for reasons of its own (it has no exit function, the commands keep it in use) is no
fault of the patch: the summary says what was not tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kgbuild.guest.channel import GuestRecord

ABSENT = ("absent-1", "absent-2", "absent-3")
RELOADS = ("reload-1", "reload-2", "reload-3")
# unloaded and loaded again, three times
CYCLES = tuple(phase for pair in zip(ABSENT, RELOADS, strict=True) for phase in pair)
EARLY = ("early-load", "early-absent", "early-after", "early-disable", "early-disabled")
PHASES = (
    *("setup", "before", "trial", "load", "after", *CYCLES, "disable", "disabled"),
    *(*EARLY, "targets", "log"),
)
# phase -> the plain phase with the same commands or steps
PLAIN = {
    **{name: name for name in ("before", "load", "after", "disable", "disabled", "log")},
    **dict.fromkeys(ABSENT, "absent"),
    **dict.fromkeys(RELOADS, "after"),
    **{name: name.removeprefix("early-") for name in EARLY},
}
# insmod's messages if a driver's hardware is missing: ENODEV, ENXIO, EOPNOTSUPP, EIO (kvm_intel without VMX).
_NO_DEVICE = frozenset(
    ("no such device", "no such device or address", "operation not supported", "not supported", "input/output error")
)
_NO_SYMBOL = "unknown symbol"
_WHEN = {
    "trial": " again, though no patch is there",
    "early-load": " after the patch was used",
    "early-after": " with the patch already there",
}


def describe_when(phase: str) -> str:
    """Which repetition a finding is from, as the end of a sentence; "" for the plain phases."""
    if phase in RELOADS:
        return f" (target loaded again, {RELOADS.index(phase) + 1} of {len(RELOADS)})"
    if phase in ABSENT:
        return f" (target taken out, {ABSENT.index(phase) + 1} of {len(ABSENT)})"
    if phase == "early-absent":
        return " (patch loaded, its target never)"
    return " (patch loaded before its target)" if phase in EARLY else ""


@dataclass(frozen=True)
class NotTried:
    """A target module on which a patch was not tried, because this machine can't load the module at all."""

    patch: str
    module: str
    fact: str


@dataclass
class TargetRun:
    """The state of the test of one patch's target modules.

    patch      the patch module's name
    names      modules that it patches; `builtin` are those of them that are part of vmlinux
    fixed      modules that are loaded once because others need them
    cycled     modules that are unloaded and loaded, in load order: targets, and modules that need a target
    commands   True if the user gave commands of `after` in addition to the checks: they may leave a module in use
    absences   True if the user gave commands for the phase with the target unloaded
    """

    patch: str
    names: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    cycled: tuple[str, ...] = ()
    builtin: tuple[str, ...] = ()
    commands: bool = False
    absences: bool = False
    removable: list[str] = field(default_factory=list)
    reloads: int = 0
    absent: int = 0
    orders: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)
    without_device: dict[str, str] = field(default_factory=dict)

    def judge(self, phase: str, records: Sequence[GuestRecord]) -> list[tuple[str, str]]:
        """(code, fact) of each fault of the modules in a phase. Also determines which later phases are impossible."""
        done = [r for r in records if r.kind == "target"]
        match phase:
            case "setup":
                faults = list(self._setup(done))
            case "trial":
                faults = list(self._trial(done))
            case "early-after":
                faults = list(self._loads(phase, done, self.removable))
                if faults:
                    self.skipped.update(("early-after", "early-disabled"))
            case "early-load":
                faults = list(self._unloads(phase, done))
                if _failed(done, "unload"):
                    self.skipped.update(EARLY[1:])
            case _ if phase in ABSENT:
                faults = list(self._leave(phase, done))
            case _ if phase in RELOADS:
                faults = list(self._loads(phase, done, self.removable))
                if faults:
                    self.skipped.update((*CYCLES[CYCLES.index(phase) :], "disabled", *EARLY))
            case _:
                faults = []
        return faults

    def without_commands(self, phase: str) -> bool:
        """Whether the guest had to omit the commands of this phase."""
        return phase in self.skipped

    def without_load(self, phase: str) -> bool:
        """Whether the guest did not get to loading the patch in this phase."""
        return phase == "early-load" and EARLY[-1] in self.skipped

    def not_loaded(self, phase: str) -> None:
        """Whether the patch could not be loaded, or did not become active, in this phase."""
        at = PHASES.index(phase)
        self.skipped.update(PHASES[at + 1 : -2])

    def active(self, phase: str) -> None:
        """Record that the commands of a phase ran with the patch active, successfully or not."""
        if PLAIN[phase] == "absent":
            self.absent += 1
        elif phase in RELOADS:
            self.reloads += 1
        elif phase in ("after", "early-after"):
            self.orders.add(phase)

    @property
    def summary(self) -> str:
        """One line: which modules, what was tried, what was not and why."""
        said = []
        if self.cycled:
            both = len(self.orders) == 2
            only = "loaded before the patch only" if self.orders == {"after"} else "not loaded with the patch"
            said.append("both orders" if both else only)
            if self.reloads:
                said.append(f"reloaded {self.reloads} time{'s' if self.reloads != 1 else ''}")
        if self.absences and self.cycled:
            said.append(
                f"absent {self.absent} time{'s' if self.absent != 1 else ''}" if self.absent else "never absent"
            )
        if self.builtin:
            said.append(f"{', '.join(self.builtin)} built into this kernel")
        said += [f"{one.module} not tried ({one.fact})" for one in self.not_tried]
        notes = f" ({'; '.join(dict.fromkeys(self.notes))})" if self.notes else ""
        tried = ", ".join(name for name in self.names if name not in self.without_device)
        return f"{tried}{'  ' if tried else ''}{', '.join(said)}{notes}"

    # What the modules did

    def _loads(self, phase: str, done: list[GuestRecord], wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
        for name in wanted:
            record = _of(done, "load", name)
            if record is not None and record.values.get("status") == "0":
                continue
            what = f"{name} could not be loaded{_WHEN.get(phase, ' again with the patch active')}"
            yield "G12-target", what + _said(record)
            return

    def _setup(self, done: list[GuestRecord]) -> Iterator[tuple[str, str]]:
        """Judge the loading of the modules without the patch. The test continues without modules that can't be loaded,
        unless no target is left."""
        failed = set()
        for name in (*self.fixed, *self.cycled):
            record = _of(done, "load", name)
            if record is not None and record.values.get("status") == "0":
                continue
            failed.add(name)
            said = record.values.get("out", "").strip() if record is not None else ""
            if said.rpartition(": ")[2].lower() in _NO_DEVICE:
                self.without_device[name] = said.rpartition(": ")[2]
            elif self.without_device and _NO_SYMBOL in said.lower():
                first, fact = next(iter(self.without_device.items()))
                self.without_device[name] = f"{first}, which it needs: {fact}"
            else:
                yield "G12-target", f"{name} could not be loaded{_said(record)}"
        remaining = tuple(name for name in self.cycled if name not in failed)
        if self.cycled and not {*remaining, *self.builtin} & set(self.names):
            self.skipped.update(PHASES[1:-2])
        self.cycled = remaining

    @property
    def not_tried(self) -> list[NotTried]:
        """The targets that this machine can't load."""
        return [
            NotTried(self.patch, name, self.without_device[name]) for name in self.names if name in self.without_device
        ]

    def _trial(self, done: list[GuestRecord]) -> Iterator[tuple[str, str]]:
        for name in self.cycled:
            record = _of(done, "unload", name)
            if record is None:
                yield "G12-target", f"the guest did not report whether {name} can be unloaded"
            elif record.values.get("status") == "0":
                self.removable.append(name)
            else:
                self.notes.append(f"{name} can't be unloaded{_used(record)}, also without the patch")
        faults = list(self._loads("trial", done, self.removable))
        if faults:
            self.skipped.update(PHASES[PHASES.index("load") : -2])
        if not self.removable:
            self.skipped.update((*CYCLES, *EARLY))
        yield from faults

    def _leave(self, phase: str, done: list[GuestRecord]) -> Iterator[tuple[str, str]]:
        """Judge the unloading of the targets. If one can't be unloaded, the guest loads the others again and
        continues."""
        yield from self._unloads(phase, done)
        if not _failed(done, "unload"):
            return
        self.skipped.update(CYCLES[CYCLES.index(phase) :])
        removed = [
            name
            for name in self.removable
            if (record := _of(done, "unload", name)) and record.values.get("status") == "0"
        ]
        faults = list(self._loads(phase, done, removed))
        if faults:
            self.skipped.update(("disabled", *EARLY))
        yield from faults

    def _unloads(self, phase: str, done: list[GuestRecord]) -> Iterator[tuple[str, str]]:
        for name in self.removable:
            record = _of(done, "unload", name)
            if record is not None and record.values.get("status") == "0":
                continue
            fact = f"{name} can't be unloaded{_WHEN.get(phase, ' while the patch is active')}"
            if record is None:
                yield "G13-reload", f"the guest did not report whether {name} was unloaded"
            elif self.commands and self.patch not in record.values.get("holders", "").split(","):
                self.notes.append(f"{name} is left in use by the commands{_used(record)}")
            else:
                yield "G13-reload", f"{fact}{_used(record)}; without the patch it can"


def _of(records: list[GuestRecord], action: str, name: str) -> GuestRecord | None:
    """The last record about one module."""
    found = [r for r in records if r.values.get("action") == action and r.values.get("name") == name]
    return found[-1] if found else None


def _failed(records: list[GuestRecord], action: str) -> bool:
    return any(r.values.get("action") == action and r.values.get("status") != "0" for r in records)


def _said(record: GuestRecord | None) -> str:
    if record is None:
        return ": the guest did not report it"
    if record.values.get("status") == "timeout":
        return ": it did not end in time"
    text = record.values.get("out", "").strip()
    return f": {text}" if text else ""


def _used(record: GuestRecord) -> str:
    """Why a module could not be unloaded, as far as sysfs tells."""
    holders = [name for name in record.values.get("holders", "").split(",") if name]
    if holders:
        return f" (used by {', '.join(holders)})"
    if record.number("refs") > 0:
        return f" (in use, {record.number('refs')} references)"
    said = record.values.get("out", "").strip().rpartition(": ")[2]
    return f" ({said})" if said else ""
