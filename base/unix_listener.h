/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef UNIX_LISTENER_H
#define UNIX_LISTENER_H

/* A local socket that listens at a path of the file system. Errors are negative errno values. */

#include <sys/stat.h>
#include <sys/un.h>

struct unix_listener {
	int fd; /* below 0: there is none */
	struct sockaddr_un address;
	struct stat file; /* of the socket; its inode is 0 if it was not made */
};

/* Whoever the process's umask allows may connect. */
#define UNIX_LISTENER_MODE 0777

/*
 * Makes the socket, which does not block. One that is there and that nobody listens on any more is
 * replaced. mode: of the file, from the start, less the umask. Of several that start at once at a
 * path one succeeds; for that each locks the folder (flock) as long as it takes, if it can within a
 * second.
 *
 * Returns 0; -EADDRINUSE if somebody listens there; -EEXIST if something else is there;
 * -ENAMETOOLONG; what socket, bind or listen failed with. After an error it is to be closed, too.
 */
int unix_listener_open(struct unix_listener *listener, const char *path, mode_t mode, int backlog);

/* Removes the file, unless it is another one's by now. From any thread. */
void unix_listener_remove(const struct unix_listener *listener);

/* Removes the file and closes the descriptor, if there are any. */
void unix_listener_close(struct unix_listener *listener);

#endif
