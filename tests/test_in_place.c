/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A VMM that knows only virglrenderer's functions, with libvgfence-virglrenderer in the place of
 * that and a double (virgl_double.h) behind it. The double knows fences by the device's numbers.
 */

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "support.h"
#include "virgl_double.h"

/* Not in every version's header. */
int virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences);

#define CAPSET_VIRGL2 2
#define CAPSET_VENUS 4
#define CAPSET_DRM 6
#define POLLED (VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC)
#define GL VIRGL_RENDERER_THREAD_SYNC
#define ASYNC (POLLED | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define GL_ASYNC (GL | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define MAX_WRITTEN 64

enum { PRODUCER = 1, CONSUMER = 2 };

/* ---- The VMM ------------------------------------------------------------------------------ */

struct written {
	uint32_t ctx_id, ring; /* 0, 0: the global timeline */
	uint64_t id;
	pthread_t thread;
};

static struct written written[MAX_WRITTEN];
static unsigned int num_written;

static void note_written(uint32_t ctx_id, uint32_t ring, uint64_t id)
{
	assert_true(num_written < MAX_WRITTEN);
	written[num_written++] = (struct written){ ctx_id, ring, id, pthread_self() };
}

static void write_fence(void *cookie, uint32_t fence)
{
	assert_ptr_equal(cookie, &num_written);
	note_written(0, 0, fence);
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring, uint64_t id)
{
	assert_ptr_equal(cookie, &num_written);
	note_written(ctx_id, ring, id);
}

static struct virgl_renderer_callbacks callbacks = {
	.version = 3,
	.write_fence = write_fence,
	.write_context_fence = write_context_fence,
};

static void start(int flags, uint32_t producer, uint32_t consumer)
{
	num_written = 0;
	assert_int_equal(virgl_renderer_init(&num_written, flags, &callbacks), 0);
	assert_int_equal(the_double.num_starts, 1);
	assert_int_equal(virgl_renderer_context_create_with_flags(PRODUCER, producer, 1, "p"), 0);
	assert_int_equal(virgl_renderer_context_create_with_flags(CONSUMER, consumer, 1, "c"), 0);
}

static void finish(void)
{
	unsigned int before = num_written;

	virgl_renderer_cleanup(&num_written);
	assert_int_equal(num_written, before); /* as virglrenderer, which forgets its fences */
	double_forget();
}

#define TEST_VMM_OF(name, flags, capset) TEST_BETWEEN(name, start(flags, capset, capset), finish())

static void submit(int ctx_id, uint32_t word, uint64_t in_fence)
{
	assert_int_equal(virgl_renderer_submit_cmd2(&word, ctx_id, 1, &in_fence, in_fence != 0), 0);
}

static void fence_on(uint32_t ctx_id, uint64_t id)
{
	assert_int_equal(virgl_renderer_context_create_fence(ctx_id, 0, 1, id), 0);
}

static void assert_written(unsigned int n, uint32_t ctx_id, uint64_t id)
{
	assert_true(n < num_written);
	assert_int_equal(written[n].ctx_id, ctx_id);
	assert_int_equal(written[n].ring, ctx_id ? 1 : 0);
	assert_int_equal(written[n].id, id);
}

static void *signal_it(void *arg)
{
	assert_true(double_signal(*(uint64_t *)arg));
	return NULL;
}

/* virglrenderer's thread. */
static pthread_t signal_in_thread(uint64_t *number)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, signal_it, number), 0);
	return thread;
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

TEST_VMM_OF(a_timeline_retires_in_order_in_poll, POLLED, CAPSET_VENUS)
{
	fence_on(PRODUCER, 1);
	fence_on(PRODUCER, 2);
	assert_true(double_signal(2));
	virgl_renderer_poll();
	assert_int_equal(num_written, 0);
	assert_true(double_signal(1));
	assert_int_equal(num_written, 0);
	virgl_renderer_poll();
	assert_int_equal(num_written, 2);
	assert_written(0, PRODUCER, 1);
	assert_written(1, PRODUCER, 2);
}

/* virglrenderer forgets the fence that its thread waits for if any GL context ends. OpenGL is done
 * with it before a later one, whichever that is of. */
TEST_VMM_OF(a_fence_that_virglrenderer_forgets_retires_with_the_next, POLLED, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 1);
	fence_on(PRODUCER, 2);
	assert_int_equal(virgl_renderer_context_create(3, 1, "n"), 0);
	the_double.forgets_the_oldest = true;
	virgl_renderer_context_destroy(3);
	the_double.forgets_the_oldest = false;
	assert_int_equal(double_pending(), 1);
	assert_true(double_signal(2));
	virgl_renderer_poll();
	assert_int_equal(num_written, 2);
	assert_written(0, PRODUCER, 1);
	assert_written(1, PRODUCER, 2);
	fence_on(PRODUCER, 3);
	fence_on(CONSUMER, 4);
	assert_true(double_forget_oldest());
	assert_true(double_signal(4));
	virgl_renderer_poll();
	assert_int_equal(num_written, 4);
}

