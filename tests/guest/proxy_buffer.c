/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Buffers. Memory of the guest's (wl_shm) is copied to memory that the host has when it is
 * committed, as far as it is different (proxy_damage.c). A dma-buf of the guest's is memory that
 * the host has, which is shown in place: behind the fence that the client has left on it. The
 * host's compositor waits for that if it can (proxy_fence.c), or else the device does.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <drm_fourcc.h>
#include <wayland-client-protocol.h>

#include "export_fence.h"
#include "proxy_damage.h"
#include "proxy_session.h"

#include <linux-dmabuf-unstable-v1-client-protocol.h>
#include <viewporter-client-protocol.h>

/* Events of wl_buffer, of zwp_linux_dmabuf_v1, and of zwp_linux_buffer_params_v1. */
#define BUFFER_RELEASE 0u
#define FORMAT_EVENT 0u
#define MODIFIER_EVENT 1u
#define PARAMS_CREATED 0u
#define PARAMS_FAILED 1u

/* wl_shm has names of its own for these formats of DRM. */
static const struct {
	uint32_t drm, shm;
} formats[] = {
	{ DRM_FORMAT_XRGB8888, WL_SHM_FORMAT_XRGB8888 },
	{ DRM_FORMAT_ARGB8888, WL_SHM_FORMAT_ARGB8888 },
};

#define COMMIT_SIZE 8u

#define NUM_FORMATS (sizeof(formats) / sizeof(formats[0]))

/* A client's memory. */
struct pool {
	uint32_t num_users;
	int fd;
	uint8_t *bytes;
	size_t size;
};

struct buffer {
	uint32_t num_users;
	struct pool *pool; /* of wl_shm, or NULL */
	size_t offset, size;
	uint32_t stride, pixel_size;
	int32_t width, height;
	struct channel_memory memory; /* where the pool's bytes are copied to */
	/* When that was last: of which surface, and by which commit of it. */
	uint64_t surface, commit;
	int dma_buf_fd;       /* or -1 */
	bool is_host_dma_buf; /* on the host, too */
	/* With explicit synchronisation: the client's ID, or 0 once it has none, and commits that
	 * the host has not done with. */
	bool has_fences;
	uint32_t client_id, num_commits;
};

/* A surface, from the first request on that is looked at here. */
struct surface {
	uint64_t number; /* of all that there were */
	struct damage_history history;
	int32_t scale, transform;
	bool has_viewport;
	int32_t width, height; /* of the buffer before */
	struct buffer *buffer; /* that it shows, or will; or NULL */
	bool is_new;           /* it may have been drawn to since the last commit */
	bool is_attached;      /* with the next commit */
	uint32_t fences_id;    /* of proxy_fence.c, or 0 */
};

/* A dma-buf that is being described. */
struct params {
	int fd;
	uint32_t offset, stride;
	bool is_wrong;
};

/* How a buffer is made on the host. */
struct layout {
	uint32_t offset, stride, format; /* of DRM or of wl_shm */
	int32_t width, height;
};

/* ---- Users ---------------------------------------------------------------------------------- */

static void pool_end(void *state)
{
	struct pool *pool = state;

	if (--pool->num_users > 0) {
		return;
	}
	if (pool->bytes != NULL) {
		munmap(pool->bytes, pool->size);
	}
	close(pool->fd);
	free(pool);
}

void buffer_end(void *state)
{
	struct buffer *buffer = state;

	if (--buffer->num_users > 0) {
		return;
	}
	if (buffer->pool != NULL) {
		pool_end(buffer->pool);
	}
	if (buffer->dma_buf_fd >= 0) {
		close(buffer->dma_buf_fd);
	}
	channel_unmap(&buffer->memory);
	free(buffer);
}

/* The client's object has gone. The host may still show the buffer. */
static void buffer_forget(void *state)
{
	struct buffer *buffer = state;

	buffer->client_id = 0;
	buffer_end(buffer);
}

