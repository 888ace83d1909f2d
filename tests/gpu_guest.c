/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "gpu_guest.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc.h"
#include "calls.h"
#include "clock.h"
#include "gpu_private.h"
#include "guest_memory.h"
#include "soft_gpu.h"

/* Only so that a request that is lost ends the test. */
#define LOST_MS 20000

/* ---- Callbacks ------------------------------------------------------------------------------ */

static void complete(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written)
{
	struct guest *guest = cookie;
	struct guest_response *response = &guest->responses[queue][token];
	size_t at = 0;

	assert_false(guest->stopped);
	assert_true(response->sent);
	assert_false(response->done);
	assert_true(written <= response->size);
	response->done = true;
	response->written = written;
	response->order = ++guest->num_completed;
	for (size_t i = 0; i < response->num_writable; i++) {
		const struct iovec *iov = &response->writable[i];

		if (iov->iov_len > 0) {
			memcpy(response->bytes + at, iov->iov_base, iov->iov_len);
		}
		at += iov->iov_len;
	}
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	struct guest *guest = cookie;

	guest->num_warnings += level == VGF_LOG_WARNING;
	guest->num_errors += level == VGF_LOG_ERROR;
	if (level == VGF_LOG_WARNING) {
		snprintf(guest->warning, sizeof(guest->warning), "%s", message);
	}
	if (guest->watched != NULL &&
		strncmp(message, guest->watched, strlen(guest->watched)) == 0) {
		snprintf(guest->watched_warning, sizeof(guest->watched_warning), "%s", message);
	}
	if (getenv("VGF_TEST_LOG") != NULL) {
		print_message("log: %s\n", message);
	}
}

/* ---- The guest ------------------------------------------------------------------------------ */

static void start_memory(struct guest *guest)
{
	const struct guest_region region = {
		.guest_addr = GUEST_ADDR,
		.size = GUEST_SIZE,
		.user_addr = GUEST_ADDR,
	};

	guest->memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(guest->memory_fd >= 0);
	assert_int_equal(ftruncate(guest->memory_fd, GUEST_SIZE), 0);
	guest->memory = mmap(
		NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, guest->memory_fd, 0);
	assert_ptr_not_equal(guest->memory, MAP_FAILED);
	assert_int_equal(
		guest_memory_create(&region, &guest->memory_fd, 1, NULL, &guest->table), 0);
}

static void scanout_changed(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	(void)cookie;
	(void)scanout;
	(void)width;
	(void)height;
}

static bool scanout_flushed(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	const struct virtio_gpu_rect pixel = { rect->x, rect->y, 1, 1 };
	struct guest *guest = cookie;

	guest->num_flushes++;
	guest->flushed_at = guest->num_completed;
	if (gpu_read_scanout(guest->gpu, scanout, &pixel, &guest->flushed_pixel) == 0) {
		guest->flushed_pixel &= 0xffffff;
	} else {
		guest->flushed_pixel = NO_PIXEL;
	}
	assert_int_equal(frame, ++guest->num_frames[scanout]);
	if (guest->on_flush != NULL) {
		guest->on_flush(scanout, frame);
	}
	return guest->tells;
}

static bool scanout_offered(void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect,
	uint64_t frame, const struct gpu_buffer *buffer)
{
	struct guest *guest = cookie;

	(void)rect;
	assert_int_equal(frame, guest->num_frames[scanout] + 1);
	if (guest->on_offer == NULL || !guest->on_offer(scanout, frame, buffer)) {
		return false;
	}
	guest->num_frames[scanout]++;
	return true;
}

static void buffer_leaving(void *cookie, uint64_t key)
{
	struct guest *guest = cookie;

	guest->leaving = key;
	guest->num_leaving++;
	if (guest->on_leaving != NULL) {
		guest->on_leaving(key);
	}
}

static void cursor_changed(void *cookie, uint32_t scanout, const struct gpu_cursor *cursor)
{
	(void)cookie;
	(void)scanout;
	(void)cursor;
}

/* ---- The window ----------------------------------------------------------------------------- */

#define PAGE 4096

