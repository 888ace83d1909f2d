/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What goes to cross-domain contexts, and what to the renderer that they are beside. */

#include "cross_domain.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cross_domain_private.h"

/* Events of a round; then the others have their turn. */
#define EVENTS_A_ROUND 64

static struct cross_domain *to_own(struct renderer *renderer)
{
	return (struct cross_domain *)renderer;
}

static struct renderer *inner_of(struct renderer *renderer)
{
	return to_own(renderer)->inner;
}

static struct vgf_device *get_device(struct renderer *renderer)
{
	return inner_of(renderer)->ops->get_device(inner_of(renderer));
}

/* ---- Capability sets ------------------------------------------------------------------------ */

/* Behind those of the renderer. */
static int capset_info(
	struct renderer *renderer, uint32_t index, struct virtio_gpu_resp_capset_info *info)
{
	struct cross_domain *domain = to_own(renderer);

	if (index != domain->num_inner_capsets) {
		return domain->inner->ops->capset_info(domain->inner, index, info);
	}
	info->capset_id = CAPSET_CROSS_DOMAIN;
	info->capset_max_version = 0;
	info->capset_max_size = sizeof(struct cross_domain_capset);
	return 0;
}

static int capset(
	struct renderer *renderer, uint32_t id, uint32_t version, void *data, uint32_t size)
{
	const struct cross_domain_capset own = {
		.version = htole32(1),
		.supported_channels = htole32(1u << CROSS_DOMAIN_WAYLAND),
		.fences = htole32(cross_fences_supported(to_own(renderer))),
	};

	if (id != CAPSET_CROSS_DOMAIN) {
		return inner_of(renderer)->ops->capset(inner_of(renderer), id, version, data, size);
	}
	if (version != 0 || size != sizeof(own)) {
		return -EINVAL;
	}
	memcpy(data, &own, sizeof(own));
	return 0;
}

/* ---- Contexts ------------------------------------------------------------------------------- */

static int create_context(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
	uint32_t context_init, const char *name)
{
	uint32_t id = context_init & VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK;

	if (id != CAPSET_CROSS_DOMAIN) {
		return inner_of(renderer)->ops->context_create(
			inner_of(renderer), ctx_id, serial, context_init, name);
	}
	return cross_context_create(to_own(renderer), ctx_id);
}

static int destroy_context(struct renderer *renderer, uint32_t ctx_id)
{
	struct cross_context *context = cross_context_find(to_own(renderer), ctx_id);

	return context != NULL ?
		cross_context_destroy(context) :
		inner_of(renderer)->ops->context_destroy(inner_of(renderer), ctx_id);
}

static int context_attach(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	struct cross_context *context = cross_context_find(to_own(renderer), ctx_id);

	if (context != NULL) {
		return cross_context_attach(context, resource_id);
	}
	if (cross_blob_find(to_own(renderer), resource_id) != NULL) {
		return -EOPNOTSUPP; /* the renderer does not know it */
	}
	return inner_of(renderer)->ops->context_attach(inner_of(renderer), ctx_id, resource_id);
}

static int context_detach(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	struct cross_context *context = cross_context_find(to_own(renderer), ctx_id);

	if (context != NULL) {
		cross_context_detach(context, resource_id);
		return 0;
	}
	if (cross_blob_find(to_own(renderer), resource_id) != NULL) {
		return 0;
	}
	return inner_of(renderer)->ops->context_detach(inner_of(renderer), ctx_id, resource_id);
}

/* What cross-domain contexts submit draws to no resource, and the renderer does not know them. */
static bool context_has(struct renderer *renderer, uint64_t serial, uint32_t resource_id)
{
	return cross_blob_find(to_own(renderer), resource_id) == NULL &&
		inner_of(renderer)->ops->context_has(inner_of(renderer), serial, resource_id);
}

static int submit(
	struct renderer *renderer, const struct vgf_submission *submission, bool *will_retire)
{
	struct cross_context *context = cross_context_find(
		to_own(renderer), submission->fence.ctx_id);

	return context != NULL ?
		cross_context_submit(context, submission, will_retire) :
		inner_of(renderer)->ops->submit(inner_of(renderer), submission, will_retire);
}

/* Of any other command, which is done when it is answered. */
static int create_fence(
	struct renderer *renderer, const struct vgf_fence_name *name, uint32_t flags)
{
	if (cross_context_find(to_own(renderer), name->ctx_id) == NULL) {
		return inner_of(renderer)->ops->create_fence(inner_of(renderer), name, flags);
	}
	return vgf_fence_create_take(get_device(renderer), name, flags, NULL, VGF_FENCE_DONE);
}

