/* SPDX-License-Identifier: GPL-2.0-or-later */
/* WARN_ON becomes WARN_ON_ONCE: only the flags of the bug entry differ. */
#include "kernel.h"

#ifdef PATCHED
#define FLAGS (BUGFLAG_WARNING | BUGFLAG_ONCE)
#else
#define FLAGS BUGFLAG_WARNING
#endif
int first(int x) { if (x == 4) bug_entry(FLAGS, 10); return source(x); }
int second(int x) { if (x == 4) bug_entry(BUGFLAG_WARNING, 11); return source(x) + 1; }