static void start_window(struct guest *guest, uint64_t size)
{
	struct guest_window *window = &guest->window;

	window->size = size;
	if (size > 0) {
		window->memory = mmap(
			NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		assert_ptr_not_equal(window->memory, MAP_FAILED);
		window->mapped = calloc(size / PAGE, sizeof(*window->mapped));
		assert_non_null(window->mapped);
	}
}

static void stop_window(struct guest_window *window)
{
	if (window->size > 0) {
		munmap(window->memory, window->size);
	}
	if (window->asked && !window->unmaps) {
		close(window->question.fd);
	}
	free(window->mapped);
}

static void ask(struct guest *guest, bool unmaps)
{
	struct guest_window *window = &guest->window;

	assert_false(window->asked);
	assert_int_equal((window->question.offset | window->question.size) % PAGE, 0);
	assert_true(window->question.size > 0);
	assert_true(window->question.offset < window->size);
	assert_true(window->question.size <= window->size - window->question.offset);
	window->asked = true;
	window->unmaps = unmaps;
	window->is_gone = false;
}

static int map(void *cookie, const struct gpu_mapping *mapping)
{
	struct guest *guest = cookie;

	guest->window.question = *mapping;
	guest->window.question.fd = dup(mapping->fd);
	assert_true(guest->window.question.fd >= 0);
	guest->window.num_maps++;
	ask(guest, false);
	return 0;
}

static int unmap(void *cookie, uint64_t offset, uint64_t size)
{
	struct guest *guest = cookie;

	guest->window.question = (struct gpu_mapping){ .offset = offset, .size = size, .fd = -1 };
	guest->window.num_unmaps++;
	ask(guest, true);
	return 0;
}

/* Each page was free, or was mapped. */
static void take_pages(struct guest_window *window)
{
	const struct gpu_mapping *question = &window->question;

	for (uint64_t at = 0; at < question->size; at += PAGE) {
		bool *page = &window->mapped[(question->offset + at) / PAGE];

		assert_int_equal(*page, window->unmaps);
		*page = !window->unmaps;
		window->num_mapped_pages += *page ? 1u : -1u;
	}
}

static void do_it(struct guest_window *window)
{
	const struct gpu_mapping *question = &window->question;
	const int fixed = MAP_FIXED | MAP_NORESERVE;
	void *at = window->memory + question->offset;

	take_pages(window);
	if (window->empty) {
		return;
	}
	if (window->unmaps) {
		at = mmap(
			at, question->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
	} else {
		at = mmap(at, question->size, PROT_READ | PROT_WRITE, MAP_SHARED | fixed,
			question->fd, (off_t)question->fd_offset);
	}
	assert_ptr_not_equal(at, MAP_FAILED);
}

static bool take_turn(void *cookie)
{
	const struct guest *guest = cookie;

	return guest->on_take_turn && guest->on_take_turn();
}

static void end_turn(void *cookie)
{
	const struct guest *guest = cookie;

	guest->on_end_turn();
}

void guest_reset(struct guest *guest)
{
	struct guest_window *window = &guest->window;

	for (uint64_t page = 0; page < window->size / PAGE; page++) {
		window->mapped[page] = false;
	}
	window->num_mapped_pages = 0;
	window->is_gone = window->asked && window->unmaps;
	if (window->size > 0) {
		assert_ptr_not_equal(
			mmap(window->memory, window->size, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0),
			MAP_FAILED);
	}
	gpu_reset(guest->gpu);
}

void guest_answer(struct guest *guest)
{
	struct guest_window *window = &guest->window;

	int status = window->is_gone ? -EREMOTEIO : window->status;

	assert_true(window->asked);
	if (status == 0) {
		do_it(window);
	}
	if (!window->unmaps) {
		close(window->question.fd);
	}
	window->asked = false;
	gpu_tell_mapped(guest->gpu, status);
}

/* ---- Start and end -------------------------------------------------------------------------- */

uint64_t guest_features(const struct guest *guest)
{
	return gpu_get_features(guest->gpu) & ~(UINT64_C(1) << VIRTIO_GPU_F_BLOB_ALIGNMENT);
}

void guest_start(struct guest *guest, const struct gpu_options *options)
{
	guest_start_with(guest, options, renderer_soft_create);
}

void guest_start_with(
	struct guest *guest, const struct gpu_options *options, renderer_create_fn create_renderer)
{
	static const struct gpu_callbacks callbacks = {
		.complete = complete,
		.take_turn = take_turn,
		.end_turn = end_turn,
		.scanout_changed = scanout_changed,
		.scanout_flushed = scanout_flushed,
		.cursor_changed = cursor_changed,
		.scanout_offered = scanout_offered,
		.buffer_leaving = buffer_leaving,
		.map = map,
		.unmap = unmap,
		.log = log_message,
	};
	static const struct gpu_options usual = {
		.num_scanouts = 2,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.hostmem_size = 1u << 20,
	};

	memset(guest, 0, sizeof(*guest));
	start_memory(guest);
	options = options != NULL ? options : &usual;
	start_window(guest, options->hostmem_size);
	assert_int_equal(gpu_create(&callbacks, guest, options, create_renderer, &guest->gpu), 0);
	gpu_set_features(guest->gpu, guest_features(guest));
	gpu_set_memory(guest->gpu, guest->table);
}

static void free_iov(struct iovec *iov, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(iov[i].iov_base);
	}
	free(iov);
}

static void free_response(struct guest_response *response)
{
	free_iov(response->readable, response->num_readable);
	free_iov(response->writable, response->num_writable);
	free(response->bytes);
	memset(response, 0, sizeof(*response));
}

void guest_stop(struct guest *guest)
{
	guest->stopped = true; /* nothing is completed any more */
	gpu_destroy(guest->gpu);
	stop_window(&guest->window);
	guest_memory_unref(guest->table);
	munmap(guest->memory, GUEST_SIZE);
	close(guest->memory_fd);
	for (size_t queue = 0; queue < GPU_NUM_QUEUES; queue++) {
		for (size_t token = 0; token < GPU_MAX_REQUESTS; token++) {
			free_response(&guest->responses[queue][token]);
		}
	}
}

/* Each piece gets memory of its own and of its exact size, so that a sanitizer sees what is too
 * much. */
static struct iovec *cut(const uint8_t *data, size_t size, size_t piece, size_t *count)
{
	struct iovec *iov;
	size_t length = piece > 0 && piece < size ? piece : size;

	*count = size > 0 ? (size + length - 1) / length : 0;
	iov = calloc(*count + 1, sizeof(*iov));
	assert_non_null(iov);
	for (size_t i = 0; i < *count; i++) {
		size_t at = i * length, left = size - at;

		iov[i].iov_len = left < length ? left : length;
		iov[i].iov_base = malloc(iov[i].iov_len);
		assert_non_null(iov[i].iov_base);
		if (data != NULL) {
			memcpy(iov[i].iov_base, data + at, iov[i].iov_len);
		} else {
			memset(iov[i].iov_base, 0xee, iov[i].iov_len);
		}
	}
	return iov;
}

static void handle(struct guest *guest, const struct gpu_request *request)
{
	unsigned long count = alloc_count();

	alloc_fail(guest->fail_nth);
	gpu_handle(guest->gpu, request);
	alloc_fail(0);
	if (guest->fail_nth > 0 && alloc_count() - count >= guest->fail_nth) {
		guest->failed = true;
	}
}

/* Tokens come round again, and what has one may still wait. */
static uint32_t take_token(struct guest *guest, enum gpu_queue queue)
{
	for (uint32_t i = 0; i < GPU_MAX_REQUESTS; i++) {
		uint32_t token = guest->next_token++ % GPU_MAX_REQUESTS;
		const struct guest_response *response = &guest->responses[queue][token];

		if (!response->sent || response->done) {
			return token;
		}
	}
	fail_msg("all of the guest's requests wait");
	return 0;
}

uint32_t guest_send(struct guest *guest, enum gpu_queue queue, const void *request, size_t size,
	size_t response_size)
{
	uint32_t token = take_token(guest, queue);
	struct guest_response *response = &guest->responses[queue][token];
	struct gpu_request gpu_request = { .queue = queue, .token = token };

	free_response(response);
	response->sent = true;
	response->size = response_size;
	response->bytes = malloc(response_size + 1);
	assert_non_null(response->bytes);
	response->readable = cut(request, size, guest->piece, &response->num_readable);
	response->writable = cut(NULL, response_size, guest->piece, &response->num_writable);
	gpu_request.readable = response->readable;
	gpu_request.num_readable = response->num_readable;
	gpu_request.writable = response->writable;
	gpu_request.num_writable = response->num_writable;
	handle(guest, &gpu_request);
	return token;
}

const struct guest_response *guest_wait(struct guest *guest, enum gpu_queue queue, uint32_t token)
{
	struct guest_response *response = &guest->responses[queue][token];
	uint64_t end_ns = now_ns() + LOST_MS * NS_PER_MS;

	while (!response->done) {
		struct pollfd poll_fd = { .fd = gpu_get_fd(guest->gpu), .events = POLLIN };

		if (guest->window.asked && !guest->window.held) {
			guest_answer(guest);
			continue;
		}
		assert_true(now_ns() < end_ns);
		assert_true(poll(&poll_fd, 1, gpu_timeout(guest->gpu, LOST_MS)) >= 0);
		gpu_dispatch(guest->gpu);
	}
	return response;
}

struct virtio_gpu_ctrl_hdr guest_header(const struct guest_response *response)
{
	struct virtio_gpu_ctrl_hdr header;

	assert_true(response->done);
	assert_true(response->written >= sizeof(header));
	memcpy(&header, response->bytes, sizeof(header));
	header.type = le32toh(header.type);
	header.flags = le32toh(header.flags);
	header.fence_id = le64toh(header.fence_id);
	header.ctx_id = le32toh(header.ctx_id);
	return header;
}

uint32_t guest_call(struct guest *guest, const void *request, size_t size)
{
	return guest_ask(guest, request, size, NULL, 0);
}

uint32_t guest_ask(
	struct guest *guest, const void *request, size_t size, void *payload, size_t payload_size)
{
	const size_t header_size = sizeof(struct virtio_gpu_ctrl_hdr);
	uint32_t token = guest_send(
		guest, GPU_QUEUE_CONTROL, request, size, header_size + payload_size);
	const struct guest_response *response = guest_wait(guest, GPU_QUEUE_CONTROL, token);

	if (response->written == 0) {
		return 0;
	}
	if (payload_size > 0 && guest_header(response).type < VIRTIO_GPU_RESP_ERR_UNSPEC) {
		assert_int_equal(response->written, header_size + payload_size);
		memcpy(payload, response->bytes + header_size, payload_size);
	}
	return guest_header(response).type;
}

/* ---- Fences that a test signals ------------------------------------------------------------- */

static struct guest *holding;

static int hold_fence(struct renderer *renderer, const struct vgf_fence_name *name, uint32_t flags)
{
	int fence_fd = holding->held_fd > 0 ? dup(holding->held_fd) : VGF_FENCE_BY_CALL;

	holding->held[(holding->next_token - 1) % GPU_MAX_REQUESTS] = *name;
	return vgf_fence_create_take(
		renderer->ops->get_device(renderer), name, flags, NULL, fence_fd);
}

uint32_t guest_hold(struct guest *guest, uint32_t ctx_id, int32_t ring, uint64_t fence_id)
{
	struct virtio_gpu_get_capset_info request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, ctx_id),
	};
	struct renderer *renderer = guest->gpu->renderer;
	const struct renderer_ops *ops = renderer->ops;
	struct renderer_ops hold_ops = *ops;
	uint32_t token;

	request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_FENCE_SHAREABLE);
	request.hdr.fence_id = htole64(fence_id);
	if (ring != VGF_RING_GLOBAL) {
		request.hdr.flags |= htole32(VIRTIO_GPU_FLAG_INFO_RING_IDX);
		request.hdr.ring_idx = (uint8_t)ring;
	}
	holding = guest;
	hold_ops.create_fence = hold_fence;
	renderer->ops = &hold_ops;
	token = guest_send(guest, GPU_QUEUE_CONTROL, &request, sizeof(request),
		sizeof(struct virtio_gpu_resp_capset_info));
	renderer->ops = ops;
	return token;
}

