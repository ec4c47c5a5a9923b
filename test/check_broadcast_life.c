/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Subscriptions with a loop: delivery, its bounds, leaving inside of it and elsewhere, every
 * way to end, freed loops, forks, and failing system calls.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"

#include <pthread.h>

static atomic_int references;       /* to all items together */

static void ref(const void *item, int n)
{
	(void)item;
	atomic_fetch_add(&references, n);
}

static void drop(void *item)
{
	(void)item;
	atomic_fetch_sub(&references, 1);
}

struct reader {
	struct evwork_subscription *sub;
	struct evwork_subscription_options options;
	int got, last, ended, status, order;
	bool in_order;
	pthread_t thread;
	/* Called last in each delivery, and in the end; may be NULL. */
	void (*on)(struct reader *reader);
	void *arg;
	int rc;
};

static void on_item(struct evwork_subscription *sub, void *item, void *arg)
{
	struct reader *reader = arg;
	int number = *(int *)item;

	(void)sub;
	drop(item);
	reader->in_order = reader->in_order && number > reader->last;
	reader->last = number;
	reader->got++;
	reader->thread = pthread_self();
	if (reader->on)
		reader->on(reader);
}

static void on_end(struct evwork_subscription *sub, int status, void *arg)
{
	struct reader *reader = arg;

	(void)sub;
	reader->ended++;
	reader->status = status;
	reader->order = atomic_fetch_add(&probe_done_counter, 1) + 1;
	reader->thread = pthread_self();
	if (reader->on)
		reader->on(reader);
}

struct studio {
	struct world world;
	struct evwork_broadcast *broadcast;
	struct reader readers[3];
	int next;
};

static void studio_open_with(struct studio *studio, const struct evwork_loop_options *options)
{
	int i;

	memset(studio, 0, sizeof(*studio));
	atomic_store(&references, 0);
	world_open_with(&studio->world, NULL, options);
	ck_assert_int_eq(evwork_broadcast_new(sizeof(int), ref, drop, &studio->broadcast), 0);
	for (i = 0; i < 3; i++)
		studio->readers[i] = (struct reader){ .last = -1, .status = 1, .in_order = true,
			.options = { .loop = studio->world.loop, .item = on_item, .ended = on_end,
				.arg = &studio->readers[i] } };
}

static void studio_open(struct studio *studio)
{
	studio_open_with(studio, NULL);
}

static void studio_close(struct studio *studio)
{
	int i;

	for (i = 0; i < 3; i++) {
		expect(studio->readers[i].in_order, "reader %d", i);
		ck_assert_int_eq(evwork_unsubscribe(studio->readers[i].sub), 0);
	}
	ck_assert_int_eq(evwork_broadcast_free(studio->broadcast), 0);
	if (studio->world.loop)
		world_run(&studio->world);
	ck_assert_int_eq(atomic_load(&references), 0);
	world_close(&studio->world);
}

static int join(struct studio *studio, int i)
{
	return evwork_subscribe(studio->broadcast, &studio->readers[i].options,
		&studio->readers[i].sub);
}

static void send_some(struct studio *studio, int count)
{
	for (; count > 0; count--, studio->next++)
		ck_assert_int_eq(evwork_broadcast_try_send(studio->broadcast, &studio->next), 0);
}

static void expect_got(const struct studio *studio, int i, int got, int ended, int status)
{
	const struct reader *reader = &studio->readers[i];

	ck_assert_int_eq(reader->got, got);
	ck_assert_int_eq(reader->ended, ended);
	ck_assert_int_eq(reader->status, status);
	if (got || ended)
		ck_assert(pthread_equal(reader->thread, pthread_self()));
}

/* Items are delivered on the loop, in later turns, in order; a broadcast that closes ends
 * the subscription with 0, once, after all of them (S-FAN-10, S-GEN-3). */
