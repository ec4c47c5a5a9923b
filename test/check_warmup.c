/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Limiters that warm up: the gaps of the contract, exactly, for each way to take tokens;
 * rests, changes and what is given back; random prices against the trapezoid itself, and
 * random reservations against Guava's algorithm in floating point. EVWORK_STRESS_SEED
 * repeats the random ones.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <float.h>
#include <math.h>

#include "guard/limiter.h"

#define SECOND INT64_C(1000000000)
#define MS SYS_NS_PER_MS
#define START (INT64_C(4) * SECOND + 294967290)

/* From cold, at 2/s with a warm-up of 4 s. */
static const int64_t gaps_ms[] = { 1375, 1125, 875, 625, 500, 500, 500 };
#define GAPS 7

/* For what is asserted in every step. */
#define expect(condition, format, ...) do { \
	if (!(condition)) \
		ck_abort_msg("%s does not hold: " format, #condition, __VA_ARGS__); \
} while (0)

/* A limiter, and a world on the same manual clock. */
struct stove {
	struct world world;
	struct evwork_limiter *limiter;
};

static void stove_open(struct stove *stove, double rate, int64_t burst, int64_t warmup_ms)
{
	struct evwork_limiter_options options = { .warmup_ms = warmup_ms };

	memset(stove, 0, sizeof(*stove));
	world_open_manual(&stove->world, 1, START);
	options.clock = stove->world.clock;
	ck_assert_int_eq(evwork_limiter_new(rate, burst, &options, &stove->limiter), 0);
}

static void stove_close(struct stove *stove)
{
	ck_assert_int_eq(evwork_limiter_free(stove->limiter), 0);
	world_close(&stove->world);
}

/* Runs what is there, lets the clock go, and runs what that leads to. */
static void go(struct stove *stove, int64_t ns)
{
	world_turns(&stove->world, 4);
	ck_assert_int_eq(evwork_clock_advance(stove->world.clock, ns), 0);
	world_turns(&stove->world, 12);
}

static int64_t after(struct stove *stove, int64_t n)
{
	int64_t ns;

	ck_assert_int_eq(evwork_limiter_retry_after(stove->limiter, n, &ns), 0);
	return ns;
}

static int64_t tokens(struct stove *stove)
{
	int64_t result;

	ck_assert_int_eq(evwork_limiter_tokens(stove->limiter, &result), 0);
	return result;
}

/* Takes a token now; the next one is there after exactly so long, and not before. */
static void expect_gap(struct stove *stove, int64_t ns)
{
	ck_assert_int_eq(evwork_limiter_allow(stove->limiter, 1), 0);
	ck_assert_int_eq(after(stove, 1), ns);
	go(stove, ns - 1);
	ck_assert_int_eq(evwork_limiter_allow(stove->limiter, 1), -EAGAIN);
	go(stove, 1);
}

/* Until it has nothing stored. */
static void make_warm(struct stove *stove)
{
	int i;

	for (i = 0; i < 8; i++) {
		go(stove, after(stove, 1));
		ck_assert_int_eq(evwork_limiter_allow(stove->limiter, 1), 0);
	}
	go(stove, after(stove, 1));
}

/* From cold, by allow: S-LIM-17. */
START_TEST(gaps_of_allow)
{
	struct stove stove;
	int i;

	stove_open(&stove, 2, 1, 4000);
	for (i = 0; i < GAPS; i++)
		expect_gap(&stove, gaps_ms[i] * MS);
	stove_close(&stove);
}
END_TEST

/* From cold, by reservations that are made at once, with the debt seen by tokens():
 * S-LIM-17. */
START_TEST(gaps_of_reservations)
{
	static const int64_t left[] = { -2, -4, -6, -7, -8, -9, -10 };
	struct evwork_reservation reservation;
	struct stove stove;
	int64_t at = START;
	int i;

	stove_open(&stove, 2, 1, 4000);
	for (i = 0; i < GAPS; i++) {
		ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, EVWORK_NEVER,
			&reservation), 0);
		ck_assert_int_eq(reservation.act_ns, at);
		ck_assert_int_eq(tokens(&stove), left[i]);
		at += gaps_ms[i] * MS;
	}
	stove_close(&stove);
}
END_TEST

