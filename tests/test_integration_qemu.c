/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What docs/integrating-qemu.md changes in QEMU, in a stand-in for it (integration/qemu.c), with a
 * double of virglrenderer.
 */

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "integration/qemu.h"
#include "support.h"
#include "virgl_double.h"

#define MAX_COMMANDS 16
#define FLAG_SHAREABLE (1u << 2)
#define FLAGS (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX | FLAG_SHAREABLE)
#define NO_FENCE 0

enum { PRODUCER = 1, CONSUMER = 2, RING = 1 };

/* A request of the guest, as it is in its memory. */
struct request {
	struct virtio_gpu_ctrl_hdr hdr;
	uint32_t size, num_in_fences;
	uint64_t in_fence;
	uint32_t word;
	uint32_t padding[16];
};

static VirtIOGPU gpu;
static struct request requests[MAX_COMMANDS];
static struct iovec iovecs[MAX_COMMANDS];
static unsigned int num_commands, num_freed;
static struct {
	uint64_t fence_id;
	uint32_t type, flags;
} responses[MAX_COMMANDS];
static unsigned int num_responses;

static void respond(struct virtio_gpu_ctrl_command *cmd, uint32_t type)
{
	assert_true(num_responses < MAX_COMMANDS);
	responses[num_responses].fence_id = cmd->cmd_hdr.fence_id;
	responses[num_responses].flags = cmd->cmd_hdr.flags;
	responses[num_responses++].type = type;
}

void g_free(void *mem)
{
	free(mem);
	num_freed++;
}

/* The main loop, until nothing is to be done. */
static void loop(void)
{
	struct pollfd readable = { .fd = gpu.handled_fd, .events = POLLIN };

	while (poll(&readable, 1, 0) == 1) {
		gpu.fd_readable(&gpu);
	}
}

static void send(const struct request *request, size_t size)
{
	struct virtio_gpu_ctrl_command *cmd = calloc(1, sizeof(*cmd));

	assert_non_null(cmd);
	assert_true(num_commands < MAX_COMMANDS);
	requests[num_commands] = *request;
	iovecs[num_commands] = (struct iovec){ &requests[num_commands], size };
	cmd->elem = (VirtQueueElement){ .out_num = 1, .out_sg = &iovecs[num_commands] };
	num_commands++;
	virtio_gpu_process_cmd(&gpu, cmd);
}

static void create_context(uint32_t ctx_id)
{
	const struct request request = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = ctx_id },
	};

	send(&request, sizeof(struct virtio_gpu_ctx_create));
	assert_int_equal(responses[num_responses - 1].type, VIRTIO_GPU_RESP_OK_NODATA);
}

static void submit(uint32_t ctx_id, uint64_t fence_id, uint64_t in_fence)
{
	struct request request = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D,
			.flags = FLAGS,
			.fence_id = fence_id,
			.ctx_id = ctx_id,
			.ring_idx = RING },
		.size = 4,
		.num_in_fences = in_fence != NO_FENCE,
		.in_fence = in_fence,
		.word = (uint32_t)fence_id,
	};

	if (in_fence == NO_FENCE) {
		memcpy(&request.in_fence, &request.word, sizeof(request.word));
	}
	send(&request, in_fence == NO_FENCE ? 36 : 44);
}

static void assert_response(unsigned int at, uint64_t fence_id, uint32_t type)
{
	assert_true(at < num_responses);
	assert_int_equal(responses[at].fence_id, fence_id);
	assert_int_equal(responses[at].type, type);
}

static void begin(void)
{
	memset(&gpu, 0, sizeof(gpu));
	num_commands = num_responses = num_freed = 0;
	QTAILQ_INIT(&gpu.fenceq);
	gpu.respond = respond;
	gpu.fence_passing = true;
	assert_int_equal(virtio_gpu_virgl_init(&gpu), 0);
	create_context(PRODUCER);
	create_context(CONSUMER);
	num_responses = 0;
}

static void finish(void)
{
	virtio_gpu_virgl_unrealize(&gpu);
	assert_true(QTAILQ_EMPTY(&gpu.fenceq));
	assert_int_equal(gpu.inflight, 0);
	assert_int_equal(num_freed, num_commands);
	double_forget();
}

#define TEST_QEMU(name) TEST_BETWEEN(name, begin(), finish())

/* Its size is what the guest says. */
TEST_QEMU(a_contexts_name_is_read_no_further_than_its_end)
{
	struct request request = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = 3 },
		.size = UINT32_MAX, /* nlen */
	};

	memcpy(&request.in_fence, "name", 4);
	send(&request, sizeof(struct virtio_gpu_ctx_create));
	assert_response(0, 0, VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(the_double.name_size, 4);
}

