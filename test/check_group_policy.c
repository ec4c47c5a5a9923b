/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Groups: what each policy makes of the ends of members, and what comes before the
 * policy: crashes, cancelling, deadlines.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#define MEMBERS 5

/* A group of members that each wait in a gate of their own, so that a test decides in
 * which order they end. There are fewer workers than members. */
struct scene {
	struct world world;
	struct evwork_group *group;
	struct support_join join;
	struct support_member members[MEMBERS];
	struct gate gates[MEMBERS];
	int next, queued;           /* which the next free worker takes, of those queued */
};

/* How many members run at once. */
#define WORKERS 3

static void scene_fill(struct scene *scene, const struct evwork_group_options *options, int count)
{
	int i;

	ck_assert_int_eq(evwork_group_new(scene->world.loop, options, &scene->group), 0);
	for (i = 0; i < MEMBERS; i++) {
		gate_init(&scene->gates[i]);
		support_member_init(&scene->members[i], 0);
		scene->members[i].gate = &scene->gates[i];
	}
	for (i = 0; i < count; i++) {
		ck_assert_int_eq(evwork_group_go(scene->group, &scene->members[i].member), 0);
		if (i < WORKERS)
			gate_await(&scene->gates[i], 1);
	}
	scene->next = WORKERS;
	scene->queued = options && options->limit ? 0 : count;
}

static void scene_open(struct scene *scene, const struct evwork_group_options *options, int count)
{
	memset(scene, 0, sizeof(*scene));
	world_open(&scene->world, WORKERS);
	scene_fill(scene, options, count);
}

static void scene_arm(struct scene *scene)
{
	ck_assert_int_eq(evwork_group_join(scene->group, support_join_fn, &scene->join), 0);
}

static int group_err(const struct scene *scene)
{
	return evwork_ctx_err(evwork_group_ctx(scene->group));
}

/* Lets member i end with this result; before that is delivered its worker has surely
 * gone on to the next one. */
static void end(struct scene *scene, int i, int result)
{
	int dones = scene->members[i].dones;

	scene->members[i].result = result;
	gate_open(&scene->gates[i]);
	if (!group_err(scene) && scene->next < scene->queued)
		gate_await(&scene->gates[scene->next++], 1);
	world_run_until(&scene->world, &scene->members[i].dones, dones + 1);
}

/* Lets all others end, and waits for the join. */
static void finish(struct scene *scene)
{
	int i;

	for (i = 0; i < MEMBERS; i++)
		gate_open(&scene->gates[i]);
	world_run_until(&scene->world, &scene->join.calls, 1);
	world_turns(&scene->world, 3);
	ck_assert_int_eq(scene->join.calls, 1);
}

static void scene_close(struct scene *scene)
{
	int i;

	ck_assert_int_eq(evwork_group_free(scene->group), 0);
	world_close(&scene->world);
	for (i = 0; i < MEMBERS; i++)
		gate_fini(&scene->gates[i]);
}

static void expect(const struct scene *scene, int i, int state, int status)
{
	const struct support_member *member = &scene->members[i];
	int got = 4711;

	ck_assert_int_eq(evwork_group_member(scene->group, (size_t)i, &got), state);
	ck_assert_int_eq(got, status);
	ck_assert_int_eq(member->dones, 1);
	ck_assert_int_eq(member->status, status);
	ck_assert_int_eq(member->ran, state != EVWORK_MEMBER_NOT_RUN);
	ck_assert_int_eq(atomic_load(&member->runs), state != EVWORK_MEMBER_NOT_RUN);
	if (scene->join.calls)
		ck_assert_int_lt(member->order, scene->join.order);
}

/* ALL. */

/* The first error cancels the rest: what is queued does not run, what runs sees it, and
 * go is refused. It is the status although siblings end with ECANCELED afterwards, and
 * the cause (S-GRP-7, S-GRP-8, S-GRP-9, S-GRP-13). */
