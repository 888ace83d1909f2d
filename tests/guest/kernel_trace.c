/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "kernel_trace.h"

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing"
#define EVENTS TRACING "/events/virtio_gpu/enable"

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		err(1, "%s", path);
	}
	close(fd);
}

void kernel_trace_begin(void)
{
	if (access(TRACING "/trace", W_OK) < 0 &&
		mount("tracefs", TRACING, "tracefs", 0, NULL) < 0) {
		err(1, "this kernel has no " TRACING);
	}
	write_file(EVENTS, "1");
	write_file(TRACING "/trace", "");
}

FILE *kernel_trace_end(void)
{
	FILE *trace;

	write_file(EVENTS, "0");
	trace = fopen(TRACING "/trace", "re");
	if (!trace) {
		err(1, TRACING "/trace");
	}
	return trace;
}

unsigned long kernel_trace_number(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at ? strtoul(at + strlen(name), NULL, 0) : 0;
}

/* An answer has the number of its request. */
bool kernel_trace_end_submissions(void)
{
	unsigned long first = 0, first_context = 0;
	bool answered = false, found = false;
	FILE *trace = kernel_trace_end();
	char line[512];

	while (!found && fgets(line, sizeof(line), trace)) {
		unsigned long seqno = kernel_trace_number(line, " seqno=");
		unsigned long context = kernel_trace_number(line, " ctx_id=");

		if (strstr(line, "virtio_gpu_cmd_response:")) {
			answered |= first != 0 && seqno == first;
		} else if (kernel_trace_number(line, " type=") == TRACE_COMMAND_SUBMIT) {
			found = first != 0 && context != first_context;
			if (first == 0) {
				first = seqno;
				first_context = context;
			}
		}
	}
	fclose(trace);
	if (!found) {
		errx(1, "a frame is not in the kernel's trace");
	}
	return !answered;
}