bool buffer_has_fences(const struct buffer *buffer)
{
	return buffer->has_fences;
}

/* It is the client's again when all commits of it are over. */
int buffer_released(struct session *session, struct buffer *buffer)
{
	uint32_t client_id = --buffer->num_commits == 0 ? buffer->client_id : 0;

	buffer_end(buffer);
	return client_id != 0 ? session_event(session, client_id, BUFFER_RELEASE, NULL, 0) : 0;
}

static void surface_show(struct surface *surface, struct buffer *buffer)
{
	if (buffer != NULL) {
		buffer->num_users++;
	}
	if (surface->buffer != NULL) {
		buffer_end(surface->buffer);
	}
	surface->buffer = buffer;
}

static void surface_end(void *state)
{
	surface_show(state, NULL);
	free(state);
}

static void params_end(void *state)
{
	struct params *params = state;

	if (params->fd >= 0) {
		close(params->fd);
	}
	free(params);
}

/* ---- Buffers on the host -------------------------------------------------------------------- */

/* A pool that has one buffer. */
static int announce_shm(struct session *session, const struct channel_memory *memory,
	const struct layout *layout, uint32_t pool, uint32_t host_id)
{
	const struct channel_identifier identifier = { memory->resource, CROSS_DOMAIN_ID_BLOB, 0 };
	const uint32_t create_pool[] = { pool, (uint32_t)memory->size };
	const uint32_t create_buffer[] = { host_id, layout->offset, (uint32_t)layout->width,
		(uint32_t)layout->height, layout->stride, layout->format };
	int ret = session_request(
		session, session->shm_id, WL_SHM_CREATE_POOL, create_pool, 2, &identifier);

	if (ret == 0) {
		ret = session_request(
			session, pool, WL_SHM_POOL_CREATE_BUFFER, create_buffer, 6, NULL);
	}
	return ret < 0 ? ret : session_request(session, pool, WL_SHM_POOL_DESTROY, NULL, 0, NULL);
}

static int announce_dma_buf(struct session *session, const struct channel_memory *memory,
	const struct layout *layout, uint32_t params, uint32_t host_id)
{
	const struct channel_identifier identifier = { memory->resource, CROSS_DOMAIN_ID_BLOB, 0 };
	const uint32_t plane[] = { 0, layout->offset, layout->stride, 0, 0 };
	const uint32_t create[] = { host_id, (uint32_t)layout->width, (uint32_t)layout->height,
		layout->format, 0 };
	int ret = session_request(
		session, session->dmabuf_id, ZWP_LINUX_DMABUF_V1_CREATE_PARAMS, &params, 1, NULL);

	if (ret == 0) {
		ret = session_request(
			session, params, ZWP_LINUX_BUFFER_PARAMS_V1_ADD, plane, 5, &identifier);
	}
	if (ret == 0) {
		ret = session_request(
			session, params, ZWP_LINUX_BUFFER_PARAMS_V1_CREATE_IMMED, create, 5, NULL);
	}
	return ret < 0 ?
		ret :
		session_request(session, params, ZWP_LINUX_BUFFER_PARAMS_V1_DESTROY, NULL, 0, NULL);
}

/* The client's buffer, which the host knows from here on by a new ID; *maker: what it is made with
 * there. The host gets IDs in the order in which they are taken: that one first. */
static int add_buffer(struct session *session, uint32_t client_id,
	const struct wl_interface *maker_interface, struct buffer **out, struct object **object,
	uint32_t *maker)
{
	int ret = session_add_own(session, maker_interface, maker);
	uint32_t host_id = objects_new_host_id(&session->objects);

	if (ret < 0 || host_id == 0) {
		return ret < 0 ? ret : -ENOSPC;
	}
	ret = objects_add(&session->objects, &wl_buffer_interface, 1, client_id, host_id, object);
	if (ret < 0) {
		return ret;
	}
	*out = calloc(1, sizeof(**out));
	if (*out == NULL) {
		return -ENOMEM;
	}
	(*out)->num_users = 1;
	(*out)->dma_buf_fd = -1;
	(*out)->client_id = client_id;
	(*object)->state = *out;
	(*object)->end = buffer_forget;
	return 0;
}

