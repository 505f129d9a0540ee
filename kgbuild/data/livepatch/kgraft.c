// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The part of a live patch module that registers it, for kernels with kGraft (SLE 12). Never booted: see docs/backends.md.
 *
 * kGraft wants a flat array, made here of KGBUILD_PATCHES, and knows nothing of relocations: what the kernel does not
 * export is looked up and written as in the back end kallsyms. It calls nothing of ours when a target module comes, so a
 * target must be there when the patch is loaded, is checked then, and is held for as long as the patch is.
 */
#include <linux/elf.h>
#include <linux/kernel.h>
#include <linux/kgraft.h>
#include <linux/module.h>
#include <linux/slab.h>
#ifdef KGBUILD_TARGETS
#undef KGBUILD_TARGETS /* kallsyms.c would look into a module's own tables, which those kernels have otherwise */
#define KGBUILD_HELD
#include <linux/uaccess.h>
#endif
#define KGBUILD_KALLSYMS
#define KGBUILD_KGRAFT
#include "identity.c"

#include "initial.c"

#include "kallsyms.c"

KGBUILD_FUNCTIONS

static struct kgr_patch kgbuild_patch = {
	.owner = THIS_MODULE,
	.patches = { KGBUILD_PATCHES },
};

#ifdef KGBUILD_HELD
static u32 kgbuild_held;

static void release_targets(void)
{
	while (kgbuild_held) {
		struct module *mod;

		mutex_lock(&module_mutex);
		mod = find_module(kgbuild_objects[--kgbuild_held].name);
		mutex_unlock(&module_mutex);
		module_put(mod);
	}
}

static int __init hold_targets(void)
{
	const struct kgbuild_object *o;

	for (o = kgbuild_objects; o->name; o++) {
		struct module *mod;

		mutex_lock(&module_mutex);
		mod = find_module(o->name);
		if (mod && !try_module_get(mod))
			mod = NULL;
		mutex_unlock(&module_mutex);
		if (!mod) {
			pr_err("%s: refused: the module %s is not loaded\n", THIS_MODULE->name, o->name);
			return -ENOENT;
		}
		kgbuild_held++;
	}
	return 0;
}

static int __init count_in_module(KGBUILD_EACH_ARGUMENTS)
{
	const char *object = data;
	u32 i;

	for (i = 0; mod && !strcmp(mod->name, object) && i < symbol_count(); i++)
		if (same_object(kgbuild_symbols[i].object, object))
			count(i, name, address);
	return 0;
}

static int __init resolve_module(const char *object)
{
	int error;

	static_call(kgbuild_each)(count_in_module, (void *)object);
	error = check_counts(object);
	return error ?: check_digests(object);
}

static int __init check_target(const struct kgbuild_object *o)
{
	u8 id[sizeof(o->build_id)];

	if (!probe_kernel_read(id, o->anchor + o->delta, o->build_id_size) && !memcmp(id, o->build_id, o->build_id_size))
		return 0;
	pr_err("%s: refused: this module %s is not the one with build-id %*phN\n", THIS_MODULE->name, o->name,
	       (int)o->build_id_size, o->build_id);
	return -ENODEV;
}

/* After this, the target modules stay, and what the patch needs of them is found and written in. */
static int __init check_targets(void)
{
	const struct kgbuild_object *o;
	int error = hold_targets();
	u32 i, j;

	for (i = 0; i < symbol_count() && !error; i++) {
		const char *object = kgbuild_symbols[i].object;

		for (j = 0; j < i && !same_object(kgbuild_symbols[j].object, object); j++)
			;
		if (object && j == i)
			error = resolve_module(object);
	}
	for (o = kgbuild_objects; o->name && !error; o++) {
		error = write_sites(o->name);
		error = error ?: check_target(o);
		if (!error)
			write_initial(o->name);
	}
	return error;
}
#else
static void release_targets(void)
{
}

static int __init check_targets(void)
{
	return 0;
}
#endif

static int __init kgbuild_init(void)
{
	int error = check_kernel();

	error = error ?: check_targets();
	if (!error) {
		write_initial(NULL);
		kgbuild_patch.name = THIS_MODULE->name;
		kgbuild_patch.replace_all = kgbuild_replace;
		error = kgr_patch_kernel(&kgbuild_patch);
	}
	if (error) {
		release_targets();
		free_found();
	}
	return error;
}

static void __exit kgbuild_exit(void)
{
	kgr_patch_remove(&kgbuild_patch);
	release_targets();
	free_found();
}

module_init(kgbuild_init);
module_exit(kgbuild_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("live patch made by kgbuild");
