/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The virtio-gpu device with virglrenderer: 2D and OpenGL, as far as a guest can tell, and what a
 * guest does wrong. */

#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VIRGL_RENDERER_UNSTABLE_APIS /* in virglrenderer 0.10 */
#include <virglrenderer.h>

#include "calls.h"
#include "clock.h"
#include "event_records.h"
#include "gl_stream.h"
#include "gpu_guest.h"
#include "gpu_private.h"
#include "udmabuf.h"
#include "virgl_export.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER

#define SIDE 16
#define SIZE (SIDE * SIDE * 4)

#define TEXTURE_2D 2
#define BIND_RENDER_TARGET (1 << 1)
#define BIND_SAMPLER_VIEW (1 << 3)

#define NUM_HELD 200

static struct guest guest;

static void start(void)
{
	guest_start_with(&guest, NULL, renderer_virgl_create);
}

/* A GL context. */
static uint32_t create_gl_context(uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, ctx_id),
		.context_init = htole32(VIRTIO_GPU_CAPSET_VIRGL2),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static struct virtio_gpu_resource_create_3d texture(uint32_t resource_id)
{
	return (struct virtio_gpu_resource_create_3d){
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, 0),
		.resource_id = htole32(resource_id),
		.target = htole32(TEXTURE_2D),
		.format = htole32(GL_STREAM_FORMAT),
		.bind = htole32(BIND_RENDER_TARGET | BIND_SAMPLER_VIEW),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
		.depth = htole32(1),
		.array_size = htole32(1),
	};
}

static uint32_t create_texture(uint32_t resource_id)
{
	const struct virtio_gpu_resource_create_3d request = texture(resource_id);

	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t show(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT, 0),
		.r = { .width = htole32(width), .height = htole32(height) },
		.resource_id = htole32(resource_id),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t to_host_2d(uint32_t resource_id, struct virtio_gpu_rect rect, uint64_t offset)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = { htole32(rect.x), htole32(rect.y), htole32(rect.width),
			htole32(rect.height) },
		.offset = htole64(offset),
		.resource_id = htole32(resource_id),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static struct virtio_gpu_transfer_host_3d transfer(
	uint32_t type, uint32_t ctx_id, uint32_t resource_id)
{
	return (struct virtio_gpu_transfer_host_3d){
		.hdr = header(type, ctx_id),
		.box = { .w = htole32(SIDE), .h = htole32(SIDE), .d = htole32(1) },
		.resource_id = htole32(resource_id),
		.stride = htole32(SIDE * 4),
	};
}

static uint32_t from_host_3d(uint32_t ctx_id, uint32_t resource_id)
{
	const struct virtio_gpu_transfer_host_3d request = transfer(
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, ctx_id, resource_id);

	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t *guest_words(uint32_t offset)
{
	return (uint32_t *)(guest.memory + offset);
}

/* A fenced submission. Returns its token. */
static uint32_t submit_stream(
	uint32_t ctx_id, const struct gl_stream *stream, uint64_t fence_id, uint64_t in_fence)
{
	struct {
		struct virtio_gpu_cmd_submit request;
		uint8_t rest[8 + GL_STREAM_MAX * sizeof(uint32_t)];
	} submit = { .request.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, ctx_id) };
	size_t in_fences_size = in_fence != 0 ? sizeof(in_fence) : 0;
	size_t size = stream->count * sizeof(stream->words[0]);

	submit.request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX |
		VIRTIO_GPU_FLAG_FENCE_SHAREABLE);
	submit.request.hdr.fence_id = htole64(fence_id);
	submit.request.size = htole32((uint32_t)size);
	submit.request.padding = htole32(in_fence != 0);
	in_fence = htole64(in_fence);
	memcpy(submit.rest, &in_fence, in_fences_size);
	memcpy(submit.rest + in_fences_size, stream->words, size);
	return guest_send(&guest, GPU_QUEUE_CONTROL, &submit,
		sizeof(submit.request) + in_fences_size + size, sizeof(struct virtio_gpu_ctrl_hdr));
}

/* Fills a texture. */
static uint32_t submit_fill(
	uint32_t ctx_id, uint32_t resource_id, uint32_t pixel, uint64_t fence_id, uint64_t in_fence)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_fill(&stream, resource_id, pixel);
	return submit_stream(ctx_id, &stream, fence_id, in_fence);
}

static struct virtio_gpu_ctrl_hdr wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token));
}

static void start_with_texture(void)
{
	start();
	assert_int_equal(create_gl_context(1), OK);
	assert_int_equal(create_texture(1), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, SIZE), OK);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
}

#define TEST_GUEST(name) TEST_BETWEEN(name, start(), guest_stop(&guest))
#define TEST_TEXTURE(name) TEST_BETWEEN(name, start_with_texture(), guest_stop(&guest))

/* ---- Drawing -------------------------------------------------------------------------------- */

