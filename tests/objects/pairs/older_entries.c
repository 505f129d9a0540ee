/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries as kernels before 4.20 and before 5.18 have them: three pointers for a static key, 13 bytes for an alternative,
   which pads behind what it replaces. A key and a feature are others. */
#include "kernel.h"

static struct static_key first_key, second_key;
void keys(void) { sink(&first_key); sink(&second_key); }
static always_inline bool old_branch(struct static_key *key)
{
	asm goto("1: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
		 ".pushsection __jump_table, \"aw\"\n"
		 ".balign 8\n"
		 ".quad 1b, %l[yes], %c0\n"
		 ".popsection"
		 : : "i"(key) : : yes);
	return false;
yes:
	return true;
}
#define old_alternative(feature)						\
	asm volatile("661: nop\n662: .skip 2, 0x90\n663:\n"			\
		     ".pushsection .altinstructions, \"a\"\n"			\
		     ".long 661b - ., 6641f - .\n.short " #feature "\n"		\
		     ".byte 663b - 661b, 6651f - 6641f, 663b - 662b\n.popsection\n"	\
		     ".pushsection .altinstr_replacement, \"ax\"\n"		\
		     "6641: lfence\n6651:\n.popsection" ::: "memory")
#ifdef PATCHED
#define KEY second_key
#define FEATURE 9
#else
#define KEY first_key
#define FEATURE 8
#endif
#define EXPANDED(feature) old_alternative(feature)
int first(int x) { if (old_branch(&KEY)) return 1; return source(x); }
int second(int x) { if (old_branch(&second_key)) return 2; return source(x); }
int third(int x) { EXPANDED(FEATURE); return source(x); }
int fourth(int x) { old_alternative(8); return source(x) + 1; }
