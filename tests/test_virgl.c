/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The plugin with the real virglrenderer: what is drawn, in which order, and when its fences
 * retire.
 *
 * VGF_TEST_WAYS=TEXT: only the ways to wait that have it in their names. VGF_TEST_SUBMISSIONS=N: of
 * the largest load.
 */

#include "virgl_vmm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define RED PIXEL(255, 0, 0, 255)
#define GREEN PIXEL(0, 255, 0, 255)
#define BLUE PIXEL(0, 0, 255, 255)

/* What the tests have in common: a producer and a consumer that share a texture, and one that is
 * the consumer's. */
enum {
	PRODUCER = 1,
	CONSUMER = 2,
	SHARED = 10,
	COPY = 11,
};

/* Each runs with every set of flags, and with each way to wait. */
static int flags_now;
static enum vgf_virgl_wait wait_now;

static struct virgl_vmm *create_pair(void)
{
	struct virgl_vmm *vmm = virgl_vmm_create(flags_now, wait_now);

	create_gl_context(vmm, PRODUCER);
	create_gl_context(vmm, CONSUMER);
	create_texture(vmm, SHARED, PRODUCER, CONSUMER, 0);
	create_texture(vmm, COPY, CONSUMER, 0);
	fill_now(vmm, PRODUCER, SHARED, RED);
	fill_now(vmm, CONSUMER, COPY, BLUE);
	return vmm;
}

/* Two contexts, and a texture that both have. */
#define TEST_PAIR(name)                                                                            \
	TEST_WITH(name, struct virgl_vmm *, vmm, create_pair(), virgl_vmm_destroy(vmm))

/* ---- Drawing ------------------------------------------------------------------------------ */

TEST_PAIR(draws_and_retires)
{
	uint64_t id = submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);

	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, PRODUCER, 0, id, 0);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), BLUE);
}

/* The producer's work is held back; the consumer names the producer's fence. */
TEST_PAIR(consumer_with_in_fence_sees_the_producers_pixel)
{
	uint64_t gate = create_test_fence(vmm);
	uint64_t produced = submit_fill(vmm, PRODUCER, SHARED, GREEN, gate);
	uint64_t consumed = submit_copy(vmm, CONSUMER, COPY, SHARED, produced);

	virgl_vmm_run(vmm, 20);
	assert_int_equal(vmm->num_retired, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, 0, VGF_RING_GLOBAL, gate, 0);
	assert_virgl_retired(vmm, PRODUCER, 0, produced, 0);
	assert_virgl_retired(vmm, CONSUMER, 0, consumed, 0);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
}

/* The control: if this fails, the test above shows nothing. */
TEST_PAIR(consumer_without_in_fence_sees_the_old_pixel)
{
	uint64_t gate = create_test_fence(vmm);
	uint64_t produced = submit_fill(vmm, PRODUCER, SHARED, GREEN, gate);
	uint64_t consumed = submit_copy(vmm, CONSUMER, COPY, SHARED, 0);

	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, CONSUMER, 0, consumed, 0);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, PRODUCER, 0, produced, 0);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
}

/* A guest's driver begins every stream with the choice of a subcontext. */
TEST_PAIR(waits_in_the_subcontext_that_draws)
{
	uint64_t gate = create_test_fence(vmm);
	struct gl_stream stream;
	uint64_t produced;

	for (uint32_t ctx_id = PRODUCER; ctx_id <= CONSUMER; ctx_id++) {
		gl_stream_begin(&stream);
		gl_stream_create_sub_ctx(&stream, 1);
		gl_stream_set_sub_ctx(&stream, 1);
		assert_int_equal(submit_stream(vmm, ctx_id, &stream, 0), 0);
	}
	gl_stream_begin(&stream);
	gl_stream_set_sub_ctx(&stream, 1);
	gl_stream_fill(&stream, SHARED, GREEN);
	assert_int_equal(submit_stream(vmm, PRODUCER, &stream, gate), 1);
	produced = vmm->last_id;
	gl_stream_begin(&stream);
	gl_stream_set_sub_ctx(&stream, 1);
	gl_stream_copy(&stream, COPY, SHARED, SIDE, SIDE);
	assert_int_equal(submit_stream(vmm, CONSUMER, &stream, produced), 1);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 5);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
}

