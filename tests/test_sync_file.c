/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What works with any descriptor is tested with any. What only the kernel's sync files can do is
 * tested if the kernel makes some for us.
 */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/sync_file.h>

#include "alloc.h"
#include "sw_sync.h"

#define NEVER INT64_MAX

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The number of a descriptor that was open. */
static int closed_fd(void)
{
	int fd = make_fence(false);

	close(fd);
	return fd;
}

/* ---- Any descriptor ----------------------------------------------------------------------- */

TEST(polls_an_eventfd)
{
	int fd = make_fence(false);

	assert_int_equal(vgf_sync_file_poll(fd), 0);
	assert_int_equal(vgf_sync_file_status(fd), 0);
	signal_fence(fd);
	assert_int_equal(vgf_sync_file_poll(fd), 1);
	assert_int_equal(vgf_sync_file_poll(fd), 1);
	assert_int_equal(vgf_sync_file_status(fd), 1);
	close(fd);
}

TEST(polls_a_pipe)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(vgf_sync_file_poll(fds[0]), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(vgf_sync_file_poll(fds[0]), 1);
	close(fds[1]);
	assert_int_equal(vgf_sync_file_poll(fds[0]), 1); /* it signalled before it broke */
	close(fds[0]);
}

TEST(a_pipe_whose_peer_closed_is_an_error)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[1]);
	assert_int_equal(vgf_sync_file_poll(fds[0]), -EIO);
	assert_int_equal(vgf_sync_file_status(fds[0]), -EIO);
	assert_int_equal(vgf_sync_file_wait(fds[0], NEVER), -EIO);
	close(fds[0]);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	assert_int_equal(vgf_sync_file_poll(fds[1]), -EIO);
	assert_int_equal(vgf_sync_file_merge(&fds[1], 1), -EIO);
	close(fds[1]);
}

TEST(a_regular_file_has_signalled)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int merged;

	assert_true(fd >= 0);
	assert_int_equal(vgf_sync_file_poll(fd), 1);
	assert_int_equal(vgf_sync_file_status(fd), 1);
	assert_int_equal(vgf_sync_file_wait(fd, NEVER), 0);
	merged = vgf_sync_file_merge(&fd, 1);
	assert_true(merged >= 0);
	close(merged);
	close(fd);
}

TEST(a_descriptor_that_is_not_open_is_an_error)
{
	struct vgf_sync_file_fence fence;
	char name[VGF_SYNC_FILE_NAME];
	const int fds[] = { -2, INT_MIN, INT_MAX, closed_fd() };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		assert_int_equal(vgf_sync_file_poll(fds[i]), -EBADF);
		assert_int_equal(vgf_sync_file_wait(fds[i], NEVER), -EBADF);
		assert_int_equal(vgf_sync_file_wait(fds[i], 0), -EBADF);
		assert_int_equal(vgf_sync_file_status(fds[i]), -EBADF);
		assert_int_equal(vgf_sync_file_info(fds[i], &fence, 1), -EBADF);
		assert_int_equal(vgf_sync_file_name(fds[i], name), -EBADF);
		assert_int_equal(vgf_sync_file_set_deadline(fds[i], 0), -EBADF);
		assert_int_equal(vgf_sync_file_merge(&fds[i], 1), -EBADF);
	}
}

/* What drivers answer in place of a descriptor. */
TEST(minus_one_is_a_fence_that_has_signalled)
{
	struct vgf_sync_file_fence fence;
	char name[VGF_SYNC_FILE_NAME];
	int fds[] = { -1, make_fence(false), -1 };
	int merged;

	assert_int_equal(vgf_sync_file_poll(-1), 1);
	assert_int_equal(vgf_sync_file_wait(-1, 0), 0);
	assert_int_equal(vgf_sync_file_wait(-1, NEVER), 0);
	assert_int_equal(vgf_sync_file_status(-1), 1);
	assert_int_equal(vgf_sync_file_set_deadline(-1, 0), 0);
	assert_int_equal(vgf_sync_file_info(-1, &fence, 1), -EBADF);
	assert_int_equal(vgf_sync_file_name(-1, name), -EBADF);
	assert_int_equal(vgf_sync_file_merge(fds, 1), -EALREADY);
	for (int signalled = 0; signalled < 2; signalled++) {
		merged = vgf_sync_file_merge(fds, 3);
		assert_true(merged >= 0);
		assert_int_equal(vgf_sync_file_poll(merged), signalled);
		close(merged);
		signal_fence(fds[1]);
	}
	close(fds[1]);
}

