// SPDX-License-Identifier: GPL-2.0-or-later
/* The part of a program that no change touches: what happened is gathered in `log_hash`, functions are called through
 * `guarded`, out of which die() leads. */
#include "torture.h"

u64 log_hash = 1;
u32 log_count;
static u32 state = 12345;
static u32 (*kept[4])(u32);
static void *back[5];
const char __start_notes[4] = "abc", __stop_notes[4] = "abd";

void trace(u64 value)
{
	log_hash = (log_hash ^ value) * 0x100000001b3;
	log_count++;
}

void say(const char *text)
{
	for (; *text; text++)
		trace((u8)*text);
}

u32 source(u32 x)
{
	state = state * 1103515245 + 12345;
	return (state >> 16) ^ x;
}

void complain(u32 x)
{
	trace(0x10000 + x);
}

void keep(u32 slot, u32 (*callback)(u32))
{
	kept[slot & 3] = callback;
}

u32 call_kept(u32 slot, u32 x)
{
	return kept[slot & 3] ? kept[slot & 3](x) : 7;
}

u32 is_kept(u32 slot, u32 (*callback)(u32))
{
	return kept[slot & 3] == callback;
}

/* Called when the module goes: what it registered goes with it. */
u64 forget(u32 a, u32 b)
{
	kept[0] = kept[1] = kept[2] = kept[3] = 0;
	return a + b;
}

void die(u32 code)
{
	trace(0x20000 + code);
	__builtin_longjmp(back, 1);
}

/* Not inlined: __builtin_setjmp and the call must not share a frame with anything. */
noinline u32 guarded(u64 (*function)(u32, u32), u32 a, u32 b, u64 *out)
{
	if (__builtin_setjmp(back))
		return 1;
	*out = function(a, b);
	return 0;
}

asm(".pushsection .text\n.globl __fentry__\n.type __fentry__, @function\n__fentry__:\n\tret\n"
    ".size __fentry__, .-__fentry__\n.popsection");
