/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "support.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define THREADS_END_MS 5000

/* One test runs at a time. */
static int fds_before, threads_before;
static struct rlimit fd_limit;
static bool fds_limited;

/* ---- Descriptors and threads are counted -------------------------------------------------- */

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int count = 0;

	if (!dir) {
		fail_msg("cannot read %s", path);
		return -1;
	}
	while ((entry = readdir(dir))) {
		count += entry->d_name[0] != '.';
	}
	closedir(dir);
	return count;
}

static int keep_library(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	(void)data;
	if (info->dlpi_name[0] == '/') {
		/* Its reference is what keeps it. */
		(void)dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
	}
	return 0;
}

/* How many were ever loaded, which each knows. */
static int note_loaded(struct dl_phdr_info *info, size_t size, void *loaded)
{
	(void)size;
	*(unsigned long long *)loaded = info->dlpi_adds;
	return 1;
}

void keep_libraries(void)
{
	static unsigned long long kept;
	unsigned long long loaded = 0;

	dl_iterate_phdr(note_loaded, &loaded);
	if (loaded != kept) {
		dl_iterate_phdr(keep_library, NULL);
		kept = loaded;
	}
}

int count_fds(void)
{
	return count_entries("/proc/self/fd") - 1; /* the directory's own */
}

int count_threads(void)
{
	return count_entries("/proc/self/task");
}

static void print_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	char target[PATH_MAX];

	while (dir && (entry = readdir(dir))) {
		ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (length > 0) {
			target[length] = '\0';
			print_error("  descriptor %s: %s\n", entry->d_name, target);
		}
	}
	if (dir) {
		closedir(dir);
	}
}

static void sleep_a_millisecond(void)
{
	const struct timespec millisecond = { .tv_nsec = 1000000 };

	nanosleep(&millisecond, NULL);
}

static void *tell_thread_id(void *arg)
{
	*(pid_t *)arg = gettid();
	return NULL;
}

/* Some sanitizers start a thread of their own with the program's first: it must not be counted as
 * the test's. */
static void start_sanitizer_threads(void)
{
	static bool started;
	char path[64];
	pthread_t thread;
	pid_t id;

	if (started || pthread_create(&thread, NULL, tell_thread_id, &id) != 0) {
		return;
	}
	pthread_join(thread, NULL);
	snprintf(path, sizeof(path), "/proc/self/task/%d", id);
	while (access(path, F_OK) == 0) {
		sleep_a_millisecond();
	}
	started = true;
}

/* Returns how many there are once they are no more than `wanted`, or after a while. */
static int wait_for_threads(int wanted)
{
	int threads = count_threads();

	for (int i = 0; threads > wanted && i < THREADS_END_MS; i++) {
		sleep_a_millisecond();
		threads = count_threads();
	}
	return threads;
}

static int note_counts(void **state)
{
	start_sanitizer_threads();
	fds_before = count_fds();
	threads_before = count_threads();
	return 0;
}

static int check_counts(void **state)
{
	int fds, threads;

	unlimit_fds();
	threads = wait_for_threads(threads_before);
	fds = count_fds();
	/* Fewer threads: one that was joined just before the test was still counted. */
	if (fds == fds_before && threads <= threads_before) {
		return 0;
	}
	print_error("descriptors: %d before, %d after; threads: %d before, %d after\n", fds_before,
		fds, threads_before, threads);
	if (fds != fds_before) {
		print_fds();
	}
	return -1;
}

/* ---- The tests of a program --------------------------------------------------------------- */

#define MAX_TESTS 256

static struct CMUnitTest tests[MAX_TESTS]; /* in their order; unused ones are empty */
static unsigned int num_tests;

static void run_registered(void **state)
{
	const struct test *test = *state;

	test->run();
}

void register_test(struct test *test)
{
	unsigned int place = num_tests++;

	if (num_tests > MAX_TESTS) {
		fprintf(stderr, "more than %d tests\n", MAX_TESTS);
		abort();
	}
	/* The compiler may have changed their order. */
	for (; place > 0 && ((struct test *)tests[place - 1].initial_state)->line > test->line;
		place--) {
		tests[place] = tests[place - 1];
	}
	tests[place] = (struct CMUnitTest){ test->name, run_registered, note_counts, check_counts,
		test };
}

int run_registered_tests(char *argv[])
{
	if (argv[0] && argv[1]) {
		cmocka_set_test_filter(argv[1]);
	}
	return cmocka_run_group_tests_name(program_invocation_short_name, tests, NULL, NULL);
}

/* ---- Descriptors -------------------------------------------------------------------------- */

void limit_fds(unsigned int more)
{
	struct rlimit limit;
	int fd = 0;

	unlimit_fds();
	if (getrlimit(RLIMIT_NOFILE, &fd_limit) < 0) {
		fail_msg("getrlimit failed");
	}
	/* The kernel limits the highest number, not how many are open: count the free ones. */
	for (;; fd++) {
		bool is_free = fcntl(fd, F_GETFD) < 0;

		if (is_free && more == 0) {
			break;
		}
		more -= is_free;
	}
	limit = (struct rlimit){ .rlim_cur = (rlim_t)fd, .rlim_max = fd_limit.rlim_max };
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		fail_msg("setrlimit failed");
	}
	fds_limited = true;
}

void unlimit_fds(void)
{
	if (fds_limited) {
		setrlimit(RLIMIT_NOFILE, &fd_limit);
		fds_limited = false;
	}
}

int make_fence(bool signalled)
{
	int fd = eventfd(signalled, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

void signal_fence(int fence_fd)
{
	assert_int_equal(eventfd_write(fence_fd, 1), 0);
}
