# SPDX-License-Identifier: GPL-2.0-or-later
"""Parity against a kernel in small: what is proven, and what is named as different."""

from __future__ import annotations

import pytest

from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.objects.view import View
from kgbuild.proof.parity import (
    ABSENT,
    AMBIGUOUS,
    DIFFERS,
    EXACT,
    OVERRIDDEN,
    FunctionParity,
    ParityProof,
    compute_parity,
)
from tests.support.kernel import link_kernel
from tests.support.toolchain import compile_text, obj, pair_flags, view

HEAD = '#include "kernel.h"\n'


def unit(text: str, *flags: str, split: bool = False, name: str = "unit.c") -> bytes:
    return compile_text(HEAD + text, *pair_flags(flags, split=split), name=name)


def prove(text: str, *others: str, kernel: str | None = None) -> tuple[View, KernelImage, ParityProof]:
    """The unit recompiled with sections of its own, against a kernel that has it (or `kernel` instead) between the
    other units, all compiled from files of one name."""
    objects = [unit(others[0])] if others else []
    objects += [unit(text if kernel is None else kernel), *(unit(t) for t in others[1:])]
    image = link_kernel(tuple(objects))
    ours = view(unit(text, split=True))
    return ours, image, compute_parity(ours, image)


def result(ours: View, proof: ParityProof, name: str) -> FunctionParity:
    found = proof.of(ours.by_name[name][0].id)
    assert found is not None
    return found


def test_everything_is_exact() -> None:
    text = """
    static int table[4] = { 1, 2, 3, 4 };
    section(".data..percpu") int mine = 5;
    static noinline int inner(int x) { return printk("inner %d\\n", x) + table[x & 3]; }
    int outer(int x)
    {
        static struct static_key key;
        if (static_branch(&key, false))
            return mine;
        alternative("nop", "lfence", 3);
        return inner(x) + READ_ONCE(mine) + (x == 3 ? printk("%s\\n", __func__) : 0);
    }
    int __init start(void) { sink(outer); return 0; }
    """
    ours, image, proof = prove(text)
    assert {f.name: f.status for f in proof.functions} == {"inner": EXACT, "outer": EXACT, "start": EXACT}
    places = {ours.atoms[k].name: b.address for k, b in proof.bindings.items()}
    for name in ("inner", "outer", "table", "mine", "printk", "sink"):
        assert places[name] == image.named(name)[0].value, name
    assert places["mine"] < 0x1000, "the per-CPU section begins at 0"
    assert image.section_at(places["mine"]) == ".data..percpu"
    assert not image.is_init(places["mine"])
    assert image.is_init(image.named("start")[0].value)


ALIASED = r"""
asm(".pushsection .text.first, \"ax\", @progbits\n"
    ".type __pfx_PADDED, @function\n__pfx_PADDED: .fill 16, 1, 0x90\n.size __pfx_PADDED, 16\n"
    ".globl first, second\n.type first, @function\n.type second, @function\n"
    "first: second: mov $17, %eax\nret\n.size first, . - first\n.size second, . - second\n.popsection");
"""


@pytest.mark.parametrize(
    ("padded", "status"), [("first", EXACT), ("second", EXACT), ("third", ABSENT)], ids=["same", "other", "neither"]
)
def test_padding_is_called_by_any_name_of_its_function(padded: str, status: str) -> None:
    """SYSCALL_DEFINE0 gives a function three names; since 7.0 objtool takes another one here than in the kernel."""
    ours, _, proof = prove(ALIASED.replace("PADDED", "first"), kernel=ALIASED.replace("PADDED", padded))
    assert result(ours, proof, "first").status == EXACT
    assert result(ours, proof, "__pfx_first").status == status


def test_tail_jump_of_two_bytes_in_the_kernel() -> None:
    text = """
    notrace noinline int target(int x) { return source(x) * 3; }
    notrace int jumper(int x) { barrier(); return target(x + 1); }
    """
    ours, image, proof = prove(text)
    jumper = ours.by_name["jumper"][0]
    in_kernel = image.named("jumper")[0].size
    assert in_kernel < jumper.size, "the kernel's jump is no shorter, so nothing is tested"
    assert result(ours, proof, "jumper").status == EXACT
    assert proof.bindings[ours.by_name["target"][0].id].address == image.named("target")[0].value


