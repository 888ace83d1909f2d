/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The renderer's thread, in which fences signal, answers the guest while the loop's sleeps. */

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "gpu_guest.h"
#include "gpu_private.h"
#include "renderer.h"
#include "turn.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define SIDE 4u
#define PICTURE (SIDE * SIDE * 4)

/* ---- Whose turn it is ----------------------------------------------------------------------- */

static struct turn turn;

#define TEST_TURN(name) TEST_BETWEEN(name, turn_init(&turn), turn_finish(&turn))

TEST_TURN(the_loop_has_it_at_first)
{
	assert_false(turn_take(&turn));
}

TEST_TURN(another_thread_has_it_while_the_loop_sleeps)
{
	for (int i = 0; i < 2; i++) {
		turn_let_go(&turn);
		assert_true(turn_take(&turn));
		turn_end(&turn);
		turn_take_back(&turn);
		assert_false(turn_take(&turn));
	}
}

TEST_TURN(one_thread_has_it)
{
	turn_let_go(&turn);
	assert_true(turn_take(&turn));
	assert_false(turn_take(&turn));
	turn_end(&turn);
	assert_true(turn_take(&turn));
	turn_end(&turn);
}

static atomic_bool has_ended;

static void *end_it(void *arg)
{
	/* The loop's thread waits, and nobody else has another turn before it. */
	while (atomic_load(&turn.is_free)) {
	}
	assert_false(turn_take(&turn));
	atomic_store(&has_ended, true);
	turn_end(&turn);
	return arg;
}

static void *take_it(void *arg)
{
	sem_t *taken = arg;

	assert_true(turn_take(&turn));
	sem_post(taken);
	return end_it(arg);
}

TEST_TURN(the_loop_waits_for_the_end_of_one)
{
	pthread_t thread;
	sem_t taken;

	sem_init(&taken, 0, 0);
	turn_let_go(&turn);
	assert_int_equal(pthread_create(&thread, NULL, take_it, &taken), 0);
	sem_wait(&taken);
	assert_false(atomic_load(&has_ended));
	turn_take_back(&turn);
	assert_true(atomic_load(&has_ended));
	pthread_join(thread, NULL);
}

static void *fault_in_turn(void *arg)
{
	sigset_t all, open;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &open);
	assert_true(turn_take(&turn));
	pthread_sigmask(SIG_BLOCK, NULL, &open);
	assert_false(sigismember(&open, SIGBUS));
	assert_true(sigismember(&open, SIGTERM));
	turn_end(&turn);
	return arg;
}

/* As virglrenderer's threads do, in which guest memory is written then. */
TEST_TURN(a_thread_that_blocks_all_signals_is_open_to_faults)
{
	pthread_t thread;

	turn_let_go(&turn);
	assert_int_equal(pthread_create(&thread, NULL, fault_in_turn, NULL), 0);
	pthread_join(thread, NULL);
	turn_take_back(&turn);
}

/* ---- The device ----------------------------------------------------------------------------- */

static struct guest guest;
static sem_t may_signal; /* the renderer's thread: this one does nothing with the device */
static sem_t has_signalled;
static atomic_bool gives_turns;
static atomic_uint num_turns;

static bool take_turn(void)
{
	sem_wait(&may_signal);
	if (atomic_load(&gives_turns)) {
		return true;
	}
	sem_post(&has_signalled);
	return false;
}

static void end_turn(void)
{
	atomic_fetch_add(&num_turns, 1);
	sem_post(&has_signalled);
}

static void start(void)
{
	guest_start(&guest, NULL);
	sem_init(&may_signal, 0, 0);
	sem_init(&has_signalled, 0, 0);
	atomic_store(&gives_turns, true);
	atomic_store(&num_turns, 0);
	assert_int_equal(create_context(&guest, 1), OK);
	guest.on_take_turn = take_turn;
	guest.on_end_turn = end_turn;
}

static void stop(void)
{
	assert_int_equal(guest.gpu->pending.count, 0);
	assert_int_equal(guest.gpu->pending.num_more, 0);
	guest_stop(&guest);
}

