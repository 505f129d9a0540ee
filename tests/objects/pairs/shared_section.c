/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two definitions in one section change places and callees: no symbol's bytes differ, no relocation is there. */
#include "kernel.h"

#define sched section(".sched.text")
#define notraced notrace noinline sched
static notraced int low(int x) { return x * 3; }
static notraced int high(int x) { return x * 5; }
#ifdef PATCHED
notraced int first(int x) { return high(x) + 1; }
notraced int second(int x) { return low(x) + 1; }
#else
notraced int first(int x) { return low(x) + 1; }
notraced int second(int x) { return high(x) + 1; }
#endif
