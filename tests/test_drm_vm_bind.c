/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * VM_BIND: bind, execute, unbind, in an order that fence IDs alone make, on the GPU made of
 * software. Each wait has its control: without it there is a fault, or the content is another one.
 *
 * What the kernel's contract says of errors, and these tests hold: an in-fence with an error has
 * signalled like any other, so what waits for a bind that failed runs. But a bind that fails, and a
 * fault, mark the VM unusable: whatever is still to run in that VM ends with -EPIPE, and SUBMIT and
 * VM_BIND return it. So work of the same context that waits for such a bind fails, and work of
 * another context runs.
 */

#include "drm_scene.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "drm_context.h"

/* ---- Order -------------------------------------------------------------------------------- */

/* On rings of two contexts: bind behind the gate, write, read by the other context, unbind. */
TEST_SCENE(bind_execute_unbind_are_ordered_by_fence_ids_alone)
{
	struct drm_guest *first = &scene->guests[0], *second = &scene->guests[1];

	bind_ops(first, 20, AFTER_FD(scene->gate.fd), MAP(DATA, &scene->data[0], 0, PAGE));
	bind_ops(second, 21, AFTER(20), MAP(DATA, &scene->data[1], 0, PAGE));
	execute(first, 1, 22, AFTER(20), ADD_VALUE(DATA, 7));
	execute(second, 2, 23, AFTER(21, 22), COPY(DATA + 4, DATA, 1));
	execute(first, 3, 24, AFTER(23), ADD(DATA + 4, DATA, 1));
	bind_ops(first, 25, AFTER(24), UNMAP(DATA, PAGE));
	bind_ops(second, 26, AFTER(23), UNMAP(DATA, PAGE));
	assert_false(has_retired(scene->vmm, 22));
	scene_open_gate(scene);
	for (uint64_t id = 20; id <= 26; id++) {
		assert_int_equal(wait_for(scene->vmm, id), 0);
	}
	assert_int_equal(scene->data[0].words[0], 7);
	assert_int_equal(scene->data[0].words[1], 14);
	assert_int_equal(get_stats(scene->vmm).run_host, 0);
}

TEST_SCENE(control_work_that_does_not_wait_for_its_bind_faults)
{
	bind_ops(&scene->guests[0], 20, AFTER_FD(scene->gate.fd),
		MAP(DATA, &scene->data[0], 0, PAGE));
	execute(&scene->guests[0], 1, 21, NOTHING, ADD_VALUE(DATA, 7));
	assert_int_equal(wait_for(scene->vmm, 21), -EFAULT);
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 20), -EPIPE);
}

static void bind_data(struct scene *scene, int guest, uint64_t id)
{
	bind_ops(&scene->guests[guest], id, NOTHING, MAP(DATA, &scene->data[guest], 0, PAGE));
	assert_int_equal(wait_for(scene->vmm, id), 0);
}

/* Rings 1 and 2 use the page, 2 for longer; ring 3 goes on meanwhile with other pages. */
TEST_SCENE(an_unbind_waits_for_the_last_user_while_other_rings_go_on)
{
	struct drm_guest *guest = &scene->guests[0];

	bind_data(scene, 0, 20);
	bind_ops(guest, 21, NOTHING, MAP(NOWHERE, &scene->data[0], PAGE, PAGE));
	execute(guest, 1, 22, NOTHING, ADD_VALUE(DATA, 1));
	execute(guest, 2, 23, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	bind_ops(guest, 24, AFTER(22, 23), UNMAP(DATA, PAGE));
	for (uint64_t id = 30; id < 40; id++) {
		execute(guest, 3, id, AFTER(21), ADD_VALUE(NOWHERE, 1));
	}
	assert_int_equal(wait_for(scene->vmm, 39), 0);
	assert_false(has_retired(scene->vmm, 24));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 24), 0);
	assert_int_equal(scene->data[0].words[0], 3);
	assert_int_equal(scene->data[0].words[PAGE / 4], 10);
}

TEST_SCENE(control_an_unbind_that_does_not_wait_takes_the_page_from_its_user)
{
	struct drm_guest *guest = &scene->guests[0];

	bind_data(scene, 0, 20);
	execute(guest, 2, 21, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	bind_ops(guest, 22, NOTHING, UNMAP(DATA, PAGE));
	assert_int_equal(wait_for(scene->vmm, 22), 0);
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 21), -EFAULT);
	assert_int_equal(scene->data[0].words[0], 0);
}

