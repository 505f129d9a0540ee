/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the test programs for the guest have in place of a C library: they are compiled on the host with -nostdlib, so
 * that neither a static libc nor kernel headers are needed. x86-64 only.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, SOCKET = 41, SENDTO = 44, RECVFROM = 45, BIND = 49, EXIT = 60 };

static inline long call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;

	asm volatile("syscall" : "+a"(nr) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return nr;
}

static inline void quit(long status)
{
	for (;;)
		call(EXIT, status, 0, 0, 0, 0, 0);
}

/* The result of a system call, or the end with its error as the exit status. */
static inline long must(long result)
{
	if (result < 0)
		quit(-result);
	return result;
}

static inline int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static inline long number(const char *text)
{
	long value = 0;

	while (*text >= '0' && *text <= '9')
		value = value * 10 + (*text++ - '0');
	return value;
}

static inline void print_number(u64 value)
{
	char text[24];
	int at = sizeof(text);

	text[--at] = '\n';
	do
		text[--at] = '0' + value % 10;
	while (value /= 10);
	call(WRITE, 1, (long)(text + at), sizeof(text) - at, 0, 0, 0);
}

/* gcc makes calls of these two by itself */
void *memset(void *to, int value, u64 size)
{
	void *start = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, u64 size)
{
	void *start = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

int program(int count, char **words);

asm(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov (%rsp), %edi\n\tlea 8(%rsp), %rsi\n\tand $-16, %rsp\n\tcall begin\n");

__attribute__((used)) void begin(int count, char **words)
{
	quit(program(count, words));
}
