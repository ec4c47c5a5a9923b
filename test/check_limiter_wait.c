/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Those who wait for a limiter: when they are granted and in which order, what moves them,
 * how they end, that no more is granted than may be, and races of all of it.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "limiter_scene.h"

#include <math.h>
#include <pthread.h>

#include "guard/limiter.h"

#define START SECOND

/* A waiter that records what happens to it. */
struct guest {
	struct evwork_limiter_waiter waiter;
	struct evwork_loop *loop;
	int calls, status, order;
	int64_t at_ns;                    /* of its callback, on the loop's clock */
	pthread_t thread;
	void (*on)(struct guest *guest);  /* called last in the callback, may be NULL */
	void *arg;
};

static void called(struct evwork_limiter_waiter *waiter, int status)
{
	struct guest *guest = EVWORK_CONTAINER(waiter, struct guest, waiter);

	guest->calls++;
	guest->status = status;
	guest->order = atomic_fetch_add(&probe_done_counter, 1) + 1;
	guest->at_ns = evwork_loop_now(guest->loop);
	guest->thread = pthread_self();
	if (guest->on)
		guest->on(guest);
}

/* A limiter on the manual clock of a world, and guests. */
struct inn {
	struct world world;
	struct evwork_limiter *limiter;
	struct guest guests[8];
};

static void inn_open_with(struct inn *inn, double rate, int64_t burst, int64_t slack_ms)
{
	int i;

	memset(inn, 0, sizeof(*inn));
	world_open_manual(&inn->world, 1, START);
	inn->limiter = limiter_with(rate, burst, (struct evwork_limiter_options){
		.slack_ms = slack_ms, .clock = inn->world.clock });
	for (i = 0; i < 8; i++) {
		evwork_limiter_waiter_init(&inn->guests[i].waiter, called);
		inn->guests[i].loop = inn->world.loop;
	}
}

static void inn_open(struct inn *inn, double rate, int64_t burst)
{
	inn_open_with(inn, rate, burst, 0);
}

static void inn_close(struct inn *inn)
{
	ck_assert_int_eq(evwork_limiter_free(inn->limiter), 0);
	world_close(&inn->world);
}

static int enter(struct inn *inn, int k, int64_t n, struct evwork_ctx *ctx)
{
	return evwork_limiter_wait(inn->limiter, n, ctx, inn->world.loop,
		&inn->guests[k].waiter);
}

/* Runs what is there, lets the clock go, and runs what that leads to. */
static void go(struct inn *inn, int64_t ns)
{
	world_turns(&inn->world, 4);
	ck_assert_int_eq(evwork_clock_advance(inn->world.clock, ns), 0);
	world_turns(&inn->world, 12);
}

static void expect_granted(const struct guest *guest, int64_t after_ns)
{
	ck_assert_int_eq(guest->calls, 1);
	ck_assert_int_eq(guest->status, 0);
	ck_assert_int_eq(guest->at_ns, START + after_ns);
}

/* A grant that is possible at once still comes as a callback, in a later turn, on the
 * loop: S-LIM-9, S-GEN-3. */
START_TEST(granted_at_once)
{
	struct inn inn;

	inn_open(&inn, 10, 2);
	ck_assert_int_eq(enter(&inn, 0, 2, NULL), 0);
	ck_assert_int_eq(inn.guests[0].calls, 0);
	ck_assert_int_eq(limiter_tokens(inn.limiter), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), -EBUSY);
	ck_assert_int_eq(evwork_limiter_free(inn.limiter), -EBUSY);
	world_run(&inn.world);
	expect_granted(&inn.guests[0], 0);
	ck_assert(pthread_equal(inn.guests[0].thread, pthread_self()));
	inn_close(&inn);
}
END_TEST

/* Granted exactly when the tokens are there, not before: S-LIM-9, S-GEN-11. The base runs
 * until then: S-DLV-7. */
START_TEST(granted_in_time)
{
	struct inn inn;

	inn_open(&inn, 10, 1);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -1);
	go(&inn, 100 * MS - 1);
	ck_assert_int_eq(inn.guests[0].calls, 0);
	ck_assert_int_eq(evwork_clock_advance(inn.world.clock, 1), 0);
	world_run(&inn.world);
	expect_granted(&inn.guests[0], 100 * MS);
	ck_assert_int_eq(limiter_tokens(inn.limiter), 0);
	inn_close(&inn);
}
END_TEST

/* First come, first served: a large one is not overtaken, and while it waits allow is
 * refused although there are tokens: S-LIM-10. */
START_TEST(first_come)
{
	struct inn inn;

	inn_open(&inn, 10, 5);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 3), 0);
	ck_assert_int_eq(enter(&inn, 0, 5, NULL), 0);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	ck_assert_int_eq(enter(&inn, 2, 0, NULL), 0);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -4);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 0), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 6), -ERANGE);
	go(&inn, 299 * MS);
	ck_assert_int_eq(inn.guests[1].calls + inn.guests[2].calls, 0);
	go(&inn, SECOND);
	expect_granted(&inn.guests[0], 300 * MS);
	expect_granted(&inn.guests[1], 400 * MS);
	expect_granted(&inn.guests[2], 400 * MS);
	ck_assert_int_lt(inn.guests[1].order, inn.guests[2].order);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 5), 0);
	inn_close(&inn);
}
END_TEST

