# SPDX-License-Identifier: GPL-2.0-or-later
"""From a pair and a kernel in small to a module: what is bound, carried, redirected and refused, and whether the
module's code means, instruction by instruction, what the patched object's code meant."""

from __future__ import annotations

import io
import types
from collections import defaultdict
from dataclasses import FrozenInstanceError, replace

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.arch import arch_of
from kgbuild.closure.binding import World
from kgbuild.closure.builder import ClosureBuilder
from kgbuild.closure.close import close
from kgbuild.closure.model import PR_DEBUG, TRACEPOINT, Closure, DroppedKey
from kgbuild.closure.passes.follow import follow_members
from kgbuild.closure.passes.seeds import add_seeds
from kgbuild.elf.read import read
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.backends.kallsyms import check_deferred
from kgbuild.emit.extract import extract
from kgbuild.emit.klp_relocations import inject
from kgbuild.emit.patch_tables import Identity
from kgbuild.kernel.exports import Export
from kgbuild.proof.parity import EXACT
from tests.support.compare import Disassembly
from tests.support.kernel import EXPORTS, Patched, check_module, close_pair, close_text, make_module
from tests.support.pair_cases import CASES

# What each pair that is refused is refused for, beyond what the differ says (test_diff.py).
REFUSED = {
    "absolute": "K11-reloc:first",
    "address_taken_gone": "K14-vanished:callback",
    "branch_width": "K4-not-traceable:second",
    "init_reference": "K6-init-memory:first",
    "notrace_change": "K4-not-traceable:quiet",
    "shared_section": "K4-not-traceable:first K4-not-traceable:second",
    "static_local_moved": "K13-ambiguous:second",
    "static_locals_declared": "K13-ambiguous:first",
    "unknown_table": "K2-special:first",
}
BUILDS = [c for c in CASES if c.name not in REFUSED and not c.refused]


def refused(p: Patched) -> str:
    return " ".join(p.refused)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in REFUSED], ids=lambda c: c.name)
def test_refused_pair(case) -> None:
    p = close_pair(case.name, case.flags)
    mine = {f"{r.code}:{r.symbol}" for r in p.closure.refusals} - {
        f"{r.code}:{r.symbol}" for u in p.closure.units for r in u.changes.refusals
    }
    assert " ".join(sorted(mine)) == REFUSED[case.name]


@pytest.mark.parametrize("case", BUILDS, ids=lambda c: c.name)
def test_code_of_the_module_means_what_the_patched_code_meant(case) -> None:
    p = close_pair(case.name, case.flags)
    assert not p.closure.refusals
    linked, module = make_module(p.closure)
    patched = Disassembly(p.patched)
    for data in (linked, module):
        output = Disassembly(data)
        for member in p.closure.members.values():
            if member.atom.kind == "function":
                assert output.function(member.atom.name) == patched.function(member.atom.name), member.atom.name
    check_module(p, module)


def module_symbol_positions(data: bytes) -> dict[str, int]:
    elf = ELFFile(io.BytesIO(data))
    out = {}
    for s in elf.get_section_by_name(".symtab").iter_symbols():
        if s["st_shndx"] == 0xFF20:
            name, _, position = s.name.removeprefix(".klp.sym.vmlinux.").rpartition(",")
            out[name] = int(position)
    return out


# -- what is bound ---------------------------------------------------------------------------------------------------