TEST_GUEST(has_contexts_of_each_capability_set_that_it_tells)
{
	struct virtio_gpu_get_capset_info info_request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
	};
	struct virtio_gpu_get_capset request = { .hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0) };
	struct virtio_gpu_ctx_create context = { .hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, 1) };
	struct virtio_gpu_config config;
	uint32_t info[4];
	uint8_t *capset;

	assert_int_equal(gpu_read_config(guest.gpu, 0, &config, sizeof(config)), 0);
	assert_int_equal(le32toh(config.num_capsets), 2);
	for (uint32_t i = 0; i < le32toh(config.num_capsets); i++) {
		info_request.capset_index = htole32(i);
		assert_int_equal(
			guest_ask(&guest, &info_request, sizeof(info_request), info, sizeof(info)),
			VIRTIO_GPU_RESP_OK_CAPSET_INFO);
		request.capset_id = info[0];
		request.capset_version = info[1];
		capset = malloc(le32toh(info[2]));
		assert_non_null(capset);
		assert_int_equal(
			guest_ask(&guest, &request, sizeof(request), capset, le32toh(info[2])),
			VIRTIO_GPU_RESP_OK_CAPSET);
		free(capset);
		context.context_init = info[0];
		assert_int_equal(guest_call(&guest, &context, sizeof(context)), OK);
		assert_int_equal(destroy_context(&guest, 1), OK);
		request.capset_version = htole32(le32toh(info[1]) + 1);
		assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	}
}

/* Where struct virgl_caps_v2 of virglrenderer's protocol (virgl_hw.h) has them. */
#define CAPABILITY_BITS 392
#define CAP_ARB_BUFFER_STORAGE (1u << 31)

/* A guest would map its buffers, which no descriptor stands for. */
TEST_GUEST(tells_of_no_buffers_that_cannot_be_mapped)
{
	struct virtio_gpu_get_capset_info about = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
		.capset_index = htole32(1),
	};
	struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(VIRTIO_GPU_CAPSET_VIRGL2),
	};
	uint32_t info[4], bits;
	uint8_t caps[2048];

	assert_int_equal(guest_ask(&guest, &about, sizeof(about), info, sizeof(info)),
		VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	assert_int_equal(le32toh(info[0]), VIRTIO_GPU_CAPSET_VIRGL2);
	request.capset_version = info[1];
	assert_true(le32toh(info[2]) <= sizeof(caps));
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), caps, le32toh(info[2])),
		VIRTIO_GPU_RESP_OK_CAPSET);
	memcpy(&bits, caps + CAPABILITY_BITS, sizeof(bits));
	assert_true(le32toh(bits) != 0);
	assert_false(le32toh(bits) & CAP_ARB_BUFFER_STORAGE);
}

TEST_GUEST(shows_what_a_guest_without_gl_draws)
{
	const struct virtio_gpu_rect all = { 0, 0, SIDE, SIDE }, part = { 2, 3, 4, 5 };
	uint32_t pixels[SIDE * SIDE];

	assert_int_equal(create_2d(&guest, 1, SIDE, SIDE), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, SIZE), OK);
	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		guest_words(0)[i] = htole32(0x112200 + i); /* B8G8R8X8 */
	}
	assert_int_equal(to_host_2d(1, all, 0), OK);
	memset(guest.memory, 0xff, SIZE);
	assert_int_equal(to_host_2d(1, part, (3 * SIDE + 2) * 4), OK);
	assert_int_equal(show(1, SIDE, SIDE), OK);
	assert_int_equal(gpu_read_scanout(guest.gpu, 0, &all, pixels), 0);
	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		bool changed = i % SIDE >= 2 && i % SIDE < 6 && i / SIDE >= 3 && i / SIDE < 8;

		assert_int_equal(pixels[i] & 0xffffff, changed ? 0xffffff : 0x112200 + i);
	}
}

TEST_TEXTURE(draws_behind_its_fence)
{
	const struct virtio_gpu_rect all = { 0, 0, SIDE, SIDE };
	struct virtio_gpu_ctrl_hdr response;
	uint32_t pixels[SIDE * SIDE];

	response = wait_for(submit_fill(1, 1, PIXEL(10, 20, 30, 255), 5, 0));
	assert_int_equal(response.type, OK);
	assert_int_equal(response.flags, VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	assert_int_equal(response.fence_id, 5);
	assert_int_equal(from_host_3d(1, 1), OK);
	assert_int_equal(le32toh(guest_words(0)[SIDE + 1]), PIXEL(10, 20, 30, 255));
	assert_int_equal(show(1, SIDE, SIDE), OK);
	assert_int_equal(gpu_read_scanout(guest.gpu, 0, &all, pixels), 0);
	assert_int_equal(pixels[0] & 0xffffff, 10 << 16 | 20 << 8 | 30);
}

/* virglrenderer knows blobs of guest memory, but does not draw on them. */
TEST_TEXTURE(a_blob_of_guest_memory_is_shown_and_harms_no_context)
{
	static const uint32_t types[] = { VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D };
	const struct virtio_gpu_rect all = { 0, 0, SIDE, SIDE };
	uint32_t pixels[SIDE * SIDE];

	assert_int_equal(create_empty_blob(&guest, 5, SIZE), OK);
	assert_int_equal(attach_context(&guest, 1, 5), OK);
	assert_int_equal(show_blob(&guest, 0, 5, SIDE), OK);
	for (uint32_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < 4; i++) {
			const struct virtio_gpu_transfer_host_3d request = transfer(
				types[i % 2], (uint32_t)i / 2, 5);

			assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
		}
		assert_int_equal(to_host_2d(5, all, 0), OK);
		assert_true(gpu_read_scanout(guest.gpu, 0, &all, pixels) < 0);
		guest_words(8192)[0] = htole32(round);
		assert_int_equal(attach_backing(&guest, 5, 8192, SIZE), OK);
		assert_int_equal(gpu_read_scanout(guest.gpu, 0, &all, pixels), 0);
		assert_int_equal(pixels[0] & 0xffffff, round);
		assert_int_equal(detach_backing(&guest, 5), OK);
	}
	assert_int_equal(detach_context(&guest, 1, 5), OK);
	assert_int_equal(unref(&guest, 5), OK);
	assert_int_equal(wait_for(submit_fill(1, 1, PIXEL(10, 20, 30, 255), 5, 0)).type, OK);
}

