/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Fan-in: merges of channels. Order, fairness, every way to end, what becomes of values
 * then, refusals, closing and freed loops, forks, failing system calls, and threads that
 * send and receive at will.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"

#include <pthread.h>

#define INPUTS 8

/* A value says which input it came by, and as which. */
static uint32_t value_of(int input, int number)
{
	return (uint32_t)input << 24 | (uint32_t)number;
}
static int input_of(uint32_t value) { return (int)(value >> 24); }
static int number_of(uint32_t value) { return (int)(value & 0xffffff); }

/* What was dropped, in which order; on the test's thread. */
static uint32_t dropped[1024];
static int drops;
static void (*in_drop)(void);          /* may be NULL */

static void note_drop(void *value)
{
	if (drops < 1024)
		memcpy(&dropped[drops], value, sizeof(dropped[0]));
	drops++;
	if (in_drop)
		in_drop();
}

struct mill {
	struct world world;
	struct evwork_chan *in[INPUTS], *out;
	int inputs;
	struct evwork_merge *merge;
	struct evwork_merge_options options;
	int dones, status, out_open, free_rc;
	int sent[INPUTS], got[INPUTS];      /* numbers of the next to be sent, received */
	int received;
	pthread_t thread;
};

static void on_done(struct evwork_merge *merge, int status, void *arg)
{
	struct mill *mill = arg;

	mill->dones++;
	mill->status = status;
	mill->thread = pthread_self();
	mill->out_open = evwork_chan_try_send(mill->out, &status);
	mill->free_rc = evwork_merge_free(merge);
}

static void mill_open(struct mill *mill, int inputs, size_t capacity, size_t out_capacity)
{
	struct evwork_loop_options small = { .batch = 64, .budget_us = 1000000 };
	int i;

	memset(mill, 0, sizeof(*mill));
	drops = 0;
	world_open_with(&mill->world, NULL, &small);
	mill->inputs = inputs;
	mill->status = 1;
	for (i = 0; i < inputs; i++)
		ck_assert_int_eq(evwork_chan_new(4, capacity, note_drop, &mill->in[i]), 0);
	ck_assert_int_eq(evwork_chan_new(4, out_capacity, NULL, &mill->out), 0);
	mill->options = (struct evwork_merge_options){ .inputs = mill->in,
		.count = (size_t)inputs, .output = mill->out, .done = on_done, .arg = mill };
}

static int start(struct mill *mill)
{
	return evwork_merge_start(mill->world.loop, &mill->options, &mill->merge);
}

static void mill_close(struct mill *mill)
{
	int i;

	for (i = 0; i < mill->inputs; i++)
		ck_assert_int_eq(evwork_chan_free(mill->in[i]), 0);
	ck_assert_int_eq(evwork_chan_free(mill->out), 0);
	world_close(&mill->world);
}

static void put(struct mill *mill, int input, int count)
{
	uint32_t value;

	while (count-- > 0) {
		value = value_of(input, mill->sent[input]++);
		ck_assert_int_eq(evwork_chan_try_send(mill->in[input], &value), 0);
	}
}

/* The next value of the output must be the next of its input: its input, or what the
 * receive gave, less 100. */
static int get(struct mill *mill)
{
	uint32_t value;
	int rc = evwork_chan_try_recv(mill->out, &value);

	if (rc != 1)
		return rc - 100;
	expect(number_of(value) == mill->got[input_of(value)], "%d of input %d",
		number_of(value), input_of(value));
	mill->got[input_of(value)]++;
	mill->received++;
	return input_of(value);
}

/* Runs turns and receives until nothing comes any more. */
static int get_all(struct mill *mill)
{
	int idle, from, before = mill->received;

	for (idle = 0; idle < 3; idle++) {
		one_pass(mill->world.base);
		while ((from = get(mill)) >= 0)
			idle = 0;
	}
	return mill->received - before;
}

static void expect_done(const struct mill *mill, int status)
{
	ck_assert_int_eq(mill->dones, 1);
	ck_assert_int_eq(mill->status, status);
	ck_assert_int_eq(mill->free_rc, 0);
	ck_assert(pthread_equal(mill->thread, pthread_self()));
	/* The output was closed before done. */
	ck_assert_int_lt(mill->out_open, 0);
	ck_assert_int_ne(mill->out_open, -EAGAIN);
}

/* Values that were there before, and that come later, all come out, in the order of their
 * input; the output ends, and done comes, when all inputs have ended and not before
 * (S-FAN-8). Whatever has room for them: rendezvous outputs and inputs are others. */
START_TEST(all_come_in_order)
{
	struct mill mill;
	int i, round, sum = 0;

	mill_open(&mill, 3, 64, (size_t)_i);
	put(&mill, 0, 50);
	put(&mill, 2, 10);
	ck_assert_int_eq(start(&mill), 0);
	ck_assert_int_eq(mill.received, 0);
	sum = get_all(&mill);
	ck_assert_int_eq(sum, 60);
	for (round = 0; round < 100; round++) {
		for (i = 0; i < 3; i++)
			put(&mill, i, (round + i) % 7 * (round % 9));
		get_all(&mill);
	}
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(mill.got[i], mill.sent[i]);
	put(&mill, 1, 5);
	ck_assert_int_eq(evwork_chan_close(mill.in[0]), 0);
	ck_assert_int_eq(evwork_chan_close(mill.in[1]), 0);
	ck_assert_int_eq(get_all(&mill), 5);
	ck_assert_int_eq(get(&mill), -EAGAIN - 100);
	ck_assert_int_eq(mill.dones, 0);
	ck_assert_int_eq(evwork_merge_free(mill.merge), -EBUSY);
	put(&mill, 2, 1);
	ck_assert_int_eq(evwork_chan_close(mill.in[2]), 0);
	ck_assert_int_eq(get_all(&mill), 1);
	expect_done(&mill, 0);
	ck_assert_int_eq(get(&mill), -100);
	ck_assert_int_eq(drops, 0);
	mill_close(&mill);
}
END_TEST

