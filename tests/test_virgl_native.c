/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Native contexts, with a test double in virglrenderer's place (virgl_double.h): built once for
 * each set of functions that a version may have.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <vgfence/inspect.h>
#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "calls.h"
#include "support.h"
#include "virgl_double.h"

#define CAPSET_VIRGL2 2
#define CAPSET_DRM 6
#define FLAGS (VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define MAX_RETIRED 64

enum { PRODUCER = 1, CONSUMER = 2, GL = 3, RING = 1 };

static struct vgf_virgl *virgl;
static struct vgf_device *device;
static struct vgf_retired retired[MAX_RETIRED];
static unsigned int num_retired;

/* ---- The VMM ------------------------------------------------------------------------------ */

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	assert_true(num_retired < MAX_RETIRED);
	retired[num_retired++] = *fence;
}

/* Of a fence that virglrenderer's thread signals as soon as it is made, and which retires there. */
static uint64_t signals_in_thread;

static bool signal_enter(void *cookie)
{
	(void)cookie;
	return signals_in_thread != 0;
}

static void signal_leave(void *cookie)
{
	(void)cookie;
}

static void *signal_it(void *arg)
{
	/* virglrenderer has its descriptor still. */
	assert_true(double_call_back(signals_in_thread));
	return arg;
}

static void enter_gl(void *cookie)
{
	(void)cookie;
}

static void leave_gl(void *cookie)
{
	pthread_t thread;

	(void)cookie;
	if (signals_in_thread != 0 && double_pending() > 0) {
		assert_int_equal(pthread_create(&thread, NULL, signal_it, NULL), 0);
		pthread_join(thread, NULL);
	}
}

static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
	double_forget();
}

static void start_with(enum vgf_virgl_wait wait, bool independent_rings)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired,
		.signal_enter = signal_enter,
		.signal_leave = signal_leave };
	static struct virgl_renderer_callbacks renderer_callbacks = { .version = 1 };
	const struct vgf_options unhurried = { .size = sizeof(unhurried), .budget_ns = UINT64_MAX };
	const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.device = &unhurried,
		.callbacks = &callbacks,
		.wait = wait,
		.independent_rings = independent_rings,
		.enter_gl = enter_gl,
		.leave_gl = leave_gl,
	};

	if (virgl) {
		finish(); /* a test that failed */
	}
	num_retired = 0;
	signals_in_thread = 0;
	assert_int_equal(vgf_virgl_init(&virgl, FLAGS, &renderer_callbacks, &options, &virgl), 0);
	device = vgf_virgl_get_device(virgl);
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, PRODUCER, CAPSET_DRM, 0, NULL), 0);
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, CONSUMER, CAPSET_DRM, 0, NULL), 0);
	assert_int_equal(vgf_virgl_context_create_with_flags(virgl, GL, CAPSET_VIRGL2, 0, NULL), 0);
}

static void begin(void)
{
	start_with(VGF_VIRGL_WAIT_AUTO, false);
}

#define TEST_PLUGIN(name) TEST_BETWEEN(name, begin(), finish())

static void dispatch(void)
{
	while (vgf_virgl_poll(virgl) > 0) {
	}
}

#define NO_FENCE 0

/* The ID is also the command stream. */
static int submit_on(
	uint32_t ctx_id, int32_t ring, uint64_t id, uint32_t flags, uint64_t first, uint64_t second)
{
	const uint32_t word = (uint32_t)id;
	const uint64_t in_fences[] = { first, second };
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED | flags,
		.in_fences = in_fences,
		.num_in_fences = (first != NO_FENCE) + (second != NO_FENCE),
		.command = &word,
		.size = sizeof(word),
	};

	return vgf_virgl_submit(virgl, &submission, NULL);
}

static int submit(uint32_t ctx_id, uint64_t id, uint64_t first, uint64_t second)
{
	return submit_on(ctx_id, RING, id, VGF_SHAREABLE, first, second);
}

