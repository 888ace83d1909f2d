/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SYNC_FILE_H
#define SYNC_FILE_H

#include <vgfence/sync_file.h>

/* Of a descriptor that has signalled: 0, or the error that its fence ended with. One system
 * call. */
int sync_file_error(int fence_fd);

#endif