TEST_PAIR(fence_in_a_second_step)
{
	uint64_t gate = create_test_fence(vmm);
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_fill(&stream, SHARED, GREEN);
	assert_int_equal(vgf_virgl_submit_cmd2(
				 vmm->virgl, stream.words, PRODUCER, (int)stream.count, &gate, 1),
		1);
	assert_int_equal(vgf_virgl_context_create_fence(
				 vmm->virgl, PRODUCER, VGF_VIRGL_FENCE_SHAREABLE, 0, 20),
		0);
	gl_stream_begin(&stream);
	gl_stream_copy(&stream, COPY, SHARED, SIDE, SIDE);
	assert_int_equal(vgf_virgl_submit_cmd2(vmm->virgl, stream.words, CONSUMER,
				 (int)stream.count, &(uint64_t){ 20 }, 1),
		1);
	assert_int_equal(vgf_virgl_create_fence(vmm->virgl, 21, CONSUMER, 0), 0);
	virgl_vmm_run(vmm, 20);
	assert_int_equal(vmm->num_retired, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, PRODUCER, 0, 20, 0);
	assert_virgl_retired(vmm, CONSUMER, VGF_RING_GLOBAL, 21, 0);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
}

/* ---- Errors ------------------------------------------------------------------------------- */

TEST_PAIR(refused_stream_keeps_its_place)
{
	uint64_t gate = create_test_fence(vmm);
	uint64_t before = submit_fill(vmm, PRODUCER, SHARED, GREEN, gate);
	struct gl_stream stream;
	unsigned int place;
	uint64_t refused;

	gl_stream_begin(&stream);
	gl_stream_nonsense(&stream);
	assert_int_equal(submit_stream(vmm, PRODUCER, &stream, 0), 1);
	refused = vmm->last_id;
	/* The work of another context does not wait for it. */
	submit_fill(vmm, CONSUMER, COPY, RED, 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, CONSUMER, 0, vmm->last_id, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 4);
	place = assert_virgl_retired(vmm, PRODUCER, 0, before, 0);
	assert_true(assert_virgl_retired(vmm, PRODUCER, 0, refused, -EINVAL) > place);
}

/* This holds also if nothing is held back: GL's fence before it is still pending. */
TEST_PAIR(refused_stream_does_not_overtake)
{
	struct gl_stream stream;
	uint64_t first = vmm->last_id + 1;

	for (int i = 0; i < 8; i++) {
		submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);
	}
	gl_stream_begin(&stream);
	gl_stream_nonsense(&stream);
	assert_int_equal(submit_stream(vmm, PRODUCER, &stream, 0), -EINVAL);
	virgl_vmm_wait(vmm, 9);
	for (unsigned int i = 0; i < 8; i++) {
		assert_int_equal(assert_virgl_retired(vmm, PRODUCER, 0, first + i, 0), i);
	}
	assert_int_equal(assert_virgl_retired(vmm, PRODUCER, 0, first + 8, -EINVAL), 8);
}

TEST_PAIR(held_error_is_told_by_the_fence_of_the_second_step)
{
	uint64_t gate = create_test_fence(vmm);
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nonsense(&stream);
	assert_int_equal(vgf_virgl_submit_cmd2(
				 vmm->virgl, stream.words, PRODUCER, (int)stream.count, &gate, 1),
		1);
	assert_int_equal(vgf_virgl_context_create_fence(vmm->virgl, PRODUCER, 0, 0, 20), 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, PRODUCER, 0, 20, -EINVAL);
}

static int submit_nonsense(struct virgl_vmm *vmm, uint64_t in_fence)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nonsense(&stream);
	return vgf_virgl_submit_cmd2(
		vmm->virgl, stream.words, PRODUCER, (int)stream.count, &in_fence, in_fence != 0);
}

TEST_PAIR(so_it_is_if_other_errors_were_returned_meanwhile)
{
	uint64_t gate = create_test_fence(vmm);

	assert_int_equal(submit_nonsense(vmm, gate), 1);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 1);
	assert_int_equal(submit_nonsense(vmm, 1000), -ENOENT);
	assert_int_equal(vgf_virgl_context_create_fence(vmm->virgl, PRODUCER, 0, 0, 20), 0);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, PRODUCER, 0, 20, -EINVAL);
}

