/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The virglrenderer plugin beside virglrenderer alone, in one run and in turns: how long a fence
 * takes from the submission to the VMM, and what a submission costs. No in-fences: this is what a
 * VMM pays for the plugin with a guest that does not use it.
 *
 * With ASYNC_FENCE_CB virglrenderer calls back from its own thread, and the VMM's thread has to be
 * woken, since the guest's queue belongs to it: QEMU schedules a bottom half, crosvm writes to an
 * eventfd. The plugin calls back in the VMM's thread. So it is compared with virglrenderer and an
 * eventfd. The time to the callback in virglrenderer's thread is shown, too.
 *
 * The work, a clear of a small texture, is part of both, as there is no way to see when it was
 * done.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "bench.h"
#include "clock.h"
#include "gl_stream.h"

#define MAX_ROUNDS 30
#define WARM_UP 30
#define MAX_JOBS 100

/* virglrenderer cannot be started here. */
#define SKIPPED 77

/* A fence that takes longer is lost. */
#define LIMIT_MS 10000

enum { CTX_ID = 1, TEXTURE = 10, SIDE = 16 };

/* ---- One way to run ----------------------------------------------------------------------- */

struct run;

struct way {
	const char *key, *name;
	bool plugin;
	bool async;          /* callbacks from virglrenderer's thread */
	bool hand_over;      /* which then wakes the VMM's */
	unsigned int period; /* of polling, in milliseconds; 0: by descriptor */
	unsigned int jobs;   /* in a round */
};

static const struct way ways[] = {
	{ "bare_async", "virglrenderer, the VMM's thread told", .async = true, .hand_over = true,
		.jobs = MAX_JOBS },
	{ "plugin_async", "plugin, ASYNC_FENCE_CB", .plugin = true, .async = true,
		.jobs = MAX_JOBS },
	{ "bare_descriptor", "virglrenderer, by descriptor", .jobs = MAX_JOBS },
	{ "plugin_descriptor", "plugin, by descriptor", .plugin = true, .jobs = MAX_JOBS },
	{ "bare_polled", "virglrenderer, polled every 10 ms", .period = 10, .jobs = 10 },
	{ "bare_callback", "virglrenderer, in its own thread", .async = true, .jobs = MAX_JOBS },
};

#define NUM_WAYS (sizeof(ways) / sizeof(ways[0]))

struct result {
	double latency_us[MAX_ROUNDS * MAX_JOBS]; /* round after round */
	unsigned int count;
	double median_us[MAX_ROUNDS];
	double cpu_us; /* of all that were counted */
};

/* What the callbacks see; there is one run at a time. */
struct run {
	const struct way *way;
	struct vgf_virgl *virgl;
	struct virgl_renderer_callbacks callbacks;
	struct gl_stream clear;
	int told_fd;    /* written if a fence comes back in another thread */
	bool came_back; /* if it does in this one */
	uint64_t retired_ns;
};

static double cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Where the process of a way tells what has failed. */
static int errors_fd = STDERR_FILENO;

