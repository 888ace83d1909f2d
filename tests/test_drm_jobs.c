/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Many jobs over 8 native contexts with 4 queues each, one of which binds, on the GPU made of
 * software. What each job waits for is random, and so is what is bound; the content of a buffer
 * says whether all were in order.
 *
 * The contexts share a buffer that has a word, a slot, for each job of a round. A job adds up the
 * slots of the jobs that it waits for, of any context and queue, and a word that it reads through
 * one of its context's windows: addresses at which a bind now and then puts another page, or none.
 * A bind waits for those that use its window, and those that use it afterwards wait for the bind. A
 * model makes the same sums.
 */

#include "drm_scene.h"

#include <poll.h>
#include <stdlib.h>

#include "drm_context.h"

#define CONTEXTS 8
#define RINGS (DRM_CONTEXT_RINGS - 1) /* those that execute */
#define ROUND 1000                    /* jobs */
#define WINDOWS 4                     /* of a context */
#define PAGES 16                      /* what is bound there; then there is null */
#define MAX_DEPENDENCIES 3

#define SLOTS DATA
#define SLOTS_SIZE (2 * PAGE)
#define WINDOW(w) (NOWHERE + PAGE * (w))

/* What has to be waited for: only the newest of a ring, as rings are in order. */
struct window {
	uint32_t value;        /* of what is bound */
	uint64_t bind;         /* its fence */
	uint64_t users[RINGS]; /* 0: none since the bind */
};

struct load {
	struct fake_vmm *vmm;
	struct drm_guest guests[CONTEXTS];
	struct drm_buffer slots[CONTEXTS], pages[CONTEXTS]; /* the same memory in all */
	struct window windows[CONTEXTS][WINDOWS];
	uint32_t expected[ROUND];
	uint64_t fences[ROUND]; /* of the slots of this round */
	uint64_t next_id;
	uint64_t num_retired;
	uint64_t num_failed;
	uint64_t num_binds;
	uint32_t seed;
	bool waits;           /* false: the control */
	int gate_fd;          /* of the control: what the first job waits for; 0: nothing */
	uint32_t gated_queue; /* where that is */
	uint64_t num_gated;   /* jobs there */
};

static void retire(void *cookie, const struct vgf_retired *retired)
{
	struct load *load = ((struct fake_vmm *)cookie)->arg;

	load->num_retired++;
	load->num_failed += retired->status < 0;
}

static uint32_t pick(struct load *load, uint32_t count)
{
	load->seed = load->seed * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)load->seed * count) >> 32);
}

/* ---- The VMM and its contexts ------------------------------------------------------------- */

/* Until all but so many jobs have retired. */
static void wait_for_others(struct load *load, uint64_t count)
{
	while (load->num_retired < load->next_id - 1 - count) {
		struct pollfd fd = { vgf_device_get_fd(load->vmm->device), POLLIN, 0 };

		assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
		assert_true(vgf_device_dispatch(load->vmm->device, 0) >= 0);
	}
}

static void init_context(struct load *load, uint32_t i)
{
	struct drm_guest *guest = &load->guests[i];

	drm_guest_open(guest, load->vmm, "msm", i + 1);
	if (i == 0) {
		drm_buffer_init(guest, &load->slots[0], SLOTS_SIZE);
		drm_buffer_init(guest, &load->pages[0], PAGES * PAGE);
	} else {
		drm_buffer_share(&load->guests[0], &load->slots[0], guest, &load->slots[i]);
		drm_buffer_share(&load->guests[0], &load->pages[0], guest, &load->pages[i]);
	}
	drm_guest_bind_commands(guest, load->next_id++);
	bind_ops(guest, load->next_id++, NOTHING, MAP(SLOTS, &load->slots[i], 0, SLOTS_SIZE),
		MAP_NULL(WINDOW(0), WINDOWS * PAGE));
	wait_for_others(load, 0);
}

static void init(struct load *load, uint32_t seed, bool waits)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(callbacks),
		.retire = retire };
	const struct vgf_options options = { .size = sizeof(options), .budget_ns = UINT64_MAX };

	close(need_drm_gpu("msm"));
	*load = (struct load){ .next_id = 1, .seed = seed, .waits = waits };
	load->vmm = vmm_create_with(&callbacks, &options);
	load->vmm->arg = load;
	for (uint32_t i = 0; i < CONTEXTS; i++) {
		init_context(load, i);
	}
	for (uint32_t i = 0; i < PAGES; i++) {
		load->pages[0].words[i * PAGE / 4] = 1000 * (i + 1);
	}
}

static void finish(struct load *load)
{
	for (uint32_t i = 0; i < CONTEXTS; i++) {
		drm_buffer_finish(&load->slots[i]);
		drm_buffer_finish(&load->pages[i]);
		drm_guest_finish(&load->guests[i]);
	}
	assert_int_equal(get_stats(load->vmm).fds, 0);
	assert_idle(load->vmm);
	vmm_destroy(load->vmm);
}

/* ---- Jobs --------------------------------------------------------------------------------- */