TEST_PAIR(an_error_that_was_returned_is_not_told_again)
{
	struct gl_stream stream;
	const struct vgf_submission submission = {
		.fence = { .ctx_id = PRODUCER },
		.command = stream.words,
		.size = sizeof(stream.words[0]),
	};

	gl_stream_begin(&stream);
	gl_stream_nonsense(&stream);
	assert_int_equal(vgf_virgl_submit(vmm->virgl, &submission, NULL), -EINVAL);
	assert_int_equal(vgf_virgl_context_create_fence(vmm->virgl, PRODUCER, 0, 0, 20), 0);
	assert_int_equal(submit_nonsense(vmm, 0), -EINVAL);
	assert_int_equal(vgf_virgl_context_create_fence(vmm->virgl, PRODUCER, 0, 0, 21), 0);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, PRODUCER, 0, 20, 0);
	assert_virgl_retired(vmm, PRODUCER, 0, 21, 0);
}

/* Held back, it would be copied to where it is. */
TEST_PAIR(a_stream_that_is_not_aligned_is_refused)
{
	uint64_t gate = create_test_fence(vmm);
	uint32_t words[3] = { 0 };
	struct vgf_submission submission = {
		.fence = { .fence_id = 20, .ctx_id = PRODUCER },
		.flags = VGF_FENCED,
		.in_fences = &gate,
		.command = (char *)words + 1,
		.size = 8,
	};

	for (uint32_t i = 0; i < 2; i++) {
		bool will_retire = true;
		submission.num_in_fences = i;
		assert_int_equal(vgf_virgl_submit(vmm->virgl, &submission, &will_retire), -EFAULT);
		assert_false(will_retire);
	}
	/* What a guest can choose has its place. */
	submission.command = words;
	submission.size = 7;
	assert_int_equal(vgf_virgl_submit(vmm->virgl, &submission, NULL), 1);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, PRODUCER, 0, 20, -EFAULT);
}

TEST_PAIR(checks_in_fences)
{
	uint64_t retired = submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);
	struct gl_stream stream;

	virgl_vmm_wait(vmm, 1);
	/* Retired: nothing to wait for. */
	submit_copy(vmm, CONSUMER, COPY, SHARED, retired);
	virgl_vmm_wait(vmm, 2);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
	/* Never seen. */
	gl_stream_begin(&stream);
	gl_stream_fill(&stream, COPY, RED);
	assert_int_equal(submit_stream(vmm, CONSUMER, &stream, 1000), -ENOENT);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, CONSUMER, 0, vmm->last_id, -ENOENT);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
	/* Of a context that is gone. */
	retired = submit_fill(vmm, PRODUCER, SHARED, RED, 0);
	assert_in_range(vgf_virgl_context_destroy(vmm->virgl, PRODUCER), 0, 1);
	submit_copy(vmm, CONSUMER, COPY, SHARED, retired);
	virgl_vmm_wait(vmm, 5);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
}

TEST(commands_without_a_context)
{
	struct virgl_vmm *vmm = virgl_vmm_create(flags_now, wait_now);
	uint32_t words[2] = { 0 };
	int fd;

	assert_int_equal(vgf_virgl_context_create(vmm->virgl, 0, 0, NULL), -EINVAL);
	assert_int_equal(
		vgf_virgl_context_create_with_flags(vmm->virgl, 5, 0x1234, 0, NULL), -EINVAL);
	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, 5), -ENOENT);
	assert_int_equal(vgf_virgl_submit_cmd(vmm->virgl, words, 5, 1), -ENOENT);
	assert_int_equal(vgf_virgl_submit_cmd(vmm->virgl, words, 5, -1), -EINVAL);
	assert_int_equal(vgf_virgl_submit_cmd(vmm->virgl, (char *)words + 1, 5, 1), -EFAULT);
	assert_int_equal(vgf_virgl_context_create_fence(vmm->virgl, 5, 0, 0, 1), -ENOENT);
	assert_int_equal(vgf_virgl_ctx_attach_resource(vmm->virgl, 5, 6), 0);
	assert_int_equal(vgf_virgl_ctx_detach_resource(vmm->virgl, 5, 6), 0);
	assert_int_equal(vgf_virgl_resource_unref(vmm->virgl, 6, NULL, NULL), 0);
	assert_int_equal(vgf_virgl_export_fence(vmm->virgl, 7, &fd), -ENOENT);
	assert_int_equal(fd, -1);
	assert_int_equal(vgf_virgl_create_fence(vmm->virgl, 8, 0, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, 0, VGF_RING_GLOBAL, 8, 0);
	create_gl_context(vmm, 5);
	assert_int_equal(vgf_virgl_context_create(vmm->virgl, 5, 0, NULL), 0);
	assert_int_equal(vgf_virgl_context_create_with_flags(vmm->virgl, 5, 4, 0, NULL), -EEXIST);
	virgl_vmm_destroy(vmm);
}

