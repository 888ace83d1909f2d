/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A VMM's loop around virglrenderer, with vgfence in between. There is no guest: the requests are
 * made here, in the bytes that a guest with fence passing would put on its virtqueue. Two GL
 * contexts share a texture; one fills it, the other copies it and names the fence of the first.
 *
 *   cc virgl_vmm.c -o virgl_vmm $(pkg-config --cflags --libs vgfence-virgl)
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <vgfence/submit_3d.h>
#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS /* per-context fences, in virglrenderer 0.10 */
#include <virglrenderer.h>

enum { PRODUCER = 1, CONSUMER = 2, SHARED = 10, COPY = 11, SIDE = 16 };

static struct vgf_virgl *virgl;
static unsigned int retired;

static void check(const char *what, int ret)
{
	if (ret < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-ret));
		exit(1);
	}
}

/* ---- What the VMM is called for ---- */

/* Here a VMM completes the guest's request. */
static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	(void)cookie;
	printf("context %u, ring %u: fence %llu has retired\n", ctx_id, ring_idx,
		(unsigned long long)fence_id);
	retired++;
}

static void write_fence(void *cookie, uint32_t fence)
{
	(void)cookie;
	printf("fence %u has retired\n", fence);
	retired++;
}

/* ---- What a guest sends ---- */

/* A clear and a copy, in the virgl protocol: the lowest 8 bits of a command's first word are its
 * type, the highest 16 the number of words that follow. */
static uint32_t fill[] = {
	5 << 16 | 8 << 8 | 1, 1, SHARED, 67, 0, 0, /* create a surface, number 1, of SHARED */
	3 << 16 | 5, 1, 0, 1,                      /* draw to it */
	8 << 16 | 7, 4, 0, 0x3f800000, 0, 0x3f800000, 0, 0, 0, /* clear: green */
};

static uint32_t copy[] = { 13 << 16 | 17, COPY, 0, 0, 0, 0, SHARED, 0, 0, 0, 0, SIDE, SIDE, 1 };

/* A SUBMIT_3D request: header, sizes, the ID of an in-fence if there is one, and the commands. */
static size_t write_request(uint8_t *request, uint32_t ctx_id, uint64_t fence_id, uint64_t in_fence,
	const void *commands, uint32_t size)
{
	struct {
		uint32_t type, flags;
		uint64_t fence_id;
		uint32_t ctx_id;
		uint8_t ring_idx, padding[3];
		uint32_t size, num_in_fences;
		uint64_t in_fence;
	} head = {
		.type = 0x0207,
		.flags = 1 | 2 | 4, /* FENCE, INFO_RING_IDX, FENCE_SHAREABLE */
		.fence_id = fence_id,
		.ctx_id = ctx_id,
		.size = size,
		.num_in_fences = in_fence != 0,
		.in_fence = in_fence,
	};
	size_t head_size = in_fence ? 40 : 32;

	memcpy(request, &head, head_size);
	memcpy(request + head_size, commands, size);
	return head_size + size;
}

/* ---- The requests, as a VMM processes them ---- */

static void process_submit_3d(const struct iovec *iov, size_t iov_count)
{
	struct vgf_submit_3d submit;
	const char *reason = "";
	bool will_retire;
	int ret = vgf_submit_3d_decode(iov, iov_count, true, NULL, &submit, &reason);

	check(reason, ret);
	ret = vgf_virgl_submit(virgl, &submit.submission, &will_retire);
	printf("context %u: fence %llu with %u in-fences: %s\n", submit.submission.fence.ctx_id,
		(unsigned long long)submit.submission.fence.fence_id,
		submit.submission.num_in_fences,
		ret == 0         ? "runs" :
			ret == 1 ? "is held back" :
				   strerror(-ret));
	vgf_submit_3d_finish(&submit);
	/* With an error and without a fence to come, a VMM answers the guest here. */
	check("submit", will_retire ? 0 : ret);
}

static void process_resource_create(uint32_t handle)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = handle,
		.target = 2,  /* a texture */
		.format = 67, /* R8G8B8A8_UNORM */
		.bind = VIRGL_RES_BIND_RENDER_TARGET | VIRGL_RES_BIND_SAMPLER_VIEW,
		.width = SIDE,
		.height = SIDE,
		.depth = 1,
		.array_size = 1,
	};

	int ret = virgl_renderer_resource_create(&args, NULL, 0);

	check("resource", ret > 0 ? -ret : ret); /* errno values of either sign */
}

static void submit(
	uint32_t ctx_id, uint64_t fence_id, uint64_t in_fence, const void *commands, uint32_t size)
{
	uint8_t request[256];
	struct iovec iov = { .iov_base = request };

	iov.iov_len = write_request(request, ctx_id, fence_id, in_fence, commands, size);
	process_submit_3d(&iov, 1);
}

static uint32_t read_pixel(uint32_t handle, uint32_t ctx_id)
{
	uint32_t pixels[SIDE * SIDE] = { 0 };
	struct iovec iov = { .iov_base = pixels, .iov_len = sizeof(pixels) };
	uint32_t box[6] = { 0, 0, 0, SIDE, SIDE, 1 };

	int ret = vgf_virgl_transfer_read_iov(virgl, handle, ctx_id, 0, SIDE * 4, 0,
		(struct virgl_box *)box, 0, &iov, 1, NULL, NULL);

	/* With 1 the memory has to stay until it is done. Here nothing is held back any more. */
	check("transfer", ret == 1 ? -EBUSY : ret);
	return pixels[0];
}

int main(void)
{
	static struct virgl_renderer_callbacks callbacks = {
		.version = 3,
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
	};
	const struct vgf_fence_name gate = { .fence_id = 1, .ring = VGF_RING_GLOBAL };
	struct pollfd loop = { .events = POLLIN };
	bool is_green;

	check("init",
		vgf_virgl_init(&loop,
			VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS |
				VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB,
			&callbacks, NULL, &virgl));
	check("context", vgf_virgl_context_create(virgl, PRODUCER, 8, "producer"));
	check("context", vgf_virgl_context_create(virgl, CONSUMER, 8, "consumer"));
	process_resource_create(SHARED);
	process_resource_create(COPY);
	check("attach", vgf_virgl_ctx_attach_resource(virgl, PRODUCER, SHARED));
	check("attach", vgf_virgl_ctx_attach_resource(virgl, CONSUMER, SHARED));
	check("attach", vgf_virgl_ctx_attach_resource(virgl, CONSUMER, COPY));

	/* Something that the producer waits for, so that both can be seen to wait. */
	check("fence",
		vgf_fence_create_take(vgf_virgl_get_device(virgl), &gate, VGF_SHAREABLE, NULL,
			VGF_FENCE_BY_CALL));
	submit(PRODUCER, 2, 1, fill, sizeof(fill));
	submit(CONSUMER, 3, 2, copy, sizeof(copy));
	printf("fence 1 signals\n");
	check("signal", vgf_fence_signal(vgf_virgl_get_device(virgl), &gate, 0));

	loop.fd = vgf_virgl_get_poll_fd(virgl);
	while (retired < 3 && poll(&loop, 1, 10000) > 0) {
		check("poll", vgf_virgl_poll(virgl));
	}
	is_green = retired == 3 && read_pixel(COPY, CONSUMER) == 0xff00ff00;
	printf("the copy is %s\n", is_green ? "green" : "not green");
	vgf_virgl_cleanup(virgl);
	return is_green ? 0 : 1;
}
