/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The renderer without a GPU: contexts of the software GPU (soft/soft_gpu.h), 2D resources in
 * plain memory, and blobs of guest memory or of a file in memory.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <vgfence/context_driver.h>

#include "backing.h"
#include "clock.h"
#include "guest_limits.h"
#include "pixel_format.h"
#include "placement.h"
#include "renderer.h"
#include "renderer_clock.h"
#include "soft_gpu.h"
#include "soft_memory.h"
#include "soft_storage.h"
#include "soft_tables.h"
#include "udmabuf.h"

#define CAPSET_DRM 6 /* VIRTIO_GPU_CAPSET_DRM */

/* Two pictures of 1920 by 1080 for each of 16 scanouts. */
#define MAX_PIXEL_BYTES (UINT64_C(256) << 20)

/* In each direction, as most GPUs' textures have. A transfer takes a while for each row. */
#define MAX_SIZE 16384

/* Of blobs with memory of the host: twice the usual window, which ends first then. */
#define MAX_MEMORY_BYTES (UINT64_C(512) << 20)

/*
 * Jobs that have not ended, of which only those with a fence take up room in a virtqueue: four
 * times a control queue's. With 256 in-fences and 64 commands each they are 52 MiB.
 */
#define MAX_JOBS 4096

/* What the documented part of a DRM capability set begins with (virglrenderer's drm_hw.h). */
struct capset_drm {
	uint32_t wire_format_version;
	uint32_t version_major, version_minor, version_patchlevel;
	uint32_t context_type; /* 0 is no driver's */
	uint32_t pad;
};

struct soft {
	struct renderer base;
	struct vgf_device *device;
	struct soft_gpu *gpu;
	struct placement placement;
	uint64_t pixel_bytes, memory_bytes;
	uint32_t num_memories, max_memories; /* each has a descriptor */
	bool sync_files;
	/* The GPU's thread looks up attachments, and uses storages, which it finds by them. */
	pthread_mutex_t lock;
	struct soft_tables tables;
	struct soft_storage_list unused;
	atomic_bool has_unused;
};

static struct soft *soft_from(struct renderer *renderer)
{
	return (struct soft *)renderer;
}

/* ---- What is behind resources --------------------------------------------------------------- */

/* How long those that nobody uses any more are freed in one go: unmapping takes a while. */
#define FREE_NS NS_PER_MS

/* With the lock held, in any thread. */
static void put_storage(struct soft *soft, struct soft_storage *storage)
{
	soft_storage_put(storage, &soft->unused);
	if (!SLIST_EMPTY(&soft->unused)) {
		atomic_store(&soft->has_unused, true);
	}
}

static struct soft_storage *take_unused(struct soft *soft)
{
	struct soft_storage *storage;

	pthread_mutex_lock(&soft->lock);
	storage = SLIST_FIRST(&soft->unused);
	if (storage != NULL) {
		SLIST_REMOVE_HEAD(&soft->unused, link);
	} else {
		atomic_store(&soft->has_unused, false);
	}
	pthread_mutex_unlock(&soft->lock);
	return storage;
}

/* Returns whether there was one. */
static bool free_one(struct soft *soft)
{
	struct soft_storage *storage = take_unused(soft);

	if (storage == NULL) {
		return false;
	}
	if (storage->memory != NULL) {
		soft->memory_bytes -= soft_memory_bytes(storage->size);
		soft->num_memories--;
		soft_memory_destroy(storage->memory);
	}
	free(storage);
	return true;
}

/* In the device's thread, which has more time than the GPU's. */
static void free_unused(struct soft *soft)
{
	uint64_t end_ns;

	if (atomic_load(&soft->has_unused)) {
		end_ns = now_ns() + FREE_NS;
		while (free_one(soft) && now_ns() < end_ns) {
		}
	}
}

