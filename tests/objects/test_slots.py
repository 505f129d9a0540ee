# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that goes through slots does what it did: instructions are assembled, rewritten, linked with a program that runs
both, and leave the same registers, flags, memory and stack."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from kgbuild.arch.x86_64.relocations import R_64
from kgbuild.arch.x86_64.table import ARCH
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.emit.backends.slots import SlotWriter, plan_steps
from kgbuild.module_abi import MOVED, SLOTS_SECTION
from tests.support.slots_lines import random_lines

HERE = Path(__file__).parent

# Each refers to `target`, which goes through a slot. Operands are what gcc makes of kernel code, and then some.
CODE = [
    "lea target(%rip), %rax",
    "lea target+24(%rip), %r13",
    "mov $target, %rdi",
    "mov $target+8, %r12",
    "movabs $target+16, %rdx",
    "movabs $target, %r9",
    "mov target(%rip), %rax",
    "mov target+4(%rip), %ecx",
    "mov target(%rip), %r11d",
    "mov target(%rip), %rbp",
    "mov target(%rip), %al",
    "mov target(%rip), %bh",
    "mov target(%rip), %si",
    "mov target(%rip), %r8b",
    "movzbl target+1(%rip), %edx",
    "movzwl target(%rip), %r14d",
    "movsbl target(%rip), %eax",
    "movslq target(%rip), %rax",
    "movsbw target(%rip), %ax",
    "mov %rax, target(%rip)",
    "mov %r15d, target(%rip)",
    "mov %dx, target(%rip)",
    "mov %ah, target(%rip)",
    "mov %sil, target(%rip)",
    "movb $3, target+5(%rip)",
    "movw $300, target(%rip)",
    "movl $70000, target(%rip)",
    "movq $-5, target(%rip)",
    "movq $own, target(%rip)",
    "movq $target, own(%rip)",
    "movq $target, target+64(%rip)",
    "addq $target, own+8(%rip)",
    "cmpq $0, target(%rip)",
    "cmpl $5, target(%rip)",
    "cmpb $7, target+2(%rip)",
    "cmpl $100000, target(%rip)",
    "cmp target(%rip), %eax",
    "cmp %rbx, target(%rip)",
    "testb $4, target+1(%rip)",
    "testl $0x10000, target(%rip)",
    "test %rcx, target(%rip)",
    "add target(%rip), %rax",
    "sub target(%rip), %r10",
    "adc target(%rip), %rax",
    "sbb %rdx, target(%rip)",
    "and target(%rip), %ecx",
    "or %al, target(%rip)",
    "xor target(%rip), %rsi",
    "addl $1, target(%rip)",
    "subl $-128, target(%rip)",
    "incl target(%rip)",
    "decq target(%rip)",
    "negl target(%rip)",
    "notq target(%rip)",
    "lock incl target(%rip)",
    "lock decq target(%rip)",
    "lock xadd %eax, target(%rip)",
    "lock cmpxchg %ecx, target(%rip)",
    "lock cmpxchg %rbx, target(%rip)",
    "lock orb $2, target(%rip)",
    "lock cmpxchg16b target(%rip)",
    "xchg %eax, target(%rip)",
    "xchg %r8, target(%rip)",
    "bt %rax, target(%rip)",
    "bt $3, target(%rip)",
    "lock bts %rcx, target(%rip)",
    "lock btr $5, target(%rip)",
    "btc %edx, target(%rip)",
    "imul target(%rip), %eax",
    "imul $1000, target(%rip), %ecx",
    "mull target(%rip)",
    "shll $3, target(%rip)",
    "sarq %cl, target(%rip)",
    "shld %cl, %rax, target(%rip)",
    "rolw target(%rip)",
    "cmove target(%rip), %rax",
    "cmovne target(%rip), %edx",
    "sete target(%rip)",
    "setb target(%rip)",
    "bsf target(%rip), %rax",
    "popcnt target(%rip), %rdx",
    "tzcnt target(%rip), %ecx",
    "bswap %rax; mov target(%rip), %rdx",
    "mov target(,%rax,8), %rdx",
    "mov target(,%rdx,8), %rdx",
    "mov target(,%r12,4), %r12d",
    "mov %rcx, target(,%rdi,8)",
    "add target(,%rbx,8), %rax",
    "incl target(,%rax,4)",
    "mov target(%rbx), %eax",
    "mov target-8(%rbp), %eax",
    "mov target(%rax), %rax",
    "movzbl target(%rax), %eax",
    "movzbl target(%rdx,%rcx), %eax",
    "movzwl target(%rcx,%rcx), %ecx",
    "mov target+3(%rsi,%rdi,4), %r9",
    "mov %r9d, target(%r10,%r11,2)",
    "cmpb $9, target(%rbx,%rdx,2)",
    "movq $own, target(,%rax,8)",
    "lea target(,%rax,8), %rdx",
    "lea target(%rbx), %rbx",
    "lea target(%rbx,%rcx,4), %r8",
    "mov target, %eax",
    "cmp $target, %rax",
    "cmp $target+16, %rbx",
    "cmp $target, %r9",
    "add $target, %rax",
    "add $target, %rcx",
    "sub $target, %rdi",
    "and $target, %r10",
    "test $target, %rax",
    "adc $target, %rdx",
    "movq $target, 16(%rsp)",
    "movq $target, 0x78(%rsp)",
    "movq $target, 0x7f(%rsp)",
    "movq $target, 0x148(%rsp)",
    "movq $target, 8(%rsp,%rax,8)",
    "cmpq $target, 24(%rsp)",
    "movq $target, own(,%rax,4)",
    "push $target; pop %rax",
    "push target(%rip); pop %rax",
    "push target+8(,%rax,8); pop %rdx",
    "push target(%rcx); pop %rcx",
    "push target(%rax,%rcx,4); pop %rbx",
    "movups target(%rip), %xmm0; movups %xmm0, own(%rip)",
    "push %rbx; mov target(%rip), %ebx; mov %ebx, own(%rip); pop %rbx",
    "jmp 1f; 2: ret; 1: incl target(%rip); je 2b; mov target(%rip), %rax; jmp 2b",
    "cmpl $0, own(%rip); jne 1f; mov target(%rip), %eax; 1: addl $3, target+8(%rip)",
]
# And those that are left alone: for each, what is said.
REFUSED = [
    ("jmp *target(%rip)", "it is a branch"),
    ("call *target(,%rax,8)", "it is a branch"),
    ("pushw target(%rip)", "it uses the stack"),
    ("push target(%rsp)", "on the stack"),
    ("pop target(%rip)", "it uses the stack"),
    ("mov %rsp, target(%rip)", "it uses the stack pointer"),
    ("cmp target(%rip), %rsp", "it uses the stack pointer"),
    ("mov target(%rsp), %rax", "on the stack"),
    ("mov %spl, target(%rip)", "it uses the stack pointer"),
    ("movq $target, -16(%rsp)", "below the stack pointer"),
    ("movq $target, -8(%rsp)", "below the stack pointer"),
    ("movq $target, 8(%esp)", "an address of 32 bits"),
    ("mov target(%eax,%ecx,2), %edx", "an address of 32 bits"),
    ("mov %gs:target(%rip), %rax", "of another segment"),
    ("imul $target, %rax, %rcx", "no form with a register"),
    ("mov $target, %eax", "no form with a register"),
    ("movabs target, %rax", "the symbol is in none of its operands"),
]


