/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The plugin without memory, and with a VMM that calls it from inside its callbacks; a test double
 * is in virglrenderer's place (virgl_double.h).
 *
 * Every allocation fails once: everything that a VMM does is done over and over, with its first
 * allocation failing, then its second, until none does. Whatever fails, what was accepted retires
 * once, the end of each command is told once, and nothing is left behind.
 *
 * Beside what alloc.h asks for, it is linked with -Wl,--wrap=free and --wrap=tsearch.
 */

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "alloc.h"
#include "calls.h"
#include "support.h"
#include "virgl_double.h"

#define CAPSET_VENUS 4
#define CAPSET_DRM 6
#define FLAGS                                                                                      \
	(VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB |    \
		VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER)
#define MAX_IDS 64

enum { GL = 1, NATIVE = 2, OTHER = 3, VENUS = 4, RESOURCE = 10, GATE = 1, LATE_GATE = 10 };

/* ---- Memory ------------------------------------------------------------------------------- */

void __real_free(void *block);
void __wrap_free(void *block);
void *__real_tsearch(
	const void *key, void **root, int (*compare)(const void *left, const void *right));
void *__wrap_tsearch(
	const void *key, void **root, int (*compare)(const void *left, const void *right));

static long num_freed;
static unsigned long failing; /* the number of the allocation that fails; 0: none */

void __wrap_free(void *block)
{
	num_freed += block != NULL;
	__real_free(block);
}

/* It allocates inside libc, and counts as an allocation like the others. */
void *__wrap_tsearch(
	const void *key, void **root, int (*compare)(const void *left, const void *right))
{
	void *block = malloc(1);
	void *ret;

	if (!block) {
		return NULL;
	}
	ret = __real_tsearch(key, root, compare);
	free(block);
	return ret;
}

/* ---- The VMM ------------------------------------------------------------------------------ */

static struct vgf_virgl *virgl;
static unsigned int promised[MAX_IDS], retired[MAX_IDS]; /* by fence ID */
static unsigned int num_promised_ends, num_ends;
static void (*when_retired)(uint64_t fence_id);

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	const struct vgf_fence_name *name = &fence->fence;

	assert_true(name->fence_id < MAX_IDS);
	retired[name->fence_id]++;
	if (when_retired) {
		when_retired(name->fence_id);
	}
}

static void note_end(void *arg, int status)
{
	num_ends++;
}

static int begin(void)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired };
	static struct virgl_renderer_callbacks renderer_callbacks = { .version = 1 };
	/* What a round does depends on no time. */
	static const struct vgf_options device = { .size = sizeof(device),
		.budget_ns = UINT64_MAX };
	const struct vgf_virgl_options options = {
		.size = sizeof(options), .device = &device, .callbacks = &callbacks
	};

	memset(promised, 0, sizeof(promised));
	memset(retired, 0, sizeof(retired));
	num_promised_ends = num_ends = 0;
	return vgf_virgl_init(&virgl, FLAGS, &renderer_callbacks, &options, &virgl);
}

static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
	double_forget();
	assert_memory_equal(promised, retired, sizeof(promised));
	assert_int_equal(num_ends, num_promised_ends);
}

#define TEST_PLUGIN(name) TEST_BETWEEN(name, assert_int_equal(begin(), 0), finish())

static int dispatch(void)
{
	int ret;

	do {
		ret = vgf_virgl_poll(virgl);
	} while (ret > 0);
	return ret;
}

static int submit(uint32_t ctx_id, uint64_t id, uint64_t in_fence)
{
	static const uint32_t word;
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = ctx_id, .ring = 0 },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
		.command = &word,
		.size = sizeof(word),
	};
	bool will_retire = false;
	int ret = vgf_virgl_submit(virgl, &submission, &will_retire);

	promised[id] += will_retire;
	return ret;
}

static void promise_fence(uint64_t id, int ret)
{
	promised[id] += ret == 0;
}

static void promise_end(int ret)
{
	num_promised_ends += ret >= 0;
}

