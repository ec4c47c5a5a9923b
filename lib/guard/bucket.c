/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The arithmetic of token buckets.
 *
 * A rate is a binary fraction: r * 2^shift is a whole number for some shift. With 10^9 *
 * 2^shift units to the token exactly r * 2^shift units come in each nanosecond, the gain,
 * and all that follows is additions of whole numbers. The shift is the smallest one that
 * makes it so, but never so large that the numbers outgrow 128 bits:
 *
 *	burst, or debt when the terms were made     below 2^125 units
 *	gain                                        below 2^60 (a rate of 10^18)
 *	what comes in between two times             below 2^124
 *	a debt that was taken on                    below 2^123, as a wait ends before 2^63 ns
 *
 * Where the shift is cut short the gain is rounded down, by less than a unit. Then 2^94
 * units or more go into the burst, so that 2^63 ns lose less than 2^-31 of the burst or,
 * as a token is 10^9 * 2^shift units, less than a token if the shift is 34 or more.
 */

#include "guard/bucket.h"

#include <string.h>

#define RATE_MOST 1e18
wide wide_shift(wide a, int by)
{
	uint64_t high = (uint64_t)a._high;
	wide result;

	if (by >= 64) {
		result._high = (int64_t)(a._low << (by - 64));
		result._low = 0;
	} else if (by > 0) {
		result._high = (int64_t)(high << by | a._low >> (64 - by));
		result._low = a._low << by;
	} else if (by == 0) {
		result = a;
	} else if (by > -64) {
		result._high = a._high >> -by;
		result._low = a._low >> -by | high << (64 + by);
	} else {
		result._high = a._high < 0 ? -1 : 0;
		result._low = (uint64_t)(a._high >> (-by - 64));
	}
	return result;
}

/* By hand, one bit after the other, as it is not asked often and not every compiler has
 * numbers of 128 bits. */
wide wide_divide(wide a, uint64_t b, uint64_t *ret_rest)
{
	wide quotient = { 0, 0 };
	uint64_t rest = 0;
	int bit = a._high ? 127 : 63;

	for (; bit >= 0; bit--) {
		uint64_t word = bit >= 64 ? (uint64_t)a._high : a._low;

		/* b is below 2^63, so this does not overflow. */
		rest = rest << 1 | (word >> (bit & 63) & 1);
		quotient = wide_shift(quotient, 1);
		if (rest >= b) {
			rest -= b;
			quotient._low |= 1;
		}
	}
	*ret_rest = rest;
	return quotient;
}

int64_t wide_divide_up(wide a, uint64_t b)
{
	uint64_t rest;
	wide quotient = wide_divide(a, b, &rest);

	if (quotient._high || quotient._low >= INT64_MAX)
		return INT64_MAX;
	return (int64_t)(quotient._low + (rest > 0));
}

int64_t wide_tokens(wide a, uint32_t shift)
{
	wide whole = wide_shift(a, -(int)shift);
	uint64_t rest;

	if (whole._high >= 0) {
		whole = wide_divide(whole, BUCKET_UNITS, &rest);
		return whole._high || whole._low > INT64_MAX ? INT64_MAX : (int64_t)whole._low;
	}
	whole = wide_divide(wide_negate(whole), BUCKET_UNITS, &rest);
	if (whole._high || whole._low >= INT64_MAX)
		return INT64_MIN;
	return -(int64_t)whole._low - (rest > 0);
}

bool bucket_rate_valid(double rate)
{
	/* Not so for what is not a number. */
	return rate >= 0;
}

static bool is_infinite(double rate)
{
	return rate > 0 && rate == rate / 2;
}

static uint32_t bits_of(uint64_t value)
{
	uint32_t bits = 0;

	for (; value; value >>= 1)
		bits++;
	return bits;
}

/* The gain of a rate, and its shift, which is at most `most`. */
static uint64_t gain_of(double rate, uint32_t most, uint32_t *ret_shift)
{
	uint32_t shift = 0;

	if (rate > RATE_MOST)
		rate = RATE_MOST;
	/* Doubling is exact. */
	for (; shift < most && (double)(uint64_t)rate < rate; shift++)
		rate *= 2;
	*ret_shift = shift;
	return (uint64_t)rate;
}

void bucket_make_terms(struct evwork_bucket_terms *terms, double rate, int64_t burst,
	int64_t tokens)
{
	uint64_t largest = (uint64_t)(burst > tokens ? burst : tokens);

	terms->_rate = rate;
	terms->_burst = burst;
	terms->_shift = 0;
	if (is_infinite(rate))
		terms->_gain = EVWORK__UNLIMITED;
	else
		terms->_gain = gain_of(rate, BUCKET_ROOM_BITS - bits_of(largest), &terms->_shift);
	terms->_unit = wide_shift(wide_of((int64_t)BUCKET_UNITS), (int)terms->_shift);
	terms->_full = wide_shift(evwork__wide_mul(BUCKET_UNITS, (uint64_t)burst),
		(int)terms->_shift);
}

void bucket_settle(struct evwork_bucket *bucket, wide most, int64_t now_ns)
{
	struct evwork_bucket_level *level = &bucket->_level;

	if (!bucket_is_unlimited(&bucket->_terms))
		level->_units = evwork__bucket_units(&bucket->_terms, level, most, now_ns);
	else if (now_ns > level->_at_ns)
		level->_units = most;
	level->_at_ns = now_ns;
}

