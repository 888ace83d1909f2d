/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence-guest: workloads for the guest's virtio-gpu. See usage() below.
 */

#include <err.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include "workloads.h"

#define MAX_ROUNDS 101
#define MAX_BUSY_US 1000000

struct options {
	bool passing[2]; /* without, and with it */
	bool json;
	bool no_wait;
	const char *pause;      /* a directory, or NULL */
	uint32_t units, rounds; /* units 0: the workload's own number */
};

static const struct workload *const workloads[] = {
	&workload_chain,
	&workload_frames,
	&workload_storm,
	&workload_syncobj,
	&workload_teardown,
	&workload_sparse,
};

#define NUM_WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

static void usage(FILE *stream)
{
	fputs("usage: vgfence-guest [OPTION...] chain|frames|storm|syncobj|teardown|sparse\n"
	      "       vgfence-guest [OPTION...] driver|all\n"
	      "       vgfence-guest [OPTION...] hostmem|monitors|pending|screen|unbind|virgl\n"
	      "\n"
	      "  --passing      only with fence passing (default: both ways)\n"
	      "  --no-passing   only without it: the guest's kernel waits\n"
	      "  --host-memory  buffers are blobs of the host's memory\n"
	      "  --no-wait      the control: no job waits for another, which has to go wrong\n"
	      "  --jobs N       number of jobs, frames, round trips, cycles or pages in a run\n"
	      "  --busy US      how long a job of the chain takes (default 50)\n"
	      "  --rounds N     runs that are measured, of which the best counts (default 3)\n"
	      "  --json         print one JSON object a line\n"
	      "  --pause DIR    rest before and after each measurement, until the files 1, 2, ...\n"
	      "                 appear in the directory, so that others can read the CPU time\n",
		stream);
}

/* Errors that the device answers are seen by the kernel alone. It says so, but of many not each. */
static void check_device_errors(void)
{
	enum { READ_ALL = 3 };
	static char log[1 << 18];
	int size = klogctl(READ_ALL, log, sizeof(log) - 1);

	if (size < 0) {
		err(1, "reading the kernel's log");
	}
	log[size] = '\0';
	if (strstr(log, "*ERROR* response")) {
		errx(1, "the device has answered with an error (see the kernel's log)");
	}
}

/* Idle, until whoever measures the CPU time outside has looked. */
static void rest(const struct options *options)
{
	const struct timespec moment = { .tv_nsec = 5000000 };
	static uint32_t number;
	uint64_t end_ns = now_ns() + RUN_TIMEOUT_MS * 1000000ull;
	char path[PATH_MAX];

	if (!options->pause) {
		return;
	}
	snprintf(path, sizeof(path), "%s/%u", options->pause, ++number);
	while (access(path, F_OK) < 0) {
		if (now_ns() > end_ns) {
			errx(1, "nobody has looked: there is no %s", path);
		}
		nanosleep(&moment, NULL);
	}
}