static bool takes_bytes(struct renderer *renderer, uint32_t ctx_id)
{
	return cross_context_find(to_own(renderer), ctx_id) != NULL;
}

/* ---- Resources ------------------------------------------------------------------------------ */

static int create_2d(struct renderer *renderer, uint32_t resource_id, uint32_t format,
	uint32_t width, uint32_t height)
{
	return inner_of(renderer)->ops->create_2d(
		inner_of(renderer), resource_id, format, width, height);
}

static int create_3d(struct renderer *renderer, uint32_t resource_id,
	const struct renderer_resource_3d *resource)
{
	return inner_of(renderer)->ops->create_3d(inner_of(renderer), resource_id, resource);
}

/* Guest memory is the same in every context. */
static int create_blob(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	uint32_t blob_mem, uint32_t blob_flags, uint64_t blob_id, uint64_t size,
	const struct renderer_backing *backing)
{
	struct cross_context *context = cross_context_find(to_own(renderer), ctx_id);

	if (context != NULL && blob_mem == VIRTIO_GPU_BLOB_MEM_HOST3D) {
		return cross_blob_create(context, resource_id, blob_id, size);
	}
	if (context != NULL && blob_mem != VIRTIO_GPU_BLOB_MEM_GUEST) {
		return -EINVAL;
	}
	return inner_of(renderer)->ops->create_blob(inner_of(renderer),
		context != NULL ? 0 : ctx_id, resource_id, blob_mem, blob_flags, blob_id, size,
		backing);
}

static int map_blob(struct renderer *renderer, uint32_t resource_id, struct renderer_map *map)
{
	const struct cross_blob *blob = cross_blob_find(to_own(renderer), resource_id);

	if (blob == NULL) {
		return inner_of(renderer)->ops->map_blob(inner_of(renderer), resource_id, map);
	}
	map->fd = fcntl(blob->fd, F_DUPFD_CLOEXEC, 0);
	map->offset = 0;
	map->info = VIRTIO_GPU_MAP_CACHE_CACHED;
	return map->fd < 0 ? -errno : 0;
}

static int unref(struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	struct cross_blob *blob = cross_blob_find(to_own(renderer), resource_id);

	if (blob == NULL) {
		return inner_of(renderer)->ops->unref(inner_of(renderer), resource_id, done, arg);
	}
	cross_blob_destroy(to_own(renderer), blob);
	done(arg, 0);
	return 0;
}

/* The memory of an image has no backing besides. */
static int attach_backing(
	struct renderer *renderer, uint32_t resource_id, const struct renderer_backing *backing)
{
	return inner_of(renderer)->ops->attach_backing(inner_of(renderer), resource_id, backing);
}

static int detach_backing(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	return inner_of(renderer)->ops->detach_backing(inner_of(renderer), resource_id, done, arg);
}

/* Whether the renderer knows neither the context nor the resource. */
static bool is_own(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	return cross_context_find(to_own(renderer), ctx_id) != NULL ||
		cross_blob_find(to_own(renderer), resource_id) != NULL;
}

static int transfer_to_host(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	const struct renderer_transfer *transfer, renderer_done done, void *arg)
{
	if (is_own(renderer, ctx_id, resource_id)) {
		return -EINVAL;
	}
	return inner_of(renderer)->ops->transfer_to_host(
		inner_of(renderer), ctx_id, resource_id, transfer, done, arg);
}

static int transfer_from_host(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	const struct renderer_transfer *transfer, renderer_done done, void *arg)
{
	if (is_own(renderer, ctx_id, resource_id)) {
		return -EINVAL;
	}
	return inner_of(renderer)->ops->transfer_from_host(
		inner_of(renderer), ctx_id, resource_id, transfer, done, arg);
}

static int read_pixels(struct renderer *renderer, uint32_t resource_id,
	const struct virtio_gpu_rect *rect, uint32_t *pixels, uint32_t *format)
{
	if (is_own(renderer, 0, resource_id)) {
		return -EINVAL;
	}
	return inner_of(renderer)->ops->read_pixels(
		inner_of(renderer), resource_id, rect, pixels, format);
}

static int read_blob(
	struct renderer *renderer, uint32_t resource_id, uint64_t offset, void *data, uint64_t size)
{
	const struct cross_blob *blob = cross_blob_find(to_own(renderer), resource_id);