/* ---- wl_shm --------------------------------------------------------------------------------- */

/* The file may be shorter than it is said to be: whoever touches what is not there ends by a
 * signal, which is this client's own process. */
static int map_pool(struct pool *pool, uint32_t size)
{
	void *bytes = size > 0 && size <= INT32_MAX ?
		mmap(NULL, size, PROT_READ, MAP_SHARED, pool->fd, 0) :
		MAP_FAILED;

	if (bytes == MAP_FAILED) {
		return -EINVAL;
	}
	if (pool->bytes != NULL) {
		munmap(pool->bytes, pool->size);
	}
	pool->bytes = bytes;
	pool->size = size;
	return 0;
}

static int create_pool(struct session *session, struct object *shm, struct wire_message *message)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	struct object *object;

	if (pool == NULL) {
		return -ENOMEM;
	}
	pool->num_users = 1;
	pool->fd = wire_stream_take_fd(&session->requests);
	if (map_pool(pool, message->words[3]) < 0 ||
		session_add_local(session, &wl_shm_pool_interface, shm->version, message->words[2],
			&object) < 0) {
		pool_end(pool);
		return session_refuse(session, shm, "a pool that cannot be mapped");
	}
	object->state = pool;
	object->end = pool_end;
	return 0;
}

static int resize_pool(struct session *session, struct object *object, struct wire_message *message)
{
	struct pool *pool = object->state;

	if (message->words[2] < pool->size || map_pool(pool, message->words[2]) < 0) {
		return session_refuse(session, object, "a pool that cannot be resized");
	}
	return 0;
}

static bool is_inside(const struct layout *layout, size_t size)
{
	uint64_t end = layout->offset + (uint64_t)layout->stride * (uint32_t)layout->height;

	return layout->width > 0 && layout->height > 0 && layout->stride <= INT32_MAX &&
		layout->offset <= INT32_MAX && end <= size;
}

/* 0 for formats that are not known, and for rows that are too short for their pixels. */
static uint32_t get_pixel_size(const struct layout *layout)
{
	bool is_known = false;

	for (size_t i = 0; i < NUM_FORMATS; i++) {
		is_known = is_known || formats[i].shm == layout->format;
	}
	return is_known && layout->stride / 4 >= (uint32_t)layout->width ? 4 : 0;
}

/* Each has memory of its own, which begins with its first pixel. */
static int create_shm_buffer(
	struct session *session, struct object *object, struct wire_message *message)
{
	const uint32_t *words = message->words + 2;
	struct layout layout = { words[1], words[4], words[5], (int32_t)words[2],
		(int32_t)words[3] };
	struct pool *pool = object->state;
	struct object *buffer_object;
	struct buffer *buffer;
	uint32_t maker;
	int ret;

	if (!is_inside(&layout, pool->size) || session->shm_id == 0) {
		return session_refuse(session, object, "a buffer that is not in its pool");
	}
	ret = add_buffer(
		session, words[0], &wl_shm_pool_interface, &buffer, &buffer_object, &maker);
	if (ret < 0) {
		return ret;
	}
	pool->num_users++;
	buffer->pool = pool;
	buffer->offset = layout.offset;
	buffer->size = (size_t)layout.stride * (uint32_t)layout.height;
	buffer->stride = layout.stride;
	buffer->width = layout.width;
	buffer->height = layout.height;
	buffer->pixel_size = get_pixel_size(&layout);
	layout.offset = 0;
	ret = channel_create_memory(&session->channel, buffer->size, &buffer->memory);
	if (ret == 0) {
		ret = announce_shm(
			session, &buffer->memory, &layout, maker, buffer_object->host_id);
	}
	if (ret == 0) {
		ret = session_flush(session, -1);
	}
	channel_close_handle(&session->channel, &buffer->memory); /* the mapping is enough */
	return ret < 0 ? session_refuse(session, object, "there is no memory of the host for it") :
			 0;
}

