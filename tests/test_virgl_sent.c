/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What virglrenderer forgets, and what its thread still uses: fences of OpenGL that it has while
 * contexts end, or while it is reset. A double is in its place (virgl_double.h), whose fences are
 * done when a test says so, the oldest first.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "support.h"
#include "virgl_double.h"

#define CAPSET_VIRGL2 2
#define CAPSET_DRM 6
#define ASYNC (VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)
#define MARK(number) ((uint64_t)UINT32_MAX - (number)) /* the ID of the first, second and so on */
#define MAX_MARKS 64
#define MANY 5
#define ENOUGH 2
#define LATE_US 1500000 /* more than what is given up is waited for */
#define MAX_RETIRED 80
#define MAX_LINGERING 64
#define MAX_HELD 1
#define ASK_MS 1
#define LONG_MS 5000 /* less than the device takes for a stall */

enum { A = 1, B = 2, C = 3 };

static struct vgf_virgl *virgl;
static struct vgf_retired retired[MAX_RETIRED];
static unsigned int num_retired, num_entered, num_left;
static void (*when_retired)(void);

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	(void)cookie;
	assert_true(num_retired < MAX_RETIRED);
	retired[num_retired++] = *fence;
	if (when_retired) {
		when_retired();
	}
}

static int create_context(uint32_t ctx_id, uint32_t capset)
{
	return vgf_virgl_context_create_with_flags(virgl, ctx_id, capset, 0, NULL);
}

static void note_enter(void *cookie)
{
	(void)cookie;
	num_entered++;
}

static void note_leave(void *cookie)
{
	(void)cookie;
}

static bool retires_here;         /* in the thread that calls back */
static bool retires_behind_count; /* of who lists fences */

static bool signal_enter(void *cookie)
{
	assert_ptr_equal(cookie, &virgl);
	return retires_here;
}

static void signal_leave(void *cookie)
{
	assert_ptr_equal(cookie, &virgl);
	num_left++;
}

static void begin(int flags, bool has_poll_fd)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired,
		.signal_enter = signal_enter,
		.signal_leave = signal_leave };
	static struct virgl_renderer_callbacks renderer_callbacks = { .version = 1 };
	static const struct vgf_options device = {
		.size = sizeof(device), .budget_ns = UINT64_MAX, .limits.max_held = MAX_HELD
	};
	const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.device = &device,
		.callbacks = &callbacks,
		.wait = VGF_VIRGL_WAIT_HOST,
		.enter_gl = note_enter,
		.leave_gl = note_leave,
	};

	num_retired = num_left = 0;
	retires_here = retires_behind_count = false;
	the_double.has_poll_fd = has_poll_fd;
	assert_int_equal(vgf_virgl_init(&virgl, flags, &renderer_callbacks, &options, &virgl), 0);
	for (uint32_t ctx_id = A; ctx_id <= C; ctx_id++) {
		assert_int_equal(create_context(ctx_id, CAPSET_VIRGL2), 0);
	}
}

static void finish(void)
{
	vgf_virgl_cleanup(virgl);
	double_forget();
}

#define TEST_SENT(name) TEST_BETWEEN(name, begin(ASYNC, false), finish())
#define TEST_POLLED(name) TEST_BETWEEN(name, begin(ASYNC, true), finish())

static void dispatch(void)
{
	while (vgf_virgl_poll(virgl) > 0) {
	}
}

static void submit(uint32_t ctx_id, int32_t ring, uint64_t id)
{
	static uint32_t word;
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED,
		.command = &word,
		.size = sizeof(word),
	};

	assert_int_equal(vgf_virgl_submit(virgl, &submission, NULL), 0);
}

/* That one is done, which has to be the oldest. */
static void signal_oldest(uint64_t id)
{
	uint64_t oldest;

	assert_true(double_oldest(&oldest));
	assert_int_equal(oldest, id);
	assert_true(double_signal_oldest());
	dispatch();
}

static void assert_retired(unsigned int place, uint32_t ctx_id, uint64_t id)
{
	assert_true(place < num_retired);
	assert_int_equal(retired[place].fence.ctx_id, ctx_id);
	assert_int_equal(retired[place].fence.fence_id, id);
	assert_int_equal(retired[place].status, 0);
}

