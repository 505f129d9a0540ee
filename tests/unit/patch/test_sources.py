# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch may touch, and what patched code may read."""

from __future__ import annotations

import pytest

from kgbuild.patch.include_policy import check_dependencies, check_includes
from kgbuild.patch.tree_paths import FileKind, check_kind, check_path, choose_path, classify, find_strip
from kgbuild.patch.unified_diff import DEV_NULL, FilePatch, PatchKind, parse_patch


def change(old: str, new: str = "", kind: PatchKind = "change", mode: str = "100644") -> FilePatch:
    return FilePatch(old, new or old, (), kind, mode, mode)


KINDS = {
    FileKind.CODE: "fs/proc/version.c kernel/sched/deadline.c lib/test_sort.c certs/blacklist.c net/core/dev.c "
    "arch/x86/entry/vdso/vma.c arch/x86/realmode/init.c arch/x86/kernel/vmlinux.c "
    "drivers/gpu/drm/i915/selftests/i915_gem.c init/main.c rust/helpers.c arch/x86/kernel/tools.c",
    FileKind.HEADER: "include/linux/fs.h fs/mount.h arch/x86/include/asm/vdso/processor.h include/vdso/time.h",
    FileKind.SKIPPED: "Documentation/x.c Documentation/Makefile tools/objtool/check.c tools/lib/x.S MAINTAINERS "
    "CREDITS COPYING README .mailmap .gitignore fs/.gitignore .clang-format samples/livepatch/x.c "
    "tools/testing/selftests/x.sh LICENSES/x fs/qnx6/README drivers/gpu/drm/TODO net/x.rst fs/ext4/.kunitconfig "
    "drivers/leds/notes.txt drivers/staging/x/Documentation/y",
    FileKind.BUILD: "Makefile fs/Makefile fs/Kbuild Kbuild Kconfig fs/Kconfig.debug scripts/mod/modpost.c .config "
    "scripts/Makefile.build usr/gen_init_cpio.c arch/x86/configs/x86_64_defconfig arch/x86/kernel/vmlinux.lds.S "
    "include/asm-generic/vmlinux.lds.h arch/x86/entry/syscalls/syscall_64.tbl certs/extract-cert.c "
    "include/generated/autoconf.h kernel/gen_kheaders.sh arch/x86/tools/relocs.c kernel/bounds.c "
    "arch/x86/kernel/asm-offsets_64.c certs/signing_key.pem arch/x86/Makefile.um arch/x86/boot/Makefile "
    "arch/x86/lib/x86-opcode-map.txt scripts/spelling.txt include/config/auto.conf scripts/Kconfig.include",
    FileKind.NOT_C: "arch/x86/entry/entry_64.S "
    "arch/x86/boot/main.c arch/x86/boot/boot.h arch/x86/realmode/rm/wakemain.c "
    "arch/x86/entry/vdso/vclock_gettime.c lib/vdso/gettimeofday.c arch/x86/purgatory/purgatory.c "
    "drivers/firmware/efi/libstub/x86-stub.c",
    FileKind.DEVICE_TREE: "arch/arm/boot/dts/x.dts arch/arm64/boot/dts/y.dtsi drivers/of/z.dtso",
    FileKind.UNSUPPORTED: "rust/kernel/lib.rs crypto/x.asn1 drivers/x.c_shipped kernel/x.bpf.c fs/noextension "
    "debian/rules drivers/a.C",
}


@pytest.mark.parametrize(("path", "kind"), [(p, k) for k, paths in KINDS.items() for p in paths.split()])
def test_classify(path: str, kind: FileKind) -> None:
    assert classify(path) is kind


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("fs/x.c", ""),
        ("Documentation/x", ""),
        ("Makefile", "P2-build-system"),
        ("arch/x86/entry/entry_64.S", "P3-not-c"),
        ("a.dts", "P9-unsupported-file"),
        ("a.rs", "P9-unsupported-file"),
    ],
)
def test_check_kind_of_file(path: str, code: str) -> None:
    assert [r.code for r in check_kind(change("a/" + path), path)] == ([code] if code else [])


