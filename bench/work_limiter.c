/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What one decision of a rate limiter costs: with the clock, from one thread and from two
 * that share the limiter; with the time given, in the caller's own bucket; and by one of a
 * hundred thousand keys, in random order. Everything is granted. limiter.go is the same with
 * golang.org/x/time/rate and a map.
 */

#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <evwork/bucket.h>
#include <evwork/limiter.h>
#include <evwork/limiter_table.h>

#define RATE 1e9
#define BURST 1000000
#define ROUNDS 11
#define KEYS 100000

static uint64_t times[ROUNDS];

/* Steps of a round that were granted must be all. */
static void note(int round, uint64_t start, int steps, int granted)
{
	times[round] = bench_now_ns() - start;
	if (granted != steps)
		bench_fail("%d of %d were granted", granted, steps);
}

static void report(const struct bench_case *test, int steps)
{
	bench_print(test, "ns", bench_quantile(times, ROUNDS, 0.5) / steps);
}

static void run_given(const struct bench_case *test)
{
	int steps = bench_scale(test->jobs);
	struct evwork_bucket bucket;
	int64_t now = 1000000000;

	evwork_bucket_init(&bucket, RATE, BURST, now);
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start = bench_now_ns();
		int granted = 0;

		for (int i = 0; i < steps; i++) {
			now += 10;
			granted += evwork_bucket_take(&bucket, 1, now) == 0;
			/* As if something else came in between. */
			__asm__ volatile("" : : "r"(&bucket) : "memory");
		}
		note(round, start, steps, granted);
	}
	report(test, steps);
}

static int allow_many(struct evwork_limiter *limiter, int steps)
{
	int granted = 0;

	for (int i = 0; i < steps; i++)
		granted += evwork_limiter_allow(limiter, 1) == 0;
	return granted;
}

struct second {
	struct evwork_limiter *limiter;
	int steps, granted;
	pthread_barrier_t *begin;
};

static void *second_main(void *arg)
{
	struct second *second = arg;

	pthread_barrier_wait(second->begin);
	second->granted = allow_many(second->limiter, second->steps);
	return NULL;
}

/* The time of one call, as each of the threads sees it. */
static void run_allow(const struct bench_case *test)
{
	int steps = bench_scale(test->jobs);
	struct evwork_limiter *limiter;

	bench_must(evwork_limiter_new(RATE, BURST, NULL, &limiter), "evwork_limiter_new");
	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_t begin;
		struct second second = { limiter, steps, steps, &begin };
		pthread_t thread;
		uint64_t start;
		int granted;

		pthread_barrier_init(&begin, NULL, (unsigned)test->workers);
		if (test->workers == 2 && pthread_create(&thread, NULL, second_main, &second))
			bench_fail("pthread_create failed");
		pthread_barrier_wait(&begin);
		start = bench_now_ns();
		granted = allow_many(limiter, steps);
		if (test->workers == 2)
			pthread_join(thread, NULL);
		note(round, start, 2 * steps, granted + second.granted);
		pthread_barrier_destroy(&begin);
	}
	evwork_limiter_free(limiter);
	report(test, steps);
}

static char names[KEYS][16];

static void run_keyed(const struct bench_case *test)
{
	struct evwork_limiter_table_options options = { .key_size = sizeof(names[0]) };
	int steps = bench_scale(test->jobs);
	struct evwork_limiter_table *table;
	uint64_t random = 1;

	bench_must(evwork_limiter_table_new(RATE, BURST, KEYS, &options, &table),
		"evwork_limiter_table_new");
	for (int i = 0; i < KEYS; i++) {
		snprintf(names[i], sizeof(names[i]), "10.%d.%d.%d", i >> 16 & 255, i >> 8 & 255,
			i & 255);
		bench_must(evwork_limiter_table_allow(table, names[i], strlen(names[i]), 1), "allow");
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start = bench_now_ns();
		int granted = 0;

		for (int i = 0; i < steps; i++) {
			const char *name;

			random = random * UINT64_C(6364136223846793005) + 1;
			name = names[(random >> 33) % KEYS];
			granted += evwork_limiter_table_allow(table, name, strlen(name), 1) == 0;
		}
		note(round, start, steps, granted);
	}
	evwork_limiter_table_free(table);
	report(test, steps);
}

const struct bench_case bench_cases[] = {
	{ .name = "limiter-given", .run = run_given, .jobs = 5000000 },
	{ .name = "limiter-allow", .run = run_allow, .workers = 1, .jobs = 1000000 },
	{ .name = "limiter-allow-2t", .run = run_allow, .workers = 2, .jobs = 1000000 },
	{ .name = "limiter-keyed", .run = run_keyed, .jobs = 500000 },
	{ .name = NULL },
};