/* ---- Forgotten ------------------------------------------------------------------------------ */

static void create_and_destroy(uint32_t ctx_id)
{
	assert_int_equal(create_context(ctx_id, CAPSET_VIRGL2), 0);
	assert_int_equal(vgf_virgl_context_destroy(virgl, ctx_id), 0);
}

static void destroy_and_forget(uint32_t ctx_id)
{
	unsigned int pending = double_pending();

	the_double.forgets_the_oldest = true;
	assert_int_equal(vgf_virgl_context_destroy(virgl, ctx_id), 0);
	the_double.forgets_the_oldest = false;
	assert_int_equal(double_pending(), pending); /* one less, and a mark */
}

TEST_SENT(a_fence_that_another_context_took_along_retires)
{
	submit(A, 0, 1);
	submit(B, 0, 2);
	destroy_and_forget(C);
	assert_int_equal(num_retired, 0);
	signal_oldest(2);
	assert_int_equal(num_retired, 1);
	assert_retired(0, B, 2);
	signal_oldest(MARK(0));
	assert_int_equal(num_retired, 2);
	assert_retired(1, A, 1);
	assert_int_equal(double_pending(), 0);
}

TEST_SENT(so_does_one_of_the_global_timeline)
{
	submit(A, VGF_RING_GLOBAL, 1);
	destroy_and_forget(C);
	signal_oldest(MARK(0));
	assert_int_equal(num_retired, 1);
	assert_int_equal(retired[0].fence.ring, VGF_RING_GLOBAL);
}

/* The first mark is taken along, too. */
TEST_SENT(so_it_does_if_two_contexts_end)
{
	submit(A, 0, 1);
	destroy_and_forget(C);
	destroy_and_forget(B);
	submit(A, 0, 2);
	signal_oldest(MARK(1));
	assert_int_equal(num_retired, 1);
	assert_retired(0, A, 1);
	signal_oldest(2);
	assert_int_equal(num_retired, 2);
}

/* Of the global timeline virglrenderer tells the newest alone, which may be a mark or stand for
 * one. */
TEST_SENT(what_is_before_a_mark_that_was_merged_is_done)
{
	submit(A, 0, 1);
	destroy_and_forget(C);
	submit(B, 0, 2);
	submit(A, VGF_RING_GLOBAL, 20);
	assert_true(double_forget_oldest()); /* the mark */
	assert_true(double_signal(20));
	dispatch();
	assert_int_equal(num_retired, 2);
	assert_retired(0, A, 1);
	assert_retired(1, A, 20);
	signal_oldest(2);
	assert_int_equal(num_retired, 3);
}

TEST_SENT(so_is_what_is_between_two_marks)
{
	submit(A, VGF_RING_GLOBAL, 10);
	assert_int_equal(vgf_virgl_context_destroy(virgl, C), 0);
	submit(A, VGF_RING_GLOBAL, 20);
	assert_int_equal(vgf_virgl_context_destroy(virgl, B), 0);
	while (double_pending() > 1) {
		assert_true(double_forget_oldest());
	}
	signal_oldest(MARK(1));
	assert_int_equal(num_retired, 2);
}

/* What virglrenderer calls back for out of order is taken as it comes. */
TEST_SENT(nothing_before_a_fence_of_a_ring_is_done_with_it)
{
	submit(A, 0, 1);
	submit(B, 0, 2);
	assert_true(double_signal(2));
	dispatch();
	assert_int_equal(num_retired, 1);
	signal_oldest(1);
	assert_int_equal(num_retired, 2);
}

/* virglrenderer ends what it has begun. */
TEST_SENT(a_context_that_cannot_be_made_may_take_one_along_too)
{
	submit(A, 0, 1);
	the_double.context_error = ENOMEM;
	assert_int_equal(create_context(4, CAPSET_VIRGL2), -ENOMEM);
	signal_oldest(1);
	signal_oldest(MARK(0));
	assert_int_equal(num_retired, 1);
}

