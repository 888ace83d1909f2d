/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GUEST_LIMITS_H
#define GUEST_LIMITS_H

/*
 * What a guest may use of the device and of the renderer's fences. Each number is here alone: the
 * device's own tables and vgfence's limits follow it.
 */

#include <vgfence/vgfence.h>

#define MAX_CONTEXTS 1024u

/* Of one SUBMIT_3D. */
#define MAX_IN_FENCES 256u
#define MAX_COMMAND_SIZE (4u << 20)

/* Which the device adds: what is on dma-bufs. */
#define NUM_OWN_IN_FENCES 1u

/* At GPU addresses of the software GPU: of all contexts, and of one. 5 MiB. A bind counts twice
 * until it is done. What one submission can do is in soft/command_stream.h. */
#define MAX_MAPPINGS (64u << 10)
#define MAX_CONTEXT_MAPPINGS 4096u

/*
 * Cross-domain contexts, docs/cross-domain.md. A guest's program has one: a desktop has dozens.
 */
#define MAX_CROSS_DOMAIN_CONTEXTS 256u

/* Commands of one submission. Stock guests send one. */
#define MAX_CROSS_DOMAIN_COMMANDS 16u

/* Submissions that are held back, of one context, and POLLs that nothing has come for. A stock
 * guest has one of these. */
#define MAX_CROSS_DOMAIN_HELD 1024u
#define MAX_CROSS_DOMAIN_POLLS 16u

/* Memory of one context's messages that wait for in-fences, or for the compositor or a program to
 * read them: a few times what a socket takes. Then its channel ends. */
#define MAX_CROSS_DOMAIN_WAITING (1u << 20)

/* Of one submission: dma-bufs that get its in-fences, and fences of the kernel's that these are;
 * more are waited for on the host. For each the kernel looks at all that is on the dma-buf. A
 * client's commit has one of both for each window. */
#define MAX_CROSS_DOMAIN_FENCED 28u
#define MAX_CROSS_DOMAIN_HANDED_OVER 16

/* Pipes of one context, and files that it was sent and has made no blob of. */
#define MAX_CROSS_DOMAIN_ITEMS 256u

/* Descriptors of all of them: sockets, pipes, files, what waits to be sent. A context may have a
 * quarter. Also no more than a sixteenth of what the process may have. */
#define MAX_CROSS_DOMAIN_FDS 4096u

/* Resources that one context has, and all of them, each as often as it is had. */
#define MAX_CROSS_DOMAIN_ATTACHED (16u << 10)
#define MAX_CROSS_DOMAIN_ALL_ATTACHED (256u << 10)

/* Memory of the host that images are in, and copies of files: three pictures of 3840 by 2160 for
 * each of ten windows. */
#define MAX_CROSS_DOMAIN_MEMORY (UINT64_C(1) << 30)

/* A file that a compositor sends, such as a keymap, which is some 60 KiB. It is copied; 28 of them
 * may come with a message, which take some 10 ms then. */
#define MAX_CROSS_DOMAIN_FILE (UINT64_C(1) << 20)

static const struct vgf_limits guest_limits = {
	.max_contexts = MAX_CONTEXTS + 1, /* flush_rings_open has one */
	.max_in_fences = MAX_IN_FENCES,
	.max_command_size = MAX_COMMAND_SIZE,
};

#endif
