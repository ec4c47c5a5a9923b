/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A map over a million elements of about 50 ns, against the same on one thread, and on
 * two threads that take a half each, all in turn. Only evwork has it here; peer.go
 * restates it with chunks of 1,000 elements by hand.
 */

#include "bare.h"
#include "bench.h"
#include "evloop.h"
#include "evworkpool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAUSE_NS 8000000

const struct bench_case bench_cases[] = {
	{ .name = "map-1000000x50ns", .run = work_map,
	  .workers = 2, .jobs = 1000000, .in_flight = 16, .repeat = 5 },
	{ .name = NULL },
};

const size_t peer_job_size = sizeof(struct bench_job);

static enum { SEQUENTIAL, BARE, MAP, PHASES } phase;
static uint64_t *items, *walls[PHASES], *cpus;
static int count, rounds, round_count, timer_fd;
static uint32_t cost;
static uint64_t map_start, map_cpu;

/* Nothing is submitted one by one. */
void peer_init(struct bench_job *job)
{
	(void)job;
}

void peer_submit(struct bench_job *job)
{
	(void)job;
	bench_fail("a job was submitted");
}

static void pause_then(int next)
{
	phase = next;
	bench_timer_set(timer_fd, bench_now_ns() + PAUSE_NS);
}

static int on_element(struct evwork_map *map, size_t index, void *item, void *result)
{
	(void)map;
	(void)index;
	(void)result;
	*(uint64_t *)item += bench_spin(BENCH_SEED, cost);
	return 0;
}

static void on_done(struct evwork_map *map, int status, void *arg)
{
	uint64_t expected = bench_spin(BENCH_SEED, cost);

	(void)arg;
	walls[MAP][round_count] = bench_now_ns() - map_start;
	cpus[round_count] = bench_cpu_ns() - map_cpu;
	evwork_must(status, "a map");
	evwork_must(evwork_map_free(map), "evwork_map_free");
	for (int i = 0; i < count; i++)
		if (items[i] != expected)
			bench_fail("element %d was not computed once", i);
	if (++round_count == rounds)
		peer_leave();
	else
		pause_then(SEQUENTIAL);
}

static void start_map(void)
{
	struct evwork_map_options options = {
		.items = items, .item_size = sizeof(*items), .count = (size_t)count,
		.fn = on_element, .done = on_done,
	};
	struct evwork_map *map;

	memset(items, 0, (size_t)count * sizeof(*items));
	map_cpu = bench_cpu_ns();
	map_start = bench_now_ns();
	evwork_must(evwork_map_start(evworkloop, &options, &map), "evwork_map_start");
}

static void on_timer(void)
{
	bench_fd_clear(timer_fd);
	if (phase == MAP) {
		start_map();
		return;
	}
	walls[phase][round_count] = phase == SEQUENTIAL ? bare_sequential_ns(count, cost) :
		bare_two_threads_ns(count, cost);
	pause_then(phase == SEQUENTIAL ? BARE : MAP);
}

static void report(const struct bench_case *test)
{
	double median[PHASES], bare;

	for (int i = 0; i < PHASES; i++)
		median[i] = bench_quantile(walls[i], (size_t)rounds, 0.5);
	bare = median[SEQUENTIAL] / median[BARE];
	bench_print(test, "efficiency", median[SEQUENTIAL] / 2 / median[MAP]);
	bench_print(test, "bare_speedup", bare);
	bench_print(test, "of_bare", median[SEQUENTIAL] / median[MAP] / bare);
	bench_print(test, "cpu_of_seq",
		    bench_quantile(cpus, (size_t)rounds, 0.5) / median[SEQUENTIAL]);
}

static void on_no_job(struct bench_job *job)
{
	(void)job;
}

void work_map(const struct bench_case *test)
{
	count = bench_scale(test->jobs);
	rounds = test->repeat;
	for (int i = 0; i < PHASES; i++)
		walls[i] = bench_alloc((size_t)rounds * sizeof(uint64_t));
	cpus = bench_alloc((size_t)rounds * sizeof(uint64_t));
	items = bench_alloc((size_t)count * sizeof(*items));
	cost = bench_calibrate(1) / 20;
	timer_fd = bench_timer_new();

	bare_start();
	bench_start(test, on_no_job);
	peer_watch(timer_fd, on_timer);
	pause_then(SEQUENTIAL);
	peer_run();
	bench_stop(0);
	bare_stop();
	report(test);

	close(timer_fd);
	free(items);
	free(cpus);
	for (int i = 0; i < PHASES; i++)
		free(walls[i]);
}
