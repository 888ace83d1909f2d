/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "placement.h"

void placement_find(struct placement *placement)
{
	int cpu = CPU_SETSIZE - 1;

	placement->split = sched_getaffinity(0, sizeof(placement->all), &placement->all) == 0 &&
		CPU_COUNT(&placement->all) > 1;
	if (!placement->split) {
		return;
	}
	/* The last one: the first ones have more of the interrupts. */
	while (!CPU_ISSET(cpu, &placement->all)) {
		cpu--;
	}
	CPU_ZERO(&placement->gpu);
	CPU_SET(cpu, &placement->gpu);
	placement->others = placement->all;
	CPU_CLR(cpu, &placement->others);
}

/* If it is not allowed, times are less even, and that is all. */
void placement_leave(const struct placement *placement)
{
	if (placement->split) {
		sched_setaffinity(0, sizeof(placement->others), &placement->others);
	}
}

void placement_return(const struct placement *placement)
{
	if (placement->split) {
		sched_setaffinity(0, sizeof(placement->all), &placement->all);
	}
}