/* ---- Order -------------------------------------------------------------------------------- */

static void note_order(void *arg, int status)
{
	int *order = arg;

	assert_int_equal(status, 0);
	*order = 1;
}

TEST_PAIR(commands_stay_behind_held_work)
{
	uint64_t gate = create_test_fence(vmm);
	int done = 0;

	/* The consumer's copy must still find the texture. */
	submit_copy(vmm, CONSUMER, COPY, SHARED, gate);
	assert_int_equal(vgf_virgl_ctx_detach_resource(vmm->virgl, CONSUMER, SHARED), 1);
	assert_int_equal(vgf_virgl_resource_unref(vmm->virgl, SHARED, note_order, &done), 1);
	/* A resource that the consumer does not have does not wait. */
	create_texture(vmm, 12, PRODUCER, 0);
	assert_int_equal(vgf_virgl_resource_unref(vmm->virgl, 12, NULL, NULL), 0);
	virgl_vmm_run(vmm, 5);
	assert_int_equal(done, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 2);
	assert_int_equal(vmm->retired[1].status, 0);
	assert_int_equal(done, 1);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
}

TEST_PAIR(attaching_stays_behind_held_work)
{
	uint64_t gate = create_test_fence(vmm);

	create_texture(vmm, 12, PRODUCER, 0);
	fill_now(vmm, PRODUCER, 12, GREEN);
	submit_copy(vmm, CONSUMER, COPY, SHARED, gate);
	assert_int_equal(vgf_virgl_ctx_detach_resource(vmm->virgl, CONSUMER, SHARED), 1);
	assert_int_equal(vgf_virgl_ctx_attach_resource(vmm->virgl, CONSUMER, 12), 1);
	submit_copy(vmm, CONSUMER, COPY, 12, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_int_equal(vmm->retired[1].status, 0);
	assert_int_equal(vmm->retired[2].status, 0);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
}

TEST_PAIR(transfer_stays_behind_held_work)
{
	uint64_t gate = create_test_fence(vmm);
	uint32_t pixels[SIDE * SIDE];
	struct iovec iov = { .iov_base = pixels, .iov_len = sizeof(pixels) };
	uint32_t box[6] = { 0, 0, 0, SIDE, SIDE, 1 };
	int done = 0;

	for (unsigned int i = 0; i < SIDE * SIDE; i++) {
		pixels[i] = GREEN;
	}
	/* Red goes to the copy, and only then green to what it was copied from. */
	submit_copy(vmm, CONSUMER, COPY, SHARED, gate);
	assert_int_equal(vgf_virgl_transfer_write_iov(vmm->virgl, SHARED, CONSUMER, 0, SIDE * 4, 0,
				 (struct virgl_box *)box, 0, &iov, 1, note_order, &done),
		1);
	memset(box, 0xff, sizeof(box));
	memset(&iov, 0xff, sizeof(iov));
	assert_int_equal(done, 0);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), RED);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 2);
	assert_int_equal(done, 1);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
}

/* ---- Ends --------------------------------------------------------------------------------- */