TEST_VMM_OF(polling_a_context_is_polling, POLLED, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 1);
	assert_true(double_signal(1));
	virgl_renderer_context_poll(PRODUCER);
	assert_int_equal(num_written, 1);
}

TEST_VMM_OF(without_a_descriptor_of_virglrenderers_there_is_none, POLLED, CAPSET_VIRGL2)
{
	assert_int_equal(virgl_renderer_get_poll_fd(), -1);
}

/* With VIRGL_DISABLE_MT virglrenderer has no thread whatever the flags say, and is to be asked. */
TEST_VMM_OF(nor_with_asynchronous_callbacks_if_there_is_opengl, GL_ASYNC, CAPSET_VIRGL2)
{
	assert_int_equal(virgl_renderer_get_poll_fd(), -1);
}

TEST_VMM_OF(without_opengl_there_is_one, ASYNC, CAPSET_VENUS)
{
	assert_true(virgl_renderer_get_poll_fd() >= 0);
}

TEST_VMM_OF(asynchronous_callbacks_come_in_virglrenderers_thread, ASYNC, CAPSET_VENUS)
{
	uint64_t second = 2, first = 1;
	pthread_t thread;

	fence_on(PRODUCER, 1);
	fence_on(PRODUCER, 2);
	pthread_join(signal_in_thread(&second), NULL);
	assert_int_equal(num_written, 0);
	thread = signal_in_thread(&first);
	pthread_join(thread, NULL);
	assert_int_equal(num_written, 2);
	assert_written(0, PRODUCER, 1);
	assert_written(1, PRODUCER, 2);
	assert_false(pthread_equal(written[0].thread, pthread_self()));
}

TEST_VMM_OF(a_fence_that_signals_in_its_call_calls_back_in_it, ASYNC, CAPSET_VIRGL2)
{
	the_double.signals_at_once = true;
	fence_on(PRODUCER, 1);
	assert_int_equal(num_written, 1);
}

/* ---- IDs ---------------------------------------------------------------------------------- */

TEST_VMM_OF(global_ids_are_the_vmms, ASYNC, CAPSET_VIRGL2)
{
	const uint32_t ids[] = { 7, 0x7fffffff, 0xfffffff0, 0xffffffff, 0, 1, 1 };

	for (unsigned int i = 0; i < 7; i++) {
		assert_int_equal(virgl_renderer_create_fence((int)ids[i], 0x207), 0);
	}
	/* Of those that signal together virglrenderer tells the newest alone, by 32 bits. */
	assert_true(double_signal(1));
	assert_int_equal(num_written, 6);
	assert_true(double_signal(2)); /* the number of the last */
	assert_int_equal(num_written, 7);
	for (unsigned int i = 0; i < 7; i++) {
		assert_written(i, 0, ids[i]);
	}
}

TEST_VMM_OF(a_rings_ids_need_not_grow, ASYNC, CAPSET_VIRGL2)
{
	const uint64_t ids[] = { 0x7f0000001000, 0x7f0000000800, 0x7f0000001000, UINT64_MAX, 0 };

	for (unsigned int i = 0; i < 5; i++) {
		fence_on(PRODUCER, ids[i]);
	}
	for (unsigned int i = 0; i < 5; i++) {
		assert_true(double_signal(ids[0] + i));
		assert_written(i, PRODUCER, ids[i]);
	}
}

#if DOUBLE_GET_FENCE_FD
int virgl_renderer_get_fence_fd(uint64_t fence_id);
int export_fence(uint64_t id, int *fd) __asm__("virgl_renderer_export_fence");

TEST_VMM_OF(a_descriptor_is_of_the_fence_that_the_vmm_means, ASYNC, CAPSET_DRM)
{
	const uint64_t ids[] = { 0x7f0000001000, 0x7f0000000800, 0x7f0000000400 };
	int fd;

	for (unsigned int i = 0; i < 3; i++) {
		fence_on(PRODUCER, ids[i]);
	}
	for (unsigned int i = 0; i < 3; i++) {
		fd = virgl_renderer_get_fence_fd(ids[i]);
		assert_true(fd >= 0);
		close(fd);
		assert_int_equal(export_fence(ids[i], &fd), 0);
		close(fd);
	}
	assert_true(double_signal(ids[0] + 1));
	assert_true(virgl_renderer_get_fence_fd(ids[1]) < 0);
	assert_true(virgl_renderer_get_fence_fd(1) < 0);
}
#endif

