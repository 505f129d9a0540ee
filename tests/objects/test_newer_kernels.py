# SPDX-License-Identifier: GPL-2.0-or-later
"""What code of newer kernels holds: constants that the kernel writes when it boots, padding before each function,
endbr64 where an indirect branch may go."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from kgbuild.arch import arch_of
from kgbuild.closure.model import Closure
from kgbuild.diagnostics.refusals import Refused
from kgbuild.diff.changes import compute_changes
from kgbuild.kernel.feature_probes import TEXT_POKE
from kgbuild.ledger.ledger import compute_ledger
from kgbuild.livepatch.address_uses import Uses
from kgbuild.livepatch.kept_addresses import find_handed_out
from kgbuild.model import Finding
from kgbuild.pipeline.stages.assemble import check_writing
from kgbuild.proof.parity import EXACT, compute_parity
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.ibt import check_constants, check_pointers
from kgbuild.verification.reading.reader import ModuleFile, read_module
from tests.support.kernel import Patched, close_text, link_kernel, make_module
from tests.support.toolchain import compile_text, obj, pair_flags, view

ARCH = arch_of(62)
PLACEHOLDER = (0x0123456789ABCDEF).to_bytes(8, "little")

CONSTANTS = r"""
#define CONSTANT(sym) ({ u64 r_; asm("mov %1, %0\n1:\n.pushsection runtime_ptr_" #sym ",\"a\"\n" \
    ".long 1b - 8 - .\n.popsection" : "=r"(r_) : "i"(0x0123456789abcdefull)); r_; })
#define SHIFTED(x, sym) ({ u32 r_ = (x); asm("shrl $12, %k0\n1:\n.pushsection runtime_shift_" #sym ",\"a\"\n" \
    ".long 1b - 1 - .\n.popsection" : "+r"(r_)); r_; })
"""
VARIABLES = 'u64 table_base = 7, other_base = 9; int table_shift = 3; section(".init.data") u64 early_base = 5;'


def module_of(p: Patched) -> ModuleFile:
    """The finished module, read back; with a .modinfo, without which it is none."""
    from kgbuild.elf.read import read
    from kgbuild.elf.write import OutSection, write
    from kgbuild.emit.extract import extract
    from kgbuild.emit.klp_relocations import inject
    from kgbuild.emit.patch_tables import Identity

    out = extract(p.closure, Identity(bytes(20), True, "{}"))
    out.sections.append(OutSection(".modinfo", 1, 2, bytearray(b"license=GPL\0")))
    return read_module(inject(read(write(out))), "small.ko", 62)


# -- constants -------------------------------------------------------------------------------------------------------


def test_constants_become_rows_of_a_table() -> None:
    p = close_text(
        CONSTANTS
        + """
        int first(int x)
        {
            int y = source(x) + CONSTANT(table_base);
        #ifdef PATCHED
            y += 3;
        #endif
            return y + SHIFTED(x, table_shift);
        }
        """,
        beside=[VARIABLES],
    )
    assert not p.closure.refusals
    assert sorted(p.closure.constants) == ["table_base", "table_shift"]
    make_module(p.closure)
    module = module_of(p)
    assert not [s.name for s in module.sections if s.name.startswith("runtime_")]
    data = module.object_bytes("kgbuild_constants")
    symbol = module.global_symbols["kgbuild_constants"][0]
    assert data is not None
    rows = list(struct.iter_unpack("<QQQ", data))
    assert [size for _, _, size in rows] == [8, 1, 0] or [size for _, _, size in rows] == [1, 8, 0]
    held = {}
    for number, (_, _, size) in enumerate(rows[:-1]):
        site, value = (module.at(symbol.shndx, 24 * number + field) for field in (0, 8))
        assert site is not None and value is not None
        place, bound = module.place_of(site), module.symbol_of(value)
        assert place is not None and bound is not None
        held[bound.name] = place[0].data[place[1] : place[1] + size]
    assert held == {".klp.sym.vmlinux.table_base,0": PLACEHOLDER, ".klp.sym.vmlinux.table_shift,0": b"\x0c"}
    assert list(check_constants(module, ARCH)) == []


SWAPPED = """
int first(int x)
{
#ifdef PATCHED
    return source(x) + CONSTANT(other_base);
#else
    return source(x) + CONSTANT(table_base);
#endif
}
"""


def test_another_constant_is_a_change_though_the_code_is_the_same() -> None:
    p = close_text(CONSTANTS + SWAPPED, beside=[VARIABLES])
    ((change,),) = (u.changes.changed for u in p.closure.units)
    assert change.reason.kind == "entry"
    assert list(p.closure.constants) == ["other_base"]


@pytest.mark.parametrize(("name", "code"), [("no_such", "K5-symbol"), ("early_base", "K6-init-memory")])
def test_a_variable_that_can_not_be_read_is_a_refusal(name: str, code: str) -> None:
    p = close_text(CONSTANTS + SWAPPED.replace("other_base", name), beside=[VARIABLES])
    assert f"{code}:first" in p.refused


def test_a_variable_that_is_too_small_is_a_refusal() -> None:
    p = close_text(CONSTANTS + SWAPPED.replace("other_base", "table_shift"), beside=[VARIABLES])
    assert "K5-symbol:first" in p.refused


def test_a_kernel_whose_code_can_not_be_written_to_is_a_refusal() -> None:
    p = close_text(CONSTANTS + SWAPPED, beside=[VARIABLES])
    check_writing(p.closure, False, frozenset({TEXT_POKE}))
    with pytest.raises(Refused, match="K2-special  other_base"):
        check_writing(p.closure, False, frozenset())
    check_writing(Closure(p.closure.units), False, frozenset())
    with pytest.raises(Refused):
        check_writing(Closure(p.closure.units), True, frozenset())


MOVED = r"""
asm(".pushsection .sched.text, \"ax\"\n"
    ".globl first\n.type first, @function\n"
    "first: cmp $5, %edi\n\tje third\n\tmovabs $0x0123456789abcdef, %rax\n"
    "1: .pushsection runtime_ptr_NAME, \"a\"\n.long 1b - 8 - .\n.popsection\n\tret\n"
    ".size first, . - first\n"
    ".globl second\n.type second, @function\n"
    "second: .fill COUNT, 2, 0x9066\n\tret\n"
    ".size second, . - second\n"
    ".globl third\n.type third, @function\n"
    "third: lea 3(%rdi), %eax\n\tret\n"
    ".size third, . - third\n.popsection");
