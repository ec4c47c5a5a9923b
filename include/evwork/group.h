/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_GROUP_H
#define EVWORK_GROUP_H

/*
 * Groups: jobs that belong together, and the one moment when all of them are over.
 *
 *	struct part {
 *		struct evwork_member member;
 *		...
 *	} parts[PARTS];
 *
 *	evwork_group_new(loop, NULL, &group);
 *	for (i = 0; i < PARTS; i++) {
 *		evwork_member_init(&parts[i].member, part_run, NULL);
 *		evwork_group_go(group, &parts[i].member);
 *	}
 *	evwork_group_join(group, page_done, page);
 *	...
 *	static void page_done(struct evwork_group *group, int status, void *arg)
 *	{
 *		reply(arg, status);     // 0, or the error of the first part that failed
 *		evwork_group_free(group);
 *	}
 *
 * A group has a context of its own, a child of the one it was made with, which its
 * members get. Its policy says when the rest is cancelled, and what the status of
 * the join is:
 *
 *	policy          cancels the rest             status
 *	EVWORK_ALL      at the first error           that error, or 0
 *	EVWORK_COLLECT  never                        the first error, or 0
 *	EVWORK_ANY      at the first success         0, or the first error
 *	EVWORK_UNTIL    when `until` says so         0
 *	EVWORK_QUORUM   at the k-th success, or when 0, or the first error
 *	                it cannot be reached
 *
 * "First" is in the order of delivery on the group's loop. An error is recorded
 * before the siblings are cancelled for it, so that never one of their -ECANCELED
 * becomes the status (S-GRP-7). Two things come before the policy: a member that
 * crashed (-EOWNERDEAD) cancels the rest and is the status, over errors and winners
 * (S-GRP-14); and if the group's context dies otherwise, by its parent, a deadline or
 * evwork_group_cancel(), its error is the status, unless a member had decided the
 * outcome before (S-GRP-15).
 *
 * Nothing of a group outlives its join: it comes after the last member has really
 * ended, those cancelled included, and after their done callbacks (S-GRP-5); and a pool
 * that members are in is closed after it (S-DLV-15). A closing loop cancels its groups.
 * Groups may be nested: make the inner one with evwork_group_ctx() of the outer;
 * the outer join waits for the inner group only if a member does (S-GRP-19).
 */

#include <stddef.h>

#include <evwork/job.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_group;
struct evwork_member;

/* On the thread of the group's loop, once for each accepted member. */
typedef void (*evwork_member_done_fn)(struct evwork_member *member, int status);

/*
 * A member: a job and what the group adds to it. Embed it. From go to done it is
 * the library's; then, or without a done when the join comes, it is the caller's
 * again: evwork_group_of() says NULL then. The group keeps index, status and result.
 */
struct evwork_member {
	/* run is called with this job. You may set `lane`; done, ctx and drop are not
	 * for you here. */
	struct evwork_job job;
	evwork_member_done_fn done;     /* may be NULL */
	/* What work leaves here becomes the group's if work returns 0, see
	 * evwork_group_take(). */
	void *result;
	size_t index;                   /* set by go: 0, 1, 2, … (S-GRP-2) */
	/* Private. */
	struct evwork_group *_group;
	struct evwork_member *_next, *_prev;
	int _status;
	unsigned _flags;
};

/* evwork_member_init prepares a member; needed once, before its first go. */
void evwork_member_init(struct evwork_member *member, evwork_run_fn run,
	evwork_member_done_fn done);

enum evwork_group_policy {
	EVWORK_ALL, EVWORK_COLLECT, EVWORK_ANY, EVWORK_UNTIL, EVWORK_QUORUM
};

/* On the loop's thread, once for each member that ended; true cancels the rest. */
typedef int (*evwork_until_fn)(struct evwork_group *group, size_t index, int status, void *arg);

/* All zero means the defaults. */
struct evwork_group_options {
	enum evwork_group_policy policy;    /* default: EVWORK_ALL */
	struct evwork_ctx *ctx;             /* parent of the group's; NULL: background */
	/* For members that name none; NULL: the default lane of the loop's pool. */
	struct evwork_lane *lane;
	/* At most so many members run; more wait in the group. 0: no limit. */
	int limit;
	evwork_until_fn until;              /* for EVWORK_UNTIL */
	void *until_arg;
	/* For EVWORK_QUORUM: `quorum` successes of `members` (S-FAN-5). */
	size_t quorum, members;
	/* For results that were not taken; may be NULL. Called in evwork_group_free(), and
	 * on the loop's thread for what a member left that failed. */
	void (*drop)(void *result);
};

/*
 * evwork_group_new [any] makes a group that ends on loop (S-GRP-1). The options are
 * copied; NULL is all defaults.
 * -EINVAL: loop or ret_group is NULL, the policy is none, limit is negative,
 * EVWORK_UNTIL has no function, or a quorum is not in 1 to members, or there is no
 * lane: neither options nor loop have one. -ESHUTDOWN: loop is closing. -ENOMEM.
 */
int evwork_group_new(struct evwork_loop *loop, const struct evwork_group_options *options,
	struct evwork_group **ret_group);