def test_short_tail_jump_at_the_end_of_a_module() -> None:
    """The recompiled function is longer than what is left of the section."""
    text = """
    notrace noinline int target(int x) { return source(x) * 3; }
    notrace int jumper(int x) { barrier(); return target(x + 1); }
    """
    module = ModuleImage(obj(unit(text)), "m")
    ours = view(unit(text, split=True))
    (place,) = module.named("jumper")
    assert module.read(place.value, ours.by_name["jumper"][0].size) is None, "it is not at the end"
    assert result(ours, compute_parity(ours, module), "jumper").status == EXACT
    other = text.replace("x + 1", "x + 2")
    longer = view(unit(other, split=True))
    assert result(longer, compute_parity(longer, module), "jumper").status == DIFFERS


def test_short_tail_jump_to_another_function_differs() -> None:
    text = """
    notrace noinline int other(int x) { return source(x) * 7; }
    notrace noinline int target(int x) { return source(x) * 3; }
    notrace int jumper(int x) { barrier(); return target(x + 1); }
    """
    ours, _, proof = prove(text, kernel=text.replace("return target(", "return other("))
    assert result(ours, proof, "jumper").status == DIFFERS
    assert "target is at" in result(ours, proof, "jumper").reason


DUPLICATES = (
    "static used noinline int twin(int x) { return source(x) + %d; }\nint user_%d(int x) { return twin(x) + %d; }"
)


def test_duplicates_are_told_by_their_own_bytes() -> None:
    ours, image, proof = prove(DUPLICATES % (2, 2, 2), DUPLICATES % (1, 1, 1), DUPLICATES % (3, 3, 3))
    places = [s.value for s in image.named("twin")]
    assert len(places) == 3
    found = result(ours, proof, "twin")
    assert (found.status, found.address) == (EXACT, places[1])
    assert image.sympos("twin", found.address) == 2
    assert image.sympos("user_2", image.named("user_2")[0].value) == 0


def test_equal_duplicates_are_told_by_who_refers_to_them() -> None:
    text = DUPLICATES % (1, 2, 2)
    ours, image, proof = prove(text, DUPLICATES % (1, 1, 1), DUPLICATES % (1, 3, 3))
    found = result(ours, proof, "twin")
    assert (found.status, found.address) == (EXACT, image.named("twin")[1].value)
    assert proof.bindings[found.atom].evidence.startswith("read at user_2")


def test_equal_duplicates_nobody_refers_to_are_ambiguous() -> None:
    text = "static used noinline int twin(int x) { return source(x) + 1; }"
    ours, image, proof = prove(text, text + "\nint x1(int x) { return x; }")
    found = result(ours, proof, "twin")
    assert found.status == AMBIGUOUS
    assert all(f"{s.value:#x}" in found.reason for s in image.named("twin"))
    assert found.atom not in proof.bindings


def test_static_data_of_one_name_is_told_by_references() -> None:
    text = "static int state; int get_%d(void) { return READ_ONCE(state) + %d; } void set_%d(int x) { state = x; }"
    ours, image, proof = prove(text % (2, 2, 2), text % (1, 1, 1))
    state = ours.by_name["state"][0]
    assert proof.bindings[state.id].address == image.named("state")[1].value
    assert image.sympos("state", proof.bindings[state.id].address) == 2


def test_static_locals_of_one_name() -> None:
    text = "int f%d(int x) { static int count; count += x; return count; }"
    ours, image, proof = prove(text % 2, text % 1)
    count = next(a for a in ours.data if a.name.startswith("count."))
    assert len(image.named(count.name)) == 2
    assert proof.bindings[count.id].address == image.named(count.name)[1].value


def test_weak_definition_overridden_elsewhere() -> None:
    ours, _, proof = prove(
        "weak int hook(int x) { return source(x) + 1; }", "int hook(int x) { return source(x) + 2; }"
    )
    assert result(ours, proof, "hook").status == OVERRIDDEN


