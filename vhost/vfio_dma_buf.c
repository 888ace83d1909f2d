/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "vfio_dma_buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "fd_kind.h"

/* ---- The kernel ----------------------------------------------------------------------------- */

static bool has_name_of_device(int fd)
{
	return fd_is_anonymous(fd, "[vfio-device]");
}

static int call_kernel(int device_fd, unsigned long request, void *arg)
{
	int ret = ioctl(device_fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static const struct vfio_calls kernel = {
	.is_device = has_name_of_device,
	.call = call_kernel,
};

const struct vfio_calls *vfio_calls = &kernel;

bool vfio_is_device(int fd)
{
	return vfio_calls->is_device(fd);
}

/* ---- Which region --------------------------------------------------------------------------- */

static bool contains(const struct vfio_region_info *region, const struct file_piece *piece)
{
	uint64_t at = piece->offset - region->offset;

	return piece->offset >= region->offset && at < region->size &&
		piece->size <= region->size - at;
}

/* The BAR that a piece is in: where in the device's file they are, the kernel tells. */
static int find_region(const struct file_piece *piece, struct vfio_region_info *region)
{
	for (uint32_t i = VFIO_PCI_BAR0_REGION_INDEX; i <= VFIO_PCI_BAR5_REGION_INDEX; i++) {
		*region = (struct vfio_region_info){ .argsz = sizeof(*region), .index = i };
		if (vfio_calls->call(piece->fd, VFIO_DEVICE_GET_REGION_INFO, region) == 0 &&
			contains(region, piece)) {
			return 0;
		}
	}
	return -EXDEV;
}

static int check(const struct file_piece *pieces, uint32_t count, struct vfio_region_info *region)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int ret = count > 0 ? find_region(&pieces[0], region) : -EINVAL;

	for (uint32_t i = 0; i < count && ret == 0; i++) {
		if (pieces[i].size == 0 ||
			((pieces[i].offset | pieces[i].size) & (page - 1)) != 0) {
			ret = -EINVAL;
		} else if (pieces[i].fd != pieces[0].fd || !contains(region, &pieces[i])) {
			ret = -EXDEV;
		}
	}
	return ret;
}

/* ---- The feature ---------------------------------------------------------------------------- */

static void fill_in(struct vfio_dma_buf *feature, const struct vfio_region_info *region,
	const struct file_piece *pieces, uint32_t count)
{
	feature->region_index = region->index;
	feature->open_flags = O_RDWR | O_CLOEXEC;
	feature->nr_ranges = count;
	for (uint32_t i = 0; i < count; i++) {
		feature->dma_ranges[i] = (struct vfio_dma_range){ pieces[i].offset - region->offset,
			pieces[i].size };
	}
}

int vfio_dma_buf_create(const struct file_piece *pieces, uint32_t count)
{
	struct vfio_region_info region;
	struct vfio_device_feature *request;
	size_t size;
	int ret = check(pieces, count, &region);

	if (ret < 0) {
		return ret;
	}
	size = sizeof(*request) + sizeof(struct vfio_dma_buf) +
		count * sizeof(struct vfio_dma_range);
	request = calloc(1, size);
	if (request == NULL) {
		return -ENOMEM;
	}
	request->argsz = (uint32_t)size;
	request->flags = VFIO_DEVICE_FEATURE_GET | VFIO_FEATURE_DMA_BUF;
	fill_in((struct vfio_dma_buf *)request->data, &region, pieces, count);
	ret = vfio_calls->call(pieces[0].fd, VFIO_DEVICE_FEATURE, request);
	free(request);
	return ret;
}