TEST(kernel_calls_on_other_descriptors_are_enotty)
{
	int fds[4], sockets[2];

	fds[0] = make_fence(false);
	fds[1] = make_fence(true);
	fds[2] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	fds[3] = sockets[0];
	for (size_t i = 0; i < 4; i++) {
		struct vgf_sync_file_fence fence;
		char name[VGF_SYNC_FILE_NAME];

		assert_int_equal(vgf_sync_file_info(fds[i], &fence, 1), -ENOTTY);
		assert_int_equal(vgf_sync_file_name(fds[i], name), -ENOTTY);
		assert_int_equal(vgf_sync_file_info(fds[i], NULL, 0), -ENOTTY);
		assert_int_equal(vgf_sync_file_set_deadline(fds[i], 1), -ENOTTY);
		close(fds[i]);
	}
	close(sockets[1]);
}

/* ---- Waiting ------------------------------------------------------------------------------ */

TEST(a_signalled_fence_ends_any_wait)
{
	int fd = make_fence(true);

	assert_int_equal(vgf_sync_file_wait(fd, INT64_MIN), 0);
	assert_int_equal(vgf_sync_file_wait(fd, 0), 0);
	assert_int_equal(vgf_sync_file_wait(fd, now_ns() - 1), 0);
	assert_int_equal(vgf_sync_file_wait(fd, NEVER - 1), 0);
	assert_int_equal(vgf_sync_file_wait(fd, NEVER), 0);
	close(fd);
}

TEST(a_deadline_that_is_past_does_not_wait)
{
	int fd = make_fence(false);

	assert_int_equal(vgf_sync_file_wait(fd, INT64_MIN), -ETIME);
	assert_int_equal(vgf_sync_file_wait(fd, -1), -ETIME);
	assert_int_equal(vgf_sync_file_wait(fd, 0), -ETIME);
	assert_int_equal(vgf_sync_file_wait(fd, now_ns()), -ETIME);
	close(fd);
}

TEST(a_wait_does_not_end_before_its_deadline)
{
	int fd = make_fence(false);

	for (int i = 0; i < 5; i++) {
		int64_t deadline_ns = now_ns() + 1000000;

		assert_int_equal(vgf_sync_file_wait(fd, deadline_ns), -ETIME);
		assert_true(now_ns() >= deadline_ns);
	}
	close(fd);
}

static void *signal_from_thread(void *arg)
{
	const int *fd = arg;

	signal_fence(*fd);
	return NULL;
}

TEST(another_thread_ends_a_wait)
{
	int fd = make_fence(false);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, signal_from_thread, &fd), 0);
	assert_int_equal(vgf_sync_file_wait(fd, NEVER), 0);
	pthread_join(thread, NULL);
	close(fd);
}

/* A storm of signals: every so often a handler interrupts what the program does. After
 * `storm_signals` it stops, and signals storm_fd. */
static volatile sig_atomic_t signals_seen;
static int storm_signals, storm_fd;

static void stop_storm(void)
{
	const struct itimerval off = { .it_value = { 0 } };

	setitimer(ITIMER_REAL, &off, NULL);
}

static void count_signal(int number)
{
	const uint64_t one = 1;
	int error = errno;

	(void)number;
	if (++signals_seen == storm_signals) {
		stop_storm();
		if (write(storm_fd, &one, sizeof(one)) < 0) {
			abort();
		}
	}
	errno = error;
}

