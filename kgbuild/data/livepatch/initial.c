// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Initial values of the patch's variables (kgbuild/emit/initial_values.py). Part of main.c and kgraft.c.
 *
 * A target module's variables are initialised each time that it is loaded, before anything of it runs. Per-CPU variables with
 * pointers are written here in any case: the module loader does not relocate them.
 */
#ifdef KGBUILD_INITIAL
#include <linux/percpu.h>
#include <linux/string.h>
#ifdef KGBUILD_KEYS
#include <linux/jump_label.h>
#endif
#ifdef KGBUILD_CALLS
#include <linux/static_call.h>
#endif

struct kgbuild_initial {
	const char *object;	/* whose coming it is written at, NULL for once */
	void *place;
	const void *value;	/* NULL: zeros */
	u64 size;
	u64 kind;
	void *code;		/* of a static call */
};

/* kgbuild/module_abi.py has the same numbers */
enum { INITIAL_MEMORY, INITIAL_PER_CPU, INITIAL_KEY, INITIAL_CALL, INITIAL_SAVED };

extern const struct kgbuild_initial kgbuild_initial[];

static void write_value(void *place, const struct kgbuild_initial *i)
{
	if (i->value)
		memcpy(place, i->value, i->size);
	else
		memset(place, 0, i->size);
}

static void write_each_cpu(const struct kgbuild_initial *i)
{
	int cpu;

	for_each_possible_cpu(cpu)
		write_value(per_cpu_ptr((void __percpu *)i->place, cpu), i);
}

#ifdef KGBUILD_KEYS
/* The code that it switches was switched with it, and has to be switched back. */
static void switch_key(const struct kgbuild_initial *i)
{
	struct static_key *key = i->place;
	int wanted = i->value ? *(const int *)i->value : 0;

	BUILD_BUG_ON(sizeof(*key) != 16);
	if (!wanted && static_key_count(key)) {
		atomic_set(&key->enabled, 1);
		static_key_disable(key);
	} else if (wanted && static_key_count(key)) {
		atomic_set(&key->enabled, wanted);
	} else if (wanted) {
		static_key_enable(key);
	}
}
#else
static void switch_key(const struct kgbuild_initial *i)
{
}
#endif

#ifdef KGBUILD_CALLS
static void switch_call(const struct kgbuild_initial *i)
{
	__static_call_update(i->place, i->code, i->value ? *(void *const *)i->value : NULL);
}
#else
static void switch_call(const struct kgbuild_initial *i)
{
}
#endif

/*
 * What the parameters were set to when this module was loaded: that is how a module's own begin. Nothing else has
 * written there yet.
 */
static void save_parameters(void)
{
	const struct kgbuild_initial *i;

	for (i = kgbuild_initial; i->size; i++)
		if (i->kind == INITIAL_SAVED)
			memcpy((void *)i->value, i->place, i->size);
}

static void write_initial(const char *object)
{
	const struct kgbuild_initial *i;

	if (!object)
		save_parameters();
	for (i = kgbuild_initial; i->size; i++) {
		if (!same_object(i->object, object))
			continue;
		if (i->kind == INITIAL_PER_CPU)
			write_each_cpu(i);
		else if (i->kind == INITIAL_KEY)
			switch_key(i);
		else if (i->kind == INITIAL_CALL)
			switch_call(i);
		else
			write_value(i->place, i);
	}
}
#else
static void write_initial(const char *object)
{
}
#endif
