/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A line stands behind the name of a file in a string; the real change is the text behind it. */
#include "kernel.h"

#ifdef REAL
#define TEXT "too small"
#else
#define TEXT "too large"
#endif
#define STRING_OF(x) #x
#define LINE_OF(x) STRING_OF(x)
#define check(x, what) do { if (unlikely(x)) sink(__FILE__ ":" LINE_OF(__LINE__) ": " what); } while (0)
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { check(x > 9, "too large"); return source(x); }
int second(int x) { check(x > 9, TEXT); return source(x) + 1; }
