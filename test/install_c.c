/* SPDX-License-Identifier: BSD-3-Clause */

/* A C user of the installed library: one job on a pool, its done on the loop, and then a
 * group of two. */

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

	must(evwork_loop_free(loop) == 0, "evwork_loop_free");
	must(evwork_pool_free(pool) == 0, "evwork_pool_free");
	event_base_free(base);
	return 0;
}
