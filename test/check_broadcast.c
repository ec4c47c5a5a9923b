/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Broadcasts: what subscribers get, what becomes of items for which they have no room,
 * sends that wait, references to items, refusals, and failing system calls. Subscribers
 * receive from their channels; those with a loop are in check_broadcast_life.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"

#include <pthread.h>

#include "flow/broadcast.h"
#include "flow/chan.h"

/* Items are numbers. Each copy of one has a reference, and each that was received or
 * dropped gives it back; what is not 0 at the end was lost or doubled. */
#define NUMBERS 4096
static atomic_int copies[NUMBERS];
static atomic_int drops;

static void ref(const void *item, int n)
{
	atomic_fetch_add(&copies[*(const int *)item % NUMBERS], n);
}

static void unref(int item)
{
	atomic_fetch_sub(&copies[item % NUMBERS], 1);
}

static void drop(void *item)
{
	unref(*(int *)item);
	atomic_fetch_add(&drops, 1);
}

static void expect_no_copies(void)
{
	int i;

	for (i = 0; i < NUMBERS; i++)
		expect(atomic_load(&copies[i]) == 0, "%d copies of %d", atomic_load(&copies[i]), i);
}

struct station {
	struct world world;
	struct evwork_broadcast *broadcast;
	struct evwork_subscription *subs[4];
	int next;               /* to be sent */
};

static void station_open(struct station *station)
{
	memset(station, 0, sizeof(*station));
	memset(copies, 0, sizeof(copies));
	atomic_store(&drops, 0);
	world_open(&station->world, 1);
	ck_assert_int_eq(evwork_broadcast_new(sizeof(int), ref, drop, &station->broadcast), 0);
}

static void station_close(struct station *station)
{
	int i;

	for (i = 0; i < 4; i++)
		ck_assert_int_eq(evwork_unsubscribe(station->subs[i]), 0);
	ck_assert_int_eq(evwork_broadcast_free(station->broadcast), 0);
	expect_no_copies();
	world_close(&station->world);
}

static void subscribe(struct station *station, int i, enum evwork_subscription_full full,
	size_t limit)
{
	struct evwork_subscription_options options = { .full = full, .limit = limit };

	ck_assert_int_eq(evwork_subscribe(station->broadcast, &options, &station->subs[i]), 0);
}

static int send_next(struct station *station)
{
	int rc = evwork_broadcast_try_send(station->broadcast, &station->next);

	station->next += rc == 0;
	return rc;
}

static void send_some(struct station *station, int count)
{
	while (count-- > 0)
		ck_assert_int_eq(send_next(station), 0);
}

/* What the subscriber has next: an item, or what the receive gave, less 100. */
static int get(struct station *station, int i)
{
	int item, rc = evwork_chan_try_recv(evwork_subscription_chan(station->subs[i]), &item);

	if (rc != 1)
		return rc - 100;
	unref(item);
	return item;
}

static void expect_items(struct station *station, int i, int from, int to)
{
	for (; from < to; from++)
		ck_assert_int_eq(get(station, i), from);
}

static void expect_dropped(struct station *station, int i, uint64_t dropped)
{
	ck_assert_uint_eq(evwork_subscription_dropped(station->subs[i]), dropped);
}

#define NOTHING (-EAGAIN - 100)

/* Each subscriber gets every item that was sent after it has come, in order, and none
 * that was sent before, or after it has left (S-FAN-10). */
START_TEST(all_since_they_came)
{
	struct station station;

	station_open(&station);
	send_some(&station, 3);
	subscribe(&station, 0, EVWORK_BLOCK, 0);
	send_some(&station, 2);
	subscribe(&station, 1, EVWORK_DROP_NEW, 0);
	subscribe(&station, 2, EVWORK_DROP_OLD, 1);
	send_some(&station, 40);
	expect_items(&station, 0, 3, 20);
	subscribe(&station, 3, EVWORK_DISCONNECT, 10);
	ck_assert_int_eq(evwork_unsubscribe(station.subs[1]), 0);
	station.subs[1] = NULL;
	send_some(&station, 5);
	expect_items(&station, 0, 20, 50);
	expect_items(&station, 2, 49, 50);
	expect_items(&station, 3, 45, 50);
	ck_assert_int_eq(get(&station, 0), NOTHING);
	ck_assert_int_eq(get(&station, 2), NOTHING);
	ck_assert_int_eq(get(&station, 3), NOTHING);
	station_close(&station);
}
END_TEST

/* Without options the queue has the default limit, and the subscriber blocks: then nobody
 * gets the item, and it can be sent once there is room (S-FAN-10). */
START_TEST(block)
{
	struct station station;
	int i;

	station_open(&station);
	ck_assert_int_eq(evwork_subscribe(station.broadcast, NULL, &station.subs[0]), 0);
	subscribe(&station, 1, EVWORK_DROP_OLD, 100);
	subscribe(&station, 2, EVWORK_BLOCK, 100);
	send_some(&station, EVWORK_SUBSCRIPTION_LIMIT_DEFAULT);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(send_next(&station), -EAGAIN);
	expect_items(&station, 0, 0, 1);
	send_some(&station, 1);
	ck_assert_int_eq(send_next(&station), -EAGAIN);
	expect_items(&station, 0, 1, 65);
	expect_items(&station, 1, 0, 65);
	expect_items(&station, 2, 0, 65);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(get(&station, i), NOTHING);
		expect_dropped(&station, i, 0);
	}
	station_close(&station);
}
END_TEST

