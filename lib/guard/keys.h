/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_KEYS_H
#define GUARD_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "guard/bucket.h"

/*
 * A set of keys, each with the level of a bucket, of which all have the same terms; for up
 * to a fixed number of them, in memory that is taken at creation. It has no lock. See
 * keys.c.
 */
struct keys {
	uint64_t hash_key[2];
	size_t key_size;          /* of the longest */
	size_t stride;            /* bytes of an entry */
	uint32_t room;            /* entries there are */
	uint32_t mask;            /* chains - 1 */
	uint32_t count;           /* how many there are; their entries are the first so many */
	uint64_t evicted;         /* how many have made room */
	unsigned char *entries;
	uint32_t *chains;
	struct full_at *heap;     /* of as many as there are keys */
};

/* A key to look for. */
struct lookup {
	const void *key;
	size_t size;
	uint32_t tag;             /* of its hash */
};

/* Zeroed memory becomes an empty set: -ENOMEM. keys_fini is fine after a failure, too. */
int keys_init(struct keys *keys, size_t room, size_t key_size);
void keys_fini(struct keys *keys);

struct lookup keys_lookup(const struct keys *keys, const void *key, size_t size);

/* The level of a key, or NULL. */
struct evwork_bucket_level *keys_find(const struct keys *keys, const struct lookup *at);

/* Whether there is room for another key, or will be by forgetting one whose bucket is full
 * at this time. */
bool keys_have_room(struct keys *keys, const struct evwork_bucket_terms *terms, int64_t now);

/* Enters a key that is not there, after keys_have_room at the same time. */
void keys_insert(struct keys *keys, const struct evwork_bucket_terms *terms,
	const struct lookup *at, const struct evwork_bucket_level *level);

#endif