static int destroy_local(
	struct session *session, struct object *object, struct wire_message *message)
{
	(void)message;
	return session_remove_local(session, object);
}

/* ---- Dma-bufs ------------------------------------------------------------------------------- */

int buffer_announce_formats(struct session *session, const struct object *dmabuf)
{
	int ret = 0;

	for (size_t i = 0; i < NUM_FORMATS && ret == 0; i++) {
		const uint32_t linear[] = { formats[i].drm, 0, 0 };
		const uint32_t any[] = { formats[i].drm, DRM_FORMAT_MOD_INVALID >> 32, UINT32_MAX };

		ret = session_event(session, dmabuf->client_id, FORMAT_EVENT, linear, 1);
		if (ret == 0 && dmabuf->version >= 3) {
			ret = session_event(session, dmabuf->client_id, MODIFIER_EVENT, linear, 3);
			session_event(session, dmabuf->client_id, MODIFIER_EVENT, any, 3);
		}
	}
	return ret;
}

static int create_params(
	struct session *session, struct object *dmabuf, struct wire_message *message)
{
	struct params *params = calloc(1, sizeof(*params));
	struct object *object;

	if (params == NULL) {
		return -ENOMEM;
	}
	params->fd = -1;
	if (session_add_local(session, &zwp_linux_buffer_params_v1_interface, dmabuf->version,
		    message->words[2], &object) < 0) {
		params_end(params);
		return session_refuse(session, dmabuf, "an ID that is in use");
	}
	object->state = params;
	object->end = params_end;
	return 0;
}

/* One plane. */
static int add_plane(struct session *session, struct object *object, struct wire_message *message)
{
	struct params *params = object->state;
	int fd = wire_stream_take_fd(&session->requests);

	if (params->fd >= 0 || message->words[2] != 0) {
		params->is_wrong = true;
		close(fd);
		return 0;
	}
	params->fd = fd;
	params->offset = message->words[3];
	params->stride = message->words[4];
	return 0;
}

static uint32_t shm_format_of(uint32_t format)
{
	for (size_t i = 0; i < NUM_FORMATS; i++) {
		if (formats[i].drm == format) {
			return formats[i].shm;
		}
	}
	return UINT32_MAX;
}

/* Memory of the host is a file there, and no dma-buf. */
static int announce(struct session *session, struct params *params,
	const struct channel_memory *memory, struct layout *layout, uint32_t client_id)
{
	bool is_dma_buf = !memory->is_host_memory && session->dmabuf_id != 0;
	struct object *object;
	struct buffer *buffer;
	uint32_t maker;
	int ret = add_buffer(session, client_id,
		is_dma_buf ? &zwp_linux_buffer_params_v1_interface : &wl_shm_pool_interface,
		&buffer, &object, &maker);

	if (ret < 0) {
		return ret;
	}
	buffer->dma_buf_fd = params->fd;
	params->fd = -1;
	buffer->is_host_dma_buf = is_dma_buf;
	if (is_dma_buf) {
		ret = announce_dma_buf(session, memory, layout, maker, object->host_id);
	} else {
		layout->format = shm_format_of(layout->format);
		ret = announce_shm(session, memory, layout, maker, object->host_id);
	}
	return ret < 0 ? ret : session_flush(session, -1);
}

/* *client_id 0: one that the proxy chooses. */
static int create_dma_buf(
	struct session *session, struct params *params, const uint32_t *words, uint32_t *client_id)
{
	struct layout layout = { params->offset, params->stride, words[2], (int32_t)words[0],
		(int32_t)words[1] };
	struct channel_memory memory;
	int ret = -EINVAL;

