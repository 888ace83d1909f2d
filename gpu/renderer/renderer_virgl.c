/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Draws with virglrenderer, by way of the plugin: what has to keep its place behind held work goes
 * to the plugin, the rest to virglrenderer itself. */

#include "aside.h"
#include "error_name.h"
#include "guest_limits.h"
#include "render_server.h"
#include "renderer.h"
#include "renderer_clock.h"
#include "resource.h"
#include "transfer_reach.h"
#include "virgl_export.h"
#include "virgl_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS /* VIRGL_RENDERER_ASYNC_FENCE_CB, in virglrenderer 0.10 */
#include <virglrenderer.h>

/* With the last one a guest is told only of memory that has a descriptor, as the front end maps it:
 * OpenGL's persistent buffers have none. */
#define RENDERER_FLAGS                                                                             \
	(VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB |     \
		VIRGL_RENDERER_USE_EXTERNAL_BLOB)

/* What Gallium calls the target and the binding of a plain image to draw on: p_defines.h. */
#define TARGET_BUFFER 0
#define TEXTURE_2D 2
#define BIND_RENDER_TARGET (1 << 1)

/* Of virtio-gpu; not in the oldest kernel header that we build with. */
#define CAPSET_VENUS 4

#define VULKAN_FLAGS (VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER)

/* Capability sets of which there can be contexts; of the last one only with Vulkan. virglrenderer
 * tells of Venus even if it was not asked for. */
static const uint32_t capset_ids[] = {
	VIRTIO_GPU_CAPSET_VIRGL,
	VIRTIO_GPU_CAPSET_VIRGL2,
	CAPSET_VENUS,
};

#define NUM_CAPSETS (sizeof(capset_ids) / sizeof(capset_ids[0]))

struct capset {
	uint32_t version, size; /* 0: there is none */
	void *data;
};

struct virgl_box { /* virglrenderer declares it and leaves it to its callers */
	uint32_t x, y, z, w, h, d;
};

struct renderer_virgl {
	struct renderer base;
	void (*log)(void *cookie, enum vgf_log_level level, const char *message); /* or NULL */
	void *log_cookie;
	const char *render_node;      /* or NULL */
	struct aside *aside;          /* or NULL */
	struct renderer_clock *clock; /* or NULL */
	bool vulkan;
	struct render_server server;
	int server_error;           /* why it did not start */
	struct context_table venus; /* contexts of that kind */
	struct capset capsets[NUM_CAPSETS];
	struct vgf_virgl *virgl;
	struct virgl_renderer_callbacks callbacks;
};

static struct renderer_virgl *to_own(struct renderer *renderer)
{
	return (struct renderer_virgl *)renderer;
}

static struct vgf_virgl *to_virgl(struct renderer *renderer)
{
	return to_own(renderer)->virgl;
}

/* virglrenderer's errors have either sign. */
static int to_errno(int ret)
{
	return ret > 0 ? -ret : ret;
}

static struct vgf_device *virgl_get_device(struct renderer *renderer)
{
	return vgf_virgl_get_device(to_virgl(renderer));
}

/* virglrenderer has one state for a process. */
static struct renderer_virgl *current;

/* The plugin calls these with the cookie of the fences' callbacks. */
static void enter_gl(void *cookie)
{
	int ret = current->aside ? aside_enter(current->aside) : 0;
	char message[128];

	(void)cookie;
	if (ret < 0 && current->log) {
		snprintf(message, sizeof(message),
			"no second thread (%s): what needs no OpenGL waits for it, too",
			error_name(ret));
		current->log(current->log_cookie, VGF_LOG_WARNING, message);
	}
	renderer_clock_enter(current->clock);
}

static void leave_gl(void *cookie)
{
	(void)cookie;
	renderer_clock_leave(current->clock);
	if (current->aside) {
		aside_leave(current->aside);
	}
}

/* ---- Capability sets ---------------------------------------------------------------------- */

static size_t num_capsets(const struct renderer_virgl *renderer)
{
	return NUM_CAPSETS - !renderer->vulkan;
}

static const struct capset *find_capset(const struct renderer_virgl *renderer, uint32_t id)
{
	for (size_t i = 0; i < num_capsets(renderer); i++) {
		if (capset_ids[i] == id) {
			return &renderer->capsets[i];
		}
	}
	return NULL;
}

