/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * GL contexts that wait for each other by sync objects: which they wait for, where and for how
 * long, what is waited for on the host instead, and that no sync object is left. Doubles are in the
 * place of virglrenderer (virgl_double.h) and of OpenGL's sync objects, which are done when a test
 * says so. test_virgl_sync_gl.c has the real ones.
 */

#include <errno.h>
#include <search.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/inspect.h>
#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "calls.h"
#include "gl_stream.h"
#include "gl_sync.h"
#include "support.h"
#include "virgl_double.h"

#define CAPSET_VIRGL2 2
#define FLAGS (VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define DESTROY_SUB_CTX 30 /* of the virgl protocol */
#define MAX_SYNCS 512
#define MAX_WAIT_NS 500000u
#define WAIT_NS 200000u /* that a wait in vain takes here, or one that is not */

enum { A = 1, B = 2, C = 3 };

/* The GL context of a virgl context's subcontext, as the double has it. */
#define GL_OF(ctx_id, sub) ((ctx_id)*16u + (sub))

/* ---- OpenGL --------------------------------------------------------------------------------- */

static struct double_sync {
	uint32_t gl; /* that it is of */
	bool done, destroyed;
	unsigned int num_waits; /* of the server */
	uint32_t waiting_gl;    /* the last of these */
	uint64_t timeout_ns;    /* of the last wait of the thread's */
	bool done_when_waited;  /* a test's: it is done soon */
} syncs[MAX_SYNCS];
static unsigned int num_syncs;
static bool is_software;

/* A clock that stands still but for waiting. */
static uint64_t time_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	(void)clock;
	time->tv_sec = (time_t)(time_ns / 1000000000);
	time->tv_nsec = (long)(time_ns % 1000000000);
	return 0;
}

bool gl_sync_available(void)
{
	return true;
}

bool gl_is_software(void)
{
	return is_software;
}

const void *gl_sync_context(void)
{
	return &the_double.submissions[0].word + the_double.gl_context; /* nobody reads there */
}

void *gl_sync_create(void)
{
	assert_true(num_syncs < MAX_SYNCS);
	syncs[num_syncs] = (struct double_sync){ .gl = the_double.gl_context };
	return &syncs[num_syncs++];
}

void gl_sync_destroy(void *sync)
{
	struct double_sync *its = sync;

	assert_false(its->destroyed);
	assert_true(the_double.is_running); /* or there is no GL context */
	its->destroyed = true;
}

bool gl_sync_is_done(void *sync, uint64_t timeout_ns)
{
	struct double_sync *its = sync;

	assert_false(its->destroyed);
	its->timeout_ns = timeout_ns;
	time_ns += timeout_ns > 0 ? WAIT_NS : 0;
	its->done |= its->done_when_waited && timeout_ns > 0;
	return its->done;
}

void gl_sync_wait(void *sync)
{
	struct double_sync *its = sync;

	assert_false(its->destroyed);
	its->num_waits++;
	its->waiting_gl = the_double.gl_context;
}

static unsigned int num_alive(void)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < num_syncs; i++) {
		count += !syncs[i].destroyed;
	}
	return count;
}

/* ---- Memory --------------------------------------------------------------------------------- */

void *__real_tsearch(
	const void *key, void **root, int (*compare)(const void *left, const void *right));
void *__wrap_tsearch(
	const void *key, void **root, int (*compare)(const void *left, const void *right));

static bool is_full;

void *__wrap_tsearch(
	const void *key, void **root, int (*compare)(const void *left, const void *right))
{
	return is_full ? NULL : __real_tsearch(key, root, compare);
}

/* ---- The VMM -------------------------------------------------------------------------------- */

static struct vgf_virgl *virgl;
static unsigned int num_retired;

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	(void)cookie;
	(void)fence;
	num_retired++;
}

static void create_context(uint32_t ctx_id)
{
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, ctx_id, CAPSET_VIRGL2, 0, NULL), 0);
}