	if (blob != NULL) {
		return pread(blob->fd, data, (size_t)size, (off_t)offset) == (ssize_t)size ?
			0 :
			-EFAULT;
	}
	if (inner_of(renderer)->ops->read_blob == NULL) {
		return -EOPNOTSUPP;
	}
	return inner_of(renderer)->ops->read_blob(
		inner_of(renderer), resource_id, offset, data, size);
}

static int export_dma_buf(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	if (is_own(renderer, 0, resource_id) || inner_of(renderer)->ops->export_dma_buf == NULL) {
		return -EOPNOTSUPP;
	}
	return inner_of(renderer)->ops->export_dma_buf(inner_of(renderer), resource_id, dma_buf);
}

/* Nor does it read one. */
static bool context_uses(struct renderer *renderer, uint64_t serial, uint32_t resource_id)
{
	return cross_blob_find(to_own(renderer), resource_id) == NULL &&
		inner_of(renderer)->ops->context_uses != NULL &&
		inner_of(renderer)->ops->context_uses(inner_of(renderer), serial, resource_id);
}

static bool has_sync_files(struct renderer *renderer, uint32_t ctx_id)
{
	return cross_context_find(to_own(renderer), ctx_id) == NULL &&
		inner_of(renderer)->ops->has_sync_files != NULL &&
		inner_of(renderer)->ops->has_sync_files(inner_of(renderer), ctx_id);
}

static int await_resource(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	if (is_own(renderer, 0, resource_id)) {
		done(arg, 0);
		return 0;
	}
	return inner_of(renderer)->ops->await_resource(inner_of(renderer), resource_id, done, arg);
}

/* ---- The loop ------------------------------------------------------------------------------- */

int cross_watch_set(struct cross_domain *domain, struct cross_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };
	int how = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (watch->events == events) {
		return 0;
	}
	if (epoll_ctl(domain->epoll_fd, how, watch->fd, &event) < 0) {
		return -errno;
	}
	watch->events = events;
	return 0;
}

static int get_fd(struct renderer *renderer)
{
	return to_own(renderer)->epoll_fd;
}

/*
 * One at a time: what an event is of may be gone after the one before. The inner renderer's stays
 * until that is dispatched, and comes again when all others have had their turn.
 */
static void handle_events(struct cross_domain *domain)
{
	struct cross_watch *watch;
	struct epoll_event event;
	bool inner_is_ready = false;

	for (int i = 0; i < EVENTS_A_ROUND; i++) {
		if (epoll_wait(domain->epoll_fd, &event, 1, 0) != 1) {
			return;
		}
		watch = event.data.ptr;
		if (watch != NULL) {
			watch->ready(watch->arg);
		} else if (inner_is_ready) {
			return;
		} else {
			inner_is_ready = true;
		}
	}
}

static int dispatch(struct renderer *renderer)
{
	handle_events(to_own(renderer));
	return inner_of(renderer)->ops->dispatch(inner_of(renderer));
}

static bool must_dispatch(struct renderer *renderer)
{
	const struct renderer_ops *ops = inner_of(renderer)->ops;

	return ops->must_dispatch != NULL && ops->must_dispatch(inner_of(renderer));
}

static bool free_more(struct renderer *renderer)
{
	const struct renderer_ops *ops = inner_of(renderer)->ops;

	return ops->free_more != NULL && ops->free_more(inner_of(renderer));
}

static void give_up(struct renderer *renderer)
{
	struct cross_context *context;

	TAILQ_FOREACH(context, &to_own(renderer)->all, link) {
		cross_channel_give_up(context);
	}
	if (inner_of(renderer)->ops->give_up != NULL) {
		inner_of(renderer)->ops->give_up(inner_of(renderer));
	}
}

static bool is_writing(struct renderer *renderer)
{
	const struct renderer_ops *ops = inner_of(renderer)->ops;

	return ops->is_writing != NULL && ops->is_writing(inner_of(renderer));
}

static void stop_writing(struct renderer *renderer)
{
	if (inner_of(renderer)->ops->stop_writing != NULL) {
		inner_of(renderer)->ops->stop_writing(inner_of(renderer));
	}
}

/* ---- Start and end -------------------------------------------------------------------------- */

/* The drivers of contexts free these. */
static void destroy_blobs(struct cross_domain *domain)
{
	while (domain->blobs != NULL) {
		cross_blob_destroy(domain, *(struct cross_blob **)domain->blobs);
	}
}