/* And nobody is woken for it again and again. */
TEST_POLLED(the_last_mark_that_there_is_room_for_may_fail)
{
	struct pollfd woken = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	submit(A, 0, 1);
	for (uint32_t i = 0; i + 1 < MAX_MARKS; i++) {
		create_and_destroy(4 + i);
	}
	the_double.has_no_memory = true;
	create_and_destroy(4);
	dispatch();
	assert_int_equal(poll(&woken, 1, 0), 0);
	the_double.has_no_memory = false;
	dispatch();
	assert_int_equal(double_pending(), 1 + MAX_MARKS);
	while (double_signal_oldest()) {
	}
}

TEST_SENT(a_mark_that_cannot_be_sent_is_sent_later)
{
	submit(A, 0, 1);
	the_double.forgets_the_oldest = true;
	the_double.fence_error = ENOMEM;
	assert_int_equal(vgf_virgl_context_destroy(virgl, C), 0);
	the_double.forgets_the_oldest = false;
	assert_int_equal(double_pending(), 0);
	dispatch();
	signal_oldest(MARK(0));
	assert_int_equal(num_retired, 1);
	assert_retired(0, A, 1);
}

/* The last one is sent when there is room, and the VMM is woken for that. */
TEST_POLLED(there_are_few_marks_at_a_time)
{
	struct pollfd woken = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	submit(A, 0, 1);
	for (uint32_t i = 0; i < MAX_MARKS + 2; i++) {
		create_and_destroy(4 + i);
	}
	assert_int_equal(double_pending(), 1 + MAX_MARKS);
	signal_oldest(1);
	dispatch();
	assert_int_equal(poll(&woken, 1, 0), 0);
	assert_true(double_signal_oldest());
	assert_int_equal(poll(&woken, 1, LONG_MS), 1);
	dispatch();
	assert_int_equal(double_pending(), MAX_MARKS);
	for (uint32_t i = 1; i <= MAX_MARKS; i++) {
		signal_oldest(MARK(i));
	}
	assert_int_equal(double_pending(), 0);
}

TEST_BETWEEN(so_it_is_if_virglrenderer_is_asked, begin(VIRGL_RENDERER_THREAD_SYNC, true), finish())
{
	submit(A, 0, 1);
	destroy_and_forget(C);
	signal_oldest(MARK(0));
	assert_int_equal(num_retired, 1);
}

TEST_SENT(a_fence_of_the_same_number_is_not_taken_for_a_mark)
{
	submit(B, 0, 9);
	assert_int_equal(vgf_virgl_context_destroy(virgl, C), 0);
	create_and_destroy(C);
	submit(A, VGF_RING_GLOBAL, MARK(1));
	signal_oldest(9);
	signal_oldest(MARK(0));
	signal_oldest(MARK(1));
	assert_int_equal(num_retired, 1);
	signal_oldest(MARK(1));
	assert_int_equal(num_retired, 2);
}

TEST_SENT(without_fences_a_context_ends_without_one)
{
	assert_int_equal(vgf_virgl_context_destroy(virgl, C), 0);
	assert_int_equal(double_pending(), 0);
}

/* virglrenderer has threads of their own for these. */
TEST_SENT(native_contexts_have_no_order_with_them)
{
	assert_int_equal(create_context(4, CAPSET_DRM), 0);
	submit(A, 0, 1);
	submit(4, 0, 2);
	submit(B, 0, 3);
	assert_true(double_signal(2));
	dispatch();
	assert_int_equal(num_retired, 1);
	assert_retired(0, 4, 2);
	signal_oldest(1);
	assert_int_equal(num_retired, 2);
	assert_true(double_signal(3));
}

/* ---- Given up ------------------------------------------------------------------------------- */

static void give_up(uint32_t ctx_id)
{
	assert_true(vgf_context_cancel(vgf_virgl_get_device(virgl), ctx_id,
			    VGF_CANCEL_OPEN | VGF_CANCEL_RUNNING, -ECANCELED) >= 0);
	dispatch();
}

static void leave_one(void)
{
	submit(A, 0, 1);
	give_up(A);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 0);
	assert_int_equal(the_double.num_contexts, 3);
}

