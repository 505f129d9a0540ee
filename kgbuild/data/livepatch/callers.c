// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Exported functions that the patch changes and ftrace can't redirect. Their callers in the kernel and its modules are
 * replaced with the patch; a module of anybody else would go on calling the old code. Part of main.c.
 *
 * The kernel's own modules have intree=Y in their .modinfo; all others are marked as out-of-tree. Once a module is
 * there, the kernel no longer knows what it took from elsewhere: the names of undefined symbols are freed with its init
 * memory (is_core_symbol() in kernel/module/kallsyms.c). So beside any such module the patch is not loaded. While one
 * comes, its undefined symbols are still there, and only one that takes such a function is refused (since 5.10; before,
 * nobody listens to what a notifier says). Live patches are left out: a newer one must be able to come.
 */
#include <linux/notifier.h>
#include <linux/rculist.h>

struct kgbuild_assumed {
	const char *name;
};

extern const struct kgbuild_assumed kgbuild_assumed[];

static bool is_foreign(struct module *mod)
{
	return mod != THIS_MODULE && test_bit(TAINT_OOT_MODULE, &mod->taints) && !is_livepatch_module(mod);
}

/* One of those functions that a module which is coming takes; NULL for none. */
static const char *taken_by(struct module *mod)
{
	const struct mod_kallsyms *symbols = rcu_dereference_raw(mod->kallsyms);
	const struct kgbuild_assumed *function;
	unsigned int i;

	for (i = 1; symbols && i < symbols->num_symtab; i++) {
		if (symbols->symtab[i].st_shndx != SHN_UNDEF)
			continue;
		for (function = kgbuild_assumed; function->name; function++)
			if (!strcmp(symbols->strtab + symbols->symtab[i].st_name, function->name))
				return function->name;
	}
	return NULL;
}

static int module_changes(struct notifier_block *block, unsigned long state, void *data)
{
	struct module *mod = data;
	const char *name;

	if (state != MODULE_STATE_COMING || !is_foreign(mod))
		return NOTIFY_DONE;
	name = taken_by(mod);
	if (!name)
		return NOTIFY_DONE;
	pr_err("%s: refused: module %s is out-of-tree and calls %s, of which this patch replaces the callers only\n",
	       THIS_MODULE->name, mod->name, name);
	return notifier_from_errno(-EPERM);
}

static struct notifier_block kgbuild_callers = { .notifier_call = module_changes };

static void unwatch_callers(void)
{
	unregister_module_notifier(&kgbuild_callers);
}

/*
 * The list of modules is a ring, of which the kernel does not export the head: what is not in the memory of modules is
 * that. Those that come meanwhile are seen by the notifier, which is there first.
 */
static int __init watch_callers(void)
{
	const struct list_head *at, *self = &THIS_MODULE->list;
	int error = register_module_notifier(&kgbuild_callers);

	if (error)
		return error;
	preempt_disable();
	for (at = READ_ONCE(self->next); at != self; at = READ_ONCE(at->next)) {
		struct module *mod = list_entry(at, struct module, list);

		if ((unsigned long)at < MODULES_VADDR || (unsigned long)at >= MODULES_END)
			continue;
		if (mod->state == MODULE_STATE_UNFORMED || !is_foreign(mod))
			continue;
		pr_err("%s: refused: module %s is out-of-tree and may call %s, of which this patch replaces the callers only\n",
		       THIS_MODULE->name, mod->name, kgbuild_assumed[0].name);
		error = -EPERM;
	}
	preempt_enable();
	if (error)
		unwatch_callers();
	return error;
}
