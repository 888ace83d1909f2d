/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EVENT_RECORDS_H
#define EVENT_RECORDS_H

/* Tests read what a device wrote with --trace. */

#include <stddef.h>

#include "event_format.h"

/* The records of a file, which is checked and removed. The caller frees them. */
struct event_record *event_records(const char *path, size_t *count);

#endif