/* Senders on threads, for channels without room. */
struct feeder {
	pthread_t thread;
	struct evwork_chan *chan;
	int input, count, sent, rc;
};

static void *feed(void *arg)
{
	struct feeder *feeder = arg;
	uint32_t value;

	for (; feeder->sent < feeder->count; feeder->sent++) {
		value = value_of(feeder->input, feeder->sent);
		feeder->rc = evwork_chan_send_wait(feeder->chan, &value, NULL);
		if (feeder->rc)
			return NULL;
	}
	evwork_chan_close(feeder->chan);
	return NULL;
}

static void feeder_start(struct feeder *feeder, struct mill *mill, int input, int count)
{
	*feeder = (struct feeder){ .chan = mill->in[input], .input = input, .count = count };
	ck_assert_int_eq(pthread_create(&feeder->thread, NULL, feed, feeder), 0);
}

/* Inputs that are rendezvous, of threads, and an output that may be one: the test's
 * thread runs the loop and receives (S-FAN-8). */
START_TEST(rendezvous)
{
	struct feeder feeders[3];
	struct mill mill;
	int i, count = scaled(2000);

	mill_open(&mill, 3, 0, _i ? 4 : 0);
	ck_assert_int_eq(start(&mill), 0);
	for (i = 0; i < 3; i++)
		feeder_start(&feeders[i], &mill, i, count);
	while (mill.dones == 0) {
		one_pass(mill.world.base);
		while (get(&mill) >= 0)
			;
	}
	while (get(&mill) >= 0)
		;
	expect_done(&mill, 0);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(feeders[i].thread, NULL), 0);
		ck_assert_int_eq(feeders[i].rc, 0);
		ck_assert_int_eq(mill.got[i], count);
	}
	mill_close(&mill);
}
END_TEST

/* Values without a size are counted right. */
START_TEST(values_without_a_size)
{
	struct evwork_chan *in[2], *out;
	struct evwork_merge *merge;
	struct evwork_merge_options options = { .inputs = in, .count = 2 };
	struct world world;
	int i, n = 0;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_chan_new(0, 100, NULL, &in[0]), 0);
	ck_assert_int_eq(evwork_chan_new(0, 100, NULL, &in[1]), 0);
	ck_assert_int_eq(evwork_chan_new(0, 7, NULL, &out), 0);
	options.output = out;
	for (i = 0; i < 150; i++)
		ck_assert_int_eq(evwork_chan_try_send(in[i % 2], NULL), 0);
	ck_assert_int_eq(evwork_merge_start(world.loop, &options, &merge), 0);
	evwork_chan_close(in[0]);
	evwork_chan_close(in[1]);
	while (evwork_merge_free(merge) == -EBUSY) {
		one_pass(world.base);
		while (evwork_chan_try_recv(out, NULL) == 1)
			n++;
	}
	while (evwork_chan_try_recv(out, NULL) == 1)
		n++;
	ck_assert_int_eq(n, 150);
	ck_assert_int_eq(evwork_chan_try_recv(out, NULL), 0);
	ck_assert_int_eq(evwork_chan_free(in[0]) | evwork_chan_free(in[1]) | evwork_chan_free(out), 0);
	world_close(&world);
}
END_TEST

/* Large values move whole. */
START_TEST(large_values)
{
	enum { SIZE = 20000 };
	static char value[SIZE];
	struct evwork_chan *in, *out;
	struct evwork_merge *merge;
	struct evwork_merge_options options = { .inputs = &in, .count = 1 };
	struct world world;
	int i;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_chan_new(SIZE, 8, NULL, &in), 0);
	ck_assert_int_eq(evwork_chan_new(SIZE, 2, NULL, &out), 0);
	options.output = out;
	for (i = 0; i < 8; i++) {
		memset(value, 'a' + i, SIZE);
		ck_assert_int_eq(evwork_chan_try_send(in, value), 0);
	}
	evwork_chan_close(in);
	ck_assert_int_eq(evwork_merge_start(world.loop, &options, &merge), 0);
	for (i = 0; i < 8; i++) {
		while (evwork_chan_try_recv(out, value) == -EAGAIN)
			one_pass(world.base);
		ck_assert(value[0] == 'a' + i && value[SIZE - 1] == 'a' + i);
	}
	world_turns(&world, 3);
	ck_assert_int_eq(evwork_merge_free(merge), 0);
	ck_assert_int_eq(evwork_chan_free(in) | evwork_chan_free(out), 0);
	world_close(&world);
}
END_TEST

/* Without inputs it ends at once, in a later turn, also if the output is full
 * (S-FAN-8). */
