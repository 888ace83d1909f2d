/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench monitors: four monitors, on each of which the guest shows 144 frames a second. A
 * round is a second.
 *
 * Each monitor has pictures and a timeline of its own. The guest flushes at the time of a frame,
 * whether the one before it has been answered or not, unless too many have not: so a compositor
 * with fewer screens a second leaves frames out, as it likes. Without a compositor the monitors are
 * doubles, which show the latest frame 144 times a second.
 *
 * It is an error if a flush is not answered once, with its fence, in the order of its timeline, or
 * if there are more descriptors at the end than when all was known, but for some sync files.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bench.h"
#include "clock.h"
#include "display_wayland.h"
#include "guest.h"

#define NUM_MONITORS 4u
#define HZ 144u
#define PERIOD_NS (NS_PER_S / HZ)
#define MAX_ROUNDS 60u
#define MAX_FRAMES ((size_t)MAX_ROUNDS * HZ)
/* The least that a monitor can be: it is not the picture that is measured. */
#define WIDTH GPU_MIN_WIDTH
#define HEIGHT GPU_MIN_HEIGHT
#define MAX_IN_FLIGHT 16u /* of a monitor */
#define GIVE_UP_NS (10 * NS_PER_S)
/* What a compositor has not released may have a sync file, at either time. */
#define MAX_MORE_FDS (4 * (int)NUM_MONITORS)

_Static_assert(NUM_MONITORS *MAX_IN_FLIGHT < BENCH_GUEST_REQUESTS, "a request for each flush");

/* A flush that has not been answered. */
struct flush {
	uint32_t token;
	uint64_t start_ns;
};

struct monitor {
	uint64_t next_ns;                      /* when the guest's next frame is due */
	uint64_t vsync_ns;                     /* of a double */
	uint64_t given, told;                  /* to a double, and by it: frames */
	uint32_t picture;                      /* 0 or 1 */
	struct flush in_flight[MAX_IN_FLIGHT]; /* a ring */
	uint32_t first, count;

	/* Since it began to be measured. */
	uint64_t asked, shown, left_out;
	double us[MAX_FRAMES];
	size_t num_samples;
};

/* What the process has. */
struct usage {
	long memory_kib;
	int num_fds;
};

struct bench {
	struct bench_guest guest;        /* the first member: callbacks of it have this as cookie */
	struct display_wayland *wayland; /* or NULL */
	struct monitor monitors[NUM_MONITORS];
	uint64_t out_of_order;
	unsigned int num_rounds;
	struct usage known, end;
	uint64_t given_up_before;
};

/* ---- The monitors ---------------------------------------------------------------------------- */

static void note_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	if (level <= VGF_LOG_WARNING) {
		fprintf(stderr, "vgfence bench: monitors: %s\n", message);
	}
}

static void scanout_changed(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	struct bench *bench = cookie;

	if (bench->wayland != NULL) {
		display_wayland_set_scanout(bench->wayland, scanout, width, height);
	}
}