START_TEST(all_first_error)
{
	struct support_member late;
	struct scene scene;

	scene_open(&scene, NULL, MEMBERS);
	scene_arm(&scene);
	scene.members[0].obeys = true;
	end(&scene, 1, -EIO);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	ck_assert_int_eq(evwork_ctx_cause(evwork_group_ctx(scene.group)), -EIO);
	support_member_init(&late, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &late.member), -ECANCELED);
	ck_assert_int_eq(evwork_group_try_go(scene.group, &late.member), -ECANCELED);
	ck_assert_uint_eq(evwork_group_count(scene.group), MEMBERS);
	world_run_until(&scene.world, &scene.members[4].dones, 1);
	end(&scene, 0, 0);
	world_turns(&scene.world, 5);
	ck_assert_int_eq(scene.join.calls, 0);
	scene.members[2].result = -ENOSPC;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -EIO);
	ck_assert_int_eq(scene.join.cause, -EIO);
	expect(&scene, 0, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	expect(&scene, 1, EVWORK_MEMBER_FAILED, -EIO);
	expect(&scene, 2, EVWORK_MEMBER_FAILED, -ENOSPC);
	expect(&scene, 3, EVWORK_MEMBER_OK, 0);
	ck_assert_int_eq(scene.members[3].seen, -ECANCELED);
	expect(&scene, 4, EVWORK_MEMBER_NOT_RUN, -ECANCELED);
	ck_assert_int_eq(late.dones, 0);
	scene_close(&scene);
}
END_TEST

/* All succeed: 0, and the context is dead of ECANCELED when the join comes (S-GRP-7,
 * S-GRP-9). */
START_TEST(all_succeed)
{
	struct scene scene;
	int i;

	scene_open(&scene, NULL, MEMBERS);
	for (i = MEMBERS - 1; i >= 0; i--)
		gate_open(&scene.gates[i]);
	ck_assert_int_eq(group_err(&scene), 0);
	scene_arm(&scene);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(scene.join.cause, -ECANCELED);
	for (i = 0; i < MEMBERS; i++) {
		expect(&scene, i, EVWORK_MEMBER_OK, 0);
		ck_assert_int_eq(scene.members[i].seen, 0);
	}
	scene_close(&scene);
}
END_TEST

static void check_alive(struct support_member *member)
{
	struct scene *scene = member->arg;

	member->value = (void *)(intptr_t)group_err(scene);
}

/* The siblings are cancelled before the done of the member that failed (S-GRP-7), and a
 * positive code is an error like any. */
START_TEST(all_cancelled_before_done)
{
	struct scene scene;

	scene_open(&scene, NULL, 2);
	scene_arm(&scene);
	scene.members[0].on_done = check_alive;
	scene.members[0].arg = &scene;
	end(&scene, 0, 17);
	ck_assert_int_eq((int)(intptr_t)scene.members[0].value, -ECANCELED);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 17);
	ck_assert_int_eq(scene.join.cause, 17);
	scene_close(&scene);
}
END_TEST

/* A single member cancelled with evwork_cancel touches no other; its own end is an error
 * like any. One that ran has failed: the context of the group was alive (S-GRP-13,
 * S-GRP-10, S-POOL-8, S-POOL-9). */
START_TEST(one_member_cancelled)
{
	struct evwork_group_options options = { .policy = EVWORK_COLLECT };
	struct scene scene;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	scene.members[0].obeys = true;
	ck_assert_int_eq(evwork_cancel(&scene.members[4].member.job), 0);
	ck_assert_int_eq(evwork_cancel(&scene.members[0].member.job), -EBUSY);
	world_run_until(&scene.world, &scene.members[4].dones, 1);
	end(&scene, 0, 0);
	ck_assert_int_eq(group_err(&scene), 0);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -ECANCELED);
	expect(&scene, 0, EVWORK_MEMBER_FAILED, -ECANCELED);
	expect(&scene, 1, EVWORK_MEMBER_OK, 0);
	expect(&scene, 3, EVWORK_MEMBER_OK, 0);
	expect(&scene, 4, EVWORK_MEMBER_NOT_RUN, -ECANCELED);
	scene_close(&scene);
}
END_TEST

