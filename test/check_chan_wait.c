/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels: threads that wait. Who serves them, contexts and deadlines, whether the loop
 * runs or not, who may not wait, and the hand-offs under stress.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"


/* A parked thread is served by a try, an unparked one does not wait (S-CHAN-5). With room
 * for one or none (S-CHAN-3). */
START_TEST(served)
{
	struct evwork_chan *chan = chan_of((size_t)_i);
	struct sleeper sleepers[3];
	int64_t value;
	int i;

	for (i = 0; i < 3; i++) {
		sleeper_recv(&sleepers[i], chan, NULL);
		await_parked(chan, 0, (size_t)i + 1);
	}
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(try_send(chan, i + 1), 0);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(sleeper_end(&sleepers[i]), 1);
		/* In the order of coming (S-CHAN-6). */
		ck_assert_int_eq((int)sleepers[i].values[0], i + 1);
	}
	for (i = 0; i < _i; i++)
		ck_assert_int_eq(evwork_chan_send_wait(chan, &(int64_t){ 100 }, NULL), 0);
	for (i = 0; i < 3; i++) {
		sleeper_send(&sleepers[i], chan, 10 + i, NULL);
		await_parked(chan, (size_t)i + 1, 0);
	}
	for (i = 0; i < _i; i++)
		ck_assert_int_eq(evwork_chan_recv_wait(chan, &value, NULL), 1);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq((int)try_recv(chan), 10 + i);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(sleeper_end(&sleepers[i]), 0);
	await_parked(chan, 0, 0);
	chan_end(chan);
}
END_TEST

/* Who sends many waits until all are sent; who receives many waits for one, and takes what
 * else is there (S-CHAN-5). */
START_TEST(many)
{
	struct evwork_chan *chan = chan_of(3);
	struct sleeper sleeper;
	int64_t values[5] = { 1, 2, 3, 4, 5 };
	int i;

	sleeper_recv_many(&sleeper, chan, 16, NULL);
	await_parked(chan, 0, 1);
	ck_assert_int_eq(evwork_chan_try_send_many(chan, values, 5), 4);
	ck_assert_int_eq(sleeper_end(&sleeper), 4);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq((int)sleeper.values[i], i + 1);

	sleeper_send_many(&sleeper, chan, 10, 9, NULL);
	for (i = 0; i < 9; i++) {
		int64_t got;

		while ((got = try_recv(chan)) == -EAGAIN)
			sys_yield();
		ck_assert_int_eq((int)got, 10 + i);
	}
	ck_assert_int_eq(sleeper_end(&sleeper), 9);
	await_parked(chan, 0, 0);

	/* The receivers give up in the middle: what was sent is counted. */
	sleeper_send_many(&sleeper, chan, 10, 9, NULL);
	await_parked(chan, 1, 0);
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	ck_assert_int_eq(sleeper_end(&sleeper), 3);
	ck_assert_int_eq(atomic_load(&dropped_count), 3);
	chan_end(chan);
}
END_TEST

/* A context that dies ends the wait with its error, and leaves nothing behind that would
 * swallow a later value (S-CHAN-7); one that is dead before ends it at once. */
START_TEST(context_dies)
{
	struct evwork_chan *chan = chan_of(0);
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	int i;

	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	if (_i)
		sleeper_send(&sleeper, chan, 1, ctx);
	else
		sleeper_recv(&sleeper, chan, ctx);
	await_parked(chan, _i != 0, _i == 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	/* At once, though the thread may still be listed. */
	ck_assert_int_eq(_i ? (int)try_recv(chan) : try_send(chan, 1), -EAGAIN);
	ck_assert_int_eq(sleeper_end(&sleeper), -ECANCELED);
	await_parked(chan, 0, 0);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(_i ? (int)try_recv(chan) : try_send(chan, 1), -EAGAIN);
		sleeper_send(&sleeper, chan, 1, ctx);
		ck_assert_int_eq(sleeper_end(&sleeper), -ECANCELED);
		sleeper_recv(&sleeper, chan, ctx);
		ck_assert_int_eq(sleeper_end(&sleeper), -ECANCELED);
	}
	evwork_ctx_unref(ctx);
	chan_end(chan);
}
END_TEST

