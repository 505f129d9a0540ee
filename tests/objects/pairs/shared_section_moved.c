/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions of one section change places; all branches lead where they led. */
#include "kernel.h"

#define sched section(".sched.text")
#define notraced notrace noinline sched
static notraced int low(int x) { return x * 3; }
static notraced int high(int x) { return x * 5 + 2; }
#ifdef REAL
#define MORE 2
#else
#define MORE 1
#endif
#ifdef PATCHED
notraced int third(int x) { return source(x); }
notraced int second(int x) { return high(x) + MORE; }
notraced int first(int x) { return low(x) + 1; }
#else
notraced int first(int x) { return low(x) + 1; }
notraced int second(int x) { return high(x) + MORE; }
#endif