/* In ALL that is the first error (S-GRP-7). */
START_TEST(all_one_member_cancelled)
{
	struct scene scene;

	scene_open(&scene, NULL, MEMBERS);
	scene_arm(&scene);
	ck_assert_int_eq(evwork_cancel(&scene.members[3].member.job), 0);
	world_run_until(&scene.world, &scene.members[4].dones, 1);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	scene.members[0].result = -EIO;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -ECANCELED);
	expect(&scene, 0, EVWORK_MEMBER_FAILED, -EIO);
	expect(&scene, 1, EVWORK_MEMBER_OK, 0);
	scene_close(&scene);
}
END_TEST

/* COLLECT. */

/* Errors cancel nothing; the first in the order of delivery is the status and the cause,
 * and each member's own is there (S-GRP-10, S-GRP-9, S-GRP-2). */
START_TEST(collect)
{
	struct evwork_group_options options = { .policy = EVWORK_COLLECT };
	struct scene scene;
	int i;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	end(&scene, 2, -EIO);
	end(&scene, 0, -ENOSPC);
	end(&scene, 1, 0);
	ck_assert_int_eq(group_err(&scene), 0);
	scene.members[4].result = 3;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -EIO);
	ck_assert_int_eq(scene.join.cause, -EIO);
	expect(&scene, 0, EVWORK_MEMBER_FAILED, -ENOSPC);
	expect(&scene, 1, EVWORK_MEMBER_OK, 0);
	expect(&scene, 2, EVWORK_MEMBER_FAILED, -EIO);
	expect(&scene, 3, EVWORK_MEMBER_OK, 0);
	expect(&scene, 4, EVWORK_MEMBER_FAILED, 3);
	for (i = 0; i < MEMBERS; i++)
		ck_assert_int_eq(scene.members[i].seen, 0);
	scene_close(&scene);
}
END_TEST

/* ANY. */

/* The first success cancels the rest and is the winner, whatever failed before or ends
 * well after it, whose result is kept all the same (S-GRP-11, S-GRP-13). */
