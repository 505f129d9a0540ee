# SPDX-License-Identifier: GPL-2.0-or-later
"""What a name means in a patch of several objects: a new symbol answers where a link would find it, nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from kgbuild.closure.close import close
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diff.changes import compute_changes
from kgbuild.elf.read import read
from kgbuild.kernel.exports import Export
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.proof.parity import compute_parity
from tests.support.kernel import EXPORTS, link_kernel
from tests.support.toolchain import compile_text, pair_flags, run, scratch, view

Texts = Mapping[str, Mapping[str, str]]


def module_image(name: str, objects: list[bytes], depends: str) -> ModuleImage:
    """The units of a module as `ld -r` and modpost leave them."""
    info = f'const char info[] __attribute__((section(".modinfo"))) = "name={name}\\0depends={depends}";'
    parts = [*objects, compile_text(info, *pair_flags(split=False), name="mod.c")]
    folder = scratch() / f"module-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    paths = []
    for i, data in enumerate(parts):
        paths.append(folder / f"{i}.o")
        paths[-1].write_bytes(data)
    run("ld", "-r", "-o", folder / "module.ko", *paths)
    return ModuleImage(read((folder / "module.ko").read_bytes()), name)


def close_kernel(
    texts: Texts, exports: Mapping[str, str] | None = None, depends: Mapping[str, str] | None = None
) -> Closure:
    """C texts with #ifdef PATCHED by object and unit, closed together. `exports` says which object exports a name;
    `depends` which modules a module needs, separated by commas."""
    sources = {o: {n: f'#include "kernel.h"\n{t}' for n, t in units.items()} for o, units in texts.items()}
    images: dict[str, KernelImage] = {}
    modules: dict[str, ModuleImage] = {}
    for target, units in {"vmlinux": {}, **sources}.items():
        objects = [compile_text(t, *pair_flags(split=False), name=n) for n, t in units.items()]
        if target == "vmlinux":
            images[target] = link_kernel(tuple(objects))
        else:
            images[target] = modules[target] = module_image(target, objects, (depends or {}).get(target, ""))
    results = []
    for target, units in sources.items():
        for name, text in units.items():
            before, after = (view(compile_text(text, *pair_flags(d), name=name)) for d in ((), ("-DPATCHED",)))
            changes = compute_changes(before, after, name)
            if not changes.nothing:
                results.append(UnitResult(name, changes, compute_parity(before, images[target]), target))
    known = {n: Export(n, 0, o, "EXPORT_SYMBOL", "") for n, o in (exports or {}).items()}
    return close(tuple(results), images["vmlinux"], {**EXPORTS, **known}, modules=modules)


def codes(closure: Closure) -> list[str]:
    return [f"{r.code}:{r.symbol}" for r in sorted(closure.refusals)]


def bound(closure: Closure, user: str, name: str) -> str:
    """What a reference of a unit is bound to, "" for none: how, and the object or unit that has it."""
    for (number, atom), b in closure.bound.items():
        unit = closure.units[number]
        if unit.source == user and unit.changes.patched.atoms[atom].name == name:
            home = closure.defined.get((number, atom))
            return f"{b.how} {closure.units[home[0]].source if home else b.object}".strip()
    return ""


USER = """
extern {type} int name(int x);
int {use}(int x)
{{
#ifdef PATCHED
	return {how} + 2;
#else
	return x;
#endif
}}
"""
NEW = """
int has(int x)
{
#ifdef PATCHED
	return x + 7;
}
noinline int name(int x)
{
	return x * 4242;
#else
	return x;
#endif
}
"""
HAD = "noinline int name(int x) { return x * 10; }\n"
CALLS = USER.format(type="", use="use", how="name(x)")
WEAK = USER.format(type="weak", use="use", how="(&name != NULL)")
OTHER = "int other(int x) { return x; }\n"


def test_the_kernels_own_symbol_is_not_a_modules_new_one() -> None:
    c = close_kernel({"vmlinux": {"u.c": CALLS, "h.c": HAD}, "fat": {"n.c": NEW}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "klp vmlinux"


def test_a_modules_own_symbol_is_not_another_modules_new_one() -> None:
    c = close_kernel({"wb": {"u.c": CALLS, "h.c": HAD}, "wbn": {"n.c": NEW}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "klp wb"


def test_units_of_one_object_are_linked_together() -> None:
    for target in ("vmlinux", "fat"):
        c = close_kernel({target: {"u.c": CALLS, "n.c": NEW}})
        assert codes(c) == []
        assert bound(c, "u.c", "name") == "new n.c"


def test_each_module_of_a_unit_has_its_own() -> None:
    """Two units that two modules share."""
    c = close_kernel({m: {f"u-{m}.c": CALLS, f"n-{m}.c": NEW} for m in ("fat", "xfs")})
    assert codes(c) == []
    assert [bound(c, f"u-{m}.c", "name") for m in ("fat", "xfs")] == ["new n-fat.c", "new n-xfs.c"]


def test_vmlinux_can_not_use_what_is_new_in_a_module() -> None:
    c = close_kernel({"vmlinux": {"u.c": CALLS}, "fat": {"n.c": NEW}})
    assert codes(c) == ["K18-other-module:use"]
    assert (
        "u.c: use: refers to name, which is new in n.c, a unit of the module fat, which vmlinux does not depend on"
        in str(c.refusals[0])
    )


def test_vmlinux_can_not_use_a_modules_new_table() -> None:
    user = CALLS.replace("int name(int x)", "int name[4]").replace("name(x)", "name[x & 3]")
    table = NEW.replace(
        "noinline int name(int x)\n{\n\treturn x * 4242;", "int name[4] = { 1, 2 }; int more(int x) { return name[x];"
    )
    c = close_kernel({"vmlinux": {"u.c": user}, "fat": {"n.c": table}})
    assert codes(c) == ["K18-other-module:use"]


def test_a_table_of_its_own_or_of_vmlinux_is_there_for_a_module() -> None:
    """Near misses of the one before."""
    user = CALLS.replace("int name(int x)", "int name[4]").replace("name(x)", "name[x & 3]")
    start, end = (
        "noinline int name(int x)\n{\n\treturn x * 4242;",
        "int name[4] = { 1, 2 }; int more(int x) { return x;",
    )
    c = close_kernel({"fat": {"u.c": user}, "vmlinux": {"n.c": NEW.replace(start, end)}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "new n.c"
    own = user.replace("extern  int name[4];", "#ifdef PATCHED\nstatic int name[4] = { 1, 2 };\n#endif\n")
    c = close_kernel({m: {f"{m}.c": own.replace("int use", f"int use_{m}")} for m in ("fat", "wb")})
    assert codes(c) == []
    assert sorted(c.units[n].source for n, i in c.members if c.units[n].changes.patched.atoms[i].name == "name") == [
        "fat.c",
        "wb.c",
    ]


def test_what_a_module_has_and_does_not_export() -> None:
    c = close_kernel({"vmlinux": {"u.c": CALLS}, "fat": {"h.c": HAD, "n.c": OTHER}})
    assert codes(c) == ["K18-other-module:use"]
    assert "refers to name of the module fat, which vmlinux does not depend on" in str(c.refusals[0])


@pytest.mark.parametrize("depends", ["fat", ""])
def test_what_is_new_in_a_module_is_not_exported(depends: str) -> None:
    """Whether the user needs that module or not."""
    c = close_kernel({"vfat": {"u.c": CALLS}, "fat": {"n.c": NEW}}, depends={"vfat": depends})
    assert codes(c) == ["K18-other-module:use"]
    assert ("not exported to the module vfat" if depends else "which the module vfat does not depend on") in str(
        c.refusals[0]
    )


def test_a_module_may_use_what_is_new_in_vmlinux() -> None:
    """As it may use what vmlinux has and does not export."""
    c = close_kernel({"vmlinux": {"n.c": NEW}, "fat": {"u.c": CALLS}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "new n.c"


def test_an_export_goes_before_what_is_new_in_vmlinux() -> None:
    c = close_kernel(
        {"vmlinux": {"n.c": NEW}, "fat": {"u.c": CALLS}, "lib": {"h.c": HAD}},
        exports={"name": "fs/lib"},
        depends={"fat": "lib"},
    )
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "klp lib"


def test_an_export_of_a_stranger_is_refused_whatever_vmlinux_has() -> None:
    c = close_kernel({"vmlinux": {"n.c": NEW}, "fat": {"u.c": CALLS}, "lib": {"h.c": HAD}}, exports={"name": "fs/lib"})
    assert codes(c) == ["K18-other-module:use"]


def test_a_modules_weak_reference_to_what_is_not_exported_stays_null() -> None:
    for vmlinux in ({"h.c": HAD}, {"n.c": NEW}):
        c = close_kernel({"vmlinux": vmlinux, "fat": {"u.c": WEAK}})
        assert codes(c) == []
        assert bound(c, "u.c", "name") == "weak"


def test_a_modules_weak_reference_to_an_export_is_bound() -> None:
    c = close_kernel({"vmlinux": {"h.c": HAD}, "fat": {"u.c": WEAK}}, exports={"name": "vmlinux"})
    assert bound(c, "u.c", "name") == "export vmlinux"
    c = close_kernel({"fat": {"u.c": WEAK, "n.c": NEW}})
    assert bound(c, "u.c", "name") == "new n.c"


def test_a_weak_reference_of_vmlinux() -> None:
    assert bound(close_kernel({"vmlinux": {"u.c": WEAK, "h.c": HAD}}), "u.c", "name") == "klp vmlinux"
    local = "static noinline int name(int x) { return x; } int local(int x) { return name(x) + name(x + 1); }"
    assert bound(close_kernel({"vmlinux": {"u.c": WEAK, "h.c": local}}), "u.c", "name") == "weak"
    assert bound(close_kernel({"vmlinux": {"u.c": WEAK}, "fat": {"n.c": NEW}}), "u.c", "name") == "weak"


STATIC = """
#ifndef PATCHED
static
#endif
noinline int name(int x) { return x * 5; }
int had(int x) { return name(x) + name(x + 1); }
#ifdef PATCHED
int more(int x) { return x; }
#endif
"""


def test_a_static_made_global_answers_for_its_own_object() -> None:
    c = close_kernel({"fat": {"u.c": CALLS, "s.c": STATIC}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "klp fat"
    c = close_kernel({"vmlinux": {"u.c": CALLS, "h.c": HAD}, "fat": {"s.c": STATIC}})
    assert bound(c, "u.c", "name") == "klp vmlinux"
    c = close_kernel({"vmlinux": {"u.c": CALLS}, "fat": {"s.c": STATIC}})
    assert codes(c) == ["K18-other-module:use"]
    assert "name, which is made global in s.c, a unit of the module fat" in str(c.refusals[0])
    assert bound(close_kernel({"fat": {"u.c": CALLS}, "vmlinux": {"s.c": STATIC}}), "u.c", "name") == "klp vmlinux"
    assert bound(close_kernel({"fat": {"u.c": WEAK}, "vmlinux": {"s.c": STATIC}}), "u.c", "name") == "weak"


def test_two_definitions_of_one_name_in_one_object() -> None:
    assert codes(close_kernel({"vmlinux": {"s.c": STATIC, "n.c": NEW}})) == ["K10-weak:name", "K10-weak:name"]
    assert "K14-vanished:name" in codes(close_kernel({"vmlinux": {"s.c": STATIC, "h.c": HAD, "u.c": OTHER}}))


USES = "int name(int x);\nint user(int x) { return name(x) + 3; }\n"


@pytest.mark.parametrize("weak", ["", "#define name name\nextern weak int name(int);\n"])
def test_a_modules_new_symbol_hides_an_export_from_units_that_stay(weak: str) -> None:
    """`user` was linked with the export, or with nothing, and would go on so."""
    c = close_kernel(
        {"vmlinux": {"h.c": HAD}, "fat": {"n.c": NEW, "user.c": weak + USES}},
        exports={} if weak else {"name": "vmlinux"},
    )
    assert codes(c) == ["K14-vanished:name"]
    assert "user of the module fat" in str(c.refusals[0])


def test_a_modules_new_symbol_hides_an_export_in_its_own_unit() -> None:
    text = "int name(int x);\nint user(int x) { return name(x) + 3; }\n" + NEW
    c = close_kernel({"vmlinux": {"h.c": HAD}, "fat": {"n.c": text}}, exports={"name": "vmlinux"})
    assert codes(c) == []
    assert {r.name for r in c.redirects} == {"user", "has"}


def test_a_new_symbol_of_vmlinux_that_a_weak_reference_lacked() -> None:
    text = WEAK.replace("return x;", "return &name != NULL;")
    c = close_kernel({"vmlinux": {"u.c": text.replace("+ 2", ""), "n.c": NEW}})
    assert codes(c) == []  # its unit is not in the patch: what the kernel was linked with is not to be seen
    both = text.replace("+ 2", "") + OTHER.replace("return x;", "return x\n#ifdef PATCHED\n+ 1\n#endif\n;")
    c = close_kernel({"vmlinux": {"u.c": both, "n.c": NEW}})
    assert codes(c) == ["K14-vanished:name"]


def test_a_new_weak_definition_gives_way() -> None:
    new = NEW.replace("noinline int name", "weak noinline int name")
    c = close_kernel({"vmlinux": {"u.c": CALLS, "h.c": HAD, "n.c": new}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "klp vmlinux"


ALIAS = """
noinline int aliased(int x) { return x * 5; }
int has(int x) { return aliased(x) + aliased(x + 1); }
#ifdef PATCHED
extern int name(int x) __attribute__((alias("aliased")));
int more(int x) { return x; }
#endif
"""


def test_a_new_alias_answers_for_its_own_object() -> None:
    c = close_kernel({"fat": {"u.c": CALLS, "a.c": ALIAS}})
    assert codes(c) == []
    assert bound(c, "u.c", "name") == "klp fat"
    assert codes(close_kernel({"vmlinux": {"u.c": CALLS}, "fat": {"a.c": ALIAS}})) == ["K18-other-module:use"]
    c = close_kernel({"vmlinux": {"u.c": CALLS, "h.c": HAD}, "fat": {"a.c": ALIAS}})
    assert bound(c, "u.c", "name") == "klp vmlinux"
    assert "K14-vanished:name" in codes(close_kernel({"vmlinux": {"a.c": ALIAS, "h.c": HAD}}))


def test_the_same_name_new_in_vmlinux_and_in_a_module() -> None:
    c = close_kernel({"vmlinux": {"n.c": NEW, "u.c": CALLS}, "fat": {"m.c": NEW, "v.c": CALLS}})
    assert codes(c) == []
    assert [bound(c, f"{u}.c", "name") for u in "uv"] == ["new n.c", "new m.c"]


def test_weak_data_of_a_module() -> None:
    data = WEAK.replace("int name(int x)", "int name")
    had = "int name = 5;"
    assert bound(close_kernel({"vmlinux": {"h.c": had}, "fat": {"u.c": data}}), "u.c", "name") == "weak"
    assert bound(close_kernel({"vmlinux": {"h.c": had, "u.c": data}}), "u.c", "name") == "klp vmlinux"


def test_a_new_variable_in_init_memory() -> None:
    data = CALLS.replace("int name(int x)", "int name").replace("name(x)", "name")
    new = NEW.replace(
        "noinline int name(int x)\n{\n\treturn x * 4242;",
        'section(".init.data") int name = 3; int late(int x) { return x;',
    )
    for target in ("vmlinux", "fat"):
        assert codes(close_kernel({target: {"u.c": data, "n.c": new}})) == ["K6-init-memory:use"]
