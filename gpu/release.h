/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RELEASE_H
#define RELEASE_H

/*
 * Memory that the guest takes back: RESOURCE_DETACH_BACKING and RESOURCE_UNREF. The response says
 * that nobody uses it any more, so it is behind
 *
 * - drawing with a fence that came before, be it held back or running (flush.h): only then is the
 *   renderer told. Drawing without a fence has no end that could be waited for; the renderer ends
 *   it, or holds the memory until it is done;
 * - the renderer itself;
 * - a display that reads the memory in place (pin.h).
 *
 * An unref does not wait for a detach that came before it, which has a response of its own.
 *
 * Of the guest's memory nothing is read or written after the response, but for a display that does
 * not release it in time.
 */

#include <stdint.h>

#include "pending.h"

struct request;
struct resource;

/* Gives back the backing of a resource, which has to be there, or all of it. Returns the response,
 * or RESPONSE_LATER. */
uint32_t release_memory(struct request *request, struct resource *resource, enum release_kind kind);

/* What drew before is done: the renderer is told. */
void release_start(struct pending_request *pending);

/* The renderer, or the display, is done. */
void release_go_on(struct pending_request *pending);

/* Its fence is cancelled: it waits for nothing but the renderer. */
void release_give_up(struct pending_request *pending);

#endif
