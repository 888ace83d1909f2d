/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Venus contexts whose processes end, with a test double in virglrenderer's place (virgl_double.h):
 * what test_virgl_venus shows of a real render server, where there is none. It is linked with
 * -Wl,--wrap=epoll_ctl.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "support.h"
#include "virgl_double.h"

#define CAPSET_VENUS 4
#define FLAGS                                                                                      \
	(VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB |    \
		VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER)
#define MAX_IDS 16

enum { VENUS = 1, OTHER = 2, RING = 1 };

static struct vgf_virgl *virgl;
static struct {
	unsigned int count;
	int status;
} retired[MAX_IDS];
static char message[256];
static void (*when_told)(void);

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	retired[fence->fence.fence_id].count++;
	retired[fence->fence.fence_id].status = fence->status;
}

static void note_message(void *cookie, enum vgf_log_level level, const char *text)
{
	snprintf(message, sizeof(message), "%s", text);
	if (when_told) {
		when_told();
	}
}

static int start_with(int flags)
{
	static const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks), .retire = note_retired, .log = note_message
	};
	static struct virgl_renderer_callbacks renderer_callbacks = { .version = 1 };
	/* One round is enough, however slow the machine. */
	static const struct vgf_options device = { .size = sizeof(device),
		.budget_ns = UINT64_MAX };
	const struct vgf_virgl_options options = { .size = sizeof(options),
		.device = &device,
		.callbacks = &callbacks,
		.independent_rings = true };

	memset(retired, 0, sizeof(retired));
	message[0] = '\0';
	return vgf_virgl_init(&virgl, flags, &renderer_callbacks, &options, &virgl);
}

static int start(void)
{
	return start_with(FLAGS);
}

static int create_venus(uint32_t ctx_id)
{
	return vgf_virgl_context_create_with_flags(virgl, ctx_id, CAPSET_VENUS, 0, NULL);
}

static void begin(void)
{
	assert_int_equal(start(), 0);
	assert_int_equal(create_venus(VENUS), 0);
	assert_int_equal(create_venus(OTHER), 0);
}

static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
	double_forget();
}

#define TEST_WORKER(name) TEST_BETWEEN(name, begin(), finish())

static int submit(uint32_t ctx_id, int32_t ring, uint64_t id, uint64_t in_fence)
{
	static const uint32_t word;
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
		.command = &word,
		.size = sizeof(word),
	};

	return vgf_virgl_submit(virgl, &submission, NULL);
}

static void assert_retired(uint64_t id, int status)
{
	assert_int_equal(retired[id].count, 1);
	assert_int_equal(retired[id].status, status);
}

static void dispatch(void)
{
	while (vgf_virgl_poll(virgl) > 0) {
	}
}

TEST_WORKER(fences_that_come_back_from_an_ended_worker_have_an_error)
{
	submit(VENUS, 0, 1, 0);
	submit(VENUS, RING, 2, 0);
	submit(OTHER, 0, 3, 2);
	double_end_worker(VENUS, true);
	dispatch();
	assert_retired(1, -EIO);
	assert_retired(2, -EIO);
	/* Its own worker has it now. */
	double_signal(3);
	dispatch();
	assert_retired(3, 0);
}

TEST_WORKER(fences_that_an_ended_worker_never_signals_retire_with_an_error)
{
	submit(VENUS, 0, 1, 0);
	submit(VENUS, RING, 2, 0);
	double_end_worker(VENUS, false);
	dispatch();
	assert_retired(1, -EIO);
	assert_retired(2, -EIO);
	assert_string_equal(message,
		"context 1: its Venus process ended; the last fence that it got was 2 on ring 1, "
		"and a ring without a queue ends it");
}

static void poll_and_destroy(void)
{
	assert_true(vgf_virgl_poll(virgl) > 0);
	assert_int_equal(vgf_virgl_context_destroy(virgl, VENUS), 0);
}

TEST_WORKER(who_is_told_of_that_may_call_anything)
{
	submit(VENUS, 0, 1, 0);
	double_end_worker(VENUS, false);
	when_told = poll_and_destroy;
	dispatch();
	when_told = NULL;
	assert_retired(1, -EIO);
}

TEST_WORKER(fences_that_came_back_before_are_done)
{
	submit(VENUS, 0, 1, 0);
	submit(VENUS, 0, 2, 0);
	double_signal(1);
	double_end_worker(VENUS, true);
	dispatch();
	assert_retired(1, 0);
	assert_retired(2, -EIO);
}

TEST_WORKER(work_that_is_held_back_fails_in_its_turn)
{
	submit(OTHER, 0, 1, 0);
	submit(VENUS, 0, 2, 1);
	submit(VENUS, RING, 3, 1);
	double_end_worker(VENUS, true);
	dispatch();
	assert_int_equal(retired[2].count + retired[3].count, 0);
	double_signal(1);
	dispatch();
	assert_retired(2, -EIO);
	assert_retired(3, -EIO);
	assert_int_equal(the_double.num_submissions, 1);
}

/* Before anybody has found out; virglrenderer 1.1 does that. */
TEST_WORKER(what_virglrenderer_refuses_since_its_worker_has_ended_fails_for_that)
{
	double_end_worker(VENUS, true);
	the_double.submit_error = EINVAL;
	submit(VENUS, 0, 1, 0);
	the_double.fence_error = EINVAL;
	submit(VENUS, RING, 2, 0);
	assert_int_equal(the_double.num_submissions, 2);
	the_double.submit_error = EINVAL;
	submit(OTHER, 0, 3, 0);
	dispatch();
	assert_retired(1, -EIO);
	assert_retired(2, -EIO);
	assert_retired(3, -EINVAL);
}

