// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kgbuild-inject IN OUT: the last step on a linked live patch module. OUT may be IN.
 *
 * `ld -r` silently destroys SHN_LIVEPATCH symbols and .klp.rela sections, so they are made here, when every other tool
 * has run: undefined symbols in livepatch form become SHN_LIVEPATCH ones, and the relocations against them move into
 * .klp.rela.OBJECT.SECTION. Debugging information of the build is left out. Does what kgbuild/emit/klp_relocations.py does, byte
 * for byte. Source: Documentation/livepatch/module-elf-format.rst.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX ".klp.sym."
#define PREFIX_C "kgbuild_klp_"
#define RESOLVE_SECTION ".rodata..kgbuild_resolve"
#define LIVEPATCH_SECTION 0x00100000 /* SHF_RELA_LIVEPATCH */
#define LIVEPATCH_INDEX 0xff20 /* SHN_LIVEPATCH */

struct buffer {
	unsigned char *data;
	size_t size, room;
};

struct section {
	Elf64_Shdr head; /* as read; of a made one: type and flags */
	const char *name;
	const unsigned char *data;
	unsigned int in; /* the section that relocations apply to, by index in the input */
	unsigned int out; /* index in the output, 0 where it is left out */
	struct buffer relocs; /* Elf64_Rela, symbols by index in the input */
};

struct symbol {
	Elf64_Sym sym;
	const char *name;
	const char *owner; /* object whose coming relocates references to it */
	unsigned int out; /* index in the output */
	int keep, used;
};

static const char *input = "kgbuild-inject";
static unsigned char *file;
static size_t file_size;
static Elf64_Ehdr ehdr;
static struct section *sections, *late;
static size_t section_count, late_count;
static struct symbol *symbols;
static size_t symbol_count;

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "%s: ", input);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void *get(size_t count, size_t size)
{
	void *got = calloc(count ? count : 1, size);

	if (!got)
		die("out of memory");
	return got;
}

static void add(struct buffer *b, const void *data, size_t size)
{
	if (b->size + size > b->room) {
		b->room = 2 * (b->size + size);
		b->data = realloc(b->data, b->room);
		if (!b->data)
			die("out of memory");
	}
	if (data)
		memcpy(b->data + b->size, data, size);
	else
		memset(b->data + b->size, 0, size);
	b->size += size;
}

static void pad(struct buffer *b, size_t align)
{
	while (b->size % align)
		add(b, NULL, 1);
}

/* Offset of a string in a table; one that is there already is used again, whole strings only. */
static unsigned int add_string(struct buffer *table, const char *text)
{
	size_t at = 0;

	if (!table->size)
		add(table, "", 1);
	for (; at < table->size; at += strlen((char *)table->data + at) + 1)
		if (!strcmp((char *)table->data + at, text))
			return at;
	add(table, text, strlen(text) + 1);
	return at;
}

static char *join(const char *a, const char *b, const char *c, const char *d)
{
	size_t size = strlen(a) + strlen(b) + strlen(c) + strlen(d) + 1;
	char *out = get(size, 1);

	snprintf(out, size, "%s%s%s%s", a, b, c, d);
	return out;
}

static int begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

static const unsigned char *piece(Elf64_Off offset, size_t size)
{
	if (offset > file_size || size > file_size - offset)
		die("cut off: %zu bytes at offset %llu", size, (unsigned long long)offset);
	return file + offset;
}

static const char *string(unsigned int table, size_t at)
{
	const Elf64_Shdr *head;

	if (table >= section_count)
		die("no section %u", table);
	head = &sections[table].head;
	if (at >= head->sh_size || !memchr(sections[table].data + at, 0, head->sh_size - at))
		die("no string at offset %zu of section %u", at, table);
	return (const char *)sections[table].data + at;
}

static void read_file(const char *path)
{
	struct buffer all = { 0 };
	unsigned char part[65536];
	size_t got;
	FILE *stream = fopen(path, "rb");

	input = path;
	if (!stream)
		die("%s", strerror(errno));
	while ((got = fread(part, 1, sizeof(part), stream)))
		add(&all, part, got);
	if (ferror(stream))
		die("can't be read");
	fclose(stream);
	file = all.data;
	file_size = all.size;
}