/* When one leaves those behind it move up at once, by whichever way it leaves: the example
 * of S-LIM-11. */
START_TEST(moving_up)
{
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 10, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, ctx), 0);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	go(&inn, 50 * MS);
	if (_i == 0)
		ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[0].waiter), 0);
	else
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(inn.guests[0].calls, 0);
	go(&inn, SECOND);
	ck_assert_int_eq(inn.guests[0].calls, 1);
	ck_assert_int_eq(inn.guests[0].status, -ECANCELED);
	ck_assert_int_eq(inn.guests[0].at_ns, START + 50 * MS);
	expect_granted(&inn.guests[1], 100 * MS);
	ck_assert_uint_eq(limiter_stats(inn.limiter).granted, 1);
	ck_assert_uint_eq(limiter_stats(inn.limiter).cancelled, 1);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* One in the middle that leaves moves only those behind it: S-LIM-11. */
START_TEST(moving_up_behind)
{
	struct inn inn;
	int i;

	inn_open(&inn, 10, 3);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 3), 0);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(enter(&inn, i, 1 + (i == 1), NULL), 0);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -5);
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[1].waiter), 0);
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[1].waiter), -EALREADY);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -3);
	go(&inn, SECOND);
	ck_assert_int_eq(inn.guests[1].status, -ECANCELED);
	expect_granted(&inn.guests[0], 100 * MS);
	expect_granted(&inn.guests[2], 200 * MS);
	expect_granted(&inn.guests[3], 300 * MS);
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[1].waiter), -ESRCH);
	ck_assert_int_eq(evwork_limiter_waiter_cancel(NULL), -EINVAL);
	inn_close(&inn);
}
END_TEST

/* A grant that would come after the deadline is refused at once, and nothing is taken; one
 * just at it is not: S-LIM-9. */
START_TEST(too_late)
{
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 10, 2);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 2), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, inn.world.loop, 200, 0, &ctx), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, ctx), 0);
	ck_assert_int_eq(enter(&inn, 1, 2, ctx), -ETIMEDOUT);
	ck_assert_int_eq(enter(&inn, 1, 3, ctx), -ERANGE);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -1);
	ck_assert_int_eq(enter(&inn, 1, 1, ctx), 0);
	/* Now the head leaves, and the other is in time for sure. */
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[0].waiter), 0);
	go(&inn, SECOND);
	expect_granted(&inn.guests[1], 100 * MS);
	ck_assert_int_eq(enter(&inn, 2, 1, ctx), -ETIMEDOUT);
	ck_assert_int_eq(inn.guests[2].calls, 0);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* The context's death is told with its error, and takes nothing: S-LIM-9. Without a rate one
 * waits for just that: S-LIM-7. */
START_TEST(context_ends_it)
{
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 0, 2);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 2), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, inn.world.loop, 100, 0, &ctx), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, ctx), 0);
	ck_assert_int_eq(enter(&inn, 1, 2, NULL), 0);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -3);
	go(&inn, 100 * MS);
	ck_assert_int_eq(inn.guests[0].status, -ETIMEDOUT);
	ck_assert_int_eq(inn.guests[0].at_ns, START + 100 * MS);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -2);
	go(&inn, 1000 * SECOND);
	ck_assert_int_eq(inn.guests[1].calls, 0);
	ck_assert_int_eq(evwork_limiter_set_rate(inn.limiter, 4), 0);
	go(&inn, SECOND);
	expect_granted(&inn.guests[1], 1000 * SECOND + 600 * MS);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* A context that has died is not served, though nobody has looked: S-LIM-9, S-CTX-10. */
START_TEST(dead_is_not_served)
{
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 10, 1);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, inn.world.loop, 150, 0, &ctx), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, ctx), 0);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	ck_assert_int_eq(evwork_clock_jump(inn.world.clock, 150 * MS), 0);
	/* Serves whom it can. */
	ck_assert_int_eq(evwork_limiter_set_burst(inn.limiter, 1), 0);
	ck_assert_uint_eq(limiter_stats(inn.limiter).granted, 1);
	ck_assert_uint_eq(limiter_stats(inn.limiter).cancelled, 1);
	world_run(&inn.world);
	ck_assert_int_eq(inn.guests[0].status, -ETIMEDOUT);
	ck_assert_int_eq(inn.guests[1].status, 0);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* A new rate gives new times, earlier and later ones: S-LIM-12. */
