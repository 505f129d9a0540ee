/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls in patched code, by the names that live patches written for kpatch use; see docs/author-guide.md. */
#ifndef _KGBUILD_KPATCH_SYSCALL_H
#define _KGBUILD_KPATCH_SYSCALL_H

#include <kpatch-macros.h>

#define KPATCH_SYSCALL_DEFINE1(name, ...) KGBUILD_SYSCALL(1, name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE2(name, ...) KGBUILD_SYSCALL(2, name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE3(name, ...) KGBUILD_SYSCALL(3, name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE4(name, ...) KGBUILD_SYSCALL(4, name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE5(name, ...) KGBUILD_SYSCALL(5, name, __VA_ARGS__)
#define KPATCH_SYSCALL_DEFINE6(name, ...) KGBUILD_SYSCALL(6, name, __VA_ARGS__)

#endif