/* One that drops what is new keeps what it has; it is counted, and slows nobody
 * (S-FAN-10). */
START_TEST(drop_new)
{
	struct station station;

	station_open(&station);
	subscribe(&station, 0, EVWORK_DROP_NEW, 4);
	subscribe(&station, 1, EVWORK_BLOCK, 64);
	send_some(&station, 10);
	expect_dropped(&station, 0, 6);
	ck_assert_int_eq(atomic_load(&drops), 0);
	expect_items(&station, 0, 0, 2);
	send_some(&station, 3);
	expect_dropped(&station, 0, 7);
	expect_items(&station, 0, 2, 4);
	expect_items(&station, 0, 10, 12);
	ck_assert_int_eq(get(&station, 0), NOTHING);
	expect_items(&station, 1, 0, 13);
	expect_dropped(&station, 1, 0);
	station_close(&station);
}
END_TEST

/* One that drops what is old has always the newest; what it did not get is counted, and
 * goes to drop, and it slows nobody (S-FAN-10). */
START_TEST(drop_old)
{
	struct station station;

	station_open(&station);
	subscribe(&station, 0, EVWORK_DROP_OLD, 4);
	subscribe(&station, 1, EVWORK_DROP_OLD, 1);
	subscribe(&station, 2, EVWORK_BLOCK, 64);
	send_some(&station, 10);
	expect_dropped(&station, 0, 6);
	expect_dropped(&station, 1, 9);
	ck_assert_int_eq(atomic_load(&drops), 15);
	expect_items(&station, 0, 6, 8);
	send_some(&station, 1);
	expect_dropped(&station, 0, 6);
	send_some(&station, 2);
	expect_dropped(&station, 0, 7);
	expect_items(&station, 0, 9, 13);
	expect_items(&station, 1, 12, 13);
	ck_assert_int_eq(get(&station, 0), NOTHING);
	expect_items(&station, 2, 0, 13);
	station_close(&station);
}
END_TEST

/* Without drop and ref, and with items that have no size, or a large one. */
START_TEST(drop_old_of_any_size)
{
	static const size_t sizes[] = { 0, 1, 3000, 100000 };
	static unsigned char item[100000];
	size_t size = sizes[_i];
	struct evwork_broadcast *broadcast;
	struct evwork_subscription *sub;
	struct evwork_subscription_options options = { .full = EVWORK_DROP_OLD, .limit = 3 };
	int i;

	ck_assert_int_eq(evwork_broadcast_new(size, NULL, NULL, &broadcast), 0);
	ck_assert_int_eq(evwork_subscribe(broadcast, &options, &sub), 0);
	for (i = 0; i < 8; i++) {
		memset(item, i, size);
		ck_assert_int_eq(evwork_broadcast_try_send(broadcast, size ? item : NULL), 0);
	}
	ck_assert_uint_eq(evwork_subscription_dropped(sub), 5);
	for (i = 5; i < 8; i++) {
		ck_assert_int_eq(evwork_chan_try_recv(evwork_subscription_chan(sub), item), 1);
		ck_assert(size == 0 || (item[0] == i && item[size - 1] == i));
	}
	ck_assert_int_eq(evwork_chan_try_recv(evwork_subscription_chan(sub), item), -EAGAIN);
	ck_assert_int_eq(evwork_unsubscribe(sub), 0);
	ck_assert_int_eq(evwork_broadcast_free(broadcast), 0);
}
END_TEST

static int large_drops, large_sum;

static void drop_large(void *item)
{
	large_drops++;
	large_sum += *(unsigned char *)item;
}

/* Large items that have to make room are dropped whole, those of all subscribers; without
 * the memory for that nothing is sent. */
START_TEST(many_large_items_make_room)
{
	enum { SIZE = 700 };
	static unsigned char item[SIZE];
	struct evwork_broadcast *broadcast;
	struct evwork_subscription *subs[5];
	struct evwork_subscription_options options = { .full = EVWORK_DROP_OLD, .limit = 1 };
	int i;

	large_drops = large_sum = 0;
	ck_assert_int_eq(evwork_broadcast_new(SIZE, NULL, drop_large, &broadcast), 0);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(evwork_subscribe(broadcast, &options, &subs[i]), 0);
	for (i = 1; i <= 10; i++) {
		memset(item, i, SIZE);
		fault_start(SYS_MEMORY, 1, true);
		ck_assert_int_eq(evwork_broadcast_try_send(broadcast, item), -ENOMEM);
		fault_stop();
		ck_assert_int_eq(evwork_broadcast_try_send(broadcast, item), 0);
	}
	ck_assert_int_eq(large_drops, 45);
	ck_assert_int_eq(large_sum, 45 * 5);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(evwork_unsubscribe(subs[i]), 0);
	ck_assert_int_eq(large_sum, 55 * 5);
	ck_assert_int_eq(evwork_broadcast_free(broadcast), 0);
}
END_TEST

/* Frees all that sends and receives, inside a send, and has other memory take its place. */
static struct station *to_free;
static void *in_its_place;
static int frees;

