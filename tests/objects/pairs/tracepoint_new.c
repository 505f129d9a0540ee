/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tracepoint more: it would be registered at boot. */
#include "kernel.h"

struct tracepoint { const char *name; struct static_key key; void *functions; };
#define trace_defined(tp) 								\
	static const char name_of_##tp[] section("__tracepoints_strings") = #tp;	\
	struct tracepoint tp used section("__tracepoints") = { name_of_##tp };		\
	static struct tracepoint *const pointer_to_##tp used section("__tracepoints_ptrs") = &tp
trace_defined(old_event);
#ifdef PATCHED
trace_defined(new_event);
#define EVENT new_event
#else
#define EVENT old_event
#endif
int first(int x) { if (static_branch(&old_event.key, false)) sink(&old_event); return source(x); }
int second(int x) { if (static_branch(&EVENT.key, false)) sink(&EVENT); return source(x) + 1; }
