/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VHOST_USER_H
#define VHOST_USER_H

/*
 * The back end of vhost-user (QEMU, docs/interop/vhost-user.rst), for a device of any kind: listens
 * on a socket, serves one front end at a time and the next one when it has left, and keeps the
 * virtqueues and the guest's memory.
 *
 * It has the program's only event loop: what a device waits for is added to it with
 * vhost_user_watch. A request costs three system calls, that the loop waits, that it looks whether
 * the guest's eventfd has room, and that the guest is notified; kicks are eventfds, which
 * edge-triggered epoll reports without reading them. All that is completed in one
 * vhost_user_dispatch reaches the guest with one notification a queue. Idle, there is no timer and
 * nothing wakes up.
 *
 * Offered: split virtqueues, indirect descriptors, event index; of the protocol MQ, REPLY_ACK,
 * CONFIG, BACKEND_REQ, CONFIGURE_MEM_SLOTS, RESET_DEVICE; SHMEM if the device has shared memory,
 * SHARED_OBJECT if it shares objects. Not STATUS: QEMU sets the status to 0,
 * which would be a reset, also if the guest is only paused. Without it a reset by the guest is
 * known by RESET_DEVICE, by SET_VRING_BASE if the queue begins elsewhere than it ended, and by a
 * used ring that has lost its mark: see virtqueue_leave_mark.
 *
 * A message that is wrong gets an error as its reply, if the front end asked for one. Otherwise the
 * front end is disconnected, which resets the device; but not for SET_CONFIG, as what a guest
 * writes there is no fault of the front end's. A queue whose rings are wrong stops; the front end
 * is told by its error descriptor. All of these are logged, a few a second.
 *
 * One thread, or several with a lock around all of it. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

#include <vgfence/vgfence.h>

#include "guest_memory.h"
#include "virtqueue.h"

struct vhost_user;

struct vhost_user_device_ops {
	/* Bits of the device's own; those of the rings and of vhost-user are added. Accepted ones
	 * are a part of these. */
	uint64_t (*get_features)(void *cookie);
	void (*set_features)(void *cookie, uint64_t features);

	/* The configuration space. 0 or an error, for bytes outside of it or not writable. */
	int (*read_config)(void *cookie, uint32_t offset, void *data, uint32_t size);
	int (*write_config)(void *cookie, uint32_t offset, const void *data, uint32_t size);

	/* The guest's memory from now on; NULL: none. */
	void (*set_memory)(void *cookie, struct guest_memory *memory);

	/* A request has come. It ends with vhost_user_complete, before this returns or later. */
	void (*handle)(void *cookie, uint32_t queue, const struct virtqueue_request *request);

	/*
	 * The same while the device's thread is in something that takes long, and another thread
	 * has its turn: vhost_user_process_aside. Returns whether the request is taken, as by
	 * `handle`. Otherwise it comes by `handle`, later and in its place.
	 * is_behind: another one of its queue does so already. NULL: there is no such thread.
	 */
	bool (*handle_aside)(void *cookie, uint32_t queue, const struct virtqueue_request *request,
		bool is_behind);

	/* Around the sleep of vhost_user_dispatch. In between another thread may have its turn, for
	 * vhost_user_complete and vhost_user_publish; `wakes` returns when there is none any more.
	 * Both or neither. */
	void (*sleeps)(void *cookie);
	void (*wakes)(void *cookie);

	/* A queue is about to be stopped: every request must be completed when this returns. Those
	 * that `handle_aside` left come with vhost_user_process_deferred, and none comes aside. */
	void (*drain)(void *cookie);

	/* The guest reset the device, or went away: the same, and what the guest made is gone. */
	void (*reset)(void *cookie);

	/* The socket on which a front end wants to be shown what the guest displays
	 * (docs/interop/vhost-user-gpu.rst). Takes the descriptor; -1: the front end has left. A
	 * reset changes nothing about it: QEMU gives it before it starts the queues. NULL: the
	 * device is no GPU. */
	int (*set_gpu_socket_take)(void *cookie, int socket_fd);

	/* A file of an object that was shared (vhost_user_share_object), for another device of the
	 * same VMM; the caller owns it. Below 0: there is no such object. NULL: the device shares
	 * none. */
	int (*get_shared_object)(void *cookie, const uint8_t *uuid);

	/* The size of a shared memory region, by its ID, in bytes: a multiple of the page size; 0:
	 * there is none. The same as long as there is the device. NULL: there are none. */
	uint64_t (*shmem_size)(void *cookie, uint8_t region);
	/* The front end has done what vhost_user_shmem_map or _unmap asked for; or an error:
	 * -EREMOTEIO if it refuses, -ECONNRESET if it has left, or the channel has. Not NULL if
	 * there is shared memory. */
	void (*shmem_done)(void *cookie, int status);

	/* One line without a newline. */
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);
};

/*
 * Makes a back end and listens at a path of the file system. A socket there that nobody listens on
 * any more is replaced.
 *
 * ops: copied. Returns 0; -EADDRINUSE if somebody listens there; -EEXIST if something else is
 * there; -ENAMETOOLONG; -EINVAL for no queue, or more than 256; -ENOMEM; what open (of the folder),
 * socket, bind or epoll_create failed with.
 */
