/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A program of someone else's: sees only what is installed. */

#include <stdio.h>

#include <vgfence/sync_file.h>
#include <vgfence/vgfence.h>

static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;

	*(uint64_t *)cookie = fence->fence_id;
	(void)status;
}

int main(void)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = retire };
	const struct vgf_fence_name fence = { .fence_id = 7, .ring = VGF_RING_GLOBAL };
	struct vgf_device *device;
	uint64_t retired = 0;

	if (vgf_device_create(&callbacks, &retired, NULL, &device) < 0 ||
		vgf_fence_create_take(device, &fence, 0, NULL, VGF_FENCE_DONE) < 0 ||
		vgf_device_dispatch(device, 1000) != 1) {
		return 1;
	}
	vgf_device_destroy(device);
	printf("vgfence %s\n", vgf_version());
	return retired == 7 ? 0 : 1;
}
