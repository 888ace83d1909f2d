/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "calls.h"
#include "virgl_vmm.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

/* A net for tests that have gone wrong, not a time that any of them depends on. */
#define WAIT_MS 20000

struct box {
	uint32_t x, y, z, w, h, d;
};

/* ---- The loop ----------------------------------------------------------------------------- */

static void note_retired(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *name = &retired->fence;
	int status = retired->status;
	struct virgl_vmm *vmm = cookie;

	assert_true(vmm->num_retired < VIRGL_VMM_MAX);
	vmm->retired[vmm->num_retired++] = (struct virgl_retired){ *name, status,
		vmm->num_batches };
}

static void note_batch(void *cookie)
{
	struct virgl_vmm *vmm = cookie;

	vmm->num_batches++;
}

static void note_message(void *cookie, enum vgf_log_level level, const char *message)
{
	struct virgl_vmm *vmm = cookie;

	snprintf(vmm->message, sizeof(vmm->message), "%s", message);
}

static void write_fence(void *cookie, uint32_t fence)
{
	(void)cookie;
	fail_msg("fence %u is not of this test", fence);
}

/* That of a test which failed: virglrenderer can only be started once at a time. */
static struct virgl_vmm *left_over;

int virgl_vmm_try(int flags, enum vgf_virgl_wait wait, struct virgl_vmm **out)
{
	static const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks),
		.retire = note_retired,
		.retire_end = note_batch,
		.log = note_message,
	};
	/* Callbacks of what has signalled together come in one batch, however slow the machine. */
	const struct vgf_options device = {
		.size = sizeof(device),
		.budget_items = UINT32_MAX,
		.budget_ns = UINT64_MAX,
	};
	const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.device = &device,
		.callbacks = &callbacks,
		.independent_rings = flags & VIRGL_RENDERER_VENUS,
		.wait = wait,
		.own_display = true, /* for flags that have none */
	};
	struct virgl_vmm *vmm = calloc(1, sizeof(*vmm));
	int ret;

	if (left_over) {
		virgl_vmm_destroy(left_over);
	}
	assert_non_null(vmm);
	vmm->callbacks.version = 1;
	vmm->callbacks.write_fence = write_fence;
	ret = vgf_virgl_init(vmm, flags, &vmm->callbacks, &options, &vmm->virgl);
	keep_libraries();
	if (ret < 0) {
		free(vmm);
		return ret;
	}
	vmm->device = vgf_virgl_get_device(vmm->virgl);
	left_over = vmm;
	*out = vmm;
	return 0;
}

struct virgl_vmm *virgl_vmm_create(int flags, enum vgf_virgl_wait wait)
{
	struct virgl_vmm *vmm = NULL;

	assert_int_equal(virgl_vmm_try(flags, wait, &vmm), 0);
	return vmm;
}

unsigned int virgl_vmm_destroy(struct virgl_vmm *vmm)
{
	unsigned int num_retired;

	left_over = NULL;
	keep_libraries(); /* a guest's first context may have loaded some */
	vgf_virgl_cleanup(vmm->virgl);
	num_retired = vmm->num_retired;
	free(vmm);
	return num_retired;
}

void print_renderer(void)
{
	const uint32_t later = VGF_VIRGL_SUBMIT_CMD2 | VGF_VIRGL_ATTACH_FENCE |
		VGF_VIRGL_GET_FENCE_FD;
	uint32_t features = vgf_virgl_get_features(NULL);
	char path[PATH_MAX] = "?";
	Dl_info info;

	if (dladdr((void *)virgl_renderer_init, &info) != 0 && !realpath(info.dli_fname, path)) {
		snprintf(path, sizeof(path), "%s", info.dli_fname);
	}
	printf("virglrenderer: built with %s, runs with %s, has%s%s%s%s\n", BUILT_WITH, path,
		features & later ? "" : " per-context fences alone",
		features & VGF_VIRGL_SUBMIT_CMD2 ? " submit_cmd2" : "",
		features & VGF_VIRGL_ATTACH_FENCE ? " attach_fence" : "",
		features & VGF_VIRGL_GET_FENCE_FD ? " get_fence_fd" : "");
	fflush(stdout);
}