START_TEST(any_first_success)
{
	struct evwork_group_options options = { .policy = EVWORK_ANY };
	struct scene scene;
	void *value = NULL;
	size_t winner = 4711;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	scene.members[2].value = &scene;
	end(&scene, 0, -EIO);
	ck_assert_int_eq(group_err(&scene), 0);
	ck_assert_int_eq(evwork_group_winner(scene.group, &winner), -ENOENT);
	end(&scene, 1, 0);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	scene.members[3].obeys = scene.members[4].obeys = true;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(scene.join.cause, -EIO);
	ck_assert_int_eq(evwork_group_winner(scene.group, &winner), 0);
	ck_assert_uint_eq(winner, 1);
	expect(&scene, 0, EVWORK_MEMBER_FAILED, -EIO);
	expect(&scene, 1, EVWORK_MEMBER_OK, 0);
	expect(&scene, 2, EVWORK_MEMBER_OK, 0);
	expect(&scene, 3, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	expect(&scene, 4, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	ck_assert_int_eq(evwork_group_take(scene.group, 2, &value), 0);
	ck_assert_ptr_eq(value, &scene);
	scene_close(&scene);
}
END_TEST

/* All fail: the first failure, and nobody won (S-GRP-11). */
START_TEST(any_all_fail)
{
	struct evwork_group_options options = { .policy = EVWORK_ANY };
	struct scene scene;
	size_t winner;
	int i;

	scene_open(&scene, &options, 3);
	scene_arm(&scene);
	for (i = 2; i >= 0; i--)
		end(&scene, i, -10 - i);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -12);
	ck_assert_int_eq(evwork_group_winner(scene.group, &winner), -ENOENT);
	scene_close(&scene);
}
END_TEST

/* UNTIL. */

struct asked {
	int calls, at;              /* at which call it says true; 0: never */
	size_t indexes[MEMBERS];
	int statuses[MEMBERS];
	int orders[MEMBERS];
	struct evwork_group *group;
	pthread_t thread;
};

static int ask(struct evwork_group *group, size_t index, int status, void *arg)
{
	struct asked *asked = arg;
	int n = asked->calls++;

	if (n < MEMBERS) {
		asked->indexes[n] = index;
		asked->statuses[n] = status;
		asked->orders[n] = atomic_load(&probe_done_counter);
	}
	asked->group = group;
	asked->thread = pthread_self();
	return n + 1 == asked->at;
}

/* The predicate is asked on the loop's thread once for each end, before its done; true
 * cancels the rest, and the status is 0 with errors before and after (S-GRP-12). */
START_TEST(until_true)
{
	struct asked asked = { .at = 2 };
	struct evwork_group_options options = {
		.policy = EVWORK_UNTIL, .until = ask, .until_arg = &asked
	};
	struct scene scene;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	end(&scene, 2, -EIO);
	ck_assert_int_eq(group_err(&scene), 0);
	end(&scene, 0, 0);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	scene.members[1].result = -ENOSPC;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(asked.calls, MEMBERS);
	ck_assert_ptr_eq(asked.group, scene.group);
	ck_assert(pthread_equal(asked.thread, pthread_self()));
	ck_assert_uint_eq(asked.indexes[0], 2);
	ck_assert_int_eq(asked.statuses[0], -EIO);
	ck_assert_uint_eq(asked.indexes[1], 0);
	ck_assert_int_eq(asked.statuses[1], 0);
	ck_assert_int_eq(asked.orders[1], scene.members[0].order - 1);
	expect(&scene, 4, EVWORK_MEMBER_OK, 0);
	ck_assert_int_eq(scene.members[4].seen, -ECANCELED);
	scene_close(&scene);
}
END_TEST

/* A predicate that never says true: all run, and the status is 0 whatever they returned
 * (S-GRP-12). */
START_TEST(until_never)
{
	struct asked asked = { 0 };
	struct evwork_group_options options = {
		.policy = EVWORK_UNTIL, .until = ask, .until_arg = &asked
	};
	struct scene scene;
	int i;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	for (i = 0; i < MEMBERS; i++)
		end(&scene, i, -10 - i);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(scene.join.cause, -10);
	ck_assert_int_eq(asked.calls, MEMBERS);
	for (i = 0; i < MEMBERS; i++)
		expect(&scene, i, EVWORK_MEMBER_FAILED, -10 - i);
	scene_close(&scene);
}
END_TEST

/* QUORUM. */

/* The k-th success makes the join 0 and cancels the rest (S-FAN-5). */
START_TEST(quorum_reached)
{
	struct evwork_group_options options = {
		.policy = EVWORK_QUORUM, .quorum = 2, .members = MEMBERS
	};
	struct support_member more;
	struct scene scene;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	support_member_init(&more, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &more.member), -ERANGE);
	end(&scene, 0, -EIO);
	end(&scene, 1, 0);
	ck_assert_int_eq(group_err(&scene), 0);
	end(&scene, 2, 0);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	scene.members[3].obeys = scene.members[4].obeys = true;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	expect(&scene, 0, EVWORK_MEMBER_FAILED, -EIO);
	expect(&scene, 3, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	expect(&scene, 4, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	scene_close(&scene);
}
END_TEST

/* As soon as more than n - k have failed, and not before, the rest is cancelled, and the
 * status is the first failure (S-FAN-5). */
START_TEST(quorum_out_of_reach)
{
	struct evwork_group_options options = {
		.policy = EVWORK_QUORUM, .quorum = 4, .members = MEMBERS
	};
	struct scene scene;

	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	end(&scene, 1, -EIO);
	ck_assert_int_eq(group_err(&scene), 0);
	end(&scene, 0, 0);
	end(&scene, 3, -ENOSPC);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -EIO);
	expect(&scene, 2, EVWORK_MEMBER_OK, 0);
	expect(&scene, 4, EVWORK_MEMBER_OK, 0);
	scene_close(&scene);
}
END_TEST

/* Joined with fewer members than it takes: not reached, with an error or without
 * (S-FAN-5, S-GRP-6). */
START_TEST(quorum_with_too_few)
{
	struct evwork_group_options options = {
		.policy = EVWORK_QUORUM, .quorum = 3, .members = MEMBERS
	};
	struct scene scene;

	scene_open(&scene, &options, 2);
	scene_arm(&scene);
	scene.members[1].result = _i;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, _i ? _i : -ENOENT);
	scene_close(&scene);
}
END_TEST

