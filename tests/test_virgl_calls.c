/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What the plugin's functions return when something is wrong, and what is left as it was. A test
 * double is in virglrenderer's place (virgl_double.h).
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "calls.h"
#include "support.h"
#include "virgl_double.h"

#define FLAGS (VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define FLAGS_VENUS (FLAGS | VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER)
#define MAX_IDS 32
#define MAX_CONTEXTS 3
#define MAX_FENCES 4
#define MAX_HELD 8 /* a context may have a quarter of it */

enum { A = 1, B = 2, RESOURCE = 7, GATE = 1, LATE_GATE = 2 };

static struct vgf_virgl *virgl;
static struct {
	unsigned int count;
	int status;
} retired[MAX_IDS], ended;

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	(void)cookie;
	assert_true(fence->fence.fence_id < MAX_IDS);
	retired[fence->fence.fence_id].count++;
	retired[fence->fence.fence_id].status = fence->status;
}

static void note_end(void *arg, int status)
{
	(void)arg;
	ended.count++;
	ended.status = status;
}

static int start(int flags, struct virgl_renderer_callbacks *renderer_callbacks)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired };
	static const struct vgf_options device = { .size = sizeof(device),
		.budget_ns = UINT64_MAX,
		.limits = {
			.max_contexts = MAX_CONTEXTS,
			.max_fences = MAX_FENCES,
			.max_held = MAX_HELD,
		} };
	const struct vgf_virgl_options options = { .size = sizeof(options),
		.device = &device,
		.callbacks = &callbacks,
		.own_display = true };

	memset(retired, 0, sizeof(retired));
	memset(&ended, 0, sizeof(ended));
	return vgf_virgl_init(&virgl, flags, renderer_callbacks, &options, &virgl);
}

static void begin(int flags)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1 };

	assert_int_equal(start(flags, &callbacks), 0);
}

static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
	double_forget();
}

#define TEST_CALLS(name) TEST_BETWEEN(name, begin(FLAGS), finish())

static int create_context(uint32_t ctx_id)
{
	return vgf_virgl_context_create(virgl, ctx_id, 0, NULL);
}

static void create_gate(uint64_t id)
{
	const struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };

	assert_int_equal(
		create_take(vgf_virgl_get_device(virgl), &name, VGF_SHAREABLE, VGF_FENCE_BY_CALL),
		0);
}

static void open_gate(uint64_t id)
{
	const struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };

	assert_int_equal(vgf_fence_signal(vgf_virgl_get_device(virgl), &name, 0), 0);
	while (vgf_virgl_poll(virgl) > 0) {
	}
}

/* id: of its fence; 0: it has none. */
static int submit(uint32_t ctx_id, uint64_t id, uint64_t in_fence)
{
	static const uint32_t word;
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = ctx_id, .ring = 0 },
		.flags = id != 0 ? VGF_FENCED : 0,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
		.command = &word,
		.size = sizeof(word),
	};

	return vgf_virgl_submit(virgl, &submission, NULL);
}

static int read_resource(uint32_t ctx_id)
{
	uint32_t box[6] = { 0 };

	return vgf_virgl_transfer_read_iov(virgl, RESOURCE, ctx_id, 0, 0, 0,
		(struct virgl_box *)box, 0, NULL, 0, note_end, NULL);
}

static int write_resource(uint32_t ctx_id)
{
	uint32_t box[6] = { 0 };

	return vgf_virgl_transfer_write_iov(virgl, RESOURCE, ctx_id, 0, 0, 0,
		(struct virgl_box *)box, 0, NULL, 0, note_end, NULL);
}

static int attach(uint32_t ctx_id)
{
	return vgf_virgl_ctx_attach_resource(virgl, (int)ctx_id, RESOURCE);
}

/* ---- Threads -------------------------------------------------------------------------------- */

#ifndef NDEBUG
static void call_cleanup(void)
{
	vgf_virgl_cleanup(virgl);
}

static void call_reset(void)
{
	vgf_virgl_reset(virgl);
}

static void call_poll(void)
{
	vgf_virgl_poll(virgl);
}

static void call_context_create(void)
{
	create_context(A);
}

static void call_context_destroy(void)
{
	vgf_virgl_context_destroy(virgl, A);
}

static void call_submit(void)
{
	submit(A, 0, 0);
}

static void call_submit_cmd(void)
{
	uint32_t word = 0;

	vgf_virgl_submit_cmd(virgl, &word, A, 1);
}

static void call_context_create_fence(void)
{
	vgf_virgl_context_create_fence(virgl, A, 0, 0, 1);
}

static void call_create_fence(void)
{
	vgf_virgl_create_fence(virgl, 1, 0, 0);
}

static void call_export_fence(void)
{
	int fd;

	vgf_virgl_export_fence(virgl, 1, &fd);
}

static void call_attach(void)
{
	attach(A);
}

static void call_detach(void)
{
	vgf_virgl_ctx_detach_resource(virgl, A, RESOURCE);
}

static void call_read(void)
{
	read_resource(A);
}

