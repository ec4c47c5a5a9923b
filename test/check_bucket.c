/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Buckets: the arithmetic of rate limits, with times as numbers. Each rule at its limit, a
 * million random steps against a model in exact fractions, and the numbers of 128 bits that
 * it is made of.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"

#include <math.h>

#include "guard/bucket.h"

#define SECOND INT64_C(1000000000)
/* Times start just below a roll-over of 32 bits, so that none is 0. */
#define START (INT64_C(4) * SECOND + 294967290)

static struct evwork_bucket bucket_of(double rate, int64_t burst)
{
	struct evwork_bucket bucket;

	ck_assert_int_eq(evwork_bucket_init(&bucket, rate, burst, START), 0);
	return bucket;
}

/* A bucket starts full and is filled up to its burst: S-LIM-1. */
START_TEST(starts_full)
{
	struct evwork_bucket bucket = bucket_of(10, 5);

	ck_assert_int_eq(evwork_bucket_available(&bucket, START), 5);
	ck_assert_int_eq(evwork_bucket_reset_after(&bucket, START), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 5, START), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), -EAGAIN);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + 300 * 1000000 - 1), 2);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + 300 * 1000000), 3);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + 100 * SECOND), 5);
	ck_assert_int_eq(evwork_bucket_reset_after(&bucket, START), SECOND / 2);
	ck_assert_int_eq(evwork_bucket_retry_after(&bucket, 3, START), 300 * 1000000);
}
END_TEST

/* Values out of range are EINVAL, and change nothing: S-LIM-1, S-GEN-10. */
START_TEST(bad_values)
{
	static const double bad[] = { -1, -1e-300, -INFINITY, NAN };
	struct evwork_bucket bucket = bucket_of(10, 5), before = bucket;
	int64_t act = 77;
	size_t i;

	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(evwork_bucket_init(&bucket, bad[i], 5, START), -EINVAL);
		ck_assert_int_eq(evwork_bucket_set_rate(&bucket, bad[i], START), -EINVAL);
	}
	ck_assert_int_eq(evwork_bucket_init(&bucket, 1, -1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_init(NULL, 1, 1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_set_burst(&bucket, -1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_set_burst(NULL, 1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_set_rate(NULL, 1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_take(&bucket, -1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_take(NULL, 1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_give_back(&bucket, -1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_give_back(NULL, 1, START), -EINVAL);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, -1, 0, START, &act), -EINVAL);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 1, 0, START, NULL), -EINVAL);
	ck_assert_int_eq(evwork_bucket_debit(NULL, 1, 0, START, &act), -EINVAL);
	ck_assert_int_eq(evwork_bucket_retry_after(&bucket, -1, START), -EINVAL);
	ck_assert_int_eq(act, 77);
	ck_assert_mem_eq(&bucket, &before, sizeof(bucket));
}
END_TEST

/* A refusal changes nothing; more than the burst is ERANGE; nothing is taken by 0, which
 * fails in debt only: S-LIM-2. */
START_TEST(refusals)
{
	struct evwork_bucket bucket = bucket_of(10, 5), before;
	int64_t act;

	ck_assert_int_eq(evwork_bucket_take(&bucket, 6, START), -ERANGE);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 5, START), 0);
	before = bucket;
	ck_assert_int_eq(evwork_bucket_take(&bucket, 6, START + 1), -ERANGE);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START + 1), -EAGAIN);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START - 1), -EAGAIN);
	ck_assert_mem_eq(&bucket, &before, sizeof(bucket));
	ck_assert_int_eq(evwork_bucket_take(&bucket, 0, START), 0);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 1, SECOND, START, &act), 0);
	ck_assert_int_eq(act, START + SECOND / 10);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 0, act - 1), -EAGAIN);
	ck_assert_int_eq(evwork_bucket_available(&bucket, act - 1), -1);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 0, act), 0);
}
END_TEST

/* Debts are bounded by the wait that the caller allows: S-LIM-3. */
START_TEST(debts)
{
	struct evwork_bucket bucket = bucket_of(10, 2), before;
	int64_t act = 77;

	ck_assert_int_eq(evwork_bucket_debit(&bucket, 3, EVWORK_NEVER, START, &act), -ERANGE);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 2, 0, START, &act), 0);
	ck_assert_int_eq(act, START);
	before = bucket;
	act = 77;
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 2, SECOND / 5 - 1, START, &act), -ETIMEDOUT);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 1, -1, START, &act), -ETIMEDOUT);
	ck_assert_int_eq(act, 77);
	ck_assert_mem_eq(&bucket, &before, sizeof(bucket));
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 2, SECOND / 5, START, &act), 0);
	ck_assert_int_eq(act, START + SECOND / 5);
	ck_assert_int_eq(evwork_bucket_give_back(&bucket, 1, START), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START), -1);
	ck_assert_int_eq(evwork_bucket_give_back(&bucket, INT64_MAX, START), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START), 2);
}
END_TEST