START_TEST(no_inputs)
{
	struct mill mill;
	int i;

	mill_open(&mill, 0, 0, 1);
	if (_i)
		mill.options.inputs = NULL;
	if (_i == 2)
		ck_assert_int_eq(evwork_chan_try_send(mill.out, &i), 0);
	ck_assert_int_eq(start(&mill), 0);
	ck_assert_int_eq(mill.dones, 0);
	ck_assert_int_eq(evwork_chan_free(mill.out), -EBUSY);
	world_run(&mill.world);
	expect_done(&mill, 0);
	if (_i == 2)
		ck_assert_int_eq(evwork_chan_try_recv(mill.out, &i), 1);
	ck_assert_int_eq(get(&mill), -100);
	mill_close(&mill);
}
END_TEST

/* Fairness. */

/* Whatever is said of any 100k consecutive outputs is looked at for each of them. */
static void expect_fair(const unsigned char *from, int length, int inputs)
{
	int window = 100 * inputs, in_window[INPUTS] = { 0 }, i, k;

	for (i = 0; i < length; i++) {
		in_window[from[i]]++;
		if (i >= window)
			in_window[from[i - window]]--;
		for (k = 0; i >= window - 1 && k < inputs; k++)
			expect(in_window[k] >= 50, "%d of input %d in the %d up to %d", in_window[k],
				k, window, i);
	}
}

/* What inputs have, at least, at every moment in which the merge looks. */
static const struct {
	int inputs, first, others;
	size_t room;                /* of the output, and so what moves in a turn */
} supplies[] = {
	{ 2, 200, 200, 100 },
	{ 8, 200, 200, 100 },
	{ 8, 200, 200, 1 },
	{ 2, 1, 200, 1 },           /* one never has more than one */
	{ 8, 1, 200, 1 },
	{ 8, 7, 30, 1 },
};

static void fill_up(struct mill *mill, int input, int level)
{
	struct evwork_chan_stats stats;

	ck_assert_int_eq(evwork_chan_stats(mill->in[input], &stats), 0);
	put(mill, input, level - (int)stats.length);
}

/* While all inputs stay ready each has at least half of its even share in any 100k
 * consecutive outputs, however much more than it the others have (S-FAN-9). */
START_TEST(fairness)
{
	static unsigned char from[40000];
	struct mill mill;
	int length = 0, input, i, limit = scaled(40000), inputs = supplies[_i].inputs;

	mill_open(&mill, inputs, 256, supplies[_i].room);
	ck_assert_int_eq(start(&mill), 0);
	while (length < limit) {
		for (i = 0; i < inputs; i++)
			fill_up(&mill, i, i ? supplies[_i].others : supplies[_i].first);
		one_pass(mill.world.base);
		while (length < limit && (input = get(&mill)) >= 0)
			from[length++] = (unsigned char)input;
	}
	expect_fair(from, length, inputs);
	ck_assert_int_eq(evwork_chan_abandon(mill.out), 0);
	world_turns(&mill.world, 2);
	expect_done(&mill, -EPIPE);
	mill_close(&mill);
}
END_TEST

/* One turn moves no more values than it delivers callbacks, and leaves a timer its
 * turn (S-DLV-5). */
START_TEST(a_turn_has_an_end)
{
	struct mill mill;
	struct evwork_chan_stats stats;
	int round;

	mill_open(&mill, 2, 1000, 2000);
	put(&mill, 0, 1000);
	put(&mill, 1, 1000);
	ck_assert_int_eq(start(&mill), 0);
	for (round = 1; round <= 5; round++) {
		one_pass(mill.world.base);
		ck_assert_int_eq(evwork_chan_stats(mill.out, &stats), 0);
		expect((int)stats.length <= round * (64 + 32), "%d after %d", (int)stats.length,
			round);
	}
	ck_assert_int_gt((int)stats.length, 200);
	ck_assert_int_eq(get_all(&mill), 2000);
	ck_assert_int_eq(evwork_chan_abandon(mill.out), 0);
	world_turns(&mill.world, 2);
	mill_close(&mill);
}
END_TEST

/* Ends. */

/* All that was sent to the inputs and has not come out was dropped, in the order of
 * each input. */
static void expect_accounted(struct mill *mill)
{
	int i;

	for (i = 0; i < drops; i++) {
		int input = input_of(dropped[i]);

		expect(number_of(dropped[i]) == mill->got[input], "%d of %d",
			number_of(dropped[i]), input);
		mill->got[input]++;
	}
	for (i = 0; i < mill->inputs; i++)
		expect(mill->got[i] == mill->sent[i], "input %d", i);
}

/* Abandoning the output abandons all inputs, also while they are empty: their senders get
 * -EPIPE, and what was in them and on the way is dropped (S-FAN-9, S-GEN-18). */
START_TEST(output_is_abandoned)
{
	struct mill mill;
	uint32_t value = 0;
	int i;

	mill_open(&mill, 3, 64, 5);
	if (_i) {
		put(&mill, 0, 40);
		put(&mill, 1, 60);
	}
	ck_assert_int_eq(start(&mill), 0);
	world_turns(&mill.world, 3);
	for (i = 0; _i && i < 4; i++)
		ck_assert_int_ge(get(&mill), 0);
	if (_i == 2)
		world_turns(&mill.world, 2);
	/* What is in the output is its own, and has no drop. */
	while (get(&mill) >= 0)
		;
	ck_assert_int_eq(evwork_chan_abandon(mill.out), 0);
	ck_assert_int_eq(mill.dones, 0);
	world_run(&mill.world);
	expect_done(&mill, -EPIPE);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_chan_try_send(mill.in[i], &value), -EPIPE);
	expect_accounted(&mill);
	mill_close(&mill);
}
END_TEST