START_TEST(delivery)
{
	struct studio studio;

	studio_open(&studio);
	send_some(&studio, 1);
	ck_assert_int_eq(join(&studio, 0), 0);
	world_run(&studio.world);
	send_some(&studio, 10);
	ck_assert_int_eq(join(&studio, 1), 0);
	send_some(&studio, 10);
	expect_got(&studio, 0, 0, 0, 1);
	/* What is to come keeps the loop alive, the subscription does not. */
	world_run(&studio.world);
	expect_got(&studio, 0, 20, 0, 1);
	expect_got(&studio, 1, 10, 0, 1);
	send_some(&studio, 5);
	ck_assert_int_eq(evwork_broadcast_close(studio.broadcast), 0);
	expect_got(&studio, 0, 20, 0, 1);
	world_run(&studio.world);
	expect_got(&studio, 0, 25, 1, 0);
	expect_got(&studio, 1, 15, 1, 0);
	ck_assert_ptr_null(evwork_subscription_chan(studio.readers[0].sub));
	studio_close(&studio);
}
END_TEST

/* One that is disconnected ends with -EPIPE after what it has queued (S-FAN-10). */
START_TEST(disconnected)
{
	struct studio studio;

	studio_open(&studio);
	studio.readers[0].options.full = EVWORK_DISCONNECT;
	studio.readers[0].options.limit = 3;
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(join(&studio, 1), 0);
	send_some(&studio, 20);
	world_run(&studio.world);
	/* One had been handed to the loop. */
	expect_got(&studio, 0, 4, 1, -EPIPE);
	ck_assert_uint_eq(evwork_subscription_dropped(studio.readers[0].sub), 1);
	expect_got(&studio, 1, 20, 0, 1);
	send_some(&studio, 3);
	world_run(&studio.world);
	expect_got(&studio, 0, 4, 1, -EPIPE);
	expect_got(&studio, 1, 23, 0, 1);
	studio_close(&studio);
}
END_TEST

/* One turn delivers no more items than callbacks, of all subscriptions together, and
 * counts each of them (S-DLV-5). */
START_TEST(a_turn_has_an_end)
{
	struct evwork_loop_options small = { .batch = 10, .budget_us = 1000000 };
	struct evwork_loop_stats stats;
	struct studio studio;
	int turns = 0, sum = 0, before;

	studio_open_with(&studio, &small);
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(join(&studio, 1), 0);
	send_some(&studio, 60);
	while (sum < 120) {
		before = sum;
		one_pass(studio.world.base);
		sum = studio.readers[0].got + studio.readers[1].got;
		expect(sum - before <= 10, "%d", sum - before);
		expect(++turns < 40, "%d", sum);
	}
	ck_assert_int_eq(evwork_loop_stats(studio.world.loop, &stats), 0);
	ck_assert_uint_eq(stats.delivered, 120);
	studio_close(&studio);
}
END_TEST

static void leave(struct reader *reader)
{
	reader->rc = evwork_unsubscribe(reader->sub);
	reader->sub = NULL;
}

static void leave_at_three(struct reader *reader)
{
	if (reader->got == 3)
		leave(reader);
}

/* Unsubscribing inside a delivery is legal, and no item follows, nor the end; what is
 * queued is dropped inside the call (S-FAN-11). */
START_TEST(leaving_inside_a_delivery)
{
	struct studio studio;

	studio_open(&studio);
	studio.readers[0].on = leave_at_three;
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(join(&studio, 1), 0);
	send_some(&studio, 9);
	if (_i)
		ck_assert_int_eq(evwork_broadcast_close(studio.broadcast), 0);
	world_run(&studio.world);
	ck_assert_int_eq(studio.readers[0].rc, 0);
	expect_got(&studio, 0, 3, 0, 1);
	expect_got(&studio, 1, 9, _i, !_i);
	ck_assert_int_eq(atomic_load(&references), 0);
	studio_close(&studio);
}
END_TEST

static void leave_other(struct reader *reader)
{
	leave(reader->arg);
	reader->on = NULL;
}

/* So is unsubscribing another, and at every other time: before the first item, with an
 * item on its way to the loop, in its end (S-FAN-11). */