bool has_gl_wait(void)
{
	struct virgl_vmm *vmm = virgl_vmm_create(FLAGS_ASYNC, VGF_VIRGL_WAIT_GL);
	bool has = vgf_virgl_get_features(vmm->virgl) & VGF_VIRGL_EGL_FENCES;

	virgl_vmm_destroy(vmm);
	if (!has) {
		printf("skipped: GL wait: no EGL_ANDROID_native_fence_sync\n");
	}
	return has;
}

static void poll_once(struct virgl_vmm *vmm, int timeout_ms)
{
	struct pollfd readable = { .fd = vgf_virgl_get_poll_fd(vmm->virgl), .events = POLLIN };
	int ret = poll(&readable, 1, timeout_ms);

	assert_true(ret >= 0 || errno == EINTR);
	if (ret > 0) {
		assert_true(vgf_virgl_poll(vmm->virgl) >= 0);
	}
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void virgl_vmm_wait(struct virgl_vmm *vmm, unsigned int count)
{
	int64_t end = now_ms() + WAIT_MS;

	while (vmm->num_retired < count) {
		if (now_ms() > end) {
			fail_msg("%u of %u fences have retired", vmm->num_retired, count);
		}
		poll_once(vmm, WAIT_MS);
	}
}

void virgl_vmm_run(struct virgl_vmm *vmm, unsigned int milliseconds)
{
	int64_t end = now_ms() + milliseconds;
	int64_t left;

	while ((left = end - now_ms()) > 0) {
		poll_once(vmm, (int)left);
	}
}

unsigned int assert_virgl_retired(
	const struct virgl_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int status)
{
	unsigned int count = 0;
	unsigned int place = 0;

	for (unsigned int i = 0; i < vmm->num_retired; i++) {
		const struct virgl_retired *retired = &vmm->retired[i];
		if (retired->name.fence_id == fence_id && retired->name.ctx_id == ctx_id &&
			retired->name.ring == ring) {
			assert_int_equal(retired->status, status);
			place = i;
			count++;
		}
	}
	assert_int_equal(count, 1);
	return place;
}

struct vgf_stats virgl_vmm_stats(struct virgl_vmm *vmm)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(vmm->device, &stats);
	return stats;
}

/* ---- Contexts and textures ---------------------------------------------------------------- */

void create_gl_context(struct virgl_vmm *vmm, uint32_t ctx_id)
{
	assert_true(vgf_virgl_context_create(vmm->virgl, ctx_id, 4, "test") >= 0);
}

/* Of no context yet. */
static void create_square(uint32_t res_handle, uint32_t side)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = res_handle,
		.target = 2, /* PIPE_TEXTURE_2D */
		.format = GL_STREAM_FORMAT,
		.bind = VIRGL_RES_BIND_RENDER_TARGET | VIRGL_RES_BIND_SAMPLER_VIEW,
		.width = side,
		.height = side,
		.depth = 1,
		.array_size = 1,
	};

	assert_int_equal(virgl_renderer_resource_create(&args, NULL, 0), 0);
}

void create_texture(struct virgl_vmm *vmm, uint32_t res_handle, ...)
{
	uint32_t ctx_id;
	va_list ids;

	create_square(res_handle, SIDE);
	va_start(ids, res_handle);
	while ((ctx_id = va_arg(ids, uint32_t)) != 0) {
		assert_true(vgf_virgl_ctx_attach_resource(
				    vmm->virgl, (int)ctx_id, (int)res_handle) >= 0);
	}
	va_end(ids);
}

static void note_done(void *arg, int status)
{
	int *done = arg;

	assert_int_equal(status, 0);
	*done = 1;
}

uint32_t read_pixel(struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t res_handle)
{
	uint32_t pixels[SIDE * SIDE] = { 0 };
	struct iovec iov = { .iov_base = pixels, .iov_len = sizeof(pixels) };
	struct box box = { .w = SIDE, .h = SIDE, .d = 1 };
	int64_t end = now_ms() + WAIT_MS;
	int done = 0;
	int ret = vgf_virgl_transfer_read_iov(vmm->virgl, res_handle, ctx_id, 0, SIDE * 4, 0,
		(struct virgl_box *)&box, 0, &iov, 1, note_done, &done);

	assert_in_range(ret, 0, 1);
	assert_int_equal(done, ret == 0);
	while (!done) {
		assert_true(now_ms() < end);
		poll_once(vmm, WAIT_MS);
	}
	for (unsigned int i = 1; i < SIDE * SIDE; i++) {
		assert_int_equal(pixels[i], pixels[0]);
	}
	return pixels[0];
}

