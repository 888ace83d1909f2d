/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Preloaded into virgl_test_server and its clients: the socket that both expect in /tmp, where
 * others may have theirs, is VTEST_SOCKET of the environment. (The server's --socket-path takes no
 * argument in virglrenderer 0.10.)
 */

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define EXPECTED "/tmp/.virgl_test"

/* The address to use: a copy of ours in the place of what is expected. */
static const struct sockaddr *redirect(
	const struct sockaddr *address, struct sockaddr_un *ours, socklen_t *length)
{
	const char *path = getenv("VTEST_SOCKET");

	if (!path || strlen(path) >= sizeof(ours->sun_path) || address->sa_family != AF_UNIX ||
		strcmp(((const struct sockaddr_un *)address)->sun_path, EXPECTED) != 0) {
		return address;
	}
	memset(ours, 0, sizeof(*ours));
	ours->sun_family = AF_UNIX;
	strcpy(ours->sun_path, path);
	*length = sizeof(*ours);
	return (const struct sockaddr *)ours;
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	struct sockaddr_un ours;

	address = redirect(address, &ours, &length);
	return next(fd, address, length);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
	struct sockaddr_un ours;

	address = redirect(address, &ours, &length);
	return next(fd, address, length);
}

EXPORT int unlink(const char *path)
{
	int (*next)(const char *) = dlsym(RTLD_NEXT, "unlink");
	const char *ours = getenv("VTEST_SOCKET");

	return next(ours && strcmp(path, EXPECTED) == 0 ? ours : path);
}