	if (params->fd < 0 || params->is_wrong || session->shm_id == 0 ||
		shm_format_of(layout.format) == UINT32_MAX) {
		return -EINVAL;
	}
	if (channel_import(&session->channel, params->fd, &memory) < 0) {
		return -EINVAL;
	}
	if (is_inside(&layout, memory.size)) {
		if (*client_id == 0) {
			*client_id = objects_new_client_id(&session->objects);
		}
		ret = announce(session, params, &memory, &layout, *client_id);
	}
	channel_close_handle(&session->channel, &memory);
	return ret;
}

static int create_later(
	struct session *session, struct object *object, struct wire_message *message)
{
	uint32_t client_id = 0;

	if (create_dma_buf(session, object->state, message->words + 2, &client_id) < 0) {
		return session_event(session, object->client_id, PARAMS_FAILED, NULL, 0);
	}
	return session_event(session, object->client_id, PARAMS_CREATED, &client_id, 1);
}

static int create_immed(
	struct session *session, struct object *object, struct wire_message *message)
{
	uint32_t client_id = message->words[2];

	if (create_dma_buf(session, object->state, message->words + 3, &client_id) < 0) {
		return session_refuse(session, object, "a dma-buf that cannot be shown");
	}
	return 0;
}

/* ---- Surfaces ------------------------------------------------------------------------------- */

/* NULL without memory. */
static struct surface *surface_of(struct session *session, struct object *object)
{
	struct surface *surface = object->state;

	if (surface == NULL) {
		surface = calloc(1, sizeof(*surface));
		if (surface == NULL) {
			return NULL;
		}
		surface->number = ++session->num_surfaces;
		surface->scale = 1;
		damage_init(&surface->history);
		object->state = surface;
		object->end = surface_end;
	}
	return surface;
}

static int attach(struct session *session, struct object *object, struct wire_message *message)
{
	const struct object *buffer_object = objects_of_client(
		&session->objects, message->words[2]);
	struct surface *surface = surface_of(session, object);
	struct buffer *buffer = buffer_object != NULL ? buffer_object->state : NULL;

	if (buffer_object != NULL && buffer_object->interface != &wl_buffer_interface) {
		return session_refuse(session, object, "it is no buffer");
	}
	if (surface == NULL) {
		return -ENOMEM;
	}
	surface_show(surface, buffer);
	surface->is_new = true;
	surface->is_attached = true;
	if ((message->words[3] | message->words[4]) != 0) { /* what was there moves */
		damage_add_all(&surface->history);
	}
	return session_forward(session, object, message);
}

static int destroy_surface(
	struct session *session, struct object *object, struct wire_message *message)
{
	struct surface *surface = object->state;
	int ret = 0;

	if (surface != NULL && surface->fences_id != 0) {
		ret = fences_end_surface(session, surface->fences_id);
		surface->fences_id = 0;
	}
	return ret < 0 ? ret : session_forward(session, object, message);
}

static int32_t scaled(int32_t number, int32_t scale)
{
	int64_t product = (int64_t)number * scale;

	return product > INT32_MAX ? INT32_MAX : product < INT32_MIN ? INT32_MIN : (int32_t)product;
}

/* In units of the surface, or of the buffer. */
static int damage_by(struct session *session, struct object *object, struct wire_message *message,
	bool is_of_buffer)
{
	struct surface *surface = surface_of(session, object);
	const int32_t *words = (const int32_t *)(message->words + 2);
	int32_t scale;

	if (surface == NULL) {
		return -ENOMEM;
	}
	scale = is_of_buffer ? 1 : surface->scale;
	surface->is_new = true;
	if (!is_of_buffer && (surface->has_viewport || surface->transform != 0)) {
		damage_add_all(&surface->history);
	} else {
		damage_add(&surface->history,
			&(struct rectangle){ scaled(words[0], scale), scaled(words[1], scale),
				scaled(words[2], scale), scaled(words[3], scale) });
	}
	return session_forward(session, object, message);
}