/* An older time refills nothing, and becomes the reference with what is taken: S-LIM-5. */
START_TEST(older_times)
{
	struct evwork_bucket bucket = bucket_of(10, 3);
	int64_t step = SECOND / 10;

	ck_assert_int_eq(evwork_bucket_take(&bucket, 2, START), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START - step), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START - step), -EAGAIN);
	/* Credited anew. */
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), -EAGAIN);
}
END_TEST

/* Without a limit everything passes and nothing is taken; back to one, nothing is made of
 * no time: S-LIM-6. */
START_TEST(unlimited)
{
	struct evwork_bucket bucket = bucket_of(INFINITY, 0);
	int64_t act;

	ck_assert_int_eq(evwork_bucket_take(&bucket, INT64_MAX, START), 0);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, INT64_MAX, 0, START, &act), 0);
	ck_assert_int_eq(act, START);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START), INT64_MAX);
	ck_assert_int_eq(evwork_bucket_retry_after(&bucket, INT64_MAX, START), 0);
	ck_assert_int_eq(evwork_bucket_reset_after(&bucket, START), 0);

	bucket = bucket_of(10, 4);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 3, START), 0);
	ck_assert_int_eq(evwork_bucket_set_rate(&bucket, INFINITY, START), 0);
	ck_assert_int_eq(evwork_bucket_set_rate(&bucket, 10, START), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START), 1);
	ck_assert_int_eq(evwork_bucket_set_rate(&bucket, INFINITY, START), 0);
	ck_assert_int_eq(evwork_bucket_set_rate(&bucket, 10, START + 1), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + 1), 4);
}
END_TEST

/* Without a rate what is stored is served, and no more: S-LIM-7. */
START_TEST(no_rate)
{
	struct evwork_bucket bucket = bucket_of(0, 3);
	int64_t act;

	ck_assert_int_eq(evwork_bucket_take(&bucket, 2, START), 0);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 2, EVWORK_NEVER, INT64_MAX - 1, &act), -ERANGE);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 2, INT64_MAX - 1), -EAGAIN);
	ck_assert_int_eq(evwork_bucket_retry_after(&bucket, 2, START), EVWORK_NEVER);
	ck_assert_int_eq(evwork_bucket_reset_after(&bucket, START), EVWORK_NEVER);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 1, 0, START, &act), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), -EAGAIN);
}
END_TEST

/* Rates from the smallest number there is to more than can be, with any burst: nothing
 * overflows or turns negative: S-LIM-8. */
START_TEST(extreme_rates)
{
	static const double rates[] = { 5e-324, 1e-300, 1e-20, 1e-10, 1e-9, 1, 1e9, 1e17, 1e18,
		1e19, 1e300 };
	static const int64_t bursts[] = { 1, 2, 1000, INT64_C(1) << 40, INT64_MAX };
	size_t i, k;

	for (i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		for (k = 0; k < sizeof(bursts) / sizeof(bursts[0]); k++) {
			struct evwork_bucket bucket = bucket_of(rates[i], bursts[k]);
			int64_t wait, act, j;

			ck_assert_int_eq(evwork_bucket_take(&bucket, bursts[k], START), 0);
			ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), -EAGAIN);
			wait = evwork_bucket_retry_after(&bucket, bursts[k], START);
			expect(wait > 0, "%g, %lld", rates[i], (long long)bursts[k]);
			ck_assert_int_eq(evwork_bucket_reset_after(&bucket, START), wait);
			if (wait < EVWORK_NEVER - START) {
				ck_assert_int_eq(evwork_bucket_available(&bucket, START + wait),
					bursts[k]);
				ck_assert_int_lt(evwork_bucket_available(&bucket, START + wait - 1),
					bursts[k]);
			}
			/* As deep in debt as it will go. */
			for (j = 0; j < 1000; j++) {
				if (evwork_bucket_debit(&bucket, bursts[k], EVWORK_NEVER, START, &act) != 0)
					break;
				expect(act >= START && act < EVWORK_NEVER, "%g", rates[i]);
			}
			ck_assert_int_le(evwork_bucket_available(&bucket, START), 0);
			ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), -EAGAIN);
			ck_assert_int_eq(evwork_bucket_set_rate(&bucket, 1e-5, START), 0);
			ck_assert_int_eq(evwork_bucket_set_burst(&bucket, 1, START), 0);
			ck_assert_int_le(evwork_bucket_available(&bucket, START), 0);
			ck_assert_int_ge(evwork_bucket_reset_after(&bucket, START), 0);
			ck_assert_int_eq(evwork_bucket_set_rate(&bucket, 1e18, START), 0);
			ck_assert_int_eq(evwork_bucket_set_burst(&bucket, INT64_MAX, START), 0);
			ck_assert_int_le(evwork_bucket_available(&bucket, START), 0);
		}
	}
}
END_TEST

