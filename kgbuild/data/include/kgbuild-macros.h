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

/* the patch that this code is part of */
extern struct klp_patch kgbuild_patch;

#endif