static bool has_room(const struct soft *soft, uint64_t size)
{
	return soft->num_memories < soft->max_memories &&
		size <= MAX_MEMORY_BYTES - soft->memory_bytes;
}

/* For memory of so many bytes: what nobody uses any more keeps none from being made. */
static bool make_room(struct soft *soft, uint64_t size)
{
	while (!has_room(soft, size)) {
		if (!free_one(soft)) {
			return false;
		}
	}
	return true;
}

/* ---- What jobs do to memory ----------------------------------------------------------------- */

static int store(void *data, uint64_t serial, uint32_t resource_id, uint32_t offset, uint32_t value)
{
	struct soft *soft = data;
	const struct soft_attachment *attachment;
	const struct renderer_backing *backing = NULL;
	int ret = -EFAULT;

	value = htole32(value);
	pthread_mutex_lock(&soft->lock);
	attachment = soft_attachment_find(&soft->tables, serial, resource_id);
	if (attachment != NULL) {
		backing = soft_storage_backing(attachment->resource->storage);
	}
	if (backing != NULL) {
		ret = backing_write(backing, offset, &value, sizeof(value));
	}
	pthread_mutex_unlock(&soft->lock);
	return ret;
}

/* GPU addresses are of pages. With smaller pieces a job, for whose end others wait, would take as
 * long as the guest likes. */
static bool is_mappable(const struct renderer_backing *backing)
{
	return backing == NULL || backing->has_whole_pages;
}

static int get_memory(void *data, uint64_t serial, uint32_t resource_id, uint64_t offset,
	uint64_t size, void **memory)
{
	struct soft *soft = data;
	const struct soft_attachment *attachment;
	struct soft_storage *storage;
	int ret = -ENOENT;

	pthread_mutex_lock(&soft->lock);
	attachment = soft_attachment_find(&soft->tables, serial, resource_id);
	if (attachment != NULL) {
		storage = attachment->resource->storage;
		ret = offset <= storage->size && size <= storage->size - offset &&
				is_mappable(soft_storage_backing(storage)) ?
			0 :
			-EINVAL;
	}
	if (ret == 0) {
		*memory = soft_storage_map(storage, serial);
		ret = *memory != NULL ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&soft->lock);
	return ret;
}

static void ref_memory(void *data, void *memory)
{
	struct soft *soft = data;
	struct soft_mapped *mapped = memory;

	pthread_mutex_lock(&soft->lock);
	mapped->num_mappings++;
	pthread_mutex_unlock(&soft->lock);
}

static void put_memory(void *data, void *memory)
{
	struct soft *soft = data;
	struct soft_storage *storage;

	pthread_mutex_lock(&soft->lock);
	storage = soft_storage_unmap(memory);
	if (storage != NULL) {
		put_storage(soft, storage);
	}
	pthread_mutex_unlock(&soft->lock);
}

static int read_memory(void *data, void *memory, uint64_t offset, void *bytes, size_t size)
{
	struct soft *soft = data;
	const struct soft_mapped *mapped = memory;
	const struct renderer_backing *backing;
	int ret;

	pthread_mutex_lock(&soft->lock);
	backing = soft_storage_backing(mapped->storage);
	ret = backing != NULL && is_mappable(backing) ? backing_read(backing, offset, bytes, size) :
							-EFAULT;
	pthread_mutex_unlock(&soft->lock);
	return ret;
}

static int write_memory(void *data, void *memory, uint64_t offset, const void *bytes, size_t size)
{
	struct soft *soft = data;
	const struct soft_mapped *mapped = memory;
	const struct renderer_backing *backing;
	int ret;

	pthread_mutex_lock(&soft->lock);
	backing = soft_storage_backing(mapped->storage);
	ret = backing != NULL && is_mappable(backing) ?
		backing_write(backing, offset, bytes, size) :
		-EFAULT;
	pthread_mutex_unlock(&soft->lock);
	return ret;
}