def test_roles_and_bindings() -> None:
    p = close_text(
        """
        static int state;
        static noinline int kept(int x) { return source(x) * 3 + state++; }
        noinline int other(int x) { return kept(x) + 1; }
        #ifdef PATCHED
        static int fresh = 7;
        static noinline int added(int x) { return kept(x) + fresh++; }
        int first(int x) { sink(&state); return added(x) + printk("new %d\\n", x); }
        #else
        int first(int x) { sink(&state); return kept(x) + printk("old %d\\n", x); }
        #endif
        """
    )
    assert not p.closure.refusals
    assert (p.roles("changed"), p.roles("new"), p.roles("carried")) == (["first"], ["added"], [])
    exports, late = {"__fentry__", "printk"}, {"sink", "state", "kept"}
    assert p.bound == dict.fromkeys(exports, "export") | dict.fromkeys(late, "klp")
    assert "fresh" in p.roles("data")
    _, module = make_module(p.closure)
    assert module_symbol_positions(module) == {
        "sink": 0,
        "state": 0,
        "kept": 0,
        "__start_notes": 0,
        "__stop_notes": 0,
    }


TWIN = "static noinline int twin(int x) { return source(x) * %d; } int user_%d(int x) { return twin(x) + %d; }"


def test_position_of_a_duplicate() -> None:
    text = """
    static noinline int twin(int x) { return source(x) * 3; }
    #ifdef PATCHED
    int user(int x) { return twin(x) + 22; }
    #else
    int user(int x) { return twin(x) + 21; }
    #endif
    """
    p = close_text(text, beside=[TWIN % (5, 5, 5), TWIN % (3, 3, 3)])
    assert not p.closure.refusals
    _, module = make_module(p.closure)
    assert module_symbol_positions(module)["twin"] == 1
    assert p.roles("carried") == []


def test_redirected_duplicate_has_its_position() -> None:
    text = """
    #ifdef PATCHED
    static noinline int twin(int x) { return source(x) * 4; }
    #else
    static noinline int twin(int x) { return source(x) * 3; }
    #endif
    int user(int x) { return twin(x) + 1; }
    """
    before = "static noinline int twin(int x) { return source(x) * 9; } int early(int x) { return twin(x) + 1; }"
    p = close_text(text, beside=[before])
    assert [(r.name, r.sympos) for r in p.closure.redirects] == [("twin", 1)]
    data = make_module(p.closure)[1]
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".rodata.kgbuild_funcs").data()
    assert int.from_bytes(table[24:32], "little") == 1
    assert table[32:] == bytes(32)


def test_ambiguous_duplicate_that_changes_is_refused() -> None:
    text = """
    #ifdef PATCHED
    static used noinline int twin(int x) { return source(x) * 4; }
    #else
    static used noinline int twin(int x) { return source(x) * 3; }
    #endif
    """
    p = close_text(text, beside=["static used noinline int twin(int x) { return source(x) * 3; }"])
    assert refused(p) == "K13-ambiguous:twin"


def test_unproven_callee_is_carried_but_not_its_address() -> None:
    text = """
    static used noinline int twin(int x) { return source(x) * 3; }
    #ifdef PATCHED
    int user(int x) { return source(x) + %s; }
    #else
    int user(int x) { return source(x); }
    #endif
    """
    twin = ["static used noinline int twin(int x) { return source(x) * 3; }"]
    p = close_text(text % "twin(x)", beside=twin)
    assert not p.closure.refusals
    assert p.roles("carried") == ["twin"]
    patched, output = Disassembly(p.patched), Disassembly(make_module(p.closure)[1])
    for name in ("twin", "user"):
        assert output.function(name) == patched.function(name)
    for how in ("(sink(twin), 1)", "(twin(x), sink(twin), 1)", "(sink(twin), twin(x))"):
        p = close_text(text % how, beside=twin)
        assert refused(p) == "K13-ambiguous:user", how


def test_pointer_binds_to_the_kernel_and_calls_to_the_module() -> None:
    p = close_pair("own_address")
    _, module = make_module(p.closure)
    output = Disassembly(module)
    elf = ELFFile(io.BytesIO(module))
    index = next(s["st_shndx"] for s in output.symbols if s.name == "first")
    assert elf.get_section(index).name == ".text.first"
    kinds = {}
    for kind, sym, _ in output.relocs[index].values():
        kinds.setdefault(kind, set()).add(output.symbols[sym].name)
    assert {n for n in kinds[11] if n} == {".klp.sym.vmlinux.first,0", ".klp.sym.vmlinux.second,0"}
    assert kinds[2] == {"second"}


