/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence control: asks a running 'vgfence gpu' something, or has it do something. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "control_client.h"
#include "fence_name.h"

static const char usage[] = "usage: vgfence control SOCKET list\n"
			    "       vgfence control SOCKET dump\n"
			    "       vgfence control SOCKET cancel CONTEXT:RING:FENCE\n"
			    "       vgfence control SOCKET trace FILE\n"
			    "       vgfence control SOCKET end-trace\n";

static const char help[] =
	"\n"
	"Asks a running 'vgfence gpu' something, or has it do something, by its control socket. "
	"It\n"
	"must be the same user's.\n"
	"\n"
	"  list              what 'vgfence top' shows, as a line of JSON\n"
	"  dump              all pending fences and what they wait for, as text\n"
	"  cancel CONTEXT:RING:FENCE\n"
	"                    give up on a fence, by the name that 'vgfence top' and messages "
	"have;\n"
	"                    RING is global for the device's own timeline. Its request is "
	"answered\n"
	"                    with an error in its turn, and work that waits for it runs\n"
	"  trace FILE        write what fences do to a file from now on, for\n"
	"                    'vgfence trace'\n"
	"  end-trace         end that file\n"
	"\n"
	"docs/observing.md has the protocol.\n";

static int bad_usage(const char *message)
{
	fprintf(stderr, "vgfence control: %s\n%s", message, usage);
	return 2;
}

/* Without arguments. */
static int make_plain(const char *name, char **arguments, struct json_object **request)
{
	if (arguments[0] != NULL) {
		return bad_usage("there is too much");
	}
	*request = control_request(name);
	return 0;
}

static int make_cancel(const char *name, char **arguments, struct json_object **request)
{
	struct vgf_fence_name fence;

	if (arguments[0] == NULL || arguments[1] != NULL ||
		!fence_name_parse(arguments[0], &fence)) {
		return bad_usage("cancel needs CONTEXT:RING:FENCE, like 1:0:5 or 0:global:5");
	}
	*request = control_request(name);
	if (*request != NULL) {
		json_object_object_add(*request, "context", json_object_new_uint64(fence.ctx_id));
		json_object_object_add(*request, "ring",
			fence.ring == VGF_RING_GLOBAL ? NULL : json_object_new_int(fence.ring));
		json_object_object_add(*request, "fence", json_object_new_uint64(fence.fence_id));
	}
	return 0;
}

/* The device may be in another directory. */
static int make_trace(const char *name, char **arguments, struct json_object **request)
{
	char directory[PATH_MAX] = "", *path = NULL;

	if (arguments[0] == NULL || arguments[0][0] == '\0' || arguments[1] != NULL) {
		return bad_usage("trace needs a FILE");
	}
	if (arguments[0][0] != '/' && getcwd(directory, sizeof(directory)) == NULL) {
		fprintf(stderr, "vgfence control: this directory: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	if (asprintf(&path, "%s%s%s", directory, directory[0] != '\0' ? "/" : "", arguments[0]) <
		0) {
		return 0; /* as without memory for the request */
	}
	*request = control_request(name);
	if (*request != NULL) {
		json_object_object_add(*request, "file", json_object_new_string(path));
	}
	free(path);
	return 0;
}

static void print_json(struct json_object *answer)
{
	const char *text = json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN);

	control_print_text(stdout, text != NULL ? text : "", false);
	printf("\n");
}

static void print_dump(struct json_object *answer)
{
	struct json_object *dump = control_member(answer, "dump", json_type_string);

	control_print_text(stdout, dump != NULL ? json_object_get_string(dump) : "", true);
}

static void print_nothing(struct json_object *answer)
{
	(void)answer;
}

static const struct request {
	const char *name;
	/* Returns the program's exit status, or 0 with the request in *request, or NULL there. */
	int (*make)(const char *name, char **arguments, struct json_object **request);
	void (*print)(struct json_object *answer);
} requests[] = {
	{ "list", make_plain, print_json },
	{ "dump", make_plain, print_dump },
	{ "cancel", make_cancel, print_nothing },
	{ "trace", make_trace, print_nothing },
	{ "end-trace", make_plain, print_nothing },
};

static int ask(const struct request *request, const char *path, struct json_object *object)
{
	struct control_client client;
	struct json_object *answer = NULL, *error;
	int ret = control_client_open(&client, path);

	if (ret < 0) {
		json_object_put(object);
	} else {
		ret = control_client_ask_put(&client, object, &answer);
	}
	control_client_close(&client);
	if (ret < 0) {
		fprintf(stderr, "vgfence control: %s: %s\n", path, strerror(-ret));
		return EXIT_FAILURE;
	}
	error = control_member(answer, "error", json_type_string);
	if (error != NULL) {
		fprintf(stderr, "vgfence control: %s: ", request->name);
		control_print_text(stderr, json_object_get_string(error), false);
		fprintf(stderr, "\n");
		ret = EXIT_FAILURE;
	} else {
		request->print(answer);
	}
	json_object_put(answer);
	return ret;
}

int control_main(int argc, char **argv)
{
	struct json_object *object = NULL;
	int status;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			printf("%s%s", usage, help);
			return EXIT_SUCCESS;
		}
	}
	if (argc < 3) {
		return bad_usage("SOCKET and a request are missing");
	}
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (strcmp(requests[i].name, argv[2]) == 0) {
			status = requests[i].make(argv[2], argv + 3, &object);
			return status != 0 ? status : ask(&requests[i], argv[1], object);
		}
	}
	return bad_usage("there is no such request");
}
