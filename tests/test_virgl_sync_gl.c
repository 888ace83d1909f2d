/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * GL contexts of the plugin that wait for each other in OpenGL, where it has no native fences. What
 * else there is to it, test_virgl_sync.c has with doubles.
 */

#include "virgl_vmm.h"

#include <stdio.h>
#include <string.h>

#include <epoxy/gl.h>

#define RED PIXEL(255, 0, 0, 255)
#define GREEN PIXEL(0, 255, 0, 255)
#define BLUE PIXEL(0, 0, 255, 255)

enum {
	PRODUCER = 1,
	CONSUMER = 2,
	SHARED = 10,
	COPY = 11,
};

/* The producer's textures are ready for long work. */
static struct virgl_vmm *create_pair(enum vgf_virgl_wait wait)
{
	struct virgl_vmm *vmm = virgl_vmm_create(FLAGS_ASYNC, wait);

	create_gl_context(vmm, PRODUCER);
	create_gl_context(vmm, CONSUMER);
	create_work(vmm, PRODUCER);
	create_texture(vmm, SHARED, PRODUCER, CONSUMER, 0);
	create_texture(vmm, COPY, CONSUMER, 0);
	fill_now(vmm, PRODUCER, SHARED, RED);
	fill_now(vmm, CONSUMER, COPY, BLUE);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), RED);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), BLUE);
	return vmm;
}

#define TEST_PAIR(name, wait)                                                                      \
	TEST_WITH(name, struct virgl_vmm *, vmm, create_pair(wait), virgl_vmm_destroy(vmm))

/* What takes long, and then GREEN. Returns its fence's ID. */
static uint64_t submit_long(struct virgl_vmm *vmm)
{
	struct gl_stream stream;
	struct vgf_submission submission = {
		.fence = { .fence_id = ++vmm->last_id, .ctx_id = PRODUCER },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.command = stream.words,
	};

	gl_stream_begin(&stream);
	put_work(&stream);
	gl_stream_fill(&stream, SHARED, GREEN);
	submission.size = stream.count * sizeof(stream.words[0]);
	assert_int_equal(vgf_virgl_submit(vmm->virgl, &submission, NULL), 0);
	return submission.fence.fence_id;
}

/* Returns what vgf_virgl_submit does. */
static int copy_behind(struct virgl_vmm *vmm, uint64_t in_fence)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_copy(&stream, COPY, SHARED, SIDE, SIDE);
	return submit_stream(vmm, CONSUMER, &stream, in_fence);
}

/* ---- Where it waits ----------------------------------------------------------------------- */

/* Behind what the producer was told: its GL context is current. */
static GLsync make_sync(void)
{
	GLsync sync = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);

	assert_non_null(sync);
	glFlush();
	return sync;
}

static bool take_is_done(GLsync sync)
{
	GLenum status = glClientWaitSync(sync, 0, 0);

	glDeleteSync(sync);
	return status == GL_ALREADY_SIGNALED;
}

static bool is_software(void)
{
	const char *renderer = (const char *)glGetString(GL_RENDERER);

	return renderer && strncmp(renderer, "llvmpipe", 8) == 0;
}

/* llvmpipe has the thread wait that has it wait: when that goes on, the work is done. */
TEST_PAIR(the_consumer_waits_in_opengl, VGF_VIRGL_WAIT_GL)
{
	uint64_t produced = submit_long(vmm);
	GLsync sync = make_sync();
	bool done;

	submit_fill(vmm, CONSUMER, COPY, BLUE, produced);
	done = take_is_done(sync);
	assert_true(done || !is_software());
	assert_in_range(copy_behind(vmm, produced), 0, 1);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
	assert_int_equal(virgl_vmm_stats(vmm).run_host, 0);
	assert_int_equal(virgl_vmm_stats(vmm).peak_fds, 0);
}

/* The control. That the work is done by chance is not always so. */
TEST_PAIR(a_consumer_without_an_in_fence_does_not_wait, VGF_VIRGL_WAIT_GL)
{
	bool done = true;

	for (int i = 0; i < 20 && done; i++) {
		GLsync sync;

		submit_long(vmm);
		sync = make_sync();
		submit_fill(vmm, CONSUMER, COPY, BLUE, 0);
		done = take_is_done(sync);
		virgl_vmm_wait(vmm, vmm->num_retired + 2);
	}
	assert_false(done);
}

/* Where it waits depends on the machine; what it sees does not. */
TEST_PAIR(what_the_consumer_sees_is_right_wherever_it_waits, VGF_VIRGL_WAIT_AUTO)
{
	const unsigned int rounds = 50;
	struct vgf_stats stats;

	for (unsigned int i = 0; i < rounds; i++) {
		uint32_t pixel = PIXEL(i, 255 - i, 7, 255);
		uint64_t produced = submit_fill(vmm, PRODUCER, SHARED, pixel, vmm->last_id);
		assert_in_range(copy_behind(vmm, produced), 0, 1);
		assert_int_equal(read_pixel(vmm, CONSUMER, COPY), pixel);
	}
	virgl_vmm_wait(vmm, 2 * rounds);
	stats = virgl_vmm_stats(vmm);
	printf("ran: %u in OpenGL, %u on the host, %u done before\n", (unsigned int)stats.run_gl,
		(unsigned int)stats.run_host, (unsigned int)stats.run_ready);
}

TEST_PAIR(long_work_is_waited_for, VGF_VIRGL_WAIT_AUTO)
{
	uint64_t produced = submit_long(vmm);

	assert_in_range(copy_behind(vmm, produced), 0, 1);
	virgl_vmm_wait(vmm, 2);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
	assert_int_equal(virgl_vmm_stats(vmm).failed, 0);
}

int main(int argc, char *argv[])
{
	struct virgl_vmm *vmm;
	uint32_t features;

	print_renderer();
	vmm = virgl_vmm_create(FLAGS_ASYNC, VGF_VIRGL_WAIT_GL);
	features = vgf_virgl_get_features(vmm->virgl);
	virgl_vmm_destroy(vmm);
	if (!(features & VGF_VIRGL_GL_SYNCS)) {
		printf("skipped: %s\n",
			features & VGF_VIRGL_EGL_FENCES ?
				"here the GL server waits for sync files" :
				"this OpenGL has no sync objects");
		return 77;
	}
	return run_registered_tests(argv);
}
