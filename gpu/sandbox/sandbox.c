/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The filter of system calls: docs/sandbox.md has the same groups, with their reasons. */

#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <seccomp.h>

#include "sandbox_denied.h"
#include "sandbox_libraries.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int memory[] = {
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(membarrier),
	SCMP_SYS(memfd_create),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
};

static const int descriptors[] = {
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwrite64),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(lseek),
	SCMP_SYS(fsync),
	SCMP_SYS(fstat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(pipe2),
};

static const int names[] = {
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
};

static const int waiting[] = {
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(timerfd_gettime),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(restart_syscall),
};

static const int sockets[] = {
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(shutdown),
};

static const int threads[] = {
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(set_tid_address),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(sched_get_priority_max),
	SCMP_SYS(sched_get_priority_min),
	SCMP_SYS(getcpu),
	SCMP_SYS(gettid),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(sigaltstack),
};

static const int facts[] = {
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	SCMP_SYS(getpid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
};

/*
 * Fails without a word: it is asked for at each end, and by each of Mesa's threads; and who makes a
 * process by the C library has blocked all signals, so that the one that tells would end this one.
 */
static const int quiet[] = {
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(setpriority),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(sched_setattr),
};

/* What is not about signals, locks or leases. */
static const int fcntl_commands[] = { F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL,
	F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS };

/* Of whole drivers: DRM, dma-buf, sync files, udmabuf, VFIO. */
static const char ioctl_types[] = { 'd', 'b', '>', 'u', ';' };

/* TCGETS of what may be a terminal; nothing that writes to one. */
static const unsigned int ioctl_requests[] = { FIONBIO, FIONREAD, TCGETS };

static const unsigned int prctl_options[] = { PR_SET_NAME, PR_GET_NAME, PR_SET_VMA };

#define ALLOW(filter, call, ...)                                                                   \
	ignore_missing(call, seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, __VA_ARGS__))

/* Not every machine has each call: such a one has a number below 0. */
static int ignore_missing(int call, int ret)
{
	return call < 0 && ret == -EDOM ? 0 : ret;
}

static int add_calls(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
	int ret = 0;

	for (size_t i = 0; i < count && ret == 0; i++) {
		ret = ignore_missing(calls[i], seccomp_rule_add(filter, action, calls[i], 0));
	}
	return ret;
}

static int add_groups(scmp_filter_ctx filter)
{
	static const struct {
		const int *calls;
		size_t count;
	} groups[] = {
		{ memory, COUNT(memory) },
		{ descriptors, COUNT(descriptors) },
		{ names, COUNT(names) },
		{ waiting, COUNT(waiting) },
		{ sockets, COUNT(sockets) },
		{ threads, COUNT(threads) },
		{ facts, COUNT(facts) },
	};
	int ret = 0;

	for (size_t i = 0; i < COUNT(groups) && ret == 0; i++) {
		ret = add_calls(filter, SCMP_ACT_ALLOW, groups[i].calls, groups[i].count);
	}
	return ret == 0 ? add_calls(filter, SCMP_ACT_ERRNO(EPERM), quiet, COUNT(quiet)) : ret;
}

/* Memory becomes code only if that is what the GPU is made of. */
static int add_code(scmp_filter_ctx filter, bool makes_code)
{
	const struct scmp_arg_cmp no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	unsigned int count = makes_code ? 0 : 1;
	int ret = ALLOW(filter, SCMP_SYS(mmap), count, no_code);

	return ret == 0 ? ALLOW(filter, SCMP_SYS(mprotect), count, no_code) : ret;
}

static int add_commands(scmp_filter_ctx filter)
{
	int ret = 0;

	for (size_t i = 0; i < COUNT(fcntl_commands) && ret == 0; i++) {
		ret = ALLOW(filter, SCMP_SYS(fcntl), 1,
			SCMP_A1(SCMP_CMP_EQ, (unsigned int)fcntl_commands[i], 0));
	}
	for (size_t i = 0; i < COUNT(ioctl_types) && ret == 0; i++) {
		ret = ALLOW(filter, SCMP_SYS(ioctl), 1,
			SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00,
				(scmp_datum_t)(unsigned char)ioctl_types[i] << 8));
	}
	for (size_t i = 0; i < COUNT(ioctl_requests) && ret == 0; i++) {
		ret = ALLOW(filter, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, ioctl_requests[i], 0));
	}
	for (size_t i = 0; i < COUNT(prctl_options) && ret == 0; i++) {
		ret = ALLOW(filter, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, prctl_options[i], 0));
	}
	return ret;
}

/* Threads, not processes. The C library asks by clone3 first, whose flags are in memory, where a
 * filter does not look. */
static int add_clone(scmp_filter_ctx filter)
{
	int ret = ALLOW(filter, SCMP_SYS(clone), 1,
		SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

	if (ret == 0) { /* as what is quiet */
		ret = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	}
	return ret == 0 ? seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) :
			  ret;
}

/* What is about this process alone. */
static int add_own(scmp_filter_ctx filter)
{
	int ret = ALLOW(
		filter, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));

	if (ret == 0) {
		ret = ALLOW(filter, SCMP_SYS(prlimit64), 2, SCMP_A0(SCMP_CMP_EQ, 0, 0),
			SCMP_A2(SCMP_CMP_EQ, 0, 0));
	}
	if (ret == 0) {
		ret = ALLOW(filter, SCMP_SYS(sched_setaffinity), 1, SCMP_A0(SCMP_CMP_EQ, 0, 0));
	}
	return ret;
}

/* To whom a socket is connected. An address of sendmsg's is in memory; it connects a stream that is
 * not connected, as one is that has listened and was shut down, only with MSG_FASTOPEN. */
static int add_sending(scmp_filter_ctx filter)
{
	int ret = ALLOW(filter, SCMP_SYS(sendto), 1, SCMP_A4(SCMP_CMP_EQ, 0, 0));

	return ret == 0 ?
		ALLOW(filter, SCMP_SYS(sendmsg), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0)) :
		ret;
}

static int fill_in(scmp_filter_ctx filter, const struct sandbox_options *options)
{
	int ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	if (ret == 0) {
		ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	}
	ret = ret == 0 ? add_groups(filter) : ret;
	ret = ret == 0 ? add_code(filter, options->makes_code) : ret;
	ret = ret == 0 ? add_commands(filter) : ret;
	ret = ret == 0 ? add_clone(filter) : ret;
	ret = ret == 0 ? add_own(filter) : ret;
	return ret == 0 ? add_sending(filter) : ret;
}

static int load(const struct sandbox_options *options)
{
	int ret = sandbox_denied_start();
	scmp_filter_ctx filter;

	if (ret < 0) {
		return ret;
	}
	filter = seccomp_init(ret == 1 ? SCMP_ACT_TRAP : SCMP_ACT_ERRNO(EPERM));
	if (filter == NULL) {
		return -ENOMEM;
	}
	ret = fill_in(filter, options);
	ret = ret == 0 ? seccomp_load(filter) : ret;
	seccomp_release(filter);
	return ret;
}

int sandbox_prepare(void)
{
	return sandbox_denied_prepare();
}

int sandbox_enter(const struct sandbox_options *options)
{
	int ret = sandbox_keep_libraries();
	int landlock = ret < 0 ? ret : sandbox_close_files();

	ret = landlock < 0 ? landlock : load(options);
	return ret < 0 ? ret : landlock;
}

int sandbox_get_fd(void)
{
	return sandbox_denied_get_fd();
}

void sandbox_dispatch(void (*line)(const char *text))
{
	sandbox_denied_dispatch(line);
}
