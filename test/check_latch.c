/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Latches: counting, waiters on loops in each of their states, threads that wait, what
 * is refused while waiters are released, closing loops, freeing, races, and failing
 * system calls.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "rival.h"

#include "run/ctx.h"

#define START_NS INT64_C(1000000000)

/* A waiter that records what happens to it. */
struct guest {
	struct evwork_latch_waiter waiter;
	struct evwork_latch *latch;
	int calls, status, order;
	pthread_t thread;
	void (*on)(struct guest *guest);   /* called last in the callback, may be NULL */
	void *arg;
	int rc;                            /* for on */
};

static void guest_released(struct evwork_latch_waiter *waiter, int status)
{
	struct guest *guest = EVWORK_CONTAINER(waiter, struct guest, waiter);

	guest->calls++;
	guest->status = status;
	guest->order = atomic_fetch_add(&probe_done_counter, 1) + 1;
	guest->thread = pthread_self();
	if (guest->on)
		guest->on(guest);
}

static void guest_init(struct guest *guest, struct evwork_latch *latch)
{
	memset(guest, 0, sizeof(*guest));
	evwork_latch_waiter_init(&guest->waiter, guest_released);
	guest->latch = latch;
	guest->status = guest->rc = 1;
}

/* A world with a latch and some guests. */
struct inn {
	struct world world;
	struct evwork_latch *latch;
	struct guest guests[4];
};

static void inn_furnish(struct inn *inn, int64_t count)
{
	int i;

	ck_assert_int_eq(evwork_latch_new(&inn->latch), 0);
	ck_assert_int_eq(evwork_latch_add(inn->latch, count), 0);
	for (i = 0; i < 4; i++)
		guest_init(&inn->guests[i], inn->latch);
}

static void inn_open(struct inn *inn, int64_t count)
{
	memset(inn, 0, sizeof(*inn));
	world_open(&inn->world, 1);
	inn_furnish(inn, count);
}

static void inn_close(struct inn *inn)
{
	ck_assert_int_eq(evwork_latch_free(inn->latch), 0);
	world_run(&inn->world);
	world_close(&inn->world);
}

static int after(struct inn *inn, int i)
{
	return evwork_latch_after(inn->latch, inn->world.loop, &inn->guests[i].waiter);
}

/* The first n guests wait. */
static void await_zero(struct inn *inn, int n)
{
	int i;

	for (i = 0; i < n; i++)
		ck_assert_int_eq(after(inn, i), 0);
}

static int stop(struct inn *inn, int i)
{
	return evwork_latch_stop(&inn->guests[i].waiter);
}

static void add(struct inn *inn, int64_t delta)
{
	ck_assert_int_eq(evwork_latch_add(inn->latch, delta), 0);
}

static void expect_calls(const struct inn *inn, int i, int calls, int status)
{
	ck_assert_int_eq(inn->guests[i].calls, calls);
	ck_assert_int_eq(inn->guests[i].status, status);
}

/* The count. */

/* What makes no sense is refused; NULL has a count of 0 and can be freed. */
START_TEST(malformed)
{
	struct evwork_latch_waiter without;
	struct inn inn;

	inn_open(&inn, 0);
	evwork_latch_waiter_init(&without, NULL);
	ck_assert_int_eq(evwork_latch_new(NULL), -EINVAL);
	ck_assert_int_eq(evwork_latch_add(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_latch_count(NULL), 0);
	ck_assert_int_eq(evwork_latch_after(NULL, inn.world.loop, &inn.guests[0].waiter), -EINVAL);
	ck_assert_int_eq(evwork_latch_after(inn.latch, NULL, &inn.guests[0].waiter), -EINVAL);
	ck_assert_int_eq(evwork_latch_after(inn.latch, inn.world.loop, NULL), -EINVAL);
	ck_assert_int_eq(evwork_latch_after(inn.latch, inn.world.loop, &without), -EINVAL);
	ck_assert_int_eq(evwork_latch_stop(NULL), -EINVAL);
	ck_assert_int_eq(evwork_latch_wait(NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_latch_free(NULL), 0);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 0, 0, 1);
	ck_assert_int_eq(stop(&inn, 0), 0);
	inn_close(&inn);
}
END_TEST

/* The count starts at 0; a sum below zero or one that does not fit is refused and
 * leaves it as it was (S-GRP-20). */
START_TEST(counting)
{
	struct inn inn;

	inn_open(&inn, 0);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 0);
	add(&inn, 0);
	ck_assert_int_eq(evwork_latch_add(inn.latch, -1), -EINVAL);
	ck_assert_int_eq(evwork_latch_add(inn.latch, INT64_MIN), -EINVAL);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 0);
	add(&inn, 3);
	ck_assert_int_eq(evwork_latch_add(inn.latch, -4), -EINVAL);
	ck_assert_int_eq(evwork_latch_add(inn.latch, INT64_MIN), -EINVAL);
	ck_assert_int_eq(evwork_latch_add(inn.latch, INT64_MAX), -ERANGE);
	ck_assert_int_eq(evwork_latch_add(inn.latch, INT64_MAX - 2), -ERANGE);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 3);
	add(&inn, INT64_MAX - 3);
	ck_assert_int_eq(evwork_latch_count(inn.latch), INT64_MAX);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -ERANGE);
	add(&inn, 0);
	add(&inn, -INT64_MAX + 2);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 2);
	add(&inn, -2);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 0);
	inn_close(&inn);
}
END_TEST