/* Crashes. */

static struct asked crash_asked;

static const struct evwork_group_options each_policy[] = {
	{ .policy = EVWORK_ALL },
	{ .policy = EVWORK_COLLECT },
	{ .policy = EVWORK_ANY },
	{ .policy = EVWORK_UNTIL, .until = ask, .until_arg = &crash_asked },
	{ .policy = EVWORK_QUORUM, .quorum = 1, .members = MEMBERS },
};

/* A member that ends with EOWNERDEAD cancels the rest and is the status under every
 * policy (S-GRP-14). */
START_TEST(crash_cancels)
{
	struct scene scene;

	memset(&crash_asked, 0, sizeof(crash_asked));
	scene_open(&scene, &each_policy[_i], MEMBERS);
	scene_arm(&scene);
	end(&scene, 1, -EOWNERDEAD);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	ck_assert_int_eq(evwork_ctx_cause(evwork_group_ctx(scene.group)), -EOWNERDEAD);
	scene.members[2].obeys = true;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -EOWNERDEAD);
	expect(&scene, 0, EVWORK_MEMBER_OK, 0);
	expect(&scene, 1, EVWORK_MEMBER_FAILED, -EOWNERDEAD);
	expect(&scene, 2, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	expect(&scene, 4, EVWORK_MEMBER_NOT_RUN, -ECANCELED);
	scene_close(&scene);
}
END_TEST

/* So it is over an earlier error, over a winner and what else had decided, and over a
 * context that was dead (S-GRP-14). */
START_TEST(crash_is_not_masked)
{
	struct scene scene;

	memset(&crash_asked, 0, sizeof(crash_asked));
	crash_asked.at = 2;
	scene_open(&scene, &each_policy[_i], MEMBERS);
	scene_arm(&scene);
	end(&scene, 0, -EIO);
	end(&scene, 1, 0);
	if (each_policy[_i].policy == EVWORK_COLLECT)
		ck_assert_int_eq(evwork_group_cancel(scene.group, 0), 0);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	end(&scene, 2, -EOWNERDEAD);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -EOWNERDEAD);
	scene_close(&scene);
}
END_TEST

/* The context's death. */

/* If the parent dies, members see it, what is queued does not run, and the error is the
 * status under every policy as nothing had been decided (S-GRP-15, S-GRP-8). */
START_TEST(parent_dies)
{
	struct evwork_group_options options = each_policy[_i];
	struct scene scene;

	memset(&crash_asked, 0, sizeof(crash_asked));
	ck_assert_int_eq(evwork_ctx_new(NULL, &options.ctx), 0);
	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	if (options.policy == EVWORK_COLLECT || options.policy == EVWORK_ANY)
		end(&scene, 0, -EIO);
	ck_assert_int_eq(evwork_ctx_cancel(options.ctx, -ESTALE), 0);
	ck_assert_int_eq(group_err(&scene), -ECANCELED);
	world_run_until(&scene.world, &scene.members[4].dones, 1);
	scene.members[1].obeys = true;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -ECANCELED);
	ck_assert_int_eq(scene.join.cause, -ESTALE);
	expect(&scene, 1, EVWORK_MEMBER_CANCELLED, -ECANCELED);
	expect(&scene, 2, EVWORK_MEMBER_OK, 0);
	expect(&scene, 4, EVWORK_MEMBER_NOT_RUN, -ECANCELED);
	evwork_ctx_unref(options.ctx);
	scene_close(&scene);
}
END_TEST

/* What a member had decided before the parent died stays (S-GRP-15). */
START_TEST(parent_dies_too_late)
{
	struct evwork_group_options options = each_policy[_i];
	bool all = options.policy == EVWORK_ALL;
	struct scene scene;

	memset(&crash_asked, 0, sizeof(crash_asked));
	crash_asked.at = 1;
	ck_assert_int_eq(evwork_ctx_new(NULL, &options.ctx), 0);
	scene_open(&scene, &options, MEMBERS);
	scene_arm(&scene);
	end(&scene, 0, all ? -EIO : 0);
	ck_assert_int_eq(evwork_ctx_cancel(options.ctx, -ESTALE), 0);
	scene.members[1].result = -ENOSPC;
	finish(&scene);
	/* COLLECT never decides. */
	ck_assert_int_eq(scene.join.status, all ? -EIO :
		options.policy == EVWORK_COLLECT ? -ECANCELED : 0);
	evwork_ctx_unref(options.ctx);
	scene_close(&scene);
}
END_TEST