static void start_storm(int signals, int fd)
{
	const struct sigaction action = { .sa_handler = count_signal }; /* without SA_RESTART */
	const struct timeval period = { .tv_usec = 200 };
	const struct itimerval often = { .it_interval = period, .it_value = period };

	signals_seen = 0;
	storm_signals = signals;
	storm_fd = fd;
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
}

TEST(signal_handlers_do_not_shorten_a_wait)
{
	int fd = make_fence(false);
	int64_t deadline_ns;

	start_storm(100, fd);
	assert_int_equal(vgf_sync_file_wait(fd, NEVER), 0);
	assert_true(signals_seen >= 100);
	close(fd);

	fd = make_fence(false);
	start_storm(100, fd);
	assert_int_equal(vgf_sync_file_wait(fd, now_ns() + 3600 * INT64_C(1000000000)), 0);
	assert_true(signals_seen >= 100);
	close(fd);

	fd = make_fence(false);
	start_storm(INT_MAX, fd);
	deadline_ns = now_ns() + 20000000;
	assert_int_equal(vgf_sync_file_wait(fd, deadline_ns), -ETIME);
	assert_true(now_ns() >= deadline_ns);
	stop_storm();
	close(fd);
}

/* A wait that started again with every signal would last as long as the storm. */
TEST(signal_handlers_do_not_prolong_a_wait)
{
	int fd = make_fence(false);

	start_storm(20000, fd);
	assert_int_equal(vgf_sync_file_wait(fd, now_ns() + 20000000), -ETIME);
	assert_true(signals_seen < 20000);
	stop_storm();
	close(fd);
}

TEST(signal_handlers_do_not_disturb_a_poll)
{
	int fd = make_fence(false);
	int other = make_fence(false);

	start_storm(100, other);
	while (vgf_sync_file_poll(other) == 0) {
		assert_int_equal(vgf_sync_file_poll(fd), 0);
	}
	assert_true(signals_seen >= 100);
	close(fd);
	close(other);
}

/* ---- Merging what are no sync files ------------------------------------------------------- */

static bool is_close_on_exec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

TEST(merges_none)
{
	assert_int_equal(vgf_sync_file_merge(NULL, 0), -EINVAL);
}

TEST(one_pending_fence_is_copied)
{
	int pending = make_fence(false), signalled = make_fence(true);
	const int fds[][3] = {
		{ pending, signalled, signalled },
		{ signalled, pending, signalled },
		{ signalled, signalled, pending },
	};
	int merged[4];

	for (size_t i = 0; i < 3; i++) {
		merged[i] = vgf_sync_file_merge(fds[i], 3);
	}
	merged[3] = vgf_sync_file_merge(&pending, 1);
	for (size_t i = 0; i < 4; i++) {
		assert_true(merged[i] >= 0);
		assert_true(merged[i] != pending);
		assert_true(is_close_on_exec(merged[i]));
		assert_int_equal(vgf_sync_file_poll(merged[i]), 0);
	}
	signal_fence(pending);
	close(pending);
	close(signalled);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(vgf_sync_file_poll(merged[i]), 1);
		close(merged[i]);
	}
}

TEST(of_signalled_fences_the_last_is_copied)
{
	int fds[5];

	for (size_t i = 0; i < 5; i++) {
		fds[i] = make_fence(true);
	}
	for (size_t count = 1; count <= 5; count++) {
		int merged = vgf_sync_file_merge(fds, count);
		eventfd_t value;

		assert_true(merged >= 0);
		assert_true(is_close_on_exec(merged));
		assert_int_equal(vgf_sync_file_poll(merged), 1);
		/* Reading an eventfd resets it: it shows which one the copy is of. */
		assert_int_equal(eventfd_read(merged, &value), 0);
		assert_int_equal(vgf_sync_file_poll(fds[count - 1]), 0);
		signal_fence(merged);
		close(merged);
	}
	for (size_t i = 0; i < 5; i++) {
		close(fds[i]);
	}
}

