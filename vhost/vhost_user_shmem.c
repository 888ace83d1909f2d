/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Shared memory: which files the front end has put there for us.
 *
 * QEMU takes what is in shared memory for memory of the guest's, and names it to its devices as
 * such, a region a mapping. The device has that memory by itself, and there can be more of it than
 * regions. So a region of a file that is mapped is taken note of, and nothing more.
 */

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "vhost_user_private.h"

/* ---- Which files -------------------------------------------------------------------------- */

/* The file in a piece of shared memory. */
struct shmem_file {
	uint64_t device, inode;
	uint8_t region;
	uint64_t offset;
};

static int compare(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_files(const void *a, const void *b)
{
	const struct shmem_file *x = a, *y = b;
	int order = compare(x->device, y->device);

	return order ? order : compare(x->inode, y->inode);
}

static int compare_places(const void *a, const void *b)
{
	const struct shmem_file *x = a, *y = b;
	int order = compare(x->region, y->region);

	return order ? order : compare(x->offset, y->offset);
}

/* A file may be in several places. */
static int compare_both(const void *a, const void *b)
{
	int order = compare_files(a, b);

	return order ? order : compare_places(a, b);
}

/* Without asking a file system that could keep us waiting. */
static int identify(int fd, struct shmem_file *file)
{
	struct statx what;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &what) < 0) {
		return -errno;
	}
	file->device = (uint64_t)what.stx_dev_major << 32 | what.stx_dev_minor;
	file->inode = what.stx_ino;
	return 0;
}

/* Returns a copy of it that is in both trees, or NULL. */
static struct shmem_file *insert(struct vhost_user_shmem *shmem, const struct shmem_file *what)
{
	struct shmem_file *file = malloc(sizeof(*file));

	if (!file) {
		return NULL;
	}
	*file = *what;
	if (tsearch(file, &shmem->by_place, compare_places)) {
		if (tsearch(file, &shmem->by_file, compare_both)) {
			return file;
		}
		tdelete(file, &shmem->by_place, compare_places);
	}
	free(file);
	return NULL;
}

static struct shmem_file *add_file(
	struct vhost_user_shmem *shmem, const struct vhost_user_mapping *mapping)
{
	struct shmem_file file = { .region = mapping->region, .offset = mapping->offset };

	if (identify(mapping->fd, &file) < 0 || tfind(&file, &shmem->by_place, compare_places)) {
		return NULL;
	}
	return insert(shmem, &file);
}

static void remove_file(struct vhost_user_shmem *shmem, struct shmem_file *file)
{
	tdelete(file, &shmem->by_place, compare_places);
	tdelete(file, &shmem->by_file, compare_both);
	free(file);
}

static struct shmem_file *find_place(
	const struct vhost_user_shmem *shmem, uint8_t region, uint64_t offset)
{
	const struct shmem_file key = { .region = region, .offset = offset };
	void *node = tfind(&key, &shmem->by_place, compare_places);

	return node ? *(struct shmem_file **)node : NULL;
}

bool vhost_user_shmem_has(const struct vhost_user *server, int fd)
{
	struct shmem_file key = { 0 };

	/* By file alone: the order of the tree keeps those of a file together. */
	return server->shmem.by_file && identify(fd, &key) == 0 &&
		tfind(&key, &server->shmem.by_file, compare_files);
}

/* The one that is asked for may be there after the reset. */
void vhost_user_shmem_reset(struct vhost_user *server)
{
	struct vhost_user_shmem *shmem = &server->shmem;
	const struct shmem_file *asked = shmem->asked;
	struct shmem_file kept = { 0 };

	if (asked) {
		kept = *asked;
	}
	while (shmem->by_place) {
		remove_file(shmem, *(struct shmem_file **)shmem->by_place);
	}
	shmem->asked = asked ? insert(shmem, &kept) : NULL;
}

void vhost_user_shmem_forget(struct vhost_user *server)
{
	while (server->shmem.by_place) {
		remove_file(&server->shmem, *(struct shmem_file **)server->shmem.by_place);
	}
	server->shmem.asked = NULL;
	server->shmem.num_regions = 0;
}

/* ---- Asking ------------------------------------------------------------------------------- */

bool vhost_user_has_shmem(const struct vhost_user *server)
{
	for (uint32_t i = 0; server->ops.shmem_size && i < VHOST_USER_MAX_SHMEM; i++) {
		if (server->ops.shmem_size(server->cookie, (uint8_t)i) > 0) {
			return true;
		}
	}
	return false;
}

static void done(struct vhost_user *server, int status)
{
	struct vhost_user_shmem *shmem = &server->shmem;

	/* What the front end does not unmap is not ours any more, either. */
	if (shmem->asked && (!shmem->maps || status < 0)) {
		remove_file(shmem, shmem->asked);
	}
	shmem->asked = NULL;
	shmem->maps = false;
	server->ops.shmem_done(server->cookie, status);
}

/*
 * QEMU 11.1 says that a file is mapped and then maps it. So it is asked for something else, which
 * it answers when it has done that: to forget an object that it never knew. Others that have no
 * such objects are believed.
 */
static bool ask_whether_done(struct vhost_user *server)
{
	const struct vhost_user_shared nothing = { { 0 } };

	return vhost_user_channel_has(server, BIT(VHOST_USER_PROTOCOL_F_SHARED_OBJECT)) &&
		vhost_user_channel_ask(server, VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, &nothing,
			sizeof(nothing), -1) == 0;
}

void vhost_user_shmem_answered(struct vhost_user *server, uint32_t request, int status)
{
	if (request == VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE) {
		done(server, status == -ECONNRESET ? status : 0);
	} else if (request != VHOST_USER_BACKEND_SHMEM_MAP || status < 0 ||
		!ask_whether_done(server)) {
		done(server, status);
	}
}

static int ask(
	struct vhost_user *server, uint32_t request, const struct vhost_user_mmap *payload, int fd)
{
	if (!vhost_user_channel_has(server,
		    BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_SHMEM))) {
		return -EOPNOTSUPP;
	}
	return vhost_user_channel_ask(server, request, payload, sizeof(*payload), fd);
}

int vhost_user_shmem_map(struct vhost_user *server, const struct vhost_user_mapping *mapping)
{
	const struct vhost_user_mmap payload = {
		.region = mapping->region,
		.fd_offset = mapping->fd_offset,
		.offset = mapping->offset,
		.size = mapping->size,
		.flags = mapping->writable ? VHOST_USER_MAP_READ_WRITE : 0,
	};
	int ret = ask(server, VHOST_USER_BACKEND_SHMEM_MAP, &payload, mapping->fd);

	if (ret == 0) {
		/* If there is no memory for that, the file is taken for the guest's. */
		server->shmem.asked = add_file(&server->shmem, mapping);
		server->shmem.maps = true;
	}
	return ret;
}

int vhost_user_shmem_unmap(
	struct vhost_user *server, uint8_t region, uint64_t offset, uint64_t size)
{
	const struct vhost_user_mmap payload = {
		.region = region,
		.offset = offset,
		.size = size,
	};
	int ret = ask(server, VHOST_USER_BACKEND_SHMEM_UNMAP, &payload, -1);

	if (ret == 0) {
		server->shmem.asked = find_place(&server->shmem, region, offset);
	}
	return ret;
}