static void begin(enum vgf_virgl_wait wait, bool software)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired };
	static struct virgl_renderer_callbacks renderer_callbacks = { .version = 1 };
	/* One round is enough, however slow the machine. */
	static const struct vgf_options device = { .size = sizeof(device),
		.budget_ns = UINT64_MAX };
	const struct vgf_virgl_options options = {
		.size = sizeof(options), .device = &device, .callbacks = &callbacks, .wait = wait
	};

	num_syncs = num_retired = 0;
	time_ns = 1000000000;
	is_full = false;
	is_software = software;
	assert_int_equal(vgf_virgl_init(&virgl, FLAGS, &renderer_callbacks, &options, &virgl), 0);
	for (uint32_t ctx_id = A; ctx_id <= C; ctx_id++) {
		assert_int_equal(
			vgf_virgl_context_create_with_flags(virgl, ctx_id, CAPSET_VIRGL2, 0, NULL),
			0);
	}
}

/* Nothing of OpenGL's is left. */
static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
	double_forget();
	assert_int_equal(num_alive(), 0);
}

#define TEST_GPU(name) TEST_BETWEEN(name, begin(VGF_VIRGL_WAIT_AUTO, false), finish())
#define TEST_SOFTWARE(name) TEST_BETWEEN(name, begin(VGF_VIRGL_WAIT_AUTO, true), finish())

static void dispatch(void)
{
	while (vgf_virgl_poll(virgl) > 0) {
	}
}

/* Returns what vgf_virgl_submit does. */
static int submit_stream(const struct vgf_fence_name *name, uint32_t flags,
	const struct gl_stream *stream, const uint64_t *in_fences)
{
	uint32_t count = 0;
	struct vgf_submission submission = {
		.fence = *name,
		.flags = VGF_FENCED | flags,
		.in_fences = in_fences,
		.command = stream->words,
		.size = stream->count * sizeof(stream->words[0]),
	};

	while (in_fences[count] != 0) {
		count++;
	}
	submission.num_in_fences = count;
	return vgf_virgl_submit(virgl, &submission, NULL);
}

static int submit_flags(uint32_t ctx_id, uint64_t id, uint32_t flags, uint64_t in_fence)
{
	const struct vgf_fence_name name = { .fence_id = id, .ctx_id = ctx_id };
	const uint64_t in_fences[] = { in_fence, 0 };
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	return submit_stream(&name, flags, &stream, in_fences);
}

static int submit(uint32_t ctx_id, uint64_t id, uint64_t in_fence)
{
	return submit_flags(ctx_id, id, VGF_SHAREABLE, in_fence);
}

/* As a guest's driver: in a subcontext, which each stream chooses. */
static int submit_sub(uint32_t ctx_id, uint32_t sub, uint64_t id, uint64_t in_fence)
{
	const struct vgf_fence_name name = { .fence_id = id, .ctx_id = ctx_id };
	const uint64_t in_fences[] = { in_fence, 0 };
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_set_sub_ctx(&stream, sub);
	gl_stream_nop(&stream);
	return submit_stream(&name, VGF_SHAREABLE, &stream, in_fences);
}

static struct vgf_stats get_stats(void)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(vgf_virgl_get_device(virgl), &stats);
	return stats;
}

/* ---- In OpenGL ------------------------------------------------------------------------------ */

TEST_GPU(the_server_waits_in_the_context_that_the_work_is_in)
{
	assert_int_equal(submit_sub(A, 1, 1, 0), 0);
	assert_int_equal(submit_sub(B, 2, 2, 1), 0);
	assert_int_equal(num_syncs, 2);
	assert_int_equal(syncs[0].gl, GL_OF(A, 1));
	assert_int_equal(syncs[0].num_waits, 1);
	assert_int_equal(syncs[0].waiting_gl, GL_OF(B, 2));
	assert_int_equal(get_stats().run_gl, 1);
	assert_int_equal(get_stats().peak_fds, 0);
	/* The prologue, and the rest behind the wait. */
	assert_int_equal(the_double.num_submissions, 3);
}

