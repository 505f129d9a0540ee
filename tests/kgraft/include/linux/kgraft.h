/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands in for the header of a kernel with kGraft, in tests: what a patch sets, and what it calls. Of the kernel's own
 * state there is some room only, before and behind, so that nothing relies on where a field is.
 */
#ifndef LINUX_KGRAFT_H
#define LINUX_KGRAFT_H

#include <linux/kernel.h>

struct module;

struct kgr_patch_fun {
	void *state_before[2];
	const char *name;
	void *new_fun;
	const char *objname;
	void *state_between[3];
	unsigned long sympos;
	void *state_behind[8];
};

struct kgr_patch {
	void *state[12];
	const char *name;
	struct module *owner;
	bool replace_all;
	struct kgr_patch_fun patches[];
};

#define KGR_PATCH_OBJPOS(_name, _new, _obj, _pos) { .name = #_name, .new_fun = _new, .objname = _obj, .sympos = _pos }
#define KGR_PATCH_OBJ(_name, _new, _obj) { .name = #_name, .new_fun = _new, .objname = _obj }
#define KGR_PATCH(_name, _new) { .name = #_name, .new_fun = _new }
#define KGR_PATCH_END { }

int kgr_patch_kernel(struct kgr_patch *patch);
void kgr_patch_remove(struct kgr_patch *patch);

#endif
