/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A native context whose kernel driver takes and gives sync files: msm's face of the GPU made of
 * software, execution alone. test_drm_vm_bind.c has VM_BIND.
 */

#include "drm_scene.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include <xf86drm.h>

#include <vgfence/sync_file.h>

#include "drm_context.h"

/* ---- Through the library ------------------------------------------------------------------ */

/* Both contexts have the data; its first word is 5. */
static void bind_data(struct scene *scene)
{
	for (uint64_t i = 0; i < 2; i++) {
		bind_ops(&scene->guests[i], FIRST_ID + i, NOTHING,
			MAP(DATA, &scene->data[i], 0, PAGE));
		assert_int_equal(wait_for(scene->vmm, FIRST_ID + i), 0);
	}
	scene->data[0].words[0] = 5;
}

/* The first context adds 2 behind the gate; the second one copies the word. */
static void produce_and_consume(struct scene *scene, struct drm_wait consumer_waits)
{
	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	execute(&scene->guests[1], 1, 21, consumer_waits, COPY(DATA + 4, DATA, 1));
}

TEST_SCENE(another_context_waits_for_its_in_fence)
{
	produce_and_consume(scene, AFTER(20));
	assert_false(has_retired(scene->vmm, 21));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(scene->data[0].words[1], 7);
	assert_int_equal(get_stats(scene->vmm).run_host, 0);
}

TEST_SCENE(control_without_the_in_fence_the_content_is_old)
{
	produce_and_consume(scene, NOTHING);
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(scene->data[0].words[1], 5);
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 20), 0);
	assert_int_equal(scene->data[0].words[0], 7);
}

TEST_SCENE(several_in_fences_become_one_sync_file)
{
	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	execute(&scene->guests[0], 2, 21, AFTER(20), ADD_VALUE(DATA + 4, 30));
	execute(&scene->guests[0], 3, 22, AFTER(20), ADD_VALUE(DATA + 8, 400));
	execute(&scene->guests[1], 1, 23, AFTER(20, 21, 22), ADD(DATA, DATA + 4, 1),
		ADD(DATA, DATA + 8, 1));
	assert_false(has_retired(scene->vmm, 23));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 23), 0);
	assert_int_equal(scene->data[0].words[0], 437);
}

TEST_SCENE(rings_are_independent_queues_with_priorities)
{
	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	execute(&scene->guests[0], 2, 21, NOTHING, ADD_VALUE(DATA + 4, 1));
	execute(&scene->guests[0], 3, 22, NOTHING, ADD_VALUE(DATA + 8, 1));
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(wait_for(scene->vmm, 22), 0);
	assert_false(has_retired(scene->vmm, 20));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 20), 0);
}

TEST_SCENE(an_out_fence_is_a_sync_file_for_others)
{
	int fd;

	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	fd = export_fence(scene->vmm->device, 20);
	assert_true(fd >= 0);
	assert_int_equal(vgf_sync_file_status(fd), 0);
	scene_open_gate(scene);
	assert_int_equal(vgf_sync_file_wait(fd, INT64_MAX), 0);
	assert_int_equal(scene->data[0].words[0], 7);
	close(fd);
	assert_int_equal(wait_for(scene->vmm, 20), 0);
}

TEST_SCENE(the_host_waits_for_what_is_no_sync_file)
{
	int eventfd = make_fence(false);

	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(eventfd), ADD_VALUE(DATA, 2));
	execute(&scene->guests[1], 1, 21, AFTER(20), COPY(DATA + 4, DATA, 1));
	assert_false(has_retired(scene->vmm, 21));
	signal_fence(eventfd);
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(scene->data[0].words[1], 7);
	assert_true(get_stats(scene->vmm).run_host > 0);
	close(eventfd);
}

TEST_SCENE(an_empty_submission_is_a_fence_alone)
{
	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), PAUSE(0));
	assert_false(has_retired(scene->vmm, 20));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 20), 0);
}

/* The kernel still has the queues; nothing is executed once the file is closed. */
TEST_SCENE(a_context_with_work_in_flight_can_be_destroyed)
{
	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	execute(&scene->guests[1], 1, 21, AFTER(20), COPY(DATA + 4, DATA, 1));
	assert_int_equal(vgf_context_destroy(scene->vmm->device, FIRST), 0);
	assert_int_equal(vgf_context_destroy(scene->vmm->device, SECOND), 0);
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 21), 0);
	assert_int_equal(scene->data[0].words[1], 7);
}

TEST_SCENE(a_file_that_is_closed_ends_what_waits_with_an_error)
{
	struct drm_guest other;

	drm_guest_init(&other, scene->vmm, "msm", 3, 3);
	execute(&other, 1, 20, AFTER_FD(scene->gate.fd), PAUSE(0));
	assert_int_equal(vgf_context_destroy(scene->vmm->device, 3), 0);
	drm_guest_finish(&other);
	assert_false(has_retired(scene->vmm, 20));
	scene_open_gate(scene);
	assert_int_equal(wait_for(scene->vmm, 20), -ESRCH);
}

