/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence trace: what fences did, for Perfetto, as a picture, as text. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "commands.h"
#include "fence_name.h"
#include "history.h"
#include "replay.h"

static const char usage[] = "usage: vgfence trace [OPTION...] FILE...\n";

static const char help[] =
	"\n"
	"Shows what fences did: of traces that 'vgfence gpu' wrote; and of its recordings, which\n"
	"it replays as 'vgfence replay' does. Without --perfetto and --svg it prints a text:\n"
	"which fences were waited for, how long and by whom, and what the last one had to wait\n"
	"for, step by step.\n"
	"\n"
	"  --perfetto=FILE   write a trace for https://ui.perfetto.dev (one FILE only): a track\n"
	"                    for each context and ring, arrows from in-fences, counters\n"
	"  --svg=FILE        draw a picture, with a panel for each FILE, two in a row\n"
	"  --from=US         begin so many microseconds after the first event (for --svg by\n"
	"                    default in the middle)\n"
	"  --length=US       end so many microseconds later (for --svg 1000 by default)\n"
	"  --fence=CONTEXT:RING:ID\n"
	"                    the text is about the way to this fence; RING is global for the\n"
	"                    device's own timeline\n"
	"  --wait=driver     in replays the GPU takes in-fences and waits\n"
	"  --wait=host       the library holds work back until they have signalled (default)\n"
	"\n"
	"The GPU is taken to work on a job from when it has it, and all before it on its ring\n"
	"and its in-fences have signalled; before that the job is queued in the GPU.\n";

/* A virtqueue's size, as 'vgfence replay' has it. */
#define WINDOW 256

#define SVG_LENGTH_US 1000

struct options {
	const char *perfetto, *svg, *fence;
	uint64_t from_us, length_us; /* UINT64_MAX: by default */
	struct vmm_options vmm;
};

enum option_id {
	OPTION_PERFETTO,
	OPTION_SVG,
	OPTION_FROM,
	OPTION_LENGTH,
	OPTION_FENCE,
	OPTION_WAIT,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "perfetto", required_argument, NULL, OPTION_PERFETTO },
	{ "svg", required_argument, NULL, OPTION_SVG },
	{ "from", required_argument, NULL, OPTION_FROM },
	{ "length", required_argument, NULL, OPTION_LENGTH },
	{ "fence", required_argument, NULL, OPTION_FENCE },
	{ "wait", required_argument, NULL, OPTION_WAIT },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static void bad_usage(const char *message)
{
	fprintf(stderr, "vgfence trace: %s\n%s", message, usage);
	exit(2);
}

/* Far more than a trace can last. */
#define MAX_US (UINT64_C(1) << 50)

static uint64_t parse_us(const char *text, uint64_t least)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < least ||
		value > MAX_US) {
		bad_usage("--from and --length must be numbers of microseconds");
	}
	return value;
}

static void parse_option(struct options *options, int id)
{
	switch (id) {
	case OPTION_PERFETTO:
		options->perfetto = optarg;
		break;
	case OPTION_SVG:
		options->svg = optarg;
		break;
	case OPTION_FROM:
		options->from_us = parse_us(optarg, 0);
		break;
	case OPTION_LENGTH:
		options->length_us = parse_us(optarg, 1);
		break;
	case OPTION_FENCE:
		options->fence = optarg;
		break;
	case OPTION_WAIT:
		if (strcmp(optarg, "host") != 0 && strcmp(optarg, "driver") != 0) {
			bad_usage("--wait must be host or driver");
		}
		options->vmm.wait = *optarg == 'h' ? VGF_WAIT_HOST : VGF_WAIT_DRIVER;
		break;
	case OPTION_HELP:
		printf("%s%s", usage, help);
		exit(EXIT_SUCCESS);
	default:
		fprintf(stderr, "%s", usage);
		exit(2);
	}
}

static struct vgf_fence_name parse_fence(const char *text)
{
	struct vgf_fence_name fence;

	if (!fence_name_parse(text, &fence)) {
		bad_usage("--fence must be like 3:0:17 or 0:global:5");
	}
	return fence;
}

/* ---- Text ----------------------------------------------------------------------------------- */

#define NUM_LONGEST 5