/* A tiny rate passes one and refuses the next; a waiting time is rounded up: S-LIM-8. */
START_TEST(tiny_rate)
{
	struct evwork_bucket bucket = bucket_of(1e-10, 1);
	int64_t act;

	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), 0);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START + SECOND), -EAGAIN);
	ck_assert_int_eq(evwork_bucket_retry_after(&bucket, 1, START), EVWORK_NEVER);
	ck_assert_int_eq(evwork_bucket_debit(&bucket, 1, EVWORK_NEVER, START, &act), -ETIMEDOUT);
	bucket = bucket_of(3, 1);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START), 0);
	ck_assert_int_eq(evwork_bucket_retry_after(&bucket, 1, START), 333333334);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START + 333333333), -EAGAIN);
	ck_assert_int_eq(evwork_bucket_take(&bucket, 1, START + 333333334), 0);
}
END_TEST

/* Changes settle what was before at the old values; a smaller burst cuts, a larger one adds
 * nothing: S-LIM-12. */
START_TEST(changes)
{
	struct evwork_bucket bucket = bucket_of(10, 10);

	ck_assert_int_eq(evwork_bucket_take(&bucket, 10, START), 0);
	ck_assert_int_eq(evwork_bucket_set_rate(&bucket, 1, START + SECOND / 2), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + SECOND / 2), 5);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + SECOND / 2 + SECOND), 6);
	ck_assert_int_eq(evwork_bucket_set_burst(&bucket, 3, START + SECOND), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + SECOND), 3);
	ck_assert_int_eq(evwork_bucket_set_burst(&bucket, 30, START + SECOND), 0);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + SECOND), 3);
	ck_assert_int_eq(evwork_bucket_available(&bucket, START + 2 * SECOND), 4);
}
END_TEST

/* Nothing is lost by asking often: a third of a thousand a second, asked ten thousand times
 * at uneven times, grants all that came: S-LIM-1. */
START_TEST(often_asked)
{
	struct evwork_bucket bucket = bucket_of(1000.0 / 3, 2);
	int64_t now, granted = 0;

	for (now = START; now < START + SECOND; now += 104729)
		granted += evwork_bucket_take(&bucket, 1, now) == 0;
	ck_assert_int_eq(granted, 2 + 333);
}
END_TEST

/* The random steps. */

#ifdef __SIZEOF_INT128__

__extension__ typedef __int128 exact;

/* Fractions of a token: 2^-60 / 10^9, which all rates used here are whole numbers of. */
#define FINE ((exact)SECOND << 60)

struct model {
	exact level, gain;
	int64_t burst, at;
	/* Since the beginning. */
	exact taken, came;
};

/* A rate with up to 53 digits that is a whole number of 2^-60, below 2^20. */
static double some_rate(void)
{
	double rate;

	switch (chance(5)) {
	case 0:
		return (double)chance(1000);
	case 1:
		return (double)chance_below(1 << 20);
	case 2:
		rate = (double)(chance_bits() >> 11) / 9007199254740992.0;
		return rate < 1.0 / 128 ? 1.0 / 3 : rate;
	case 3:
		return (double)(1 + chance(1000)) / (double)(1 + chance(100));
	default:
		rate = (double)(chance_bits() >> 11) / 9007199254740992.0 * 1048576;
		return rate < 1.0 / 128 ? 0.1 : rate;
	}
}

static exact gain_of(double rate)
{
	return (exact)(rate * 1152921504606846976.0);
}

static exact model_units(const struct model *model, int64_t now)
{
	exact units = model->level, full = model->burst * FINE;

	if (now > model->at)
		units += model->gain * (now - model->at);
	return units < full ? units : full;
}

static void model_settle(struct model *model, int64_t now)
{
	exact units = model_units(model, now);

	/* Never more than came. */
	model->came += now > model->at ? model->gain * (now - model->at) : 0;
	model->level = units;
	model->at = now;
}