TEST_PAIR(destroyed_context_finishes_its_work)
{
	uint64_t gate = create_test_fence(vmm);
	uint64_t held = submit_fill(vmm, PRODUCER, SHARED, GREEN, gate);
	int done = 0;

	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, PRODUCER), 1);
	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, PRODUCER), -ENOENT);
	/* The ID is free, and the new context comes after the old one. */
	assert_int_equal(vgf_virgl_context_create(vmm->virgl, PRODUCER, 3, "new"), 1);
	assert_int_equal(vgf_virgl_ctx_attach_resource(vmm->virgl, PRODUCER, SHARED), 1);
	submit_fill(vmm, PRODUCER, SHARED, BLUE, 0);
	assert_int_equal(vgf_virgl_resource_defer(vmm->virgl, SHARED, note_order, &done), 1);
	submit_copy(vmm, CONSUMER, COPY, SHARED, held);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 4);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(vmm->retired[i].status, 0);
	}
	assert_virgl_retired(vmm, PRODUCER, 0, held, 0);
	assert_int_equal(done, 1);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), BLUE);
}

/* virglrenderer would forget them. */
TEST_PAIR(destroyed_context_keeps_the_fences_that_run)
{
	uint64_t first = vmm->last_id + 1;

	for (int i = 0; i < 20; i++) {
		submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);
	}
	assert_in_range(vgf_virgl_context_destroy(vmm->virgl, PRODUCER), 0, 1);
	virgl_vmm_wait(vmm, 20);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(assert_virgl_retired(vmm, PRODUCER, 0, first + i, 0), i);
	}
	assert_int_equal(read_pixel(vmm, CONSUMER, SHARED), GREEN);
}

TEST_PAIR(unref_waits_for_a_context_that_ends)
{
	uint64_t gate = create_test_fence(vmm);
	int done = 0;

	submit_copy(vmm, CONSUMER, COPY, SHARED, gate);
	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, CONSUMER), 1);
	assert_int_equal(vgf_virgl_resource_unref(vmm->virgl, SHARED, note_order, &done), 1);
	virgl_vmm_run(vmm, 5);
	assert_int_equal(done, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 2);
	assert_int_equal(vmm->retired[1].status, 0);
	virgl_vmm_run(vmm, 5);
	assert_int_equal(done, 1);
}

static void note_cancelled(void *arg, int status)
{
	int *done = arg;

	assert_int_equal(status, -ECANCELED);
	*done += 1;
}

static void load_everything(struct virgl_vmm *vmm, int *done)
{
	uint64_t gate = create_test_fence(vmm);

	for (int i = 0; i < 10; i++) {
		submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);
		assert_int_equal(vgf_virgl_create_fence(vmm->virgl, ++vmm->last_id, 0, 0), 0);
	}
	for (int i = 0; i < 10; i++) {
		submit_copy(vmm, CONSUMER, COPY, SHARED, gate);
	}
	assert_int_equal(vgf_virgl_ctx_detach_resource(vmm->virgl, CONSUMER, COPY), 1);
	assert_int_equal(vgf_virgl_resource_unref(vmm->virgl, COPY, note_cancelled, done), 1);
	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, CONSUMER), 1);
	assert_int_equal(vgf_virgl_context_create(vmm->virgl, CONSUMER, 3, "new"), 1);
	assert_int_equal(vgf_virgl_resource_unref(vmm->virgl, SHARED, note_cancelled, done), 1);
}

TEST_PAIR(reset_retires_everything)
{
	for (unsigned int round = 1; round <= 3; round++) {
		uint64_t id;
		int done = 0;
		load_everything(vmm, &done);
		assert_int_equal(vgf_virgl_reset(vmm->virgl), 0);
		assert_int_equal(vmm->num_retired, 31);
		assert_int_equal(done, 2);
		assert_int_equal(vgf_device_list_pending(vmm->device, NULL, 0), 0);
		/* IDs start again, and everything works. */
		vmm->num_retired = 0;
		vmm->last_id = 0;
		create_gl_context(vmm, PRODUCER);
		create_gl_context(vmm, CONSUMER);
		create_texture(vmm, SHARED, PRODUCER, CONSUMER, 0);
		create_texture(vmm, COPY, CONSUMER, 0);
		id = submit_fill(vmm, PRODUCER, SHARED, BLUE, 0);
		submit_copy(vmm, CONSUMER, COPY, SHARED, id);
		virgl_vmm_wait(vmm, 2);
		assert_int_equal(read_pixel(vmm, CONSUMER, COPY), BLUE);
		vmm->num_retired = 0;
	}
}