/* Those who wait. */

struct guest {
	struct evwork_limiter_waiter waiter;
	struct evwork_loop *loop;
	int calls, status;
	int64_t at_ns;
};

static void called(struct evwork_limiter_waiter *waiter, int status)
{
	struct guest *guest = EVWORK_CONTAINER(waiter, struct guest, waiter);

	guest->calls++;
	guest->status = status;
	guest->at_ns = evwork_loop_now(guest->loop);
}

static int enter(struct stove *stove, struct guest *guest, struct evwork_ctx *ctx)
{
	memset(guest, 0, sizeof(*guest));
	guest->loop = stove->world.loop;
	evwork_limiter_waiter_init(&guest->waiter, called);
	return evwork_limiter_wait(stove->limiter, 1, ctx, guest->loop, &guest->waiter);
}

static void expect_granted(const struct guest *guest, int64_t after_ns)
{
	ck_assert_int_eq(guest->calls, 1);
	ck_assert_int_eq(guest->status, 0);
	ck_assert_int_eq(guest->at_ns, START + after_ns);
}

/* From cold, by waiting; what those who come first will have cost is seen by tokens():
 * S-LIM-17, S-LIM-10. */
START_TEST(gaps_of_waiters)
{
	struct guest guests[GAPS];
	struct stove stove;
	int64_t at = 0;
	int i;

	stove_open(&stove, 2, 1, 4000);
	for (i = 0; i < GAPS; i++)
		ck_assert_int_eq(enter(&stove, &guests[i], NULL), 0);
	ck_assert_int_eq(tokens(&stove), -10);
	/* As after the gaps of all of them. */
	ck_assert_int_eq(after(&stove, 1), 5500 * MS);
	go(&stove, 20 * SECOND);
	for (i = 0; i < GAPS; i++) {
		expect_granted(&guests[i], at);
		at += gaps_ms[i] * MS;
	}
	stove_close(&stove);
}
END_TEST

/* Who would come after the deadline of its context because of what those before it cost
 * is refused, and a nanosecond less is enough: S-LIM-17, S-LIM-9. */
START_TEST(deadlines)
{
	struct guest guests[4];
	struct evwork_ctx *ctx;
	struct stove stove;
	int64_t due = (1375 + 1125) * MS;

	stove_open(&stove, 2, 1, 4000);
	ck_assert_int_eq(enter(&stove, &guests[0], NULL), 0);
	ck_assert_int_eq(enter(&stove, &guests[1], NULL), 0);
	ck_assert_int_eq(evwork_ctx_with_deadline(NULL, stove.world.loop,
		START + due - 1, 0, &ctx), 0);
	ck_assert_int_eq(enter(&stove, &guests[2], ctx), -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_ctx_with_deadline(NULL, stove.world.loop, START + due,
		0, &ctx), 0);
	ck_assert_int_eq(enter(&stove, &guests[2], ctx), 0);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(enter(&stove, &guests[3], NULL), 0);
	/* The second leaves: who comes after it takes its place on the slope. */
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&guests[1].waiter), 0);
	go(&stove, 20 * SECOND);
	expect_granted(&guests[0], 0);
	expect_granted(&guests[2], 1375 * MS);
	expect_granted(&guests[3], due);
	stove_close(&stove);
}
END_TEST

/* A reservation behind waiters is for the time when it would have been granted, and all
 * together cost what they would have in any order: it pays for the coldest tokens, so that
 * the waiters may come earlier: S-LIM-17, S-LIM-10. */
START_TEST(behind_waiters)
{
	struct evwork_reservation reservation;
	struct guest guests[3];
	struct stove stove;
	int i;

	stove_open(&stove, 2, 1, 4000);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(enter(&stove, &guests[i], NULL), 0);
	ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, EVWORK_NEVER, &reservation), 0);
	ck_assert_int_eq(reservation.act_ns, START + (1375 + 1125 + 875) * MS);
	ck_assert_int_eq(after(&stove, 1), 4000 * MS);
	go(&stove, (1375 + 1125 + 875) * MS);
	expect_granted(&guests[0], 0);
	expect_granted(&guests[1], 1375 * MS);
	expect_granted(&guests[2], (1375 + 875) * MS);
	ck_assert_int_eq(after(&stove, 1), 625 * MS);
	go(&stove, 625 * MS);
	expect_gap(&stove, 500 * MS);
	stove_close(&stove);
}
END_TEST