static void check(int ret, const char *what)
{
	if (ret != 0) {
		dprintf(errors_fd, "vgfence bench: virgl: %s: %s\n", what, strerror(abs(ret)));
		_exit(1);
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
	if (run->way->plugin || !run->way->async) {
		run->came_back = true;
	} else if (eventfd_write(run->told_fd, 1) < 0) {
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
		if (virgl_renderer_init(run, flags, &run->callbacks) != 0) {
			_exit(SKIPPED);
		}
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

static int get_fd(const struct run *run)
{
	if (run->way->plugin) {
		return vgf_virgl_get_poll_fd(run->virgl);
	}
	return run->way->async ? run->told_fd : virgl_renderer_get_poll_fd();
}

static void dispatch(struct run *run)
{
	eventfd_t count;

	if (run->way->plugin) {
		vgf_virgl_poll(run->virgl);
	} else if (!run->way->async) {
		virgl_renderer_poll();
	} else if (eventfd_read(run->told_fd, &count) == 0) {
		run->came_back = true;
	}
}

/* Until the fence is back, as the VMM's loop does it. */
static void wait_for_fence(struct run *run)
{
	struct pollfd fd = { .fd = get_fd(run), .events = POLLIN };
	const struct timespec period = { .tv_nsec = run->way->period * 1000000L };
	int left_ms = LIMIT_MS;

	run->came_back = false;
	while (!run->came_back) {
		if (run->way->period > 0) {
			nanosleep(&period, NULL);
			left_ms -= (int)run->way->period;
		} else if (poll(&fd, 1, left_ms) == 0) {
			left_ms = 0;
		}
		check(left_ms <= 0 ? -ETIMEDOUT : 0, "a fence");
		dispatch(run);
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
		uint64_t begin;

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

/* What virglrenderer and GL say of themselves. */
static void mute(void)
{
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null_fd >= 0) {
		errors_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
		dup2(null_fd, STDOUT_FILENO);
		dup2(null_fd, STDERR_FILENO);
	}
}

/* In a process of its own: virglrenderer 0.10.4 calls back from its thread for good if it ever did.
 * Returns 0; 1 if virglrenderer does not start; a negative errno value, which has been told. */
static int run_way(const struct way *way, struct result *result)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		mute();
		measure(way, result);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0) {
		return bench_error(-errno, way->name);
	}
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "vgfence bench: %s: %s\n", way->name, strsignal(WTERMSIG(status)));
		return -EIO;
	}
	if (WEXITSTATUS(status) == SKIPPED) {
		return 1;
	}
	return WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* ---- The table ---------------------------------------------------------------------------- */

static int run_round(struct result *results, unsigned int round)
{
	for (size_t i = 0; i < NUM_WAYS; i++) {
		struct result *result = &results[i];
		unsigned int first = result->count;
		int status = run_way(&ways[i], result);
		if (status != 0) {
			return status;
		}
		result->median_us[round] = bench_percentile(
			&result->latency_us[first], result->count - first, 50);
	}
	return 0;
}

/* Other work on the machine changes from round to round, and hits neighbours alike. So there is a
 * ratio for each round, and their median counts. */
static double median_ratio(const struct result *results, size_t way, unsigned int rounds)
{
	/* By descriptor, and with callbacks from virglrenderer's thread. */
	const struct result *bare = &results[strstr(ways[way].key, "descriptor") ? 2 : 0];
	double ratios[MAX_ROUNDS];

	for (unsigned int round = 0; round < rounds; round++) {
		ratios[round] = results[way].median_us[round] / bare->median_us[round];
	}
	return bench_percentile(ratios, rounds, 50);
}

static void show_way(
	struct result *results, size_t way, unsigned int rounds, struct json_object *array)
{
	struct result *result = &results[way];
	double ratio = median_ratio(results, way, rounds);
	double cpu = result->cpu_us / result->count;
	double p50 = bench_percentile(result->latency_us, result->count, 50);
	double p99 = bench_percentile(result->latency_us, result->count, 99);
	struct json_object *object;

	if (!array) {
		printf("%-42s %9.1f %9.1f %8.2fx %11.1f\n", ways[way].name, p50, p99, ratio, cpu);
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "name", json_object_new_string(ways[way].key));
	json_object_object_add(object, "p50_us", bench_number(p50));
	json_object_object_add(object, "p99_us", bench_number(p99));
	json_object_object_add(object, "of_bare", bench_number(ratio));
	json_object_object_add(object, "cpu_us", bench_number(cpu));
	json_object_array_add(array, object);
}

static void show(struct result *results, unsigned int rounds, struct json_object *array)
{
	if (!array) {
		printf("%-42s %9s %9s %9s %11s\n", "from submission to VMM, in us", "p50", "p99",
			"of bare", "CPU/submit");
	}
	for (size_t way = 0; way < NUM_WAYS; way++) {
		show_way(results, way, rounds, array);
	}
	if (!array) {
		puts("of bare: to virglrenderer by descriptor, or to it with the VMM's thread "
		     "told;\n"
		     "the median of the ratios of each round");
	}
}

int bench_virgl(unsigned int rounds, struct json_object *array)
{
	size_t size = NUM_WAYS * sizeof(struct result);
	struct result *results = mmap(
		NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ret = 0;

	rounds = bench_rounds(rounds, MAX_ROUNDS);
	if (results == MAP_FAILED) {
		return bench_error(-errno, "mmap");
	}
	for (unsigned int round = 0; round < rounds && ret == 0; round++) {
		bench_progress("virgl", round, rounds);
		ret = run_round(results, round);
	}
	bench_progress("virgl", rounds, rounds);
	if (ret == 0) {
		show(results, rounds, array);
	} else if (ret > 0) {
		fprintf(stderr, "vgfence bench: virgl: skipped, as virglrenderer does not start\n");
	}
	munmap(results, size);
	return ret < 0 ? ret : 0;
}
