/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels on one thread: making them, refusals, order, capacity, many values at once,
 * statistics, and failing system calls.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"

#include <limits.h>

/* Sizes that cannot be addressed are -ERANGE, and leave the result alone; sizes of 0 are
 * fine, and so is any number of values without a size (S-CHAN-1). */
START_TEST(sizes)
{
	struct evwork_chan *chan = NULL;

	ck_assert_int_eq(evwork_chan_new(8, SIZE_MAX / 4, NULL, &chan), -ERANGE);
	ck_assert_int_eq(evwork_chan_new(SIZE_MAX, SIZE_MAX, NULL, &chan), -ERANGE);
	ck_assert_int_eq(evwork_chan_new(1, PTRDIFF_MAX, NULL, &chan), -ERANGE);
	ck_assert_int_eq(evwork_chan_new(SIZE_MAX, 1, NULL, &chan), -ERANGE);
	ck_assert_int_eq(evwork_chan_new(8, 8, NULL, NULL), -EINVAL);
	ck_assert_ptr_null(chan);
	ck_assert_int_eq(evwork_chan_new(0, SIZE_MAX, NULL, &chan), 0);
	ck_assert_int_eq(evwork_chan_try_send(chan, NULL), 0);
	ck_assert_int_eq(evwork_chan_try_recv(chan, NULL), 1);
	chan_end(chan);
	ck_assert_int_eq(evwork_chan_new(SIZE_MAX / 2, 0, NULL, &chan), 0);
	chan_end(chan);
	ck_assert_int_eq(evwork_chan_new(0, 0, NULL, &chan), 0);
	chan_end(chan);
	chan_end(NULL);
}
END_TEST

/* Direct operations on NULL, or without a place for the value, are -EINVAL (S-CHAN-19,
 * S-GEN-8), whatever else is wrong (S-GEN-4). */
