/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Whoever on the host asks for it is told when a fence retires: once, and after the VMM. */

#include <errno.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

/* What one notification has noted. */
struct note {
	struct fake_vmm *vmm;
	unsigned int calls;
	int status;
	unsigned int after; /* fences that had retired before */
	unsigned int turn;  /* among all notifications */
	void (*action)(struct note *note);
	struct note *next;
};

static unsigned int turns;

static void take_note(void *arg, int status)
{
	struct note *note = arg;

	note->calls++;
	note->status = status;
	note->after = note->vmm->num_retired;
	note->turn = ++turns;
	if (note->action) {
		note->action(note);
	}
}

static int notify_as(struct fake_vmm *vmm, uint32_t ctx_id, uint64_t fence_id, struct note *note)
{
	note->vmm = vmm;
	return vgf_fence_notify(vmm->device, ctx_id, fence_id, take_note, note);
}

static void notify(struct fake_vmm *vmm, uint64_t fence_id, struct note *note)
{
	assert_int_equal(notify_as(vmm, VGF_HOST, fence_id, note), 1);
}

/* It was called once, with this status, after so many fences had been called back for. */
static void assert_noted(const struct note *note, int status, unsigned int after)
{
	assert_int_equal(note->calls, 1);
	assert_int_equal(note->status, status);
	assert_int_equal(note->after, after);
}

static void create_by_call(struct fake_vmm *vmm, uint64_t fence_id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, fence_id, VGF_FENCE_BY_CALL), 0);
}

static void signal_it(struct fake_vmm *vmm, uint64_t fence_id, int status)
{
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, fence_id, status), 0);
}

/* ---- When --------------------------------------------------------------------------------- */

TEST_VMM(a_notification_follows_the_callback_of_its_fence)
{
	struct note notes[4] = { 0 };

	for (uint64_t id = 1; id <= 4; id++) {
		create_by_call(vmm, id);
		notify(vmm, id, &notes[id - 1]);
	}
	signal_it(vmm, 4, 0);
	signal_it(vmm, 3, -EIO);
	signal_it(vmm, 2, 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(notes[1].calls, 0);
	signal_it(vmm, 1, 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	for (unsigned int i = 0; i < 4; i++) {
		assert_noted(&notes[i], i == 2 ? -EIO : 0, i + 1);
	}
	vmm_dispatch(vmm);
	assert_int_equal(notes[0].calls, 1);
}

TEST_VMM(several_for_one_fence_are_called_in_their_order)
{
	struct note notes[5] = { 0 };

	turns = 0;
	create_by_call(vmm, 1);
	for (unsigned int i = 0; i < 5; i++) {
		notify(vmm, 1, &notes[i]);
	}
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	for (unsigned int i = 0; i < 5; i++) {
		assert_noted(&notes[i], 0, 1);
		assert_int_equal(notes[i].turn, i + 1);
	}
}

TEST_VMM(held_work_and_descriptors_are_told_of, .answer = FAKE_FD)
{
	struct note first = { 0 }, second = { 0 };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), NO_IN_FENCES), 1);
	notify(vmm, 1, &first);
	notify(vmm, 2, &second);
	driver_signal(driver, 1);
	vmm_dispatch(vmm);
	assert_noted(&first, 0, 1);
	assert_int_equal(second.calls, 0);
	driver_signal(driver, 2);
	vmm_dispatch(vmm);
	assert_noted(&second, 0, 2);
}

TEST_VMM(merged_fences_are_told_of_each)
{
	struct note notes[3] = { 0 };

	turns = 0;
	for (uint64_t id = 1; id <= 3; id++) {
		struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, id);
		assert_int_equal(
			create_take(vmm->device, &name, VGF_MERGEABLE, VGF_FENCE_BY_CALL), 0);
		notify(vmm, id, &notes[id - 1]);
	}
	for (uint64_t id = 3; id >= 1; id--) {
		signal_it(vmm, id, 0);
	}
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(3), ID(0));
	for (unsigned int i = 0; i < 3; i++) {
		assert_noted(&notes[i], 0, i == 2);
		assert_int_equal(notes[i].turn, i + 1);
	}
}

static void write_fence(void *cookie, uint32_t fence_id)
{
	struct fake_vmm *vmm = cookie;

	vmm->num_retired++;
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring, uint64_t fence_id)
{
	struct fake_vmm *vmm = cookie;

	vmm->num_retired++;
}

