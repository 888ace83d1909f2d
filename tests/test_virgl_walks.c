/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What a command costs in the plugin is not more for what other contexts have, and what it keeps is
 * bounded. A test double is in virglrenderer's place (virgl_double.h). Comparisons in trees are
 * counted: it is linked with -Wl,--wrap=tfind.
 */

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <sys/uio.h>

#include <vgfence/inspect.h>

#include "support.h"
#include "virgl.h"
#include "virgl_double.h"

#define FLAGS (VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define MAX_CONTEXTS 1024 /* the device's default */
#define RESOURCE 7
#define GATE 1
#define GATED 2

/* With a key that a guest does not know, a bucket of 16 comes once in 10^10 times. */
#define MAX_IN_BUCKET 16

typedef int (*compare_fn)(const void *left, const void *right);

void *__real_tfind(const void *key, void *const *root, compare_fn compare);
void *__wrap_tfind(const void *key, void *const *root, compare_fn compare);

static compare_fn counted;
static unsigned int num_finds, num_compared;
static struct vgf_virgl *virgl;
static unsigned int num_ends;

static int count_comparison(const void *left, const void *right)
{
	num_compared++;
	return counted(left, right);
}

void *__wrap_tfind(const void *key, void *const *root, compare_fn compare)
{
	num_finds++;
	counted = compare;
	return __real_tfind(key, root, count_comparison);
}

/* ---- The VMM ------------------------------------------------------------------------------ */

static void retire(void *cookie, const struct vgf_retired *retired)
{
	(void)cookie;
	(void)retired;
}

static void note_end(void *arg, int status)
{
	(void)arg;
	assert_int_equal(status, 0);
	num_ends++;
}

static void begin(void)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = retire };
	static struct virgl_renderer_callbacks renderer_callbacks = { .version = 1 };
	const struct vgf_options device = { .size = sizeof(device), .budget_ns = UINT64_MAX };
	const struct vgf_virgl_options options = {
		.size = sizeof(options), .device = &device, .callbacks = &callbacks
	};

	num_ends = 0;
	assert_int_equal(vgf_virgl_init(&virgl, FLAGS, &renderer_callbacks, &options, &virgl), 0);
}

static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	double_forget();
}

#define TEST_PLUGIN(name) TEST_BETWEEN(name, begin(), finish())

static void create_contexts(uint32_t first, uint32_t count, uint32_t step)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(vgf_virgl_context_create(virgl, (first + i) * step, 0, NULL), 0);
	}
}

/* Work that waits until open_gate. */
static void submit_gated(uint32_t ctx_id)
{
	const struct vgf_fence_name gate = { .fence_id = GATE, .ring = VGF_RING_GLOBAL };
	const uint64_t in_fence = GATE;
	const struct vgf_submission submission = {
		.fence = { .fence_id = GATED, .ctx_id = ctx_id, .ring = 0 },
		.flags = VGF_FENCED,
		.in_fences = &in_fence,
		.num_in_fences = 1,
	};
	struct vgf_device *device = vgf_virgl_get_device(virgl);

	assert_int_equal(
		vgf_fence_create_take(device, &gate, VGF_SHAREABLE, NULL, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(vgf_virgl_submit(virgl, &submission, NULL), 1);
}

static void open_gate(void)
{
	const struct vgf_fence_name gate = { .fence_id = GATE, .ring = VGF_RING_GLOBAL };

	assert_int_equal(vgf_fence_signal(vgf_virgl_get_device(virgl), &gate, 0), 0);
	while (vgf_virgl_poll(virgl) > 0) {
	}
	double_signal(GATED);
	while (vgf_virgl_poll(virgl) > 0) {
	}
}

/* ---- Walks -------------------------------------------------------------------------------- */

TEST_PLUGIN(contexts_far_apart_fill_no_bucket)
{
	create_contexts(1, MAX_CONTEXTS, MAX_CONTEXTS);
	for (size_t i = 0; i <= virgl->open_mask; i++) {
		const struct virgl_context *context;
		unsigned int count = 0;

		LIST_FOREACH(context, &virgl->open[i], by_id) {
			count++;
		}
		assert_in_range(count, 0, MAX_IN_BUCKET);
	}
	assert_int_equal(virgl->open_mask + 1, MAX_CONTEXTS);
}

static void use_resource(void)
{
	num_finds = num_compared = 0;
	assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, note_end, NULL), 0);
}