/* So do its context's death and its loop's close, and a deadline (S-SHUT-7). */
START_TEST(context_or_loop_ends)
{
	struct evwork_ctx *ctx;
	struct mill mill;

	mill_open(&mill, 2, 64, 5);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	mill.options.ctx = ctx;
	if (_i / 2)
		put(&mill, 1, 50);
	ck_assert_int_eq(start(&mill), 0);
	world_turns(&mill.world, 3);
	while (get(&mill) >= 0)
		;
	if (_i % 2)
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	else
		ck_assert_int_eq(evwork_loop_close(mill.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(mill.dones, 0);
	world_run(&mill.world);
	expect_done(&mill, -ECANCELED);
	while (get(&mill) >= 0)
		;
	ck_assert_int_eq(get(&mill), -100);
	expect_accounted(&mill);
	evwork_ctx_unref(ctx);
	mill_close(&mill);
}
END_TEST

/* If somebody abandons an input it counts as ended; if somebody closes the output's end
 * the merge ends with what that gives. */
START_TEST(ends_of_others)
{
	struct evwork_chan *mine;
	struct mill mill;

	mill_open(&mill, 2, 64, 5);
	/* The output would go on with another end that sends. */
	ck_assert_int_eq(evwork_chan_clone(mill.out, EVWORK_CHAN_SEND, &mine), 0);
	mill.options.output = mine;
	put(&mill, 0, 3);
	ck_assert_int_eq(start(&mill), 0);
	ck_assert_int_eq(get_all(&mill), 3);
	ck_assert_int_eq(evwork_chan_abandon(mill.in[0]), 0);
	world_turns(&mill.world, 2);
	put(&mill, 1, 3);
	ck_assert_int_eq(get_all(&mill), 3);
	ck_assert_int_eq(mill.dones, 0);
	ck_assert_int_eq(evwork_chan_close(mine), 0);
	world_turns(&mill.world, 2);
	ck_assert_int_eq(mill.dones, 1);
	ck_assert_int_eq(mill.status, -ESHUTDOWN);
	ck_assert_int_eq(evwork_chan_free(mine), 0);
	/* The output has not ended; what done has sent is there. */
	ck_assert_int_eq(evwork_chan_abandon(mill.out), 0);
	mill_close(&mill);
}
END_TEST

/* The same if it was the last end that sends; whether the merge waits for an input, or for
 * the output (S-FAN-8). */
START_TEST(last_end_is_closed)
{
	struct mill mill;

	mill_open(&mill, 2, 64, 5);
	if (_i)
		put(&mill, 0, 40);
	ck_assert_int_eq(start(&mill), 0);
	world_turns(&mill.world, 3);
	ck_assert_int_eq(evwork_chan_close(mill.out), 0);
	world_run(&mill.world);
	expect_done(&mill, -ESHUTDOWN);
	while (get(&mill) >= 0)
		;
	expect_accounted(&mill);
	mill_close(&mill);
}
END_TEST

/* The output does not end as long as another of its ends sends. */
START_TEST(output_is_shared)
{
	struct evwork_chan *mine;
	struct mill mill;

	mill_open(&mill, 1, 64, 5);
	ck_assert_int_eq(evwork_chan_clone(mill.out, EVWORK_CHAN_SEND, &mine), 0);
	mill.options.output = mine;
	mill.options.done = NULL;
	ck_assert_int_eq(start(&mill), 0);
	put(&mill, 0, 3);
	ck_assert_int_eq(evwork_chan_close(mill.in[0]), 0);
	ck_assert_int_eq(get_all(&mill), 3);
	ck_assert_int_eq(evwork_merge_free(mill.merge), 0);
	ck_assert_int_eq(evwork_chan_free(mine), 0);
	ck_assert_int_eq(get(&mill), -EAGAIN - 100);
	ck_assert_int_eq(evwork_chan_close(mill.out), 0);
	ck_assert_int_eq(get(&mill), -100);
	mill_close(&mill);
}
END_TEST

/* The same end may be an input twice, and a merge an input of the next. */
START_TEST(merges_of_merges)
{
	struct evwork_chan *sum, *both[2];
	struct evwork_merge *second;
	struct evwork_merge_options options = { .inputs = both, .count = 2 };
	struct mill mill;
	uint32_t value;
	int n = 0;

	mill_open(&mill, 3, 64, 5);
	ck_assert_int_eq(evwork_chan_new(4, 5, NULL, &sum), 0);
	both[0] = both[1] = mill.out;
	options.output = sum;
	ck_assert_int_eq(evwork_merge_start(mill.world.loop, &options, &second), 0);
	ck_assert_int_eq(start(&mill), 0);
	while (n < 200) {
		fill_up(&mill, n % 3, 20);
		one_pass(mill.world.base);
		while (evwork_chan_try_recv(sum, &value) == 1)
			n++;
	}
	evwork_chan_close(mill.in[0]);
	evwork_chan_close(mill.in[1]);
	evwork_chan_close(mill.in[2]);
	while (evwork_merge_free(second) == -EBUSY) {
		one_pass(mill.world.base);
		while (evwork_chan_try_recv(sum, &value) == 1)
			n++;
	}
	while (evwork_chan_try_recv(sum, &value) == 1)
		n++;
	ck_assert_int_eq(n, mill.sent[0] + mill.sent[1] + mill.sent[2]);
	ck_assert_int_eq(evwork_chan_free(sum), 0);
	mill_close(&mill);
}
END_TEST

/* Refusals: in the order of S-GEN-4, and what was refused is as it was (S-FAN-8). */
START_TEST(refused)
{
	struct evwork_chan *other, *sends, *receives, *array[2];
	struct evwork_merge *const untouched = (struct evwork_merge *)1;
	struct evwork_loop *loop;
	struct evwork_ctx *dead;
	struct mill mill;

	mill_open(&mill, 2, 4, 4);
	loop = mill.world.loop;
	mill.merge = untouched;
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	evwork_ctx_cancel(dead, 0);
	ck_assert_int_eq(evwork_chan_new(5, 4, NULL, &other), 0);
	ck_assert_int_eq(evwork_chan_clone(mill.in[0], EVWORK_CHAN_SEND, &sends), 0);
	ck_assert_int_eq(evwork_chan_clone(mill.out, EVWORK_CHAN_RECV, &receives), 0);
	mill.options.ctx = dead;
	ck_assert_int_eq(evwork_merge_start(NULL, &mill.options, &mill.merge), -EINVAL);
	ck_assert_int_eq(evwork_merge_start(loop, NULL, &mill.merge), -EINVAL);
	ck_assert_int_eq(evwork_merge_start(loop, &mill.options, NULL), -EINVAL);
	mill.options.output = NULL;
	ck_assert_int_eq(start(&mill), -EINVAL);
	mill.options.output = mill.in[1];
	ck_assert_int_eq(start(&mill), -EINVAL);
	mill.options.output = mill.out;
	mill.options.inputs = NULL;
	ck_assert_int_eq(start(&mill), -EINVAL);
	mill.options.inputs = array;
	array[0] = sends;
	array[1] = NULL;
	ck_assert_int_eq(start(&mill), -EINVAL);
	array[1] = other;
	ck_assert_int_eq(start(&mill), -EINVAL);
	mill.options.count = (size_t)INT32_MAX;
	ck_assert_int_eq(start(&mill), -EINVAL);
	mill.options.count = 2;
	array[1] = mill.in[1];
	ck_assert_int_eq(start(&mill), -EPERM);
	array[0] = mill.in[0];
	mill.options.output = receives;
	ck_assert_int_eq(start(&mill), -EPERM);
	mill.options.output = mill.out;
	ck_assert_int_eq(start(&mill), -ECANCELED);
	ck_assert_int_eq(evwork_chan_abandon(mill.in[1]), 0);
	ck_assert_int_eq(start(&mill), -ESHUTDOWN);
	mill.options.count = 1;
	ck_assert_int_eq(start(&mill), -ECANCELED);
	ck_assert_int_eq(evwork_chan_close(mill.out), 0);
	ck_assert_int_eq(start(&mill), -ESHUTDOWN);
	ck_assert_ptr_eq(mill.merge, untouched);
	/* Input and output are as before. */
	put(&mill, 0, 1);
	world_turns(&mill.world, 3);
	ck_assert_int_eq(mill.dones, 0);
	ck_assert_int_eq(evwork_chan_close(sends) | evwork_chan_free(sends), 0);
	ck_assert_int_eq(evwork_chan_abandon(receives) | evwork_chan_free(receives), 0);
	ck_assert_int_eq(evwork_chan_free(other), 0);
	ck_assert_int_eq(evwork_merge_free(NULL), 0);
	evwork_ctx_unref(dead);
	mill_close(&mill);
}
END_TEST

/* A loop that closes takes no merge, a dead context's error comes after that. */
START_TEST(refused_by_a_closing_loop)
{
	struct evwork_ctx *dead;
	struct mill mill;

	mill_open(&mill, 1, 4, 4);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	evwork_ctx_cancel(dead, 0);
	mill.options.ctx = dead;
	ck_assert_int_eq(evwork_loop_close(mill.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(start(&mill), -ESHUTDOWN);
	world_run(&mill.world);
	ck_assert_int_eq(mill.dones, 0);
	evwork_ctx_unref(dead);
	mill_close(&mill);
}
END_TEST

/* While it lasts its ends are not freed, nor is its loop; a wait of a merge does not keep
 * the loop alive (S-DLV-7). */
START_TEST(what_it_keeps)
{
	struct mill mill;

	mill_open(&mill, 1, 4, 4);
	ck_assert_int_eq(start(&mill), 0);
	world_run(&mill.world);
	ck_assert_int_eq(evwork_chan_free(mill.in[0]), -EBUSY);
	ck_assert_int_eq(evwork_chan_free(mill.out), -EBUSY);
	ck_assert_int_eq(evwork_merge_free(mill.merge), -EBUSY);
	ck_assert_int_eq(evwork_loop_free(mill.world.loop), -EBUSY);
	ck_assert_int_eq(evwork_chan_close(mill.in[0]), 0);
	world_run(&mill.world);
	expect_done(&mill, 0);
	mill_close(&mill);
}
END_TEST

static void free_elsewhere(void *arg)
{
	struct mill *mill = arg;

	mill->free_rc = evwork_merge_free(mill->merge);
}

static void free_elsewhere_in_done(struct evwork_merge *merge, int status, void *arg)
{
	struct mill *mill = arg;

	(void)merge;
	mill->dones++;
	mill->status = status;
	support_elsewhere(free_elsewhere, mill);
}

/* Another thread may free it only when done has returned, as what that is given would go
 * (S-GEN-5). */
START_TEST(freed_elsewhere)
{
	struct mill mill;

	mill_open(&mill, 1, 4, 4);
	mill.options.done = free_elsewhere_in_done;
	ck_assert_int_eq(start(&mill), 0);
	support_elsewhere(free_elsewhere, &mill);
	ck_assert_int_eq(mill.free_rc, -EBUSY);
	mill.free_rc = 1;
	ck_assert_int_eq(evwork_chan_close(mill.in[0]), 0);
	world_run(&mill.world);
	ck_assert_int_eq(mill.dones, 1);
	ck_assert_int_eq(mill.status, 0);
	ck_assert_int_eq(mill.free_rc, -EBUSY);
	support_elsewhere(free_elsewhere, &mill);
	ck_assert_int_eq(mill.free_rc, 0);
	mill_close(&mill);
}
END_TEST

/* A loop freed by force ends its merge without done, wherever that is: waiting for input,
 * or for output, with its callback on the way or not. Nothing is lost (S-SHUT-11,
 * S-GEN-18). */
START_TEST(loop_is_freed_by_force)
{
	struct mill mill;

	mill_open(&mill, 2, 64, 5);
	if (_i == 1 || _i == 2)
		put(&mill, 0, 50);
	ck_assert_int_eq(start(&mill), 0);
	if (_i != 2)
		world_turns(&mill.world, 4);
	while (get(&mill) >= 0)
		;
	if (_i == 3)
		put(&mill, 1, 4);
	ck_assert_int_ge(evwork_loop_free_force(mill.world.loop), 1);
	mill.world.loop = NULL;
	ck_assert_int_eq(mill.dones, 0);
	ck_assert_int_eq(evwork_merge_free(mill.merge), 0);
	/* What had been sent to the output is there. */
	while (get(&mill) >= 0)
		;
	ck_assert_int_eq(get(&mill), -100);
	expect_accounted(&mill);
	mill_close(&mill);
}
END_TEST

/* The child of a fork frees what it inherited, and the parent goes on (S-SHUT-12). */
START_TEST(forked)
{
	struct evwork_merge *merge = NULL;
	struct mill mill;
	pid_t child;

	mill_open(&mill, 2, 64, 5);
	put(&mill, 0, 50);
	ck_assert_int_eq(start(&mill), 0);
	world_turns(&mill.world, 2);
	child = fork();
	if (child == 0) {
		bool right = evwork_merge_start(mill.world.loop, &mill.options, &merge) ==
			-ESHUTDOWN && !merge && evwork_merge_free(mill.merge) == 0 &&
			evwork_chan_free(mill.in[0]) == 0 && evwork_chan_free(mill.in[1]) == 0 &&
			evwork_chan_free(mill.out) == 0 && evwork_loop_free(mill.world.loop) == 0 &&
			evwork_pool_free(mill.world.pool) == 0 && sys_blocks() == 0;

		_exit(right ? 0 : 1);
	}
	support_await_child(child);
	ck_assert_int_eq(get_all(&mill), 50);
	evwork_chan_close(mill.in[0]);
	evwork_chan_close(mill.in[1]);
	world_turns(&mill.world, 2);
	expect_done(&mill, 0);
	mill_close(&mill);
}
END_TEST

/* Whatever call of the system fails, a merge is refused and all is as before, or it is
 * there and works (S-CRASH-8). */
START_TEST(when_the_system_fails)
{
	struct mill mill;
	size_t blocks;
	int k = 0, calls, rc, onwards, all = 0;

	mill_open(&mill, 2, 64, 5);
	blocks = sys_blocks();
	for (onwards = 0; onwards < 2; onwards++) {
		k = 0;
		do {
			mill.merge = NULL;
			fault_start(SYS_CALLS, ++k, onwards);
			rc = start(&mill);
			calls = fault_stop();
			if (rc == 0)
				break;
			expect(rc == -ENOMEM && !mill.merge && sys_blocks() == blocks, "%d at %d",
				rc, k);
			all++;
		} while (calls >= k);
		ck_assert_int_eq(rc, 0);
		if (onwards)
			break;
		/* The ends of a merge that has ended are used up. */
		ck_assert_int_eq(evwork_chan_close(mill.in[0]), 0);
		ck_assert_int_eq(evwork_chan_close(mill.in[1]), 0);
		world_turns(&mill.world, 2);
		expect_done(&mill, 0);
		mill_close(&mill);
		mill_open(&mill, 2, 64, 5);
		blocks = sys_blocks();
	}
	support_note("%d calls failed", all);
	ck_assert_int_eq(all, 8);
	put(&mill, 0, 3);
	fault_start(SYS_CALLS, 1, true);
	ck_assert_int_eq(get_all(&mill), 3);
	evwork_chan_close(mill.in[0]);
	evwork_chan_close(mill.in[1]);
	world_turns(&mill.world, 2);
	fault_stop();
	expect_done(&mill, 0);
	mill_close(&mill);
}
END_TEST

/* Threads. */

struct taker {
	pthread_t thread;
	struct evwork_chan *chan;
	int inputs, limit, got, rc;
	int last[INPUTS];           /* 1 more than the last of each input */
	bool in_order;
};

static void *take(void *arg)
{
	struct taker *taker = arg;
	uint32_t value;

	taker->in_order = true;
	while (taker->got < taker->limit &&
	       (taker->rc = evwork_chan_recv_wait(taker->chan, &value, NULL)) == 1) {
		int *last = &taker->last[input_of(value)];

		taker->in_order = taker->in_order && number_of(value) >= *last;
		*last = number_of(value) + 1;
		taker->got++;
	}
	return NULL;
}

static atomic_int dropped_anywhere;

static void count_drop(void *value)
{
	(void)value;
	atomic_fetch_add(&dropped_anywhere, 1);
}

/* Feeders and takers on threads of their own, the merge on the test's; nothing is lost
 * or doubled, each taker sees each input in order. Every third time the takers have
 * enough at some point, abandon the output, and all feeders get to know (S-FAN-8, -9). */
START_TEST(many_threads)
{
	struct feeder feeders[4];
	struct taker takers[2];
	struct mill mill;
	int i, round, rounds = scaled(40), count = 300;

	for (round = 0; round < rounds; round++) {
		int sent = 0, got = 0, status;

		mill_open(&mill, 0, 0, (size_t)(round % 5));
		mill.inputs = 4;
		mill.options.count = 4;
		atomic_store(&dropped_anywhere, 0);
		for (i = 0; i < 4; i++)
			ck_assert_int_eq(evwork_chan_new(4, (size_t)((round + i) % 4) * 5, count_drop,
				&mill.in[i]), 0);
		mill.options.done = NULL;
		ck_assert_int_eq(start(&mill), 0);
		for (i = 0; i < 2; i++) {
			memset(&takers[i], 0, sizeof(takers[i]));
			takers[i].limit = round % 3 ? 1 << 30 : round * 3 + i;
			ck_assert_int_eq(evwork_chan_clone(mill.out, EVWORK_CHAN_RECV,
				&takers[i].chan), 0);
			ck_assert_int_eq(pthread_create(&takers[i].thread, NULL, take, &takers[i]), 0);
		}
		for (i = 0; i < 4; i++)
			feeder_start(&feeders[i], &mill, i, count);
		ck_assert_int_eq(evwork_chan_abandon(mill.out), 0);
		if (round % 3 == 0) {
			/* The loop is run below, the takers get what they asked for first. */
			for (i = 0; i < 2; i++) {
				while (pthread_tryjoin_np(takers[i].thread, NULL) != 0)
					one_pass(mill.world.base);
				evwork_chan_abandon(takers[i].chan);
			}
		}
		while ((status = evwork_merge_free(mill.merge)) == -EBUSY)
			one_pass(mill.world.base);
		for (i = 0; i < 4; i++) {
			ck_assert_int_eq(pthread_join(feeders[i].thread, NULL), 0);
			sent += feeders[i].sent;
			expect(feeders[i].rc == (feeders[i].sent == count ? 0 : -EPIPE), "%d",
				feeders[i].rc);
		}
		for (i = 0; i < 2; i++) {
			if (round % 3)
				ck_assert_int_eq(pthread_join(takers[i].thread, NULL), 0);
			expect(takers[i].in_order, "round %d", round);
			got += takers[i].got;
			evwork_chan_abandon(takers[i].chan);
			ck_assert_int_eq(evwork_chan_free(takers[i].chan), 0);
		}
		if (round % 3)
			expect(got == sent && sent == 4 * count, "%d of %d", got, sent);
		else
			/* The rest was in the output, which has no drop: no more than it takes. */
			expect(got + atomic_load(&dropped_anywhere) <= sent &&
				got + atomic_load(&dropped_anywhere) + round % 5 >= sent,
				"%d and %d of %d", got, atomic_load(&dropped_anywhere), sent);
		mill_close(&mill);
	}
}
END_TEST

struct errand {
	struct mill *mill;
	int rc;
};

static void start_elsewhere(void *arg)
{
	struct errand *errand = arg;

	errand->rc = start(errand->mill);
}

/* Any thread starts merges; done comes on the loop's. */
START_TEST(started_elsewhere)
{
	struct mill mill;
	struct errand errand = { .mill = &mill, .rc = 1 };

	mill_open(&mill, 1, 4, 4);
	put(&mill, 0, 3);
	support_elsewhere(start_elsewhere, &errand);
	ck_assert_int_eq(errand.rc, 0);
	ck_assert_int_eq(get_all(&mill), 3);
	ck_assert_int_eq(evwork_chan_close(mill.in[0]), 0);
	world_turns(&mill.world, 2);
	expect_done(&mill, 0);
	mill_close(&mill);
}
END_TEST

/* Several receivers on one channel. */

static int served[5];

struct guest {
	struct evwork_chan_waiter waiter;
	struct evwork_chan *chan;
	struct evwork_loop *loop;
	uint32_t value;
	int number, ended;
};

static void on_value(struct evwork_chan_waiter *waiter, int result)
{
	struct guest *guest = EVWORK_CONTAINER(waiter, struct guest, waiter);

	if (result != 1) {
		guest->ended = result;
		return;
	}
	served[guest->number]++;
	dropped[drops++] = guest->value;
	evwork_chan_recv(guest->chan, &guest->value, NULL, guest->loop, waiter);
}

/* Each value of a channel with several receivers goes to one of them; those who wait
 * beforehand are served in turn: of 10 values each of 5 gets 2 (S-FAN-7). */
START_TEST(receivers_share)
{
	struct guest guests[5];
	struct evwork_chan *chan;
	struct world world;
	uint32_t i;

	drops = 0;
	memset(served, 0, sizeof(served));
	world_open(&world, 1);
	ck_assert_int_eq(evwork_chan_new(4, 16, NULL, &chan), 0);
	for (i = 0; i < 5; i++) {
		guests[i] = (struct guest){ .chan = chan, .loop = world.loop, .number = (int)i,
			.ended = 1 };
		evwork_chan_waiter_init(&guests[i].waiter, on_value);
		ck_assert_int_eq(evwork_chan_recv(chan, &guests[i].value, NULL, world.loop,
			&guests[i].waiter), 0);
	}
	for (i = 0; i < 10; i++)
		ck_assert_int_eq(evwork_chan_try_send(chan, &i), 0);
	world_run(&world);
	ck_assert_int_eq(drops, 10);
	for (i = 0; i < 10; i++)
		ck_assert_uint_eq(dropped[i], i);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(served[i], 2);
	ck_assert_int_eq(evwork_chan_close(chan), 0);
	world_run(&world);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(guests[i].ended, 0);
	ck_assert_int_eq(evwork_chan_free(chan), 0);
	world_close(&world);
}
END_TEST

static struct mill *forking;
static bool frees_in_drop, is_child;
static pid_t made_in_drop;

static int free_mill(struct mill *mill)
{
	if (evwork_merge_free(mill->merge) != 0)
		return 1;
	if (evwork_chan_free(mill->in[0]) != 0 || evwork_chan_free(mill->out) != 0)
		return 2;
	if (evwork_loop_free(mill->world.loop) != 0)
		return 3;
	return evwork_pool_free(mill->world.pool) == 0 ? 0 : 4;
}

static void fork_in_drop(void)
{
	int wrong;

	if (drops != 1)
		return;
	made_in_drop = fork();
	is_child = made_in_drop == 0;
	if (is_child && frees_in_drop) {
		wrong = free_mill(forking);
		if (wrong)
			_exit(wrong);
	}
}

/* A child that is made while the merge drops what it holds may return from that, whether it
 * has freed all there or not: it drops and calls nothing more (S-SHUT-12). */
START_TEST(forked_in_a_drop)
{
	struct mill mill;

	mill_open(&mill, 1, 16, 1);
	forking = &mill;
	frees_in_drop = _i != 0;
	put(&mill, 0, 10);
	ck_assert_int_eq(start(&mill), 0);
	world_turns(&mill.world, 3);
	in_drop = fork_in_drop;
	ck_assert_int_eq(evwork_chan_abandon(mill.out), 0);
	while (mill.dones == 0 && !is_child)
		world_turns(&mill.world, 1);
	if (is_child)
		_exit(mill.dones || drops != 1 ? 5 : frees_in_drop ? 0 : free_mill(&mill));
	support_await_child(made_in_drop);
	ck_assert_int_gt(drops, 1);
	expect_done(&mill, -EPIPE);
	mill_close(&mill);
}
END_TEST

static void add_ends(Suite *suite)
{
	TCase *tcase = support_case(suite, "ends");

	tcase_add_loop_test(tcase, output_is_abandoned, 0, 3);
	tcase_add_loop_test(tcase, context_or_loop_ends, 0, 4);
	tcase_add_test(tcase, ends_of_others);
	tcase_add_loop_test(tcase, last_end_is_closed, 0, 2);
	tcase_add_test(tcase, output_is_shared);
	tcase_add_test(tcase, merges_of_merges);
	tcase_add_test(tcase, refused);
	tcase_add_test(tcase, refused_by_a_closing_loop);
	tcase_add_test(tcase, what_it_keeps);
	tcase_add_test(tcase, freed_elsewhere);
	tcase_add_loop_test(tcase, loop_is_freed_by_force, 0, 4);
	if (support_forks()) {
		tcase_add_test(tcase, forked);
		tcase_add_loop_test(tcase, forked_in_a_drop, 0, 2);
	}
	tcase_add_test(tcase, when_the_system_fails);
}

static Suite *merge_suite(void)
{
	Suite *suite = suite_create("merge");
	TCase *tcase = support_case(suite, "order");

	tcase_add_loop_test(tcase, all_come_in_order, 0, 4);
	tcase_add_loop_test(tcase, rendezvous, 0, 2);
	tcase_add_test(tcase, values_without_a_size);
	tcase_add_test(tcase, large_values);
	tcase_add_loop_test(tcase, no_inputs, 0, 3);
	tcase_add_loop_test(tcase, fairness, 0, 6);
	tcase_add_test(tcase, a_turn_has_an_end);

	add_ends(suite);

	tcase = support_case(suite, "threads");
	tcase_add_test(tcase, many_threads);
	tcase_add_test(tcase, started_elsewhere);
	tcase_add_test(tcase, receivers_share);
	return suite;
}

int main(void)
{
	return support_run(merge_suite());
}
