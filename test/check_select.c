/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Selects: what they choose, and how; that "nothing" is true of one instant; that they
 * leave no trace; and selects against selects.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"

#include <limits.h>

#include "flow/chan.h"


/* Malformed selects, whatever else is wrong with them; with none to choose from only try
 * has an answer (S-CHAN-12, S-GEN-4). */
START_TEST(malformed)
{
	struct evwork_chan *chan, *receives;
	struct evwork_case cases[2];
	struct party party;
	struct world world;
	int64_t value = 1;

	world_open(&world, 1);
	party_init(&party);
	chan = chan_of(1);
	receives = clone_of(chan, EVWORK_CHAN_RECV);
	ck_assert_int_eq(evwork_select_try(NULL, 0), -EAGAIN);
	ck_assert_int_eq(evwork_select_try(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_select_try(cases, (size_t)INT_MAX + 1), -EINVAL);
	ck_assert_int_eq(evwork_select_wait(cases, 0, NULL), -EINVAL);
	ck_assert_int_eq(evwork_select_wait(NULL, 1, NULL), -EINVAL);
	cases[0] = evwork_send_case(receives, &value);
	cases[1] = evwork_recv_case(chan, NULL);
	ck_assert_int_eq(evwork_select_try(cases, 1), -EPERM);
	ck_assert_int_eq(evwork_select_try(cases, 2), -EINVAL);
	ck_assert_int_eq(evwork_select(cases, 2, NULL, world.loop, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_select(cases, 1, NULL, world.loop, &party.waiter), -EPERM);
	cases[0] = evwork_send_case(chan, &value);
	cases[0].op = (enum evwork_case_op)7;
	ck_assert_int_eq(evwork_select_try(cases, 1), -EINVAL);
	cases[0] = evwork_send_case(chan, &value);
	ck_assert_int_eq(evwork_select(cases, 0, NULL, world.loop, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_select(NULL, 1, NULL, world.loop, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_select(cases, 1, NULL, NULL, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_select(cases, 1, NULL, world.loop, NULL), -EINVAL);
	world_turns(&world, 2);
	expect_party(&party, 0, 99);
	ck_assert_uint_eq(chan_stats_of(chan).length, 0);
	ck_assert_int_eq(evwork_chan_abandon(receives), 0);
	chan_end(receives);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* Exactly one is done, and its index and status told; the same channel may come more than
 * once (S-CHAN-12). */
START_TEST(exactly_one)
{
	struct evwork_chan *chans[3];
	struct evwork_case cases[5];
	int64_t values[5] = { 0 };
	int i, rc;

	for (i = 0; i < 3; i++)
		chans[i] = chan_of(2);
	ck_assert_int_eq(try_send(chans[1], 5), 0);
	ck_assert_int_eq(try_send(chans[1], 6), 0);
	for (i = 0; i < 3; i++)
		cases[i] = evwork_recv_case(chans[i], &values[i]);
	cases[3] = evwork_recv_case(chans[1], &values[3]);
	for (i = 5; i <= 6; i++) {
		rc = evwork_select_try(cases, 4);
		ck_assert(rc == 1 || rc == 3);
		ck_assert_int_eq(cases[rc].status, 1);
		ck_assert_int_eq((int)values[rc], i);
	}
	ck_assert_int_eq(evwork_select_try(cases, 4), -EAGAIN);
	/* Sends, of which one is done. */
	values[0] = 7;
	for (i = 0; i < 3; i++)
		cases[i] = evwork_send_case(chans[i], &values[0]);
	cases[3] = evwork_send_case(chans[1], &values[0]);
	for (i = 1; i <= 6; i++) {
		rc = evwork_select_try(cases, 4);
		ck_assert_int_ge(rc, 0);
		ck_assert_int_eq(cases[rc].status, 0);
		ck_assert_uint_eq(chan_stats_of(chans[0]).length + chan_stats_of(chans[1]).length +
			chan_stats_of(chans[2]).length, (size_t)i);
	}
	ck_assert_int_eq(evwork_select_try(cases, 4), -EAGAIN);
	for (i = 0; i < 3; i++)
		chan_end(chans[i]);
}
END_TEST

/*
 * The choice is uniform: of two ready cases each is chosen in 0.5 +- 0.0245 of 10,000
 * rounds (S-CHAN-13). The deviation of a fair choice is 0.005, so it would fail once in
 * 1,000,000 runs (4.9 sigma); of four, each has 0.25 +- 0.0212, which is as far. Here the
 * lots are seeded, the same in each run, so that it never does. Sends and receives, on one
 * channel and on several.
 */
START_TEST(uniform)
{
	int count = _i & 1 ? 4 : 2, same = _i & 2, i, rc, chosen[4] = { 0 };
	struct evwork_chan *chans[4];
	struct evwork_case cases[4];
	int64_t values[4] = { 0 };

	cases_seed(UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(_i + 1));
	for (i = 0; i < count; i++) {
		chans[i] = chan_of(20000);
		cases[i] = _i & 4 ? evwork_send_case(chans[same ? 0 : i], &values[i]) :
			evwork_recv_case(chans[same ? 0 : i], &values[i]);
	}
	for (i = 0; i < count * 10000 && !(_i & 4); i++)
		expect(try_send(chans[i % count], 1) == 0, "%d", i);
	for (i = 0; i < 10000; i++) {
		rc = evwork_select_try(cases, (size_t)count);
		expect(rc >= 0 && rc < count, "%d in round %d", rc, i);
		chosen[rc]++;
	}
	for (i = 0; i < count; i++) {
		int off = chosen[i] - 10000 / count;

		ck_assert_msg(abs(off) <= (count == 2 ? 245 : 212), "case %d: %d of 10000", i,
			chosen[i]);
		chan_end(chans[i]);
	}
}
END_TEST

/* A closed channel is ready: the receive yields 0, the send -EPIPE; an end that is shut,
 * -ESHUTDOWN. The index is that of the case all the same (S-CHAN-16, -11). */
START_TEST(closed)
{
	struct evwork_chan *open, *chan, *shut;
	struct evwork_case cases[2];
	struct party party;
	struct world world;
	int64_t value = 1;

	world_open(&world, 1);
	party_init(&party);
	open = chan_of(0);
	chan = chan_of(1);
	shut = clone_of(chan, EVWORK_CHAN_SEND);
	ck_assert_int_eq(evwork_chan_close(shut), 0);
	cases[0] = evwork_recv_case(open, &value);
	cases[1] = evwork_send_case(shut, &value);
	ck_assert_int_eq(evwork_select_try(cases, 2), 1);
	ck_assert_int_eq(cases[1].status, -ESHUTDOWN);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	cases[1] = evwork_recv_case(chan, &value);
	ck_assert_int_eq(evwork_select_try(cases, 2), 1);
	ck_assert_int_eq(cases[1].status, 0);
	cases[1] = evwork_send_case(chan, &value);
	ck_assert_int_eq(evwork_select(cases, 2, NULL, world.loop, &party.waiter), 0);
	ck_assert_int_eq(party.calls, 0);
	world_run(&world);
	expect_party(&party, 1, 1);
	ck_assert_int_eq(cases[1].status, -EPIPE);
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	cases[1] = evwork_recv_case(chan, &value);
	ck_assert_int_eq(evwork_select(cases, 2, NULL, world.loop, &party.waiter), 0);
	world_run(&world);
	expect_party(&party, 2, 1);
	ck_assert_int_eq(cases[1].status, -ESHUTDOWN);
	chan_end(shut);
	chan_end(chan);
	chan_end(open);
	world_close(&world);
}
END_TEST

/* A channel that closes ends parked selects, with the status of their case (S-CHAN-16). */
START_TEST(closed_while_parked)
{
	struct evwork_chan *chans[2];
	struct evwork_case one, mine;
	struct sleeper sleeper;
	struct party party;
	struct world world;
	int64_t value = 1, other;
	int i;

	world_open(&world, 1);
	party_init(&party);
	for (i = 0; i < 2; i++)
		chans[i] = chan_of(0);
	one = evwork_recv_case(chans[0], &other);
	mine = evwork_send_case(chans[1], &value);
	ck_assert_int_eq(evwork_select(&mine, 1, NULL, world.loop, &party.waiter), 0);
	sleeper_select(&sleeper, &one, 1, NULL);
	await_parked(chans[0], 0, 1);
	await_parked(chans[1], 1, 0);
	ck_assert_int_eq(evwork_chan_close(chans[0]), 0);
	ck_assert_int_eq(sleeper_end(&sleeper), 0);
	ck_assert_int_eq(one.status, 0);
	ck_assert_int_eq(evwork_chan_abandon(chans[1]), 0);
	world_turns(&world, 2);
	expect_party(&party, 1, 0);
	ck_assert_int_eq(mine.status, -EPIPE);
	for (i = 0; i < 2; i++)
		chan_end(chans[i]);
	world_close(&world);
}
END_TEST

/* NULL channels are never ready; a select of nothing else waits for its context, as a thread
 * and with a callback, again and again (S-CHAN-16, S-GEN-8). */
START_TEST(no_channels)
{
	struct evwork_case cases[2];
	struct sleeper sleeper;
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	struct party party;
	struct world world;
	int64_t value;
	int i;

	world_open(&world, 1);
	party_init(&party);
	cases[0] = evwork_recv_case(NULL, &value);
	cases[1] = evwork_send_case(NULL, NULL);
	ck_assert_int_eq(evwork_select_try(cases, 2), -EAGAIN);
	for (i = 1; i <= 3; i++) {
		ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
		ck_assert_int_eq(evwork_select(cases, 2, ctx, world.loop, &party.waiter), 0);
		world_turns(&world, 2);
		ck_assert_int_eq(party.calls, i - 1);
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		world_turns(&world, 2);
		expect_party(&party, i, -ECANCELED);
		evwork_ctx_unref(ctx);
	}
	ck_assert_int_eq(evwork_select(cases, 2, NULL, world.loop, &party.waiter), 0);
	ck_assert_int_eq(evwork_chan_stop(&party.waiter), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 5, 0, &ctx), 0);
	sleeper_select(&sleeper, cases, 2, ctx);
	ck_assert_int_eq(sleeper_end(&sleeper), -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	/* Among others they do no harm. */
	chan = chan_of(1);
	cases[1] = evwork_recv_case(chan, &value);
	ck_assert_int_eq(try_send(chan, 3), 0);
	ck_assert_int_eq(evwork_select_try(cases, 2), 1);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* A select with a send and a receive on one channel does not meet itself, but does meet
 * another like it, and plain sends and receives (S-CHAN-15). */
START_TEST(never_with_itself)
{
	struct evwork_chan *chan;
	struct evwork_case cases[3][2];
	struct party parties[3];
	struct world world;
	int64_t out[3] = { 1, 2, 3 }, in[3] = { 0 };
	int i;

	world_open(&world, 1);
	chan = chan_of(0);
	for (i = 0; i < 3; i++) {
		party_init(&parties[i]);
		cases[i][0] = evwork_send_case(chan, &out[i]);
		cases[i][1] = evwork_recv_case(chan, &in[i]);
	}
	ck_assert_int_eq(evwork_select_try(cases[0], 2), -EAGAIN);
	ck_assert_int_eq(evwork_select(cases[0], 2, NULL, world.loop, &parties[0].waiter), 0);
	world_turns(&world, 3);
	expect_party(&parties[0], 0, 99);
	ck_assert_uint_eq(chan_stats_of(chan).senders, 1);
	ck_assert_uint_eq(chan_stats_of(chan).receivers, 1);
	ck_assert_int_eq(evwork_select(cases[1], 2, NULL, world.loop, &parties[1].waiter), 0);
	ck_assert_int_eq(evwork_select(cases[2], 2, NULL, world.loop, &parties[2].waiter), 0);
	world_turns(&world, 3);
	/* The first two met, one sending and the other receiving. */
	ck_assert_int_eq(parties[0].result + parties[1].result, 1);
	i = parties[0].result;
	ck_assert_int_eq((int)in[0], i ? 2 : 0);
	ck_assert_int_eq((int)in[1], i ? 0 : 1);
	expect_party(&parties[2], 0, 99);
	ck_assert_int_eq((int)try_recv(chan), 3);
	world_turns(&world, 3);
	expect_party(&parties[2], 1, 0);
	ck_assert_uint_eq(chan_stats_of(chan).senders + chan_stats_of(chan).receivers, 0);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* Cases that were not chosen leave nothing on their channels: no value goes to them, and
 * those behind them are served (S-CHAN-15). The other channels can be freed. */
START_TEST(no_trace)
{
	struct evwork_chan *chans[3];
	struct evwork_case cases[3];
	struct party party, behind;
	struct sleeper sleeper;
	struct world world;
	int64_t value;
	int i;

	world_open(&world, 1);
	party_init(&party);
	party_init(&behind);
	for (i = 0; i < 3; i++) {
		chans[i] = chan_of(0);
		cases[i] = evwork_recv_case(chans[i], &value);
	}
	if (_i)
		sleeper_select(&sleeper, cases, 3, NULL);
	else
		ck_assert_int_eq(evwork_select(cases, 3, NULL, world.loop, &party.waiter), 0);
	for (i = 0; i < 3; i++)
		await_parked(chans[i], 0, 1);
	ck_assert_int_eq(party_recv(&behind, chans[1], NULL, world.loop), 0);
	ck_assert_int_eq(try_send(chans[0], 4), 0);
	/* Served, though perhaps it does not know yet. */
	ck_assert_int_eq(try_send(chans[2], 5), -EAGAIN);
	ck_assert_int_eq(try_send(chans[1], 6), 0);
	world_turns(&world, 2);
	if (_i)
		ck_assert_int_eq(sleeper_end(&sleeper), 0);
	else
		expect_party(&party, 1, 0);
	ck_assert_int_eq((int)value, 4);
	expect_party(&behind, 1, 1);
	ck_assert_int_eq((int)behind.value, 6);
	for (i = 0; i < 3; i++) {
		await_parked(chans[i], 0, 0);
		chan_end(chans[i]);
	}
	world_close(&world);
}
END_TEST

/* Nor does a select that is stopped, or whose context dies (S-CHAN-15, -7). */
START_TEST(no_trace_of_none)
{
	struct evwork_chan *chans[2];
	struct evwork_case cases[2];
	struct evwork_ctx *ctx;
	struct party party;
	struct world world;
	int64_t value = 1;
	int i;

	world_open(&world, 1);
	party_init(&party);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	chans[0] = chan_of(0);
	chans[1] = chan_of(0);
	cases[0] = evwork_recv_case(chans[0], &value);
	cases[1] = evwork_send_case(chans[1], &value);
	ck_assert_int_eq(evwork_select(cases, 2, ctx, world.loop, &party.waiter), 0);
	if (_i)
		ck_assert_int_eq(evwork_chan_stop(&party.waiter), 0);
	else
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(try_send(chans[0], 1), -EAGAIN);
	ck_assert_int_eq((int)try_recv(chans[1]), -EAGAIN);
	world_turns(&world, 2);
	expect_party(&party, !_i, _i ? 99 : -ECANCELED);
	for (i = 0; i < 2; i++) {
		ck_assert_uint_eq(chan_stats_of(chans[i]).senders, 0);
		ck_assert_uint_eq(chan_stats_of(chans[i]).receivers, 0);
		chan_end(chans[i]);
	}
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A thread that moves a value from one channel to the other and back, so that at each
 * instant one of them has one. */
struct shuttle {
	struct evwork_chan *chans[2];
	atomic_bool over;
	int wrong;
};

static void *shuttle_run(void *arg)
{
	struct shuttle *shuttle = arg;
	int64_t value = 1;
	int at = 0;

	while (!atomic_load(&shuttle->over)) {
		if (evwork_chan_send_wait(shuttle->chans[1 - at], &value, NULL) != 0 ||
		    evwork_chan_recv_wait(shuttle->chans[at], &value, NULL) != 1)
			shuttle->wrong++;
		at = 1 - at;
	}
	return NULL;
}

/*
 * At each instant while the test looks one of two channels has a value, as that is sent to
 * the one before it is taken from the other. So a look at both at one instant always finds
 * it; one at the first, then at the second, does not (S-CHAN-14). What the test has taken
 * it puts back before it looks again.
 */
START_TEST(nothing_at_one_instant)
{
	struct shuttle shuttle = { .wrong = 0 };
	struct evwork_case cases[2];
	pthread_t thread;
	int64_t value;
	int rounds = scaled(1000000), i, rc, chosen[2] = { 0 };

	for (i = 0; i < 2; i++) {
		shuttle.chans[i] = chan_of(4);
		cases[i] = evwork_recv_case(shuttle.chans[i], &value);
	}
	ck_assert_int_eq(try_send(shuttle.chans[0], 1), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, shuttle_run, &shuttle), 0);
	for (i = 0; i < rounds; i++) {
		rc = evwork_select_try(cases, 2);
		expect(rc >= 0 && cases[rc].status == 1, "%d in round %d", rc, i);
		chosen[rc]++;
		rc = try_send(shuttle.chans[rc], value);
		expect(rc == 0, "%d in round %d", rc, i);
	}
	atomic_store(&shuttle.over, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(shuttle.wrong, 0);
	support_note("chosen: %d and %d", chosen[0], chosen[1]);
	for (i = 0; i < 2; i++)
		chan_end(shuttle.chans[i]);
}
END_TEST

/* Selects against selects. */

#define TRADERS 4
#define PLACES 3

struct market {
	struct evwork_chan *chans[PLACES];
	int each;
	atomic_int number, wrong;
	atomic_llong out, in;
};

/* One select over all channels, in an order of its own, with a send and a receive on each;
 * a deadlock would be one of two that lock them in different orders. */
static int trade(struct market *market, struct evwork_ctx *ctx, bool tries)
{
	struct evwork_case cases[2 * PLACES];
	int64_t out = 1 + chance(1000), in = 0;
	int i, rc, shift = chance(2 * PLACES), swap = chance(2);

	for (i = 0; i < 2 * PLACES; i++) {
		int at = swap ? 2 * PLACES - 1 - i : i;

		at = (at + shift) % (2 * PLACES);
		cases[i] = at & 1 ? evwork_send_case(market->chans[at / 2], &out) :
			evwork_recv_case(market->chans[at / 2], &in);
	}
	rc = tries ? evwork_select_try(cases, 2 * PLACES) :
		evwork_select_wait(cases, 2 * PLACES, ctx);
	if (rc < 0) {
		if (in || (rc != -EAGAIN && rc != -ECANCELED))
			atomic_fetch_add(&market->wrong, 1);
		return rc;
	}
	if (cases[rc].op == EVWORK_SEND) {
		if (cases[rc].status != 0 || in)
			atomic_fetch_add(&market->wrong, 1);
		atomic_fetch_add(&market->out, out);
	} else {
		if (cases[rc].status != 1)
			atomic_fetch_add(&market->wrong, 1);
		atomic_fetch_add(&market->in, in);
	}
	return 0;
}

struct trader {
	struct market *market;
	struct evwork_ctx *ctx;
};

static void *trader_run(void *arg)
{
	struct trader *trader = arg;
	int i, who = atomic_fetch_add(&trader->market->number, 1);

	chance_seed((uint64_t)who);
	for (i = 0; i < trader->market->each; i++) {
		if (trade(trader->market, trader->ctx, chance(3) == 0) == -ECANCELED)
			break;
		dawdle();
	}
	/* Who is last may find nobody: the first that is through releases all. */
	evwork_ctx_cancel(trader->ctx, 0);
	return NULL;
}

/* Threads that select over the same channels, in any order, with room for none, one or some
 * values: they neither deadlock, nor lose or double a value (S-CHAN-7, -12, -15). */
START_TEST(selects_against_selects)
{
	struct market market = { .each = scaled(10000) };
	struct trader trader = { .market = &market };
	pthread_t threads[TRADERS];
	long long left = 0;
	int64_t value;
	int i;

	ck_assert_int_eq(evwork_ctx_new(NULL, &trader.ctx), 0);
	for (i = 0; i < PLACES; i++)
		market.chans[i] = chan_of(_i == 3 ? (size_t)i : (size_t)_i);
	for (i = 0; i < TRADERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, trader_run, &trader), 0);
	for (i = 0; i < TRADERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (i = 0; i < PLACES; i++) {
		await_parked(market.chans[i], 0, 0);
		while ((value = try_recv(market.chans[i])) > 0)
			left += value;
		chan_end(market.chans[i]);
	}
	evwork_ctx_unref(trader.ctx);
	ck_assert_int_eq(atomic_load(&market.wrong), 0);
	ck_assert_int_eq(atomic_load(&market.out), atomic_load(&market.in) + left);
	support_note("%lld in, %lld left", atomic_load(&market.in), left);
}
END_TEST

/* A select of no channels, or of one that nobody serves, is cancelled while it begins: its
 * callback comes once, and may use the cases' memory for something else (S-CHAN-16). */
struct fleeting {
	struct party party;
	struct evwork_case cases[2];
};

static void scribble(struct party *party)
{
	memset(EVWORK_CONTAINER(party, struct fleeting, party)->cases, 0x55,
		sizeof(struct evwork_case) * 2);
}

struct begun {
	struct evwork_loop *loop;
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	struct fleeting *fleeting;
	int rc;
};

static void begin_elsewhere(void *arg)
{
	struct begun *begun = arg;

	begun->rc = evwork_select(begun->fleeting->cases, 2, begun->ctx, begun->loop,
		&begun->fleeting->party.waiter);
}

START_TEST(cancelled_while_it_begins)
{
	struct begun begun;
	struct rival rival;
	struct world world;
	int rounds = scaled(20000), round, accepted = 0;
	int64_t value;

	chance_seed(0);
	world_open(&world, 1);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	begun.loop = world.loop;
	begun.chan = _i ? chan_of(0) : NULL;
	rival_start(&rival, begin_elsewhere, &begun, 1);
	for (round = 1; round <= rounds; round++) {
		struct fleeting *fleeting = malloc(sizeof(*fleeting));

		expect(fleeting, "%d", round);
		begun.fleeting = fleeting;
		party_init(&fleeting->party);
		fleeting->party.on = scribble;
		fleeting->cases[0] = evwork_recv_case(NULL, &value);
		fleeting->cases[1] = evwork_recv_case(begun.chan, &value);
		expect(evwork_ctx_new(NULL, &begun.ctx) == 0, "%d", round);
		rival_go(&rival, round);
		dawdle();
		evwork_ctx_cancel(begun.ctx, 0);
		while (!rival_finished(&rival, round) && !fleeting->party.calls)
			one_pass(world.base);
		/* At once, perhaps before the call has returned. */
		if (fleeting->party.calls)
			memset(fleeting->cases, 0xaa, sizeof(fleeting->cases));
		rival_await(&rival, round);
		expect(begun.rc == 0 || begun.rc == -ECANCELED, "%d in round %d", begun.rc, round);
		while (begun.rc == 0 && !fleeting->party.calls)
			one_pass(world.base);
		expect(fleeting->party.calls == (begun.rc == 0), "%d", round);
		expect(begun.rc || fleeting->party.result == -ECANCELED, "%d in round %d",
			fleeting->party.result, round);
		accepted += begun.rc == 0;
		evwork_ctx_unref(begun.ctx);
		free(fleeting);
	}
	rival_end(&rival);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	chan_end(begun.chan);
	world_close(&world);
	support_note("%d of %d were accepted", accepted, rounds);
}
END_TEST

static Suite *select_suite(void)
{
	Suite *suite = suite_create("select");
	TCase *tcase = support_case(suite, "choice");

	tcase_add_test(tcase, malformed);
	tcase_add_test(tcase, exactly_one);
	tcase_add_loop_test(tcase, uniform, 0, 8);

	tcase = support_case(suite, "channels");
	tcase_add_test(tcase, closed);
	tcase_add_test(tcase, closed_while_parked);
	tcase_add_test(tcase, no_channels);
	tcase_add_test(tcase, never_with_itself);
	tcase_add_loop_test(tcase, no_trace, 0, 2);
	tcase_add_loop_test(tcase, no_trace_of_none, 0, 2);

	tcase = support_case(suite, "stress");
	tcase_add_test(tcase, nothing_at_one_instant);
	tcase_add_loop_test(tcase, selects_against_selects, 0, 4);
	tcase_add_loop_test(tcase, cancelled_while_it_begins, 0, 2);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(select_suite());
}
