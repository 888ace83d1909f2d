/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Flips pages on the first monitor until a line arrives, each a frame of one color that is not
 * black: what shows two colors at once, or black, is no frame of this guest's. It is linked
 * statically, for an initramfs.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <drm.h>
#include <drm_mode.h>
#include <virtgpu_drm.h>

struct buffer {
	uint32_t handle, fb;
	uint32_t *pixels;
	size_t count;
};

static int card;

static void check(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "flip: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

/* The first connector that is connected, with its first mode. Returns its encoder's CRTCs. */
static uint32_t find_monitor(
	uint32_t *connectors, uint32_t count, uint32_t *connector, struct drm_mode_modeinfo *mode)
{
	struct drm_mode_modeinfo modes[128];

	for (uint32_t i = 0; i < count; i++) {
		struct drm_mode_get_connector get = { .connector_id = connectors[i] };
		struct drm_mode_get_encoder encoder = { 0 };
		uint32_t encoders[16];

		check(ioctl(card, DRM_IOCTL_MODE_GETCONNECTOR, &get) == 0, "GETCONNECTOR");
		if (get.connection != 1 || get.count_modes == 0 || get.count_modes > 128 ||
			get.count_encoders == 0 || get.count_encoders > 16) {
			continue;
		}
		get.count_props = 0;
		get.modes_ptr = (uintptr_t)modes;
		get.encoders_ptr = (uintptr_t)encoders;
		check(ioctl(card, DRM_IOCTL_MODE_GETCONNECTOR, &get) == 0, "GETCONNECTOR");
		encoder.encoder_id = encoders[0];
		check(ioctl(card, DRM_IOCTL_MODE_GETENCODER, &encoder) == 0, "GETENCODER");
		*connector = connectors[i];
		*mode = modes[0];
		return encoder.possible_crtcs;
	}
	check(false, "no monitor");
	return 0;
}

static struct buffer create_buffer(uint32_t width, uint32_t height)
{
	struct drm_mode_create_dumb create = { .width = width, .height = height, .bpp = 32 };
	struct drm_mode_fb_cmd fb = { .width = width, .height = height, .bpp = 32, .depth = 24 };
	struct drm_mode_map_dumb map = { 0 };
	struct buffer buffer = { 0 };

	check(ioctl(card, DRM_IOCTL_MODE_CREATE_DUMB, &create) == 0, "CREATE_DUMB");
	fb.handle = map.handle = buffer.handle = create.handle;
	fb.pitch = create.pitch;
	check(ioctl(card, DRM_IOCTL_MODE_ADDFB, &fb) == 0, "ADDFB");
	check(ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, &map) == 0, "MAP_DUMB");
	buffer.fb = fb.fb_id;
	buffer.count = create.size / 4;
	buffer.pixels = mmap(
		NULL, create.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
	check(buffer.pixels != MAP_FAILED, "mmap");
	return buffer;
}

static void fill(struct buffer *buffer, uint32_t color)
{
	for (size_t i = 0; i < buffer->count; i++) {
		buffer->pixels[i] = color;
	}
}

/* Until the device has done all that was sent before, however long it takes: the driver itself
 * waits 50 ms for a flip. */
static void sync_device(const struct buffer *buffer)
{
	struct drm_virtgpu_3d_transfer_to_host transfer = {
		.bo_handle = buffer->handle,
		.box = { .w = 1, .h = 1, .d = 1 },
	};
	struct drm_virtgpu_3d_wait wait = { .handle = buffer->handle };
	int ret;

	check(ioctl(card, DRM_IOCTL_VIRTGPU_TRANSFER_TO_HOST, &transfer) == 0, "TRANSFER_TO_HOST");
	do {
		ret = ioctl(card, DRM_IOCTL_VIRTGPU_WAIT, &wait);
	} while (ret < 0 && (errno == EBUSY || errno == EINTR));
	check(ret == 0, "WAIT");
}

static void flip(uint32_t crtc, const struct buffer *buffer)
{
	struct drm_mode_crtc_page_flip request = {
		.crtc_id = crtc,
		.fb_id = buffer->fb,
		.flags = DRM_MODE_PAGE_FLIP_EVENT,
	};
	char event[256];

	check(ioctl(card, DRM_IOCTL_MODE_PAGE_FLIP, &request) == 0, "PAGE_FLIP");
	check(read(card, event, sizeof(event)) > 0, "the flip's event");
	sync_device(buffer);
}

static bool goes_on(void)
{
	struct pollfd poll_fd = { .fd = STDIN_FILENO, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 0;
}

int main(void)
{
	static const uint32_t colors[] = { 0x2040c0, 0xe0e0e0, 0xc02040, 0x40c020, 0xf0c010 };
	uint32_t crtcs[16], connectors[16], crtc = 0, connector, possible;
	struct drm_mode_card_res res = { 0 };
	struct drm_mode_crtc set = { .mode_valid = 1, .count_connectors = 1 };
	struct buffer buffers[2];
	uint32_t frame = 0;

	card = open("/dev/dri/card0", O_RDWR);
	check(card >= 0, "/dev/dri/card0");
	check(ioctl(card, DRM_IOCTL_MODE_GETRESOURCES, &res) == 0, "GETRESOURCES");
	check(res.count_crtcs <= 16 && res.count_connectors <= 16, "so many monitors");
	res.count_fbs = res.count_encoders = 0;
	res.crtc_id_ptr = (uintptr_t)crtcs;
	res.connector_id_ptr = (uintptr_t)connectors;
	check(ioctl(card, DRM_IOCTL_MODE_GETRESOURCES, &res) == 0, "GETRESOURCES");
	possible = find_monitor(connectors, res.count_connectors, &connector, &set.mode);
	while (crtc < res.count_crtcs - 1 && !(possible & 1u << crtc)) {
		crtc++;
	}
	for (int i = 0; i < 2; i++) {
		buffers[i] = create_buffer(set.mode.hdisplay, set.mode.vdisplay);
		fill(&buffers[i], colors[0]);
	}
	set.crtc_id = crtcs[crtc];
	set.fb_id = buffers[0].fb;
	set.set_connectors_ptr = (uintptr_t)&connector;
	check(ioctl(card, DRM_IOCTL_MODE_SETCRTC, &set) == 0, "SETCRTC");
	sync_device(&buffers[0]);
	printf("size %u,%u\nflips now\n", set.mode.hdisplay, set.mode.vdisplay);
	fflush(stdout);
	while (goes_on()) {
		struct buffer *next = &buffers[++frame % 2];

		fill(next, colors[frame % 5]);
		flip(set.crtc_id, next);
	}
	printf("frames %u\n", frame);
	return 0;
}
