/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>

#include "dispatcher.h"
#include "watch.h"

bool dispatcher_is_self(const struct vgf_device *device)
{
	return device->depth > 0 && pthread_equal(device->dispatcher, pthread_self());
}

bool dispatcher_is_other(const struct vgf_device *device)
{
	return (device->dispatching || device->options.own_thread) && !dispatcher_is_self(device);
}

void dispatcher_enter(struct vgf_device *device, bool take_over)
{
	unsigned int *waiting = take_over ? &device->takers : &device->blocked;

	if (dispatcher_is_self(device)) {
		device->depth++;
		return;
	}
	(*waiting)++;
	while (device->depth > 0 || (!take_over && device->takers > 0)) {
		if (!device->kicked) {
			device->kicked = true;
			watch_kick(device);
		}
		pthread_cond_wait(&device->changed, &device->lock);
	}
	(*waiting)--;
	device->dispatcher = pthread_self();
	device->dispatching = !take_over;
	device->depth = 1;
}

void dispatcher_leave(struct vgf_device *device)
{
	assert(dispatcher_is_self(device));
	if (--device->depth == 0) {
		device->dispatching = false;
		pthread_cond_broadcast(&device->changed);
	}
}