static bool scanout_flushed(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	struct bench *bench = cookie;

	if (bench->wayland != NULL) {
		return display_wayland_update(bench->wayland, scanout, rect, frame);
	}
	bench->monitors[scanout].given = frame;
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

	(void)frame;
	(void)time_ns;
	bench->monitors[scanout].shown++;
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

static void run_double(struct bench *bench, uint32_t index, uint64_t now)
{
	struct monitor *monitor = &bench->monitors[index];

	if (now < monitor->vsync_ns) {
		return;
	}
	monitor->vsync_ns += (now - monitor->vsync_ns) / PERIOD_NS * PERIOD_NS + PERIOD_NS;
	if (monitor->told != monitor->given) {
		monitor->told = monitor->given;
		monitor->shown++;
		gpu_tell_shown(bench->guest.gpu, index, monitor->told);
	}
}

/* ---- The guest's frames ---------------------------------------------------------------------- */

static int flush_frame(struct bench *bench, uint32_t index)
{
	struct monitor *monitor = &bench->monitors[index];
	uint32_t resource_id = index * 2 + monitor->picture + 1;
	struct flush *flush;
	int ret;

	if (monitor->count == MAX_IN_FLIGHT) {
		monitor->left_out++;
		return 0;
	}
	monitor->picture = !monitor->picture;
	ret = bench_guest_show(&bench->guest, index, resource_id);
	if (ret == 0) {
		flush = &monitor->in_flight[(monitor->first + monitor->count) % MAX_IN_FLIGHT];
		flush->start_ns = now_ns();
		flush->token = bench_guest_flush(&bench->guest, resource_id, (int)index + 1);
		bench_guest_keep(&bench->guest, flush->token, true);
		monitor->count++;
		monitor->asked++;
	}
	return ret;
}

/* Takes what has been answered. A later one cannot be while an earlier one is not. */
static int take_answers(struct bench *bench, struct monitor *monitor)
{
	bool in_order = true;
	uint32_t done = 0;

	for (uint32_t i = 0; i < monitor->count; i++) {
		struct flush *flush = &monitor->in_flight[(monitor->first + i) % MAX_IN_FLIGHT];
		int ret = bench_guest_result(&bench->guest, flush->token);

		if (ret == -EINPROGRESS) {
			in_order = false;
		} else if (ret < 0) {
			return ret;
		} else if (!in_order) {
			bench->out_of_order++;
		} else {
			done++;
			bench_guest_keep(&bench->guest, flush->token, false);
			if (monitor->num_samples < MAX_FRAMES) {
				monitor->us[monitor->num_samples++] =
					(double)(now_ns() - flush->start_ns) / NS_PER_US;
			}
		}
	}
	monitor->first = (monitor->first + done) % MAX_IN_FLIGHT;
	monitor->count -= done;
	return 0;
}

/* Frames whose time has passed, as the process did not run, are not made up for. */
static int run_monitor(struct bench *bench, uint32_t index, bool flushes)
{
	struct monitor *monitor = &bench->monitors[index];
	uint64_t now = now_ns();
	int ret = 0;

	if (bench->wayland == NULL) {
		run_double(bench, index, now);
	}
	if (flushes && now >= monitor->next_ns) {
		uint64_t missed = (now - monitor->next_ns) / PERIOD_NS;

		monitor->left_out += missed;
		monitor->next_ns += (missed + 1) * PERIOD_NS;
		ret = flush_frame(bench, index);
	}
	return ret < 0 ? ret : take_answers(bench, monitor);
}

/* ---- The loop -------------------------------------------------------------------------------- */

static int run(struct bench *bench, bool flushes)
{
	int ret = 0;

	gpu_dispatch(bench->guest.gpu);
	if (bench->wayland != NULL) {
		ret = display_wayland_dispatch(bench->wayland);
	}
	for (uint32_t i = 0; i < NUM_MONITORS && ret == 0; i++) {
		ret = run_monitor(bench, i, flushes);
	}
	return ret;
}

static void wait_for_work(struct bench *bench, bool flushes)
{
	struct pollfd fds[2] = { { .fd = gpu_get_fd(bench->guest.gpu), .events = POLLIN },
		{ .fd = -1, .events = POLLIN } };
	uint64_t end_ns = now_ns() + (uint64_t)gpu_timeout(bench->guest.gpu, 100) * NS_PER_MS;
	struct timespec timeout;

	if (bench->wayland != NULL) {
		fds[1].fd = display_wayland_get_fd(bench->wayland);
		display_wayland_flush(bench->wayland);
	}
	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		const struct monitor *monitor = &bench->monitors[i];

		if (flushes && monitor->next_ns < end_ns) {
			end_ns = monitor->next_ns;
		}
		if (bench->wayland == NULL && monitor->vsync_ns < end_ns) {
			end_ns = monitor->vsync_ns;
		}
	}
	timeout = time_until(end_ns);
	ppoll(fds, 2, &timeout, NULL);
}

/* Frames until then. */
static int run_until(struct bench *bench, uint64_t end_ns)
{
	int ret = run(bench, true);

	while (ret == 0 && now_ns() < end_ns) {
		wait_for_work(bench, true);
		ret = run(bench, true);
	}
	return ret;
}

static bool is_idle(const struct bench *bench)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		count += bench->monitors[i].count;
	}
	return count == 0;
}

