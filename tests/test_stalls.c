/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What is said of descriptors of the VMM's that do not signal, and of many stalls at once. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A fence that is not done at once counts as stalled. */
#define AT_ONCE 1

static void wait_for_stalls(struct fake_vmm *vmm, unsigned int count)
{
	for (int i = 0; vmm->num_stalls < count && i < 1000; i++) {
		assert_true(vgf_device_dispatch(vmm->device, WAIT_MS) >= 0);
	}
	assert_int_equal(vmm->num_stalls, count);
}

static bool is_same_file(int fd, int other)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	uint64_t count = 1;
	bool same;

	/* An eventfd has no inode of its own: what is written to one is read from the other. */
	assert_true(copy >= 0);
	assert_int_equal(write(copy, &count, sizeof(count)), sizeof(count));
	same = read(other, &count, sizeof(count)) == sizeof(count);
	close(copy);
	return same;
}

static int submit_fd(
	struct fake_vmm *vmm, int32_t ring, uint64_t fence_id, uint32_t flags, int fence_fd)
{
	const struct vgf_submission submission = {
		.fence = make_name(1, ring, fence_id),
		.flags = flags,
		.in_fence_fds = &fence_fd,
		.num_in_fence_fds = 1,
	};

	return vgf_submit(vmm->device, &submission, NULL);
}

/* ---- In-fences that the VMM gave ---------------------------------------------------------- */

struct imported_stalls {
	unsigned int imported, own;
	int fence_fd; /* a copy of the imported one */
	struct vgf_fence_name name;
};

static void note_stall(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	struct imported_stalls *stalls = vmm->arg;

	assert_true(stall->fence.ring != INT32_MIN && stall->fence.fence_id != UINT64_MAX);
	if (!stall->imported) {
		stalls->own++;
		return;
	}
	stalls->imported++;
	assert_true(stall->held && stall->fence_fd >= 0);
	stalls->name = stall->fence;
	stalls->fence_fd = fcntl(stall->fence_fd, F_DUPFD_CLOEXEC, 0);
}

/* Without a name of its own it is reported by that of the work, which is reported too. */
static void stall_import(struct fake_vmm *vmm, struct fake_driver *driver,
	struct imported_stalls *stalls, int fence_fd)
{
	vmm->arg = stalls;
	vmm->on_stall = note_stall;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fd(vmm, 7, 11, VGF_FENCED, fence_fd), 1);
	wait_for_stalls(vmm, 2);
	assert_int_equal(stalls->imported, 1);
	assert_int_equal(stalls->own, 1);
	assert_int_equal(stalls->name.ctx_id, 1);
	assert_int_equal(stalls->name.ring, 7);
	assert_int_equal(stalls->name.fence_id, 11);
	close(stalls->fence_fd);
}

static void check_file(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	if (stall->imported) {
		assert_true(is_same_file(stall->fence_fd, *(int *)vmm->arg));
	}
}

TEST_VMM(a_stalled_import_is_reported_with_its_descriptor, .answer = FAKE_DONE,
	.options.stall_ns = AT_ONCE)
{
	int fence_fd = make_fence(false);

	vmm->arg = &fence_fd;
	vmm->on_stall = check_file;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fd(vmm, 7, 11, VGF_FENCED, fence_fd), 1);
	wait_for_stalls(vmm, 2);
	close(fence_fd);
}

TEST_VMM(a_stalled_import_is_reported_by_the_name_of_its_work, .answer = FAKE_DONE,
	.options.stall_ns = AT_ONCE)
{
	struct imported_stalls stalls = { 0 };
	int fence_fd = make_fence(false);

	stall_import(vmm, driver, &stalls, fence_fd);
	signal_fence(fence_fd);
	vmm_wait(vmm, 1);
	assert_retired(vmm, 0, 1, 7, 11, 0);
	assert_int_equal(vmm->num_stalls, 2);
	close(fence_fd);
}

TEST_VMM(work_whose_import_stalls_is_dropped_by_that_name, .answer = FAKE_DONE,
	.options.stall_ns = AT_ONCE)
{
	struct imported_stalls stalls = { 0 };
	int fence_fd = make_fence(false);

	stall_import(vmm, driver, &stalls, fence_fd);
	assert_int_equal(vgf_fence_cancel(vmm->device, &stalls.name, -ETIME), 0);
	vmm_wait(vmm, 1);
	assert_retired(vmm, 0, 1, 7, 11, -ETIME);
	assert_int_equal(driver->num_jobs, 0);
	assert_idle(vmm);
	close(fence_fd);
}

static void drop_at_once(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	int ret = vgf_fence_cancel(vmm->device, &stall->fence, -ETIME);

	assert_true(ret == 0 || ret == -EALREADY);
}

TEST_VMM(work_whose_import_stalls_is_dropped_from_inside_the_report, .answer = FAKE_DONE,
	.options.stall_ns = AT_ONCE)
{
	int fence_fd = make_fence(false);

	vmm->on_stall = drop_at_once;
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit_fd(vmm, (int32_t)id, id, VGF_FENCED, fence_fd), 1);
	}
	vmm_wait(vmm, 3);
	assert_retired(vmm, 2, 1, 3, 3, -ETIME);
	assert_idle(vmm);
	close(fence_fd);
}

