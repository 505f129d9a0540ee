/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of the kernel's own <linux/livepatch_helpers.h> (Linux 6.19 and later), for every kernel; see
 * docs/author-guide.md.
 */
#ifndef _KGBUILD_LIVEPATCH_HELPERS_H
#define _KGBUILD_LIVEPATCH_HELPERS_H

#ifdef _KGBUILD_KPATCH_MACROS_H
#error "kgbuild: kpatch-macros.h and linux/livepatch_helpers.h in one file: use one of them"
#endif

#include <kgbuild/records.h>

/* Called for the object (vmlinux or a module) whose code this file is; each kind once for an object. */
#define KLP_PRE_PATCH_CALLBACK(func) KGBUILD_CALLBACK("klp", pre_patch, int, func)
#define KLP_POST_PATCH_CALLBACK(func) KGBUILD_CALLBACK("klp", post_patch, void, func)
#define KLP_PRE_UNPATCH_CALLBACK(func) KGBUILD_CALLBACK("klp", pre_unpatch, void, func)
#define KLP_POST_UNPATCH_CALLBACK(func) KGBUILD_CALLBACK("klp", post_unpatch, void, func)

#define KLP_STATIC_CALL(name) KGBUILD_STATIC_CALL(name)

#define KLP_SYSCALL_DEFINE1(name, ...) KGBUILD_SYSCALL(1, name, __VA_ARGS__)
#define KLP_SYSCALL_DEFINE2(name, ...) KGBUILD_SYSCALL(2, name, __VA_ARGS__)
#define KLP_SYSCALL_DEFINE3(name, ...) KGBUILD_SYSCALL(3, name, __VA_ARGS__)
#define KLP_SYSCALL_DEFINE4(name, ...) KGBUILD_SYSCALL(4, name, __VA_ARGS__)
#define KLP_SYSCALL_DEFINE5(name, ...) KGBUILD_SYSCALL(5, name, __VA_ARGS__)
#define KLP_SYSCALL_DEFINE6(name, ...) KGBUILD_SYSCALL(6, name, __VA_ARGS__)

#endif