def test_pointer_in_new_data_binds_to_the_kernel() -> None:
    p = close_text(
        """
        struct ops { int (*get)(int); };
        #ifdef PATCHED
        int get(int x) { return source(x) + 2; }
        static struct ops fresh = { get };
        int user(int x) { sink(&fresh); return source(x); }
        #else
        int get(int x) { return source(x) + 1; }
        int user(int x) { return source(x); }
        #endif
        """
    )
    assert not p.closure.refusals
    assert [b.how for b in p.closure.bound.values() if b.name == "get"] == ["klp"]
    output = Disassembly(make_module(p.closure)[1])
    data = next(s for s in output.symbols if s.name == "fresh")
    kind, sym, addend = output.relocs[data["st_shndx"]][0]
    assert (kind, output.symbols[sym].name, addend) == (1, ".klp.sym.vmlinux.get,0", 0)


def test_export_of_a_module_is_refused() -> None:
    exports = {**EXPORTS, "outside": Export("outside", 0, "drivers/net/thing", "EXPORT_SYMBOL", "")}
    p = close_text(
        """
        extern int outside(int);
        #ifdef PATCHED
        int user(int x) { return outside(x) + 1; }
        #else
        int user(int x) { return source(x) + 1; }
        #endif
        """
    )
    assert refused(p) == "K5-symbol:user"
    again = close(p.closure.units, p.image, exports)
    assert ["export of the module" in r.fact for r in again.refusals] == [True]


def test_exports_for_modules_of_certain_names_are_livepatch_symbols() -> None:
    exports = {**EXPORTS, "printk": Export("printk", 0, "vmlinux", "EXPORT_SYMBOL", "module:kvm,kvm-intel")}
    p = close_pair("string_changed", exports=exports)
    assert not p.closure.namespaces
    assert p.bound["printk"] == "klp"


def test_namespace_is_imported() -> None:
    exports = {**EXPORTS, "printk": Export("printk", 0, "vmlinux", "EXPORT_SYMBOL", "SECRETS")}
    p = close_pair("string_changed", exports=exports)
    _, module = make_module(p.closure)
    assert b"import_ns=SECRETS\0" in ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo").data()


def test_new_global_variable_another_unit_uses() -> None:
    user = close_text(
        """
        extern int shared_new, shared_other;
        #ifdef PATCHED
        int user(int x) { return source(x) + shared_new + fresh(x); }
        #else
        int user(int x) { return source(x); }
        #endif
        """.replace("extern int", "extern int fresh(int); extern int")
    )
    owner = close_text(
        """
        int plain(int x) { return source(x) - 1; }
        #ifdef PATCHED
        int shared_new = 5;
        int fresh(int x) { return source(x) + 9; }
        #endif
        """
    )
    assert refused(user) == "K5-symbol:user"
    # this kernel has one of the two only; that is not what is tested
    units = (*user.closure.units, *owner.closure.units)
    both = close(units, user.image, EXPORTS)
    both = replace(both, refusals=tuple(r for r in both.refusals if r.code != "Y1-parity"))
    assert not both.refusals
    output = Disassembly(make_module(both)[1])
    assert {"shared_new", "fresh", "user"} <= {s.name for s in output.symbols if s["st_shndx"] != "SHN_UNDEF"}
    assert any("shared_new" in m for step in output.function("user") for m in step.means)


