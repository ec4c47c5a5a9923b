/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels: waits that call back. When and where they are called, taking them back,
 * contexts, loops that close or are freed by force, forks, and all of it at once.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"



/* Exit statuses have 8 bits. */
#define WRONG(what) do { if (what) _exit(1 + __LINE__ % 250); } while (0)

struct inn {
	struct world world;
	struct evwork_chan *chan;
	struct party parties[4];
};

static void inn_open(struct inn *inn, size_t capacity)
{
	int i;

	memset(inn, 0, sizeof(*inn));
	world_open(&inn->world, 1);
	inn->chan = chan_of(capacity);
	for (i = 0; i < 4; i++)
		party_init(&inn->parties[i]);
}

static void inn_close(struct inn *inn)
{
	chan_end(inn->chan);
	world_run(&inn->world);
	world_close(&inn->world);
}

static int park_send(struct inn *inn, int i, int64_t value, struct evwork_ctx *ctx)
{
	return party_send(&inn->parties[i], inn->chan, value, ctx, inn->world.loop);
}

static int park_receive(struct inn *inn, int i, struct evwork_ctx *ctx)
{
	return party_recv(&inn->parties[i], inn->chan, ctx, inn->world.loop);
}

static int take_back(struct inn *inn, int i)
{
	return evwork_chan_stop(&inn->parties[i].waiter);
}

/* What is ready is committed in the call, and called back in a later turn, once, on the
 * waiter's loop; dispatch waits for that (S-CHAN-5, S-GEN-2, -3). */
START_TEST(ready_at_once)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(park_send(&inn, 0, 7, NULL), 0);
	ck_assert_uint_eq(chan_stats_of(inn.chan).length, 1);
	ck_assert_int_eq(park_receive(&inn, 1, NULL), 0);
	ck_assert_uint_eq(chan_stats_of(inn.chan).length, 0);
	expect_party(&inn.parties[0], 0, 99);
	expect_party(&inn.parties[1], 0, 99);
	world_run(&inn.world);
	expect_party(&inn.parties[0], 1, 0);
	expect_party(&inn.parties[1], 1, 1);
	ck_assert_int_eq((int)inn.parties[1].value, 7);
	ck_assert(pthread_equal(inn.parties[1].thread, pthread_self()));
	world_turns(&inn.world, 3);
	expect_party(&inn.parties[1], 1, 1);
	inn_close(&inn);
}
END_TEST

/* The end of the stream and -EPIPE come by the callback (S-CHAN-5, -8, -9). */
START_TEST(ended_at_once)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_chan_close(inn.chan), 0);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	ck_assert_int_eq(park_send(&inn, 1, 1, NULL), 0);
	expect_party(&inn.parties[0], 0, 99);
	world_run(&inn.world);
	expect_party(&inn.parties[0], 1, 0);
	expect_party(&inn.parties[1], 1, -EPIPE);
	inn_close(&inn);
}
END_TEST

/* A parked wait does not keep its loop alive, but keeps it and its end from being freed. */
START_TEST(liveness)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	world_run(&inn.world);
	expect_party(&inn.parties[0], 0, 99);
	ck_assert_int_eq(evwork_loop_free(inn.world.loop), -EBUSY);
	ck_assert_int_eq(evwork_chan_free(inn.chan), -EBUSY);
	ck_assert_int_eq(try_send(inn.chan, 1), 0);
	ck_assert_int_eq(evwork_loop_free(inn.world.loop), -EBUSY);
	world_run(&inn.world);
	expect_party(&inn.parties[0], 1, 1);
	inn_close(&inn);
}
END_TEST

static void use_again(struct party *party)
{
	struct inn *inn = party->arg;

	party->on = NULL;
	party->rc = evwork_chan_stop(&party->waiter);
	if (party_recv(party, inn->chan, NULL, inn->world.loop) != 0 ||
	    party_recv(party, inn->chan, NULL, inn->world.loop) != -EBUSY)
		party->rc = 1;
}

/* A pending waiter is refused; in its callback it is the caller's again, and idle ones give
 * -ESRCH, however often they were used (S-GEN-7). */
