/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fences that leave the device with a message, or come with one. The driver gets the in-fences of
 * a submission as descriptors if each has one. What a message cannot take with it, the host waits
 * for before the message is sent.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>
#include <vgfence/sync_file.h>

#include "cross_domain_private.h"
#include "guest_limits.h"
#include "udmabuf.h"

/* ---- What there is -------------------------------------------------------------------------- */

/* A dma-buf that nobody uses: a page of our own. */
static int make_dma_buf(void)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct file_piece piece = {
		.fd = memfd_create("vgfence-fence", MFD_CLOEXEC | MFD_ALLOW_SEALING), .size = page
	};
	int ret;

	if (piece.fd < 0) {
		return -errno;
	}
	ret = ftruncate(piece.fd, (off_t)page) < 0 ||
			fcntl(piece.fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ?
		-errno :
		udmabuf_create(&piece, 1);
	close(piece.fd);
	return ret;
}

/* The fences on a dma-buf without any are one that has signalled. */
int cross_fence_make_signalled(void)
{
	int dma_buf = make_dma_buf(), ret;

	if (dma_buf < 0) {
		return dma_buf;
	}
	ret = vgf_dma_buf_export_sync_file(dma_buf, VGF_ACCESS_WRITE);
	close(dma_buf);
	return ret;
}

uint32_t cross_fences_supported(const struct cross_domain *domain)
{
	return CROSS_DOMAIN_RECEIVES_FENCES |
		(domain->signalled_fd >= 0 ?
				CROSS_DOMAIN_SENDS_FENCES | CROSS_DOMAIN_ATTACHES_FENCES :
				0);
}

/* ---- With a message ------------------------------------------------------------------------- */

/* Whether it is a sync file, of few fences. What the device has of its renderers is asked by a
 * call, unlike what a compositor sends. */
static int check_sync_file(int fd)
{
	int count = vgf_sync_file_info(fd, NULL, 0);

	return count < 0 ? count : count > MAX_CROSS_DOMAIN_HANDED_OVER ? -EOPNOTSUPP : 0;
}

/* One sync file of all in-fences, or an error. */
static int merge(const struct vgf_job *job)
{
	int fds[MAX_IN_FENCES + NUM_OWN_IN_FENCES], fd, ret;

	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		fds[i] = job->in_fences[i].fd;
	}
	fd = vgf_sync_file_merge(fds, job->num_in_fences);
	ret = fd < 0 ? fd : check_sync_file(fd);
	if (fd >= 0 && ret < 0) {
		close(fd);
	}
	return ret < 0 ? ret : fd;
}

static int attach(const struct cross_bytes *bytes, int fence_fd)
{
	int ret = 0;

	for (uint32_t i = 0; i < bytes->num_fenced && ret == 0; i++) {
		ret = vgf_dma_buf_import_sync_file(
			bytes->fenced_fds[i], VGF_ACCESS_WRITE, fence_fd);
	}
	return ret;
}

/* In place of the one that has signalled, whose number it gets: that cannot fail. */
static int replace(const struct cross_bytes *bytes, int fence_fd)
{
	for (uint32_t i = 0; i < bytes->num_fds; i++) {
		if ((bytes->sync_files & (1u << i)) != 0 &&
			dup3(fence_fd, bytes->fds[i], O_CLOEXEC) < 0) {
			return -errno;
		}
	}
	return 0;
}

static int give(const struct cross_message *message, int fence_fd)
{
	int ret = 0;

	for (uint32_t i = 0; i < message->num_commands && ret == 0; i++) {
		const struct cross_bytes *bytes = message->commands[i].bytes;

		if (bytes != NULL) {
			ret = attach(bytes, fence_fd);
		}
		if (bytes != NULL && ret == 0) {
			ret = replace(bytes, fence_fd);
		}
	}
	return ret;
}

/* Nothing was sent. What was given already is given again, and has signalled by then. */
static int wait_on_host(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM ? error : -EOPNOTSUPP;
}

int cross_fences_give(const struct cross_message *message, const struct vgf_job *job)
{
	int fd, ret;

	if (job->num_in_fences == 0) {
		return 0;
	}
	if (!message->takes_fences) {
		return -EOPNOTSUPP;
	}
	fd = merge(job);
	if (fd < 0) {
		return wait_on_host(fd);
	}
	ret = give(message, fd);
	close(fd);
	return ret < 0 ? wait_on_host(ret) : 0;
}