def test_check_kind_of_change() -> None:
    for kind in ("delete", "rename", "copy", "binary"):
        (refusal,) = check_kind(change("a/fs/x.c", kind=kind), "fs/x.c")  # type: ignore[arg-type]
        assert refusal.code == "P9-unsupported-file"
        assert check_kind(change("a/MAINTAINERS", kind=kind), "MAINTAINERS") == []  # type: ignore[arg-type]
    assert check_kind(change("a/fs/x.c", kind="mode"), "fs/x.c") == []
    assert check_kind(change("a/fs/x.c", mode="160000"), "fs/x.c")


@pytest.mark.parametrize(
    ("path", "strip", "fact"),
    [
        ("a/fs/x.c", 1, ""),
        ("./fs/x.c", 0, ""),
        ("a/fs/ä..b.c", 1, ""),
        ("a/../../etc/passwd", 1, "`..`"),
        ("a/../../etc/passwd", 3, "`..`"),
        ("a/fs/..", 1, "`..`"),
        ("/etc/passwd", 0, "absolute"),
        ("/etc/passwd", 1, "absolute"),
        ("a/fs\\x.c", 1, "backslash"),
        ("a/fs/\x00x.c", 1, "control"),
        ("a/fs/\x1b[2Jx.c", 1, "control"),
        ("a/fs/\u202ex.c", 1, "can't be shown"),
        ("x.c", 1, "nothing is left"),
    ],
)
def test_check_path(path: str, strip: int, fact: str) -> None:
    for file in (change(path), change("a/b/c/d/y.c", path), change(path, DEV_NULL)):
        found = check_path(file, strip)
        assert [r.code for r in found] == (["P4-path"] if fact else []), path
        if fact:
            assert fact in found[0].fact
            assert found[0].place.isprintable()


def test_symbolic_links_are_refused() -> None:
    assert "symbolic link" in check_path(change("a/fs/x.c", mode="120000"), 1)[0].fact


def strip(*paths: str, tree: str = "fs/x.c Makefile kernel/Makefile kernel/fork.c a/fs/x.c") -> int:
    return find_strip([change(p) for p in paths], lambda path: path in tree.split())


def test_find_strip() -> None:
    assert strip("a/kernel/fork.c") == 1
    assert strip("kernel/fork.c") == 0
    assert strip("kernel/fork.c", "fs/x.c") == 0
    assert strip("linux-6.1/kernel/fork.c") == 1
    assert strip("home/me/linux/kernel/fork.c") == 3
    assert strip("kernel/Makefile") == 0  # not Makefile with 1
    assert strip("a/fs/x.c") == 1  # git's prefix, though there is a directory a
    assert strip("a/kernel/fork.c", "a/kernel/gone.c") == 1
    assert strip("x/y/kernel/fork.c", "x/y/kernel/gone.c") == 2
    assert strip("a/gone.c") == 1
    assert strip("gone/gone.c") == 0
    assert strip("1/2/3/4/kernel/fork.c") == 4
    assert find_strip([change(DEV_NULL, "b/fs/new.c", "new")], lambda _: False) == 1
    assert find_strip([change(DEV_NULL, "x/new.c", "new"), change("x/fs/x.c")], "fs/x.c".__eq__) == 1


def test_paths_outside_are_never_looked_up() -> None:
    asked: list[str] = []
    files = [change("a/../../etc/passwd"), change("/etc/passwd"), change("a/b\0c")]
    find_strip(files, lambda path: bool(asked.append(path)))
    assert not [p for p in asked if p.startswith("/") or ".." in p or "\0" in p]