/* ---- What can be read in place --------------------------------------------------------------- */

/*
 * OpenGL in software has nothing that is a dma-buf, so what virglrenderer answers is a double while
 * exports.memory_fd is one. What a GPU's driver exports is not seen here.
 */
static struct {
	int memory_fd; /* what is handed out copies of; below 0: virglrenderer itself answers */
	uint32_t num_planes, fourcc; /* of a texture */
	uint32_t blob_fd_type;       /* 0: a blob has none */
} exports = { .memory_fd = -1 };

#define XR24 0x34325258u
#define TILED (UINT64_C(1) << 56 | 2)
#define Y_0_TOP VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP

int __real_virgl_renderer_execute(void *arg, uint32_t size);
int __wrap_virgl_renderer_execute(void *arg, uint32_t size);
int __real_virgl_renderer_resource_export_blob(uint32_t id, uint32_t *fd_type, int *fd);
int __wrap_virgl_renderer_resource_export_blob(uint32_t id, uint32_t *fd_type, int *fd);

int __wrap_virgl_renderer_execute(void *arg, uint32_t size)
{
	struct virgl_renderer_export_query *query = arg;

	if (exports.memory_fd < 0) {
		return __real_virgl_renderer_execute(arg, size);
	}
	assert_int_equal(size, sizeof(*query));
	assert_int_equal(query->hdr.stype, VIRGL_RENDERER_STRUCTURE_TYPE_EXPORT_QUERY);
	assert_int_equal(query->hdr.size, sizeof(*query));
	assert_int_equal(query->in_export_fds, 1);
	query->out_num_fds = exports.num_planes;
	query->out_fourcc = exports.fourcc;
	query->out_modifier = TILED;
	for (uint32_t i = 0; i < exports.num_planes; i++) {
		query->out_fds[i] = fcntl(exports.memory_fd, F_DUPFD_CLOEXEC, 0);
		query->out_strides[i] = 256;
		query->out_offsets[i] = 4096;
	}
	return 0;
}

int __wrap_virgl_renderer_resource_export_blob(uint32_t id, uint32_t *fd_type, int *fd)
{
	if (exports.memory_fd < 0) {
		return __real_virgl_renderer_resource_export_blob(id, fd_type, fd);
	}
	if (exports.blob_fd_type == 0) {
		return -1;
	}
	*fd_type = exports.blob_fd_type;
	*fd = fcntl(exports.memory_fd, F_DUPFD_CLOEXEC, 0);
	return 0;
}

