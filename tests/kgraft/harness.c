// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A kernel with kGraft, as far as a patch sees it: names, modules, writing into code, registration. Loads the patch that
 * it is linked with, calls each new function, and unloads it. The words of the command line are what is wrong:
 *   missing=NAME  twice=NAME  other=NAME (has other code)  unloaded  going  rebuilt (the module has another build-id)
 *   kernel (has another build-id)  fails (kgr_patch_kernel does)
 */
#include <linux/kernel.h>
#include <linux/kgraft.h>
#include <stdint.h>
#include <sys/mman.h>

int patch_init(void);
void patch_exit(void);
extern int counter;
extern void *const first_helper, *const second_helper;
int mod_helper(int a);

static char **words;
struct module this_module = { .name = "livepatch_kgraft" };
static struct module target = { .name = "target" };
struct mutex module_mutex;
static struct mutex text_mutex;
static struct {
	struct elf_note head;
	char name[4];
	u8 desc[20];
} notes = { { 4, 20, 3 }, "GNU", { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 } };
static u8 mod_note[20] = { 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 };

static bool asked(const char *what, const char *name)
{
	char both[100];
	char **word;

	snprintf(both, sizeof(both), "%s%s", what, name);
	for (word = words; *word; word++)
		if (!strcmp(*word, both))
			return true;
	return false;
}

void mutex_lock(struct mutex *mutex)
{
	if (mutex->held++)
		abort();
}

void mutex_unlock(struct mutex *mutex)
{
	if (--mutex->held)
		abort();
}

struct module *find_module(const char *name)
{
	if (!module_mutex.held)
		abort();
	return strcmp(name, target.name) || asked("unloaded", "") ? NULL : &target;
}

bool try_module_get(struct module *mod)
{
	if (mod->going)
		return false;
	mod->refs++;
	return true;
}

void module_put(struct module *mod)
{
	mod->refs--;
}

long probe_kernel_read(void *dst, const void *src, size_t size)
{
	memcpy(dst, src, size);
	return 0;
}

static void *text_poke(void *addr, const void *opcode, size_t len)
{
	uintptr_t page = (uintptr_t)addr & ~4095ul;

	if (!text_mutex.held || mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
		abort();
	return memcpy(addr, opcode, len);
}

static int each(int (*fn)(void *, const char *, struct module *, unsigned long), void *data)
{
	const struct {
		const char *name;
		struct module *mod;
		void *address;
	} symbols[] = {
		{ "text_poke", NULL, text_poke },
		{ "helper", &target, first_helper },
		{ "helper", NULL, first_helper },
		{ "text_mutex", NULL, &text_mutex },
		{ "helper", NULL, second_helper },
		{ "counter", NULL, &counter },
		{ "mod_helper", &target, mod_helper },
		{ "mod_anchor", &target, mod_note },
	};
	size_t i;
	int error = 0;

	for (i = 0; i < sizeof(symbols) / sizeof(symbols[0]) && !error; i++) {
		void *address = symbols[i].address;

		if (asked("missing=", symbols[i].name) || (symbols[i].mod && asked("unloaded", "")))
			continue;
		if (asked("other=", symbols[i].name))
			address = patch_init;
		error = fn(data, symbols[i].name, symbols[i].mod, (unsigned long)address);
		if (!error && asked("twice=", symbols[i].name))
			error = fn(data, symbols[i].name, symbols[i].mod, (unsigned long)address);
	}
	return error;
}

unsigned long kallsyms_lookup_name(const char *name)
{
	if (!strcmp(name, "__start_notes"))
		return (unsigned long)&notes;
	if (!strcmp(name, "__stop_notes"))
		return (unsigned long)(&notes + 1);
	return strcmp(name, "kallsyms_on_each_symbol") ? 0 : (unsigned long)each;
}

int kgr_patch_kernel(struct kgr_patch *patch)
{
	struct kgr_patch_fun *f;

	if (asked("fails", ""))
		return -EINVAL;
	printf("patch %s owner %s replace_all %d held %d\n", patch->name, patch->owner->name, patch->replace_all,
	       target.refs);
	for (f = patch->patches; f->name; f++)
		printf("function %s of %s position %lu gives %d\n", f->name, f->objname ? f->objname : "vmlinux",
		       f->sympos, ((int (*)(int))f->new_fun)(5));
	return 0;
}

void kgr_patch_remove(struct kgr_patch *patch)
{
	printf("removed %s\n", patch->name);
}

int main(int argc, char **argv)
{
	int error;

	(void)argc;
	words = argv + 1;
	target.going = asked("going", "");
	mod_note[0] += asked("rebuilt", "");
	notes.desc[0] += asked("kernel", "");
	error = patch_init();
	printf("init %d held %d\n", error, target.refs);
	if (!error)
		patch_exit();
	printf("at the end held %d\n", target.refs);
	return error != 0;
}