void guest_signal(struct guest *guest, uint32_t token)
{
	struct renderer *renderer = guest->gpu->renderer;

	assert_int_equal(
		vgf_fence_signal(renderer->ops->get_device(renderer), &guest->held[token], 0), 0);
}

/* ---- Requests ------------------------------------------------------------------------------- */

struct virtio_gpu_ctrl_hdr header(uint32_t type, uint32_t ctx_id)
{
	return (struct virtio_gpu_ctrl_hdr){
		.type = htole32(type),
		.ctx_id = htole32(ctx_id),
	};
}

uint32_t create_context(struct guest *guest, uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, ctx_id),
		.nlen = htole32(4),
		.context_init = htole32(6),
		.debug_name = "test",
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t destroy_context(struct guest *guest, uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_destroy request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_DESTROY, ctx_id),
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t create_2d(struct guest *guest, uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_resource_create_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, 0),
		.resource_id = htole32(resource_id),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.width = htole32(width),
		.height = htole32(height),
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t unref(struct guest *guest, uint32_t resource_id)
{
	const struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF, 0),
		.resource_id = htole32(resource_id),
	};

	return guest_call(guest, &request, sizeof(request));
}

static uint32_t context_resource(
	struct guest *guest, uint32_t type, uint32_t ctx_id, uint32_t resource_id)
{
	const struct virtio_gpu_ctx_resource request = {
		.hdr = header(type, ctx_id),
		.resource_id = htole32(resource_id),
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t attach_context(struct guest *guest, uint32_t ctx_id, uint32_t resource_id)
{
	return context_resource(guest, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, ctx_id, resource_id);
}

uint32_t detach_context(struct guest *guest, uint32_t ctx_id, uint32_t resource_id)
{
	return context_resource(guest, VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, ctx_id, resource_id);
}

uint32_t create_empty_blob(struct guest *guest, uint32_t resource_id, uint32_t size)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
		.resource_id = htole32(resource_id),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
		.size = htole64(size),
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t create_blob(struct guest *guest, uint32_t resource_id, uint32_t offset, uint32_t size)
{
	struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entry;
	} blob = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
			.resource_id = htole32(resource_id),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(1),
			.size = htole64(size),
		},
		.entry = { .addr = htole64(GUEST_ADDR + offset), .length = htole32(size) },
	};

	return guest_call(guest, &blob, sizeof(blob));
}

