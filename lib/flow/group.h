/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FLOW_GROUP_H
#define FLOW_GROUP_H

#include "base/list.h"
#include "run/loop.h"
#include "evwork/group.h"

/* What a group keeps of a member. */
struct group_record {
	int state;                  /* enum evwork_member_state */
	int status;
	void *result;               /* of one that ended well, until it is taken */
};

/*
 * A group. Members come from any thread and end on the loop's; the group's mutex, a
 * leaf that is never held while a job is submitted or a function of the user runs,
 * covers what both sides need.
 *
 *	open ──join──► joined ──last end──► ending ──callback──► over
 *
 * The group is `joined` while members may still be added (S-GRP-16), and `ending`
 * from the moment on when the join letter finds no member active.
 */
struct evwork_group {
	/* Fixed at creation. */
	struct evwork_loop *loop;   /* not touched once the group is over */
	pthread_t thread;           /* the loop's */
	struct evwork_lane *lane;
	enum evwork_group_policy policy;
	evwork_until_fn until;
	void *until_arg;
	void (*drop)(void *result);
	size_t quorum, most;        /* for EVWORK_QUORUM; most is SIZE_MAX otherwise */
	struct evwork_ctx *ctx;

	/* The loop's thread only. */
	struct evwork_watch watch;  /* on the context: ends members that wait */
	bool calling, doomed;       /* the join callback runs; has freed the group */

	sys_mutex mutex;            /* covers all below */
	sys_cond over_changed;
	int limit;                  /* below 0: none */
	size_t active;              /* accepted, and their end not through */
	size_t running;             /* of these, handed to the pool, or being so */
	LIST_OF(struct evwork_member) waiting;    /* only while some run */
	LIST_OF(struct evwork_member) unstarted;  /* to end without having run */
	bool ends_posted;
	struct letter ends;         /* ends the first of them */
	struct group_record *records;
	size_t count, capacity;
	struct evwork_pool *pool;   /* where members run */
	bool pools;                 /* and in others */

	size_t succeeded, failed;
	int first_error;
	bool crashed;
	bool decided;               /* by a member, with this status: */
	int decision;
	bool won;
	size_t winner;
	int death;                  /* error of the context when the last member ended */

	bool joined, ending, over;
	bool unwatched;             /* the watch is not used any more */
	bool join_posted;
	bool join_held;             /* the join counts among what is on its way to the loop, */
	bool join_own;              /* and this is how */
	struct letter join;
	evwork_join_fn join_fn;
	void *join_arg;
	int status;                 /* of the join */
	unsigned waiters;
};

/* Bits of evwork_member._flags. */
enum {
	MEMBER_LENT_LANE = 1,       /* job.lane is the group's, not the user's */
	MEMBER_HOLDS = 2,           /* waits, and counts as on its way to the loop, */
	MEMBER_OWN = 4              /* and this is how */
};

void group_destroy(struct evwork_group *group);

/* [loop] The job of a member was delivered. */
void group_on_done(struct evwork_job *job, int status);
/* [loop] The context has died, or the loop closes. */
void group_on_death(struct evwork_watch *watch, int status);
/* [loop] Ends a member that never ran. */
void group_on_ends(struct letter *letter);
/* [loop] */
void group_on_join(struct letter *letter);

/*
 * [any] For groups inside the library: a new group is joined, and counts as if one
 * member were active until group_begun is called; from then on the join may come, so
 * that group and what is behind it may be gone. If the loop takes nothing more, or has
 * no memory, group_begin says so and the group may be freed.
 */
int group_begin(struct evwork_group *group, evwork_join_fn fn, void *arg);
void group_begun(struct evwork_group *group);

/* [any, no lock held] No member needs the watch any more. */
void group_stop_watch(struct evwork_group *group);

/* [any] Hands a member that is counted as running to its pool. */
int group_submit(struct evwork_group *group, struct evwork_member *member);
/* [any, no lock held] Starts members that wait and may start. The caller holds the
 * loop. */
void group_start_waiting(struct evwork_group *group);

/*
 * [any, under the lock] A member is through. If that was the last and the group is
 * joined, the join is posted; `own` is how the caller holds the loop. True: the join
 * has taken that hold over.
 */
bool group_leave_locked(struct evwork_group *group, bool own);

#endif
