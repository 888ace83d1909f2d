/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "memory_fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

/* Of all tables that are in use at once: a full table for each of 64 that a device still holds. */
#define MAX_RANGES 4096

/* The handler reads these while other threads change them: base is written last; NULL is free. */
struct memory_fault_range {
	_Atomic(char *) base;
	atomic_size_t length;
	atomic_bool lost;
};

static struct memory_fault_range ranges[MAX_RANGES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for changing ranges; not the handler */
static struct sigaction previous;

static struct memory_fault_range *find_range(uintptr_t address)
{
	for (size_t i = 0; i < MAX_RANGES; i++) {
		uintptr_t base = (uintptr_t)atomic_load(&ranges[i].base);

		if (base != 0 && address >= base &&
			address - base < atomic_load(&ranges[i].length)) {
			return &ranges[i];
		}
	}
	return NULL;
}

/* The system call is all that is needed, so this is fit for a handler. */
static bool replace(struct memory_fault_range *range)
{
	void *base = atomic_load(&range->base);
	int error = errno;
	bool replaced;

	replaced = mmap(base, atomic_load(&range->length), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			   0) != MAP_FAILED;
	errno = error;
	return replaced;
}

/* Not ours: as if there were no handler here. Without one, the access is repeated and ends the
 * process. */
static void pass_on(int signal_number, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal_number, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal_number);
	} else {
		signal(signal_number, SIG_DFL);
		if (info->si_code <= 0) {
			raise(signal_number); /* sent by a process, so nothing would repeat it */
		}
	}
}

static void handle_fault(int signal_number, siginfo_t *info, void *context)
{
	struct memory_fault_range *range = NULL;

	/* Else it is sent by a process, or of the memory itself. */
	if (info->si_code == BUS_ADRERR) {
		range = find_range((uintptr_t)info->si_addr);
	}
	/* Of two threads that fault at once, the second is to repeat its access too. */
	if (range && (atomic_exchange(&range->lost, true) || replace(range))) {
		return;
	}
	pass_on(signal_number, info, context);
}

/* Looks each time: others in the process may have set theirs since. */
static int install(void)
{
	struct sigaction action = { .sa_sigaction = handle_fault,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	struct sigaction current;

	if (sigaction(SIGBUS, NULL, &current) < 0) {
		return -errno;
	}
	if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == handle_fault) {
		return 0;
	}
	previous = current;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

int memory_fault_guard(void *base, size_t length, struct memory_fault_range **out)
{
	int ret;

	pthread_mutex_lock(&lock);
	ret = install();
	if (ret == 0) {
		ret = -ENOSPC;
	}
	for (size_t i = 0; ret == -ENOSPC && i < MAX_RANGES; i++) {
		if (!atomic_load(&ranges[i].base)) {
			atomic_store(&ranges[i].length, length);
			atomic_store(&ranges[i].lost, false);
			atomic_store(&ranges[i].base, base);
			*out = &ranges[i];
			ret = 0;
		}
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

void memory_fault_unguard(struct memory_fault_range *range)
{
	atomic_store(&range->base, NULL);
}

bool memory_fault_is_lost(const struct memory_fault_range *range)
{
	return atomic_load(&range->lost);
}
