/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MEMORY_FILE_H
#define MEMORY_FILE_H

/*
 * Files that may be touched without waiting for anybody's will. Who serves a file system of FUSE,
 * or one on the network, can keep whoever asks for a page or for the size of a file for as long as
 * they like, beyond SIGKILL.
 */

#include <stdbool.h>

/* A memfd, a file of tmpfs or hugetlbfs, or one on a disk of this machine. Does not touch it. */
bool memory_file_is_ours(int fd);

#endif
