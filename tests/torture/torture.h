/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What generated units are made of, and what the rest of the program gives them. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
#define noinline __attribute__((noinline))
#define notrace __attribute__((no_instrument_function))
#define cold __attribute__((cold))
#define weak __attribute__((weak))
#define section(s) __attribute__((section(s)))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define barrier() asm volatile("" ::: "memory")

struct cfg {
	u32 a, b, mode;
	const char *name;
};
struct bits {
	u32 lo : 12, hi : 20;
};
struct links {
	u32 *next, *prev;
};
struct ops {
	u32 (*get)(u32);
	u32 (*put)(u32);
};

/* rest.c: the outside world. What happens there is part of what is compared. */
extern void trace(u64 value);
extern void say(const char *text);
extern u32 source(u32 x);
extern void cold complain(u32 x);
extern void cold die(u32 code) __attribute__((noreturn));
extern void keep(u32 slot, u32 (*callback)(u32));
extern u32 call_kept(u32 slot, u32 x);
extern u32 is_kept(u32 slot, u32 (*callback)(u32));