static int64_t model_wait(const struct model *model, exact missing)
{
	exact wait;

	if (missing <= 0)
		return 0;
	if (model->gain == 0)
		return EVWORK_NEVER;
	wait = missing / model->gain + (missing % model->gain != 0);
	return wait < EVWORK_NEVER ? (int64_t)wait : EVWORK_NEVER;
}

static int64_t model_floor(exact units)
{
	exact tokens = units / FINE;

	return (int64_t)(tokens - (tokens * FINE > units));
}

static void step_take(struct evwork_bucket *bucket, struct model *model, int64_t now)
{
	int64_t n = chance_below(model->burst + 2);
	int rc = evwork_bucket_take(bucket, n, now);
	exact left = model_units(model, now) - n * FINE;

	expect(rc == (n > model->burst ? -ERANGE : left < 0 ? -EAGAIN : 0), "%d", rc);
	if (rc == 0) {
		model_settle(model, now);
		model->level = left;
		model->taken += n * FINE;
	}
}

static void step_debit(struct evwork_bucket *bucket, struct model *model, int64_t now)
{
	int64_t n = chance_below(model->burst + 2), most = chance_below(10 * SECOND), act = 0, wait;
	int rc = evwork_bucket_debit(bucket, n, most, now, &act);
	exact left = model_units(model, now) - n * FINE;

	wait = model_wait(model, -left);
	expect(rc == (n > model->burst || (left < 0 && model->gain == 0) ? -ERANGE :
		wait > most ? -ETIMEDOUT : 0), "%d", rc);
	if (rc == 0) {
		expect(act == now + wait, "%lld", (long long)(act - now));
		model_settle(model, now);
		model->level = left;
		model->taken += n * FINE;
	}
}

static void step_give_back(struct evwork_bucket *bucket, struct model *model, int64_t now)
{
	int64_t n = chance_below(model->burst + 2);
	exact full = model->burst * FINE, units = model_units(model, now);

	evwork_bucket_give_back(bucket, n, now);
	model_settle(model, now);
	units += n * FINE;
	if (units > full)
		units = full;
	model->taken -= units - model->level;
	model->level = units;
}

/* A change rounds the level down, by less than a unit of the new terms. */
static void expect_rounded(const struct evwork_bucket *bucket, struct model *model)
{
	exact unit = (exact)1 << (60 - bucket->_terms._shift);
	exact level = (exact)bucket->_level._units._high * ((exact)1 << 64) +
		bucket->_level._units._low;

	expect(level * unit <= model->level && (level + 1) * unit > model->level, "%u",
		bucket->_terms._shift);
	model->level = level * unit;
}

static void step_change(struct evwork_bucket *bucket, struct model *model, int64_t now)
{
	model_settle(model, now);
	if (chance(2)) {
		double rate = some_rate();

		evwork_bucket_set_rate(bucket, rate, now);
		model->gain = gain_of(rate);
	} else {
		model->burst = chance(4) ? 1 + chance(20) : chance_below(1 << 18);
		evwork_bucket_set_burst(bucket, model->burst, now);
		if (model->level > model->burst * FINE)
			model->level = model->burst * FINE;
	}
	expect_rounded(bucket, model);
}

static void step_ask(const struct evwork_bucket *bucket, const struct model *model, int64_t now)
{
	int64_t n = chance_below(model->burst + 2);
	exact units = model_units(model, now);

	expect(evwork_bucket_available(bucket, now) == model_floor(units), "%d", 0);
	expect(evwork_bucket_retry_after(bucket, n, now) == (n > model->burst ? EVWORK_NEVER :
		model_wait(model, n * FINE - units)), "%lld of %lld at %.17g: %lld, %lld", (long long)n,
		(long long)model->burst, bucket->_terms._rate,
		(long long)evwork_bucket_retry_after(bucket, n, now),
		(long long)model_wait(model, n * FINE - units));
	expect(evwork_bucket_reset_after(bucket, now) ==
		model_wait(model, model->burst * FINE - units), "%d", 0);
}

static int64_t some_time(void)
{
	switch (chance(6)) {
	case 0:
		return 0;
	case 1:
		return chance(10);
	case 2:
		return chance_below(100 * SECOND);
	default:
		return chance_below(SECOND / 100);
	}
}

