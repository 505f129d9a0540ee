# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of the real kernel, held against what other programs say: nm, objdump, the text of the symbol table."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.callgraph.unit_lookup import Placed, assign_units
from kgbuild.host.index.queries import Index
from kgbuild.host.index.store import load_index
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import kgbuild

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schema"
# jcc and jmp with a target, and calls; loops and jrcxz have no 32-bit form and stay inside
BRANCH = re.compile(r"^ *([0-9a-f]+):\s+(?:bnd |notrack |cs |ds )*(call|j[a-z]+)\s+([0-9a-f]+) <")
INSTRUMENTATION = ("__fentry__", "__x86_return_thunk")


@pytest.fixture(scope="module")
def index(kernel: Kernel) -> Index:
    return load_index(kernel, SilentProgress())


@pytest.fixture(scope="module")
def nm(kernel: Kernel) -> list[tuple[int, str, str]]:
    """(address, type letter, name) of vmlinux's symbols, by nm."""
    text = subprocess.run(["nm", str(kernel.vmlinux)], capture_output=True, text=True, check=True).stdout
    rows = (line.split(" ", 2) for line in text.splitlines() if line[0] != " ")
    return [(int(address, 16), letter, name) for address, letter, name in rows]


def names_of(index: Index) -> set[tuple[int, str]]:
    return {(f.address, name.name) for f in index.functions() if f.in_vmlinux for name in index.aliases(f.id)}


def test_clones_are_those_of_nm(index: Index, nm: list[tuple[int, str, str]]) -> None:
    ours = names_of(index)
    for suffix in ("isra", "constprop", "part", "cold"):
        pattern = re.compile(rf"\.{suffix}\b")
        expected = {(a, n) for a, letter, n in nm if letter in "tT" and pattern.search(n)}
        assert {row for row in ours if pattern.search(row[1])} == expected
        assert len(expected) > 100


def test_positions_are_ranks_by_address(index: Index, nm: list[tuple[int, str, str]]) -> None:
    places: dict[str, set[int]] = {}
    for address, letter, name in nm:
        if letter != "a":
            places.setdefault(name, set()).add(address)
    checked = 0
    code = {name for _, letter, name in nm if letter in "tTwW"}
    for name in sorted(n for n in code if len(places[n]) > 1 and "." not in n[:1]):
        for function in index.functions_named(name):
            if not function.in_vmlinux:
                continue
            (symbol,) = [s for s in index.aliases(function.id) if s.name == name][:1]
            assert symbol.sympos == sorted(places[name]).index(function.address) + 1, name
            checked += 1
    assert checked > 100


def test_folded_on_this_kernel(index: Index, nm: list[tuple[int, str, str]]) -> None:
    pairs = [
        ("ct_kernel_exit_state", "ct_kernel_enter_state"),
        ("do_epoll_pwait.part.0", "do_compat_epoll_pwait.part.0"),
    ]
    at = {name: address for address, _, name in nm}
    folded = [pair for pair in pairs if at.get(pair[0]) == at.get(pair[1], -1)]
    for a, b in folded:
        (function,) = index.functions_named(a)
        assert {a, b} <= {s.name for s in index.aliases(function.id)}
        assert function in index.functions_named(b)
    assert folded, "none of the pairs is folded on this kernel: name others"


