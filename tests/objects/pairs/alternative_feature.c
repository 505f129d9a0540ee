/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An alternative depends on another CPU feature. */
#include "kernel.h"

#ifdef PATCHED
int first(int x) { alternative("nop", "lfence", 9); return source(x); }
#else
int first(int x) { alternative("nop", "lfence", 8); return source(x); }
#endif
int second(int x) { alternative("nop", "lfence", 8); return source(x); }