static void create_anew(uint32_t ctx_id)
{
	virgl_renderer_context_destroy(ctx_id);
	assert_int_equal(virgl_renderer_context_create(ctx_id, 1, "n"), 0);
}

TEST_VMM_OF(a_new_context_counts_from_the_start, ASYNC, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 100);
	assert_true(double_signal(100));
	create_anew(PRODUCER);
	fence_on(PRODUCER, 1);
	assert_true(double_signal(101)); /* its number */
	assert_written(1, PRODUCER, 1);
}

/* The fence keeps the old one in the device, with what it has counted. */
TEST_VMM_OF(a_new_context_counts_from_the_start_beside_a_global_fence, ASYNC, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 100);
	assert_true(double_signal(100));
	submit(PRODUCER, 10, 0);
	assert_int_equal(virgl_renderer_create_fence(7, 0x207), 0);
	create_anew(PRODUCER);
	fence_on(PRODUCER, 1);
	assert_true(double_signal(7));
	assert_written(1, 0, 7);
	assert_true(double_signal(101));
	assert_written(2, PRODUCER, 1);
}

TEST_VMM_OF(a_new_context_counts_from_the_start_behind_held_work, POLLED, CAPSET_VIRGL2)
{
	fence_on(CONSUMER, 100);
	assert_true(double_signal(100));
	virgl_renderer_poll();
	fence_on(PRODUCER, 101);
	submit(CONSUMER, 20, 101);
	create_anew(CONSUMER);
	fence_on(CONSUMER, 1);
	virgl_renderer_poll();
	assert_int_equal(the_double.num_submissions, 0); /* it was dropped */
	assert_true(double_signal(101));
	virgl_renderer_poll();
	assert_written(1, PRODUCER, 101);
	assert_true(double_signal(101)); /* its number on this timeline */
	virgl_renderer_poll();
	assert_written(2, CONSUMER, 1);
}

/* The device has no number above UINT64_MAX. */
TEST_VMM_OF(a_new_context_takes_any_id_after_the_highest, ASYNC, CAPSET_VIRGL2)
{
	const uint64_t ids[] = { INT64_MAX, UINT64_MAX, INT64_MAX, 0 };

	for (unsigned int i = 0; i < 4; i++) {
		fence_on(PRODUCER, ids[i]);
		assert_true(double_signal((uint64_t)INT64_MAX + i));
		assert_written(i, PRODUCER, ids[i]);
		create_anew(PRODUCER);
	}
}

/* ---- Names -------------------------------------------------------------------------------- */

/* QEMU passes a guest's nlen as it is. */
TEST_VMM_OF(a_name_is_read_no_further_than_its_end, POLLED, CAPSET_VIRGL2)
{
	char *name = strdup("short");
	char *unended = malloc(64);

	memset(unended, 'n', 64);
	assert_int_equal(virgl_renderer_context_create(3, UINT32_MAX, name), 0);
	assert_int_equal(the_double.name_size, 5);
	assert_int_equal(virgl_renderer_context_create(4, UINT32_MAX, unended), 0);
	assert_int_equal(the_double.name_size, 63);
	free(name);
	free(unended);
}

/* ---- In-fences ---------------------------------------------------------------------------- */

static void check_held_work(void)
{
	submit(PRODUCER, 10, 0);
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	fence_on(CONSUMER, 2);
	assert_int_equal(the_double.num_submissions, 1);
	assert_true(double_signal(1));
	assert_int_equal(the_double.num_submissions, 1);
	virgl_renderer_poll();
	assert_int_equal(the_double.num_submissions, 2);
	assert_int_equal(the_double.submissions[1].word, 20);
	assert_int_equal(num_written, 1);
	assert_true(double_signal(2));
	virgl_renderer_poll();
	assert_written(0, PRODUCER, 1);
	assert_written(1, CONSUMER, 2);
}

TEST_VMM_OF(gl_waits_for_in_fences, POLLED, CAPSET_VIRGL2)
{
	check_held_work();
}

TEST_VMM_OF(venus_waits_for_in_fences, POLLED, CAPSET_VENUS)
{
	check_held_work();
}

TEST_VMM_OF(native_contexts_wait_for_in_fences, POLLED, CAPSET_DRM)
{
#if DOUBLE_SUBMIT_CMD2
	/* In the GPU's driver, by its ID. */
	submit(PRODUCER, 10, 0);
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	assert_int_equal(the_double.num_submissions, 2);
	assert_int_equal(the_double.submissions[1].num_ids, 1);
	assert_int_equal(the_double.submissions[1].ids[0], 1);
#else
	check_held_work();
#endif
}