START_TEST(struct_is_the_callers_again)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(take_back(&inn, 0), -ESRCH);
	inn.parties[0].on = use_again;
	inn.parties[0].arg = &inn;
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), -EBUSY);
	ck_assert_int_eq(park_send(&inn, 0, 1, NULL), -EBUSY);
	ck_assert_int_eq(try_send(inn.chan, 1), 0);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), -EBUSY);
	world_turns(&inn.world, 2);
	ck_assert_int_eq(inn.parties[0].rc, -ESRCH);
	expect_party(&inn.parties[0], 1, 1);
	ck_assert_int_eq(try_send(inn.chan, 2), 0);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 2, 1);
	ck_assert_int_eq(take_back(&inn, 0), -ESRCH);
	inn_close(&inn);
}
END_TEST

/* A wait that is taken back gets no value and no callback, and those behind it lose
 * nothing; one that was served cannot be taken back. */
START_TEST(stopping)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(evwork_chan_stop(NULL), -EINVAL);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	ck_assert_int_eq(park_receive(&inn, 1, NULL), 0);
	ck_assert_int_eq(take_back(&inn, 0), 0);
	ck_assert_int_eq(take_back(&inn, 0), -ESRCH);
	ck_assert_int_eq(try_send(inn.chan, 3), 0);
	ck_assert_int_eq(take_back(&inn, 1), -EALREADY);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 0, 99);
	expect_party(&inn.parties[1], 1, 1);
	ck_assert_int_eq((int)inn.parties[1].value, 3);

	ck_assert_int_eq(park_send(&inn, 0, 4, NULL), 0);
	ck_assert_int_eq(take_back(&inn, 0), -EALREADY);
	ck_assert_int_eq(park_send(&inn, 1, 5, NULL), 0);
	ck_assert_int_eq(take_back(&inn, 1), 0);
	ck_assert_int_eq((int)try_recv(inn.chan), 4);
	ck_assert_int_eq((int)try_recv(inn.chan), -EAGAIN);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 1, 0);
	expect_party(&inn.parties[1], 1, 1);
	inn_close(&inn);
}
END_TEST

static void stop_elsewhere(void *arg)
{
	struct inn *inn = arg;

	inn->parties[0].rc = take_back(inn, 0);
}

/* Only on its loop. */
START_TEST(stopping_elsewhere)
{
	struct inn inn;

	inn_open(&inn, 1);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	support_elsewhere(stop_elsewhere, &inn);
	ck_assert_int_eq(inn.parties[0].rc, -EPERM);
	ck_assert_int_eq(take_back(&inn, 0), 0);
	inn_close(&inn);
}
END_TEST

/* A context that dies ends its waits, in a later turn, in their order; a value that comes
 * after that is for those behind (S-CHAN-7). One of them can still be stopped. */