TEST(callbacks_as_virglrenderers_come_before_it_too)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.write_fence = write_fence,
		.write_context_fence = write_context_fence };
	struct fake_vmm *vmm = vmm_create_with(&callbacks, NULL);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct note global = { 0 }, context = { 0 };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	notify(vmm, 1, &global);
	notify(vmm, 2, &context);
	signal_it(vmm, 1, 0);
	vgf_device_dispatch(vmm->device, 0);
	assert_noted(&global, 0, 1);
	assert_int_equal(signal_call(vmm, 1, 0, 2, -EIO), 0);
	vgf_device_dispatch(vmm->device, 0);
	assert_noted(&context, -EIO, 2);
	vmm_destroy(vmm);
}

TEST_VMM(resets_cancels_and_the_end_are_told)
{
	struct note reset = { 0 }, cancelled = { 0 }, end = { 0 };

	create_by_call(vmm, 1);
	notify(vmm, 1, &reset);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_noted(&reset, -ECANCELED, 1);
	create_by_call(vmm, 1);
	notify(vmm, 1, &cancelled);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ETIME), 0);
	vmm_dispatch(vmm);
	assert_noted(&cancelled, -ETIME, 2);
	create_by_call(vmm, 2);
	notify(vmm, 2, &end);
	vmm_destroy_device(vmm);
	assert_noted(&end, -ECANCELED, 3);
}

/* ---- What it returns ---------------------------------------------------------------------- */

TEST_VMM(of_what_is_done_nobody_is_told)
{
	struct note note = { 0 };

	create_by_call(vmm, 1);
	signal_it(vmm, 1, 0);
	assert_int_equal(notify_as(vmm, VGF_HOST, 1, &note), 0);
	vmm_dispatch(vmm);
	assert_int_equal(notify_as(vmm, VGF_HOST, 1, &note), 0);
	vmm_dispatch(vmm);
	assert_int_equal(note.calls, 0);
}

/* The fence stands for what is before it, too. */
TEST_VMM(what_has_signalled_early_is_told_when_what_is_before_it_is_done)
{
	struct note note = { 0 };

	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	signal_it(vmm, 2, -EIO);
	notify(vmm, 2, &note);
	vmm_dispatch(vmm);
	assert_int_equal(note.calls, 0);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	assert_noted(&note, -EIO, 2);
}

TEST_VMM(who_may_be_told_is_who_may_name_the_fence)
{
	struct note own = { 0 }, host = { 0 }, none = { 0 };

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_flags(vmm, 1, 0, 1, VGF_FENCED, NULL, 0, NULL), 0);
	assert_int_equal(notify_as(vmm, 1, 1, &own), 1);
	assert_int_equal(notify_as(vmm, VGF_HOST, 1, &host), 1);
	assert_int_equal(notify_as(vmm, 2, 1, &none), -EPERM);
	assert_int_equal(notify_as(vmm, 3, 1, &none), -ENOENT);
	assert_int_equal(notify_as(vmm, VGF_HOST, 2, &none), -ENOENT);
	assert_int_equal(create_fence(vmm, 2, 0, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(notify_as(vmm, VGF_HOST, 1, &none), -ENOTUNIQ);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_noted(&own, 0, 1);
	assert_noted(&host, 0, 1);
	assert_int_equal(none.calls, 0);
}

TEST_VMM(outstanding_notifications_are_bounded, .options.limits.max_fences = 2)
{
	struct note notes[4] = { 0 };

	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	notify(vmm, 1, &notes[0]);
	notify(vmm, 1, &notes[1]);
	assert_int_equal(notify_as(vmm, VGF_HOST, 2, &notes[2]), -ENOSPC);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	notify(vmm, 2, &notes[2]);
	notify(vmm, 2, &notes[3]);
	signal_it(vmm, 2, 0);
	vmm_dispatch(vmm);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(notes[i].calls, 1);
	}
}

TEST_VMM(without_memory_nobody_is_told)
{
	struct note note = { 0 };
	int ret;

	create_by_call(vmm, 1);
	alloc_fail(1);
	ret = notify_as(vmm, VGF_HOST, 1, &note);
	alloc_reset();
	assert_int_equal(ret, -ENOMEM);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	assert_int_equal(note.calls, 0);
}

/* ---- What it may do ----------------------------------------------------------------------- */

static void submit_work(struct note *note)
{
	assert_int_equal(submit(note->vmm, 1, 0, 2, NO_IN_FENCES), 0);
}