/*
 * evwork_group_go [any], from members and their callbacks too: the member will run,
 * or wait in the group while `limit` members run, oldest first (S-GRP-3). A waiting
 * member keeps its lane and pool from being freed; evwork_cancel() of its job is
 * -ESRCH. If its lane is full when its turn comes, it waits for the end of another one;
 * if none of the group runs, it ends with -EAGAIN, not run. If its pool closes, it
 * ends as what is queued there: it runs with EVWORK_DRAIN, else it gets -ECANCELED,
 * when the next member of the group ends or the group is cancelled.
 * evwork_group_try_go is the same but that it gives -EAGAIN for what would wait.
 * An accepted member has exactly one end; a refused one has no index and is the
 * caller's (after a refusal that overlaps a go of another thread its index may
 * be left unused, with the state EVWORK_MEMBER_NOT_RUN).
 * -EINVAL: group, member or its run is NULL; or the job has a context, or drop, or is
 *	marked with evwork_job_set_detach().
 * -EBUSY: the member is on its way already.
 * -ESHUTDOWN: the join callback has started, or the group was joined when no member
 *	was active (S-GRP-16); or the loop is closing, or the member's pool, see
 *	evwork_submit(). It comes before the error of a dead context.
 * -ERANGE: EVWORK_QUORUM has all its members.
 * -ECANCELED, -ETIMEDOUT: the group's context is dead (S-GRP-8).
 * -EAGAIN: the limit was set to 0, or what evwork_submit() says. -ENOMEM.
 */
int evwork_group_go(struct evwork_group *group, struct evwork_member *member);
int evwork_group_try_go(struct evwork_group *group, struct evwork_member *member);

/*
 * evwork_group_set_limit [any]: at most `limit` members run from now on; 0: none may
 * start; below 0: no limit.
 * -EINVAL: group is NULL. -EBUSY: members wait or run (S-GRP-4).
 */
int evwork_group_set_limit(struct evwork_group *group, int limit);

/* On the thread of the loop, in a turn after the last member has ended. The
 * group may be freed in it. */
typedef void (*evwork_join_fn)(struct evwork_group *group, int status, void *arg);

/*
 * evwork_group_join [any] has fn called once when all members have ended; fn may be
 * NULL. Members may still be added until then if one was active at this call
 * (S-GRP-16). Without members it comes in a later turn, with status 0, or -ENOENT
 * for EVWORK_ANY and EVWORK_QUORUM (S-GRP-6), the latter also if fewer succeeded than
 * it takes and none failed. When it comes the group's context is dead: unless something
 * else killed it, its cause is the first error, or the crash, or -ECANCELED if there
 * was none (S-GRP-9).
 * -EINVAL: group is NULL. -EALREADY: joined before, or waited for.
 * -ESHUTDOWN: the loop is closing, or gone, and no member was active: there is no join,
 * and the group may be freed.
 */
int evwork_group_join(struct evwork_group *group, evwork_join_fn fn, void *arg);

/*
 * evwork_group_wait [wait] joins, if nobody did, and waits for the end; any number of
 * threads may wait. The loop must run meanwhile. Stores the status if ret_status is
 * not NULL (S-GRP-18).
 * -EINVAL: group is NULL. -EDEADLK: on a loop's thread, or on a worker of the pool of
 * the group's lane, or, if a member named a lane of another pool, on any worker
 * (S-GEN-6). -ESHUTDOWN: as evwork_group_join().
 */
int evwork_group_wait(struct evwork_group *group, int *ret_status);

/* evwork_group_cancel [any] is evwork_ctx_cancel() of the group's context. */
int evwork_group_cancel(struct evwork_group *group, int cause);

/*
 * evwork_group_free [any], from the join callback too, frees the group, and drops
 * results that nobody took. NULL is fine. Until its join a group counts among what
 * keeps its loop from being freed, if that was not closed; after it, neither loop nor
 * pool is needed for any call.
 * -EBUSY: the join callback has not started, or, on another thread, not returned; or
 * a thread still waits (S-GRP-17).
 */
int evwork_group_free(struct evwork_group *group);

/* evwork_group_ctx [any]: the context of the group, the group's own; NULL for NULL.
 * evwork_group_of [any]: the group a member is in, NULL if it is in none. */
struct evwork_ctx *evwork_group_ctx(struct evwork_group *group);
struct evwork_group *evwork_group_of(const struct evwork_member *member);

enum evwork_member_state {
	EVWORK_MEMBER_ACTIVE,      /* waits or runs */
	EVWORK_MEMBER_OK,
	EVWORK_MEMBER_FAILED,      /* ran, and ended with an error of its own */
	EVWORK_MEMBER_CANCELLED,   /* ran, and ended with the error of the group's context */
	EVWORK_MEMBER_NOT_RUN
};

/* evwork_group_count [any]: how many indexes there are; 0 for NULL. */
size_t evwork_group_count(struct evwork_group *group);

/*
 * evwork_group_member [any] tells how a member ended: returns its state and stores its
 * status if ret_status is not NULL (S-GRP-13).
 * -EINVAL: group is NULL. -ENOENT: there is no such index.
 */
int evwork_group_member(struct evwork_group *group, size_t index, int *ret_status);

/*
 * evwork_group_take [any] hands over the result of a member that ended well, once.
 * -EINVAL: an argument is NULL. -ENOENT: there is none, or it was taken.
 */
int evwork_group_take(struct evwork_group *group, size_t index, void **ret_result);

/* evwork_group_winner [any]: the member that decided EVWORK_ANY.
 * -EINVAL: an argument is NULL. -ENOENT: none. */
int evwork_group_winner(struct evwork_group *group, size_t *ret_index);

#ifdef __cplusplus
}
#endif

#endif
