/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* GL contexts of the plugin wait for real sync files, in the GL server or on the host. Needs a
 * kernel with sw_sync; the GL server needs EGL_ANDROID_native_fence_sync. */

#include "calls.h"
#include "virgl_vmm.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/sync_file.h>

#include "sw_sync.h"

#define RED PIXEL(255, 0, 0, 255)
#define GREEN PIXEL(0, 255, 0, 255)
#define BLUE PIXEL(0, 0, 255, 255)

enum {
	PRODUCER = 1,
	CONSUMER = 2,
	SHARED = 10,
	COPY = 11,
	GATE_ID = 1,
};

static enum vgf_virgl_wait wait_now;

static bool gl_waits(struct virgl_vmm *vmm)
{
	return vgf_virgl_get_features(vmm->virgl) & VGF_VIRGL_EGL_FENCES;
}

/* ---- A sync file that signals by itself --------------------------------------------------- */

/* llvmpipe waits in the thread that asks for it, so another has to signal. */
struct gate {
	int timeline_fd;
	unsigned int delay_ms;
	pthread_t thread;
};

static void *signal_later(void *arg)
{
	struct gate *gate = arg;
	const struct timespec delay = { .tv_nsec = gate->delay_ms * 1000000L };

	nanosleep(&delay, NULL);
	sw_sync_advance(gate->timeline_fd, 1);
	return NULL;
}

static void gate_open_later(struct gate *gate, struct virgl_vmm *vmm, unsigned int delay_ms)
{
	const struct vgf_fence_name name = { .fence_id = GATE_ID, .ring = VGF_RING_GLOBAL };
	int fence_fd;

	gate->timeline_fd = sw_sync_timeline();
	assert_true(gate->timeline_fd >= 0);
	fence_fd = sw_sync_fence(gate->timeline_fd, 1);
	assert_true(fence_fd >= 0);
	assert_int_equal(create_take(vmm->device, &name, VGF_SHAREABLE, fence_fd), 0);
	vmm->last_id = GATE_ID;
	gate->delay_ms = delay_ms;
	assert_int_equal(pthread_create(&gate->thread, NULL, signal_later, gate), 0);
}

static void gate_finish(struct gate *gate)
{
	pthread_join(gate->thread, NULL);
	close(gate->timeline_fd);
}

/* ---- */

static struct virgl_vmm *create_pair(void)
{
	struct virgl_vmm *vmm = virgl_vmm_create(FLAGS_ASYNC, wait_now);

	create_gl_context(vmm, PRODUCER);
	create_gl_context(vmm, CONSUMER);
	create_texture(vmm, SHARED, PRODUCER, CONSUMER, 0);
	create_texture(vmm, COPY, CONSUMER, 0);
	fill_now(vmm, PRODUCER, SHARED, RED);
	fill_now(vmm, CONSUMER, COPY, BLUE);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), RED);
	return vmm;
}

#define TEST_PAIR(name)                                                                            \
	TEST_WITH(name, struct virgl_vmm *, vmm, create_pair(), virgl_vmm_destroy(vmm))

TEST(consumer_sees_what_came_after_a_sync_file)
{
	struct virgl_vmm *vmm = create_pair();
	uint64_t ready = virgl_vmm_stats(vmm).run_ready;
	struct gate gate;
	uint64_t produced, consumed;

	gate_open_later(&gate, vmm, 50);
	produced = submit_fill(vmm, PRODUCER, SHARED, GREEN, GATE_ID);
	consumed = submit_copy(vmm, CONSUMER, COPY, SHARED, produced);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, PRODUCER, 0, produced, 0);
	assert_virgl_retired(vmm, CONSUMER, 0, consumed, 0);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
	if (gl_waits(vmm)) {
		/* By the time of the second the first may be done. */
		assert_in_range(virgl_vmm_stats(vmm).run_gl, 1, 2);
		assert_int_equal(
			virgl_vmm_stats(vmm).run_gl + virgl_vmm_stats(vmm).run_ready, ready + 2);
	} else {
		assert_int_equal(virgl_vmm_stats(vmm).run_host, 2);
	}
	virgl_vmm_destroy(vmm);
	gate_finish(&gate);
}

/* The control. */
TEST(consumer_that_does_not_wait_sees_the_old_pixel)
{
	struct virgl_vmm *vmm = create_pair();
	struct gate gate;

	if (gl_waits(vmm)) {
		/* llvmpipe would wait with the producer, and the consumer would come after it. */
		virgl_vmm_destroy(vmm);
		skip();
	}
	gate_open_later(&gate, vmm, 50);
	submit_fill(vmm, PRODUCER, SHARED, GREEN, GATE_ID);
	submit_copy(vmm, CONSUMER, COPY, SHARED, 0);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
	virgl_vmm_wait(vmm, 3);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), RED);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
	virgl_vmm_destroy(vmm);
	gate_finish(&gate);
}