/* The deadline holds although the loop that has its timer never runs (S-CHAN-5). Whatever
 * the thread waits for. */
START_TEST(deadline_without_the_loop)
{
	struct evwork_case cases[2] = { { .chan = NULL } };
	struct evwork_chan *chan;
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	struct world world;
	int64_t value = 1;

	world_open(&world, 1);
	chan = chan_of(0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 5, 0, &ctx), 0);
	cases[0] = evwork_send_case(chan, &value);
	cases[1] = evwork_recv_case(chan, &value);
	if (_i == 0)
		sleeper_recv(&sleeper, chan, ctx);
	else if (_i == 1)
		sleeper_send(&sleeper, chan, 1, ctx);
	else
		sleeper_select(&sleeper, cases, 2, ctx);
	ck_assert_int_eq(sleeper_end(&sleeper), -ETIMEDOUT);
	ck_assert_int_ge(sys_now(), evwork_ctx_deadline(ctx));
	await_parked(chan, 0, 0);
	chan_end(chan);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A deadline on a manual clock comes by its loop, and not before. */
START_TEST(deadline_on_a_manual_clock)
{
	struct evwork_chan *chan;
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	struct world world;

	world_open_manual(&world, 1, 1000 * SYS_NS_PER_MS);
	chan = chan_of(1);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
	sleeper_recv(&sleeper, chan, ctx);
	await_parked(chan, 0, 1);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	world_turns(&world, 3);
	ck_assert_uint_eq(chan_stats_of(chan).receivers, 1);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 1), 0);
	/* From that instant on no value is lost to it (S-CHAN-7). */
	ck_assert_int_eq(try_send(chan, 7), 0);
	world_turns(&world, 3);
	ck_assert_int_eq(sleeper_end(&sleeper), -ETIMEDOUT);
	ck_assert_int_eq((int)try_recv(chan), 7);
	chan_end(chan);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* What a worker did. */
struct shift {
	struct probe probe;
	struct evwork_chan *chan;
	int64_t value;
	int rc;
};

static void receive_in_work(struct probe *probe)
{
	struct shift *shift = probe->arg;

	shift->rc = evwork_chan_recv_wait(shift->chan, &shift->value, NULL);
}

/* No thread with a loop may wait, even if it need not; a worker may (S-GEN-6, S-CHAN-5).
 * What is malformed comes first, a dead context after (S-GEN-4). */
