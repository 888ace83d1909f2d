/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MUTEX_DESTROY_H
#define MUTEX_DESTROY_H

/*
 * A program that has this in it waits in pthread_mutex_destroy until nobody holds the mutex, also
 * where a library calls that. Mesa's OpenGL in software needs it.
 *
 * llvmpipe (22.3 to 26.2) looks without the lock whether a fence is done, and then may free it,
 * while the thread that has just done the last of it still holds its mutex. That thread unlocks it
 * in memory that is somebody else's by then: 24 bytes into a block of 120 it writes 0, which was a
 * pointer of a fence of the device's. Seen once in some 100,000 fences on two busy processors. Who
 * frees it destroys the mutex before, and POSIX has nobody destroy one that is locked: so who waits
 * there does no harm elsewhere.
 */

/* How often somebody has waited. Any thread. */
unsigned int mutex_destroy_waits(void);

#endif
