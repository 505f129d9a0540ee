/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A message more is in the index of messages. */
#include "kernel.h"

struct entry {
	const char *fmt, *func, *file;
	u32 line;
	const char *level, *prefix;
} __attribute__((packed));
#define pr_info(text, x) do {								\
	static const struct entry _entry used = { text, __func__, __FILE__, 9, NULL, NULL };	\
	static const struct entry *_entry_ptr used section(".printk_index") = &_entry;	\
	printk(text, x);								\
} while (0)
int first(int x) { if (x == 1) pr_info("first is %d\n", x); return source(x); }
#ifdef PATCHED
int second(int x) { if (x == 2) pr_info("second is %d\n", x); return source(x) + 1; }
#else
int second(int x) { return source(x) + 1; }
#endif
