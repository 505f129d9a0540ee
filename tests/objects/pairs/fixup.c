/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code that goes on after a fault stands in .fixup; the real change is there. */
#include "kernel.h"

#ifdef REAL
#define FIX 6
#else
#define FIX 5
#endif
#define load_or(ptr, instead)							\
({	u64 value;								\
	asm volatile("1: mov %1, %0\n2:\n"					\
		     ".pushsection .fixup, \"ax\"\n"				\
		     "3: mov $" #instead ", %k0\n\tjmp 2b\n"			\
		     ".popsection\n"						\
		     ".pushsection __ex_table, \"a\"\n.balign 4\n"		\
		     ".long 1b - ., 3b - ., 1\n.popsection"			\
		     : "=r"(value) : "m"(*(ptr)));				\
	value; })
#define load_with(ptr, instead) load_or(ptr, instead)
#ifdef PATCHED
u64 earlier(u64 *p) { return load_or(p, 7); }
#endif
u64 first(u64 *p) { return load_or(p, 4); }
u64 second(u64 *p) { return load_with(p, FIX) + 1; }