START_TEST(leaving_at_any_time)
{
	struct studio studio;
	struct reader *reader = &studio.readers[0];

	studio_open(&studio);
	ck_assert_int_eq(join(&studio, 1), 0);
	ck_assert_int_eq(join(&studio, 0), 0);
	if (_i == 0)
		leave(reader);
	send_some(&studio, 5);
	if (_i == 1)
		leave(reader);
	if (_i == 2) {
		studio.readers[1].on = leave_other;
		studio.readers[1].arg = reader;
	}
	if (_i == 3) {
		world_run(&studio.world);
		leave(reader);
		send_some(&studio, 5);
	}
	if (_i == 4)
		reader->on = leave_at_three;
	if (_i == 5) {
		world_run(&studio.world);
		reader->on = leave;
	}
	world_run(&studio.world);
	ck_assert_int_eq(evwork_broadcast_close(studio.broadcast), 0);
	world_run(&studio.world);
	ck_assert_int_eq(reader->rc, 0);
	if (_i < 3)
		expect_got(&studio, 0, 0, 0, 1);
	else if (_i == 3)
		expect_got(&studio, 0, 5, 0, 1);
	else if (_i == 4)
		expect_got(&studio, 0, 3, 0, 1);
	else
		expect_got(&studio, 0, 5, 1, 0);
	ck_assert_ptr_null(reader->sub);
	expect_got(&studio, 1, _i == 3 ? 10 : 5, 1, 0);
	studio_close(&studio);
}
END_TEST

static void leave_elsewhere(void *arg)
{
	struct reader *reader = arg;

	reader->rc = evwork_unsubscribe(reader->sub);
}

static void try_elsewhere(struct reader *reader)
{
	if (reader->ended)
		support_elsewhere(leave_elsewhere, reader);
}

/* Another thread may not, until it has ended and the last callback has returned: it could
 * not know that none follows (S-FAN-11). */
START_TEST(leaving_elsewhere)
{
	struct studio studio;
	struct reader *reader = &studio.readers[0];

	studio_open(&studio);
	ck_assert_int_eq(join(&studio, 0), 0);
	support_elsewhere(leave_elsewhere, reader);
	ck_assert_int_eq(reader->rc, -EPERM);
	send_some(&studio, 5);
	world_run(&studio.world);
	expect_got(&studio, 0, 5, 0, 1);
	reader->rc = 1;
	reader->on = try_elsewhere;
	ck_assert_int_eq(evwork_broadcast_close(studio.broadcast), 0);
	world_run(&studio.world);
	ck_assert_int_eq(reader->ended, 1);
	ck_assert_int_eq(reader->rc, -EPERM);
	support_elsewhere(leave_elsewhere, reader);
	ck_assert_int_eq(reader->rc, 0);
	reader->sub = NULL;
	studio_close(&studio);
}
END_TEST

static void on_closed(struct evwork_loop *loop, void *arg)
{
	struct studio *studio = arg;

	(void)loop;
	studio->readers[2].got = studio->readers[0].ended + studio->readers[1].ended;
}

static void close_loop(struct reader *reader)
{
	struct studio *studio = reader->arg;

	reader->on = NULL;
	evwork_loop_close(studio->world.loop, on_closed, studio);
}

/* A loop that closes ends its subscriptions with -ECANCELED, before it is closed; what they
 * have queued is dropped, and they do not block any more (S-SHUT-7, S-FAN-10). Also if
 * that is in a delivery. */
START_TEST(loop_closes)
{
	struct studio studio;

	studio_open(&studio);
	studio.readers[0].options.limit = studio.readers[1].options.limit = 4;
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(join(&studio, 1), 0);
	if (_i) {
		send_some(&studio, 4);
		studio.readers[0].on = close_loop;
		studio.readers[0].arg = &studio;
	} else {
		ck_assert_int_eq(evwork_loop_close(studio.world.loop, on_closed, &studio), 0);
	}
	ck_assert_int_eq(studio.readers[0].ended, 0);
	world_run(&studio.world);
	ck_assert_int_eq(studio.readers[0].ended, 1);
	ck_assert_int_eq(studio.readers[0].status, -ECANCELED);
	ck_assert_int_eq(studio.readers[1].ended, 1);
	ck_assert_int_eq(studio.readers[1].status, -ECANCELED);
	ck_assert_int_eq(studio.readers[2].got, 2);
	ck_assert_int_eq(atomic_load(&references), 0);
	ck_assert_int_eq(join(&studio, 2), -ESHUTDOWN);
	ck_assert_ptr_null(studio.readers[2].sub);
	send_some(&studio, 10);
	studio_close(&studio);
}
END_TEST