START_TEST(context_dies)
{
	struct evwork_ctx *ctx;
	struct inn inn;
	int i;

	inn_open(&inn, 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(park_receive(&inn, i, i == 3 ? NULL : ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	expect_party(&inn.parties[0], 0, 99);
	ck_assert_int_eq(take_back(&inn, 1), 0);
	ck_assert_int_eq(try_send(inn.chan, 6), 0);
	ck_assert_int_eq(try_send(inn.chan, 7), -EAGAIN);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 1, -ECANCELED);
	expect_party(&inn.parties[1], 0, 99);
	expect_party(&inn.parties[2], 1, -ECANCELED);
	expect_party(&inn.parties[3], 1, 1);
	ck_assert_int_eq((int)inn.parties[3].value, 6);
	ck_assert_int_lt(inn.parties[0].order, inn.parties[2].order);
	ck_assert_int_eq(park_receive(&inn, 0, ctx), -ECANCELED);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* A transfer that was committed before the death of the context stands (S-CHAN-7). */
START_TEST(transfer_comes_first)
{
	struct evwork_ctx *ctx;
	struct inn inn;

	inn_open(&inn, 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(park_receive(&inn, 0, ctx), 0);
	ck_assert_int_eq(try_send(inn.chan, 6), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	/* The waiter holds the context. */
	evwork_ctx_unref(ctx);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 1, 1);
	inn_close(&inn);
}
END_TEST

/* From its deadline on a wait is not served, even if its loop does not run (S-CHAN-7). */
START_TEST(deadline_passes)
{
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	struct party party;
	struct world world;

	world_open_manual(&world, 1, 1000);
	chan = chan_of(1);
	party_init(&party);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 1, 0, &ctx), 0);
	ck_assert_int_eq(party_recv(&party, chan, ctx, world.loop), 0);
	ck_assert_int_eq(evwork_clock_jump(world.clock, SYS_NS_PER_MS), 0);
	ck_assert_int_eq(try_send(chan, 1), 0);
	world_turns(&world, 3);
	expect_party(&party, 1, -ETIMEDOUT);
	ck_assert_int_eq((int)try_recv(chan), 1);
	chan_end(chan);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

static void on_closed(struct evwork_loop *loop, void *arg)
{
	int *order = arg;

	(void)loop;
	*order = atomic_fetch_add(&probe_done_counter, 1) + 1;
}

/* A loop that closes ends its waits with -ECANCELED, in order of registration, before its
 * closed callback (S-SHUT-7); what was transferred before stands. Then it takes no more. */
START_TEST(loop_closes)
{
	struct inn inn;
	int closed = 0, i;

	inn_open(&inn, 0);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(park_receive(&inn, i, NULL), 0);
	ck_assert_int_eq(try_send(inn.chan, 5), 0);
	ck_assert_int_eq(evwork_loop_close(inn.world.loop, on_closed, &closed), 0);
	ck_assert_int_eq(park_receive(&inn, 3, NULL), -ESHUTDOWN);
	world_run(&inn.world);
	expect_party(&inn.parties[0], 1, 1);
	expect_party(&inn.parties[1], 1, -ECANCELED);
	expect_party(&inn.parties[2], 1, -ECANCELED);
	expect_party(&inn.parties[3], 0, 99);
	ck_assert_int_lt(inn.parties[1].order, inn.parties[2].order);
	ck_assert_int_lt(inn.parties[2].order, closed);
	ck_assert_int_eq(try_send(inn.chan, 5), -EAGAIN);
	inn_close(&inn);
}
END_TEST

/* A loop that is freed by force calls nobody back: what was received for a wait goes to
 * drop, what was parked leaves no trace, and the waiters can be used with another loop
 * (S-SHUT-11, S-GEN-18). */
START_TEST(loop_freed_by_force)
{
	struct inn inn;

	inn_open(&inn, 2);
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	ck_assert_int_eq(park_receive(&inn, 1, NULL), 0);
	ck_assert_int_eq(try_send(inn.chan, 5), 0);
	ck_assert_int_eq(evwork_loop_free_force(inn.world.loop), 2);
	ck_assert_int_eq(atomic_load(&dropped_count), 1);
	ck_assert_int_eq((int)dropped[0], 5);
	ck_assert_uint_eq(chan_stats_of(inn.chan).receivers, 0);
	ck_assert_int_eq(evwork_loop_new(inn.world.base, inn.world.pool, NULL,
		&inn.world.loop), 0);
	/* A send that was committed has left its value in the channel. */
	ck_assert_int_eq(park_send(&inn, 0, 6, NULL), 0);
	ck_assert_int_eq(evwork_loop_free_force(inn.world.loop), 1);
	ck_assert_int_eq((int)try_recv(inn.chan), 6);
	ck_assert_int_eq(evwork_loop_new(inn.world.base, inn.world.pool, NULL,
		&inn.world.loop), 0);
	ck_assert_int_eq(park_receive(&inn, 1, NULL), 0);
	ck_assert_int_eq(try_send(inn.chan, 7), 0);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 0, 99);
	expect_party(&inn.parties[1], 1, 1);
	ck_assert_int_eq(atomic_load(&dropped_count), 1);
	inn_close(&inn);
}
END_TEST

/* Everything in a callback: freeing the channel that calls back included (S-GEN-5). */
static void free_in_callback(struct party *party)
{
	struct inn *inn = party->arg;

	party->rc = evwork_chan_free(inn->chan);
}

START_TEST(freed_in_callback)
{
	struct inn inn;

	inn_open(&inn, 1);
	inn.parties[0].on = free_in_callback;
	inn.parties[0].arg = &inn;
	ck_assert_int_eq(park_receive(&inn, 0, NULL), 0);
	ck_assert_int_eq(evwork_chan_close(inn.chan), 0);
	world_run(&inn.world);
	expect_party(&inn.parties[0], 1, 0);
	ck_assert_int_eq(inn.parties[0].rc, 0);
	inn.chan = NULL;
	inn_close(&inn);
}
END_TEST

/* The child's side: everything but free gives -ESHUTDOWN, and takes no lock. */
static void in_the_child(struct inn *inn, struct evwork_ctx *ctx)
{
	struct evwork_case one = evwork_recv_case(inn->chan, &(int64_t){ 0 });
	struct evwork_chan_stats stats;
	struct evwork_chan *clone = NULL, *own;
	int64_t value = 1;

	WRONG(try_send(inn->chan, 1) != -ESHUTDOWN);
	WRONG(try_recv(inn->chan) != -ESHUTDOWN);
	WRONG(evwork_chan_try_send_many(inn->chan, &value, 1) != -ESHUTDOWN);
	WRONG(evwork_chan_close(inn->chan) != -ESHUTDOWN);
	WRONG(evwork_chan_abandon(inn->chan) != -ESHUTDOWN);
	WRONG(evwork_chan_clone(inn->chan, EVWORK_CHAN_SEND, &clone) != -ESHUTDOWN);
	WRONG(evwork_chan_stats(inn->chan, &stats) != -ESHUTDOWN);
	WRONG(evwork_select_try(&one, 1) != -ESHUTDOWN);
	WRONG(park_receive(inn, 1, NULL) != -ESHUTDOWN);
	WRONG(take_back(inn, 0) != -ESHUTDOWN);
	WRONG(evwork_chan_recv_wait(inn->chan, &value, NULL) != -EDEADLK);
	/* What is its own works, but not with what is the parent's. */
	WRONG(evwork_chan_new(sizeof(value), 1, NULL, &own) != 0);
	WRONG(try_send(own, 3) != 0 || try_recv(own) != 3);
	WRONG(party_recv(&inn->parties[1], own, ctx, inn->world.loop) != -ESHUTDOWN);
	WRONG(evwork_loop_free(inn->world.loop) != 0);
	WRONG(evwork_chan_recv_wait(own, &value, ctx) != -ESHUTDOWN);
	WRONG(evwork_chan_free(own) != 0);
	WRONG(evwork_chan_free(inn->chan) != 0);
	_exit(0);
}

static void *hold_locks(void *arg)
{
	struct inn *inn = arg;
	int64_t value = 0;

	/* Always inside the channel. */
	while (evwork_chan_try_send(inn->chan, &value) != -EPIPE)
		;
	return NULL;
}

/* In the child of a fork nothing that is inherited works, and nothing hangs, although other
 * threads were in the channel; the parent goes on (S-SHUT-12). */
START_TEST(forked)
{
	struct evwork_ctx *ctx;
	pthread_t thread;
	struct inn inn;
	int round;

	if (!support_forks())
		return;
	inn_open(&inn, 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(park_send(&inn, 0, 8, ctx), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, hold_locks, &inn), 0);
	for (round = 0; round < 20; round++) {
		pid_t pid = fork();

		if (pid == 0)
			in_the_child(&inn, ctx);
		support_await_child(pid);
	}
	ck_assert_int_eq((int)try_recv(inn.chan), 8);
	ck_assert_int_eq(evwork_chan_close(inn.chan), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	world_turns(&inn.world, 2);
	expect_party(&inn.parties[0], 1, 0);
	evwork_ctx_unref(ctx);
	inn_close(&inn);
}
END_TEST

/* A loop of its own for each round: its wait may be served, stopped, cancelled, or end with
 * the loop, by force or not. */
struct clash {
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	int64_t served;            /* sum of what was received on the loop, and dropped */
	int64_t sent;
	int rc;
};

static void clash_host(void *arg)
{
	struct clash *clash = arg;
	struct event_base *base = event_base_new();
	struct evwork_loop *loop;
	struct party parties[2];
	int i, turns = chance(4), how = chance(3);
	bool over = false;

	/* Held, as it is others who serve its waits. */
	clash->rc = evwork_loop_new(base, NULL, NULL, &loop) || evwork_loop_hold(loop);
	for (i = 0; i < 2; i++) {
		party_init(&parties[i]);
		if (party_recv(&parties[i], clash->chan, clash->ctx, loop) != 0)
			parties[i].calls = 1;
	}
	dawdle();
	for (i = 0; i < turns; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	if (how == 1) {
		/* By force: what was received goes to drop. */
		evwork_loop_free_force(loop);
	} else {
		if (how == 0)
			evwork_loop_close(loop, NULL, NULL);
		while (!over) {
			over = true;
			for (i = 0; i < 2; i++) {
				if (how == 2 && !parties[i].calls &&
				    evwork_chan_stop(&parties[i].waiter) == 0)
					parties[i].calls = 1;
				over = over && parties[i].calls;
			}
			event_base_loop(base, EVLOOP_NONBLOCK);
		}
		if (evwork_loop_release(loop) != 0 || evwork_loop_free(loop) != 0)
			clash->rc = -1;
	}
	for (i = 0; i < 2; i++) {
		if (parties[i].calls > 1 || (how == 1 && parties[i].calls == 0 &&
		    evwork_chan_stop(&parties[i].waiter) != -ESRCH))
			clash->rc = -1;
		if (parties[i].result == 1)
			clash->served += parties[i].value;
	}
	event_base_free(base);
}

static void clash_send(void *arg)
{
	struct clash *clash = arg;
	int64_t value;
	int i;

	for (i = 0; i < 40; i++) {
		value = 1 + chance(1000);
		if (try_send(clash->chan, value) == 0)
			clash->sent += value;
		if (chance(4) == 0)
			sys_yield();
	}
}

static void clash_cancel(void *arg)
{
	struct clash *clash = arg;
	int i;

	for (i = chance(4); i > 0; i--)
		sys_yield();
	evwork_ctx_cancel(clash->ctx, 0);
}

static atomic_llong dropped_sum;

static void sum_drop(void *value)
{
	atomic_fetch_add(&dropped_sum, *(int64_t *)value);
}

/* Whatever ends the waits and the loop: each value that was sent was received or dropped,
 * once, and nothing is left (S-CHAN-7, S-GEN-2, -18, S-SHUT-11). */
START_TEST(all_at_once)
{
	static struct clash clash;
	struct rival rivals[3];
	int rounds = scaled(5000), round, i;

	chance_seed(0);
	rival_start(&rivals[0], clash_host, &clash, 1);
	rival_start(&rivals[1], clash_send, &clash, 2);
	rival_start(&rivals[2], clash_cancel, &clash, 3);
	for (round = 1; round <= rounds; round++) {
		atomic_store(&dropped_sum, 0);
		memset(&clash, 0, sizeof(clash));
		expect(evwork_chan_new(sizeof(int64_t), 0, sum_drop, &clash.chan) == 0, "%d",
			round);
		expect(evwork_ctx_new(NULL, &clash.ctx) == 0, "%d", round);
		for (i = 0; i < 3; i++)
			rival_go(&rivals[i], round);
		for (i = 0; i < 3; i++)
			rival_await(&rivals[i], round);
		expect(clash.rc == 0, "%d in round %d", clash.rc, round);
		expect(evwork_chan_free(clash.chan) == 0, "%d", round);
		expect(clash.sent == clash.served + atomic_load(&dropped_sum),
			"%d, %d, %d in round %d", (int)clash.sent, (int)clash.served,
			(int)atomic_load(&dropped_sum), round);
		evwork_ctx_unref(clash.ctx);
	}
	for (i = 0; i < 3; i++)
		rival_end(&rivals[i]);
}
END_TEST

static Suite *loop_suite(void)
{
	Suite *suite = suite_create("chan_loop");
	TCase *tcase = support_case(suite, "callbacks");

	tcase_add_test(tcase, ready_at_once);
	tcase_add_test(tcase, ended_at_once);
	tcase_add_test(tcase, liveness);
	tcase_add_test(tcase, struct_is_the_callers_again);
	tcase_add_test(tcase, stopping);
	tcase_add_test(tcase, stopping_elsewhere);
	tcase_add_test(tcase, freed_in_callback);

	tcase = support_case(suite, "ends");
	tcase_add_test(tcase, context_dies);
	tcase_add_test(tcase, transfer_comes_first);
	tcase_add_test(tcase, deadline_passes);
	tcase_add_test(tcase, loop_closes);
	tcase_add_test(tcase, loop_freed_by_force);
	tcase_add_test(tcase, forked);

	tcase = support_case(suite, "stress");
	tcase_add_test(tcase, all_at_once);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(loop_suite());
}