static int create_gate(uint64_t id)
{
	const struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };
	int ret = create_take(vgf_virgl_get_device(virgl), &name, VGF_SHAREABLE, VGF_FENCE_BY_CALL);

	promised[id] += ret == 0;
	return ret;
}

static void open_gate(uint64_t id)
{
	const struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };

	vgf_fence_signal(vgf_virgl_get_device(virgl), &name, 0);
}

/* ---- All that a VMM does ------------------------------------------------------------------ */

static void use_resources(void)
{
	uint32_t box[6] = { 0 };
	struct iovec iov = { 0 };

	promise_end(vgf_virgl_transfer_read_iov(
		virgl, RESOURCE, GL, 0, 0, 0, (struct virgl_box *)box, 0, &iov, 1, note_end, NULL));
	promise_end(vgf_virgl_transfer_write_iov(
		virgl, RESOURCE, 0, 0, 0, 0, (struct virgl_box *)box, 0, &iov, 1, note_end, NULL));
	vgf_virgl_ctx_detach_resource(virgl, GL, RESOURCE);
	promise_end(vgf_virgl_resource_defer(virgl, RESOURCE, note_end, NULL));
	promise_end(vgf_virgl_resource_unref(virgl, RESOURCE, note_end, NULL));
}

/* A Venus context whose process ends, with work that runs and work that is held back. */
static void use_venus(void)
{
	vgf_virgl_context_create_with_flags(virgl, VENUS, CAPSET_VENUS, 4, "name");
	submit(VENUS, 11, 0);
	submit(VENUS, 12, 0);
	if (create_gate(LATE_GATE) == 0) {
		submit(VENUS, 13, LATE_GATE);
	}
	double_end_worker(VENUS, false);
	dispatch();
	open_gate(LATE_GATE);
	dispatch();
	vgf_virgl_context_destroy(virgl, VENUS);
	dispatch();
}

static void do_everything(void)
{
	uint32_t word = 0;
	bool gated;

	if (begin() < 0) {
		assert_null(virgl);
		return;
	}
	vgf_virgl_context_create(virgl, GL, 4, "name");
	vgf_virgl_context_create_with_flags(virgl, NATIVE, CAPSET_DRM, 4, "name");
	vgf_virgl_ctx_attach_resource(virgl, GL, RESOURCE);
	vgf_virgl_ctx_attach_resource(virgl, NATIVE, RESOURCE);
	gated = create_gate(GATE) == 0;
	submit(GL, 2, gated ? GATE : 0);
	submit(NATIVE, 3, 0);
	submit(NATIVE, 4, 3);
	submit(GL, 5, 4);
	vgf_virgl_submit_cmd(virgl, &word, GL, 1);
	promise_fence(6, vgf_virgl_context_create_fence(virgl, GL, 0, 0, 6));
	promise_fence(7, vgf_virgl_create_fence(virgl, 7, GL, 0));
	promise_fence(8, vgf_virgl_create_fence(virgl, 8, 0, 0));
	use_resources();
	vgf_virgl_context_destroy(virgl, NATIVE);
	vgf_virgl_context_create_with_flags(virgl, NATIVE, CAPSET_DRM, 4, "name");
	submit(NATIVE, 9, 0);
	vgf_virgl_context_destroy(virgl, GL);
	open_gate(GATE);
	for (uint64_t id = 2; id < 10; id++) {
		double_signal(id);
		dispatch();
	}
	/* What came to virglrenderer only now. */
	for (uint64_t id = 2; id < 10; id++) {
		double_signal(id);
		dispatch();
	}
	use_venus();
	submit(NATIVE, 20, 0);
	vgf_virgl_reset(virgl);
	finish();
}

TEST(each_allocation_fails_once)
{
	unsigned long before, count;
	long in_use;

	failing = 0;
	do {
		failing++;
		in_use = (long)alloc_count() - num_freed;
		before = alloc_count();
		alloc_fail(failing);
		do_everything();
		alloc_fail(0);
		count = alloc_count() - before;
		/* The one that failed was never there. */
		assert_int_equal((long)alloc_count() - num_freed - (failing <= count), in_use);
	} while (failing <= count);
	assert_true(failing > 30);
}

