/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions are marked __sched: their code is the same. */
#include "kernel.h"

#ifdef PATCHED
#define __sched section(".sched.text")
#else
#define __sched
#endif
#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
__sched int first(int x) { return source(x); }
__sched int second(int x) { return source(x) + MORE; }
