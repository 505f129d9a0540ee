// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs each instruction of a table as it was and as it goes through slots, from the same registers, flags, memory and
 * stack, and says where what they leave differs.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define REGISTERS 15
#define ROUNDS 40
#define FLAGS 0x8d5

struct state {
	uint64_t registers[REGISTERS];
	uint64_t flags;
	uint8_t vectors[16][16];
} state;

uint8_t target[4096] __attribute__((aligned(64)));
uint8_t own[256] __attribute__((aligned(64)));
uint8_t stack[4096] __attribute__((aligned(64)));
uint64_t saved, function;
void run(void);
extern void (*const before[])(void), (*const after[])(void);

/* clang-format off */
asm(".text\n"
    "run:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, saved\n"
    "	mov $stack + 2048, %rsp\n"
    "	pushq state + 120; popfq\n"
    "	mov state, %rax; mov state + 8, %rbx; mov state + 16, %rcx; mov state + 24, %rdx; mov state + 32, %rsi\n"
    "	mov state + 40, %rdi; mov state + 48, %rbp; mov state + 56, %r8; mov state + 64, %r9; mov state + 72, %r10\n"
    "	mov state + 80, %r11; mov state + 88, %r12; mov state + 96, %r13; mov state + 104, %r14; mov state + 112, %r15\n"
    "	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "	movups state + 128 + 16 * \\n, %xmm\\n\n"
    "	.endr\n"
    "	call *function\n"
    "	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    "	movups %xmm\\n, state + 128 + 16 * \\n\n"
    "	.endr\n"
    "	mov %rax, state; mov %rbx, state + 8; mov %rcx, state + 16; mov %rdx, state + 24; mov %rsi, state + 32\n"
    "	mov %rdi, state + 40; mov %rbp, state + 48; mov %r8, state + 56; mov %r9, state + 64; mov %r10, state + 72\n"
    "	mov %r11, state + 80; mov %r12, state + 88; mov %r13, state + 96; mov %r14, state + 104; mov %r15, state + 112\n"
    "	pushfq; popq state + 120\n"
    "	mov saved, %rsp; cld\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n");
/* clang-format on */

static uint64_t next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

/* `size` is a multiple of eight */
static void fill(void *at, size_t size, uint64_t *seed)
{
	uint64_t *word = at, x = *seed | 1;
	size_t i;

	for (i = 0; i < size / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		word[i] = x;
	}
	*seed = x;
}

struct result {
	struct state state;
	uint8_t target[sizeof(target)], own[sizeof(own)], stack[2048];
};

static void run_one(void (*code)(void), uint64_t seed, struct result *out)
{
	size_t i;

	/* small: most registers are an index in some case */
	for (i = 0; i < REGISTERS; i++)
		state.registers[i] = next(&seed) % 48;
	state.flags = (next(&seed) & FLAGS) | 2;
	fill(state.vectors, sizeof(state.vectors), &seed);
	fill(target, sizeof(target), &seed);
	fill(own, sizeof(own), &seed);
	fill(stack, sizeof(stack), &seed);
	function = (uint64_t)code;
	run();
	state.flags &= FLAGS;
	out->state = state;
	memcpy(out->target, target, sizeof(target));
	memcpy(out->own, own, sizeof(own));
	/* below it is what anybody may write */
	memcpy(out->stack, stack + 2048, sizeof(out->stack));
}

int main(void)
{
	static struct result first, second;
	int bad = 0, i, round;

	for (i = 0; before[i]; i++) {
		for (round = 0; round < ROUNDS; round++) {
			run_one(before[i], 1000 * i + round, &first);
			run_one(after[i], 1000 * i + round, &second);
			if (memcmp(&first, &second, sizeof(first))) {
				printf("%d\n", i);
				bad++;
				break;
			}
		}
	}
	printf("%d of %d differ\n", bad, i);
	return bad != 0;
}