/* The second bind puts another page there, for work that comes later. */
static void rebind(struct scene *scene, struct drm_wait second_bind_waits)
{
	struct drm_guest *guest = &scene->guests[0];

	scene->data[0].words[0] = 1;
	scene->data[0].words[PAGE / 4] = 2;
	bind_data(scene, 0, 20);
	bind_ops(guest, 21, NOTHING, MAP(NOWHERE, &scene->data[0], 2 * PAGE, PAGE));
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	execute(guest, 1, 22, AFTER_FD(scene->gate.fd), COPY(NOWHERE, DATA, 1));
	bind_ops(guest, 23, second_bind_waits, MAP(DATA, &scene->data[0], PAGE, PAGE));
	execute(guest, 2, 24, AFTER(23), COPY(NOWHERE + 4, DATA, 1));
}

TEST_SCENE(a_bind_in_place_of_another_waits_for_the_users_of_that)
{
	rebind(scene, AFTER(22));
	assert_false(has_retired(scene->vmm, 23));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 24), 0);
	assert_int_equal(scene->data[0].words[2 * PAGE / 4], 1);
	assert_int_equal(scene->data[0].words[2 * PAGE / 4 + 1], 2);
}

TEST_SCENE(control_a_bind_that_does_not_wait_shows_its_page_to_earlier_work)
{
	rebind(scene, NOTHING);
	assert_int_equal(wait_for(scene->vmm, 24), 0);
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 22), 0);
	assert_int_equal(scene->data[0].words[2 * PAGE / 4], 2);
}

/* ---- Operations --------------------------------------------------------------------------- */

TEST_SCENE(a_null_mapping_reads_zero_and_keeps_nothing)
{
	struct drm_guest *guest = &scene->guests[0];

	scene->data[0].words[0] = 5;
	bind_data(scene, 0, 20);
	bind_ops(guest, 21, AFTER(20), MAP_NULL(NOWHERE, 16 * PAGE));
	execute(guest, 1, 22, AFTER(21), ADD_VALUE(NOWHERE + PAGE, 7),
		COPY(DATA + 4, NOWHERE + PAGE, 1), COPY(DATA, NOWHERE + 15 * PAGE, 1));
	assert_int_equal(wait_for(scene->vmm, 22), 0);
	assert_int_equal(scene->data[0].words[0], 0);
	assert_int_equal(scene->data[0].words[1], 0);
}

TEST_SCENE(control_without_the_null_mapping_it_is_a_fault)
{
	bind_data(scene, 0, 20);
	execute(&scene->guests[0], 1, 21, AFTER(20), COPY(DATA, NOWHERE + PAGE, 1));
	assert_int_equal(wait_for(scene->vmm, 21), -EFAULT);
}

/* Sparse: all of a range is null, then a page within, then that goes; the last word says. */
TEST_SCENE(operations_of_a_batch_are_done_in_their_order)
{
	struct drm_guest *guest = &scene->guests[0];

	scene->data[0].words[0] = 1;
	scene->data[0].words[PAGE / 4] = 2;
	scene->data[0].words[2 * PAGE / 4] = 3;
	bind_ops(guest, 20, NOTHING, MAP_NULL(DATA, 16 * PAGE),
		MAP(DATA + 2 * PAGE, &scene->data[0], 0, 3 * PAGE),
		MAP(DATA + 3 * PAGE, &scene->data[0], 0, PAGE), UNMAP(DATA + 4 * PAGE, PAGE),
		MAP(NOWHERE, &scene->data[0], 3 * PAGE, PAGE));
	execute(guest, 1, 21, AFTER(20), COPY(NOWHERE, DATA + PAGE, 1),
		COPY(NOWHERE + 4, DATA + 2 * PAGE, 1), COPY(NOWHERE + 8, DATA + 3 * PAGE, 1),
		ADD_VALUE(DATA + 5 * PAGE, 9));
	execute(guest, 1, 22, NOTHING, COPY(NOWHERE + 12, DATA + 4 * PAGE, 1));
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(scene->data[0].words[3 * PAGE / 4], 0);
	assert_int_equal(scene->data[0].words[3 * PAGE / 4 + 1], 1);
	assert_int_equal(scene->data[0].words[3 * PAGE / 4 + 2], 1);
	assert_int_equal(wait_for(scene->vmm, 22), -EFAULT); /* its page is unmapped */
}

