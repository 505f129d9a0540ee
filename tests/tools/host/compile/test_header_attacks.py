# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of a header whose effect does not show where it is made: every unit that the compiler makes something else of
has to be selected, or the patch refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.host.compile import unit_selection
from kgbuild.host.compile.candidate_search import Selection
from kgbuild.host.compile.overlay import make_overlay
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.model import Kernel, KernelId, UnitCommand
from tests.support.header_changes import choose, compiled
from tests.support.toolchain import CC, empty_vmlinux

HEADER = """
#ifndef A_H
#define A_H
#define __kept_func __attribute__((__used__)) __attribute__((__noinline__))
#define __align_it __attribute__((aligned(4)))
#define __in(s) __attribute__((section(s)))
#define SMALL 1
#define CALL(x) callee(x)
#define kind_of(x) _Generic((x), struct item *: 1, default: 2)
#define ASM_STEP "nop\\n"
enum level { LOW, HIGH };
struct item { char tag; int value; unsigned flag : 3; };
typedef struct item item_t;
struct holder { item_t *first; };
int callee(int x);
int declared(int x);
item_t *find_item(int x);
extern struct holder *holders;
static inline int helper(int x)
{
	return x + SMALL;
}
static inline void step(void)
{
	asm volatile(ASM_STEP);
}
static inline int first_value(void)
{
	return holders->first->value;
}
static inline int counted(void)
{
	return __COUNTER__;
}
#endif
"""
_LABEL = re.compile(rb"(\.L?[A-Z]*)\d+\b")
UNITS = {
    "calls.c": "int c(int x) { return CALL(x) ? callee(x + 1) : declared(x); }\n",
    "nothing.c": "int nothing(int x) { return x; }\n",
    "members.c": "int m(int x) { return find_item(x)->value + first_value(); }\n",
    "generic.c": "int g(item_t *i) { return kind_of(i) + kind_of(&i->value); }\n",
    "sizes.c": "char room[sizeof(*holders->first) + (HIGH < 0)];\nlong level(void) { return sizeof(HIGH); }\n",
    "inline.c": "int h(int x) { step(); return helper(x); }\n",
    "counts.c": "int k(void) { return counted(); }\n",
    "defines.c": "int defined_here(int x) { return x; }\nint declared(int x) { return x * 2; }\n",
    "data.c": "static item_t one = { 1, 2, 3 };\n__typeof__(one) *p(void) { return &one; }\nint v __align_it;\n",
    "own.c": "static inline int mine(void) { return 1; }\nint o(void) { return 2; }\n",
}

