/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Measures jobs of OpenGL from inside the guest, for ./run compare: whoever measures several guests
 * in turns tells each when. See usage() below.
 */

#include <err.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "context.h"
#include "painter.h"

enum {
	NUM_CLIENTS = 2,
	MAX_COUNT = 10000,
	FIRST_FRAMES = 3,   /* which are not measured */
	FRAMES_AHEAD = 16,  /* that a compositor may be behind */
	HEAVY_AHEAD = 2,    /* the same of heavy jobs */
	DELAY_PAUSE_MS = 3, /* between requests beside them */
	POLL_MS = 40,
	TIMEOUT_MS = 20000,
};

/* Two clients and a compositor. They are made once, and draw before anything is measured: the first
 * jobs of a context compile shaders. */
struct scene {
	struct painter clients[NUM_CLIENTS], compositor;
	struct painter_image windows[NUM_CLIENTS]; /* the clients' pictures, as the compositor's */
};

static void usage(FILE *stream)
{
	fputs("usage: gl_jobs DIRECTORY\n"
	      "\n"
	      "Does what the files 1, 2, ... that appear there say, one line each, and prints a "
	      "line\n"
	      "of JSON for each. The work of a job is so many rows of 1024 pixels. Fences are "
	      "passed\n"
	      "if the guest has that.\n"
	      "\n"
	      "  latency ROWS COUNT  from a job's submission to its fence, in us\n"
	      "  frames ROWS COUNT   of two clients and a compositor, each a context with a "
	      "timeline\n"
	      "                      of its own; each client's frame has so much work\n"
	      "  delay ROWS COUNT    of jobs without work, beside a context whose jobs have ROWS\n"
	      "  run COMMAND         a program, whose output has the line\n"
	      "  end\n",
		stream);
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Takes the descriptor. */
static void wait_and_close(int fence_fd)
{
	if (!wait_fence(fence_fd, TIMEOUT_MS)) {
		errx(1, "a fence is lost");
	}
	close(fence_fd);
}

static void open_scene(struct scene *scene, bool passing)
{
	painter_open(&scene->compositor, passing);
	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		painter_open(&scene->clients[i], passing);
		scene->windows[i] = painter_import(&scene->compositor, &scene->clients[i]);
	}
}

/* ---- Latency ------------------------------------------------------------------------------ */

static double time_job(struct painter *painter, uint32_t num_rows)
{
	double start;
	int fence_fd;

	painter_work(painter, num_rows);
	start = now_us();
	fence_fd = painter_submit(painter, -1);
	if (!wait_fence(fence_fd, TIMEOUT_MS)) {
		errx(1, "a fence is lost");
	}
	start = now_us() - start;
	close(fence_fd);
	return start;
}

static void measure_latency(struct scene *scene, uint32_t num_rows, uint32_t count)
{
	static double times[MAX_COUNT];

	for (uint32_t i = 0; i < count; i++) {
		times[i] = time_job(&scene->clients[0], num_rows);
	}
	printf("{\"us\": [");
	for (uint32_t i = 0; i < count; i++) {
		printf("%s%.1f", i > 0 ? ", " : "", times[i]);
	}
	printf("]}\n");
}

/* ---- Frames ------------------------------------------------------------------------------- */

static uint8_t color_of(uint32_t client, uint32_t frame)
{
	return (uint8_t)(frame * 37 + client * 101 + 1);
}

static int merge_all(const int *fences)
{
	int all = fences[0];

	for (uint32_t i = 1; i < NUM_CLIENTS; i++) {
		int merged = merge_fences(all, fences[i]);

		close(all);
		close(fences[i]);
		all = merged;
	}
	return all;
}

/* Each client waits for the compositor's last frame, which has its buffer, and the compositor for
 * both. Returns the compositor's fence. */
static int draw_frame(struct scene *scene, uint32_t frame, uint32_t num_rows, int release_fd)
{
	int fences[NUM_CLIENTS];

	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		painter_clear(&scene->clients[i], color_of(i, frame));
		painter_work(&scene->clients[i], num_rows);
		fences[i] = painter_submit(
			&scene->clients[i], release_fd >= 0 ? dup(release_fd) : -1);
	}
	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		painter_draw(&scene->compositor, &scene->windows[i], i);
	}
	return painter_submit(&scene->compositor, merge_all(fences));
}

static void check_picture(struct scene *scene, uint32_t frame)
{
	for (uint32_t i = 0; i < NUM_CLIENTS; i++) {
		uint8_t value = painter_look(&scene->compositor, i);

		if (value != color_of(i, frame)) {
			errx(1, "frame %u: client %u's window is %u and not %u", frame, i, value,
				color_of(i, frame));
		}
	}
}

static void draw_first(struct scene *scene)
{
	for (uint32_t i = 0; i < FIRST_FRAMES; i++) {
		wait_and_close(draw_frame(scene, i, 1, -1));
	}
	check_picture(scene, FIRST_FRAMES - 1);
}

