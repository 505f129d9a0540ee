/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the line that is handed to __might_sleep differs. */
#include "kernel.h"

#ifdef REAL
#define OFFSET 1
#else
#define OFFSET 0
#endif
extern void __might_sleep(const char *file, int line, int offset);
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { __might_sleep(__FILE__, __LINE__, 0); return source(x); }
int second(int x) { __might_sleep(__FILE__, 7, OFFSET); return source(x) + 1; }