TEST_VMM_OF(an_unknown_in_fence_has_signalled, POLLED, CAPSET_VIRGL2)
{
	submit(CONSUMER, 20, 77);
	assert_int_equal(the_double.num_submissions, 1);
}

TEST_VMM_OF(a_global_fence_is_behind_held_work, POLLED, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	assert_int_equal(virgl_renderer_create_fence(5, 0x207), 0); /* as QEMU */
	assert_int_equal(double_pending(), 1);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(double_pending(), 1);
	assert_true(double_signal(5));
	virgl_renderer_poll();
	assert_written(1, 0, 5);
}

TEST_VMM_OF(held_work_runs_in_the_next_call_or_when_polled, ASYNC, CAPSET_VIRGL2)
{
	struct pollfd pollfd = { .fd = virgl_renderer_get_poll_fd(), .events = POLLIN };
	uint64_t first = 1;

	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	fence_on(CONSUMER, 2);
	assert_int_equal(poll(&pollfd, 1, 0), 0);
	pthread_join(signal_in_thread(&first), NULL);
	assert_int_equal(num_written, 1);
	assert_int_equal(the_double.num_submissions, 0); /* not in that thread */
	assert_int_equal(poll(&pollfd, 1, 0), 1);
	submit(PRODUCER, 30, 0);
	assert_int_equal(the_double.num_submissions, 2);
	assert_int_equal(the_double.submissions[0].word, 20);
	assert_true(double_signal(2));
	assert_written(1, CONSUMER, 2);
}

/* ---- Contexts that are destroyed ---------------------------------------------------------- */

/* As virglrenderer, which forgets its fences. */
static void check_destroyed(void)
{
	fence_on(PRODUCER, 1);
	fence_on(CONSUMER, 2);
	virgl_renderer_context_destroy(PRODUCER);
	virgl_renderer_poll();
	while (double_signal_oldest()) {
	}
	virgl_renderer_poll();
	assert_int_equal(num_written, 1);
	assert_written(0, CONSUMER, 2);
	assert_int_equal(the_double.num_contexts, 1);
	assert_int_equal(virgl_renderer_context_create(PRODUCER, 1, "n"), 0);
	fence_on(PRODUCER, 1);
	assert_true(double_signal_oldest());
	virgl_renderer_poll();
	assert_int_equal(num_written, 2);
	assert_written(1, PRODUCER, 1);
}

TEST_VMM_OF(of_a_context_that_it_destroyed_a_vmm_is_told_nothing, ASYNC, CAPSET_VIRGL2)
{
	check_destroyed();
}

TEST_VMM_OF(nor_if_it_polls, POLLED, CAPSET_VIRGL2)
{
	check_destroyed();
}

TEST_VMM_OF(nor_of_venus, POLLED, CAPSET_VENUS)
{
	check_destroyed();
}

/* Calls that are done when they return, with work that never ends left of an older context. */
static void check_nothing_waits(uint32_t capset)
{
	uint32_t box[6] = { 0 };
	const struct virgl_renderer_resource_create_blob_args args = {
		.res_handle = 10,
		.ctx_id = CONSUMER,
	};

	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	assert_int_equal(virgl_renderer_create_fence(5, 0x207), 0);
	if (capset == CAPSET_VENUS) {
		fence_on(CONSUMER, 2);
	}
	virgl_renderer_context_destroy(CONSUMER);
	assert_int_equal(virgl_renderer_context_create_with_flags(CONSUMER, capset, 1, "n"), 0);
	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	assert_int_equal(virgl_renderer_resource_create_blob(&args), 0);
	assert_int_equal(virgl_renderer_transfer_read_iov(
				 9, CONSUMER, 0, 0, 0, (struct virgl_box *)box, 0, NULL, 0),
		0);
	virgl_renderer_resource_unref(9);
	assert_int_equal(the_double.num_unrefs, 1);
	assert_int_equal(the_double.num_submissions, 0);
	assert_written(0, 0, 5);
	assert_int_equal(num_written, 1);
}

TEST_VMM_OF(nothing_waits_for_a_context_that_was_destroyed, POLLED, CAPSET_VENUS)
{
	check_nothing_waits(CAPSET_VENUS);
}

TEST_VMM_OF(nor_for_held_work_of_one_of_opengl, POLLED, CAPSET_VIRGL2)
{
	check_nothing_waits(CAPSET_VIRGL2);
}