static void measure_frames(struct scene *scene, uint32_t num_rows, uint32_t count)
{
	int fences[FRAMES_AHEAD];
	double start = now_us(), us;

	for (uint32_t i = 0; i < count; i++) {
		int last = i > 0 ? fences[(i - 1) % FRAMES_AHEAD] : -1;
		int new = draw_frame(scene, i, num_rows, last);

		if (i >= FRAMES_AHEAD) {
			wait_and_close(fences[i % FRAMES_AHEAD]);
		}
		fences[i % FRAMES_AHEAD] = new;
	}
	for (uint32_t i = count < FRAMES_AHEAD ? 0 : count - FRAMES_AHEAD; i < count; i++) {
		wait_and_close(fences[i % FRAMES_AHEAD]);
	}
	us = now_us() - start;
	check_picture(scene, count - 1);
	printf("{\"frames\": %u, \"us_per_frame\": %.1f}\n", count, us / count);
}

/* ---- Beside heavy work -------------------------------------------------------------------- */

struct heavy {
	pthread_t thread;
	struct painter *painter;
	uint32_t num_rows;
	atomic_bool over;
	uint32_t num_jobs;
};

/* There is always a job that runs. */
static void *keep_busy(void *arg)
{
	struct heavy *heavy = arg;
	int fences[HEAVY_AHEAD];

	for (uint32_t i = 0; i < HEAVY_AHEAD; i++) {
		painter_work(heavy->painter, heavy->num_rows);
		fences[i] = painter_submit(heavy->painter, -1);
	}
	while (!atomic_load(&heavy->over)) {
		uint32_t i = heavy->num_jobs++ % HEAVY_AHEAD;

		wait_and_close(fences[i]);
		painter_work(heavy->painter, heavy->num_rows);
		fences[i] = painter_submit(heavy->painter, -1);
	}
	for (uint32_t i = 0; i < HEAVY_AHEAD; i++) {
		wait_and_close(fences[(heavy->num_jobs + i) % HEAVY_AHEAD]);
	}
	return NULL;
}

static void measure_delay(struct scene *scene, uint32_t num_rows, uint32_t count)
{
	struct heavy heavy = { .painter = &scene->clients[1], .num_rows = num_rows };
	static double times[MAX_COUNT];

	if (pthread_create(&heavy.thread, NULL, keep_busy, &heavy) != 0) {
		errx(1, "no thread");
	}
	for (uint32_t i = 0; i < count; i++) {
		poll(NULL, 0, DELAY_PAUSE_MS);
		times[i] = time_job(&scene->clients[0], 0);
	}
	atomic_store(&heavy.over, true);
	pthread_join(heavy.thread, NULL);
	if (heavy.num_jobs == 0) {
		errx(1, "no heavy job was done meanwhile");
	}
	printf("{\"us\": [");
	for (uint32_t i = 0; i < count; i++) {
		printf("%s%.1f", i > 0 ? ", " : "", times[i]);
	}
	printf("]}\n");
}

/* ---- What to do --------------------------------------------------------------------------- */

static void measure(struct scene *scene, const char *line)
{
	static const struct {
		const char *name;
		void (*measure)(struct scene *scene, uint32_t num_rows, uint32_t count);
	} kinds[] = {
		{ "latency", measure_latency },
		{ "frames", measure_frames },
		{ "delay", measure_delay },
	};
	char name[16];
	unsigned int num_rows, count;

	if (sscanf(line, "%15s %u %u", name, &num_rows, &count) != 3 ||
		num_rows > PAINTER_MAX_ROWS || count == 0 || count > MAX_COUNT) {
		errx(2, "not to be measured: %s", line);
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, name) == 0) {
			kinds[i].measure(scene, num_rows, count);
			return;
		}
	}
	errx(2, "no such measurement: %s", name);
}

/* Returns whether there is more to do. */
static bool obey(struct scene *scene, const char *line)
{
	if (strcmp(line, "end") == 0) {
		return false;
	}
	if (strncmp(line, "run ", 4) != 0) {
		measure(scene, line);
	} else if (system(line + 4) != 0) { /* NOLINT(cert-env33-c): whoever writes it runs us */
		errx(1, "'%s' has failed", line + 4);
	}
	fflush(stdout);
	return true;
}

/* The next file's line, without its end. It is there as a whole, as it is moved there. */
static void read_order(const char *directory, uint32_t number, char *line, int size)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%u", directory, number);
	while (access(path, F_OK) < 0) {
		poll(NULL, 0, POLL_MS);
	}
	file = fopen(path, "re");
	if (!file || !fgets(line, size, file)) {
		err(1, "%s", path);
	}
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
}

int main(int argc, char **argv)
{
	static struct scene scene;
	bool passing;
	char line[256];

	if (argc != 2) {
		usage(stderr);
		return 2;
	}
	passing = has_fence_passing();
	open_scene(&scene, passing);
	draw_first(&scene);
	printf("{\"passing\": %s}\n", passing ? "true" : "false");
	fflush(stdout);
	for (uint32_t number = 1;; number++) {
		read_order(argv[1], number, line, sizeof(line));
		if (!obey(&scene, line)) {
			return 0;
		}
	}
}