TEST(two_pending_eventfds_cannot_be_merged)
{
	int fds[64];

	for (size_t i = 0; i < 64; i++) {
		fds[i] = make_fence(i % 3 != 0);
	}
	assert_int_equal(vgf_sync_file_merge(fds, 4), -ENOTTY);
	assert_int_equal(vgf_sync_file_merge(fds, 64), -ENOTTY);
	for (size_t i = 0; i < 64; i++) {
		close(fds[i]);
	}
}

TEST(a_bad_descriptor_anywhere_fails_a_merge)
{
	int signalled = make_fence(true);
	int fds[7];

	for (size_t bad = 0; bad < 7; bad++) {
		for (size_t i = 0; i < 7; i++) {
			fds[i] = i == bad ? INT_MIN : signalled;
		}
		assert_int_equal(vgf_sync_file_merge(fds, 7), -EBADF);
	}
	close(signalled);
}

TEST(merging_without_a_free_descriptor_is_emfile)
{
	int fds[2] = { make_fence(false), make_fence(true) };
	int pending, signalled, with_one;

	limit_fds(0);
	pending = vgf_sync_file_merge(fds, 2);
	signalled = vgf_sync_file_merge(fds + 1, 1);
	limit_fds(1);
	with_one = vgf_sync_file_merge(fds, 2);
	unlimit_fds();
	assert_int_equal(pending, -EMFILE);
	assert_int_equal(signalled, -EMFILE);
	assert_true(with_one >= 0);
	close(with_one);
	close(fds[0]);
	close(fds[1]);
}

/* ---- The kernel's sync files -------------------------------------------------------------- */

/* Returns a timeline, or skips the test. */
static int need_timeline(void)
{
	int timeline = sw_sync_timeline();

	if (timeline < 0) {
		print_message("skipped: no " SW_SYNC_PATH
			      " here; `./run vm` runs this where there is one\n");
		skip();
	}
	return timeline;
}

static int need_fence(int timeline, uint32_t value)
{
	int fence = sw_sync_fence(timeline, value);

	assert_true(fence >= 0);
	return fence;
}

static void advance(int timeline)
{
	assert_int_equal(sw_sync_advance(timeline, 1), 0);
}

TEST(a_sync_file_signals)
{
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);

	assert_int_equal(vgf_sync_file_poll(fence), 0);
	assert_int_equal(vgf_sync_file_status(fence), 0);
	assert_int_equal(vgf_sync_file_wait(fence, now_ns() + 1000000), -ETIME);
	advance(timeline);
	assert_int_equal(vgf_sync_file_poll(fence), 1);
	assert_int_equal(vgf_sync_file_status(fence), 1);
	assert_int_equal(vgf_sync_file_wait(fence, NEVER), 0);
	close(fence);
	close(timeline);
}

TEST(a_sync_file_tells_its_error)
{
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);
	struct vgf_sync_file_fence info;

	close(timeline);
	assert_int_equal(vgf_sync_file_poll(fence), 1);
	assert_int_equal(vgf_sync_file_status(fence), -ENOENT);
	assert_int_equal(vgf_sync_file_info(fence, &info, 1), 1);
	assert_int_equal(info.status, -ENOENT);
	assert_int_equal(vgf_sync_file_wait(fence, NEVER), 0);
	close(fence);
}

TEST(a_sync_file_tells_its_names_and_time)
{
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);
	struct vgf_sync_file_fence info;
	uint64_t before;

	memset(&info, 0xff, sizeof(info));
	assert_int_equal(vgf_sync_file_info(fence, &info, 1), 1);
	assert_string_equal(info.driver, "sw_sync");
	assert_string_not_equal(info.timeline, ""); /* the kernel takes the name of the process */
	assert_int_equal(info.status, 0);
	assert_true(info.timestamp_ns == 0);

	before = (uint64_t)now_ns();
	advance(timeline);
	assert_int_equal(vgf_sync_file_info(fence, &info, 1), 1);
	assert_int_equal(info.status, 1);
	assert_true(info.timestamp_ns >= before && info.timestamp_ns <= (uint64_t)now_ns());
	close(fence);
	close(timeline);
}