ATTACKS = {
    "noreturn on a prototype": ("int callee(int x);", "int callee(int x) __attribute__((noreturn));"),
    "pure on a prototype": ("int callee(int x);", "int callee(int x) __attribute__((pure));"),
    "const on a second prototype": (
        "int callee(int x);",
        "int callee(int x);\nint callee(int x) __attribute__((const));",
    ),
    "an asm label": ("int callee(int x);", 'int callee(int x) __asm__("other");'),
    "weak on what a unit defines": ("int declared(int x);", "int declared(int x) __attribute__((weak));"),
    "section of what a unit defines": ("int declared(int x);", 'int declared(int x) __in(".text.x");'),
    "hidden on a prototype": ("int declared(int x);", 'int declared(int x) __attribute__((visibility("hidden")));'),
    "default visibility": ("int callee(int x);", "#pragma GCC visibility push(hidden)\nint callee(int x);"),
    "weak pragma": ("int callee(int x);", "#pragma weak declared\nint callee(int x);"),
    "a kept function": ("#endif\n", "static __kept_func int kept(void) { return 7; }\n#endif\n"),
    "a kept variable": ("#endif\n", "static int kept_one __attribute__((used)) = 7;\n#endif\n"),
    "a macro over an inline": ("#endif\n", "#define helper(x) ((x) + 3)\n#endif\n"),
    "a macro over a prototype": ("#endif\n", "#define callee(x) declared(x)\n#endif\n"),
    "a macro over a member": ("#endif\n", "#define value flag\n#endif\n"),
    "a macro over a keyword": ("#endif\n", "#define int long\n#endif\n"),
    "an undefinition": ("#endif\n", "#undef SMALL\n#define SMALL 9\n#endif\n"),
    "assembly in a macro": ('"nop\\n"', '"nop\\nnop\\n"'),
    "assembly at the top": ("int callee(int x);", 'asm(".globl made\\nmade = 3");\nint callee(int x);'),
    "the type of an enumerator": ("{ LOW, HIGH }", "{ LOW, HIGH, HUGE = 1UL << 40 }"),
    "a negative enumerator": ("{ LOW, HIGH }", "{ LOW = -2, HIGH }"),
    "a wider bit-field": ("flag : 3", "flag : 2"),
    "packed": ("unsigned flag : 3; };", "unsigned flag : 3; } __attribute__((packed));"),
    "packed by pragma": ("struct item {", "#pragma pack(1)\nstruct item {"),
    "packed by operator": ("struct item {", '_Pragma("pack(1)") struct item {'),
    "another member order": ("char tag; int value;", "int value; char tag;"),
    "another typedef": ("typedef struct item item_t;", "typedef struct { long tag, value, flag; } item_t;"),
    "another alignment": ("aligned(4)", "aligned(64)"),
    "a result type": ("item_t *find_item", "const item_t *find_item"),
    "one more of __COUNTER__": ("static inline int counted", "enum { STEP = __COUNTER__ };\nstatic inline int counted"),
    "__COUNTER__ in an inline": (
        "static inline int counted",
        "static inline int other(void) { return __COUNTER__; }\nstatic inline int counted",
    ),
    "a variable": ("int callee(int x);", "int callee(int x), shared_one;"),
    "a tentative array": ("int callee(int x);", "int callee(int x);\nchar many[3];"),
    "optimisation": ("static inline int helper", '_Pragma("GCC optimize(\\"O0\\")")\nstatic inline int helper'),
    "no longer inline": ("static inline int helper", "static __attribute__((noinline)) int helper"),
    "no longer static": ("static inline int helper", "inline int helper"),
    "an alias": ("#endif\n", 'static int alias_of(int) __attribute__((alias("callee"), used));\n#endif\n'),
}
BROKEN = {
    "an unknown type": ("int callee(int x);", "int callee(int x);\nint unknown(intt x);"),
    "a false assertion": ("int callee(int x);", '_Static_assert(sizeof(int) == 2, "");\nint callee(int x);'),
    "a missing semicolon": ("item_t *find_item", "int new_one(int x)\nitem_t *find_item"),
    "another type of a unit's own": ("int callee(int x);", "int callee(int x);\nlong mine(int);"),
    "another type of another header": ("int callee(int x);", "int callee(int x);\nlong second(int);"),
    "a member twice": ("unsigned flag : 3;", "unsigned flag : 3; int tag;"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    root = tmp_path_factory.mktemp("attacked")
    source, build = root / "source", root / "build"
    files = {f"kernel/{name}": f'#include <linux/a.h>\n#include "b.h"\n{text}' for name, text in UNITS.items()}
    files |= {"include/linux/a.h": HEADER, "kernel/b.h": "static inline int second(void) { return 2; }\n"}
    files |= {"init/main.c": "int main_unit;\n", "include/linux/first.h": "\n"}
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    build.mkdir()
    argv = (CC, "-I{src}/include", "-O2", "-w", "-c")
    units = [UnitCommand(n, n[:-2] + ".o", n[:-2], "x", False, argv, ()) for n in sorted(files) if n.endswith(".c")]
    write_units(units, root / "units.sqlite")
    (root / "config").write_text("")
    nowhere, names = root / "none", KernelId("test", "1", "1", "00" * 20)
    vmlinux, made = empty_vmlinux(root), root / "units.sqlite"
    return Kernel(names, root, source, build, root / "config", nowhere, vmlinux, nowhere, None, made, CC, "")


def made_of(tree: Path, name: str) -> list[bytes] | None:
    """What the compiler makes of a unit; None if it refuses it."""
    try:
        # inline assembly names the file that it comes from; labels are numbered through the unit
        lines = [line for line in compiled(tree, name, ()) if not line.lstrip().startswith(b"# ")]
        return [_LABEL.sub(rb"\1N", line) for line in lines]
    except subprocess.CalledProcessError:
        return None


@pytest.fixture(scope="module")
def originals(tree: Kernel) -> dict[str, list[bytes] | None]:
    made = {f"kernel/{name}": made_of(tree.source, f"kernel/{name}") for name in UNITS}
    assert None not in made.values()
    return made


@pytest.mark.parametrize("name", [*ATTACKS, *BROKEN])
def test_no_unit_is_missed(
    tree: Kernel,
    originals: dict[str, list[bytes] | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(unit_selection, "FEW", 0)
    old, new = (ATTACKS | BROKEN)[name]
    if "#endif" in old:
        old, new = "}\n#endif\n", "}\n" + new
    assert HEADER.count(old) == 1
    selection = choose(tree, tmp_path, {"include/linux/a.h": (old, new)})
    overlay = tmp_path / "overlay"
    make_overlay(tree.source, selection.files, overlay, ["include", "include/linux", "kernel"])
    patched = {unit: made_of(overlay, unit) for unit in originals}
    wanted = {unit for unit, made in patched.items() if made != originals[unit]}
    assert (None in patched.values()) >= (name in BROKEN)
    if None in patched.values():
        # what does not compile is refused here, or where it is compiled
        assert [r.code for r in selection.refusals] == ["P10-compile"] or {
            unit for unit, made in patched.items() if made is None
        } & set(selection.because)
    else:
        assert not selection.refusals and wanted <= set(selection.because)


def test_a_few_units_are_looked_at_before_the_rest(tree: Kernel, tmp_path: Path) -> None:
    """First the patch's own, then some that the header changes; what is raised there ends the search."""
    seen: list[tuple[dict[str, str], int]] = []

    def look(selection: Selection, rest: int) -> None:
        seen.append((dict(selection.because), rest))

    change = {
        "include/linux/a.h": ("char tag; int value;", "int value; char tag;"),
        "kernel/own.c": ("return 2", "return 3"),
    }
    selection = choose(tree, tmp_path, change, look=look)
    assert seen[0] == ({"kernel/own.c": "changed"}, len(UNITS) - 1)
    (samples, rest) = seen[1]
    assert (
        samples and set(samples) <= set(selection.because) - {"kernel/own.c"} and rest == len(UNITS) - 1 - len(samples)
    )

    def refuse(selection: Selection, rest: int) -> None:
        raise Refused([Refusal("K9-type-layout", "kernel/own.c: struct item", "grows")], rest)

    with pytest.raises(Refused) as refused:
        choose(tree, tmp_path, change, look=refuse)
    assert refused.value.unexamined == len(UNITS) - 1
    assert "9 units were not looked at" in refused.value.not_examined