def assemble(folder: Path, lines: list[str]) -> bytes:
    """An object with a function `case<number>` in a section of its own for each line."""
    text = [
        f'.section .text.{name}, "ax"\n.globl {name}\n.type {name}, @function\n'
        f"{name}: {line}\nret\n.size {name}, . - {name}\n"
        for name, line in ((f"case{i}", line) for i, line in enumerate(lines))
    ]
    text.append('.section .note.GNU-stack, "", @progbits\n')
    (folder / "cases.s").write_text("".join(text))
    subprocess.run(["gcc", "-c", "cases.s", "-o", "cases.o"], cwd=folder, check=True, timeout=60)
    return (folder / "cases.o").read_bytes()


def as_output(data: bytes, prefix: str = "") -> OutObject:
    """An object as extraction would make it; defined functions are called `prefix` and their name."""
    elf = ELFFile(io.BytesIO(data))
    out = OutObject(62)
    sections: dict[int, OutSection] = {}
    for number, s in enumerate(elf.iter_sections()):
        if s["sh_type"] == "SHT_PROGBITS" and s["sh_size"]:
            sections[number] = OutSection(s.name, SHT.PROGBITS, s["sh_flags"], bytearray(s.data()), s["sh_addralign"])
            out.sections.append(sections[number])
    symbols = []
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        index = symbol["st_shndx"]
        defined = sections.get(index) if isinstance(index, int) else None
        kind = {"STT_FUNC": STT.FUNC, "STT_SECTION": STT.SECTION}.get(symbol["st_info"]["type"], 0)
        name = prefix + symbol.name if kind == STT.FUNC else symbol.name
        bind = STB.LOCAL if symbol["st_info"]["bind"] == "STB_LOCAL" else STB.GLOBAL
        symbols.append(OutSymbol(name, defined, symbol["st_value"], symbol["st_size"], bind, kind, shndx=SHN.UNDEF))
    used = set()
    for s in elf.iter_sections():
        if isinstance(s, RelocationSection):
            for r in s.iter_relocations():
                used.add(r["r_info_sym"])
                sections[s["sh_info"]].relocs.append(
                    OutReloc(r["r_offset"], r["r_info_type"], symbols[r["r_info_sym"]], r["r_addend"])
                )
    out.symbols = [s for i, s in enumerate(symbols) if i in used or (s.section is not None and s.type == STT.FUNC)]
    return out