static void free_station(void)
{
	struct station *station = to_free;
	int i;

	if (!station)
		return;
	to_free = NULL;
	for (i = 0; i < 4; i++) {
		frees += evwork_unsubscribe(station->subs[i]) == 0;
		station->subs[i] = NULL;
	}
	frees += evwork_broadcast_free(station->broadcast) == 0;
	station->broadcast = NULL;
	in_its_place = malloc(sizeof(struct evwork_broadcast));
	if (in_its_place)
		memset(in_its_place, 0, sizeof(struct evwork_broadcast));
}

static void ref_and_free(const void *item, int n)
{
	ref(item, n);
	free_station();
}

static void drop_and_free(void *item)
{
	drop(item);
	free_station();
}

/* What takes references, or drops what has to make room, may free the subscribers and the
 * broadcast: the send goes on to its end, and no copy is lost (S-GEN-5, S-GEN-18). */
START_TEST(freed_inside_a_send)
{
	struct station station;
	int i;

	station_open(&station);
	ck_assert_int_eq(evwork_broadcast_free(station.broadcast), 0);
	ck_assert_int_eq(evwork_broadcast_new(sizeof(int), _i ? ref : ref_and_free,
		_i ? drop_and_free : drop, &station.broadcast), 0);
	to_free = NULL;
	frees = 0;
	for (i = 0; i < 4; i++)
		subscribe(&station, i, EVWORK_DROP_OLD, 1);
	send_some(&station, 1);
	to_free = &station;
	ck_assert_int_eq(send_next(&station), _i ? 0 : -ESHUTDOWN);
	ck_assert_int_eq(frees, 5);
	ck_assert_int_eq(atomic_load(&drops), _i ? 8 : 4);
	free(in_its_place);
	station_close(&station);
}
END_TEST

/* One that is disconnected gets what it has queued, then -EPIPE, for ever; others do not
 * notice (S-FAN-10). */
START_TEST(disconnect)
{
	struct station station;
	int item;

	station_open(&station);
	subscribe(&station, 0, EVWORK_DISCONNECT, 4);
	subscribe(&station, 1, EVWORK_BLOCK, 64);
	send_some(&station, 4);
	expect_dropped(&station, 0, 0);
	send_some(&station, 6);
	expect_dropped(&station, 0, 1);
	expect_items(&station, 0, 0, 4);
	ck_assert_int_eq(get(&station, 0), -EPIPE - 100);
	ck_assert_int_eq(get(&station, 0), -EPIPE - 100);
	ck_assert_int_eq(evwork_chan_try_recv_many(evwork_subscription_chan(station.subs[0]),
		&item, 1), -EPIPE);
	expect_items(&station, 1, 0, 10);
	station_close(&station);
}
END_TEST

/* With several in a row that are disconnected by one item. */
START_TEST(all_are_disconnected)
{
	struct station station;
	int i;

	station_open(&station);
	for (i = 0; i < 4; i++)
		subscribe(&station, i, EVWORK_DISCONNECT, 2);
	send_some(&station, 9);
	for (i = 0; i < 4; i++) {
		expect_items(&station, i, 0, 2);
		ck_assert_int_eq(get(&station, i), -EPIPE - 100);
	}
	station_close(&station);
}
END_TEST

/* Closing ends the stream after what is queued, with 0; nothing more is sent. A broadcast
 * may be freed before its subscriptions. */
START_TEST(closing)
{
	struct station station;
	struct evwork_subscription *late = NULL;

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 8);
	subscribe(&station, 1, EVWORK_BLOCK, 8);
	send_some(&station, 3);
	if (_i) {
		ck_assert_int_eq(evwork_broadcast_close(station.broadcast), 0);
		ck_assert_int_eq(evwork_broadcast_close(station.broadcast), -EALREADY);
		ck_assert_int_eq(send_next(&station), -ESHUTDOWN);
		ck_assert_int_eq(evwork_subscribe(station.broadcast, NULL, &late), -ESHUTDOWN);
		ck_assert_ptr_null(late);
	}
	ck_assert_int_eq(evwork_broadcast_free(station.broadcast), 0);
	station.broadcast = NULL;
	expect_items(&station, 0, 0, 3);
	ck_assert_int_eq(get(&station, 0), -100);
	ck_assert_int_eq(get(&station, 0), -100);
	expect_items(&station, 1, 0, 2);
	/* What is left goes to drop. */
	station_close(&station);
	ck_assert_int_eq(atomic_load(&drops), 1);
}
END_TEST

/* A subscriber that has abandoned its channel is none any more, whatever its policy: it
 * does not block (S-FAN-10). */
START_TEST(abandoned)
{
	struct station station;
	int i;

	station_open(&station);
	for (i = 0; i < 4; i++)
		subscribe(&station, i, (enum evwork_subscription_full)i, 2);
	send_some(&station, 2);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(evwork_chan_abandon(evwork_subscription_chan(station.subs[i])), 0);
	send_some(&station, 10);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(get(&station, i), -ESHUTDOWN - 100);
		expect_dropped(&station, i, 0);
	}
	ck_assert_int_eq(atomic_load(&drops), 8);
	station_close(&station);
}
END_TEST

