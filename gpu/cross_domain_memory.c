/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Memory of the host in cross-domain contexts: images, and files that a compositor sends. */

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cross_domain_private.h"
#include "error_name.h"

#define PAGE BLOB_ALIGNMENT

/* Rows begin at multiples of this: what GPUs want of images that they do not tile. */
#define STRIDE_ALIGNMENT 64u

/* ---- Images --------------------------------------------------------------------------------- */

#define FORMAT(a, b, c, d)                                                                         \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* Those of <drm_fourcc.h> with one plane that Wayland clients use. R8 is for bytes of any kind. */
static const struct {
	uint32_t drm_format, pixel_size;
} formats[] = {
	{ FORMAT('R', '8', ' ', ' '), 1 },
	{ FORMAT('G', 'R', '8', '8'), 2 },
	{ FORMAT('R', 'G', '1', '6'), 2 },
	{ FORMAT('R', 'G', '2', '4'), 3 },
	{ FORMAT('B', 'G', '2', '4'), 3 },
	{ FORMAT('X', 'R', '2', '4'), 4 },
	{ FORMAT('A', 'R', '2', '4'), 4 },
	{ FORMAT('X', 'B', '2', '4'), 4 },
	{ FORMAT('A', 'B', '2', '4'), 4 },
	{ FORMAT('X', 'R', '3', '0'), 4 },
	{ FORMAT('A', 'R', '3', '0'), 4 },
	{ FORMAT('X', 'B', '3', '0'), 4 },
	{ FORMAT('A', 'B', '3', '0'), 4 },
	{ FORMAT('X', 'B', '4', 'H'), 8 },
	{ FORMAT('A', 'B', '4', 'H'), 8 },
};

static uint32_t pixel_size_of(uint32_t drm_format)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (formats[i].drm_format == drm_format) {
			return formats[i].pixel_size;
		}
	}
	return 0;
}

static uint64_t round_up(uint64_t size, uint64_t to)
{
	return (size + to - 1) / to * to;
}

/*
 * The ID of an image's memory says how large that is, in pages; it is even, and those of files are
 * odd. So nothing is kept for a question, and guests may keep the answer as long as they like.
 */
int cross_image_requirements(const struct cross_domain_get_image_requirements *image,
	struct cross_domain_image_requirements *answer)
{
	uint64_t stride = round_up(
		(uint64_t)image->width * pixel_size_of(image->drm_format), STRIDE_ALIGNMENT);
	uint64_t size;

	if (stride == 0 || stride > MAX_CROSS_DOMAIN_MEMORY || image->height == 0) {
		return -EINVAL;
	}
	size = round_up(stride * image->height, PAGE);
	if (size > MAX_CROSS_DOMAIN_MEMORY) {
		return -EINVAL;
	}
	answer->strides[0] = (uint32_t)stride;
	answer->size = size;
	answer->blob_id = (uint32_t)(2 * (size / PAGE));
	answer->map_info = VIRTIO_GPU_MAP_CACHE_CACHED;
	return 0;
}

/* ---- Memory --------------------------------------------------------------------------------- */

static int make_file(uint64_t size)
{
	int fd = memfd_create("vgfence-image", MFD_CLOEXEC | MFD_ALLOW_SEALING), ret;

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int cross_memory_create(struct cross_domain *domain, uint64_t size)
{
	int fd;

	if (size > MAX_CROSS_DOMAIN_MEMORY - domain->memory_size) {
		return -ENOSPC;
	}
	fd = make_file(size);
	if (fd >= 0) {
		domain->memory_size += size;
	}
	return fd;
}

static int copy_file(int from, int to, uint64_t size)
{
	uint8_t buffer[16384];

	for (uint64_t at = 0; at < size;) {
		size_t length = size - at < sizeof(buffer) ? (size_t)(size - at) : sizeof(buffer);
		ssize_t count = pread(from, buffer, length, (off_t)at);

		if (count <= 0 || pwrite(to, buffer, (size_t)count, (off_t)at) != count) {
			return -EIO;
		}
		at += (uint64_t)count;
	}
	return 0;
}

int cross_memory_copy(struct cross_domain *domain, int fd, uint64_t file_size, uint64_t *size)
{
	int copy, ret;

	*size = round_up(file_size, PAGE);
	copy = cross_memory_create(domain, *size);
	if (copy < 0) {
		return copy;
	}
	ret = copy_file(fd, copy, file_size);
	if (ret < 0) {
		domain->memory_size -= *size;
		close(copy);
		return ret;
	}
	return copy;
}

/* ---- As resources --------------------------------------------------------------------------- */

static int compare_ids(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

struct cross_blob *cross_blob_find(const struct cross_domain *domain, uint32_t resource_id)
{
	struct cross_blob *const *found = tfind(&resource_id, &domain->blobs, compare_ids);

	return found != NULL ? *found : NULL;
}

static int make_image(struct cross_domain *domain, struct cross_blob *blob, uint64_t pages)
{
	if (pages * PAGE != round_up(blob->size, PAGE)) {
		return -EINVAL;
	}
	blob->size = pages * PAGE;
	blob->is_ours = true;
	blob->fd = cross_memory_create(domain, blob->size);
	return blob->fd < 0 ? blob->fd : 0;
}

/* It is the guest's from now on, and there is no second one. */
static int take_item(struct cross_context *context, struct cross_blob *blob, uint32_t id)
{
	struct cross_item *item = cross_item_find(context, id);

	if (item == NULL || item->type != CROSS_ITEM_MEMORY) {
		return -ENOENT;
	}
	if (blob->size > round_up(item->size, PAGE)) {
		return -EINVAL;
	}
	blob->fd = fcntl(item->fd, F_DUPFD_CLOEXEC, 0);
	if (blob->fd < 0) {
		return -errno;
	}
	blob->size = item->size;
	blob->is_ours = item->is_ours;
	item->is_ours = false; /* counted with the blob */
	cross_item_destroy(item);
	return 0;
}

int cross_blob_create(
	struct cross_context *context, uint32_t resource_id, uint64_t blob_id, uint64_t size)
{
	struct cross_domain *domain = context->domain;
	struct cross_blob *blob = calloc(1, sizeof(*blob));
	int ret;

	if (blob == NULL) {
		return -ENOMEM;
	}
	*blob = (struct cross_blob){ .id = resource_id, .fd = -1, .size = size };
	if (tsearch(blob, &domain->blobs, compare_ids) == NULL) {
		free(blob);
		return -ENOMEM;
	}
	if (blob_id == 0 || blob_id > UINT32_MAX || size > MAX_CROSS_DOMAIN_MEMORY) {
		ret = -ENOENT;
	} else if (blob_id % 2 == 0) {
		ret = make_image(domain, blob, blob_id / 2);
	} else {
		ret = take_item(context, blob, (uint32_t)blob_id);
	}
	if (ret < 0) {
		log_guest(domain->gpu, "cross-domain context %u: a blob with ID %llu: %s",
			context->id, (unsigned long long)blob_id, error_name(ret));
		blob->is_ours = blob->fd >= 0 && blob->is_ours;
		cross_blob_destroy(domain, blob);
	}
	return ret;
}

void cross_blob_destroy(struct cross_domain *domain, struct cross_blob *blob)
{
	tdelete(blob, &domain->blobs, compare_ids);
	if (blob->fd >= 0) {
		close(blob->fd);
	}
	if (blob->is_ours) {
		domain->memory_size -= blob->size;
	}
	free(blob);
}
