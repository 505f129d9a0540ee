/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names that live patches written for kpatch use; see docs/author-guide.md. */
#ifndef _KGBUILD_KPATCH_MACROS_H
#define _KGBUILD_KPATCH_MACROS_H

#ifdef _KGBUILD_LIVEPATCH_HELPERS_H
#error "kgbuild: kpatch-macros.h and linux/livepatch_helpers.h in one file: use one of them"
#endif

#include <kgbuild/records.h>

typedef struct klp_object patch_object;

/* Called for the object (vmlinux or a module) whose code this file is; each kind once for an object. */
#define KPATCH_PRE_PATCH_CALLBACK(func) KGBUILD_CALLBACK("kpatch", pre_patch, int, func)
#define KPATCH_POST_PATCH_CALLBACK(func) KGBUILD_CALLBACK("kpatch", post_patch, void, func)
#define KPATCH_PRE_UNPATCH_CALLBACK(func) KGBUILD_CALLBACK("kpatch", pre_unpatch, void, func)
#define KPATCH_POST_UNPATCH_CALLBACK(func) KGBUILD_CALLBACK("kpatch", post_unpatch, void, func)

/* Changes of this section's data, or of this function, are left out of the patch; the report says so. */
#define KPATCH_IGNORE_SECTION(section)									\
	KGBUILD_RECORD("kpatch", "ignore.section", __UNIQUE_ID(kgbuild_ignored_section_), section)
#define KPATCH_IGNORE_FUNCTION(func)									\
	KGBUILD_RECORD("kpatch", "ignore.function", __kgbuild_ignored_##func, #func)

/* printk that leaves nothing in the index of formats. */
#define KPATCH_PRINTK(fmt, ...)										\
({													\
	if (0)												\
		no_printk(fmt, ##__VA_ARGS__);								\
	_printk(fmt, ##__VA_ARGS__);									\
})

#define KPATCH_STATIC_CALL(name) KGBUILD_STATIC_CALL(name)

#endif
