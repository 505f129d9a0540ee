/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones of clones exchange their numbers; the real change is in one. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#ifdef PATCHED
#define LOW "helper.constprop.1.isra.0"
#define HIGH "helper.constprop.0.isra.1"
#else
#define LOW "helper.constprop.0.isra.0"
#define HIGH "helper.constprop.1.isra.1"
#endif
static noinline int low(int x) asm(LOW);
static noinline int low(int x) { return source(x) + 1; }
static noinline int high(int x) asm(HIGH);
static noinline int high(int x) { return source(x) * 5 + MORE; }
int first(int x) { return low(x) + 1; }
int second(int x) { return high(x) + 2; }