/* virgl_test_server frees what the fences name first, and its resources last. */
TEST_VMM_OF(a_venus_context_ends_at_once_whatever_it_runs, POLLED, CAPSET_VENUS)
{
	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	fence_on(CONSUMER, 1);
	virgl_renderer_context_destroy(CONSUMER);
	assert_int_equal(the_double.num_contexts, 1);
	virgl_renderer_resource_unref(9);
	assert_int_equal(the_double.num_unrefs, 1);
	virgl_renderer_poll();
	assert_int_equal(num_written, 0);
}

static void signal_oldest(void)
{
	double_signal_oldest();
}

/* Nobody makes a later fence while the call waits. */
TEST_VMM_OF(a_call_does_not_wait_for_a_fence_that_virglrenderer_forgot, GL, CAPSET_VIRGL2)
{
	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	fence_on(CONSUMER, 1);
	assert_true(double_forget_oldest());
	the_double.on_poll = signal_oldest;
	virgl_renderer_context_destroy(CONSUMER);
	virgl_renderer_resource_unref(9);
	assert_int_equal(the_double.num_unrefs, 1);
	assert_int_equal(the_double.num_contexts, 1);
	assert_int_equal(num_written, 0);
}

static void check_it_waits(void (*call)(void))
{
	uint64_t first = 1;
	pthread_t thread;

	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	thread = signal_in_thread(&first);
	call();
	pthread_join(thread, NULL);
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(the_double.submissions_before, 1);
}

static void read_resource(void)
{
	uint32_t box[6] = { 0 };

	assert_int_equal(virgl_renderer_transfer_read_iov(
				 9, CONSUMER, 0, 0, 0, (struct virgl_box *)box, 0, NULL, 0),
		0);
	assert_int_equal(the_double.num_transfers, 1);
}

#if DOUBLE_GET_FENCE_FD
static void signal_first(void)
{
	double_signal(1);
}

/* It would be one that has signalled already. The call has waited by then, with its mark. */
TEST_VMM_OF(no_descriptor_is_given_behind_a_mark, GL, CAPSET_VIRGL2)
{
	int fd;

	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	the_double.on_poll = signal_first;
	read_resource();
	the_double.on_poll = NULL;
	assert_int_equal(virgl_renderer_context_create_with_flags(3, CAPSET_DRM, 1, "n"), 0);
	fence_on(3, 2);
	assert_true(virgl_renderer_get_fence_fd(2) < 0);
	assert_int_equal(export_fence(2, &fd), -EINVAL);
	assert_true(double_signal_oldest()); /* the mark */
	fd = virgl_renderer_get_fence_fd(2);
	assert_true(fd >= 0);
	close(fd);
}
#endif

static void write_resource(void)
{
	uint32_t box[6] = { 0 };

	assert_int_equal(virgl_renderer_transfer_write_iov(
				 9, CONSUMER, 0, 0, 0, (struct virgl_box *)box, 0, NULL, 0),
		0);
	assert_int_equal(the_double.num_transfers, 1);
}

static void take_memory(void)
{
	virgl_renderer_resource_detach_iov(9, NULL, NULL);
	assert_int_equal(the_double.num_detached_iovs, 1);
}

static void create_blob(void)
{
	const struct virgl_renderer_resource_create_blob_args args = {
		.res_handle = 10,
		.ctx_id = CONSUMER,
	};

	assert_int_equal(virgl_renderer_resource_create_blob(&args), 0);
	assert_int_equal(the_double.num_blobs, 1);
}

static void unref_resource(void)
{
	virgl_renderer_resource_unref(9);
	assert_int_equal(the_double.num_unrefs, 1);
}

TEST_VMM_OF(a_transfer_is_done_behind_held_work_when_it_returns, POLLED, CAPSET_VIRGL2)
{
	check_it_waits(read_resource);
}

TEST_VMM_OF(an_upload_is_done_behind_held_work_when_it_returns, POLLED, CAPSET_VIRGL2)
{
	check_it_waits(write_resource);
}

TEST_VMM_OF(memory_is_taken_from_a_resource_behind_held_work, POLLED, CAPSET_VIRGL2)
{
	check_it_waits(take_memory);
}

/* The work may make what the blob names. */
TEST_VMM_OF(a_blob_is_made_behind_its_contexts_held_work, POLLED, CAPSET_VENUS)
{
	check_it_waits(create_blob);
}

static void ask_for_poll_fd(void)
{
	the_double.context_poll_fd = STDERR_FILENO;
	assert_int_equal(virgl_renderer_context_get_poll_fd(CONSUMER), STDERR_FILENO);
}