static void cancel_group(struct support_post *post)
{
	struct scene *scene = post->arg;

	evwork_group_cancel(scene->group, -ESTALE);
}

static void post_cancel(struct support_member *member)
{
	struct support_post *post = member->arg;
	struct scene *scene = post->arg;

	if (evwork_post(scene->world.loop, support_post_fn, post) != 0)
		abort();
}

/* A death after the last end, though before the join, changes nothing (S-GRP-15). */
START_TEST(dies_after_the_last_end)
{
	struct support_post post;
	struct scene scene;

	support_post_init(&post);
	post.on = cancel_group;
	post.arg = &scene;
	scene_open(&scene, NULL, 1);
	scene_arm(&scene);
	scene.members[0].on_done = post_cancel;
	scene.members[0].arg = &post;
	finish(&scene);
	ck_assert_int_lt(post.order, scene.join.order);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(scene.join.cause, -ESTALE);
	scene_close(&scene);
}
END_TEST

/* evwork_group_cancel is cancel of the group's context, once, with the cause given; what
 * waits in the group ends in order although every worker is blocked (S-GRP-18,
 * S-GRP-8). */
START_TEST(cancel_the_group)
{
	struct evwork_group_options options = { .limit = 2 };
	struct support_member late;
	struct scene scene;

	scene_open(&scene, &options, 2);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.members[2].member), 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.members[3].member), 0);
	scene_arm(&scene);
	ck_assert_int_eq(evwork_group_cancel(scene.group, 99), 0);
	ck_assert_int_eq(evwork_group_cancel(scene.group, 98), -EALREADY);
	ck_assert_int_eq(scene.members[2].dones, 0);
	support_member_init(&late, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &late.member), -ECANCELED);
	world_run_until(&scene.world, &scene.members[3].dones, 1);
	ck_assert_int_gt(scene.members[3].order, scene.members[2].order);
	ck_assert_int_eq(scene.join.calls, 0);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -ECANCELED);
	ck_assert_int_eq(scene.join.cause, 99);
	expect(&scene, 0, EVWORK_MEMBER_OK, 0);
	expect(&scene, 2, EVWORK_MEMBER_NOT_RUN, -ECANCELED);
	expect(&scene, 3, EVWORK_MEMBER_NOT_RUN, -ECANCELED);
	scene_close(&scene);
}
END_TEST

/* A group that is born dead takes no member; its join is that of one without members
 * (S-GRP-8, S-GRP-6). */
START_TEST(born_dead)
{
	struct evwork_group_options options = { 0 };
	struct scene scene;

	ck_assert_int_eq(evwork_ctx_new(NULL, &options.ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(options.ctx, -ESTALE), 0);
	scene_open(&scene, &options, 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.members[0].member), -ECANCELED);
	scene_arm(&scene);
	finish(&scene);
	ck_assert_int_eq(scene.join.status, 0);
	ck_assert_int_eq(scene.join.cause, -ESTALE);
	evwork_ctx_unref(options.ctx);
	scene_close(&scene);
}
END_TEST

/* A deadline that passes: the join is ETIMEDOUT after the running members have ended,
 * with the results so far and the state of each; go is refused with it (S-FAN-6,
 * S-GRP-15, S-GRP-8, S-GEN-11). */
