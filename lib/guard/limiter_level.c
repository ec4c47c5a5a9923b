/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What there is in a limiter: its bucket and, if it warms up, how cold it is. Units that
 * find no room in the bucket make it colder; and who takes tokens pays for them what they
 * cost while it is cold, on top of them, as a debt of the bucket. So what he gets he gets
 * when an ordinary limiter would give it, and those after him wait longer.
 */

#include "guard/limiter.h"

#define WIDE_MOST ((wide){ INT64_MAX, UINT64_MAX })

void limiter_settle_locked(struct evwork_limiter *limiter, wide most, int64_t now)
{
	struct evwork_bucket *bucket = &limiter->bucket;

	if (limiter_warms_up(limiter) && !bucket_is_unlimited(&bucket->_terms))
		warmup_idle(&limiter->warmup, evwork__wide_sub(evwork__bucket_units(
			&bucket->_terms, &bucket->_level, WIDE_MOST, now), most));
	bucket_settle(bucket, most, now);
}

wide limiter_charge_locked(struct evwork_limiter *limiter, int64_t n)
{
	wide cost = evwork__bucket_cost(&limiter->bucket._terms, n);

	if (limiter_warms_up(limiter))
		cost = evwork__wide_add(cost, warmup_take(&limiter->warmup, cost));
	return cost;
}

void limiter_debit_locked(struct evwork_limiter *limiter, wide units)
{
	wide *level = &limiter->bucket._level._units;

	*level = evwork__wide_sub(*level, units);
}

int limiter_take_locked(struct evwork_limiter *limiter, int64_t n, int64_t now)
{
	const struct evwork_bucket_terms *terms = &limiter->bucket._terms;
	struct evwork_bucket_level level = limiter->bucket._level;
	int rc;

	/* On a copy, as a refusal changes nothing. */
	rc = evwork__bucket_level_take(terms, &level, n, now);
	if (rc || bucket_is_unlimited(terms))
		return rc;
	limiter_settle_locked(limiter, terms->_full, now);
	limiter_debit_locked(limiter, limiter_charge_locked(limiter, n));
	return 0;
}

bool limiter_free_units_locked(struct evwork_limiter *limiter, int64_t now, wide *ret_units)
{
	const struct evwork_bucket *bucket = &limiter->bucket;
	wide units, demand;

	if (!limiter->waiters.head) {
		*ret_units = evwork__bucket_units(&bucket->_terms, &bucket->_level,
			bucket->_terms._full, now);
		return true;
	}
	waiters_settle_locked(limiter, now);
	/* Not if the demand has 2^125 units or more. */
	if (limiter->demand._high || limiter->demand._low > INT64_MAX ||
	    !wide_is_zero(wide_shift(wide_of((int64_t)limiter->demand._low),
			(int)bucket->_terms._shift - BUCKET_ROOM_BITS)))
		return false;
	demand = evwork__bucket_cost(&bucket->_terms, (int64_t)limiter->demand._low);
	if (limiter_warms_up(limiter))
		demand = evwork__wide_add(demand, warmup_price(&limiter->warmup, demand));
	units = evwork__wide_sub(bucket->_level._units, limiter->behind);
	*ret_units = evwork__wide_sub(units, demand);
	return true;
}
