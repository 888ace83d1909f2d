/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Syncobjs, with the fences of vgem, on whichever DRM device of the virtual host has them: vgem in
 * the one, virtio-gpu in the other. The linker puts functions of this file in the place of some of
 * libdrm's, so that these can fail.
 */

#include "fake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <xf86drm.h>

#include <vgfence/context_driver.h>
#include <vgfence/sync_file.h>
#include <vgfence/syncobj.h>

#include "alloc.h"
#include "sw_sync.h"
#include "vgem.h"

#define NEVER INT64_MAX
#define DRM_NR_SYNCOBJ_EVENTFD 0xcf

/* ---- A kernel that fails ------------------------------------------------------------------ */

static bool is_old_kernel;  /* has no SYNCOBJ_EVENTFD */
static int failed_transfer; /* the number of the one that fails; 0 for none */

int __real_drmIoctl(int fd, unsigned long request, void *arg);
int __wrap_drmIoctl(int fd, unsigned long request, void *arg);
int __real_drmSyncobjTransfer(int fd, uint32_t dst_handle, uint64_t dst_point, uint32_t src_handle,
	uint64_t src_point, uint32_t flags);
int __wrap_drmSyncobjTransfer(int fd, uint32_t dst_handle, uint64_t dst_point, uint32_t src_handle,
	uint64_t src_point, uint32_t flags);

int __wrap_drmIoctl(int fd, unsigned long request, void *arg)
{
	if (is_old_kernel && _IOC_NR(request) == DRM_NR_SYNCOBJ_EVENTFD) {
		errno = EINVAL;
		return -1;
	}
	return __real_drmIoctl(fd, request, arg);
}

int __wrap_drmSyncobjTransfer(int fd, uint32_t dst_handle, uint64_t dst_point, uint32_t src_handle,
	uint64_t src_point, uint32_t flags)
{
	if (failed_transfer > 0 && --failed_transfer == 0) {
		errno = ENOMEM;
		return -1;
	}
	return __real_drmSyncobjTransfer(fd, dst_handle, dst_point, src_handle, src_point, flags);
}

/* ---- Devices and fences ------------------------------------------------------------------- */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int closed_fd(void)
{
	int fd = make_fence(false);

	close(fd);
	return fd;
}

/* Opens the first DRM device that has all of these features; with 0, one that has none. Negative if
 * there is none. */
static int open_drm(int features)
{
	DIR *dir = opendir("/dev/dri");
	const struct dirent *entry;
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		int found;

		if (strncmp(entry->d_name, "card", 4) != 0 &&
			strncmp(entry->d_name, "render", 6) != 0) {
			continue;
		}
		fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
		found = fd < 0 ? 0 : vgf_syncobj_probe(fd);
		if (fd >= 0 && (features == 0 ? found != 0 : (found & features) != features)) {
			close(fd);
			fd = -1;
		}
	}
	if (dir) {
		closedir(dir);
	}
	return fd;
}

static void skip_without(const char *what)
{
	print_message("skipped: no %s here; `./run vm` runs this where there is one\n", what);
	skip();
}

/* What nearly every test needs: a device that has syncobjs, and one that makes fences. */
struct rig {
	int drm;
	int vgem;
	uint32_t handle; /* of a syncobj without a fence */
};

static struct rig need_rig(void)
{
	struct rig rig;

	is_old_kernel = false;
	failed_transfer = 0;
	rig.vgem = vgem_open();
	if (rig.vgem < 0) {
		skip_without("vgem device in /dev/dri");
	}
	rig.drm = open_drm(VGF_SYNCOBJ_TIMELINE);
	if (rig.drm < 0) {
		close(rig.vgem);
		skip_without("DRM device with timelines");
	}
	assert_int_equal(vgf_syncobj_create(rig.drm, &rig.handle), 0);
	return rig;
}

/* No syncobj is left: the kernel gives the lowest handles that are free. */
static void rig_finish(struct rig *rig)
{
	uint32_t handle;

	vgf_syncobj_destroy(rig->drm, rig->handle);
	for (uint32_t free_handle = 1; free_handle <= 16; free_handle++) {
		assert_int_equal(vgf_syncobj_create(rig->drm, &handle), 0);
		assert_int_equal(handle, free_handle);
	}
	close(rig->drm);
	close(rig->vgem);
}

#define TEST_RIG(name) TEST_WITH(name, struct rig, rig, need_rig(), rig_finish(&rig))

static struct vgem_fence make_vgem_fence(const struct rig *rig)
{
	struct vgem_fence fence;

	assert_int_equal(vgem_fence_init(rig->vgem, &fence), 0);
	assert_int_equal(vgf_sync_file_status(fence.fd), 0);
	return fence;
}

static void signal_vgem_fence(const struct rig *rig, const struct vgem_fence *fence)
{
	assert_int_equal(vgem_fence_signal(rig->vgem, fence), 0);
}

static void import(const struct rig *rig, uint64_t point, int fence_fd)
{
	assert_int_equal(vgf_syncobj_import_sync_file(rig->drm, rig->handle, point, fence_fd), 0);
}