static const struct address_memory_ops memory_ops = {
	.get = get_memory,
	.ref = ref_memory,
	.put = put_memory,
	.read = read_memory,
	.write = write_memory,
};

/* ---- Capability sets ------------------------------------------------------------------------ */

static int capset_info(
	struct renderer *renderer, uint32_t index, struct virtio_gpu_resp_capset_info *info)
{
	(void)renderer;
	if (index > 0) {
		return -EINVAL;
	}
	info->capset_id = CAPSET_DRM;
	info->capset_max_version = 0;
	info->capset_max_size = sizeof(struct capset_drm);
	return 0;
}

static int capset(
	struct renderer *renderer, uint32_t id, uint32_t version, void *data, uint32_t size)
{
	const struct capset_drm capset_drm = { .version_major = htole32(1) };

	(void)renderer;
	if (id != CAPSET_DRM || version != 0 || size != sizeof(capset_drm)) {
		return -EINVAL;
	}
	memcpy(data, &capset_drm, sizeof(capset_drm));
	return 0;
}

/* ---- Contexts ------------------------------------------------------------------------------- */

static void free_context(struct soft *soft, struct soft_context *context)
{
	pthread_mutex_lock(&soft->lock);
	soft_context_remove(&soft->tables, context);
	pthread_mutex_unlock(&soft->lock);
}

/* Without a capability set for guests that do not know of those. */
static int context_create(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
	uint32_t context_init, const char *name)
{
	uint32_t capset_id = context_init & VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK;
	struct soft *soft = soft_from(renderer);
	struct soft_context *context;
	int ret;

	(void)name;
	if (capset_id != CAPSET_DRM && capset_id != 0) {
		return -EINVAL;
	}
	context = soft_context_add(&soft->tables, ctx_id, serial);
	if (context == NULL) {
		return -ENOMEM;
	}
	ret = soft_gpu_context_create(soft->gpu, ctx_id, serial);
	if (ret < 0) {
		free_context(soft, context);
	}
	return ret;
}

static int context_destroy(struct renderer *renderer, uint32_t ctx_id)
{
	struct soft *soft = soft_from(renderer);
	int ret = vgf_context_destroy(soft->device, ctx_id);

	if (ret < 0) {
		return ret;
	}
	free_context(soft, soft_context_find(&soft->tables, ctx_id));
	return 0;
}

static int context_attach(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	struct soft *soft = soft_from(renderer);
	int ret;

	pthread_mutex_lock(&soft->lock);
	ret = soft_attach(&soft->tables, soft_context_find(&soft->tables, ctx_id),
		soft_resource_find(&soft->tables, resource_id));
	pthread_mutex_unlock(&soft->lock);
	return ret;
}

static int context_detach(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id)
{
	struct soft *soft = soft_from(renderer);
	struct soft_attachment *attachment;

	pthread_mutex_lock(&soft->lock);
	attachment = soft_attachment_find(
		&soft->tables, soft_context_find(&soft->tables, ctx_id)->serial, resource_id);
	if (attachment != NULL) {
		soft_detach(&soft->tables, attachment);
	}
	pthread_mutex_unlock(&soft->lock);
	return 0;
}

/* ---- Resources ------------------------------------------------------------------------------ */

static uint64_t pixels_size(const struct soft_resource *resource)
{
	return resource->pixels != NULL ? (uint64_t)resource->width * resource->height * 4 : 0;
}

/* What they take of MAX_PIXEL_BYTES. */
static uint64_t num_pixel_bytes(const struct soft_resource *resource)
{
	uint64_t size = pixels_size(resource);

	return resource->pixel_memory != NULL ? soft_memory_bytes(size) : size;
}

/* Without pixels. size: of a blob. Returns NULL if there is no memory. */
static struct soft_resource *add_resource(struct soft *soft, uint32_t resource_id, uint64_t size)
{
	struct soft_storage *storage = soft_storage_create(size);
	struct soft_resource *resource;

