/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "drm_gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xf86drm.h>

#include "support.h"

/* Not a real GPU, for which these commands are garbage. */
static bool is_gpu(int fd, const char *face)
{
	drmVersionPtr version = drmGetVersion(fd);
	bool is = version && strcmp(version->name, face) == 0 &&
		strstr(version->desc, "made of software");

	drmFreeVersion(version);
	return is;
}

int open_drm_gpu(const char *face)
{
	for (int minor = 128; minor < 192; minor++) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/renderD%d", minor);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && is_gpu(fd, face)) {
			return fd;
		}
		if (fd >= 0) {
			close(fd);
		}
	}
	return -ENOENT;
}

int need_drm_gpu(const char *face)
{
	const char *host = getenv("VGFENCE_VM");
	int fd = open_drm_gpu(face);

	if (fd < 0) {
		/* Such a virtual host has the driver, so here it does not work. */
		assert_false(host && strcmp(host, "qemu") == 0);
		print_message(
			"skipped: no %s of tests/drm in /dev/dri here; `./run vm --kind qemu` "
			"runs this where there is one\n",
			face);
		skip();
	}
	return fd;
}