static int virgl_capset_info(
	struct renderer *renderer, uint32_t index, struct virtio_gpu_resp_capset_info *info)
{
	for (size_t i = 0; i < num_capsets(to_own(renderer)); i++) {
		const struct capset *capset = &to_own(renderer)->capsets[i];

		if (capset->size > 0 && index-- == 0) {
			info->capset_id = capset_ids[i];
			info->capset_max_version = capset->version;
			info->capset_max_size = capset->size;
			return 0;
		}
	}
	return -EINVAL;
}

static int virgl_capset(
	struct renderer *renderer, uint32_t id, uint32_t version, void *data, uint32_t size)
{
	const struct capset *capset = find_capset(to_own(renderer), id);

	if (capset == NULL || capset->size == 0 || size != capset->size ||
		version > capset->version) {
		return -EINVAL;
	}
	memcpy(data, capset->data, size);
	return 0;
}

/* virglrenderer looks only at the ID when it fills them in, and they stay. Asked for while it
 * draws, they could only be answered after that. */
static int read_capsets(struct renderer_virgl *renderer)
{
	for (size_t i = 0; i < num_capsets(renderer); i++) {
		struct capset *capset = &renderer->capsets[i];

		virgl_renderer_get_cap_set(capset_ids[i], &capset->version, &capset->size);
		if (capset->size == 0) {
			continue;
		}
		capset->data = calloc(1, capset->size);
		if (capset->data == NULL) {
			return -ENOMEM;
		}
		virgl_renderer_fill_caps(capset_ids[i], capset->version, capset->data);
	}
	return 0;
}

static void free_capsets(struct renderer_virgl *renderer)
{
	for (size_t i = 0; i < NUM_CAPSETS; i++) {
		free(renderer->capsets[i].data);
	}
}

/* ---- Contexts ----------------------------------------------------------------------------- */

static int create_context(
	struct renderer *renderer, uint32_t ctx_id, uint32_t capset, const char *name)
{
	int ret = vgf_virgl_context_create_with_flags(
		to_virgl(renderer), ctx_id, capset, (uint32_t)strlen(name), name);

	return ret < 0 ? ret : 0;
}

static int create_venus(struct renderer *renderer, uint32_t ctx_id, const char *name)
{
	struct context_table *venus = &to_own(renderer)->venus;
	int ret = context_add(venus, ctx_id, "");

	if (ret < 0) {
		return ret;
	}
	ret = create_context(renderer, ctx_id, CAPSET_VENUS, name);
	if (ret < 0) {
		context_remove(venus, ctx_id);
	}
	return ret;
}

static int virgl_context_create(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
	uint32_t context_init, const char *name)
{
	uint32_t capset = context_init & VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK;

	(void)serial;
	capset = capset ? capset : VIRTIO_GPU_CAPSET_VIRGL2;
	if (find_capset(to_own(renderer), capset) == NULL) {
		return -EINVAL;
	}
	return capset == CAPSET_VENUS ? create_venus(renderer, ctx_id, name) :
					create_context(renderer, ctx_id, capset, name);
}

static bool is_venus(struct renderer *renderer, uint32_t ctx_id)
{
	return context_exists(&to_own(renderer)->venus, ctx_id);
}

static int virgl_context_destroy(struct renderer *renderer, uint32_t ctx_id)
{
	int ret = vgf_virgl_context_destroy(to_virgl(renderer), ctx_id);

	if (ret < 0) {
		return ret;
	}
	if (is_venus(renderer, ctx_id)) {
		context_remove(&to_own(renderer)->venus, ctx_id);
	}
	return 0;
}

static int virgl_context_attach(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	int ret = vgf_virgl_ctx_attach_resource(to_virgl(renderer), (int)ctx_id, (int)resource_id);

	return ret < 0 ? ret : 0;
}

static int virgl_context_detach(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	int ret = vgf_virgl_ctx_detach_resource(to_virgl(renderer), (int)ctx_id, (int)resource_id);

	return ret < 0 ? ret : 0;
}

/* ---- Resources ---------------------------------------------------------------------------- */

/* What a buffer has as its private data. virglrenderer 1.3 divides by zero when it is asked about
 * one of a format that textures cannot have. */
static char buffer_mark;

/* And a blob, of which virglrenderer knows no layout. */
static char blob_mark;

