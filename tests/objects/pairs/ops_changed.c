/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table of functions names another one. */
#include "kernel.h"

struct ops { int (*get)(int); int (*put)(int); };
static int get(int x) { return source(x); }
static int put(int x) { return source(x) + 1; }
static int put_new(int x) { return source(x) + 2; }
#ifdef PATCHED
struct ops table = { get, put_new };
#else
struct ops table = { get, put };
#endif
void keep(void) { sink(put); sink(put_new); }
