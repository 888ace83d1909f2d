/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FD_KIND_H
#define FD_KIND_H

/*
 * What kind of thing a descriptor of the front end's or of a compositor's is, without asking the
 * thing itself. A file could be of a file system that they serve, and then whoever asks waits for
 * its answer, beyond SIGKILL; so does whoever polls it, or an epoll set that has it.
 */

#include <stdbool.h>
#include <sys/types.h>

/* S_IFREG and so on; 0 for what is in no file system; or a negative errno value. */
int fd_file_type(int fd);

/* Whether it is something of the kernel's own with that name: "[eventfd]". */
bool fd_is_anonymous(int fd, const char *name);
bool fd_is_sync_file(int fd);

/* 0, or -EINVAL for anything else, or another negative errno value. */
int fd_check_eventfd(int fd);
int fd_check_unix_socket(int fd, int type); /* SOCK_STREAM and so on; 0: any */

#endif