START_TEST(new_rate)
{
	static const double rates[] = { 20, 5, INFINITY };
	static const int64_t times[] = { 75, 150, 50 };
	struct inn inn;

	inn_open(&inn, 10, 1);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	go(&inn, 50 * MS);
	ck_assert_int_eq(evwork_limiter_set_rate(inn.limiter, rates[_i]), 0);
	ck_assert_int_eq(inn.guests[0].calls, 0);
	go(&inn, SECOND);
	expect_granted(&inn.guests[0], times[_i] * MS);
	if (_i < 2)
		expect_granted(&inn.guests[1], times[_i] * MS + (int64_t)(1e9 / rates[_i]));
	else
		expect_granted(&inn.guests[1], 50 * MS);
	inn_close(&inn);
}
END_TEST

/* Who wants more than the new burst gets ERANGE, the others stay: S-LIM-12. */
START_TEST(new_burst)
{
	struct inn inn;

	inn_open(&inn, 10, 4);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 4), 0);
	ck_assert_int_eq(enter(&inn, 0, 2, NULL), 0);
	ck_assert_int_eq(enter(&inn, 1, 4, NULL), 0);
	ck_assert_int_eq(enter(&inn, 2, 1, NULL), 0);
	ck_assert_int_eq(evwork_limiter_set_burst(inn.limiter, 2), 0);
	ck_assert_int_eq(inn.guests[1].calls, 0);
	go(&inn, SECOND);
	ck_assert_int_eq(inn.guests[1].status, -ERANGE);
	ck_assert_int_eq(inn.guests[1].at_ns, START);
	expect_granted(&inn.guests[0], 200 * MS);
	expect_granted(&inn.guests[2], 300 * MS);
	inn_close(&inn);
}
END_TEST

/* Reservations and waiters share one order: neither is delayed by who came later, and what
 * was promised stays: S-LIM-10, S-LIM-11, S-LIM-12. */
START_TEST(with_reservations)
{
	struct evwork_reservation held, later;
	struct inn inn;

	inn_open(&inn, 10, 2);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 2), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	ck_assert_int_eq(evwork_limiter_reserve(inn.limiter, 2, EVWORK_NEVER, &held), 0);
	ck_assert_int_eq(held.act_ns, START + 400 * MS);
	ck_assert_int_eq(enter(&inn, 2, 1, NULL), 0);
	ck_assert_int_eq(evwork_limiter_reserve(inn.limiter, 1, EVWORK_NEVER, &later), 0);
	ck_assert_int_eq(later.act_ns, START + 600 * MS);
	ck_assert_int_eq(limiter_tokens(inn.limiter), -6);
	if (_i == 1) {
		/* The first leaves: waiters move up, promises do not. */
		ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[0].waiter), 0);
		ck_assert_int_eq(limiter_tokens(inn.limiter), -5);
	} else if (_i == 2) {
		/* The last reservation leaves: nobody was behind it. */
		ck_assert_int_eq(evwork_reservation_cancel(&later), 0);
		ck_assert_int_eq(limiter_tokens(inn.limiter), -5);
	} else if (_i == 3) {
		ck_assert_int_eq(evwork_limiter_set_rate(inn.limiter, 20), 0);
	}
	go(&inn, 2 * SECOND);
	if (_i != 1)
		expect_granted(&inn.guests[0], (_i == 3 ? 50 : 100) * MS);
	expect_granted(&inn.guests[1], (_i == 1 || _i == 3 ? 100 : 200) * MS);
	/* At 20/s the tokens of the reservation are there before its time. */
	expect_granted(&inn.guests[2], (_i == 0 || _i == 2 ? 500 : _i == 1 ? 400 : 250) * MS);
	ck_assert_int_eq(limiter_tokens(inn.limiter), 2);
	inn_close(&inn);
}
END_TEST

/* Slack: what a late loop missed is caught up to the slack, and forfeited beyond it: in any
 * time T no more than burst + rate * (T + slack) is granted: S-LIM-13. */
START_TEST(catching_up)
{
	/* rate 100/s, burst 1: a token each 10 ms. */
	static const int64_t slacks[] = { 0, EVWORK_NO_SLACK, 40 };
	static const int granted[] = { 2, 1, 5 };
	struct inn inn;
	int i;

	inn_open_with(&inn, 100, 1, slacks[_i]);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(enter(&inn, i, 1, NULL), 0);
	/* The loop stalls for ten seconds. */
	ck_assert_int_eq(evwork_clock_jump(inn.world.clock, 10 * SECOND), 0);
	world_turns(&inn.world, 12);
	ck_assert_uint_eq(limiter_stats(inn.limiter).granted, granted[_i]);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(inn.guests[i].calls, i < granted[_i]);
	/* And goes on at the rate. */
	go(&inn, 10 * MS - 1);
	ck_assert_uint_eq(limiter_stats(inn.limiter).granted, granted[_i]);
	go(&inn, SECOND);
	for (i = granted[_i]; i < 8; i++)
		expect_granted(&inn.guests[i], 10 * SECOND + (i + 1 - granted[_i]) * 10 * MS);
	/* The slack is for those who wait only. */
	ck_assert_int_le(limiter_tokens(inn.limiter), 1);
	inn_close(&inn);
}
END_TEST

