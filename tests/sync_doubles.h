/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SYNC_DOUBLES_H
#define SYNC_DOUBLES_H

/*
 * Doubles of the kernel's dma-bufs and sync files, for programs that need no real ones: a dma-buf
 * is the file of its memory, a sync file an eventfd whose reads wait. Link the functions that
 * sync_doubles.c has with --wrap.
 */

#include <stdbool.h>

/* A sync file, pending until it is written to. */
int double_sync_file(bool signalled);

/* What is on every dma-buf, borrowed; below 0: nothing. */
extern int double_on_dma_bufs;

/* Every so many times a dma-buf takes no fence; 0: it always does. */
extern unsigned int double_refuses_every;

#endif
