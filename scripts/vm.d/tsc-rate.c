/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Prints how fast this processor's time stamp counter is, in kHz. Fails if this is no x86. */

#include <stdio.h>

#if defined(__x86_64__) || defined(__i386__)

#include <time.h>
#include <x86intrin.h>

#define NS_PER_S 1000000000.0
#define LENGTH_NS 20000000.0

struct moment {
	double ns;
	unsigned long long ticks;
};

/* The counter is read between two looks at the clock. Of some tries, the one whose two looks are
 * nearest each other: nothing came between them. */
static struct moment now(void)
{
	struct moment best = { 0 };
	double least = NS_PER_S;

	for (int i = 0; i < 10; i++) {
		struct timespec before, after;
		unsigned long long ticks;
		double taken;

		clock_gettime(CLOCK_MONOTONIC_RAW, &before);
		ticks = __rdtsc();
		clock_gettime(CLOCK_MONOTONIC_RAW, &after);
		taken = (double)(after.tv_sec - before.tv_sec) * NS_PER_S +
			(double)(after.tv_nsec - before.tv_nsec);
		if (taken < least) {
			least = taken;
			best.ticks = ticks;
			best.ns = (double)before.tv_sec * NS_PER_S + (double)before.tv_nsec +
				taken / 2;
		}
	}
	return best;
}

int main(void)
{
	const struct timespec length = { .tv_nsec = (long)LENGTH_NS };
	struct moment begin = now(), end;

	nanosleep(&length, NULL);
	end = now();
	return printf("%.0f\n", (double)(end.ticks - begin.ticks) / (end.ns - begin.ns) * 1e6) < 0;
}

#else

int main(void)
{
	return 1;
}

#endif