/* Until all that was flushed has been answered. */
static int finish(struct bench *bench)
{
	uint64_t end_ns = now_ns() + GIVE_UP_NS;
	int ret = run(bench, false);

	while (ret == 0 && !is_idle(bench)) {
		if (now_ns() > end_ns) {
			return -ETIMEDOUT;
		}
		wait_for_work(bench, false);
		ret = run(bench, false);
	}
	return ret;
}

/* ---- Measuring ------------------------------------------------------------------------------- */

static int count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	while (directory != NULL && readdir(directory) != NULL) {
		count++;
	}
	if (directory != NULL) {
		closedir(directory);
	}
	return count;
}

static long memory_kib(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (file != NULL) {
		if (fscanf(file, "%*d %ld", &pages) != 1) {
			pages = 0;
		}
		fclose(file);
	}
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static struct usage get_usage(void)
{
	return (struct usage){ memory_kib(), count_fds() };
}

static uint64_t given_up(const struct bench *bench)
{
	struct gpu_stats stats;

	gpu_get_stats(bench->guest.gpu, &stats);
	return stats.flushes_given_up;
}

static void forget(struct bench *bench)
{
	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		struct monitor *monitor = &bench->monitors[i];

		monitor->asked = monitor->shown = monitor->left_out = 0;
		monitor->num_samples = 0;
	}
	bench->given_up_before = given_up(bench);
}

/* Not all at once, as those of several monitors are not. */
static void set_first_frames(struct bench *bench)
{
	uint64_t now = now_ns();

	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		bench->monitors[i].next_ns = now + i * PERIOD_NS / NUM_MONITORS;
		bench->monitors[i].vsync_ns = bench->monitors[i].next_ns + PERIOD_NS / 2;
	}
}

static int check(const struct bench *bench)
{
	if (bench->guest.num_wrong > 0 || bench->out_of_order > 0) {
		fprintf(stderr,
			"vgfence bench: monitors: %" PRIu64 " answers that were not asked for, or "
			"with another fence, %" PRIu64 " out of order\n",
			bench->guest.num_wrong, bench->out_of_order);
		return -EBADMSG;
	}
	if (bench->end.num_fds > bench->known.num_fds + MAX_MORE_FDS) {
		fprintf(stderr, "vgfence bench: monitors: %d descriptors, then %d\n",
			bench->known.num_fds, bench->end.num_fds);
		return -EMFILE;
	}
	return 0;
}

/* In the first second a compositor gets to know its buffers. */
static int measure(struct bench *bench)
{
	uint64_t next_ns = now_ns() + NS_PER_S;
	int ret;

	set_first_frames(bench);
	ret = run_until(bench, next_ns);
	if (ret == 0) {
		ret = finish(bench);
	}
	bench->known = get_usage();
	forget(bench);
	set_first_frames(bench);
	next_ns = now_ns();
	for (unsigned int i = 0; i < bench->num_rounds && ret == 0; i++) {
		bench_progress("monitors", i, bench->num_rounds);
		next_ns += NS_PER_S;
		ret = run_until(bench, next_ns);
	}
	bench_progress("monitors", 1, 1);
	if (ret == 0) {
		ret = finish(bench);
	}
	bench->end = get_usage();
	return ret < 0 ? ret : check(bench);
}

/* ---- The result ------------------------------------------------------------------------------ */

/* What was neither shown nor given up on had another frame take its place. */
struct row {
	uint64_t asked, shown, replaced, left_out;
	double p50, p99, max;
};

static struct row row_of(struct monitor *monitor)
{
	return (struct row){
		.asked = monitor->asked,
		.shown = monitor->shown,
		.replaced = monitor->asked > monitor->shown ? monitor->asked - monitor->shown : 0,
		.left_out = monitor->left_out,
		.p50 = bench_percentile(monitor->us, monitor->num_samples, 50),
		.p99 = bench_percentile(monitor->us, monitor->num_samples, 99),
		.max = bench_percentile(monitor->us, monitor->num_samples, 100),
	};
}

static void add_count(struct json_object *object, const char *name, uint64_t count)
{
	json_object_object_add(object, name, json_object_new_int64((int64_t)count));
}

