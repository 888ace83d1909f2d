/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench latency: how long a frame takes.
 *
 * First from the guest's commit to the screen, which the compositor says by its own clock, behind a
 * job that draws it: if the guest waits for the job before it flushes, and if the flush follows at
 * once, so that the compositor has the job's fence. The guest is told of the job by a function call
 * here; a real one takes a way through its kernel, and more time.
 *
 * Then from a flush to its answer: of a monitor alone; beside another one that takes long to show
 * its frames; and with its fences behind those of the other, on one timeline, as Linux has them.
 * The slow monitor is a double. The fast one is a window, or a double if there is no compositor.
 *
 * All of them take turns, so that other work on the machine hits all alike.
 */

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bench.h"
#include "clock.h"
#include "display_wayland.h"
#include "guest.h"
#include "vgem.h"

#define MAX_ROUNDS 100
/* In a row, before the next way has its turn. */
#define FRAMES_OF_ROUND 4
#define MAX_FRAMES ((size_t)MAX_ROUNDS * FRAMES_OF_ROUND)
/* The least that a monitor can be: it is not the picture that is measured. */
#define WIDTH GPU_MIN_WIDTH
#define HEIGHT GPU_MIN_HEIGHT
#define GIVE_UP_MS 10000

#define FAST 0 /* a scanout, which has two pictures in turns */
#define SLOW 1
#define SLOW_PICTURE 3
#define SLOW_NS (25 * NS_PER_MS)
#define DOUBLE_NS NS_PER_MS

static const uint32_t jobs_us[] = { 100, 1000, 5000 };

#define NUM_JOBS (sizeof(jobs_us) / sizeof(jobs_us[0]))
#define NUM_ROWS (2 * NUM_JOBS)

enum beside {
	ALONE,
	BESIDE,
	BEHIND,
	NUM_BESIDES,
};

static const struct {
	const char *name, *text;
} besides[NUM_BESIDES] = {
	[ALONE] = { "alone", "alone" },
	[BESIDE] = { "beside", "beside a monitor that takes 25 ms a frame" },
	[BEHIND] = { "behind", "the same, both on one timeline" },
};

struct samples {
	double us[MAX_FRAMES];
	size_t count;
};

/* A frame that the bench shows itself, in a while. */
struct shown_later {
	uint64_t frame, end_ns; /* 0: none */
};

struct bench {
	struct bench_guest guest;        /* the first member: callbacks of it have this as cookie */
	struct display_wayland *wayland; /* or NULL */
	bool has_sync_files;
	struct shown_later later[2]; /* by scanout */
	uint64_t last_frame;         /* of the fast monitor */
	uint64_t presented_frame, presented_ns;
	uint32_t picture;

	bool keeps_slow; /* the slow monitor always has a frame that it is to show */
	bool is_slow;    /* it has one */
	uint32_t slow_token;

	unsigned int num_rounds;
	struct samples committed[NUM_ROWS]; /* by job: that the guest waits for, and passed */
	struct samples flushed[NUM_BESIDES];
};

/* ---- The monitors ---------------------------------------------------------------------------- */

static void note_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	if (level <= VGF_LOG_WARNING) {
		fprintf(stderr, "vgfence bench: latency: %s\n", message);
	}
}

static void scanout_changed(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	struct bench *bench = cookie;

	if (scanout == FAST && bench->wayland != NULL) {
		display_wayland_set_scanout(bench->wayland, scanout, width, height);
	}
}

static bool scanout_flushed(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	struct bench *bench = cookie;
	uint64_t takes_ns = scanout == SLOW ? SLOW_NS : DOUBLE_NS;

	if (scanout == FAST) {
		bench->last_frame = frame;
		if (bench->wayland != NULL) {
			return display_wayland_update(bench->wayland, scanout, rect, frame);
		}
	}
	bench->later[scanout] = (struct shown_later){ frame, now_ns() + takes_ns };
	return true;
}

static bool scanout_offered(void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect,
	uint64_t frame, const struct gpu_buffer *buffer)
{
	struct bench *bench = cookie;

	if (scanout != FAST || bench->wayland == NULL ||
		!display_wayland_offer_take(bench->wayland, scanout, rect, frame, buffer)) {
		return false;
	}
	bench->last_frame = frame;
	return true;
}

