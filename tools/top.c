/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence top: what a running 'vgfence gpu' does, again and again. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "control_client.h"
#include "top_sample.h"

static const char usage[] = "usage: vgfence top SOCKET [OPTION...] (--help for more)\n";

static const char help[] =
	"\n"
	"Shows what a running 'vgfence gpu' that has a control socket does: its timelines, which\n"
	"are the rings of its contexts and one of the device itself; what is pending on each and\n"
	"held back; fences a second and how long they took; fences that hang, and what each waits "
	"for.\n"
	"On a terminal it begins again at the top each time; q ends it, s sorts by latency "
	"instead\n"
	"of pending fences, and back. In a pipe it prints line by line.\n"
	"\n"
	"A fence hangs if it has been the oldest of its timeline for a while. That is looked for\n"
	"four times a second, and shown at once.\n"
	"\n"
	"  --interval=SECONDS\n"
	"                    how often to show all (default 1)\n"
	"  --hung=SECONDS    after how long a fence hangs (default 0.5)\n"
	"  --once            show all once, after one interval, and end\n"
	"  --sort=pending|latency\n"
	"                    which timelines come first (default pending)\n"
	"\n"
	"'vgfence control SOCKET cancel NAME' gives up on a fence that hangs.\n";

/* How often what hangs is looked for, if the interval is not shorter. */
#define LOOK_NS (250 * NS_PER_MS)

/* After this it is shown that the device does not answer; --once waits for longer, and gives up. */
#define LATE_NS NS_PER_S
#define ONCE_NS (CONTROL_TIMEOUT_MS * NS_PER_MS)

struct options {
	const char *path;
	uint64_t interval_ns, hung_ns;
	bool once, by_latency;
};

struct top {
	struct options options;
	struct control_client client;
	bool terminal;
	struct termios before;
	bool asked, late;
	uint64_t asked_ns; /* the last time */
	bool has_base;     /* there was a sample before, for what happens in a second */
	struct top_sample base, sample;
	uint64_t shown_ns;
	uint32_t num_hung; /* that were shown last */
	struct vgf_fence_name hung[TOP_MAX_HUNG];
};

static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

/* ---- Options -------------------------------------------------------------------------------- */

static void bad_usage(const char *message)
{
	fprintf(stderr, "vgfence top: %s\n%s", message, usage);
	exit(2);
}

static uint64_t parse_seconds(const char *text, const char *message)
{
	char *after;
	double seconds = strtod(text, &after);

	if (after == text || *after != '\0' || !(seconds >= 0.1 && seconds <= 3600)) {
		bad_usage(message);
	}
	return (uint64_t)(seconds * NS_PER_S);
}

static bool parse_sort(const char *text)
{
	if (strcmp(text, "latency") != 0 && strcmp(text, "pending") != 0) {
		bad_usage("--sort must be pending or latency");
	}
	return strcmp(text, "latency") == 0;
}

static void parse_option(struct options *options, int id)
{
	switch (id) {
	case 'i':
		options->interval_ns = parse_seconds(
			optarg, "--interval must be a number of seconds, 0.1 to 3600");
		break;
	case 'h':
		options->hung_ns = parse_seconds(
			optarg, "--hung must be a number of seconds, 0.1 to 3600");
		break;
	case 'o':
		options->once = true;
		break;
	case 's':
		options->by_latency = parse_sort(optarg);
		break;
	case '?':
		fprintf(stderr, "%s", usage);
		exit(2);
	default:
		printf("%s%s", usage, help);
		exit(EXIT_SUCCESS);
	}
}

static void parse_options(struct options *options, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "hung", required_argument, NULL, 'h' },
		{ "once", no_argument, NULL, 'o' },
		{ "sort", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'H' },
		{ 0 },
	};
	int id;

	*options = (struct options){ .interval_ns = NS_PER_S, .hung_ns = NS_PER_S / 2 };
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		parse_option(options, id);
	}
	if (optind + 1 != argc) {
		bad_usage("SOCKET is missing, or there is more");
	}
	options->path = argv[optind];
}

/* ---- Showing -------------------------------------------------------------------------------- */

/* Prints a text that was made in memory, at most so many of its lines, and of each so many
 * columns. */
static void print_screen(const char *text, int rows, int columns)
{
	printf("\033[H");
	for (int row = 0; row < rows && *text != '\0'; row++) {
		int length = (int)strcspn(text, "\n");

		printf("%s%.*s\033[K", row > 0 ? "\r\n" : "", length < columns ? length : columns,
			text);
		text += length + (text[length] == '\n');
	}
	printf("\033[J");
}

static void print(const struct top *top, const char *text)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	if (top->terminal) {
		ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
		print_screen(text, size.ws_row > 0 ? size.ws_row : 24,
			size.ws_col > 0 ? size.ws_col : 80);
	} else {
		fputs(text, stdout);
	}
	fflush(stdout);
}