START_TEST(deadline)
{
	struct evwork_group_options options = { .policy = EVWORK_COLLECT, .limit = WORKERS };
	struct scene scene;
	void *value = NULL;

	memset(&scene, 0, sizeof(scene));
	world_open_manual(&scene.world, WORKERS, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, scene.world.loop, 10, 0, &options.ctx), 0);
	scene_fill(&scene, &options, 4);
	scene_arm(&scene);
	scene.members[0].value = &scene;
	end(&scene, 0, 0);
	gate_await(&scene.gates[3], 1);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.members[4].member), 0);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(group_err(&scene), 0);
	ck_assert_int_eq(evwork_clock_advance(scene.world.clock, 1), 0);
	world_run_until(&scene.world, &scene.members[4].dones, 1);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.members[0].member), -ETIMEDOUT);
	world_turns(&scene.world, 3);
	ck_assert_int_eq(scene.join.calls, 0);
	scene.members[1].obeys = true;
	scene.members[2].result = -EIO;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -ETIMEDOUT);
	expect(&scene, 0, EVWORK_MEMBER_OK, 0);
	expect(&scene, 1, EVWORK_MEMBER_CANCELLED, -ETIMEDOUT);
	expect(&scene, 2, EVWORK_MEMBER_FAILED, -EIO);
	expect(&scene, 3, EVWORK_MEMBER_OK, 0);
	expect(&scene, 4, EVWORK_MEMBER_NOT_RUN, -ETIMEDOUT);
	ck_assert_int_eq(evwork_group_take(scene.group, 0, &value), 0);
	ck_assert_ptr_eq(value, &scene);
	evwork_ctx_unref(options.ctx);
	scene_close(&scene);
}
END_TEST

/* A deadline that passed while the loop was stalled holds for go, and for the error of a
 * member that comes after it (S-GRP-15, S-GRP-8, S-CTX-10). */
START_TEST(deadline_while_stalled)
{
	struct evwork_group_options options = { 0 };
	struct scene scene;

	memset(&scene, 0, sizeof(scene));
	world_open_manual(&scene.world, WORKERS, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, scene.world.loop, 10, 0, &options.ctx), 0);
	scene_fill(&scene, &options, 1);
	scene_arm(&scene);
	ck_assert_int_eq(evwork_clock_jump(scene.world.clock, 10 * SYS_NS_PER_MS), 0);
	ck_assert_int_eq(evwork_group_go(scene.group, &scene.members[1].member), -ETIMEDOUT);
	scene.members[0].result = -EIO;
	finish(&scene);
	ck_assert_int_eq(scene.join.status, -ETIMEDOUT);
	expect(&scene, 0, EVWORK_MEMBER_FAILED, -EIO);
	evwork_ctx_unref(options.ctx);
	scene_close(&scene);
}
END_TEST

static void add_all(Suite *suite)
{
	TCase *tcase = support_case(suite, "all");

	tcase_add_test(tcase, all_first_error);
	tcase_add_test(tcase, all_succeed);
	tcase_add_test(tcase, all_cancelled_before_done);
	tcase_add_test(tcase, all_one_member_cancelled);
	tcase_add_test(tcase, one_member_cancelled);
}

static void add_others(Suite *suite)
{
	TCase *tcase = support_case(suite, "others");

	tcase_add_test(tcase, collect);
	tcase_add_test(tcase, any_first_success);
	tcase_add_test(tcase, any_all_fail);
	tcase_add_test(tcase, until_true);
	tcase_add_test(tcase, until_never);
	tcase_add_test(tcase, quorum_reached);
	tcase_add_test(tcase, quorum_out_of_reach);
	tcase_add_loop_test(tcase, quorum_with_too_few, -1, 1);
}

static void add_before_the_policy(Suite *suite)
{
	TCase *tcase = support_case(suite, "before the policy");
	int policies = sizeof(each_policy) / sizeof(each_policy[0]);

	tcase_add_loop_test(tcase, crash_cancels, 0, policies);
	tcase_add_loop_test(tcase, crash_is_not_masked, 0, policies);
	tcase_add_loop_test(tcase, parent_dies, 0, policies);
	tcase_add_loop_test(tcase, parent_dies_too_late, 0, policies);
	tcase_add_test(tcase, dies_after_the_last_end);
	tcase_add_test(tcase, cancel_the_group);
	tcase_add_test(tcase, born_dead);
	tcase_add_test(tcase, deadline);
	tcase_add_test(tcase, deadline_while_stalled);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("group_policy");

	add_all(suite);
	add_others(suite);
	add_before_the_policy(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