TEST_SENT(a_context_stays_for_a_fence_that_was_given_up)
{
	submit(A, 0, 1);
	submit(A, 0, 2);
	give_up(A);
	assert_int_equal(num_retired, 2);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 0);
	assert_int_equal(the_double.num_contexts, 3);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), -EBUSY);
	assert_int_equal(create_context(A, CAPSET_DRM), -EBUSY);
	signal_oldest(1);
	assert_int_equal(the_double.num_contexts, 3);
	signal_oldest(2);
	assert_int_equal(the_double.num_contexts, 2);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), 0);
	assert_int_equal(num_retired, 2);
}

static void give_up_end(uint32_t ctx_id, uint32_t flags)
{
	assert_int_equal(vgf_virgl_context_destroy(virgl, ctx_id), 1);
	assert_int_equal(vgf_context_cancel(vgf_virgl_get_device(virgl), ctx_id,
				 VGF_CANCEL_DESTROYED | flags, -ECANCELED),
		0);
	dispatch();
}

/* What waits for the last fence is held work, which is dropped. */
TEST_SENT(fences_retire_when_they_are_done_though_their_contexts_end_is_given_up)
{
	const struct vgf_fence_name second = { .fence_id = 2, .ctx_id = A };

	for (uint64_t id = 1; id <= 3; id++) {
		submit(A, 0, id);
	}
	give_up_end(A, 0);
	assert_int_equal(num_retired, 0);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), -EBUSY);
	signal_oldest(1);
	assert_int_equal(num_retired, 1);
	assert_retired(0, A, 1);
	assert_int_equal(vgf_fence_cancel(vgf_virgl_get_device(virgl), &second, -EIO), 0);
	dispatch();
	assert_int_equal(num_retired, 2);
	assert_int_equal(retired[1].status, -EIO);
	signal_oldest(2);
	assert_int_equal(the_double.num_contexts, 3);
	signal_oldest(3);
	assert_int_equal(num_retired, 3);
	assert_retired(2, A, 3);
	assert_int_equal(the_double.num_contexts, 2);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), 0);
}

TEST_SENT(a_reset_ends_those_too)
{
	submit(A, 0, 1);
	give_up_end(A, 0);
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(num_retired, 1);
	assert_int_equal(retired[0].status, -ECANCELED);
	assert_int_equal(the_double.num_contexts, 0);
}

TEST_SENT(and_so_does_who_gives_up_running_work)
{
	submit(A, 0, 1);
	give_up_end(A, VGF_CANCEL_RUNNING);
	assert_int_equal(num_retired, 1);
	assert_int_equal(retired[0].status, -ECANCELED);
	assert_int_equal(the_double.num_contexts, 3);
	signal_oldest(1);
	assert_int_equal(num_retired, 1);
	assert_int_equal(the_double.num_contexts, 2);
}

/* virglrenderer forgets them with the context. */
TEST_SENT(other_kinds_of_contexts_take_theirs_along)
{
	assert_int_equal(create_context(4, CAPSET_DRM), 0);
	submit(4, 0, 1);
	give_up_end(4, 0);
	assert_int_equal(num_retired, 1);
	assert_int_equal(retired[0].status, -ECANCELED);
	assert_int_equal(the_double.num_contexts, 3);
}

/* If virglrenderer has forgotten it, too. */
TEST_SENT(and_for_no_longer)
{
	submit(A, 0, 1);
	give_up(A);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 0);
	destroy_and_forget(C);
	assert_int_equal(the_double.num_contexts, 2);
	signal_oldest(MARK(0));
	assert_int_equal(the_double.num_contexts, 1);
	assert_int_equal(double_pending(), 0);
}

static int submit_nothing(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	(void)data;
	(void)job;
	*out_fence_fd = VGF_FENCE_DONE;
	return 0;
}

/* The plugin does not make it before the other one has ended, but what is for it may be held. */
static int create_context_of_device(uint32_t ctx_id)
{
	const struct vgf_driver driver = {
		.size = sizeof(driver),
		.wait = VGF_WAIT_HOST,
		.submit = submit_nothing,
	};

	return vgf_context_create(vgf_virgl_get_device(virgl), ctx_id, &driver, NULL);
}