static void announce(const struct options *options, const struct workload *workload, bool passing)
{
	if (options->pause) {
		printf("{\"start\": \"%s\", \"passing\": %s}\n", workload->name,
			passing ? "true" : "false");
		fflush(stdout);
		rest(options);
	}
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

struct result {
	uint32_t units;
	double us[MAX_ROUNDS]; /* a unit, sorted */
	double limit_us;       /* of the GPU; 0: none is known */
	uint64_t num_checks;
};

static void report(const struct options *options, const struct workload *workload, bool passing,
	const struct result *result)
{
	double best = result->us[0], median = result->us[options->rounds / 2];

	if (options->json) {
		printf("{\"workload\": \"%s\", \"passing\": %s, \"unit\": \"%s\", \"units\": %u, "
		       "\"rounds\": %u, \"us\": %.2f, \"median_us\": %.2f, \"limit_us\": %.2f, "
		       "\"checks\": %llu}\n",
			workload->name, passing ? "true" : "false", workload->unit, result->units,
			options->rounds, best, median, result->limit_us,
			(unsigned long long)result->num_checks);
	} else {
		printf("%s, %s: %.1f us a %s", workload->name,
			passing ? "fences passed" : "guest waits", best, workload->unit);
		if (result->limit_us > 0) {
			printf(" (the GPU's limit: %.1f)", result->limit_us);
		}
		printf(", %llu checks right\n", (unsigned long long)result->num_checks);
	}
	fflush(stdout);
}

static void run_workload(
	const struct options *options, const struct workload *workload, bool passing)
{
	struct result result = { .units = options->units ? options->units : workload->units };
	struct run run;

	run_init(&run, workload->num_contexts, workload->num_rings, passing);
	run.no_wait = options->no_wait;
	for (uint32_t i = 0; i <= options->rounds; i++) {
		bool warms_up = i == 0;

		run_begin(&run, warms_up);
		workload->submit(&run, result.units);
		run_end(&run);
		result.num_checks += run.num_checks;
		if (warms_up) {
			announce(options, workload, passing);
		} else {
			result.us[i - 1] = (double)(run.end_ns - run.start_ns) / 1000 /
				result.units;
		}
	}
	check_device_errors();
	result.limit_us = (double)run.critical_path_us / result.units;
	qsort(result.us, options->rounds, sizeof(result.us[0]), compare);
	report(options, workload, passing, &result);
	rest(options);
	run_finish(&run);
}

static void run_both(const struct options *options, const struct workload *workload)
{
	for (int passing = 0; passing < 2; passing++) {
		if (options->passing[passing]) {
			run_workload(options, workload, passing);
		}
	}
}

static uint32_t number(const char *text, uint32_t max)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || value < 1 || value > max) {
		errx(2, "not a number from 1 to %u: '%s'", max, text);
	}
	return (uint32_t)value;
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
		{ "passing", no_argument, NULL, 'p' },
		{ "no-passing", no_argument, NULL, 'n' },
		{ "host-memory", no_argument, NULL, 'H' },
		{ "no-wait", no_argument, NULL, 'w' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "busy", required_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'J' },
		{ "pause", required_argument, NULL, 'P' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'p':
			options->passing[0] = false;
			break;
		case 'n':
			options->passing[1] = false;
			break;
		case 'H':
			use_host_memory = true;
			break;
		case 'w':
			options->no_wait = true;
			break;
		case 'j':
			options->units = number(optarg, CONTEXT_NUM_SLOTS / 4);
			break;
		case 'r':
			options->rounds = number(optarg, MAX_ROUNDS);
			break;
		case 'b':
			chain_busy_us = number(optarg, MAX_BUSY_US);
			break;
		case 'J':
			options->json = true;
			break;
		case 'P':
			options->pause = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
}

static void report_checks(const struct options *options, const char *name, uint32_t num_checks)
{
	check_device_errors();
	printf(options->json ? "{\"%s_checks\": %u}\n" : "%s: %u checks right\n", name, num_checks);
}

/* Both ways, or one. */
static uint32_t check_screens(const struct options *options)
{
	uint32_t num_checks = 0;

	for (int passing = 0; passing < 2; passing++) {
		if (options->passing[passing]) {
			num_checks += check_screen(passing);
		}
	}
	return num_checks;
}

static bool run_named(const struct options *options, const char *name)
{
	bool all = strcmp(name, "all") == 0, found = all;

	for (size_t i = 0; i < NUM_WORKLOADS; i++) {
		if (all || strcmp(name, workloads[i]->name) == 0) {
			run_both(options, workloads[i]);
			found = true;
		}
	}
	if (all || strcmp(name, "driver") == 0) {
		report_checks(options, "driver", check_driver());
		found = true;
	}
	if (strcmp(name, "screen") == 0 || (all && has_screen())) {
		report_checks(options, "screen", check_screens(options));
		found = true;
	}
	if (strcmp(name, "hostmem") == 0 || (all && has_host_memory())) {
		report_checks(options, "hostmem", check_hostmem());
		found = true;
	}
	if (strcmp(name, "virgl") == 0) {
		report_checks(options, "virgl", check_virgl());
		found = true;
	}
	if (strcmp(name, "monitors") == 0) {
		flip_monitors(options->passing[1], options->units ? options->units : 20);
		found = true;
	}
	if (strcmp(name, "pending") == 0) {
		leave_pending(options->passing[1], options->units);
		found = true;
	}
	if (strcmp(name, "unbind") == 0) {
		unbind_driver(options->passing[1]);
		found = true;
	}
	return found;
}

int main(int argc, char **argv)
{
	struct options options = { .passing = { true, true }, .rounds = 3 };

	parse(argc, argv, &options);
	if (optind + 1 != argc) {
		usage(stderr);
		return 2;
	}
	if (!has_fence_passing()) {
		if (!options.passing[0]) {
			errx(1, "this guest has no fence passing");
		}
		options.passing[1] = false;
	}
	if (use_host_memory && !has_host_memory()) {
		errx(1, "this guest cannot map memory of the host");
	}
	if (options.pause) {
		printf("{\"begin\": true}\n");
		fflush(stdout);
	}
	if (!run_named(&options, argv[optind])) {
		usage(stderr);
		return 2;
	}
	return 0;
}