/* A rest makes cold, from half of the time on, and not beyond the whole; a debt that is
 * being paid is no rest: S-LIM-17. */
START_TEST(rests)
{
	struct stove stove;

	stove_open(&stove, 2, 1, 4000);
	make_warm(&stove);
	go(&stove, 2 * SECOND);
	expect_gap(&stove, 500 * MS);
	make_warm(&stove);
	go(&stove, 3 * SECOND);
	expect_gap(&stove, 875 * MS);
	make_warm(&stove);
	go(&stove, 4 * SECOND - 1);
	/* The square of 4 - 2 * 10^-9 less that of 3 - 2 * 10^-9, rounded to half nanoseconds. */
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), 0);
	ck_assert_int_ge(after(&stove, 1), 1375 * MS - 1);
	ck_assert_int_le(after(&stove, 1), 1375 * MS);
	make_warm(&stove);
	go(&stove, 1000 * SECOND);
	expect_gap(&stove, 1375 * MS);
	expect_gap(&stove, 1125 * MS);
	stove_close(&stove);
}
END_TEST

/* A rest counts whoever ends it: one who waits, a change, tokens that come back, and one who
 * waits for a loop that is too late: S-LIM-17. */
START_TEST(ends_of_rests)
{
	struct guest guest;
	struct stove stove;

	stove_open(&stove, 2, 1, 4000);
	make_warm(&stove);
	go(&stove, 3 * SECOND);
	ck_assert_int_eq(enter(&stove, &guest, NULL), 0);
	ck_assert_int_eq(after(&stove, 1), 875 * MS);
	make_warm(&stove);
	go(&stove, 3 * SECOND);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 2), 0);
	expect_gap(&stove, 875 * MS);
	make_warm(&stove);
	go(&stove, 3 * SECOND);
	ck_assert_int_eq(evwork_limiter_set_burst(stove.limiter, 1), 0);
	expect_gap(&stove, 875 * MS);
	make_warm(&stove);
	go(&stove, 3 * SECOND);
	sys_lock(&stove.limiter->mutex);
	limiter_return_locked(stove.limiter, 1, evwork_loop_now(stove.world.loop));
	sys_unlock(&stove.limiter->mutex);
	expect_gap(&stove, 875 * MS);

	/* Half a second for the token, ten milliseconds for the slack. */
	make_warm(&stove);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), 0);
	ck_assert_int_eq(enter(&stove, &guest, NULL), 0);
	world_turns(&stove.world, 4);
	ck_assert_int_eq(evwork_clock_jump(stove.world.clock, 3510 * MS), 0);
	world_turns(&stove.world, 12);
	ck_assert_int_eq(guest.calls, 1);
	ck_assert_int_eq(after(&stove, 1), 865 * MS);
	stove_close(&stove);
}
END_TEST

/* A refusal neither makes it colder nor anything else: S-LIM-17, S-LIM-2. */
START_TEST(refusals)
{
	struct evwork_reservation reservation;
	struct stove stove;
	int64_t i;

	stove_open(&stove, 2, 1, 4000);
	make_warm(&stove);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), 0);
	for (i = 0; i < 500; i++) {
		ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), -EAGAIN);
		ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 2), -ERANGE);
		ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, 0, &reservation),
			-ETIMEDOUT);
		go(&stove, MS);
	}
	go(&stove, 3 * SECOND);
	for (i = 0; i < 10; i++) {
		ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 2), -ERANGE);
		ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, -1, &reservation),
			-ETIMEDOUT);
	}
	expect_gap(&stove, 875 * MS);
	stove_close(&stove);
}
END_TEST

/* What more than one token costs at once is what they cost one by one; they pass at once
 * as ever, and are paid for afterwards: S-LIM-17. */
