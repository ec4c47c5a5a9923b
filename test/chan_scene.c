/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "chan_scene.h"

/* Channels. */

int64_t dropped[64];
atomic_int dropped_count;

void note_drop(void *value)
{
	int at = atomic_fetch_add(&dropped_count, 1);

	if (at < 64)
		dropped[at] = *(int64_t *)value;
}

struct evwork_chan *chan_of(size_t capacity)
{
	struct evwork_chan *chan;

	atomic_store(&dropped_count, 0);
	ck_assert_int_eq(evwork_chan_new(sizeof(int64_t), capacity, note_drop, &chan), 0);
	return chan;
}

int try_send(struct evwork_chan *chan, int64_t value)
{
	return evwork_chan_try_send(chan, &value);
}

int64_t try_recv(struct evwork_chan *chan)
{
	int64_t value = 0;
	int rc = evwork_chan_try_recv(chan, &value);

	return rc == 1 ? value : rc;
}

struct evwork_chan *clone_of(struct evwork_chan *chan, unsigned ends)
{
	struct evwork_chan *clone;

	ck_assert_int_eq(evwork_chan_clone(chan, ends, &clone), 0);
	return clone;
}

struct evwork_chan_stats chan_stats_of(struct evwork_chan *chan)
{
	struct evwork_chan_stats stats;

	ck_assert_int_eq(evwork_chan_stats(chan, &stats), 0);
	return stats;
}

void await_parked(struct evwork_chan *chan, size_t senders, size_t receivers)
{
	struct evwork_chan_stats stats;

	for (;;) {
		if (evwork_chan_stats(chan, &stats) != 0)
			abort();
		if (stats.senders == senders && stats.receivers == receivers)
			return;
		sys_yield();
	}
}

void chan_end(struct evwork_chan *chan)
{
	ck_assert_int_eq(evwork_chan_free(chan), 0);
}

/* Waits that call back. */

static void party_called(struct evwork_chan_waiter *waiter, int result)
{
	struct party *party = EVWORK_CONTAINER(waiter, struct party, waiter);

	party->calls++;
	party->result = result;
	party->order = atomic_fetch_add(&probe_done_counter, 1) + 1;
	party->thread = pthread_self();
	if (party->on)
		party->on(party);
}

void party_init(struct party *party)
{
	memset(party, 0, sizeof(*party));
	evwork_chan_waiter_init(&party->waiter, party_called);
	party->result = party->rc = 99;
}

int party_send(struct party *party, struct evwork_chan *chan, int64_t value,
	struct evwork_ctx *ctx, struct evwork_loop *loop)
{
	party->value = value;
	return evwork_chan_send(chan, &party->value, ctx, loop, &party->waiter);
}

int party_recv(struct party *party, struct evwork_chan *chan, struct evwork_ctx *ctx,
	struct evwork_loop *loop)
{
	return evwork_chan_recv(chan, &party->value, ctx, loop, &party->waiter);
}

void expect_party(const struct party *party, int calls, int result)
{
	ck_assert_int_eq(party->calls, calls);
	ck_assert_int_eq(party->result, result);
}

/* Threads that wait. */

static void *sleeper_run(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->rc = sleeper->act(sleeper);
	return NULL;
}

static void sleeper_start(struct sleeper *sleeper, int (*act)(struct sleeper *sleeper),
	struct evwork_chan *chan, int count, struct evwork_ctx *ctx)
{
	sleeper->act = act;
	sleeper->chan = chan;
	sleeper->count = count;
	sleeper->ctx = ctx;
	if (pthread_create(&sleeper->thread, NULL, sleeper_run, sleeper) != 0)
		abort();
}

static int act_send(struct sleeper *sleeper)
{
	return evwork_chan_send_wait(sleeper->chan, sleeper->values, sleeper->ctx);
}

static int act_recv(struct sleeper *sleeper)
{
	return evwork_chan_recv_wait(sleeper->chan, sleeper->values, sleeper->ctx);
}

static int act_send_many(struct sleeper *sleeper)
{
	return evwork_chan_send_many_wait(sleeper->chan, sleeper->values, sleeper->count,
		sleeper->ctx);
}

static int act_recv_many(struct sleeper *sleeper)
{
	return evwork_chan_recv_many_wait(sleeper->chan, sleeper->values, sleeper->count,
		sleeper->ctx);
}

static int act_select(struct sleeper *sleeper)
{
	return evwork_select_wait(sleeper->cases, (size_t)sleeper->count, sleeper->ctx);
}

void sleeper_send(struct sleeper *sleeper, struct evwork_chan *chan, int64_t value,
	struct evwork_ctx *ctx)
{
	sleeper->values[0] = value;
	sleeper_start(sleeper, act_send, chan, 1, ctx);
}

void sleeper_recv(struct sleeper *sleeper, struct evwork_chan *chan, struct evwork_ctx *ctx)
{
	sleeper_start(sleeper, act_recv, chan, 1, ctx);
}

void sleeper_send_many(struct sleeper *sleeper, struct evwork_chan *chan, int64_t first,
	int count, struct evwork_ctx *ctx)
{
	int i;

	for (i = 0; i < count; i++)
		sleeper->values[i] = first + i;
	sleeper_start(sleeper, act_send_many, chan, count, ctx);
}

void sleeper_recv_many(struct sleeper *sleeper, struct evwork_chan *chan, int count,
	struct evwork_ctx *ctx)
{
	sleeper_start(sleeper, act_recv_many, chan, count, ctx);
}

void sleeper_select(struct sleeper *sleeper, struct evwork_case *cases, int count,
	struct evwork_ctx *ctx)
{
	sleeper->cases = cases;
	sleeper_start(sleeper, act_select, NULL, count, ctx);
}

int sleeper_end(struct sleeper *sleeper)
{
	ck_assert_int_eq(pthread_join(sleeper->thread, NULL), 0);
	return sleeper->rc;
}
