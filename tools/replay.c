/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence replay: recorded guest traffic through the library and a software GPU. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "ideal.h"
#include "replay.h"
#include "vgem.h"

/* The default size of a virtqueue: no more requests can be in flight. */
#define DEFAULT_WINDOW 256
#define MAX_WINDOW 32768 /* and the largest that virtio allows */

static const char usage[] = "usage: vgfence replay [OPTION...] TRACE...\n";

static const char help[] =
	"\n"
	"Sends the requests of recorded guests to the library, as a VMM would, and runs their\n"
	"jobs on a software GPU, which takes as long for each as its command stream says.\n"
	"\n"
	"  --pace=asap       as fast as the window allows (default for a trace with in-fences)\n"
	"  --pace=recorded   at the recorded times\n"
	"  --pace=causal     each request as long after the completions before it as recorded:\n"
	"                    like a guest that waits itself (default for a trace without);\n"
	"                    a second at most\n"
	"  --window=N        requests in flight at most (default 256, a virtqueue's size)\n"
	"  --wait=driver     the GPU takes in-fences as descriptors and waits (default)\n"
	"  --wait=host       the library holds work back until its in-fences have signalled\n"
	"  --fences=eventfd  the GPU's out-fences are descriptors (default)\n"
	"  --fences=call     they have none: the GPU calls the library\n"
	"  --fences=vgem     they are the kernel's own sync files, and --wait=driver lets the\n"
	"                    kernel merge what a job waits for; needs the vgem driver\n"
	"  --events=FILE     write what happened, one JSON object a line (one trace only)\n"
	"  --json            print an array with an object for each trace\n"
	"\n"
	"The columns of the table:\n"
	"  jobs, in-fences   what the guest submitted, and for how many fences it is to wait\n"
	"  ready             jobs that had nothing to wait for any more\n"
	"  driver            jobs handed to the GPU together with what they wait for\n"
	"  held              jobs that the library held back\n"
	"  retired, refused  jobs whose fences the VMM was told of; jobs not accepted\n"
	"  makespan          milliseconds from the first job sent to the last one retired\n"
	"  ideal             the same if all but the jobs and the guest's pauses took no time\n"
	"  efficiency        ideal / makespan\n"
	"  p50, p99, max     microseconds from the GPU's signal to the VMM's callback\n"
	"\n"
	"The exit status is 0 if every job of every trace was accepted, ran and retired.\n";

struct options {
	enum pace pace;
	struct vmm_options vmm;
	const char *events_path;
	bool json;
};

enum option_id {
	OPTION_PACE,
	OPTION_WINDOW,
	OPTION_WAIT,
	OPTION_FENCES,
	OPTION_EVENTS,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "pace", required_argument, NULL, OPTION_PACE },
	{ "window", required_argument, NULL, OPTION_WINDOW },
	{ "wait", required_argument, NULL, OPTION_WAIT },
	{ "fences", required_argument, NULL, OPTION_FENCES },
	{ "events", required_argument, NULL, OPTION_EVENTS },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

struct choice {
	const char *name;
	int value;
};

static const struct choice paces[] = {
	{ "asap", PACE_ASAP },
	{ "recorded", PACE_RECORDED },
	{ "causal", PACE_CAUSAL },
	{ 0 },
};

static const struct choice waits[] = {
	{ "host", VGF_WAIT_HOST },
	{ "driver", VGF_WAIT_DRIVER },
	{ 0 },
};

static const struct choice fence_kinds[] = {
	{ "eventfd", SOFT_GPU_FENCES_EVENTFD },
	{ "call", SOFT_GPU_FENCES_CALL },
	{ "vgem", SOFT_GPU_FENCES_VGEM },
	{ 0 },
};

static void bad_usage(const char *message)
{
	fprintf(stderr, "vgfence replay: %s\n%s", message, usage);
	exit(2);
}

static int choose(const struct choice *choices, const char *option, const char *value)
{
	for (const struct choice *choice = choices; choice->name != NULL; choice++) {
		if (strcmp(choice->name, value) == 0) {
			return choice->value;
		}
	}
	fprintf(stderr, "vgfence replay: --%s cannot be '%s'\n%s", option, value, usage);
	exit(2);
}

static uint32_t parse_window(const char *value)
{
	char *end;
	long window;

	errno = 0;
	window = strtol(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || window < 1 || window > MAX_WINDOW) {
		bad_usage("--window must be a number from 1 to 32768");
	}
	return (uint32_t)window;
}