/* The control. */
TEST_GPU(what_names_nothing_waits_for_nothing)
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(submit(B, 2, 0), 0);
	assert_int_equal(syncs[0].num_waits, 0);
}

TEST_GPU(all_of_a_chain_is_handed_over_at_once)
{
	for (uint64_t id = 1; id <= 60; id++) {
		assert_int_equal(submit(A + id % 3, id, id - 1), 0);
	}
	for (uint64_t id = 1; id < 60; id++) {
		assert_int_equal(syncs[id - 1].num_waits, 1);
	}
	for (uint64_t id = 1; id <= 60; id++) {
		assert_true(double_signal(id));
	}
	dispatch();
	assert_int_equal(num_retired, 60);
}

TEST_GPU(what_is_done_is_not_waited_for)
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_true(double_signal(1));
	dispatch();
	assert_int_equal(submit(B, 2, 1), 0);
	assert_int_equal(syncs[0].num_waits, 0);
	assert_int_equal(get_stats().run_ready, 2);
}

/* By a VMM that makes fences in a step of their own, with other contexts' work in between. */
TEST_GPU(a_fence_made_in_a_second_step_is_of_its_own_context)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_set_sub_ctx(&stream, 4);
	gl_stream_nop(&stream);
	assert_int_equal(vgf_virgl_submit_cmd(virgl, stream.words, A, (int)stream.count), 0);
	assert_int_equal(submit(C, 1, 0), 0);
	assert_int_equal(
		vgf_virgl_context_create_fence(virgl, A, VGF_VIRGL_FENCE_SHAREABLE, 0, 2), 0);
	assert_int_equal(syncs[1].gl, GL_OF(A, 4));
	assert_int_equal(submit(B, 3, 2), 0);
	assert_int_equal(syncs[1].num_waits, 1);
}

static void submit_held(uint32_t ctx_id, uint64_t in_fence)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	assert_int_equal(vgf_virgl_submit_cmd2(
				 virgl, stream.words, (int)ctx_id, (int)stream.count, &in_fence, 1),
		1);
}

/* What is held runs in turns: the work of each context, and then their fences. */
TEST_GPU(so_is_one_whose_work_was_held_back)
{
	const struct vgf_fence_name gate = { .fence_id = 9, .ring = VGF_RING_GLOBAL };
	struct vgf_device *device = vgf_virgl_get_device(virgl);

	assert_int_equal(create_take(device, &gate, VGF_SHAREABLE, VGF_FENCE_BY_CALL), 0);
	submit_held(A, gate.fence_id);
	assert_int_equal(vgf_virgl_context_create_fence(virgl, A, 0, 0, 1), 0);
	submit_held(B, gate.fence_id);
	assert_int_equal(vgf_virgl_context_create_fence(virgl, B, 0, 0, 2), 0);
	submit_held(C, gate.fence_id);
	assert_int_equal(vgf_virgl_create_fence(virgl, 10, C, 0), 0);
	assert_int_equal(vgf_fence_signal(device, &gate, 0), 0);
	dispatch();
	assert_int_equal(the_double.num_submissions, 3);
	assert_int_equal(double_gl_of(1), GL_OF(A, 0));
	assert_int_equal(double_gl_of(2), GL_OF(B, 0));
	assert_int_equal(double_gl_of(10), GL_OF(C, 0));
}

/* virglrenderer makes none current for who has done something bad: it has failed before. */
TEST_GPU(a_fence_is_made_though_its_context_cannot_be_made_current)
{
	assert_int_equal(submit(A, 1, 0), 0);
	the_double.submit_error = EINVAL;
	assert_int_equal(vgf_virgl_context_create_fence(virgl, A, 0, 0, 2), 0);
	assert_true(double_signal(1));
	assert_true(double_signal(2));
	dispatch();
	assert_int_equal(num_retired, 2);
	assert_int_equal(get_stats().failed, 0);
}

