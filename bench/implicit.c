/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench implicit: what a submission costs the device if its context has buffers that others
 * have as dma-bufs. The fences on each are asked for, and its own is put there.
 *
 * The buffers are pages of the guest's memory, of udmabuf. The time is that of handing the
 * submission to the device, until that returns; its job does nothing. Its fence is a sync file of
 * vgem, which is what can be put on a dma-buf.
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bench.h"
#include "clock.h"
#include "guest.h"
#include "vgem.h"

#define MAX_ROUNDS 1000u
#define SIDE 32u /* a page */
#define GIVE_UP_NS (10 * NS_PER_S)

static const uint32_t counts[] = { 0, 1, 16, 64 };

#define NUM_COUNTS (sizeof(counts) / sizeof(counts[0]))

struct bench {
	struct bench_guest guests[NUM_COUNTS]; /* callbacks have one of them as cookie */
	double us[NUM_COUNTS][MAX_ROUNDS];
	unsigned int num_rounds;
};

static void note_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	if (level <= VGF_LOG_WARNING) {
		fprintf(stderr, "vgfence bench: implicit: %s\n", message);
	}
}

/* ---- The guests ------------------------------------------------------------------------------ */

/* A display has had so many of the buffers. */
static int export_buffers(struct bench_guest *guest, uint32_t count)
{
	for (uint32_t id = 1; id <= count; id++) {
		struct gpu_buffer buffer = { .fd = -1 };
		int ret = bench_guest_show(guest, 0, id);

		if (ret == 0) {
			ret = gpu_get_scanout_buffer(guest->gpu, 0, &buffer);
		}
		if (ret < 0) {
			return ret;
		}
		close(buffer.fd);
		gpu_tell_released(guest->gpu, buffer.key);
	}
	return 0;
}

static int start(struct bench *bench)
{
	static const struct gpu_callbacks callbacks = {
		.complete = bench_guest_note_complete,
		.log = note_message,
	};
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = GPU_MIN_WIDTH,
		.height = GPU_MIN_HEIGHT,
		.fence_passing_bit = -1,
		.renderer.sync_files = true,
	};
	int ret = 0;

	for (size_t i = 0; i < NUM_COUNTS && ret == 0; i++) {
		struct bench_guest *guest = &bench->guests[i];

		guest->width = guest->height = SIDE;
		guest->num_pictures = counts[i] > 0 ? counts[i] : 1;
		ret = bench_guest_start(guest, &callbacks, &options);
		if (ret == 0) {
			ret = export_buffers(guest, counts[i]);
		}
	}
	return ret;
}

/* ---- Measuring ------------------------------------------------------------------------------- */

static int submit(struct bench_guest *guest, double *us)
{
	uint64_t start_ns = now_ns(), end_ns = start_ns + GIVE_UP_NS;
	uint32_t token = bench_guest_submit(guest, 0);

	*us = (double)(now_ns() - start_ns) / NS_PER_US;
	while (bench_guest_result(guest, token) == -EINPROGRESS && now_ns() < end_ns) {
		struct pollfd fd = { .fd = gpu_get_fd(guest->gpu), .events = POLLIN };

		poll(&fd, 1, gpu_timeout(guest->gpu, 100));
		gpu_dispatch(guest->gpu);
	}
	return bench_guest_result(guest, token);
}

/* In turns, so that other work on the machine hits all alike. */
static int measure(struct bench *bench)
{
	int ret = 0;

	for (unsigned int i = 0; i < bench->num_rounds && ret == 0; i++) {
		bench_progress("implicit", i, bench->num_rounds);
		for (size_t guest = 0; guest < NUM_COUNTS && ret == 0; guest++) {
			ret = submit(&bench->guests[guest], &bench->us[guest][i]);
		}
	}
	bench_progress("implicit", 1, 1);
	return ret;
}

/* ---- The result ------------------------------------------------------------------------------ */

static void show_row(uint32_t count, const double *figures, struct json_object *array)
{
	struct json_object *row;

	if (array == NULL) {
		printf("%-28u%10.1f%10.1f%9.2fx\n", count, figures[0], figures[1], figures[2]);
		return;
	}
	row = json_object_new_object();
	json_object_object_add(row, "buffers", json_object_new_int((int)count));
	json_object_object_add(row, "p50_us", bench_number(figures[0]));
	json_object_object_add(row, "p99_us", bench_number(figures[1]));
	json_object_object_add(row, "of_none", bench_number(figures[2]));
	json_object_array_add(array, row);
}

static void show(struct bench *bench, struct json_object *array)
{
	double none = bench_percentile(bench->us[0], bench->num_rounds, 50);

	if (array == NULL) {
		printf("%-28s%10s%10s%10s\n", "dma-bufs of a submission", "p50 us", "p99 us",
			"of none");
	}
	for (size_t i = 0; i < NUM_COUNTS; i++) {
		double p50 = bench_percentile(bench->us[i], bench->num_rounds, 50);
		double p99 = bench_percentile(bench->us[i], bench->num_rounds, 99);

		show_row(counts[i], (const double[]){ p50, p99, p50 / none }, array);
	}
}

/* ---- All of it ------------------------------------------------------------------------------- */

/* What this machine has not; NULL if it has all. */
static const char *find_lack(void)
{
	int vgem = vgem_open();

	if (vgem < 0) {
		return "the kernel has no vgem, for sync files";
	}
	close(vgem);
	return access("/dev/udmabuf", R_OK | W_OK) < 0 ? "no /dev/udmabuf" : NULL;
}

static int run(struct bench *bench, struct json_object *array)
{
	int ret = start(bench);

	if (ret == 0) {
		ret = measure(bench);
	}
	if (ret == 0) {
		show(bench, array);
	}
	for (size_t i = 0; i < NUM_COUNTS; i++) {
		bench_guest_stop(&bench->guests[i]);
	}
	return ret;
}

int bench_implicit(unsigned int rounds, struct json_object *array)
{
	const char *lack = find_lack();
	struct bench *bench;
	int ret;

	if (lack != NULL) {
		fprintf(stderr, "vgfence bench: implicit: skipped: %s\n", lack);
		return 0;
	}
	bench = calloc(1, sizeof(*bench));
	if (bench == NULL) {
		return bench_error(-ENOMEM, "implicit");
	}
	bench->num_rounds = bench_rounds(rounds, MAX_ROUNDS);
	ret = run(bench, array);
	free(bench);
	return ret < 0 ? bench_error(ret, "implicit") : 0;
}