static int damage(struct session *session, struct object *object, struct wire_message *message)
{
	return damage_by(session, object, message, false);
}

static int damage_buffer(
	struct session *session, struct object *object, struct wire_message *message)
{
	return damage_by(session, object, message, true);
}

/* Damage of the same commit may have come before. */
static int set_scale(struct session *session, struct object *object, struct wire_message *message)
{
	struct surface *surface = surface_of(session, object);

	if (surface == NULL) {
		return -ENOMEM;
	}
	if (surface->scale != (int32_t)message->words[2]) {
		surface->scale = (int32_t)message->words[2];
		damage_add_all(&surface->history);
	}
	return session_forward(session, object, message);
}

static int set_transform(
	struct session *session, struct object *object, struct wire_message *message)
{
	struct surface *surface = surface_of(session, object);

	if (surface == NULL) {
		return -ENOMEM;
	}
	surface->transform = (int32_t)message->words[2];
	damage_add_all(&surface->history);
	return session_forward(session, object, message);
}

static int get_viewport(
	struct session *session, struct object *object, struct wire_message *message)
{
	struct object *surface_object = objects_of_client(&session->objects, message->words[3]);
	struct surface *surface = NULL;

	if (surface_object != NULL && surface_object->interface == &wl_surface_interface) {
		surface = surface_of(session, surface_object);
	}
	if (surface != NULL) {
		surface->has_viewport = true;
		damage_add_all(&surface->history);
	}
	return session_forward(session, object, message);
}

/* What has to be waited for before the dma-buf is read, or -1. */
static int take_fence(int dma_buf_fd)
{
	struct dma_buf_export_sync_file export = { .flags = DMA_BUF_SYNC_READ, .fd = -1 };
	struct pollfd pollfd = { .events = POLLIN };

	if (ioctl(dma_buf_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export) < 0) {
		return -1;
	}
	pollfd.fd = export.fd;
	if (poll(&pollfd, 1, 0) == 1) {
		close(export.fd);
		return -1;
	}
	return export.fd;
}

/* What is different since the buffer's memory was copied. */
static void copy(struct session *session, struct surface *surface, struct buffer *buffer)
{
	const struct damage_image image = {
		.to = buffer->memory.address,
		.from = buffer->pool->bytes + buffer->offset,
		.stride = buffer->stride,
		.width = buffer->width,
		.height = buffer->height,
		.pixel_size = buffer->pixel_size,
	};

	if (surface->width != buffer->width || surface->height != buffer->height) {
		damage_add_all(&surface->history);
	}
	surface->width = buffer->width;
	surface->height = buffer->height;
	session->copied += damage_copy(
		&surface->history, buffer->surface == surface->number ? buffer->commit : 0, &image);
	session->shown += buffer->size;
	buffer->surface = surface->number;
	buffer->commit = surface->history.number;
}

/* The content is there, or behind the fence. */
static int prepare(struct session *session, struct surface *surface, int *fence_fd)
{
	struct pollfd pollfd = { .events = POLLIN };
	struct buffer *buffer = surface->buffer;

	if (buffer->pool != NULL) {
		copy(session, surface, buffer);
		return 0;
	}
	*fence_fd = session->fences == PROXY_IGNORE ? -1 : take_fence(buffer->dma_buf_fd);
	if (*fence_fd >= 0 && session->fences == PROXY_WAIT) {
		pollfd.fd = *fence_fd;
		while (poll(&pollfd, 1, -1) < 0 && errno == EINTR) {
		}
		close(*fence_fd);
		*fence_fd = -1;
	}
	return 0;
}

/* What the host's compositor has to know of the fence of this commit, and of the release. The
 * commit is in the same message. */