TEST_SCENE(a_copy_goes_over_the_borders_of_mappings)
{
	struct drm_guest *guest = &scene->guests[0];

	for (uint32_t i = 0; i < 3 * PAGE / 4; i++) {
		scene->data[0].words[i] = i;
	}
	bind_ops(guest, 20, NOTHING, MAP(DATA, &scene->data[0], PAGE, PAGE),
		MAP(DATA + PAGE, &scene->data[0], 0, PAGE),
		MAP(NOWHERE, &scene->data[0], 2 * PAGE, 2 * PAGE));
	execute(guest, 1, 21, AFTER(20), COPY(NOWHERE + 8, DATA + 4, 2 * PAGE / 4 - 2));
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(scene->data[0].words[2 * PAGE / 4 + 2], PAGE / 4 + 1);
	assert_int_equal(scene->data[0].words[3 * PAGE / 4 + 1], 0);
	assert_int_equal(scene->data[0].words[4 * PAGE / 4 - 1], PAGE / 4 - 2);
}

/* ---- Rings go on -------------------------------------------------------------------------- */

#define ROUNDS 5

/* Of a round. Few, as the gate opens by itself after 10 seconds; VGF_TEST_RING_JOBS is for
 * measuring. */
static uint32_t num_ring_jobs(void)
{
	const char *text = getenv("VGF_TEST_RING_JOBS");

	return text ? (uint32_t)strtoul(text, NULL, 10) : 10;
}

/* Submits jobs on ring 1, each with a pause, and waits for the last one. Returns the microseconds
 * of a job. */
static double run_round(struct scene *scene, uint64_t first_id)
{
	const uint32_t count = num_ring_jobs();
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	for (uint64_t i = 0; i < count; i++) {
		execute(&scene->guests[0], 1, first_id + i, NOTHING, PAUSE(100),
			ADD_VALUE(DATA, 1));
	}
	assert_int_equal(wait_for(scene->vmm, first_id + count - 1), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	return ((double)(after.tv_sec - before.tv_sec) * 1e6 +
		       (double)(after.tv_nsec - before.tv_nsec) / 1e3) /
		count;
}

/* The best of some rounds. */
static double run_ring(struct scene *scene, uint64_t first_id)
{
	double best = run_round(scene, first_id);

	for (uint64_t i = 1; i < ROUNDS; i++) {
		double one = run_round(scene, first_id + i * num_ring_jobs());

		best = one < best ? one : best;
	}
	return best;
}

/* The bind ring, and what waits for it on another ring, stand still; ring 1 does not notice. */
TEST_SCENE(a_ring_that_is_blocked_on_a_bind_delays_no_other)
{
	double alone, beside;

	bind_data(scene, 0, 20);
	alone = run_ring(scene, 1000);
	bind_ops(&scene->guests[0], 21, AFTER_FD(scene->gate.fd),
		MAP(NOWHERE, &scene->data[0], PAGE, PAGE));
	execute(&scene->guests[0], 2, 22, AFTER(21), ADD_VALUE(NOWHERE, 1));
	beside = run_ring(scene, 10000);
	assert_false(has_retired(scene->vmm, 21));
	assert_false(has_retired(scene->vmm, 22));
	assert_int_equal(scene->data[0].words[0], 2 * ROUNDS * num_ring_jobs());
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 22), 0);
	if (getenv("VGF_TEST_RING_JOBS")) {
		print_message("microseconds a job alone: %.1f, beside a blocked bind: %.1f, %.2f "
			      "of alone\n",
			alone, beside, beside / alone);
	}
}

/* ---- Errors ------------------------------------------------------------------------------- */

/* More mappings than a VM has room for: every other page of a range, in one batch. */
static void bind_too_much(struct drm_guest *guest, uint64_t id, struct drm_wait wait)
{
	const uint32_t count = VGFENCE_GPU_MAX_MAPPINGS + 1;
	struct drm_msm_vm_bind_op *ops = calloc(count, sizeof(*ops));

	assert_non_null(ops);
	for (uint32_t i = 0; i < count; i++) {
		ops[i] = MAP_NULL(NOWHERE + i * 2 * PAGE, PAGE);
	}
	assert_int_equal(drm_guest_bind(guest, id, wait, ops, count), 0);
	free(ops);
}