/* A reservation whose time has passed while the loop stalled has used its tokens: what is
 * caught up is not more for it: S-LIM-13. */
START_TEST(stalled_with_reservation)
{
	struct evwork_reservation held;
	struct inn inn;

	inn_open_with(&inn, 10, 1, EVWORK_NO_SLACK);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	ck_assert_int_eq(evwork_limiter_reserve(inn.limiter, 1, EVWORK_NEVER, &held), 0);
	ck_assert_int_eq(held.act_ns, START + 200 * MS);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	ck_assert_int_eq(evwork_clock_jump(inn.world.clock, 10 * SECOND), 0);
	world_turns(&inn.world, 12);
	expect_granted(&inn.guests[0], 10 * SECOND);
	go(&inn, SECOND);
	expect_granted(&inn.guests[1], 10 * SECOND + 100 * MS);
	inn_close(&inn);
}
END_TEST

/* A constant demand at a steady loop gets all that comes, with any slack: S-LIM-13. */

struct eater {
	struct guest guest;
	struct evwork_limiter *limiter;
	int64_t eaten, end_ns;
};

static void eat(struct guest *guest)
{
	struct eater *eater = EVWORK_CONTAINER(guest, struct eater, guest);

	if (guest->status)
		return;
	eater->eaten++;
	if (evwork_loop_now(guest->loop) < eater->end_ns)
		ck_assert_int_eq(evwork_limiter_wait(eater->limiter, 1, NULL, guest->loop,
			&guest->waiter), 0);
}

/* The loop wakes each 7 ms only, and the rate is 1,000/s: S-LIM-13. */
START_TEST(constant_demand)
{
	struct eater eaters[20];
	struct inn inn;
	int64_t eaten = 0;
	int i;

	inn_open_with(&inn, 1000, 1, _i ? 7 : 6);
	for (i = 0; i < 20; i++) {
		memset(&eaters[i], 0, sizeof(eaters[i]));
		evwork_limiter_waiter_init(&eaters[i].guest.waiter, called);
		eaters[i].guest.loop = inn.world.loop;
		eaters[i].guest.on = eat;
		eaters[i].limiter = inn.limiter;
		eaters[i].end_ns = START + 700 * MS;
		ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, inn.world.loop,
			&eaters[i].guest.waiter), 0);
	}
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(evwork_clock_jump(inn.world.clock, 7 * MS), 0);
		world_turns(&inn.world, 12);
	}
	for (i = 0; i < 20; i++) {
		eaten += eaters[i].eaten;
		evwork_limiter_waiter_cancel(&eaters[i].guest.waiter);
	}
	ck_assert_int_ge(eaten, 700 - 1);
	ck_assert_int_le(eaten, 1 + 700 + 7);
	world_run(&inn.world);
	inn_close(&inn);
}
END_TEST

/* Random stalls. */

enum { VISITORS = 40, GRANTS = 3000 };

struct visitor {
	struct evwork_limiter_waiter waiter;
	struct log *log;
	int64_t n, number;
};

/* All grants, when they were made. */
struct log {
	struct evwork_loop *loop;
	struct { int64_t at, n; } grants[GRANTS];
	int count;
	int64_t last_number;
	struct visitor visitors[VISITORS];
};

static void on_visitor(struct evwork_limiter_waiter *waiter, int status)
{
	struct visitor *visitor = EVWORK_CONTAINER(waiter, struct visitor, waiter);
	struct log *log = visitor->log;

	if (status == 0) {
		/* First come, first served. */
		ck_assert_int_gt(visitor->number, log->last_number);
		log->last_number = visitor->number;
		log->grants[log->count].at = evwork_loop_now(log->loop);
		log->grants[log->count++].n = visitor->n;
	}
	visitor->n = 0;
}

/* In no time between two grants were there more than may be, in tokens of 10 ms. */
static void expect_bounded(const struct log *log, int64_t burst, int64_t slack_ns)
{
	int i, k;

	for (i = 0; i < log->count; i++) {
		int64_t sum = 0;

		for (k = i; k < log->count; k++) {
			int64_t time = log->grants[k].at - log->grants[i].at;

			sum += log->grants[k].n;
			if (sum * 10 * MS > burst * 10 * MS + time + slack_ns)
				ck_abort_msg("%lld tokens in %lld ns", (long long)sum,
					(long long)time);
		}
	}
}

static void visit(struct inn *inn, struct log *log, int64_t number)
{
	struct visitor *visitor = &log->visitors[chance_below(VISITORS)];
	struct evwork_reservation held;

	switch (chance(10)) {
	case 0:
		if (visitor->n)
			evwork_limiter_waiter_cancel(&visitor->waiter);
		break;
	case 1:
		if (evwork_limiter_reserve(inn->limiter, 1 + chance(3), 200 * MS, &held) == 0 &&
		    chance(2))
			ck_assert_int_eq(evwork_reservation_cancel(&held), 0);
		break;
	case 2:
		evwork_limiter_allow(inn->limiter, 1 + chance(5));
		break;
	default:
		if (visitor->n)
			break;
		visitor->n = 1 + chance(5);
		visitor->number = number;
		ck_assert_int_eq(evwork_limiter_wait(inn->limiter, visitor->n, NULL,
			inn->world.loop, &visitor->waiter), 0);
	}
}

