/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Work that OpenGL has done by the time that it was submitted: its fence needs no thread to wake
 * up. And work that is not done is not taken for that.
 */

#include "virgl_vmm.h"

#include <sys/uio.h>
#include <unistd.h>

enum {
	CONTEXT = 1,
	BUFFER = 12,
	QUERY = 1,
	FORMAT_R8 = 64,
	BIND_CUSTOM = 1 << 17,
	QUERY_WAITS = 2, /* what a guest writes, and what virglrenderer does */
	QUERY_DONE = 1,
	STARTED_US = 5000,
	HANG_S = 100, /* far less than a test has */
};

struct query_state {
	uint32_t state;
	uint32_t result_size;
	uint64_t result;
};

static struct virgl_vmm *begin(void)
{
	struct virgl_vmm *vmm = virgl_vmm_create(FLAGS_ASYNC, VGF_VIRGL_WAIT_HOST);

	create_gl_context(vmm, CONTEXT);
	create_work(vmm, CONTEXT);
	return vmm;
}

static void submit_nop(struct virgl_vmm *vmm)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	assert_int_equal(submit_stream(vmm, CONTEXT, &stream, 0), 0);
}

/* ---- Done, or not ------------------------------------------------------------------------- */

/* The plugin is polled once, without waiting for anything. */
TEST(a_fence_behind_nothing_retires_at_once)
{
	struct virgl_vmm *vmm = begin();

	virgl_vmm_do_work(vmm, CONTEXT); /* nothing of it is left */
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

	if (!work_is_long(vmm, CONTEXT)) {
		virgl_vmm_destroy(vmm);
		skip();
	}
	before = vmm->num_retired;
	gl_stream_begin(&stream);
	put_work(&stream);
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
	assert_true(vgf_virgl_ctx_attach_resource(vmm->virgl, CONTEXT, BUFFER) >= 0);
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
	virgl_vmm_do_work(vmm, CONTEXT);
	before = vmm->num_retired;
	gl_stream_begin(&stream);
	gl_stream_begin_query(&stream, QUERY, BUFFER);
	put_work(&stream);
	gl_stream_end_query(&stream, QUERY);
	assert_int_equal(
		vgf_virgl_submit_cmd(vmm->virgl, stream.words, CONTEXT, (int)stream.count), 0);
	assert_int_equal(read_pixel(vmm, CONTEXT, WORK_TARGET), WORK_COLOR);
	assert_int_not_equal(state.state, QUERY_DONE); /* or this shows nothing */
	submit_nop(vmm);
	virgl_vmm_wait(vmm, before + 1);
	assert_int_equal(state.state, QUERY_DONE);
	virgl_renderer_resource_detach_iov(BUFFER, NULL, NULL);
	virgl_vmm_destroy(vmm);
}

/* virglrenderer's thread waits to be polled for the query before it goes on, also when it is told
 * to end. Unless it is polled, neither ends. */
static void reset_with_query(int (*reset)(struct vgf_virgl *virgl))
{
	struct query_state state = { .state = QUERY_WAITS };
	struct iovec iov = { .iov_base = &state, .iov_len = sizeof(state) };
	struct virgl_vmm *vmm = begin();
	struct gl_stream stream;

	create_buffer(vmm, &iov);
	virgl_vmm_do_work(vmm, CONTEXT);
	gl_stream_begin(&stream);
	gl_stream_begin_query(&stream, QUERY, BUFFER);
	put_work(&stream);
	gl_stream_end_query(&stream, QUERY);
	assert_int_equal(submit_stream(vmm, CONTEXT, &stream, 0), 0);
	usleep(STARTED_US); /* the thread has come to the fence */
	alarm(HANG_S);
	if (reset) {
		assert_int_equal(reset(vmm->virgl), 0);
	}
	virgl_vmm_destroy(vmm);
	alarm(0);
}

TEST(a_reset_ends_though_a_query_is_waited_for)
{
	reset_with_query(vgf_virgl_reset);
}

TEST(so_does_the_end)
{
	reset_with_query(NULL);
}

int main(int argc, char *argv[])
{
	print_renderer();
	return run_registered_tests(argv);
}
