/* SPDX-License-Identifier: GPL-2.0-or-later */
/* As much of a kernel before 5.7 as data/livepatch/kgraft.c needs, for a program in user space (tests/kgraft). */
#ifndef LINUX_KERNEL_H
#define LINUX_KERNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#define __init
#define __exit
#define ALIGN(x, a) (((x) + (a) - 1) / (a) * (a))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define pr_err(...) fprintf(stderr, __VA_ARGS__)

#define GFP_KERNEL 0
#define kcalloc(count, size, flags) calloc(count, size)
#define kfree free

struct elf_note {
	u32 n_namesz, n_descsz, n_type;
};

struct mutex {
	int held;
};

extern struct mutex module_mutex;
void mutex_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);

struct module {
	const char *name;
	int refs;
	bool going;
};

extern struct module this_module;
#define THIS_MODULE (&this_module)
struct module *find_module(const char *name);
bool try_module_get(struct module *mod);
void module_put(struct module *mod);

unsigned long kallsyms_lookup_name(const char *name);
long probe_kernel_read(void *dst, const void *src, size_t size);

#define module_init(func) int patch_init(void) { return func(); }
#define module_exit(func) void patch_exit(void) { func(); }
#define WARN_ON(condition) do { if (condition) abort(); } while (0)
#define MODULE_INFO(tag, text)
#define MODULE_LICENSE(text)
#define MODULE_DESCRIPTION(text)

#endif