static void read_sections(void)
{
	static const unsigned short one = 1;
	int order = *(const unsigned char *)&one ? ELFDATA2LSB : ELFDATA2MSB;
	size_t i;

	memcpy(&ehdr, piece(0, sizeof(ehdr)), sizeof(ehdr));
	if (memcmp(ehdr.e_ident, ELFMAG, SELFMAG) || ehdr.e_ident[EI_CLASS] != ELFCLASS64 || ehdr.e_type != ET_REL)
		die("no relocatable ELF64 file");
	if (ehdr.e_ident[EI_DATA] != ELFDATA2LSB || order != ELFDATA2LSB)
		die("not little-endian, or this machine is not");
	if (ehdr.e_shentsize != sizeof(Elf64_Shdr) || !ehdr.e_shnum)
		die("section headers of an unknown form");
	section_count = ehdr.e_shnum;
	sections = get(section_count, sizeof(*sections));
	for (i = 0; i < section_count; i++) {
		struct section *s = &sections[i];

		memcpy(&s->head, piece(ehdr.e_shoff + i * sizeof(s->head), sizeof(s->head)), sizeof(s->head));
		if (s->head.sh_type != SHT_NOBITS && s->head.sh_type != SHT_NULL)
			s->data = piece(s->head.sh_offset, s->head.sh_size);
		if (s->head.sh_flags & LIVEPATCH_SECTION)
			die("has livepatch relocations already");
	}
	for (i = 0; i < section_count; i++)
		sections[i].name = string(ehdr.e_shstrndx, sections[i].head.sh_name);
}

static int is_carried(const struct section *s)
{
	static const unsigned int types[] = { SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_GROUP };
	static const char *const debug[] = { ".debug", ".rela.debug", ".comment", ".note.GNU-stack" };
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (s->head.sh_type == types[i])
			return 0;
	for (i = 0; i < sizeof(debug) / sizeof(debug[0]); i++)
		if (begins(s->name, debug[i]))
			return 0;
	return 1;
}

/* .klp.sym.OBJECT.NAME,POSITION[@PATCHED] -> final name, and the object whose coming relocates: PATCHED or OBJECT. */
static void settle_name(struct symbol *s)
{
	char *name, *at, *dot, *comma, *object;

	if (begins(s->name, PREFIX_C)) {
		s->name = join(PREFIX "vmlinux.", s->name + strlen(PREFIX_C), ",0", "");
		s->owner = "vmlinux";
		return;
	}
	name = join(s->name, "", "", "");
	at = strchr(name, '@');
	if (at)
		*at = 0;
	object = name + strlen(PREFIX);
	comma = strrchr(object, ',');
	dot = strchr(object, '.');
	if (!comma || !comma[1] || comma[1 + strspn(comma + 1, "0123456789")] || !dot || dot + 1 >= comma)
		die("malformed livepatch symbol %s", s->name);
	object = join(object, "", "", "");
	*strchr(object, '.') = 0;
	s->name = name;
	s->owner = at && at[1] ? at + 1 : object;
}

static void read_symbols(void)
{
	const struct section *table = NULL;
	size_t i;

	for (i = 0; i < section_count; i++)
		if (sections[i].head.sh_type == SHT_SYMTAB)
			table = &sections[i];
	if (!table || table->head.sh_entsize != sizeof(Elf64_Sym))
		die("no symbol table, or one of an unknown form");
	symbol_count = table->head.sh_size / sizeof(Elf64_Sym);
	symbols = get(symbol_count, sizeof(*symbols));
	for (i = 1; i < symbol_count; i++) {
		struct symbol *s = &symbols[i];
		unsigned int shndx;

		memcpy(&s->sym, table->data + i * sizeof(s->sym), sizeof(s->sym));
		s->name = string(table->head.sh_link, s->sym.st_name);
		shndx = s->sym.st_shndx;
		if (shndx == SHN_XINDEX || (shndx < SHN_LORESERVE && shndx >= section_count))
			die("symbol %s is in section %u, which is not there", s->name, shndx);
		s->keep = shndx == SHN_UNDEF || shndx >= SHN_LORESERVE || is_carried(&sections[shndx]);
		if (ELF64_ST_TYPE(s->sym.st_info) == STT_SECTION)
			s->name = "";
		if (shndx == SHN_UNDEF && (begins(s->name, PREFIX) || begins(s->name, PREFIX_C))) {
			settle_name(s);
			s->sym.st_shndx = LIVEPATCH_INDEX;
			s->sym.st_info = ELF64_ST_INFO(STB_GLOBAL, ELF64_ST_TYPE(s->sym.st_info));
		}
	}
}

