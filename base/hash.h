/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef HASH_H
#define HASH_H

/* A hash with a secret key: a guest that chooses IDs cannot choose ones that collide. For tables
 * whose number of buckets is a power of two. */

#include <stdint.h>
#include <sys/random.h>

struct hash_key {
	uint64_t add, multiply;
};

static inline void hash_key_init(struct hash_key *key)
{
	if (getrandom(key, sizeof(*key), GRND_NONBLOCK) < (ssize_t)sizeof(*key)) {
		/* Early in boot; the address space is random as well. */
		key->add = (uintptr_t)key;
		key->multiply = (uintptr_t)&key;
	}
	key->multiply |= 1; /* multiplication by an odd number loses nothing */
}

static inline uint64_t hash(const struct hash_key *key, uint64_t value)
{
	value = (value ^ key->add) * key->multiply;
	value ^= value >> 32;
	value *= 0x9e3779b97f4a7c15; /* 2^64 / golden ratio, odd */
	return value ^ value >> 29;
}

#endif
