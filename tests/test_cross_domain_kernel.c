/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fences that go to a compositor with a message, and come from it: dma-bufs, sync files and GPU
 * work of the kernel's, and a compositor that waits for what it was given, by content. What came
 * too early is a wrong pixel.
 */

#include "cross_domain_guest.h"

#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>
#include <vgfence/sync_file.h>

#include "cross_domain_private.h"
#include "fd_kind.h"
#include "sw_sync.h"
#include "vgem.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define PAGE 4096u
#define BLOB 10u
#define DRAWER 2u /* contexts of the renderer */
#define OTHER_DRAWER 3u
#define WAIT_RING 5
#define GATE_RING 7
#define OLD 0x00ff00u
#define FRAME_US 3000u
#define USUAL_FRAMES 300u

static struct cross_guest cross;
static struct guest *const guest = &cross.guest;
static int vgem;
static uint64_t last_fence;
static uint32_t job;           /* the token of the last one */
static struct vgem_fence gate; /* what jobs wait for, so that they take as long as a test likes */
static uint64_t gate_id;       /* 0: there is none */

/* A frame as the compositor has it. */
struct frame {
	int buffer, fence; /* below 0: none came */
	uint32_t *pixels;
};

static void need_kernel(void)
{
	vgem = vgem_open();
	if (vgem < 0 || access("/dev/udmabuf", R_OK | W_OK) < 0) {
		if (vgem >= 0) {
			close(vgem);
		}
		print_message("this kernel has no vgem or no udmabuf: ./run vm has both\n");
		skip();
	}
}

static void start(void)
{
	need_kernel();
	cross_start_in_kernel(&cross, NULL);
	assert_int_equal(create_context(guest, DRAWER), OK);
	assert_int_equal(create_context(guest, OTHER_DRAWER), OK);
	assert_int_equal(create_blob(guest, BLOB, 16 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, BLOB), OK);
	assert_int_equal(attach_context(guest, DRAWER, BLOB), OK);
	assert_int_equal(attach_context(guest, OTHER_DRAWER, BLOB), OK);
	*(uint32_t *)(guest->memory + (size_t)16 * PAGE) = OLD;
	last_fence = 0;
}

static void end_test(void)
{
	cross_stop(&cross);
	close(vgem);
}

#define TEST_KERNEL(name) TEST_BETWEEN(name, start(), end_test())

/* ---- The guest ------------------------------------------------------------------------------ */

/* A job that waits for fences, and then makes the pixel this value. Returns its fence. */
static uint64_t draw_behind(uint32_t ctx_id, uint32_t value, uint64_t first, uint64_t second)
{
	const struct job drawing = {
		.ctx_id = ctx_id,
		.fence_id = ++last_fence,
		.busy_us = FRAME_US,
		.resource_id = BLOB,
		.value = value,
		.num_in_fences = (first != 0) + (second != 0),
		.in_fences = { first, second },
	};

	job = submit(guest, &drawing);
	return last_fence;
}

static void close_gate(void)
{
	struct vgf_device *device = guest->gpu->renderer->ops->get_device(guest->gpu->renderer);
	uint32_t token;

	assert_int_equal(vgem_fence_init(vgem, &gate), 0);
	gate_id = ++last_fence;
	token = guest_hold(guest, OTHER_DRAWER, GATE_RING, gate_id);
	assert_int_equal(vgf_fence_publish_take(device, &guest->held[token], gate.fd), 0);
	gate.fd = -1;
}

static void open_gate(void)
{
	assert_int_equal(vgem_fence_signal(vgem, &gate), 0);
	vgem_fence_finish(vgem, &gate);
}

/* Behind the gate. */
static uint64_t draw(uint32_t value)
{
	close_gate();
	return draw_behind(DRAWER, value, gate_id, 0);
}

