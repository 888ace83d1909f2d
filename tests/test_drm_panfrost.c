/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A native context whose kernel driver takes and gives fences in syncobjs: panfrost's face of the
 * GPU made of software. What waits has its control beside it: without the in-fence the content is
 * the old one. Nothing depends on time: what is to be late waits for a gate that the test opens.
 */

#include "drm_guest.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "drm_context.h"

struct scene {
	struct fake_vmm *vmm;
	int vgem;
	struct vgem_fence gate;
	struct drm_guest guest;
	struct drm_buffer data;
};

static void init(struct scene *scene)
{
	close(need_drm_gpu("panfrost"));
	scene->vmm = vmm_create(&(struct vgf_options){
		.size = sizeof(struct vgf_options), .budget_ns = UINT64_MAX });
	scene->vgem = vgem_open();
	assert_true(scene->vgem >= 0);
	assert_int_equal(vgem_fence_init(scene->vgem, &scene->gate), 0);
	drm_guest_init(&scene->guest, scene->vmm, "panfrost", 1, 1);
	drm_buffer_init(&scene->guest, &scene->data, 4096);
	scene->data.words[0] = 5;
}

static void open_gate(struct scene *scene)
{
	assert_int_equal(vgem_fence_signal(scene->vgem, &scene->gate), 0);
}

static void finish(struct scene *scene)
{
	drm_buffer_finish(&scene->data);
	drm_guest_finish(&scene->guest);
	vgem_fence_finish(scene->vgem, &scene->gate);
	assert_idle(scene->vmm);
	vmm_destroy(scene->vmm);
	close(scene->vgem);
}

static uint64_t word(const struct scene *scene, unsigned int i)
{
	return scene->data.address + i * sizeof(uint32_t);
}

/* The producer writes 7 to word 0 behind the gate; the consumer copies word 0 to word 1. */
static void produce_and_consume(struct scene *scene, struct drm_wait consumer_waits)
{
	assert_int_equal(execute(&scene->guest, 0, 1, AFTER_FD(scene->gate.fd),
				 ADD_VALUE(word(scene, 0), 2)),
		0);
	assert_int_equal(execute(&scene->guest, 1, 2, consumer_waits,
				 COPY(word(scene, 1), word(scene, 0), 1)),
		0);
}

TEST(work_on_another_ring_waits_for_its_in_fence)
{
	struct scene scene = { 0 };

	init(&scene);
	produce_and_consume(&scene, AFTER(1));
	assert_false(has_retired(scene.vmm, 2));
	open_gate(&scene);
	assert_int_equal(wait_for(scene.vmm, 2), 0);
	assert_int_equal(scene.data.words[1], 7);
	finish(&scene);
}

TEST(control_without_the_in_fence_the_content_is_old)
{
	struct scene scene = { 0 };

	init(&scene);
	produce_and_consume(&scene, NOTHING);
	assert_int_equal(wait_for(scene.vmm, 2), 0);
	assert_int_equal(scene.data.words[1], 5);
	open_gate(&scene);
	assert_int_equal(wait_for(scene.vmm, 1), 0);
	assert_int_equal(scene.data.words[0], 7);
	finish(&scene);
}

TEST(the_gpu_waits_and_not_the_host)
{
	struct scene scene = { 0 };
	struct vgf_stats stats;

	init(&scene);
	produce_and_consume(&scene, AFTER(1));
	stats = get_stats(scene.vmm);
	assert_int_equal(stats.run_host, 0);
	assert_int_equal(stats.run_driver, 2);
	open_gate(&scene);
	assert_int_equal(wait_for(scene.vmm, 2), 0);
	finish(&scene);
}

TEST(work_on_one_ring_needs_no_in_fence)
{
	struct scene scene = { 0 };

	init(&scene);
	execute(&scene.guest, 0, 1, AFTER_FD(scene.gate.fd), ADD_VALUE(word(&scene, 0), 2));
	execute(&scene.guest, 0, 2, NOTHING, COPY(word(&scene, 1), word(&scene, 0), 1));
	assert_false(has_retired(scene.vmm, 2));
	open_gate(&scene);
	assert_int_equal(wait_for(scene.vmm, 2), 0);
	assert_int_equal(scene.data.words[1], 7);
	finish(&scene);
}

/* An eventfd is no sync file: a syncobj does not take it, so the host waits. */
TEST(the_host_waits_for_what_is_no_sync_file)
{
	struct scene scene = { 0 };
	int eventfd;

	init(&scene);
	eventfd = make_fence(false);
	execute(&scene.guest, 0, 1, AFTER_FD(eventfd), ADD_VALUE(word(&scene, 0), 2));
	assert_false(has_retired(scene.vmm, 1));
	assert_int_equal(scene.data.words[0], 5);
	signal_fence(eventfd);
	assert_int_equal(wait_for(scene.vmm, 1), 0);
	assert_int_equal(scene.data.words[0], 7);
	assert_int_equal(get_stats(scene.vmm).run_host, 1);
	close(eventfd);
	finish(&scene);
}

/* Without VM_BIND the kernel recovers: a fault is the job's alone. */
TEST(a_fault_is_the_status_of_its_job_and_of_no_other)
{
	struct scene scene = { 0 };

	init(&scene);
	execute(&scene.guest, 0, 1, NOTHING, ADD_VALUE(UINT64_C(0xdead000000), 1));
	execute(&scene.guest, 0, 2, AFTER(1), ADD_VALUE(word(&scene, 0), 2));
	assert_int_equal(wait_for(scene.vmm, 1), -EFAULT);
	assert_int_equal(wait_for(scene.vmm, 2), 0);
	assert_int_equal(scene.data.words[0], 7);
	finish(&scene);
}

TEST(a_bad_stream_is_an_error_in_its_place)
{
	struct scene scene = { 0 };

	init(&scene);
	execute(&scene.guest, 0, 1, AFTER_FD(scene.gate.fd), PAUSE(0));
	execute(&scene.guest, 2, 2, NOTHING, PAUSE(0)); /* no such queue */
	assert_int_equal(wait_for(scene.vmm, 2), -EINVAL);
	assert_false(has_retired(scene.vmm, 1));
	open_gate(&scene);
	assert_int_equal(wait_for(scene.vmm, 1), 0);
	finish(&scene);
}

TEST(a_context_that_is_destroyed_leaves_its_work_to_the_kernel)
{
	struct scene scene = { 0 };

	init(&scene);
	execute(&scene.guest, 0, 1, AFTER_FD(scene.gate.fd), ADD_VALUE(word(&scene, 0), 2));
	assert_int_equal(vgf_context_destroy(scene.vmm->device, 1), 0);
	assert_false(has_retired(scene.vmm, 1));
	open_gate(&scene);
	assert_int_equal(wait_for(scene.vmm, 1), 0);
	assert_int_equal(scene.data.words[0], 7);
	finish(&scene);
}