/* virglrenderer has a thread that spins until it is gone. */
TEST_WORKER(the_context_of_an_ended_worker_ends)
{
	double_end_worker(VENUS, true);
	assert_int_equal(the_double.num_contexts, 2);
	vgf_virgl_poll(virgl);
	assert_int_equal(the_double.num_contexts, 1);
	submit(VENUS, 0, 1, 0);
	dispatch();
	assert_retired(1, -EIO);
	/* And the ID is another's. */
	assert_int_equal(vgf_virgl_context_destroy(virgl, VENUS), 0);
	assert_int_equal(create_venus(VENUS), 0);
	assert_int_equal(the_double.num_contexts, 2);
	submit(VENUS, 0, 2, 0);
	double_signal(2);
	dispatch();
	assert_retired(2, 0);
}

/* Ending one takes virglrenderer its time. */
TEST_WORKER(a_round_ends_one_context)
{
	double_end_worker(VENUS, true);
	double_end_worker(OTHER, true);
	vgf_virgl_poll(virgl);
	assert_int_equal(the_double.num_contexts, 1);
	vgf_virgl_poll(virgl);
	assert_int_equal(the_double.num_contexts, 0);
}

/* Each is a process of the host. A program of the guest's that was killed may have left work that
 * waits for ever, and that must not keep the next one from running. */
TEST_WORKER(contexts_are_limited_and_destroyed_ones_make_room)
{
	for (uint32_t id = OTHER + 1; id <= 128; id++) {
		assert_int_equal(create_venus(id), 0);
	}
	submit(OTHER, 0, 1, 0);
	assert_int_equal(create_venus(200), -ENOSPC);
	assert_string_equal(message, "context 200: there are 128 of Venus already");
	assert_int_equal(vgf_virgl_context_destroy(virgl, OTHER), 1);
	dispatch();
	assert_int_equal(retired[1].count, 0);
	assert_int_equal(create_venus(200), 0);
	dispatch();
	assert_retired(1, -ECANCELED);
	assert_int_equal(the_double.num_contexts, 128);
	submit(200, 0, 2, 0);
	double_signal(2);
	dispatch();
	assert_retired(2, 0);
}

TEST_WORKER(a_context_needs_descriptors)
{
	limit_fds(3);
	assert_int_equal(create_venus(3), -EMFILE);
	unlimit_fds();
	assert_int_equal(the_double.num_contexts, 2);
	assert_int_equal(create_venus(3), 0);
}

TEST_WORKER(fences_that_a_reset_ends_are_cancelled)
{
	submit(VENUS, 0, 1, 0);
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_retired(1, -ECANCELED);
	assert_int_equal(create_venus(VENUS), 0);
}

TEST_WORKER(a_server_that_does_not_answer_is_told)
{
	the_double.context_error = ENOMEM;
	assert_int_equal(create_venus(3), -ENOMEM);
	assert_string_equal(message, "context 3: the render server of Venus does not answer");
}

TEST_WORKER(a_reset_starts_a_server_that_does_not_answer)
{
	the_double.context_error = ENOMEM;
	assert_int_equal(the_double.num_starts, 1);
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(the_double.num_starts, 2);
	assert_int_equal(create_venus(VENUS), 0);
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(the_double.num_starts, 2);
}

TEST(without_a_server_it_does_not_start)
{
	the_double.context_error = ENOMEM;
	assert_int_equal(start(), -ENOENT);
	assert_null(virgl);
	/* Or so, if the other process is faster. */
	the_double.init_error = -1;
	assert_int_equal(start(), -ENOENT);
	double_forget();
}

/* ---- A user's watches are used up ----------------------------------------------------------- */

static unsigned int num_watches, failing_watch; /* 0: none */

int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (operation == EPOLL_CTL_ADD && ++num_watches == failing_watch) {
		errno = ENOSPC;
		return -1;
	}
	return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

TEST_WORKER(without_watches_a_context_is_not_made)
{
	failing_watch = num_watches + 1;
	assert_int_equal(create_venus(3), -ENOMEM);
	failing_watch = 0;
	assert_int_equal(the_double.num_contexts, 2);
	assert_int_equal(create_venus(3), 0);
}

/* If virglrenderer does not call back, a context has a descriptor to be polled for its fences. */
TEST(nor_is_one_whose_fences_nobody_would_notice)
{
	int fd = make_fence(false);

	assert_int_equal(start_with(FLAGS & ~VIRGL_RENDERER_ASYNC_FENCE_CB), 0);
	the_double.context_poll_fd = fd;
	failing_watch = num_watches + 2; /* behind its worker's */
	assert_int_equal(create_venus(VENUS), -ENOMEM);
	failing_watch = 0;
	assert_int_equal(the_double.num_contexts, 0);
	assert_int_equal(create_venus(VENUS), 0);
	finish();
	close(fd);
}

TEST(without_watches_it_does_not_start)
{
	num_watches = 0;
	assert_int_equal(start(), 0);
	finish();
	failing_watch = num_watches;
	num_watches = 0;
	assert_int_equal(start(), -ENOMEM);
	failing_watch = 0;
	assert_null(virgl);
	assert_int_equal(start(), 0);
	finish();
}
