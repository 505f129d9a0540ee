# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that differ from the kernel's in padding before loops: proven by a second compile, and by nothing less."""

from __future__ import annotations

import pytest

from kgbuild.elf.read import read
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.objects.view import View
from kgbuild.proof.parity import DIFFERS, EXACT, OWN_BYTES, PADDED_BYTES, ParityProof, compute_parity
from tests.support.kernel import link_kernel
from tests.support.toolchain import compile_text, pair_flags, view

# what gcc 14 does for tight loops
ALIGNED = ("-falign-loops=64", "-falign-jumps=1", "-falign-labels=1", "-falign-functions=16", "-fno-toplevel-reorder")
HEAD = """
#include "kernel.h"
int before(int x) { return source(x) * 5; }
notrace int odd(int x) { return x * 7; }
static int table[4] = { 1, 2, 3, 4 };
"""
COUNT = "int f(const u8 *p, int n) { int s = 0; for (int i = 0; i < n; i++) s = s * 3 + p[i]; return s; }"
SHAPES = {
    "loop": COUNT,
    "two loops": """
    int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        sink(p);
        for (int i = 0; i < n; i++) s = s * 5 ^ p[i];
        return s;
    }""",
    "nested loops": """
    int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++)
            for (int j = i; j < n; j++) s = s * 3 + p[j];
        return s;
    }""",
    "loop at once": "notrace void f(u64 *a) { do { *a = *a >> 1; a++; } while (*a); }",
    "branch over a loop": """
    int f(const u8 *p, int n)
    {
        if (n > 3) {
            do { sink(p); p += table[n & 3]; } while (*p);
            printk("f %s\\n", "one");
        }
        return source(n);
    }""",
    "wide branches": """
    int f(const u8 *p, int n)
    {
        int s = n;
        if (source(n) == 3) goto out;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        sink(p); sink(p + 1); sink(p + 2); sink(p + 3); sink(p + 4); sink(p + 5); sink(p + 6);
        if (s == 8) goto out;
        sink(p + 7); sink(p + 8); sink(p + 9);
    out:
        return s;
    }""",
    "static key": """
    static struct static_key key;
    int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++) { s += p[i]; if (static_branch(&key, false)) s = source(s); }
        return s;
    }""",
    "static key before a loop": """
    static struct static_key key;
    int f(const u8 *p, int n)
    {
        int s = 0;
        if (static_branch(&key, false)) return 3;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        return s;
    }""",
    "alternative": """
    int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++) { s += p[i]; alternative("nop", "lfence", 3); }
        return s;
    }""",
    "empty alternative before a loop": """
    int f(const u8 *p, int n)
    {
        int s = 0;
        alternative("", "lfence", 3);
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        return s;
    }""",
    "bug behind a loop": """
    int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        if (unlikely(s == 9)) bug_entry(BUGFLAG_WARNING, 3);
        return s;
    }""",
    "fault in a loop": """
    u64 f(const u64 *p, int n)
    {
        u64 s = 0;
        for (int i = 0; i < n; i++) s += load_faulting(p + i, 3);
        return s;
    }""",
    "cold half": """
    extern void complain(int);
    cold noinline void rare(const void *p) { sink(p); complain(3); }
    int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        if (s == 7) { rare(p); for (int i = 0; i < n; i++) s = source(s); rare(p + 1); }
        return s + table[n & 3];
    }""",
    "static locals and strings": """
    int f(const u8 *p, int n)
    {
        static int last;
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        if (last == s) printk("f again\\n");
        last = s;
        return s;
    }""",
    "own address": """
    void f(const u8 *p, int n)
    {
        for (int i = 0; i < n; i++) if (p[i] == 3) sink(p);
    here:
        barrier();
        sink(&&here);
        for (int i = 0; i < n; i++) sink(p + i);
    }""",
    "table of labels": """
    int f(const u8 *p, int n)
    {
        static const void *const places[] = { &&one, &&two, &&three };
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        goto *places[n & 1];
    one:
        return source(s);
    two:
        for (int i = 0; i < n; i++) s = s * 5 ^ p[i];
    three:
        return s + 3;
    }""",
    "tail jump": """
    notrace noinline int target(int x) { return source(x) * 3; }
    notrace int f(const u8 *p, int n)
    {
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        barrier();
        return target(s);
    }""",
    "no-op of its own": """
    int f(const u8 *p, int n)
    {
        int s = 0;
        asm volatile("nop");
        sink(p);
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        return s;
    }""",
    "constant": """
    struct five { int a[5]; };
    extern void show(int);
    int f(const u8 *p, int n)
    {
        static const struct five all = { { 9, 8, 7, 6, 5 } };
        int s = 0;
        for (int i = 0; i < n; i++) s = s * 3 + p[i];
        return s + all.a[n & 3];
    }""",
    "caller of it": "int e(int x) { return source(x) * 9; }"
    + COUNT
    + "int g(const u8 *p) { int s = f(p, 3); sink(f); return s; }",
}