"""


@pytest.mark.parametrize(("name", "changed"), [("table_base", ["second"]), ("other_base", ["first", "second"])])
def test_a_constant_behind_a_branch_that_gets_wider(name: str, changed: list[str]) -> None:
    sides = [
        view(compile_text(MOVED.replace("NAME", variable).replace("COUNT", count), *pair_flags()))
        for variable, count in (("table_base", "10"), (name, "100"))
    ]
    found = compute_changes(*sides, "unit.c")
    assert sorted(c.patched.name for c in found.changed) == changed


# -- padding ---------------------------------------------------------------------------------------------------------

PADDED = ("-fpatchable-function-entry=16,16",)


def test_padding_is_no_trace_site() -> None:
    """With padding before each function there is an entry for each, notrace or not, in __patchable_function_entries."""
    text = """
    NOTRACE int first(int x)
    {
    #ifdef PATCHED
        return source(x) + 2;
    #else
        return source(x) + 1;
    #endif
    }
    """
    padded = close_text(text.replace("NOTRACE", "notrace"), flags=PADDED)
    assert padded.refused == ["K4-not-traceable:first"]
    traced = close_text(text.replace("NOTRACE", ""), flags=PADDED)
    assert not traced.closure.refusals
    assert [r.name for r in traced.closure.redirects] == ["first"]


# -- endbr64 ---------------------------------------------------------------------------------------------------------

BRANCHES = ("-fcf-protection=branch",)
# objtool's table: functions whose endbr64 the kernel overwrites
SEALED = """
int sealed(int x) { return x + 5; }
int open(int x) { return x + 6; }
__attribute__((nocf_check)) notrace int bare(int x) { return x + 7; }
asm(".pushsection .ibt_endbr_seal, \\"a\\"\\n.long sealed - .\\n.popsection");
"""
TAKES = """
extern int sealed(int), open(int), bare(int);
static noinline int quiet(int x) { return source(x) * 3; }
int second(int x) { return quiet(x) + sealed(x) + open(x) + bare(x); }
#ifdef PATCHED
static int (*table[2])(int) = { TARGET, TARGET };
int first(int x) { int (*volatile f)(int) = TARGET; return f(x) + READ_ONCE(table[x & 1])(x); }
#else
int first(int x) { return source(x); }
#endif
"""


def take(target: str, tracked: bool = True) -> Patched:
    return close_text(TAKES.replace("TARGET", target), beside=[SEALED], flags=BRANCHES, tracked=tracked)


def pointer_findings(p: Patched) -> list[Finding]:
    """What verify says of the module's pointers, by the facts of the kernel that it is for."""
    module = module_of(p)

    def fault(name: str, export: bool) -> str:
        plain = name if export else name.removeprefix(".klp.sym.vmlinux.").rpartition(",")[0]
        symbols = [s for s in p.image.named(plain) if s.is_function]
        bad = [s for s in symbols if p.image.read(s.value, 4) != ENDBR or s.value in p.image.sealed]
        return plain if bad else ""

    return list(check_pointers(module, ARCH, DecodedCode(module, ARCH).instructions, fault))