TEST_SCENE(a_reset_with_work_in_flight_ends_it_at_once)
{
	bind_data(scene);
	execute(&scene->guests[0], 1, 20, AFTER_FD(scene->gate.fd), ADD_VALUE(DATA, 2));
	execute(&scene->guests[1], 1, 21, AFTER(20), COPY(DATA + 4, DATA, 1));
	assert_int_equal(vgf_device_reset(scene->vmm->device), 0);
	assert_int_equal(wait_for(scene->vmm, 20), -ECANCELED);
	assert_int_equal(wait_for(scene->vmm, 21), -ECANCELED);
	scene_open_gate(scene);
}

/* ---- The kernel driver itself: addresses and fences as msm has them without VM_BIND -------- */

struct plain {
	int fd;
	uint32_t handle;
	uint64_t address;
	uint32_t *words;
};

static void plain_init(struct plain *plain)
{
	struct drm_msm_gem_new gem_new = { .size = PAGE, .flags = MSM_BO_WC };
	struct drm_msm_gem_info info = { .info = MSM_INFO_GET_OFFSET };
	struct drm_msm_gem_info address = { .info = MSM_INFO_GET_IOVA };

	plain->fd = need_drm_gpu("msm");
	assert_int_equal(drmIoctl(plain->fd, DRM_IOCTL_MSM_GEM_NEW, &gem_new), 0);
	plain->handle = info.handle = address.handle = gem_new.handle;
	assert_int_equal(drmIoctl(plain->fd, DRM_IOCTL_MSM_GEM_INFO, &info), 0);
	assert_int_equal(drmIoctl(plain->fd, DRM_IOCTL_MSM_GEM_INFO, &address), 0);
	plain->address = address.value;
	plain->words = mmap(
		NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, plain->fd, (off_t)info.value);
	assert_ptr_not_equal(plain->words, MAP_FAILED);
}

static void plain_finish(struct plain *plain)
{
	munmap(plain->words, PAGE);
	close(plain->fd);
}

/* Commands are at the start of the buffer, which is in the table. Returns the fence's number. */
static uint32_t plain_submit(struct plain *plain, struct vgfence_gpu_command command)
{
	struct drm_msm_gem_submit_bo bo = { .handle = plain->handle };
	struct drm_msm_gem_submit_cmd cmd = { .type = MSM_SUBMIT_CMD_BUF, .size = sizeof(command) };
	struct drm_msm_gem_submit submit = {
		.flags = MSM_PIPE_3D0,
		.nr_bos = 1,
		.nr_cmds = 1,
		.bos = (uintptr_t)&bo,
		.cmds = (uintptr_t)&cmd,
	};

	*(struct vgfence_gpu_command *)plain->words = command;
	assert_int_equal(drmIoctl(plain->fd, DRM_IOCTL_MSM_GEM_SUBMIT, &submit), 0);
	return submit.fence;
}

static int plain_wait(const struct plain *plain, uint32_t fence, int seconds)
{
	struct drm_msm_wait_fence wait = { .fence = fence };
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	wait.timeout = (struct drm_msm_timespec){ now.tv_sec + seconds, now.tv_nsec };
	return drmIoctl(plain->fd, DRM_IOCTL_MSM_WAIT_FENCE, &wait) < 0 ? -errno : 0;
}

TEST(without_vm_bind_the_kernel_chooses_addresses_and_counts_fences)
{
	struct plain plain;
	uint32_t fence;

	plain_init(&plain);
	plain.words[100] = 5;
	fence = plain_submit(&plain, ADD_VALUE(plain.address + 400, 2));
	assert_int_equal(plain_wait(&plain, fence, 20), 0);
	assert_int_equal(plain.words[100], 7);
	assert_int_equal(plain_wait(&plain, fence + 1, 0), -ETIMEDOUT);
	plain_finish(&plain);
}

TEST(without_vm_bind_a_fault_leaves_the_vm_usable)
{
	struct plain plain;

	plain_init(&plain);
	plain_wait(&plain, plain_submit(&plain, ADD_VALUE(NOWHERE + DATA, 2)), 20);
	plain.words[100] = 5;
	plain_wait(&plain, plain_submit(&plain, ADD_VALUE(plain.address + 400, 2)), 20);
	assert_int_equal(plain.words[100], 7);
	plain_finish(&plain);
}

TEST(what_is_wrong_is_refused_by_the_call)
{
	struct plain plain;
	struct drm_msm_submitqueue queue = { .flags = MSM_SUBMITQUEUE_VM_BIND };
	struct drm_msm_vm_bind vm_bind = { .nr_ops = 1, .queue_id = 0 };
	struct drm_msm_param param = { .param = MSM_PARAM_EN_VM_BIND, .value = 1 };

	plain_init(&plain);
	assert_int_equal(drmIoctl(plain.fd, DRM_IOCTL_MSM_SUBMITQUEUE_NEW, &queue), -1);
	queue = (struct drm_msm_submitqueue){ .prio = 3 };
	assert_int_equal(drmIoctl(plain.fd, DRM_IOCTL_MSM_SUBMITQUEUE_NEW, &queue), -1);
	assert_int_equal(drmIoctl(plain.fd, DRM_IOCTL_MSM_VM_BIND, &vm_bind), -1);
	assert_int_equal(drmIoctl(plain.fd, DRM_IOCTL_MSM_SET_PARAM, &param), -1); /* too late */
	plain_finish(&plain);
}