def unit(text: str, *, split: bool) -> bytes:
    return compile_text(HEAD + text, *pair_flags(ALIGNED, split=split))


def shifted(text: str, name: str = "f") -> str:
    """The text, with so many functions before it that one has another size in a section with them."""
    for count in range(4):
        moved = "".join(f"notrace int shift{i}(int x) {{ return x * {i + 11}; }}\n" for i in range(count)) + text
        sizes = {view(unit(moved, split=split)).by_name[name][0].size for split in (True, False)}
        if len(sizes) > 1:
            return moved
    raise AssertionError("its padding does not depend on its place")


def prove(text: str, kernel: str | None = None) -> tuple[View, KernelImage, ParityProof, ParityProof]:
    """A unit by kgbuild's options against a kernel with it (or with `kernel`), without and with the plain object."""
    image = link_kernel((unit(text if kernel is None else kernel, split=False),))
    own, plain = view(unit(text, split=True)), view(unit(text, split=False))
    return own, image, compute_parity(own, image), compute_parity(own, image, plain)


def status(own: View, proof: ParityProof, name: str = "f") -> str:
    found = proof.of(own.by_name[name][0].id)
    assert found is not None
    return found.status


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_is_told_by_a_second_compile(shape: str) -> None:
    own, image, alone, proof = prove(shifted(SHAPES[shape]))
    function = own.by_name["f"][0]
    assert status(own, alone) == DIFFERS, "the padding is the same, so nothing is tested"
    assert function.id in alone.paddable
    assert {f.name: f.status for f in proof.functions if f.status != EXACT} == {}
    assert function.id in proof.padded
    assert not proof.paddable
    binding = proof.bindings[function.id]
    assert (binding.address, binding.evidence) == (image.named("f")[0].value, PADDED_BYTES)
    assert proof.bindings[own.by_name["before"][0].id].evidence == OWN_BYTES
    # what the second compile adds is only what the first could not tell
    assert all(proof.bindings[i].address == known.address for i, known in alone.bindings.items())


def damaged(data: bytes, offset: int, bit: int) -> bytes:
    out = bytearray(data)
    out[offset] ^= 1 << bit
    return bytes(out)


DAMAGED = ("static key", "alternative", "cold half", "table of labels")


@pytest.mark.parametrize("shape", DAMAGED)
def test_no_byte_of_the_kernel_may_be_another(shape: str) -> None:
    """Each byte of the function in the kernel's file in turn, its padding included."""
    text = shifted(SHAPES[shape])
    own, image, _, _ = prove(text)
    plain = view(unit(text, split=False))
    (symbol,) = image.named("f")
    section = image.obj.sections[symbol.shndx]
    start = section.offset + symbol.value - section.addr
    for offset in range(start, start + symbol.size):
        changed = KernelImage(read(damaged(bytes(image.obj.data), offset, offset % 8)))
        assert status(own, compute_parity(own, changed, plain)) != EXACT, f"+{offset - start:#x}"