static int export(const struct rig *rig, uint64_t point)
{
	return vgf_syncobj_export_sync_file(rig->drm, rig->handle, point);
}

/* 1 signalled, 0 pending, or an error, of export too. */
static int point_status(const struct rig *rig, uint64_t point)
{
	int fd = export(rig, point);
	int status;

	if (fd < 0) {
		return fd;
	}
	status = vgf_sync_file_status(fd);
	close(fd);
	return status;
}

/* ---- Any descriptor ----------------------------------------------------------------------- */

/* Every function with this descriptor as its device. */
static void assert_no_device(int drm, int error)
{
	int fence = make_fence(false);
	const struct vgf_in_fence in_fence = { .fd = fence };
	const struct vgf_job job = { .in_fences = &in_fence, .num_in_fences = 1 };
	const struct vgf_job empty = { .num_in_fences = 0 };
	uint32_t handle = 7;

	assert_int_equal(vgf_syncobj_probe(drm), error);
	assert_int_equal(vgf_syncobj_create(drm, &handle), error);
	assert_int_equal(handle, 0);
	assert_int_equal(vgf_syncobj_wait_submitted(drm, 1, 1, NEVER), error);
	assert_int_equal(vgf_syncobj_notify(drm, 1, 1, VGF_SYNCOBJ_SUBMITTED, fence), error);
	for (uint64_t point = 0; point <= 1; point++) {
		assert_int_equal(vgf_syncobj_import_sync_file(drm, 1, point, fence), error);
		assert_int_equal(vgf_syncobj_export_sync_file(drm, 1, point), error);
	}
	/* A driver's submit returns it for what it cannot do, so that the host waits. */
	error = error == -ENOTTY ? -EOPNOTSUPP : error;
	assert_int_equal(vgf_syncobj_import_job(drm, 1, 0, &job), error);
	assert_int_equal(vgf_syncobj_import_job(drm, 1, 1, &empty), error);
	assert_int_equal(vgf_syncobj_import_job_points(drm, 1, 1, &empty), error);
	vgf_syncobj_destroy(drm, 1);
	close(fence);
}

TEST(what_is_no_drm_device_is_enotty)
{
	const int fds[] = { make_fence(true), open("/proc/self/exe", O_RDONLY | O_CLOEXEC) };

	for (size_t i = 0; i < 2; i++) {
		assert_no_device(fds[i], -ENOTTY);
		close(fds[i]);
	}
}

TEST(a_device_that_is_not_open_is_ebadf)
{
	assert_no_device(-1, -EBADF);
	assert_no_device(INT_MAX, -EBADF);
}

/* ---- Devices ------------------------------------------------------------------------------ */

TEST(a_device_without_syncobjs_is_eopnotsupp)
{
	int drm = open_drm(0);
	uint32_t handle = 7;

	if (drm < 0) {
		skip_without("DRM device without syncobjs");
	}
	assert_int_equal(vgf_syncobj_create(drm, &handle), -EOPNOTSUPP);
	assert_int_equal(handle, 0);
	assert_int_equal(vgf_syncobj_wait_submitted(drm, 1, 1, 0), -EOPNOTSUPP);
	for (uint64_t point = 0; point <= 1; point++) {
		int fence = make_fence(true);

		assert_int_equal(vgf_syncobj_import_sync_file(drm, 1, point, fence), -EOPNOTSUPP);
		assert_int_equal(vgf_syncobj_export_sync_file(drm, 1, point), -EOPNOTSUPP);
		close(fence);
	}
	close(drm);
}

TEST_RIG(probing_tells_what_works)
{
	int features = vgf_syncobj_probe(rig.drm);
	int event = make_fence(false);
	int notify = vgf_syncobj_notify(rig.drm, rig.handle, 1, VGF_SYNCOBJ_SUBMITTED, event);

	assert_true(features & VGF_SYNCOBJ_BINARY);
	assert_true(features & VGF_SYNCOBJ_TIMELINE);
	assert_int_equal(notify, features & VGF_SYNCOBJ_EVENTFD ? 0 : -EOPNOTSUPP);
	close(event);
}

TEST_RIG(a_handle_that_is_not_there_is_enoent)
{
	struct vgem_fence fence = make_vgem_fence(&rig);
	const struct vgf_in_fence in_fence = { .fd = fence.fd };
	const struct vgf_job job = { .in_fences = &in_fence, .num_in_fences = 1 };
	const uint32_t handles[] = { 0, 99, UINT32_MAX };

	for (size_t i = 0; i < 3; i++) {
		for (uint64_t point = 0; point <= 1; point++) {
			assert_int_equal(
				vgf_syncobj_import_sync_file(rig.drm, handles[i], point, fence.fd),
				-ENOENT);
			assert_int_equal(
				vgf_syncobj_export_sync_file(rig.drm, handles[i], point), -ENOENT);
			assert_int_equal(
				vgf_syncobj_wait_submitted(rig.drm, handles[i], point, NEVER),
				-ENOENT);
			assert_int_equal(
				vgf_syncobj_import_job(rig.drm, handles[i], point, &job), -ENOENT);
		}
		assert_int_equal(
			vgf_syncobj_import_job_points(rig.drm, handles[i], 1, &job), -ENOENT);
		vgf_syncobj_destroy(rig.drm, handles[i]);
	}
	signal_vgem_fence(&rig, &fence);
	vgem_fence_finish(rig.vgem, &fence);
}

