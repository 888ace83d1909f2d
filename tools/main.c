/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The vgfence program: picks the subcommand. */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/vgfence.h>

#include "bench.h"
#include "commands.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "info", info_main, "what this host can do" },
	{ "gpu", gpu_main, "a GPU for a virtual machine, behind a vhost-user socket" },
	{ "top", top_main, "what a running GPU does, and which fences hang" },
	{ "control", control_main, "ask a running GPU something, or give up on a fence" },
	{ "replay", replay_main, "recorded guest traffic through the library and a software GPU" },
	{ "trace", trace_main, "what fences did: for Perfetto, as a picture, as text" },
	{ "demo", demo_main, "recorded guest traffic without and with fence passing, compared" },
	{ "bench", bench_main, "what the library costs" },
};

#define NUM_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *file)
{
	fprintf(file, "usage: vgfence COMMAND [ARGUMENT...]\n\n");
	for (size_t i = 0; i < NUM_COMMANDS; i++) {
		fprintf(file, "  %-9s%s\n", commands[i].name, commands[i].summary);
	}
	fprintf(file,
		"\n'vgfence COMMAND --help' explains one of them, "
		"'vgfence --version' prints the version.\n");
}

/* A table that did not arrive is an error, even if nothing else was. */
static int finish_output(int status)
{
	errno = EIO; /* if it was an earlier write that failed */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "vgfence: writing to standard output: %s\n", strerror(errno));
		return status == EXIT_SUCCESS ? EXIT_FAILURE : status;
	}
	return status;
}

/* Management software starts a GPU by the name of a program alone: vgfence-gpu is another name of
 * this one. */
static bool is_called(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash != NULL ? slash + 1 : path, name) == 0;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (argc > 0 && is_called(argv[0], "vgfence-gpu")) {
		return finish_output(gpu_main(argc, argv));
	}

	for (size_t i = 0; i < NUM_COMMANDS; i++) {
		if (strcmp(name, commands[i].name) == 0) {
			return finish_output(commands[i].run(argc - 1, argv + 1));
		}
	}
	if (strcmp(name, "--version") == 0) {
		printf("vgfence %s\n", vgf_version());
		return finish_output(EXIT_SUCCESS);
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
		print_usage(stdout);
		return EXIT_SUCCESS;
	}
	if (name[0] != '\0') {
		fprintf(stderr, "vgfence: there is no command '%s'\n\n", name);
	}
	print_usage(stderr);
	return 2;
}