/* Waiters on loops. */

/* At zero a waiter is called in the next turn, on its loop, never inside the call, and
 * dispatch does not return before (S-GRP-20). */
START_TEST(waiting_at_zero)
{
	struct inn inn;
	int i;

	inn_open(&inn, 0);
	await_zero(&inn, 3);
	ck_assert_int_eq(inn.guests[0].calls, 0);
	if (_i == 0)
		world_turns(&inn.world, 1);
	else
		world_run(&inn.world);
	for (i = 0; i < 3; i++) {
		expect_calls(&inn, i, 1, 0);
		ck_assert_int_eq(inn.guests[i].order, i + 1);
		ck_assert(pthread_equal(inn.guests[i].thread, pthread_self()));
	}
	expect_calls(&inn, 3, 0, 1);
	world_turns(&inn.world, 3);
	expect_calls(&inn, 0, 1, 0);
	inn_close(&inn);
}
END_TEST

/* Nobody is called before zero; then each waiter once, in the order in which they came,
 * in a later turn; what the count does afterwards is nothing to them (S-GRP-20). */
START_TEST(released_once)
{
	struct inn inn;
	int i;

	inn_open(&inn, 2);
	await_zero(&inn, 4);
	add(&inn, 1);
	add(&inn, -2);
	world_turns(&inn.world, 3);
	ck_assert_int_eq(evwork_latch_add(inn.latch, -2), -EINVAL);
	world_turns(&inn.world, 3);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(inn.guests[i].calls, 0);
	add(&inn, -1);
	ck_assert_int_eq(inn.guests[0].calls, 0);
	world_turns(&inn.world, 1);
	for (i = 0; i < 4; i++) {
		expect_calls(&inn, i, 1, 0);
		ck_assert_int_eq(inn.guests[i].order, i + 1);
	}
	add(&inn, 1);
	add(&inn, -1);
	world_turns(&inn.world, 3);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(inn.guests[i].calls, 1);
	inn_close(&inn);
}
END_TEST

/* A waiter may wait again, round after round, and each time is called once. */
START_TEST(round_after_round)
{
	struct inn inn;
	int round;

	inn_open(&inn, 0);
	for (round = 1; round <= 100; round++) {
		add(&inn, 1 + round % 3);
		await_zero(&inn, round % 5);
		world_turns(&inn.world, 1);
		ck_assert_int_eq(inn.guests[3].calls, round / 5);
		add(&inn, -1 - round % 3);
		world_turns(&inn.world, 1);
		ck_assert_int_eq(inn.guests[3].calls, round / 5 + (round % 5 == 4));
	}
	ck_assert_int_eq(inn.guests[0].calls, 80);
	inn_close(&inn);
}
END_TEST

static void wait_again(struct guest *guest)
{
	struct inn *inn = guest->arg;

	guest->on = NULL;
	guest->rc = evwork_latch_after(guest->latch, inn->world.loop, &guest->waiter);
	if (guest->calls != 1 || after(inn, 0) != -EBUSY)
		guest->rc = 1;
}

/* A pending waiter is not taken twice, neither before zero nor between zero and its
 * callback, and not by another latch; in its callback it is free again. */
START_TEST(pending_waiter_is_busy)
{
	struct evwork_latch *other;
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_latch_new(&other), 0);
	inn.guests[0].on = wait_again;
	inn.guests[0].arg = &inn;
	await_zero(&inn, 1);
	ck_assert_int_eq(after(&inn, 0), -EBUSY);
	ck_assert_int_eq(evwork_latch_after(other, inn.world.loop, &inn.guests[0].waiter), -EBUSY);
	add(&inn, -1);
	ck_assert_int_eq(after(&inn, 0), -EBUSY);
	world_turns(&inn.world, 3);
	ck_assert_int_eq(inn.guests[0].rc, 0);
	expect_calls(&inn, 0, 2, 0);
	ck_assert_int_eq(evwork_latch_free(other), 0);
	inn_close(&inn);
}
END_TEST

/* A waiter does not keep its loop alive, but keeps it from being freed; a callback that
 * is to come does keep it alive. */
START_TEST(liveness)
{
	struct inn inn;

	inn_open(&inn, 1);
	await_zero(&inn, 1);
	world_run(&inn.world);
	expect_calls(&inn, 0, 0, 1);
	ck_assert_int_eq(evwork_loop_free(inn.world.loop), -EBUSY);
	add(&inn, -1);
	ck_assert_int_eq(evwork_loop_free(inn.world.loop), -EBUSY);
	world_run(&inn.world);
	expect_calls(&inn, 0, 1, 0);
	inn_close(&inn);
}
END_TEST

/* What another thread does to a latch. */
struct errand {
	struct inn *inn;
	int64_t delta;
	int rc;
};

static void add_elsewhere(void *arg)
{
	struct errand *errand = arg;

	errand->rc = evwork_latch_add(errand->inn->latch, errand->delta);
}

static void after_elsewhere(void *arg)
{
	struct errand *errand = arg;

	errand->rc = after(errand->inn, 0);
}

static void stop_elsewhere(void *arg)
{
	struct errand *errand = arg;

	errand->rc = stop(errand->inn, 0);
}

static void add_in_work(struct probe *probe)
{
	add_elsewhere(probe->arg);
}

static void after_in_work(struct probe *probe)
{
	after_elsewhere(probe->arg);
}