int64_t bucket_time_for(const struct evwork_bucket_terms *terms, wide missing)
{
	if (missing._high < 0 || wide_is_zero(missing) || bucket_is_unlimited(terms))
		return 0;
	return terms->_gain ? wide_divide_up(missing, terms->_gain) : EVWORK_NEVER;
}

int evwork_bucket_init(struct evwork_bucket *bucket, double rate, int64_t burst, int64_t now_ns)
{
	if (!bucket || !bucket_rate_valid(rate) || burst < 0)
		return -EINVAL;
	memset(bucket, 0, sizeof(*bucket));
	bucket_make_terms(&bucket->_terms, rate, burst, 0);
	bucket->_level._units = bucket->_terms._full;
	bucket->_level._at_ns = now_ns;
	return 0;
}

static wide units_at(const struct evwork_bucket *bucket, int64_t now_ns)
{
	return evwork__bucket_units(&bucket->_terms, &bucket->_level, bucket->_terms._full,
		now_ns);
}

int evwork_bucket_debit(struct evwork_bucket *bucket, int64_t n, int64_t max_wait_ns,
	int64_t now_ns, int64_t *ret_act_ns)
{
	const struct evwork_bucket_terms *terms;
	wide units;
	int64_t wait;

	if (!bucket || !ret_act_ns || n < 0)
		return -EINVAL;
	terms = &bucket->_terms;
	if (bucket_is_unlimited(terms)) {
		if (max_wait_ns < 0)
			return -ETIMEDOUT;
		*ret_act_ns = now_ns;
		return 0;
	}
	if (n > terms->_burst)
		return -ERANGE;
	units = evwork__wide_sub(units_at(bucket, now_ns), evwork__bucket_cost(terms, n));
	if (units._high < 0 && terms->_gain == 0)
		return -ERANGE;
	wait = bucket_time_for(terms, wide_negate(units));
	if (wait > max_wait_ns || wait > INT64_MAX - 1 - (now_ns > 0 ? now_ns : 0) ||
	    wide_tokens(units, terms->_shift) < -BUCKET_DEBT_MOST)
		return -ETIMEDOUT;
	bucket->_level._units = units;
	bucket->_level._at_ns = now_ns;
	*ret_act_ns = now_ns + wait;
	return 0;
}

int evwork_bucket_give_back(struct evwork_bucket *bucket, int64_t n, int64_t now_ns)
{
	const struct evwork_bucket_terms *terms;

	if (!bucket || n < 0)
		return -EINVAL;
	terms = &bucket->_terms;
	bucket_settle(bucket, terms->_full, now_ns);
	if (n > terms->_burst) {
		/* More than that only ever fits into a debt. */
		wide debt = wide_negate(bucket->_level._units);

		if (debt._high < 0 || n - terms->_burst > wide_tokens(debt, terms->_shift)) {
			bucket->_level._units = terms->_full;
			return 0;
		}
	}
	bucket->_level._units = wide_min(terms->_full, evwork__wide_add(bucket->_level._units,
		evwork__bucket_cost(terms, n)));
	return 0;
}

int64_t evwork_bucket_available(const struct evwork_bucket *bucket, int64_t now_ns)
{
	if (bucket_is_unlimited(&bucket->_terms))
		return INT64_MAX;
	return wide_tokens(units_at(bucket, now_ns), bucket->_terms._shift);
}

int64_t evwork_bucket_retry_after(const struct evwork_bucket *bucket, int64_t n, int64_t now_ns)
{
	const struct evwork_bucket_terms *terms = &bucket->_terms;

	if (n < 0)
		return -EINVAL;
	if (bucket_is_unlimited(terms))
		return 0;
	if (n > terms->_burst)
		return EVWORK_NEVER;
	return bucket_time_for(terms, evwork__wide_sub(evwork__bucket_cost(terms, n),
		units_at(bucket, now_ns)));
}

int64_t evwork_bucket_reset_after(const struct evwork_bucket *bucket, int64_t now_ns)
{
	if (bucket_is_unlimited(&bucket->_terms))
		return 0;
	return bucket_time_for(&bucket->_terms, evwork__wide_sub(bucket->_terms._full,
		units_at(bucket, now_ns)));
}

/* New terms for a settled bucket, whose level is cut to what they allow. */
static void change(struct evwork_bucket *bucket, double rate, int64_t burst)
{
	struct evwork_bucket_terms old = bucket->_terms;
	struct evwork_bucket_level *level = &bucket->_level;
	int64_t tokens = wide_tokens(level->_units, old._shift);

	bucket_make_terms(&bucket->_terms, rate, burst, tokens < 0 ? -tokens : 0);
	/* Before the units become finer, which only what fits has room for. */
	if (tokens >= burst)
		level->_units = bucket->_terms._full;
	else
		level->_units = wide_shift(level->_units,
			(int)bucket->_terms._shift - (int)old._shift);
}

int evwork_bucket_set_rate(struct evwork_bucket *bucket, double rate, int64_t now_ns)
{
	if (!bucket || !bucket_rate_valid(rate))
		return -EINVAL;
	bucket_settle(bucket, bucket->_terms._full, now_ns);
	change(bucket, rate, bucket->_terms._burst);
	return 0;
}

int evwork_bucket_set_burst(struct evwork_bucket *bucket, int64_t burst, int64_t now_ns)
{
	if (!bucket || burst < 0)
		return -EINVAL;
	bucket_settle(bucket, bucket->_terms._full, now_ns);
	change(bucket, bucket->_terms._rate, burst);
	return 0;
}
