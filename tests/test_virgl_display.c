/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The plugin's own EGL display, for a VMM that gives virglrenderer none. */

#include "virgl_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define GREEN PIXEL(0, 255, 0, 255)
#define BLUE PIXEL(0, 0, 255, 255)
#define THREADS (VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)

enum { PRODUCER = 1, CONSUMER = 2, SHARED = 10, COPY = 11 };

static void draw(struct virgl_vmm *vmm)
{
	uint64_t gate, produced;

	create_gl_context(vmm, PRODUCER);
	create_gl_context(vmm, CONSUMER);
	create_texture(vmm, SHARED, PRODUCER, CONSUMER, 0);
	create_texture(vmm, COPY, CONSUMER, 0);
	fill_now(vmm, CONSUMER, COPY, BLUE);
	gate = create_test_fence(vmm);
	produced = submit_fill(vmm, PRODUCER, SHARED, GREEN, gate);
	submit_copy(vmm, CONSUMER, COPY, SHARED, produced);
	assert_int_equal(vmm->num_retired, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_int_equal(read_pixel(vmm, CONSUMER, COPY), GREEN);
}

TEST(draws_on_a_display_of_its_own)
{
	/* 0.10.4 calls back from its thread for good if it ever did. */
	static const int flags[] = {
		0,
		VIRGL_RENDERER_USE_SURFACELESS,
		THREADS,
		VIRGL_RENDERER_USE_SURFACELESS | THREADS,
	};

	for (unsigned int i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct virgl_vmm *vmm = virgl_vmm_create(flags[i], VGF_VIRGL_WAIT_AUTO);
		draw(vmm);
		virgl_vmm_destroy(vmm);
	}
}

/* virglrenderer is started again in it, or not. */
TEST(draws_after_a_reset)
{
	struct virgl_vmm *vmm = virgl_vmm_create(THREADS, VGF_VIRGL_WAIT_AUTO);

	create_gl_context(vmm, PRODUCER);
	assert_int_equal(vgf_virgl_reset(vmm->virgl), 0);
	vmm->num_retired = 0;
	draw(vmm);
	virgl_vmm_destroy(vmm);
}

TEST(gl_waits_as_on_virglrenderers_display)
{
	bool has = has_gl_wait();
	struct virgl_vmm *vmm = virgl_vmm_create(
		VIRGL_RENDERER_USE_SURFACELESS | THREADS, VGF_VIRGL_WAIT_GL);

	assert_int_equal(!!(vgf_virgl_get_features(vmm->virgl) & VGF_VIRGL_EGL_FENCES), has);
	virgl_vmm_destroy(vmm);
}

/* ---- What the VMM gives wins -------------------------------------------------------------- */

static unsigned int num_asked;

static void ignore_fence(void *cookie, uint32_t fence)
{
}

static virgl_renderer_gl_context refuse_context(
	void *cookie, int scanout_idx, struct virgl_renderer_gl_ctx_param *param)
{
	num_asked++;
	return NULL;
}

static void ignore_context(void *cookie, virgl_renderer_gl_context context)
{
}

static int make_nothing_current(void *cookie, int scanout_idx, virgl_renderer_gl_context context)
{
	return 0;
}

static void *refuse_display(void *cookie)
{
	num_asked++;
	return NULL;
}

static int init(struct virgl_renderer_callbacks *callbacks, int flags)
{
	const struct vgf_virgl_options options = { .size = sizeof(options), .own_display = true };
	struct vgf_virgl *virgl;
	int ret;

	num_asked = 0;
	ret = vgf_virgl_init(callbacks, flags, callbacks, &options, &virgl);
	if (ret == 0) {
		vgf_virgl_cleanup(virgl);
	}
	return ret;
}

TEST(asks_the_vmm_for_its_display)
{
	struct virgl_renderer_callbacks callbacks = {
		.version = 4,
		.write_fence = ignore_fence,
		.create_gl_context = refuse_context,
		.destroy_gl_context = ignore_context,
		.make_current = make_nothing_current,
		.get_egl_display = refuse_display,
	};

	assert_true(init(&callbacks, THREADS) < 0);
	assert_int_equal(num_asked, 1);
}

static int give_null_device(void *cookie)
{
	num_asked++;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

TEST(takes_no_other_node_than_the_vmms)
{
	struct virgl_renderer_callbacks callbacks = {
		.version = 2,
		.write_fence = ignore_fence,
		.get_drm_fd = give_null_device,
	};

	assert_int_equal(init(&callbacks, THREADS), -ENODEV);
	assert_int_equal(num_asked, 1);
	/* It is not asked if virglrenderer is surfaceless. */
	assert_int_equal(init(&callbacks, THREADS | VIRGL_RENDERER_USE_SURFACELESS), 0);
}

/* EGL has one surfaceless display in a process. */
TEST(a_plugin_that_is_refused_leaves_the_first_ones_display)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1, .write_fence = ignore_fence };
	struct virgl_vmm *vmm = virgl_vmm_create(THREADS, VGF_VIRGL_WAIT_AUTO);

	assert_int_equal(init(&callbacks, THREADS), -EBUSY);
	draw(vmm);
	virgl_vmm_destroy(vmm);
}

int main(int argc, char *argv[])
{
	if (!(vgf_virgl_get_features(NULL) & VGF_VIRGL_OWN_DISPLAY)) {
		printf("skipped: own display: built without EGL or gbm\n");
		return 77;
	}
	print_renderer();
	printf("ran: pixels, own display\n");
	/* A display is initialised once for the first test, and keeps what it needs. */
	virgl_vmm_destroy(virgl_vmm_create(0, VGF_VIRGL_WAIT_AUTO));
	return run_registered_tests(argv);
}