uint32_t show_blob(struct guest *guest, uint32_t scanout, uint32_t resource_id, uint32_t side)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(side), .height = htole32(side) },
		.scanout_id = htole32(scanout),
		.resource_id = htole32(resource_id),
		.width = htole32(side),
		.height = htole32(side),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(side * 4) },
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t create_host_blob(struct guest *guest, uint32_t resource_id, uint32_t size)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, 0),
		.resource_id = htole32(resource_id),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D),
		.blob_flags = htole32(VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE),
		.size = htole64(size),
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t send_map(struct guest *guest, uint32_t resource_id, uint64_t offset, uint64_t fence_id)
{
	struct virtio_gpu_resource_map_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB, 0),
		.resource_id = htole32(resource_id),
		.offset = htole64(offset),
	};

	if (fence_id != 0) {
		request.hdr.flags = htole32(
			VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_FENCE_SHAREABLE);
		request.hdr.fence_id = htole64(fence_id);
	}
	return guest_send(guest, GPU_QUEUE_CONTROL, &request, sizeof(request),
		sizeof(struct virtio_gpu_resp_map_info));
}

uint32_t send_unmap(struct guest *guest, uint32_t resource_id)
{
	const struct virtio_gpu_resource_unmap_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB, 0),
		.resource_id = htole32(resource_id),
	};

	return guest_send(guest, GPU_QUEUE_CONTROL, &request, sizeof(request),
		sizeof(struct virtio_gpu_ctrl_hdr));
}