TEST(cleanup_retires_everything)
{
	struct virgl_vmm *vmm = create_pair();
	int done = 0;

	load_everything(vmm, &done);
	assert_int_equal(virgl_vmm_destroy(vmm), 31);
	assert_int_equal(done, 2);
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

struct calls {
	unsigned int global, context, drm;
	uint32_t last_global;
	uint64_t last_context;
};

static void count_fence(void *cookie, uint32_t fence)
{
	struct calls *calls = cookie;

	calls->global++;
	calls->last_global = fence;
}

static void count_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	struct calls *calls = cookie;

	assert_int_equal(ctx_id, PRODUCER);
	assert_int_equal(ring_idx, 0);
	calls->context++;
	calls->last_context = fence_id;
}

static int count_drm_fd(void *cookie)
{
	struct calls *calls = cookie;

	calls->drm++;
	return -1;
}

/* What is behind the end of the version's struct must not be read. */
static struct virgl_renderer_callbacks *make_callbacks(int version)
{
	static const size_t sizes[] = {
		0,
		offsetof(struct virgl_renderer_callbacks, get_drm_fd),
		offsetof(struct virgl_renderer_callbacks, write_context_fence),
		offsetof(struct virgl_renderer_callbacks, get_egl_display),
		sizeof(struct virgl_renderer_callbacks),
	};
	struct virgl_renderer_callbacks all = {
		.version = version,
		.write_fence = count_fence,
		.get_drm_fd = count_drm_fd,
		.write_context_fence = count_context_fence,
	};
	struct virgl_renderer_callbacks *callbacks = malloc(sizeof(all));

	assert_non_null(callbacks);
	memset(callbacks, 0x5a, sizeof(all));
	memcpy(callbacks, &all, sizes[version]);
	return callbacks;
}

static void submit_fence(struct virgl_vmm *vmm, uint64_t id, bool can_retire)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = PRODUCER },
		.flags = VGF_FENCED,
	};
	bool will_retire = !can_retire;

	assert_int_equal(
		vgf_virgl_submit(vmm->virgl, &submission, &will_retire), can_retire ? 0 : -EINVAL);
	assert_int_equal(will_retire, can_retire);
	assert_int_equal(
		vgf_virgl_submit(vmm->virgl, &submission, NULL), -EINVAL); /* this ID, again */
}

static void run_version(int version)
{
	struct virgl_renderer_callbacks *callbacks = make_callbacks(version);
	struct calls calls = { 0 };
	struct virgl_vmm vmm = { 0 };

	assert_int_equal(vgf_virgl_init(&calls, flags_now, callbacks, NULL, &vmm.virgl), 0);
	free(callbacks); /* it was copied */
	create_gl_context(&vmm, PRODUCER);
	/* Past 32 bits, too. */
	assert_int_equal(vgf_virgl_create_fence(vmm.virgl, 7, PRODUCER, 0), 0);
	assert_int_equal(vgf_virgl_create_fence(vmm.virgl, 0x100000008, 0, 0), 0);
	assert_int_equal(vgf_virgl_context_create_fence(vmm.virgl, PRODUCER, 0, 0, 0x200000001),
		version >= 3 ? 0 : -EINVAL);
	submit_fence(&vmm, 0x200000002, version >= 3);
	while (calls.global < 2 || (version >= 3 && calls.context < 2)) {
		virgl_vmm_run(&vmm, 1);
	}
	assert_int_equal(calls.last_global, 8);
	assert_int_equal(calls.last_context, version >= 3 ? 0x200000002 : 0);
	assert_int_equal(calls.drm > 0, version >= 2);
	vgf_virgl_cleanup(vmm.virgl);
}

TEST(takes_callbacks_of_every_version)
{
	for (int version = 1; version <= 4; version++) {
		run_version(version);
	}
}

static bool is_in_gl;
static unsigned int num_entered;

static void note_enter(void *cookie)
{
	(void)cookie;
	assert_false(is_in_gl);
	is_in_gl = true;
	num_entered++;
}