static uint32_t submit_send(
	uint64_t in_fence, const struct cross_identifier *identifiers, uint32_t count)
{
	uint8_t stream[512];
	const struct cross_submission submission = {
		.ring = 2,
		.fence_id = ++last_fence,
		.stream = stream,
		.size = cross_make_send(stream, "frame", 5, identifiers, count),
		.in_fence = in_fence,
	};

	return cross_submit(guest, &submission);
}

static const struct cross_identifier with_fence[] = { { CROSS_DOMAIN_ID_BLOB, BLOB },
	{ CROSS_DOMAIN_ID_SYNC, 0 } };
static const struct cross_identifier on_blob[] = { { CROSS_DOMAIN_ID_BLOB, BLOB },
	{ CROSS_DOMAIN_ID_FENCED_BLOB, BLOB } };
static const struct cross_identifier without_fence = { CROSS_DOMAIN_ID_BLOB, BLOB };

static uint32_t submit_wait(uint32_t type, uint32_t id)
{
	const struct cross_domain_wait_fence wait = {
		.header = { .command = CROSS_DOMAIN_WAIT_FENCE, .size = htole16(sizeof(wait)) },
		.identifier_type = htole32(type),
		.identifier = htole32(id),
	};
	const struct cross_submission submission = {
		.ring = WAIT_RING,
		.fence_id = ++last_fence,
		.stream = &wait,
		.size = sizeof(wait),
	};

	return cross_submit(guest, &submission);
}

/* The number of a fence that the compositor sends. */
static uint32_t receive_fence(int fence_fd)
{
	uint32_t token = cross_poll(&cross);
	struct cross_domain_send_receive receive;

	peer_send(cross.peer, "release", 7, &fence_fd, 1);
	assert_int_equal(cross_type(guest, token), OK);
	receive = ring_receive(&cross);
	assert_int_equal(le32toh(receive.num_identifiers), 1);
	assert_int_equal(le32toh(receive.identifier_types[0]), CROSS_DOMAIN_ID_SYNC);
	return le32toh(receive.identifiers[0]);
}

/* ---- The compositor ------------------------------------------------------------------------- */

static struct frame take_frame(void)
{
	struct frame frame = { -1, -1, NULL };
	uint32_t num_fds;
	int fds[64];
	char data[8];

	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 5);
	assert_true(num_fds == 1 || num_fds == 2);
	frame.buffer = fds[0];
	frame.fence = num_fds == 2 ? fds[1] : -1;
	frame.pixels = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, frame.buffer, 0);
	assert_true(frame.pixels != MAP_FAILED);
	return frame;
}

static void end_frame(struct frame *frame)
{
	munmap(frame->pixels, PAGE);
	close(frame->buffer);
	if (frame->fence >= 0) {
		close(frame->fence);
	}
}

static uint32_t pixel(const struct frame *frame)
{
	return __atomic_load_n(frame->pixels, __ATOMIC_ACQUIRE);
}

/* What it has to wait for: what came with it, or what a reader of the dma-buf waits for. */
static int acquire_fence(const struct frame *frame)
{
	int fd = frame->fence >= 0 ? fcntl(frame->fence, F_DUPFD_CLOEXEC, 0) :
				     vgf_dma_buf_export_sync_file(frame->buffer, VGF_ACCESS_READ);

	assert_true(fd >= 0);
	return fd;
}

/* ---- Acquiring ------------------------------------------------------------------------------ */

TEST_KERNEL(all_of_it_is_there)
{
	const struct cross_domain *domain = (const struct cross_domain *)guest->gpu->renderer;
	int dma_buf;

	assert_int_equal(cross_fences_supported(domain),
		CROSS_DOMAIN_SENDS_FENCES | CROSS_DOMAIN_ATTACHES_FENCES |
			CROSS_DOMAIN_RECEIVES_FENCES);
	assert_int_equal(vgf_sync_file_status(domain->signalled_fd), 1);
	assert_true(fd_is_sync_file(domain->signalled_fd));
	assert_int_equal(cross_type(guest, submit_send(0, &without_fence, 1)), OK);
	dma_buf = take_frame().buffer;
	assert_false(fd_is_sync_file(dma_buf));
	assert_false(fd_is_sync_file(guest->memory_fd));
	assert_false(fd_is_sync_file(cross.peer));
	close(dma_buf);
}

