/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Tables of limiters: a set of keys with buckets under a lock, and a limiter of all. A
 * decision is tried on a copy of the key's bucket, which becomes the bucket once nothing
 * else refuses; so both are debited or none.
 */

#include "evwork/limiter_table.h"

#include <string.h>

#include "guard/keys.h"
#include "guard/limiter.h"

struct evwork_limiter_table {
	/* Fixed at creation. */
	unsigned made_in;         /* fork_here() when it was made */
	char name[EVWORK_NAME_MAX];
	struct evwork_clock *clock;
	struct evwork_limiter *all;
	bool admits;
	struct evwork_bucket_terms terms;

	sys_mutex mutex;          /* covers all below; before that of `all` */
	struct keys keys;         /* its sizes and hash are fixed, too */
	struct evwork_limiter_table_stats stats;
};

/* Making and freeing. */

static bool options_valid(const struct evwork_limiter_table_options *options)
{
	return options->key_size <= EVWORK_LIMITER_TABLE_KEY_SIZE_MAX &&
		(options->overflow == EVWORK_OVERFLOW_REFUSE ||
		 options->overflow == EVWORK_OVERFLOW_ADMIT) &&
		(!options->all || options->all->clock == options->clock);
}

static void copy_options(struct evwork_limiter_table *table,
	const struct evwork_limiter_table_options *options)
{
	strncpy(table->name, options->name ? options->name : "limiters",
		sizeof(table->name) - 1);
	table->clock = options->clock;
	table->all = options->all;
	table->admits = options->overflow == EVWORK_OVERFLOW_ADMIT;
}

int evwork_limiter_table_new(double rate, int64_t burst, size_t keys,
	const struct evwork_limiter_table_options *options, struct evwork_limiter_table **ret_table)
{
	static const struct evwork_limiter_table_options defaults;
	struct evwork_limiter_table *table;
	int rc;

	if (!options)
		options = &defaults;
	if (!ret_table || !bucket_rate_valid(rate) || burst < 0 || keys == 0 ||
	    keys > EVWORK_LIMITER_TABLE_KEYS_MAX || !options_valid(options))
		return -EINVAL;
	rc = fork_notice();
	if (rc)
		return rc;
	table = sys_zalloc(sizeof(*table));
	if (!table)
		return -ENOMEM;
	copy_options(table, options);
	table->made_in = fork_here();
	bucket_make_terms(&table->terms, rate, burst, 0);
	rc = keys_init(&table->keys, keys, options->key_size ? options->key_size :
		EVWORK_LIMITER_TABLE_KEY_SIZE_DEFAULT);
	if (rc == 0)
		rc = sys_mutex_init_spinning(&table->mutex);
	if (rc) {
		keys_fini(&table->keys);
		sys_free(table);
		return rc;
	}
	*ret_table = table;
	return 0;
}

static bool inherited(const struct evwork_limiter_table *table)
{
	return table->made_in != fork_here();
}

void evwork_limiter_table_free(struct evwork_limiter_table *table)
{
	if (!table)
		return;
	/* The lock of an inherited one stays as it is. */
	if (!inherited(table))
		sys_mutex_fini(&table->mutex);
	keys_fini(&table->keys);
	sys_free(table);
}

const char *evwork_limiter_table_name(const struct evwork_limiter_table *table)
{
	return table ? table->name : NULL;
}

/* Decisions. */

static int ask_all(const struct evwork_limiter_table *table, int64_t n, const int64_t *given)
{
	if (!table->all)
		return 0;
	return given ? evwork_limiter_allow_at(table->all, n, *given) :
		evwork_limiter_allow(table->all, n);
}

/* A key without an entry; its bucket has been found to have what is wanted. */
static int admit_new(struct evwork_limiter_table *table, const struct lookup *at,
	const struct evwork_bucket_level *level, int64_t n, int64_t now, const int64_t *given)
{
	int rc;

	/* What takes nothing needs no entry. */
	if (n == 0 || bucket_is_unlimited(&table->terms))
		return ask_all(table, n, given);
	if (!keys_have_room(&table->keys, &table->terms, now)) {
		table->stats.overflowed++;
		return table->admits ? ask_all(table, n, given) : -EAGAIN;
	}
	rc = ask_all(table, n, given);
	if (rc == 0)
		keys_insert(&table->keys, &table->terms, at, level);
	return rc;
}

