/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_LIMITER_TABLE_H
#define EVWORK_LIMITER_TABLE_H

/*
 * Tables of limiters: the same rate and burst for each key, such as the address of a
 * client, in memory that is bounded.
 *
 *	evwork_limiter_table_new(5, 10, 100000, NULL, &table);  // 5/s for each of 100,000
 *	if (evwork_limiter_table_allow(table, &address, sizeof(address), 1) != 0)
 *	        return reply_too_many(request);
 *
 * A key that is not in the table has a full bucket; it is entered when something is taken
 * from it. When the table is full one whose bucket is full again makes room, so that
 * forgetting it grants nothing extra; if there is none the new key is refused, or
 * admitted without being counted, as the options say (S-LIM-15). A bucket is full
 * again, at the latest, burst / rate after it was used last: a table that has room for all
 * keys that come in that time refuses nobody for want of it.
 *
 * All memory is taken at creation. Keys are bytes, of any value, and are copied; they may
 * be chosen by attackers: the hash is keyed (SipHash-1-3) with random numbers of the
 * table. A decision about a key takes constant time; making room takes time that
 * grows with the logarithm of the number of keys, on average over the calls before it.
 *
 * Every call is [any].
 */

#include <stddef.h>

#include <evwork/limiter.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_limiter_table;

#define EVWORK_LIMITER_TABLE_KEYS_MAX (1u << 30)
#define EVWORK_LIMITER_TABLE_KEY_SIZE_DEFAULT 64
#define EVWORK_LIMITER_TABLE_KEY_SIZE_MAX 4096

/* What becomes of a new key when there is no room for it. */
enum evwork_limiter_table_overflow {
	EVWORK_OVERFLOW_REFUSE,  /* -EAGAIN */
	EVWORK_OVERFLOW_ADMIT    /* it passes, only the limiter of all is asked */
};

/* All zero means the defaults. */
struct evwork_limiter_table_options {
	/* Copied, at most 63 bytes of it; NULL is "limiters" (S-OBS-8). */
	const char *name;
	/* A manual clock; NULL is the system's. */
	struct evwork_clock *clock;
	/* Bytes of the longest key, at most EVWORK_LIMITER_TABLE_KEY_SIZE_MAX; 0 is 64. Each key
	 * has that much room, so it should not be more than needed. */
	size_t key_size;
	enum evwork_limiter_table_overflow overflow;
	/*
	 * A limiter for all keys together: a call takes from both buckets or from none
	 * (S-LIM-16). It must have the table's clock, and outlive the table. NULL is none.
	 */
	struct evwork_limiter *all;
};

/*
 * evwork_limiter_table_new makes a table for up to `keys` keys, with rate and burst for each
 * as in evwork_limiter_new().
 * -EINVAL: rate, burst or an option is out of range, keys is 0 or above
 * EVWORK_LIMITER_TABLE_KEYS_MAX, `all` has another clock, ret_table is NULL. -ENOMEM.
 */
int evwork_limiter_table_new(double rate, int64_t burst, size_t keys,
	const struct evwork_limiter_table_options *options, struct evwork_limiter_table **ret_table);

/* evwork_limiter_table_free: NULL is fine. Nobody may be about to use it. */
void evwork_limiter_table_free(struct evwork_limiter_table *table);

/* evwork_limiter_table_name: the copied name; the table's own memory. NULL for NULL. */
const char *evwork_limiter_table_name(const struct evwork_limiter_table *table);

/*
 * evwork_limiter_table_allow takes n tokens from the bucket of a key, and from that of all,
 * if both have as many; as evwork_limiter_allow() otherwise. The form with _at asks the
 * key's bucket at the caller's time, and the limiter of all, too.
 * -EINVAL: table is NULL, n is negative, key is NULL and size is not 0. -ERANGE: n is more
 * than a burst, or the key is longer than the table takes. -EAGAIN: there are not as many
 * tokens, or there is no room for the key.
 */
int evwork_limiter_table_allow(struct evwork_limiter_table *table, const void *key, size_t size,
	int64_t n);
int evwork_limiter_table_allow_at(struct evwork_limiter_table *table, const void *key,
	size_t size, int64_t n, int64_t now_ns);

/*
 * evwork_limiter_table_tokens: whole tokens in the bucket of a key, INT64_MAX if the rate is
 * infinite. evwork_limiter_table_retry_after: nanoseconds until n tokens are there, in both
 * buckets; room for the key does not count. Neither enters the key.
 * The errors are those of evwork_limiter_table_allow() but for -EAGAIN; a result that is NULL
 * is -EINVAL, too.
 */
int evwork_limiter_table_tokens(struct evwork_limiter_table *table, const void *key, size_t size,
	int64_t *ret_tokens);
int evwork_limiter_table_retry_after(struct evwork_limiter_table *table, const void *key,
	size_t size, int64_t n, int64_t *ret_ns);

/* A snapshot of the counters, all taken at one instant. */
struct evwork_limiter_table_stats {
	uint64_t keys;        /* in the table now, a gauge */
	uint64_t allowed;     /* calls that took what they asked for, or were admitted */
	uint64_t refused;     /* calls that got -EAGAIN or -ERANGE */
	uint64_t evicted;     /* keys that made room */
	uint64_t overflowed;  /* calls with a new key and no room for it */
};

/* evwork_limiter_table_stats. -EINVAL: an argument is NULL. */
int evwork_limiter_table_stats(struct evwork_limiter_table *table,
	struct evwork_limiter_table_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