def test_special_section_entries_come_along() -> None:
    p = close_text(
        """
        static struct static_key key;
        void keep(void) { sink(&key); }
        u64 first(u64 *ptr, int x)
        {
            u64 value = load_faulting(ptr, 3);
            if (static_branch(&key, true))
                value++;
            alternative("nop", "lfence", 77);
            if (x == 3)
                bug_entry(BUGFLAG_WARNING | BUGFLAG_ONCE, 1234);
        #ifdef PATCHED
            value += 2;
        #endif
            return value;
        }
        u64 second(u64 *ptr, int x)
        {
            if (x == 3)
                bug_entry(BUGFLAG_WARNING, 9);
            alternative("nop", "mfence", 78);
            return load_faulting(ptr, 4) + 1;
        }
        """
    )
    assert not p.closure.refusals
    _, module = make_module(p.closure)
    elf, output = ELFFile(io.BytesIO(module)), Disassembly(module)
    first = next(s for s in output.symbols if s.name == "first")
    for name, size, count in (
        ("__ex_table", 12, 1),
        ("__jump_table", 16, 1),
        ("__bug_table", 12, 1),
        (".altinstructions", 12, 1),
        ("__mcount_loc", 8, 1),
    ):
        sections = [(i, s) for i, s in enumerate(elf.iter_sections()) if s.name == name]
        assert len(sections) == 1, name
        index, section = sections[0]
        assert section["sh_size"] == size * count, name
        owner = output.relocs[index][0]
        assert output.symbols[owner[1]]["st_shndx"] == first["st_shndx"], name
    assert elf.get_section_by_name("__bug_table").data()[8:12] == bytes.fromhex("d204 0300")
    assert elf.get_section_by_name("__ex_table").data()[8:12] == (3).to_bytes(4, "little")
    assert elf.get_section_by_name(".altinstructions").data()[8:12] == bytes([77, 0, 3, 3])
    assert elf.get_section_by_name(".altinstr_replacement").data() == bytes.fromhex("0faee8")
    jump = next(i for i, s in enumerate(elf.iter_sections()) if s.name == "__jump_table")
    kind, sym, addend = output.relocs[jump][8]
    assert (kind, output.symbols[sym].name, addend) == (24, ".klp.sym.vmlinux.key,0", 1)


def test_sections_keep_their_names() -> None:
    p = close_text(
        """
        #ifdef PATCHED
        section(".data..percpu") int fresh_cpu = 3;
        section(".data..ro_after_init") int fresh_ro = 4;
        int user(int x) { sink(&fresh_cpu); return source(x) + fresh_ro; }
        #else
        int user(int x) { return source(x); }
        #endif
        """
    )
    elf = ELFFile(io.BytesIO(make_module(p.closure)[1]))
    symbols = {s.name: s for s in elf.get_section_by_name(".symtab").iter_symbols()}
    assert elf.get_section(symbols["fresh_cpu"]["st_shndx"]).name == ".data..percpu"
    # set up by more than the patch module's init function, it may not be read-only when that has run
    assert elf.get_section(symbols["fresh_ro"]["st_shndx"]).name == ".data"


def test_new_variable_is_carved_out_of_a_shared_section() -> None:
    p = close_pair("data_once")
    assert [n.partition(".")[0] for n in p.roles("data")] == ["fresh"]
    elf = ELFFile(io.BytesIO(make_module(p.closure)[1]))
    assert elf.get_section_by_name(".data.once")["sh_size"] == 1


def test_percpu_variable_at_address_zero() -> None:
    p = close_text(
        """
        extern int cpu_number;
        #ifdef PATCHED
        int user(int x) { sink(&cpu_number); return source(x) + 1; }
        #else
        int user(int x) { return source(x) + 2; }
        #endif
        """
    )
    assert not p.closure.refusals
    found = next(b for b in p.closure.bound.values() if b.name == "cpu_number")
    assert (found.how, found.sympos, found.address) == ("klp", 0, p.image.named("cpu_number")[0].value)
    assert found.address < 8


# -- what is refused -------------------------------------------------------------------------------------------------


def test_weak_overridden() -> None:
    p = close_pair("weak", beside=["int arch_hook(int x) { return source(x) + 5; }"])
    # the caller has the weak definition inlined or calls it; only the definition is refused
    assert "K10-weak:arch_hook" in p.refused