/* Selects know subscriptions: a disconnect is a ready case. */
START_TEST(in_a_select)
{
	struct station station;
	struct evwork_case cases[2];
	int items[2], i;

	station_open(&station);
	subscribe(&station, 0, EVWORK_DISCONNECT, 1);
	subscribe(&station, 1, EVWORK_BLOCK, 1);
	for (i = 0; i < 2; i++)
		cases[i] = evwork_recv_case(evwork_subscription_chan(station.subs[i]), &items[i]);
	ck_assert_int_eq(evwork_select_try(cases, 2), -EAGAIN);
	send_some(&station, 1);
	expect_items(&station, 1, 0, 1);
	ck_assert_int_eq(evwork_select_try(cases, 2), 0);
	ck_assert_int_eq(cases[0].status, 1);
	unref(items[0]);
	send_some(&station, 1);
	expect_items(&station, 1, 1, 2);
	send_some(&station, 1);
	expect_items(&station, 1, 2, 3);
	expect_items(&station, 0, 1, 2);
	ck_assert_int_eq(evwork_select_try(cases, 2), 0);
	ck_assert_int_eq(cases[0].status, -EPIPE);
	station_close(&station);
}
END_TEST

/* Sends that wait. */

struct sender {
	pthread_t thread;
	struct evwork_broadcast *broadcast;
	struct evwork_ctx *ctx;
	int first, count, rc;
};

static void *send_all(void *arg)
{
	struct sender *sender = arg;
	int i;

	for (i = 0; i < sender->count; i++) {
		int item = sender->first + i;

		sender->rc = evwork_broadcast_send_wait(sender->broadcast, &item, sender->ctx);
		if (sender->rc)
			break;
	}
	return NULL;
}

static void sender_start(struct sender *sender, struct station *station, int first, int count,
	struct evwork_ctx *ctx)
{
	*sender = (struct sender){ .broadcast = station->broadcast, .ctx = ctx, .first = first,
		.count = count, .rc = 1 };
	ck_assert_int_eq(pthread_create(&sender->thread, NULL, send_all, sender), 0);
}

static void sender_end(struct sender *sender, int rc)
{
	ck_assert_int_eq(pthread_join(sender->thread, NULL), 0);
	ck_assert_int_eq(sender->rc, rc);
}

/* Until n sends wait for room at the subscriber. */
static void await_waiting(struct station *station, int i, size_t n)
{
	struct evwork_chan *chan = station->subs[i]->in;
	struct evwork_case *at;
	size_t there;

	do {
		sys_yield();
		chan_lock(chan->core);
		for (at = chan->core->watchers.head, there = 0; at; at = at->_next)
			there++;
		chan_unlock(chan->core);
	} while (there < n);
}

/* A thread waits until all who block have room, and all get the item then
 * (S-FAN-10). */
START_TEST(thread_waits)
{
	struct station station;
	struct sender sender;
	int item, i;

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 2);
	subscribe(&station, 1, EVWORK_BLOCK, 3);
	subscribe(&station, 2, EVWORK_DROP_NEW, 100);
	sender_start(&sender, &station, 0, 100, NULL);
	for (i = 0; i < 100; i++) {
		if (i < 98)
			await_waiting(&station, 0, 1);
		/* The room for the last was made, but the sender may not have come to it. */
		while (i == 99 && chan_glance(station.subs[0]->in) == 0)
			sys_yield();
		expect_items(&station, 0, i, i + 1);
		while ((item = get(&station, 1)) == NOTHING)
			sys_yield();
		ck_assert_int_eq(item, i);
	}
	sender_end(&sender, 0);
	expect_items(&station, 2, 0, 100);
	ck_assert_int_eq(get(&station, 2), NOTHING);
	station_close(&station);
}
END_TEST

/* A wait is ended by the death of its context, a close, or that the one it waits for
 * leaves: then the item is sent. In the others nobody gets it (S-FAN-10). */
START_TEST(wait_is_ended)
{
	struct station station;
	struct sender sender;
	struct evwork_ctx *ctx;

	station_open(&station);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	subscribe(&station, 0, EVWORK_BLOCK, 1);
	subscribe(&station, 1, EVWORK_DROP_NEW, 100);
	send_some(&station, 1);
	sender_start(&sender, &station, 1, 1, ctx);
	await_waiting(&station, 0, 1);
	ck_assert_int_eq(evwork_broadcast_free(station.broadcast), -EBUSY);
	if (_i == 0)
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	if (_i == 1)
		ck_assert_int_eq(evwork_broadcast_close(station.broadcast), 0);
	if (_i == 2) {
		ck_assert_int_eq(evwork_unsubscribe(station.subs[0]), 0);
		station.subs[0] = NULL;
	}
	if (_i == 3)
		ck_assert_int_eq(evwork_chan_abandon(evwork_subscription_chan(station.subs[0])), 0);
	sender_end(&sender, _i == 0 ? -ECANCELED : _i == 1 ? -ESHUTDOWN : 0);
	expect_items(&station, 1, 0, _i < 2 ? 1 : 2);
	ck_assert_int_eq(get(&station, 1), _i == 1 ? -100 : NOTHING);
	evwork_ctx_unref(ctx);
	station_close(&station);
}
END_TEST

