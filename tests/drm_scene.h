/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DRM_SCENE_H
#define DRM_SCENE_H

/*
 * What the tests on the GPU made of software have: a VMM, two contexts of msm that share a buffer,
 * and a gate. What is to be late waits for the gate, which the test opens: nothing depends on time.
 */

#include "drm_guest.h"

#include <unistd.h>

#define FIRST 1 /* contexts */
#define SECOND 2
#define FIRST_ID 10 /* of the tests' own fences */

#define DATA UINT64_C(0x20000000)
#define PAGE UINT64_C(4096)
#define NOWHERE UINT64_C(0x30000000)

struct scene {
	struct fake_vmm *vmm;
	int vgem;
	struct vgem_fence gate;
	struct drm_guest guests[2];
	struct drm_buffer data[2]; /* the same memory, 4 pages; bound by no one yet */
};

static inline void scene_init(struct scene *scene)
{
	close(need_drm_gpu("msm"));
	scene->vmm = vmm_create(&(struct vgf_options){
		.size = sizeof(struct vgf_options), .budget_ns = UINT64_MAX });
	scene->vgem = vgem_open();
	assert_true(scene->vgem >= 0);
	assert_int_equal(vgem_fence_init(scene->vgem, &scene->gate), 0);
	drm_guest_init(&scene->guests[0], scene->vmm, "msm", FIRST, 1);
	drm_guest_init(&scene->guests[1], scene->vmm, "msm", SECOND, 2);
	drm_buffer_init(&scene->guests[0], &scene->data[0], 4 * PAGE);
	drm_buffer_share(&scene->guests[0], &scene->data[0], &scene->guests[1], &scene->data[1]);
}

static inline void scene_open_gate(struct scene *scene)
{
	assert_int_equal(vgem_fence_signal(scene->vgem, &scene->gate), 0);
}

static inline void scene_finish(struct scene *scene)
{
	for (int i = 0; i < 2; i++) {
		drm_buffer_finish(&scene->data[i]);
		drm_guest_finish(&scene->guests[i]);
	}
	vgem_fence_finish(scene->vgem, &scene->gate);
	assert_idle(scene->vmm);
	vmm_destroy(scene->vmm);
	close(scene->vgem);
}

/* A test with such a scene. */
#define TEST_SCENE(name)                                                                           \
	static void name(struct scene *scene);                                                     \
	static void name##_in_scene(void)                                                          \
	{                                                                                          \
		struct scene scene = { 0 };                                                        \
		scene_init(&scene);                                                                \
		name(&scene);                                                                      \
		scene_finish(&scene);                                                              \
	}                                                                                          \
	REGISTER_TEST(name, name##_in_scene)                                                       \
	static void name(struct scene *scene)

#endif
