// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The back end kallsyms (kgbuild/emit/backends/kallsyms.py): what the kernel does not export is looked up here, and
 * written into the module's own code and data before anything of it runs. Part of main.c.
 *
 * A function of the kernel may be sealed (IBT): an indirect call of it faults. All that is called here is therefore
 * called through static calls, which are direct, and the patch's code through stubs that jump directly.
 */
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#ifdef KGBUILD_KGRAFT
/* those kernels seal nothing: a pointer will do */
#define DEFINE_STATIC_CALL(name, func) static typeof(&(func)) name = func
#define static_call(name) (name)
#define static_call_update(name, func) ((name) = (func))
#else
#include <linux/static_call.h>
#endif

struct kgbuild_symbol {
	const char *object;	/* a module, NULL for the kernel */
	const char *name;
	u64 sympos;		/* 0: the name is unique; else its place among those of the name */
	u32 range;		/* its first row in kgbuild_ranges */
	u32 ranges;		/* how many rows; none for data */
	u32 crc;		/* of the bytes of these, one behind the other */
	u32 unused;
};

struct kgbuild_range {
	u32 offset;
	u32 size;
};

struct kgbuild_site {
	void *site;
	s64 addend;
	u32 kind;
	u32 symbol;
	const char *object;	/* whose coming it is written at, NULL for init */
};

/* kgbuild/module_abi.py has the same numbers */
enum { SITE_64, SITE_PC32, SITE_32, SITE_32S, SITE_PC64 };

extern const struct kgbuild_symbol kgbuild_symbols[];
extern const u32 kgbuild_symbols_size;
extern const struct kgbuild_range kgbuild_ranges[];
extern const struct kgbuild_site kgbuild_sites[];

struct kgbuild_found {
	unsigned long address;
	u64 count;
};

static struct kgbuild_found *kgbuild_found;

static u32 symbol_count(void)
{
	return kgbuild_symbols_size / sizeof(kgbuild_symbols[0]);
}

#ifdef KGBUILD_EACH_PLAIN
#define KGBUILD_EACH_ARGUMENTS void *data, const char *name, unsigned long address
#else
#define KGBUILD_EACH_ARGUMENTS void *data, const char *name, struct module *mod, unsigned long address
#endif
typedef int kgbuild_each_fn(KGBUILD_EACH_ARGUMENTS);

static int no_each(kgbuild_each_fn *func, void *data)
{
	return -ENOSYS;
}

static void *no_poke(void *addr, const void *opcode, size_t len)
{
	return NULL;
}

static void no_sync(void)
{
}

DEFINE_STATIC_CALL(kgbuild_each, no_each);
DEFINE_STATIC_CALL(kgbuild_poke, no_poke);
DEFINE_STATIC_CALL(kgbuild_sync, no_sync);
static struct mutex *kgbuild_mutex;

#define kgbuild_klp_text_poke static_call(kgbuild_poke)
#define kgbuild_klp_text_poke_sync static_call(kgbuild_sync)
#define kgbuild_klp_text_mutex (*kgbuild_mutex)
#ifdef KGBUILD_SYNC_EACH_CPU
#define KGBUILD_SYNC "smp_text_poke_sync_each_cpu"
#else
#define KGBUILD_SYNC "text_poke_sync"
#endif

#ifdef KGBUILD_LOOKUP_EXPORTED
static int find_lookup(void)
{
	return 0;
}

#define lookup kallsyms_lookup_name
#else
static unsigned long no_lookup(const char *name)
{
	return 0;
}

DEFINE_STATIC_CALL(kgbuild_lookup, no_lookup);

/* kallsyms_lookup_name is not exported (since 5.7); a kprobe tells its address, or that of what is behind its endbr64 */
static int find_lookup(void)
{
	static struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int error = register_kprobe(&probe);

	if (error) {
		pr_err("%s: refused: no kprobe on kallsyms_lookup_name (%d)\n", THIS_MODULE->name, error);
		return error;
	}
	static_call_update(kgbuild_lookup, (void *)probe.addr);
	unregister_kprobe(&probe);
	return 0;
}

#define lookup static_call(kgbuild_lookup)
#endif