/* A fence from elsewhere. Returns a copy of its descriptor, for signalling. */
static int create_foreign(uint64_t id)
{
	const struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };
	int fence_fd = make_fence(false);
	int copy = dup(fence_fd);

	assert_true(copy >= 0);
	assert_int_equal(create_take(device, &name, VGF_SHAREABLE, fence_fd), 0);
	return copy;
}

static bool has(uint32_t feature)
{
	return vgf_virgl_get_features(virgl) & feature;
}

static bool gives_ids(void)
{
	return has(VGF_VIRGL_NATIVE_WAIT) && has(VGF_VIRGL_SUBMIT_CMD2);
}

static bool attaches(void)
{
	return has(VGF_VIRGL_NATIVE_WAIT) && has(VGF_VIRGL_ATTACH_FENCE);
}

static const struct double_submission *last_submission(void)
{
	assert_true(the_double.num_submissions > 0);
	return &the_double.submissions[the_double.num_submissions - 1];
}

static bool is_readable(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };

	return poll(&readable, 1, 0) == 1;
}

static void assert_retired(unsigned int at, uint64_t id, int status)
{
	assert_true(at < num_retired);
	assert_int_equal(retired[at].fence.fence_id, id);
	assert_int_equal(retired[at].status, status);
}

static struct vgf_stats get_stats(void)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(device, &stats);
	return stats;
}

/* ---- Ways to wait ------------------------------------------------------------------------- */

TEST(tells_what_the_library_has)
{
	uint32_t features = vgf_virgl_get_features(NULL);

	assert_int_equal(!!(features & VGF_VIRGL_SUBMIT_CMD2), DOUBLE_SUBMIT_CMD2);
	assert_int_equal(!!(features & VGF_VIRGL_ATTACH_FENCE), DOUBLE_ATTACH_FENCE);
	assert_int_equal(!!(features & VGF_VIRGL_GET_FENCE_FD), DOUBLE_GET_FENCE_FD);
	assert_int_equal(!!(features & VGF_VIRGL_NATIVE_WAIT),
		DOUBLE_GET_FENCE_FD && (DOUBLE_SUBMIT_CMD2 || DOUBLE_ATTACH_FENCE));
	assert_int_equal(features & VGF_VIRGL_EGL_FENCES, 0);
}

TEST(native_fences_are_handed_on)
{
	begin();
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(PRODUCER, 2, NO_FENCE, NO_FENCE), 0);
	if (!has(VGF_VIRGL_NATIVE_WAIT)) {
		assert_int_equal(submit(CONSUMER, 3, 1, 2), 1);
		assert_int_equal(the_double.num_submissions, 2);
		finish();
		return;
	}
	assert_int_equal(submit(CONSUMER, 3, 1, 2), 0);
	assert_int_equal(get_stats().run_driver, 1);
	assert_int_equal(last_submission()->word, 3);
	if (gives_ids()) {
		assert_int_equal(last_submission()->num_ids, 2);
		assert_int_equal(last_submission()->ids[0], 1);
		assert_int_equal(last_submission()->ids[1], 2);
		assert_int_equal(last_submission()->num_attached, 0);
	} else {
		assert_int_equal(last_submission()->num_ids, 0);
		assert_int_equal(last_submission()->num_attached, 2);
		assert_false(is_readable(last_submission()->attached_fds[1]));
		double_signal_fd(2);
		assert_true(is_readable(last_submission()->attached_fds[1]));
	}
	finish();
}

TEST_PLUGIN(fences_from_elsewhere_are_attached)
{
	int foreign;

	foreign = create_foreign(1);
	assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE), attaches() ? 0 : 1);
	if (attaches()) {
		assert_int_equal(last_submission()->num_ids, 0);
		assert_int_equal(last_submission()->num_attached, 1);
		assert_false(is_readable(last_submission()->attached_fds[0]));
		signal_fence(foreign);
		assert_true(is_readable(last_submission()->attached_fds[0]));
	} else {
		assert_int_equal(the_double.num_submissions, 0);
		signal_fence(foreign);
		dispatch();
		assert_int_equal(last_submission()->word, 2);
		assert_int_equal(get_stats().run_host, 1);
	}
	close(foreign);
}