def test_choose_path() -> None:
    file = change("fs/x.c.orig", "fs/x.c")
    assert choose_path(file, 0, "fs/x.c".__eq__) == "fs/x.c"
    assert choose_path(change("fs/x.c", "fs/x.c.new"), 0, "fs/x.c".__eq__) == "fs/x.c"
    assert choose_path(change("a/fs/x.c", DEV_NULL, "delete"), 1, lambda _: False) == "fs/x.c"


GOOD = [
    b"#include <linux/fs.h>\n",
    b'#include "internal.h"\n',
    b'#include "../../mm/internal.h"\n',
    b"#include <../arch/x86/kernel/x.h>\n",
    b'// #include "/etc/passwd"\n',
    b'/*\n#include "/etc/passwd"\n*/\n',
    b'char *s = "#include \\"/etc/passwd\\"";\n',
    b'#if __has_include("x.h")\n#endif\n',
    b"#ifdef __has_include\n#endif\n",
    b'#pragma GCC diagnostic ignored "-Wall"\n',
    b"int include = 3; x.include = 3; a % b;\n",
    b'pr_info("include it");\n',
    b"#error don't include /* this\n",
    b'int a; # include "/etc/passwd"\n',
]


@pytest.mark.parametrize("text", GOOD)
def test_includes_that_are_fine(text: bytes) -> None:
    assert check_includes("fs/proc/x.c", text + b"int x;\n") == []


BAD = [
    (b'#include "/etc/passwd"\n', 1, "absolute"),
    (b"#include </etc/passwd>\n", 1, "absolute"),
    (b'int a;\n  #  include_next  "/etc/passwd"\n', 2, "absolute"),
    (b'#embed "/etc/passwd"\n', 1, "absolute"),
    (b'#import "/etc/passwd"\n', 1, "absolute"),
    (b'#include "../../../etc/passwd"\n', 1, "leaves"),
    (b"#include <../../etc/passwd>\n", 1, "leaves"),
    (b'#include "a/../../../../etc/passwd"\n', 1, "leaves"),
    (b"#include NAME\n", 1, "preprocessor"),
    (b"#include/**/NAME\n", 1, "preprocessor"),
    (b"#include __stringify(/etc/passwd)\n", 1, "preprocessor"),
    (b'#inc\\\nlude "/etc/passwd"\n', 1, "absolute"),
    (b'int a;\n#\\\n\\ \n include \\\n "/etc/passwd"\n', 2, "absolute"),
    (b'/* a\n */ # /* b\n */ include /**/ "/etc/passwd"\n', 2, "absolute"),
    (b'%:include "/etc/passwd"\n', 1, "absolute"),
    (b'%:include "x.h"\n', 1, "digraph"),
    (b'??=include "x.h"\n', 1, "trigraph"),
    (b"int a; ??/\nint b;\n", 1, "trigraph"),
    (b'char *s = R"(\n"/*)";\n#include "/etc/passwd"\n', 3, "absolute"),
    (b'#define Q \'"\'\n#include "/etc/passwd"\n', 2, "absolute"),
    (b'#error don\'t /*\n#include "/etc/passwd"\n', 2, "absolute"),
    (b'#if 0\ndon\'t /*\n#include "/etc/passwd"\n#endif\n', 3, "absolute"),
    (b'#if __has_include("/etc/passwd")\n#endif\n', 1, "__has_include"),
    (b"#if __has_include(NAME)\n#endif\n", 1, "preprocessor"),
    (b"#define H __has_include\n", 1, "preprocessor"),
    (b"#elif __has_include_next(<../../x>)\n", 1, "leaves"),
    (b'#pragma GCC dependency "/etc/passwd"\n', 1, "dependency has the absolute"),
    (b'int a;\n_Pragma("GCC dependency \\"/etc/passwd\\"")\n', 2, "pragma"),
    (b'#define P _Pragma("GCC dependency \\"/etc/passwd\\"")\n', 1, "pragma"),
    (b'asm(".incbin \\"/etc/passwd\\"");\n', 1, "assembler"),
    (b'asm("nop\\n"\n    "\\t.inc" /* */ "lude \\"x\\"");\n', 1, "assembler"),
    (b'asm("\\x2einc\\142in \\"x\\"");\n', 1, "assembler"),
    (b'asm(".inc\\\nbin \\"x\\"");\n', 1, "assembler"),
    (b'asm(__stringify(.incbin "x"));\n', 1, "assembler"),
    (b'#define I(x) asm(".inc" "bin " #x)\n', 1, "assembler"),
    (b'asm(R"(.incbin "x")");\n', 1, "assembler"),
]