static const char *job_name(const struct history *history, size_t index, char text[96])
{
	const struct history_job *job = &history->jobs[index];
	char track[HISTORY_NAME_SIZE];

	snprintf(text, 96, "%s fence %" PRIu64,
		history_track_name(&history->tracks[job->track], track), job->fence.fence_id);
	return text;
}

static double us(uint64_t ns)
{
	return (double)ns / NS_PER_US;
}

/* How long it was waited for. */
static uint64_t wait_ns(const struct history *history, const struct history_wait *wait)
{
	uint64_t from_ns = history->jobs[wait->waiter].accept_ns;
	uint64_t to_ns = history_end(history, history->jobs[wait->producer].retire_ns);

	return to_ns > from_ns ? to_ns - from_ns : 0;
}

static void print_longest(const struct history *history, const struct history_window *window)
{
	size_t longest[NUM_LONGEST], count = 0;
	char waiter[96], producer[96];

	for (size_t i = 0; i < history->num_waits; i++) {
		const struct history_wait *wait = &history->waits[i];
		size_t at = count;

		if (wait->producer == HISTORY_NONE ||
			!history_shows(history, window, &history->jobs[wait->waiter])) {
			continue;
		}
		while (at > 0 &&
			wait_ns(history, wait) >
				wait_ns(history, &history->waits[longest[at - 1]])) {
			at--;
		}
		if (at == NUM_LONGEST) {
			continue;
		}
		count += count < NUM_LONGEST;
		memmove(&longest[at + 1], &longest[at], (count - at - 1) * sizeof(longest[0]));
		longest[at] = i;
	}
	printf("waited for the longest:%s\n", count > 0 ? "" : " nothing");
	for (size_t i = 0; i < count; i++) {
		const struct history_wait *wait = &history->waits[longest[i]];

		printf("  %9.1f us  %s, by %s\n", us(wait_ns(history, wait)),
			job_name(history, wait->producer, producer),
			job_name(history, wait->waiter, waiter));
	}
}

#define MAX_STEPS 40

static void print_step(const struct history *history, size_t index, size_t cause)
{
	const struct history_job *job = &history->jobs[index];
	uint64_t signal_ns = history_end(history, job->signal_ns);
	uint64_t start_ns = job->start_ns < signal_ns ? job->start_ns : signal_ns;
	char name[96], cause_name[96];

	printf("  %9.1f us  %s: accepted; %.1f us until it began, %.1f us in the GPU%s\n",
		us(job->accept_ns - history->start_ns), job_name(history, index, name),
		us(start_ns - job->accept_ns), us(signal_ns - start_ns),
		job->signal_ns == HISTORY_NEVER ? ", and has not signalled" : "");
	if (cause != HISTORY_NONE) {
		printf("              it waited for %s\n", job_name(history, cause, cause_name));
	}
}

/* From the fence back to what could begin when it was accepted. */
static void print_way(const struct history *history, size_t index)
{
	char name[96];
	size_t steps = 0;

	printf("the way to %s, from its end to its beginning:\n", job_name(history, index, name));
	while (index != HISTORY_NONE && steps++ < MAX_STEPS) {
		size_t cause = history_cause(history, &history->jobs[index]);

		print_step(history, index, cause);
		index = cause;
	}
	printf(index != HISTORY_NONE ? "  and so on\n" :
				       "  nothing was to be waited for when that was accepted\n");
}

void history_print(const struct history *history, const struct history_window *window, size_t job)
{
	size_t count = 0, held = 0, refused = 0, stalled = 0;

	for (size_t i = 0; i < history->num_jobs; i++) {
		const struct history_job *one = &history->jobs[i];

		if (history_shows(history, window, one)) {
			count++;
			held += one->held;
			refused += one->refused;
			stalled += one->stalled;
		}
	}
	printf("%zu fences in %.1f us: %zu held, %zu refused, %zu stalled; %" PRIu64
	       " submissions without a fence\n",
		count, us(history->end_ns - history->start_ns), held, refused, stalled,
		history->num_unfenced);
	if (history->num_lost > 0) {
		printf("%" PRIu64 " events are missing: the file was not fast enough\n",
			history->num_lost);
	}
	print_longest(history, window);
	if (job != HISTORY_NONE) {
		print_way(history, job);
	}
}