TEST_VMM(a_notification_may_submit, .answer = FAKE_DONE)
{
	struct note note = { .action = submit_work };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	notify(vmm, 1, &note);
	signal_it(vmm, 1, 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_noted(&note, 0, 1);
}

static void ask_for_the_next(struct note *note)
{
	notify(note->vmm, 2, note->next);
	assert_int_equal(notify_as(note->vmm, VGF_HOST, 1, note->next), 0);
}

TEST_VMM(a_notification_may_ask_for_another)
{
	struct note second = { 0 };
	struct note first = { .action = ask_for_the_next, .next = &second };

	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	notify(vmm, 1, &first);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	signal_it(vmm, 2, 0);
	vmm_dispatch(vmm);
	assert_noted(&first, 0, 1);
	assert_noted(&second, 0, 2);
}

static void dispatch_inside(struct note *note)
{
	signal_it(note->vmm, 3, 0);
	assert_true(vgf_device_dispatch(note->vmm->device, 0) >= 0);
}

TEST_VMM(a_notification_may_dispatch)
{
	struct note first = { .action = dispatch_inside };
	struct note second = { 0 }, third = { 0 }, first_again = { 0 };

	for (uint64_t id = 1; id <= 3; id++) {
		create_by_call(vmm, id);
	}
	notify(vmm, 1, &first);
	notify(vmm, 1, &first_again);
	notify(vmm, 2, &second);
	notify(vmm, 3, &third);
	signal_it(vmm, 2, 0);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(0));
	assert_noted(&first, 0, 1);
	assert_noted(&second, 0, 2);
	assert_noted(&third, 0, 3);
	assert_int_equal(first_again.calls, 1);
	assert_idle(vmm);
}

static void reset_inside(struct note *note)
{
	assert_int_equal(vgf_device_reset(note->vmm->device), 0);
}

TEST_VMM(a_notification_may_reset)
{
	struct note first = { .action = reset_inside };
	struct note second = { 0 }, third = { 0 };

	for (uint64_t id = 1; id <= 3; id++) {
		create_by_call(vmm, id);
	}
	notify(vmm, 1, &first);
	notify(vmm, 2, &second);
	notify(vmm, 3, &third);
	signal_it(vmm, 2, -EIO);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	assert_noted(&first, 0, 1);
	assert_noted(&second, -EIO, 2);
	assert_noted(&third, -ECANCELED, 3);
	assert_idle(vmm);
}

static void destroy_inside(struct note *note)
{
	vmm_destroy_device(note->vmm);
}

TEST_VMM(a_notification_may_destroy_the_device)
{
	struct note first = { .action = destroy_inside };
	struct note second = { 0 }, again = { 0 };

	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	notify(vmm, 1, &first);
	notify(vmm, 1, &again);
	notify(vmm, 2, &second);
	signal_it(vmm, 1, 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -ECANCELED);
	assert_noted(&first, 0, 1);
	assert_noted(&second, -ECANCELED, 2);
	assert_int_equal(again.calls, 1);
	assert_int_equal(again.status, 0);
}

static void destroy_in_callback(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct note *notes = vmm->arg;

	(void)status;
	if (name->fence_id != 1) {
		return;
	}
	assert_int_equal(notes[0].calls + notes[1].calls, 0);
	vmm_destroy_device(vmm);
	/* Whoever they are for may be gone from here on. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(notes[i].calls, 1);
	}
	assert_true(notes[0].turn < notes[1].turn);
}

TEST_VMM(what_follows_a_callback_comes_before_that_has_destroyed_the_device)
{
	struct note notes[3] = { 0 };

	vmm->on_retire = destroy_in_callback;
	vmm->arg = notes;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	notify(vmm, 1, &notes[0]);
	notify(vmm, 1, &notes[1]);
	notify(vmm, 2, &notes[2]);
	signal_it(vmm, 1, 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -ECANCELED);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(notes[i].calls, 1);
		assert_int_equal(notes[i].status, i < 2 ? 0 : -ECANCELED);
	}
}

static void cancel_inside(struct note *note)
{
	assert_int_equal(vgf_timeline_cancel(note->vmm->device, 0, VGF_RING_GLOBAL, -ETIME), 1);
}

TEST_VMM(a_notification_may_cancel)
{
	struct note first = { .action = cancel_inside }, second = { 0 };

	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	notify(vmm, 1, &first);
	notify(vmm, 2, &second);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	assert_noted(&first, 0, 1);
	assert_noted(&second, -ETIME, 2);
}

static void notify_from_callback(
	struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	/* The one that is called back for has signalled. */
	assert_int_equal(notify_as(vmm, VGF_HOST, name->fence_id, vmm->arg), 0);
	if (name->fence_id == 1) {
		notify(vmm, 2, vmm->arg);
	}
}

TEST_VMM(a_callback_may_ask)
{
	struct note note = { 0 };

	vmm->on_retire = notify_from_callback;
	vmm->arg = &note;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	signal_it(vmm, 1, 0);
	vmm_dispatch(vmm);
	signal_it(vmm, 2, 0);
	vmm_dispatch(vmm);
	assert_noted(&note, 0, 2);
}