TEST(shareable_work_has_a_sync_file)
{
	struct virgl_vmm *vmm = create_pair();
	struct vgf_sync_file_fence fence;
	uint64_t id = submit_fill(vmm, PRODUCER, SHARED, GREEN, 0);
	int ret, fd;

	if (!gl_waits(vmm)) {
		ret = vgf_virgl_export_fence(vmm->virgl, id, &fd);
		assert_true(ret == -EAGAIN || (ret == 0 && fd == -1));
		virgl_vmm_destroy(vmm);
		return;
	}
	/* It may be done already; then it is no longer there. */
	ret = vgf_virgl_export_fence(vmm->virgl, id, &fd);
	assert_int_equal(ret, 0);
	if (fd >= 0) {
		assert_true(vgf_sync_file_info(fd, &fence, 1) >= 0);
		assert_int_equal(vgf_sync_file_wait(fd, INT64_MAX), 0);
		close(fd);
	}
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, PRODUCER, 0, id, 0);
	virgl_vmm_destroy(vmm);
}

/* A descriptor that is no sync file cannot be given to GL. */
TEST_PAIR(other_descriptors_are_waited_for_on_the_host)
{
	const struct vgf_fence_name name = { .fence_id = GATE_ID, .ring = VGF_RING_GLOBAL };
	int fence_fd = make_fence(false);
	int copy = dup(fence_fd);

	assert_true(copy >= 0);
	assert_int_equal(create_take(vmm->device, &name, VGF_SHAREABLE, fence_fd), 0);
	vmm->last_id = GATE_ID;
	submit_fill(vmm, PRODUCER, SHARED, GREEN, GATE_ID);
	assert_int_equal(read_pixel(vmm, CONSUMER, SHARED), RED);
	assert_int_equal(virgl_vmm_stats(vmm).held, 1);
	signal_fence(copy);
	virgl_vmm_wait(vmm, 2);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
	assert_int_equal(virgl_vmm_stats(vmm).run_host, 1);
	close(copy);
}

/* A subcontext that is chosen in the middle of a stream would not wait. */
TEST(subcontexts_chosen_late_are_waited_for_on_the_host)
{
	struct virgl_vmm *vmm = create_pair();
	struct gl_stream stream;
	struct gate gate;

	gl_stream_begin(&stream);
	gl_stream_create_sub_ctx(&stream, 1);
	assert_int_equal(submit_stream(vmm, PRODUCER, &stream, 0), 0);
	virgl_vmm_wait(vmm, 1);
	gate_open_later(&gate, vmm, 50);
	vmm->last_id = 10;
	gl_stream_begin(&stream);
	gl_stream_set_sub_ctx(&stream, 0);
	gl_stream_fill(&stream, SHARED, BLUE);
	gl_stream_set_sub_ctx(&stream, 1);
	gl_stream_fill(&stream, SHARED, GREEN);
	assert_int_equal(submit_stream(vmm, PRODUCER, &stream, GATE_ID), 1);
	assert_int_equal(read_pixel(vmm, CONSUMER, SHARED), RED);
	virgl_vmm_wait(vmm, 3);
	assert_int_equal(read_pixel(vmm, PRODUCER, SHARED), GREEN);
	assert_int_equal(virgl_vmm_stats(vmm).run_gl, 0);
	assert_int_equal(virgl_vmm_stats(vmm).run_host, 1);
	virgl_vmm_destroy(vmm);
	gate_finish(&gate);
}

/* ---- */

/* Returns how many tests failed. */
static int run_way(char *argv[], const char *way, enum vgf_virgl_wait wait)
{
	printf("ran: sync files, %s\n", way);
	wait_now = wait;
	return run_registered_tests(argv);
}

int main(int argc, char *argv[])
{
	int timeline_fd = sw_sync_timeline();
	int failed = 0;

	if (timeline_fd < 0) {
		printf("skipped: this kernel has no sw_sync\n");
		return 77;
	}
	close(timeline_fd);
	print_renderer();
	if (has_gl_wait()) {
		failed += run_way(argv, "GL wait", VGF_VIRGL_WAIT_GL);
	}
	failed += run_way(argv, "host wait", VGF_VIRGL_WAIT_HOST);
	return failed;
}
