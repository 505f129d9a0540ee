/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interval of a rate limit changes. */
#include "kernel.h"

struct ratelimit_state { int interval, burst; };
extern int ___ratelimit(struct ratelimit_state *rs);
#ifdef PATCHED
int first(int x) { static struct ratelimit_state _rs = { 500, 10 }; return ___ratelimit(&_rs) ? source(x) : 0; }
#else
int first(int x) { static struct ratelimit_state _rs = { 500, 20 }; return ___ratelimit(&_rs) ? source(x) : 0; }
#endif
int second(int x) { static struct ratelimit_state _rs = { 500, 20 }; return ___ratelimit(&_rs) ? source(x) : 1; }