START_TEST(bursts)
{
	struct stove stove;

	stove_open(&stove, 2, 3, 4000);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 3), 0);
	ck_assert_int_eq(after(&stove, 3), (1375 + 1125 + 875) * MS);
	ck_assert_int_eq(after(&stove, 1), (1375 + 1125 + 875 - 1000) * MS);
	go(&stove, after(&stove, 1));
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), 0);
	ck_assert_int_eq(after(&stove, 1), 625 * MS);
	stove_close(&stove);
}
END_TEST

/* Reservations that are cancelled, the last one first, leave no trace; one that others
 * came after gives back nothing of theirs: S-LIM-17, S-LIM-4. */
START_TEST(cancelling)
{
	struct evwork_reservation reservations[6];
	struct stove stove;
	int64_t level;
	int i;

	stove_open(&stove, 2, 1, 4000);
	for (i = 0; i < 6; i++)
		ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, EVWORK_NEVER,
			&reservations[i]), 0);
	for (i = 5; i >= 0; i--)
		ck_assert_int_eq(evwork_reservation_cancel(&reservations[i]), 0);
	ck_assert_int_eq(after(&stove, 1), 0);
	expect_gap(&stove, 1375 * MS);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, EVWORK_NEVER,
			&reservations[i]), 0);
	ck_assert_int_eq(after(&stove, 1), (1125 + 875) * MS);
	ck_assert_int_eq(evwork_reservation_cancel(&reservations[0]), 0);
	ck_assert_int_eq(after(&stove, 1), (1125 + 875) * MS);
	ck_assert_int_eq(evwork_reservation_cancel(&reservations[1]), 0);
	ck_assert_int_eq(after(&stove, 1), 1125 * MS);
	stove_close(&stove);

	/* What was reserved after it is more than there is room for in its units. */
	stove_open(&stove, 0.1, 1, 4000);
	ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, 1, EVWORK_NEVER,
		&reservations[0]), 0);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 1e18), 0);
	ck_assert_int_eq(evwork_limiter_set_burst(stove.limiter, INT64_MAX), 0);
	ck_assert_int_eq(evwork_limiter_reserve(stove.limiter, INT64_C(1) << 61, EVWORK_NEVER,
		&reservations[1]), 0);
	level = tokens(&stove);
	ck_assert_int_eq(evwork_reservation_cancel(&reservations[0]), 0);
	ck_assert_int_eq(tokens(&stove), level);
	stove_close(&stove);
}
END_TEST

/* As cold as before at another rate or burst; cold after rate 0, warm after no limit:
 * S-LIM-17, S-LIM-12, S-LIM-6, S-LIM-7. */
START_TEST(changes)
{
	struct stove stove;
	int64_t ns;

	stove_open(&stove, 2, 1, 4000);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 4), 0);
	/* 1 + (8^2 - 7^2) / 8 tokens. */
	expect_gap(&stove, 2875 * MS / 4);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 2), 0);
	/* 7.5 of 8 are left: 1 + (3.5^2 - 2.5^2) / 4 tokens. */
	expect_gap(&stove, 1250 * MS);
	ck_assert_int_eq(evwork_limiter_set_burst(stove.limiter, 5), 0);
	ck_assert_int_eq(evwork_limiter_set_burst(stove.limiter, 1), 0);
	expect_gap(&stove, 1000 * MS);

	/* What is stored is served at rate 0, and costs nothing more. */
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 0), 0);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), 0);
	ck_assert_int_eq(tokens(&stove), 0);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 2), 0);
	go(&stove, after(&stove, 1));
	expect_gap(&stove, 1375 * MS);

	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, INFINITY), 0);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1000), 0);
	go(&stove, 100 * SECOND);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1000), 0);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 2), 0);
	expect_gap(&stove, 500 * MS);
	stove_close(&stove);

	/* A debt is in tokens. */
	stove_open(&stove, 2, 1, 4000);
	ck_assert_int_eq(evwork_limiter_allow(stove.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_set_rate(stove.limiter, 4), 0);
	ns = after(&stove, 1);
	ck_assert_int_eq(ns, 1375 * MS / 2);
	stove_close(&stove);
}
END_TEST

