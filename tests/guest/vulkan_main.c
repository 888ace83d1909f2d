/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence-vulkan: checks of Vulkan, for a guest by Venus. See usage() below.
 */

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vulkan_commands.h"
#include "vulkan_report.h"

static const struct {
	const char *name;
	void (*run)(const struct vulkan_options *options);
} commands[] = {
	{ "compute", vulkan_compute },
	{ "draw", vulkan_draw },
	{ "timeline", vulkan_timeline },
	{ "share", vulkan_share },
};

#define NUM_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *stream)
{
	fputs("usage: vgfence-vulkan [OPTION...] compute|draw|timeline|share...\n"
	      "\n"
	      "  --driver NAME   only a device of this driver: venus, llvmpipe\n"
	      "  --picture FILE  where draw writes what it has drawn, a portable pixmap\n"
	      "  --rounds N      of timeline and share\n"
	      "  --steps N       how long the producer's jobs are\n"
	      "  --gl            share has a third process, with OpenGL\n"
	      "  --no-wait       timeline and share leave out the waiting, and it has to show\n"
	      "\n"
	      "Status 1: a check has failed. 77: none could be made here; the output says why.\n",
		stream);
}

static uint32_t number(const char *argument)
{
	char *end;
	unsigned long value = strtoul(argument, &end, 10);

	if (*end != '\0' || value == 0 || value > 1000000000) {
		errx(2, "'%s' is not such a number", argument);
	}
	return (uint32_t)value;
}

static void parse(struct vulkan_options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "driver", required_argument, NULL, 'd' },
		{ "gl", no_argument, NULL, 'g' },
		{ "help", no_argument, NULL, 'h' },
		{ "no-wait", no_argument, NULL, 'n' },
		{ "picture", required_argument, NULL, 'p' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "steps", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (option) {
		case 'd':
			options->driver = optarg;
			break;
		case 'g':
			options->gl = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'n':
			options->no_wait = true;
			break;
		case 'p':
			options->picture = optarg;
			break;
		case 'r':
			options->rounds = number(optarg);
			break;
		case 's':
			options->steps = number(optarg);
			break;
		default:
			usage(stderr);
			exit(2);
		}
	}
}

static void run(const char *name, const struct vulkan_options *options)
{
	for (size_t i = 0; i < NUM_COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(options);
			return;
		}
	}
	errx(2, "there is no '%s' (see --help)", name);
}

/* Each in a process of its own: a driver's threads would not be there after another's fork.
 * Returns its status. */
static int run_apart(const char *name, const struct vulkan_options *options)
{
	pid_t process = fork();
	int status;

	if (process < 0) {
		err(1, "fork");
	}
	if (process == 0) {
		run(name, options);
		exit(report_status());
	}
	if (waitpid(process, &status, 0) < 0) {
		err(1, "waitpid");
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	struct vulkan_options options = { 0 };
	bool made = false;

	parse(&options, argc, argv);
	if (optind == argc) {
		usage(stderr);
		return 2;
	}
	for (int i = optind; i < argc; i++) {
		int status = run_apart(argv[i], &options);

		if (status == 0) {
			made = true;
		} else if (status != REPORT_SKIPPED) {
			return status;
		}
	}
	return made ? 0 : REPORT_SKIPPED;
}