/* Shown once its fence has signalled; and the control, shown at once. */
static void show(const struct cross_identifier *identifiers, uint32_t count, uint32_t value)
{
	uint64_t fence_id = draw(value);
	struct frame frame;
	int fence;

	assert_int_equal(cross_type(guest, submit_send(fence_id, identifiers, count)), OK);
	frame = take_frame();
	fence = acquire_fence(&frame);
	assert_int_equal(vgf_sync_file_status(fence), 0);
	assert_int_equal(pixel(&frame), OLD);
	open_gate();
	assert_int_equal(vgf_sync_file_wait(fence, INT64_MAX), 0);
	assert_int_equal(pixel(&frame), value);
	close(fence);
	end_frame(&frame);
}

TEST_KERNEL(a_frame_goes_before_it_is_drawn_with_its_sync_file)
{
	show(with_fence, 2, 0xff);
}

TEST_KERNEL(a_frame_goes_before_it_is_drawn_with_the_fence_on_its_dma_buf)
{
	show(on_blob, 2, 0xff);
}

/* The control: what names no fence is early, if nobody waits. */
TEST_KERNEL(a_frame_without_a_fence_is_early)
{
	struct frame frame;
	int fence;

	draw(0xff);
	assert_int_equal(cross_type(guest, submit_send(0, with_fence, 2)), OK);
	frame = take_frame();
	assert_int_equal(vgf_sync_file_status(frame.fence), 1);
	fence = vgf_dma_buf_export_sync_file(frame.buffer, VGF_ACCESS_READ);
	assert_int_equal(vgf_sync_file_status(fence), 1);
	assert_int_equal(pixel(&frame), OLD);
	open_gate();
	assert_int_equal(cross_type(guest, job), OK);
	assert_int_equal(pixel(&frame), 0xff);
	close(fence);
	end_frame(&frame);
}

/* The other control: held back until it is drawn, as no fence goes with it. */
TEST_KERNEL(a_frame_that_takes_no_fence_comes_when_it_is_drawn)
{
	uint32_t token = submit_send(draw(0xff), &without_fence, 1);
	struct frame frame;

	assert_false(cross_is_done(guest, token));
	open_gate();
	assert_int_equal(cross_type(guest, token), OK);
	frame = take_frame();
	assert_int_equal(pixel(&frame), 0xff);
	end_frame(&frame);
}

TEST_KERNEL(fences_of_two_contexts_go_as_one_sync_file)
{
	const struct virtio_gpu_ctrl_hdr hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, CONTEXT);
	struct {
		struct virtio_gpu_cmd_submit request;
		uint64_t in_fences[2];
		uint8_t stream[512];
	} all = { .request.hdr = hdr, .request.padding = htole32(2) }; /* in-fences */
	struct frame frame;
	size_t size;

	all.in_fences[0] = htole64(draw(0xff));
	all.in_fences[1] = htole64(draw_behind(OTHER_DRAWER, 0xff, gate_id, 0));
	size = cross_make_send(all.stream, "frame", 5, with_fence, 2);
	all.request.size = htole32((uint32_t)size);
	assert_int_equal(guest_call(guest, &all, offsetof(__typeof__(all), stream) + size), OK);
	frame = take_frame();
	assert_int_equal(vgf_sync_file_info(frame.fence, NULL, 0), 2);
	assert_int_equal(pixel(&frame), OLD);
	open_gate();
	assert_int_equal(vgf_sync_file_wait(frame.fence, INT64_MAX), 0);
	assert_int_equal(pixel(&frame), 0xff);
	end_frame(&frame);
}