TEST_PLUGIN(both_kinds_of_fences_in_one_submission)
{
	int foreign;

	foreign = create_foreign(1);
	assert_int_equal(submit(PRODUCER, 2, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(CONSUMER, 3, 1, 2), attaches() ? 0 : 1);
	if (attaches()) {
		assert_int_equal(last_submission()->num_ids, gives_ids() ? 1 : 0);
		assert_int_equal(last_submission()->num_attached, gives_ids() ? 1 : 2);
	} else {
		assert_int_equal(the_double.num_submissions, 1);
		signal_fence(foreign);
		dispatch();
		assert_int_equal(the_double.num_submissions, 1);
		double_signal(2);
		dispatch();
		assert_int_equal(last_submission()->word, 3);
		assert_int_equal(last_submission()->num_ids, 0);
	}
	close(foreign);
}

/* Fences of a context that is not native only call back. */
TEST_PLUGIN(fences_without_descriptors_are_waited_for_on_the_host)
{
	assert_int_equal(submit(GL, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(GL, 2, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(CONSUMER, 3, 1, 2), 1);
	double_signal(1);
	dispatch();
	assert_int_equal(the_double.num_submissions, 2);
	double_signal(2);
	dispatch();
	assert_int_equal(last_submission()->word, 3);
	assert_int_equal(last_submission()->num_ids + last_submission()->num_attached, 0);
}

TEST(waits_on_the_host_where_it_is_told_to)
{
	start_with(VGF_VIRGL_WAIT_HOST, false);
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE), 1);
	double_signal(1);
	dispatch();
	assert_int_equal(last_submission()->word, 2);
	assert_int_equal(last_submission()->num_ids + last_submission()->num_attached, 0);
	finish();
}

TEST_PLUGIN(a_gl_context_waits_for_a_native_one_on_the_host)
{
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(GL, 2, 1, NO_FENCE), 1);
	double_signal(1);
	dispatch();
	assert_int_equal(last_submission()->ctx_id, GL);
}

TEST(a_ring_that_waits_does_not_keep_another)
{
	start_with(VGF_VIRGL_WAIT_HOST, true);
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit_on(CONSUMER, 1, 2, VGF_SHAREABLE, 1, NO_FENCE), 1);
	assert_int_equal(submit_on(CONSUMER, 2, 3, VGF_SHAREABLE, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(last_submission()->word, 3);
	finish();
}

/* ---- Fences ------------------------------------------------------------------------------- */

TEST_PLUGIN(shareable_fences_can_be_exported)
{
	int fd;

	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit_on(PRODUCER, RING, 2, 0, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(vgf_virgl_export_fence(virgl, 2, &fd), -EAGAIN);
	if (has(VGF_VIRGL_NATIVE_WAIT)) {
		assert_int_equal(vgf_virgl_export_fence(virgl, 1, &fd), 0);
		assert_false(is_readable(fd));
		double_signal_fd(1);
		assert_true(is_readable(fd));
		close(fd);
	} else {
		assert_int_equal(vgf_virgl_export_fence(virgl, 1, &fd), -EAGAIN);
	}
}

TEST_PLUGIN(retires_once_by_descriptor_and_by_callback)
{
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(submit(PRODUCER, id, NO_FENCE, NO_FENCE), 0);
	}
	/* The callback first, the descriptor first, both, and one of them for the last. */
	double_call_back(1);
	dispatch();
	assert_int_equal(num_retired, 1);
	double_signal_fd(2);
	dispatch();
	double_call_back(2);
	dispatch();
	assert_int_equal(num_retired, 2);
	double_signal(4);
	dispatch();
	assert_int_equal(num_retired, 2);
	double_signal(3);
	dispatch();
	assert_int_equal(num_retired, 4);
	for (unsigned int i = 0; i < 4; i++) {
		assert_retired(i, i + 1, 0);
	}
}

/* As the CPU ring of a native context does. */
TEST_PLUGIN(a_fence_may_signal_while_it_is_made)
{
	the_double.signals_at_once = true;
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit_on(PRODUCER, 0, 2, VGF_SHAREABLE, NO_FENCE, NO_FENCE), 0);
	dispatch();
	assert_int_equal(num_retired, 2);
	assert_int_equal(submit(CONSUMER, 3, 1, 2), 0);
	assert_int_equal(last_submission()->num_ids + last_submission()->num_attached, 0);
}