static int by_owner(const void *a, const void *b)
{
	return strcmp(((const struct section *)a)->name, ((const struct section *)b)->name);
}

/* Relocations against livepatch symbols go into sections of their own, one for each object and section. */
static void move_relocations(void)
{
	size_t i, j, first;

	for (i = 0; i < section_count; i++) {
		const Elf64_Shdr *head = &sections[i].head;

		if (head->sh_type != SHT_RELA || head->sh_info >= section_count || !is_carried(&sections[head->sh_info]))
			continue;
		if (sections[head->sh_info].in)
			die("section %s has two tables of relocations", sections[head->sh_info].name);
		sections[head->sh_info].in = i;
	}
	for (i = 0; i < section_count; i++) {
		struct section *s = &sections[i], *from = &sections[s->in];

		if (!s->in)
			continue;
		first = late_count;
		for (j = 0; j + sizeof(Elf64_Rela) <= from->head.sh_size; j += sizeof(Elf64_Rela)) {
			struct section *to = s;
			Elf64_Rela rela;
			struct symbol *symbol;
			size_t k;

			memcpy(&rela, from->data + j, sizeof(rela));
			if (!ELF64_R_TYPE(rela.r_info))
				continue;
			k = ELF64_R_SYM(rela.r_info);
			if (!k || k >= symbol_count || !symbols[k].keep)
				die("a relocation of %s refers to a symbol that is not there", s->name);
			symbol = &symbols[k];
			symbol->used = 1;
			if (symbol->sym.st_shndx == LIVEPATCH_INDEX) {
				for (k = first; k < late_count && strcmp(late[k].name, symbol->owner); k++)
					;
				if (k == late_count) {
					late = realloc(late, (late_count + 1) * sizeof(*late));
					if (!late)
						die("out of memory");
					late[late_count++] = (struct section){ .name = symbol->owner, .in = i };
				}
				to = &late[k];
			}
			add(&to->relocs, &rela, sizeof(rela));
		}
		if (late_count > first)
			qsort(late + first, late_count - first, sizeof(*late), by_owner);
	}
	for (i = 0; i < late_count; i++)
		late[i].name = join(".klp.rela.", late[i].name, ".", sections[late[i].in].name);
}

static struct buffer out, heads, names;
static unsigned int head_count;

static void place(const char *name, Elf64_Shdr head, const void *data, size_t align)
{
	align = align ? align : 1;
	if (head.sh_type != SHT_NOBITS)
		pad(&out, align);
	head.sh_name = add_string(&names, name);
	head.sh_offset = out.size;
	head.sh_addralign = align;
	head.sh_addr = 0;
	if (head.sh_type != SHT_NOBITS)
		add(&out, data ? data : "", head.sh_size);
	add(&heads, &head, sizeof(head));
	head_count++;
}

static void place_relocs(const char *name, struct buffer *relocs, unsigned long flags, unsigned int symtab,
			 unsigned int info)
{
	Elf64_Shdr head = { .sh_type = SHT_RELA, .sh_flags = flags, .sh_size = relocs->size, .sh_link = symtab,
			    .sh_info = info, .sh_entsize = sizeof(Elf64_Rela) };
	size_t i;

	for (i = 0; i < relocs->size; i += sizeof(Elf64_Rela)) {
		Elf64_Rela rela;

		memcpy(&rela, relocs->data + i, sizeof(rela));
		rela.r_info = ELF64_R_INFO((Elf64_Xword)symbols[ELF64_R_SYM(rela.r_info)].out,
					   ELF64_R_TYPE(rela.r_info));
		memcpy(relocs->data + i, &rela, sizeof(rela));
	}
	place(name, head, relocs->data, 8);
}