START_TEST(malformed)
{
	struct evwork_chan *chan = chan_of(1), *clone = NULL;
	struct evwork_chan_stats stats;
	int64_t value = 1;

	ck_assert_int_eq(evwork_chan_try_send(NULL, &value), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_recv(NULL, &value), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_send_many(NULL, &value, 1), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_recv_many(NULL, &value, 1), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_send(chan, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_recv(chan, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_send_many(chan, &value, 0), -EINVAL);
	ck_assert_int_eq(evwork_chan_try_recv_many(chan, &value, -1), -EINVAL);
	ck_assert_int_eq(evwork_chan_send_wait(NULL, &value, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_recv_wait(NULL, &value, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_send_wait(chan, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_recv_wait(chan, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_send_many_wait(chan, &value, 0, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_recv_many_wait(chan, &value, INT_MIN, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_close(NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_abandon(NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(evwork_chan_stats(chan, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_clone(NULL, EVWORK_CHAN_SEND, &clone), -EINVAL);
	ck_assert_int_eq(evwork_chan_clone(chan, 0, &clone), -EINVAL);
	ck_assert_int_eq(evwork_chan_clone(chan, 4, &clone), -EINVAL);
	ck_assert_int_eq(evwork_chan_clone(chan, EVWORK_CHAN_SEND, NULL), -EINVAL);
	ck_assert_ptr_null(clone);
	/* Malformed comes before closed. */
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(evwork_chan_try_send(chan, NULL), -EINVAL);
	ck_assert_uint_eq(chan_stats_of(chan).length, 0);
	chan_end(chan);
}
END_TEST

/* Waits that call back: what is malformed, then what the end may not do, then its being
 * shut, then the death of the context; none of them calls back (S-GEN-2, -4). */
START_TEST(order_of_refusals)
{
	struct evwork_chan *chan, *sends, *receives;
	struct evwork_chan_waiter without;
	struct evwork_ctx *dead;
	struct party party;
	struct world world;
	int64_t value = 1;

	world_open(&world, 1);
	chan = chan_of(1);
	sends = clone_of(chan, EVWORK_CHAN_SEND);
	receives = clone_of(chan, EVWORK_CHAN_RECV);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	party_init(&party);
	evwork_chan_waiter_init(&without, NULL);
	ck_assert_int_eq(evwork_chan_send(NULL, &value, dead, world.loop, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_chan_send(chan, NULL, dead, world.loop, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_chan_send(chan, &value, dead, NULL, &party.waiter), -EINVAL);
	ck_assert_int_eq(evwork_chan_send(chan, &value, dead, world.loop, NULL), -EINVAL);
	ck_assert_int_eq(evwork_chan_send(chan, &value, dead, world.loop, &without), -EINVAL);
	ck_assert_int_eq(evwork_chan_recv(receives, NULL, dead, world.loop, &party.waiter),
		-EINVAL);
	ck_assert_int_eq(evwork_chan_send(receives, NULL, dead, world.loop, &party.waiter),
		-EINVAL);
	ck_assert_int_eq(party_send(&party, receives, 1, dead, world.loop), -EPERM);
	ck_assert_int_eq(party_recv(&party, sends, dead, world.loop), -EPERM);
	ck_assert_int_eq(try_send(receives, 1), -EPERM);
	ck_assert_int_eq((int)try_recv(sends), -EPERM);
	ck_assert_int_eq(evwork_chan_close(receives), -EPERM);
	ck_assert_int_eq(evwork_chan_abandon(sends), -EPERM);
	ck_assert_int_eq(party_send(&party, sends, 1, dead, world.loop), -ECANCELED);
	ck_assert_int_eq(party_recv(&party, receives, dead, world.loop), -ECANCELED);
	ck_assert_int_eq(evwork_chan_close(sends), 0);
	ck_assert_int_eq(evwork_chan_abandon(receives), 0);
	ck_assert_int_eq(party_send(&party, sends, 1, dead, world.loop), -ESHUTDOWN);
	ck_assert_int_eq(party_recv(&party, receives, dead, world.loop), -ESHUTDOWN);
	ck_assert_int_eq(party_send(&party, sends, 1, NULL, world.loop), -ESHUTDOWN);
	ck_assert_int_eq(party_recv(&party, receives, NULL, world.loop), -ESHUTDOWN);
	ck_assert_int_eq(evwork_chan_stop(&party.waiter), -ESRCH);
	world_turns(&world, 3);
	expect_party(&party, 0, 99);
	chan_end(sends);
	chan_end(receives);
	chan_end(chan);
	evwork_ctx_unref(dead);
	world_close(&world);
}
END_TEST

/* try never waits: full and empty are -EAGAIN, a value is 1 (S-CHAN-4). Values are copied
 * and come out in their order, however often the ring goes round (S-CHAN-2). */
START_TEST(in_order)
{
	static const size_t capacities[] = { 1, 2, 3, 7, 64 };
	size_t capacity = capacities[_i], i;
	struct evwork_chan *chan = chan_of(capacity);
	int64_t sent = 0, received = 0, value;

	ck_assert_int_eq((int)try_recv(chan), -EAGAIN);
	while (sent < 1000) {
		for (i = 0; i < capacity; i++) {
			value = ++sent;
			expect(evwork_chan_try_send(chan, &value) == 0, "%d", (int)sent);
			value = -1;
		}
		expect(try_send(chan, 1) == -EAGAIN, "%d", (int)sent);
		expect(chan_stats_of(chan).length == capacity, "%d", (int)sent);
		for (i = 0; i < 1 + (size_t)sent % capacity; i++) {
			received++;
			expect(try_recv(chan) == received, "%d", (int)received);
		}
		while (try_recv(chan) == received + 1)
			received++;
		expect(received == sent, "%d", (int)received);
	}
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
}
END_TEST

/* A small generator for elements of any size. */
static void fill(unsigned char *element, size_t size, int number)
{
	size_t i;

	for (i = 0; i < size; i++)
		element[i] = (unsigned char)((unsigned)number * 31u + i);
}

/* Each size of value comes out as it went in (S-CHAN-2). */
START_TEST(sizes_of_values)
{
	static const size_t all[] = { 0, 1, 3, 4, 8, 9, 16, 100, 4096 };
	size_t size = all[_i];
	unsigned char in[4096], out[4097];
	struct evwork_chan *chan;
	int number;

	ck_assert_int_eq(evwork_chan_new(size, 3, NULL, &chan), 0);
	for (number = 0; number < 50; number++) {
		fill(in, size, number);
		ck_assert_int_eq(evwork_chan_try_send(chan, in), 0);
		out[size] = 77;
		ck_assert_int_eq(evwork_chan_try_recv(chan, out), 1);
		ck_assert_int_eq(memcmp(in, out, size), 0);
		ck_assert_int_eq(out[size], 77);
	}
	ck_assert_int_eq(evwork_chan_try_recv(chan, out), -EAGAIN);
	chan_end(chan);
}
END_TEST

/* Many values at once: as many as there is room for, or there are, round the end of the
 * ring, in order (S-CHAN-2, -4). */
START_TEST(many)
{
	int64_t values[16], out[16], sent = 0, received = 0;
	struct evwork_chan *chan = chan_of(7);
	int round, i, n, rc;

	for (round = 0; round < 500; round++) {
		n = 1 + round % 11;
		for (i = 0; i < n; i++)
			values[i] = sent + i + 1;
		rc = evwork_chan_try_send_many(chan, values, n);
		i = 7 - (int)(sent - received);
		expect(rc == (i == 0 ? -EAGAIN : n < i ? n : i), "%d of %d", rc, n);
		sent += rc > 0 ? rc : 0;
		n = 1 + round % 5;
		rc = evwork_chan_try_recv_many(chan, out, n);
		expect(rc == (sent - received < n ? (int)(sent - received) : n), "%d of %d", rc, n);
		for (i = 0; i < rc; i++)
			expect(out[i] == ++received, "%d", i);
	}
	while (received < sent)
		expect(try_recv(chan) == ++received, "%d", (int)received);
	ck_assert_int_eq(evwork_chan_try_recv_many(chan, out, 16), -EAGAIN);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(evwork_chan_try_recv_many(chan, out, 16), 0);
	ck_assert_int_eq(evwork_chan_try_send_many(chan, values, 2), -EPIPE);
	chan_end(chan);
}
END_TEST

/* Many values without a size are counted, too. */
START_TEST(many_without_size)
{
	struct evwork_chan *chan;
	int i;

	ck_assert_int_eq(evwork_chan_new(0, 5, NULL, &chan), 0);
	for (i = 0; i < 20; i++) {
		ck_assert_int_eq(evwork_chan_try_send_many(chan, NULL, 3), 3);
		ck_assert_int_eq(evwork_chan_try_send_many(chan, NULL, 3), 2);
		ck_assert_int_eq(evwork_chan_try_recv_many(chan, NULL, 4), 4);
		ck_assert_int_eq(evwork_chan_try_recv_many(chan, NULL, 4), 1);
		ck_assert_int_eq(evwork_chan_try_send_many(chan, NULL, 1), 1);
		ck_assert_int_eq(evwork_chan_try_recv_many(chan, NULL, 4), 1);
	}
	chan_end(chan);
}
END_TEST

/* Nobody is parked, so nothing can be sent or received without room (S-CHAN-3). */
START_TEST(rendezvous_alone)
{
	struct evwork_chan *chan = chan_of(0);

	ck_assert_int_eq(try_send(chan, 1), -EAGAIN);
	ck_assert_int_eq((int)try_recv(chan), -EAGAIN);
	ck_assert_uint_eq(chan_stats_of(chan).peak, 0);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
}
END_TEST

/* With a parked receiver a try_send meets it, and the other way round; each only once
 * (S-CHAN-3). Many meet as many as are parked. */
START_TEST(rendezvous_with_parked)
{
	struct evwork_chan *chan;
	struct party parties[3];
	int64_t values[4] = { 1, 2, 3, 4 };
	struct world world;
	int i;

	world_open(&world, 1);
	chan = chan_of(0);
	for (i = 0; i < 3; i++) {
		party_init(&parties[i]);
		ck_assert_int_eq(party_recv(&parties[i], chan, NULL, world.loop), 0);
	}
	ck_assert_uint_eq(chan_stats_of(chan).receivers, 3);
	ck_assert_int_eq(try_send(chan, 7), 0);
	ck_assert_int_eq(evwork_chan_try_send_many(chan, values, 4), 2);
	ck_assert_int_eq(try_send(chan, 7), -EAGAIN);
	world_turns(&world, 2);
	expect_party(&parties[0], 1, 1);
	ck_assert_int_eq((int)parties[0].value, 7);
	ck_assert_int_eq((int)parties[1].value, 1);
	ck_assert_int_eq((int)parties[2].value, 2);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(party_send(&parties[i], chan, 10 + i, NULL, world.loop), 0);
	ck_assert_int_eq((int)try_recv(chan), 10);
	ck_assert_int_eq(evwork_chan_try_recv_many(chan, values, 4), 2);
	ck_assert_int_eq((int)values[0], 11);
	ck_assert_int_eq((int)values[1], 12);
	ck_assert_int_eq((int)try_recv(chan), -EAGAIN);
	world_turns(&world, 2);
	for (i = 0; i < 3; i++)
		expect_party(&parties[i], 2, 0);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* What is parked first is served first, and what it could use is its: try does not
 * overtake (S-CHAN-6). */
START_TEST(first_come)
{
	struct evwork_chan *chan;
	struct party parties[3];
	struct world world;
	int i;

	world_open(&world, 1);
	chan = chan_of(2);
	ck_assert_int_eq(try_send(chan, 1), 0);
	ck_assert_int_eq(try_send(chan, 2), 0);
	for (i = 0; i < 3; i++) {
		party_init(&parties[i]);
		ck_assert_int_eq(party_send(&parties[i], chan, 3 + i, NULL, world.loop), 0);
	}
	ck_assert_uint_eq(chan_stats_of(chan).senders, 3);
	ck_assert_int_eq((int)try_recv(chan), 1);
	/* The room went to the first of those who waited, at once. */
	ck_assert_int_eq(try_send(chan, 99), -EAGAIN);
	ck_assert_uint_eq(chan_stats_of(chan).senders, 2);
	for (i = 2; i <= 5; i++)
		ck_assert_int_eq((int)try_recv(chan), i);
	world_turns(&world, 2);
	for (i = 0; i < 3; i++) {
		expect_party(&parties[i], 1, 0);
		ck_assert_int_eq(parties[i].order, i + 1);
		ck_assert_int_eq(party_recv(&parties[i], chan, NULL, world.loop), 0);
	}
	ck_assert_int_eq(try_send(chan, 6), 0);
	ck_assert_int_eq((int)try_recv(chan), -EAGAIN);
	ck_assert_int_eq(try_send(chan, 7), 0);
	ck_assert_int_eq(try_send(chan, 8), 0);
	world_turns(&world, 2);
	for (i = 0; i < 3; i++) {
		expect_party(&parties[i], 2, 1);
		ck_assert_int_eq((int)parties[i].value, 6 + i);
	}
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* Lengths, waiting counts and the peak, which draining does not reset (S-CHAN-17). */
START_TEST(statistics)
{
	struct evwork_chan_stats stats;
	struct evwork_chan *chan;
	struct party parties[2];
	struct world world;
	int i;

	world_open(&world, 1);
	chan = chan_of(4);
	stats = chan_stats_of(chan);
	ck_assert_uint_eq(stats.length + stats.peak + stats.senders + stats.receivers, 0);
	ck_assert_uint_eq(stats.capacity, 4);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(try_send(chan, i + 1), 0);
	ck_assert_uint_eq(chan_stats_of(chan).peak, 3);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq((int)try_recv(chan), i + 1);
	ck_assert_uint_eq(chan_stats_of(chan).peak, 3);
	for (i = 0; i < 20; i++) {
		ck_assert_int_eq(try_send(chan, 1), 0);
		ck_assert_int_eq((int)try_recv(chan), 1);
	}
	ck_assert_uint_eq(chan_stats_of(chan).peak, 3);
	for (i = 0; i < 2; i++) {
		party_init(&parties[i]);
		ck_assert_int_eq(party_recv(&parties[i], chan, NULL, world.loop), 0);
	}
	stats = chan_stats_of(chan);
	ck_assert_uint_eq(stats.receivers, 2);
	ck_assert_uint_eq(stats.senders, 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	stats = chan_stats_of(chan);
	ck_assert_uint_eq(stats.receivers, 0);
	ck_assert_uint_eq(stats.length, 0);
	world_turns(&world, 2);
	chan_end(chan);
	world_close(&world);
}
END_TEST

struct share {
	struct world world;
	struct evwork_chan *chan;
};

static void receive_again(struct party *party)
{
	struct share *share = party->arg;

	party->on = NULL;
	/* The first callback's value is kept in rc. */
	party->rc = (int)party->value;
	if (party_recv(party, share->chan, NULL, share->world.loop) != 0)
		party->rc = -1;
}

/* Five receivers that were parked before share ten items: each got some, and each item
 * went to one (S-FAN-7). */
START_TEST(five_share_ten)
{
	struct share scene;
	struct party parties[5];
	int i, seen = 0;

	world_open(&scene.world, 1);
	scene.chan = chan_of(10);
	for (i = 0; i < 5; i++) {
		party_init(&parties[i]);
		parties[i].on = receive_again;
		parties[i].arg = &scene;
		ck_assert_int_eq(party_recv(&parties[i], scene.chan, NULL, scene.world.loop), 0);
	}
	for (i = 1; i <= 10; i++)
		ck_assert_int_eq(try_send(scene.chan, i), 0);
	world_run(&scene.world);
	for (i = 0; i < 5; i++) {
		expect_party(&parties[i], 2, 1);
		ck_assert_int_eq(parties[i].rc, i + 1);
		seen |= 1 << parties[i].rc | 1 << (int)parties[i].value;
	}
	ck_assert_int_eq(seen, (1 << 11) - 2);
	chan_end(scene.chan);
	world_close(&scene.world);
}
END_TEST

/* Everything one can do with a channel, with a system that may fail at any call. */
static void sweep_round(struct world *world, struct evwork_chan *chan)
{
	struct evwork_chan *clone = NULL, *other = NULL;
	struct evwork_case cases[2];
	struct sleeper sleeper;
	struct party parties[2];
	int64_t value = 5;
	int rc, i;

	rc = evwork_chan_clone(chan, EVWORK_CHAN_SEND, &clone);
	expect(rc == 0 || (rc == -ENOMEM && !clone), "%d", rc);
	rc = evwork_chan_new(sizeof(value), 0, note_drop, &other);
	expect(rc == 0 || (rc == -ENOMEM && !other), "%d", rc);
	for (i = 0; i < 2; i++)
		party_init(&parties[i]);
	expect(party_recv(&parties[0], chan, NULL, world->loop) == 0, "receive");
	cases[0] = evwork_recv_case(other, &value);
	cases[1] = evwork_recv_case(chan, &value);
	expect(evwork_select(cases, 2, NULL, world->loop, &parties[1].waiter) == 0, "select");
	expect(try_send(chan, 1) == 0 && try_send(chan, 2) == 0, "send");
	world_turns(world, 2);
	expect(parties[0].calls == 1 && parties[0].value == 1, "%d calls", parties[0].calls);
	expect(parties[1].result == 1 && value == 2, "%d", parties[1].result);
	/* A thread may have no semaphore to wait with. */
	sleeper_send_many(&sleeper, chan, 10, 4, NULL);
	rc = sleeper_end(&sleeper);
	expect(rc == 4, "%d", rc);
	sleeper_recv_many(&sleeper, chan, 4, NULL);
	rc = sleeper_end(&sleeper);
	expect(rc == 4 && sleeper.values[3] == 13, "%d", rc);
	sleeper_recv(&sleeper, chan, NULL);
	while (chan_stats_of(chan).receivers == 0 &&
	       pthread_tryjoin_np(sleeper.thread, NULL) != 0)
		sys_yield();
	if (chan_stats_of(chan).receivers) {
		expect(try_send(chan, 3) == 0, "send");
		rc = sleeper_end(&sleeper);
		expect(rc == 1 && sleeper.values[0] == 3, "%d", rc);
	} else {
		expect(sleeper.rc == -ENOMEM, "%d", sleeper.rc);
	}
	expect(try_send(chan, 9) == 0, "send");
	if (clone)
		expect(evwork_chan_close(clone) == 0 && evwork_chan_free(clone) == 0, "clone");
	expect(evwork_chan_free(other) == 0, "other");
	expect(evwork_chan_close(chan) == 0 && evwork_chan_abandon(chan) == 0, "close");
	expect(evwork_chan_free(chan) == 0, "free");
}

/* With each call to the system failing, alone or with all that follow it, a channel or an
 * end is made or is not; what was made works without memory, and nothing is left
 * (S-GEN-14, S-CHAN-1). */
START_TEST(when_the_system_fails)
{
	struct world world;
	size_t blocks;
	int kind, k, onwards, rc, calls[SYS_CALLS + 1] = { 0 };

	world_open(&world, 1);
	blocks = sys_blocks();
	for (kind = 0; kind <= SYS_CALLS; kind++) {
		for (onwards = 0; onwards < 2; onwards++) {
			k = 0;
			do {
				struct evwork_chan *chan = NULL;

				fault_start((enum sys_call)kind, ++k, onwards);
				rc = evwork_chan_new(sizeof(int64_t), 4, note_drop, &chan);
				expect(rc == 0 || (rc == -ENOMEM && !chan), "%d at %d", rc, k);
				if (rc == 0)
					sweep_round(&world, chan);
				rc = fault_stop();
				expect(sys_blocks() == blocks, "call %d of kind %d: %zu blocks, "
					"then %zu", k, kind, blocks, sys_blocks());
			} while (rc >= k);
			calls[kind] = k - 1;
		}
	}
	ck_assert_int_ge(calls[SYS_MEMORY], 7);
	ck_assert_int_ge(calls[SYS_LOCK], 5);
	support_note("%d allocations, %d locks failed", calls[SYS_MEMORY], calls[SYS_LOCK]);
	world_close(&world);
}
END_TEST

static Suite *chan_suite(void)
{
	Suite *suite = suite_create("chan");
	TCase *tcase = support_case(suite, "arguments");

	tcase_add_test(tcase, sizes);
	tcase_add_test(tcase, malformed);
	tcase_add_test(tcase, order_of_refusals);

	tcase = support_case(suite, "values");
	tcase_add_loop_test(tcase, in_order, 0, 5);
	tcase_add_loop_test(tcase, sizes_of_values, 0, 9);
	tcase_add_test(tcase, many);
	tcase_add_test(tcase, many_without_size);
	tcase_add_test(tcase, rendezvous_alone);
	tcase_add_test(tcase, rendezvous_with_parked);
	tcase_add_test(tcase, first_come);
	tcase_add_test(tcase, statistics);
	tcase_add_test(tcase, five_share_ten);

	tcase = support_case(suite, "failures");
	tcase_add_test(tcase, when_the_system_fails);
	return suite;
}

int main(void)
{
	return support_run(chan_suite());
}
