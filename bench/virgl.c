/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The virglrenderer plugin beside virglrenderer alone, in one run and in turns: how long a fence
 * takes from the submission to the VMM, and what a submission costs. No in-fences: what a VMM pays
 * for the plugin where a guest does without it.
 *
 * The work, a clear of a small texture, is part of both, as nothing tells when it was done.
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "gl_stream.h"

#define ROUNDS 5
#define WARM_UP 50
#define MAX_JOBS 500

enum { CTX_ID = 1, TEXTURE = 10, SIDE = 16 };

/* ---- One way to run ----------------------------------------------------------------------- */

struct run;

struct way {
	const char *name;
	bool plugin;
	bool async;          /* callbacks from virglrenderer's thread */
	bool hand_over;      /* which then tells the VMM's thread, where the guest is answered */
	unsigned int period; /* of polling, in milliseconds; 0: by descriptor */
	unsigned int jobs;   /* in a round */
};

static const struct way ways[] = {
	{ "virglrenderer alone, its thread answers", .async = true, .jobs = 500 },
	{ "virglrenderer alone, told to the VMM's", .async = true, .hand_over = true, .jobs = 500 },
	{ "virglrenderer alone, by descriptor", .jobs = 500 },
	{ "virglrenderer alone, asked every 10 ms", .period = 10, .jobs = 50 },
	{ "plugin, ASYNC_FENCE_CB", .plugin = true, .async = true, .jobs = 500 },
	{ "plugin, by descriptor", .plugin = true, .jobs = 500 },
};

#define NUM_WAYS (sizeof(ways) / sizeof(ways[0]))

struct result {
	double latency_us[ROUNDS * MAX_JOBS];
	unsigned int count;
	double cpu_us; /* of all that were counted */
};

/* What the callbacks see; there is one run at a time. */
struct run {
	const struct way *way;
	struct vgf_virgl *virgl;
	struct virgl_renderer_callbacks callbacks;
	struct gl_stream clear;
	int told_fd; /* written once a fence has come back */
	int64_t retired_ns;
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void check(int ret, const char *what)
{
	if (ret != 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(abs(ret)));
		_exit(77); /* no GL here: skipped */
	}
}

/* ---- The VMM ------------------------------------------------------------------------------ */

static void write_fence(void *cookie, uint32_t fence)
{
	(void)cookie;
	(void)fence;
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	struct run *run = cookie;

	(void)ctx_id;
	(void)ring_idx;
	(void)fence_id;
	run->retired_ns = now_ns();
	if (eventfd_write(run->told_fd, 1) < 0) {
		abort();
	}
}

static void start(struct run *run)
{
	int flags = VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS |
		VIRGL_RENDERER_THREAD_SYNC;

	flags |= run->way->async ? VIRGL_RENDERER_ASYNC_FENCE_CB : 0;
	run->callbacks = (struct virgl_renderer_callbacks){
		.version = 3,
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
	};
	run->told_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (run->way->plugin) {
		check(vgf_virgl_init(run, flags, &run->callbacks, NULL, &run->virgl), "init");
		check(vgf_virgl_context_create(run->virgl, CTX_ID, 5, "bench"), "context");
	} else {
		check(virgl_renderer_init(run, flags, &run->callbacks), "init");
		check(virgl_renderer_context_create(CTX_ID, 5, "bench"), "context");
	}
}

static void stop(struct run *run)
{
	if (run->way->plugin) {
		vgf_virgl_cleanup(run->virgl);
	} else {
		virgl_renderer_cleanup(run);
	}
	close(run->told_fd);
}

static void create_texture(struct run *run)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = TEXTURE,
		.target = 2, /* PIPE_TEXTURE_2D */
		.format = GL_STREAM_FORMAT,
		.bind = VIRGL_RES_BIND_RENDER_TARGET,
		.width = SIDE,
		.height = SIDE,
		.depth = 1,
		.array_size = 1,
	};
	struct gl_stream setup;

	check(virgl_renderer_resource_create(&args, NULL, 0), "texture");
	gl_stream_begin(&setup);
	gl_stream_create_surface(&setup, 1, TEXTURE);
	gl_stream_set_framebuffer(&setup, 1);
	if (run->way->plugin) {
		check(vgf_virgl_ctx_attach_resource(run->virgl, CTX_ID, TEXTURE), "attach");
		check(vgf_virgl_submit_cmd(run->virgl, setup.words, CTX_ID, (int)setup.count),
			"setup");
	} else {
		virgl_renderer_ctx_attach_resource(CTX_ID, TEXTURE);
		check(virgl_renderer_submit_cmd(setup.words, CTX_ID, (int)setup.count), "setup");
	}
}