def test_init_memory_of_another_unit() -> None:
    p = close_text(
        """
        extern char boot_text[];
        #ifdef PATCHED
        int user(int x) { sink(boot_text); return source(x); }
        #else
        int user(int x) { return source(x); }
        #endif
        """
    )
    assert refused(p) == "K6-init-memory:user"


def test_kernel_compiled_with_other_flags() -> None:
    p = close_pair("changed_body", kernel_flags=("-Os",))
    assert {r.code for r in p.closure.refusals} == {"Y1-parity"}
    assert "Y1-parity:second" in p.refused
    allowed = close_pair("changed_body", kernel_flags=("-Os",), allow=("changed_body.c",))
    assert not [r for r in allowed.closure.refusals if r.code == "Y1-parity"]
    assert allowed.closure.warnings


def test_global_function_that_vanishes() -> None:
    p = close_text(
        """
        #ifndef PATCHED
        int leaving(int x) { return source(x) + 3; }
        #endif
        int user(int x)
        {
        #ifdef PATCHED
            return source(x) + 4;
        #else
            return source(x) + 5;
        #endif
        }
        """
    )
    assert refused(p) == "K14-vanished:leaving"


def test_function_that_vanishes_while_a_table_points_to_it() -> None:
    p = close_text(
        """
        struct ops { int (*get)(int); };
        #ifdef PATCHED
        static int get_new(int x) { return source(x) + 4; }
        struct ops table = { get_new };
        struct ops other = { 0 };
        #else
        static int get_old(int x) { return source(x) + 3; }
        struct ops table = { get_old };
        struct ops other = { get_old };
        #endif
        """
    )
    assert "K14-vanished:get_old" in p.refused
    assert "K1-data:table" in p.refused


def test_function_that_takes_the_place_of_another_one_in_a_table() -> None:
    p = close_text(
        """
        struct ops { int (*get)(int); };
        #ifdef PATCHED
        static int get_new(int x) { return source(x) + 4; }
        const struct ops table = { get_new };
        #else
        static int get_old(int x) { return source(x) + 3; }
        const struct ops table = { get_old };
        #endif
        """
    )
    assert p.refused == []
    (redirect,) = p.closure.redirects
    assert redirect.name == "get_old" and redirect.atom.name == "get_new"


def test_short_jump_between_functions_is_refused() -> None:
    p = close_text(
        """
        #define sched section(".sched.text")
        notrace noinline sched int target(int x) { return source(x) * 3; }
        #ifdef PATCHED
        noinline sched int jumper(int x) { barrier(); return target(x + 2); }
        #else
        noinline sched int jumper(int x) { barrier(); return target(x + 1); }
        #endif
        """
    )
    assert refused(p) == "K11-reloc:jumper"


def test_nothing_changed_gives_nothing() -> None:
    p = close_pair("static_locals_swapped")
    assert not p.closure.members and not p.closure.redirects and not p.closure.refusals


def test_output_is_the_same_each_time() -> None:
    p = close_pair("cold_only")
    assert make_module(p.closure) == make_module(close_pair("cold_only").closure)
    linked, module = make_module(p.closure)
    assert inject(read(linked)) == module


# -- who comes along -------------------------------------------------------------------------------------------------


def roles(p: Patched) -> dict[str, str]:
    return {m.atom.name: m.role for m in p.closure.members.values() if m.atom.kind == "function"}