/* ---- Sync files in and out ---------------------------------------------------------------- */

TEST_RIG(a_syncobj_without_a_fence_is_eagain)
{
	assert_int_equal(export(&rig, 0), -EAGAIN);
	assert_int_equal(export(&rig, 1), -EAGAIN);
	assert_int_equal(export(&rig, UINT64_MAX), -EAGAIN);
}

TEST_RIG(a_binary_syncobj_returns_its_fence)
{
	struct vgem_fence first = make_vgem_fence(&rig), second = make_vgem_fence(&rig);
	int fd;

	import(&rig, 0, first.fd);
	fd = export(&rig, 0);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(vgf_sync_file_status(fd), 0);
	signal_vgem_fence(&rig, &first);
	assert_int_equal(vgf_sync_file_status(fd), 1);
	assert_int_equal(point_status(&rig, 0), 1);

	import(&rig, 0, second.fd); /* in its place */
	assert_int_equal(vgf_sync_file_status(fd), 1);
	assert_int_equal(point_status(&rig, 0), 0);
	signal_vgem_fence(&rig, &second);
	assert_int_equal(point_status(&rig, 0), 1);
	close(fd);
	vgem_fence_finish(rig.vgem, &first);
	vgem_fence_finish(rig.vgem, &second);
}

TEST_RIG(a_point_returns_its_fence_and_those_before)
{
	struct vgem_fence fences[3];

	for (int i = 0; i < 3; i++) {
		fences[i] = make_vgem_fence(&rig);
		import(&rig, 10 * (uint64_t)(i + 1), fences[i].fd);
	}
	assert_int_equal(point_status(&rig, 31), -EAGAIN);
	signal_vgem_fence(&rig, &fences[2]);
	assert_int_equal(point_status(&rig, 30), 0);
	signal_vgem_fence(&rig, &fences[0]);
	assert_int_equal(point_status(&rig, 10), 1);
	assert_int_equal(point_status(&rig, 11), 0); /* the next point stands for it */
	assert_int_equal(point_status(&rig, 30), 0);
	signal_vgem_fence(&rig, &fences[1]);
	assert_int_equal(point_status(&rig, 20), 1);
	assert_int_equal(point_status(&rig, 30), 1);
	for (int i = 0; i < 3; i++) {
		vgem_fence_finish(rig.vgem, &fences[i]);
	}
}

static int need_timeline(struct rig *rig)
{
	int timeline = sw_sync_timeline();

	if (timeline < 0) {
		rig_finish(rig);
		skip_without(SW_SYNC_PATH);
	}
	return timeline;
}

/* Exported while it was pending: an error of what has signalled before an import to a point is
 * lost in the kernel. */
TEST_RIG(an_error_is_told_by_what_was_exported_before)
{
	int timeline = need_timeline(&rig);
	int fence = sw_sync_fence(timeline, 1);
	struct vgf_sync_file_fence info;
	int binary, point;

	assert_true(fence >= 0);
	import(&rig, 0, fence);
	binary = export(&rig, 0);
	import(&rig, 1, fence);
	point = export(&rig, 1);
	assert_int_equal(vgf_sync_file_status(binary), 0);
	assert_int_equal(vgf_sync_file_status(point), 0);
	close(timeline); /* with the fence pending: an error */
	assert_int_equal(vgf_sync_file_status(binary), -ENOENT);
	assert_int_equal(vgf_sync_file_poll(point), 1);
	assert_int_equal(vgf_sync_file_status(point), -ENOENT);
	assert_int_equal(vgf_sync_file_info(point, &info, 1), 1);
	assert_int_equal(info.status, -ENOENT);
	close(binary);
	close(point);
	close(fence);
}

TEST_RIG(a_refused_import_changes_nothing)
{
	struct vgem_fence fence = make_vgem_fence(&rig);
	int event = make_fence(true);

	import(&rig, 0, fence.fd);
	for (uint64_t point = 0; point <= 1; point++) {
		const int fds[] = { event, rig.drm, -2, closed_fd() };
		const int errors[] = { -ENOTTY, -ENOTTY, -EBADF, -EBADF };

		for (size_t i = 0; i < 4; i++) {
			assert_int_equal(
				vgf_syncobj_import_sync_file(rig.drm, rig.handle, point, fds[i]),
				errors[i]);
		}
		assert_int_equal(point_status(&rig, 0), 0);
		assert_int_equal(point_status(&rig, 1), -EAGAIN);
	}
	close(event);
	signal_vgem_fence(&rig, &fence);
	vgem_fence_finish(rig.vgem, &fence);
}

