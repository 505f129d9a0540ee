// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The tables that every back end reads, and the check that the running kernel is the one a patch was made for. Part of
 * main.c and kgraft.c.
 */
struct kgbuild_func {
	const char *object;
	const char *name;
	void *func;
	unsigned long sympos;
};

extern const struct kgbuild_func kgbuild_funcs[];
extern const u8 kgbuild_build_id[];
extern const u32 kgbuild_build_id_size;
extern const u32 kgbuild_replace;

/* start and end of the kernel's own notes, which are not exported */
#ifdef KGBUILD_KALLSYMS
static const char *kgbuild_running_notes[2];
#else
extern const char *const kgbuild_notes[2];
#define kgbuild_running_notes kgbuild_notes
#endif

static const u8 *running_build_id(u32 *size)
{
	const char *at = kgbuild_running_notes[0];

	while (at && at + sizeof(struct elf_note) <= kgbuild_running_notes[1]) {
		const struct elf_note *note = (const void *)at;
		const char *name = at + sizeof(*note);
		const char *desc = name + ALIGN(note->n_namesz, 4);

		if (desc + note->n_descsz > kgbuild_running_notes[1])
			break;
		if (note->n_type == 3 && note->n_namesz == 4 && !memcmp(name, "GNU", 4)) {
			*size = note->n_descsz;
			return (const u8 *)desc;
		}
		at = desc + ALIGN(note->n_descsz, 4);
	}
	return NULL;
}

static int check_identity(void)
{
	u32 size = 0;
	const u8 *id = running_build_id(&size);

	if (id && size == kgbuild_build_id_size && !memcmp(id, kgbuild_build_id, size))
		return 0;
	pr_err("%s: refused: made for the kernel with build-id %*phN, running is %*phN\n", THIS_MODULE->name,
	       (int)min(kgbuild_build_id_size, 32u), kgbuild_build_id, id ? (int)min(size, 32u) : 0, id);
	return -ENODEV;
}

static bool same_object(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* how to know a target module */
struct kgbuild_object {
	const char *name;
	const char *anchor;	/* a symbol of the target module, relocated when that comes */
	long delta;		/* from there to its build-id */
	u32 build_id_size;
	u8 build_id[20];
};

extern const struct kgbuild_object kgbuild_objects[];
