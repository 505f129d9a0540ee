// SPDX-License-Identifier: GPL-2.0-or-later
/* Runs jobs read from standard input, each in a process of its own: maps pieces of programs to their addresses, writes
 * to them, calls their functions, and prints what happened, one line a call.
 *
 * A job is a list of operations, each a letter and 64-bit numbers:
 *   M address size filesize protection, data   map
 *   S guarded log_hash                         where the program keeps them
 *   C function a b                             call; prints "C status result hash"
 *   W address size, data                       write to data
 *   X address size, data                       write to code
 *   L address size protection, data            write to memory that is protected so, before and after
 *   U address size                             unmap
 *   E                                          end; prints "E status"
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char *at;

static uint64_t number(void)
{
	uint64_t value;

	memcpy(&value, at, 8);
	at += 8;
	return value;
}

static void run(void)
{
	uint32_t (*guarded)(void *, uint32_t, uint32_t, uint64_t *) = NULL;
	uint64_t *log_hash = NULL;

	alarm(4);
	for (;;) {
		char op = *at++;

		if (op == 'M') {
			uint64_t address = number(), size = number(), filled = number(), prot = number();
			void *got = mmap((void *)address, size, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			if (got != (void *)address)
				_exit(90);
			memcpy(got, at, filled);
			at += filled;
			if (mprotect(got, size, prot))
				_exit(91);
		} else if (op == 'S') {
			guarded = (void *)number();
			log_hash = (void *)number();
		} else if (op == 'C') {
			void *function = (void *)number();
			uint32_t a = number(), b = number(), status;
			uint64_t result = 0;

			status = guarded(function, a, b, &result);
			printf("C %u %lx %lx\n", status, result, *log_hash);
			fflush(stdout);
		} else if (op == 'W' || op == 'X') {
			uint64_t address = number(), size = number();
			uint64_t page = address & ~0xfffUL;

			if (op == 'X' && mprotect((void *)page, address + size - page, PROT_READ | PROT_WRITE | PROT_EXEC))
				_exit(92);
			memcpy((void *)address, at, size);
			at += size;
		} else if (op == 'L') {
			uint64_t address = number(), size = number(), prot = number();
			uint64_t page = address & ~0xfffUL;

			if (mprotect((void *)page, address + size - page, PROT_READ | PROT_WRITE))
				_exit(93);
			memcpy((void *)address, at, size);
			at += size;
			if (mprotect((void *)page, address + size - page, prot))
				_exit(94);
		} else if (op == 'U') {
			uint64_t address = number(), size = number();

			if (munmap((void *)address, size))
				_exit(95);
		} else {
			_exit(0);
		}
	}
}

static void skip(void)
{
	for (;;) {
		char op = *at++;

		if (op == 'M') {
			at += 16;
			uint64_t filled = number();
			at += 8 + filled;
		} else if (op == 'L') {
			at += 8;
			uint64_t size = number();
			at += 8 + size;
		} else if (op == 'S' || op == 'U') {
			at += 16;
		} else if (op == 'C') {
			at += 24;
		} else if (op == 'W' || op == 'X') {
			at += 8;
			uint64_t size = number();
			at += size;
		} else {
			return;
		}
	}
}

int main(void)
{
	size_t size = 0, room = 1 << 20, got;
	unsigned char *input = malloc(room);

	while ((got = fread(input + size, 1, room - size, stdin)) > 0) {
		size += got;
		if (size == room)
			input = realloc(input, room *= 2);
	}
	for (at = input; at < input + size;) {
		int status;
		pid_t child = fork();

		if (!child)
			run();
		waitpid(child, &status, 0);
		if (WIFSIGNALED(status))
			printf("E signal %d\n", WTERMSIG(status));
		else
			printf("E %d\n", WEXITSTATUS(status));
		fflush(stdout);
		skip();
	}
	return 0;
}