static void note_leave(void *cookie)
{
	(void)cookie;
	assert_true(is_in_gl);
	is_in_gl = false;
}

TEST(refuses_bad_callbacks)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1 };
	const struct vgf_options device = { .size = sizeof(device), .own_thread = true };
	const struct vgf_virgl_options threaded = { .size = sizeof(threaded), .device = &device };
	const struct vgf_virgl_options half = { .size = sizeof(half), .enter_gl = note_enter };
	struct vgf_virgl *virgl;

	assert_int_equal(vgf_virgl_init(&callbacks, flags_now, NULL, NULL, &virgl), -EINVAL);
	assert_int_equal(vgf_virgl_init(&callbacks, flags_now, &callbacks, NULL, &virgl), -EINVAL);
	assert_null(virgl);
	callbacks.write_fence = count_fence;
	callbacks.version = 0;
	assert_int_equal(vgf_virgl_init(&callbacks, flags_now, &callbacks, NULL, &virgl), -EINVAL);
	callbacks.version = 1000;
	assert_int_equal(vgf_virgl_init(&callbacks, flags_now, &callbacks, NULL, &virgl), -EINVAL);
	callbacks.version = 1;
	assert_int_equal(
		vgf_virgl_init(&callbacks, flags_now, &callbacks, &threaded, &virgl), -EINVAL);
	assert_int_equal(vgf_virgl_init(&callbacks, flags_now, &callbacks, &half, &virgl), -EINVAL);
}

static void count_outside(void *cookie, uint32_t fence)
{
	assert_false(is_in_gl);
	count_fence(cookie, fence);
}

/* Around a context, commands, a fence and a transfer, and not where something is called back. */
TEST(tells_when_it_is_in_gl)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1, .write_fence = count_outside };
	const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.enter_gl = note_enter,
		.leave_gl = note_leave,
		.own_display = true,
	};
	struct calls calls = { 0 };
	struct virgl_vmm vmm = { 0 };

	num_entered = 0;
	assert_int_equal(vgf_virgl_init(&calls, flags_now, &callbacks, &options, &vmm.virgl), 0);
	create_gl_context(&vmm, PRODUCER);
	create_texture(&vmm, SHARED, PRODUCER, 0);
	assert_int_equal(num_entered, 1);
	fill_now(&vmm, PRODUCER, SHARED, GREEN);
	assert_true(num_entered > 1);
	num_entered = 0;
	assert_int_equal(vgf_virgl_create_fence(vmm.virgl, 7, PRODUCER, 0), 0);
	while (calls.global < 1) {
		virgl_vmm_run(&vmm, 1);
	}
	assert_int_not_equal(num_entered, 0);
	num_entered = 0;
	assert_int_equal(read_pixel(&vmm, PRODUCER, SHARED), GREEN);
	assert_int_not_equal(num_entered, 0);
	assert_false(is_in_gl);
	vgf_virgl_cleanup(vmm.virgl);
}

TEST_PAIR(one_plugin_at_a_time)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1, .write_fence = count_fence };
	struct vgf_virgl *virgl;

	assert_int_equal(vgf_virgl_init(&callbacks, flags_now, &callbacks, NULL, &virgl), -EBUSY);
	assert_null(virgl);
	/* The first goes on. */
	submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);
	virgl_vmm_wait(vmm, 1);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
}

/* ---- Load --------------------------------------------------------------------------------- */

#define LOAD_CONTEXTS 8
#define DEFAULT_SUBMISSIONS 10000

/* All of them with each way to wait, fewer where a way differs in little. */
static unsigned int load_jobs(void)
{
	const char *text = getenv("VGF_TEST_SUBMISSIONS");
	unsigned int jobs = text ? (unsigned int)strtoul(text, NULL, 0) : DEFAULT_SUBMISSIONS;

	return flags_now == FLAGS_ASYNC ? jobs : jobs / 10;
}