/* Whatever comes, stalls of the loop, cancels and reservations, waiters are granted in their
 * order and no more than burst + rate * (T + slack) in any time T: S-LIM-13, S-LIM-10. */
START_TEST(bounded_in_any_time)
{
	static const int64_t slacks[] = { EVWORK_NO_SLACK, 0, 95 };
	static const int64_t slack_ns[] = { 0, 10 * MS, 95 * MS };
	struct log *log = calloc(1, sizeof(*log));
	struct inn inn;
	int64_t step;
	int i;

	ck_assert_ptr_nonnull(log);
	inn_open_with(&inn, 100, 5, slacks[_i]);
	log->loop = inn.world.loop;
	log->last_number = -1;
	chance_seed(0);
	for (i = 0; i < VISITORS; i++) {
		log->visitors[i].log = log;
		evwork_limiter_waiter_init(&log->visitors[i].waiter, on_visitor);
	}
	for (step = 0; log->count < GRANTS / support_slow() - VISITORS; step++) {
		visit(&inn, log, step);
		world_turns(&inn.world, 4);
		ck_assert_uint_eq(limiter_stats(inn.limiter).granted, (uint64_t)log->count);
		ck_assert_int_eq(evwork_clock_jump(inn.world.clock, chance(20) ? chance_below(30 * MS) :
			chance_below(3 * SECOND)), 0);
		/* Until nothing more is granted at this time. */
		world_turns(&inn.world, 4);
		ck_assert_uint_eq(limiter_stats(inn.limiter).granted, (uint64_t)log->count);
	}
	for (i = 0; i < VISITORS; i++)
		evwork_limiter_waiter_cancel(&log->visitors[i].waiter);
	world_run(&inn.world);
	expect_bounded(log, 5, slack_ns[_i]);
	ck_assert(wide_is_zero(inn.limiter->behind) && wide_is_zero(inn.limiter->demand));
	ck_assert_uint_eq(limiter_stats(inn.limiter).granted, (uint64_t)log->count);
	free(log);
	inn_close(&inn);
}
END_TEST

/* One alarm for the head only: of a thousand who wait the base is woken for one: S-LIM-13. */
START_TEST(one_alarm)
{
	struct inn inn;
	int i;

	inn_open(&inn, 1, 1);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(enter(&inn, i, 1, NULL), 0);
	ck_assert(inn.limiter->alarm_loop == inn.world.loop);
	ck_assert_int_eq(inn.limiter->alarm_ns, START + SECOND);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[i].waiter), 0);
	ck_assert_ptr_null(inn.limiter->alarm_loop);
	world_run(&inn.world);
	inn_close(&inn);
}
END_TEST

/* A loop that closes ends those who wait there, and those elsewhere move up: S-LIM-11,
 * S-SHUT-7. */
START_TEST(loop_closes)
{
	struct evwork_loop_options options = { .batch = 0 };
	struct evwork_loop *other;
	struct inn inn;

	inn_open(&inn, 10, 1);
	options.clock = inn.world.clock;
	ck_assert_int_eq(evwork_loop_new(inn.world.base, inn.world.pool, &options, &other), 0);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, other, &inn.guests[0].waiter), 0);
	ck_assert_int_eq(enter(&inn, 1, 1, NULL), 0);
	go(&inn, 50 * MS);
	ck_assert_int_eq(evwork_loop_close(other, NULL, NULL), 0);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, other, &inn.guests[2].waiter),
		-ESHUTDOWN);
	go(&inn, SECOND);
	ck_assert_int_eq(inn.guests[0].status, -ECANCELED);
	expect_granted(&inn.guests[1], 100 * MS);
	ck_assert_int_eq(evwork_loop_free(other), 0);
	inn_close(&inn);
}
END_TEST

/* A loop that is freed by force takes its waiters with it, and the limiter is free of them:
 * S-SHUT-11. */
START_TEST(loop_freed_by_force)
{
	struct evwork_loop_options options = { .batch = 0 };
	struct evwork_loop *other;
	struct inn inn;

	inn_open(&inn, 10, 1);
	options.clock = inn.world.clock;
	ck_assert_int_eq(evwork_loop_new(inn.world.base, inn.world.pool, &options, &other), 0);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, other, &inn.guests[0].waiter), 0);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, other, &inn.guests[1].waiter), 0);
	ck_assert_int_eq(enter(&inn, 2, 1, NULL), 0);
	ck_assert_int_eq(evwork_loop_free_force(other), 2);
	go(&inn, SECOND);
	ck_assert_int_eq(inn.guests[0].calls + inn.guests[1].calls, 0);
	expect_granted(&inn.guests[2], 100 * MS);
	/* The waiters are the caller's again. */
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[0].waiter), -ESRCH);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	world_run(&inn.world);
	ck_assert_int_eq(inn.guests[0].status, 0);
	inn_close(&inn);
}
END_TEST