/* ---- The command ---------------------------------------------------------------------------- */

static struct history_window find_window(
	const struct options *options, const struct history *history)
{
	struct history_window window = { history->start_ns, UINT64_MAX };
	uint64_t length_us = options->length_us;

	if (options->svg != NULL && length_us == UINT64_MAX) {
		length_us = SVG_LENGTH_US;
	}
	if (options->from_us != UINT64_MAX) {
		window.from_ns += options->from_us * NS_PER_US;
	} else if (options->svg != NULL && history->num_jobs > 0) {
		window.from_ns = history->jobs[history->num_jobs / 2].accept_ns;
	}
	if (length_us != UINT64_MAX && window.from_ns < UINT64_MAX - length_us * NS_PER_US) {
		window.to_ns = window.from_ns + length_us * NS_PER_US;
	}
	return window;
}

static int tell(int ret, const char *path)
{
	if (ret < 0) {
		fprintf(stderr, "vgfence: %s: %s\n", path, strerror(-ret));
	}
	return ret;
}

static size_t last_job(const struct history *history, const struct history_window *window)
{
	for (size_t i = history->num_jobs; i > 0; i--) {
		if (history_shows(history, window, &history->jobs[i - 1])) {
			return i - 1;
		}
	}
	return HISTORY_NONE;
}

static int print(const struct options *options, const struct history *history,
	const struct history_window *window)
{
	size_t job = last_job(history, window);

	if (options->fence != NULL) {
		const struct vgf_fence_name fence = parse_fence(options->fence);

		job = history_find(history, &fence);
		if (job == HISTORY_NONE) {
			fprintf(stderr, "vgfence trace: there is no fence %s\n", options->fence);
			return -ENOENT;
		}
	}
	history_print(history, window, job);
	return 0;
}

/* All files are loaded. */
static int show(
	const struct options *options, const struct history *histories, char **paths, size_t count)
{
	struct history_window *windows = calloc(count, sizeof(*windows));
	const char **titles = calloc(count, sizeof(*titles));
	char(*names)[64] = calloc(count, sizeof(*names));
	int ret = windows == NULL || titles == NULL || names == NULL ? -ENOMEM : 0;

	for (size_t i = 0; ret == 0 && i < count; i++) {
		windows[i] = find_window(options, &histories[i]);
		titles[i] = replay_name(paths[i], names[i], sizeof(names[i]));
		names[i][strcspn(names[i], ".")] = '\0';
	}
	if (ret == 0 && options->svg != NULL) {
		ret = tell(history_write_svg(histories, titles, windows, count, options->svg),
			options->svg);
	}
	if (ret == 0 && options->perfetto != NULL) {
		ret = tell(history_write_perfetto(&histories[0], &windows[0], options->perfetto),
			options->perfetto);
	}
	for (size_t i = 0; ret == 0 && i < count; i++) {
		if (options->svg == NULL && options->perfetto == NULL) {
			printf("%s%s: ", i > 0 ? "\n" : "", titles[i]);
			ret = print(options, &histories[i], &windows[i]);
		}
	}
	free(windows);
	free(titles);
	free(names);
	return ret;
}

int trace_main(int argc, char **argv)
{
	struct options options = {
		.from_us = UINT64_MAX,
		.length_us = UINT64_MAX,
		.vmm = { .window = WINDOW, .wait = VGF_WAIT_HOST },
	};
	struct history *histories;
	size_t count, loaded = 0;
	int id, ret = 0;

	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		parse_option(&options, id);
	}
	count = (size_t)(argc - optind);
	if (count == 0) {
		bad_usage("no file is given");
	}
	if (options.perfetto != NULL && count > 1) {
		bad_usage("--perfetto is for one file");
	}
	histories = calloc(count, sizeof(*histories));
	if (histories == NULL) {
		fprintf(stderr, "vgfence: out of memory\n");
		return EXIT_FAILURE;
	}
	while (ret == 0 && loaded < count) {
		ret = history_load(&histories[loaded], argv[(size_t)optind + loaded], &options.vmm);
		loaded += ret == 0;
	}
	if (ret == 0) {
		ret = show(&options, histories, argv + optind, count);
	}
	while (loaded > 0) {
		history_finish(&histories[--loaded]);
	}
	free(histories);
	return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