def test_cold_half_of_an_overridden_definition() -> None:
    """It leads back into a body that the linker kept and no symbol names."""
    ours, _, proof = prove(
        """
        extern void cold complain(int);
        weak noinline int hook(int x)
        {
            if (unlikely(x == 3))
                complain(x);
            return source(x) + 1;
        }
        int caller(int x) { return hook(x) + 1; }
        """,
        "int hook(int x) { return source(x) + 2; }",
    )
    assert result(ours, proof, "hook.cold").status == OVERRIDDEN
    assert result(ours, proof, "hook").status == OVERRIDDEN
    assert result(ours, proof, "caller").status == EXACT


def test_differing_constant_is_named() -> None:
    text = "int f(int x) { return source(x) * 5 + 1234; }"
    ours, _, proof = prove(text, kernel=text.replace("1234", "1235"))
    found = result(ours, proof, "f")
    assert found.status == DIFFERS
    assert "d3 04" in found.reason and "d2 04" in found.reason


def test_differing_callee_is_named() -> None:
    ours, _, proof = prove(
        "int source_old(int); int f(int x) { return source_old(x) + 1; }",
        kernel="int source_new(int); int f(int x) { return source_new(x) + 1; }",
    )
    assert result(ours, proof, "f").status == DIFFERS
    assert "refers to source_new, not to source_old" in result(ours, proof, "f").reason


def test_differing_string() -> None:
    text = 'int f(int x) { return printk("one %d\\n", x) + 1; }'
    ours, _, proof = prove(text, kernel=text.replace("one", "two"))
    assert result(ours, proof, "f").status == DIFFERS
    assert "another string" in result(ours, proof, "f").reason


@pytest.mark.parametrize(
    ("compiled", "kernel", "status"),
    [
        ("/here/drivers/a/x.c", "drivers/a/x.c", EXACT),
        ("drivers/a/x.c", "/usr/src/module-1.0/x.c", EXACT),
        ("./include/linux/x.h", "/usr/src/linux/include/linux/x.h", EXACT),
        ("drivers/a/x.c", "drivers/a/y.c", DIFFERS),
        ("drivers/a/x.c", "drivers/a/x.h", DIFFERS),
        ("drivers/a/x.c", "drivers/a/xx.c", DIFFERS),
        ("drivers/a/x.c", "x.c of something", DIFFERS),
        ("a/message", "b/message", DIFFERS),
    ],
)
def test_directories_of_a_sanitizers_file_names(compiled: str, kernel: str, status: str) -> None:
    """A sanitizer prints the path at which the unit was compiled; a module is compiled wherever its source lies."""
    own, theirs = (
        f'#line 1 "{path}"\nint table[4]; int get(int x) {{ return table[x]; }}' for path in (compiled, kernel)
    )
    reports = unit("void __ubsan_handle_out_of_bounds(void *where, void *index) { }")
    ours = view(unit(own, "-fsanitize=bounds", split=True))
    proof = compute_parity(ours, link_kernel((reports, unit(theirs, "-fsanitize=bounds"))))
    assert result(ours, proof, "get").status == status


def test_directories_in_other_strings_count() -> None:
    text = 'int get(int x) { return printk("a/x.c") + x; }'
    ours, _, proof = prove(text, kernel=text.replace("a/x.c", "b/x.c"))
    assert result(ours, proof, "get").status == DIFFERS


def test_string_that_ends_another_in_the_kernel() -> None:
    text = 'int f(int x) { return printk("value %d\\n", x) + 1; }'
    ours, _, proof = prove(text, 'int g(int x) { return printk("another value %d\\n", x) + 1; }')
    assert result(ours, proof, "f").status == EXACT


SWITCH = """
int f(int x)
{
    switch (x) {
    case 0: return 10; case 1: return 29; case 2: return 33; case 3: return 41; case 4: return 57;
    }
    return -1;
}
"""


def test_differing_anonymous_table() -> None:
    ours, _, proof = prove(SWITCH, kernel=SWITCH.replace("33", "34"))
    assert any(a.name.startswith("CSWTCH") for a in ours.data)
    assert result(ours, proof, "f").status == DIFFERS
    assert "other data" in result(ours, proof, "f").reason
    ours, _, proof = prove(SWITCH)
    assert result(ours, proof, "f").status == EXACT


def test_function_the_kernel_lacks() -> None:
    ours, _, proof = prove("int lost(int x) { return source(x); }", kernel="int kept(int x) { return source(x); }")
    assert result(ours, proof, "lost").status == ABSENT