def test_callers_of_what_cannot_be_redirected_come_along() -> None:
    """A notrace function behind a notrace function: one caller is not enough, up to what ftrace can redirect."""
    p = close_text(
        """
        #ifdef PATCHED
        #define BY 5
        #else
        #define BY 3
        #endif
        static notrace noinline int deep(int x) { barrier(); return source(x) * BY; }
        static notrace noinline int middle(int x) { barrier(); return deep(x + 1) + 1; }
        noinline int top(int x) { barrier(); return middle(x + 2) + 2; }
        noinline int other(int x) { barrier(); return source(x) + 2; }
        """
    )
    assert not p.closure.refusals
    assert roles(p) == {"deep": "changed", "middle": "pulled", "top": "pulled"}
    assert [r.name for r in p.closure.redirects] == ["top"]
    by_name = {m.atom.name: m for m in p.closure.members.values()}
    assert by_name["top"].via == (0, by_name["middle"].atom.id)
    assert by_name["middle"].via == (0, by_name["deep"].atom.id)


def test_no_caller_is_enough_where_the_address_is_held() -> None:
    p = close_text(
        """
        #ifdef PATCHED
        #define BY 5
        #else
        #define BY 3
        #endif
        static notrace noinline int deep(int x) { barrier(); return source(x) * BY; }
        int (*hook)(int) = deep;
        noinline int top(int x) { barrier(); return deep(x + 2) + 2; }
        """
    )
    assert refused(p) == "K4-not-traceable:deep"
    assert "hook holds its address" in p.closure.refusals[0].fact


def test_folded_functions_are_told_apart_by_their_callers() -> None:
    """Both names lie at one address in the kernel: redirecting it would change both. Only the caller of the changed one
    is redirected, and calls the copy."""
    case = next(c for c in CASES if c.name == "icf_unfolded")
    p = close_pair(case.name, case.flags)
    assert not p.closure.refusals
    assert roles(p) == {"call_b": "changed", "twin_b": "changed"}
    assert [r.name for r in p.closure.redirects] == ["call_b"]


def test_folded_function_whose_address_is_taken() -> None:
    case = next(c for c in CASES if c.name == "icf_unfolded")
    p = close_text(
        """
        static noinline int twin_a(int x) { return source(x) * 3 + 1; }
        #ifdef PATCHED
        static noinline int twin_b(int x) { return source(x) * 3 + 2; }
        #else
        static noinline int twin_b(int x) { return source(x) * 3 + 1; }
        #endif
        noinline int call_a(int x) { return twin_a(x) + 4; }
        noinline int call_b(int x) { return twin_b(x) + 5; }
        noinline void give(void) { sink(twin_a); }
        """,
        flags=case.flags,
    )
    assert "K12-folded:twin_b" in p.refused


def test_a_static_that_gets_its_first_write_is_a_new_one() -> None:
    """It lay in read-only memory, where a write faults: the readers come along and share the new one."""
    p = close_text(
        """
        static int level = 3;
        #ifdef PATCHED
        noinline void set(int x) { level = x; }
        #else
        noinline void set(int x) { source(x); }
        #endif
        noinline int get(void) { return READ_ONCE(level); }
        noinline int other(int x) { return source(x); }
        """
    )
    assert not p.closure.refusals
    assert roles(p) == {"set": "changed", "get": "changed"}
    assert [m.atom.name for m in p.closure.members.values() if m.atom.kind == "data"] == ["level"]


# -- keys that are dropped -------------------------------------------------------------------------------------------

DEBUG = """
struct descriptor { const char *module, *function, *format; u32 line, flags; u64 key[2]; };
extern void __dynamic_pr_debug(struct descriptor *d, const char *format, int x);
#define pr_debug(number, text, x) do {									\\
	static struct descriptor __UNIQUE_ID_ddebug##number section("__dyndbg") = { "unit", __func__, text };	\\
	if (READ_ONCE(__UNIQUE_ID_ddebug##number.key[0]))						\\
		__dynamic_pr_debug(&__UNIQUE_ID_ddebug##number, text, x);				\\
} while (0)
int quiet(int x) { pr_debug(1, "quiet %d\\n", x); return source(x); }
#ifdef PATCHED
int talks(int x) { pr_debug(2, "one %d\\n", x); pr_debug(3, "two %d\\n", x); return source(x) + 1; }
int starts(int x) { pr_debug(4, "new %d\\n", x); return source(x) + 3; }
#else
int talks(int x) { pr_debug(2, "one %d\\n", x); return source(x); }
int starts(int x) { return source(x) + 2; }
#endif
"""


