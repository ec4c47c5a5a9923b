/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Limiters: a bucket under a lock. What is in it is in limiter_level.c, waiters are in
 * limiter_queue.c and limiter_wait.c, reservations in reservation.c.
 */

#include "guard/limiter.h"

#include <string.h>

static void set_slack(struct evwork_limiter *limiter)
{
	uint64_t gain = limiter->bucket._terms._gain;

	limiter->slack = gain == EVWORK__UNLIMITED ? wide_of(0) :
		evwork__wide_mul(gain, (uint64_t)limiter->slack_ns);
}

int evwork_limiter_new(double rate, int64_t burst, const struct evwork_limiter_options *options,
	struct evwork_limiter **ret_limiter)
{
	static const struct evwork_limiter_options defaults;
	struct evwork_limiter *limiter;
	int64_t slack_ms;
	int rc;

	if (!options)
		options = &defaults;
	if (!ret_limiter || !bucket_rate_valid(rate) || burst < 0 ||
	    options->slack_ms < EVWORK_NO_SLACK || options->warmup_ms < 0)
		return -EINVAL;
	rc = fork_notice();
	if (rc)
		return rc;
	limiter = sys_zalloc(sizeof(*limiter));
	if (!limiter)
		return -ENOMEM;
	rc = sys_mutex_init_spinning(&limiter->mutex);
	if (rc) {
		sys_free(limiter);
		return rc;
	}
	limiter->made_in = fork_here();
	limiter->clock = options->clock;
	slack_ms = options->slack_ms == EVWORK_NO_SLACK ? 0 :
		options->slack_ms ? options->slack_ms : EVWORK_SLACK_MS_DEFAULT;
	limiter->slack_ns = sys_time_mul(slack_ms, SYS_NS_PER_MS);
	strncpy(limiter->name, options->name ? options->name : "limiter",
		sizeof(limiter->name) - 1);
	evwork_bucket_init(&limiter->bucket, rate, burst, clock_now(limiter->clock));
	warmup_init(&limiter->warmup, sys_time_mul(options->warmup_ms, SYS_NS_PER_MS),
		&limiter->bucket._terms);
	set_slack(limiter);
	waiters_init(limiter);
	*ret_limiter = limiter;
	return 0;
}

int evwork_limiter_free(struct evwork_limiter *limiter)
{
	bool busy;

	if (!limiter)
		return 0;
	/* The lock of an inherited one stays as it is. */
	if (!limiter_is_inherited(limiter)) {
		sys_lock(&limiter->mutex);
		busy = limiter->pending > 0;
		sys_unlock(&limiter->mutex);
		if (busy)
			return -EBUSY;
		sys_mutex_fini(&limiter->mutex);
	}
	sys_free(limiter);
	return 0;
}

const char *evwork_limiter_name(const struct evwork_limiter *limiter)
{
	return limiter ? limiter->name : NULL;
}

/* Taking. */

int limiter_allow_locked(struct evwork_limiter *limiter, int64_t n, int64_t now)
{
	int rc;

	if (!limiter->waiters.head)
		rc = limiter_warms_up(limiter) ? limiter_take_locked(limiter, n, now) :
			evwork_bucket_take(&limiter->bucket, n, now);
	else if (n < 0)
		rc = -EINVAL;
	else
		rc = n > limiter->bucket._terms._burst ? -ERANGE : -EAGAIN;
	return limiter_count_locked(limiter, &limiter->stats.allowed, rc);
}

int evwork_limiter_allow(struct evwork_limiter *limiter, int64_t n)
{
	int rc;

	if (!limiter || n < 0)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	rc = limiter_allow_locked(limiter, n, clock_now(limiter->clock));
	sys_unlock(&limiter->mutex);
	return rc;
}

int evwork_limiter_allow_at(struct evwork_limiter *limiter, int64_t n, int64_t now_ns)
{
	int rc;

	if (!limiter || n < 0)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	rc = limiter_allow_locked(limiter, n, now_ns);
	sys_unlock(&limiter->mutex);
	return rc;
}

/* Asking. */

int evwork_limiter_tokens(struct evwork_limiter *limiter, int64_t *ret_tokens)
{
	const struct evwork_bucket_terms *terms;
	wide units;

	if (!limiter || !ret_tokens)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	terms = &limiter->bucket._terms;
	sys_lock(&limiter->mutex);
	if (bucket_is_unlimited(terms))
		*ret_tokens = INT64_MAX;
	else if (limiter_free_units_locked(limiter, clock_now(limiter->clock), &units))
		*ret_tokens = wide_tokens(units, terms->_shift);
	else
		*ret_tokens = INT64_MIN;
	sys_unlock(&limiter->mutex);
	return 0;
}

