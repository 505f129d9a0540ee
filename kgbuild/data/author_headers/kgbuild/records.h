/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the macros for authors leave in an object: records in sections that kgbuild reads (kgbuild/diff/author_macros.py)
 * and never carries into a module. FAMILY says whose names the author uses.
 */
#ifndef _KGBUILD_RECORDS_H
#define _KGBUILD_RECORDS_H

#include <linux/compiler.h>
#include <linux/livepatch.h>
#include <linux/printk.h>
#include <linux/static_call.h>
#include <linux/syscalls.h>

#ifndef CONFIG_X86_64
#error "kgbuild: macros for authors of live patches are there for x86_64 only"
#endif

#define KGBUILD_CALLBACK(family, kind, returns, func)							\
	static returns (*__kgbuild_##kind##_##func)(struct klp_object *)				\
		__used __section(".kgbuild." family ".callback." #kind) = func

#define KGBUILD_RECORD(family, kind, name, text)							\
	static const char name[] __used __aligned(1) __section(".kgbuild." family "." kind) = text

/* A static call through the key of its own: the trampoline of another module can't be reached from here. */
#define KGBUILD_STATIC_CALL(name) ((typeof(STATIC_CALL_TRAMP(name)) *)(STATIC_CALL_KEY(name).func))

/* SYSCALL_DEFINEx without the tables for tracing system calls, which a live patch can't replace. */
#define KGBUILD_SYSCALL(x, name, ...) __SYSCALL_DEFINEx(x, _##name, __VA_ARGS__)

#endif