ENDBR = bytes.fromhex("f30f1efa")


def test_the_kernel_is_what_the_tests_say() -> None:
    image = take("open").image
    assert {n for n in ("sealed", "open", "bare", "quiet") if image.named(n)[0].value in image.sealed} == {"sealed"}
    begin = {n for n in ("sealed", "open", "bare", "quiet") if image.read(image.named(n)[0].value, 4) == ENDBR}
    assert begin == {"sealed", "open"}


@pytest.mark.parametrize("target", ["sealed", "quiet"])
def test_a_pointer_leads_through_one_thunk(target: str) -> None:
    p = take(target)
    assert not p.closure.refusals
    module = module_of(p)
    thunks = [s for s in module.symbols if s.name.startswith("kgbuild_thunk_")]
    assert [s.name for s in thunks] == [f"kgbuild_thunk_{target}"]
    code = module.sections[thunks[0].shndx]
    assert code.data == ENDBR + b"\xe9" + bytes(4)
    jump = module.at(code.index, 5)
    bound = module.symbol_of(jump) if jump is not None else None
    assert bound is not None and bound.name == f".klp.sym.vmlinux.{target},0"
    to_thunk = [row for rows in module.relocs.values() for row in rows if module.place_of(row) == (code, 0)]
    assert len(to_thunk) == 3  # one in the code, two in the table
    assert pointer_findings(p) == []


@pytest.mark.parametrize("target", ["sealed", "quiet"])
def test_without_a_thunk_verify_finds_each_pointer(target: str) -> None:
    assert len(pointer_findings(take(target, tracked=False))) == 3


def test_a_pointer_to_what_begins_with_endbr64_is_as_it_was() -> None:
    p = take("open")
    assert not p.closure.refusals
    assert not p.closure.thunks
    assert pointer_findings(p) == []


@pytest.mark.parametrize(("target", "warned"), [("sealed", ["sealed"]), ("quiet", ["quiet"]), ("open", [])])
def test_a_thunk_that_is_handed_out_is_warned_of(target: str, warned: list[str]) -> None:
    """It is gone with the module, and the function that it stands for is not."""
    kept = TAKES.replace("(*volatile f)(int) = TARGET; return f(x)", "(*volatile f)(int) = hook = TARGET; return f(x)")
    text = f"int (*hook)(int);\n{kept.replace('TARGET', target)}"
    closure = close_text(text, beside=[SEALED], flags=BRANCHES, tracked=True).closure
    assert [w.function for w in find_handed_out(closure, Uses(closure))] == warned


def test_a_function_without_endbr64_of_another_unit_is_a_refusal() -> None:
    assert take("bare").refused == ["K21-endbr:bare"]


# -- instructions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["0f01d9", "0f01c1", "0f05"], ids=["vmmcall", "vmcall", "syscall"])
def test_calls_of_a_hypervisor_or_the_kernel_are_no_branches(code: str) -> None:
    (only,) = ARCH.decode(bytes.fromhex(code))
    assert (only.target, only.is_call, only.is_branch) == (None, False, False)
    (shown,) = ARCH.format(bytes.fromhex(code), {})
    assert (shown.operands, shown.target) == ("", None)


def test_a_change_behind_a_hypercall_is_seen_alone() -> None:
    """Several functions of one section: what leaves a function without a relocation is searched for there."""
    text = """
    asm(".pushsection .sched.text, \\"ax\\"\\n"
        ".globl first\\n.type first, @function\\n"
        "first: vmmcall\\n\\tmov $COUNT, %eax\\n\\tret\\n.size first, . - first\\n"
        ".globl second\\n.type second, @function\\nsecond: vmmcall\\n\\tret\\n.size second, . - second\\n"
        ".popsection");
    """
    sides = [view(compile_text(text.replace("COUNT", n), *pair_flags())) for n in "34"]
    assert [c.patched.name for c in compute_changes(*sides, "unit.c").changed] == ["first"]
    assert [sides[0].refs(a) for a in sides[0].functions] == [(), ()]


