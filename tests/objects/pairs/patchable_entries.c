/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trace sites are listed in __patchable_function_entries. Flags: -fpatchable-function-entry. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
#ifdef PATCHED
int earlier(int x) { return source(x) + 7; }
#endif
int first(int x) { return source(x); }
int second(int x) { return source(x) + MORE; }
