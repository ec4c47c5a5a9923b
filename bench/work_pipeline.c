/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A million numbers through a source, three empty stages and a sink, with as many in each
 * queue and the sink's window as the name says, against the same as direct calls through
 * pointers, in turn. With one worker, as the loop is the other thread that is busy. Only
 * evwork has it here; peer.go restates it with channels.
 */

#include "bench.h"
#include "evloop.h"
#include "evworkpool.h"

#include <stdlib.h>
#include <unistd.h>

#define PAUSE_NS 8000000
#define STAGES 3

const struct bench_case bench_cases[] = {
	{ .name = "pipeline-64", .run = work_pipeline,
	  .workers = 1, .jobs = 1000000, .in_flight = 64, .repeat = 5 },
	{ .name = "pipeline-256", .run = work_pipeline,
	  .workers = 1, .jobs = 1000000, .in_flight = 256, .repeat = 5 },
	{ .name = "pipeline-1024", .run = work_pipeline,
	  .workers = 1, .jobs = 1000000, .in_flight = 1024, .repeat = 5 },
	{ .name = NULL },
};

const size_t peer_job_size = sizeof(struct bench_job);

static uint64_t count, made, arrived;
static uint64_t *walls, *direct, *cpus;
static int rounds, round_count, timer_fd, queue;
static uint64_t start_ns, start_cpu;

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

static void arrive(uint64_t number)
{
	if (number != arrived)
		bench_fail("item %llu came for %llu", (unsigned long long)number,
			   (unsigned long long)arrived);
	arrived++;
}

/* The limit. */

struct link {
	void (*run)(const struct link *link, uint64_t number);
	const struct link *next;
};

static void link_stage(const struct link *link, uint64_t number)
{
	link->next->run(link->next, number);
}

static void link_sink(const struct link *link, uint64_t number)
{
	(void)link;
	arrive(number);
}

static uint64_t direct_ns(void)
{
	struct link links[STAGES + 1];
	uint64_t start = bench_now_ns(), number;
	/* The compiler must not see what is called. */
	const struct link *volatile first = &links[0];

	for (int i = 0; i <= STAGES; i++) {
		links[i].run = i < STAGES ? link_stage : link_sink;
		links[i].next = &links[i + 1];
	}
	arrived = 0;
	for (number = 0; number < count; number++)
		first->run(first, number);
	return bench_now_ns() - start;
}

/* The pipeline. */

static int source(struct evwork_emitter *out, void *arg)
{
	(void)arg;
	if (made == count)
		return EVWORK_SOURCE_END;
	evwork_must(evwork_emit(out, &made), "evwork_emit");
	made++;
	return EVWORK_SOURCE_MORE;
}

static int stage(struct evwork_emitter *out, void *item, void *arg)
{
	(void)arg;
	return evwork_emit(out, item);
}

static void sink(struct evwork_pipeline *pipeline, void *item, void *arg)
{
	(void)pipeline;
	(void)arg;
	arrive(*(uint64_t *)item);
}

static void on_done(struct evwork_pipeline *pipeline, int status, void *arg)
{
	(void)arg;
	walls[round_count] = bench_now_ns() - start_ns;
	cpus[round_count] = bench_cpu_ns() - start_cpu;
	evwork_must(status, "a pipeline");
	evwork_must(evwork_pipeline_free(pipeline), "evwork_pipeline_free");
	if (arrived != count)
		bench_fail("%llu items came", (unsigned long long)arrived);
	if (++round_count == rounds)
		peer_leave();
	else
		bench_timer_set(timer_fd, bench_now_ns() + PAUSE_NS);
}

static void on_timer(void)
{
	struct evwork_stage stages[STAGES];
	struct evwork_pipeline_options options = {
		.source = source, .stages = stages, .stage_count = STAGES,
		.item_size = sizeof(uint64_t), .item = sink, .window = queue, .done = on_done,
	};
	struct evwork_pipeline *pipeline;

	bench_fd_clear(timer_fd);
	direct[round_count] = direct_ns();
	for (int i = 0; i < STAGES; i++)
		stages[i] = (struct evwork_stage){ .run = stage, .item_size = sizeof(uint64_t),
			.queue = queue };
	made = arrived = 0;
	start_cpu = bench_cpu_ns();
	start_ns = bench_now_ns();
	evwork_must(evwork_pipeline_start(evworkloop, &options, &pipeline),
		"evwork_pipeline_start");
}

static void on_no_job(struct bench_job *job)
{
	(void)job;
}

void work_pipeline(const struct bench_case *test)
{
	double wall;

	count = (uint64_t)bench_scale(test->jobs);
	queue = test->in_flight;
	rounds = test->repeat;
	walls = bench_alloc((size_t)rounds * sizeof(*walls));
	direct = bench_alloc((size_t)rounds * sizeof(*direct));
	cpus = bench_alloc((size_t)rounds * sizeof(*cpus));
	timer_fd = bench_timer_new();

	bench_start(test, on_no_job);
	peer_watch(timer_fd, on_timer);
	bench_timer_set(timer_fd, bench_now_ns() + PAUSE_NS);
	peer_run();
	bench_stop(0);
	wall = bench_quantile(walls, (size_t)rounds, 0.5);
	bench_print(test, "items_per_s", (double)count * 1e9 / wall);
	bench_print(test, "of_direct", bench_quantile(direct, (size_t)rounds, 0.5) / wall);
	bench_print(test, "cpu_ns", bench_quantile(cpus, (size_t)rounds, 0.5) / (double)count);

	close(timer_fd);
	free(walls);
	free(direct);
	free(cpus);
}