/* A merge is called after the library; a fence alone has the kernel's name. */
TEST(a_sync_file_tells_its_own_name)
{
	int timelines[] = { need_timeline(), need_timeline() };
	int fences[] = { need_fence(timelines[0], 1), need_fence(timelines[1], 1) };
	int merged = vgf_sync_file_merge(fences, 2);
	char name[VGF_SYNC_FILE_NAME];

	assert_true(merged >= 0);
	memset(name, 0xff, sizeof(name));
	assert_int_equal(vgf_sync_file_name(merged, name), 0);
	assert_string_equal(name, "vgfence");
	assert_int_equal(vgf_sync_file_name(fences[0], name), 0);
	assert_memory_equal(name, "sw_sync-", strlen("sw_sync-"));
	close(merged);
	for (size_t i = 0; i < 2; i++) {
		close(fences[i]);
		close(timelines[i]);
	}
}

static bool kernel_is_at_least(unsigned int major, unsigned int minor)
{
	unsigned int running_major, running_minor;
	struct utsname name;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%u.%u", &running_major, &running_minor), 2);
	return running_major > major || (running_major == major && running_minor >= minor);
}

TEST(a_sync_file_takes_a_deadline_where_the_kernel_knows_any)
{
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);

	assert_int_equal(vgf_sync_file_set_deadline(fence, (uint64_t)now_ns()),
		kernel_is_at_least(6, 6) ? 0 : -ENOTTY);
	close(fence);
	close(timeline);
}

#define TIMELINES 21

/* One fence on each of many timelines, so that the kernel can leave none out. */
struct fences {
	int timelines[TIMELINES];
	int fds[TIMELINES];
};

static void need_fences(struct fences *fences)
{
	for (size_t i = 0; i < TIMELINES; i++) {
		fences->timelines[i] = need_timeline();
		fences->fds[i] = need_fence(fences->timelines[i], 1);
	}
}

static void fences_finish(struct fences *fences)
{
	for (size_t i = 0; i < TIMELINES; i++) {
		close(fences->timelines[i]);
		close(fences->fds[i]);
	}
}

TEST(a_merge_signals_with_the_last_of_its_fences)
{
	struct fences fences;

	for (size_t count = 2; count <= TIMELINES; count++) {
		int before, merged;

		need_fences(&fences);
		before = count_fds();
		merged = vgf_sync_file_merge(fences.fds, count);
		assert_true(merged >= 0);
		assert_int_equal(count_fds(), before + 1);
		assert_true(is_close_on_exec(merged));
		assert_int_equal(vgf_sync_file_info(merged, NULL, 0), count);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(vgf_sync_file_poll(merged), 0);
			advance(fences.timelines[count - 1 - i]);
		}
		assert_int_equal(vgf_sync_file_poll(merged), 1);
		close(merged);
		fences_finish(&fences);
	}
}

TEST(a_merge_leaves_out_what_has_signalled)
{
	struct fences fences;
	int merged;

	need_fences(&fences);
	for (size_t i = 0; i < TIMELINES; i += 2) {
		advance(fences.timelines[i]);
	}
	merged = vgf_sync_file_merge(fences.fds, TIMELINES);
	assert_true(merged >= 0);
	assert_int_equal(vgf_sync_file_info(merged, NULL, 0), TIMELINES / 2);
	close(merged);

	for (size_t i = 1; i < TIMELINES; i += 2) {
		advance(fences.timelines[i]);
	}
	merged = vgf_sync_file_merge(fences.fds, TIMELINES);
	assert_int_equal(vgf_sync_file_status(merged), 1);
	close(merged);
	fences_finish(&fences);
}

TEST(a_fence_named_twice_is_merged_once)
{
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);
	const int fds[] = { fence, fence, fence };
	int merged = vgf_sync_file_merge(fds, 3);

	assert_true(merged >= 0);
	assert_int_equal(vgf_sync_file_info(merged, NULL, 0), 1);
	close(merged);
	close(fence);
	close(timeline);
}

