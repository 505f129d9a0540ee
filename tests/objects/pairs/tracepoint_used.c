/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One function more uses a tracepoint that is there. */
#include "kernel.h"

#ifdef REAL
#define MORE 4
#else
#define MORE 3
#endif
struct tracepoint { const char *name; struct static_key key; void *functions; };
static const char name_of_event[] section("__tracepoints_strings") = "event";
struct tracepoint event used section("__tracepoints") = { name_of_event };
static struct tracepoint *const pointer_to_event used section("__tracepoints_ptrs") = &event;
#ifdef PATCHED
int first(int x) { if (static_branch(&event.key, false)) sink(&event); return source(x); }
#else
int first(int x) { return source(x); }
#endif
int second(int x) { if (static_branch(&event.key, false)) sink(&event); return source(x) + MORE; }