/* A send that calls back. */
struct letter_to {
	struct evwork_broadcast_waiter waiter;
	struct station *station;
	int item, calls, status, order;
	pthread_t thread;
};

static void on_sent(struct evwork_broadcast_waiter *waiter, int status)
{
	struct letter_to *letter = EVWORK_CONTAINER(waiter, struct letter_to, waiter);

	letter->calls++;
	letter->status = status;
	letter->thread = pthread_self();
	letter->order = atomic_fetch_add(&probe_done_counter, 1) + 1;
}

static void letter_init_for(struct letter_to *letter, struct station *station, int item)
{
	memset(letter, 0, sizeof(*letter));
	evwork_broadcast_waiter_init(&letter->waiter, on_sent);
	letter->station = station;
	letter->item = item;
	letter->status = 1;
}

static int post(struct letter_to *letter, struct evwork_ctx *ctx)
{
	return evwork_broadcast_send(letter->station->broadcast, &letter->item, ctx,
		letter->station->world.loop, &letter->waiter);
}

/* It calls back in a later turn, once the item is sent, at once or when there is room; sends
 * of one loop that need not wait keep their order (S-FAN-10, S-GEN-3). */
START_TEST(send_calls_back)
{
	struct station station;
	struct letter_to letters[3];
	int i;

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 2);
	for (i = 0; i < 3; i++) {
		letter_init_for(&letters[i], &station, i);
		ck_assert_int_eq(post(&letters[i], NULL), 0);
		ck_assert_int_eq(post(&letters[i], NULL), -EBUSY);
	}
	ck_assert_int_eq(letters[0].calls, 0);
	ck_assert_int_eq(evwork_broadcast_free(station.broadcast), -EBUSY);
	world_run(&station.world);
	ck_assert_int_eq(letters[0].calls, 1);
	ck_assert_int_eq(letters[1].calls, 1);
	ck_assert_int_eq(letters[2].calls, 0);
	ck_assert(pthread_equal(letters[0].thread, pthread_self()));
	ck_assert_int_lt(letters[0].order, letters[1].order);
	ck_assert_int_eq(evwork_broadcast_free(station.broadcast), -EBUSY);
	ck_assert_int_eq(evwork_loop_free(station.world.loop), -EBUSY);
	expect_items(&station, 0, 0, 1);
	ck_assert_int_eq(letters[2].calls, 0);
	world_run(&station.world);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(letters[i].calls, 1);
		ck_assert_int_eq(letters[i].status, 0);
	}
	expect_items(&station, 0, 1, 3);
	/* The struct can be used again. */
	ck_assert_int_eq(post(&letters[0], NULL), 0);
	world_run(&station.world);
	ck_assert_int_eq(letters[0].calls, 2);
	expect_items(&station, 0, 0, 1);
	station_close(&station);
}
END_TEST

/* What ends it, before its first try and while it waits for room (S-SHUT-7). */
START_TEST(send_is_ended)
{
	struct station station;
	struct letter_to letter;
	struct evwork_ctx *ctx;
	int expected[] = { -ECANCELED, -ESHUTDOWN, -ECANCELED, 0 };

	station_open(&station);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	subscribe(&station, 0, EVWORK_BLOCK, 1);
	subscribe(&station, 1, EVWORK_DROP_NEW, 9);
	send_some(&station, 1);
	letter_init_for(&letter, &station, 1);
	ck_assert_int_eq(post(&letter, ctx), 0);
	if (_i >= 4)
		world_turns(&station.world, 3);
	ck_assert_int_eq(letter.calls, 0);
	switch (_i % 4) {
	case 0:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		break;
	case 1:
		ck_assert_int_eq(evwork_broadcast_close(station.broadcast), 0);
		break;
	case 2:
		ck_assert_int_eq(evwork_loop_close(station.world.loop, NULL, NULL), 0);
		break;
	case 3:
		ck_assert_int_eq(evwork_unsubscribe(station.subs[0]), 0);
		station.subs[0] = NULL;
		break;
	}
	ck_assert_int_eq(letter.calls, 0);
	world_run(&station.world);
	ck_assert_int_eq(letter.calls, 1);
	ck_assert_int_eq(letter.status, expected[_i % 4]);
	expect_items(&station, 1, 0, _i % 4 == 3 ? 2 : 1);
	evwork_ctx_unref(ctx);
	station_close(&station);
}
END_TEST

/* A loop that is freed by force loses its sends, and the broadcast can be freed
 * (S-SHUT-11). */
START_TEST(send_is_lost)
{
	struct station station;
	struct letter_to letter;

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 1);
	send_some(&station, 1);
	letter_init_for(&letter, &station, 1);
	ck_assert_int_eq(post(&letter, NULL), 0);
	if (_i)
		world_turns(&station.world, 3);
	if (_i == 2)
		expect_items(&station, 0, 0, 1);
	ck_assert_int_ge(evwork_loop_free_force(station.world.loop), 1);
	station.world.loop = NULL;
	ck_assert_int_eq(letter.calls, 0);
	ck_assert_int_eq(get(&station, 0), _i == 2 ? NOTHING : 0);
	station_close(&station);
}
END_TEST

static struct world *world_to_free;
static int loop_free_rc;