/* What is held for its end is given up, so its work is lost with virglrenderer's context. */
static void lose_fence(void)
{
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, VENUS, CAPSET_VENUS, 4, "name"), 0);
	assert_int_equal(submit(VENUS, 2, 0), 0);
	assert_int_equal(vgf_virgl_context_destroy(virgl, VENUS), 1);
	assert_int_equal(vgf_context_cancel(vgf_virgl_get_device(virgl), VENUS,
				 VGF_CANCEL_DESTROYED, -ECANCELED),
		0);
}

TEST(a_fence_that_is_lost_retires_whatever_fails)
{
	unsigned long before, count;

	failing = 0;
	do {
		failing++;
		assert_int_equal(begin(), 0);
		lose_fence();
		before = alloc_count();
		alloc_fail(failing);
		dispatch();
		alloc_fail(0);
		count = alloc_count() - before;
		assert_int_equal(the_double.num_contexts, 0);
		assert_int_equal(retired[2], 1);
		finish();
	} while (failing <= count);
	assert_true(failing > 1);
}

TEST_PLUGIN(a_context_that_there_is_no_memory_to_destroy_is_still_there)
{
	int ret;

	assert_int_equal(vgf_virgl_context_create(virgl, GL, 0, NULL), 0);
	assert_int_equal(submit(GL, 2, 0), 0);
	alloc_fail(1);
	ret = vgf_virgl_context_destroy(virgl, GL);
	alloc_fail(0);
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(submit(GL, 3, 0), 0);
	assert_int_equal(vgf_virgl_context_destroy(virgl, GL), 1);
	double_signal(2);
	double_signal(3);
	dispatch();
	assert_int_equal(the_double.num_contexts, 0);
}

/* If all is well, all of it happens. */
TEST(nothing_fails)
{
	do_everything();
	for (uint64_t id = 1; id < 14; id++) {
		assert_int_equal(retired[id], 1);
	}
	assert_int_equal(num_ends, 4);
}

/* ---- Calls from callbacks ----------------------------------------------------------------- */

static void call_everything(uint64_t fence_id)
{
	if (fence_id != 2) {
		return;
	}
	assert_in_range(vgf_virgl_context_destroy(virgl, GL), 0, 1);
	assert_in_range(vgf_virgl_context_create(virgl, GL, 0, NULL), 0, 1);
	vgf_virgl_ctx_attach_resource(virgl, GL, RESOURCE);
	assert_in_range(submit(GL, 3, 0), 0, 1);
	assert_in_range(submit(OTHER, 4, 3), 0, 1);
	promise_fence(5, vgf_virgl_create_fence(virgl, 5, GL, 0));
	use_resources();
	assert_true(vgf_virgl_poll(virgl) >= 0);
}

TEST_PLUGIN(a_callback_may_call_anything)
{
	vgf_virgl_context_create(virgl, GL, 0, NULL);
	vgf_virgl_context_create(virgl, OTHER, 0, NULL);
	assert_int_equal(submit(GL, 2, 0), 0);
	when_retired = call_everything;
	double_signal(2);
	dispatch();
	when_retired = NULL;
	double_signal(3);
	dispatch();
	double_signal(4);
	double_signal(5);
	dispatch();
	for (uint64_t id = 2; id < 6; id++) {
		assert_int_equal(retired[id], 1);
	}
}

static void reset_now(uint64_t fence_id)
{
	if (fence_id == 2) {
		assert_int_equal(vgf_virgl_reset(virgl), 0);
	}
}