static int put_fences(struct session *session, const struct object *object, int fence_fd)
{
	struct surface *surface = object->state;
	struct buffer *buffer = surface->buffer;
	int ret = 0;

	if (!buffer->is_host_dma_buf || !surface->is_attached || !fences_can_pass(session)) {
		return 0;
	}
	if (surface->fences_id == 0) {
		ret = fences_add_surface(session, object->host_id, &surface->fences_id);
	}
	if (ret == 0) {
		ret = session_make_room(session, FENCE_REQUESTS_SIZE + COMMIT_SIZE);
	}
	if (ret < 0) {
		return ret;
	}
	buffer->has_fences = true;
	buffer->num_commits++;
	buffer->num_users++;
	return fences_commit(session, surface->fences_id, buffer, fence_fd >= 0);
}

static int prepare_commit(struct session *session, const struct object *object, int *fence_fd)
{
	struct surface *surface = object->state;
	int ret = 0;

	if (surface == NULL) {
		return 0;
	}
	if (surface->is_new && surface->buffer != NULL) {
		ret = prepare(session, surface, fence_fd);
		if (ret == 0) {
			ret = put_fences(session, object, *fence_fd);
		}
	}
	damage_commit(&surface->history);
	surface->is_new = false;
	surface->is_attached = false;
	return ret;
}

static int commit(struct session *session, struct object *object, struct wire_message *message)
{
	int fence_fd = -1, ret = prepare_commit(session, object, &fence_fd);

	if (ret == 0) {
		ret = session_forward(session, object, message);
	}
	if (fence_fd >= 0) {
		ret = ret < 0 ? ret : session_flush(session, fence_fd);
		close(fence_fd);
	}
	return ret;
}

/* ---- Which request is what ------------------------------------------------------------------ */

static const struct {
	const struct wl_interface *interface;
	uint32_t opcode;
	request_handler handle;
} handlers[] = {
	{ &wl_shm_interface, WL_SHM_CREATE_POOL, create_pool },
	{ &wl_shm_pool_interface, WL_SHM_POOL_CREATE_BUFFER, create_shm_buffer },
	{ &wl_shm_pool_interface, WL_SHM_POOL_DESTROY, destroy_local },
	{ &wl_shm_pool_interface, WL_SHM_POOL_RESIZE, resize_pool },
	{ &wl_surface_interface, WL_SURFACE_DESTROY, destroy_surface },
	{ &wl_surface_interface, WL_SURFACE_ATTACH, attach },
	{ &wl_surface_interface, WL_SURFACE_DAMAGE, damage },
	{ &wl_surface_interface, WL_SURFACE_DAMAGE_BUFFER, damage_buffer },
	{ &wl_surface_interface, WL_SURFACE_SET_BUFFER_SCALE, set_scale },
	{ &wl_surface_interface, WL_SURFACE_SET_BUFFER_TRANSFORM, set_transform },
	{ &wp_viewporter_interface, WP_VIEWPORTER_GET_VIEWPORT, get_viewport },
	{ &wl_surface_interface, WL_SURFACE_COMMIT, commit },
	{ &zwp_linux_dmabuf_v1_interface, ZWP_LINUX_DMABUF_V1_DESTROY, destroy_local },
	{ &zwp_linux_dmabuf_v1_interface, ZWP_LINUX_DMABUF_V1_CREATE_PARAMS, create_params },
	{ &zwp_linux_buffer_params_v1_interface, ZWP_LINUX_BUFFER_PARAMS_V1_DESTROY,
		destroy_local },
	{ &zwp_linux_buffer_params_v1_interface, ZWP_LINUX_BUFFER_PARAMS_V1_ADD, add_plane },
	{ &zwp_linux_buffer_params_v1_interface, ZWP_LINUX_BUFFER_PARAMS_V1_CREATE, create_later },
	{ &zwp_linux_buffer_params_v1_interface, ZWP_LINUX_BUFFER_PARAMS_V1_CREATE_IMMED,
		create_immed },
};

request_handler buffer_find_handler(const struct wl_interface *interface, uint32_t opcode)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		if (handlers[i].interface == interface && handlers[i].opcode == opcode) {
			return handlers[i].handle;
		}
	}
	return NULL;
}
