/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Reservations. What is given back when one is cancelled depends on what was reserved
 * after it, which is read off the times: as many tokens as come between its time and that
 * of the last one. A time in whole nanoseconds is rounded up; how many units early it is
 * exactly is kept beside it, so that the difference of two times is exact, too.
 *
 * Where the rate has changed between the two, the times are all there is: they count at
 * the rate of the one that is cancelled, rounded against it.
 *
 * In a limiter that warms up times say nothing about tokens. There the tokens that were
 * reserved are counted, and what was counted since is what was reserved after it.
 */

#include "guard/limiter.h"

enum { RESERVATION_NONE, RESERVATION_HELD, RESERVATION_CANCELLED };

/* A rate and how fine its units are, in one word. A gain that is shifted has no more bits
 * than a double has digits, 53. */
#define RATE_SHIFTED (UINT64_C(1) << 63)
#define RATE_SHIFT_AT 56
/* A word whose units are not shifted. */
#define RATE_PLAIN 0

static uint64_t rate_word(const struct evwork_bucket_terms *terms)
{
	if (bucket_is_unlimited(terms) || terms->_shift == 0)
		return terms->_gain;
	return RATE_SHIFTED | (uint64_t)terms->_shift << RATE_SHIFT_AT | terms->_gain;
}

static uint32_t rate_shift(uint64_t word)
{
	return word & RATE_SHIFTED ? (uint32_t)(word >> RATE_SHIFT_AT) & 127 : 0;
}

static uint64_t rate_gain(uint64_t word)
{
	return word & RATE_SHIFTED ? word & ((UINT64_C(1) << RATE_SHIFT_AT) - 1) : word;
}

static wide units_of(int64_t n, uint64_t rate)
{
	return wide_shift(evwork__wide_mul(BUCKET_UNITS, (uint64_t)n), (int)rate_shift(rate));
}

static int reserve_unlimited(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	int64_t now, struct evwork_reservation *ret)
{
	if (max_wait_ns < 0)
		return -ETIMEDOUT;
	ret->act_ns = now;
	ret->_limiter = limiter;
	ret->_n = n;
	ret->_rest = 0;
	ret->_rate = EVWORK__UNLIMITED;
	ret->_state = RESERVATION_HELD;
	return 0;
}

/* Takes the units of a reservation that waits `wait` for `missing` of them. */
static void take(struct evwork_limiter *limiter, int64_t n, int64_t now, wide missing,
	int64_t wait, struct evwork_reservation *ret)
{
	const struct evwork_bucket_terms *terms = &limiter->bucket._terms;

	ret->act_ns = now + wait;
	ret->_limiter = limiter;
	ret->_n = n;
	if (limiter_warms_up(limiter))
		ret->_rest = limiter->last.rest + (uint64_t)n;
	else
		ret->_rest = wait == 0 ? 0 : evwork__wide_sub(
			evwork__wide_mul(terms->_gain, (uint64_t)wait), missing)._low;
	ret->_rate = rate_word(terms);
	ret->_state = RESERVATION_HELD;
	limiter->last.act_ns = ret->act_ns;
	limiter->last.rest = ret->_rest;
	limiter->last.rate = ret->_rate;
	if (limiter->waiters.head) {
		waiters_reserve_locked(limiter, limiter_charge_locked(limiter, n), ret->act_ns);
	} else {
		limiter_settle_locked(limiter, terms->_full, now);
		limiter_debit_locked(limiter, limiter_charge_locked(limiter, n));
	}
}

static int reserve(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	int64_t now, struct evwork_reservation *ret)
{
	const struct evwork_bucket_terms *terms = &limiter->bucket._terms;
	wide units, missing;
	int64_t wait;
	bool fits;

	if (bucket_is_unlimited(terms))
		return reserve_unlimited(limiter, n, max_wait_ns, now, ret);
	if (n > terms->_burst)
		return -ERANGE;
	fits = limiter_free_units_locked(limiter, now, &units);
	missing = evwork__wide_sub(evwork__bucket_cost(terms, n), units);
	if (terms->_gain == 0 && (!fits || missing._high > 0 || (missing._high == 0 && missing._low)))
		return -ERANGE;
	wait = fits ? bucket_time_for(terms, missing) : EVWORK_NEVER;
	if (wait > max_wait_ns || wait > EVWORK_NEVER - 1 - (now > 0 ? now : 0) ||
	    wide_tokens(missing, terms->_shift) > BUCKET_DEBT_MOST)
		return -ETIMEDOUT;
	take(limiter, n, now, missing, wait, ret);
	return 0;
}

int limiter_reserve_locked(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	int64_t now, struct evwork_reservation *ret_reservation)
{
	return limiter_count_locked(limiter, &limiter->stats.reserved,
		reserve(limiter, n, max_wait_ns, now, ret_reservation));
}

/* now: NULL is the present. */
static int reserve_at(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	const int64_t *now, struct evwork_reservation *ret_reservation)
{
	int rc;

	if (!limiter || !ret_reservation || n < 0)
		return -EINVAL;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	rc = limiter_reserve_locked(limiter, n, max_wait_ns,
		now ? *now : clock_now(limiter->clock), ret_reservation);
	sys_unlock(&limiter->mutex);
	return rc;
}

int evwork_limiter_reserve(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	struct evwork_reservation *ret_reservation)
{
	return reserve_at(limiter, n, max_wait_ns, NULL, ret_reservation);
}

int evwork_limiter_reserve_at(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	int64_t now_ns, struct evwork_reservation *ret_reservation)
{
	return reserve_at(limiter, n, max_wait_ns, &now_ns, ret_reservation);
}

/* Cancelling. */