/* A loop that is late catches up with what was missed within the slack, at the prices of
 * the slope: S-LIM-17, S-LIM-13. */
START_TEST(late_loop)
{
	struct guest guests[3];
	struct stove stove;
	int i;

	stove_open(&stove, 2, 1, 4000);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(enter(&stove, &guests[i], NULL), 0);
	world_turns(&stove.world, 4);
	ck_assert_int_eq(evwork_clock_jump(stove.world.clock, 1385 * MS), 0);
	world_turns(&stove.world, 12);
	expect_granted(&guests[0], 0);
	expect_granted(&guests[1], 1385 * MS);
	go(&stove, SECOND + 115 * MS - 1);
	ck_assert_int_eq(guests[2].calls, 0);
	go(&stove, 1);
	expect_granted(&guests[2], 2500 * MS);
	stove_close(&stove);
}
END_TEST

/* Bad values; and the largest and smallest rates and times, with debts, changes and
 * cancelling, overflow nothing: S-LIM-17, S-LIM-8. */
START_TEST(extremes)
{
	static const double rates[] = { 1e18, 1e-300, 1e-10, 0.1, 1e9, 3e15, 0, INFINITY, 2 };
	static const int64_t spans_ms[] = { 1, 86400000, INT64_MAX / 1000000, INT64_MAX };
	struct evwork_limiter_options options = { .warmup_ms = -1 };
	struct evwork_limiter *limiter = NULL;
	struct evwork_reservation reservation;
	int64_t ns, count;
	size_t i, k;

	ck_assert_int_eq(evwork_limiter_new(1, 1, &options, &limiter), -EINVAL);
	ck_assert_ptr_null(limiter);
	for (i = 0; i < 4 * 9; i++) {
		options.warmup_ms = spans_ms[i % 4];
		ck_assert_int_eq(evwork_limiter_new(rates[i / 4], i % 2 ? 1 : INT64_MAX, &options,
			&limiter), 0);
		for (k = 0; k < 9; k++) {
			int rc = evwork_limiter_reserve_at(limiter, 1, EVWORK_NEVER, START,
				&reservation);

			ck_assert(rc == 0 || rc == -ETIMEDOUT || rc == -ERANGE);
			ck_assert_int_eq(evwork_limiter_tokens(limiter, &count), 0);
			ck_assert_int_eq(evwork_limiter_reset_after(limiter, &ns), 0);
			ck_assert_int_ge(ns, 0);
			if (rc == 0 && k % 2) {
				ck_assert_int_ge(reservation.act_ns, START);
				ck_assert_int_eq(evwork_reservation_cancel_at(&reservation, START), 0);
			}
			ck_assert_int_eq(evwork_limiter_set_rate_at(limiter, rates[(i + k) % 9],
				START + (int64_t)k), 0);
			rc = evwork_limiter_allow_at(limiter, INT64_MAX, INT64_MAX - (int64_t)k);
			ck_assert(rc == 0 || rc == -EAGAIN || rc == -ERANGE);
		}
		ck_assert_int_eq(evwork_limiter_free(limiter), 0);
	}
}
END_TEST

/* The random steps. */

static uint64_t seed, chance_state;

static uint64_t chance(void)
{
	chance_state ^= chance_state >> 12;
	chance_state ^= chance_state << 25;
	chance_state ^= chance_state >> 27;
	return chance_state * UINT64_C(2685821657736338717);
}

static int64_t below(int64_t bound)
{
	return (int64_t)(chance() % (uint64_t)bound);
}

/* From 2^-20 to 2^40, of any number of digits. */
static double some_rate(void)
{
	double digits = (double)((chance() >> (11 + below(52))) + 1);

	return ldexp(digits, (int)below(60) - 20 - ilogb(digits));
}

/* Taking in parts costs exactly what taking at once does, and giving back in other parts
 * restores exactly what was: S-LIM-17. */