/* ---- A processor draws ---------------------------------------------------------------------- */

TEST_SOFTWARE(work_that_is_done_soon_is_waited_for_here)
{
	assert_int_equal(submit(A, 1, 0), 0);
	syncs[0].done_when_waited = true;
	assert_int_equal(submit(B, 2, 1), 0);
	assert_int_equal(syncs[0].timeout_ns, MAX_WAIT_NS);
	assert_int_equal(syncs[0].num_waits, 0);
	assert_int_equal(get_stats().run_gl, 1);
}

TEST_SOFTWARE(other_work_is_waited_for_on_the_host)
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(syncs[0].timeout_ns, MAX_WAIT_NS);
	dispatch();
	assert_int_equal(get_stats().held, 1);
	assert_true(double_signal(1));
	dispatch();
	assert_int_equal(get_stats().run_host, 1);
	assert_int_equal(get_stats().failed, 0);
	assert_int_equal(syncs[0].num_waits, 0);
}

/* However much is behind it. */
TEST_SOFTWARE(nothing_is_waited_for_in_vain_twice_before_one_of_opengl_retires)
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(submit(C, 2, 0), 0);
	assert_int_equal(submit(B, 3, 1), 1);
	assert_int_equal(syncs[0].timeout_ns, MAX_WAIT_NS);
	for (uint64_t id = 4; id <= 20; id++) {
		create_context((uint32_t)id);
		assert_int_equal(submit((uint32_t)id, id, 1 + id % 2), 1);
		assert_int_equal(syncs[id % 2].timeout_ns, 0);
	}
	/* What is refused retires, but has nothing to do with OpenGL. */
	create_context(21);
	assert_int_equal(submit(21, 21, 1000), -ENOENT);
	dispatch();
	assert_int_equal(num_retired, 1);
	create_context(22);
	assert_int_equal(submit(22, 22, 2), 1);
	assert_int_equal(syncs[1].timeout_ns, 0);
}

/* Each once. */
TEST_SOFTWARE(then_what_was_not_waited_for_yet_is)
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(submit(C, 2, 0), 0);
	create_context(4);
	assert_int_equal(submit(4, 3, 0), 0);
	assert_int_equal(submit(B, 4, 1), 1); /* in vain */
	create_context(5);
	assert_int_equal(submit(5, 5, 2), 1);
	assert_int_equal(syncs[1].timeout_ns, 0); /* only asked */
	assert_true(double_signal(3));
	dispatch();
	create_context(6);
	assert_int_equal(submit(6, 6, 1), 1);
	assert_int_equal(syncs[0].timeout_ns, 0);
	create_context(7);
	assert_int_equal(submit(7, 7, 2), 1);
	assert_int_equal(syncs[1].timeout_ns, MAX_WAIT_NS);
}

/* In whichever order. */
TEST_SOFTWARE(all_in_fences_of_a_job_share_the_time)
{
	const struct vgf_fence_name name = { .fence_id = 4, .ctx_id = 4 };
	const uint64_t in_fences[] = { 1, 2, 3, 0 };
	uint64_t first = 0, least = MAX_WAIT_NS;
	struct gl_stream stream;

	create_context(4);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit((uint32_t)id, id, 0), 0);
		syncs[id - 1].done_when_waited = true;
	}
	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	assert_int_equal(submit_stream(&name, VGF_SHAREABLE, &stream, in_fences), 0);
	for (unsigned int i = 0; i < 3; i++) {
		first += syncs[i].timeout_ns == MAX_WAIT_NS;
		least = syncs[i].timeout_ns < least ? syncs[i].timeout_ns : least;
	}
	assert_int_equal(first, 1);
	assert_int_equal(least, MAX_WAIT_NS - 2 * WAIT_NS);
}

TEST_BETWEEN(an_option_has_the_server_of_a_processor_wait, begin(VGF_VIRGL_WAIT_GL, true), finish())
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(submit(B, 2, 1), 0);
	assert_int_equal(syncs[0].num_waits, 1);
}

