// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The part of a live patch module that is the same for every patch. It is compiled once per kernel; what to patch is
 * read from the tables that kgbuild puts beside it (kgbuild/module_abi.py).
 *
 * KGBUILD_TARGETS is defined for patches of loadable modules, KGBUILD_CLEAR_LATE for those on kernels that do not clear
 * late relocations themselves (before 6.3), KGBUILD_INITIAL where initial values are written (KGBUILD_KEYS and
 * KGBUILD_CALLS for static keys and calls among them), KGBUILD_CONSTANTS where patched code holds runtime constants (since 6.11),
 * KGBUILD_REGISTERS on kernels before 5.1 (never booted), KGBUILD_SYNC_EACH_CPU where text_poke_sync is called
 * smp_text_poke_sync_each_cpu (since 6.16), KGBUILD_CALLBACKS and KGBUILD_STATES for patches whose author wrote some,
 * KGBUILD_ASSUMED where callers outside of the kernel and its modules are taken not to exist, KGBUILD_KALLSYMS for the
 * back end kallsyms.
 *
 * Before anything is patched the running kernel's build-id is compared with the one the patch was made for: two
 * kernels of one version string can differ, and a live patch for one would corrupt the other.
 */
#include <linux/elf.h>
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/slab.h>
#if defined(KGBUILD_CLEAR_LATE) || defined(KGBUILD_CONSTANTS)
#define KGBUILD_POKES
#include <linux/mutex.h>
#endif

#include "identity.c"

#include "initial.c"

#ifdef KGBUILD_ASSUMED
#include "callers.c"
#else
static int __init watch_callers(void)
{
	return 0;
}

static void unwatch_callers(void)
{
}
#endif

/* not static: an author's callbacks may ask for it */
struct klp_patch kgbuild_patch;

#ifdef KGBUILD_STATES
extern const struct kgbuild_state {
	unsigned long id;
	unsigned long version;
} kgbuild_states[];
extern const u32 kgbuild_states_size;

static int make_states(void)
{
	size_t i, count = kgbuild_states_size / sizeof(kgbuild_states[0]);

	kgbuild_patch.states = kcalloc(count + 1, sizeof(*kgbuild_patch.states), GFP_KERNEL);
	if (!kgbuild_patch.states)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		kgbuild_patch.states[i].id = kgbuild_states[i].id;
		kgbuild_patch.states[i].version = kgbuild_states[i].version;
	}
	return 0;
}

static void free_states(void)
{
	kfree(kgbuild_patch.states);
	kgbuild_patch.states = NULL;
}
#else
static int make_states(void)
{
	return 0;
}

static void free_states(void)
{
}
#endif

static void free_tables(void)
{
	struct klp_object *object;

	for (object = kgbuild_patch.objs; object && object->funcs; object++)
		kfree(object->funcs);
	kfree(kgbuild_patch.objs);
	kgbuild_patch.objs = NULL;
	free_states();
}

#ifdef KGBUILD_KALLSYMS
#include "kallsyms.c"
#elif defined(KGBUILD_POKES)
/* bound as livepatch relocations: not exported */
#ifdef KGBUILD_SYNC_EACH_CPU
#define kgbuild_klp_text_poke_sync kgbuild_klp_smp_text_poke_sync_each_cpu
#endif
extern struct mutex kgbuild_klp_text_mutex;
void *kgbuild_klp_text_poke(void *addr, const void *opcode, size_t len);
void kgbuild_klp_text_poke_sync(void);
#endif

#ifdef KGBUILD_CONSTANTS
struct kgbuild_constant {
	void *site;
	const void *value;	/* the kernel's variable; its first bytes are what the code holds */
	u64 size;
};

extern const struct kgbuild_constant kgbuild_constants[];

/*
 * The kernel wrote these values into its own code when it booted (runtime_const_init()), and does not do so for
 * modules. Nothing runs the patched code yet.
 */
static void __init write_constants(void)
{
	const struct kgbuild_constant *c;

	mutex_lock(&kgbuild_klp_text_mutex);
	for (c = kgbuild_constants; c->site; c++)
		kgbuild_klp_text_poke(c->site, c->value, c->size);
	kgbuild_klp_text_poke_sync();
	mutex_unlock(&kgbuild_klp_text_mutex);
}
#else
static void __init write_constants(void)
{
}
#endif

