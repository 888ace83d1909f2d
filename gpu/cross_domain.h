/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CROSS_DOMAIN_H
#define CROSS_DOMAIN_H

/*
 * Contexts whose submissions are messages to a Wayland compositor of the host's: capability set 5,
 * docs/cross-domain.md. They are beside those of a renderer, whichever it is: this is a renderer
 * that has them, and leaves all else to another.
 */

struct gpu;
struct renderer;

/*
 * Puts them beside *renderer, which is replaced, and belongs to the new one. socket_path: of the
 * compositor; contexts connect to that and to nothing else. It is not looked at before they do.
 *
 * Returns 0; -ENAMETOOLONG; -ENOMEM, -EMFILE, -ENFILE. After an error *renderer is as before.
 */
int cross_domain_create(struct gpu *gpu, const char *socket_path, struct renderer **renderer);

#endif