/* virglrenderer's table keeps what was pending when it was reset. */
TEST_PLUGIN(an_old_fence_is_not_taken_for_a_new_one_with_its_id)
{
	int fd;

	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	/* Without get_fence_fd the plugin ends and starts virglrenderer instead. */
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_retired(0, 1, -ECANCELED);
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, PRODUCER, CAPSET_DRM, 0, NULL), 0);
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, CONSUMER, CAPSET_DRM, 0, NULL), 0);
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(vgf_virgl_export_fence(virgl, 1, &fd), -EAGAIN);
	assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE), 1);
	double_call_back(1);
	dispatch();
	assert_retired(1, 1, 0);
	assert_int_equal(last_submission()->word, 2);
}

/* The ID alone would name the fence that was given up. */
TEST_PLUGIN(a_fence_that_was_given_up_is_not_handed_on)
{
	const struct vgf_fence_name name = { .fence_id = 1, .ctx_id = PRODUCER, .ring = RING };
	int foreign;

	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(vgf_fence_cancel(device, &name, -ETIME), 0);
	dispatch();
	assert_retired(0, 1, -ETIME);
	foreign = create_foreign(1);
	assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE), attaches() ? 0 : 1);
	if (attaches()) {
		assert_int_equal(last_submission()->num_ids, 0);
		assert_int_equal(last_submission()->num_attached, 1);
	}
	close(foreign);
}