	if (storage == NULL) {
		return NULL;
	}
	resource = soft_resource_add(&soft->tables, resource_id);
	if (resource == NULL) {
		free(storage);
		return NULL;
	}
	resource->storage = storage;
	return resource;
}

static void free_resource(struct soft *soft, struct soft_resource *resource)
{
	struct soft_storage *storage = resource->storage;

	soft->pixel_bytes -= num_pixel_bytes(resource);
	if (resource->pixel_memory != NULL) {
		soft->num_memories--;
		soft_memory_destroy(resource->pixel_memory);
	} else {
		free(resource->pixels);
	}
	pthread_mutex_lock(&soft->lock);
	soft_resource_remove(&soft->tables, resource);
	storage->backing = NULL;
	put_storage(soft, storage);
	pthread_mutex_unlock(&soft->lock);
	free_unused(soft);
}

static int create_2d(struct renderer *renderer, uint32_t resource_id, uint32_t format,
	uint32_t width, uint32_t height)
{
	struct soft *soft = soft_from(renderer);
	uint64_t num_pixels = (uint64_t)width * height;
	struct soft_resource *resource;

	if (width > MAX_SIZE || height > MAX_SIZE ||
		num_pixels > (MAX_PIXEL_BYTES - soft->pixel_bytes) / 4) {
		return -ENOSPC;
	}
	resource = add_resource(soft, resource_id, 0);
	if (resource == NULL) {
		return -ENOMEM;
	}
	resource->pixels = calloc((size_t)num_pixels, 4);
	if (resource->pixels == NULL) {
		free_resource(soft, resource);
		return -ENOMEM;
	}
	resource->format = format;
	resource->width = width;
	resource->height = height;
	soft->pixel_bytes += num_pixels * 4;
	return 0;
}

static int create_3d(struct renderer *renderer, uint32_t resource_id,
	const struct renderer_resource_3d *resource)
{
	(void)renderer;
	(void)resource_id;
	(void)resource;
	return -EOPNOTSUPP;
}

static int add_memory(struct soft *soft, struct soft_storage *storage)
{
	int ret;

	if (!make_room(soft, storage->size)) {
		return -ENOSPC;
	}
	ret = soft_memory_create(storage->size, &storage->memory);
	if (ret == 0) {
		soft->num_memories++;
		soft->memory_bytes += soft_memory_bytes(storage->size);
	}
	return ret;
}

/* A context has no memory by itself that a blob ID could name. */
static int create_blob(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	uint32_t blob_mem, uint32_t blob_flags, uint64_t blob_id, uint64_t size,
	const struct renderer_backing *backing)
{
	struct soft *soft = soft_from(renderer);
	struct soft_resource *resource;

	int ret = 0;

	(void)ctx_id;
	(void)blob_flags;
	if (blob_mem != VIRTIO_GPU_BLOB_MEM_GUEST && blob_id != 0) {
		return -ENOENT;
	}
	resource = add_resource(soft, resource_id, size);
	if (resource == NULL) {
		return -ENOMEM;
	}
	resource->storage->backing = backing;
	if (blob_mem != VIRTIO_GPU_BLOB_MEM_GUEST) {
		ret = add_memory(soft, resource->storage);
	}
	if (ret < 0) {
		free_resource(soft, resource);
	}
	return ret;
}

static int map_blob(struct renderer *renderer, uint32_t resource_id, struct renderer_map *map)
{
	const struct soft_resource *resource = soft_resource_find(
		&soft_from(renderer)->tables, resource_id);

	map->fd = fcntl(resource->storage->memory->fd, F_DUPFD_CLOEXEC, 0);
	map->offset = 0;
	map->info = VIRTIO_GPU_MAP_CACHE_CACHED;
	return map->fd < 0 ? -errno : 0;
}

static int read_blob(
	struct renderer *renderer, uint32_t resource_id, uint64_t offset, void *data, uint64_t size)
{
	const struct soft_resource *resource = soft_resource_find(
		&soft_from(renderer)->tables, resource_id);

