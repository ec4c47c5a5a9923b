/* SPDX-License-Identifier: BSD-3-Clause */

/* evwork with all defaults, but for room in the queue for the workload's jobs,
 * and for the -s option. */

#include "bench.h"
#include "evloop.h"

#include <evwork/job.h>
#include <evwork/loop.h>
#include <evwork/pool.h>

struct evwork_bench_job {
	struct bench_job bench;
	struct evwork_job job;
};

static struct evwork_pool *pool;
static struct evwork_loop *loop;

const size_t peer_job_size = sizeof(struct evwork_bench_job);

static void check(int status, const char *what)
{
	if (status != 0)
		bench_fail("%s: %s", what, evwork_strerror(status));
}

static struct bench_job *bench_of(struct evwork_job *job)
{
	char *start = (char *)job - offsetof(struct evwork_bench_job, job);

	return &((struct evwork_bench_job *)(void *)start)->bench;
}

static int on_run(struct evwork_job *job)
{
	bench_job_run(bench_of(job));
	return 0;
}

static void on_done(struct evwork_job *job, int status)
{
	check(status, "a job");
	bench_job_done(bench_of(job));
}

void peer_start(const struct peer_options *options)
{
	struct evwork_pool_options pool_options = {
		.threads = options->workers,
		.spin_us = options->spin_us,
		.lane.queue_limit = options->depth,
	};
	struct evwork_loop_options loop_options = {
		.spin_us = options->spin_us,
	};

	evloop_start();
	check(evwork_pool_new(&pool_options, &pool), "evwork_pool_new");
	check(evwork_loop_new(evloop_base(), pool, &loop_options, &loop), "evwork_loop_new");
}

void peer_stop(void)
{
	check(evwork_loop_free(loop), "evwork_loop_free");
	check(evwork_pool_free(pool), "evwork_pool_free");
	evloop_stop();
}

void peer_init(struct bench_job *job)
{
	evwork_job_init(&((struct evwork_bench_job *)job)->job, on_run, on_done);
}

void peer_submit(struct bench_job *job)
{
	check(evwork_submit(loop, &((struct evwork_bench_job *)job)->job), "evwork_submit");
}
