/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the line of a WARN differs; the real change is the taint behind it. */
#include "kernel.h"

#ifdef REAL
#define TAINT 10
#else
#define TAINT 9
#endif
extern void warn_slowpath_fmt(const char *file, const int line, unsigned taint, const char *fmt, ...);
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { if (x == 4) warn_slowpath_fmt(__FILE__, __LINE__, 9, "x is %d", x); return source(x); }
int second(int x) { if (x == 5) warn_slowpath_fmt(__FILE__, 33, TAINT, "x is %d", x); return source(x) + 1; }