TEST_RIG(a_failure_on_the_way_to_a_point_leaves_no_syncobj)
{
	struct vgem_fence fence = make_vgem_fence(&rig);

	failed_transfer = 1;
	assert_int_equal(vgf_syncobj_import_sync_file(rig.drm, rig.handle, 1, fence.fd), -ENOMEM);
	assert_int_equal(point_status(&rig, 1), -EAGAIN);
	import(&rig, 1, fence.fd);
	failed_transfer = 1;
	assert_int_equal(export(&rig, 1), -ENOMEM);
	assert_int_equal(point_status(&rig, 1), 0);
	signal_vgem_fence(&rig, &fence);
	vgem_fence_finish(rig.vgem, &fence);
}

TEST_RIG(an_export_takes_one_descriptor_or_is_emfile)
{
	struct vgem_fence fence = make_vgem_fence(&rig);

	import(&rig, 1, fence.fd);
	for (uint64_t point = 0; point <= 1; point++) {
		int before = count_fds(), imported, none, one;

		limit_fds(0);
		imported = vgf_syncobj_import_sync_file(
			rig.drm, rig.handle, point == 0 ? 0 : 2, fence.fd);
		none = export(&rig, point);
		limit_fds(1);
		one = export(&rig, point);
		unlimit_fds();
		assert_int_equal(imported, 0);
		assert_int_equal(none, -EMFILE);
		assert_true(one >= 0);
		assert_int_equal(count_fds(), before + 1);
		close(one);
		vgf_syncobj_destroy(rig.drm, rig.handle);
		assert_int_equal(vgf_syncobj_create(rig.drm, &rig.handle), 0);
		import(&rig, 1, fence.fd);
	}
	signal_vgem_fence(&rig, &fence);
	vgem_fence_finish(rig.vgem, &fence);
}

/* ---- Waiting for a submission ------------------------------------------------------------- */

static int wait_submitted(const struct rig *rig, uint64_t point, int64_t deadline_ns)
{
	return vgf_syncobj_wait_submitted(rig->drm, rig->handle, point, deadline_ns);
}

TEST_RIG(a_submitted_fence_ends_any_wait)
{
	struct vgem_fence fence = make_vgem_fence(&rig);
	const int64_t deadlines[] = { INT64_MIN, -1, 0, 1, NEVER - 1, NEVER };

	for (uint64_t point = 0; point <= 2; point += 2) {
		import(&rig, point, fence.fd);
		for (size_t i = 0; i < 6; i++) {
			assert_int_equal(wait_submitted(&rig, point, deadlines[i]), 0);
		}
	}
	assert_int_equal(wait_submitted(&rig, 1, 0), 0);
	assert_int_equal(wait_submitted(&rig, 3, 0), -ETIME);
	assert_int_equal(vgf_sync_file_status(fence.fd), 0);
	signal_vgem_fence(&rig, &fence);
	assert_int_equal(wait_submitted(&rig, 1, 0), 0);
	vgem_fence_finish(rig.vgem, &fence);
}

TEST_RIG(a_deadline_that_is_past_does_not_wait)
{
	const int64_t deadlines[] = { INT64_MIN, -1, 0, 1, now_ns() };

	for (uint64_t point = 0; point <= 1; point++) {
		for (size_t i = 0; i < 5; i++) {
			assert_int_equal(wait_submitted(&rig, point, deadlines[i]), -ETIME);
		}
	}
}

static void ignore_signal(int number)
{
	(void)number;
}