static int virgl_create_3d(struct renderer *renderer, uint32_t resource_id,
	const struct renderer_resource_3d *resource)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = resource_id,
		.target = resource->target,
		.format = resource->format,
		.bind = resource->bind,
		.width = resource->width,
		.height = resource->height,
		.depth = resource->depth,
		.array_size = resource->array_size,
		.last_level = resource->last_level,
		.nr_samples = resource->nr_samples,
		.flags = resource->flags,
	};

	int ret = to_errno(virgl_renderer_resource_create(&args, NULL, 0));

	(void)renderer;
	if (ret == 0 && resource->target == TARGET_BUFFER) {
		virgl_renderer_resource_set_priv(resource_id, &buffer_mark);
	}
	return ret;
}

static int virgl_create_2d(struct renderer *renderer, uint32_t resource_id, uint32_t format,
	uint32_t width, uint32_t height)
{
	const struct renderer_resource_3d resource = {
		.target = TEXTURE_2D,
		.format = format,
		.bind = BIND_RENDER_TARGET,
		.width = width,
		.height = height,
		.depth = 1,
		.array_size = 1,
	};

	return virgl_create_3d(renderer, resource_id, &resource);
}

/* virglrenderer makes no blob of guest memory without memory for all of it. So it sees some, which
 * nobody can use before it is taken away again. */
static int create_blob_without_memory(const struct virgl_renderer_resource_create_blob_args *blob)
{
	const struct iovec nowhere = { NULL, blob->size };
	struct virgl_renderer_resource_create_blob_args args = *blob;
	struct iovec *iov;
	int num_iov, ret;

	args.iovecs = &nowhere;
	args.num_iovs = 1;
	ret = virgl_renderer_resource_create_blob(&args);
	if (ret == 0) {
		virgl_renderer_resource_detach_iov((int)args.res_handle, &iov, &num_iov);
	}
	return ret;
}

static int virgl_create_blob(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	uint32_t blob_mem, uint32_t blob_flags, uint64_t blob_id, uint64_t size,
	const struct renderer_backing *backing)
{
	const struct virgl_renderer_resource_create_blob_args args = {
		.res_handle = resource_id,
		.ctx_id = ctx_id,
		.blob_mem = blob_mem,
		.blob_flags = blob_flags,
		.blob_id = blob_id,
		.size = size,
		.iovecs = backing ? backing->iov : NULL,
		.num_iovs = backing ? backing->num_iov : 0,
	};

	int ret;

	(void)renderer;
	if (!backing && blob_mem == VIRTIO_GPU_BLOB_MEM_GUEST) {
		return to_errno(create_blob_without_memory(&args));
	}
	ret = to_errno(virgl_renderer_resource_create_blob(&args));
	if (ret == 0 && blob_mem != VIRTIO_GPU_BLOB_MEM_GUEST) {
		virgl_renderer_resource_set_priv(resource_id, &blob_mark);
	}
	return ret;
}

static int virgl_map_blob(struct renderer *renderer, uint32_t resource_id, struct renderer_map *map)
{
	struct virgl_map found;
	int ret = virgl_map_resource(resource_id, &found);

	(void)renderer;
	if (ret == 0) {
		*map = (struct renderer_map){ found.fd, found.offset, found.map_info };
	}
	return ret;
}

static int virgl_unref(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	return vgf_virgl_resource_unref(to_virgl(renderer), resource_id, done, arg);
}

static int virgl_attach_backing(
	struct renderer *renderer, uint32_t resource_id, const struct renderer_backing *backing)
{
	(void)renderer;
	return to_errno(virgl_renderer_resource_attach_iov(
		(int)resource_id, backing->iov, (int)backing->num_iov));
}

struct detach {
	uint32_t resource_id;
	renderer_done done;
	void *arg;
};

static void detach_done(void *arg, int status)
{
	struct detach *detach = arg;
	struct iovec *iov;
	int num_iov;

	/* After a reset there is no such resource any more. */
	if (status == 0) {
		virgl_renderer_resource_detach_iov((int)detach->resource_id, &iov, &num_iov);
	}
	if (detach->done) {
		detach->done(detach->arg, status);
	}
	free(detach);
}

static int virgl_detach_backing(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	struct detach *detach = malloc(sizeof(*detach));
	int ret;

	if (!detach) {
		return -ENOMEM;
	}
	*detach = (struct detach){ resource_id, done, arg };
	ret = vgf_virgl_resource_defer(to_virgl(renderer), resource_id, detach_done, detach);
	if (ret < 0) {
		free(detach);
	}
	return ret;
}

/* ---- Transfers ---------------------------------------------------------------------------- */

static struct virgl_box to_box(const struct virtio_gpu_box *box)
{
	return (struct virgl_box){ box->x, box->y, box->z, box->w, box->h, box->d };
}

