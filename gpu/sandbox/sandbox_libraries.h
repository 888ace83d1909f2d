/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SANDBOX_LIBRARIES_H
#define SANDBOX_LIBRARIES_H

/* Keeps all that are loaded, for good. Returns 0 or an error. */
int sandbox_keep_libraries(void);

#endif