/* Work that waits for a fence without a descriptor has none either, until it runs. */
TEST_KERNEL(a_frame_whose_work_is_held_back_goes_when_that_runs)
{
	struct frame frame;
	uint32_t token;

	close_gate();
	create_test_fence(guest, ++last_fence);
	token = submit_send(draw_behind(DRAWER, 0xff, gate_id, last_fence), with_fence, 2);
	assert_false(cross_is_done(guest, token));
	signal_test_fence(guest, gate_id + 1);
	assert_int_equal(cross_type(guest, token), OK);
	frame = take_frame();
	assert_int_equal(vgf_sync_file_status(frame.fence), 0);
	assert_int_equal(pixel(&frame), OLD);
	open_gate();
	assert_int_equal(vgf_sync_file_wait(frame.fence, INT64_MAX), 0);
	assert_int_equal(pixel(&frame), 0xff);
	end_frame(&frame);
}

static int need_sw_sync(void)
{
	int sw_sync = sw_sync_timeline();

	if (sw_sync < 0) {
		print_message("this kernel has no sw_sync: ./run vm has it\n");
		end_test();
		skip();
	}
	return sw_sync;
}

/* The end of a sw_sync timeline is an error of what was pending on it. */
TEST_KERNEL(an_error_of_an_in_fence_goes_with_the_message)
{
	struct vgf_device *device = guest->gpu->renderer->ops->get_device(guest->gpu->renderer);
	int timeline = need_sw_sync();
	uint64_t fence_id = ++last_fence;
	uint32_t token = guest_hold(guest, OTHER_DRAWER, GATE_RING, fence_id);
	struct frame frame;

	assert_int_equal(
		vgf_fence_publish_take(device, &guest->held[token], sw_sync_fence(timeline, 1)), 0);
	assert_int_equal(cross_type(guest, submit_send(fence_id, with_fence, 2)), OK);
	frame = take_frame();
	assert_int_equal(vgf_sync_file_status(frame.fence), 0);
	close(timeline);
	assert_true(vgf_sync_file_status(frame.fence) < 0);
	end_frame(&frame);
	cross_type(guest, token);
	/* The message goes all the same. */
	assert_int_equal(cross_type(guest, submit_send(fence_id, with_fence, 2)), OK);
	frame = take_frame();
	assert_int_equal(vgf_sync_file_status(frame.fence), 1);
	end_frame(&frame);
}

/* ---- Releasing ------------------------------------------------------------------------------ */

/* The compositor reads the frame, and the guest draws the next one into it meanwhile. */
static void draw_next(struct vgem_fence *reader, uint32_t wait_token)
{
	uint64_t wait_id = last_fence;
	struct frame frame;
	uint32_t drawing;

	assert_int_equal(cross_type(guest, submit_send(0, &without_fence, 1)), OK);
	frame = take_frame();
	draw_behind(DRAWER, 0xff, wait_id, 0);
	drawing = job;
	draw_behind(OTHER_DRAWER, OLD, 0, 0); /* meanwhile the GPU does what it can */
	assert_int_equal(cross_type(guest, job), OK);
	assert_false(guest->responses[GPU_QUEUE_CONTROL][wait_token].done);
	assert_int_equal(pixel(&frame), OLD);
	assert_int_equal(vgem_fence_signal(vgem, reader), 0);
	assert_int_equal(cross_type(guest, wait_token), OK);
	assert_int_equal(cross_type(guest, drawing), OK);
	assert_int_equal(pixel(&frame), 0xff);
	vgem_fence_finish(vgem, reader);
	end_frame(&frame);
}

TEST_KERNEL(the_guest_draws_behind_a_release_fence)
{
	struct vgem_fence reader;

	assert_int_equal(vgem_fence_init(vgem, &reader), 0);
	draw_next(&reader, submit_wait(CROSS_DOMAIN_ID_SYNC, receive_fence(reader.fd)));
}

