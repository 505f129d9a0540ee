# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions at random that refer to `target`, for test_slots.py: what gcc makes of kernel code and more, with any
register, size, scale and displacement."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

REGISTERS = {
    "q": ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
    "l": [
        "eax",
        "ebx",
        "ecx",
        "edx",
        "esi",
        "edi",
        "ebp",
        "r8d",
        "r9d",
        "r10d",
        "r11d",
        "r12d",
        "r13d",
        "r14d",
        "r15d",
    ],
    "w": ["ax", "bx", "cx", "dx", "si", "di", "bp", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"],
    "b": [
        "al",
        "bl",
        "cl",
        "dl",
        "sil",
        "dil",
        "bpl",
        "r8b",
        "r9b",
        "r10b",
        "r11b",
        "r12b",
        "r13b",
        "r14b",
        "r15b",
        "ah",
        "bh",
        "ch",
        "dh",
    ],
}
# {m} is memory of the kernel's, {o} other memory or a register, {r} a register of the size {s}, {v} a vector register,
# {n} a small number
FORMS = [
    *(
        f"{name}{{s}} %{{r}}, {{m}}"
        for name in ["mov", "add", "sub", "adc", "sbb", "and", "or", "xor", "cmp", "test", "xchg"]
    ),
    *(f"{name}{{s}} {{m}}, %{{r}}" for name in ["mov", "add", "sub", "adc", "sbb", "and", "or", "xor", "cmp"]),
    *(f"{name}{{s}} ${{n}}, {{m}}" for name in ["mov", "add", "sub", "adc", "sbb", "and", "or", "xor", "cmp", "test"]),
    *(f"{lock}{name}{{s}} {{m}}" for name in ["inc", "dec", "neg", "not"] for lock in ("", "lock ")),
    *(f"lock {name}{{s}} %{{r}}, {{m}}" for name in ["xadd", "cmpxchg", "add", "sub", "and", "or", "xor"]),
    *(
        f"{name}{{s}} {{m}}, %{{r}}"
        for name in ["movzb", "movsb", "movzw", "movsw", "cmove", "cmovb", "imul", "bsf", "bsr", "popcnt", "lea"]
    ),
    *(f"{name}{{s}} ${{n}}, {{m}}" for name in ["shl", "shr", "sar", "rol", "ror", "rcl", "bt", "bts", "btr", "btc"]),
    *(f"{name}{{s}} %cl, {{m}}" for name in ["shl", "sar", "rcr"]),
    *(f"{name}{{s}} %{{r}}, {{m}}" for name in ["bt", "bts", "btr", "btc", "movnti"]),
    *(f"{name}{{s}} ${{n}}, %{{r}}, {{m}}" for name in ["shld", "shrd"]),
    *(
        f"{name}q $target{{d}}, {{o}}"
        for name in ["mov", "add", "sub", "and", "or", "xor", "cmp", "test", "adc", "sbb"]
        for _ in range(3)
    ),
    *("mul{s} {m}", "imul{s} {m}", "imul{s} $77, {m}, %{r}", "sete {m}", "setb {m}", "lock cmpxchg8b {m}"),
    *(
        "movslq {m}, %{q}",
        "pushq $target{d}; popq %{q}",
        "pushq {m}; popq %{q}",
        "movups {m}, %{v}; movups %{v}, own(%rip)",
    ),
    *("movq {m}, %{v}; movq %{v}, own(%rip)", "pxor %{v}, %{v}; movups %{v}, {m}"),
]


def random_lines(count: int, seed: int, folder: Path) -> list[str]:
    """At most `count` lines that the assembler takes."""
    rng = random.Random(seed)
    lines = [_line(rng) for _ in range(count)]
    (folder / "random.s").write_text("\n".join(lines) + "\n")
    command = ["as", "-o", "/dev/null", "random.s"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stderr
    wrong = {int(number) for number in re.findall(r"random\.s:(\d+): Error", said)}
    return [line for number, line in enumerate(lines, 1) if number not in wrong]


def _line(rng: random.Random) -> str:
    size = rng.choice("bwlq")
    line = rng.choice(FORMS).format(
        s=size,
        r=rng.choice(REGISTERS[size]),
        q=rng.choice(REGISTERS["q"]),
        v=f"xmm{rng.randrange(16)}",
        n=rng.choice([0, 1, 3, 5, 7]),
        d=_distance(rng),
        m=_memory(rng),
        o=rng.choice([_other(rng), f"%{rng.choice(REGISTERS['q'])}"]),
    )
    return _aligned(line) if line.startswith(("lock", "xchg")) else line


def _aligned(line: str) -> str:
    """A locked instruction with its memory at a multiple of eight: across a cache line it would lock the bus, which
    takes a thousand times as long and holds up the whole machine."""
    for distance, other in (("target+100", "target+104"), ("target+4", "target+40"), ("target+1(", "target+8(")):
        line = line.replace(distance, other) if other not in line else line
    line = re.sub(r"target\+1$", "target+8", line)
    used = re.findall(r"%(\w+)", line[line.index("(") :]) if "(" in line else []
    return "".join(f"and $-8, %{register}; " for register in used if register != "rip") + line


def _distance(rng: random.Random) -> str:
    return rng.choice(["", "+1", "+4", "+8", "+16", "+100"])


def _memory(rng: random.Random) -> str:
    base, index = (rng.choice(REGISTERS["q"]) for _ in range(2))
    scale = rng.choice([1, 2, 4, 8])
    forms = ["(%rip)"] * 3 + [f"(,%{index},{scale})", f"(%{base})", f"(%{base},%{index},{scale})", ""]
    return f"target{_distance(rng)}{rng.choice(forms)}"


def _other(rng: random.Random) -> str:
    index, scale = rng.choice(REGISTERS["q"]), rng.choice([1, 2, 4, 8])
    at = rng.choice([8, 16, 0x70, 0x78, 0x7F, 0x80, 0x100])
    own = f"own+{rng.choice([0, 8, 16])}(%rip)"
    return rng.choice([own, f"own(,%{index},{scale})", f"{at}(%rsp)", f"{at}(%rsp,%{index},{scale})", _memory(rng)])