static void submit(struct run *run, uint64_t fence_id)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = CTX_ID, .ring = 0 },
		.flags = VGF_FENCED,
		.command = run->clear.words,
		.size = run->clear.count * 4,
	};

	if (run->way->plugin) {
		check(vgf_virgl_submit(run->virgl, &submission, NULL), "submit");
		return;
	}
	check(virgl_renderer_submit_cmd(run->clear.words, CTX_ID, (int)run->clear.count), "submit");
	check(virgl_renderer_context_create_fence(CTX_ID, 0, 0, fence_id), "fence");
}

/* Until the fence is back, as the VMM's loop does it. */
static void wait_for_fence(struct run *run)
{
	struct pollfd fd = { .fd = run->told_fd, .events = POLLIN };
	const struct timespec period = { .tv_nsec = run->way->period * 1000000L };
	eventfd_t count;

	if (run->way->plugin) {
		fd.fd = vgf_virgl_get_poll_fd(run->virgl);
	} else if (!run->way->async) {
		fd.fd = virgl_renderer_get_poll_fd();
	}
	while (eventfd_read(run->told_fd, &count) < 0) {
		if (run->way->period > 0) {
			nanosleep(&period, NULL);
		} else {
			poll(&fd, 1, -1);
		}
		if (run->way->plugin) {
			vgf_virgl_poll(run->virgl);
		} else if (!run->way->async) {
			virgl_renderer_poll();
		}
	}
	if (run->way->hand_over) {
		run->retired_ns = now_ns();
	}
}

static void measure(const struct way *way, struct result *result)
{
	struct run run = { .way = way };
	double before = 0;

	start(&run);
	create_texture(&run);
	gl_stream_begin(&run.clear);
	gl_stream_clear(&run.clear, PIXEL(0, 255, 0, 255));
	for (unsigned int i = 0; i < WARM_UP + way->jobs; i++) {
		int64_t begin;
		if (i == WARM_UP) {
			before = cpu_us();
		}
		begin = now_ns();
		submit(&run, i + 1);
		wait_for_fence(&run);
		if (i >= WARM_UP) {
			result->latency_us[result->count++] = (double)(run.retired_ns - begin) /
				1000;
		}
	}
	result->cpu_us += cpu_us() - before;
	stop(&run);
}

/* In a process of its own: virglrenderer 0.10.4 calls back from its thread for good if it ever did.
 * Returns the process's exit status. */
static int run_way(const struct way *way, struct result *result)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		measure(way, result);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status)) {
		return 1;
	}
	return WEXITSTATUS(status);
}

/* ---- The table ---------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(const struct result *result, unsigned int percent)
{
	return result->latency_us[(size_t)result->count * percent / 100];
}

int main(void)
{
	struct result *results = mmap(NULL, NUM_WAYS * sizeof(*results), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (results == MAP_FAILED) {
		return 1;
	}
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < NUM_WAYS; i++) {
			int status = run_way(&ways[i], &results[i]);
			if (status != 0) {
				return status;
			}
		}
	}
	printf("%-42s %10s %10s %7s %12s\n", "submission to VMM, in us", "p50", "p99", "ratio",
		"CPU/submit");
	for (size_t i = 0; i < NUM_WAYS; i++) {
		struct result *result = &results[i];
		qsort(result->latency_us, result->count, sizeof(double), compare);
		printf("%-42s %10.1f %10.1f %7.2f %12.1f\n", ways[i].name, percentile(result, 50),
			percentile(result, 99),
			percentile(result, 50) / percentile(&results[1], 50),
			result->cpu_us / result->count);
	}
	printf("ratio: p50 to that of virglrenderer alone where the VMM's thread answers the "
	       "guest\n");
	return 0;
}