BUGS = r"""
noinline int printed(void *entry, int x) { return source(entry != 0) + x; }
#define ENTRY(number) ".pushsection __bug_table,\"aw\"\n2: .long 1b - .\n.long %c1 - .\n.long %c2 - .\n" \
	".word " #number "\n.word 0x800\n.org 2b+16\n.popsection"
#define WARN(number, ...) ({ void *entry_; \
	asm("lea (2f)(%%rip), %0\n1:\n" ENTRY(number) : "=r" (entry_) : "i" ("said"), "i" (__FILE__)); \
	printed(entry_, __VA_ARGS__); })
noinline int first(int x) { if (x > 3) WARN(11, 0); return source(x); }
noinline int second(int x) {
#ifdef PATCHED
	x += 1;
#endif
	return source(x);
}
#ifdef ADDED
noinline int added(int x) { WARN(33, 0); return source(x + 2); }
#endif
noinline int third(int x) {
#ifdef THIRD
	x++;
#endif
	if (x > 5)
		WARN(22, x);
	return source(x) + 1;
}
"""


@pytest.mark.parametrize("flags", [("-DPATCHED",), ("-DPATCHED", "-DADDED")])
def test_code_that_refers_to_its_own_entry(flags: tuple[str, ...]) -> None:
    """Since 6.19 WARN hands its entry of __bug_table to a function: where the entry lies in the table says nothing."""
    text = f'#include "kernel.h"\n{BUGS}'
    orig, patched = (view(compile_text(text, *pair_flags(f))) for f in ((), flags))
    found = compute_changes(orig, patched, "unit.c")
    assert [c.patched.name for c in found.changed] == ["second"]
    # another line is noise, another entry is not
    for old, new, changed in (
        ("WARN(22, x)", "WARN(23, x)", []),
        ("WARN(22, x)", "(WARN(22, x), WARN(24, x))", ["third"]),
    ):
        other = view(compile_text(text.replace(old, new), *pair_flags(())))
        assert [c.patched.name for c in compute_changes(orig, other, "unit.c").changed] == changed


def test_the_ledger_tells_an_entry_by_what_it_belongs_to() -> None:
    """That entries before it came or went is no difference of a function that refers to one."""
    text = f'#include "kernel.h"\n{BUGS}'
    orig = obj(compile_text(text, *pair_flags()))
    for flags, functions in ((("-DPATCHED", "-DADDED"), {"second", "added"}), (("-DTHIRD",), {"third"})):
        found = compute_ledger(orig, obj(compile_text(text, *pair_flags(flags)))).differences
        assert {d.symbol for d in found if d.symbol} == functions, flags


THIRD = BUGS.replace("noinline int third(int x) {", "noinline int third(int x) {\n#ifdef PATCHED\nx++;\n#endif\n")
BUG_ENTRY = 16


def told(module: ModuleFile) -> dict[int, int]:
    """By offset of an entry of the module's __bug_table, how many instructions right before its place hand it on."""
    (table,) = (s for s in module.sections if s.name == "__bug_table")
    out = {}
    for start in range(0, len(table.data), BUG_ENTRY):
        owner = module.at(table.index, start)
        place = module.place_of(owner) if owner is not None else None
        assert place is not None
        code, offset = place
        reloc = module.at(code.index, offset - 4)
        out[start] = int(reloc is not None and module.place_of(reloc) == (table, start - 4))
    return out


def sites_found(module: ModuleFile) -> list[str]:
    """What verify says of the module's table of bugs."""
    (table,) = (s for s in module.sections if s.name == "__bug_table")
    return [f.code for f in DecodedCode(module, ARCH).check_special(table, ARCH.special["__bug_table"])]


def test_a_function_comes_with_the_entries_that_it_refers_to() -> None:
    """In the module, the code refers to the entry that was written for it, wherever that lies there."""
    p = close_text(THIRD.replace("WARN(22, x);", "WARN(22, x), WARN(44, x * 2);"))
    assert p.refused == []
    assert p.roles("changed") == ["second", "third"]
    make_module(p.closure)
    module = module_of(p)
    assert told(module) == {0: 1, 16: 1}
    assert sites_found(module) == []


