/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes beyond the names of kpatch and of the kernel: system states (Documentation/livepatch/system-state.rst). */
#ifndef _KGBUILD_MACROS_H
#define _KGBUILD_MACROS_H

#include <kgbuild/records.h>

struct kgbuild_state {
	unsigned long id;
	unsigned long version;
};

/* The patch brings the system into this state; klp_get_state(&kgbuild_patch, id) gives it to callbacks. */
#define KGBUILD_STATE(state, of_version)								\
	static const struct kgbuild_state __UNIQUE_ID(kgbuild_state_)					\
		__used __section(".kgbuild.state") = { .id = state, .version = of_version }

struct kgbuild_same {
	const volatile void *now;
	const char *was;
};

/*
 * The variable NEW is the running kernel's that had the name OLD: it goes on with what it has. Both are of one type. OLD
 * is "name", "function.name" for a variable that is static in a function, or "path/file.c:name" for one of another file
 * of the patch. For a variable that is static in a function, this stands in the function, behind its declaration.
 */
#define KGBUILD_SAME_STATE(new, old)									\
	static const struct kgbuild_same __UNIQUE_ID(kgbuild_same_)					\
		__used __section(".kgbuild.same") = { .now = (const volatile void *)&(new), .was = old }

/* the patch that this code is part of */
extern struct klp_patch kgbuild_patch;

#endif
