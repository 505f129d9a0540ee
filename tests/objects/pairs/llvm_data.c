/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A variable that ThinLTO made global begins with another value. */
#include "kernel.h"

#ifdef PATCHED
int state asm("state.llvm.77") = 4;
#else
int state asm("state.llvm.55") = 3;
#endif
int first(int x) { state += x; return source(x); }