@pytest.mark.parametrize(("text", "line", "fact"), BAD)
def test_includes_that_are_refused(text: bytes, line: int, fact: str) -> None:
    found = check_includes("fs/proc/x.c", text)
    assert (f"fs/proc/x.c:{line}", "P5-include") in [(r.place, r.code) for r in found], found
    assert any(fact in r.fact for r in found), found


def test_what_the_kernel_has_already_stays_allowed() -> None:
    orig = b"#include TRACE_INCLUDE(x)\n"
    assert check_includes("fs/x.c", b"int a;\n" + orig, orig) == []
    assert len(check_includes("fs/x.c", orig + orig, orig)) == 1
    # A comment taken away makes an old line a directive.
    hidden = b'/*\n#include "/etc/passwd"\n*/\n'
    assert check_includes("fs/x.c", hidden.replace(b"/*\n", b""), hidden)


def test_message_shows_no_control_characters() -> None:
    (refusal,) = check_includes("fs/x.c", b'#include "\x1b[2J"\n')
    assert str(refusal).isprintable()


def test_check_dependencies() -> None:
    roots = ["/k/linux", "/usr/lib/gcc/x86_64-linux-gnu/12/include", "/b/obj/", "relative"]
    good = ["/k/linux/fs/x.c", "/k/linux/a/../b.h", "/usr/lib/gcc/x86_64-linux-gnu/12/include/stdarg.h", "/b/obj/x"]
    assert check_dependencies(good, roots) == []
    bad = ["/k/linux2/x.h", "/k/linux/../x.h", "//etc/passwd", "x.h", "relative/x.h", "/k"]
    assert [r.place for r in check_dependencies(bad, roots)] == bad
    assert check_dependencies(["include/x.h", "../../k/linux/y.h"], roots, "/b/obj") == []
    assert check_dependencies(["../../../etc/passwd"], roots, "/b/obj")
    assert check_dependencies(["/x"], ["/"]) == []


def test_a_patch_from_end_to_end() -> None:
    data = (
        b"--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1,2 @@\n int a;\n+int b;\n"
        b"--- a/fs/Makefile\n+++ b/fs/Makefile\n@@ -1 +1 @@\n-a\n+b\n"
        b"--- a/Documentation/y.rst\n+++ b/Documentation/y.rst\n@@ -1 +1 @@\n-a\n+b\n"
    )
    files = parse_patch("p", data).files
    level = find_strip(files, lambda path: path.startswith(("fs/", "Documentation/")))
    found = [r.code for f in files for r in check_path(f, level) + check_kind(f, f.path(level))]
    assert found == ["P2-build-system"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('#line 1 "/etc/passwd"', "absolute path"),
        ('# 1 "/etc/passwd" 3', "absolute path"),
        ('#line 1 "../../../x"', "leaves the kernel tree"),
        ("#line X", "only the preprocessor knows"),
        ('#line 1 L"x"', "only the preprocessor knows"),
        ("#line 5", ""),
        ('# 33 "x.c"', ""),
        ('#line 7 "foo.h" // why', ""),
    ],
)
def test_a_line_is_of_a_file_of_the_tree(line: str, said: str) -> None:
    found = check_includes("fs/proc/version.c", f"int a;\n{line}\n".encode())
    assert [said in r.fact for r in found] == ([True] if said else [])
