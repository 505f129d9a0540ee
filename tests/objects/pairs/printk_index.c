/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries of the index of messages differ in their lines; the real change is a value in a message. */
#include "kernel.h"

#ifdef REAL
#define PRICE 6
#else
#define PRICE 5
#endif
struct entry {
	const char *fmt, *func, *file;
	u32 line;
	const char *level, *prefix;
} __attribute__((packed));
#define pr_info(text, x) do {								\
	static const struct entry _entry used = { text, __func__, __FILE__, __LINE__, NULL, NULL };	\
	static const struct entry *_entry_ptr used section(".printk_index") = &_entry;	\
	printk(text, x);								\
} while (0)
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { if (x == 1) pr_info("first is %d\n", x); return source(x); }
int second(int x) { if (x == 2) pr_info("second is %d\n", PRICE); return source(x) + 1; }