#define TEST_GPU(name) TEST_BETWEEN(name, start(), stop())

static bool is_done(uint32_t token)
{
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static uint32_t wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

static uint32_t submit_job(uint64_t fence_id)
{
	const struct job job = { .ctx_id = 1, .fence_id = fence_id, .busy_us = 1 };

	return submit(&guest, &job);
}

static void let_it_signal(void)
{
	sem_post(&may_signal);
	sem_wait(&has_signalled);
}

/* Nothing is dispatched. */
TEST_GPU(a_submission_is_answered_in_the_renderers_thread)
{
	uint32_t token;

	for (uint64_t id = 1; id <= 3; id++) {
		token = submit_job(id);
		let_it_signal();
		assert_true(is_done(token));
		assert_int_equal(num_turns, id);
	}
}

/* The control. */
TEST_GPU(not_without_a_turn)
{
	uint32_t token;

	atomic_store(&gives_turns, false);
	token = submit_job(1);
	let_it_signal();
	assert_false(is_done(token));
	assert_int_equal(wait_for(token), OK);
}

static void show_picture(void)
{
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
	assert_int_equal(show_blob(&guest, 0, 1, SIDE), OK);
}

static uint32_t flush_behind(uint64_t in_fence)
{
	const struct flush_request flush = {
		.resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.num_in_fences = 1,
		.in_fences = { in_fence },
	};

	return send_flush_behind(&guest, &flush);
}

/* A picture may have to be read by OpenGL. */
TEST_GPU(a_flush_that_waits_leaves_it_to_the_loop)
{
	uint32_t token, flushed;

	show_picture();
	token = submit_job(1);
	flushed = flush_behind(1);
	let_it_signal();
	assert_int_equal(num_turns, 1);
	assert_false(is_done(token));
	assert_int_equal(guest.num_flushes, 0);
	assert_int_equal(wait_for(flushed), OK);
	assert_true(is_done(token));
	assert_int_equal(guest.num_flushes, 1);
	token = submit_job(2);
	let_it_signal();
	assert_true(is_done(token));
}

static uint32_t send_unref(uint32_t resource_id)
{
	struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF, 0),
		.resource_id = htole32(resource_id),
	};

	return guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request),
		sizeof(struct virtio_gpu_ctrl_hdr));
}

TEST_GPU(so_does_memory_that_is_given_back)
{
	uint32_t token, released;

	show_picture();
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	token = submit_job(1);
	released = send_unref(1);
	assert_false(is_done(released));
	let_it_signal();
	assert_false(is_done(token));
	assert_int_equal(wait_for(released), OK);
	assert_true(is_done(token));
}

static struct renderer_ops busy_ops;

static bool has_more(struct renderer *renderer)
{
	(void)renderer;
	return true;
}

TEST_GPU(so_does_a_renderer_that_has_more_to_do)
{
	const struct renderer_ops *ops = guest.gpu->renderer->ops;
	uint32_t token;

	busy_ops = *ops;
	busy_ops.must_dispatch = has_more;
	guest.gpu->renderer->ops = &busy_ops;
	token = submit_job(1);
	let_it_signal();
	assert_false(is_done(token));
	assert_int_equal(wait_for(token), OK);
	guest.gpu->renderer->ops = ops;
}

/* What is in flight counts no more. */
TEST_GPU(a_reset_forgets_what_waited)
{
	uint32_t token;

	show_picture();
	atomic_store(&gives_turns, false);
	submit_job(1);
	flush_behind(1);
	sem_post(&may_signal);
	guest_reset(&guest);
	assert_int_equal(guest.gpu->pending.num_more, 0);
	atomic_store(&gives_turns, true);
	while (sem_trywait(&has_signalled) == 0 || sem_trywait(&may_signal) == 0) {
	}
	assert_int_equal(create_context(&guest, 1), OK);
	token = submit_job(1);
	let_it_signal();
	assert_true(is_done(token));
}