static void start_exports(void)
{
	start();
	exports.memory_fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(exports.memory_fd >= 0);
	assert_int_equal(ftruncate(exports.memory_fd, 8192), 0);
	assert_int_equal(fcntl(exports.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	exports.num_planes = 1;
	exports.fourcc = XR24;
	exports.blob_fd_type = 0;
}

static void stop_exports(void)
{
	guest_stop(&guest);
	close(exports.memory_fd);
	exports.memory_fd = -1;
}

#define TEST_EXPORTS(name) TEST_BETWEEN(name, start_exports(), stop_exports())

static int get_buffer(struct gpu_buffer *buffer)
{
	int ret = gpu_get_scanout_buffer(guest.gpu, 0, buffer);

	if (ret == 0) {
		close(buffer->fd);
		gpu_tell_released(guest.gpu, buffer->key);
	}
	return ret;
}

static void show_texture(uint32_t resource_id, uint32_t flags)
{
	struct virtio_gpu_resource_create_3d request = texture(resource_id);

	request.flags = htole32(flags);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	assert_int_equal(show(resource_id, SIDE, SIDE), OK);
}

TEST_EXPORTS(a_texture_is_read_in_place_as_its_driver_lays_it_out)
{
	struct gpu_buffer buffer;

	show_texture(1, 0);
	assert_int_equal(get_buffer(&buffer), 0);
	assert_int_equal(buffer.width, SIDE);
	assert_int_equal(buffer.height, SIDE);
	assert_int_equal(buffer.stride, 256);
	assert_int_equal(buffer.offset, 4096);
	assert_int_equal(buffer.drm_format, XR24);
	assert_true(buffer.modifier == TILED);
	assert_int_equal(create_2d(&guest, 2, SIDE, SIDE), OK);
	assert_int_equal(show(2, SIDE, SIDE), OK);
	assert_int_equal(get_buffer(&buffer), -EOPNOTSUPP); /* its transfers ask nobody */
	guest_wait(&guest, GPU_QUEUE_CONTROL, send_flush(&guest, 2, SIDE, SIDE, 1));
	assert_int_equal(get_buffer(&buffer), 0);
}

#define FRAMEBUFFER 0x8d40u
#define COLOR_ATTACHMENT0 0x8ce0u
#define GL_TEXTURE_2D 0x0de1u
#define RGBA 0x1908u
#define UNSIGNED_BYTE 0x1401u

static void *gl_function(const char *name)
{
	void *library = dlopen("libEGL.so.1", RTLD_LAZY | RTLD_NOLOAD);
	void *(*get_address)(const char *name) = NULL;
	void *function;

	assert_non_null(library); /* virglrenderer has it */
	*(void **)&get_address = dlsym(library, "eglGetProcAddress");
	dlclose(library);
	function = get_address(name);
	assert_non_null(function);
	return function;
}

/* The red of the first pixel that the texture has in its driver's memory. */
static uint8_t first_red(uint32_t resource_id)
{
	void (*gen_framebuffers)(int count, uint32_t *ids) = gl_function("glGenFramebuffers");
	void (*delete_framebuffers)(int count, const uint32_t *ids) = gl_function(
		"glDeleteFramebuffers");
	void (*bind_framebuffer)(uint32_t target, uint32_t id) = gl_function("glBindFramebuffer");
	void (*attach)(uint32_t target, uint32_t point, uint32_t kind, uint32_t id,
		int level) = gl_function("glFramebufferTexture2D");
	void (*read_pixels)(int x, int y, int width, int height, uint32_t format, uint32_t type,
		void *out) = gl_function("glReadPixels");
	struct virgl_renderer_resource_info info;
	uint8_t pixel[4] = { 0 };
	uint32_t id;

	assert_int_equal(virgl_renderer_resource_get_info((int)resource_id, &info), 0);
	virgl_renderer_force_ctx_0();
	gen_framebuffers(1, &id);
	bind_framebuffer(FRAMEBUFFER, id);
	attach(FRAMEBUFFER, COLOR_ATTACHMENT0, GL_TEXTURE_2D, info.tex_id, 0);
	read_pixels(0, 0, 1, 1, RGBA, UNSIGNED_BYTE, pixel);
	bind_framebuffer(FRAMEBUFFER, 0);
	delete_framebuffers(1, &id);
	return pixel[0];
}

/* Whether the texture begins with the guest's first row, by what OpenGL has. */
static bool begins_at_the_top(uint32_t resource_id)
{
	const struct virtio_gpu_rect all = { 0, 0, SIDE, SIDE };

	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		guest_words(0)[i] = htole32(i < SIDE ? 0xffffff : 0x404040);
	}
	assert_int_equal(attach_backing(&guest, resource_id, 0, SIZE), OK);
	assert_int_equal(to_host_2d(resource_id, all, 0), OK);
	return first_red(resource_id) == 0xff;
}

TEST_EXPORTS(what_is_read_in_place_begins_at_the_top)
{
	struct gpu_buffer buffer;

	assert_int_equal(create_2d(&guest, 1, SIDE, SIDE), OK);
	assert_int_equal(show(1, SIDE, SIDE), OK);
	assert_true(begins_at_the_top(1));
	guest_wait(&guest, GPU_QUEUE_CONTROL, send_flush(&guest, 1, SIDE, SIDE, 1));
	assert_int_equal(get_buffer(&buffer), 0);
	show_texture(2, 0);
	assert_true(begins_at_the_top(2));
	assert_int_equal(get_buffer(&buffer), 0);
	show_texture(3, Y_0_TOP);
	assert_false(begins_at_the_top(3));
	assert_int_equal(get_buffer(&buffer), -EOPNOTSUPP);
}

TEST_EXPORTS(a_texture_that_no_display_could_read_is_copied)
{
	struct gpu_buffer buffer;

	show_texture(1, Y_0_TOP); /* upside down */
	assert_int_equal(get_buffer(&buffer), -EOPNOTSUPP);
	show_texture(2, 0);
	exports.num_planes = 2;
	assert_int_equal(get_buffer(&buffer), -EOPNOTSUPP);
	exports.num_planes = 0;
	assert_int_equal(get_buffer(&buffer), -EOPNOTSUPP);
	exports.num_planes = 1;
	exports.fourcc = 0;
	assert_int_equal(get_buffer(&buffer), -EOPNOTSUPP);
	assert_int_equal(guest.num_errors, 0); /* nothing is wrong */
}

TEST_EXPORTS(a_blob_is_read_in_place_if_others_can_map_it)
{
	struct renderer_dma_buf dma_buf = { .fd = -1 };
	bool has_udmabuf = udmabuf_is_there();
	int ret;

	assert_int_equal(virgl_export_blob(1, &dma_buf), -EOPNOTSUPP);
	exports.blob_fd_type = VIRGL_RENDERER_BLOB_FD_TYPE_OPAQUE;
	assert_int_equal(virgl_export_blob(1, &dma_buf), -EOPNOTSUPP);
	exports.blob_fd_type = VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF;
	assert_int_equal(virgl_export_blob(1, &dma_buf), 0);
	assert_int_equal(lseek(dma_buf.fd, 0, SEEK_END), 8192);
	close(dma_buf.fd);
	exports.blob_fd_type = VIRGL_RENDERER_BLOB_FD_TYPE_SHM;
	ret = virgl_export_blob(1, &dma_buf);
	assert_int_equal(ret, has_udmabuf ? 0 : -ENODEV);
	if (has_udmabuf) {
		assert_int_equal(lseek(dma_buf.fd, 0, SEEK_END), 8192);
		close(dma_buf.fd);
	}
}

/* ---- Wrong ---------------------------------------------------------------------------------- */

TEST_TEXTURE(refuses_transfers_that_reach_out)
{
	static const uint32_t types[] = { VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D };

	for (size_t i = 0; i < 2; i++) {
		struct virtio_gpu_transfer_host_3d bad[8];

		for (size_t j = 0; j < 8; j++) {
			bad[j] = transfer(types[i], 1, 1);
		}
		bad[0].box.w = htole32(SIDE + 1);
		bad[1].box.y = htole32(1);
		bad[2].box.x = htole32(0x80000000);
		bad[3].box.d = htole32(2);
		bad[4].level = htole32(1);
		bad[5].level = htole32(0xffffffff);
		bad[6].offset = htole64(4);
		bad[7].offset = htole64(UINT64_MAX - 3);
		for (size_t j = 0; j < 8; j++) {
			assert_true(guest_call(&guest, &bad[j], sizeof(bad[j])) >=
				VIRTIO_GPU_RESP_ERR_UNSPEC);
		}
		bad[0] = transfer(types[i], 1, 1);
		assert_int_equal(guest_call(&guest, &bad[0], sizeof(bad[0])), OK);
	}
}

/* virglrenderer counts in 32 bits, where fifteen such rows are 44 bytes: the second one would be
 * read far behind the backing. */
TEST_TEXTURE(refuses_strides_that_wrap)
{
	static const uint32_t types[] = { VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D };

	for (size_t i = 0; i < 2; i++) {
		struct virtio_gpu_transfer_host_3d request = transfer(types[i], 1, 1);

		request.stride = htole32(286331156);
		assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
		request.stride = htole32(0xfffffffc);
		assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
		request.box.h = htole32(1);
		assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
		request.layer_stride = htole32(0xfffffffc);
		request.box.d = htole32(2);
		assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	}
}

/* TRANSFER3D of the virgl protocol, to the host, or another command that begins like it. */
static struct gl_stream transfer_stream(uint32_t command, uint32_t stride)
{
	const uint32_t words[] = { command | 13u << 16, 1, 0, 0, stride, 0, 0, 0, 0, SIDE, SIDE, 1,
		0, 1 };
	struct gl_stream stream;

	memcpy(stream.words, words, sizeof(words));
	stream.count = sizeof(words) / sizeof(words[0]);
	return stream;
}

/* By way of a command stream. */
TEST_TEXTURE(refuses_command_streams_with_strides_that_wrap)
{
	static const uint32_t commands[] = { 9, 43, 45 };
	struct virtio_gpu_ctrl_hdr response;
	struct gl_stream stream = transfer_stream(43, SIDE * 4);

	memset(guest.memory, 0x5a, SIZE);
	assert_int_equal(wait_for(submit_stream(1, &stream, 1, 0)).type, OK);
	memset(guest.memory, 0, SIZE);
	assert_int_equal(from_host_3d(1, 1), OK);
	assert_int_equal(guest_words(0)[SIDE * SIDE - 1], 0x5a5a5a5a);
	for (uint32_t i = 0; i < 3; i++) {
		stream = transfer_stream(commands[i], 286331156);
		response = wait_for(submit_stream(1, &stream, 2 + i, 0));
		assert_int_equal(response.type, BAD_PARAMETER);
		assert_true(response.flags & VIRTIO_GPU_FLAG_FENCE);
	}
}

/* A scanout of a resource that is no plain picture is refused when it is read, at the latest. */
TEST(survives_scanouts_of_any_resource)
{
	const struct virtio_gpu_rect all = { 0, 0, SIDE, SIDE };
	uint32_t *pixels = malloc(SIZE); /* so that a sanitizer sees what is too much */
	unsigned int num_created = 0;

	assert_non_null(pixels);
	start();
	for (uint32_t target = 0; target < 10; target++) {
		for (uint32_t format = 0; format < 200; format++) {
			struct virtio_gpu_resource_create_3d request = texture(1);

			request.target = htole32(target);
			request.format = htole32(format);
			request.nr_samples = htole32(format % 3 == 2 ? 4 : 0);
			request.array_size = htole32(target == 5 ? 6 : 1);
			if (guest_call(&guest, &request, sizeof(request)) != OK) {
				continue;
			}
			num_created++;
			if (show(1, SIDE, SIDE) == OK) {
				gpu_read_scanout(guest.gpu, 0, &all, pixels);
			}
			assert_int_equal(unref(&guest, 1), OK);
		}
	}
	assert_true(num_created > 10);
	free(pixels);
	guest_stop(&guest);
}

TEST_GUEST(refuses_what_virglrenderer_does_not_have)
{
	struct virtio_gpu_resource_create_3d request = texture(1);
	struct virtio_gpu_ctx_create context = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, 3),
		.context_init = htole32(99),
	};

	request.target = htole32(99);
	assert_true(guest_call(&guest, &request, sizeof(request)) >= VIRTIO_GPU_RESP_ERR_UNSPEC);
	request = texture(1);
	request.width = htole32(0xffffffff);
	assert_true(guest_call(&guest, &request, sizeof(request)) >= VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_true(guest_call(&guest, &context, sizeof(context)) >= VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* Nothing of these is left. */
	assert_int_equal(create_texture(1), OK);
	assert_int_equal(create_gl_context(3), OK);
}

/* ---- In flight ------------------------------------------------------------------------------ */

/* A submission that waits for fence 1, and behind it a transfer, then what takes the memory away.
 * Sends them, and returns the first token. */
static uint32_t send_held(void)
{
	const struct virtio_gpu_transfer_host_3d back = transfer(
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 1, 1);
	const struct virtio_gpu_resource_detach_backing detach = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 0),
		.resource_id = htole32(1),
	};
	const struct virtio_gpu_resource_unref unref_1 = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF, 0),
		.resource_id = htole32(1),
	};
	const size_t room = sizeof(struct virtio_gpu_ctrl_hdr);
	uint32_t token;

	create_test_fence(&guest, 1);
	token = submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 1);
	guest_send(&guest, GPU_QUEUE_CONTROL, &back, sizeof(back), room);
	guest_send(&guest, GPU_QUEUE_CONTROL, &detach, sizeof(detach), room);
	guest_send(&guest, GPU_QUEUE_CONTROL, &unref_1, sizeof(unref_1), room);
	for (uint32_t i = 0; i < 4; i++) {
		assert_false(guest.responses[GPU_QUEUE_CONTROL][token + i].done);
	}
	return token;
}

