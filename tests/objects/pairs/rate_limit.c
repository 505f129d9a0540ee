/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interval of a rate limit changes. */
#include "kernel.h"

struct ratelimit { int interval, burst; };
extern int limited(struct ratelimit *rs);
#ifdef PATCHED
int first(int x) { static struct ratelimit _rs = { 500, 10 }; return limited(&_rs) ? source(x) : 0; }
#else
int first(int x) { static struct ratelimit _rs = { 500, 20 }; return limited(&_rs) ? source(x) : 0; }
#endif
int second(int x) { static struct ratelimit _rs = { 500, 20 }; return limited(&_rs) ? source(x) : 1; }