@pytest.mark.parametrize("shape", DAMAGED)
@pytest.mark.parametrize("split", [True, False], ids=["own", "plain"])
def test_no_byte_of_either_object_may_be_another(shape: str, split: bool) -> None:
    """Each byte of the function in turn, but for those that a relocation overwrites."""
    text = shifted(SHAPES[shape])
    _, image, _, _ = prove(text)
    objects = {kind: unit(text, split=kind) for kind in (True, False)}
    views = {kind: view(data) for kind, data in objects.items()}
    function = views[split].by_name["f"][0]
    filled = {r.offset + i for r in views[split].refs(function) if not r.synthetic for i in range(r.size)}
    start = views[split].section_of(function).offset + function.offset
    for offset in sorted(set(range(function.size)) - filled):
        changed = {**views, split: view(damaged(objects[split], start + offset, offset % 8))}
        proof = compute_parity(changed[True], image, changed[False])
        assert status(changed[True], proof) != EXACT, f"+{offset:#x}"


OTHERS = {
    "another constant": ("s * 3", "s * 5"),
    "another table": ("int f(const u8 *p, int n) { int s = 0;", "int f(const u8 *p, int n) { int s = table[0];"),
    "another condition": ("i < n", "i <= n"),
    "a no-op more": ("return s;", 'asm volatile("nop"); return s;'),
    "a no-op before the loop": ("int s = 0;", 'int s = 0; asm volatile("nop");'),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_function_is_not_proven(other: str) -> None:
    text = shifted(COUNT)
    own, _, _, proof = prove(text, text.replace(*OTHERS[other]))
    assert status(own, proof) == DIFFERS


ENTRIES = {
    "another key": ("static key", ("&key, false", "&other, false")),
    "another flag": ("bug behind a loop", ("BUGFLAG_WARNING", "BUGFLAG_ONCE")),
    "another feature": ("alternative", ('"lfence", 3', '"lfence", 4')),
    "another kind of fault": ("fault in a loop", (", 3)", ", 4)")),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_entries_are_compared_as_well(kind: str) -> None:
    """The code is the same, and padded otherwise; only an entry of a special section differs."""
    shape, replaced = ENTRIES[kind]
    text = shifted("static struct static_key other; void u(void) { sink(&other); }" + SHAPES[shape])
    own, _, alone, same = prove(text)
    assert status(own, alone) == DIFFERS
    assert status(own, same) == EXACT
    own, _, _, other = prove(text, text.replace(*replaced))
    assert status(own, other) == DIFFERS


def test_the_plain_object_must_have_the_bytes() -> None:
    """An object that is not the kernel's, but whose function has the same instructions, proves nothing."""
    own, image, alone, _ = prove(COUNT)
    other = view(
        compile_text(HEAD + "notrace int more(int x) { return x * 9; }" + COUNT, *pair_flags(ALIGNED, split=False))
    )
    proof = compute_parity(own, image, other)
    assert status(own, alone) == status(own, proof) == DIFFERS
    assert not proof.padded


def test_a_copy_that_has_the_same_padding_by_chance_is_not_taken_for_it() -> None:
    """A static function of two units: the compile with sections of its own has the bytes of the other unit's copy."""
    copy = f"static used noinline {COUNT.replace('int f(', 'int twin(')}"
    user = "int user(const u8 *p) { return twin(p, 3) + 1; }"
    # alone in its unit, the copy lies where a section of its own has it
    other = compile_text(f'#include "kernel.h"\n{copy}', *pair_flags(ALIGNED, split=False), name="other.c")
    for text in (shifted(copy, "twin"), shifted(copy, "twin") + user):
        image = link_kernel((unit(text, split=False), other))
        own, plain = view(unit(text, split=True)), view(unit(text, split=False))
        own_place, other_place = (s.value for s in image.named("twin"))
        function = own.by_name["twin"][0]
        sizes = {s.value: s.size for s in image.named("twin")}
        assert sizes[other_place] == function.size != sizes[own_place]
        alone, proof = compute_parity(own, image), compute_parity(own, image, plain)
        assert status(own, alone, "twin") != EXACT
        assert function.id in alone.paddable
        assert (status(own, proof, "twin"), proof.bindings[function.id].address) == (EXACT, own_place)
        assert {f.name: f.status for f in proof.functions if f.status != EXACT} == {}