def test_branches_of_a_sample_are_those_of_objdump(index: Index, kernel: Kernel) -> None:
    functions = [f for f in index.functions() if f.in_vmlinux and f.size > 32 and f.section in (".text", ".init.text")]
    starts = {f.address: f for f in index.functions() if f.in_vmlinux}
    compared = 0
    for function in random.Random(5).sample(functions, 150):
        dump = subprocess.run(
            [
                "objdump",
                "-d",
                "--no-show-raw-insn",
                f"--start-address={function.address:#x}",
                f"--stop-address={function.address + function.size:#x}",
                str(kernel.vmlinux),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        expected = set()
        for line in dump.splitlines():
            match = BRANCH.match(line)
            if match is None:
                continue
            target = int(match[3], 16)
            inside = function.address <= target < function.address + function.size
            callee = index.function_at("vmlinux", target)
            if callee is None or callee.name in INSTRUMENTATION or (inside and match[2] != "call"):
                continue
            # a prefix comes before the opcode
            prefixes = line.count(" cs ") + line.count("\tcs ")
            expected.add((int(match[1], 16) + prefixes - function.address, callee.id, target - callee.address))
        found = {
            (e.offset, e.callee, e.delta)
            for e in index.callees(function.id)
            if e.kind not in (EdgeKind.ADDRESS_TAKEN, EdgeKind.ALTERNATIVE, EdgeKind.JUMP_TABLE)
        }
        assert found == expected, function.name
        compared += len(expected)
    assert compared > 300 and starts


def test_calls_of_a_module_into_others(index: Index) -> None:
    sendmsg = index.choose("pfkey_sendmsg@af_key")
    assert any(t.name == "pfkey_ops" and t.users for t in index.address_takers(sendmsg.id))
    callees = {index.function(e.callee).object for e in index.callees(index.choose("xfs_init_fs_context@xfs").id)}
    assert callees <= {"vmlinux", "xfs"} and "vmlinux" in callees
    crossing = index.callers(index.choose("nfs4_find_get_deviceid@nfsv4").id)
    assert {index.function(e.caller).object for e in crossing} - {"nfsv4"}, "an export of a module has outside callers"


def test_initcalls_and_operations_hold_addresses(index: Index) -> None:
    (function,) = index.functions_named("proc_version_init")
    (taker,) = index.address_takers(function.id)
    assert taker.initcall and function.init
    (show,) = index.functions_named("version_proc_show")
    edges = index.callers(show.id)
    assert [(index.function(e.caller).name, e.kind) for e in edges] == [("proc_version_init", EdgeKind.ADDRESS_TAKEN)]


def test_units_are_those_of_the_build(index: Index, kernel: Kernel) -> None:
    for name, unit in (("copy_process", "kernel/fork.c"), ("tcp_ack", "net/ipv4/tcp_input.c")):
        assert index.unit_of(index.choose(name).id) == unit
        assert (kernel.source / unit).is_file()


def test_facts_of_a_folded_function(kernel_name: str) -> None:
    ran = kgbuild("facts", "ct_kernel_exit_state", "--kernel", kernel_name, "--format", "json")
    assert ran.status == 0, ran.stderr
    facts = json.loads(ran.stdout)
    jsonschema.validate(facts, json.loads((SCHEMA / "facts-1.json").read_text()))
    assert facts["shared"]["folded"] is True and not facts["traceable"]
    assert "ct_kernel_enter_state" in facts["shared"]["names"]


def test_inlining_is_in_the_facts(kernel_name: str) -> None:
    # its head is inlined into the system calls, its tail is a function (fs/eventpoll.c)
    ran = kgbuild("facts", "do_epoll_pwait.part.0", "--kernel", kernel_name)
    assert ran.status == 0, ran.stderr
    assert re.search(r"^inlined +into __x64_sys_epoll_pwait, line \d+$", ran.stdout, re.MULTILINE), ran.stdout
    # no body of its own at all (kernel/fork.c)
    ran = kgbuild("facts", "unshare_fd@kernel/fork.c", "--kernel", kernel_name)
    assert ran.status == 0 and "no body of its own" in ran.stdout, ran.stderr
    assert re.search(r"^inlined +into unshare_files@kernel/fork.c, line \d+$", ran.stdout, re.MULTILINE), ran.stdout
    ran = kgbuild("facts", "tcp_clean_rtx_queue", "--kernel", kernel_name, "--format", "json")
    facts = json.loads(ran.stdout)
    jsonschema.validate(facts, json.loads((SCHEMA / "facts-1.json").read_text()))
    assert [one["name"] for one in facts["inlined"]] == ["tcp_ack@net/ipv4/tcp_input.c"]
    assert facts["unit"] == "net/ipv4/tcp_input.c" and not facts["traceable"]


def test_callers_of_what_is_inlined_everywhere(kernel_name: str) -> None:
    words = ("graph", "--kernel", kernel_name, "--callers", "do_compat_epoll_pwait", "--depth", "2")
    ran = kgbuild(*words, "--format", "json")
    graph = json.loads(ran.stdout)
    jsonschema.validate(graph, json.loads((SCHEMA / "graph-1.json").read_text()))
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    first = {names[e["caller"]] for e in graph["edges"] if e["kind"] == "inlined"}
    assert first == {"__ia32_compat_sys_epoll_pwait", "__ia32_compat_sys_epoll_pwait2"}
    assert "ia32_sys_call" in names.values()


def test_bounded_output_and_json(kernel_name: str) -> None:
    ran = kgbuild("graph", "--kernel", kernel_name, "--callers", "__stack_chk_fail", "--limit", "50", "--no-color")
    assert ran.status == 0
    assert len(ran.stdout.splitlines()) == 52 and "more: --limit 0 shows all" in ran.stdout
    ran = kgbuild("graph", "--kernel", kernel_name, "--callers", "copy_process", "--depth", "3", "--format", "json")
    graph = json.loads(ran.stdout)
    jsonschema.validate(graph, json.loads((SCHEMA / "graph-1.json").read_text()))
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    assert {"kernel_clone", "fork_idle", "create_io_thread"} <= set(names.values())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("facts", "tcp_akc"), "nearest: tcp_ack"),
        (("facts", "c_start"), "c_start,2"),
        (("graph", "--callers", "no_such_function_at_all"), "no function of that name"),
        (("graph",), "one of --callers NAME, --callees NAME and --reach NAME"),
        (("graph", "--callees", "tcp_clean_rtx_queue"), "inlined into tcp_ack (net/ipv4/tcp_input.c)"),
        (("facts", "init_module"), "more)"),
        (("graph", "--callees", "tcp_ack@net/ipv4/udp.c"), "net/ipv4/tcp_input.c"),
    ],
)
def test_bad_names(kernel_name: str, words: tuple[str, ...], text: str) -> None:
    ran = kgbuild(*words, "--kernel", kernel_name)
    assert ran.status == 2 and text in ran.stderr and not ran.stdout