static void call_write(void)
{
	write_resource(A);
}

static void call_unref(void)
{
	vgf_virgl_resource_unref(virgl, RESOURCE, NULL, NULL);
}

static void call_defer(void)
{
	vgf_virgl_resource_defer(virgl, RESOURCE, NULL, NULL);
}

static void (*const calls[])(void) = {
	call_cleanup,
	call_reset,
	call_poll,
	call_context_create,
	call_context_destroy,
	call_submit,
	call_submit_cmd,
	call_context_create_fence,
	call_create_fence,
	call_export_fence,
	call_attach,
	call_detach,
	call_read,
	call_write,
	call_unref,
	call_defer,
};

static void *call_in_thread(void *arg)
{
	void (*const *call)(void) = arg;

	(*call)();
	return NULL;
}

static void call_and_exit(void (*const *call)(void))
{
	const struct rlimit none = { 0 };
	pthread_t thread;

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL); /* not cmocka's */
	dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
	if (pthread_create(&thread, NULL, call_in_thread, (void *)call) == 0) {
		pthread_join(thread, NULL);
	}
	_exit(0);
}

TEST_CALLS(another_thread_is_told_by_assertions)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			call_and_exit(&calls[i]);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
			fail_msg("call %zu goes on", i);
		}
	}
}
#endif

/* ---- Start and end -------------------------------------------------------------------------- */

static unsigned int num_servers;

static int give_server(void *cookie, uint32_t version)
{
	assert_ptr_equal(cookie, &virgl);
	assert_int_equal(version, DOUBLE_SERVER_VERSION);
	num_servers++;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

TEST(the_vmm_gives_its_render_server)
{
	struct virgl_renderer_callbacks callbacks = { .version = 3, .get_server_fd = give_server };

	num_servers = 0;
	assert_int_equal(start(FLAGS_VENUS, &callbacks), 0);
	assert_int_equal(num_servers, 1);
	finish();
	callbacks.version = 2; /* which did not have it */
	assert_int_equal(start(FLAGS_VENUS, &callbacks), 0);
	assert_int_equal(num_servers, 1);
	finish();
}

static int give_node(void *cookie)
{
	(void)cookie;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* This program is built without EGL. */
TEST(a_display_of_its_own_needs_egl)
{
	struct virgl_renderer_callbacks callbacks = { .version = 2, .get_drm_fd = give_node };
	const int threads = FLAGS & ~VIRGL_RENDERER_NO_VIRGL;

	assert_false(vgf_virgl_get_features(NULL) & VGF_VIRGL_OWN_DISPLAY);
	assert_int_equal(start(threads, &callbacks), -EOPNOTSUPP);
	assert_null(virgl);
	assert_int_equal(the_double.num_starts, 0);
	assert_int_equal(start(threads | VIRGL_RENDERER_USE_EGL, &callbacks), 0);
	finish();
	assert_int_equal(start(FLAGS, &callbacks), 0);
	finish();
}

/* With THREAD_SYNC alone virglrenderer is ended and started anew. */
TEST(only_the_end_can_follow_a_reset_that_fails)
{
	begin(VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_USE_EGL);
	assert_int_equal(create_context(A), 0);
	assert_int_equal(submit(A, 1, 0), 0);
	the_double.init_error = ENODEV;
	assert_int_equal(vgf_virgl_reset(virgl), -ENODEV);
	assert_int_equal(retired[1].count, 1);
	assert_int_equal(retired[1].status, -ECANCELED);
	assert_false(the_double.is_running);
	finish();
	begin(FLAGS);
	finish();
}

TEST(nor_is_a_server_that_does_not_come_back_waited_for)
{
	begin(FLAGS_VENUS);
	the_double.context_error = ENOMEM;
	the_double.init_error = EIO;
	assert_int_equal(vgf_virgl_reset(virgl), -ENOENT);
	finish();
}

/* ---- Contexts ------------------------------------------------------------------------------- */

TEST_CALLS(contexts_have_the_devices_limit)
{
	for (uint32_t ctx_id = 1; ctx_id <= MAX_CONTEXTS; ctx_id++) {
		assert_int_equal(create_context(ctx_id), 0);
	}
	assert_int_equal(create_context(MAX_CONTEXTS + 1), -ENOSPC);
	assert_int_equal(the_double.num_contexts, MAX_CONTEXTS);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 0);
	assert_int_equal(create_context(MAX_CONTEXTS + 1), 0);
}

TEST_CALLS(what_is_for_a_context_that_cannot_be_made_later_fails_with_its_error)
{
	assert_int_equal(create_context(A), 0);
	create_gate(GATE);
	assert_int_equal(submit(A, 0, GATE), 1);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 1);
	assert_int_equal(create_context(A), 1);
	assert_int_equal(submit(A, 2, 0), 1);
	the_double.context_error = EMFILE;
	open_gate(GATE);
	assert_int_equal(retired[2].count, 1);
	assert_int_equal(retired[2].status, -EMFILE);
	/* Also what comes later; and the ID is the VMM's to destroy. */
	assert_int_equal(submit(A, 3, 0), -EMFILE);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 0);
	assert_int_equal(create_context(A), 0);
}