TEST_VMM_OF(a_contexts_descriptor_is_asked_for_when_it_is_there, POLLED, CAPSET_VENUS)
{
	check_it_waits(ask_for_poll_fd);
}

#if DOUBLE_ATTACH_FENCE
int virgl_renderer_attach_fence(int ctx_id, int fence_fd);

/* What it is attached to is the next submission. */
TEST_VMM_OF(a_fence_is_attached_behind_held_work, POLLED, CAPSET_VENUS)
{
	uint64_t first = 1;
	pthread_t thread;

	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	thread = signal_in_thread(&first);
	assert_int_equal(virgl_renderer_attach_fence(CONSUMER, dup(STDERR_FILENO)), 0);
	pthread_join(thread, NULL);
	submit(CONSUMER, 21, 0);
	assert_int_equal(the_double.submissions[0].num_attached, 0);
	assert_int_equal(the_double.submissions[1].num_attached, 1);
}
#endif

TEST_VMM_OF(a_blob_of_no_context_waits_for_nothing, POLLED, CAPSET_VENUS)
{
	const struct virgl_renderer_resource_create_blob_args args = { .res_handle = 10 };

	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	assert_int_equal(virgl_renderer_resource_create_blob(&args), 0);
	assert_int_equal(the_double.num_blobs, 1);
	assert_int_equal(the_double.num_submissions, 0);
}

TEST_VMM_OF(a_resource_is_detached_behind_held_work, POLLED, CAPSET_VIRGL2)
{
	virgl_renderer_ctx_attach_resource(CONSUMER, 9);
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	virgl_renderer_ctx_detach_resource(CONSUMER, 9);
	assert_int_equal(the_double.num_attached, 1);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_int_equal(the_double.num_attached, 0);
	assert_int_equal(the_double.submissions_before, 1);
}

/* The VMM may have made another one current. */
TEST_VMM_OF(held_work_runs_in_virglrenderers_gl_context, GL, CAPSET_VIRGL2)
{
	unsigned int before = the_double.num_made_current;

	fence_on(PRODUCER, 1);
	virgl_renderer_poll();
	assert_int_equal(the_double.num_made_current, before); /* there is none */
	submit(CONSUMER, 20, 1);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_int_equal(the_double.num_submissions, 1);
	assert_true(the_double.num_made_current > before);
}

/* While something is held each call polls, which makes virglrenderer's own context current. */
TEST_VMM_OF(a_fence_is_made_in_the_gl_context_of_its_work, GL_ASYNC, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 1);
	submit(CONSUMER, 20, 1);
	submit(PRODUCER, 10, 0);
	fence_on(PRODUCER, 2);
	assert_int_equal(double_gl_of(2), the_double.submissions[0].gl_context);
	assert_int_not_equal(double_gl_of(2), 0);
	submit(PRODUCER, 11, 0);
	assert_int_equal(virgl_renderer_create_fence(5, 0x207), 0);
	assert_int_equal(double_gl_of(5), the_double.submissions[1].gl_context);
}

TEST_VMM_OF(a_resource_goes_behind_held_work, ASYNC, CAPSET_VIRGL2)
{
	check_it_waits(unref_resource);
}

/* ---- Errors, start, reset ----------------------------------------------------------------- */

TEST_VMM_OF(an_error_keeps_its_place, POLLED, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 1);
	the_double.fence_error = -ENOMEM;
	fence_on(PRODUCER, 2);
	virgl_renderer_poll();
	assert_int_equal(num_written, 0);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_written(0, PRODUCER, 1);
	assert_written(1, PRODUCER, 2);
}

TEST_VMM_OF(what_names_no_context_or_ring_is_refused, POLLED, CAPSET_VIRGL2)
{
	uint32_t word = 30;

	assert_true(virgl_renderer_context_create_fence(99, 0, 1, 1) < 0);
	assert_int_equal(virgl_renderer_context_create_fence(PRODUCER, 0, 64, 1), -EINVAL);
	assert_true(virgl_renderer_submit_cmd(&word, 99, 1) != 0);
	virgl_renderer_ctx_attach_resource(99, 9);
	virgl_renderer_ctx_detach_resource(99, 9);
	virgl_renderer_context_destroy(99);
	assert_int_equal(the_double.num_attached, 0);
	assert_int_equal(the_double.num_submissions, 0);
	assert_int_equal(double_pending(), 0);
	assert_int_equal(the_double.num_contexts, 2);
}

#define MAX_ATTACHMENTS 65536

static unsigned int count_lines(FILE *file)
{
	unsigned int count = 0;

	rewind(file);
	for (int c = getc(file); c != EOF; c = getc(file)) {
		count += c == '\n';
	}
	return count;
}