def test_units_told_by_text_and_order(index: Index, kernel: Kernel) -> None:
    """What is said of modules, held against debugging information, which vmlinux has: directories as if they were
    modules."""
    for folder in ("fs/ext4", "net/ipv4", "drivers/base"):
        functions = [
            f for f in index.functions() if f.in_vmlinux and f.unit.rpartition("/")[0] == folder and not f.init
        ]
        texts = {unit: (kernel.source / unit).read_bytes() for unit in {f.unit for f in functions}}
        placed = [
            Placed(f.id, f.section, f.address, frozenset(n.family or n.name for n in index.aliases(f.id)))
            for f in functions
        ]
        found = assign_units(placed, texts)
        assert len(texts) > 20 and len(found) > 0.7 * len(functions)
        assert [f.name for f in functions if f.id in found and found[f.id][0] != f.unit] == []


def test_units_of_modules(index: Index) -> None:
    """A module of several units: each function that has a place in a source gets one of them."""
    for module, least in (("xfs", 2000), ("sunrpc", 1000), ("btrfs", 2300)):
        functions = [f for f in index.functions() if f.object == module]
        assert functions
        units = {f.id: index.unit_of(f.id) for f in functions}
        assert sum(map(bool, units.values())) > least
        assert set(units.values()) - {""} <= set(index.candidate_units(functions[0].id))


def test_a_function_with_very_many_callers_is_cut(kernel_name: str) -> None:
    """Tens of thousands call it; what is shown is bounded and says so, in every form and at two steps."""
    for words in ((), ("--depth", "2"), ("--format", "json")):
        ran = kgbuild("graph", "--callers", "__stack_chk_fail", *words, "--kernel", kernel_name)
        assert ran.status == 0 and len(ran.stdout) < 400_000
        assert ("more: --limit 0 shows all" in ran.stdout) if "json" not in words else ("not complete" in ran.stderr)
    ran = kgbuild("facts", "__stack_chk_fail", "--kernel", kernel_name)
    assert ran.status == 0 and "more of 2" in ran.stdout and len(ran.stdout.splitlines()) < 60