@pytest.mark.parametrize("moved", [-16, 16, 4])
def test_verify_finds_a_reference_to_another_entry(moved: int) -> None:
    p = close_text(THIRD.replace("WARN(22, x);", "WARN(22, x), WARN(44, x * 2);"))
    module = module_of(p)
    (table,) = (s for s in module.sections if s.name == "__bug_table")
    index, row = next(
        (index, row)
        for index, rows in module.relocs.items()
        for row in rows
        if module.sections[module.sections[index].info].executable and (module.place_of(row) or (None,))[0] == table
    )
    rows = tuple(
        replace(other, addend=other.addend + moved) if other is row else other for other in module.relocs[index]
    )
    assert "V21-site" in sites_found(replace(module, relocs={**module.relocs, index: rows}))


OTHERS_ENTRY = (
    'asm(".pushsection __bug_table,\\"aw\\"\\nshared: .long first - .\\n.long name - ., name - .\\n.word 3, 0x800\\n"\n'
    '    ".popsection");\nextern char shared[];\nchar name[] = "said";\n'
)


@pytest.mark.parametrize("use", ["sink(shared)", "sink(shared + 4)"])
def test_an_entry_of_another_function_is_a_refusal(use: str) -> None:
    text = f"{OTHERS_ENTRY}int first(int x) {{ return source(x); }}\nint second(int x) {{\n#ifdef PATCHED\n{use};\n"
    assert close_text(text + "#endif\nreturn source(x) + 1; }").refused == ["K2-special:second"]


@pytest.mark.parametrize(
    ("kernel", "same"),
    [
        (("WARN(22, x)", "WARN(22, x)"), True),
        # the entry lies elsewhere in the kernel's table, and means the same
        (
            ("noinline int first", "noinline int zeroth(int x) { WARN(9, 1); return source(x); }\nnoinline int first"),
            True,
        ),
        (("WARN(22, x)", "WARN(23, x)"), False),
        (('"said"', '"told"'), False),
        (("(2f)(%%rip)", "(2f+16)(%%rip)"), False),
    ],
)
def test_parity_of_code_that_refers_to_its_own_entry(kernel: tuple[str, str], same: bool) -> None:
    text = f'#include "kernel.h"\n{BUGS.replace("source(x) + 1;", "WARN(7, 2); return source(x) + 1;")}'
    own = view(compile_text(text, *pair_flags()))
    image = link_kernel((compile_text(text.replace(*kernel), *pair_flags(split=False)),))
    proof = compute_parity(own, image)
    found = {f.name: f.status for f in proof.functions}
    assert (found["third"] == EXACT) is same
    assert not proof.paddable


# -- calls in replacement code -----------------------------------------------------------------------------------------

REPLACED = r"""
extern int fallback(int);
/* as paravirt sites are in 7.x: objtool lists the call in the replacement, too */
#define SITE(n) asm volatile("771: nop; nop; nop; nop; nop; nop\n772:\n" \
    ".pushsection .altinstructions,\"a\"\n.long 771b - ., 773f - .\n.4byte " #n "\n.byte 6, 774f - 773f\n" \
    ".popsection\n" \
    ".pushsection .altinstr_replacement,\"ax\"\n773: call fallback\n774:\n.popsection\n" \
    ".pushsection .call_sites,\"a\"\n.long 773b - .\n.popsection" ::: "memory")
int other(int x) { SITE(9); return source(x); }
int first(int x)
{
    SITE(8);
    int y = source(x);
#ifdef PATCHED
    SITE(8);
    y += 3;
#endif
    return y;
}
"""


def test_a_call_in_replacement_code_stays_listed() -> None:
    p = close_text(REPLACED, beside=["int fallback(int x) { return x; }"])
    assert not p.closure.refusals
    module = module_of(p)
    sections = {s.name: s for s in module.sections}
    # the replacements of the changed function alone, each with its entry
    assert sections[".altinstr_replacement"].size == 10 and sections[".altinstructions"].size == 28
    assert sections[".call_sites"].size == 8
    rows = [module.at(sections[".call_sites"].index, at) for at in (0, 4)]
    places = [module.place_of(row) for row in rows if row is not None]
    assert [(place[0].name, place[1]) for place in places if place] == [
        (".altinstr_replacement", 0),
        (".altinstr_replacement", 5),
    ]
