/* SPDX-License-Identifier: BSD-3-Clause */

/* A C user of the installed library: one job on a pool, its done on the loop. */

#include <event2/event.h>
#include <evwork.h>
#include <stdio.h>
#include <stdlib.h>

struct request {
	struct evwork_job job;
	int number, square;
	int dones, status;
};

static void must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "install_c: %s failed\n", what);
	exit(1);
}

static int square_run(struct evwork_job *job)
{
	struct request *request = EVWORK_CONTAINER(job, struct request, job);

	request->square = request->number * request->number;
	return -EAGAIN;
}

static void square_done(struct evwork_job *job, int status)
{
	struct request *request = EVWORK_CONTAINER(job, struct request, job);

	request->dones++;
	request->status = status;
}

int main(void)
{
	struct event_base *base = event_base_new();
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct request request = { .number = 12 };

	must(base != NULL, "event_base_new");
	must(evwork_pool_new(NULL, &pool) == 0, "evwork_pool_new");
	must(evwork_loop_new(base, pool, NULL, &loop) == 0, "evwork_loop_new");

	evwork_job_init(&request.job, square_run, square_done);
	must(evwork_submit(loop, &request.job) == 0, "evwork_submit");
	/* Returns when nothing that was started on the loop is left. */
	must(event_base_dispatch(base) >= 0, "event_base_dispatch");

	must(request.dones == 1, "one done");
	must(request.status == -EAGAIN, "the status of the work");
	must(request.square == 144, "the work");
	must(evwork_job_ran(&request.job) == 1, "evwork_job_ran");

	must(evwork_loop_free(loop) == 0, "evwork_loop_free");
	must(evwork_pool_free(pool) == 0, "evwork_pool_free");
	event_base_free(base);
	return 0;
}