/* ---- Work --------------------------------------------------------------------------------- */

uint64_t create_test_fence(struct virgl_vmm *vmm)
{
	struct vgf_fence_name name = { .fence_id = ++vmm->last_id, .ring = VGF_RING_GLOBAL };

	assert_int_equal(create_take(vmm->device, &name, VGF_SHAREABLE, VGF_FENCE_BY_CALL), 0);
	return name.fence_id;
}

void signal_test_fence(struct virgl_vmm *vmm, uint64_t fence_id)
{
	struct vgf_fence_name name = { .fence_id = fence_id, .ring = VGF_RING_GLOBAL };

	assert_int_equal(vgf_fence_signal(vmm->device, &name, 0), 0);
}

int submit_stream(
	struct virgl_vmm *vmm, uint32_t ctx_id, const struct gl_stream *stream, uint64_t in_fence)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = ++vmm->last_id, .ctx_id = ctx_id, .ring = 0 },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
		.command = stream->words,
		.size = stream->count * 4,
	};

	return vgf_virgl_submit(vmm->virgl, &submission, NULL);
}

uint64_t submit_fill(struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t res_handle, uint32_t pixel,
	uint64_t in_fence)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_fill(&stream, res_handle, pixel);
	assert_in_range(submit_stream(vmm, ctx_id, &stream, in_fence), 0, 1);
	return vmm->last_id;
}

uint64_t submit_copy(
	struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t to, uint32_t from, uint64_t in_fence)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_copy(&stream, to, from, SIDE, SIDE);
	assert_in_range(submit_stream(vmm, ctx_id, &stream, in_fence), 0, 1);
	return vmm->last_id;
}

/* ---- Long work ---------------------------------------------------------------------------- */

enum {
	WORK_SIDE = 2048,
	NUM_DRAWS = 8,
	LONG_MS = 20,
};

void create_work(struct virgl_vmm *vmm, uint32_t ctx_id)
{
	create_texture(vmm, WORK_SOURCE, ctx_id, 0);
	fill_now(vmm, ctx_id, WORK_SOURCE, WORK_COLOR);
	create_square(WORK_TARGET, WORK_SIDE);
	assert_true(vgf_virgl_ctx_attach_resource(vmm->virgl, (int)ctx_id, WORK_TARGET) >= 0);
}

void put_work(struct gl_stream *stream)
{
	const struct gl_stream_rect all = { 0, 0, WORK_SIDE, WORK_SIDE };

	for (int i = 0; i < NUM_DRAWS; i++) {
		gl_stream_draw(stream, WORK_TARGET, &all, WORK_SOURCE, SIDE, SIDE);
	}
}

int virgl_vmm_do_work(struct virgl_vmm *vmm, uint32_t ctx_id)
{
	struct gl_stream stream;
	int64_t start = now_ms();

	gl_stream_begin(&stream);
	put_work(&stream);
	assert_int_equal(submit_stream(vmm, ctx_id, &stream, 0), 0);
	virgl_vmm_wait(vmm, vmm->num_retired + 1);
	return (int)(now_ms() - start);
}

bool work_is_long(struct virgl_vmm *vmm, uint32_t ctx_id)
{
	int ms;

	virgl_vmm_do_work(vmm, ctx_id); /* its shaders are compiled */
	ms = virgl_vmm_do_work(vmm, ctx_id);
	if (ms < LONG_MS) {
		printf("skipped: this GL draws it in %d ms, so it may be done at once\n", ms);
	}
	return ms >= LONG_MS;
}

/* ------------------------------------------------------------------------------------------- */

void fill_now(struct virgl_vmm *vmm, uint32_t ctx_id, uint32_t res_handle, uint32_t pixel)
{
	struct gl_stream stream;

	gl_stream_begin(&stream);
	gl_stream_fill(&stream, res_handle, pixel);
	assert_int_equal(
		vgf_virgl_submit_cmd(vmm->virgl, stream.words, (int)ctx_id, (int)stream.count), 0);
}
