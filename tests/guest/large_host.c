/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A host whose processors have more registers than this one: preloaded into a User-Mode Linux
 * kernel, it stands between that and ptrace. NT_X86_XSTATE is as large as VGF_TEST_HOST_STATE says.
 * As the real ones do, it fills a buffer as far as that goes, and takes nothing but the whole. What
 * there is beyond the real registers changes whenever the program has run; all its words are the
 * same, so a state of which a part was lost is found out.
 *
 * The file VGF_TEST_HOST_STATE_USED is made once a whole state has been taken.
 */

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_REAL (64 * 1024)

typedef long ptrace_function(enum __ptrace_request request, ...);

static struct {
	ptrace_function *real;
	size_t size;
	uint64_t generation;
	bool used;
} host;

static _Alignas(64) unsigned char real_state[MAX_REAL];

static void set_up(void)
{
	const char *size = getenv("VGF_TEST_HOST_STATE");

	host.real = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
	host.size = size ? strtoul(size, NULL, 10) : 0;
	host.size -= host.size % sizeof(host.generation);
}

static long refuse(const char *why)
{
	fprintf(stderr, "large_host: %s\n", why);
	errno = EFAULT;
	return -1;
}

/* The real part of a process's state: its size, or -1. */
static long get_real(pid_t pid)
{
	struct iovec iov = { real_state, sizeof(real_state) };

	return host.real(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov) < 0 ? -1 : (long)iov.iov_len;
}

static size_t shorter(size_t a, size_t b)
{
	return a < b ? a : b;
}

static long get_state(pid_t pid, struct iovec *iov)
{
	long real = get_real(pid);
	uint64_t word = ++host.generation;
	size_t at;

	if (real < 0) {
		return -1;
	}
	if (host.size < (size_t)real) {
		host.size = (size_t)real;
	}
	iov->iov_len = shorter(iov->iov_len, host.size);
	memcpy(iov->iov_base, real_state, shorter((size_t)real, iov->iov_len));
	for (at = (size_t)real; at + sizeof(word) <= iov->iov_len; at += sizeof(word)) {
		memcpy((char *)iov->iov_base + at, &word, sizeof(word));
	}
	return 0;
}

/* Whether all words from there on are the same. */
static bool is_whole(const char *state, size_t from)
{
	const size_t word = sizeof(uint64_t);

	return host.size < from + 2 * word ||
		memcmp(state + from, state + from + word, host.size - from - word) == 0;
}

static void note_use(void)
{
	const char *file = getenv("VGF_TEST_HOST_STATE_USED");

	host.used = true;
	if (file) {
		close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
	}
}

static long set_state(pid_t pid, const struct iovec *iov)
{
	struct iovec real = { iov->iov_base, 0 };
	long size = get_real(pid);

	if (size < 0) {
		return -1;
	}
	if (iov->iov_len < host.size) {
		return refuse("not the whole state");
	}
	if (!is_whole(iov->iov_base, (size_t)size)) {
		return refuse("a part of the state was lost");
	}
	if (!host.used) {
		note_use();
	}
	real.iov_len = (size_t)size;
	return host.real(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &real);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	pid_t pid;
	void *address, *data;

	va_start(arguments, request);
	pid = va_arg(arguments, pid_t);
	address = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);

	if (!host.real) {
		set_up();
	}
	if (host.size && (uintptr_t)address == NT_X86_XSTATE) {
		if (request == PTRACE_GETREGSET) {
			return get_state(pid, data);
		}
		if (request == PTRACE_SETREGSET) {
			return set_state(pid, data);
		}
	}
	return host.real(request, pid, address, data);
}