/* Without an iovec of its own a transfer goes to and from the resource's backing. */
static int virgl_transfer_to_host(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	const struct renderer_transfer *transfer, renderer_done done, void *arg)
{
	struct virgl_box box = to_box(&transfer->box);

	return vgf_virgl_transfer_write_iov(to_virgl(renderer), resource_id, ctx_id,
		(int)transfer->level, transfer->stride, transfer->layer_stride, &box,
		transfer->offset, NULL, 0, done, arg);
}

static int virgl_transfer_from_host(struct renderer *renderer, uint32_t ctx_id,
	uint32_t resource_id, const struct renderer_transfer *transfer, renderer_done done,
	void *arg)
{
	struct virgl_box box = to_box(&transfer->box);

	return vgf_virgl_transfer_read_iov(to_virgl(renderer), resource_id, ctx_id, transfer->level,
		transfer->stride, transfer->layer_stride, &box, transfer->offset, NULL, 0, done,
		arg);
}

static int virgl_read_pixels(struct renderer *renderer, uint32_t resource_id,
	const struct virtio_gpu_rect *rect, uint32_t *pixels, uint32_t *format)
{
	struct virgl_box box = { rect->x, rect->y, 0, rect->width, rect->height, 1 };
	struct iovec iov = { pixels, (size_t)rect->width * rect->height * sizeof(*pixels) };
	struct virgl_renderer_resource_info info;
	int ret = -EINVAL;

	(void)renderer;
	if (virgl_renderer_resource_get_priv(resource_id) != &buffer_mark) {
		ret = to_errno(virgl_renderer_resource_get_info((int)resource_id, &info));
	}
	if (ret < 0) {
		return ret;
	}
	*format = info.virgl_format;
	enter_gl(NULL);
	ret = virgl_renderer_transfer_read_iov(
		resource_id, 0, 0, rect->width * (uint32_t)sizeof(*pixels), 0, &box, 0, &iov, 1);
	leave_gl(NULL);
	return to_errno(ret);
}

/* Guest memory is the device's, and has no mark; virglrenderer has no description of it either. */
static int virgl_export_dma_buf(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	const void *mark = virgl_renderer_resource_get_priv(resource_id);

	(void)renderer;
	if (mark == &buffer_mark) {
		return -EOPNOTSUPP;
	}
	return mark == &blob_mark ? virgl_export_blob(resource_id, dma_buf) :
				    virgl_export_texture(resource_id, dma_buf);
}

static int virgl_await_resource(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	return vgf_virgl_resource_defer(to_virgl(renderer), resource_id, done, arg);
}

/* What virglrenderer has got is waited for by OpenGL. */
static bool virgl_context_has(struct renderer *renderer, uint64_t serial, uint32_t resource_id)
{
	(void)renderer;
	(void)serial;
	(void)resource_id;
	return false;
}

/* ---- Work and fences ---------------------------------------------------------------------- */

/* Those of Venus have no transfers, and another process reads them. */
static bool reach_ok(struct renderer *renderer, const struct vgf_submission *submission)
{
	return is_venus(renderer, submission->fence.ctx_id) ||
		command_stream_reach_ok(submission->command, submission->size);
}

static int virgl_submit(
	struct renderer *renderer, const struct vgf_submission *submission, bool *will_retire)
{
	if (!reach_ok(renderer, submission)) {
		*will_retire = (submission->flags & VGF_FENCED) &&
			vgf_fence_refuse(virgl_get_device(renderer), &submission->fence,
				submission->flags, NULL, -EINVAL) == 0;
		return -EINVAL;
	}
	return vgf_virgl_submit(to_virgl(renderer), submission, will_retire);
}

static int virgl_create_fence(
	struct renderer *renderer, const struct vgf_fence_name *name, uint32_t flags)
{
	struct vgf_virgl *virgl = to_virgl(renderer);

	flags = flags & VGF_SHAREABLE ? VGF_VIRGL_FENCE_SHAREABLE : 0;
	if (name->ring == VGF_RING_GLOBAL) {
		return vgf_virgl_create_fence(virgl, name->fence_id, name->ctx_id, flags);
	}
	return vgf_virgl_context_create_fence(
		virgl, name->ctx_id, flags, (uint32_t)name->ring, name->fence_id);
}

/* ---- Its log ------------------------------------------------------------------------------ */