START_TEST(parts)
{
	int64_t i, steps = 20000 / support_slow();

	chance_state = seed | 1;
	for (i = 0; i < steps; i++) {
		double rate = some_rate();
		struct evwork_bucket_terms terms;
		struct warmup whole, part;
		wide at_once, sum = wide_of(0), units;
		int64_t n = 1 + below(1 << 20), k, left;

		bucket_make_terms(&terms, rate, 1 << 20, 0);
		warmup_init(&whole, 1 + (int64_t)(chance() >> (2 + below(60))), &terms);
		/* Anywhere on the slope. */
		whole.cold = evwork__wide_sub(whole.cold, wide_shift(whole.cold,
			-(int)(1 + below(40))));
		part = whole;
		at_once = warmup_take(&whole, evwork__bucket_cost(&terms, n));
		for (left = n; left; left -= k) {
			k = 1 + below(left);
			sum = evwork__wide_add(sum, warmup_take(&part,
				evwork__bucket_cost(&terms, k)));
		}
		expect(memcmp(&sum, &at_once, sizeof(sum)) == 0 &&
			memcmp(&whole, &part, sizeof(part)) == 0, "step %lld, rate %g",
			(long long)i, rate);
		if (wide_is_zero(part.cold))
			continue;
		for (left = n; left; left -= k) {
			k = 1 + below(left);
			sum = evwork__wide_sub(sum, warmup_give_back(&part,
				evwork__bucket_cost(&terms, k)));
		}
		units = evwork__wide_add(whole.cold, evwork__bucket_cost(&terms, n));
		expect(wide_is_zero(sum) && memcmp(&units, &part.cold, sizeof(units)) == 0,
			"step %lld, rate %g", (long long)i, rate);
	}
}
END_TEST

#if LDBL_MANT_DIG >= 64

static long double real_of(wide value)
{
	return ldexpl((long double)value._high, 64) + (long double)value._low;
}

/* Random prices, in nanoseconds, are those of the trapezoid but for what is promised of its
 * rounding: the mean of the prices at both ends, times what is taken: S-LIM-17. */
START_TEST(agrees_with_trapezoid)
{
	int64_t i, steps = 200000 / support_slow();

	chance_state = seed | 1;
	for (i = 0; i < steps; i++) {
		double rate = some_rate();
		/* From a millisecond to 36 years, but not so many tokens that they are cut. */
		int64_t most = ilogb(rate) > 28 ? (INT64_C(1) << (88 - ilogb(rate))) / MS :
			(INT64_C(1) << 60) / MS;
		int64_t span = (1 + (below(most) >> below(40))) * MS;
		struct evwork_bucket_terms terms;
		struct warmup warmup;
		long double half, from, to, price, gain, bound;
		int64_t n = 1 + (int64_t)(chance() >> (40 + below(24)));
		wide units;

		bucket_make_terms(&terms, rate, 1 << 24, 0);
		warmup_init(&warmup, span, &terms);
		/* Anywhere on the slope, and warm at times. */
		warmup.cold = evwork__wide_add(wide_shift(warmup.half, -(int)below(64)),
			below(8) ? warmup.half : wide_of(0));
		units = evwork__bucket_cost(&terms, n);
		gain = (long double)terms._gain;
		half = (long double)span / 2;
		from = real_of(evwork__wide_sub(warmup.cold, warmup.half)) / gain;
		to = from - real_of(units) / gain;
		from = from > 0 ? from : 0;
		to = to > 0 ? to : 0;
		/* At x it is 2 x / half more than 1. */
		price = (from - to) * (from / half + to / half);
		/* And what the model rounds. */
		bound = ldexpl(half, -59) + 1 / gain + ldexpl(half, -60);
		expect(fabsl(real_of(warmup_take(&warmup, units)) / gain - price) <= bound,
			"step %lld: rate %g, span %lld, n %lld", (long long)i, rate,
			(long long)span, (long long)n);
	}
}
END_TEST

/* Guava's SmoothWarmingUp, as it is written there but for units: nanoseconds until the next
 * grant, and permits that are stored. */
struct guava {
	long double interval, span, threshold, most, slope;
	long double stored, next;
};

static void guava_init(struct guava *guava, long double rate, long double span)
{
	long double cold;

	guava->interval = 1e9L / rate;
	guava->span = span;
	cold = 3 * guava->interval;
	guava->threshold = 0.5L * span / guava->interval;
	guava->most = guava->threshold + 2 * span / (guava->interval + cold);
	guava->slope = (cold - guava->interval) / (guava->most - guava->threshold);
	guava->stored = guava->most;
	guava->next = 0;
}