/* It may retire without a callback, and its ID may then be another fence's. */
TEST_PLUGIN(a_mergeable_fence_is_handed_on_by_its_descriptor)
{
	int foreign;

	assert_int_equal(
		submit_on(PRODUCER, RING, 1, VGF_SHAREABLE | VGF_MERGEABLE, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(PRODUCER, 2, NO_FENCE, NO_FENCE), 0);
	submit(CONSUMER, 3, 1, NO_FENCE);
	if (attaches()) {
		assert_int_equal(last_submission()->num_ids, 0);
		assert_int_equal(last_submission()->num_attached, 1);
	}
	double_signal(1);
	double_signal(2);
	dispatch();
	foreign = create_foreign(1);
	assert_int_equal(submit(CONSUMER, 4, 1, NO_FENCE), attaches() ? 0 : 1);
	if (attaches()) {
		assert_int_equal(last_submission()->num_ids, 0);
		assert_int_equal(last_submission()->num_attached, 1);
	}
	close(foreign);
}

static void *signal_from_thread(void *arg)
{
	for (uint64_t id = 1; id <= 20; id++) {
		double_signal(id);
	}
	return arg;
}

TEST_PLUGIN(callbacks_come_from_another_thread)
{
	struct pollfd fd = { .events = POLLIN };
	pthread_t thread;

	for (uint64_t id = 1; id <= 20; id++) {
		assert_int_equal(submit(PRODUCER, id, NO_FENCE, NO_FENCE), 0);
	}
	assert_int_equal(pthread_create(&thread, NULL, signal_from_thread, NULL), 0);
	fd.fd = vgf_virgl_get_poll_fd(virgl);
	while (num_retired < 20) {
		assert_int_equal(poll(&fd, 1, 10000), 1);
		vgf_virgl_poll(virgl);
	}
	pthread_join(thread, NULL);
	for (unsigned int i = 0; i < 20; i++) {
		assert_retired(i, i + 1, 0);
	}
}

/* virglrenderer would forget the callbacks of those that only call back. */
TEST_PLUGIN(a_destroyed_context_is_kept_until_its_fences_have_retired)
{
	assert_int_equal(submit_on(PRODUCER, RING, 1, 0, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(submit(PRODUCER, 2, NO_FENCE, NO_FENCE), 0);
	assert_int_equal(vgf_virgl_context_destroy(virgl, PRODUCER), 1);
	assert_int_equal(the_double.num_contexts, 3);
	double_signal(1);
	dispatch();
	assert_int_equal(the_double.num_contexts, 3);
	double_signal(2);
	dispatch();
	assert_int_equal(the_double.num_contexts, 2);
	assert_retired(0, 1, 0);
	assert_retired(1, 2, 0);
}

/* ---- Errors ------------------------------------------------------------------------------- */

TEST_PLUGIN(waits_on_the_host_where_a_fence_cannot_be_attached)
{
	int foreign;

	foreign = create_foreign(1);
	the_double.attach_error = -EINVAL;
	assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE), 1);
	assert_int_equal(the_double.num_submissions, 0);
	signal_fence(foreign);
	dispatch();
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(get_stats().run_host, 1);
	close(foreign);
}

TEST_PLUGIN(waits_on_the_host_without_descriptors_to_attach)
{
	int foreign;
	int ret;

	foreign = create_foreign(1);
	limit_fds(0);
	ret = submit(CONSUMER, 2, 1, NO_FENCE);
	unlimit_fds();
	assert_int_equal(ret, 1);
	signal_fence(foreign);
	dispatch();
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(last_submission()->num_attached, 0);
	close(foreign);
}

TEST(a_refused_command_stream_is_not_submitted_again)
{
	static const int errors[] = { EINVAL, -EINVAL, -1, -ENOMEM, -EOPNOTSUPP, ENFILE };

	for (unsigned int i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		bool waits;
		begin();
		waits = has(VGF_VIRGL_NATIVE_WAIT);
		assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
		the_double.submit_error = waits ? errors[i] : 0;
		assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE) < 0, waits);
		if (!waits) {
			the_double.submit_error = errors[i];
			double_signal(1);
		}
		dispatch();
		assert_int_equal(the_double.num_submissions, 2);
		double_signal(1);
		dispatch();
		/* Its dependants run. */
		assert_int_equal(submit(PRODUCER, 3, 2, NO_FENCE), 0);
		assert_int_equal(num_retired, 2);
		assert_true(retired[0].status < 0 || retired[1].status < 0);
		finish();
	}
}

TEST(a_fence_that_is_not_made_retires_with_the_error)
{
	static const int errors[] = { -EINVAL, -ENOMEM };

	for (unsigned int i = 0; i < 2; i++) {
		begin();
		the_double.fence_error = errors[i];
		assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), errors[i]);
		dispatch();
		assert_retired(0, 1, errors[i]);
		assert_int_equal(submit(PRODUCER, 2, NO_FENCE, NO_FENCE), 0);
		/* The commands have run: not once more, though it waits. */
		the_double.fence_error = errors[i];
		submit(CONSUMER, 3, 2, NO_FENCE);
		double_signal(2);
		dispatch();
		assert_int_equal(the_double.num_submissions, 3);
		assert_int_equal(num_retired, 3);
		finish();
	}
}

TEST_PLUGIN(reset_gives_up_what_runs)
{
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	submit(CONSUMER, 2, 1, NO_FENCE);
	submit(GL, 3, 2, NO_FENCE);
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(num_retired, 3);
	assert_int_equal(the_double.num_contexts, 0);
}