/* ---- Fences --------------------------------------------------------------------------------- */

TEST_CALLS(fences_have_no_other_flags)
{
	const uint32_t known = VIRGL_RENDERER_FENCE_FLAG_MERGEABLE | VGF_VIRGL_FENCE_SHAREABLE;
	const uint32_t unknown[] = { 1u << 1, 1u << 17, known | 1u << 31 };

	assert_int_equal(create_context(A), 0);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		assert_int_equal(
			vgf_virgl_context_create_fence(virgl, A, unknown[i], 0, 1), -EINVAL);
		assert_int_equal(vgf_virgl_create_fence(virgl, 1, A, unknown[i]), -EINVAL);
		assert_int_equal(vgf_virgl_create_fence(virgl, 1, 0, unknown[i]), -EINVAL);
	}
	assert_int_equal(double_pending(), 0);
	assert_int_equal(vgf_virgl_context_create_fence(virgl, A, known, 0, 1), 0);
	assert_int_equal(vgf_virgl_create_fence(virgl, 2, A, known), 0);
}

TEST_CALLS(fences_have_the_devices_limit)
{
	assert_int_equal(create_context(A), 0);
	for (uint64_t id = 1; id <= MAX_FENCES; id++) {
		assert_int_equal(vgf_virgl_context_create_fence(virgl, A, 0, 0, id), 0);
	}
	assert_int_equal(vgf_virgl_context_create_fence(virgl, A, 0, 0, MAX_FENCES + 1), -ENOSPC);
	assert_int_equal(vgf_virgl_create_fence(virgl, 1, A, 0), -ENOSPC);
	assert_int_equal(vgf_virgl_create_fence(virgl, 1, 0, 0), -ENOSPC);
	assert_int_equal(double_pending(), MAX_FENCES);
}

/* ---- Resources ------------------------------------------------------------------------------ */

/* A resource that both have, work of B that is held back, and no room for more of A. */
static void fill_up(void)
{
	assert_int_equal(create_context(A), 0);
	assert_int_equal(create_context(B), 0);
	assert_int_equal(attach(A), 0);
	assert_int_equal(attach(B), 0);
	create_gate(GATE);
	assert_int_equal(submit(B, 0, GATE), 1);
	for (int i = 0; i < MAX_HELD / 4; i++) {
		assert_int_equal(submit(A, 0, GATE), 1);
	}
}

TEST_CALLS(after_an_error_the_resource_is_still_there)
{
	fill_up();
	assert_int_equal(vgf_virgl_resource_unref(virgl, RESOURCE, note_end, NULL), -ENOSPC);
	assert_int_equal(vgf_virgl_resource_defer(virgl, RESOURCE, note_end, NULL), -ENOSPC);
	open_gate(GATE);
	assert_int_equal(the_double.num_unrefs, 0);
	assert_int_equal(ended.count, 0);
	assert_int_equal(vgf_virgl_resource_unref(virgl, RESOURCE, note_end, NULL), 0);
	assert_int_equal(the_double.num_unrefs, 1);
	assert_int_equal(ended.count, 1);
}

TEST_CALLS(a_transfer_that_there_is_no_room_for_is_not_made)
{
	fill_up();
	assert_int_equal(read_resource(A), -ENOSPC);
	assert_int_equal(write_resource(0), -ENOSPC);
	open_gate(GATE);
	assert_int_equal(the_double.num_transfers, 0);
	assert_int_equal(ended.count, 0);
}

/* An error is told once: by what is returned, or by the end. */
static void transfer_in_vain(uint32_t ctx_id, int (*transfer)(uint32_t ctx_id))
{
	the_double.transfer_error = EINVAL;
	assert_int_equal(transfer(ctx_id), -EINVAL);
	assert_int_equal(ended.count, 0);
	create_gate(GATE);
	assert_int_equal(submit(A, 0, GATE), 1);
	the_double.transfer_error = EINVAL;
	assert_int_equal(transfer(ctx_id), 1);
	assert_int_equal(ended.count, 0);
	open_gate(GATE);
	assert_int_equal(ended.count, 1);
	assert_int_equal(ended.status, -EINVAL);
	assert_int_equal(the_double.num_transfers, 2);
}

static void transfer_both_ways_in_vain(uint32_t ctx_id)
{
	static int (*const transfers[])(uint32_t ctx_id) = { read_resource, write_resource };

	for (int i = 0; i < 2; i++) {
		begin(FLAGS);
		assert_int_equal(create_context(A), 0);
		assert_int_equal(attach(A), 0);
		transfer_in_vain(ctx_id, transfers[i]);
		finish();
	}
}

TEST(a_transfer_that_virglrenderer_refuses_is_told_once)
{
	transfer_both_ways_in_vain(A);
}

TEST(so_is_one_of_no_context)
{
	transfer_both_ways_in_vain(0);
}