/* Other threads and work add, and set waiters; these are called on their loop. */
START_TEST(from_any_thread)
{
	struct inn inn;
	struct errand errand = { .inn = &inn, .delta = -1, .rc = 1 };
	struct probe probe;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_loop_hold(inn.world.loop), 0);
	probe_init(&probe, 0);
	probe.arg = &errand;
	probe.on_run = _i ? after_in_work : add_in_work;
	if (_i == 0)
		support_elsewhere(after_elsewhere, &errand);
	ck_assert_int_eq(errand.rc, _i ? 1 : 0);
	ck_assert_int_eq(evwork_submit(inn.world.loop, &probe.job), 0);
	world_run_until(&inn.world, &probe.dones, 1);
	if (_i) {
		ck_assert_int_eq(errand.rc, 0);
		support_elsewhere(add_elsewhere, &errand);
	}
	ck_assert_int_eq(errand.rc, 0);
	world_run_until(&inn.world, &inn.guests[0].calls, 1);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 0, 1, 0);
	ck_assert(pthread_equal(inn.guests[0].thread, pthread_self()));
	ck_assert_int_eq(evwork_loop_release(inn.world.loop), 0);
	inn_close(&inn);
}
END_TEST

/* While waiters are released. */

/* Between zero and the last callback the count cannot leave zero; nothing else is
 * refused meanwhile (S-GRP-20). */
START_TEST(releasing_is_busy)
{
	struct inn inn;

	inn_open(&inn, 1);
	await_zero(&inn, 2);
	add(&inn, -1);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -EBUSY);
	ck_assert_int_eq(evwork_latch_add(inn.latch, INT64_MAX), -EBUSY);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 0);
	ck_assert_int_eq(evwork_latch_add(inn.latch, -1), -EINVAL);
	add(&inn, 0);
	/* One that comes now is one more to be waited for. */
	ck_assert_int_eq(after(&inn, 2), 0);
	ck_assert_int_eq(stop(&inn, 0), 1);
	ck_assert_int_eq(stop(&inn, 1), 1);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -EBUSY);
	world_turns(&inn.world, 1);
	expect_calls(&inn, 0, 0, 1);
	expect_calls(&inn, 2, 1, 0);
	add(&inn, 1);
	add(&inn, -1);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 2, 1, 0);
	inn_close(&inn);
}
END_TEST

/* Waiters on two loops are each called on their own; the count leaves zero when both
 * are through (S-GRP-20). */
START_TEST(two_loops)
{
	struct world second;
	struct inn inn;

	inn_open(&inn, 1);
	world_open(&second, 1);
	await_zero(&inn, 2);
	ck_assert_int_eq(evwork_latch_after(inn.latch, second.loop, &inn.guests[2].waiter), 0);
	add(&inn, -1);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 0, 1, 0);
	expect_calls(&inn, 1, 1, 0);
	expect_calls(&inn, 2, 0, 1);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -EBUSY);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	world_turns(&second, 2);
	expect_calls(&inn, 2, 1, 0);
	add(&inn, 1);
	world_close(&second);
	inn_close(&inn);
}
END_TEST

static void add_one(struct guest *guest)
{
	guest->rc = evwork_latch_add(guest->latch, 1);
}

/* A waiter counts as released when its callback starts: the last one may begin the next
 * round in it, those before it may not (S-GRP-20). */
START_TEST(add_in_callbacks)
{
	struct inn inn;
	int i;

	inn_open(&inn, 1);
	for (i = 0; i < 3; i++)
		inn.guests[i].on = add_one;
	await_zero(&inn, 3);
	add(&inn, -1);
	world_turns(&inn.world, 1);
	ck_assert_int_eq(inn.guests[0].rc, -EBUSY);
	ck_assert_int_eq(inn.guests[1].rc, -EBUSY);
	ck_assert_int_eq(inn.guests[2].rc, 0);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 1);
	inn_close(&inn);
}
END_TEST

/* Begins a round and waits for its end. */
static void next_round(struct guest *guest)
{
	struct inn *inn = guest->arg;

	guest->on = NULL;
	guest->rc = evwork_latch_add(guest->latch, 5);
	if (guest->rc == 0)
		guest->rc = evwork_latch_after(guest->latch, inn->world.loop, &guest->waiter);
}

/* A callback may begin the next round and wait for its end. */
START_TEST(next_round_in_callback)
{
	struct inn inn;

	inn_open(&inn, 0);
	inn.guests[0].on = next_round;
	inn.guests[0].arg = &inn;
	await_zero(&inn, 1);
	world_turns(&inn.world, 3);
	expect_calls(&inn, 0, 1, 0);
	ck_assert_int_eq(inn.guests[0].rc, 0);
	add(&inn, -5);
	world_turns(&inn.world, 1);
	expect_calls(&inn, 0, 2, 0);
	inn_close(&inn);
}
END_TEST

/* Stopping. */

/* Before a waiter was set, while it waits, between zero and its callback, and after
 * that; a stopped waiter is not called, can be set anew, and is waited for by nobody
 * (S-GRP-20). */
