# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel with live patching as far as a shell sees it: files in place of /sys and /proc, and programs in place of
insmod and rmmod. A thread does what the kernel does when they are written to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from kgbuild.elf.consts import SHF, SHT
from kgbuild.elf.write import OutObject, OutSection, write
from kgbuild.verification.reading.reader import read_module
from kgbuild.verification.reading.statements import modinfo, note_of

SCRIPT = Path(str(resources.files("kgbuild").joinpath("data/delivery/livepatch")))
RELEASE = "6.1.0-test"
BUILD_ID = bytes(range(20))
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"]}
_REQUEST = """\
#!/bin/sh
request=$(mktemp -d "$LIVEPATCH_ROOT/requests/new.XXXXXX") || exit 9
case $1 in
*.ko) cd "$(dirname -- "$1")" && printf '%s/%s' "$PWD" "$(basename -- "$1")" ;;
*) printf '%s' "$1" ;;
esac >"$request/argument"
echo WHAT >"$request/what.new"
mv "$request/what.new" "$request/what"
while [ ! -e "$request/done" ]; do sleep 0.01; done
cat "$request/said" >&2
exit "$(cat "$request/done")"
"""


def module_bytes(name: str, functions: Sequence[str] = ("vmlinux/old,1",), **note: Any) -> bytes:
    """A live patch module as far as it says who it is: name, kernel, functions as sysfs writes them."""
    rows = []
    for function in functions:
        place, _, position = function.rpartition(",")
        target, _, what = place.partition("/")
        rows.append({"digest": "0" * 64, "name": what, "object": target, "sympos": int(position)})
    text = {
        "build_ids": {"vmlinux": BUILD_ID.hex()},
        "functions": rows,
        "kernel": {"compiler": "gcc", "name": f"debian:{RELEASE}", "version": "6.1-1"},
        "patches": [{"name": "fix.patch", "sha256": "0" * 64}],
        "replace": True,
        "schema": 2,
        **note,
    }
    said = json.dumps(text, separators=(",", ":"), sort_keys=True).encode()
    data = len("kgbuild\0").to_bytes(4, "little") + len(said).to_bytes(4, "little") + bytes([1, 0, 0, 0])
    info = f"name={name}\0vermagic={RELEASE} SMP mod_unload \0livepatch=Y\0".encode()
    out = OutObject(62)
    padded = data + b"kgbuild\0" + said + bytes(-len(said) % 4)
    out.sections += [
        OutSection(".modinfo", SHT.PROGBITS, SHF.ALLOC, bytearray(info)),
        OutSection(".note.kgbuild", SHT.NOTE, SHF.ALLOC, bytearray(padded), align=4),
    ]
    return write(out)