START_TEST(who_may_wait)
{
	struct evwork_case one;
	struct evwork_chan *chan;
	struct evwork_ctx *dead;
	struct shift shift;
	struct world world;
	int64_t value = 1;

	world_open(&world, 1);
	chan = chan_of(2);
	one = evwork_recv_case(chan, &value);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	ck_assert_int_eq(evwork_chan_send_wait(chan, &value, NULL), -EDEADLK);
	ck_assert_int_eq(evwork_chan_send_wait(chan, &value, dead), -EDEADLK);
	ck_assert_int_eq(evwork_chan_send_wait(NULL, &value, dead), -EINVAL);
	ck_assert_int_eq(evwork_chan_recv_wait(chan, &value, NULL), -EDEADLK);
	ck_assert_int_eq(evwork_chan_send_many_wait(chan, &value, 1, NULL), -EDEADLK);
	ck_assert_int_eq(evwork_chan_recv_many_wait(chan, &value, 1, NULL), -EDEADLK);
	ck_assert_int_eq(evwork_select_wait(&one, 1, NULL), -EDEADLK);
	ck_assert_int_eq(evwork_select_wait(&one, 0, NULL), -EINVAL);
	ck_assert_uint_eq(chan_stats_of(chan).length, 0);

	probe_init(&shift.probe, 0);
	shift.probe.on_run = receive_in_work;
	shift.probe.arg = &shift;
	shift.chan = chan;
	ck_assert_int_eq(evwork_submit(world.loop, &shift.probe.job), 0);
	await_parked(chan, 0, 1);
	ck_assert_int_eq(try_send(chan, 42), 0);
	world_run(&world);
	ck_assert_int_eq(shift.rc, 1);
	ck_assert_int_eq((int)shift.value, 42);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(evwork_chan_send_wait(chan, &value, NULL), -EDEADLK);
	evwork_ctx_unref(dead);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* Hand-offs: threads send numbered values through one channel to others. */

#define MOST 4

struct bazaar {
	struct evwork_chan *chan;
	int senders, receivers, each, many;
	atomic_int number, wrong;
	atomic_llong received, sum;
};

static void *sell(void *arg)
{
	struct bazaar *bazaar = arg;
	int who = atomic_fetch_add(&bazaar->number, 1), i = 0, k, n, rc;
	int64_t values[16];

	chance_seed((uint64_t)who);
	while (i < bazaar->each) {
		n = 1 + chance(bazaar->many);
		n = n < bazaar->each - i ? n : bazaar->each - i;
		for (k = 0; k < n; k++)
			values[k] = (int64_t)who << 32 | (i + k + 1);
		rc = n > 1 ? evwork_chan_send_many_wait(bazaar->chan, values, n, NULL) :
			evwork_chan_send_wait(bazaar->chan, values, NULL);
		if (rc != (n > 1 ? n : 0))
			atomic_fetch_add(&bazaar->wrong, 1);
		i += n;
		dawdle();
	}
	return NULL;
}

static void *buy(void *arg)
{
	struct bazaar *bazaar = arg;
	int64_t last[MOST] = { 0 }, values[16];
	int who = atomic_fetch_add(&bazaar->number, 1), rc, k;

	chance_seed((uint64_t)who);
	while ((rc = evwork_chan_recv_many_wait(bazaar->chan, values, 1 + chance(bazaar->many),
			NULL)) > 0) {
		for (k = 0; k < rc; k++) {
			int64_t *before = &last[values[k] >> 32];
			int64_t number = values[k] & INT32_MAX;

			/* In order for each sender, S-CHAN-2. */
			if (number <= *before)
				atomic_fetch_add(&bazaar->wrong, 1);
			*before = number;
			atomic_fetch_add(&bazaar->sum, number);
		}
		atomic_fetch_add(&bazaar->received, rc);
		dawdle();
	}
	if (rc != 0)
		atomic_fetch_add(&bazaar->wrong, 1);
	return NULL;
}

/* Every value of every sender arrives once, in order, and all receivers see the end:
 * rendezvous, and channels that are now full and now empty, one value at a time and many
 * (S-CHAN-2, -3, -8, -20). */
START_TEST(bazaars)
{
	static const int capacities[] = { 0, 1, 2, 64 };
	struct bazaar bazaar = { .many = _i & 1 ? 16 : 1 };
	pthread_t threads[2 * MOST];
	long long total;
	int i;

	bazaar.senders = 1 + _i / 2 % 2 * 3;
	bazaar.receivers = 1 + _i / 4 % 2 * 2;
	bazaar.each = scaled(10000) / bazaar.senders;
	bazaar.chan = chan_of((size_t)capacities[_i / 8]);
	for (i = 0; i < bazaar.senders; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, sell, &bazaar), 0);
	while (atomic_load(&bazaar.number) < bazaar.senders)
		sys_yield();
	for (i = 0; i < bazaar.receivers; i++)
		ck_assert_int_eq(pthread_create(&threads[MOST + i], NULL, buy, &bazaar), 0);
	for (i = 0; i < bazaar.senders; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(evwork_chan_close(bazaar.chan), 0);
	for (i = 0; i < bazaar.receivers; i++)
		ck_assert_int_eq(pthread_join(threads[MOST + i], NULL), 0);
	total = (long long)bazaar.each * bazaar.senders;
	ck_assert_int_eq(atomic_load(&bazaar.wrong), 0);
	ck_assert_int_eq(atomic_load(&bazaar.received), total);
	ck_assert_int_eq(atomic_load(&bazaar.sum),
		(long long)bazaar.each * (bazaar.each + 1) / 2 * bazaar.senders);
	ck_assert_uint_le(chan_stats_of(bazaar.chan).peak, (size_t)capacities[_i / 8]);
	chan_end(bazaar.chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
}
END_TEST

/* A duel: a thread receives, or sends, with a context; another cancels that; the test does
 * the other side of the transfer. */
struct duel {
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	int64_t value;
	bool sends;
	int rc;
};

static void duel_wait(void *arg)
{
	struct duel *duel = arg;

	duel->rc = duel->sends ? evwork_chan_send_wait(duel->chan, &duel->value, duel->ctx) :
		evwork_chan_recv_wait(duel->chan, &duel->value, duel->ctx);
}

static void duel_cancel(void *arg)
{
	struct duel *duel = arg;

	evwork_ctx_cancel(duel->ctx, 0);
}

/* The test's side: whether it transferred anything. */
static bool duel_meet(struct duel *duel, struct rival *waits, int round)
{
	int64_t got = -EAGAIN;

	while (got == -EAGAIN && !rival_finished(waits, round)) {
		got = duel->sends ? try_recv(duel->chan) : try_send(duel->chan, round);
		if (chance(8) == 0)
			sys_yield();
	}
	if (duel->sends && got > 0)
		expect(got == round, "%d in round %d", (int)got, round);
	return duel->sends ? got > 0 : got == 0;
}

/* The death of the context and the transfer come together: the wait reports the one or the
 * other, and the other side the same (S-CHAN-7). */
START_TEST(transfer_against_death)
{
	struct duel duel = { .sends = _i != 0 };
	struct rival waits, cancels;
	int rounds = scaled(20000), round, transfers = 0;

	chance_seed(0);
	duel.chan = chan_of(0);
	rival_start(&waits, duel_wait, &duel, 1);
	rival_start(&cancels, duel_cancel, &duel, 2);
	for (round = 1; round <= rounds; round++) {
		bool met;

		duel.value = round;
		expect(evwork_ctx_new(NULL, &duel.ctx) == 0, "%d", round);
		rival_go(&waits, round);
		if (chance(2))
			while (chan_stats_of(duel.chan).senders +
			       chan_stats_of(duel.chan).receivers == 0)
				sys_yield();
		rival_go(&cancels, round);
		dawdle();
		met = duel_meet(&duel, &waits, round);
		rival_await(&waits, round);
		rival_await(&cancels, round);
		expect(duel.rc == (met ? !duel.sends : -ECANCELED), "%d and %d in round %d",
			duel.rc, met, round);
		expect(duel.value == round, "%d in round %d", (int)duel.value, round);
		transfers += met;
		evwork_ctx_unref(duel.ctx);
	}
	rival_end(&waits);
	rival_end(&cancels);
	await_parked(duel.chan, 0, 0);
	chan_end(duel.chan);
	support_note("%d of %d rounds transferred", transfers, rounds);
}
END_TEST

static Suite *wait_suite(void)
{
	Suite *suite = suite_create("chan_wait");
	TCase *tcase = support_case(suite, "threads");

	tcase_add_loop_test(tcase, served, 0, 2);
	tcase_add_test(tcase, many);
	tcase_add_loop_test(tcase, context_dies, 0, 2);
	tcase_add_loop_test(tcase, deadline_without_the_loop, 0, 3);
	tcase_add_test(tcase, deadline_on_a_manual_clock);
	tcase_add_test(tcase, who_may_wait);

	tcase = support_case(suite, "stress");
	tcase_add_loop_test(tcase, bazaars, 0, 32);
	tcase_add_loop_test(tcase, transfer_against_death, 0, 2);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(wait_suite());
}