uint32_t map_blob(struct guest *guest, uint32_t resource_id, uint64_t offset)
{
	return guest_header(
		guest_wait(guest, GPU_QUEUE_CONTROL, send_map(guest, resource_id, offset, 0)))
		.type;
}

uint32_t unmap_blob(struct guest *guest, uint32_t resource_id)
{
	return guest_header(guest_wait(guest, GPU_QUEUE_CONTROL, send_unmap(guest, resource_id)))
		.type;
}

uint32_t attach_backing(struct guest *guest, uint32_t resource_id, uint32_t offset, uint32_t size)
{
	struct {
		struct virtio_gpu_resource_attach_backing request;
		struct virtio_gpu_mem_entry entry;
	} attach = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, 0),
			.resource_id = htole32(resource_id),
			.nr_entries = htole32(1),
		},
		.entry = { .addr = htole64(GUEST_ADDR + offset), .length = htole32(size) },
	};

	return guest_call(guest, &attach, sizeof(attach));
}

uint32_t detach_backing(struct guest *guest, uint32_t resource_id)
{
	const struct virtio_gpu_resource_detach_backing request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 0),
		.resource_id = htole32(resource_id),
	};

	return guest_call(guest, &request, sizeof(request));
}

static void put_pair(uint32_t **at, uint32_t operation, uint32_t argument)
{
	*(*at)++ = htole32(operation);
	*(*at)++ = htole32(argument);
}