START_TEST(stop_in_each_state)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(stop(&inn, 0), 0);
	await_zero(&inn, 2);
	ck_assert_int_eq(stop(&inn, 0), 1);
	ck_assert_int_eq(stop(&inn, 0), 0);
	ck_assert_int_eq(after(&inn, 0), 0);
	add(&inn, -1);
	ck_assert_int_eq(stop(&inn, 0), 1);
	ck_assert_int_eq(stop(&inn, 0), 0);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 0, 0, 1);
	expect_calls(&inn, 1, 1, 0);
	ck_assert_int_eq(stop(&inn, 1), 0);
	ck_assert_int_eq(after(&inn, 1), 0);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -EBUSY);
	ck_assert_int_eq(stop(&inn, 1), 1);
	add(&inn, 1);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 1, 1, 0);
	inn_close(&inn);
}
END_TEST

static void stop_me_and_next(struct guest *guest)
{
	struct inn *inn = guest->arg;
	struct errand errand = { .inn = inn, .rc = 1 };

	support_elsewhere(stop_elsewhere, &errand);
	guest->rc = errand.rc;
	if (stop(inn, 0) != 0 || stop(inn, 1) != 1)
		guest->rc = 1;
	if (guest->rc == 0)
		guest->rc = evwork_latch_add(guest->latch, 1);
}

/* A running callback cannot be stopped, from inside or by another thread, but that of
 * the next waiter in the same turn can; then none is left to be released. */
START_TEST(stop_in_callback)
{
	struct inn inn;

	inn_open(&inn, 1);
	inn.guests[0].on = stop_me_and_next;
	inn.guests[0].arg = &inn;
	await_zero(&inn, 2);
	add(&inn, -1);
	world_turns(&inn.world, 3);
	expect_calls(&inn, 0, 1, 0);
	expect_calls(&inn, 1, 0, 1);
	ck_assert_int_eq(inn.guests[0].rc, 0);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 1);
	inn_close(&inn);
}
END_TEST

/* Another thread stops, in whatever state. */
START_TEST(stop_from_another_thread)
{
	struct inn inn;
	struct errand errand = { .inn = &inn, .rc = 1 };

	inn_open(&inn, 1);
	await_zero(&inn, 1);
	if (_i)
		add(&inn, -1);
	support_elsewhere(stop_elsewhere, &errand);
	ck_assert_int_eq(errand.rc, 1);
	support_elsewhere(stop_elsewhere, &errand);
	ck_assert_int_eq(errand.rc, 0);
	world_turns(&inn.world, 2);
	expect_calls(&inn, 0, 0, 1);
	inn_close(&inn);
}
END_TEST

/* Closing loops. */

static void on_closed(struct evwork_loop *loop, void *arg)
{
	struct inn *inn = arg;

	(void)loop;
	/* The waiters were before. */
	inn->guests[3].calls = inn->guests[0].calls;
}

/* A loop that closes calls its waiters with -ECANCELED, once, before it is closed, and
 * takes no more; the latch is as before, and the waiters can be set on another loop. */
START_TEST(loop_closes_first)
{
	struct world second;
	struct inn inn;

	inn_open(&inn, 1);
	world_open(&second, 1);
	await_zero(&inn, 2);
	ck_assert_int_eq(evwork_loop_close(inn.world.loop, on_closed, &inn), 0);
	ck_assert_int_eq(after(&inn, 2), -ESHUTDOWN);
	ck_assert_int_eq(stop(&inn, 2), 0);
	world_run(&inn.world);
	expect_calls(&inn, 0, 1, -ECANCELED);
	expect_calls(&inn, 1, 1, -ECANCELED);
	expect_calls(&inn, 2, 0, 1);
	ck_assert_int_eq(inn.guests[3].calls, 1);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 1);
	ck_assert_int_eq(stop(&inn, 0), 0);
	ck_assert_int_eq(after(&inn, 0), -ESHUTDOWN);
	ck_assert_int_eq(evwork_latch_after(inn.latch, second.loop, &inn.guests[0].waiter), 0);
	ck_assert_int_eq(evwork_latch_after(inn.latch, second.loop, &inn.guests[2].waiter), 0);
	add(&inn, -1);
	/* Refused at zero as well, and nothing of it is waited for. */
	ck_assert_int_eq(after(&inn, 1), -ESHUTDOWN);
	world_turns(&second, 2);
	expect_calls(&inn, 0, 2, 0);
	expect_calls(&inn, 2, 1, 0);
	add(&inn, 1);
	world_close(&second);
	inn_close(&inn);
}
END_TEST

