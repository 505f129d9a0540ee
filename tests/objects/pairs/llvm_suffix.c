/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ThinLTO made global has another hash in its name. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#ifdef PATCHED
#define NAME(n) #n ".llvm.9876543210987654321"
#else
#define NAME(n) #n ".llvm.1234567890123456789"
#endif
noinline int helper(int x) asm(NAME(helper));
noinline int helper(int x) { return source(x) + MORE; }
int state asm(NAME(state));
int first(int x) { return helper(x) + 1; }
int second(int x) { state += x; return source(x); }
