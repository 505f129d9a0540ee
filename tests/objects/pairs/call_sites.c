/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls are listed in tables of places (as if each went through a thunk); the real change is whom one calls. */
#include "kernel.h"

#ifdef REAL
#define CALLEE other
#else
#define CALLEE source
#endif
extern int other(int n);
#define listed_call(x, name)							\
({	int result;								\
	asm volatile("1: call " name "\n"					\
		     ".pushsection .call_sites, \"a\"\n.long 1b - .\n.popsection\n"	\
		     ".pushsection .retpoline_sites, \"a\"\n.long 1b - .\n.popsection" \
		     : "=a"(result) : "D"(x) : "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "memory"); \
	result; })
#define NAME_OF(x) #x
#define NAME(x) NAME_OF(x)
int first(int x) { return listed_call(x, "source") + 1; }
int second(int x);
static unsigned long used section("_kprobe_blacklist") blacklisted = (unsigned long)second;
int second(int x) { return listed_call(x, NAME(CALLEE)) + 2; }
#ifdef PATCHED
int third(int x) { return listed_call(x, "source") + 3; }
#endif