static void free_loop(struct reader *reader)
{
	struct studio *studio = reader->arg;

	reader->on = NULL;
	if (evwork_loop_free(studio->world.loop) != -EBUSY)
		reader->rc = 1;
	if (reader->got == 1 && evwork_loop_free_force(studio->world.loop) < 0)
		reader->rc = 2;
}

/* A loop with a subscription is not freed, not in a delivery either; by force it is, and
 * then no callback comes, nothing is lost, and the subscription is one no more
 * (S-SHUT-11, S-GEN-18). */
START_TEST(loop_is_freed)
{
	struct studio studio;

	studio_open(&studio);
	studio.readers[0].options.limit = studio.readers[1].options.limit = 8;
	ck_assert_int_eq(join(&studio, 0), 0);
	if (_i < 3)
		ck_assert_int_eq(join(&studio, 1), 0);
	ck_assert_int_eq(evwork_loop_free(studio.world.loop), -EBUSY);
	if (_i)
		send_some(&studio, 7);
	if (_i < 2) {
		ck_assert_int_ge(evwork_loop_free_force(studio.world.loop), 1);
	} else {
		studio.readers[0].on = free_loop;
		studio.readers[0].arg = &studio;
		ck_assert_int_ge(event_base_loop(studio.world.base, EVLOOP_NONBLOCK), 0);
		ck_assert_int_eq(studio.readers[0].got, 1);
		ck_assert_int_eq(studio.readers[0].rc, 0);
	}
	studio.world.loop = NULL;
	ck_assert_int_eq(studio.readers[0].ended, 0);
	ck_assert_int_eq(studio.readers[1].got, 0);
	ck_assert_int_eq(studio.readers[1].ended, 0);
	ck_assert_int_eq(atomic_load(&references), 0);
	send_some(&studio, 20);
	ck_assert_int_eq(atomic_load(&references), 0);
	studio_close(&studio);
}
END_TEST

/* Loops that are gone do not keep who has ended: it may be freed after them. */
START_TEST(outlives_its_loop)
{
	struct studio studio;

	studio_open(&studio);
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(evwork_broadcast_free(studio.broadcast), 0);
	studio.broadcast = NULL;
	world_run(&studio.world);
	expect_got(&studio, 0, 0, 1, 0);
	ck_assert_int_eq(evwork_loop_free(studio.world.loop), 0);
	studio.world.loop = NULL;
	studio_close(&studio);
}
END_TEST

static void send_one(struct reader *reader)
{
	struct studio *studio = reader->arg;

	if (reader->got < 50)
		send_some(studio, 1);
	else
		reader->rc = evwork_broadcast_close(studio->broadcast);
}

/* A delivery may send, and close (S-GEN-5). */
START_TEST(sending_inside_a_delivery)
{
	struct studio studio;

	studio_open(&studio);
	studio.readers[0].on = send_one;
	studio.readers[0].arg = &studio;
	studio.readers[0].options.ended = NULL;
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(join(&studio, 1), 0);
	send_some(&studio, 1);
	world_run(&studio.world);
	expect_got(&studio, 0, 50, 0, 1);
	expect_got(&studio, 1, 50, 1, 0);
	studio_close(&studio);
}
END_TEST

struct errand {
	struct studio *studio;
	int rc;
};

static void join_elsewhere(void *arg)
{
	struct errand *errand = arg;

	errand->rc = join(errand->studio, 0);
}

/* Any thread subscribes; deliveries are on the loop's. */
START_TEST(joined_elsewhere)
{
	struct studio studio;
	struct errand errand = { .studio = &studio, .rc = 1 };

	studio_open(&studio);
	support_elsewhere(join_elsewhere, &errand);
	ck_assert_int_eq(errand.rc, 0);
	send_some(&studio, 5);
	world_run(&studio.world);
	expect_got(&studio, 0, 5, 0, 1);
	studio_close(&studio);
}
END_TEST

/* The child of a fork is refused, and frees what it inherited; the parent goes on
 * (S-SHUT-12). */
