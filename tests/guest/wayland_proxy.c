/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence-wayland-proxy: lets the guest's Wayland clients be windows of the host's compositor. See
 * usage() below, and docs/cross-domain.md.
 */

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy_session.h"

static void usage(FILE *stream)
{
	fputs("usage: vgfence-wayland-proxy [OPTION...] CLIENT [ARGUMENT...]\n"
	      "\n"
	      "Runs a Wayland client in a guest whose virtio-gpu has cross-domain contexts, as a\n"
	      "window of the host's compositor. Ends with the client, with its status.\n"
	      "\n"
	      "  --socket NAME  where it listens, in XDG_RUNTIME_DIR (default: wayland-proxy)\n"
	      "  --guest-wait   wait for the fence of a buffer before it is sent, as proxies do\n"
	      "                 where fences are not passed\n"
	      "  --no-wait      the control: nobody waits for it, which has to go wrong\n"
	      "  --stats        say of each client that has gone how much of its memory was\n"
	      "                 copied\n",
		stream);
}

static const char *parse(int argc, char **argv, struct proxy_options *options)
{
	static const struct option names[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "guest-wait", no_argument, NULL, 'g' },
		{ "no-wait", no_argument, NULL, 'n' },
		{ "stats", no_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	const char *name = "wayland-proxy";
	int option;

	while ((option = getopt_long(argc, argv, "+", names, NULL)) != -1) {
		switch (option) {
		case 's':
			name = optarg;
			break;
		case 'g':
			options->fences = PROXY_WAIT;
			break;
		case 'n':
			options->fences = PROXY_IGNORE;
			break;
		case 't':
			options->stats = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind == argc) {
		usage(stderr);
		exit(2);
	}
	return name;
}

/* The directory is made where there is none: a guest without a login has none. */
static int listen_at(const char *name, struct sockaddr_un *address)
{
	const char *directory = getenv("XDG_RUNTIME_DIR");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (directory == NULL) {
		errx(2, "XDG_RUNTIME_DIR is not set");
	}
	if (mkdir(directory, 0700) < 0 && errno != EEXIST) {
		err(2, "%s", directory);
	}
	address->sun_family = AF_UNIX;
	if ((size_t)snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", directory,
		    name) >= sizeof(address->sun_path)) {
		errx(2, "%s/%s is too long", directory, name);
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)address, sizeof(*address)) < 0 ||
		listen(fd, SOMAXCONN) < 0) {
		err(2, "%s", address->sun_path);
	}
	return fd;
}

static pid_t start_client(char **arguments, const char *name, const sigset_t *blocked)
{
	pid_t child = fork();

	if (child < 0) {
		err(2, "fork");
	}
	if (child == 0) {
		sigprocmask(SIG_UNBLOCK, blocked, NULL);
		setenv("WAYLAND_DISPLAY", name, 1);
		execvp(arguments[0], arguments);
		err(127, "%s", arguments[0]);
	}
	return child;
}

/* A client that does wrong ends its own process. */
static void serve(int listen_fd, const sigset_t *signals, const struct proxy_options *options)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC), ret;

	if (fd < 0) {
		return;
	}
	if (fork() == 0) {
		sigprocmask(SIG_UNBLOCK, signals, NULL);
		close(listen_fd);
		ret = session_run(fd, options);
		if (ret != -EPIPE && ret != -ECONNRESET) {
			warnx("a client's session has ended: %s", strerror(-ret));
		}
		exit(0);
	}
	close(fd);
}

/* Whether it is the one that was started, whose status it sets. */
static bool collect(pid_t client, int *status)
{
	pid_t ended;

	while ((ended = waitpid(-1, status, WNOHANG)) > 0) {
		if (ended == client) {
			return true;
		}
		if (WIFSIGNALED(*status)) {
			warnx("a client's session has died: %s", strsignal(WTERMSIG(*status)));
		}
	}
	return false;
}

/* Until the client that was started ends. Returns its status. */
static int run(int listen_fd, const sigset_t *signals, char **arguments, const char *name,
	const struct proxy_options *options)
{
	struct pollfd pollfds[] = {
		{ .fd = listen_fd, .events = POLLIN },
		{ .fd = signalfd(-1, signals, SFD_CLOEXEC), .events = POLLIN },
	};
	struct signalfd_siginfo information;
	pid_t client = start_client(arguments, name, signals);
	int status;

	for (;;) {
		poll(pollfds, 2, -1);
		if (pollfds[1].revents != 0 &&
			read(pollfds[1].fd, &information, sizeof(information)) > 0 &&
			collect(client, &status)) {
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		if (pollfds[0].revents != 0) {
			serve(listen_fd, signals, options);
		}
	}
}

int main(int argc, char **argv)
{
	struct proxy_options options = { .fences = PROXY_PASS };
	struct sockaddr_un address = { 0 };
	const char *name = parse(argc, argv, &options);
	int listen_fd = listen_at(name, &address), status;
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	status = run(listen_fd, &signals, argv + optind, name, &options);
	unlink(address.sun_path);
	return status;
}
