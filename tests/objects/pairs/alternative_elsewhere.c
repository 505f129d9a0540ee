/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The replacement of an alternative is another file's function, as objtool wrote it for calls through retpolines (5.13 to
   5.15, RHEL 8): __x86_indirect_alt_call_rax. */
#include "kernel.h"

#define elsewhere(old, code, length)					\
	asm volatile("661: " old "\n662:\n"				\
		     ".pushsection .altinstructions, \"a\"\n"		\
		     ".long 661b - ., " code " - .\n"			\
		     ".short 8\n"					\
		     ".byte 662b-661b, " #length "\n"			\
		     ".popsection" ::: "memory")

#ifdef PATCHED
int first(int x) { elsewhere("call source", "source_old", 2); return x + 1; }
int second(int x) { elsewhere("call source", "source_new", 2); return x; }
#else
int first(int x) { elsewhere("call source", "source_old", 2); return x; }
int second(int x) { elsewhere("call source", "source_old", 2); return x; }
#endif
int third(int x) { elsewhere("call source", "source_old", 2); return x; }