static void add_wait(struct load *load, struct drm_wait *wait, uint32_t *count, uint64_t id)
{
	if (load->waits && id > 0) {
		wait->ids[(*count)++] = id;
	}
}

/* Another page, or null, in a window, or it is unmapped and bound in one batch. */
static void bind(struct load *load, uint32_t context, uint32_t w)
{
	struct window *window = &load->windows[context][w];
	struct drm_guest *guest = &load->guests[context];
	uint32_t page = pick(load, PAGES + 1), count = 0;
	struct drm_wait wait = { { 0 }, 0 };

	for (uint32_t ring = 0; ring < RINGS; ring++) {
		add_wait(load, &wait, &count, window->users[ring]);
	}
	*window = (struct window){ .bind = load->next_id++ };
	if (page == PAGES) {
		bind_ops(guest, window->bind, wait, MAP_NULL(WINDOW(w), PAGE));
	} else {
		window->value = 1000 * (page + 1);
		bind_ops(guest, window->bind, wait, UNMAP(WINDOW(w), PAGE),
			MAP(WINDOW(w), &load->pages[context], page * PAGE, PAGE));
	}
	load->num_binds++;
}

static void wait_for_gate(struct load *load, uint32_t i, uint32_t queue, struct drm_wait *wait)
{
	if (i == 0) {
		wait->fd = load->gate_fd;
		load->gated_queue = queue;
	}
	load->num_gated += queue == load->gated_queue;
}

/* slot[i] = the window's word + the slots of its dependencies + 1 */
static void run_job(struct load *load, uint32_t i)
{
	uint32_t context = pick(load, CONTEXTS), ring = pick(load, RINGS);
	uint32_t w = pick(load, WINDOWS), num_waits = 0, num_commands = 0;
	struct window *window = &load->windows[context][w];
	struct vgfence_gpu_command commands[MAX_DEPENDENCIES + 2];
	uint64_t slot = SLOTS + i * sizeof(uint32_t);
	struct drm_wait wait = { { 0 }, 0 };

	if (pick(load, 4) == 0) {
		bind(load, context, w);
	}
	add_wait(load, &wait, &num_waits, window->bind);
	commands[num_commands++] = COPY(slot, WINDOW(w), 1);
	load->expected[i] = window->value + 1;
	for (uint32_t n = i > 0 ? pick(load, MAX_DEPENDENCIES + 1) : 0; n > 0; n--) {
		uint32_t other = i - 1 - pick(load, i < 40 ? i : 40);

		add_wait(load, &wait, &num_waits, load->fences[other]);
		commands[num_commands++] = ADD(slot, SLOTS + other * sizeof(uint32_t), 1);
		load->expected[i] += load->expected[other];
	}
	commands[num_commands++] = ADD_VALUE(slot, 1);
	if (load->gate_fd > 0) {
		wait_for_gate(load, i, context * RINGS + ring, &wait);
	}
	window->users[ring] = load->fences[i] = load->next_id++;
	assert_true(drm_guest_execute(&load->guests[context], (int32_t)ring + 1, load->fences[i],
			    wait, commands, num_commands) >= 0);
}

static uint32_t count_wrong(const struct load *load, uint32_t count)
{
	uint32_t num_wrong = 0;

	for (uint32_t i = 0; i < count; i++) {
		num_wrong += load->slots[0].words[i] != load->expected[i];
	}
	return num_wrong;
}

static void run_round(struct load *load, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		run_job(load, i);
	}
	wait_for_others(load, 0);
	assert_int_equal(count_wrong(load, count), 0);
}

static uint64_t num_jobs(void)
{
	const char *text = getenv("VGF_TEST_JOBS");

	return text ? strtoull(text, NULL, 10) : 100000;
}

TEST(many_jobs_and_binds_with_random_dependencies_are_in_order)
{
	struct load load;
	const uint64_t count = num_jobs();

	init(&load, 1, true);
	for (uint64_t done = 0; done < count; done += ROUND) {
		run_round(&load, count - done < ROUND ? (uint32_t)(count - done) : ROUND);
	}
	assert_int_equal(load.num_failed, 0);
	print_message("ran: %d jobs and %d binds\n", (int)count, (int)load.num_binds);
	finish(&load);
}

/* The first job waits for the gate, and those behind it on its ring. All others have run when it
 * opens, so those that depend on the first one have added a slot that was empty. */
TEST(control_without_the_in_fences_content_is_wrong)
{
	struct load load;
	int vgem;
	struct vgem_fence gate;

	init(&load, 1, false);
	vgem = vgem_open();
	assert_int_equal(vgem_fence_init(vgem, &gate), 0);
	load.gate_fd = gate.fd;
	for (uint32_t i = 0; i < 100; i++) {
		run_job(&load, i);
	}
	wait_for_others(&load, load.num_gated);
	assert_int_equal(vgem_fence_signal(vgem, &gate), 0);
	wait_for_others(&load, 0);
	assert_true(count_wrong(&load, 100) > 0);
	vgem_fence_finish(vgem, &gate);
	close(vgem);
	finish(&load);
}