TEST_PLUGIN(a_callback_may_reset)
{
	vgf_virgl_context_create(virgl, GL, 0, NULL);
	for (uint64_t id = 2; id < 8; id++) {
		assert_int_equal(submit(GL, id, 0), 0);
	}
	when_retired = reset_now;
	double_signal(2);
	dispatch();
	when_retired = NULL;
	assert_int_equal(the_double.num_contexts, 0);
	assert_int_equal(retired[7], 1);
	assert_int_equal(vgf_virgl_context_create(virgl, GL, 0, NULL), 0);
}

static int read_in_place(uint32_t ctx_id)
{
	uint32_t box[6] = { 0 };

	return vgf_virgl_transfer_read_iov(virgl, RESOURCE, ctx_id, 0, 0, 0,
		(struct virgl_box *)box, 0, NULL, 0, note_end, NULL);
}

static void call_in_a_reset(uint64_t fence_id)
{
	uint32_t word = 0;

	assert_int_equal(vgf_virgl_context_create(virgl, OTHER, 0, NULL), -ECANCELED);
	assert_int_equal(submit(GL, 3, 0), -ECANCELED);
	assert_int_equal(vgf_virgl_submit_cmd(virgl, &word, GL, 1), -ECANCELED);
	assert_int_equal(vgf_virgl_context_create_fence(virgl, GL, 0, 0, 3), -ECANCELED);
	assert_int_equal(vgf_virgl_create_fence(virgl, 3, GL, 0), -ECANCELED);
	assert_int_equal(vgf_virgl_create_fence(virgl, 3, 0, 0), -ECANCELED);
	assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, GL, RESOURCE), -ECANCELED);
	assert_int_equal(vgf_virgl_ctx_detach_resource(virgl, GL, RESOURCE), -ECANCELED);
	assert_int_equal(read_in_place(GL), -ECANCELED);
	assert_int_equal(read_in_place(0), -ECANCELED);
	assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, note_end, NULL), -ECANCELED);
	assert_int_equal(vgf_virgl_resource_unref(virgl, RESOURCE, note_end, NULL), -ECANCELED);
}

TEST_PLUGIN(nothing_is_taken_in_a_reset)
{
	vgf_virgl_context_create(virgl, GL, 0, NULL);
	vgf_virgl_ctx_attach_resource(virgl, GL, RESOURCE);
	assert_int_equal(submit(GL, 2, 0), 0);
	when_retired = call_in_a_reset;
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	when_retired = NULL;
	assert_int_equal(retired[2], 1);
}

static int reset_error, poll_error;

static void call_in_the_end(void *arg, int status)
{
	note_end(arg, status);
	reset_error = vgf_virgl_reset(virgl);
	poll_error = vgf_virgl_poll(virgl);
	vgf_virgl_context_destroy(virgl, OTHER);
	submit(GL, 3, 0);
	promise_end(vgf_virgl_resource_unref(virgl, RESOURCE, note_end, NULL));
}

TEST_PLUGIN(the_end_of_a_command_may_call_all_but_the_loop)
{
	vgf_virgl_context_create(virgl, GL, 0, NULL);
	vgf_virgl_context_create(virgl, OTHER, 0, NULL);
	vgf_virgl_ctx_attach_resource(virgl, GL, RESOURCE);
	assert_int_equal(create_gate(GATE), 0);
	assert_int_equal(submit(GL, 2, GATE), 1);
	assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, call_in_the_end, NULL), 1);
	num_promised_ends++;
	open_gate(GATE);
	dispatch();
	assert_int_equal(reset_error, -EDEADLK);
	assert_int_equal(poll_error, -EDEADLK);
	assert_int_equal(the_double.num_contexts, 1);
	double_signal(2);
	double_signal(3);
	dispatch();
	assert_int_equal(retired[3], 1);
	assert_int_equal(num_ends, 2);
}

static void poll_in_the_end(void *arg, int status)
{
	note_end(arg, status);
	poll_error = vgf_virgl_poll(virgl);
}

TEST_PLUGIN(so_is_it_with_one_that_is_done_at_once)
{
	poll_error = 0;
	assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, poll_in_the_end, NULL), 0);
	num_promised_ends++;
	assert_int_equal(poll_error, -EDEADLK);
}