/* What comes back for the old one is not meant for the new one. */
TEST_SENT(nor_does_it_signal_a_fence_of_the_same_name)
{
	const struct vgf_fence_name gate = { .fence_id = 9, .ring = VGF_RING_GLOBAL };
	struct vgf_device *device = vgf_virgl_get_device(virgl);
	const uint64_t in_fence = 9;
	const struct vgf_submission held = {
		.fence = { .fence_id = 1, .ctx_id = A },
		.flags = VGF_FENCED,
		.in_fences = &in_fence,
		.num_in_fences = 1,
	};

	leave_one();
	num_retired = 0;
	assert_int_equal(
		vgf_fence_create_take(device, &gate, VGF_SHAREABLE, NULL, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_context_of_device(A), 0);
	assert_int_equal(vgf_submit(device, &held, NULL), 1);
	signal_oldest(1);
	assert_int_equal(num_retired, 0);
	assert_int_equal(vgf_context_destroy(device, A), 1);
	assert_int_equal(vgf_fence_signal(device, &gate, 0), 0);
	dispatch();
}

/* ---- Its thread, between a signal and its end ------------------------------------------------ */

int __real_vgf_fence_signal(
	struct vgf_device *device, const struct vgf_fence_name *name, int status);
int __wrap_vgf_fence_signal(
	struct vgf_device *device, const struct vgf_fence_name *name, int status);
int __real_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);

static atomic_bool stops_after_signal;
static sem_t has_signalled, may_go_on;

int __wrap_vgf_fence_signal(
	struct vgf_device *device, const struct vgf_fence_name *name, int status)
{
	int ret = __real_vgf_fence_signal(device, name, status);

	if (atomic_exchange(&stops_after_signal, false)) {
		sem_post(&has_signalled);
		sem_wait(&may_go_on);
	}
	return ret;
}

/* Whoever waits for that thread lets it go on. */
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	sem_post(&may_go_on);
	return __real_pthread_cond_wait(cond, mutex);
}

static void *signal_one(void *arg)
{
	(void)double_signal_oldest();
	return arg;
}

static void signal_one_in_thread(void)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, signal_one, NULL), 0);
	pthread_join(thread, NULL);
}

static int end_and_create_again(void)
{
	int ret;

	dispatch();
	ret = vgf_virgl_context_destroy(virgl, A);
	return ret < 0 ? ret : create_context(A, CAPSET_VIRGL2);
}

/* A guest has seen the fence, and ends the context before the thread has returned. */
TEST_SENT(a_context_does_not_stay_for_what_has_just_retired)
{
	pthread_t thread;
	int ret;

	sem_init(&has_signalled, 0, 0);
	sem_init(&may_go_on, 0, 0);
	submit(A, 0, 1);
	atomic_store(&stops_after_signal, true);
	assert_int_equal(pthread_create(&thread, NULL, signal_one, NULL), 0);
	sem_wait(&has_signalled);
	ret = end_and_create_again();
	sem_post(&may_go_on);
	pthread_join(thread, NULL);
	assert_int_equal(ret, 0);
	assert_int_equal(num_retired, 1);
	assert_int_equal(the_double.num_contexts, 3);
}

TEST_POLLED(a_fence_retires_in_that_thread_if_the_vmm_says_so)
{
	struct pollfd woken = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	submit(A, 0, 1);
	retires_here = true;
	signal_one_in_thread();
	assert_int_equal(num_retired, 1);
	assert_int_equal(num_left, 1);
	assert_int_equal(poll(&woken, 1, 0), 0);
}

static void wait_in_callback(void)
{
	sem_post(&has_signalled);
	sem_wait(&may_go_on);
}

TEST_SENT(nobody_else_polls_meanwhile)
{
	pthread_t thread;
	int ret;

	sem_init(&has_signalled, 0, 0);
	sem_init(&may_go_on, 0, 0);
	submit(A, 0, 1);
	retires_here = true;
	when_retired = wait_in_callback;
	assert_int_equal(pthread_create(&thread, NULL, signal_one, NULL), 0);
	sem_wait(&has_signalled);
	ret = vgf_virgl_poll(virgl);
	when_retired = NULL;
	sem_post(&may_go_on);
	pthread_join(thread, NULL);
	assert_int_equal(ret, -EBUSY);
	assert_int_equal(num_retired, 1);
}