uint32_t send_flush(struct guest *guest, uint32_t resource_id, uint32_t width, uint32_t height,
	uint64_t fence_id)
{
	struct virtio_gpu_resource_flush request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH, 0),
		.r = { .width = htole32(width), .height = htole32(height) },
		.resource_id = htole32(resource_id),
	};

	request.hdr.flags = htole32(fence_id != 0 ? VIRTIO_GPU_FLAG_FENCE : 0);
	request.hdr.fence_id = htole64(fence_id);
	return guest_send(guest, GPU_QUEUE_CONTROL, &request, sizeof(request), sizeof(request.hdr));
}

uint32_t send_flush_behind(struct guest *guest, const struct flush_request *flush)
{
	struct {
		struct virtio_gpu_resource_flush request;
		uint64_t in_fences[4];
	} all = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH, flush->ctx_id),
			.r = { .width = htole32(flush->width), .height = htole32(flush->height) },
			.resource_id = htole32(flush->resource_id),
			.padding = htole32(flush->num_in_fences),
		},
	};
	uint32_t flags = (flush->fence_id != 0 ? VIRTIO_GPU_FLAG_FENCE : 0) |
		(flush->shareable ? VIRTIO_GPU_FLAG_FENCE_SHAREABLE : 0) |
		(flush->has_ring ? VIRTIO_GPU_FLAG_INFO_RING_IDX : 0);

	all.request.hdr.flags = htole32(flags);
	all.request.hdr.fence_id = htole64(flush->fence_id);
	all.request.hdr.ring_idx = flush->ring;
	for (uint32_t i = 0; i < flush->num_in_fences; i++) {
		all.in_fences[i] = htole64(flush->in_fences[i]);
	}
	return guest_send(guest, GPU_QUEUE_CONTROL, &all,
		sizeof(all.request) + flush->num_in_fences * sizeof(all.in_fences[0]),
		sizeof(all.request.hdr));
}

void create_test_fence(struct guest *guest, uint64_t fence_id)
{
	assert_true(fence_id < MAX_TEST_FENCES);
	guest->test_fences[fence_id] = guest_hold(guest, 0, VGF_RING_GLOBAL, fence_id);
}

void signal_test_fence(struct guest *guest, uint64_t fence_id)
{
	guest_signal(guest, guest->test_fences[fence_id]);
}

uint32_t submit(struct guest *guest, const struct job *job)
{
	struct {
		struct virtio_gpu_cmd_submit request;
		uint8_t rest[4 * 8 + 4 * (8 + MAX_JOB_WORDS)];
	} submit = { .request.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, job->ctx_id) };
	struct virtio_gpu_ctrl_hdr *hdr = &submit.request.hdr;
	uint32_t words[8 + MAX_JOB_WORDS], *at = words;
	size_t size, in_fences_size = job->num_in_fences * sizeof(job->in_fences[0]);

	put_pair(&at, SOFT_GPU_BUSY, job->busy_us);
	if (job->resource_id != 0) {
		put_pair(&at, SOFT_GPU_RESOURCE, job->resource_id);
		put_pair(&at, SOFT_GPU_OFFSET, job->offset);
		put_pair(&at, SOFT_GPU_STORE, job->value);
	}
	assert_true(job->num_words <= MAX_JOB_WORDS);
	for (uint32_t i = 0; i < job->num_words; i++) {
		*at++ = htole32(job->words[i]);
	}
	size = (size_t)(at - words) * sizeof(words[0]);
	hdr->flags = VIRTIO_GPU_FLAG_INFO_RING_IDX | VIRTIO_GPU_FLAG_FENCE_SHAREABLE;
	hdr->flags = htole32(hdr->flags | (job->fence_id != 0 ? VIRTIO_GPU_FLAG_FENCE : 0));
	hdr->fence_id = htole64(job->fence_id);
	hdr->ring_idx = job->ring;
	submit.request.size = htole32((uint32_t)size);
	submit.request.padding = htole32(job->num_in_fences);
	memcpy(submit.rest, job->in_fences, in_fences_size);
	memcpy(submit.rest + in_fences_size, words, size);
	return guest_send(guest, GPU_QUEUE_CONTROL, &submit,
		sizeof(submit.request) + in_fences_size + size, sizeof(struct virtio_gpu_ctrl_hdr));
}

uint32_t read_memory(const struct guest *guest, uint32_t offset)
{
	const uint32_t *at = (const uint32_t *)(guest->memory + offset);

	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
