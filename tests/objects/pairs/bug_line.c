/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only the line number of a bug entry differs. */
#include "kernel.h"

#ifdef PATCHED
#line 1000
#else
#line 20
#endif
int first(int x) { if (x == 4) bug_entry(BUGFLAG_WARNING, __LINE__); return source(x); }
#ifdef REAL
int second(int x) { if (x == 5) bug_entry(BUGFLAG_WARNING | BUGFLAG_ONCE, 7); return source(x); }
#else
int second(int x) { if (x == 5) bug_entry(BUGFLAG_WARNING, 7); return source(x); }
#endif