static void buffer_leaving(void *cookie, uint64_t key)
{
	struct bench *bench = cookie;

	if (bench->wayland != NULL) {
		display_wayland_buffer_leaving(bench->wayland, key);
	}
}

static void presented(void *cookie, uint32_t scanout, uint64_t frame, uint64_t time_ns)
{
	struct bench *bench = cookie;

	(void)scanout;
	bench->presented_frame = frame;
	bench->presented_ns = time_ns;
}

static void open_wayland(struct bench *bench)
{
	static const struct display_wayland_ops ops = {
		.read = bench_guest_read,
		.get_buffer = bench_guest_get_buffer,
		.release = bench_guest_release,
		.shown = bench_guest_shown,
		.presented = presented,
	};

	display_wayland_create(NULL, &ops, bench, &bench->wayland);
}

/* ---- The loop -------------------------------------------------------------------------------- */

static void show_later(struct bench *bench, uint32_t scanout, uint64_t now)
{
	struct shown_later *later = &bench->later[scanout];

	if (later->end_ns != 0 && later->end_ns <= now) {
		later->end_ns = 0;
		gpu_tell_shown(bench->guest.gpu, scanout, later->frame);
	}
}

static void keep_slow(struct bench *bench)
{
	bench->is_slow = bench->is_slow &&
		bench_guest_result(&bench->guest, bench->slow_token) == -EINPROGRESS;
	if (bench->keeps_slow && !bench->is_slow) {
		bench->slow_token = bench_guest_flush(
			&bench->guest, SLOW_PICTURE, BENCH_GUEST_GLOBAL);
		bench->is_slow = true;
	}
}

static int run(struct bench *bench)
{
	int ret = 0;

	gpu_dispatch(bench->guest.gpu);
	if (bench->wayland != NULL) {
		ret = display_wayland_dispatch(bench->wayland);
	}
	show_later(bench, FAST, now_ns());
	show_later(bench, SLOW, now_ns());
	keep_slow(bench);
	return ret;
}

static void wait_for_work(struct bench *bench)
{
	struct pollfd fds[2] = { { .fd = gpu_get_fd(bench->guest.gpu), .events = POLLIN },
		{ .fd = -1, .events = POLLIN } };
	int timeout_ms = gpu_timeout(bench->guest.gpu, 1000);
	uint64_t end_ns = now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
	struct timespec timeout;

	if (bench->wayland != NULL) {
		fds[1].fd = display_wayland_get_fd(bench->wayland);
		display_wayland_flush(bench->wayland);
	}
	for (int i = 0; i < 2; i++) {
		uint64_t at_ns = bench->later[i].end_ns;

		end_ns = at_ns != 0 && at_ns < end_ns ? at_ns : end_ns;
	}
	timeout = time_until(end_ns);
	ppoll(fds, 2, &timeout, NULL);
}

static int wait_for(struct bench *bench, uint32_t token)
{
	uint64_t end_ns = now_ns() + GIVE_UP_MS * NS_PER_MS;
	int ret = bench_guest_result(&bench->guest, token);

	while (ret == -EINPROGRESS) {
		wait_for_work(bench);
		ret = run(bench);
		if (ret == 0) {
			ret = bench_guest_result(&bench->guest, token);
		}
		if (ret == -EINPROGRESS && now_ns() > end_ns) {
			ret = -ETIMEDOUT;
		}
	}
	return ret;
}

/* ---- From the commit to the screen ----------------------------------------------------------- */

static void add(struct samples *samples, uint64_t ns)
{
	if (samples->count < MAX_FRAMES) {
		samples->us[samples->count++] = (double)ns / NS_PER_US;
	}
}

static uint64_t num_offered(const struct bench *bench)
{
	struct gpu_stats stats;

	gpu_get_stats(bench->guest.gpu, &stats);
	return stats.flushes_offered;
}

static int show_next(struct bench *bench)
{
	bench->picture = bench->picture == 1 ? 2 : 1;
	return bench_guest_show(&bench->guest, FAST, bench->picture);
}