TEST_QEMU(a_submission_is_held_behind_its_in_fence)
{
	submit(PRODUCER, 1, NO_FENCE);
	submit(CONSUMER, 2, 1);
	loop();
	assert_int_equal(the_double.num_submissions, 1);
	assert_int_equal(num_responses, 0);
	assert_true(double_signal(1));
	loop();
	assert_int_equal(the_double.num_submissions, 2);
	assert_int_equal(the_double.submissions[1].word, 2);
	assert_int_equal(num_responses, 1);
	assert_response(0, 1, VIRTIO_GPU_RESP_OK_NODATA);
	assert_true(double_signal(2));
	loop();
	assert_response(1, 2, VIRTIO_GPU_RESP_OK_NODATA);
}

/* The control: without fence passing the guest waits itself, and nothing is held. */
TEST_QEMU(without_fence_passing_nothing_is_held)
{
	gpu.fence_passing = false;
	submit(PRODUCER, 1, NO_FENCE);
	submit(CONSUMER, 2, NO_FENCE);
	loop();
	assert_int_equal(the_double.num_submissions, 2);
	assert_true(double_signal(2));
	assert_true(double_signal(1));
	loop();
	assert_int_equal(num_responses, 2);
}

TEST_QEMU(an_error_keeps_its_place)
{
	submit(PRODUCER, 1, NO_FENCE);
	submit(PRODUCER, 2, 77); /* there is no such fence */
	loop();
	assert_int_equal(num_responses, 0);
	assert_true(double_signal(1));
	loop();
	assert_int_equal(num_responses, 2);
	assert_response(0, 1, VIRTIO_GPU_RESP_OK_NODATA);
	assert_response(1, 2, VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_true(responses[1].flags & VIRTIO_GPU_FLAG_FENCE);
}

TEST_QEMU(a_request_that_cannot_be_decoded_keeps_its_place)
{
	const struct request cut = {
		.hdr = { .type = VIRTIO_GPU_CMD_SUBMIT_3D,
			.flags = FLAGS,
			.fence_id = 2,
			.ctx_id = PRODUCER,
			.ring_idx = RING },
		.size = 4096,
	};

	submit(PRODUCER, 1, NO_FENCE);
	send(&cut, 36);
	assert_int_equal(num_responses, 0);
	assert_true(double_signal(1));
	loop();
	assert_int_equal(num_responses, 2);
	assert_response(1, 2, VIRTIO_GPU_RESP_ERR_UNSPEC);
}

/* Nothing is pending on its timeline, of which there is none. */
TEST_QEMU(without_a_context_it_is_answered_at_once)
{
	submit(9, 1, NO_FENCE);
	assert_int_equal(num_responses, 1);
	assert_response(0, 1, VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_true(responses[0].flags & VIRTIO_GPU_FLAG_FENCE);
}

/* With its fence the guest would take the one before it for done, too. */
TEST_QEMU(an_id_that_does_not_grow_is_answered_without_its_fence)
{
	submit(PRODUCER, 2, NO_FENCE);
	submit(PRODUCER, 1, NO_FENCE);
	assert_int_equal(num_responses, 1);
	assert_response(0, 1, VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_false(responses[0].flags & VIRTIO_GPU_FLAG_FENCE);
}

TEST_QEMU(so_is_another_command_of_such_an_id)
{
	const struct request create = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_CREATE,
			.flags = VIRTIO_GPU_FLAG_FENCE,
			.fence_id = 1,
			.ctx_id = CONSUMER + 1 },
	};

	send(&create, sizeof(struct virtio_gpu_ctx_create));
	send(&create, sizeof(struct virtio_gpu_ctx_create));
	assert_int_equal(num_responses, 1);
	assert_response(0, 1, VIRTIO_GPU_RESP_OK_NODATA);
	assert_false(responses[0].flags & VIRTIO_GPU_FLAG_FENCE);
	assert_true(double_signal(1));
	loop();
	assert_int_equal(num_responses, 2);
	assert_true(responses[1].flags & VIRTIO_GPU_FLAG_FENCE);
}

TEST_QEMU(the_fence_of_another_command_is_behind_held_work)
{
	const struct request destroy = {
		.hdr = { .type = VIRTIO_GPU_CMD_CTX_DESTROY,
			.flags = VIRTIO_GPU_FLAG_FENCE,
			.fence_id = 3,
			.ctx_id = CONSUMER },
	};

	submit(PRODUCER, 1, NO_FENCE);
	submit(CONSUMER, 2, 1);
	send(&destroy, sizeof(destroy.hdr));
	loop();
	assert_int_equal(num_responses, 0);
	assert_true(double_signal(1));
	loop();
	assert_response(0, 1, VIRTIO_GPU_RESP_OK_NODATA);
	double_signal(2);
	double_signal(3);
	loop();
	assert_int_equal(num_responses, 3);
}

TEST_QEMU(a_reset_answers_all)
{
	submit(PRODUCER, 1, NO_FENCE);
	submit(CONSUMER, 2, 1);
	virtio_gpu_virgl_reset(&gpu);
	assert_int_equal(num_responses, 2);
	assert_true(QTAILQ_EMPTY(&gpu.fenceq));
}
