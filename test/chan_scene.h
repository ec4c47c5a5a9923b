/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_CHAN_SCENE_H
#define TEST_CHAN_SCENE_H

/*
 * What the tests of channels share: channels of numbers, waiters and threads that record
 * what happens to them.
 */

#include "rival.h"

#include <pthread.h>

/* A channel of int64_t; what is dropped is noted, in its order, and forgotten when the
 * next channel is made. */
struct evwork_chan *chan_of(size_t capacity);
extern int64_t dropped[64];
extern atomic_int dropped_count;
void note_drop(void *value);

int try_send(struct evwork_chan *chan, int64_t value);
/* The value, or the error, or 0: all values are above 0. */
int64_t try_recv(struct evwork_chan *chan);
struct evwork_chan *clone_of(struct evwork_chan *chan, unsigned ends);
struct evwork_chan_stats chan_stats_of(struct evwork_chan *chan);
/* Until so many sends and receives are parked. */
void await_parked(struct evwork_chan *chan, size_t senders, size_t receivers);
/* Frees an end that is the last, or was closed. */
void chan_end(struct evwork_chan *chan);

/* A wait that calls back. Results are 99 until then. */
struct party {
	struct evwork_chan_waiter waiter;
	int64_t value;
	int calls, result, order;
	pthread_t thread;
	void (*on)(struct party *party);   /* called last in the callback, may be NULL */
	void *arg;
	int rc;                            /* for on */
};
void party_init(struct party *party);
int party_send(struct party *party, struct evwork_chan *chan, int64_t value,
	struct evwork_ctx *ctx, struct evwork_loop *loop);
int party_recv(struct party *party, struct evwork_chan *chan, struct evwork_ctx *ctx,
	struct evwork_loop *loop);
/* Called so often, the last time with result. */
void expect_party(const struct party *party, int calls, int result);

/* A thread that waits. sleeper_end waits for it and gives what its call gave. */
struct sleeper {
	pthread_t thread;
	int (*act)(struct sleeper *sleeper);
	struct evwork_chan *chan;
	struct evwork_ctx *ctx;
	int64_t values[16];
	int count;                         /* of values; of cases */
	struct evwork_case *cases;
	int rc;
};
void sleeper_send(struct sleeper *sleeper, struct evwork_chan *chan, int64_t value,
	struct evwork_ctx *ctx);
void sleeper_recv(struct sleeper *sleeper, struct evwork_chan *chan, struct evwork_ctx *ctx);
/* The values are first, first + 1, ... */
void sleeper_send_many(struct sleeper *sleeper, struct evwork_chan *chan, int64_t first,
	int count, struct evwork_ctx *ctx);
void sleeper_recv_many(struct sleeper *sleeper, struct evwork_chan *chan, int count,
	struct evwork_ctx *ctx);
void sleeper_select(struct sleeper *sleeper, struct evwork_case *cases, int count,
	struct evwork_ctx *ctx);
int sleeper_end(struct sleeper *sleeper);

#endif
