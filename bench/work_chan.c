/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels between threads: values one by one, 64 at a time, and a receiver that selects
 * between two channels, each of which is fed by a thread of its own. Every value is checked
 * to arrive in its place. Only evwork has it here; peer.go restates it.
 */

#include "bench.h"
#include "evworkpool.h"

#include <pthread.h>
#include <stdlib.h>

#define CAPACITY 1024
#define BATCH 64

static void work_each(const struct bench_case *test);
static void work_many(const struct bench_case *test);
static void work_select(const struct bench_case *test);

const struct bench_case bench_cases[] = {
	{ .name = "chan", .run = work_each, .jobs = 2000000, .repeat = 5 },
	{ .name = "chan-many", .run = work_many, .jobs = 10000000, .repeat = 5 },
	{ .name = "select", .run = work_select, .jobs = 2000000, .repeat = 5 },
	{ .name = NULL },
};

struct feed {
	pthread_t thread;
	struct evwork_chan *chan;
	uint64_t count, received;
	int batch;
};

static void *feed_run(void *arg)
{
	struct feed *feed = arg;
	uint64_t values[BATCH], next = 0;

	while (next < feed->count) {
		int n = 0;

		while (n < feed->batch && next < feed->count)
			values[n++] = ++next;
		if (feed->batch == 1)
			evwork_must(evwork_chan_send_wait(feed->chan, values, NULL), "a send");
		else if (evwork_chan_send_many_wait(feed->chan, values, n, NULL) != n)
			bench_fail("a send of many");
	}
	evwork_must(evwork_chan_close(feed->chan), "evwork_chan_close");
	return NULL;
}

static void feed_start(struct feed *feed, uint64_t count, int batch)
{
	evwork_must(evwork_chan_new(sizeof(uint64_t), CAPACITY, NULL, &feed->chan),
		"evwork_chan_new");
	feed->count = count;
	feed->received = 0;
	feed->batch = batch;
	if (pthread_create(&feed->thread, NULL, feed_run, feed) != 0)
		bench_fail("pthread_create");
}

static void feed_check(struct feed *feed, uint64_t value)
{
	if (value != ++feed->received)
		bench_fail("value %llu came in the place of %llu", (unsigned long long)value,
			   (unsigned long long)feed->received);
}

static void feed_end(struct feed *feed)
{
	pthread_join(feed->thread, NULL);
	if (feed->received != feed->count)
		bench_fail("%llu values of %llu", (unsigned long long)feed->received,
			   (unsigned long long)feed->count);
	evwork_must(evwork_chan_free(feed->chan), "evwork_chan_free");
}

/* The rounds of a workload: what `receive` does with one or two feeds until they end. */
static void run(const struct bench_case *test, int feeds, int batch,
	void (*receive)(struct feed *feeds))
{
	uint64_t count = (uint64_t)bench_scale(test->jobs) / (uint64_t)feeds;
	uint64_t total = count * (uint64_t)feeds;
	uint64_t *walls = bench_alloc((size_t)test->repeat * sizeof(*walls));
	uint64_t *cpus = bench_alloc((size_t)test->repeat * sizeof(*cpus));
	struct feed both[2];

	for (int round = 0; round < test->repeat; round++) {
		uint64_t start, cpu;

		cpu = bench_cpu_ns();
		start = bench_now_ns();
		for (int i = 0; i < feeds; i++)
			feed_start(&both[i], count, batch);
		receive(both);
		walls[round] = bench_now_ns() - start;
		cpus[round] = bench_cpu_ns() - cpu;
		for (int i = 0; i < feeds; i++)
			feed_end(&both[i]);
	}
	bench_print(test, "item_ns",
		    bench_quantile(walls, (size_t)test->repeat, 0.5) / (double)total);
	bench_print(test, "cpu_ns",
		    bench_quantile(cpus, (size_t)test->repeat, 0.5) / (double)total);
	free(walls);
	free(cpus);
}

static void receive_each(struct feed *feed)
{
	uint64_t value;

	while (evwork_chan_recv_wait(feed->chan, &value, NULL) == 1)
		feed_check(feed, value);
}

static void receive_many(struct feed *feed)
{
	uint64_t values[BATCH];
	int n;

	while ((n = evwork_chan_recv_many_wait(feed->chan, values, BATCH, NULL)) > 0)
		for (int i = 0; i < n; i++)
			feed_check(feed, values[i]);
}

static void receive_select(struct feed *feeds)
{
	uint64_t values[2];
	struct evwork_case cases[2];
	int open = 2;

	for (int i = 0; i < 2; i++)
		cases[i] = evwork_recv_case(feeds[i].chan, &values[i]);
	while (open) {
		int i = evwork_select_wait(cases, 2, NULL);

		if (i < 0)
			evwork_must(i, "a select");
		if (cases[i].status == 1) {
			feed_check(&feeds[i], values[i]);
		} else {
			cases[i].chan = NULL;
			open--;
		}
	}
}

static void work_each(const struct bench_case *test)
{
	run(test, 1, 1, receive_each);
}

static void work_many(const struct bench_case *test)
{
	run(test, 1, BATCH, receive_many);
}

static void work_select(const struct bench_case *test)
{
	run(test, 2, 1, receive_select);
}
