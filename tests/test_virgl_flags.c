/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * With and without virglrenderer's thread and its callbacks from there: each set of flags in a
 * process of its own, as 0.10.4 calls back from its thread for good if it ever did.
 */

#include "virgl_vmm.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define RED PIXEL(255, 0, 0, 255)
#define GREEN PIXEL(0, 255, 0, 255)

enum { PRODUCER = 1, CONSUMER = 2, SHARED = 10, COPY = 11 };

static void draw(struct virgl_vmm *vmm)
{
	unsigned int before = vmm->num_retired;
	uint64_t gate, produced;

	create_gl_context(vmm, PRODUCER);
	create_gl_context(vmm, CONSUMER);
	create_texture(vmm, SHARED, PRODUCER, CONSUMER, 0);
	create_texture(vmm, COPY, CONSUMER, 0);
	fill_now(vmm, PRODUCER, SHARED, RED);
	gate = create_test_fence(vmm);
	produced = submit_fill(vmm, PRODUCER, SHARED, GREEN, gate);
	submit_copy(vmm, CONSUMER, COPY, SHARED, produced);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, before + 3);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
}

/* A failed assertion would go on with the parent's tests: it ends the process here. */
static void draw_and_exit(int flags)
{
	struct virgl_vmm *vmm;

	setenv("CMOCKA_TEST_ABORT", "1", 1);
	vmm = virgl_vmm_create(flags, VGF_VIRGL_WAIT_AUTO);
	draw(vmm);
	assert_int_equal(vgf_virgl_reset(vmm->virgl), 0);
	draw(vmm);
	virgl_vmm_destroy(vmm);
	_exit(0);
}

static void draw_in_child(int flags)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		draw_and_exit(flags);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

TEST(asked)
{
	draw_in_child(FLAGS_PLAIN);
}

TEST(thread_sync)
{
	draw_in_child(FLAGS_THREAD);
}

TEST(thread_sync_and_async_fence_cb)
{
	draw_in_child(FLAGS_ASYNC);
}

TEST(async_fence_cb_alone)
{
	draw_in_child(FLAGS_PLAIN | VIRGL_RENDERER_ASYNC_FENCE_CB);
}

/* The flag is a hint. */
TEST(thread_sync_that_is_refused)
{
	setenv("VIRGL_DISABLE_MT", "1", 1);
	draw_in_child(FLAGS_THREAD);
	draw_in_child(FLAGS_ASYNC);
	unsetenv("VIRGL_DISABLE_MT");
}

int main(int argc, char *argv[])
{
	print_renderer();
	return run_registered_tests(argv);
}