	return backing_read(soft_storage_backing(resource->storage), offset, data, size);
}

static int unref(struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	struct soft *soft = soft_from(renderer);

	free_resource(soft, soft_resource_find(&soft->tables, resource_id));
	done(arg, 0);
	return 0;
}

static void set_backing(
	struct soft *soft, uint32_t resource_id, const struct renderer_backing *backing)
{
	pthread_mutex_lock(&soft->lock);
	soft_resource_find(&soft->tables, resource_id)->storage->backing = backing;
	pthread_mutex_unlock(&soft->lock);
}

static int attach_backing(
	struct renderer *renderer, uint32_t resource_id, const struct renderer_backing *backing)
{
	set_backing(soft_from(renderer), resource_id, backing);
	return 0;
}

static int detach_backing(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	set_backing(soft_from(renderer), resource_id, NULL);
	done(arg, 0);
	return 0;
}

/* ---- Pixels --------------------------------------------------------------------------------- */

typedef int (*copy_row)(
	const struct renderer_backing *backing, uint64_t offset, uint8_t *row, uint64_t size);

static int row_from_guest(
	const struct renderer_backing *backing, uint64_t offset, uint8_t *row, uint64_t size)
{
	return backing_read(backing, offset, row, size);
}

static int row_to_guest(
	const struct renderer_backing *backing, uint64_t offset, uint8_t *row, uint64_t size)
{
	return backing_write(backing, offset, row, size);
}

/* Whether the rows, `stride` apart in the guest, are all in the backing. They do not overlap: a
 * piece of memory is then looked at once, however small the guest has made it. */
static bool rows_fit(const struct renderer_backing *backing,
	const struct renderer_transfer *transfer, uint64_t stride)
{
	uint64_t row = (uint64_t)transfer->box.w * 4;
	uint64_t size = stride * (transfer->box.h - 1) + row;

	return (transfer->box.h == 1 || stride >= row) && transfer->offset <= backing->size &&
		size <= backing->size - transfer->offset;
}

/* Between a blob's two memories: a row of bytes. */
static int copy_bytes(const struct soft_resource *resource,
	const struct renderer_transfer *transfer, copy_row copy)
{
	const struct virtio_gpu_box *box = &transfer->box;
	const struct soft_storage *storage = resource->storage;
	uint64_t size = storage->size;

	if (box->y != 0 || box->z != 0 || box->h != 1 || box->d != 1 || transfer->level != 0 ||
		box->x > size || box->w > size - box->x) {
		return -EINVAL;
	}
	return copy(storage->backing, transfer->offset,
		(uint8_t *)storage->memory->iov.iov_base + box->x, box->w);
}

static int copy_rows(struct soft *soft, uint32_t resource_id,
	const struct renderer_transfer *transfer, copy_row copy)
{
	const struct soft_resource *resource = soft_resource_find(&soft->tables, resource_id);
	const struct virtio_gpu_box *box = &transfer->box;
	uint64_t stride = transfer->stride != 0 ? transfer->stride : (uint64_t)resource->width * 4;
	int ret = 0;

	if (resource->storage->memory != NULL) {
		return copy_bytes(resource, transfer, copy);
	}
	if (resource->pixels == NULL || transfer->level != 0) {
		return -EINVAL;
	}
	if (box->w == 0 || box->h == 0) {
		return 0;
	}
	if (!rows_fit(resource->storage->backing, transfer, stride)) {
		return -EFAULT;
	}
	for (uint32_t y = 0; y < box->h && ret == 0; y++) {
		size_t at = ((size_t)(box->y + y) * resource->width + box->x) * 4;

		ret = copy(resource->storage->backing, transfer->offset + stride * y,
			resource->pixels + at, (uint64_t)box->w * 4);
	}
	return ret;
}