static void log_text(struct renderer_virgl *renderer, enum vgf_log_level level, char *message)
{
	size_t end = 0;

	for (size_t i = 0; message[i] != '\0'; i++) {
		if ((unsigned char)message[i] < ' ' || message[i] == 0x7f) {
			message[i] = ' ';
		}
		end = message[i] != ' ' ? i + 1 : end;
	}
	message[end] = '\0';
	if (renderer->log && end > 0) {
		renderer->log(renderer->log_cookie, level, message);
	}
}

/* virglrenderer says what is wrong in a guest's commands, any number of lines, with words of the
 * guest's. */
__attribute__((format(printf, 1, 0))) static void log_virglrenderer(
	const char *format, va_list arguments)
{
	char message[256];
	bool paused;

	vsnprintf(message, sizeof(message), format, arguments);
	paused = current->aside && aside_pause(current->aside);
	log_text(current, VGF_LOG_WARNING, message);
	if (paused) {
		aside_resume(current->aside);
	}
}

/* So does the render server. */
static void log_server(void *arg, const char *text)
{
	char message[256];

	snprintf(message, sizeof(message), "%s", text);
	log_text(arg, VGF_LOG_WARNING, message);
}

static void log_no_server(struct renderer_virgl *renderer)
{
	const char *reason = renderer->server_error < 0 ? strerror(-renderer->server_error) :
							  "it does not answer";
	char message[256];

	snprintf(message, sizeof(message),
		"Vulkan needs the render server %s: %s (Debian has it in virgl-server; "
		"RENDER_SERVER_EXEC_PATH in the environment names another)",
		render_server_path(), reason);
	log_text(renderer, VGF_LOG_ERROR, message);
}

static void start_log(
	struct renderer_virgl *renderer, const struct vgf_callbacks *callbacks, void *cookie)
{
	renderer->log = callbacks->log;
	renderer->log_cookie = cookie;
	if (renderer->log) {
		virgl_set_debug_callback(log_virglrenderer);
	}
}

static void ignore_log(const char *format, va_list arguments)
{
	(void)format;
	(void)arguments;
}

static void end_log(void)
{
	virgl_set_debug_callback(ignore_log);
	current = NULL;
}

/* ---- The loop ----------------------------------------------------------------------------- */

static int virgl_get_fd(struct renderer *renderer)
{
	return vgf_virgl_get_poll_fd(to_virgl(renderer));
}

static int virgl_dispatch(struct renderer *renderer)
{
	int ret = vgf_virgl_poll(to_virgl(renderer));

	render_server_read_log(&to_own(renderer)->server, log_server, renderer);
	return ret;
}

static bool virgl_must_dispatch(struct renderer *renderer)
{
	return render_server_has_log(&to_own(renderer)->server);
}

/* ---- Start and end ------------------------------------------------------------------------ */

static int virgl_reset(struct renderer *renderer)
{
	int ret;

	context_remove_all(&to_own(renderer)->venus);
	ret = vgf_virgl_reset(to_virgl(renderer));
	if (ret == -ENOENT) {
		log_no_server(to_own(renderer));
	}
	return ret;
}

static void free_renderer(struct renderer_virgl *renderer)
{
	render_server_stop(&renderer->server);
	context_remove_all(&renderer->venus);
	free_capsets(renderer);
	end_log();
	free(renderer);
}

static void virgl_destroy(struct renderer *renderer)
{
	vgf_virgl_cleanup(to_virgl(renderer));
	free_renderer(to_own(renderer));
}

static const struct renderer_ops virgl_ops = {
	.get_device = virgl_get_device,
	.capset_info = virgl_capset_info,
	.capset = virgl_capset,
	.context_create = virgl_context_create,
	.context_destroy = virgl_context_destroy,
	.create_2d = virgl_create_2d,
	.create_3d = virgl_create_3d,
	.create_blob = virgl_create_blob,
	.map_blob = virgl_map_blob,
	.unref = virgl_unref,
	.attach_backing = virgl_attach_backing,
	.detach_backing = virgl_detach_backing,
	.context_attach = virgl_context_attach,
	.context_detach = virgl_context_detach,
	.transfer_to_host = virgl_transfer_to_host,
	.transfer_from_host = virgl_transfer_from_host,
	.submit = virgl_submit,
	.create_fence = virgl_create_fence,
	.read_pixels = virgl_read_pixels,
	.export_dma_buf = virgl_export_dma_buf,
	.await_resource = virgl_await_resource,
	.context_has = virgl_context_has,
	.get_fd = virgl_get_fd,
	.dispatch = virgl_dispatch,
	.must_dispatch = virgl_must_dispatch,
	.reset = virgl_reset,
	.destroy = virgl_destroy,
};