static void parse_option(struct options *options, int id)
{
	switch (id) {
	case OPTION_PACE:
		options->pace = (enum pace)choose(paces, "pace", optarg);
		break;
	case OPTION_WINDOW:
		options->vmm.window = parse_window(optarg);
		break;
	case OPTION_WAIT:
		options->vmm.wait = (enum vgf_wait)choose(waits, "wait", optarg);
		break;
	case OPTION_FENCES:
		options->vmm.fences = (enum soft_gpu_fences)choose(fence_kinds, "fences", optarg);
		break;
	case OPTION_EVENTS:
		options->events_path = optarg;
		break;
	case OPTION_JSON:
		options->json = true;
		break;
	case OPTION_HELP:
		printf("%s%s", usage, help);
		exit(EXIT_SUCCESS);
	default:
		fprintf(stderr, "%s", usage);
		exit(2);
	}
}

static void parse_options(struct options *options, int argc, char **argv)
{
	int id;

	*options = (struct options){
		.vmm = { .window = DEFAULT_WINDOW, .wait = VGF_WAIT_DRIVER },
	};
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		parse_option(options, id);
	}
	if (optind == argc) {
		bad_usage("no trace is given");
	}
	if (options->events_path != NULL && optind + 1 != argc) {
		bad_usage("--events is for one trace: its lines do not name the trace");
	}
}

void replay_progress(const char *path, size_t done, size_t total)
{
	char name[64];

	if (!isatty(STDERR_FILENO)) {
		return;
	}
	fprintf(stderr, "\r\033[K");
	if (done < total) {
		fprintf(stderr, "%zu of %zu: %s", done + 1, total,
			replay_name(path, name, sizeof(name)));
	}
	fflush(stderr);
}

int replay_run(struct replay *replay, const char *path, enum pace pace,
	const struct vmm_options *options, const char *events_path)
{
	struct vmm_result *result = &replay->result;
	struct workload workload;
	int ret = workload_load(&workload, path, pace);

	if (ret < 0) {
		return ret;
	}
	*replay = (struct replay){
		.path = path,
		.num_jobs = workload.num_jobs,
		.num_in_fences = workload.num_in_fences,
	};
	ret = ideal_makespan(&workload, options->window, &replay->ideal_ns);
	if (ret == 0) {
		ret = vmm_replay(&workload, options, result);
	}
	if (ret == 0 && events_path != NULL) {
		ret = events_write(&result->events, &workload, events_path);
		if (ret < 0) {
			fprintf(stderr, "vgfence: %s: %s\n", events_path, strerror(-ret));
		}
	}
	replay->ok = ret == 0 && vmm_result_ok(&workload, result);
	vmm_result_finish(result);
	workload_finish(&workload);
	return ret;
}

/* Once, rather than as the failure of each trace. */
static bool has_vgem(void)
{
	int fd = vgem_open();

	if (fd < 0) {
		fprintf(stderr,
			"vgfence replay: --fences=vgem needs the kernel's vgem driver, and no node "
			"in\n"
			"/dev/dri that may be opened is of it. Where the kernel has it: modprobe "
			"vgem.\n"
			"Anywhere: ./run vm build/plain/tools/vgfence replay --fences=vgem ...\n");
		return false;
	}
	close(fd);
	return true;
}

int replay_main(int argc, char **argv)
{
	struct options options;
	struct replay *replays;
	size_t num_paths, count = 0;
	bool ok = true;

	parse_options(&options, argc, argv);
	if (options.vmm.fences == SOFT_GPU_FENCES_VGEM && !has_vgem()) {
		return EXIT_FAILURE;
	}
	num_paths = (size_t)(argc - optind);
	replays = calloc(num_paths, sizeof(*replays));
	if (replays == NULL) {
		fprintf(stderr, "vgfence: out of memory\n");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < num_paths; i++) {
		const char *path = argv[(size_t)optind + i];

		replay_progress(path, i, num_paths);
		if (replay_run(&replays[count], path, options.pace, &options.vmm,
			    options.events_path) < 0) {
			ok = false;
			continue;
		}
		ok = replays[count++].ok && ok;
	}
	replay_progress(NULL, num_paths, num_paths);
	if (!options.json) {
		replay_print_table(replays, count);
	} else if (replay_print_json(replays, count) < 0) {
		fprintf(stderr, "vgfence: out of memory\n");
		ok = false;
	}
	free(replays);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