TEST_TEXTURE(what_is_held_keeps_its_place)
{
	uint32_t token;

	token = send_held();
	assert_int_equal(create_texture(1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	signal_test_fence(&guest, 1);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(wait_for(token + i).type, OK);
	}
	assert_int_equal(le32toh(guest_words(0)[0]), PIXEL(1, 2, 3, 255));
	assert_int_equal(create_texture(1), OK);
}

TEST_TEXTURE(a_trace_has_the_life_of_what_is_held)
{
	char path[] = "/tmp/vgfence-events-XXXXXX", life[16] = "";
	struct event_record *records;
	uint32_t token;
	size_t count;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(gpu_trace_start(guest.gpu, path), 0);
	create_test_fence(&guest, 1);
	token = submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 1);
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(token).type, OK);
	assert_int_equal(gpu_trace_stop(guest.gpu), 0);
	records = event_records(path, &count);
	for (size_t i = 0; i < count && strlen(life) < sizeof(life) - 1; i++) {
		if (le32toh(records[i].ctx_id) == 1) {
			life[strlen(life)] = (char)('0' + le16toh(records[i].kind));
		}
	}
	assert_string_equal(life, "123456"); /* enum vgf_event_kind */
	free(records);
}

/* What is in flight when the device ends, too. */
TEST(a_trace_has_the_end_of_what_is_in_flight)
{
	char path[] = "/tmp/vgfence-events-XXXXXX";
	struct event_record *records;
	size_t count, num_cancelled = 0;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	start_with_texture();
	assert_int_equal(gpu_trace_start(guest.gpu, path), 0);
	create_test_fence(&guest, 1);
	submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 1);
	guest_stop(&guest);
	records = event_records(path, &count);
	for (size_t i = 0; i < count; i++) {
		num_cancelled += le16toh(records[i].kind) == VGF_EVENT_RETIRE &&
			le64toh(records[i].fence_id) == 2 &&
			(int32_t)le32toh(records[i].status) < 0;
	}
	assert_int_equal(num_cancelled, 1);
	free(records);
}