TEST_SENT(in_the_plugins_own_thread_it_does_not)
{
	submit(A, 0, 1);
	retires_here = true;
	assert_true(double_signal_oldest());
	assert_int_equal(num_retired, 0);
	dispatch();
	assert_int_equal(num_retired, 1);
	assert_int_equal(num_left, 0);
}

/* Or else nobody polls, and the mark is never sent. */
TEST_POLLED(not_while_a_mark_is_owed)
{
	struct pollfd woken = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	submit(A, 0, 1);
	the_double.fence_error = ENOMEM;
	assert_int_equal(vgf_virgl_context_destroy(virgl, C), 0);
	retires_here = true;
	signal_one_in_thread();
	assert_int_equal(num_retired, 0);
	assert_int_equal(poll(&woken, 1, 0), 1);
	dispatch();
	assert_int_equal(num_retired, 1);
	assert_true(double_signal_oldest());
}

size_t __real_vgf_context_list_pending(
	struct vgf_device *device, uint32_t ctx_id, struct vgf_pending *pending, size_t count);
size_t __wrap_vgf_context_list_pending(
	struct vgf_device *device, uint32_t ctx_id, struct vgf_pending *pending, size_t count);

/* Who lists fences asks first how many there are. */
size_t __wrap_vgf_context_list_pending(
	struct vgf_device *device, uint32_t ctx_id, struct vgf_pending *pending, size_t count)
{
	size_t ret = __real_vgf_context_list_pending(device, ctx_id, pending, count);

	if (!pending && retires_behind_count) {
		retires_behind_count = false;
		signal_one_in_thread();
	}
	return ret;
}

/* Or its context would end under the work of those that are left. */
TEST_SENT(a_context_waits_for_its_last_fence_though_another_one_retires_meanwhile)
{
	submit(A, 0, 1);
	submit(A, 0, 2);
	retires_here = retires_behind_count = true;
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 1);
	assert_int_equal(num_retired, 1);
	assert_retired(0, A, 1);
	assert_int_equal(the_double.num_contexts, 3);
	dispatch();
	assert_int_equal(num_retired, 1);
	signal_oldest(2);
	assert_int_equal(num_retired, 2);
	assert_int_equal(the_double.num_contexts, 2);
}

/* ---- How long they stay ---------------------------------------------------------------------- */

/* Nothing else may make the VMM poll. And who makes another one needs no poll. */
TEST_POLLED(the_vmm_is_woken_when_it_can_end)
{
	struct pollfd woken = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	leave_one();
	assert_int_equal(poll(&woken, 1, 0), 0);
	assert_true(double_signal_oldest());
	assert_int_equal(poll(&woken, 1, LONG_MS), 1);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), 0);
	assert_int_equal(the_double.num_contexts, 3);
	dispatch();
	assert_int_equal(poll(&woken, 1, 0), 0);
}

/* They are not the device's any more, whose limits they are not in. */
TEST_SENT(so_many_contexts_stay_and_no_more)
{
	for (uint32_t i = 0; i < MAX_LINGERING; i++) {
		assert_int_equal(create_context(4 + i, CAPSET_VIRGL2), 0);
		submit(4 + i, 0, 1 + i);
		give_up(4 + i);
		assert_int_equal(vgf_virgl_context_destroy(virgl, 4 + i), 0);
	}
	assert_int_equal(create_context(4 + MAX_LINGERING, CAPSET_VIRGL2), -ENOSPC);
	num_retired = 0;
	signal_oldest(1);
	assert_int_equal(create_context(4 + MAX_LINGERING, CAPSET_VIRGL2), 0);
}

TEST_SENT(a_reset_ends_it)
{
	leave_one();
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(the_double.num_contexts, 0);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), 0);
	submit(A, 0, 1);
	signal_oldest(1);
	assert_int_equal(num_retired, 2);
}

TEST_SENT(so_does_the_end)
{
	leave_one();
}