/* ---- On the host ---------------------------------------------------------------------------- */

TEST_BETWEEN(an_option_has_the_host_wait, begin(VGF_VIRGL_WAIT_HOST, false), finish())
{
	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(num_syncs, 0);
}

/* A fence stands for all that is before it, and GL contexts have no order. */
TEST_GPU(a_context_whose_work_is_in_several_is_waited_for_on_the_host)
{
	assert_int_equal(submit_sub(A, 1, 1, 0), 0);
	assert_int_equal(submit_sub(A, 2, 2, 0), 0);
	assert_int_equal(submit_sub(A, 1, 3, 0), 0);
	assert_int_equal(submit(B, 4, 2), 1);
	assert_int_equal(submit(C, 5, 3), 1);
	assert_int_equal(num_syncs, 1);
	/* What was before that is good. */
	create_context(9);
	assert_int_equal(submit(9, 6, 1), 0);
	assert_int_equal(syncs[0].num_waits, 1);
}

TEST_GPU(work_that_changes_its_context_is_waited_for_on_the_host)
{
	const struct vgf_fence_name name = { .fence_id = 1, .ctx_id = A };
	const uint64_t none = 0;
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	gl_stream_set_sub_ctx(&stream, 1);
	assert_int_equal(submit_stream(&name, VGF_SHAREABLE, &stream, &none), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(num_syncs, 0);
}

/* What is made in the place of one that ended may look the same. */
TEST_GPU(work_that_ends_a_context_is_waited_for_on_the_host)
{
	const struct vgf_fence_name name = { .fence_id = 2, .ctx_id = A };
	const uint64_t none = 0;
	struct gl_stream stream;

	assert_int_equal(submit_sub(A, 1, 1, 0), 0);
	gl_stream_begin(&stream);
	stream.words[stream.count++] = DESTROY_SUB_CTX | 1 << 16;
	stream.words[stream.count++] = 1;
	gl_stream_create_sub_ctx(&stream, 1);
	gl_stream_set_sub_ctx(&stream, 1);
	gl_stream_nop(&stream);
	assert_int_equal(submit_stream(&name, VGF_SHAREABLE, &stream, &none), 0);
	assert_int_equal(submit(B, 3, 2), 1);
	assert_int_equal(num_syncs, 1);
}

/* The same without a fence, which comes in a second step. */
TEST_GPU(so_is_a_fence_in_a_second_step_behind_such_work)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	gl_stream_set_sub_ctx(&stream, 1);
	assert_int_equal(vgf_virgl_submit_cmd(virgl, stream.words, A, (int)stream.count), 0);
	assert_int_equal(
		vgf_virgl_context_create_fence(virgl, A, VGF_VIRGL_FENCE_SHAREABLE, 0, 1), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(num_syncs, 0);
}

TEST_GPU(a_fence_behind_no_work_of_opengl_is_waited_for_on_the_host)
{
	assert_int_equal(
		vgf_virgl_context_create_fence(virgl, A, VGF_VIRGL_FENCE_SHAREABLE, 0, 1), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(num_syncs, 0);
}

/* The consumer's: the wait has to be in the context that its commands run in. */
TEST_GPU(a_consumer_that_changes_its_context_waits_on_the_host)
{
	const struct vgf_fence_name name = { .fence_id = 2, .ctx_id = B };
	const uint64_t in_fences[] = { 1, 0 };
	struct gl_stream stream;

	assert_int_equal(submit(A, 1, 0), 0);
	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	gl_stream_set_sub_ctx(&stream, 1);
	assert_int_equal(submit_stream(&name, VGF_SHAREABLE, &stream, in_fences), 1);
	assert_int_equal(syncs[0].num_waits, 0);
}

/* That it has retired is not told, so nothing is kept for it. */
TEST_GPU(a_mergeable_fence_is_waited_for_on_the_host)
{
	assert_int_equal(submit_flags(A, 1, VGF_SHAREABLE | VGF_MERGEABLE, 0), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(num_syncs, 0);
}

/* Its order is not OpenGL's. */
TEST_GPU(the_global_timeline_is_waited_for_on_the_host)
{
	const struct vgf_fence_name name = { 1, A, VGF_RING_GLOBAL };
	const uint64_t none = 0;
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_nop(&stream);
	assert_int_equal(submit_stream(&name, VGF_SHAREABLE, &stream, &none), 0);
	assert_int_equal(submit(B, 2, 1), 1);
	assert_int_equal(num_syncs, 0);
}

/* Nothing of it runs before, not even what chooses its subcontext. */
TEST_GPU(a_descriptor_beside_a_name_is_waited_for_on_the_host)
{
	const struct vgf_fence_name gate = { .fence_id = 2, .ctx_id = C, .ring = 5 };
	const struct vgf_fence_name name = { .fence_id = 3, .ctx_id = B };
	const uint64_t in_fences[] = { 1, 2, 0 };
	struct gl_stream stream;
	int fence_fd = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(submit(A, 1, 0), 0);
	assert_int_equal(
		create_take(vgf_virgl_get_device(virgl), &gate, VGF_SHAREABLE, dup(fence_fd)), 0);
	gl_stream_begin(&stream);
	gl_stream_set_sub_ctx(&stream, 1);
	gl_stream_nop(&stream);
	assert_int_equal(submit_stream(&name, VGF_SHAREABLE, &stream, in_fences), 1);
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(syncs[0].num_waits, 0);
	assert_int_equal(eventfd_write(fence_fd, 1), 0);
	assert_true(double_signal(1));
	dispatch();
	assert_int_equal(get_stats().run_host, 1);
	close(fence_fd);
}

/* Its own, which others may not name, so that it has no sync object. */
TEST_GPU(a_fence_of_its_own_without_a_sync_object_is_waited_for_on_the_host)
{
	assert_int_equal(submit_flags(A, 1, 0, 0), 0);
	assert_int_equal(submit(A, 2, 1), 1);
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(num_syncs, 0);
}

TEST_GPU(without_memory_the_host_waits)
{
	is_full = true;
	assert_int_equal(submit(A, 1, 0), 0);
	is_full = false;
	assert_int_equal(num_syncs, 1);
	assert_int_equal(num_alive(), 0);
	assert_int_equal(submit(B, 2, 1), 1);
}

/* ---- What is left --------------------------------------------------------------------------- */

/* Two with each new one. */
TEST_GPU(what_has_retired_is_let_go_of_bit_by_bit)
{
	for (uint64_t id = 1; id <= 20; id++) {
		assert_int_equal(submit(A, id, 0), 0);
	}
	for (uint64_t id = 1; id <= 20; id++) {
		assert_true(double_signal(id));
	}
	dispatch();
	assert_int_equal(num_alive(), 20);
	for (uint64_t id = 21; id <= 60; id++) {
		assert_int_equal(submit(A, id, 0), 0);
		assert_true(double_signal(id));
		dispatch();
	}
	assert_in_range(num_alive(), 1, 2);
}

/* IDs start again, and those of before mean nothing. */
TEST_GPU(a_reset_forgets_all)
{
	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(submit(A, id, 0), 0);
	}
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(num_alive(), 0);
	assert_int_equal(num_retired, 5);
	create_context(A);
	create_context(B);
	assert_int_equal(submit_sub(A, 3, 1, 0), 0);
	assert_int_equal(submit(B, 2, 1), 0);
	assert_int_equal(syncs[5].num_waits, 1);
	assert_int_equal(syncs[0].num_waits, 0);
}

TEST_GPU(features_tell_that_it_is_so)
{
	assert_true(vgf_virgl_get_features(virgl) & VGF_VIRGL_GL_SYNCS);
	assert_false(vgf_virgl_get_features(NULL) & VGF_VIRGL_GL_SYNCS);
}