START_TEST(forked)
{
	struct evwork_subscription_options plain = { .limit = 10 };
	struct evwork_broadcast_waiter waiter;
	struct studio studio;
	pid_t child;
	int item = 0;

	studio_open(&studio);
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(evwork_subscribe(studio.broadcast, &plain, &studio.readers[1].sub), 0);
	send_some(&studio, 3);
	evwork_broadcast_waiter_init(&waiter, (evwork_broadcast_fn)abort);
	child = fork();
	if (child == 0) {
		bool right = join(&studio, 2) == -ESHUTDOWN &&
			evwork_broadcast_try_send(studio.broadcast, &item) == -ESHUTDOWN &&
			evwork_broadcast_send(studio.broadcast, &item, NULL, studio.world.loop,
				&waiter) == -ESHUTDOWN &&
			evwork_broadcast_close(studio.broadcast) == -ESHUTDOWN &&
			evwork_unsubscribe(studio.readers[0].sub) == 0 &&
			evwork_broadcast_free(studio.broadcast) == 0 &&
			evwork_unsubscribe(studio.readers[1].sub) == 0 &&
			evwork_loop_free(studio.world.loop) == 0 &&
			evwork_pool_free(studio.world.pool) == 0 && sys_blocks() == 0;

		_exit(right ? 0 : 1);
	}
	support_await_child(child);
	send_some(&studio, 3);
	world_run(&studio.world);
	expect_got(&studio, 0, 6, 0, 1);
	studio_close(&studio);
}
END_TEST

/* The one fork of the test below: in the third item, or in the end. */
struct offspring {
	bool at_end, frees;
	bool forked, is_child;
	pid_t child;
	int calls;                     /* in the child, after that */
};

/* In the child: 0, or the number of what was not as it should be. */
static int free_studio(struct studio *studio)
{
	if (evwork_unsubscribe(studio->readers[0].sub) != 0)
		return 1;
	if (evwork_broadcast_free(studio->broadcast) != 0)
		return 2;
	if (evwork_loop_free(studio->world.loop) != 0)
		return 3;
	return evwork_pool_free(studio->world.pool) == 0 ? 0 : 4;
}

static void fork_in_callback(struct reader *reader)
{
	struct studio *studio = EVWORK_CONTAINER(reader, struct studio, readers[0]);
	struct offspring *offspring = reader->arg;

	offspring->calls += offspring->is_child;
	if (offspring->forked || (offspring->at_end ? !reader->ended : reader->got != 3))
		return;
	offspring->forked = true;
	offspring->child = fork();
	offspring->is_child = offspring->child == 0;
	if (offspring->is_child && offspring->frees) {
		int wrong = free_studio(studio);

		if (wrong)
			_exit(wrong);
	}
}

/* A child that is made in a callback may return from it, whether it has freed all there or
 * not: nothing is called any more, and nothing touched (S-SHUT-12). */
START_TEST(forked_in_a_callback)
{
	struct offspring offspring = { .at_end = _i & 1, .frees = _i & 2 };
	struct studio studio;

	studio_open(&studio);
	studio.readers[0].on = fork_in_callback;
	studio.readers[0].arg = &offspring;
	ck_assert_int_eq(join(&studio, 0), 0);
	send_some(&studio, 10);
	ck_assert_int_eq(evwork_broadcast_close(studio.broadcast), 0);
	while (!studio.readers[0].ended && !offspring.is_child)
		world_turns(&studio.world, 1);
	if (offspring.is_child)
		_exit(offspring.calls ? 5 : offspring.frees ? 0 : free_studio(&studio));
	support_await_child(offspring.child);
	world_run(&studio.world);
	expect_got(&studio, 0, 10, 1, 0);
	studio_close(&studio);
}
END_TEST

/* Whatever call fails, a subscription is refused and all is as before, or it is there and
 * gets what is sent (S-CRASH-8). */
START_TEST(when_the_system_fails)
{
	struct studio studio;
	size_t blocks;
	int k, rc, calls, onwards, all = 0;

	studio_open(&studio);
	blocks = sys_blocks();
	for (onwards = 0; onwards < 2; onwards++) {
		k = 0;
		do {
			studio.readers[0].sub = NULL;
			studio.readers[0].got = 0;
			fault_start(SYS_CALLS, ++k, onwards);
			rc = join(&studio, 0);
			if (rc == 0) {
				send_some(&studio, 3);
				world_turns(&studio.world, 3);
				expect(studio.readers[0].got == 3, "%d", studio.readers[0].got);
				ck_assert_int_eq(evwork_unsubscribe(studio.readers[0].sub), 0);
			}
			calls = fault_stop();
			expect((rc == 0 || (rc == -ENOMEM && !studio.readers[0].sub)) &&
				sys_blocks() == blocks, "%d at %d", rc, k);
			all += rc != 0;
		} while (calls >= k);
	}
	studio.readers[0].sub = NULL;
	support_note("%d calls failed", all);
	ck_assert_int_eq(all, 2 * 8);
	studio_close(&studio);
}
END_TEST