TEST_VMM(unfenced_work_whose_import_stalls_has_its_own_name_too, .answer = FAKE_DONE,
	.options.stall_ns = AT_ONCE)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fd(vmm, 2, 0, 0, fence_fd), 1);
	wait_for_stalls(vmm, 1);
	assert_true(vmm->stall.imported);
	assert_int_equal(vmm->stall.fence.ctx_id, 1);
	assert_int_equal(vmm->stall.fence.ring, 2);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_idle(vmm);
	close(fence_fd);
}

TEST_VMM(no_message_names_an_import, .answer = FAKE_DONE, .options.stall_ns = AT_ONCE)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fd(vmm, 7, 0, 0, fence_fd), 1);
	wait_for_stalls(vmm, 1);
	assert_non_null(strstr(vmm->log, "context 1 ring 7"));
	assert_null(strstr(vmm->log, "18446744073709551615"));
	assert_null(strstr(vmm->log, "-2147483648"));
	close(fence_fd);
}

/* ---- Many at once ------------------------------------------------------------------------- */

#define MANY 150

static void count_stall(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	unsigned int *counts = vmm->arg;

	assert_true(stall->fence.fence_id <= MANY);
	counts[stall->fence.fence_id]++;
}

TEST_VMM(a_round_reports_64_stalls_and_the_next_ones_the_rest, .options.stall_ns = AT_ONCE)
{
	unsigned int counts[MANY + 1] = { 0 };
	unsigned int before = 0;

	vmm->arg = counts;
	vmm->on_stall = count_stall;
	for (uint64_t id = 1; id <= MANY; id++) {
		uint32_t ctx_id = 1 + (uint32_t)(id % 5);
		if (id <= 5) {
			driver_open(driver, vmm, ctx_id);
		}
		assert_int_equal(
			create_fence(vmm, ctx_id, (int32_t)(id / 5), id, VGF_FENCE_BY_CALL), 0);
	}
	while (vmm->num_stalls < MANY) {
		assert_true(vgf_device_dispatch(vmm->device, WAIT_MS) >= 0);
		assert_true(vmm->num_stalls - before <= 64);
		before = vmm->num_stalls;
	}
	for (int i = 0; i < 20; i++) {
		assert_int_equal(vgf_device_dispatch(vmm->device, 0), 0);
	}
	for (uint64_t id = 1; id <= MANY; id++) {
		assert_int_equal(counts[id], 1);
	}
}

/* The other one shows that there was time for a report. */
TEST_VMM(a_patient_fence_is_never_stalled, .options.stall_ns = AT_ONCE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 1, 1, VGF_FENCED | VGF_PATIENT, NULL, 0, NULL), 0);
	assert_int_equal(submit(vmm, 1, 2, 2, NO_IN_FENCES), 0);
	wait_for_stalls(vmm, 1);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(vgf_device_dispatch(vmm->device, 0), 0);
	}
	assert_int_equal(vmm->num_stalls, 1);
	assert_int_equal(vmm->stall.fence.fence_id, 2);
}

/* ---- What the work does ------------------------------------------------------------------- */

static void note_state(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	static const char *const texts[] = { NULL, "its work runs", "its work waits for in-fences",
		"its work waits for its turn" };

	assert_non_null(strstr(vmm->log, texts[stall->fence.fence_id]));
	assert_int_equal(stall->held, stall->fence.fence_id != 1);
}

TEST_VMM(a_stall_tells_what_the_work_waits_for, .options.stall_ns = AT_ONCE)
{
	vmm->on_stall = note_state;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 1, 3, NO_IN_FENCES), 1);
	wait_for_stalls(vmm, 3);
}

static void *stall_one(void *arg)
{
	struct fake_vmm *vmm = arg;

	while (vmm->num_stalls == 0 && vgf_device_dispatch(vmm->device, WAIT_MS) >= 0) {
	}
	return NULL;
}

static void stall_in_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, stall_one, driver->arg), 0);
	pthread_join(thread, NULL);
}

TEST_VMM(work_that_its_driver_does_not_let_go_of_is_not_held, .options.stall_ns = AT_ONCE)
{
	driver->arg = vmm;
	driver->on_submit = stall_in_submit;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm->num_stalls, 1);
	assert_false(vmm->stall.held);
}

/* ---- What a reset finds ------------------------------------------------------------------- */

static void submit_two(struct fake_vmm *vmm, struct fake_driver *driver)
{
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)(id % 2), id, NO_IN_FENCES), 0);
	}
	/* One behind a pending one of its ring, one at the front. */
	driver_signal(driver, 3);
	driver_signal(driver, 2);
}

static void check_statuses(const struct fake_vmm *vmm)
{
	assert_int_equal(vmm->num_retired, 4);
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t id = vmm->retired[i].name.fence_id;
		assert_int_equal(vmm->retired[i].status, id == 2 || id == 3 ? 0 : -ECANCELED);
	}
}

TEST_VMM(a_reset_asks_descriptors_first, .answer = FAKE_FD)
{
	submit_two(vmm, driver);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	check_statuses(vmm);
}

TEST_VMM(the_end_of_a_device_asks_descriptors_first, .answer = FAKE_FD)
{
	submit_two(vmm, driver);
	vmm_destroy_device(vmm);
	check_statuses(vmm);
}