static int transfer_to_host(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	const struct renderer_transfer *transfer, renderer_done done, void *arg)
{
	int ret = copy_rows(soft_from(renderer), resource_id, transfer, row_from_guest);

	(void)ctx_id;
	if (ret == 0) {
		done(arg, 0);
	}
	return ret;
}

static int transfer_from_host(struct renderer *renderer, uint32_t ctx_id, uint32_t resource_id,
	const struct renderer_transfer *transfer, renderer_done done, void *arg)
{
	int ret = copy_rows(soft_from(renderer), resource_id, transfer, row_to_guest);

	(void)ctx_id;
	if (ret == 0) {
		done(arg, 0);
	}
	return ret;
}

static int read_pixels(struct renderer *renderer, uint32_t resource_id,
	const struct virtio_gpu_rect *rect, uint32_t *pixels, uint32_t *format)
{
	const struct soft_resource *resource = soft_resource_find(
		&soft_from(renderer)->tables, resource_id);

	if (resource->pixels == NULL) {
		return -EINVAL;
	}
	for (uint32_t y = 0; y < rect->height; y++) {
		size_t at = ((size_t)(rect->y + y) * resource->width + rect->x) * 4;

		memcpy(pixels + (size_t)y * rect->width, resource->pixels + at,
			(size_t)rect->width * 4);
	}
	*format = resource->format;
	return 0;
}

/* ---- Dma-bufs ------------------------------------------------------------------------------- */

/* Pixels that a display reads in place have a file. The others need none, nor its descriptor. */
static int move_pixels(struct soft *soft, struct soft_resource *resource)
{
	uint64_t size = pixels_size(resource), added = soft_memory_bytes(size) - size;
	int ret;

	if (added > MAX_PIXEL_BYTES - soft->pixel_bytes || !make_room(soft, 0)) {
		return -ENOSPC;
	}
	ret = soft_memory_create(size, &resource->pixel_memory);
	if (ret < 0) {
		return ret;
	}
	soft->num_memories++;
	soft->pixel_bytes += added;
	memcpy(resource->pixel_memory->iov.iov_base, resource->pixels, (size_t)size);
	free(resource->pixels);
	resource->pixels = resource->pixel_memory->iov.iov_base;
	return 0;
}

static int export_pixels(
	struct soft *soft, struct soft_resource *resource, struct renderer_dma_buf *dma_buf)
{
	int ret = resource->pixel_memory == NULL ? move_pixels(soft, resource) : 0;

	if (ret == 0) {
		ret = soft_memory_export(resource->pixel_memory);
	}
	if (ret < 0) {
		return ret;
	}
	*dma_buf = (struct renderer_dma_buf){
		.fd = ret,
		.drm_format = format_to_drm(resource->format),
		.stride = resource->width * 4,
	};
	return 0;
}

/* Guest memory is the device's. */
static int export_dma_buf(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	struct soft *soft = soft_from(renderer);
	struct soft_resource *resource = soft_resource_find(&soft->tables, resource_id);

	if (resource->pixels != NULL) {
		return udmabuf_is_there() ? export_pixels(soft, resource, dma_buf) : -ENODEV;
	}
	if (resource->storage->memory == NULL) {
		return -EOPNOTSUPP;
	}
	*dma_buf = (struct renderer_dma_buf){ .fd = soft_memory_export(resource->storage->memory) };
	return dma_buf->fd < 0 ? dma_buf->fd : 0;
}

/* Also by its GPU addresses: these stay when the resource is detached. */
static bool context_has(struct renderer *renderer, uint64_t serial, uint32_t resource_id)
{
	struct soft *soft = soft_from(renderer);
	const struct soft_resource *resource = soft_resource_find(&soft->tables, resource_id);
	bool is_mapped;

	if (resource == NULL) {
		return false;
	}
	pthread_mutex_lock(&soft->lock);
	is_mapped = soft_storage_is_mapped(resource->storage, serial);
	pthread_mutex_unlock(&soft->lock);
	return is_mapped || soft_attachment_find(&soft->tables, serial, resource_id) != NULL;
}