static void guava_rest(struct guava *guava, long double ns)
{
	guava->next -= ns;
	if (guava->next >= 0)
		return;
	guava->stored -= guava->next / (guava->span / guava->most);
	if (guava->stored > guava->most)
		guava->stored = guava->most;
	guava->next = 0;
}

static long double guava_reserve(struct guava *guava, long double n)
{
	long double at = guava->next, spent = n < guava->stored ? n : guava->stored;
	long double above = guava->stored - guava->threshold, taken = 0;

	if (above > 0) {
		taken = above < spent ? above : spent;
		guava->next += taken * (2 * guava->interval + guava->slope *
			(above + above - taken)) / 2;
	}
	guava->next += guava->interval * (n - taken);
	guava->stored -= spent;
	return at;
}

/* Asks both for the whole burst, again and again after random rests, from cold. */
static void compare(double rate, int64_t burst, int64_t span, int64_t steps)
{
	struct evwork_reservation reservation;
	int64_t i, rest, now = START;
	struct stove stove;
	struct guava guava;
	long double at;

	stove_open(&stove, rate, burst, span / MS);
	guava_init(&guava, rate, (long double)span);
	for (i = 0; i < steps; i++) {
		rest = below(4) ? (int64_t)(guava.interval * (long double)burst *
			(long double)below(1000) / 500) : 0;
		if (below(100) == 0)
			rest = below(span * 3 / 2);
		now += rest;
		guava_rest(&guava, (long double)rest);
		at = guava_reserve(&guava, (long double)burst);
		ck_assert_int_eq(evwork_limiter_reserve_at(stove.limiter, burst, EVWORK_NEVER, now,
			&reservation), 0);
		/* Rounded up to a nanosecond, and what the model rounds. */
		expect((long double)(reservation.act_ns - now) >= at - 0.1L &&
			(long double)(reservation.act_ns - now) < at + 1.1L,
			"step %lld: %lld instead of %Lf", (long long)i,
			(long long)(reservation.act_ns - now), at);
	}
	stove_close(&stove);
}

/* Requests for the whole burst at random times are granted when Guava's algorithm grants
 * them, over a hundred thousand of them without setting it right: S-LIM-17. */
START_TEST(agrees_with_guava)
{
	int64_t i, steps = 200000 / support_slow();

	chance_state = seed | 1;
	for (i = 0; i < 10; i++) {
		/* Of as many digits as there are: its units are so small that their rounding does
		 * not add up. */
		double rate = (double)((chance() >> 11) | 1) / 9007199254740992.0 * 100 + 1;

		compare(rate, 1 + below(5), (100 + below(100000)) * MS, steps / 10);
	}
}
END_TEST

#endif

static Suite *suite(void)
{
	Suite *suite = suite_create("warmup");
	TCase *tcase = support_case(suite, "warmup");

	tcase_add_test(tcase, gaps_of_allow);
	tcase_add_test(tcase, gaps_of_reservations);
	tcase_add_test(tcase, gaps_of_waiters);
	tcase_add_test(tcase, deadlines);
	tcase_add_test(tcase, behind_waiters);
	tcase_add_test(tcase, rests);
	tcase_add_test(tcase, ends_of_rests);
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, bursts);
	tcase_add_test(tcase, cancelling);
	tcase_add_test(tcase, changes);
	tcase_add_test(tcase, late_loop);
	tcase_add_test(tcase, extremes);
	tcase = support_case(suite, "random");
	tcase_add_test(tcase, parts);
#if LDBL_MANT_DIG >= 64
	tcase_add_test(tcase, agrees_with_trapezoid);
	tcase_add_test(tcase, agrees_with_guava);
#endif
	return suite;
}

int main(void)
{
	const char *given = getenv("EVWORK_STRESS_SEED");

	seed = given ? strtoull(given, NULL, 0) : sys_random();
	support_note("EVWORK_STRESS_SEED=%llu", (unsigned long long)seed);
	return support_run(suite());
}