static void hold_back(uint32_t ctx_id, const struct vgf_fence_name *gate)
{
	const struct vgf_submission held = {
		.fence = { .ctx_id = ctx_id },
		.in_fences = &gate->fence_id,
		.num_in_fences = 1,
	};

	assert_int_equal(vgf_fence_create_take(vgf_virgl_get_device(virgl), gate, VGF_SHAREABLE,
				 NULL, VGF_FENCE_BY_CALL),
		0);
	assert_int_equal(vgf_virgl_submit(virgl, &held, NULL), 1);
}

TEST_SENT(a_context_that_there_is_no_room_to_make_later_is_refused)
{
	const struct vgf_fence_name gate = { .fence_id = 9, .ring = VGF_RING_GLOBAL };

	hold_back(A, &gate);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 1);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), -ENOSPC);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), -ENOENT);
	assert_int_equal(vgf_fence_signal(vgf_virgl_get_device(virgl), &gate, 0), 0);
	dispatch();
	assert_int_equal(the_double.num_contexts, 2);
	assert_int_equal(create_context(A, CAPSET_VIRGL2), 0);
}

static void begin_asking(void)
{
	begin(0, false);
}

/* One that cannot be waited for, as too much is held back. virglrenderer is asked on. */
TEST_BETWEEN(a_fence_that_cannot_be_waited_for_retires_all_the_same, begin_asking(), finish())
{
	const struct vgf_fence_name gate = { .fence_id = 9, .ring = VGF_RING_GLOBAL };
	struct pollfd asks = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	hold_back(B, &gate);
	submit(A, 0, 1);
	assert_int_equal(vgf_virgl_context_destroy(virgl, A), 0);
	dispatch();
	assert_int_equal(num_retired, 0);
	assert_int_equal(the_double.num_contexts, 3);
	assert_int_equal(poll(&asks, 1, LONG_MS), 1);
	signal_oldest(1);
	assert_int_equal(num_retired, 1);
	assert_retired(0, A, 1);
	assert_int_equal(the_double.num_contexts, 2);
	assert_int_equal(poll(&asks, 1, 5 * ASK_MS), 0);
	assert_int_equal(vgf_fence_signal(vgf_virgl_get_device(virgl), &gate, 0), 0);
	dispatch();
}

/* Which virglrenderer forgets: it is not asked for them for ever. */
static void begin_with_native(void)
{
	begin(VIRGL_RENDERER_NO_VIRGL, false);
	assert_int_equal(create_context(4, CAPSET_DRM), 0);
	submit(4, 0, 1);
	submit(4, 0, 2);
}

#define TEST_NATIVE(name) TEST_BETWEEN(name, begin_with_native(), finish())

static bool is_asked(void)
{
	struct pollfd asks = { .fd = vgf_virgl_get_poll_fd(virgl), .events = POLLIN };

	dispatch();
	return poll(&asks, 1, 5 * ASK_MS) == 1;
}

TEST_NATIVE(virglrenderer_is_asked_as_long_as_it_has_fences)
{
	assert_true(is_asked());
	assert_true(double_signal(1));
	assert_true(is_asked());
	assert_true(double_signal(2));
	assert_false(is_asked());
}

TEST_NATIVE(it_is_not_asked_for_what_ended_with_its_context)
{
	assert_true(double_signal(1));
	give_up(4);
	assert_int_equal(num_retired, 2);
	assert_true(is_asked());
	assert_int_equal(vgf_virgl_context_destroy(virgl, 4), 0);
	assert_false(is_asked());
	assert_int_equal(create_context(4, CAPSET_DRM), 0);
	submit(4, 0, 3);
	assert_true(is_asked());
	assert_true(double_signal(3));
	assert_false(is_asked());
}

TEST_NATIVE(nor_for_what_it_did_not_take)
{
	the_double.fence_error = ENOMEM;
	assert_int_equal(vgf_virgl_context_create_fence(virgl, 4, 0, 0, 3), 0);
	assert_true(double_signal(1));
	assert_true(double_signal(2));
	assert_false(is_asked());
}

TEST_NATIVE(nor_for_what_was_before_a_reset)
{
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(num_retired, 2);
	assert_false(is_asked());
	assert_int_equal(create_context(4, CAPSET_DRM), 0);
	submit(4, 0, 1);
	assert_true(is_asked());
	assert_true(double_signal(1));
	assert_false(is_asked());
}

