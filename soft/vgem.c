/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "vgem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/types.h>

/*
 * What is used of the DRM interface (include/uapi/drm/drm.h, drm_mode.h, vgem_drm.h): Debian has
 * these headers in libdrm-dev alone, and the last one in no package.
 */
struct drm_version {
	int version_major, version_minor, version_patchlevel;
	size_t name_len;
	char *name;
	size_t date_len;
	char *date;
	size_t desc_len;
	char *desc;
};

struct drm_gem_close {
	__u32 handle, pad;
};

struct drm_prime_handle {
	__u32 handle, flags;
	__s32 fd;
};

struct drm_mode_create_dumb {
	__u32 height, width, bpp, flags;
	__u32 handle, pitch;
	__u64 size;
};

struct drm_vgem_fence_attach {
	__u32 handle, flags, out_fence, pad;
};

struct drm_vgem_fence_signal {
	__u32 fence, flags;
};

#define DRM_IOCTL_VERSION _IOWR('d', 0x00, struct drm_version)
#define DRM_IOCTL_GEM_CLOSE _IOW('d', 0x09, struct drm_gem_close)
#define DRM_IOCTL_PRIME_HANDLE_TO_FD _IOWR('d', 0x2d, struct drm_prime_handle)
#define DRM_IOCTL_MODE_CREATE_DUMB _IOWR('d', 0xb2, struct drm_mode_create_dumb)
#define DRM_IOCTL_VGEM_FENCE_ATTACH _IOWR('d', 0x41, struct drm_vgem_fence_attach)
#define DRM_IOCTL_VGEM_FENCE_SIGNAL _IOW('d', 0x42, struct drm_vgem_fence_signal)
#define VGEM_FENCE_WRITE 0x1

static int call(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

static bool is_vgem(int fd)
{
	char name[8] = "";
	struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

	return call(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "vgem") == 0;
}

/* Dumb buffers are for primary nodes (card*) alone. */
int vgem_open(void)
{
	DIR *dir = opendir("/dev/dri");
	int dir_fd = dir ? dirfd(dir) : -1;
	const struct dirent *entry;
	int fd = -1;

	while (dir_fd >= 0 && fd < 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "card", 4) != 0) {
			continue;
		}
		fd = openat(dir_fd, entry->d_name, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && !is_vgem(fd)) {
			close(fd);
			fd = -1;
		}
	}
	if (dir) {
		closedir(dir);
	}
	return fd < 0 ? -ENOENT : fd;
}

int vgem_buffer_create(int vgem_fd, uint32_t *buffer)
{
	struct drm_mode_create_dumb args = { .width = 32, .height = 32, .bpp = 32 };
	int ret = call(vgem_fd, DRM_IOCTL_MODE_CREATE_DUMB, &args);

	*buffer = args.handle;
	return ret;
}

void vgem_buffer_destroy(int vgem_fd, uint32_t buffer)
{
	struct drm_gem_close args = { .handle = buffer };

	call(vgem_fd, DRM_IOCTL_GEM_CLOSE, &args);
}

int vgem_buffer_export(int vgem_fd, uint32_t buffer)
{
	struct drm_prime_handle args = { .handle = buffer, .flags = O_CLOEXEC | O_RDWR };
	int ret = call(vgem_fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &args);

	return ret < 0 ? ret : args.fd;
}

int vgem_attach(int vgem_fd, uint32_t buffer, bool write, uint32_t *fence)
{
	struct drm_vgem_fence_attach args = {
		.handle = buffer,
		.flags = write ? VGEM_FENCE_WRITE : 0,
	};
	int ret = call(vgem_fd, DRM_IOCTL_VGEM_FENCE_ATTACH, &args);

	*fence = args.out_fence;
	return ret;
}

int vgem_signal(int vgem_fd, uint32_t fence)
{
	struct drm_vgem_fence_signal args = { .fence = fence };

	return call(vgem_fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, &args);
}

/* Returns the fences on a buffer as a sync file. */
static int export_sync_file(int vgem_fd, uint32_t buffer)
{
	struct dma_buf_export_sync_file args = { .flags = DMA_BUF_SYNC_RW };
	int dma_buf = vgem_buffer_export(vgem_fd, buffer);
	int ret;

	if (dma_buf < 0) {
		return dma_buf;
	}
	ret = call(dma_buf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &args);
	close(dma_buf);
	return ret < 0 ? ret : args.fd;
}

int vgem_fence_init(int vgem_fd, struct vgem_fence *fence)
{
	int ret = vgem_buffer_create(vgem_fd, &fence->buffer);

	if (ret < 0) {
		return ret;
	}
	ret = vgem_attach(vgem_fd, fence->buffer, true, &fence->fence);
	if (ret == 0) {
		ret = fence->fd = export_sync_file(vgem_fd, fence->buffer);
		if (ret < 0) {
			vgem_signal(vgem_fd, fence->fence);
		}
	}
	if (ret < 0) {
		vgem_buffer_destroy(vgem_fd, fence->buffer);
	}
	return ret < 0 ? ret : 0;
}

int vgem_fence_signal(int vgem_fd, const struct vgem_fence *fence)
{
	return vgem_signal(vgem_fd, fence->fence);
}

void vgem_fence_finish(int vgem_fd, struct vgem_fence *fence)
{
	if (fence->fd >= 0) {
		close(fence->fd);
		fence->fd = -1;
	}
	vgem_buffer_destroy(vgem_fd, fence->buffer);
}
