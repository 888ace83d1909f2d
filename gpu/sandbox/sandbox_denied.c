/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "sandbox_denied.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <ucontext.h>
#include <unistd.h>

#include <seccomp.h>

/* Where the second argument is, and the result goes. */
#if defined(__x86_64__)
#define ARGUMENT(context) ((context)->uc_mcontext.gregs[REG_RSI])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARGUMENT(context) ((context)->uc_mcontext.regs[1])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#endif

static int event_fd = -1;

#ifdef RESULT

#define NUM_CALLS 1024 /* numbers from 0 on; the kernel has some 470 */
#define MAX_TOLD 32
#define MAX_PATH 96

struct denied {
	int call;
	char path[MAX_PATH]; /* "" if it is not known */
	atomic_bool is_filled_in;
};

static atomic_bool seen[NUM_CALLS];
static struct denied denied[MAX_TOLD];
static atomic_uint num_denied;
static unsigned int num_told;

/* Only of a call that is asked for a path: its second argument is that. */
static void copy_path(struct denied *what, const char *path)
{
	if (what->call != SCMP_SYS(openat) || path == NULL) {
		return;
	}
	for (size_t i = 0; i < MAX_PATH - 1 && path[i] != '\0'; i++) {
		what->path[i] = path[i];
	}
}

static void note(int call, const char *path)
{
	const uint64_t one = 1;
	unsigned int index;

	if (call < 0 || call >= NUM_CALLS || atomic_exchange(&seen[call], true)) {
		return;
	}
	index = atomic_fetch_add(&num_denied, 1);
	if (index < MAX_TOLD) {
		denied[index].call = call;
		copy_path(&denied[index], path);
		denied[index].is_filled_in = true;
		(void)!write(event_fd, &one, sizeof(one));
	}
}

/* In any thread, at any point. */
static void trap(int number, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	const char *path;
	int before = errno;

	_Static_assert(sizeof(ARGUMENT(context)) == sizeof(path), "a register is a pointer");
	(void)number;
	memcpy(&path, &ARGUMENT(context), sizeof(path));
	note(info->si_syscall, path);
	RESULT(context) = (__typeof__(RESULT(context)))-EPERM;
	errno = before;
}

int sandbox_denied_prepare(void)
{
	if (event_fd < 0) {
		event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	return event_fd < 0 ? -errno : 0;
}

int sandbox_denied_start(void)
{
	struct sigaction action = { .sa_sigaction = trap, .sa_flags = SA_SIGINFO | SA_RESTART };
	int ret = sandbox_denied_prepare();

	if (ret < 0) {
		return ret;
	}
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 1;
}

static void tell(const struct denied *what, void (*line)(const char *text))
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, what->call);
	char text[256];

	snprintf(text, sizeof(text), "sandbox: system call %s%s%s was denied",
		name != NULL ? name : "?", what->path[0] != '\0' ? " of " : "", what->path);
	free(name);
	line(text);
}

void sandbox_denied_dispatch(void (*line)(const char *text))
{
	uint64_t count;

	if (event_fd >= 0) {
		(void)!read(event_fd, &count, sizeof(count));
	}
	while (num_told < MAX_TOLD && denied[num_told].is_filled_in) {
		tell(&denied[num_told], line);
		num_told++;
	}
}

#else

int sandbox_denied_prepare(void)
{
	return 0;
}

int sandbox_denied_start(void)
{
	return 0;
}

void sandbox_denied_dispatch(void (*line)(const char *text))
{
	(void)line;
}

#endif

int sandbox_denied_get_fd(void)
{
	return event_fd;
}