static void free_loop(void)
{
	struct world *world = world_to_free;

	world_to_free = NULL;
	if (world)
		loop_free_rc = evwork_loop_free(world->loop);
}

static void drop_and_free_loop(void *item)
{
	drop(item);
	free_loop();
}

static void drop_and_force_loop(void *item)
{
	struct world *world = world_to_free;

	drop(item);
	world_to_free = NULL;
	if (!world)
		return;
	loop_free_rc = evwork_loop_free_force(world->loop);
	world->loop = NULL;
}

/* Takes the room, too, which the send then has to wait for. */
static struct evwork_broadcast *to_fill;

static void ref_and_free_loop(const void *item, int n)
{
	struct evwork_broadcast *broadcast = to_fill;
	int other = *(const int *)item + 1;

	ref(item, n);
	to_fill = NULL;
	if (broadcast && evwork_broadcast_try_send(broadcast, &other) == 0)
		free_loop();
}

/* What a send calls on the loop cannot free that, as the callback is still to come; by
 * force it can, and then there is none (S-GEN-5, S-GEN-2, S-SHUT-11). */
START_TEST(loop_is_freed_inside_a_send)
{
	void (*const dropper[])(void *item) = { drop_and_free_loop, drop_and_force_loop, drop };
	struct station station;
	struct letter_to letter;

	station_open(&station);
	ck_assert_int_eq(evwork_broadcast_free(station.broadcast), 0);
	ck_assert_int_eq(evwork_broadcast_new(sizeof(int), _i == 2 ? ref_and_free_loop : ref,
		dropper[_i], &station.broadcast), 0);
	to_fill = NULL;
	subscribe(&station, 0, _i == 2 ? EVWORK_BLOCK : EVWORK_DROP_OLD, 1);
	if (_i < 2)
		send_some(&station, 1);
	world_to_free = &station.world;
	to_fill = station.broadcast;
	loop_free_rc = 99;
	letter_init_for(&letter, &station, 1);
	ck_assert_int_eq(post(&letter, NULL), 0);
	ck_assert_int_ge(event_base_loop(station.world.base, EVLOOP_NONBLOCK), 0);
	if (_i == 1)
		ck_assert_int_ge(loop_free_rc, 0);
	else
		ck_assert_int_eq(loop_free_rc, -EBUSY);
	ck_assert_int_eq(letter.calls, _i == 0);
	if (_i == 2) {
		expect_items(&station, 0, 2, 3);
		world_run(&station.world);
		ck_assert_int_eq(letter.calls, 1);
	}
	expect_items(&station, 0, 1, 2);
	station_close(&station);
}
END_TEST