@dataclass
class LiveKernel:
    """`slow` patches stay in transition until they are told otherwise; `stuck` ones can't be taken back either."""

    root: Path
    slow: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    refuses: str = ""
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in ("requests", "programs", "sys/kernel/livepatch", "sys/module", "proc/self", "proc/sys/kernel"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "proc/sys/kernel/random").mkdir()
        self.write("proc/sys/kernel/random/boot_id", "boot-1\n")
        self.write("proc/sys/kernel/tainted", "36864\n")
        self.write("proc/cmdline", "root=/dev/vda quiet\n")
        notes = b"".join(
            len(owner).to_bytes(4, "little")
            + len(text).to_bytes(4, "little")
            + kind.to_bytes(4, "little")
            + owner
            + text
            for owner, kind, text in (
                (b"Xen\0", 6, b"linux\0\0\0"),
                (b"GNU\0", 3, BUILD_ID),
                (b"Linux\0\0\0", 257, b"1234"),
            )
        )
        (self.root / "sys/kernel/notes").write_bytes(notes)
        for program in ("insmod", "rmmod"):
            self.program(program, _REQUEST.replace("WHAT", program))
        self.program("uname", f"#!/bin/sh\necho {RELEASE}\n")
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def program(self, name: str, text: str) -> None:
        path = self.root / "programs" / name
        path.write_text(text)
        path.chmod(0o755)

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.new")
        new.write_text(text)
        new.rename(place)

    def read(self, path: str) -> str:
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return ""

    @property
    def patches(self) -> dict[str, str]:
        """Name -> enabled and transition of each patch that the kernel knows."""
        folder = self.root / "sys/kernel/livepatch"
        if not folder.is_dir():
            return {}
        return {
            d.name: self.read(f"sys/kernel/livepatch/{d.name}/enabled")
            + self.read(f"sys/kernel/livepatch/{d.name}/transition")
            for d in sorted(folder.iterdir())
        }

    @property
    def modules(self) -> list[str]:
        return sorted(d.name for d in (self.root / "sys/module").iterdir() if (d / "notes").exists())

    def task(self, number: int, name: str, state: int, stack: str) -> None:
        self.write(f"proc/{number}/task/{number}/patch_state", f"{state}\n")
        self.write(f"proc/{number}/task/{number}/comm", f"{name}\n")
        self.write(f"proc/{number}/task/{number}/stack", stack)

    def end(self) -> None:
        self._ends.set()
        self._thread.join()

    def argv(self, shell: str, *words: str | Path) -> list[str]:
        return [*SHELLS[shell], str(SCRIPT), *map(str, words)]

    @property
    def env(self) -> dict[str, str]:
        path = f"{self.root / 'programs'}:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "LIVEPATCH_ROOT": str(self.root)}

    def run(self, shell: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """`livepatch` with these words."""
        return subprocess.run(
            self.argv(shell, *words), env=self.env, capture_output=True, text=True, check=False, timeout=120
        )

    # -- what the kernel does

    def _work(self) -> None:
        asked = self.root / "requests"
        while not self._ends.is_set():
            for request in sorted(asked.iterdir()):
                if (request / "what").exists() and not (request / "done").exists():
                    what, argument = (request / "what").read_text().strip(), (request / "argument").read_text()
                    self.log.append(f"{what} {Path(argument).name}")
                    status, said = self._insmod(Path(argument)) if what == "insmod" else self._rmmod(argument)
                    (request / "said").write_text(said)
                    (request / "done.new").write_text(str(status))
                    (request / "done.new").rename(request / "done")
            for name in list(self.patches):
                self._step(name)
            time.sleep(0.005)

    def _insmod(self, path: Path) -> tuple[int, str]:
        module = read_module(path.read_bytes(), path.name, 62)
        name = modinfo(module)["name"][0]
        if self.refuses or (self.root / "sys/module" / name).exists():
            return 1, f"insmod: ERROR: could not insert module {path}: {self.refuses or 'File exists'}\n"
        section, note = module.section(".note.kgbuild"), note_of(module)
        assert section is not None and note is not None
        place = self.root / "sys/module" / name / "notes"
        place.mkdir(parents=True)
        (place / ".note.kgbuild").write_bytes(section.data)
        self.write(f"sys/module/{name}/refcnt", "1\n")
        self.write(f"sys/module/{name}/taint", "OEK\n")
        hidden = self.root / "making"
        for row in note["functions"]:
            (hidden / row["object"] / f"{row['name']},{row['sympos'] or 1}").mkdir(parents=True)
        (hidden / "enabled").write_text("1\n")
        (hidden / "transition").write_text("1\n")
        (hidden / "seen").write_text("1")
        hidden.rename(self.root / "sys/kernel/livepatch" / name)
        return 0, ""

    def _rmmod(self, name: str) -> tuple[int, str]:
        place = self.root / "sys/module" / name
        if not place.exists() or (self.root / "sys/kernel/livepatch" / name).exists():
            return 1, f"rmmod: ERROR: Module {name} is in use\n"
        shutil.rmtree(place)
        return 0, ""

    def _step(self, name: str) -> None:
        place = self.root / "sys/kernel/livepatch" / name
        enabled = self.read(f"sys/kernel/livepatch/{name}/enabled")
        if enabled not in ("0", "1"):
            return
        if enabled != (place / "seen").read_text():
            (place / "seen").write_text(enabled)
            self.log.append(f"{'enable' if enabled == '1' else 'disable'} {name}")
            if name in self.slow and enabled == "0" and self.read(f"sys/kernel/livepatch/{name}/transition") == "1":
                self.slow.discard(name)  # reversed
            (place / "transition").write_text("1\n")
            return
        if self.read(f"sys/kernel/livepatch/{name}/transition") != "1" or name in self.slow | self.stuck:
            return
        if enabled == "0":
            self._forget(name)
            return
        note = json.loads((self.root / "sys/module" / name / "notes/.note.kgbuild").read_bytes()[20:].rstrip(b"\0"))
        (place / "transition").write_text("0\n")
        for other in self.patches if note["replace"] else ():
            if other != name:
                self._forget(other)

    def _forget(self, name: str) -> None:
        gone = self.root / f"gone.{time.monotonic_ns()}"
        (self.root / "sys/kernel/livepatch" / name).rename(gone)
        shutil.rmtree(gone)
        self.write(f"sys/module/{name}/refcnt", "0\n")
        self.log.append(f"gone {name}")


def clean_environment() -> dict[str, str]:
    """The environment without what would lead a script elsewhere."""
    return {k: v for k, v in os.environ.items() if not k.startswith("LIVEPATCH")}