static void step(struct evwork_bucket *bucket, struct model *model, int64_t now)
{
	switch (chance(100)) {
	case 0: case 1:
		step_change(bucket, model, now);
		break;
	case 2: case 3: case 4: case 5: case 6:
		step_give_back(bucket, model, now);
		break;
	case 7: case 8: case 9: case 10: case 11: case 12: case 13: case 14: case 15: case 16:
		step_debit(bucket, model, now);
		break;
	case 17: case 18: case 19: case 20:
		step_ask(bucket, model, now);
		break;
	default:
		step_take(bucket, model, now);
	}
}

/* A million random steps of time, cost, debt, giving back and reconfiguration agree with
 * exact fractions, and never more is granted than the first burst and what came, but for
 * debts that are still to be paid: S-LIM-1, S-LIM-2, S-LIM-3, S-LIM-12. */
START_TEST(agrees_with_fractions)
{
	struct evwork_bucket bucket = bucket_of(10, 10);
	struct model model = { .level = 10 * FINE, .gain = gain_of(10), .burst = 10, .at = START };
	int64_t now = START, i, steps = 1000000 / support_slow();

	chance_seed(0);
	for (i = 0; i < steps; i++) {
		/* What is counted starts anew before it outgrows the model. */
		if (i % 1000 == 0) {
			model.taken = 10 * FINE - model.level;
			model.came = 0;
		}
		now += some_time();
		step(&bucket, &model, now);
		expect(wide_tokens(bucket._level._units, bucket._terms._shift) ==
			model_floor(model.level), "step %lld", (long long)i);
		expect(model.taken <= 10 * FINE + model.came + (model.level < 0 ? -model.level : 0),
			"step %lld", (long long)i);
	}
}
END_TEST

/* Divisions, products and shifts agree with the compiler's, and so does the product that
 * is put together from halves. */
START_TEST(wide_numbers)
{
	int i;

	chance_seed(0);
	for (i = 0; i < 200000 / support_slow(); i++) {
		uint64_t a = chance_bits() >> chance(64), b = (chance_bits() >> chance(64)) | 1, rest;
		exact product = (exact)a * (exact)(b >> 1), value;
		wide wide_product = evwork__wide_mul(a, b >> 1), quotient;
		int by = chance(40) - 20;

		expect(wide_product._low == (uint64_t)product &&
			wide_product._high == (int64_t)(product >> 64), "%d", i);
		b >>= 1 + chance(3);
		b = b ? b : 1;
		quotient = wide_divide(wide_product, b, &rest);
		expect(quotient._low == (uint64_t)(product / b) && rest == (uint64_t)(product % b) &&
			quotient._high == (int64_t)((product / b) >> 64), "%d", i);
		value = chance(2) ? -(product >> 24) : product >> 24;
		quotient._high = (int64_t)(value >> 64);
		quotient._low = (uint64_t)value;
		quotient = wide_shift(quotient, by);
		value = by < 0 ? value >> -by : value * ((exact)1 << by);
		expect(quotient._high == (int64_t)(value >> 64) &&
			quotient._low == (uint64_t)value, "%d by %d", i, by);
	}
}
END_TEST

#endif

/* Shifts by a word and more. */
START_TEST(wide_shifts)
{
	wide a = { -3, 5 };
	wide b;

	b = wide_shift(a, -64);
	ck_assert(b._high == -1 && b._low == (uint64_t)-3);
	b = wide_shift(a, -65);
	ck_assert(b._high == -1 && b._low == (uint64_t)-2);
	b = wide_shift(a, -127);
	ck_assert(b._high == -1 && b._low == (uint64_t)-1);
	b = wide_shift(a, 64);
	ck_assert(b._high == 5 && b._low == 0);
	b = wide_shift(wide_of(1), 100);
	ck_assert(b._high == INT64_C(1) << 36 && b._low == 0);
	b = wide_shift(b, -100);
	ck_assert(b._high == 0 && b._low == 1);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("bucket");
	TCase *tcase = support_case(suite, "bucket");

	tcase_add_test(tcase, starts_full);
	tcase_add_test(tcase, bad_values);
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, debts);
	tcase_add_test(tcase, older_times);
	tcase_add_test(tcase, unlimited);
	tcase_add_test(tcase, no_rate);
	tcase_add_test(tcase, extreme_rates);
	tcase_add_test(tcase, tiny_rate);
	tcase_add_test(tcase, changes);
	tcase_add_test(tcase, often_asked);
	tcase = support_case(suite, "numbers");
	tcase_add_test(tcase, wide_shifts);
#ifdef __SIZEOF_INT128__
	tcase_add_test(tcase, agrees_with_fractions);
	tcase_add_test(tcase, wide_numbers);
#endif
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
