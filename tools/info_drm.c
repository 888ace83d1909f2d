/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A GPU's node and its sync objects: by ioctl, with libdrm's header alone. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "info.h"

static const char dri_path[] = "/dev/dri";

static int is_node(const struct dirent *entry)
{
	return strncmp(entry->d_name, "renderD", 7) == 0 || strncmp(entry->d_name, "card", 4) == 0;
}

/* Render nodes first: they need no privilege and have no display. */
static int render_first(const struct dirent **a, const struct dirent **b)
{
	int renders = ((*b)->d_name[0] == 'r') - ((*a)->d_name[0] == 'r');

	return renders ? renders : strcmp((*a)->d_name, (*b)->d_name);
}

/* Opens the first node that can be. Says in `path` which it was, or the last one that failed. */
static int open_node(char *path, size_t size)
{
	struct dirent **entries;

	snprintf(path, size, "%s", dri_path);
	int count = scandir(dri_path, &entries, is_node, render_first);
	if (count < 0) {
		return -errno;
	}
	int fd = -ENOENT;
	for (int i = 0; i < count; i++) {
		if (fd < 0) {
			snprintf(path, size, "%s/%s", dri_path, entries[i]->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			fd = fd < 0 ? -errno : fd;
		}
		free(entries[i]);
	}
	free(entries);
	return fd;
}

static void set_syncobj_unknown(struct info *info, const char *why)
{
	info_set(info, INFO_SYNCOBJ, INFO_UNKNOWN, "%s", why);
	info_set(info, INFO_SYNCOBJ_TIMELINE, INFO_UNKNOWN, "%s", why);
	info_set(info, INFO_SYNCOBJ_EVENTFD, INFO_UNKNOWN, "%s", why);
}

#if HAVE_LIBDRM

#include <drm.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

/* Linux 6.6; libdrm's header has it since 2.4.116. Its own name, as a later header has the type. */
struct syncobj_eventfd {
	__u32 handle;
	__u32 flags;
	__u64 point;
	__s32 fd;
	__u32 pad;
};
#define IOCTL_SYNCOBJ_EVENTFD DRM_IOWR(0xCF, struct syncobj_eventfd)

/* Asked as the kernel means it: with a syncobj that has signalled, the eventfd is readable. */
static void probe_syncobj_eventfd(struct info *info, int fd, __u32 handle)
{
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (event_fd < 0) {
		info_set_errno(info, INFO_SYNCOBJ_EVENTFD, -errno, "eventfd");
		return;
	}
	struct syncobj_eventfd request = { .handle = handle, .fd = event_fd };
	struct pollfd poll_fd = { .fd = event_fd, .events = POLLIN };
	if (ioctl(fd, IOCTL_SYNCOBJ_EVENTFD, &request) < 0) {
		info_set_errno(info, INFO_SYNCOBJ_EVENTFD, -errno, "SYNCOBJ_EVENTFD");
	} else if (poll(&poll_fd, 1, 0) != 1) {
		info_set(info, INFO_SYNCOBJ_EVENTFD, INFO_NO, "the eventfd stays silent");
	} else {
		info_set(info, INFO_SYNCOBJ_EVENTFD, INFO_YES, "SYNCOBJ_EVENTFD");
	}
	close(event_fd);
}

/* A point of a timeline: signalled, then asked for. */
static void probe_syncobj_timeline(struct info *info, int fd, __u32 handle)
{
	__u64 point = 1, value = 0;
	struct drm_syncobj_timeline_array request = {
		.handles = (__u64)(uintptr_t)&handle,
		.points = (__u64)(uintptr_t)&point,
		.count_handles = 1,
	};

	if (ioctl(fd, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, &request) < 0) {
		info_set_errno(info, INFO_SYNCOBJ_TIMELINE, -errno, "SYNCOBJ_TIMELINE_SIGNAL");
		return;
	}
	request.points = (__u64)(uintptr_t)&value;
	if (ioctl(fd, DRM_IOCTL_SYNCOBJ_QUERY, &request) < 0) {
		info_set_errno(info, INFO_SYNCOBJ_TIMELINE, -errno, "SYNCOBJ_QUERY");
	} else {
		info_set(info, INFO_SYNCOBJ_TIMELINE, value == point ? INFO_YES : INFO_NO,
			"SYNCOBJ_TIMELINE_SIGNAL");
	}
}

static void probe_syncobj(struct info *info, int fd)
{
	struct drm_syncobj_create create = { .flags = DRM_SYNCOBJ_CREATE_SIGNALED };

	if (ioctl(fd, DRM_IOCTL_SYNCOBJ_CREATE, &create) < 0) {
		set_syncobj_unknown(info, "no syncobj to ask");
		info_set_errno(info, INFO_SYNCOBJ, -errno, "SYNCOBJ_CREATE");
		return;
	}
	struct drm_syncobj_handle export = { .handle = create.handle,
		.flags = DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE };
	if (ioctl(fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &export) < 0) {
		info_set_errno(info, INFO_SYNCOBJ, -errno, "SYNCOBJ_HANDLE_TO_FD");
	} else {
		info_set(info, INFO_SYNCOBJ, INFO_YES, "one was made and exported");
		info_keep_sync_file_take(info, export.fd, "a DRM syncobj");
	}
	probe_syncobj_eventfd(info, fd, create.handle);
	probe_syncobj_timeline(info, fd, create.handle);
	struct drm_syncobj_destroy destroy = { .handle = create.handle };
	ioctl(fd, DRM_IOCTL_SYNCOBJ_DESTROY, &destroy);
}

static void probe_node(struct info *info, int fd, const char *path)
{
	char driver[64] = "";
	struct drm_version version = { .name = driver, .name_len = sizeof(driver) - 1 };

	if (ioctl(fd, DRM_IOCTL_VERSION, &version) < 0) {
		info_set_errno(info, INFO_DRM_NODE, -errno, path);
	} else {
		info_set(info, INFO_DRM_NODE, INFO_YES, "%s, driver %s", path, driver);
	}
	probe_syncobj(info, fd);
}

#else

static void probe_node(struct info *info, int fd, const char *path)
{
	(void)fd;
	info_set(info, INFO_DRM_NODE, INFO_YES, "%s", path);
	set_syncobj_unknown(info, "not probed: built without libdrm");
}

#endif

void info_probe_drm(struct info *info)
{
	char path[300];
	int fd = open_node(path, sizeof(path));

	if (fd < 0) {
		info_set_errno(info, INFO_DRM_NODE, fd, path);
		set_syncobj_unknown(info, "no GPU node to ask");
		return;
	}
	probe_node(info, fd, path);
	close(fd);
}