TEST_KERNEL(the_guest_draws_behind_readers_of_its_dma_buf)
{
	struct vgem_fence reader;
	struct frame frame;

	assert_int_equal(vgem_fence_init(vgem, &reader), 0);
	assert_int_equal(cross_type(guest, submit_send(0, &without_fence, 1)), OK);
	frame = take_frame();
	assert_int_equal(vgf_dma_buf_import_sync_file(frame.buffer, VGF_ACCESS_READ, reader.fd), 0);
	end_frame(&frame);
	draw_next(&reader, submit_wait(CROSS_DOMAIN_ID_BLOB, BLOB));
}

TEST_KERNEL(an_image_of_the_hosts_has_no_fences)
{
	const struct cross_identifier image[] = { { CROSS_DOMAIN_ID_BLOB, 11 },
		{ CROSS_DOMAIN_ID_FENCED_BLOB, 11 } };
	struct frame frame;
	uint32_t token;

	assert_int_equal(cross_create_blob(guest, CONTEXT, 11, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 11), OK);
	assert_int_equal(cross_type(guest, submit_wait(CROSS_DOMAIN_ID_BLOB, 11)),
		VIRTIO_GPU_RESP_ERR_UNSPEC);
	token = submit_send(draw(0xff), image, 2);
	assert_false(cross_is_done(guest, token));
	open_gate();
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(*(uint32_t *)(guest->memory + (size_t)16 * PAGE), 0xff);
	frame = take_frame();
	end_frame(&frame);
}

TEST_KERNEL(a_release_with_an_error_is_an_error_of_the_guests_fence)
{
	int timeline = need_sw_sync(), fence = sw_sync_fence(timeline, 1);
	uint32_t token;

	assert_true(fence >= 0);
	token = submit_wait(CROSS_DOMAIN_ID_SYNC, receive_fence(fence));
	assert_false(cross_is_done(guest, token));
	close(timeline);
	assert_true(cross_type(guest, token) >= VIRTIO_GPU_RESP_ERR_UNSPEC);
	close(fence);
}

/* ---- Frames --------------------------------------------------------------------------------- */

static uint32_t count_frames(void)
{
	const char *text = getenv("VGF_TEST_FRAMES");
	uint32_t count = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : USUAL_FRAMES;

	assert_true(count > 0);
	return count;
}

/* Each is drawn behind the release of the one before, sent before it is drawn, and shown when it
 * is. The test counts the descriptors of the process. */
TEST_KERNEL(no_frame_of_many_is_early_and_none_is_lost)
{
	uint32_t count = count_frames(), num_pending = 0;
	uint64_t released = 0;

	for (uint32_t value = 1; value <= count; value++) {
		uint64_t drawn = draw_behind(DRAWER, value, released, 0);
		bool is_explicit = value % 2 == 0;
		struct vgem_fence reader;
		struct frame frame;
		uint32_t token;
		int fence;

		assert_int_equal(cross_type(guest,
					 submit_send(drawn, is_explicit ? with_fence : on_blob, 2)),
			OK);
		frame = take_frame();
		assert_int_equal(frame.fence >= 0, is_explicit);
		fence = acquire_fence(&frame);
		num_pending += vgf_sync_file_status(fence) == 0;
		assert_int_equal(vgf_sync_file_wait(fence, INT64_MAX), 0);
		assert_int_equal(pixel(&frame), value);
		close(fence);
		assert_int_equal(vgem_fence_init(vgem, &reader), 0);
		token = submit_wait(CROSS_DOMAIN_ID_SYNC, receive_fence(reader.fd));
		released = last_fence;
		assert_int_equal(vgem_fence_signal(vgem, &reader), 0);
		vgem_fence_finish(vgem, &reader);
		end_frame(&frame);
		assert_int_equal(cross_type(guest, token), OK);
	}
	print_message("%u frames, %u of them sent before they were drawn: none early\n", count,
		num_pending);
	assert_true(num_pending > 0);
}