TEST(renderer_that_does_not_start)
{
	struct virgl_renderer_callbacks callbacks = { .version = 1 };
	const struct vgf_callbacks more = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired };
	const struct vgf_virgl_options options = { .size = sizeof(options), .callbacks = &more };
	struct vgf_virgl *none = (void *)1;

	the_double.init_error = -1;
	assert_int_equal(vgf_virgl_init(&none, FLAGS, &callbacks, &options, &none), -EINVAL);
	assert_null(none);
	begin();
	the_double.context_error = ENOMEM;
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, 9, CAPSET_DRM, 0, NULL), -ENOMEM);
	assert_int_equal(vgf_virgl_context_destroy(virgl, 9), -ENOENT);
	assert_int_equal(vgf_virgl_context_create_with_flags(virgl, 9, CAPSET_DRM, 0, NULL), 0);
	finish();
}

/* ---- Options of other versions ------------------------------------------------------------ */

struct later_options {
	struct vgf_virgl_options known;
	unsigned char more[16];
};

static int try_options(const struct vgf_virgl_options *options)
{
	static struct virgl_renderer_callbacks callbacks = { .version = 1 };
	struct vgf_virgl *tried;
	int ret = vgf_virgl_init(&tried, FLAGS, &callbacks, options, &tried);

	if (ret == 0) {
		vgf_virgl_cleanup(tried);
		double_forget();
	} else {
		assert_null(tried);
	}
	return ret;
}

TEST(options_have_a_size)
{
	const struct vgf_callbacks more = { .size = sizeof(more), .retire = note_retired };
	struct later_options later = { .known = { .size = sizeof(later), .callbacks = &more } };

	if (virgl) {
		finish();
	}
	assert_int_equal(try_options(&later.known), 0);
	later.more[15] = 1;
	assert_int_equal(try_options(&later.known), -E2BIG);
	later.known.size = sizeof(struct vgf_virgl_options);
	assert_int_equal(try_options(&later.known), 0);
	later.known.size = 0;
	assert_int_equal(try_options(&later.known), -EINVAL);
	later.known.size = offsetof(struct vgf_virgl_options, own_display);
	assert_int_equal(try_options(&later.known), -EINVAL);
}

/* Else it would count as one that virglrenderer has, and a later one of its ID as signalled. */
TEST_PLUGIN(a_fence_that_retires_while_it_is_made_is_not_known_by_its_id)
{
	int foreign;

	signals_in_thread = 1;
	assert_int_equal(submit(PRODUCER, 1, NO_FENCE, NO_FENCE), 0);
	signals_in_thread = 0;
	assert_int_equal(num_retired, 1);
	assert_retired(0, 1, 0);
	foreign = create_foreign(1);
	assert_int_equal(submit(CONSUMER, 2, 1, NO_FENCE), attaches() ? 0 : 1);
	assert_int_equal(last_submission()->num_ids, 0);
	assert_int_equal(last_submission()->num_attached, attaches() ? 1 : 0);
	signal_fence(foreign);
	close(foreign);
	dispatch();
	assert_int_equal(last_submission()->ctx_id, CONSUMER);
	assert_true(double_signal(2));
	dispatch();
	assert_int_equal(num_retired, 3);
}

TEST(the_callbacks_and_the_device_have_sizes_too)
{
	/* No more than its size, as a caller of another version may have it. */
	size_t *short_options = malloc(sizeof(size_t));
	struct vgf_callbacks more = { .size = offsetof(struct vgf_callbacks, signal_enter) - 1,
		.retire = note_retired };
	struct vgf_options of_device = { .size = sizeof(of_device) };
	struct vgf_virgl_options options = {
		.size = sizeof(options),
		.callbacks = &more,
		.device = &of_device,
	};

	assert_non_null(short_options);
	*short_options = sizeof(size_t);
	assert_int_equal(try_options(&options), -EINVAL);
	more.size++;
	assert_int_equal(try_options(&options), 0);
	more.size = sizeof(more);
	assert_int_equal(try_options(&options), 0);
	of_device.own_thread = true;
	assert_int_equal(try_options(&options), -EINVAL);
	options.device = (const struct vgf_options *)short_options;
	assert_int_equal(try_options(&options), -EINVAL);
	free(short_options);
}