/* Each of the others has a resource too. */
TEST_PLUGIN(only_contexts_that_have_a_resource_are_asked)
{
	create_contexts(1, MAX_CONTEXTS, 1);
	for (uint32_t ctx_id = 1; ctx_id <= MAX_CONTEXTS; ctx_id++) {
		assert_int_equal(vgf_virgl_ctx_attach_resource(
					 virgl, (int)ctx_id, RESOURCE + (int)ctx_id - 1),
			0);
	}
	use_resource();
	assert_int_equal(num_finds, 1);
	assert_in_range(num_compared, 1, 22); /* a balanced tree of 1024 */
	assert_int_equal(vgf_virgl_resource_unref(virgl, RESOURCE, note_end, NULL), 0);
	use_resource();
	assert_int_equal(num_finds, 1);
	assert_int_equal(num_ends, 3);
	assert_int_equal(virgl->num_attachments, MAX_CONTEXTS - 1);
}

/* ---- Bounds ------------------------------------------------------------------------------- */

static void attach_many(int ctx_id)
{
	for (int handle = 1; handle <= (int)MAX_CONTEXT_ATTACHMENTS; handle++) {
		assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, ctx_id, handle), 0);
	}
}

TEST_PLUGIN(attachments_are_bounded)
{
	create_contexts(1, 5, 1);
	for (int ctx_id = 1; ctx_id <= 4; ctx_id++) {
		attach_many(ctx_id);
		assert_int_equal(vgf_virgl_ctx_attach_resource(
					 virgl, ctx_id, (int)MAX_CONTEXT_ATTACHMENTS + 1),
			-ENOSPC);
	}
	assert_int_equal(virgl->num_attachments, MAX_ATTACHMENTS);
	assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, 5, 1), -ENOSPC);
	assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, 1, 1), 0); /* has it already */
	assert_int_equal(vgf_virgl_context_destroy(virgl, 4), 0);
	assert_int_equal(virgl->num_attachments, MAX_ATTACHMENTS - MAX_CONTEXT_ATTACHMENTS);
	assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, 5, 1), 0);
}

TEST_PLUGIN(what_waits_for_the_end_of_a_context_is_bounded)
{
	create_contexts(1, 1, 1);
	assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, 1, RESOURCE), 0);
	submit_gated(1);
	assert_int_equal(vgf_virgl_context_destroy(virgl, 1), 1);
	for (int i = 0; i < MAX_OP_WAITS; i++) {
		assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, note_end, NULL), 1);
	}
	assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, note_end, NULL), -ENOSPC);
	open_gate();
	assert_int_equal(num_ends, MAX_OP_WAITS);
	assert_int_equal(virgl->num_op_waits, 0);
}

/* With context 0 it waits for each context that has the resource, and each keeps it. */
TEST_PLUGIN(a_transfer_that_waits_counts_with_all_its_bytes)
{
	static struct iovec iov[1000];
	struct vgf_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	uint32_t box[6] = { 0 };

	create_contexts(1, 1, 1);
	assert_int_equal(vgf_virgl_ctx_attach_resource(virgl, 1, RESOURCE), 0);
	submit_gated(1);
	vgf_device_get_stats(vgf_virgl_get_device(virgl), &before);
	assert_int_equal(vgf_virgl_transfer_write_iov(virgl, RESOURCE, 0, 0, 0, 0,
				 (struct virgl_box *)box, 0, iov, 1000, note_end, NULL),
		1);
	vgf_device_get_stats(vgf_virgl_get_device(virgl), &after);
	assert_true(after.held_size - before.held_size >= sizeof(iov));
	open_gate();
	assert_int_equal(num_ends, 1);
}