def test_function_that_goes_on_in_the_kernel() -> None:
    """The recompiled one ends with a call that never returns; the kernel's continues behind it."""
    head = "extern %s void halt_for_ever(void); extern void complain(int);"
    text = head % "__attribute__((noreturn))" + "void f(void) { printk(NULL); halt_for_ever(); }"
    kernel = head % "" + "void f(void) { printk(NULL); halt_for_ever(); barrier(); complain(1); barrier(); }"
    ours, image, proof = prove(text, kernel=kernel)
    size = ours.by_name["f"][0].size
    assert image.named("f")[0].size > size
    assert result(ours, proof, "f").status == DIFFERS


TWIN = "static used noinline int twin(int x) { return source(x) + %d; }"
USER = "static int twin(int x); int user(int x) { return twin(x) + 2; }"


@pytest.mark.parametrize("texts", [(USER, TWIN), (TWIN, USER.partition(";")[2])], ids=["user first", "twin first"])
def test_bytes_at_one_place_and_references_to_another(texts: tuple[str, str]) -> None:
    """`twin` fits one place by its bytes, while its user calls the other: then not both are proven."""
    text = "\n".join(texts)
    flags = "-fno-toplevel-reorder"
    image = link_kernel((unit(TWIN % 5), unit(text.replace("%d", "6"), flags)))
    ours = view(unit(text.replace("%d", "5"), flags, split=True))
    proof = compute_parity(ours, image)
    assert [f.name for f in proof.functions] == (["user", "twin"] if texts[0] == USER else ["twin", "user"])
    assert DIFFERS in {f.status for f in proof.functions}


def test_symbols_not_in_kallsyms_have_no_position() -> None:
    _, image, _ = prove("int __crc_thing = 4; int f(void) { return __crc_thing; }")
    place = image.named("__crc_thing")[0].value
    assert image.sympos("__crc_thing", place) is None
    assert image.sympos("f", place) is None


def test_reading_outside_of_sections() -> None:
    _, image, _ = prove("int f(int x) { return source(x); }")
    assert image.read(0xFFFF_FFFF_F000_0000, 4) is None
    assert image.read(image.named("f")[0].value, 1 << 30) is None
    assert image.section_at(0xFFFF_FFFF_F000_0000) == ""


ATTRIBUTES = """
struct attribute { const char *name; int (*show)(int); struct attribute *next; };
static noinline int show(int x) { return source(x) + 1; }
static struct attribute attribute_%s = { "x", show };
struct attribute *attributes_%s[] = { NULL, &attribute_%s };
"""


def test_equal_duplicates_are_told_by_variables_of_their_unit() -> None:
    """No code refers to them: a variable that the kernel has once leads to one that leads there."""
    texts = [ATTRIBUTES.replace("attribute_%s", "shared").replace("%s", name) for name in ("one", "two", "three")]
    ours, image, proof = prove(texts[1], texts[0], texts[2])
    found = result(ours, proof, "show")
    assert (found.status, found.address) == (EXACT, image.named("show")[1].value)
    assert proof.bindings[found.atom].evidence == "read in shared+0x8"
    assert len(image.named("shared")) == 3
    assert ours.by_name["shared"][0].id not in proof.bindings, "what is read on the way is no proof of its own"


@pytest.mark.parametrize(
    ("own", "kernel"),
    [
        ("no_table", ""),  # nothing leads there
        ("attributes_two[] = { NULL, &shared }", "attributes_two[] = { &shared, NULL }"),  # another initial value
        ("attributes_two[] = { NULL, &shared }", "attributes_other[] = { NULL, &shared }"),  # the kernel has no such
    ],
)
def test_variables_that_prove_nothing_decide_nothing(own: str, kernel: str) -> None:
    text = ATTRIBUTES.replace("attribute_%s", "shared").replace("%s", "two")
    if own == "no_table":
        text = text.replace("struct attribute *attributes_two[] = { NULL, &shared };", "")
        own = ""
    keep = "static noinline int show"
    used = text.replace(keep, "static used noinline int show").replace("static struct", "static used struct")
    others = [used.replace("_two", "_one"), used.replace("_two", "_three")]
    ours, _, proof = prove(used, *others, kernel=used.replace(own, kernel) if own else used)
    assert result(ours, proof, "show").status == AMBIGUOUS