/* The kernel's own functions are looked for by relocations in RESOLVE_SECTION: those come before all others. */
static int is_first(const struct section *s)
{
	return !strcmp(sections[s->in].name, RESOLVE_SECTION);
}

static void make_output(void)
{
	static const Elf64_Shdr none;
	unsigned int count = 0, symtab, rows = 1, locals = 1;
	struct buffer table = { 0 }, strings = { 0 };
	Elf64_Shdr head;
	size_t i;
	int local, first;

	for (i = 0; i < section_count; i++)
		if (is_carried(&sections[i]))
			sections[i].out = ++count;
	symtab = count + late_count + 1;
	for (i = 0; i < section_count; i++)
		symtab += sections[i].relocs.size != 0;

	add(&table, NULL, sizeof(Elf64_Sym));
	add_string(&strings, "");
	for (local = 1; local >= 0; local--) {
		for (i = 1; i < symbol_count; i++) {
			struct symbol *s = &symbols[i];
			unsigned int shndx = s->sym.st_shndx;
			int bound = shndx != SHN_UNDEF && shndx != LIVEPATCH_INDEX;

			if (!s->keep || (!s->used && !bound) || (ELF64_ST_BIND(s->sym.st_info) == STB_LOCAL) != local)
				continue;
			s->out = rows++;
			locals += local;
			s->sym.st_name = add_string(&strings, s->name);
			if (bound && shndx < SHN_LORESERVE)
				s->sym.st_shndx = sections[shndx].out;
			add(&table, &s->sym, sizeof(s->sym));
		}
	}

	add(&out, NULL, sizeof(Elf64_Ehdr));
	add_string(&names, "");
	add(&heads, &none, sizeof(none));
	head_count = 1;
	for (i = 0; i < section_count; i++) {
		const struct section *s = &sections[i];

		if (!s->out)
			continue;
		head = s->head;
		head.sh_flags &= ~(Elf64_Xword)SHF_GROUP;
		head.sh_link = head.sh_flags & SHF_LINK_ORDER && head.sh_link < section_count ?
			       sections[head.sh_link].out : 0;
		head.sh_info = 0;
		place(s->name, head, s->data, head.sh_addralign);
	}
	for (first = 1; first >= 0; first--)
		for (i = 0; i < late_count; i++)
			if (is_first(&late[i]) == first)
				place_relocs(late[i].name, &late[i].relocs,
					     SHF_ALLOC | SHF_INFO_LINK | LIVEPATCH_SECTION, symtab,
					     sections[late[i].in].out);
	for (i = 0; i < section_count; i++)
		if (sections[i].relocs.size)
			place_relocs(join(".rela", sections[i].name, "", ""), &sections[i].relocs, SHF_INFO_LINK, symtab,
				     sections[i].out);
	head = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_size = table.size, .sh_link = symtab + 1, .sh_info = locals,
			     .sh_entsize = sizeof(Elf64_Sym) };
	place(".symtab", head, table.data, 8);
	place(".strtab", (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_size = strings.size }, strings.data, 1);
	add_string(&names, ".shstrtab");
	place(".shstrtab", (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_size = names.size }, names.data, 1);
	pad(&out, 8);
}

static void write_file(const char *path)
{
	Elf64_Ehdr head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_REL, .e_machine = ehdr.e_machine, .e_version = EV_CURRENT,
			    .e_shoff = out.size, .e_ehsize = sizeof(head), .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = head_count, .e_shstrndx = head_count - 1 };
	FILE *stream;

	memcpy(out.data, &head, sizeof(head));
	add(&out, heads.data, heads.size);
	input = path;
	stream = fopen(path, "wb");
	if (!stream)
		die("%s", strerror(errno));
	if (fwrite(out.data, 1, out.size, stream) != out.size || fclose(stream)) {
		remove(path);
		die("can't be written");
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: kgbuild-inject IN OUT\n");
		return 2;
	}
	read_file(argv[1]);
	read_sections();
	read_symbols();
	move_relocations();
	make_output();
	write_file(argv[2]);
	return 0;
}