/* A transfer waits for the work of whoever has the resource, and keeps the requests behind it on
 * its own timeline waiting. */
TEST_TEXTURE(nothing_overtakes_a_transfer_that_is_held)
{
	struct virtio_gpu_transfer_host_3d back = transfer(
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 0, 1);
	struct virtio_gpu_ctx_resource after = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, 2),
		.resource_id = htole32(1),
	};
	const size_t room = sizeof(struct virtio_gpu_ctrl_hdr);
	uint32_t held, tokens[3];

	assert_int_equal(create_gl_context(2), OK);
	assert_int_equal(create_gl_context(3), OK);
	assert_int_equal(create_texture(3), OK);
	assert_int_equal(attach_context(&guest, 3, 3), OK);
	held = guest_hold(&guest, 2, 0, 1);
	tokens[0] = submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 1);
	back.hdr.flags = after.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	back.hdr.fence_id = htole64(3);
	after.hdr.fence_id = htole64(4);
	tokens[1] = guest_send(&guest, GPU_QUEUE_CONTROL, &back, sizeof(back), room);
	tokens[2] = guest_send(&guest, GPU_QUEUE_CONTROL, &after, sizeof(after), room);
	/* GL has done by then what would overtake it. */
	assert_int_equal(wait_for(submit_fill(3, 3, PIXEL(1, 1, 1, 255), 5, 0)).type, OK);
	for (uint32_t i = 0; i < 3; i++) {
		assert_false(guest.responses[GPU_QUEUE_CONTROL][tokens[i]].done);
	}
	guest_signal(&guest, held);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(wait_for(tokens[i]).type, OK);
	}
	assert_true(guest.responses[GPU_QUEUE_CONTROL][tokens[1]].order <
		guest.responses[GPU_QUEUE_CONTROL][tokens[2]].order);
	assert_int_equal(le32toh(guest_words(0)[0]), PIXEL(1, 2, 3, 255));
}