/* `retire` is called for all fences. The plugin only wants this to be there. */
static void write_fence(void *cookie, uint32_t fence)
{
	(void)cookie;
	(void)fence;
}

/* virglrenderer closes it, and asks again when it starts anew. The cookie is the caller's, which
 * does not know. */
static int open_render_node(void *cookie)
{
	(void)cookie;
	return open(current->render_node, O_RDWR | O_CLOEXEC);
}

static int start_server(void *cookie, uint32_t version)
{
	int ret = version == 0 ? render_server_start(&current->server) : -EPROTONOSUPPORT;

	(void)cookie;
	current->server_error = ret < 0 ? ret : 0;
	return ret;
}

/* Whether it is a device at all: virglrenderer says less of what is wrong. */
static int check_render_node(const char *path)
{
	struct stat file;

	if (stat(path, &file) < 0) {
		return -errno;
	}
	if (!S_ISCHR(file.st_mode)) {
		return -ENODEV;
	}
	return access(path, R_OK | W_OK) < 0 ? -errno : 0;
}

/* Otherwise virglrenderer tries to start it, and nobody hears what comes of that. */
static int check_server(struct renderer_virgl *renderer)
{
	if (access(render_server_path(), X_OK) == 0) {
		return 0;
	}
	renderer->server_error = -errno;
	log_no_server(renderer);
	return -ENOENT;
}

/* The first word of Venus's capability set is the version of its protocol. Mesa knows 1, and
 * virglrenderer 0.10 has 0. */
static int check_venus(struct renderer_virgl *renderer)
{
	const struct capset *capset = find_capset(renderer, CAPSET_VENUS);
	uint32_t wire_format = 0;
	char message[] = "Vulkan needs virglrenderer 1.0 or newer";

	if (capset->size >= sizeof(wire_format)) {
		memcpy(&wire_format, capset->data, sizeof(wire_format));
	}
	if (wire_format == 0) {
		log_text(renderer, VGF_LOG_ERROR, message);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int start(
	struct renderer_virgl *renderer, void *cookie, const struct vgf_virgl_options *options)
{
	int flags = RENDERER_FLAGS, ret = 0;

	renderer->callbacks.version = 1;
	renderer->callbacks.write_fence = write_fence;
	if (renderer->render_node) {
		renderer->callbacks.version = 2;
		renderer->callbacks.get_drm_fd = open_render_node;
		ret = check_render_node(renderer->render_node);
	} else {
		flags |= VIRGL_RENDERER_USE_SURFACELESS;
	}
	if (ret == 0 && renderer->vulkan) {
		ret = check_server(renderer);
		flags |= VULKAN_FLAGS;
		renderer->callbacks.version = 3;
		renderer->callbacks.get_server_fd = start_server;
	}
	if (ret < 0) {
		return ret;
	}
	ret = vgf_virgl_init(cookie, flags, &renderer->callbacks, options, &renderer->virgl);
	if (ret == -ENOENT) {
		log_no_server(renderer);
	}
	if (ret == 0) {
		ret = read_capsets(renderer);
	}
	if (ret == 0 && renderer->vulkan) {
		ret = check_venus(renderer);
	}
	if (ret < 0) {
		vgf_virgl_cleanup(renderer->virgl);
	}
	return ret;
}

int renderer_virgl_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *renderer_options, struct renderer **out)
{
	struct vgf_options device = { .size = sizeof(device), .limits = guest_limits };
	/* Every submission comes with its ring. */
	const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.device = &device,
		.callbacks = callbacks,
		.independent_rings = true,
		.enter_gl = enter_gl,
		.leave_gl = leave_gl,
	};
	struct renderer_virgl *renderer = calloc(1, sizeof(*renderer));
	int ret;

	*out = NULL;
	device.limits.max_in_fences += NUM_OWN_IN_FENCES;
	if (!renderer) {
		return -ENOMEM;
	}
	renderer->base.ops = &virgl_ops;
	renderer->render_node = renderer_options->render_node;
	renderer->vulkan = renderer_options->vulkan;
	renderer->aside = renderer_options->aside;
	renderer->clock = renderer_options->clock;
	current = renderer;
	start_log(renderer, callbacks, cookie);
	ret = start(renderer, cookie, &options);
	if (ret < 0) {
		free_renderer(renderer);
		return ret;
	}
	*out = &renderer->base;
	return 0;
}
