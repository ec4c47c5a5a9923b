/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The ends of channels: cloning, closing, abandoning and freeing them, what becomes of who
 * waits and of the values that are left, and closing against all that.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"


/* After close what was sent is received, in order, then the end, for ever; a second close
 * says so, and a send gives -EPIPE (S-CHAN-8, -9). */
START_TEST(closing)
{
	struct evwork_chan *chan = chan_of(3);
	int i;

	for (i = 1; i <= 3; i++)
		ck_assert_int_eq(try_send(chan, i), 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(evwork_chan_close(chan), -EALREADY);
	ck_assert_int_eq(try_send(chan, 4), -EPIPE);
	for (i = 1; i <= 3; i++)
		ck_assert_int_eq((int)try_recv(chan), i);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq((int)try_recv(chan), 0);
	ck_assert_int_eq(try_send(chan, 4), -EPIPE);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
}
END_TEST

/* Parked receivers get the end, parked senders -EPIPE and keep their values (S-CHAN-8, -9),
 * with a callback in a later turn (S-GEN-3) and as threads. */
START_TEST(closing_with_parked)
{
	struct sleeper sleeper;
	struct evwork_chan *chan;
	struct party parties[2];
	struct world world;
	int i;

	world_open(&world, 1);
	for (i = 0; i < 2; i++)
		party_init(&parties[i]);
	chan = chan_of(1);
	ck_assert_int_eq(party_recv(&parties[0], chan, NULL, world.loop), 0);
	sleeper_recv(&sleeper, chan, NULL);
	await_parked(chan, 0, 2);
	ck_assert_int_eq(party_recv(&parties[1], chan, NULL, world.loop), 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(parties[0].calls, 0);
	ck_assert_int_eq(sleeper_end(&sleeper), 0);
	world_turns(&world, 2);
	for (i = 0; i < 2; i++)
		expect_party(&parties[i], 1, 0);
	chan_end(chan);

	chan = chan_of(1);
	ck_assert_int_eq(try_send(chan, 1), 0);
	ck_assert_int_eq(party_send(&parties[0], chan, 2, NULL, world.loop), 0);
	sleeper_send(&sleeper, chan, 3, NULL);
	await_parked(chan, 2, 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(sleeper_end(&sleeper), -EPIPE);
	world_turns(&world, 2);
	expect_party(&parties[0], 2, -EPIPE);
	ck_assert_int_eq((int)parties[0].value, 2);
	ck_assert_int_eq((int)try_recv(chan), 1);
	ck_assert_int_eq((int)try_recv(chan), 0);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
	world_close(&world);
}
END_TEST

/* A receiver whose context has died is not told of the end while values are there
 * (S-CHAN-7, -8). */
START_TEST(closing_with_a_dead_receiver)
{
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	struct party party;
	struct world world;

	world_open(&world, 1);
	chan = chan_of(1);
	party_init(&party);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(party_recv(&party, chan, ctx, world.loop), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(try_send(chan, 1), 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	world_turns(&world, 2);
	expect_party(&party, 1, -ECANCELED);
	ck_assert_int_eq((int)try_recv(chan), 1);
	ck_assert_int_eq((int)try_recv(chan), 0);
	chan_end(chan);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* Abandoned: what is in the channel goes to drop, each value once, in order; sends give
 * -EPIPE, parked ones too, and receives -ESHUTDOWN (S-CHAN-10). */
START_TEST(abandoning)
{
	struct evwork_chan *chan;
	struct party party;
	struct sleeper sleeper;
	struct world world;
	int i;

	world_open(&world, 1);
	party_init(&party);
	chan = chan_of(4);
	/* So that the values lie round the end of the ring. */
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(try_send(chan, 9), 0);
		ck_assert_int_eq((int)try_recv(chan), 9);
	}
	for (i = 1; i <= 4; i++)
		ck_assert_int_eq(try_send(chan, i), 0);
	ck_assert_int_eq(party_send(&party, chan, 5, NULL, world.loop), 0);
	sleeper_send(&sleeper, chan, 6, NULL);
	await_parked(chan, 2, 0);
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	ck_assert_int_eq(atomic_load(&dropped_count), 4);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq((int)dropped[i], i + 1);
	ck_assert_int_eq(sleeper_end(&sleeper), -EPIPE);
	ck_assert_int_eq(party.calls, 0);
	world_turns(&world, 2);
	expect_party(&party, 1, -EPIPE);
	ck_assert_int_eq(evwork_chan_abandon(chan), -EALREADY);
	ck_assert_int_eq(try_send(chan, 7), -EPIPE);
	ck_assert_int_eq((int)try_recv(chan), -ESHUTDOWN);
	ck_assert_int_eq(party_recv(&party, chan, NULL, world.loop), -ESHUTDOWN);
	/* A send is not wrong, it just comes too late. */
	ck_assert_int_eq(party_send(&party, chan, 7, NULL, world.loop), 0);
	world_turns(&world, 2);
	expect_party(&party, 2, -EPIPE);
	ck_assert_uint_eq(chan_stats_of(chan).length, 0);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 4);
	world_close(&world);
}
END_TEST

/* Parked receivers of an end that is abandoned get -ESHUTDOWN (S-CHAN-10, -11). */
START_TEST(abandoning_with_parked_receivers)
{
	struct evwork_chan *chan;
	struct party party;
	struct sleeper sleeper;
	struct world world;

	world_open(&world, 1);
	party_init(&party);
	chan = chan_of(1);
	ck_assert_int_eq(party_recv(&party, chan, NULL, world.loop), 0);
	sleeper_recv(&sleeper, chan, NULL);
	await_parked(chan, 0, 2);
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	ck_assert_int_eq(sleeper_end(&sleeper), -ESHUTDOWN);
	world_turns(&world, 2);
	expect_party(&party, 1, -ESHUTDOWN);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* The stream ends with the last end that sends; until then a closed one is just shut
 * (S-CHAN-11). */
START_TEST(several_senders)
{
	struct evwork_chan *chan = chan_of(4), *a, *b, *clone = NULL;

	a = clone_of(chan, EVWORK_CHAN_SEND);
	b = clone_of(a, EVWORK_CHAN_SEND);
	ck_assert_int_eq(evwork_chan_clone(a, EVWORK_CHAN_RECV, &clone), -EPERM);
	ck_assert_int_eq(evwork_chan_clone(a, EVWORK_CHAN_SEND | EVWORK_CHAN_RECV, &clone),
		-EPERM);
	ck_assert_int_eq(try_send(a, 1), 0);
	ck_assert_int_eq(try_send(b, 2), 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	ck_assert_int_eq(try_send(chan, 3), -ESHUTDOWN);
	ck_assert_int_eq(evwork_chan_clone(chan, EVWORK_CHAN_SEND, &clone), -ESHUTDOWN);
	ck_assert_ptr_null(clone);
	ck_assert_int_eq(evwork_chan_close(a), 0);
	ck_assert_int_eq(evwork_chan_close(a), -EALREADY);
	ck_assert_int_eq(try_send(a, 3), -ESHUTDOWN);
	chan_end(a);
	ck_assert_int_eq((int)try_recv(chan), 1);
	ck_assert_int_eq((int)try_recv(chan), 2);
	ck_assert_int_eq((int)try_recv(chan), -EAGAIN);
	ck_assert_int_eq(evwork_chan_close(b), 0);
	ck_assert_int_eq((int)try_recv(chan), 0);
	ck_assert_int_eq(try_send(b, 3), -EPIPE);
	chan_end(b);
	chan_end(chan);
}
END_TEST

/* The channel is abandoned with the last end that receives; the others keep what is in
 * it (S-CHAN-11). */
START_TEST(several_receivers)
{
	struct evwork_chan *chan = chan_of(4), *a, *clone;

	a = clone_of(chan, EVWORK_CHAN_RECV);
	ck_assert_int_eq(try_send(chan, 1), 0);
	ck_assert_int_eq(try_send(chan, 2), 0);
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	ck_assert_int_eq((int)try_recv(chan), -ESHUTDOWN);
	ck_assert_int_eq(evwork_chan_clone(chan, EVWORK_CHAN_RECV, &clone), -ESHUTDOWN);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
	ck_assert_int_eq((int)try_recv(a), 1);
	ck_assert_int_eq(try_send(chan, 3), 0);
	ck_assert_int_eq(evwork_chan_abandon(a), 0);
	ck_assert_int_eq(atomic_load(&dropped_count), 2);
	ck_assert_int_eq((int)dropped[0], 2);
	ck_assert_int_eq((int)dropped[1], 3);
	ck_assert_int_eq(try_send(chan, 4), -EPIPE);
	chan_end(a);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 2);
}
END_TEST

/* Closing one clone wakes those who wait on it, with -ESHUTDOWN, and nobody else
 * (S-CHAN-11). */
START_TEST(closing_wakes_its_own)
{
	struct evwork_chan *chan, *a, *b;
	struct party parties[4];
	struct world world;
	int i;

	world_open(&world, 1);
	chan = chan_of(0);
	a = clone_of(chan, EVWORK_CHAN_SEND);
	b = clone_of(chan, EVWORK_CHAN_SEND);
	for (i = 0; i < 4; i++)
		party_init(&parties[i]);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(party_send(&parties[i], i & 1 ? b : a, i + 1, NULL, world.loop),
			0);
	ck_assert_int_eq(evwork_chan_close(a), 0);
	world_turns(&world, 2);
	expect_party(&parties[0], 1, -ESHUTDOWN);
	expect_party(&parties[2], 1, -ESHUTDOWN);
	ck_assert_uint_eq(chan_stats_of(chan).senders, 2);
	ck_assert_int_eq((int)try_recv(chan), 2);
	ck_assert_int_eq((int)try_recv(chan), 4);
	world_turns(&world, 2);
	expect_party(&parties[1], 1, 0);
	expect_party(&parties[3], 1, 0);
	chan_end(a);
	ck_assert_int_eq(evwork_chan_close(b), 0);
	chan_end(b);

	a = clone_of(chan, EVWORK_CHAN_RECV);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(party_recv(&parties[i], i ? chan : a, NULL, world.loop), 0);
	ck_assert_int_eq(evwork_chan_abandon(a), 0);
	ck_assert_int_eq(try_send(chan, 8), 0);
	world_turns(&world, 2);
	expect_party(&parties[0], 2, -ESHUTDOWN);
	expect_party(&parties[1], 2, 1);
	ck_assert_int_eq((int)parties[1].value, 8);
	chan_end(a);
	chan_end(chan);
	world_close(&world);
}
END_TEST

/* An end is not freed while somebody waits on it, nor while it and others are open; with the
 * last one what is left goes to drop, in order, each value once (S-CHAN-18). */
START_TEST(freeing)
{
	struct evwork_chan *chan, *a;
	struct party party;
	struct world world;
	int i;

	world_open(&world, 1);
	party_init(&party);
	chan = chan_of(4);
	ck_assert_int_eq(party_recv(&party, chan, NULL, world.loop), 0);
	ck_assert_int_eq(evwork_chan_free(chan), -EBUSY);
	ck_assert_int_eq(try_send(chan, 9), 0);
	/* Until it was called back. */
	ck_assert_int_eq(evwork_chan_free(chan), -EBUSY);
	world_turns(&world, 2);
	a = clone_of(chan, EVWORK_CHAN_SEND);
	ck_assert_int_eq(evwork_chan_free(chan), -EBUSY);
	ck_assert_int_eq(evwork_chan_free(a), -EBUSY);
	for (i = 1; i <= 3; i++)
		ck_assert_int_eq(try_send(a, i), 0);
	ck_assert_int_eq(evwork_chan_close(a), 0);
	chan_end(a);
	ck_assert_int_eq((int)try_recv(chan), 1);
	ck_assert_int_eq(try_send(chan, 4), 0);
	ck_assert_int_eq(try_send(chan, 5), 0);
	ck_assert_int_eq(atomic_load(&dropped_count), 0);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 4);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq((int)dropped[i], i + 2);
	world_close(&world);
}
END_TEST

/* Values that a closed channel still has go to drop when it is freed (S-CHAN-18). */
START_TEST(freeing_after_close)
{
	struct evwork_chan *chan = chan_of(4);

	ck_assert_int_eq(try_send(chan, 1), 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	chan_end(chan);
	ck_assert_int_eq(atomic_load(&dropped_count), 1);
}
END_TEST

static struct evwork_chan *to_free;
static int free_rc;

static void drop_and_free(void *value)
{
	note_drop(value);
	if (to_free)
		free_rc = evwork_chan_free(to_free);
	to_free = NULL;
}

/* Drop may free the end that abandons; the rest is dropped all the same (S-GEN-5). */
START_TEST(freed_in_drop)
{
	struct evwork_chan *chan;
	int i;

	atomic_store(&dropped_count, 0);
	ck_assert_int_eq(evwork_chan_new(sizeof(int64_t), 3, drop_and_free, &chan), 0);
	for (i = 1; i <= 3; i++)
		ck_assert_int_eq(try_send(chan, i), 0);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	free_rc = 99;
	to_free = chan;
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	ck_assert_int_eq(free_rc, 0);
	ck_assert_int_eq(atomic_load(&dropped_count), 3);
}
END_TEST

/* Drop may use the channel: no lock is held (S-GEN-5). */
static void drop_and_look(void *value)
{
	struct evwork_chan_stats stats;

	note_drop(value);
	if (evwork_chan_stats(to_free, &stats) != 0 || stats.length != 0 ||
	    evwork_chan_try_send(to_free, value) != -EPIPE)
		free_rc = 1;
}

START_TEST(used_in_drop)
{
	struct evwork_chan *chan;

	atomic_store(&dropped_count, 0);
	ck_assert_int_eq(evwork_chan_new(sizeof(int64_t), 3, drop_and_look, &chan), 0);
	ck_assert_int_eq(try_send(chan, 1), 0);
	ck_assert_int_eq(try_send(chan, 2), 0);
	to_free = chan;
	free_rc = 0;
	ck_assert_int_eq(evwork_chan_abandon(chan), 0);
	ck_assert_int_eq(free_rc, 0);
	ck_assert_int_eq(atomic_load(&dropped_count), 2);
	chan_end(chan);
}
END_TEST

/* The channel goes with its last end, whoever frees that; all were closed before. */
static void free_clone(void *arg)
{
	struct evwork_chan *clone = *(struct evwork_chan **)arg;

	if (evwork_chan_close(clone) != 0 || evwork_chan_free(clone) != 0)
		abort();
}

START_TEST(ends_freed_together)
{
	struct evwork_chan *chan, *clone;
	struct rival rival;
	int rounds = scaled(10000), round;

	chance_seed(0);
	rival_start(&rival, free_clone, &clone, 1);
	for (round = 1; round <= rounds; round++) {
		chan = chan_of(1);
		clone = clone_of(chan, EVWORK_CHAN_SEND);
		expect(evwork_chan_close(chan) == 0, "%d", round);
		expect(evwork_chan_abandon(chan) == 0, "%d", round);
		rival_go(&rival, round);
		dawdle();
		expect(evwork_chan_free(chan) == 0, "%d", round);
		rival_await(&rival, round);
	}
	rival_end(&rival);
}
END_TEST

/* Closing and abandoning against those who wait and those who come. */
struct siege {
	struct evwork_chan *chan, *ends[2];
	int64_t value;
	int send_rc, recv_rc, close_rc;
	bool abandons;
};

static void siege_send(void *arg)
{
	struct siege *siege = arg;

	siege->send_rc = evwork_chan_send_wait(siege->ends[0], &(int64_t){ 5 }, NULL);
}

static void siege_receive(void *arg)
{
	struct siege *siege = arg;

	siege->recv_rc = evwork_chan_recv_wait(siege->ends[1], &siege->value, NULL);
}

static void siege_close(void *arg)
{
	struct siege *siege = arg;
	int i;

	for (i = chance(6); i > 0; i--)
		sys_yield();
	siege->close_rc = siege->abandons ? evwork_chan_abandon(siege->ends[1]) :
		evwork_chan_close(siege->ends[0]);
}

/* The last end of a side closes while a thread sends and another receives on a channel
 * with room for none or one: a value that was sent is received or dropped, else it is the
 * sender's; and nobody is left waiting (S-CHAN-8, -9, -10, S-GEN-18). */
START_TEST(closing_against_all)
{
	static struct siege siege;
	struct rival rivals[3];
	int rounds = scaled(4000), round, i, ends = 0;

	chance_seed(0);
	siege.abandons = _i & 1;
	rival_start(&rivals[0], siege_send, &siege, 1);
	rival_start(&rivals[1], siege_receive, &siege, 2);
	rival_start(&rivals[2], siege_close, &siege, 3);
	for (round = 1; round <= rounds; round++) {
		bool sent, received;

		siege.chan = chan_of((size_t)_i / 2);
		siege.ends[0] = clone_of(siege.chan, EVWORK_CHAN_SEND);
		siege.ends[1] = clone_of(siege.chan, EVWORK_CHAN_RECV);
		expect(evwork_chan_close(siege.chan) == 0, "%d", round);
		expect(evwork_chan_abandon(siege.chan) == 0, "%d", round);
		siege.value = 0;
		for (i = 0; i < 3; i++)
			rival_go(&rivals[i], round);
		for (i = 0; i < 3; i++)
			rival_await(&rivals[i], round);
		expect(siege.close_rc == 0, "%d in round %d", siege.close_rc, round);
		sent = siege.send_rc == 0;
		received = siege.recv_rc == 1;
		expect(sent || siege.send_rc == -EPIPE, "%d in round %d", siege.send_rc, round);
		expect(received || siege.recv_rc == (siege.abandons ? -ESHUTDOWN : 0),
			"%d in round %d", siege.recv_rc, round);
		expect(sent == received + atomic_load(&dropped_count),
			"%d, %d, %d in round %d", sent, received, atomic_load(&dropped_count),
			round);
		expect(!received || siege.value == 5, "%d in round %d", (int)siege.value, round);
		ends += !received;
		evwork_chan_close(siege.ends[0]);
		evwork_chan_abandon(siege.ends[1]);
		for (i = 0; i < 2; i++)
			expect(evwork_chan_free(siege.ends[i]) == 0, "%d", round);
		expect(evwork_chan_free(siege.chan) == 0, "%d", round);
	}
	for (i = 0; i < 3; i++)
		rival_end(&rivals[i]);
	support_note("%d of %d rounds ended without a transfer", ends, rounds);
}
END_TEST

static Suite *ends_suite(void)
{
	Suite *suite = suite_create("chan_ends");
	TCase *tcase = support_case(suite, "closing");

	tcase_add_test(tcase, closing);
	tcase_add_test(tcase, closing_with_parked);
	tcase_add_test(tcase, closing_with_a_dead_receiver);
	tcase_add_test(tcase, abandoning);
	tcase_add_test(tcase, abandoning_with_parked_receivers);

	tcase = support_case(suite, "clones");
	tcase_add_test(tcase, several_senders);
	tcase_add_test(tcase, several_receivers);
	tcase_add_test(tcase, closing_wakes_its_own);

	tcase = support_case(suite, "freeing");
	tcase_add_test(tcase, freeing);
	tcase_add_test(tcase, freeing_after_close);
	tcase_add_test(tcase, freed_in_drop);
	tcase_add_test(tcase, used_in_drop);

	tcase = support_case(suite, "stress");
	tcase_add_test(tcase, ends_freed_together);
	tcase_add_loop_test(tcase, closing_against_all, 0, 4);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(ends_suite());
}