static void start_storm(void)
{
	const struct sigaction action = { .sa_handler = ignore_signal }; /* without SA_RESTART */
	const struct timeval period = { .tv_usec = 500 };
	const struct itimerval often = { .it_interval = period, .it_value = period };

	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static void stop_storm(void)
{
	const struct itimerval off = { .it_value = { 0 } };

	setitimer(ITIMER_REAL, &off, NULL);
}

TEST_RIG(a_wait_does_not_end_before_its_deadline)
{
	for (int i = 0; i < 4; i++) {
		int64_t deadline_ns = now_ns() + 20000000;

		if (i >= 2) {
			start_storm();
		}
		assert_int_equal(wait_submitted(&rig, i % 2, deadline_ns), -ETIME);
		assert_true(now_ns() >= deadline_ns);
		stop_storm();
	}
}

struct waiter {
	struct rig *rig;
	uint64_t point;
	int result;
	pthread_t thread;
	atomic_int id; /* of the thread, once it runs */
	atomic_bool done;
};

static void *wait_in_thread(void *arg)
{
	struct waiter *waiter = arg;

	atomic_store(&waiter->id, gettid());
	waiter->result = wait_submitted(waiter->rig, waiter->point, NEVER);
	atomic_store(&waiter->done, true);
	return NULL;
}

/* Whether the thread sleeps in the kernel. */
static bool is_asleep(int id)
{
	char path[64], stat[256] = "";
	const char *state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", id);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_true(fread(stat, 1, sizeof(stat) - 1, file) > 0);
	fclose(file);
	state = strrchr(stat, ')');
	assert_non_null(state);
	return state[2] == 'S';
}

/* Returns once the thread waits, for what it is to wait for. */
static void waiter_start(struct waiter *waiter, struct rig *rig, uint64_t point)
{
	*waiter = (struct waiter){ .rig = rig, .point = point, .result = INT_MIN };
	assert_int_equal(pthread_create(&waiter->thread, NULL, wait_in_thread, waiter), 0);
	while (atomic_load(&waiter->id) == 0 ||
		!(is_asleep(atomic_load(&waiter->id)) || atomic_load(&waiter->done))) {
		sched_yield();
	}
}

TEST_RIG(another_thread_s_submission_ends_a_wait)
{
	struct vgem_fence fence = make_vgem_fence(&rig);
	struct waiter waiter;

	for (uint64_t point = 0; point <= 3; point += 3) {
		vgf_syncobj_destroy(rig.drm, rig.handle);
		assert_int_equal(vgf_syncobj_create(rig.drm, &rig.handle), 0);
		waiter_start(&waiter, &rig, point);
		if (point != 0) {
			import(&rig, 1, fence.fd); /* not yet */
		}
		assert_int_equal(wait_submitted(&rig, point, 0), -ETIME);
		assert_false(atomic_load(&waiter.done));
		import(&rig, point, fence.fd);
		pthread_join(waiter.thread, NULL);
		assert_int_equal(waiter.result, 0);
		assert_int_equal(point_status(&rig, point), 0);
	}
	signal_vgem_fence(&rig, &fence);
	vgem_fence_finish(rig.vgem, &fence);
}

/* ---- Notification ------------------------------------------------------------------------- */

/* It works without a device too: only the descriptor is passed on. */
TEST(notifying_on_an_old_kernel_is_eopnotsupp)
{
	int event = make_fence(false);

	is_old_kernel = true;
	assert_int_equal(
		vgf_syncobj_notify(event, 1, 1, VGF_SYNCOBJ_SUBMITTED, event), -EOPNOTSUPP);
	is_old_kernel = false;
	close(event);
}

TEST_RIG(probing_an_old_kernel_tells_of_no_eventfd)
{
	is_old_kernel = true;
	assert_int_equal(vgf_syncobj_probe(rig.drm), VGF_SYNCOBJ_BINARY | VGF_SYNCOBJ_TIMELINE);
	is_old_kernel = false;
}

static struct rig need_eventfd(void)
{
	struct rig rig = need_rig();

	if (!(vgf_syncobj_probe(rig.drm) & VGF_SYNCOBJ_EVENTFD)) {
		rig_finish(&rig);
		skip_without("Linux 6.6");
	}
	return rig;
}

static int notify(const struct rig *rig, uint64_t point, enum vgf_syncobj_event event)
{
	int event_fd = make_fence(false);

	assert_int_equal(vgf_syncobj_notify(rig->drm, rig->handle, point, event, event_fd), 0);
	return event_fd;
}

static void assert_no_event(int event_fd)
{
	assert_int_equal(vgf_sync_file_poll(event_fd), 0);
}

/* The kernel may send the event some time after what it stands for. */
static void assert_event(int event_fd)
{
	assert_int_equal(vgf_sync_file_wait(event_fd, NEVER), 0);
}

TEST(events_come_with_submission_and_signal)
{
	for (uint64_t point = 0; point <= 2; point += 2) {
		struct rig rig = need_eventfd();
		struct vgem_fence fence = make_vgem_fence(&rig);
		int submitted = notify(&rig, point, VGF_SYNCOBJ_SUBMITTED);
		int signalled = notify(&rig, point, VGF_SYNCOBJ_SIGNALLED);

		if (point != 0) {
			import(&rig, 1, fence.fd);
		}
		assert_no_event(submitted);
		import(&rig, point, fence.fd);
		assert_event(submitted);
		assert_no_event(signalled);
		signal_vgem_fence(&rig, &fence);
		assert_event(signalled);
		close(submitted);
		close(signalled);
		vgem_fence_finish(rig.vgem, &fence);
		rig_finish(&rig);
	}
}

TEST(an_event_that_was_comes_at_once)
{
	for (uint64_t point = 0; point <= 1; point++) {
		struct rig rig = need_eventfd();
		struct vgem_fence fence = make_vgem_fence(&rig);
		int submitted, signalled;

		import(&rig, point, fence.fd);
		submitted = notify(&rig, point, VGF_SYNCOBJ_SUBMITTED);
		assert_event(submitted);
		signal_vgem_fence(&rig, &fence);
		signalled = notify(&rig, point, VGF_SYNCOBJ_SIGNALLED);
		assert_event(signalled);
		close(submitted);
		close(signalled);
		vgem_fence_finish(rig.vgem, &fence);
		rig_finish(&rig);
	}
}

TEST(an_event_comes_to_a_copy_of_the_descriptor)
{
	struct rig rig = need_eventfd();
	struct vgem_fence fence = make_vgem_fence(&rig);
	int event = notify(&rig, 1, VGF_SYNCOBJ_SUBMITTED);
	int copy = fcntl(event, F_DUPFD_CLOEXEC, 0);

	close(event);
	import(&rig, 1, fence.fd);
	assert_event(copy);
	close(copy);
	signal_vgem_fence(&rig, &fence);
	vgem_fence_finish(rig.vgem, &fence);
	rig_finish(&rig);
}

TEST(a_destroyed_syncobj_sends_no_event)
{
	struct rig rig = need_eventfd();
	int event = notify(&rig, 1, VGF_SYNCOBJ_SUBMITTED);

	vgf_syncobj_destroy(rig.drm, rig.handle);
	rig.handle = 0;
	assert_no_event(event);
	close(event);
	rig_finish(&rig);
}

TEST(what_is_no_eventfd_is_refused)
{
	struct rig rig = need_eventfd();
	int event = make_fence(false);
	const int fds[] = { rig.drm, -1, closed_fd() };
	const int errors[] = { -EINVAL, -EBADF, -EBADF };

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(
			vgf_syncobj_notify(rig.drm, rig.handle, 1, VGF_SYNCOBJ_SIGNALLED, fds[i]),
			errors[i]);
	}
	assert_int_equal(vgf_syncobj_notify(rig.drm, 99, 1, VGF_SYNCOBJ_SIGNALLED, event), -ENOENT);
	close(event);
	rig_finish(&rig);
}