static void free_limiter(struct guest *guest)
{
	struct inn *inn = guest->arg;

	ck_assert_int_eq(evwork_limiter_free(inn->limiter), 0);
	inn->limiter = NULL;
}

/* The last callback may free the limiter: S-GEN-5; until then it is EBUSY: S-LIM-14. */
START_TEST(freed_in_callback)
{
	struct inn inn;

	inn_open(&inn, 10, 1);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	inn.guests[0].on = free_limiter;
	inn.guests[0].arg = &inn;
	ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[0].waiter), 0);
	ck_assert_int_eq(evwork_limiter_free(inn.limiter), -EBUSY);
	world_run(&inn.world);
	ck_assert_ptr_null(inn.limiter);
	inn_close(&inn);
}
END_TEST

/* What is malformed, and the order of refusals: S-GEN-4, S-GEN-8, S-GEN-13. */
START_TEST(misused)
{
	struct evwork_limiter *on_other_clock;
	struct evwork_limiter_waiter empty;
	struct evwork_ctx *dead;
	struct inn inn;

	inn_open(&inn, 10, 1);
	evwork_limiter_waiter_init(&empty, NULL);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	evwork_ctx_cancel(dead, 0);
	ck_assert_int_eq(evwork_limiter_new(10, 1, NULL, &on_other_clock), 0);
	ck_assert_int_eq(evwork_limiter_wait(NULL, 1, NULL, inn.world.loop, &inn.guests[0].waiter),
		-EINVAL);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, NULL, &inn.guests[0].waiter),
		-EINVAL);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, inn.world.loop, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_wait(inn.limiter, 1, NULL, inn.world.loop, &empty), -EINVAL);
	ck_assert_int_eq(enter(&inn, 0, -1, dead), -EINVAL);
	ck_assert_int_eq(evwork_limiter_wait(on_other_clock, 1, NULL, inn.world.loop,
		&inn.guests[0].waiter), -EINVAL);
	ck_assert_int_eq(enter(&inn, 0, 2, dead), -ERANGE);
	ck_assert_int_eq(enter(&inn, 0, 1, dead), -ECANCELED);
	ck_assert_int_eq(enter(&inn, 0, 1, NULL), 0);
	ck_assert_int_eq(enter(&inn, 0, 2, dead), -EBUSY);
	world_run(&inn.world);
	ck_assert_int_eq(inn.guests[0].calls, 1);
	ck_assert_uint_eq(limiter_stats(inn.limiter).refused, 2);
	ck_assert_int_eq(evwork_limiter_free(on_other_clock), 0);
	evwork_ctx_unref(dead);
	inn_close(&inn);
}
END_TEST

/* Waiting, ending and moving need nothing that can fail, but for the call that begins it,
 * which says so and leaves nothing: S-GEN-14. */
START_TEST(failing_calls)
{
	struct inn inn;
	int kind, k, rc, calls;

	inn_open(&inn, 1000, 1);
	for (kind = 0; kind <= SYS_CALLS; kind++) {
		k = 0;
		do {
			fault_start((enum sys_call)kind, ++k, true);
			rc = enter(&inn, 0, 1, NULL);
			if (rc == 0)
				rc = enter(&inn, 1, 1, NULL);
			evwork_limiter_waiter_cancel(&inn.guests[1].waiter);
			ck_assert_int_eq(evwork_limiter_set_rate(inn.limiter, 999 + k % 3), 0);
			world_turns(&inn.world, 2);
			calls = fault_stop();
			ck_assert(rc == 0 || rc == -ENOMEM);
			go(&inn, SECOND);
			ck_assert_uint_eq(limiter_stats(inn.limiter).waiting, 0);
			ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[0].waiter), -ESRCH);
			ck_assert_int_eq(evwork_limiter_waiter_cancel(&inn.guests[1].waiter), -ESRCH);
		} while (calls >= k);
	}
	inn_close(&inn);
}
END_TEST

/* From other threads. */

struct foreign {
	struct inn *inn;
	int wait, cancel;
};

static void wait_elsewhere(void *arg)
{
	struct foreign *foreign = arg;

	foreign->wait = enter(foreign->inn, 0, 1, NULL);
	foreign->wait += enter(foreign->inn, 1, 1, NULL);
	foreign->cancel = evwork_limiter_waiter_cancel(&foreign->inn->guests[0].waiter);
}

/* Begun and cancelled on another thread, a wait ends on its loop, and the alarm is that of
 * the loop: S-LIM-14, S-LIM-11. */
