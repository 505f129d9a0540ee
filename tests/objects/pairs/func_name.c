/* SPDX-License-Identifier: GPL-2.0-or-later */
/* __func__ of a function, and a message constant, change. */
#include "kernel.h"

#ifdef PATCHED
#define TEXT "too long"
#else
#define TEXT "too wide"
#endif
int first(int x) { static const char __msg[] = TEXT; sink(__msg); return source(x); }
int second(int x) { static const char __msg[] = "fine text"; sink(__msg); return source(x); }
int third(int x) { sink(__func__); return x; }