/* One that was not given as it should be, or not shown, is not counted. */
static int commit_frame(struct bench *bench, uint32_t job_us, bool passes, struct samples *samples)
{
	uint64_t offered = num_offered(bench) + passes, start_ns;
	uint32_t drawn, flushed;
	int ret = show_next(bench);

	if (ret < 0) {
		return ret;
	}
	drawn = bench_guest_submit(&bench->guest, job_us);
	start_ns = now_ns();
	ret = passes ? 0 : wait_for(bench, drawn);
	if (ret == 0) {
		flushed = bench_guest_flush(&bench->guest, bench->picture, BENCH_GUEST_GLOBAL);
		ret = wait_for(bench, flushed);
	}
	if (ret == 0) {
		ret = wait_for(bench, drawn);
	}
	if (ret == 0 && num_offered(bench) == offered &&
		bench->presented_frame == bench->last_frame) {
		add(samples, bench->presented_ns - start_ns);
	}
	return ret;
}

static int commit_frames(struct bench *bench)
{
	int ret = 0;

	for (size_t i = 0; i < NUM_ROWS * FRAMES_OF_ROUND && ret == 0; i++) {
		size_t row = i / FRAMES_OF_ROUND;

		ret = commit_frame(bench, jobs_us[row / 2], row % 2, &bench->committed[row]);
	}
	return ret;
}

/* ---- From a flush to its answer -------------------------------------------------------------- */

static int flush_frame(struct bench *bench, int timeline, struct samples *samples)
{
	uint64_t start_ns;
	int ret = show_next(bench);

	if (ret == 0) {
		start_ns = now_ns();
		ret = wait_for(bench, bench_guest_flush(&bench->guest, bench->picture, timeline));
		add(samples, now_ns() - start_ns);
	}
	return ret;
}

static int flush_frames(struct bench *bench, enum beside beside)
{
	int timeline = beside == BEHIND ? BENCH_GUEST_GLOBAL : 1;
	int ret = 0;

	bench->keeps_slow = beside != ALONE;
	keep_slow(bench);
	if (beside == ALONE && bench->is_slow) {
		ret = wait_for(bench, bench->slow_token);
	}
	for (int i = 0; i < FRAMES_OF_ROUND && ret == 0; i++) {
		ret = flush_frame(bench, timeline, &bench->flushed[beside]);
	}
	bench->keeps_slow = false;
	return ret;
}

/* ---- Measuring ------------------------------------------------------------------------------- */

static int measure_round(struct bench *bench)
{
	int ret = 0;

	if (bench->wayland != NULL && bench->has_sync_files) {
		ret = commit_frames(bench);
	}
	for (int beside = 0; beside < NUM_BESIDES && ret == 0; beside++) {
		ret = flush_frames(bench, (enum beside)beside);
	}
	return ret;
}

static void forget(struct bench *bench)
{
	for (size_t i = 0; i < NUM_ROWS; i++) {
		bench->committed[i].count = 0;
	}
	for (size_t i = 0; i < NUM_BESIDES; i++) {
		bench->flushed[i].count = 0;
	}
}

/* In the first round a compositor gets to know its buffers. */
static int measure(struct bench *bench)
{
	int ret = measure_round(bench);

	forget(bench);
	for (unsigned int i = 0; i < bench->num_rounds && ret == 0; i++) {
		bench_progress("latency", i, bench->num_rounds);
		ret = measure_round(bench);
	}
	bench_progress("latency", 1, 1);
	return ret;
}

/* ---- The result ------------------------------------------------------------------------------ */

struct row {
	const char *name, *text;
	uint32_t job_us; /* 0: of none */
	struct samples *samples, *first;
};

static void show_row(const struct row *row, struct json_object *array)
{
	double p50 = bench_percentile(row->samples->us, row->samples->count, 50);
	double p99 = bench_percentile(row->samples->us, row->samples->count, 99);
	double first_p50 = bench_percentile(row->first->us, row->first->count, 50);
	double first_p99 = bench_percentile(row->first->us, row->first->count, 99);
	struct json_object *out;

	if (array == NULL) {
		printf("%-54s%9.0f%9.0f%8.2fx%8.2fx\n", row->text, p50, p99, p50 / first_p50,
			p99 / first_p99);
		return;
	}
	out = json_object_new_object();
	json_object_object_add(out, "name", json_object_new_string(row->name));
	json_object_object_add(out, "job_us", row->job_us > 0 ? bench_number(row->job_us) : NULL);
	json_object_object_add(out, "p50_us", bench_number(p50));
	json_object_object_add(out, "p99_us", bench_number(p99));
	json_object_object_add(out, "p50_of_first", bench_number(p50 / first_p50));
	json_object_object_add(out, "p99_of_first", bench_number(p99 / first_p99));
	json_object_array_add(array, out);
}