/* The fence of a transfer that is held, of no context, is an in-fence of work: that is behind the
 * transfer, so it is behind what the transfer waits for. */
TEST_TEXTURE(work_waits_for_a_transfer_that_is_held)
{
	struct virtio_gpu_transfer_to_host_2d to_host = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
	};
	uint32_t held, tokens[3];

	for (uint32_t id = 2; id <= 4; id++) {
		assert_int_equal(create_gl_context(id), OK);
		assert_int_equal(create_texture(id), OK);
		assert_int_equal(attach_context(&guest, id, id), OK);
	}
	held = guest_hold(&guest, 2, 0, 1);
	tokens[0] = submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 1);
	to_host.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_FENCE_SHAREABLE);
	to_host.hdr.fence_id = htole64(3);
	tokens[1] = guest_send(
		&guest, GPU_QUEUE_CONTROL, &to_host, sizeof(to_host), sizeof(to_host.hdr));
	tokens[2] = submit_fill(3, 3, PIXEL(1, 1, 1, 255), 4, 3);
	/* GL has done by then what would overtake it. */
	assert_int_equal(wait_for(submit_fill(4, 4, PIXEL(1, 1, 1, 255), 5, 0)).type, OK);
	for (uint32_t i = 0; i < 3; i++) {
		assert_false(guest.responses[GPU_QUEUE_CONTROL][tokens[i]].done);
	}
	guest_signal(&guest, held);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(wait_for(tokens[i]).type, OK);
	}
}

TEST(a_reset_completes_what_is_held)
{
	uint32_t token;

	for (int round = 0; round < 3; round++) {
		start_with_texture();
		token = send_held();
		gpu_reset(guest.gpu);
		for (uint32_t i = 0; i < 4; i++) {
			assert_true(wait_for(token + i).type >= VIRTIO_GPU_RESP_ERR_UNSPEC);
		}
		/* Everything is as at the beginning. */
		assert_int_equal(create_gl_context(1), OK);
		assert_int_equal(create_texture(1), OK);
		assert_int_equal(attach_context(&guest, 1, 1), OK);
		assert_int_equal(wait_for(submit_fill(1, 1, PIXEL(1, 2, 3, 255), 1, 0)).type, OK);
		guest_stop(&guest);
	}
}

/* ---- How often virglrenderer starts ------------------------------------------------------- */

static unsigned int num_starts;

/* The plugin calls these two in place of virglrenderer's own. */

int virgl_renderer_init(void *cookie, int flags, struct virgl_renderer_callbacks *callbacks)
{
	int (*init)(void *, int, struct virgl_renderer_callbacks *) = dlsym(
		RTLD_NEXT, "virgl_renderer_init");

	num_starts++;
	return init(cookie, flags, callbacks);
}

void virgl_renderer_reset(void)
{
	void (*reset)(void) = dlsym(RTLD_NEXT, "virgl_renderer_reset");

	num_starts++;
	reset();
}

/* It takes as long as much that a guest does. */
TEST(virglrenderer_starts_for_each_guest_and_not_at_the_end)
{
	num_starts = 0;
	start_with_texture();
	assert_int_equal(num_starts, 1);
	gpu_reset(guest.gpu);
	assert_int_equal(num_starts, 2);
	assert_int_equal(create_gl_context(1), OK);
	assert_int_equal(create_texture(1), OK);
	guest_stop(&guest);
	assert_int_equal(num_starts, 2);
}

TEST_TEXTURE(a_drain_cancels_what_is_held)
{
	uint32_t token;

	token = send_held();
	gpu_drain(guest.gpu, 10, -1);
	for (uint32_t i = 0; i < 4; i++) {
		assert_true(guest.responses[GPU_QUEUE_CONTROL][token + i].done);
	}
}

/* The work draws, or a transfer behind it does. */
static void check_flush_behind(bool with_transfer, uint32_t color)
{
	const struct virtio_gpu_transfer_host_3d to_host = transfer(
		VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 1, 1);
	const size_t room = sizeof(struct virtio_gpu_ctrl_hdr);
	uint32_t submitted, last, flushed;

	assert_int_equal(show(1, SIDE, SIDE), OK);
	create_test_fence(&guest, 1);
	submitted = last = submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 1);
	if (with_transfer) {
		last = guest_send(&guest, GPU_QUEUE_CONTROL, &to_host, sizeof(to_host), room);
	}
	flushed = send_flush(&guest, 1, SIDE, SIDE, 2);
	assert_false(guest.responses[GPU_QUEUE_CONTROL][flushed].done);
	assert_int_equal(guest.num_flushes, 0);
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(flushed).type, OK);
	assert_int_equal(wait_for(submitted).type, OK);
	assert_int_equal(wait_for(last).type, OK);
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.flushed_pixel, color);
}