/* ---- The in-fences of a job --------------------------------------------------------------- */

#define IN_FENCES 3

struct job {
	struct vgf_job job;
	struct vgem_fence fences[IN_FENCES];
	struct vgf_in_fence in_fences[IN_FENCES];
};

static void job_init(struct job *job, const struct rig *rig)
{
	for (int i = 0; i < IN_FENCES; i++) {
		job->fences[i] = make_vgem_fence(rig);
		job->in_fences[i] = (struct vgf_in_fence){ .fd = job->fences[i].fd };
	}
	job->job = (struct vgf_job){ .in_fences = job->in_fences, .num_in_fences = IN_FENCES };
}

static void job_finish(struct job *job, const struct rig *rig)
{
	for (int i = 0; i < IN_FENCES; i++) {
		vgem_signal(rig->vgem, job->fences[i].fence);
		vgem_fence_finish(rig->vgem, &job->fences[i]);
	}
}

TEST_RIG(a_syncobj_takes_all_in_fences_of_a_job)
{
	struct job job;

	for (uint64_t point = 0; point <= 5; point += 5) {
		job_init(&job, &rig);
		assert_int_equal(vgf_syncobj_import_job(rig.drm, rig.handle, point, &job.job), 0);
		for (int i = IN_FENCES - 1; i >= 0; i--) {
			assert_int_equal(point_status(&rig, point), 0);
			signal_vgem_fence(&rig, &job.fences[i]);
		}
		assert_int_equal(point_status(&rig, point), 1);
		job_finish(&job, &rig);
	}
}

TEST_RIG(each_point_takes_an_in_fence_of_a_job)
{
	struct job job;

	job_init(&job, &rig);
	assert_int_equal(vgf_syncobj_import_job_points(rig.drm, rig.handle, 7, &job.job), 0);
	assert_int_equal(point_status(&rig, 7 + IN_FENCES), -EAGAIN);
	for (int i = 0; i < IN_FENCES; i++) {
		assert_int_equal(point_status(&rig, 7 + (uint64_t)i), 0);
		signal_vgem_fence(&rig, &job.fences[i]);
		assert_int_equal(point_status(&rig, 7 + (uint64_t)i), 1);
	}
	job_finish(&job, &rig);
}

TEST_RIG(a_job_without_in_fences_has_nothing_to_wait_for)
{
	const struct vgf_job empty = { .num_in_fences = 0 };

	assert_int_equal(vgf_syncobj_import_job_points(rig.drm, rig.handle, 1, &empty), 0);
	assert_int_equal(point_status(&rig, 1), -EAGAIN);
	for (uint64_t point = 0; point <= 1; point++) {
		assert_int_equal(vgf_syncobj_import_job(rig.drm, rig.handle, point, &empty), 0);
		assert_int_equal(point_status(&rig, point), 1);
	}
}

/* -1: what drivers answer in place of a descriptor. */
TEST_RIG(a_fence_that_has_signalled_needs_no_descriptor)
{
	struct vgf_in_fence in_fences[] = { { 1, VGF_FENCE_DONE }, { 2, VGF_FENCE_DONE } };
	const struct vgf_job job = { .in_fences = in_fences, .num_in_fences = 2 };

	for (uint64_t point = 0; point <= 1; point++) {
		import(&rig, point, VGF_FENCE_DONE);
		assert_int_equal(point_status(&rig, point), 1);
	}
	assert_int_equal(vgf_syncobj_import_job_points(rig.drm, rig.handle, 2, &job), 0);
	assert_int_equal(point_status(&rig, 3), 1);
	assert_int_equal(vgf_syncobj_import_job(rig.drm, rig.handle, 4, &job), 0);
	assert_int_equal(point_status(&rig, 4), 1);
}

