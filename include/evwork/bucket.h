/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_BUCKET_H
#define EVWORK_BUCKET_H

/*
 * Token buckets: the arithmetic of rate limits, without a clock and without a lock. The
 * struct is the caller's, the time an argument; what is used by one thread only, such as
 * a limit for each connection of a loop, needs no more than this. evwork/limiter.h adds a
 * clock, threads and waiting.
 *
 *	struct evwork_bucket bucket;
 *	evwork_bucket_init(&bucket, 100, 20, now_ns);           // 100/s, 20 at once
 *	if (evwork_bucket_take(&bucket, 1, now_ns) != 0)
 *	        refuse(evwork_bucket_retry_after(&bucket, 1, now_ns));
 *
 * A bucket starts full. tokens(t) = min(burst, tokens + rate * elapsed), fractions
 * included (S-LIM-1). The arithmetic is in integers, and exact: nothing is lost by
 * rounding, however often it is asked, and at 10/s the next token is there after exactly
 * 100,000,000 ns. Only a rate with more binary fractions than there is room for is rounded,
 * down: by less than one token in 292 years. Waiting times are rounded up to the
 * nanosecond.
 *
 * Rates are in tokens a second: finite and >= 0, or infinite, which INFINITY of <math.h>
 * is. What is above 10^18 counts as 10^18. With an infinite rate the burst does not
 * matter, everything passes and nothing is taken (S-LIM-6). With rate 0 what is stored is
 * served, and never refilled (S-LIM-7).
 *
 * Times are nanoseconds of whatever clock the caller has, and should not run backwards.
 * An older time than that of the last change refills nothing, and if tokens are taken
 * it becomes the reference: time that is gone through twice is credited twice (S-LIM-5).
 *
 * One bucket is to be used by one thread at a time.
 */

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Private: a signed number of 128 bits. */
struct evwork_wide {
	int64_t _high;
	uint64_t _low;
};

/* Private: tokens are counted in units, as many to the token as make the units that
 * come in a nanosecond a whole number. */
struct evwork_bucket_terms {
	struct evwork_wide _full;     /* the burst, in units; below 2^125 */
	struct evwork_wide _unit;     /* units in a token: 10^9 << _shift */
	uint64_t _gain;               /* units in a nanosecond; below 2^60, or unlimited */
	int64_t _burst;
	double _rate;                 /* as it was asked for */
	uint32_t _shift;
};

/* Private. */
struct evwork_bucket_level {
	struct evwork_wide _units;    /* at _at_ns; negative: in debt */
	int64_t _at_ns;
};

struct evwork_bucket {
	/* Private. */
	struct evwork_bucket_terms _terms;
	struct evwork_bucket_level _level;
};

/*
 * evwork_bucket_init makes a bucket full.
 * -EINVAL: bucket is NULL, rate is negative or not a number, burst is negative.
 */
int evwork_bucket_init(struct evwork_bucket *bucket, double rate, int64_t burst,
	int64_t now_ns);

/*
 * evwork_bucket_take takes n tokens, if there are as many; n = 0 takes nothing, and fails
 * only in debt (S-LIM-2). A refusal changes nothing.
 * -EINVAL: bucket is NULL, n is negative. -ERANGE: n is more than the burst.
 * -EAGAIN: there are not as many now.
 */
static inline int evwork_bucket_take(struct evwork_bucket *bucket, int64_t n, int64_t now_ns);

/*
 * evwork_bucket_debit takes n tokens in any case, so that there may be a debt, and stores
 * in *ret_act_ns when the caller is to act: now, or when the debt will be paid. Refused,
 * and nothing taken, if that is more than max_wait_ns away.
 * -EINVAL: bucket or ret_act_ns is NULL, n is negative. -ERANGE: n is more than the burst,
 * or more than there is while the rate is 0. -ETIMEDOUT: the wait is too long, or
 * would never end.
 */
int evwork_bucket_debit(struct evwork_bucket *bucket, int64_t n, int64_t max_wait_ns,
	int64_t now_ns, int64_t *ret_act_ns);

/*
 * evwork_bucket_give_back puts n tokens back, as far as they fit.
 * -EINVAL: bucket is NULL, n is negative.
 */
int evwork_bucket_give_back(struct evwork_bucket *bucket, int64_t n, int64_t now_ns);

/*
 * What a bucket has, none of which changes it; the bucket must not be NULL.
 *
 * evwork_bucket_available: whole tokens, rounded down, negative in debt; INT64_MAX if the
 * rate is infinite. evwork_bucket_retry_after: nanoseconds until n tokens are there, 0 if
 * they are; EVWORK_NEVER, also if n is more than the burst; -EINVAL if n is negative.
 * evwork_bucket_reset_after: nanoseconds until it is full.
 */