/* Each of a guest's commands may fail. */
TEST_VMM_OF(of_what_a_guest_does_there_are_few_messages, POLLED, CAPSET_VIRGL2)
{
	int standard_error = dup(STDERR_FILENO);
	FILE *file = tmpfile();

	for (int i = 1; i <= MAX_ATTACHMENTS; i++) {
		virgl_renderer_ctx_attach_resource(PRODUCER, i);
	}
	dup2(fileno(file), STDERR_FILENO);
	for (int i = 1; i <= 100; i++) {
		virgl_renderer_ctx_attach_resource(PRODUCER, MAX_ATTACHMENTS + i);
	}
	dup2(standard_error, STDERR_FILENO);
	close(standard_error);
	assert_int_equal(the_double.num_attached, MAX_ATTACHMENTS);
	assert_in_range(count_lines(file), 1, 20);
	fclose(file);
}

/* A guest may name each of all contexts and rings that there are not. */
TEST_VMM_OF(fences_of_contexts_that_are_not_there_take_no_memory, POLLED, CAPSET_VIRGL2)
{
	unsigned long before;

	assert_true(virgl_renderer_context_create_fence(99, 0, 1, 1) < 0);
	before = mallinfo2().uordblks;
	for (uint32_t i = 0; i < 64 * 100; i++) {
		assert_true(virgl_renderer_context_create_fence(100 + i / 64, 0, i % 64, 1) < 0);
	}
	assert_in_range(mallinfo2().uordblks, 0, before + 4096);
}

/* Nor a context that was there, and has a fence still. */
TEST_VMM_OF(fences_of_contexts_that_have_ended_take_no_memory, ASYNC, CAPSET_VIRGL2)
{
	unsigned long before = 0;

	for (uint32_t i = 1; i <= 1000; i++) {
		uint32_t ctx_id = 100 + i;
		num_written = 0;
		assert_int_equal(virgl_renderer_context_create(ctx_id, 1, "n"), 0);
		fence_on(ctx_id, i);
		virgl_renderer_context_destroy(ctx_id);
		assert_true(virgl_renderer_context_create_fence(ctx_id, 0, 1, i + 1) < 0);
		assert_true(double_signal(i));
		assert_int_equal(num_written, 0);
		virgl_renderer_poll(); /* ends it */
		before = i == 10 ? mallinfo2().uordblks : before;
	}
	assert_in_range(mallinfo2().uordblks, 0, before + 4096);
}

TEST_VMM_OF(a_refused_fence_leaves_its_number_to_the_next, POLLED, CAPSET_VIRGL2)
{
	/* An ID that the device does not have: its number is 1. */
	assert_true(virgl_renderer_context_create_fence(3, 0, 1, UINT64_MAX) < 0);
	assert_int_equal(virgl_renderer_context_create(3, 1, "n"), 0);
	fence_on(3, 1);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_int_equal(num_written, 1);
	assert_written(0, 3, 1);
}

TEST_VMM_OF(a_reset_calls_back_for_nothing_and_counts_anew, ASYNC, CAPSET_VIRGL2)
{
	fence_on(PRODUCER, 100);
	submit(CONSUMER, 20, 100);
	virgl_renderer_reset();
	assert_int_equal(num_written, 0);
	assert_int_equal(the_double.num_contexts, 0);
	assert_int_equal(virgl_renderer_context_create(PRODUCER, 1, "p"), 0);
	fence_on(PRODUCER, 1);
	assert_true(double_signal(1));
	assert_written(0, PRODUCER, 1);
	assert_int_equal(the_double.num_submissions, 0);
}

/* With THREAD_SYNC alone a reset starts virglrenderer anew. */
TEST_VMM_OF(after_a_reset_that_failed_it_is_started_anew, GL, CAPSET_VIRGL2)
{
	the_double.init_error = ENODEV;
	virgl_renderer_reset();
	assert_false(the_double.is_running);
	assert_true(virgl_renderer_create_fence(5, 0) < 0);
	virgl_renderer_reset();
	virgl_renderer_poll();
	the_double.init_error = ENODEV;
	assert_true(virgl_renderer_init(&num_written, GL, &callbacks) != 0);
	assert_int_equal(virgl_renderer_init(&num_written, GL, &callbacks), 0);
	assert_true(the_double.is_running);
	assert_int_equal(virgl_renderer_context_create(PRODUCER, 1, "p"), 0);
	fence_on(PRODUCER, 1);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_written(0, PRODUCER, 1);
}