/* What was reserved after it, by count. */
static wide counted_after(const struct limiter_event *last,
	const struct evwork_reservation *reservation)
{
	uint64_t tokens = last->rest - reservation->_rest;

	/* More than it has itself makes no difference, but there may be no room for it. */
	if (tokens > (uint64_t)reservation->_n)
		tokens = (uint64_t)reservation->_n;
	return units_of((int64_t)tokens, reservation->_rate);
}

/* What was reserved after it, by time, in the units of its rate. */
static wide timed_after(const struct limiter_event *last,
	const struct evwork_reservation *reservation)
{
	uint64_t gain = rate_gain(reservation->_rate);
	uint64_t between = (uint64_t)last->act_ns - (uint64_t)reservation->act_ns;
	wide after;

	if (last->act_ns < reservation->act_ns)
		return wide_of(0);
	if (last->rate != reservation->_rate)
		return evwork__wide_mul(gain, between + 1);
	after = evwork__wide_mul(gain, between);
	after = evwork__wide_sub(after, wide_of((int64_t)last->rest));
	return evwork__wide_add(after, wide_of((int64_t)reservation->_rest));
}

/* So many units of a rate, in those of the present one, but no more than `most`. */
static wide converted(const struct evwork_limiter *limiter, wide units, uint64_t rate, wide most)
{
	const struct evwork_bucket_terms *terms = &limiter->bucket._terms;

	/* As tokens first: in finer units there may be no room for them. */
	if (wide_tokens(units, rate_shift(rate)) > wide_tokens(most, terms->_shift))
		return most;
	return wide_min(most, wide_shift(units, (int)terms->_shift - (int)rate_shift(rate)));
}

static void give_back(struct evwork_limiter *limiter, wide units, uint64_t rate, int64_t now)
{
	struct evwork_bucket *bucket = &limiter->bucket;
	wide most, behind;

	if (limiter->waiters.head)
		waiters_settle_locked(limiter, now);
	else
		limiter_settle_locked(limiter, bucket->_terms._full, now);
	most = evwork__wide_add(limiter->behind,
		evwork__wide_sub(bucket->_terms._full, bucket->_level._units));
	if (most._high < 0)
		return;
	units = converted(limiter, units, rate, most);
	if (limiter_warms_up(limiter))
		units = wide_min(most, evwork__wide_add(units,
			warmup_give_back(&limiter->warmup, units)));
	/* What was reserved behind waiters was not taken from the bucket yet. */
	behind = wide_min(units, limiter->behind);
	waiters_give_back_locked(limiter, behind);
	bucket->_level._units = evwork__wide_add(bucket->_level._units,
		evwork__wide_sub(units, behind));
}

/* The last reservation is gone: the one before it was at the time when its own tokens
 * began to come, if that has not passed. */
static void step_back(struct evwork_limiter *limiter, wide cost, int64_t now)
{
	struct limiter_event *last = &limiter->last;
	uint64_t rest;
	wide back = wide_divide(evwork__wide_add(cost, wide_of((int64_t)last->rest)),
		rate_gain(last->rate), &rest);

	if (back._high || back._low > (uint64_t)last->act_ns - (uint64_t)now)
		return;
	last->act_ns -= (int64_t)back._low;
	last->rest = rest;
}

void limiter_return_locked(struct evwork_limiter *limiter, int64_t n, int64_t now)
{
	limiter->stats.returned++;
	if (bucket_is_unlimited(&limiter->bucket._terms))
		return;
	give_back(limiter, units_of(n, RATE_PLAIN), RATE_PLAIN, now);
	if (limiter->waiters.head)
		waiters_serve_locked(limiter, now);
}

void limiter_cancel_locked(struct evwork_limiter *limiter,
	const struct evwork_reservation *reservation, int64_t now)
{
	struct limiter_event *last = &limiter->last;
	wide cost, after;

	limiter->stats.returned++;
	if (reservation->_rate == EVWORK__UNLIMITED || reservation->act_ns < now ||
	    bucket_is_unlimited(&limiter->bucket._terms))
		return;
	/* It fitted under its own terms. */
	cost = units_of(reservation->_n, reservation->_rate);
	after = limiter_warms_up(limiter) ? counted_after(last, reservation) :
		timed_after(last, reservation);
	if (!evwork__wide_less(after, cost))
		return;
	if (evwork__wide_less(after, wide_of(0)))
		after = wide_of(0);
	give_back(limiter, evwork__wide_sub(cost, after), reservation->_rate, now);
	if (limiter_warms_up(limiter)) {
		if (last->rest == reservation->_rest)
			last->rest -= (uint64_t)reservation->_n;
	} else if (last->act_ns == reservation->act_ns && last->rest == reservation->_rest &&
	    last->rate == reservation->_rate && rate_gain(last->rate) > 0) {
		step_back(limiter, cost, now);
	}
	if (limiter->waiters.head)
		waiters_serve_locked(limiter, now);
}

/* now: NULL is the present. */
static int cancel(struct evwork_reservation *reservation, const int64_t *now)
{
	struct evwork_limiter *limiter;
	int rc = -EALREADY;

	if (!reservation)
		return -EINVAL;
	limiter = reservation->_limiter;
	if (!limiter)
		return -ESRCH;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	if (reservation->_state == RESERVATION_HELD) {
		reservation->_state = RESERVATION_CANCELLED;
		limiter_cancel_locked(limiter, reservation,
			now ? *now : clock_now(limiter->clock));
		rc = 0;
	}
	sys_unlock(&limiter->mutex);
	return rc;
}

int evwork_reservation_cancel(struct evwork_reservation *reservation)
{
	return cancel(reservation, NULL);
}

int evwork_reservation_cancel_at(struct evwork_reservation *reservation, int64_t now_ns)
{
	return cancel(reservation, &now_ns);
}