def test_a_dropped_key_is_said_with_what_replaces_it() -> None:
    p = close_text(DEBUG)
    assert not p.closure.refusals
    assert [(k.function, k.object, k.kind, k.own) for k in p.closure.dropped_keys] == [
        ("talks", "vmlinux", PR_DEBUG, 2)
    ]
    assert sorted(p.closure.warnings) == [
        "unit.c: starts: 1 new pr_debug: off until switched on under the patch module's name",
        "unit.c: talks: the key of pr_debug of the kernel is dropped in patched code; the patch module's own replace "
        "it (2 pr_debug), off until switched on under the patch module's name",
    ]


def test_nothing_replaces_the_key_of_a_tracepoint() -> None:
    key = DroppedKey("unit.c", "first", "target", TRACEPOINT, "event")
    assert str(key) == (
        "unit.c: first: the key of the tracepoint event of the module target is dropped: it stays off in patched code, "
        "and nothing replaces it"
    )


def test_the_replacement_of_an_alternative_is_a_function_elsewhere() -> None:
    """As objtool wrote it for calls through retpolines (5.13 to 5.15, RHEL 8): bound, and kept by the linker, as any
    reference; parity knows it too."""
    for exports, how in ((EXPORTS, "klp"), (EXPORTS | {"source_old": EXPORTS["source"]}, "export")):
        p = close_pair("alternative_elsewhere", exports=exports)
        assert not p.closure.refusals
        assert [u.parity.counts[EXACT] for u in p.closure.units] == [3]
        assert {b.name: b.how for b in p.closure.bound.values()} == {
            "source": "export",
            "source_old": how,
            "source_new": "klp",
        } | {"__fentry__": "export"}
        linked, module = make_module(p.closure)
        for data in (linked, module):
            output, patched = Disassembly(data), Disassembly(p.patched)
            for name in ("first", "second"):
                ours, theirs = (
                    [e for e in x.entries(name) if e.table == ".altinstructions"] for x in (output, patched)
                )
                assert ours == theirs
                (entry,) = ours
                assert entry.means[-1][1].startswith("2 bytes of ")


def test_what_the_loader_reads_can_not_wait_for_the_modules_init() -> None:
    """With the back end kallsyms the address of an unexported function is known in init only."""
    p = close_pair("alternative_elsewhere")
    output = extract(p.closure, Identity(bytes(20), True, "{}"))
    places = defaultdict(lambda: types.SimpleNamespace(section=".text"))
    request = Request(arch_of(output.machine), frozenset(), places, lambda name: p.image)  # type: ignore[arg-type]
    refusals = check_deferred(output, request)
    assert {(r.code, r.symbol, r.section) for r in refusals} == {
        ("B2-deferred", name, ".altinstructions") for name in ("source_old", "source_new")
    }


def test_a_closure_is_made_once_and_stays() -> None:
    closure = close_pair("alternative_elsewhere").closure
    for table in (closure.members, closure.bound, closure.state, closure.literals, Closure(()).members):
        with pytest.raises(TypeError):
            table[0, 0] = None  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        closure.warnings = ()  # type: ignore[misc]
    again = replace(closure, warnings=("more",))
    assert again.warnings == ("more",) != closure.warnings
    assert again.members is closure.members


def test_a_builder_that_goes_on_leaves_what_it_gave() -> None:
    p = close_pair("alternative_elsewhere")
    builder = ClosureBuilder(p.closure.units, World(p.image, EXPORTS))
    add_seeds(builder)
    first = builder.finish()
    follow_members(builder)
    second = builder.finish()
    assert {m.role for m in first.members.values()} <= {"changed", "new", "cold", "prefix"} and not first.bound
    assert second.bound and set(first.members) <= set(second.members)