/* ---- Polled --------------------------------------------------------------------------------- */

/* As virglrenderer's thread, if somebody waits for a query: it goes on when it was polled. */
static void go_on(void)
{
	if (double_pending() > 0) {
		double_signal_oldest();
		double_ask();
	}
}

static void submit_many(void)
{
	for (uint64_t id = 1; id <= MANY; id++) {
		submit(id % 2 ? A : B, 0, id);
	}
}

static void submit_with_query(void)
{
	submit_many();
	double_ask();
	the_double.on_poll = go_on;
}

TEST_POLLED(a_reset_polls_until_nobody_waits_for_that)
{
	submit_with_query();
	num_entered = 0;
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(num_entered, 0);              /* nobody else has a turn in it */
	assert_true(the_double.num_polls >= MANY + 1); /* a mark is among them */
	assert_int_equal(the_double.pending_at_reset, 0);
}

/* With ASYNC_FENCE_CB, too. */
TEST_POLLED(to_drain_the_device_alone_does_not_poll)
{
	struct vgf_device *device = vgf_virgl_get_device(virgl);

	submit_with_query();
	assert_int_equal(vgf_device_drain(device, 1), -ETIMEDOUT);
	assert_int_equal(the_double.num_polls, 0);
	while (vgf_device_list_pending(device, NULL, 0) > 0) {
		vgf_virgl_poll(virgl);
	}
	assert_int_equal(num_retired, MANY);
}

TEST_POLLED(the_end_does_so_too)
{
	submit_with_query();
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
	assert_true(the_double.num_polls >= MANY + 1);
	assert_int_equal(the_double.pending_at_reset, 0);
}

static void *signal_some(void *arg)
{
	for (int i = 0; i < ENOUGH; i++) {
		usleep(20000);
		double_signal_oldest();
	}
	return arg;
}

static pthread_t signaller;

/* From then on the double is its alone, until they are done. */
static void start_signaller(void)
{
	the_double.on_poll = NULL;
	assert_int_equal(pthread_create(&signaller, NULL, signal_some, NULL), 0);
}

/* If nobody does, it is not kept waiting for all. */
TEST_POLLED(a_reset_waits_for_two_fences_else)
{
	submit_many();
	the_double.on_poll = start_signaller;
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	pthread_join(signaller, NULL);
	assert_int_equal(the_double.pending_at_reset, MANY + 1 - ENOUGH);
}

static void *ask_late(void *arg)
{
	usleep(LATE_US);
	double_ask();
	return arg;
}

static void start_late(void)
{
	the_double.on_poll = go_on;
	assert_int_equal(pthread_create(&signaller, NULL, ask_late, NULL), 0);
}

/* However long the work takes behind which it asks, and however many marks there are. */
TEST_POLLED(a_reset_is_patient_with_who_will_ask)
{
	submit(A, 0, 1);
	for (uint32_t i = 0; i < MAX_MARKS; i++) {
		create_and_destroy(4 + i);
	}
	the_double.on_poll = start_late;
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	pthread_join(signaller, NULL);
	assert_int_equal(the_double.pending_at_reset, 0);
}

/* Nor without end for what nobody will call back for. */
TEST_POLLED(nor_for_what_is_forgotten)
{
	submit(A, 0, 1);
	the_double.forgets_the_oldest = the_double.has_no_memory = true;
	assert_int_equal(vgf_virgl_context_destroy(virgl, C), 0);
	assert_int_equal(vgf_virgl_reset(virgl), 0);
}

TEST_POLLED(with_no_fences_it_does_not)
{
	assert_int_equal(vgf_virgl_reset(virgl), 0);
	assert_int_equal(the_double.num_polls, 0);
}

TEST_POLLED(queries_have_their_turn_however_much_retires)
{
	the_double.signals_at_once = true;
	for (uint64_t id = 1; id <= 32; id++) {
		submit(A, 0, id);
		assert_true(vgf_virgl_poll(virgl) > 0);
	}
	assert_true(the_double.num_polls >= 4);
}

int main(int argc, char *argv[])
{
	(void)argc;
	return run_registered_tests(argv);
}
