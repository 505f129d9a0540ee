/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pr_debug more, and those behind it have other numbers. */
#include "kernel.h"

struct debug_descriptor {
	const char *module, *function, *file, *format;
	u32 line : 18, class_id : 6, flags : 8;
	u64 key[2];
} __attribute__((aligned(8)));
extern void __dynamic_pr_debug(struct debug_descriptor *d, const char *fmt, ...);
#define pr_debug(number, fmt, x) do {							\
	static struct debug_descriptor __UNIQUE_ID_ddebug##number section("__dyndbg") = {	\
		"pairs", __func__, __FILE__, fmt, 7, 63, 0 };				\
	if (unlikely(READ_ONCE(__UNIQUE_ID_ddebug##number.key[0])))			\
		__dynamic_pr_debug(&__UNIQUE_ID_ddebug##number, fmt, x);		\
} while (0)
#ifdef PATCHED
int first(int x) { pr_debug(11, "first %d\n", x); return source(x); }
int second(int x) { pr_debug(12, "second %d\n", x); return source(x) + 1; }
#else
int first(int x) { return source(x); }
int second(int x) { pr_debug(11, "second %d\n", x); return source(x) + 1; }
#endif
