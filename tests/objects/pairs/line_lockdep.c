/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the line that is handed to lockdep differs; beside it stands a number that is none. */
#include "kernel.h"

#ifdef REAL
#define LIMIT 8
#else
#define LIMIT 9
#endif
extern void lockdep_rcu_suspicious(const char *file, const int line, const char *what);
extern void allow(const char *what, int limit);
#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { if (unlikely(x < 0)) lockdep_rcu_suspicious(__FILE__, __LINE__, "suspicious use"); return source(x); }
int second(int x) { if (x > 5) allow("suspicious use", LIMIT); return source(x) + 1; }