int vhost_user_create(const char *socket_path, uint32_t num_queues,
	const struct vhost_user_device_ops *ops, void *cookie, struct vhost_user **out);

/*
 * The same for one front end, which is connected already, and none after it. socket_fd: the stream
 * of a local socket; a copy of it is made. Returns 0; -ENOTSOCK, -EINVAL or -ENOTCONN for what is
 * no such socket or not connected; -EINVAL, -ENOMEM as before; what dup failed with.
 */
int vhost_user_create_connected(int socket_fd, uint32_t num_queues,
	const struct vhost_user_device_ops *ops, void *cookie, struct vhost_user **out);

/* Removes the socket's file, from any thread: for a process that exits without
 * vhost_user_destroy. */
void vhost_user_abandon(const struct vhost_user *server);

/* Resets the device and removes the socket. NULL is fine. */
void vhost_user_destroy(struct vhost_user *server);

/* A descriptor that the loop waits for too. The struct and the descriptor belong to the caller, who
 * calls vhost_user_unwatch before closing the descriptor. After that `readable` is not called any
 * more. */
struct vhost_user_watch {
	int fd;
	uint32_t events; /* of epoll; 0 is EPOLLIN */
	void (*readable)(void *arg);
	void *arg;
};
int vhost_user_watch(struct vhost_user *server, struct vhost_user_watch *watch);
void vhost_user_unwatch(struct vhost_user *server, struct vhost_user_watch *watch);

/*
 * Waits until there is something to do, and does it. timeout_ms: as for poll, so -1 waits as long
 * as it takes. Returns 0, also after a signal handler has run, and if there is no descriptor or no
 * memory for a front end: that one waits, and is tried again a tenth of a second later.
 */
int vhost_user_dispatch(struct vhost_user *server, int timeout_ms);

/*
 * For a loop of another's: the descriptor is readable if there is something to dispatch, and
 * vhost_user_timeout says how long to wait for that: timeout_ms, or less; then it is to be
 * dispatched, whether it is readable or not. To be asked before each wait.
 */
int vhost_user_get_fd(const struct vhost_user *server);
int vhost_user_timeout(struct vhost_user *server, int timeout_ms);

/*
 * From inside `handle`, or a watch's `readable`, that takes long: offers what the guest asks for
 * meanwhile to `handle_aside`, and shows the guest at once what is completed. Returns whether there
 * is more: a guest that always asks for something gets as much at a time as its queue has places.
 * Otherwise there is something in the set of vhost_user_set_kick_set as soon as there is more.
 */
bool vhost_user_process_aside(struct vhost_user *server);

/* From inside `drain`: hands on what `handle_aside` left, in its order. */
void vhost_user_process_deferred(struct vhost_user *server);

/* An epoll set for the thread that calls vhost_user_process_aside: kicks are put into it as well,
 * edge-triggered. It stays the caller's, and open as long as the back end. Before the first
 * vhost_user_dispatch, and with `handle_aside`. */
void vhost_user_set_kick_set(struct vhost_user *server, int kick_set);

/* Completes a request, from inside vhost_user_dispatch or vhost_user_destroy, or between `sleeps`
 * and `wakes`. token: the request's; written: how many bytes of its writable buffers were
 * written. */
void vhost_user_complete(
	struct vhost_user *server, uint32_t queue, uint32_t token, uint32_t written);

/* Between `sleeps` and `wakes`: shows the guest what is completed, as the end of a round does. */
void vhost_user_publish(struct vhost_user *server);

/* Tells the guest that the configuration space has changed, if the front end can pass that on; once
 * for all changes while the front end does not read, and once more if it sets another channel. */
void vhost_user_config_changed(struct vhost_user *server);

/* A piece of a file in a shared memory region. Offsets and size: multiples of the page size. */
struct vhost_user_mapping {
	uint8_t region;
	uint64_t offset; /* in the region */
	uint64_t size;
	int fd; /* borrowed */
	uint64_t fd_offset;
	bool writable; /* by the guest */
};

/*
 * Ask the front end to put a piece of a file into a shared memory region, or to take away all of
 * what one call has put there. A front end does by itself take away everything when it resets the
 * device. One question at a time: it is answered by `shmem_done`, later, and only then there can be
 * another. A front end that does not read is asked when it does.
 *
 * Return 0; -EBUSY if one is not answered yet; -EOPNOTSUPP if the front end has no SHMEM,
 * REPLY_ACK, or channel (SET_BACKEND_REQ_FD); what sendmsg failed with; -EMFILE if there is no
 * descriptor for what waits until the front end reads.
 */
int vhost_user_shmem_map(struct vhost_user *server, const struct vhost_user_mapping *mapping);
int vhost_user_shmem_unmap(
	struct vhost_user *server, uint8_t region, uint64_t offset, uint64_t size);

/*
 * Tell the front end that it may ask for an object by its UUID, of 16 bytes, for other devices; and
 * that it may not any more. Return 0; -EOPNOTSUPP if it knows no shared objects; -EAGAIN if it does
 * not read; what sendmsg failed with.
 */
int vhost_user_share_object(struct vhost_user *server, const uint8_t *uuid);
int vhost_user_unshare_object(struct vhost_user *server, const uint8_t *uuid);

bool vhost_user_is_connected(const struct vhost_user *server);

#endif
