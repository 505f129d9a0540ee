/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables that objtool and the kernel's assembly make: locks, calls of static calls, returns, unwinding, paravirt. */
#include "kernel.h"

int source_count, static_call_key;
#define listed(x, by)								\
({	int result;								\
	asm volatile("771: call source\n"					\
		     "772: lock incl source_count(%%rip)\n"			\
		     "773: add $" by ", %%eax\n"				\
		     ".pushsection .static_call_sites, \"aw\"\n.balign 4\n"	\
		     ".long 771b - ., static_call_key - .\n.popsection\n"	\
		     ".pushsection .parainstructions, \"a\"\n.balign 8\n"	\
		     ".quad 771b\n.byte 7, 772b - 771b\n.short 1\n.balign 8\n.popsection\n"	\
		     ".pushsection .smp_locks, \"a\"\n.balign 4\n.long 772b - .\n.popsection\n"	\
		     ".pushsection .return_sites, \"a\"\n.long 773b - .\n.popsection\n"		\
		     ".pushsection .orc_unwind_ip, \"a\"\n.balign 4\n.long 771b - .\n.popsection\n"	\
		     ".pushsection .orc_unwind, \"a\"\n.short 8, 0, 5\n.popsection"		\
		     : "=a"(result) : "D"(x) : "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "memory"); \
	result; })
#ifdef PATCHED
int first(int x) { return listed(x, "6"); }
#else
int first(int x) { return listed(x, "5"); }
#endif
int second(int x) { return listed(x, "7"); }