TEST_SCENE(a_bind_that_fails_fails_its_context_and_no_other)
{
	struct drm_guest *first = &scene->guests[0], *second = &scene->guests[1];

	bind_data(scene, 0, 20);
	bind_data(scene, 1, 21);
	bind_too_much(first, 22, AFTER_FD(scene->gate.fd));
	execute(first, 1, 23, AFTER(22), ADD_VALUE(DATA, 1));  /* the same VM */
	execute(second, 1, 24, AFTER(22), ADD_VALUE(DATA, 2)); /* another one */
	bind_ops(first, 25, NOTHING, UNMAP(DATA, PAGE));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 22), -ENOSPC);
	assert_int_equal(wait_for(scene->vmm, 23), -EPIPE);
	assert_int_equal(wait_for(scene->vmm, 24), 0);
	assert_int_equal(wait_for(scene->vmm, 25), -EPIPE);
	assert_int_equal(scene->data[0].words[0], 2);
}

TEST_SCENE(after_a_fault_work_of_that_vm_fails_in_its_place)
{
	struct drm_guest *first = &scene->guests[0], *second = &scene->guests[1];

	bind_data(scene, 0, 20);
	bind_data(scene, 1, 21);
	execute(first, 1, 22, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 1), ADD_VALUE(NOWHERE, 1),
		ADD_VALUE(DATA, 1));
	execute(first, 1, 23, NOTHING, ADD_VALUE(DATA, 10));   /* behind it on its ring */
	execute(first, 2, 24, AFTER(22), ADD_VALUE(DATA, 10)); /* on another ring */
	execute(second, 1, 25, AFTER(22), ADD_VALUE(DATA, 100));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 22), -EFAULT);
	assert_int_equal(wait_for(scene->vmm, 23), -EPIPE);
	assert_int_equal(wait_for(scene->vmm, 24), -EPIPE);
	assert_int_equal(wait_for(scene->vmm, 25), 0);
	assert_int_equal(scene->data[0].words[0], 101);

	/* The calls refuse what comes now: the error is in its place, behind what still runs. */
	execute(second, 2, 26, NOTHING, PAUSE(0));
	execute(first, 1, 27, NOTHING, ADD_VALUE(DATA, 10));
	bind_ops(first, 28, NOTHING, UNMAP(DATA, PAGE));
	assert_int_equal(wait_for(scene->vmm, 27), -EPIPE);
	assert_int_equal(wait_for(scene->vmm, 28), -EPIPE);
	assert_int_equal(wait_for(scene->vmm, 26), 0);
	assert_int_equal(scene->data[0].words[0], 101);
}

/* The ID of the context can be used again, with a VM of its own. */
TEST_SCENE(a_new_context_has_a_usable_vm)
{
	struct drm_guest again;

	execute(&scene->guests[0], 1, 20, NOTHING, ADD_VALUE(DATA, 1));
	assert_int_equal(wait_for(scene->vmm, 20), -EFAULT);
	assert_int_equal(vgf_context_destroy(scene->vmm->device, FIRST), 0);
	drm_guest_init(&again, scene->vmm, "msm", FIRST, 21);
	execute(&again, 1, 22, NOTHING, PAUSE(0));
	assert_int_equal(wait_for(scene->vmm, 22), 0);
	drm_guest_finish(&again);
}

TEST_SCENE(an_operation_that_is_wrong_is_refused_and_harms_nothing)
{
	struct drm_guest *guest = &scene->guests[0];
	struct drm_msm_vm_bind_op bad[] = {
		MAP(DATA + 1, &scene->data[0], 0, PAGE),
		MAP(DATA, &scene->data[0], PAGE, 4 * PAGE),
		MAP(UINT64_C(0xfffffffffffff000), &scene->data[0], 0, PAGE),
		MAP_NULL(DATA, 0),
		{ .op = MSM_VM_BIND_OP_UNMAP, .handle = 1, .iova = DATA, .range = PAGE },
		{ .op = 3, .iova = DATA, .range = PAGE },
	};
	uint64_t id = 20;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		drm_guest_bind(guest, ++id, NOTHING, &bad[i], 1);
		assert_int_equal(wait_for(scene->vmm, id), -EINVAL);
	}
	bind_data(scene, 0, ++id);
}