/* given: the caller's time, or NULL. */
static int allow_locked(struct evwork_limiter_table *table, const struct lookup *at, int64_t n,
	const int64_t *given)
{
	int64_t now = given ? *given : clock_now(table->clock);
	struct evwork_bucket_level *known = keys_find(&table->keys, at);
	struct evwork_bucket_level level = { table->terms._full, now };
	int rc;

	if (known)
		level = *known;
	rc = evwork__bucket_level_take(&table->terms, &level, n, now);
	if (rc)
		return rc;
	if (!known)
		return admit_new(table, at, &level, n, now, given);
	rc = ask_all(table, n, given);
	if (rc == 0)
		*known = level;
	return rc;
}

/* The checks that all calls with a key have. */
static int check(const struct evwork_limiter_table *table, const void *key, size_t size,
	struct lookup *ret_lookup)
{
	if (!table || (!key && size))
		return -EINVAL;
	if (inherited(table))
		return -ESHUTDOWN;
	if (size > table->keys.key_size)
		return -ERANGE;
	*ret_lookup = keys_lookup(&table->keys, key, size);
	return 0;
}

static int allow(struct evwork_limiter_table *table, const void *key, size_t size, int64_t n,
	const int64_t *given)
{
	struct lookup at;
	int rc = n < 0 ? -EINVAL : check(table, key, size, &at);

	if (rc && rc != -ERANGE)
		return rc;
	sys_lock(&table->mutex);
	if (rc == 0)
		rc = allow_locked(table, &at, n, given);
	if (rc == 0)
		table->stats.allowed++;
	else
		table->stats.refused++;
	sys_unlock(&table->mutex);
	return rc;
}

int evwork_limiter_table_allow(struct evwork_limiter_table *table, const void *key, size_t size,
	int64_t n)
{
	return allow(table, key, size, n, NULL);
}

int evwork_limiter_table_allow_at(struct evwork_limiter_table *table, const void *key,
	size_t size, int64_t n, int64_t now_ns)
{
	return allow(table, key, size, n, &now_ns);
}

/* Asking. */

/* The units of a key's bucket now. */
static wide units_of(struct evwork_limiter_table *table, const struct lookup *at)
{
	const struct evwork_bucket_level *level;
	wide units = table->terms._full;

	sys_lock(&table->mutex);
	level = keys_find(&table->keys, at);
	if (level)
		units = evwork__bucket_units(&table->terms, level, units,
			clock_now(table->clock));
	sys_unlock(&table->mutex);
	return units;
}

int evwork_limiter_table_tokens(struct evwork_limiter_table *table, const void *key, size_t size,
	int64_t *ret_tokens)
{
	struct lookup at;
	int rc = ret_tokens ? check(table, key, size, &at) : -EINVAL;

	if (rc)
		return rc;
	*ret_tokens = bucket_is_unlimited(&table->terms) ? INT64_MAX :
		wide_tokens(units_of(table, &at), table->terms._shift);
	return 0;
}

int evwork_limiter_table_retry_after(struct evwork_limiter_table *table, const void *key,
	size_t size, int64_t n, int64_t *ret_ns)
{
	struct lookup at;
	int64_t own = 0, of_all = 0;
	int rc = ret_ns && n >= 0 ? check(table, key, size, &at) : -EINVAL;

	if (rc == 0 && !bucket_is_unlimited(&table->terms)) {
		if (n > table->terms._burst)
			return -ERANGE;
		own = bucket_time_for(&table->terms, evwork__wide_sub(
			evwork__bucket_cost(&table->terms, n), units_of(table, &at)));
	}
	if (rc == 0 && table->all)
		rc = evwork_limiter_retry_after(table->all, n, &of_all);
	if (rc == 0)
		*ret_ns = own > of_all ? own : of_all;
	return rc;
}

int evwork_limiter_table_stats(struct evwork_limiter_table *table,
	struct evwork_limiter_table_stats *ret_stats)
{
	if (!table || !ret_stats)
		return -EINVAL;
	if (inherited(table))
		return -ESHUTDOWN;
	sys_lock(&table->mutex);
	*ret_stats = table->stats;
	ret_stats->keys = table->keys.count;
	ret_stats->evicted = table->keys.evicted;
	sys_unlock(&table->mutex);
	return 0;
}