#ifdef KGBUILD_TARGETS
#ifndef KGBUILD_KALLSYMS
/* bound as livepatch relocations, and called directly: a sealed function can't be reached by a pointer */
long kgbuild_klp_copy_from_kernel_nofault(void *dst, const void *src, size_t size);
#endif

#ifdef KGBUILD_CLEAR_LATE
struct kgbuild_late {
	const char *object;
	void *site;
	u64 size;
};

extern const struct kgbuild_late kgbuild_late[];

/*
 * When a target module comes back, the kernel relocates the patched code for it again, and finds it relocated already:
 * "existing value is nonzero" (fixed in 6.3 by clear_relocate_add()). So clear those places when the module goes;
 * then, and only then, its patched code can't be running.
 */
static void clear_late(const char *object)
{
	static const u8 zeros[8];
	const struct kgbuild_late *late;

	mutex_lock(&kgbuild_klp_text_mutex);
	for (late = kgbuild_late; late->object; late++)
		if (!strcmp(late->object, object))
			kgbuild_klp_text_poke(late->site, zeros, late->size);
	kgbuild_klp_text_poke_sync();
	mutex_unlock(&kgbuild_klp_text_mutex);
}
#else
static void clear_late(const char *object)
{
}
#endif

static void target_gone(struct klp_object *object)
{
	if (object->mod && object->mod->state != MODULE_STATE_LIVE)
		clear_late(object->name);
}

/* The module that is there, or just coming, must be the one that the patch was made for. */
static int check_target(struct klp_object *object)
{
	const struct kgbuild_object *o;
	u8 id[sizeof(o->build_id)];

	for (o = kgbuild_objects; o->name; o++) {
		if (strcmp(o->name, object->name))
			continue;
		if (!kgbuild_klp_copy_from_kernel_nofault(id, o->anchor + o->delta, o->build_id_size) &&
		    !memcmp(id, o->build_id, o->build_id_size))
			return 0;
		pr_err("%s: refused: this module %s is not the one with build-id %*phN\n", THIS_MODULE->name, o->name,
		       (int)o->build_id_size, o->build_id);
	}
	target_gone(object);
	return -ENODEV;
}

#else
static void target_gone(struct klp_object *object)
{
}

static int check_target(struct klp_object *object)
{
	return 0;
}
#endif

#if !defined(KGBUILD_KALLSYMS) || !defined(KGBUILD_TARGETS)
/* the kernel resolves, or there is nothing to */
static int resolve_target(struct klp_object *object)
{
	return 0;
}
#endif

#ifndef KGBUILD_KALLSYMS
static int __init check_kernel(void)
{
	return check_identity();
}

static void free_found(void)
{
}
#endif

enum { PRE_PATCH, POST_PATCH, PRE_UNPATCH, POST_UNPATCH };

#ifdef KGBUILD_CALLBACKS
struct kgbuild_callback {
	const char *object;
	unsigned long kind;
	void *func;
};

/* sorted by object */
extern const struct kgbuild_callback kgbuild_callbacks[];

static void *author(const char *object, unsigned long kind)
{
	const struct kgbuild_callback *c;

	for (c = kgbuild_callbacks; c->func; c++)
		if (c->kind == kind && same_object(c->object, object))
			return c->func;
	return NULL;
}

/* The next row of an object that has callbacks and no functions. */
static const struct kgbuild_callback *next_alone(const struct kgbuild_callback *c)
{
	const struct kgbuild_func *f;

	for (; c->func; c++) {
		if (c != kgbuild_callbacks && same_object(c->object, c[-1].object))
			continue;
		for (f = kgbuild_funcs; f->name && !same_object(f->object, c->object); f++)
			;
		if (!f->name)
			return c;
	}
	return NULL;
}

static size_t count_alone(void)
{
	const struct kgbuild_callback *c = kgbuild_callbacks;
	size_t count = 0;

	for (c = next_alone(c); c; c = next_alone(c + 1))
		count++;
	return count;
}
#else
static void *author(const char *object, unsigned long kind)
{
	return NULL;
}

static size_t count_alone(void)
{
	return 0;
}
#endif