TEST_VMM_OF(it_can_be_started_twice_by_the_same_vmm_alone, POLLED, CAPSET_VIRGL2)
{
	assert_int_equal(virgl_renderer_init(&num_written, POLLED, &callbacks), 0);
	assert_true(virgl_renderer_init(&callbacks, POLLED, &callbacks) != 0);
	assert_int_equal(the_double.num_starts, 1);
}

TEST(a_failed_start_can_be_tried_again)
{
	the_double.init_error = ENODEV;
	assert_true(virgl_renderer_init(&num_written, POLLED, &callbacks) != 0);
	start(POLLED, CAPSET_VIRGL2, CAPSET_VIRGL2);
	fence_on(PRODUCER, 1);
	assert_true(double_signal(1));
	virgl_renderer_poll();
	assert_int_equal(num_written, 1);
	finish();
}

/* The render server of virglrenderer 0.10.4: virglrenderer serves it as it is. */
TEST(who_takes_no_global_fences_goes_straight)
{
	struct virgl_renderer_callbacks server = {
		.version = 3,
		.write_context_fence = write_context_fence,
	};

	num_written = 0;
	assert_int_equal(virgl_renderer_init(&num_written, POLLED, &server), 0);
	assert_int_equal(the_double.num_starts, 1);
	assert_int_equal(
		virgl_renderer_context_create_with_flags(PRODUCER, CAPSET_VENUS, 1, "p"), 0);
	fence_on(PRODUCER, 1);
	assert_true(double_signal(1));
	assert_written(0, PRODUCER, 1);
	finish();
	assert_int_equal(virgl_renderer_init(NULL, POLLED, NULL), -EINVAL);
}

/* QEMU's before 7.2. */
TEST(a_vmm_of_the_first_version_gets_global_fences_alone)
{
	struct virgl_renderer_callbacks first = { .version = 1, .write_fence = write_fence };

	num_written = 0;
	assert_int_equal(virgl_renderer_init(&num_written, POLLED, &first), 0);
	assert_int_equal(virgl_renderer_context_create(PRODUCER, 1, "p"), 0);
	fence_on(PRODUCER, 1);
	assert_int_equal(virgl_renderer_create_fence(5, 0x207), 0);
	assert_true(double_signal(1));
	assert_true(double_signal(5));
	virgl_renderer_poll();
	assert_int_equal(num_written, 1);
	assert_written(0, 0, 5);
	finish();
}

TEST(before_the_start_functions_go_straight)
{
	const uint32_t ring = 1;
	uint32_t word = 30;

	assert_true(virgl_renderer_context_create_fence(PRODUCER, 0, ring, 1) != 0);
	assert_int_equal(virgl_renderer_get_poll_fd(), -1);
	assert_int_equal(virgl_renderer_context_create(PRODUCER, 1, "p"), -ENOSYS);
	assert_int_equal(
		virgl_renderer_context_create_with_flags(PRODUCER, CAPSET_VIRGL2, 1, "p"), 0);
	assert_int_equal(the_double.num_contexts, 1);
	virgl_renderer_ctx_attach_resource(PRODUCER, 9);
	assert_int_equal(the_double.num_attached, 1);
	assert_int_equal(virgl_renderer_submit_cmd(&word, PRODUCER, 1), 0);
	assert_int_equal(virgl_renderer_submit_cmd2(&word, PRODUCER, 1, NULL, 0),
		DOUBLE_SUBMIT_CMD2 ? 0 : -ENOSYS);
	assert_int_equal(the_double.num_submissions, 1 + DOUBLE_SUBMIT_CMD2);
	virgl_renderer_poll();
	virgl_renderer_context_poll(PRODUCER);
	read_resource();
	the_double.num_transfers = 0;
	write_resource();
	take_memory();
	create_blob();
	virgl_renderer_ctx_detach_resource(PRODUCER, 9);
	assert_int_equal(the_double.num_attached, 0);
	unref_resource();
	assert_int_equal(virgl_renderer_create_fence(5, 0x207), 0);
	fence_on(PRODUCER, 1);
	assert_int_equal(double_pending(), 2);
	virgl_renderer_context_destroy(PRODUCER);
	assert_int_equal(the_double.num_contexts, 0);
	assert_int_equal(double_pending(), 1);
	assert_int_equal(
		virgl_renderer_context_create_with_flags(CONSUMER, CAPSET_VIRGL2, 1, "c"), 0);
	virgl_renderer_reset();
	assert_int_equal(the_double.num_contexts, 0);
	virgl_renderer_cleanup(NULL);
	double_forget();
}

/* One that the double does not have. */
TEST(a_function_that_the_library_does_not_have_fails)
{
	uint32_t map_info;

	assert_int_equal(virgl_renderer_resource_get_map_info(1, &map_info), -ENOSYS);
}