static bool has_sync_files(struct renderer *renderer, uint32_t ctx_id)
{
	(void)ctx_id;
	return soft_from(renderer)->sync_files;
}

/* ---- Fences --------------------------------------------------------------------------------- */

static struct vgf_device *get_device(struct renderer *renderer)
{
	return soft_from(renderer)->device;
}

static int submit(
	struct renderer *renderer, const struct vgf_submission *submission, bool *will_retire)
{
	return vgf_submit(soft_from(renderer)->device, submission, will_retire);
}

/* Everything else is done at once. */
static int create_fence(
	struct renderer *renderer, const struct vgf_fence_name *name, uint32_t flags)
{
	return vgf_fence_create_take(
		soft_from(renderer)->device, name, flags, NULL, VGF_FENCE_DONE);
}

static int get_fd(struct renderer *renderer)
{
	return vgf_device_get_fd(soft_from(renderer)->device);
}

static int dispatch(struct renderer *renderer)
{
	struct soft *soft = soft_from(renderer);
	int ret = vgf_device_dispatch(soft->device, 0);

	free_unused(soft);
	return ret;
}

/* What a job has let go of is freed by the loop, which therefore has to wake up. */
static bool must_dispatch(struct renderer *renderer)
{
	return atomic_load(&soft_from(renderer)->has_unused);
}

static bool is_writing(struct renderer *renderer)
{
	return soft_gpu_is_writing(soft_from(renderer)->gpu);
}

static void stop_writing(struct renderer *renderer)
{
	soft_gpu_stop_writing(soft_from(renderer)->gpu);
}

static bool free_more(struct renderer *renderer)
{
	struct soft *soft = soft_from(renderer);

	free_unused(soft);
	return atomic_load(&soft->has_unused);
}

/* ---- The renderer --------------------------------------------------------------------------- */

static int reset(struct renderer *renderer)
{
	struct soft *soft = soft_from(renderer);
	struct soft_context *context;
	struct soft_resource *resource;
	int ret;

	soft_gpu_reset(soft->gpu);
	ret = vgf_device_reset(soft->device);
	if (ret == 0) {
		soft_gpu_signal_dropped(soft->gpu);
	}
	while ((context = soft_context_any(&soft->tables)) != NULL) {
		free_context(soft, context);
	}
	while ((resource = soft_resource_any(&soft->tables)) != NULL) {
		free_resource(soft, resource);
	}
	while (free_one(soft)) {
	}
	return ret;
}

static void destroy(struct renderer *renderer)
{
	struct soft *soft = soft_from(renderer);

	if (soft->gpu != NULL) {
		reset(renderer);
	}
	vgf_device_destroy(soft->device);
	soft_gpu_destroy(soft->gpu);
	placement_return(&soft->placement);
	pthread_mutex_destroy(&soft->lock);
	free(soft);
}

static const struct renderer_ops ops = {
	.get_device = get_device,
	.capset_info = capset_info,
	.capset = capset,
	.context_create = context_create,
	.context_destroy = context_destroy,
	.create_2d = create_2d,
	.create_3d = create_3d,
	.create_blob = create_blob,
	.map_blob = map_blob,
	.read_blob = read_blob,
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
	.export_dma_buf = export_dma_buf,
	.context_has = context_has,
	.context_uses = context_has,
	.has_sync_files = has_sync_files,
	.is_writing = is_writing,
	.stop_writing = stop_writing,
	.get_fd = get_fd,
	.dispatch = dispatch,
	.must_dispatch = must_dispatch,
	.free_more = free_more,
	.reset = reset,
	.destroy = destroy,
};

/* A thread that is preempted with the lock keeps the GPU waiting. The lock gives it the GPU's
 * priority, so that this is short. */
static void init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

