/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The line in the descriptor of a pr_debug; the real change is a flag beside it. */
#include "kernel.h"

#ifdef REAL
#define FLAGS 1
#else
#define FLAGS 0
#endif
struct debug_descriptor {
	const char *module, *function, *file, *format;
	u32 line : 18, class_id : 6, flags : 8;
	u64 key[2];
} __attribute__((aligned(8)));
extern void __dynamic_pr_debug(struct debug_descriptor *d, const char *fmt, ...);
#define pr_debug(name, on, fmt, x) do {						\
	static struct debug_descriptor name section("__dyndbg") = {		\
		"pairs", __func__, __FILE__, fmt, __LINE__, 63, on };		\
	if (unlikely(READ_ONCE(name.key[0])))					\
		__dynamic_pr_debug(&name, fmt, x);				\
} while (0)
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { pr_debug(__UNIQUE_ID_ddebug10, 0, "first %d\n", x); return source(x); }
int second(int x) { pr_debug(__UNIQUE_ID_ddebug12, FLAGS, "second %d\n", x); return source(x) + 1; }