/* Refusals, in the order of S-GEN-4. */
START_TEST(refused)
{
	struct evwork_broadcast_waiter without;
	struct evwork_subscription_options options = { .full = (enum evwork_subscription_full)4 };
	struct evwork_subscription *sub = NULL;
	struct letter_to letter;
	struct station station;
	struct evwork_ctx *dead;
	struct evwork_loop *loop;
	int item = 0;

	station_open(&station);
	loop = station.world.loop;
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	evwork_ctx_cancel(dead, 0);
	evwork_broadcast_waiter_init(&without, NULL);
	letter_init_for(&letter, &station, 0);
	ck_assert_int_eq(evwork_broadcast_new(4, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_close(NULL), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_free(NULL), 0);
	ck_assert_int_eq(evwork_unsubscribe(NULL), 0);
	ck_assert_ptr_null(evwork_subscription_chan(NULL));
	ck_assert_uint_eq(evwork_subscription_dropped(NULL), 0);
	ck_assert_int_eq(evwork_broadcast_try_send(NULL, &item), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_try_send(station.broadcast, NULL), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_send_wait(NULL, &item, dead), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_send_wait(station.broadcast, NULL, dead), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_send_wait(station.broadcast, &item, dead), -EDEADLK);
	ck_assert_int_eq(evwork_broadcast_send(station.broadcast, NULL, dead, loop,
		&letter.waiter), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_send(station.broadcast, &item, dead, NULL,
		&letter.waiter), -EINVAL);
	ck_assert_int_eq(evwork_broadcast_send(station.broadcast, &item, dead, loop, NULL),
		-EINVAL);
	ck_assert_int_eq(evwork_broadcast_send(station.broadcast, &item, dead, loop, &without),
		-EINVAL);
	ck_assert_int_eq(post(&letter, dead), -ECANCELED);
	ck_assert_int_eq(evwork_subscribe(NULL, NULL, &sub), -EINVAL);
	ck_assert_int_eq(evwork_subscribe(station.broadcast, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_subscribe(station.broadcast, &options, &sub), -EINVAL);
	options.full = EVWORK_BLOCK;
	options.loop = loop;
	ck_assert_int_eq(evwork_subscribe(station.broadcast, &options, &sub), -EINVAL);
	options.loop = NULL;
	options.limit = SIZE_MAX / 2;
	ck_assert_int_eq(evwork_subscribe(station.broadcast, &options, &sub), -ERANGE);
	ck_assert_ptr_null(sub);
	ck_assert_int_eq(evwork_loop_close(loop, NULL, NULL), 0);
	ck_assert_int_eq(post(&letter, dead), -ESHUTDOWN);
	world_run(&station.world);
	ck_assert_int_eq(letter.calls, 0);
	evwork_ctx_unref(dead);
	station_close(&station);
}
END_TEST

/* Who waits for its channel is not left behind: unsubscribing is refused, and nothing has
 * changed. */
START_TEST(waited_for)
{
	struct station station;
	struct evwork_chan_waiter waiter;
	int item;

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 2);
	evwork_chan_waiter_init(&waiter, (evwork_chan_fn)abort);
	ck_assert_int_eq(evwork_chan_recv(evwork_subscription_chan(station.subs[0]), &item, NULL,
		station.world.loop, &waiter), 0);
	ck_assert_int_eq(evwork_unsubscribe(station.subs[0]), -EBUSY);
	ck_assert_int_eq(evwork_chan_stop(&waiter), 0);
	send_some(&station, 1);
	expect_items(&station, 0, 0, 1);
	station_close(&station);
}
END_TEST

/* Whatever call fails, all is as before, or it is there and works (S-CRASH-8). */
START_TEST(when_the_system_fails)
{
	struct station station;
	struct evwork_broadcast *broadcast;
	struct evwork_subscription *sub;
	size_t blocks;
	int k, rc, calls, onwards, all = 0;

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 3);
	blocks = sys_blocks();
	for (onwards = 0; onwards < 2; onwards++) {
		k = 0;
		do {
			broadcast = NULL;
			fault_start(SYS_CALLS, ++k, onwards);
			rc = evwork_broadcast_new(4, ref, drop, &broadcast);
			calls = fault_stop();
			expect(rc == -ENOMEM ? !broadcast && sys_blocks() == blocks : rc == 0,
				"%d at %d", rc, k);
			all += rc != 0;
			ck_assert_int_eq(evwork_broadcast_free(broadcast), 0);
		} while (calls >= k);
		k = 0;
		do {
			sub = NULL;
			fault_start(SYS_CALLS, ++k, onwards);
			rc = evwork_subscribe(station.broadcast, NULL, &sub);
			calls = fault_stop();
			expect(rc == -ENOMEM ? !sub && sys_blocks() == blocks : rc == 0, "%d at %d",
				rc, k);
			all += rc != 0;
			send_some(&station, 1);
			expect_items(&station, 0, station.next - 1, station.next);
			ck_assert_int_eq(evwork_unsubscribe(sub), 0);
		} while (calls >= k);
	}
	support_note("%d calls failed", all);
	ck_assert_int_ge(all, 2 * 2 + 2 * 7);
	/* Sending and leaving need nothing. */
	subscribe(&station, 1, EVWORK_DROP_OLD, 1);
	fault_start(SYS_CALLS, 1, true);
	send_some(&station, 3);
	ck_assert_int_eq(evwork_unsubscribe(station.subs[1]), 0);
	ck_assert_int_eq(fault_stop(), 0);
	station.subs[1] = NULL;
	station_close(&station);
}
END_TEST

/* Threads. */

struct listener {
	pthread_t thread;
	struct evwork_subscription *sub;
	int got, rc, senders;
	int last[4];            /* 1 more than the last of each sender */
	bool in_order;
};

static void *listen_to(void *arg)
{
	struct listener *listener = arg;
	int item;

	listener->in_order = true;
	while ((listener->rc = evwork_chan_recv_wait(evwork_subscription_chan(listener->sub),
			&item, NULL)) == 1) {
		int *last = &listener->last[item / 1000];

		listener->in_order = listener->in_order && item % 1000 >= *last;
		*last = item % 1000 + 1;
		listener->got++;
		unref(item);
	}
	return NULL;
}

/* Senders on threads, and subscribers of every policy on others, that come and go: those
 * who block get all, in the order of each sender; no copy is lost or doubled
 * (S-FAN-10, S-GEN-18). */
START_TEST(many_threads)
{
	int round, i, rounds = scaled(60), count = 300;

	for (round = 0; round < rounds; round++) {
		struct listener listeners[4];
		struct sender senders[3];
		struct station station;

		station_open(&station);
		for (i = 0; i < 4; i++) {
			memset(&listeners[i], 0, sizeof(listeners[i]));
			subscribe(&station, i, (enum evwork_subscription_full)i,
				1 + (size_t)(round + i) % 5);
			listeners[i].sub = station.subs[i];
			ck_assert_int_eq(pthread_create(&listeners[i].thread, NULL, listen_to,
				&listeners[i]), 0);
		}
		for (i = 0; i < 3; i++)
			sender_start(&senders[i], &station, i * 1000, count, NULL);
		/* One who comes, blocks, and leaves in the midst of it. */
		for (i = 0; i < 20; i++) {
			struct evwork_subscription_options options = { .limit = 1 };
			struct evwork_subscription *passer;

			ck_assert_int_eq(evwork_subscribe(station.broadcast, &options, &passer), 0);
			sys_yield();
			ck_assert_int_eq(evwork_unsubscribe(passer), 0);
		}
		for (i = 0; i < 3; i++)
			sender_end(&senders[i], 0);
		ck_assert_int_eq(evwork_broadcast_close(station.broadcast), 0);
		for (i = 0; i < 4; i++) {
			ck_assert_int_eq(pthread_join(listeners[i].thread, NULL), 0);
			expect(listeners[i].in_order, "listener %d", i);
			expect(i == EVWORK_DISCONNECT || (uint64_t)listeners[i].got +
				evwork_subscription_dropped(listeners[i].sub) == 3 * (uint64_t)count,
				"%d of %d and %d", listeners[i].got, 3 * count,
				(int)evwork_subscription_dropped(listeners[i].sub));
			expect(listeners[i].rc == (evwork_subscription_dropped(listeners[i].sub) &&
				i == EVWORK_DISCONNECT ? -EPIPE : 0), "%d", listeners[i].rc);
		}
		expect(listeners[0].got == 3 * count, "%d", listeners[0].got);
		station_close(&station);
	}
}
END_TEST