TEST(a_sync_file_and_a_pending_eventfd_cannot_be_merged)
{
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);
	int event = make_fence(false);
	const int fds[] = { fence, event, fence, fence };
	int merged;

	assert_int_equal(vgf_sync_file_merge(fds, 2), -ENOTTY);
	assert_int_equal(vgf_sync_file_merge(fds + 1, 2), -ENOTTY);
	assert_int_equal(vgf_sync_file_merge(fds, 4), -ENOTTY);
	signal_fence(event);
	merged = vgf_sync_file_merge(fds, 4);
	assert_true(merged >= 0);
	close(merged);
	close(event);
	close(fence);
	close(timeline);
}

TEST(a_merge_tells_of_as_many_fences_as_fit)
{
	struct vgf_sync_file_fence infos[TIMELINES + 1];
	struct fences fences;
	int merged;

	need_fences(&fences);
	merged = vgf_sync_file_merge(fences.fds, TIMELINES);
	assert_true(merged >= 0);
	for (size_t count = 0; count <= TIMELINES + 1; count++) {
		memset(infos, 0x5a, sizeof(infos));
		assert_int_equal(vgf_sync_file_info(merged, infos, count), TIMELINES);
		for (size_t i = 0; i <= TIMELINES; i++) {
			bool filled = i < count && i < TIMELINES;

			assert_int_equal(infos[i].driver[0], filled ? 's' : 0x5a);
		}
	}
	close(merged);
	fences_finish(&fences);
}

/* Bytes that malloc has given out. */
static size_t heap_in_use(void)
{
#ifdef __GLIBC__
	return mallinfo2().uordblks;
#else
	print_message("skipped: this libc does not tell what malloc has given out\n");
	skip();
	return 0;
#endif
}

TEST(telling_of_fences_keeps_no_memory)
{
	size_t before = heap_in_use(); /* or the test is skipped, with nothing open */
	int timeline = need_timeline();
	int fence = need_fence(timeline, 1);
	struct vgf_sync_file_fence info;

	alloc_fail(1);
	assert_int_equal(vgf_sync_file_info(fence, &info, 1), -ENOMEM);
	assert_int_equal(vgf_sync_file_info(fence, &info, 1), 1);
	/* There may be no sanitizer here to look for leaks. Some blocks stay in malloc's caches,
	 * but not one for each call. */
	before = heap_in_use();
	for (int i = 0; i < 100; i++) {
		assert_int_equal(vgf_sync_file_info(fence, &info, 1), 1);
	}
	assert_true(heap_in_use() < before + 100 * sizeof(info));
	close(fence);
	close(timeline);
}

/* A tree as deep as the logarithm of the count, one descriptor a level. */
TEST(a_merge_needs_few_descriptors_and_leaks_none)
{
	const unsigned int enough = 6; /* 2^5 >= TIMELINES */
	struct fences fences;
	int before, merged = -EMFILE;
	unsigned int more;

	need_fences(&fences);
	before = count_fds();
	for (more = 0; merged == -EMFILE && more <= enough; more++) {
		limit_fds(more);
		merged = vgf_sync_file_merge(fences.fds, TIMELINES);
		unlimit_fds();
		assert_int_equal(count_fds(), before + (merged >= 0));
	}
	assert_true(merged >= 0);
	assert_true(more > 2); /* the first attempts did fail on the way */
	close(merged);
	fences_finish(&fences);
}

TEST(a_bad_descriptor_late_in_a_merge_leaks_nothing)
{
	struct fences fences;
	int fds[TIMELINES];

	need_fences(&fences);
	for (size_t bad = 0; bad < TIMELINES; bad++) {
		memcpy(fds, fences.fds, sizeof(fds));
		fds[bad] = INT_MIN;
		assert_int_equal(vgf_sync_file_merge(fds, TIMELINES), -EBADF);
	}
	fences_finish(&fences);
}
