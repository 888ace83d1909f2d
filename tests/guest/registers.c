/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Computes in the registers for floating point, in several processes at once, and looks whether the
 * kernel under it keeps them: over system calls, page faults, signals whose handlers use them too,
 * and when other processes run.
 */

#include <err.h>
#include <immintrin.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUM_PROCESSES 4
#define NUM_ROUNDS 200
#define NUM_REGISTERS 16
#define PAGE 4096

struct registers {
	_Alignas(32) unsigned char bytes[NUM_REGISTERS][32];
};

static void fill(struct registers *registers, unsigned char seed)
{
	size_t i;

	for (i = 0; i < sizeof(registers->bytes); i++) {
		registers->bytes[i / 32][i % 32] = (unsigned char)(seed * 31 + i);
	}
}

#define LOAD(n) "vmovdqa 32*" #n "(%[from]), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqa %%ymm" #n ", 32*" #n "(%[to])\n\t"
/* clang-format takes the argument for a loop. */
/* clang-format off */
#define ALL(do) \
	do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) \
	do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)
/* clang-format on */
#define CLOBBERED                                                                                  \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",   \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* With all registers loaded: writes to the page, then calls the kernel; returns what they are after
 * that. */
__attribute__((target("avx"))) static void pass_through_kernel(const struct registers *from,
	struct registers *to, volatile char *page, long number, long first, long second)
{
	/* Versions of clang-format do not agree about strings between macros. */
	/* clang-format off */
	__asm__ volatile(
		ALL(LOAD)
		"movb $1, (%[page])\n\t"
		"syscall\n\t"
		ALL(STORE)
		"vzeroupper"
		: "+a"(number)
		: [from] "r"(from), [to] "r"(to), [page] "r"(page), "D"(first), "S"(second)
		: "rcx", "r11", "memory", CLOBBERED);
	/* clang-format on */
}

/* It uses all of them too. */
static void on_signal(int signal_number)
{
	struct registers mine, unused;
	char page;

	fill(&mine, (unsigned char)(200 + signal_number));
	pass_through_kernel(&mine, &unused, &page, SYS_getpid, 0, 0);
}

static int compute(unsigned char seed)
{
	struct registers before, after;
	char *pages = mmap(NULL, (size_t)NUM_ROUNDS * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	if (pages == MAP_FAILED) {
		err(1, "mmap");
	}
	for (i = 0; i < NUM_ROUNDS; i++) {
		fill(&before, (unsigned char)(seed + i));
		if (i % 2 == 0) {
			pass_through_kernel(&before, &after, pages + (ptrdiff_t)i * PAGE, SYS_kill,
				getpid(), SIGUSR1);
		} else {
			pass_through_kernel(&before, &after, pages + (ptrdiff_t)i * PAGE,
				SYS_sched_yield, 0, 0);
		}
		if (memcmp(&before, &after, sizeof(before)) != 0) {
			fprintf(stderr, "registers were lost in round %d\n", i);
			return 1;
		}
	}
	return 0;
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	int i, status, failed = 0;

	if (!__builtin_cpu_supports("avx")) {
		printf("this processor has no AVX\n");
		return 77;
	}
	sigaction(SIGUSR1, &action, NULL);
	for (i = 0; i < NUM_PROCESSES; i++) {
		pid_t pid = fork();

		if (pid < 0) {
			err(1, "fork");
		}
		if (pid == 0) {
			_exit(compute((unsigned char)(50 * i)));
		}
	}
	while (wait(&status) > 0) {
		failed += status != 0;
	}
	if (!failed) {
		printf("registers kept by %d processes\n", NUM_PROCESSES);
	}
	return failed ? 1 : 0;
}