/* Sends that call back on the loop of another thread, one after the other. */
struct poster {
	pthread_t thread;
	struct evwork_broadcast_waiter waiter;
	struct station *station;
	struct evwork_ctx *ctx;
	int count, item, rc, failed;
	atomic_int answered;
};

static void on_answer(struct evwork_broadcast_waiter *waiter, int status)
{
	struct poster *poster = EVWORK_CONTAINER(waiter, struct poster, waiter);

	poster->failed += status != 0;
	atomic_fetch_add(&poster->answered, 1);
}

static void *post_all(void *arg)
{
	struct poster *poster = arg;
	int i;

	for (i = 0; i < poster->count; i++) {
		if (i % 2 && evwork_ctx_new(NULL, &poster->ctx) != 0)
			break;
		poster->rc = evwork_broadcast_send(poster->station->broadcast, &poster->item,
			poster->ctx, poster->station->world.loop, &poster->waiter);
		if (poster->rc)
			break;
		/* It may come too late, or just then. */
		if (i % 4 == 3)
			sys_yield();
		if (i % 2)
			evwork_ctx_cancel(poster->ctx, 0);
		evwork_ctx_unref(poster->ctx);
		poster->ctx = NULL;
		while (atomic_load(&poster->answered) == i)
			sys_yield();
		poster->item++;
	}
	return NULL;
}

/* Each is answered once, whether its context died before it was sent, after, or while it
 * waited; what was sent comes, and nothing else (S-GEN-2, S-FAN-10). */
START_TEST(answers_to_other_threads)
{
	struct poster posters[2];
	struct station station;
	int i, got = 0, failed = 0, count = scaled(4000), item, last[2] = { -1, -1 };

	station_open(&station);
	subscribe(&station, 0, EVWORK_BLOCK, 1);
	for (i = 0; i < 2; i++) {
		memset(&posters[i], 0, sizeof(posters[i]));
		evwork_broadcast_waiter_init(&posters[i].waiter, on_answer);
		posters[i].station = &station;
		posters[i].count = count;
		posters[i].item = i * 100000;
		ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
	}
	for (i = 0; i < 2;) {
		one_pass(station.world.base);
		while ((item = get(&station, 0)) >= 0) {
			expect(item > last[item >= 100000], "%d", item);
			last[item >= 100000] = item;
			got++;
		}
		if (pthread_tryjoin_np(posters[i].thread, NULL) == 0)
			i++;
	}
	while (get(&station, 0) >= 0)
		got++;
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(posters[i].rc, 0);
		ck_assert_int_eq(atomic_load(&posters[i].answered), count);
		failed += posters[i].failed;
	}
	ck_assert_int_eq(got + failed, 2 * count);
	support_note("%d of %d cancelled in time", failed, count);
	station_close(&station);
}
END_TEST

static void add_sends(Suite *suite)
{
	TCase *tcase = support_case(suite, "sends");

	tcase_add_test(tcase, thread_waits);
	tcase_add_loop_test(tcase, wait_is_ended, 0, 4);
	tcase_add_test(tcase, send_calls_back);
	tcase_add_loop_test(tcase, send_is_ended, 0, 8);
	tcase_add_loop_test(tcase, send_is_lost, 0, 3);
	tcase_add_loop_test(tcase, loop_is_freed_inside_a_send, 0, 3);
	tcase_add_test(tcase, refused);
	tcase_add_test(tcase, waited_for);
	tcase_add_test(tcase, when_the_system_fails);
	tcase_add_test(tcase, many_threads);
	tcase_add_test(tcase, answers_to_other_threads);
}

static Suite *broadcast_suite(void)
{
	Suite *suite = suite_create("broadcast");
	TCase *tcase = support_case(suite, "subscribers");

	tcase_add_test(tcase, all_since_they_came);
	tcase_add_test(tcase, block);
	tcase_add_test(tcase, drop_new);
	tcase_add_test(tcase, drop_old);
	tcase_add_loop_test(tcase, drop_old_of_any_size, 0, 4);
	tcase_add_test(tcase, many_large_items_make_room);
	tcase_add_loop_test(tcase, freed_inside_a_send, 0, 2);
	tcase_add_test(tcase, disconnect);
	tcase_add_test(tcase, all_are_disconnected);
	tcase_add_loop_test(tcase, closing, 0, 2);
	tcase_add_test(tcase, abandoned);
	tcase_add_test(tcase, in_a_select);

	add_sends(suite);
	return suite;
}

int main(void)
{
	return support_run(broadcast_suite());
}
