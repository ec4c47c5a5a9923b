/* SPDX-License-Identifier: BSD-3-Clause */

/* evwork's jobs. */

#include "bench.h"
#include "evworkpool.h"

struct evwork_bench_job {
	struct bench_job bench;
	struct evwork_job job;
};

const size_t peer_job_size = sizeof(struct evwork_bench_job);

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
	evwork_must(status, "a job");
	bench_job_done(bench_of(job));
}

void peer_init(struct bench_job *job)
{
	evwork_job_init(&((struct evwork_bench_job *)job)->job, on_run, on_done);
}

void peer_submit(struct bench_job *job)
{
	evwork_must(evwork_submit(evworkloop, &((struct evwork_bench_job *)job)->job),
		    "evwork_submit");
}
