/* SPDX-License-Identifier: MIT */
/* A context driver in 60 lines: its GPU takes a millisecond for each job. */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/context_driver.h>

/*
 * Here a job is a timer: its descriptor is readable once the job is done, as a sync file of the
 * kernel is. A driver of a GPU hands the command stream to the kernel, which makes the sync file.
 */
static int start_job(int *out_fence_fd)
{
	const struct itimerspec end = { .it_value.tv_nsec = 1000000 };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0) {
		return -errno;
	}
	if (timerfd_settime(fd, 0, &end, NULL) < 0) {
		int error = -errno;
		close(fd); /* vgfence takes it only from a job that runs */
		return error;
	}
	*out_fence_fd = fd;
	return 0;
}

/*
 * VGF_WAIT_HOST: the job comes when its in-fences have retired. With VGF_WAIT_DRIVER it would come
 * at once, with job->in_fences to hand to the kernel: a driver that cannot take one of them returns
 * -EOPNOTSUPP, and gets the job again without them.
 */
static int submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	printf("context %s: fence %d runs, %zu bytes\n", (const char *)data,
		(int)job->fence.fence_id, job->size);
	return start_job(out_fence_fd);
}

/* No job follows. If it is cancelled, nobody is interested in those that run. */
static void destroy(void *data, bool cancelled)
{
	printf("context %s is gone%s\n", (const char *)data, cancelled ? ", given up" : "");
}

extern const struct vgf_driver driver;

const struct vgf_driver driver = {
	.size = sizeof(driver),
	.wait = VGF_WAIT_HOST,
	.independent_rings = true,
	.submit = submit,
	.destroy = destroy,
};
