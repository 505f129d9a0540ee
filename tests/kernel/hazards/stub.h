/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the modules of the laboratory use of the kernel, for a program in user space: compiled at -O0, where no
 * optimisation is in the way, it says what a patched module must answer. Parameters come from the environment.
 */
#pragma once
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seq_file;

#define seq_printf(m, ...)	printf(__VA_ARGS__)
#define module_param(name, type, mode)					\
	__attribute__((constructor)) static void set_##name(void)	\
	{								\
		if (getenv(#name))					\
			name = atoi(getenv(#name));			\
	}								\
	extern int name
#define noinline		__attribute__((noinline))
#define notrace
#define __init
#define __exit
#define __sched
#define __ro_after_init
#define __read_mostly
#define __annotate_jump_table
#define EXPORT_SYMBOL_GPL(name)	extern int licensed
#define barrier()		__asm__ volatile("" ::: "memory")
#define likely(x)		(x)
#define unlikely(x)		(x)
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
#define READ_ONCE(x)		(x)
#define WRITE_ONCE(x, value)	((x) = (value))
#define pr_info(...)		((void)0)
#define pr_err(...)		((void)0)
#define BUG()			abort()
#define WARN_ON(x)		((void)(x))
#define WARN_ON_ONCE(x)		((void)(x))

static int (*show)(struct seq_file *m, void *unused);
#define proc_create_single(name, mode, parent, function)	(show = (function), 1)
#define remove_proc_entry(name, parent)				((void)0)
#define module_init(function)	int main(void) { return function() || show(NULL, NULL); }
#define module_exit(function)	void (*leave)(void) = function
#define MODULE_DESCRIPTION(text)	extern int described
#define MODULE_LICENSE(text)		extern int licensed
#define THIS_MODULE			0
#define module_name(module)		"hz_pointers"

#define DEFINE_PER_CPU(type, name)	type name
#define raw_cpu_read(variable)		(variable)
#define DEFINE_STATIC_SRCU(name)	static struct { void *sda; } name = { &name }

typedef unsigned short u16, __be16;
#define cpu_to_be16(x)		__builtin_bswap16(x)
#define be16_to_cpu(x)		__builtin_bswap16(x)

/* a write that memory which is read-only answers with an error, in place of an oops */
#define __put_kernel_nofault(dst, src, type, failed)	\
	do {						\
		if (0)					\
			goto failed;			\
		*(type *)(dst) = *(type *)(src);	\
	} while (0)

/* the kernel calls it when the patch is there, and when it goes */
#define KLP_POST_PATCH_CALLBACK(function)	\
	__attribute__((constructor)) static void call_##function(void) { function(NULL); }
#define KLP_PRE_UNPATCH_CALLBACK(function)	static void *kept_##function __attribute__((used)) = function
struct klp_object;

#define KGBUILD_SAME_STATE(new, old)	extern int same_state

struct kernel_param {
	void *arg;
};
struct kernel_param_ops {
	int (*get)(char *buffer, const struct kernel_param *parameter);
};
#define module_param_cb(name, ops, arg, mode)	extern int shown_by_parameter
#define DEFINE_STATIC_CALL(name, function)	__typeof__(function) *name = function
#define static_call(name)			(*(name))

/* keys as the guest has them when it reads */
static const int init_on_free = 0, bpf_stats_enabled_key = 1;
#define DEFINE_STATIC_KEY_TRUE(name)	const int name = 1
#define DEFINE_STATIC_KEY_FALSE(name)	const int name = 0
#define static_branch_unlikely(key)	(*(key))
#define static_key_enabled(key)		(*(key))