/* Nanoseconds until so many units are there. */
static int64_t time_until_locked(struct evwork_limiter *limiter, wide units)
{
	wide free_units;

	if (bucket_is_unlimited(&limiter->bucket._terms))
		return 0;
	if (!limiter_free_units_locked(limiter, clock_now(limiter->clock), &free_units))
		return EVWORK_NEVER;
	return bucket_time_for(&limiter->bucket._terms, evwork__wide_sub(units, free_units));
}

int evwork_limiter_retry_after(struct evwork_limiter *limiter, int64_t n, int64_t *ret_ns)
{
	const struct evwork_bucket_terms *terms;
	int rc = 0;

	if (!limiter || !ret_ns || n < 0)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	terms = &limiter->bucket._terms;
	sys_lock(&limiter->mutex);
	if (n > terms->_burst && !bucket_is_unlimited(terms))
		rc = -ERANGE;
	else
		*ret_ns = time_until_locked(limiter, evwork__bucket_cost(terms, n));
	sys_unlock(&limiter->mutex);
	return rc;
}

int evwork_limiter_reset_after(struct evwork_limiter *limiter, int64_t *ret_ns)
{
	if (!limiter || !ret_ns)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	*ret_ns = time_until_locked(limiter, limiter->bucket._terms._full);
	sys_unlock(&limiter->mutex);
	return 0;
}

int evwork_limiter_stats(struct evwork_limiter *limiter, struct evwork_limiter_stats *ret_stats)
{
	if (!limiter || !ret_stats)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	*ret_stats = limiter->stats;
	sys_unlock(&limiter->mutex);
	return 0;
}

/* Changing. */

/*
 * Rate and burst decide how fine the units are. What was reserved behind waiters counts as
 * debt while that is decided, so that it fits, too.
 */
static void change_locked(struct evwork_limiter *limiter, double rate, int64_t burst,
	int64_t now)
{
	struct evwork_bucket *bucket = &limiter->bucket;
	struct evwork_bucket_terms old;
	wide *units = &bucket->_level._units;

	if (limiter->waiters.head)
		waiters_settle_locked(limiter, now);
	else
		limiter_settle_locked(limiter, bucket->_terms._full, now);
	old = bucket->_terms;
	*units = evwork__wide_sub(*units, limiter->behind);
	/* Only one of them differs. */
	evwork_bucket_set_rate(bucket, rate, now);
	evwork_bucket_set_burst(bucket, burst, now);
	waiters_rescale_locked(limiter, (int)bucket->_terms._shift - (int)old._shift);
	*units = evwork__wide_add(*units, limiter->behind);
	if (limiter_warms_up(limiter))
		warmup_change(&limiter->warmup, &old, &bucket->_terms);
	set_slack(limiter);
	waiters_serve_locked(limiter, now);
}

/* now: NULL is the present. */
static int set_rate(struct evwork_limiter *limiter, double rate, const int64_t *now)
{
	if (!limiter || !bucket_rate_valid(rate))
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	change_locked(limiter, rate, limiter->bucket._terms._burst,
		now ? *now : clock_now(limiter->clock));
	sys_unlock(&limiter->mutex);
	return 0;
}

int evwork_limiter_set_rate(struct evwork_limiter *limiter, double rate)
{
	return set_rate(limiter, rate, NULL);
}

int evwork_limiter_set_rate_at(struct evwork_limiter *limiter, double rate, int64_t now_ns)
{
	return set_rate(limiter, rate, &now_ns);
}

static int set_burst(struct evwork_limiter *limiter, int64_t burst, const int64_t *now)
{
	if (!limiter || burst < 0)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	if (!bucket_is_unlimited(&limiter->bucket._terms))
		waiters_end_larger_locked(limiter, burst);
	change_locked(limiter, limiter->bucket._terms._rate, burst,
		now ? *now : clock_now(limiter->clock));
	sys_unlock(&limiter->mutex);
	return 0;
}

int evwork_limiter_set_burst(struct evwork_limiter *limiter, int64_t burst)
{
	return set_burst(limiter, burst, NULL);
}

int evwork_limiter_set_burst_at(struct evwork_limiter *limiter, int64_t burst, int64_t now_ns)
{
	return set_burst(limiter, burst, &now_ns);
}