def is_late(section: OutSection, reloc: OutReloc) -> bool:
    return bool(section.flags & SHF.EXECINSTR) and reloc.symbol.name == "target"


def check(moved: bytes, fields: list[int], length: int = 6, to: int = 100) -> str:
    """What is said of code that stands at `to` for an instruction at 0."""
    back = to + len(moved)
    jump = ARCH.slot_code.jump
    return ARCH.slot_code.check(jump(to, length), 0, moved + jump(length - back, 5), to, fields)


def rewrite(data: bytes) -> OutObject:
    """The object with `target` reached through slots, which the linker fills here."""
    out = as_output(data, "new_")
    steps = plan_steps(out, ARCH, is_late)
    assert {step.form.fault for step in steps} == {""}
    assert {check(s.form.code, [at for at, _ in s.form.slots], s.length) for s in steps if s.form.moved} <= {""}
    writer = SlotWriter(out, ARCH)
    writer.section.relocs = [OutReloc(u.offset, R_64, u.symbol, u.addend) for u in writer.run(steps)]
    assert not any(is_late(s, r) for s in out.sections for r in s.relocs)
    return out


@pytest.mark.parametrize("lines", [CODE, 500], ids=["chosen", "random"])
def test_it_does_what_it_did(lines: list[str] | int, tmp_path: Path) -> None:
    code = random_lines(lines, 1, tmp_path) if isinstance(lines, int) else lines
    assert isinstance(lines, list) or len(code) > 0.9 * lines
    data = assemble(tmp_path, code)
    (tmp_path / "slots.o").write_bytes(write(rewrite(data)))
    rows = {"before": "case", "after": "new_case"}
    table = "".join(
        f".globl {name}\n{name}: {''.join(f'.quad {prefix}{i};' for i in range(len(code)))} .quad 0\n"
        for name, prefix in rows.items()
    )
    (tmp_path / "table.s").write_text(f'.section .rodata\n{table}.section .note.GNU-stack, "", @progbits\n')
    sources = ["table.s", "cases.o", "slots.o", str(HERE / "slots_harness.c")]
    command = [
        "gcc",
        "-O2",
        "-fno-strict-aliasing",
        "-Wall",
        "-Werror",
        "-no-pie",
        "-fno-pie",
        "-static",
        "-o",
        "both",
        *sources,
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    done = subprocess.run([tmp_path / "both"], capture_output=True, text=True, timeout=60, check=False)
    wrong = [code[int(line)] for line in done.stdout.split("\n") if line.isdigit()]
    assert (wrong, done.returncode, done.stdout) == ([], 0, f"0 of {len(code)} differ\n")


@pytest.mark.parametrize(("line", "fact"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_has_no_form_is_said(line: str, fact: str, tmp_path: Path) -> None:
    (step,) = plan_steps(as_output(assemble(tmp_path, [line])), ARCH, is_late)
    assert fact in step.form.fault


def test_what_was_moved_is_inside_its_function(tmp_path: Path) -> None:
    out = rewrite(assemble(tmp_path, ["lea target(%rip), %rax", "incl target(%rip)"]))
    names = {s.name: s for s in out.symbols}
    code = {s.name: s for s in out.sections}
    assert names["new_case0"].size == 8
    assert MOVED.section in code
    start, to, length, size = MOVED.layout.unpack(code[MOVED.section].data)
    assert (start, to) == (0, 0)
    assert [(r.offset, r.symbol.section, r.addend) for r in code[MOVED.section].relocs] == [
        (0, code[".text.case1"], 0),
        (8, code[".text.case1"], length + 1),
    ]
    assert names["new_case1"].size == len(code[".text.case1"].data) == length + 1 + size
    assert code[".text.case1"].data[5:length] == b"\xcc" * (length - 5)


def test_one_slot_for_one_address(tmp_path: Path) -> None:
    lines = ["mov $target, %rax", "lea target(%rip), %rbx", "mov target+8(%rip), %eax; cmp $target+8, %rax"]
    out = rewrite(assemble(tmp_path, lines))
    (slots,) = (s for s in out.sections if s.name == SLOTS_SECTION)
    assert [(r.offset, r.addend) for r in slots.relocs] == [(0, 0), (8, 8)]


# What refers to the instruction at `1:`, and what is said: nothing where it may be rewritten all the same.
REFERRED = {
    "owner-of-exception": (
        '.section __ex_table, "a"; .long 1b - ., 2f - ., 0; .previous; 2:',
        "that __ex_table refers to",
    ),
    "goes-on-there": ('.section __ex_table, "a"; .long 2f - ., 1b - ., 0; .previous; 2: nop', ""),
    "inside": ('.section .rodata, "a"; .quad 1b + 2; .previous', "that .rodata refers to"),
    "jump-table": ('.section .rodata, "a"; .quad 1b, case0; .previous', ""),
    "branch-inside": ("jmp 1b + 2", "that a branch refers to"),
    "branch": ("jmp 1b", ""),
    "other-section": ('.section .text.unlikely.case0.cold, "ax"; jmp 1b; jne 1b; .previous', ""),
    "other-section-inside": ('.section .text.unlikely.case0.cold, "ax"; jmp 1b + 1; .previous', "case0.cold refers to"),
    "static-branch": (
        '.section __jump_table, "aw"; .long 1b - ., 1b - .; .quad own; .previous',
        "__jump_table refers to",
    ),
    "locks": ('.section .smp_locks, "a"; .long 1b - .; .previous', ""),
}


@pytest.mark.parametrize("name", REFERRED)
def test_what_refers_to_the_instruction(name: str, tmp_path: Path) -> None:
    text, fact = REFERRED[name]
    out = as_output(assemble(tmp_path, [f"nop; 1: incl target(%rip); {text}"]))
    (step,) = plan_steps(out, ARCH, is_late)
    assert fact in step.form.fault
    assert bool(fact) == bool(step.form.fault)


# The kind of stack pointer (sp_reg of struct orc_entry), and whether it can be said what it is behind a push.
@pytest.mark.parametrize(("register", "known"), [(0, True), (2, False), (4, True), (5, True), (6, False), (9, False)])
def test_unwinding_behind_a_push(register: int, known: bool) -> None:
    entry = (24).to_bytes(2, "little") + bytes(2) + (0x10 | register).to_bytes(2, "little")
    below = ARCH.slot_code.unwind_below(entry, 8)
    assert (below is not None) == known
    assert ARCH.slot_code.unwind_below(entry, 0) == entry
    if below is not None:
        assert below[2:] == entry[2:]
        assert int.from_bytes(below[:2], "little") == (32 if register == 5 else 24)


def test_every_name_of_a_function_reaches_what_was_moved(tmp_path: Path) -> None:
    out = rewrite(assemble(tmp_path, ["incl target(%rip); .globl other; .type other, @function; other = case0"]))
    sizes = {s.name: s.size for s in out.symbols if s.type == STT.FUNC}
    assert sizes.keys() >= {"new_case0"}
    (code,) = (s for s in out.sections if s.name == ".text.case0")
    assert sizes["new_case0"] == len(code.data)


def test_a_function_before_another_is_left_alone(tmp_path: Path) -> None:
    """What it would become could only stand behind the other one."""
    (tmp_path / "two.s").write_text(
        '.section .text.f, "ax"\n.type f, @function\nf: incl target(%rip)\nlea target(%rip), %rax\nret\n'
        ".size f, . - f\n.type g, @function\ng: incl target(%rip)\nret\n.size g, . - g\nincl target(%rip)\nret\n"
    )
    subprocess.run(["gcc", "-c", "two.s", "-o", "two.o"], cwd=tmp_path, check=True, timeout=60)
    steps = plan_steps(as_output((tmp_path / "two.o").read_bytes()), ARCH, is_late)
    fact = "its function is not the last of its section"
    assert [fact in step.form.fault for step in steps] == [True, False, False, True]


def test_the_last_instruction_of_a_function_has_no_way_back(tmp_path: Path) -> None:
    (tmp_path / "last.s").write_text(
        '.section .text.f, "ax"\n.type f, @function\nf: nop\nincl target(%rip)\n.size f, . - f\n'
    )
    subprocess.run(["gcc", "-c", "last.s", "-o", "last.o"], cwd=tmp_path, check=True, timeout=60)
    (step,) = plan_steps(as_output((tmp_path / "last.o").read_bytes()), ARCH, is_late)
    assert "no way back" in step.form.fault


def test_padding_before_a_function_is_left_alone(tmp_path: Path) -> None:
    """The symbol `__pfx_` has the bytes before a function, which are no part of it."""
    (tmp_path / "pfx.s").write_text(
        '.section .text.f, "ax"\n.type __pfx_f, @function\n__pfx_f: .byte 0xb8, 1, 2, 3, 4\n.size __pfx_f, 5\n'
        ".globl f\n.type f, @function\nf: incl target(%rip)\nret\n.size f, . - f\n"
    )
    subprocess.run(["gcc", "-c", "pfx.s", "-o", "pfx.o"], cwd=tmp_path, check=True, timeout=60)
    out = rewrite((tmp_path / "pfx.o").read_bytes())
    (code,) = (s for s in out.sections if s.name == ".text.f")
    sizes = {s.name: s.size for s in out.symbols if s.type == STT.FUNC}
    assert bytes(code.data[:5]) == b"\xb8\1\2\3\4"
    assert sizes == {"new___pfx_f": 5, "new_f": len(code.data) - 5}


# Code that would do something else than one instruction through a slot, and what is said of it.
WRONG = [
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %rcx; pop %rcx", "does not use once"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %cl; pop %rcx", "for something else"),
    ("push %rcx; mov slot(%rip), %rcx; shlq %cl, (%rcx); pop %rcx", "for something else"),
    ("push %rax; mov slot(%rip), %rax; cmpxchg %rdx, (%rax); pop %rax", "for something else"),
    ("push %rax; mov slot(%rip), %rax; mulq (%rax); pop %rax", "for something else"),
    ("push %rcx; mov slot(%rip), %rcx; add %rcx, (%rcx); pop %rcx", "does not use once"),
    ("push %rcx; mov slot(%rip), %rcx; incl (%rcx,%rcx); pop %rcx", "does not use once"),
    ("push %rcx; mov slot(%rip), %rcx; incl (%rax,%rcx); pop %rcx", "does not use once"),
    ("push %rcx; mov slot(%rip), %rcx; incl (%rdx); pop %rcx", "does not use once"),
    ("push %rcx; mov slot(%rip), %rcx; pushq (%rcx); pop %rcx", "uses the stack"),
    ("push %rcx; mov slot(%rip), %rcx; incl (%rcx); pop %rdx", "does not restore"),
    ("push %rcx; push %rdx; mov slot(%rip), %rcx; incl (%rcx); pop %rcx; pop %rdx", "does not restore"),
    ("push %rcx; mov slot(%rip), %rdx; incl (%rdx); pop %rcx", "saves another register"),
    ("push %rcx; mov slot(%rip), %rcx; incl (%rcx); incl (%rcx); pop %rcx", "not what one instruction becomes"),
    ("push %rcx; mov slot(%rip), %rcx; pop %rcx", "not what one instruction becomes"),
    ("push %rcx; lock incl (%rcx); mov slot(%rip), %rcx; pop %rcx", "not what one instruction becomes"),
    (
        "push %rcx; lea (%rcx,%rbx), %rcx; mov slot(%rip), %rcx; incl (%rcx); pop %rcx",
        "not what one instruction becomes",
    ),
    ("push %rcx; mov slot(%rip), %rcx; lea 5(%rsp), %rcx; incl (%rcx); pop %rcx", "not what one instruction becomes"),
    (
        "push %rcx; mov slot(%rip), %rcx; lea (%rcx,%rcx), %rcx; incl (%rcx); pop %rcx",
        "not what one instruction becomes",
    ),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %rsp; pop %rcx", "uses the stack"),
    ("push %rcx; mov slot(%rip), %rcx; mov %spl, (%rcx); pop %rcx", "uses the stack"),
    ("push %rcx; mov slot(%rip), %rcx; mov %rcx, (%rsp); pop %rcx", "uses what it saved"),
    ("push %rcx; mov slot(%rip), %rcx; mov %rcx, -8(%rsp); pop %rcx", "uses what it saved"),
    ("push %rcx; mov slot(%rip), %rcx; xchg %rcx, (%rcx); pop %rcx", "does not use once"),
    ("mov slot(%rip), %rax; movups (%rax), %xmm0", "overwrites"),
    ("mov slot(%rip), %rax; lea (%rcx,%rax), %rax; mov (%rax), %eax", "not what one instruction becomes"),
    ("mov slot(%rip), %rax; add (%rax), %rax", "overwrites"),
    ("mov slot(%rip), %rax; mov (%rax), %al", "overwrites"),
    ("mov slot(%rip), %rax; mov (%rax), %edx", "overwrites"),
    ("mov slot(%rip), %rax; mov (%rdx,%rax), %rax", "overwrites"),
    ("mov slot(%rip), %rax; cmove (%rax), %rax", "overwrites"),
    ("push %rcx; mov slot(%rip), %rcx; call *(%rcx); pop %rcx", "branches on its way"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %rcx; xchg %rdx, (%rsp)", "does not restore"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %rcx; xchg %rcx, 8(%rsp)", "does not restore"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %rcx; xchg %rcx, (%rsp,%rax)", "does not restore"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx), %rdx; xchg %rcx, (%rsp)", "does not restore"),
    ("push %rcx; mov slot(%rip), %rdx; mov (%rdx), %rdx; xchg %rcx, (%rsp)", "does not restore"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rdx), %rcx; xchg %rcx, (%rsp)", "behind the slot"),
    ("push %rcx; mov slot(%rip), %rcx; add (%rcx), %rcx; xchg %rcx, (%rsp)", "behind the slot"),
    ("push %rcx; mov slot(%rip), %rcx; mov (%rcx,%rcx), %rcx; xchg %rcx, (%rsp)", "for something else"),
    ("push %rcx; mov own(%rip), %rcx; incl (%rcx); pop %rcx", "does not reach a slot"),
]


@pytest.mark.parametrize(("line", "fact"), WRONG, ids=[line for line, _ in WRONG])
def test_what_would_do_something_else_is_said(line: str, fact: str, tmp_path: Path) -> None:
    (section,) = (s for s in as_output(assemble(tmp_path, [line])).sections if s.name == ".text.case0")
    fields = [r.offset for r in section.relocs if r.symbol.name == "slot"]
    assert fact in check(bytes(section.data[:-1]), fields)
