/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stands in for the header of a kernel from 4.15 to 5.0, in tests: what a patch sets, and what it calls. */
#ifndef LINUX_LIVEPATCH_H
#define LINUX_LIVEPATCH_H

#include <linux/kernel.h>

struct klp_object;

struct klp_callbacks {
	int (*pre_patch)(struct klp_object *object);
	void (*post_patch)(struct klp_object *object);
	void (*pre_unpatch)(struct klp_object *object);
	void (*post_unpatch)(struct klp_object *object);
};

struct klp_func {
	const char *old_name;
	void *new_func;
	unsigned long old_sympos;
};

struct klp_object {
	const char *name;
	struct klp_func *funcs;
	struct klp_callbacks callbacks;
	struct module *mod;
};

struct klp_patch {
	struct module *mod;
	struct klp_object *objs;
};

int klp_register_patch(struct klp_patch *patch);
int klp_unregister_patch(struct klp_patch *patch);
int klp_enable_patch(struct klp_patch *patch);

#endif