/* A quarter of what the process may have, as is what jobs have besides: so half is left for the
 * rest. 0, the default, if there are more than enough. */
static uint32_t max_fence_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 4 > UINT16_MAX) {
		return 0;
	}
	return limit.rlim_cur < 8 ? 2 : (uint32_t)(limit.rlim_cur / 4);
}

/* With sync files a job has up to two descriptors that are not counted: of what it waits for, and
 * of the buffer that its fence is on. */
static uint32_t max_jobs(const struct renderer_options *options)
{
	struct rlimit limit;

	if (!options->sync_files || getrlimit(RLIMIT_NOFILE, &limit) < 0 ||
		limit.rlim_cur / 8 > MAX_JOBS) {
		return MAX_JOBS;
	}
	return limit.rlim_cur < 32 ? 4 : (uint32_t)(limit.rlim_cur / 8);
}

/* Their descriptors are as many as half of what is left then, at most. */
static uint32_t max_memories(void)
{
	uint32_t fds = max_fence_fds();

	return fds == 0 ? UINT16_MAX : fds / 2;
}

/* All submissions are made in the device's thread. */
static void enter_gpu(void *data)
{
	renderer_clock_enter(data);
}

static void leave_gpu(void *data)
{
	renderer_clock_leave(data);
}

static int start_gpu(struct soft *soft, const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options)
{
	struct vgf_options device_options = { .size = sizeof(struct vgf_options),
		.limits = guest_limits };
	uint32_t num_jobs = max_jobs(options);
	struct soft_gpu_options gpu_options = {
		.max_jobs = num_jobs,
		.max_context_jobs = num_jobs / 4,
		.fences = options->sync_files ? SOFT_GPU_FENCES_VGEM : SOFT_GPU_FENCES_CALL,
		.wait = VGF_WAIT_DRIVER,
		.store = store,
		.store_data = soft,
		.memory = &memory_ops,
		.max_mappings = MAX_MAPPINGS,
		.max_context_mappings = MAX_CONTEXT_MAPPINGS,
	};
	int ret;

	/* Fenced work is held back before the GPU has as many jobs as it may, which it refuses. */
	device_options.limits.max_fds = options->sync_files ? num_jobs / 2 : max_fence_fds();
	device_options.limits.max_in_fences += NUM_OWN_IN_FENCES;
	ret = vgf_device_create(callbacks, cookie, &device_options, &soft->device);

	if (ret < 0) {
		return ret;
	}
	if (options->realtime) {
		placement_find(&soft->placement);
	}
	if (options->clock != NULL) {
		gpu_options.observer = (struct soft_gpu_observer){
			.enter = enter_gpu, .leave = leave_gpu, .data = options->clock
		};
	}
	gpu_options.own_cpus = soft->placement.split ? &soft->placement.gpu : NULL;
	ret = soft_gpu_create(soft->device, &gpu_options, &soft->gpu);
	if (ret == -ENOENT && soft->sync_files && callbacks->log != NULL) {
		callbacks->log(cookie, VGF_LOG_ERROR,
			"fences that are sync files need the kernel's vgem (modprobe vgem)");
	}
	/* Now, not before: the GPU's thread would have to leave too. */
	placement_leave(&soft->placement);
	return ret;
}

int renderer_soft_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct renderer_options *options, struct renderer **out)
{
	struct soft *soft;
	int ret;

	if (options->render_node != NULL) {
		return -EINVAL;
	}
	soft = calloc(1, sizeof(*soft));
	if (soft == NULL) {
		return -ENOMEM;
	}
	soft->base.ops = &ops;
	soft->max_memories = max_memories();
	init_lock(&soft->lock);
	soft->sync_files = options->sync_files;
	ret = start_gpu(soft, callbacks, cookie, options);
	if (ret < 0) {
		destroy(&soft->base);
		return ret;
	}
	*out = &soft->base;
	return 0;
}
