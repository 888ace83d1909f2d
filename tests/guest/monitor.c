/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "monitor.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <drm_fourcc.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "run.h"

int card_find(void)
{
	for (int i = 0; i < 16; i++) {
		drmModeRes *resources = NULL;
		char path[32];
		bool found;
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			continue;
		}
		found = is_virtio_gpu(fd) && (resources = drmModeGetResources(fd)) &&
			resources->count_crtcs > 0;
		drmModeFreeResources(resources);
		if (found) {
			return fd;
		}
		close(fd);
	}
	return -1;
}

static uint32_t find_property(int fd, uint32_t object, uint32_t type, const char *name)
{
	drmModeObjectProperties *properties = drmModeObjectGetProperties(fd, object, type);
	uint32_t found = 0;

	for (uint32_t i = 0; properties && i < properties->count_props; i++) {
		drmModePropertyRes *property = drmModeGetProperty(fd, properties->props[i]);

		if (property && strcmp(property->name, name) == 0) {
			found = property->prop_id;
		}
		drmModeFreeProperty(property);
	}
	drmModeFreeObjectProperties(properties);
	if (!found) {
		errx(1, "the screen has no property %s", name);
	}
	return found;
}

static uint32_t find_plane(int fd, uint32_t index)
{
	drmModePlaneRes *planes = drmModeGetPlaneResources(fd);
	uint32_t found = 0;

	/* Its primary plane is the first one. */
	for (uint32_t i = 0; planes && i < planes->count_planes && !found; i++) {
		drmModePlane *plane = drmModeGetPlane(fd, planes->planes[i]);

		if (plane && (plane->possible_crtcs & 1u << index)) {
			found = plane->plane_id;
		}
		drmModeFreePlane(plane);
	}
	drmModeFreePlaneResources(planes);
	if (!found) {
		errx(1, "monitor %u has no plane", index);
	}
	return found;
}

static void find_monitor(struct monitor *monitor, uint32_t index)
{
	drmModeRes *resources = drmModeGetResources(monitor->fd);

	if (!resources || resources->count_crtcs <= (int)index ||
		resources->count_connectors <= (int)index) {
		errx(1, "there is no monitor %u", index);
	}
	monitor->crtc = resources->crtcs[index];
	monitor->connector = resources->connectors[index];
	drmModeFreeResources(resources);
	monitor->plane = find_plane(monitor->fd, index);
	monitor->fb_property = find_property(
		monitor->fd, monitor->plane, DRM_MODE_OBJECT_PLANE, "FB_ID");
	monitor->in_fence_property = find_property(
		monitor->fd, monitor->plane, DRM_MODE_OBJECT_PLANE, "IN_FENCE_FD");
	monitor->active_property = find_property(
		monitor->fd, monitor->crtc, DRM_MODE_OBJECT_CRTC, "ACTIVE");
	monitor->out_fence_property = find_property(
		monitor->fd, monitor->crtc, DRM_MODE_OBJECT_CRTC, "OUT_FENCE_PTR");
}

static uint32_t make_fb(int fd, const struct context *context)
{
	uint32_t handles[4] = { 0 }, pitches[4] = { MONITOR_WIDTH * 4 }, offsets[4] = { 0 }, fb;
	int dma_buf, ret;

	if (drmPrimeHandleToFD(context->fd, context->handle, DRM_CLOEXEC, &dma_buf) < 0) {
		err(1, "exporting a buffer");
	}
	if (drmPrimeFDToHandle(fd, dma_buf, &handles[0]) < 0) {
		err(1, "importing a buffer");
	}
	close(dma_buf);
	ret = drmModeAddFB2(fd, MONITOR_WIDTH, MONITOR_HEIGHT, DRM_FORMAT_XRGB8888, handles,
		pitches, offsets, &fb, 0);
	if (ret < 0) {
		errx(1, "ADDFB2: %s", strerror(-ret));
	}
	return fb;
}

/* The buffer's own size: no other would fit. */
static drmModeModeInfo monitor_mode(void)
{
	return (drmModeModeInfo){
		.clock = MONITOR_WIDTH * MONITOR_HEIGHT * 60 / 1000,
		.hdisplay = MONITOR_WIDTH,
		.hsync_start = MONITOR_WIDTH + 1,
		.hsync_end = MONITOR_WIDTH + 2,
		.htotal = MONITOR_WIDTH + 3,
		.vdisplay = MONITOR_HEIGHT,
		.vsync_start = MONITOR_HEIGHT + 1,
		.vsync_end = MONITOR_HEIGHT + 2,
		.vtotal = MONITOR_HEIGHT + 3,
		.vrefresh = 60,
		.type = DRM_MODE_TYPE_USERDEF,
		.name = "flips",
	};
}

int card_open(void)
{
	int fd = card_find();

	if (fd < 0) {
		errx(1, "this virtio-gpu has no screen");
	}
	if (drmSetClientCap(fd, DRM_CLIENT_CAP_ATOMIC, 1) < 0) {
		err(1, "no atomic commits");
	}
	return fd;
}

void monitor_open(struct monitor *monitor, int fd, uint32_t index, bool passing)
{
	drmModeModeInfo mode = monitor_mode();
	int ret;

	monitor->fd = fd;
	find_monitor(monitor, index);
	for (uint32_t i = 0; i < MONITOR_NUM_BUFFERS; i++) {
		context_open(&monitor->contexts[i], 1, passing);
		monitor->fbs[i] = make_fb(fd, &monitor->contexts[i]);
	}
	ret = drmModeSetCrtc(
		fd, monitor->crtc, monitor->fbs[0], 0, 0, &monitor->connector, 1, &mode);
	if (ret < 0) {
		errx(1, "SETCRTC: %s", strerror(-ret));
	}
}

void monitor_close(struct monitor *monitor)
{
	for (uint32_t i = 0; i < MONITOR_NUM_BUFFERS; i++) {
		drmModeRmFB(monitor->fd, monitor->fbs[i]);
		context_close(&monitor->contexts[i]);
		context_unmap(&monitor->contexts[i]);
	}
}

void monitor_add(
	const struct monitor *monitor, drmModeAtomicReq *request, uint32_t buffer, int in_fence_fd)
{
	drmModeAtomicAddProperty(
		request, monitor->plane, monitor->fb_property, monitor->fbs[buffer]);
	drmModeAtomicAddProperty(
		request, monitor->plane, monitor->in_fence_property, (uint64_t)in_fence_fd);
}

static void commit(int fd, drmModeAtomicReq *request, uint32_t flags, void *data)
{
	int ret = drmModeAtomicCommit(fd, request, flags, data);

	if (ret < 0) {
		errx(1, "a commit: %s", strerror(-ret));
	}
	drmModeAtomicFree(request);
}

void card_commit(int fd, drmModeAtomicReq *request, void *data)
{
	commit(fd, request, DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT, data);
}

void card_commit_and_wait(int fd, drmModeAtomicReq *request, uint32_t flags)
{
	commit(fd, request, flags, NULL);
}

void monitor_set_active(const struct monitor *monitor, bool active)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();

	drmModeAtomicAddProperty(request, monitor->crtc, monitor->active_property, active);
	card_commit_and_wait(monitor->fd, request, DRM_MODE_ATOMIC_ALLOW_MODESET);
}

void card_wait(int fd, drmEventContext *context)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	if (poll(&pollfd, 1, RUN_TIMEOUT_MS) != 1) {
		errx(1, "a flip's event is lost");
	}
	drmHandleEvent(fd, context);
}
