/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgf_device_trace: what a listener is told of fences, in which order, with which counters. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"

#define MAX_EVENTS 256

struct listener {
	struct vgf_event events[MAX_EVENTS];
	unsigned int count;
};

static void listen(void *arg, const struct vgf_event *event)
{
	struct listener *listener = arg;

	assert_true(listener->count < MAX_EVENTS);
	listener->events[listener->count++] = *event;
}

static const char letters[] = {
	[VGF_EVENT_ACCEPT] = 'a',
	[VGF_EVENT_WAIT] = 'w',
	[VGF_EVENT_HOLD] = 'h',
	[VGF_EVENT_RUN] = 'r',
	[VGF_EVENT_SIGNAL] = 's',
	[VGF_EVENT_RETIRE] = 'e',
	[VGF_EVENT_STALL] = '!',
	[VGF_EVENT_REFUSE] = 'x',
};

/* What has happened to a fence with this ID, a letter for each event. */
static void assert_life(const struct listener *listener, uint64_t fence_id, const char *expected)
{
	char life[MAX_EVENTS + 1] = "";
	size_t length = 0;

	for (unsigned int i = 0; i < listener->count; i++) {
		if (listener->events[i].fence.fence_id == fence_id) {
			life[length++] = letters[listener->events[i].kind];
		}
	}
	assert_string_equal(life, expected);
}

/* The n-th event of this kind. */
static const struct vgf_event *find(
	const struct listener *listener, enum vgf_event_kind kind, unsigned int n)
{
	for (unsigned int i = 0; i < listener->count; i++) {
		if (listener->events[i].kind == kind && n-- == 0) {
			return &listener->events[i];
		}
	}
	fail_msg("there is no such event of kind %d", kind);
	return NULL;
}

static void assert_name(
	const struct vgf_fence_name *name, uint32_t ctx_id, int32_t ring, uint64_t fence_id)
{
	assert_int_equal(name->ctx_id, ctx_id);
	assert_int_equal(name->ring, ring);
	assert_int_equal(name->fence_id, fence_id);
}

TEST_VMM(work_that_waits_and_work_that_does_not)
{
	struct listener listener = { 0 };

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), ID(0)), 1);
	assert_life(&listener, 1, "ar");
	assert_life(&listener, 2, "awh");
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_life(&listener, 1, "ars");
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(signal_call(vmm, 1, 1, 2, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_life(&listener, 1, "arse");
	assert_life(&listener, 2, "awhrse");

	assert_name(&find(&listener, VGF_EVENT_ACCEPT, 1)->fence, 1, 1, 2);
	assert_name(&find(&listener, VGF_EVENT_WAIT, 0)->in_fence, 1, 0, 1);
	assert_int_equal(find(&listener, VGF_EVENT_RUN, 0)->wait, VGF_WAIT_NONE);
	assert_int_equal(find(&listener, VGF_EVENT_RUN, 1)->wait, VGF_WAIT_HOST);
	assert_int_equal(find(&listener, VGF_EVENT_SIGNAL, 0)->status, 0);
	assert_int_equal(find(&listener, VGF_EVENT_SIGNAL, 1)->status, -EIO);
	assert_int_equal(find(&listener, VGF_EVENT_RETIRE, 1)->status, -EIO);
	for (unsigned int i = 1; i < listener.count; i++) {
		assert_true(listener.events[i].t_ns >= listener.events[i - 1].t_ns);
	}
	vmm_destroy_device(vmm);
}

TEST_VMM(events_have_the_counters, .answer = FAKE_FD)
{
	struct listener listener = { 0 };

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), ID(0)), 1);
	assert_int_equal(find(&listener, VGF_EVENT_ACCEPT, 0)->pending, 1);
	assert_int_equal(find(&listener, VGF_EVENT_HOLD, 0)->pending, 2);
	assert_int_equal(find(&listener, VGF_EVENT_HOLD, 0)->held, 1);
	assert_int_equal(find(&listener, VGF_EVENT_HOLD, 0)->fds, 1);
	driver_signal(driver, 1);
	vmm_wait(vmm, 1);
	driver_signal(driver, 2);
	vmm_wait(vmm, 2);
	assert_int_equal(find(&listener, VGF_EVENT_RETIRE, 1)->pending, 0);
	assert_int_equal(find(&listener, VGF_EVENT_RETIRE, 1)->held, 0);
	vmm_destroy_device(vmm);
}

TEST_VMM(a_fence_that_waits_for_its_turn)
{
	struct listener listener = { 0 };

	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 2, 0), 0);
	assert_life(&listener, 2, "as");
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_life(&listener, 1, "ase");
	assert_life(&listener, 2, "ase");
	vmm_destroy_device(vmm);
}