static uint32_t random_number(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Each context's fences came in order and once. */
static void check_load(const struct virgl_vmm *vmm)
{
	uint64_t last[LOAD_CONTEXTS + 1] = { 0 };

	assert_int_equal(vmm->num_retired, load_jobs());
	for (unsigned int i = 0; i < vmm->num_retired; i++) {
		const struct vgf_fence_name *name = &vmm->retired[i].name;
		assert_int_equal(vmm->retired[i].status, 0);
		assert_in_range(name->ctx_id, 1, LOAD_CONTEXTS);
		assert_true(name->fence_id > last[name->ctx_id]);
		last[name->ctx_id] = name->fence_id;
	}
}

/* A dependency has signalled before what names it runs, so it retires no later than in the same
 * batch. Within that, timelines have no order. */
static void check_dependencies(const struct virgl_vmm *vmm, const uint64_t *in_fences)
{
	unsigned int *batch = calloc(vmm->num_retired + 1, sizeof(*batch));

	assert_non_null(batch);
	for (unsigned int i = 0; i < vmm->num_retired; i++) {
		batch[vmm->retired[i].name.fence_id] = vmm->retired[i].batch;
	}
	for (unsigned int id = 1; id <= vmm->num_retired; id++) {
		if (in_fences[id] != 0) {
			assert_true(batch[in_fences[id]] <= batch[id]);
		}
	}
	free(batch);
}

TEST(many_submissions_with_random_dependencies)
{
	struct virgl_vmm *vmm = virgl_vmm_create(flags_now, wait_now);
	unsigned int jobs = load_jobs();
	uint64_t *in_fences = calloc(jobs + 1, sizeof(*in_fences));
	uint32_t seed = 1;

	assert_non_null(in_fences);
	for (uint32_t ctx_id = 1; ctx_id <= LOAD_CONTEXTS; ctx_id++) {
		create_gl_context(vmm, ctx_id);
		create_texture(vmm, ctx_id, ctx_id, 0);
	}
	for (unsigned int id = 1; id <= jobs; id++) {
		uint32_t ctx_id = 1 + random_number(&seed) % LOAD_CONTEXTS;
		uint32_t back = random_number(&seed) % 32;
		in_fences[id] = back > 0 && back < id ? id - back : 0;
		submit_fill(vmm, ctx_id, ctx_id, RED, in_fences[id]);
		if (id % 64 == 0) {
			virgl_vmm_wait(vmm, id > 512 ? id - 512 : 0);
		}
	}
	virgl_vmm_wait(vmm, jobs);
	virgl_vmm_run(vmm, 5);
	check_load(vmm);
	check_dependencies(vmm, in_fences);
	free(in_fences);
	virgl_vmm_destroy(vmm);
}

/* ---- */

static const struct way {
	const char *name;
	int flags;
	enum vgf_virgl_wait wait;
} ways[] = {
	{ "host wait, asked", FLAGS_PLAIN, VGF_VIRGL_WAIT_HOST },
	{ "host wait, THREAD_SYNC", FLAGS_THREAD, VGF_VIRGL_WAIT_HOST },
	{ "host wait, ASYNC_FENCE_CB", FLAGS_ASYNC, VGF_VIRGL_WAIT_HOST },
	{ "GL wait, THREAD_SYNC", FLAGS_THREAD, VGF_VIRGL_WAIT_GL },
	{ "GL wait, ASYNC_FENCE_CB", FLAGS_ASYNC, VGF_VIRGL_WAIT_GL },
};

/* Returns how many tests failed. */
static int run_way(char *argv[], const struct way *way)
{
	printf("ran: pixels, %s\n", way->name);
	flags_now = way->flags;
	wait_now = way->wait;
	return run_registered_tests(argv);
}

int main(int argc, char *argv[])
{
	const char *wanted = getenv("VGF_TEST_WAYS");
	bool has_run = false;
	int failed = 0;

	print_renderer();
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (wanted && !strstr(ways[i].name, wanted)) {
			continue;
		}
		/* Not asked before: who asks has virglrenderer's thread call back, for good. */
		if (ways[i].wait == VGF_VIRGL_WAIT_GL && !has_gl_wait()) {
			break;
		}
		failed += run_way(argv, &ways[i]);
		has_run = true;
	}
	if (!has_run) {
		printf("skipped: none of the ways that VGF_TEST_WAYS asks for, '%s'\n", wanted);
		return 77;
	}
	return failed;
}