START_TEST(from_elsewhere)
{
	struct inn inn;
	struct foreign foreign = { &inn, 1, 1 };

	inn_open(&inn, 10, 1);
	ck_assert_int_eq(evwork_limiter_allow(inn.limiter, 1), 0);
	support_elsewhere(wait_elsewhere, &foreign);
	ck_assert_int_eq(foreign.wait, 0);
	ck_assert_int_eq(foreign.cancel, 0);
	ck_assert_int_eq(evwork_loop_hold(inn.world.loop), 0);
	go(&inn, 99 * MS);
	ck_assert_int_eq(inn.guests[0].status, -ECANCELED);
	ck_assert_int_eq(inn.guests[1].calls, 0);
	go(&inn, SECOND);
	expect_granted(&inn.guests[1], 100 * MS);
	ck_assert(pthread_equal(inn.guests[0].thread, pthread_self()));
	ck_assert(pthread_equal(inn.guests[1].thread, pthread_self()));
	ck_assert_int_eq(evwork_loop_release(inn.world.loop), 0);
	inn_close(&inn);
}
END_TEST

/* On the system's clock, and a base that nothing else keeps running, grants come and are not
 * early: S-LIM-9, S-GEN-11, S-DLV-7. */
START_TEST(by_the_clock)
{
	struct guest guests[5];
	struct evwork_limiter *limiter;
	struct world world;
	int64_t begin;
	int i;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_limiter_new(200, 1, NULL, &limiter), 0);
	begin = sys_now();
	ck_assert_int_eq(evwork_limiter_allow(limiter, 1), 0);
	for (i = 0; i < 5; i++) {
		memset(&guests[i], 0, sizeof(guests[i]));
		evwork_limiter_waiter_init(&guests[i].waiter, called);
		guests[i].loop = world.loop;
		ck_assert_int_eq(evwork_limiter_wait(limiter, 1, NULL, world.loop,
			&guests[i].waiter), 0);
	}
	world_run(&world);
	for (i = 0; i < 5; i++) {
		ck_assert_int_eq(guests[i].calls, 1);
		ck_assert_int_eq(guests[i].status, 0);
		ck_assert_int_ge(guests[i].at_ns, begin + (i + 1) * 5 * MS);
	}
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
	world_close(&world);
}
END_TEST

/* Races, by the system's clock. */

#define CROWD 32

struct crowd;

struct runner {
	struct evwork_limiter_waiter waiter;
	struct crowd *crowd;
	struct evwork_ctx *ctx;
	int64_t n;
	int calls;
};

struct crowd {
	struct event_base *base;
	struct evwork_loop *loop;
	struct evwork_limiter *limiter;
	struct runner runners[CROWD];
	uint64_t stream;
	int64_t granted, rounds, ended;
	atomic_bool *stop;
	struct evwork_timer timer;
	pthread_t thread;
	struct evwork_pool *pool;
};

static void run_again(struct runner *runner);

static void on_runner(struct evwork_limiter_waiter *waiter, int status)
{
	struct runner *runner = EVWORK_CONTAINER(waiter, struct runner, waiter);
	struct crowd *crowd = runner->crowd;

	if (status == 0)
		crowd->granted += runner->n;
	crowd->ended++;
	evwork_ctx_unref(runner->ctx);
	runner->ctx = NULL;
	run_again(runner);
}

static void run_again(struct runner *runner)
{
	struct crowd *crowd = runner->crowd;
	struct runner *other = &crowd->runners[chance(CROWD)];
	int rc;

	if (crowd->rounds == 0)
		return;
	crowd->rounds--;
	runner->n = 1 + chance(3);
	if (evwork_ctx_with_timeout(NULL, crowd->loop, 1 + chance(50), 0,
			&runner->ctx) != 0)
		return;
	rc = evwork_limiter_wait(crowd->limiter, runner->n, runner->ctx, crowd->loop,
		&runner->waiter);
	if (rc) {
		evwork_ctx_unref(runner->ctx);
		runner->ctx = NULL;
	}
	/* Cancels of one's own loop's waiters, by either way. */
	if (chance(8) == 0)
		evwork_limiter_waiter_cancel(&other->waiter);
	else if (chance(8) == 0 && other->ctx)
		evwork_ctx_cancel(other->ctx, 0);
}

static void on_tick(struct evwork_timer *timer, int status)
{
	struct crowd *crowd = EVWORK_CONTAINER(timer, struct crowd, timer);
	int i;

	if (status)
		return;
	/* Those that were refused try anew. */
	for (i = 0; i < CROWD; i++)
		if (!crowd->runners[i].ctx)
			run_again(&crowd->runners[i]);
	if (crowd->rounds > 0)
		evwork_timer_start(crowd->loop, timer, 1);
}

static void *crowd_main(void *arg)
{
	struct crowd *crowd = arg;
	int i;

	chance_seed(crowd->stream);
	crowd->base = event_base_new();
	if (evwork_loop_new(crowd->base, crowd->pool, NULL, &crowd->loop) != 0)
		return NULL;
	for (i = 0; i < CROWD; i++) {
		crowd->runners[i].crowd = crowd;
		evwork_limiter_waiter_init(&crowd->runners[i].waiter, on_runner);
	}
	evwork_timer_init(&crowd->timer, on_tick);
	evwork_timer_start(crowd->loop, &crowd->timer, 0);
	event_base_dispatch(crowd->base);
	if (evwork_loop_free(crowd->loop) == 0)
		event_base_free(crowd->base);
	else
		crowd->granted = -1;
	return crowd;
}

