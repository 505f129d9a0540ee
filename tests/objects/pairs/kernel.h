/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Just enough of what kernel code is made of: attributes, and entries of the special sections of 6.1. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef _Bool bool;
#define NULL ((void *)0)
#define true 1
#define false 0
#define noinline __attribute__((noinline))
#define always_inline inline __attribute__((always_inline))
#define notrace __attribute__((no_instrument_function))
#define weak __attribute__((weak))
#define used __attribute__((used))
#define cold __attribute__((cold))
#define section(s) __attribute__((section(s)))
#define __init section(".init.text") cold notrace
#define unlikely(x) __builtin_expect(!!(x), 0)
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define barrier() asm volatile("" ::: "memory")

extern int printk(const char *fmt, ...);
extern void sink(const void *p);
extern int source(int n);

#define BUGFLAG_WARNING 1
#define BUGFLAG_ONCE 2
#define bug_entry(flags, line)						\
	asm volatile("1: .byte 0x0f, 0x0b\n"				\
		     ".pushsection __bug_table, \"aw\"\n"		\
		     ".long 1b - ., %c0 - .\n"				\
		     ".short %c1, %c2\n"				\
		     ".popsection"					\
		     : : "i"(__FILE__), "i"(line), "i"(flags))

struct static_key { int enabled; void *entries; };
static always_inline bool static_branch(struct static_key *key, bool branch)
{
	asm goto("1: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
		 ".pushsection __jump_table, \"aw\"\n"
		 ".balign 8\n"
		 ".long 1b - ., %l[yes] - .\n"
		 ".quad %c0 + %c1 - .\n"
		 ".popsection"
		 : : "i"(key), "i"(branch) : : yes);
	return false;
yes:
	return true;
}

#define alternative(old, new, feature)					\
	asm volatile("661: " old "\n662:\n"				\
		     ".skip -(((6651f-6641f)-(662b-661b)) > 0) * ((6651f-6641f)-(662b-661b)), 0x90\n" \
		     "663:\n"						\
		     ".pushsection .altinstructions, \"a\"\n"		\
		     ".long 661b - ., 6641f - .\n"			\
		     ".short " #feature "\n"				\
		     ".byte 663b-661b, 6651f-6641f\n"			\
		     ".popsection\n"					\
		     ".pushsection .altinstr_replacement, \"ax\"\n"	\
		     "6641: " new "\n6651:\n"				\
		     ".popsection" ::: "memory")

#define load_faulting(ptr, type)					\
({									\
	u64 value = 0;							\
	asm volatile("1: mov %1, %0\n"					\
		     "2:\n"						\
		     ".pushsection __ex_table, \"a\"\n"			\
		     ".balign 4\n"					\
		     ".long 1b - ., 2b - ., " #type "\n"		\
		     ".popsection" : "+r"(value) : "m"(*(ptr)));	\
	value;								\
})
