/* SPDX-License-Identifier: MIT */
/* A VMM's side in 60 lines: cc vmm.c context_driver.c $(pkg-config --cflags --libs vgfence) */
#include <poll.h>
#include <stdio.h>
#include <vgfence/context_driver.h>
#include <vgfence/vgfence.h>
extern const struct vgf_driver driver; /* context_driver.c */

/* A request of the guest, from the virtqueue to its answer. */
struct request {
	struct vgf_fence_name fence;
	uint64_t in_fence; /* 0: none */
};

/* A VMM puts the response on the virtqueue here. */
static void answer(unsigned int *open_requests, const struct request *request, int status)
{
	printf("fence %d: done (%d)\n", (int)request->fence.fence_id, status);
	--*open_requests;
}

static void retire(void *cookie, const struct vgf_retired *retired)
{
	answer(cookie, retired->cookie, retired->status);
}

static void submit(struct vgf_device *device, unsigned int *open_requests, struct request *request)
{
	const struct vgf_submission submission = {
		.fence = request->fence,
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &request->in_fence,
		.num_in_fences = request->in_fence != 0,
		.cookie = request,
	};
	bool will_retire;
	int ret = vgf_submit(device, &submission, &will_retire);

	if (!will_retire) {
		answer(open_requests, request, ret);
	}
}

int main(void)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(callbacks), .retire = retire };
	struct request requests[] = { { { 1, 1, 0 }, 0 }, { { 2, 2, 0 }, 1 } };
	unsigned int open_requests = 2;
	struct vgf_device *device;

	if (vgf_device_create(&callbacks, &open_requests, NULL, &device) < 0) {
		return 1;
	}
	vgf_context_create(device, 1, &driver, "first");
	vgf_context_create(device, 2, &driver, "second");
	submit(device, &open_requests, &requests[0]);
	submit(device, &open_requests, &requests[1]); /* waits for the first one */
	while (open_requests > 0) {
		poll(&(struct pollfd){ vgf_device_get_fd(device), POLLIN, 0 }, 1, -1);
		vgf_device_dispatch(device, 0);
	}
	vgf_device_destroy(device);
	return 0;
}
