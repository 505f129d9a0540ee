/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One function's body changes; its neighbours stay. */
#include "kernel.h"

int first(int x) { return x * 3; }
#ifdef PATCHED
int second(int x) { return x * 7 + source(x); }
#else
int second(int x) { return x * 5 + source(x); }
#endif
int third(int x) { return second(x) + first(x); }