/* If zero came before the close, the waiter gets 0. */
START_TEST(zero_comes_first)
{
	struct inn inn;

	inn_open(&inn, 1);
	await_zero(&inn, 1);
	add(&inn, -1);
	ck_assert_int_eq(evwork_loop_close(inn.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	world_run(&inn.world);
	expect_calls(&inn, 0, 1, 0);
	inn_close(&inn);
}
END_TEST

/* A waiter may be stopped when its loop closes and after that is gone. */
START_TEST(stop_and_close)
{
	struct inn inn;

	inn_open(&inn, 1);
	await_zero(&inn, 2);
	ck_assert_int_eq(evwork_loop_close(inn.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(stop(&inn, 0), 1);
	world_run(&inn.world);
	expect_calls(&inn, 0, 0, 1);
	expect_calls(&inn, 1, 1, -ECANCELED);
	world_close(&inn.world);
	ck_assert_int_eq(stop(&inn, 0), 0);
	ck_assert_int_eq(stop(&inn, 1), 0);
	add(&inn, -1);
	ck_assert_int_eq(evwork_latch_free(inn.latch), 0);
}
END_TEST

/* Freeing. */

static void free_latch(struct guest *guest)
{
	guest->rc = evwork_latch_free(guest->latch);
}

/* A latch is not freed while there are waiters or callbacks to come, the first of two
 * included; in the callback of the last it is. */
START_TEST(freeing)
{
	struct inn inn;

	inn_open(&inn, 1);
	inn.guests[0].on = inn.guests[1].on = free_latch;
	await_zero(&inn, 2);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	add(&inn, -1);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	world_turns(&inn.world, 1);
	expect_calls(&inn, 0, 1, 0);
	expect_calls(&inn, 1, 1, 0);
	ck_assert_int_eq(inn.guests[0].rc, -EBUSY);
	ck_assert_int_eq(inn.guests[1].rc, 0);
	inn.latch = NULL;
	inn_close(&inn);
}
END_TEST

/* At any count, and after a round whose waiters have all been stopped. */
START_TEST(freeing_at_any_count)
{
	struct inn inn;

	inn_open(&inn, 7);
	ck_assert_int_eq(evwork_latch_free(inn.latch), 0);
	inn_furnish(&inn, 7);
	await_zero(&inn, 2);
	ck_assert_int_eq(stop(&inn, 0), 1);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	ck_assert_int_eq(stop(&inn, 1), 1);
	inn_close(&inn);
}
END_TEST

/* Threads that wait. */

struct sleeper {
	pthread_t thread;
	struct evwork_latch *latch;
	struct evwork_ctx *ctx;
	int rc;
};

static void *sleep_run(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->rc = evwork_latch_wait(sleeper->latch, sleeper->ctx);
	return NULL;
}

static void sleeper_start(struct sleeper *sleeper, struct inn *inn, struct evwork_ctx *ctx)
{
	*sleeper = (struct sleeper){ .latch = inn->latch, .ctx = ctx, .rc = 1 };
	ck_assert_int_eq(pthread_create(&sleeper->thread, NULL, sleep_run, sleeper), 0);
}

static void sleeper_end(struct sleeper *sleeper, int rc)
{
	ck_assert_int_eq(pthread_join(sleeper->thread, NULL), 0);
	ck_assert_int_eq(sleeper->rc, rc);
}

/* Until n threads wait with this context: each has a hook in it. */
static void await_sleepers(struct evwork_ctx *ctx, int n)
{
	struct ctx_hook *hook;
	int there;

	do {
		there = 0;
		ctx_lock(ctx);
		for (hook = ctx->hooks.head; hook; hook = hook->next)
			there++;
		ctx_unlock(ctx);
		sys_yield();
	} while (there < n);
}

/* All threads that wait return 0 once the count is zero, with the waiters on loops; a
 * latch with threads is not freed (S-GRP-20). */
START_TEST(threads_are_released)
{
	struct sleeper sleepers[4];
	struct evwork_ctx *ctx;
	struct inn inn;
	int i;

	inn_open(&inn, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	for (i = 0; i < 4; i++)
		sleeper_start(&sleepers[i], &inn, i < 3 ? ctx : NULL);
	await_sleepers(ctx, 3);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	await_zero(&inn, 1);
	add(&inn, -1);
	ck_assert_ptr_nonnull(ctx->hooks.head);
	add(&inn, -1);
	for (i = 0; i < 4; i++)
		sleeper_end(&sleepers[i], 0);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -EBUSY);
	world_turns(&inn.world, 1);
	expect_calls(&inn, 0, 1, 0);
	add(&inn, 1);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* A thread that was released and is on its way out is waited for by add and free: it
 * still stands in the lock of its context, which the test holds (S-GRP-20). */
START_TEST(thread_on_its_way_out)
{
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	sleeper_start(&sleeper, &inn, ctx);
	await_sleepers(ctx, 1);
	ctx_lock(ctx);
	add(&inn, -1);
	ck_assert_int_eq(evwork_latch_add(inn.latch, 1), -EBUSY);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	ctx_unlock(ctx);
	sleeper_end(&sleeper, 0);
	add(&inn, 1);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* The death of the context ends the wait with its error, whatever kills it; others wait
 * on, and the count is as before. */
START_TEST(context_dies)
{
	struct sleeper sleeper, other;
	struct evwork_ctx *parent, *ctx, *alive;
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &parent), 0);
	ck_assert_int_eq(evwork_ctx_new(parent, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &alive), 0);
	sleeper_start(&sleeper, &inn, ctx);
	sleeper_start(&other, &inn, alive);
	await_sleepers(ctx, 1);
	await_sleepers(alive, 1);
	ck_assert_int_eq(evwork_ctx_cancel(_i ? parent : ctx, 0), 0);
	sleeper_end(&sleeper, -ECANCELED);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 1);
	ck_assert_ptr_nonnull(alive->hooks.head);
	ck_assert_int_eq(evwork_latch_free(inn.latch), -EBUSY);
	add(&inn, -1);
	sleeper_end(&other, 0);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(parent);
	evwork_ctx_unref(alive);
	inn_close(&inn);
}
END_TEST

/* So does a deadline, on a manual clock when that has been moved there. */
START_TEST(deadline_on_a_manual_clock)
{
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	struct inn inn;

	memset(&inn, 0, sizeof(inn));
	world_open_manual(&inn.world, 1, START_NS);
	inn_furnish(&inn, 1);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, inn.world.loop, 10, 0, &ctx), 0);
	sleeper_start(&sleeper, &inn, ctx);
	await_sleepers(ctx, 1);
	ck_assert_int_eq(evwork_clock_advance(inn.world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	world_turns(&inn.world, 3);
	ck_assert_ptr_nonnull(ctx->hooks.head);
	ck_assert_int_eq(evwork_clock_advance(inn.world.clock, 1), 0);
	world_turns(&inn.world, 3);
	sleeper_end(&sleeper, -ETIMEDOUT);
	ck_assert_int_eq(evwork_latch_count(inn.latch), 1);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* On the system's clock it holds although the loop that has its timer does not run. */
START_TEST(deadline_without_the_loop)
{
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, inn.world.loop, 5, 0, &ctx), 0);
	sleeper_start(&sleeper, &inn, ctx);
	sleeper_end(&sleeper, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* A context that is dead before ends the wait at once, unless the count is zero: then
 * that is what counts. */
START_TEST(dead_context)
{
	struct sleeper sleeper;
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(_i ? evwork_ctx_with_timeout(NULL, NULL, -1, 0, &ctx) :
		evwork_ctx_new(NULL, &ctx), 0);
	evwork_ctx_cancel(ctx, 0);
	sleeper_start(&sleeper, &inn, ctx);
	sleeper_end(&sleeper, _i ? -ETIMEDOUT : -ECANCELED);
	add(&inn, -1);
	sleeper_start(&sleeper, &inn, ctx);
	sleeper_end(&sleeper, 0);
	sleeper_start(&sleeper, &inn, NULL);
	sleeper_end(&sleeper, 0);
	add(&inn, 1);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

static void wait_in_work(struct probe *probe)
{
	struct sleeper *sleeper = probe->arg;

	sleeper->rc = evwork_latch_wait(sleeper->latch, sleeper->ctx);
}

/* A thread with a loop may not wait, be the count zero or not; a worker may. */
START_TEST(who_may_wait)
{
	struct sleeper sleeper = { .rc = 1 };
	struct probe probe;
	struct inn inn;

	inn_open(&inn, 0);
	ck_assert_int_eq(evwork_latch_wait(inn.latch, NULL), -EDEADLK);
	add(&inn, 1);
	ck_assert_int_eq(evwork_latch_wait(inn.latch, NULL), -EDEADLK);
	ck_assert_int_eq(evwork_ctx_new(NULL, &sleeper.ctx), 0);
	sleeper.latch = inn.latch;
	probe_init(&probe, 0);
	probe.on_run = wait_in_work;
	probe.arg = &sleeper;
	ck_assert_int_eq(evwork_submit(inn.world.loop, &probe.job), 0);
	await_sleepers(sleeper.ctx, 1);
	add(&inn, -1);
	world_run(&inn.world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(sleeper.rc, 0);
	evwork_ctx_unref(sleeper.ctx);
	inn_close(&inn);
}
END_TEST

/* Races, and what each does before is left to chance. */

/* What a round of all against all has: guest 0 is the test's, 1 that of a rival, both on
 * the test's loop, and 2 that of a rival with a loop of its own. */
struct melee {
	struct inn inn;
	int add_rc, wait_rc, after_rc, host_rc;
	bool stopped[3];
};

static void melee_add(void *arg)
{
	struct melee *melee = arg;

	melee->add_rc = evwork_latch_add(melee->inn.latch, -1);
}

static void melee_wait(void *arg)
{
	struct melee *melee = arg;

	melee->wait_rc = evwork_latch_wait(melee->inn.latch, NULL);
}

static void melee_set(void *arg)
{
	struct melee *melee = arg;

	melee->after_rc = after(&melee->inn, 1);
	dawdle();
	melee->stopped[1] = chance(3) == 0 && stop(&melee->inn, 1) == 1;
}

/* The loop ends with the round, right after its callback. */
static void melee_host(void *arg)
{
	struct melee *melee = arg;
	struct guest *guest = &melee->inn.guests[2];
	struct event_base *base = event_base_new();
	struct evwork_loop *loop;

	melee->host_rc = evwork_loop_new(base, NULL, NULL, &loop);
	if (melee->host_rc)
		return;
	evwork_loop_hold(loop);
	melee->host_rc = evwork_latch_after(melee->inn.latch, loop, &guest->waiter);
	melee->stopped[2] = chance(4) == 0 && evwork_latch_stop(&guest->waiter) == 1;
	while (!melee->stopped[2] && !guest->calls) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		sys_yield();
	}
	evwork_loop_release(loop);
	if (evwork_loop_free(loop) != 0)
		melee->host_rc = -1;
	event_base_free(base);
}

/* Turns of the test's loop until the rivals are through and the guests gone. */
static void melee_settle(struct melee *melee, struct rival *rivals, int n, int round)
{
	bool over;
	int i;

	do {
		expect(event_base_loop(melee->inn.world.base, EVLOOP_NONBLOCK) >= 0, "%d", round);
		sys_yield();
		over = rivals_finished(rivals, n, round);
		for (i = 0; over && i < 2; i++)
			over = melee->stopped[i] || melee->inn.guests[i].calls;
	} while (!over);
}

static void melee_check(const struct melee *melee, int round)
{
	int i;

	expect(melee->add_rc == 0 && melee->wait_rc == 0 && melee->after_rc == 0 &&
		melee->host_rc == 0, "%d, %d, %d, %d in round %d", melee->add_rc, melee->wait_rc,
		melee->after_rc, melee->host_rc, round);
	for (i = 0; i < 3; i++)
		expect(melee->inn.guests[i].calls == !melee->stopped[i] &&
			melee->inn.guests[i].status == melee->stopped[i],
			"guest %d: %d calls, stopped %d in round %d", i,
			melee->inn.guests[i].calls, melee->stopped[i], round);
}

/* The count comes to zero while others set waiters, stop them and wait, on several
 * threads and loops: each is released once, or was stopped, and then the count may
 * leave zero at once (S-GRP-20). */
START_TEST(all_at_once)
{
	static struct melee melee;
	struct rival rivals[4];
	int rounds = scaled(20000), round, i;

	inn_open(&melee.inn, 0);
	ck_assert_int_eq(evwork_loop_hold(melee.inn.world.loop), 0);
	chance_seed(0);
	rival_start(&rivals[0], melee_add, &melee, 1);
	rival_start(&rivals[1], melee_wait, &melee, 2);
	rival_start(&rivals[2], melee_set, &melee, 3);
	rival_start(&rivals[3], melee_host, &melee, 4);
	for (round = 1; round <= rounds; round++) {
		for (i = 0; i < 3; i++) {
			guest_init(&melee.inn.guests[i], melee.inn.latch);
			melee.stopped[i] = false;
		}
		i = evwork_latch_add(melee.inn.latch, 1);
		expect(i == 0, "%d in round %d", i, round);
		rivals_go(rivals, 4, round);
		dawdle();
		i = after(&melee.inn, 0);
		expect(i == 0, "%d in round %d", i, round);
		melee.stopped[0] = chance(3) == 0 && stop(&melee.inn, 0) == 1;
		melee_settle(&melee, rivals, 4, round);
		melee_check(&melee, round);
	}
	rivals_end(rivals, 4);
	ck_assert_int_eq(evwork_loop_release(melee.inn.world.loop), 0);
	inn_close(&melee.inn);
}
END_TEST

/* The waiter's callback frees the latch, while the add that released it may not have
 * returned. */
START_TEST(freed_behind_add)
{
	static struct melee melee;
	struct rival rival;
	int rounds = scaled(20000), round;

	inn_open(&melee.inn, 0);
	ck_assert_int_eq(evwork_latch_free(melee.inn.latch), 0);
	ck_assert_int_eq(evwork_loop_hold(melee.inn.world.loop), 0);
	chance_seed(0);
	rival_start(&rival, melee_add, &melee, 5);
	for (round = 1; round <= rounds; round++) {
		struct guest *guest = &melee.inn.guests[0];

		expect(evwork_latch_new(&melee.inn.latch) == 0, "%d", round);
		guest_init(guest, melee.inn.latch);
		guest->on = free_latch;
		expect(evwork_latch_add(melee.inn.latch, 1) == 0, "%d", round);
		expect(after(&melee.inn, 0) == 0, "%d", round);
		rival_go(&rival, round);
		while (!guest->calls || !rival_finished(&rival, round)) {
			expect(event_base_loop(melee.inn.world.base, EVLOOP_NONBLOCK) >= 0, "%d",
				round);
			sys_yield();
		}
		expect(guest->calls == 1 && guest->status == 0 && guest->rc == 0 &&
			melee.add_rc == 0, "%d calls, %d, %d, %d in round %d", guest->calls,
			guest->status, guest->rc, melee.add_rc, round);
	}
	rival_end(&rival);
	ck_assert_int_eq(evwork_loop_release(melee.inn.world.loop), 0);
	melee.inn.latch = NULL;
	inn_close(&melee.inn);
}
END_TEST

/* A thread that waits, and the context it waits with. */
static void duel_wait(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->rc = evwork_latch_wait(sleeper->latch, sleeper->ctx);
}

static void duel_cancel(void *arg)
{
	struct sleeper *sleeper = arg;

	evwork_ctx_cancel(sleeper->ctx, 0);
}

/* Zero and the death of the context come together: the thread returns once, with one or
 * the other, and leaves nothing that would keep the count at zero or the latch from
 * being freed (S-GRP-20). */
START_TEST(zero_against_death)
{
	struct sleeper sleeper = { .rc = 1 };
	struct rival waits, cancels;
	int rounds = scaled(20000), round, zeros = 0, i;

	chance_seed(0);
	rival_start(&waits, duel_wait, &sleeper, 6);
	rival_start(&cancels, duel_cancel, &sleeper, 7);
	for (round = 1; round <= rounds; round++) {
		expect(evwork_latch_new(&sleeper.latch) == 0, "%d", round);
		expect(evwork_latch_add(sleeper.latch, 1) == 0, "%d", round);
		expect(evwork_ctx_new(NULL, &sleeper.ctx) == 0, "%d", round);
		rival_go(&waits, round);
		if (chance(2))
			await_sleepers(sleeper.ctx, 1);
		rival_go(&cancels, round);
		for (i = chance(4); i > 0; i--)
			sys_yield();
		dawdle();
		expect(evwork_latch_add(sleeper.latch, -1) == 0, "%d", round);
		while (!rival_finished(&waits, round) || !rival_finished(&cancels, round))
			sys_yield();
		expect(sleeper.rc == 0 || sleeper.rc == -ECANCELED, "%d in round %d", sleeper.rc,
			round);
		zeros += sleeper.rc == 0;
		expect(evwork_latch_add(sleeper.latch, 1) == 0, "%d", round);
		expect(evwork_latch_free(sleeper.latch) == 0, "%d", round);
		evwork_ctx_unref(sleeper.ctx);
	}
	rival_end(&waits);
	rival_end(&cancels);
	support_note("%d of %d rounds ended at zero", zeros, rounds);
}
END_TEST

/* When the system fails. */

/* A waiter was set, or for want of memory was not: then it is as before. */
static int sweep_after(struct inn *inn, int i, int k)
{
	int rc = after(inn, i);

	expect(rc == 0 || rc == -ENOMEM, "%d at call %d", rc, k);
	if (rc)
		expect(stop(inn, i) == 0, "call %d", k);
	return rc == 0;
}

/* One round, on a latch that could be made. */
static void sweep_round(struct inn *inn, int k)
{
	struct sleeper sleeper;
	int set[3], i;

	for (i = 0; i < 4; i++)
		guest_init(&inn->guests[i], inn->latch);
	expect(evwork_latch_add(inn->latch, 1) == 0, "call %d", k);
	sleeper_start(&sleeper, inn, NULL);
	for (i = 0; i < 3; i++)
		set[i] = sweep_after(inn, i, k);
	expect(stop(inn, 1) == set[1], "call %d", k);
	expect(evwork_latch_add(inn->latch, -1) == 0, "call %d", k);
	sleeper_end(&sleeper, 0);
	set[1] = sweep_after(inn, 1, k);
	world_turns(&inn->world, 2);
	for (i = 0; i < 3; i++)
		expect(inn->guests[i].calls == set[i], "guest %d: %d calls at call %d", i,
			inn->guests[i].calls, k);
	expect(evwork_latch_add(inn->latch, 1) == 0, "call %d", k);
	expect(evwork_latch_free(inn->latch) == 0, "call %d", k);
}

/* With each call to the system failing, alone or with all that follow it, a latch is
 * made or not, a waiter set or not; all else works, each waiter that was set is called
 * once, and nothing is left. */
START_TEST(when_the_system_fails)
{
	struct inn inn;
	size_t blocks;
	int kind, k, onwards, rc, calls[SYS_CALLS + 1] = { 0 };

	memset(&inn, 0, sizeof(inn));
	world_open(&inn.world, 1);
	blocks = sys_blocks();
	for (kind = 0; kind <= SYS_CALLS; kind++) {
		for (onwards = 0; onwards < 2; onwards++) {
			k = 0;
			do {
				inn.latch = NULL;
				fault_start((enum sys_call)kind, ++k, onwards);
				rc = evwork_latch_new(&inn.latch);
				expect(rc == 0 || (rc == -ENOMEM && !inn.latch), "%d at %d", rc, k);
				if (rc == 0)
					sweep_round(&inn, k);
				rc = fault_stop();
				expect(sys_blocks() == blocks, "call %d of kind %d: %zu blocks, "
					"then %zu", k, kind, blocks, sys_blocks());
			} while (rc >= k);
			calls[kind] = k - 1;
		}
	}
	ck_assert_int_ge(calls[SYS_MEMORY], 4);
	ck_assert_int_ge(calls[SYS_LOCK], 3);
	support_note("%d allocations, %d locks failed", calls[SYS_MEMORY], calls[SYS_LOCK]);
	inn.latch = NULL;
	inn_close(&inn);
}
END_TEST

static void add_waiters(Suite *suite)
{
	TCase *tcase = support_case(suite, "waiters");

	tcase_add_loop_test(tcase, waiting_at_zero, 0, 2);
	tcase_add_test(tcase, released_once);
	tcase_add_test(tcase, round_after_round);
	tcase_add_test(tcase, pending_waiter_is_busy);
	tcase_add_test(tcase, liveness);
	tcase_add_loop_test(tcase, from_any_thread, 0, 2);
	tcase_add_test(tcase, releasing_is_busy);
	tcase_add_test(tcase, two_loops);
	tcase_add_test(tcase, add_in_callbacks);
	tcase_add_test(tcase, next_round_in_callback);

	tcase = support_case(suite, "ends");
	tcase_add_test(tcase, stop_in_each_state);
	tcase_add_test(tcase, stop_in_callback);
	tcase_add_loop_test(tcase, stop_from_another_thread, 0, 2);
	tcase_add_test(tcase, loop_closes_first);
	tcase_add_test(tcase, zero_comes_first);
	tcase_add_test(tcase, stop_and_close);
	tcase_add_test(tcase, freeing);
	tcase_add_test(tcase, freeing_at_any_count);
}

static Suite *latch_suite(void)
{
	Suite *suite = suite_create("latch");
	TCase *tcase = support_case(suite, "count");

	tcase_add_test(tcase, malformed);
	tcase_add_test(tcase, counting);

	add_waiters(suite);

	tcase = support_case(suite, "threads");
	tcase_add_test(tcase, threads_are_released);
	tcase_add_test(tcase, thread_on_its_way_out);
	tcase_add_loop_test(tcase, context_dies, 0, 2);
	tcase_add_test(tcase, deadline_on_a_manual_clock);
	tcase_add_test(tcase, deadline_without_the_loop);
	tcase_add_loop_test(tcase, dead_context, 0, 2);
	tcase_add_test(tcase, who_may_wait);

	tcase = support_case(suite, "races");
	tcase_add_test(tcase, all_at_once);
	tcase_add_test(tcase, freed_behind_add);
	tcase_add_test(tcase, zero_against_death);

	tcase = support_case(suite, "failures");
	tcase_add_test(tcase, when_the_system_fails);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(latch_suite());
}