/* The error with which both functions refuse a job's in-fences. They have then done nothing. */
static void assert_job_refused(const struct rig *rig, const struct vgf_job *job, int error)
{
	assert_int_equal(vgf_syncobj_import_job(rig->drm, rig->handle, 0, job), error);
	assert_int_equal(vgf_syncobj_import_job(rig->drm, rig->handle, 1, job), error);
	assert_int_equal(vgf_syncobj_import_job_points(rig->drm, rig->handle, 1, job), error);
	assert_int_equal(point_status(rig, 0), -EAGAIN);
	assert_int_equal(point_status(rig, 1), -EAGAIN);
}

TEST_RIG(in_fences_that_are_no_sync_files_are_eopnotsupp)
{
	int event = make_fence(false);
	struct job job;

	job_init(&job, &rig);
	for (int i = 0; i < IN_FENCES; i++) {
		job.in_fences[i].fd = event;
		assert_job_refused(&rig, &job.job, -EOPNOTSUPP);
		job.in_fences[i].fd = job.fences[i].fd;
	}
	job.in_fences[0].fd = event;
	job.job.num_in_fences = 1;
	assert_job_refused(&rig, &job.job, -EOPNOTSUPP);
	close(event);
	job_finish(&job, &rig);
}

TEST_RIG(in_fences_that_are_not_open_are_ebadf)
{
	struct job job;

	job_init(&job, &rig);
	for (int i = 0; i < IN_FENCES; i++) {
		job.in_fences[i].fd = -2;
		assert_job_refused(&rig, &job.job, -EBADF);
		job.in_fences[i].fd = job.fences[i].fd;
	}
	job_finish(&job, &rig);
}

TEST_RIG(points_that_cannot_be_are_einval)
{
	struct job job;

	job_init(&job, &rig);
	assert_int_equal(vgf_syncobj_import_job_points(rig.drm, rig.handle, 0, &job.job), -EINVAL);
	assert_int_equal(
		vgf_syncobj_import_job_points(rig.drm, rig.handle, UINT64_MAX - 1, &job.job),
		-EINVAL);
	assert_int_equal(point_status(&rig, 0), -EAGAIN);
	job_finish(&job, &rig);
}

TEST_RIG(a_merge_without_memory_or_descriptors_changes_nothing)
{
	unsigned int more = 0;
	struct job job;
	int ret;

	job_init(&job, &rig);
	alloc_fail(1);
	assert_int_equal(vgf_syncobj_import_job(rig.drm, rig.handle, 0, &job.job), -ENOMEM);
	do {
		int before = count_fds();

		assert_int_equal(point_status(&rig, 0), -EAGAIN);
		limit_fds(more++);
		ret = vgf_syncobj_import_job(rig.drm, rig.handle, 0, &job.job);
		unlimit_fds();
		assert_int_equal(count_fds(), before);
	} while (ret == -EMFILE && more < 8);
	assert_int_equal(ret, 0);
	assert_true(more > 2); /* it did fail on the way */
	assert_int_equal(point_status(&rig, 0), 0);
	job_finish(&job, &rig);
}

TEST_RIG(points_need_no_descriptors)
{
	struct job job;
	int ret;

	job_init(&job, &rig);
	limit_fds(0);
	ret = vgf_syncobj_import_job_points(rig.drm, rig.handle, 1, &job.job);
	unlimit_fds();
	assert_int_equal(ret, 0);
	job_finish(&job, &rig);
}

TEST(a_failure_among_points_leaves_no_syncobj)
{
	struct job job;

	for (int nth = 1; nth <= IN_FENCES; nth++) {
		struct rig rig = need_rig();

		job_init(&job, &rig);
		failed_transfer = nth;
		assert_int_equal(
			vgf_syncobj_import_job_points(rig.drm, rig.handle, 1, &job.job), -ENOMEM);
		assert_int_equal(point_status(&rig, (uint64_t)nth), -EAGAIN);
		job_finish(&job, &rig);
		rig_finish(&rig);
	}
}

/* ---- A native driver ---------------------------------------------------------------------- */

/*
 * A context driver whose kernel driver takes and gives syncobjs. Its GPU does nothing: a job is
 * done once its in-fences are.
 */
struct native {
	struct rig rig;
	uint32_t in;    /* the binary syncobj that a job waits for */
	uint64_t point; /* of the last job, on the rig's syncobj */
	bool forgetful; /* does not wait */
	bool late;      /* jobs sit in a queue: their points come from the test */
	int queued;     /* the eventfd that signals when a point is there */
};

/* What the kernel's submission does. */
static int run_on_gpu(struct native *native)
{
	return drmSyncobjTransfer(
		native->rig.drm, native->rig.handle, ++native->point, native->in, 0, 0);
}

