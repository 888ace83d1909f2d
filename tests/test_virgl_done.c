/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Work that OpenGL has done by the time that it was submitted: its fence needs no thread to wake
 * up. And work that is not done is not taken for that.
 */

#include "virgl_vmm.h"

#include <stdio.h>
#include <sys/uio.h>
#include <time.h>

#define COLOR PIXEL(10, 20, 30, 255)

enum {
	CONTEXT = 1,
	SOURCE = 10,
	TARGET = 11,
	BUFFER = 12,
	QUERY = 1,
	TARGET_SIDE = 2048,
	NUM_DRAWS = 8,
	LONG_MS = 20, /* what is longer cannot be done at once */
	TEXTURE_2D = 2,
	FORMAT_R8 = 64,
	BIND_CUSTOM = 1 << 17,
	QUERY_WAITS = 2, /* what a guest writes, and what virglrenderer does */
	QUERY_DONE = 1,
};

struct query_state {
	uint32_t state;
	uint32_t result_size;
	uint64_t result;
};

static void attach(struct virgl_vmm *vmm, uint32_t res_handle)
{
	assert_true(vgf_virgl_ctx_attach_resource(vmm->virgl, CONTEXT, (int)res_handle) >= 0);
}

static struct virgl_vmm *begin(void)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = TARGET,
		.target = TEXTURE_2D,
		.format = GL_STREAM_FORMAT,
		.bind = VIRGL_RES_BIND_RENDER_TARGET | VIRGL_RES_BIND_SAMPLER_VIEW,
		.width = TARGET_SIDE,
		.height = TARGET_SIDE,
		.depth = 1,
		.array_size = 1,
	};
	struct virgl_vmm *vmm = virgl_vmm_create(FLAGS_ASYNC, VGF_VIRGL_WAIT_HOST);

	create_gl_context(vmm, CONTEXT);
	create_texture(vmm, SOURCE, CONTEXT, 0);
	fill_now(vmm, CONTEXT, SOURCE, COLOR);
	assert_int_equal(virgl_renderer_resource_create(&args, NULL, 0), 0);
	attach(vmm, TARGET);
	return vmm;
}

static void submit_nop(struct virgl_vmm *vmm)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	assert_int_equal(submit_stream(vmm, CONTEXT, &stream, 0), 0);
}

static void put_draws(struct gl_stream *stream)
{
	const struct gl_stream_rect all = { 0, 0, TARGET_SIDE, TARGET_SIDE };

	for (int i = 0; i < NUM_DRAWS; i++) {
		gl_stream_draw(stream, TARGET, &all, SOURCE, SIDE, SIDE);
	}
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t time_draws(struct virgl_vmm *vmm)
{
	struct gl_stream stream;
	int64_t start = now_ms();

	gl_stream_begin(&stream);
	put_draws(&stream);
	assert_int_equal(submit_stream(vmm, CONTEXT, &stream, 0), 0);
	virgl_vmm_wait(vmm, vmm->num_retired + 1);
	return now_ms() - start;
}

/* ---- Done, or not ------------------------------------------------------------------------- */

/* The plugin is polled once, without waiting for anything. */
TEST(a_fence_behind_nothing_retires_at_once)
{
	struct virgl_vmm *vmm = begin();

	time_draws(vmm); /* nothing of it is left */
	for (unsigned int i = 0; i < 100; i++) {
		unsigned int before = vmm->num_retired;

		submit_nop(vmm);
		assert_true(vgf_virgl_poll(vmm->virgl) >= 0);
		assert_int_equal(vmm->num_retired, before + 1);
		assert_virgl_retired(vmm, CONTEXT, 0, vmm->last_id, 0);
	}
	virgl_vmm_destroy(vmm);
}

/* Nor does one behind it, though nothing of its own is left. */
TEST(a_fence_behind_work_does_not)
{
	struct virgl_vmm *vmm = begin();
	unsigned int before;
	struct gl_stream stream;
	int64_t ms;

	time_draws(vmm); /* its shaders are compiled */
	ms = time_draws(vmm);
	if (ms < LONG_MS) {
		printf("skipped: this GL draws it in %d ms, so it may be done at once\n", (int)ms);
		virgl_vmm_destroy(vmm);
		skip();
	}
	before = vmm->num_retired;
	gl_stream_begin(&stream);
	put_draws(&stream);
	assert_int_equal(submit_stream(vmm, CONTEXT, &stream, 0), 0);
	submit_nop(vmm);
	assert_true(vgf_virgl_poll(vmm->virgl) >= 0);
	assert_int_equal(vmm->num_retired, before);
	virgl_vmm_wait(vmm, before + 2);
	virgl_vmm_destroy(vmm);
}

/* ---- Queries ------------------------------------------------------------------------------ */

static void create_buffer(struct virgl_vmm *vmm, struct iovec *iov)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = BUFFER,
		.format = FORMAT_R8,
		.bind = BIND_CUSTOM,
		.width = (uint32_t)iov->iov_len,
		.height = 1,
		.depth = 1,
		.array_size = 1,
	};

	assert_int_equal(virgl_renderer_resource_create(&args, NULL, 0), 0);
	assert_int_equal(virgl_renderer_resource_attach_iov(BUFFER, iov, 1), 0);
	attach(vmm, BUFFER);
}

/* What was asked for before is written by the time that the fence retires. The work has no fence,
 * so nothing else makes virglrenderer look. It is done when its pixels are read. */
TEST(a_query_is_answered_before_the_fence)
{
	struct query_state state = { .state = QUERY_WAITS };
	struct iovec iov = { .iov_base = &state, .iov_len = sizeof(state) };
	struct virgl_vmm *vmm = begin();
	struct gl_stream stream;
	unsigned int before;

	create_buffer(vmm, &iov);
	time_draws(vmm);
	before = vmm->num_retired;
	gl_stream_begin(&stream);
	gl_stream_begin_query(&stream, QUERY, BUFFER);
	put_draws(&stream);
	gl_stream_end_query(&stream, QUERY);
	assert_int_equal(
		vgf_virgl_submit_cmd(vmm->virgl, stream.words, CONTEXT, (int)stream.count), 0);
	assert_int_equal(read_pixel(vmm, CONTEXT, TARGET), COLOR);
	assert_int_not_equal(state.state, QUERY_DONE); /* or this shows nothing */
	submit_nop(vmm);
	virgl_vmm_wait(vmm, before + 1);
	assert_int_equal(state.state, QUERY_DONE);
	virgl_renderer_resource_detach_iov(BUFFER, NULL, NULL);
	virgl_vmm_destroy(vmm);
}

int main(int argc, char *argv[])
{
	print_renderer();
	return run_registered_tests(argv);
}
