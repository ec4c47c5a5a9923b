/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * evwork's groups: what is submitted until the loop comes is one group, and all of it
 * is done when that is joined. For the bursts only.
 */

#include "bench.h"
#include "evworkpool.h"

struct evwork_bench_member {
	struct bench_job bench;
	struct evwork_member member;
	struct evwork_bench_member *next;
};

const size_t peer_job_size = sizeof(struct evwork_bench_member);

static struct evwork_group *group;
static struct evwork_bench_member *first, **last = &first;

static int on_run(struct evwork_job *job)
{
	struct evwork_member *member = EVWORK_CONTAINER(job, struct evwork_member, job);

	bench_job_run(&EVWORK_CONTAINER(member, struct evwork_bench_member, member)->bench);
	return 0;
}

static void on_join(struct evwork_group *joined, int status, void *arg)
{
	struct evwork_bench_member *member = first, *next;

	(void)arg;
	evwork_must(status, "a group");
	evwork_must(evwork_group_free(joined), "evwork_group_free");
	group = NULL;
	first = NULL;
	last = &first;
	for (; member; member = next) {
		next = member->next;
		bench_job_done(&member->bench);
	}
}

void peer_init(struct bench_job *job)
{
	evwork_member_init(&((struct evwork_bench_member *)job)->member, on_run, NULL);
}

void peer_submit(struct bench_job *job)
{
	struct evwork_bench_member *member = (struct evwork_bench_member *)job;
	int opened = !group;

	if (opened)
		evwork_must(evwork_group_new(evworkloop, NULL, &group), "evwork_group_new");
	evwork_must(evwork_group_go(group, &member->member), "evwork_group_go");
	/* Others follow in this callback, which is legal until the join comes. */
	if (opened)
		evwork_must(evwork_group_join(group, on_join, NULL), "evwork_group_join");
	member->next = NULL;
	*last = member;
	last = &member->next;
}
