/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A VMM that knows nothing of vgfence: it is linked to virglrenderer alone. It waits for a fence of
 * a context, resets virglrenderer as a guest's restart does, and waits for a fence of a new one. It
 * prints which of the two came back within the time given.
 *
 * usage: reset_client MILLISECONDS
 */

#include <err.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#define FLAGS                                                                                      \
	(VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS | VIRGL_RENDERER_THREAD_SYNC |    \
		VIRGL_RENDERER_ASYNC_FENCE_CB)

enum { CTX_ID = 1 };

static _Atomic uint64_t last;

static void write_fence(void *cookie, uint32_t fence)
{
	(void)cookie;
	(void)fence;
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	(void)cookie;
	(void)ctx_id;
	(void)ring_idx;
	last = fence_id;
}

static bool comes_back(uint64_t fence_id, long limit_ms)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	if (virgl_renderer_context_create(CTX_ID, 4, "test") != 0 ||
		virgl_renderer_context_create_fence(CTX_ID, 0, 0, fence_id) != 0) {
		errx(1, "no context, or no fence in it");
	}
	for (long i = 0; last != fence_id && i < limit_ms; i++) {
		nanosleep(&ms, NULL);
	}
	return last == fence_id;
}

int main(int argc, char **argv)
{
	static struct virgl_renderer_callbacks callbacks = {
		.version = 3,
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
	};
	long limit_ms = argc == 2 ? strtol(argv[1], NULL, 10) : 0;

	if (limit_ms <= 0) {
		errx(2, "usage: reset_client MILLISECONDS");
	}
	if (virgl_renderer_init(&callbacks, FLAGS, &callbacks) != 0) {
		errx(77, "virglrenderer does not start");
	}
	printf("before a reset: %s\n", comes_back(1, limit_ms) ? "yes" : "no");
	fflush(stdout);
	virgl_renderer_reset();
	printf("after it: %s\n", comes_back(2, limit_ms) ? "yes" : "no");
	fflush(stdout);
	_Exit(0); /* what ends a thread that is not there hangs in some versions */
}