/* The contexts are the inner renderer's device's, and end with what that has. */
static int reset(struct renderer *renderer)
{
	struct cross_domain *domain = to_own(renderer);
	int ret = domain->inner->ops->reset(domain->inner);

	cross_contexts_drop(domain);
	destroy_blobs(domain);
	return ret;
}

static void destroy(struct renderer *renderer)
{
	struct cross_domain *domain = to_own(renderer);

	domain->inner->ops->destroy(domain->inner);
	cross_contexts_drop(domain);
	destroy_blobs(domain);
	close(domain->epoll_fd);
	close(domain->pipe_fds[0]);
	close(domain->pipe_fds[1]);
	if (domain->signalled_fd >= 0) {
		close(domain->signalled_fd);
	}
	free(domain);
}

static const struct renderer_ops own_ops = {
	.get_device = get_device,
	.capset_info = capset_info,
	.capset = capset,
	.context_create = create_context,
	.context_destroy = destroy_context,
	.create_2d = create_2d,
	.create_3d = create_3d,
	.create_blob = create_blob,
	.map_blob = map_blob,
	.unref = unref,
	.attach_backing = attach_backing,
	.detach_backing = detach_backing,
	.context_attach = context_attach,
	.context_detach = context_detach,
	.transfer_to_host = transfer_to_host,
	.transfer_from_host = transfer_from_host,
	.submit = submit,
	.create_fence = create_fence,
	.read_pixels = read_pixels,
	.read_blob = read_blob,
	.export_dma_buf = export_dma_buf,
	.await_resource = await_resource,
	.context_has = context_has,
	.context_uses = context_uses,
	.has_sync_files = has_sync_files,
	.takes_bytes = takes_bytes,
	.give_up = give_up,
	.is_writing = is_writing,
	.stop_writing = stop_writing,
	.get_fd = get_fd,
	.dispatch = dispatch,
	.must_dispatch = must_dispatch,
	.free_more = free_more,
	.reset = reset,
	.destroy = destroy,
};

static uint32_t max_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 16 > MAX_CROSS_DOMAIN_FDS) {
		return MAX_CROSS_DOMAIN_FDS;
	}
	return (uint32_t)(limit.rlim_cur / 16);
}

static uint32_t count_capsets(struct renderer *renderer)
{
	struct virtio_gpu_resp_capset_info info;
	uint32_t count = 0;

	while (renderer->ops->capset_info(renderer, count, &info) == 0) {
		count++;
	}
	return count;
}

static int open_epoll(struct cross_domain *domain)
{
	struct epoll_event event = { .events = EPOLLIN };
	int ret = 0;

	domain->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (domain->epoll_fd < 0) {
		return -errno;
	}
	if (epoll_ctl(domain->epoll_fd, EPOLL_CTL_ADD, domain->inner->ops->get_fd(domain->inner),
		    &event) < 0) {
		ret = -errno;
		close(domain->epoll_fd);
	}
	return ret;
}

static int open_descriptors(struct cross_domain *domain)
{
	int ret = pipe2(domain->pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;

	if (ret < 0) {
		return ret;
	}
	ret = open_epoll(domain);
	if (ret < 0) {
		close(domain->pipe_fds[0]);
		close(domain->pipe_fds[1]);
	}
	return ret;
}

int cross_domain_create(struct gpu *gpu, const char *socket_path, struct renderer **renderer)
{
	struct cross_domain *domain;
	int ret;

	if (strlen(socket_path) >= sizeof(domain->address.sun_path)) {
		return -ENAMETOOLONG;
	}
	domain = calloc(1, sizeof(*domain));
	if (domain == NULL) {
		return -ENOMEM;
	}
	domain->gpu = gpu;
	domain->inner = *renderer;
	domain->ops = own_ops;
	if (domain->inner->ops->await_resource == NULL) {
		domain->ops.await_resource = NULL; /* nothing is held back */
	}
	domain->base.ops = &domain->ops;
	domain->address.sun_family = AF_UNIX;
	memcpy(domain->address.sun_path, socket_path, strlen(socket_path));
	domain->num_inner_capsets = count_capsets(domain->inner);
	domain->max_fds = max_fds();
	TAILQ_INIT(&domain->all);
	ret = open_descriptors(domain);
	if (ret < 0) {
		free(domain);
		return ret;
	}
	domain->signalled_fd = cross_fence_make_signalled();
	*renderer = &domain->base;
	return 0;
}
