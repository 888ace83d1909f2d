/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The driver lets go of a device that works, while a flip waits for a frame. Nobody answers any
 * more, and nothing may wait for that: not who waits for the frame, or for the flip.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "monitor.h"
#include "run.h"
#include "workloads.h"

#define BUSY_US (600 * 1000000u) /* longer than anybody waits */

struct flip {
	int frame_fd; /* of the job that draws it */
	int out_fd;   /* of the commit */
};

static void flip(struct monitor *monitor, uint32_t busy_us, struct flip *flip)
{
	const struct context_job job = { .busy_us = busy_us, .in_fence_fd = -1 };
	drmModeAtomicReq *request = drmModeAtomicAlloc();

	flip->out_fd = -1;
	context_submit(&monitor->contexts[1], &job, &flip->frame_fd);
	monitor_add(monitor, request, 1, flip->frame_fd);
	drmModeAtomicAddProperty(request, monitor->crtc, monitor->out_fence_property,
		(uint64_t)(uintptr_t)&flip->out_fd);
	card_commit(monitor->fd, request, NULL);
}

static void expect_end(const struct monitor *monitor, struct flip *flip, int status)
{
	drmEventContext context = { .version = 2 };

	if (!wait_fence(flip->frame_fd, RUN_TIMEOUT_MS) ||
		!wait_fence(flip->out_fd, RUN_TIMEOUT_MS)) {
		errx(1, "the fence of a frame, or of its flip, is lost");
	}
	if (fence_status(flip->frame_fd) != status) {
		errx(1, "the fence of a frame has status %d", fence_status(flip->frame_fd));
	}
	card_wait(monitor->fd, &context);
	close(flip->frame_fd);
	close(flip->out_fd);
}

/* ---- The driver ----------------------------------------------------------------------------- */

#define DRIVER "/sys/bus/virtio/drivers/virtio_gpu/"

/* The name of the card's device on the bus, as in "virtio0". */
static void find_name(int fd, char name[NAME_MAX])
{
	char pattern[64];
	struct stat status;
	glob_t found;

	if (fstat(fd, &status) < 0) {
		err(1, "fstat");
	}
	snprintf(pattern, sizeof(pattern), "/sys/dev/char/%u:%u/device/virtio[0-9]*",
		major(status.st_rdev), minor(status.st_rdev));
	if (glob(pattern, 0, NULL, &found) != 0) {
		errx(1, "%s: nothing is there", pattern);
	}
	snprintf(name, NAME_MAX, "%s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
}

static void tell_driver(const char *file, const char *name)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, name, strlen(name)) != (ssize_t)strlen(name)) {
		err(1, "%s", file);
	}
	close(fd);
}

void unbind_driver(bool passing)
{
	struct monitor monitor;
	char name[NAME_MAX];
	struct flip pending;

	monitor_open(&monitor, card_open(), 0, passing);
	find_name(monitor.fd, name);
	flip(&monitor, BUSY_US, &pending);
	if (wait_fence(pending.out_fd, 0)) {
		errx(1, "a flip is over before its frame is there");
	}
	tell_driver(DRIVER "unbind", name);
	expect_end(&monitor, &pending, -ENODEV);
	monitor_close(&monitor);
	close(monitor.fd);
	puts("the fences and the event of a device that is gone have come");

	tell_driver(DRIVER "bind", name);
	monitor_open(&monitor, card_open(), 0, passing);
	flip(&monitor, 0, &pending);
	expect_end(&monitor, &pending, 1);
	monitor_close(&monitor);
	close(monitor.fd);
	puts("the device works again");
}