static void add_row(struct json_object *array, uint32_t index, const struct row *row)
{
	struct json_object *object = json_object_new_object();

	add_count(object, "monitor", index);
	add_count(object, "asked", row->asked);
	add_count(object, "shown", row->shown);
	add_count(object, "replaced", row->replaced);
	add_count(object, "left_out", row->left_out);
	json_object_object_add(object, "p50_us", bench_number(row->p50));
	json_object_object_add(object, "p99_us", bench_number(row->p99));
	json_object_object_add(object, "max_us", bench_number(row->max));
	json_object_array_add(array, object);
}

static void show_row(uint32_t index, const struct row *row)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", index);
	printf("%-10s%9" PRIu64 "%9" PRIu64 "%10" PRIu64 "%10" PRIu64 "%9.0f%9.0f%9.0f\n", name,
		row->asked, row->shown, row->replaced, row->left_out, row->p50, row->p99, row->max);
}

static void add_usage(struct json_object *array, const struct bench *bench, uint64_t late)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "monitor", NULL);
	json_object_object_add(
		object, "display", json_object_new_string(bench->wayland ? "wayland" : "double"));
	add_count(object, "given_up", late);
	add_count(object, "known_kib", (uint64_t)bench->known.memory_kib);
	add_count(object, "end_kib", (uint64_t)bench->end.memory_kib);
	add_count(object, "known_descriptors", (uint64_t)bench->known.num_fds);
	add_count(object, "end_descriptors", (uint64_t)bench->end.num_fds);
	json_object_array_add(array, object);
}

static void show(struct bench *bench, struct json_object *array)
{
	uint64_t late = given_up(bench) - bench->given_up_before;

	if (array == NULL) {
		printf("%u %s at %u Hz, %u s\n", NUM_MONITORS,
			bench->wayland != NULL ? "windows" : "monitors (doubles)", HZ,
			bench->num_rounds);
		printf("%-10s%9s%9s%10s%10s%9s%9s%9s\n", "monitor", "flushed", "shown", "replaced",
			"left out", "p50 us", "p99 us", "max us");
	}
	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		const struct row row = row_of(&bench->monitors[i]);

		if (array != NULL) {
			add_row(array, i, &row);
		} else {
			show_row(i, &row);
		}
	}
	if (array != NULL) {
		add_usage(array, bench, late);
	} else {
		printf("given up on: %" PRIu64 "; after the first second and at the end: %ld and "
		       "%ld KiB, descriptors: %d and %d\n",
			late, bench->known.memory_kib, bench->end.memory_kib, bench->known.num_fds,
			bench->end.num_fds);
	}
}

/* ---- All of it ------------------------------------------------------------------------------- */

static int start(struct bench *bench)
{
	static const struct gpu_callbacks callbacks = {
		.complete = bench_guest_note_complete,
		.scanout_changed = scanout_changed,
		.scanout_flushed = scanout_flushed,
		.cursor_changed = bench_guest_ignore_cursor,
		.buffer_leaving = buffer_leaving,
		.log = note_message,
	};
	const struct gpu_options options = {
		.num_scanouts = NUM_MONITORS,
		.width = WIDTH,
		.height = HEIGHT,
		.fence_passing_bit = -1,
	};

	bench->guest.width = WIDTH;
	bench->guest.height = HEIGHT;
	bench->guest.num_pictures = 2 * NUM_MONITORS;
	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		/* So that it is there before the process is looked at. */
		memset(bench->monitors[i].us, 0, sizeof(bench->monitors[i].us));
	}
	open_wayland(bench); /* without it there are doubles */
	return bench_guest_start(&bench->guest, &callbacks, &options);
}

static void stop(struct bench *bench)
{
	struct display_wayland *wayland = bench->wayland;

	bench->wayland = NULL;
	display_wayland_destroy(wayland);
	bench_guest_stop(&bench->guest);
}

int bench_monitors(unsigned int rounds, struct json_object *array)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	int ret;

	if (bench == NULL) {
		return bench_error(-ENOMEM, "monitors");
	}
	bench->num_rounds = bench_rounds(rounds, MAX_ROUNDS);
	ret = start(bench);
	if (ret == 0) {
		ret = measure(bench);
	}
	if (ret == 0) {
		show(bench, array);
	}
	stop(bench);
	free(bench);
	return ret < 0 ? bench_error(ret, "monitors") : 0;
}
