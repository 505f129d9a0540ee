// SPDX-License-Identifier: GPL-2.0-or-later
/* A kernel before 5.1 as a live patch sees it: says what is called, in order. The word on the command line is the call
 * that fails. */
#include <linux/kernel.h>
#include <linux/livepatch.h>

int patch_init(void);
void patch_exit(void);

static int first(void)
{
	return 1;
}

const struct {
	const char *object;
	const char *name;
	void *func;
	unsigned long sympos;
} kgbuild_funcs[] = { { NULL, "first", first, 0 }, { NULL, "twice", first, 2 }, { } };
const u8 kgbuild_build_id[20] = { 1 };
const u32 kgbuild_build_id_size = 20, kgbuild_replace;

static const struct {
	struct elf_note head;
	char name[4];
	u8 desc[20];
} notes = { { 4, 20, 3 }, "GNU", { 1 } };
const char *const kgbuild_notes[2] = { (const char *)&notes, (const char *)(&notes + 1) };
struct module this_module = { .name = "livepatch_old" };
static const char *fails = "";

static int call(const char *what, struct klp_patch *patch)
{
	const struct klp_object *object;
	const struct klp_func *func;

	printf("%s", what);
	for (object = patch->objs; object->funcs; object++)
		for (func = object->funcs; func->old_name; func++)
			printf(" %s,%lu", func->old_name, func->old_sympos);
	printf("\n");
	return strcmp(what, fails) ? 0 : -EINVAL;
}

int klp_register_patch(struct klp_patch *patch)
{
	return call("register", patch);
}

int klp_unregister_patch(struct klp_patch *patch)
{
	return call("unregister", patch);
}

int klp_enable_patch(struct klp_patch *patch)
{
	return call("enable", patch);
}

int main(int argc, char **argv)
{
	int error;

	if (argc > 1)
		fails = argv[1];
	error = patch_init();
	printf("init %d\n", error);
	if (!error)
		patch_exit();
	return error != 0;
}
