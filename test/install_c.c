/* SPDX-License-Identifier: BSD-3-Clause */

/* A C user of the installed library: one job on a pool, its done on the loop, then a group
 * of two, and a dependency that is protected by a breaker and a limit. */

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

struct part {
	struct evwork_member member;
	int runs;
};

static int part_run(struct evwork_job *job)
{
	EVWORK_CONTAINER(job, struct part, member.job)->runs++;
	return 0;
}

static void joined(struct evwork_group *group, int status, void *arg)
{
	*(int *)arg = status;
	must(evwork_group_free(group) == 0, "evwork_group_free");
}

static void use_group(struct event_base *base, struct evwork_loop *loop)
{
	struct evwork_group *group;
	struct part parts[2];
	int i, status = 1;

	must(evwork_group_new(loop, NULL, &group) == 0, "evwork_group_new");
	for (i = 0; i < 2; i++) {
		parts[i].runs = 0;
		evwork_member_init(&parts[i].member, part_run, NULL);
		must(evwork_group_go(group, &parts[i].member) == 0, "evwork_group_go");
	}
	must(evwork_group_join(group, joined, &status) == 0, "evwork_group_join");
	must(event_base_dispatch(base) >= 0, "event_base_dispatch");
	must(status == 0, "the status of the join");
	must(parts[0].runs == 1 && parts[1].runs == 1, "the members");
}

static int broken_run(struct evwork_job *job)
{
	(void)job;
	return -EIO;
}

/* It fails once, and then nothing is let through. */
static void use_guards(struct event_base *base, struct evwork_pool *pool,
	struct evwork_loop *loop)
{
	struct evwork_breaker_options breaker_options = { .rule = EVWORK_BREAKER_CONSECUTIVE,
		.in_a_row = 1 };
	struct evwork_adaptive_options limit_options = { .algorithm = EVWORK_ADAPTIVE_FIXED,
		.limit = 1 };
	struct evwork_adaptive *limit;
	struct evwork_breaker *breaker;
	struct evwork_lane *billing;
	struct request requests[2] = { { .number = 1 } };
	int i;

	must(evwork_breaker_new(&breaker_options, &breaker) == 0, "evwork_breaker_new");
	must(evwork_adaptive_new(&limit_options, &limit) == 0, "evwork_adaptive_new");
	{
		struct evwork_guard *guards[] = {
			evwork_breaker_guard(breaker),
			evwork_adaptive_guard(limit),
		};
		struct evwork_lane_options options = {
			.name = "billing", .timeout_ms = 60000, .max_running = EVWORK_HALF,
			.guards = guards, .guard_count = 2,
		};

		must(evwork_lane_new(pool, &options, &billing) == 0, "evwork_lane_new");
	}
	for (i = 0; i < 2; i++) {
		evwork_job_init(&requests[i].job, broken_run, square_done);
		requests[i].job.lane = billing;
	}
	must(evwork_submit(loop, &requests[0].job) == 0, "the first submit");
	must(event_base_dispatch(base) >= 0, "event_base_dispatch");
	must(requests[0].status == -EIO, "the status of the first");
	must(evwork_submit(loop, &requests[1].job) == -EHOSTDOWN, "the breaker");
	must(evwork_lane_free(billing) == 0, "evwork_lane_free");
	must(evwork_adaptive_free(limit) == 0, "evwork_adaptive_free");
	must(evwork_breaker_free(breaker) == 0, "evwork_breaker_free");
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

	use_group(base, loop);
	use_guards(base, pool, loop);

	must(evwork_loop_free(loop) == 0, "evwork_loop_free");
	must(evwork_pool_free(pool) == 0, "evwork_pool_free");
	event_base_free(base);
	return 0;
}
