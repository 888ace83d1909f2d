/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GL_DONE_H
#define GL_DONE_H

/* What the GL context that is current in the calling thread was told: whether it is done. */

#include <stdbool.h>

/* Whether it can be asked. False if none is current, or if the plugin was built without EGL. */
bool gl_done_can_ask(void);

/* Whether all of it is done. It is flushed; nothing is waited for. */
bool gl_done_ask(void);

#endif