TEST_VMM(what_is_refused)
{
	struct listener listener = { 0 };

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	/* With a place: the fence retires with the error. */
	assert_int_equal(submit_flags(vmm, 1, 0, 5, VGF_FENCED, &(uint64_t){ 99 }, 1, &(bool){ 0 }),
		-ENOENT);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_life(&listener, 5, "xse");
	assert_int_equal(find(&listener, VGF_EVENT_REFUSE, 0)->status, -ENOENT);
	assert_int_equal(find(&listener, VGF_EVENT_RETIRE, 0)->status, -ENOENT);
	/* Without: there is no such context. */
	assert_int_equal(submit_flags(vmm, 7, 0, 6, VGF_FENCED, NULL, 0, &(bool){ 0 }), -ENOENT);
	assert_life(&listener, 6, "x");
	assert_int_equal(
		vgf_fence_refuse(vmm->device, &(struct vgf_fence_name){ 8, 1, 0 }, 0, NULL, -EPERM),
		0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_life(&listener, 8, "xse");
	assert_int_equal(create_fence(vmm, 1, 0, 8, VGF_FENCE_BY_CALL), -EINVAL);
	assert_life(&listener, 8, "xsex");
	vmm_destroy_device(vmm);
}

TEST_VMM(what_is_given_up_on_never_runs)
{
	struct listener listener = { 0 };

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), ID(0)), 1);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_life(&listener, 1, "arse");
	assert_life(&listener, 2, "awhse");
	assert_int_equal(find(&listener, VGF_EVENT_RETIRE, 1)->status, -ECANCELED);
	vmm_destroy_device(vmm);
}

TEST_VMM(a_driver_that_does_not_take_the_descriptors, .wait = VGF_WAIT_DRIVER, .answer = FAKE_FD)
{
	struct listener listener = { 0 };

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	driver->answer = FAKE_ERROR;
	driver->error = -EMFILE;
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), ID(0)), 1);
	assert_life(&listener, 2, "awrh");
	assert_int_equal(find(&listener, VGF_EVENT_RUN, 1)->wait, VGF_WAIT_DRIVER);
	driver_signal(driver, 1);
	vmm_wait(vmm, 1);
	vmm_dispatch(vmm);
	assert_life(&listener, 2, "awrhr");
	assert_int_equal(find(&listener, VGF_EVENT_RUN, 2)->wait, VGF_WAIT_HOST);
	vmm_destroy_device(vmm);
}

TEST_VMM(an_in_fence_of_the_vmm_has_no_id, .answer = FAKE_DONE)
{
	struct listener listener = { 0 };
	int fd = make_fence(false);
	const struct vgf_submission submission = {
		.fence = { .fence_id = 1, .ctx_id = 1, .ring = 0 },
		.flags = VGF_FENCED,
		.in_fence_fds = &fd,
		.num_in_fence_fds = 1,
	};

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	signal_fence(fd);
	vmm_wait(vmm, 1);
	assert_true(find(&listener, VGF_EVENT_WAIT, 0)->in_fence.fence_id == VGF_NO_FENCE_ID);
	assert_life(&listener, 1, "awhrse");
	assert_life(&listener, VGF_NO_FENCE_ID, "");
	close(fd);
	vmm_destroy_device(vmm);
}

TEST_VMM(a_stall_is_an_event, .options.stall_ns = 1000000)
{
	struct listener listener = { 0 };

	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	while (vmm->num_stalls == 0) {
		vgf_device_dispatch(vmm->device, WAIT_MS);
	}
	assert_life(&listener, 1, "a!");
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_wait(vmm, 1);
	vmm_destroy_device(vmm);
}

TEST_VMM(a_stall_of_work_without_a_fence_has_no_fence, .answer = FAKE_DONE,
	.options.stall_ns = 1000000)
{
	struct listener listener = { 0 };
	int fd = make_fence(false);
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 77),
		.in_fence_fds = &fd,
		.num_in_fence_fds = 1,
	};

	driver_open(driver, vmm, 1);
	vgf_device_trace(vmm->device, listen, &listener);
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	while (vmm->num_stalls == 0) {
		vgf_device_dispatch(vmm->device, WAIT_MS);
	}
	assert_int_equal(find(&listener, VGF_EVENT_STALL, 0)->flags, 0);
	submission.fence.fence_id = 78;
	submission.flags = VGF_FENCED | VGF_SHAREABLE;
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	while (vmm->num_stalls < 3) {
		vgf_device_dispatch(vmm->device, WAIT_MS);
	}
	/* The descriptor, and the fence of the work that waits for it. */
	assert_int_equal(find(&listener, VGF_EVENT_STALL, 1)->flags, VGF_FENCED);
	assert_int_equal(find(&listener, VGF_EVENT_STALL, 2)->flags, VGF_FENCED);
	vmm_destroy_device(vmm);
	close(fd);
}

TEST_VMM(one_listener_at_a_time, .answer = FAKE_DONE)
{
	struct listener first = { 0 }, second = { 0 };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	vgf_device_trace(vmm->device, listen, &first);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	vgf_device_trace(vmm->device, listen, &second);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	vgf_device_trace(vmm->device, NULL, NULL);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 0);
	vmm_wait(vmm, 4);
	assert_life(&first, 1, "");
	assert_life(&first, 2, "ars");
	assert_life(&first, 3, "");
	assert_life(&second, 2, "");
	assert_life(&second, 3, "ars");
	assert_life(&second, 4, "");
}