struct sender {
	pthread_t thread;
	struct evwork_broadcast *broadcast;
	atomic_bool stop;
	int sent, rc;
};

static void *send_until(void *arg)
{
	struct sender *sender = arg;

	for (; !atomic_load(&sender->stop); sender->sent++) {
		sender->rc = evwork_broadcast_send_wait(sender->broadcast, &sender->sent, NULL);
		if (sender->rc)
			break;
	}
	return NULL;
}

/* While a thread sends, readers come and leave, inside deliveries and outside: whoever is
 * there gets each item from its first to its last (S-FAN-10, -11). */
START_TEST(coming_and_going)
{
	struct sender sender = { .rc = 1 };
	struct studio studio;
	int round, rounds = scaled(3000), i;

	studio_open(&studio);
	sender.broadcast = studio.broadcast;
	for (i = 0; i < 3; i++)
		studio.readers[i].options.limit = 4;
	ck_assert_int_eq(join(&studio, 0), 0);
	ck_assert_int_eq(pthread_create(&sender.thread, NULL, send_until, &sender), 0);
	for (round = 0; round < rounds; round++) {
		for (i = 1; i < 3; i++) {
			struct reader *reader = &studio.readers[i];

			if (!reader->sub) {
				expect(reader->in_order && !reader->ended, "reader %d", i);
				reader->got = 0;
				reader->last = -1;
				reader->on = (round + i) % 2 ? leave_at_three : NULL;
				ck_assert_int_eq(join(&studio, i), 0);
			} else if ((round + i) % 7 == 0) {
				leave(reader);
			}
		}
		one_pass(studio.world.base);
		expect(studio.readers[0].got == studio.readers[0].last + 1, "%d",
			studio.readers[0].last);
	}
	/* On a busy machine it may not even have begun. */
	while (studio.readers[0].got == 0)
		one_pass(studio.world.base);
	atomic_store(&sender.stop, true);
	/* It may wait for room. */
	while (pthread_tryjoin_np(sender.thread, NULL) != 0)
		one_pass(studio.world.base);
	ck_assert_int_eq(sender.rc, 0);
	ck_assert_int_eq(evwork_broadcast_close(studio.broadcast), 0);
	/* What another thread has sent does not keep the base running. */
	while (!studio.readers[0].ended)
		one_pass(studio.world.base);
	ck_assert_int_eq(studio.readers[0].got, sender.sent);
	support_note("%d items", sender.sent);
	studio_close(&studio);
}
END_TEST

static Suite *life_suite(void)
{
	Suite *suite = suite_create("broadcast_life");
	TCase *tcase = support_case(suite, "loops");

	tcase_add_test(tcase, delivery);
	tcase_add_test(tcase, disconnected);
	tcase_add_test(tcase, a_turn_has_an_end);
	tcase_add_loop_test(tcase, leaving_inside_a_delivery, 0, 2);
	tcase_add_loop_test(tcase, leaving_at_any_time, 0, 6);
	tcase_add_test(tcase, leaving_elsewhere);
	tcase_add_test(tcase, sending_inside_a_delivery);
	tcase_add_test(tcase, joined_elsewhere);
	tcase_add_test(tcase, coming_and_going);

	tcase = support_case(suite, "ends");
	tcase_add_loop_test(tcase, loop_closes, 0, 2);
	tcase_add_loop_test(tcase, loop_is_freed, 0, 4);
	tcase_add_test(tcase, outlives_its_loop);
	if (support_forks()) {
		tcase_add_test(tcase, forked);
		tcase_add_loop_test(tcase, forked_in_a_callback, 0, 4);
	}
	tcase_add_test(tcase, when_the_system_fails);
	return suite;
}

int main(void)
{
	return support_run(life_suite());
}
