/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence demo: the same guest work, with the guest waiting and with fence passing. */

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "replay.h"

/* Of a checkout, where nothing is installed. */
#define CHECKOUT_DIRECTORY "tests/data/traces"

/* The machine has other things to do now and then, and what is compared should not. */
#define NUM_RUNS 3

static const struct scene {
	const char *name;
	const char *what;
} scenes[] = {
	{ "chain", "two clients take turns" },
	{ "frames", "200 frames: 2 clients, compositor" },
	{ "storm", "4 clients on 4 rings, random" },
	{ "syncobj", "100 round trips of two clients" },
};

#define NUM_SCENES (sizeof(scenes) / sizeof(scenes[0]))

/* The columns. */
enum variant {
	VARIANT_GUEST_WAITS,
	VARIANT_SAME_GUEST,
	VARIANT_FAST_GUEST,
	NUM_VARIANTS,
};

static const struct {
	const char *suffix;
	enum pace pace;
} variants[NUM_VARIANTS] = {
	[VARIANT_GUEST_WAITS] = { "guestwait", PACE_CAUSAL },
	[VARIANT_SAME_GUEST] = { "passing", PACE_CAUSAL },
	[VARIANT_FAST_GUEST] = { "passing", PACE_ASAP },
};

static const char introduction[] =
	"A guest without fence passing waits for the result of one job before it submits\n"
	"the next one that needs it. With vgfence it submits at once, and the host's GPU\n"
	"does the waiting. This is the recorded work of a real guest, run again here on a\n"
	"software GPU; milliseconds, the best of three runs.\n"
	"\n"
	"         what the guest does                       guest    with times   fast\n"
	"                                       jobs waits  waits vgfence faster guest limit\n";

static const char explanation[] =
	"\n"
	"waits         fences that jobs wait for, as the guest names them to the host\n"
	"guest waits   without fence passing: the guest waits for them itself\n"
	"with vgfence  with fence passing; the guest's own pauses, as recorded, are in both\n"
	"fast guest    the same for a guest that never pauses\n"
	"limit         the same if nothing but the GPU's own work took time\n";

static double to_ms(uint64_t ns)
{
	return (double)ns / (double)NS_PER_US / 1000;
}

/* Replays a variant of a scene, and keeps the fastest. On an error there was a message. */
static int replay_variant(
	struct replay *best, const char *directory, size_t scene, enum variant variant)
{
	static const struct vmm_options options = { .window = 256, .wait = VGF_WAIT_DRIVER };
	struct replay replay;
	char path[4096];
	int length = snprintf(path, sizeof(path), "%s/%s-%s.vgtrace", directory, scenes[scene].name,
		variants[variant].suffix);
	int ret = 0;

	if (length < 0 || (size_t)length >= sizeof(path)) {
		fprintf(stderr, "vgfence demo: %s: %s\n", directory, strerror(ENAMETOOLONG));
		return -ENAMETOOLONG;
	}
	replay_progress(path, scene * NUM_VARIANTS + variant, NUM_SCENES * NUM_VARIANTS);
	for (int i = 0; ret == 0 && i < NUM_RUNS; i++) {
		ret = replay_run(&replay, path, variants[variant].pace, &options, NULL);
		if (ret == 0 && !replay.ok) {
			fprintf(stderr, "vgfence demo: %s: not every job retired\n", path);
			ret = -EIO;
		}
		if (i == 0 || replay.result.makespan_ns < best->result.makespan_ns) {
			*best = replay;
			best->path = NULL; /* It was on our stack. */
		}
	}
	replay_progress(NULL, 0, 0);
	return ret;
}

static int show(const char *directory, size_t scene)
{
	struct replay replays[NUM_VARIANTS];
	double ms[NUM_VARIANTS];

	for (int i = 0; i < NUM_VARIANTS; i++) {
		int ret = replay_variant(&replays[i], directory, scene, (enum variant)i);

		if (ret < 0) {
			return ret;
		}
		ms[i] = to_ms(replays[i].result.makespan_ns);
	}
	printf("%-8s %-33s%5" PRIu64 " %5" PRIu64, scenes[scene].name, scenes[scene].what,
		replays[VARIANT_FAST_GUEST].num_jobs, replays[VARIANT_FAST_GUEST].num_in_fences);
	printf("  %5.1f %7.1f %5.1fx %5.1f %5.1f\n", ms[VARIANT_GUEST_WAITS],
		ms[VARIANT_SAME_GUEST], ms[VARIANT_GUEST_WAITS] / ms[VARIANT_SAME_GUEST],
		ms[VARIANT_FAST_GUEST], to_ms(replays[VARIANT_FAST_GUEST].ideal_ns));
	fflush(stdout);
	return 0;
}

static const char usage[] =
	"usage: vgfence demo [--recorded] [DIRECTORY]\n"
	"\n"
	"Replays the recordings in the directory. Without one it replays those that were\n"
	"installed with the program, or in a checkout those in tests/data/traces.\n"
	"\n"
	"  --recorded  says so: there is nothing else here. A real guest that does the same\n"
	"              work needs a kernel, which a checkout builds: ./run demo\n";

static int print_usage(FILE *file, int status)
{
	fputs(usage, file);
	return status;
}

/* What is installed comes first: a guest's recording is not to be trusted for lying below the
 * directory that somebody happens to be in. */
static const char *default_directory(void)
{
	return access(INSTALLED_TRACES, R_OK) == 0 ? INSTALLED_TRACES : CHECKOUT_DIRECTORY;
}

/* Said once, rather than for each recording. */
static bool is_directory(const char *path)
{
	DIR *directory = opendir(path);

	if (directory == NULL) {
		fprintf(stderr, "vgfence demo: %s: %s\n", path, strerror(errno));
		return false;
	}
	closedir(directory);
	return true;
}

int demo_main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "recorded", no_argument, NULL, 'r' },
		{ 0 },
	};
	const char *directory;
	int status = EXIT_SUCCESS;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) == 'r') {
	}
	if (option == 'h') {
		return print_usage(stdout, EXIT_SUCCESS);
	}
	if (option != -1 || argc - optind > 1) {
		return print_usage(stderr, 2);
	}
	directory = optind < argc ? argv[optind] : default_directory();
	if (!is_directory(directory)) {
		return EXIT_FAILURE;
	}
	printf("%s", introduction);
	fflush(stdout);
	for (size_t i = 0; i < NUM_SCENES; i++) {
		if (show(directory, i) < 0) {
			status = EXIT_FAILURE;
		}
	}
	printf("%s", explanation);
	return status;
}