static void show(struct top *top, uint64_t now)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	const struct top_view view = {
		.path = top->options.path,
		.before = top->has_base ? &top->base : NULL,
		.now = &top->sample,
		.hung_ns = top->options.hung_ns,
		.by_latency = top->options.by_latency,
		.late_ns = top->late ? now - top->asked_ns : 0,
	};

	if (file == NULL) {
		return;
	}
	top_write(file, &view);
	if (!top->terminal) {
		fprintf(file, "\n");
	}
	if (fclose(file) == 0) {
		print(top, text);
	}
	free(text);
}

/* Whether one hangs that was not shown as that. */
static bool has_new_hung(struct top *top)
{
	struct vgf_fence_name hung[TOP_MAX_HUNG];
	uint32_t count = top_list_hung(&top->sample, top->options.hung_ns, hung);
	bool found = false;

	for (uint32_t i = 0; i < count && !found; i++) {
		uint32_t at = 0;

		while (at < top->num_hung &&
			(top->hung[at].fence_id != hung[i].fence_id ||
				top->hung[at].ctx_id != hung[i].ctx_id ||
				top->hung[at].ring != hung[i].ring)) {
			at++;
		}
		found = at == top->num_hung;
	}
	memcpy(top->hung, hung, sizeof(hung));
	top->num_hung = count;
	return found;
}

/* ---- Asking --------------------------------------------------------------------------------- */

static void take_sample(struct top *top, struct json_object *answer)
{
	uint64_t now = now_ns();
	bool first = top->shown_ns == 0;
	bool is_due, is_new;

	top->asked = false;
	top->late = false;
	top_sample_read(&top->sample, answer);
	if (first) {
		top->base = top->sample;
		top->shown_ns = now;
	}
	is_due = now - top->shown_ns >= top->options.interval_ns;
	is_new = has_new_hung(top) || first;
	if (is_due || (is_new && !top->options.once)) {
		show(top, now);
	}
	if (is_due) {
		top->base = top->sample;
		top->shown_ns = now;
		ended = ended || top->options.once;
	}
	top->has_base = true;
}

static int receive(struct top *top)
{
	struct json_object *answer;
	int ret = control_client_receive(&top->client, &answer);

	if (ret > 0) {
		take_sample(top, answer);
		json_object_put(answer);
	}
	return ret < 0 ? ret : 0;
}

static uint64_t period(const struct top *top)
{
	return top->options.interval_ns < LOOK_NS ? top->options.interval_ns : LOOK_NS;
}

static uint64_t patience(const struct top *top)
{
	return top->options.once ? ONCE_NS : LATE_NS;
}

static int ask(struct top *top, uint64_t now)
{
	if (top->asked && !top->late && now - top->asked_ns >= patience(top)) {
		if (top->options.once) {
			return -ETIMEDOUT;
		}
		top->late = true;
		show(top, now);
	}
	if (top->asked || now - top->asked_ns < period(top)) {
		return 0;
	}
	top->asked = true;
	top->asked_ns = now;
	return control_client_send_put(&top->client, control_request("list"));
}

static void press(struct top *top)
{
	char key;

	if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q') {
		ended = 1;
	} else if (key == 's') {
		top->options.by_latency = !top->options.by_latency;
		show(top, now_ns());
	}
}

static int run(struct top *top)
{
	int ret = 0;

	while (ret == 0 && !ended) {
		struct pollfd poll_fds[] = { { .fd = top->client.fd, .events = POLLIN },
			{ .fd = top->terminal ? STDIN_FILENO : -1, .events = POLLIN } };
		struct timespec left;

		ret = ask(top, now_ns());
		left = time_until(top->asked_ns + (top->asked ? patience(top) : period(top)));
		/* Once it was shown that the answer is late, only that is waited for. */
		if (ret == 0 && ppoll(poll_fds, 2, top->late ? NULL : &left, NULL) > 0) {
			ret = poll_fds[0].revents != 0 ? receive(top) : 0;
			if (poll_fds[1].revents != 0) {
				press(top);
			}
		}
	}
	return ret;
}

/* ---- The terminal --------------------------------------------------------------------------- */

static void start_terminal(struct top *top)
{
	struct termios raw;

	top->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !top->options.once &&
		tcgetattr(STDIN_FILENO, &top->before) == 0;
	if (top->terminal) {
		raw = top->before;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		printf("\033[?1049h\033[H"); /* the other screen: what was there comes back */
	}
}

static void finish_terminal(struct top *top)
{
	if (top->terminal) {
		printf("\033[?1049l");
		fflush(stdout);
		tcsetattr(STDIN_FILENO, TCSANOW, &top->before);
	}
}

int top_main(int argc, char **argv)
{
	static struct top top;
	const struct sigaction action = { .sa_handler = end };
	int ret;

	parse_options(&top.options, argc, argv);
	ret = control_client_open(&top.client, top.options.path);
	if (ret == 0) {
		sigaction(SIGINT, &action, NULL);
		sigaction(SIGTERM, &action, NULL);
		start_terminal(&top);
		ret = run(&top);
		finish_terminal(&top);
	}
	control_client_close(&top.client);
	if (ret < 0) {
		fprintf(stderr, "vgfence top: %s: %s\n", top.options.path,
			ret == -ECONNRESET ? "the device has gone" : strerror(-ret));
	}
	return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