static int refuse_name(const struct kgbuild_symbol *s, const char *why)
{
	pr_err("%s: refused: %s,%llu of %s %s\n", THIS_MODULE->name, s->name, s->sympos, s->object ?: "the kernel", why);
	return -ENOENT;
}

static void count(u32 symbol, const char *name, unsigned long address)
{
	const struct kgbuild_symbol *s = &kgbuild_symbols[symbol];
	struct kgbuild_found *found = &kgbuild_found[symbol];

	if (strcmp(s->name, name))
		return;
	found->count++;
	if (!s->sympos || found->count == s->sympos)
		found->address = address;
}

/* Every name that is missing or ambiguous is told, not only the first. */
static int check_counts(const char *object)
{
	int error = 0;
	u32 i;

	for (i = 0; i < symbol_count(); i++) {
		const struct kgbuild_symbol *s = &kgbuild_symbols[i];

		if (!same_object(s->object, object))
			continue;
		if (kgbuild_found[i].count < max(s->sympos, 1ULL))
			error = refuse_name(s, "is not there");
		else if (!s->sympos && kgbuild_found[i].count > 1)
			error = refuse_name(s, "is there more than once");
	}
	return error;
}

static u32 crc32(u32 crc, const u8 *at, u32 size)
{
	int bit;

	while (size--) {
		crc ^= *at++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return crc;
}

/* What was found must be what the patch was proven against, as far as code stays the same while a kernel boots. */
static int check_digest(u32 symbol)
{
	const struct kgbuild_symbol *s = &kgbuild_symbols[symbol];
	const struct kgbuild_range *r = &kgbuild_ranges[s->range];
	u32 i, crc = ~0;

	for (i = 0; i < s->ranges; i++)
		crc = crc32(crc, (const u8 *)kgbuild_found[symbol].address + r[i].offset, r[i].size);
	return s->ranges && ~crc != s->crc ? refuse_name(s, "has other code than this patch was made for") : 0;
}

static int check_digests(const char *object)
{
	int error = 0;
	u32 i;

	for (i = 0; i < symbol_count(); i++)
		if (same_object(kgbuild_symbols[i].object, object))
			error = check_digest(i) ?: error;
	return error;
}

static int write_site(const struct kgbuild_site *s)
{
	u64 value = kgbuild_found[s->symbol].address + s->addend;
	bool wide = s->kind == SITE_64 || s->kind == SITE_PC64, fits = true;

	if (s->kind == SITE_PC32 || s->kind == SITE_PC64)
		value -= (unsigned long)s->site;
	if (s->kind == SITE_PC32 || s->kind == SITE_32S)
		fits = (s64)value == (s32)value;
	if (s->kind == SITE_32)
		fits = value == (u32)value;
	if (!fits) {
		pr_err("%s: refused: %s is too far away\n", THIS_MODULE->name, kgbuild_symbols[s->symbol].name);
		return -ENOEXEC;
	}
	kgbuild_klp_text_poke(s->site, &value, wide ? 8 : 4);
	return 0;
}

/* Nothing runs this code yet: that of the kernel's functions is patched after init, a module's after pre_patch. */
static int write_sites(const char *object)
{
	const struct kgbuild_site *s;
	int error = 0;

	mutex_lock(kgbuild_mutex);
	for (s = kgbuild_sites; s->site && !error; s++)
		if (same_object(s->object, object))
			error = write_site(s);
	kgbuild_klp_text_poke_sync();
	mutex_unlock(kgbuild_mutex);
	return error;
}

static unsigned long found(const char *name)
{
	u32 i;

	for (i = 0; i < symbol_count(); i++)
		if (!kgbuild_symbols[i].object && !strcmp(kgbuild_symbols[i].name, name))
			return kgbuild_found[i].address;
	return 0;
}

static int count_in_kernel(KGBUILD_EACH_ARGUMENTS)
{
	u32 i;

#ifndef KGBUILD_EACH_PLAIN
	if (mod)
		return 0;
#endif
	for (i = 0; i < symbol_count(); i++)
		if (!kgbuild_symbols[i].object)
			count(i, name, address);
	return 0;
}

#ifdef KGBUILD_TARGETS
static struct module *no_module(const char *name)
{
	return NULL;
}

static long no_copy(void *dst, const void *src, size_t size)
{
	return -EFAULT;
}

DEFINE_STATIC_CALL(kgbuild_find_module, no_module);
DEFINE_STATIC_CALL(kgbuild_copy, no_copy);
#define kgbuild_klp_copy_from_kernel_nofault static_call(kgbuild_copy)

/* Symbols of one module, in the order in which the kernel itself counts them. */
static void count_in_module(struct module *mod)
{
	struct mod_kallsyms *table;
	unsigned int at;
	u32 i;

	rcu_read_lock_sched();
	table = rcu_dereference_sched(mod->kallsyms);
	for (at = 0; at < table->num_symtab; at++) {
		const Elf_Sym *symbol = &table->symtab[at];

		if (symbol->st_shndx == SHN_UNDEF)
			continue;
		for (i = 0; i < symbol_count(); i++)
			if (same_object(kgbuild_symbols[i].object, mod->name))
				count(i, table->strtab + symbol->st_name, symbol->st_value);
	}
	rcu_read_unlock_sched();
}

/* Whether a site that is written when `object` comes refers to a symbol of the module `owner`. */
static bool refers(const char *object, const char *owner)
{
	const struct kgbuild_site *s;

	for (s = kgbuild_sites; s->site; s++)
		if (same_object(s->object, object) && same_object(kgbuild_symbols[s->symbol].object, owner))
			return true;
	return false;
}

/* Look up all symbols of one module again. A module that the target depends on is there, and stays. */
static int resolve_module(const char *name, struct module *mod)
{
	int error;
	u32 i;

	for (i = 0; i < symbol_count(); i++)
		if (same_object(kgbuild_symbols[i].object, name))
			kgbuild_found[i] = (struct kgbuild_found){};
	if (!mod) {
		rcu_read_lock_sched();
		mod = static_call(kgbuild_find_module)(name);
		rcu_read_unlock_sched();
	}
	if (mod)
		count_in_module(mod);
	error = check_counts(name);
	return error ?: check_digests(name);
}

/* Called before a target module's functions are redirected, each time it comes. */
static int resolve_target(struct klp_object *object)
{
	int error = resolve_module(object->name, object->mod);
	u32 i;

	for (i = 0; i < symbol_count() && !error; i++) {
		const char *owner = kgbuild_symbols[i].object;

		if (owner && !same_object(owner, object->name) && !(i && same_object(owner, kgbuild_symbols[i - 1].object)) &&
		    refers(object->name, owner))
			error = resolve_module(owner, NULL);
	}
	return error ?: write_sites(object->name);
}
#endif

static void free_found(void)
{
	kfree(kgbuild_found);
}

/* After this, all of the kernel that the patch is bound to is found, is what it should be, and is written in. */
static int __init check_kernel(void)
{
	unsigned long each;
	int error = find_lookup();

	if (error)
		return error;
	kgbuild_running_notes[0] = (const char *)lookup("__start_notes");
	kgbuild_running_notes[1] = (const char *)lookup("__stop_notes");
	error = check_identity();
	if (error)
		return error;
	kgbuild_found = kcalloc(symbol_count(), sizeof(*kgbuild_found), GFP_KERNEL);
	if (!kgbuild_found)
		return -ENOMEM;
	each = lookup("kallsyms_on_each_symbol");
	if (!each) {
		pr_err("%s: refused: the kernel has no kallsyms_on_each_symbol\n", THIS_MODULE->name);
		return -ENOENT;
	}
	static_call_update(kgbuild_each, (void *)each);
	static_call(kgbuild_each)(count_in_kernel, NULL);
	error = check_counts(NULL);
	error = error ?: check_digests(NULL);
	if (error)
		return error;
	static_call_update(kgbuild_poke, (void *)found("text_poke"));
#ifndef KGBUILD_KGRAFT /* there text_poke does that itself */
	static_call_update(kgbuild_sync, (void *)found(KGBUILD_SYNC));
#endif
	kgbuild_mutex = (struct mutex *)found("text_mutex");
#ifdef KGBUILD_TARGETS
	static_call_update(kgbuild_find_module, (void *)found("find_module"));
	static_call_update(kgbuild_copy, (void *)found("copy_from_kernel_nofault"));
#endif
	return write_sites(NULL);
}
