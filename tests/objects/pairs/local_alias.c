/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A static function has a static second name; the real change is its body. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
static noinline used int real_one(int x) { sink(NULL); return source(x) + MORE; }
static int second_name(int x) __attribute__((alias("real_one"))) used;
#ifdef PATCHED
int earlier(int x) { return source(x) + 2; }
#else
int earlier(int x) { return source(x) + 1; }
#endif
int first(int x) { return second_name(x); }