static void show_header(const char *text, const struct json_object *array)
{
	if (array == NULL) {
		printf("%-54s%9s%9s%18s\n", text, "p50 us", "p99 us", "of first");
	}
}

static const char *why_nothing_was_committed(const struct bench *bench)
{
	if (bench->wayland == NULL) {
		return "no Wayland compositor (WAYLAND_DISPLAY)";
	}
	return bench->has_sync_files ? "the compositor takes no frame before it is drawn" :
				       "the kernel has no vgem, whose sync files would be passed";
}

static void show_committed(struct bench *bench, struct json_object *array)
{
	for (size_t i = 0; i < NUM_ROWS; i++) {
		if (bench->committed[i].count == 0) {
			fprintf(stderr, "vgfence bench: latency: skipped committed: %s\n",
				why_nothing_was_committed(bench));
			return;
		}
	}
	show_header("from the commit to the screen, behind a job of", array);
	for (size_t i = 0; i < NUM_ROWS; i++) {
		char text[64];
		const struct row row = {
			.name = i % 2 ? "passed" : "waited",
			.text = text,
			.job_us = jobs_us[i / 2],
			.samples = &bench->committed[i],
			.first = &bench->committed[i - i % 2],
		};

		snprintf(text, sizeof(text), "%.1f ms, %s", row.job_us / 1000.0,
			i % 2 ? "its fence is passed" : "the guest waits for it");
		show_row(&row, array);
	}
}

static void show_flushed(struct bench *bench, struct json_object *array)
{
	show_header(bench->wayland != NULL ? "from the flush to its answer, a window" :
					     "from the flush to its answer, a monitor (double)",
		array);
	for (int i = 0; i < NUM_BESIDES; i++) {
		const struct row row = {
			.name = besides[i].name,
			.text = besides[i].text,
			.samples = &bench->flushed[i],
			.first = &bench->flushed[ALONE],
		};

		show_row(&row, array);
	}
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int start_guest(struct bench *bench, bool sync_files)
{
	static const struct gpu_callbacks callbacks = {
		.complete = bench_guest_note_complete,
		.scanout_changed = scanout_changed,
		.scanout_flushed = scanout_flushed,
		.scanout_offered = scanout_offered,
		.cursor_changed = bench_guest_ignore_cursor,
		.buffer_leaving = buffer_leaving,
		.log = note_message,
	};
	const struct gpu_options options = {
		.num_scanouts = 2,
		.width = WIDTH,
		.height = HEIGHT,
		.fence_passing_bit = -1,
		.display_ceiling_ms = GIVE_UP_MS,
		.renderer.sync_files = sync_files,
	};

	bench->guest.width = WIDTH;
	bench->guest.height = HEIGHT;
	bench->guest.num_pictures = 3;
	bench->has_sync_files = sync_files;
	return bench_guest_start(&bench->guest, &callbacks, &options);
}

static int start(struct bench *bench)
{
	int vgem = vgem_open(), ret;

	if (vgem >= 0) {
		close(vgem);
	}
	ret = start_guest(bench, vgem >= 0);
	if (ret < 0) {
		return ret;
	}
	open_wayland(bench); /* without it there is less to measure */
	ret = show_next(bench);
	return ret < 0 ? ret : bench_guest_show(&bench->guest, SLOW, SLOW_PICTURE);
}

static void stop(struct bench *bench)
{
	struct display_wayland *wayland = bench->wayland;

	bench->wayland = NULL;
	display_wayland_destroy(wayland);
	bench_guest_stop(&bench->guest);
}

int bench_latency(unsigned int rounds, struct json_object *array)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	int ret;

	if (bench == NULL) {
		return bench_error(-ENOMEM, "latency");
	}
	bench->num_rounds = bench_rounds(rounds, MAX_ROUNDS);
	ret = start(bench);
	if (ret == 0) {
		ret = measure(bench);
	}
	if (ret == 0) {
		show_committed(bench, array);
		show_flushed(bench, array);
	}
	stop(bench);
	free(bench);
	return ret < 0 ? bench_error(ret, "latency") : 0;
}