/* Three loops with waiters that are granted, cancelled, time out and move up, while another
 * thread changes the rate, reserves and asks: each ends once, and together no more is
 * granted than may be: S-LIM-13, S-LIM-14, S-GEN-2. */
START_TEST(crowds_race)
{
	struct evwork_pool *pool;
	struct evwork_limiter_stats seen;
	struct evwork_limiter *limiter;
	struct crowd *crowds = calloc(3, sizeof(*crowds));
	struct evwork_reservation held;
	int64_t before = sys_now(), granted = 0, after, result;
	int i, k;

	ck_assert_ptr_nonnull(crowds);
	ck_assert_int_eq(evwork_pool_new(NULL, &pool), 0);
	ck_assert_int_eq(evwork_limiter_new(5000, 10, NULL, &limiter), 0);
	for (i = 0; i < 3; i++) {
		crowds[i].limiter = limiter;
		crowds[i].pool = pool;
		crowds[i].stream = (uint64_t)i + 1;
		crowds[i].rounds = 3000 / support_slow();
		ck_assert_int_eq(pthread_create(&crowds[i].thread, NULL, crowd_main, &crowds[i]), 0);
	}
	for (k = 0; k < 2000 / support_slow(); k++) {
		ck_assert_int_eq(evwork_limiter_set_rate(limiter, 1 + (k * 37) % 5000), 0);
		ck_assert_int_eq(evwork_limiter_set_burst(limiter, 3 + k % 7), 0);
		if (evwork_limiter_reserve(limiter, 1, 100 * MS, &held) == 0 && k % 2)
			ck_assert_int_eq(evwork_reservation_cancel(&held), 0);
		evwork_limiter_tokens(limiter, &result);
		sched_yield();
	}
	ck_assert_int_eq(evwork_limiter_set_rate(limiter, 5000), 0);
	for (i = 0; i < 3; i++) {
		void *done = NULL;

		ck_assert_int_eq(pthread_join(crowds[i].thread, &done), 0);
		ck_assert_ptr_eq(done, &crowds[i]);
		ck_assert_int_ge(crowds[i].granted, 0);
		granted += crowds[i].granted;
	}
	after = sys_now();
	ck_assert_int_le(granted, 10 + (after - before + 10 * MS) / 200000 + 1);
	ck_assert_int_eq(evwork_limiter_stats(limiter, &seen), 0);
	ck_assert_uint_eq(seen.waiting, 0);
	ck_assert_uint_eq(seen.granted + seen.cancelled,
		(uint64_t)(crowds[0].ended + crowds[1].ended + crowds[2].ended));
	ck_assert_uint_gt(seen.granted, 0);
	support_note("%llu granted, %llu cancelled, %llu refused", (unsigned long long)seen.granted,
		(unsigned long long)seen.cancelled, (unsigned long long)seen.refused);
	ck_assert_int_eq(evwork_limiter_free(limiter), 0);
	ck_assert_int_eq(evwork_pool_close_wait(pool, EVWORK_DRAIN), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	free(crowds);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("limiter_wait");
	TCase *tcase = support_case(suite, "order");

	tcase_add_test(tcase, granted_at_once);
	tcase_add_test(tcase, granted_in_time);
	tcase_add_test(tcase, first_come);
	tcase_add_loop_test(tcase, moving_up, 0, 2);
	tcase_add_test(tcase, moving_up_behind);
	tcase_add_loop_test(tcase, new_rate, 0, 3);
	tcase_add_test(tcase, new_burst);
	tcase_add_loop_test(tcase, with_reservations, 0, 4);
	tcase = support_case(suite, "ends");
	tcase_add_test(tcase, too_late);
	tcase_add_test(tcase, context_ends_it);
	tcase_add_test(tcase, dead_is_not_served);
	tcase_add_test(tcase, loop_closes);
	tcase_add_test(tcase, loop_freed_by_force);
	tcase_add_test(tcase, freed_in_callback);
	tcase_add_test(tcase, misused);
	tcase_add_test(tcase, failing_calls);
	tcase = support_case(suite, "slack");
	tcase_add_loop_test(tcase, catching_up, 0, 3);
	tcase_add_test(tcase, stalled_with_reservation);
	tcase_add_loop_test(tcase, constant_demand, 0, 2);
	tcase_add_loop_test(tcase, bounded_in_any_time, 0, 3);
	tcase_add_test(tcase, one_alarm);
	tcase = support_case(suite, "races");
	tcase_add_test(tcase, from_elsewhere);
	tcase_add_test(tcase, by_the_clock);
	tcase_add_test(tcase, crowds_race);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