static int native_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	const struct vgf_job empty = { .num_in_fences = 0 };
	struct native *native = data;
	int ret;

	if (native->late) {
		*out_fence_fd = VGF_FENCE_BY_CALL;
		return vgf_syncobj_notify(native->rig.drm, native->rig.handle, ++native->point,
			VGF_SYNCOBJ_SUBMITTED, native->queued);
	}
	ret = vgf_syncobj_import_job(
		native->rig.drm, native->in, 0, native->forgetful ? &empty : job);
	if (ret < 0) {
		return ret;
	}
	assert_int_equal(run_on_gpu(native), 0);
	*out_fence_fd = export(&native->rig, native->point);
	return *out_fence_fd < 0 ? *out_fence_fd : 0;
}

static void native_init(struct native *native)
{
	*native = (struct native){ .rig = need_eventfd(), .queued = make_fence(false) };
	assert_int_equal(vgf_syncobj_create(native->rig.drm, &native->in), 0);
}

static void native_finish(struct native *native)
{
	vgf_syncobj_destroy(native->rig.drm, native->in);
	close(native->queued);
	rig_finish(&native->rig);
}

static const struct vgf_driver native_driver = {
	.size = sizeof(struct vgf_driver),
	.wait = VGF_WAIT_DRIVER,
	.submit = native_submit,
};

static void native_open(struct native *native, struct fake_vmm *vmm, uint32_t ctx_id)
{
	assert_int_equal(vgf_context_create(vmm->device, ctx_id, &native_driver, native), 0);
}

/* Fence 1, of another context, for jobs to wait for. */
static void make_producer(const struct rig *rig, struct fake_vmm *vmm, struct fake_driver *driver,
	struct vgem_fence *fence)
{
	*fence = make_vgem_fence(rig);
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 1, 0, 1, fence->fd), 0);
	fence->fd = -1;
}

TEST(a_native_driver_s_gpu_waits)
{
	struct fake_driver *producer;
	struct native native;
	struct vgem_fence fence;
	struct fake_vmm *vmm;

	native_init(&native);
	vmm = vmm_create(NULL);
	producer = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
	make_producer(&native.rig, vmm, producer, &fence);
	native_open(&native, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), NO_IN_FENCES), 0);
	assert_int_equal(get_stats(vmm).run_driver, 2);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(point_status(&native.rig, native.point), 0);
	signal_vgem_fence(&native.rig, &fence);
	vmm_wait(vmm, 3);
	assert_idle(vmm);
	vmm_destroy(vmm);
	vgem_fence_finish(native.rig.vgem, &fence);
	native_finish(&native);
}

/* The control for the test above. */
TEST(a_native_driver_that_forgets_its_in_fences_is_early)
{
	struct fake_driver *producer;
	struct native native;
	struct vgem_fence fence;
	struct fake_vmm *vmm;

	native_init(&native);
	native.forgetful = true;
	vmm = vmm_create(NULL);
	producer = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
	make_producer(&native.rig, vmm, producer, &fence);
	native_open(&native, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	vmm_wait(vmm, 1);
	assert_retired(vmm, 0, 2, 0, 2, 0);
	signal_vgem_fence(&native.rig, &fence);
	vmm_wait(vmm, 2);
	vmm_destroy(vmm);
	vgem_fence_finish(native.rig.vgem, &fence);
	native_finish(&native);
}

TEST(a_native_driver_s_work_waits_for_eventfds_on_the_host)
{
	struct fake_driver *producer;
	struct native native;
	struct fake_vmm *vmm;

	native_init(&native);
	vmm = vmm_create(NULL);
	producer = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
	driver_open(producer, vmm, 1);
	native_open(&native, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(native.point, 0);
	driver_signal(producer, 1);
	vmm_wait(vmm, 2);
	assert_int_equal(native.point, 1);
	assert_int_equal(get_stats(vmm).run_host, 1);
	assert_idle(vmm);
	vmm_destroy(vmm);
	native_finish(&native);
}

/* Fence 2 has no point yet; work that waits for it is handed over as soon as there is one. */
TEST(an_out_fence_is_published_when_its_point_comes)
{
	const struct vgf_fence_name name = make_name(1, 0, 2);
	struct native late, native;
	struct vgem_fence fence;
	struct fake_vmm *vmm;

	native_init(&late);
	native_init(&native);
	late.late = true;
	fence = make_vgem_fence(&late.rig);
	vmm = vmm_create(NULL);
	native_open(&late, vmm, 1);
	native_open(&native, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_no_event(late.queued);
	assert_int_equal(export(&late.rig, 1), -EAGAIN);

	import(&late.rig, 1, fence.fd);
	assert_event(late.queued);
	assert_int_equal(publish_take(vmm->device, &name, export(&late.rig, 1)), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(get_stats(vmm).run_driver, 1);
	signal_vgem_fence(&late.rig, &fence);
	vmm_wait(vmm, 2);
	assert_idle(vmm);
	vmm_destroy(vmm);
	vgem_fence_finish(late.rig.vgem, &fence);
	native_finish(&late);
	native_finish(&native);
}