int64_t evwork_bucket_available(const struct evwork_bucket *bucket, int64_t now_ns);
int64_t evwork_bucket_retry_after(const struct evwork_bucket *bucket, int64_t n, int64_t now_ns);
int64_t evwork_bucket_reset_after(const struct evwork_bucket *bucket, int64_t now_ns);

/*
 * evwork_bucket_set_rate and evwork_bucket_set_burst settle the bucket under the old
 * value first, rounded down by less than 10^-9 tokens. A smaller burst discards what is
 * above it at once, a larger one adds nothing (S-LIM-12). -EINVAL as for evwork_bucket_init.
 */
int evwork_bucket_set_rate(struct evwork_bucket *bucket, double rate, int64_t now_ns);
int evwork_bucket_set_burst(struct evwork_bucket *bucket, int64_t burst, int64_t now_ns);


/* Private from here on: taking is short enough to be compiled into the caller. */

#define EVWORK__UNLIMITED UINT64_MAX

/* All bits of a * b. */
static inline struct evwork_wide evwork__wide_mul(uint64_t a, uint64_t b)
{
	struct evwork_wide product;
#ifdef __SIZEOF_INT128__
	__extension__ typedef unsigned __int128 evwork__uint128;
	evwork__uint128 all = (evwork__uint128)a * b;

	product._high = (int64_t)(all >> 64);
	product._low = (uint64_t)all;
#else
	uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX);
	uint64_t one = (a >> 32) * (b & UINT32_MAX) + (low >> 32);
	uint64_t two = (a & UINT32_MAX) * (b >> 32) + (one & UINT32_MAX);

	product._high = (int64_t)((a >> 32) * (b >> 32) + (one >> 32) + (two >> 32));
	product._low = two << 32 | (low & UINT32_MAX);
#endif
	return product;
}

static inline struct evwork_wide evwork__wide_add(struct evwork_wide a, struct evwork_wide b)
{
	struct evwork_wide sum;

	sum._low = a._low + b._low;
	sum._high = (int64_t)((uint64_t)a._high + (uint64_t)b._high + (sum._low < a._low));
	return sum;
}

static inline struct evwork_wide evwork__wide_sub(struct evwork_wide a, struct evwork_wide b)
{
	struct evwork_wide difference;

	difference._low = a._low - b._low;
	difference._high = (int64_t)((uint64_t)a._high - (uint64_t)b._high - (a._low < b._low));
	return difference;
}

static inline int evwork__wide_less(struct evwork_wide a, struct evwork_wide b)
{
	return a._high != b._high ? a._high < b._high : a._low < b._low;
}

/* n tokens in units, where n is at most the burst. */
static inline struct evwork_wide evwork__bucket_cost(const struct evwork_bucket_terms *terms,
	int64_t n)
{
	struct evwork_wide cost;

	if (n == 1)
		return terms->_unit;
	cost = evwork__wide_mul(terms->_unit._low, (uint64_t)n);
	cost._high = (int64_t)((uint64_t)cost._high + (uint64_t)terms->_unit._high * (uint64_t)n);
	return cost;
}

/* The units at a time, at most `most` of them. No sum of these numbers overflows, see
 * lib/guard/bucket.c. Not for unlimited ones. */
static inline struct evwork_wide evwork__bucket_units(const struct evwork_bucket_terms *terms,
	const struct evwork_bucket_level *level, struct evwork_wide most, int64_t now_ns)
{
	struct evwork_wide units = level->_units;

	if (now_ns > level->_at_ns)
		units = evwork__wide_add(units, evwork__wide_mul(terms->_gain,
			(uint64_t)now_ns - (uint64_t)level->_at_ns));
	return evwork__wide_less(most, units) ? most : units;
}

static inline int evwork__bucket_level_take(const struct evwork_bucket_terms *terms,
	struct evwork_bucket_level *level, int64_t n, int64_t now_ns)
{
	struct evwork_wide units, cost;

	if (n < 0)
		return -EINVAL;
	if (terms->_gain == EVWORK__UNLIMITED)
		return 0;
	if (n > terms->_burst)
		return -ERANGE;
	units = evwork__bucket_units(terms, level, terms->_full, now_ns);
	cost = evwork__bucket_cost(terms, n);
	if (evwork__wide_less(units, cost))
		return -EAGAIN;
	level->_units = evwork__wide_sub(units, cost);
	level->_at_ns = now_ns;
	return 0;
}

static inline int evwork_bucket_take(struct evwork_bucket *bucket, int64_t n, int64_t now_ns)
{
	if (!bucket)
		return -EINVAL;
	return evwork__bucket_level_take(&bucket->_terms, &bucket->_level, n, now_ns);
}

#ifdef __cplusplus
}
#endif

#endif
