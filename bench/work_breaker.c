/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What a call through a closed breaker costs beside itself: a permit and its report, on one
 * thread, and on two that share the breaker. Nanoseconds of one thread's time for each call.
 */

#include "bench.h"

#include <pthread.h>
#include <stdlib.h>

#include "evworkpool.h"

#define CHUNK 10000

const struct bench_case bench_cases[] = {
	{ .name = "breaker-1", .run = work_breaker, .workers = 1, .jobs = 2000000 },
	{ .name = "breaker-2", .run = work_breaker, .workers = 2, .jobs = 2000000 },
	{ .name = NULL },
};

const size_t peer_job_size = sizeof(struct bench_job);

/* There are no jobs. */
void peer_init(struct bench_job *job)
{
	(void)job;
}

void peer_submit(struct bench_job *job)
{
	(void)job;
	bench_fail("a job was submitted");
}

static struct evwork_breaker *breaker;
static int chunks;

static void call(void)
{
	struct evwork_breaker_permit permit = { 0 };

	evwork_must(evwork_breaker_acquire(breaker, &permit), "evwork_breaker_acquire");
	evwork_must(evwork_breaker_report(&permit, EVWORK_SUCCESS, 1000),
		"evwork_breaker_report");
}

/* Returns the time of each chunk. */
static void *use(void *arg)
{
	uint64_t *times = bench_alloc((size_t)chunks * sizeof(*times));

	(void)arg;
	for (int i = 0; i < chunks; i++) {
		uint64_t start = bench_now_ns();

		for (int k = 0; k < CHUNK; k++)
			call();
		times[i] = bench_now_ns() - start;
	}
	return times;
}

void work_breaker(const struct bench_case *test)
{
	struct evwork_breaker_options options = { 0 };
	struct evwork_breaker_metrics metrics;
	uint64_t *times, calls;
	pthread_t other;

	chunks = bench_scale(test->jobs) / CHUNK;
	calls = (uint64_t)chunks * CHUNK * (uint64_t)test->workers;
	evwork_must(evwork_breaker_new(&options, &breaker), "evwork_breaker_new");
	if (test->workers == 2 && pthread_create(&other, NULL, use, NULL))
		bench_fail("pthread_create failed");
	times = use(NULL);
	if (test->workers == 2) {
		void *result;

		pthread_join(other, &result);
		free(result);
	}
	bench_print(test, "call_ns", bench_quantile(times, (size_t)chunks, 0.5) / CHUNK);
	evwork_must(evwork_breaker_metrics(breaker, &metrics), "evwork_breaker_metrics");
	if (metrics.success != calls)
		bench_fail("a call was not counted once");
	evwork_must(evwork_breaker_free(breaker), "evwork_breaker_free");
	free(times);
}