TEST_TEXTURE(a_flush_is_behind_the_work_that_is_held)
{
	check_flush_behind(false, 1 << 16 | 2 << 8 | 3);
}

TEST_TEXTURE(a_flush_is_behind_the_transfer_that_is_held)
{
	memset(guest.memory, 0x55, SIZE);
	check_flush_behind(true, 0x555555);
}

TEST_TEXTURE(a_flush_is_behind_its_in_fences)
{
	struct flush_request flush = {
		.resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.fence_id = 4,
		.num_in_fences = 2,
		.in_fences = { 1, 3 },
	};
	uint32_t held[2], flushed;

	assert_int_equal(show(1, SIDE, SIDE), OK);
	assert_int_equal(wait_for(submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 0)).type, OK);
	assert_int_equal(create_gl_context(2), OK);
	held[0] = guest_hold(&guest, 1, 0, 1);
	held[1] = guest_hold(&guest, 2, 5, 3);
	flushed = send_flush_behind(&guest, &flush);
	/* Without in-fences it is shown at once. */
	assert_int_equal(wait_for(send_flush(&guest, 1, SIDE, SIDE, 0)).type, OK);
	assert_int_equal(guest.num_flushes, 1);
	guest_signal(&guest, held[1]);
	guest_wait(&guest, GPU_QUEUE_CONTROL, held[1]);
	assert_int_equal(wait_for(send_flush(&guest, 1, SIDE, SIDE, 0)).type, OK);
	assert_false(guest.responses[GPU_QUEUE_CONTROL][flushed].done);
	guest_signal(&guest, held[0]);
	assert_int_equal(wait_for(flushed).type, OK);
	assert_int_equal(guest.num_flushes, 3);
	assert_int_equal(guest.flushed_pixel, 1 << 16 | 2 << 8 | 3);
}

/* The job's fence is shareable, and OpenGL has got the job. */
TEST_TEXTURE(a_flush_is_behind_a_job_that_opengl_has)
{
	struct flush_request flush = { .resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.num_in_fences = 1,
		.in_fences = { 2 } };
	uint32_t drawn, flushed;

	assert_int_equal(show(1, SIDE, SIDE), OK);
	drawn = submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2, 0);
	flushed = send_flush_behind(&guest, &flush);
	assert_int_equal(wait_for(flushed).type, OK);
	assert_true(guest.responses[GPU_QUEUE_CONTROL][drawn].order <
		guest.responses[GPU_QUEUE_CONTROL][flushed].order);
	assert_int_equal(guest.flushed_pixel, 1 << 16 | 2 << 8 | 3);
}

TEST_TEXTURE(a_reset_and_a_drain_end_flushes_with_in_fences)
{
	struct flush_request flush = { .resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.fence_id = 2,
		.num_in_fences = 1,
		.in_fences = { 1 } };
	uint32_t flushed;

	guest_hold(&guest, 1, 0, 1);
	flushed = send_flush_behind(&guest, &flush);
	gpu_drain(guest.gpu, 10, -1);
	assert_true(guest.responses[GPU_QUEUE_CONTROL][flushed].done);
	guest_hold(&guest, 1, 0, 1);
	flushed = send_flush_behind(&guest, &flush);
	gpu_reset(guest.gpu);
	assert_true(guest.responses[GPU_QUEUE_CONTROL][flushed].done);
}

TEST_TEXTURE(is_destroyed_with_much_in_flight)
{
	create_test_fence(&guest, 1);
	for (uint32_t i = 0; i < NUM_HELD; i++) {
		submit_fill(1, 1, PIXEL(1, 2, 3, 255), 2 + i, i % 2);
	}
}

/* GL's libraries keep descriptors and threads of their own once they are loaded. */
static void load_gl(void)
{
	start();
	assert_int_equal(create_gl_context(1), OK);
	keep_libraries();
	guest_stop(&guest);
}

/* virglrenderer has a line for each: some thousand a second. */
TEST_GUEST(the_log_is_bounded_however_many_commands_virglrenderer_refuses)
{
	struct virtio_gpu_resource_create_3d buffer = texture(1);
	const uint64_t start_ns = now_ns();

	buffer.target = 0; /* PIPE_BUFFER, which has no height */
	buffer.format = htole32(VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM);
	buffer.bind = htole32(1u << 4); /* PIPE_BIND_VERTEX_BUFFER */
	for (int i = 0; i < 5000; i++) {
		assert_int_not_equal(guest_call(&guest, &buffer, sizeof(buffer)), OK);
	}
	assert_true(guest.num_warnings > 0);
	assert_true(guest.num_warnings <= 10 * ((now_ns() - start_ns) / NS_PER_S + 2));
}

static void ignore_fence(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;

	(void)cookie;
	(void)fence;
	(void)status;
}

static bool has_gl(void)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = ignore_fence };
	const struct renderer_options options = { 0 };
	struct renderer *renderer;

	if (renderer_virgl_create(&callbacks, NULL, &options, &renderer) < 0) {
		return false;
	}
	keep_libraries();
	renderer->ops->destroy(renderer);
	return true;
}

int main(int argc, char *argv[])
{
	if (!has_gl()) {
		print_message("skipped: virglrenderer finds no OpenGL here\n");
		return 77;
	}
	load_gl();
	return run_registered_tests(argv);
}