static int before_patch(struct klp_object *object)
{
	int (*func)(struct klp_object *) = author(object->name, PRE_PATCH);
	int error = object->name ? resolve_target(object) : 0;

	if (!error && object->name)
		error = check_target(object);

	if (!error && object->name)
		write_initial(object->name);

	if (!error && func) {
		error = func(object);
		if (error)
			target_gone(object);
	}
	return error;
}

static void after_unpatch(struct klp_object *object)
{
	void (*func)(struct klp_object *) = author(object->name, POST_UNPATCH);

	if (func)
		func(object);
	target_gone(object);
}

static void set_callbacks(struct klp_object *object)
{
	if (object->name || author(NULL, PRE_PATCH))
		object->callbacks.pre_patch = before_patch;
	object->callbacks.post_patch = author(object->name, POST_PATCH);
	object->callbacks.pre_unpatch = author(object->name, PRE_UNPATCH);
	if (object->name || author(NULL, POST_UNPATCH))
		object->callbacks.post_unpatch = after_unpatch;
}

/* The table is sorted by object; every run of one object becomes a klp_object. */
static int make_tables(void)
{
	const struct kgbuild_func *f;
	struct klp_object *object = NULL;
	size_t objects = count_alone();

	for (f = kgbuild_funcs; f->name; f++)
		if (f == kgbuild_funcs || !same_object(f->object, f[-1].object))
			objects++;
	kgbuild_patch.objs = kcalloc(objects + 1, sizeof(*kgbuild_patch.objs), GFP_KERNEL);
	if (!kgbuild_patch.objs)
		return -ENOMEM;
	for (f = kgbuild_funcs; f->name; f++) {
		const struct kgbuild_func *end = f;
		struct klp_func *func;

		object = object ? object + 1 : kgbuild_patch.objs;
		while (end->name && same_object(end->object, f->object))
			end++;
		object->name = f->object;
		set_callbacks(object);
		object->funcs = kcalloc(end - f + 1, sizeof(*func), GFP_KERNEL);
		if (!object->funcs)
			return -ENOMEM;
		for (func = object->funcs; f < end; f++, func++) {
			func->old_name = f->name;
			func->new_func = f->func;
			func->old_sympos = f->sympos;
		}
		f--;
	}
#ifdef KGBUILD_CALLBACKS
	{
		const struct kgbuild_callback *c;

		for (c = next_alone(kgbuild_callbacks); c; c = next_alone(c + 1)) {
			object = object ? object + 1 : kgbuild_patch.objs;
			object->name = c->object;
			set_callbacks(object);
			object->funcs = kcalloc(1, sizeof(*object->funcs), GFP_KERNEL);
			if (!object->funcs)
				return -ENOMEM;
		}
	}
#endif
	return make_states();
}

#ifdef KGBUILD_REGISTERS
/* before 5.1 a patch is registered, then enabled; there is no atomic replace */
static int __init enable_patch(void)
{
	int error = klp_register_patch(&kgbuild_patch);

	if (error)
		return error;
	error = klp_enable_patch(&kgbuild_patch);
	if (error)
		WARN_ON(klp_unregister_patch(&kgbuild_patch));
	return error;
}

static void unregister_patch(void)
{
	WARN_ON(klp_unregister_patch(&kgbuild_patch));
}
#else
static int __init enable_patch(void)
{
	kgbuild_patch.replace = kgbuild_replace;
	return klp_enable_patch(&kgbuild_patch);
}

static void unregister_patch(void)
{
}
#endif

static int __init kgbuild_init(void)
{
	int error = check_kernel();

	if (!error)
		error = watch_callers();
	if (error)
		goto out;
	error = make_tables();
	if (!error) {
		write_constants();
		write_initial(NULL);
		kgbuild_patch.mod = THIS_MODULE;
		error = enable_patch();
	}
	if (error) {
		unwatch_callers();
		free_tables();
	}
out:
	if (error)
		free_found();
	return error;
}

static void __exit kgbuild_exit(void)
{
	unregister_patch();
	unwatch_callers();
	free_tables();
	free_found();
}

module_init(kgbuild_init);
module_exit(kgbuild_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("live patch made by kgbuild");
MODULE_INFO(livepatch, "Y");
