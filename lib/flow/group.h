/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FLOW_GROUP_H
#define FLOW_GROUP_H

#include "base/fork.h"
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
 * A group. Members come from any thread and end on the loop's; the group's mutex,
 * which comes before a loop's and a pool's and is never held while a job is submitted
 * or a function of the user runs, covers what both sides need.
 *
 *	open ──join──► joined ──last end──► ending ──callback──► over
 *	  └─loop closes without members─► lost
 *
 * The group is `joined` while members may still be added (S-GRP-16), unless it was
 * `sealed` by a join without members, and `ending` from the moment on when the join
 * letter finds no member active.
 *
 * The loop is there as long as the group is not `ending`: its watch stays set until
 * then, or until the loop closes. A group that was not joined by then is lost with its
 * last member; it has no join, and may be freed.
 */
struct evwork_group {
	/* Fixed at creation. */
	struct evwork_loop *loop;   /* not touched once the group is ending */
	pthread_t thread;           /* the loop's */
	unsigned made_in;           /* fork_here() when it was made */
	struct evwork_lane *lane;
	enum evwork_group_policy policy;
	evwork_until_fn until;
	void *until_arg;
	void (*drop)(void *result);
	size_t quorum, most;        /* for EVWORK_QUORUM; most is SIZE_MAX otherwise */
	struct evwork_ctx *ctx;

	/* The loop's thread only. */
	/* On the context, to end members that wait; then on the background, to learn
	 * that the loop closes; then to learn that it is freed by force all the same. */
	struct evwork_watch watch;
	bool calling;               /* the join callback runs */

	sys_mutex mutex;            /* covers all below */
	sys_cond over_changed;
	int limit;                  /* below 0: none */
	size_t active;              /* accepted, and their end not through */
	size_t running;             /* of these, handed to the pool, or being so */
	LIST_OF(struct evwork_member) waiting;    /* only while some run, or ends is posted */
	LIST_OF(struct evwork_member) unstarted;  /* to end without having run */
	bool ends_posted;
	struct letter ends;         /* ends the first of them, starts those that wait */
	struct group_record *records;
	size_t count, capacity;
	size_t unused;              /* indexes of members that the pool refused after all */
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

	bool joined, sealed, ending, over;
	bool watched;               /* the watch is set, or its callback runs */
	bool closing;               /* it has told that the loop closes */
	bool lost;                  /* there will be no join */
	bool doomed;                /* freed by the user, but the loop's thread is at it */
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
	/* A member that waits counts as on its way to the loop, and this is how. It also
	 * keeps its lane and pool. */
	MEMBER_OWN = 2
};

static inline struct evwork_lane *group_lane_of(const struct evwork_group *group,
	const struct evwork_member *member)
{
	return member->job.lane ? member->job.lane : group->lane;
}

/* In the child of a fork its lock may be held by a thread that is not there. */
static inline bool group_is_inherited(const struct evwork_group *group)
{
	return group->made_in != fork_here();
}

void group_destroy(struct evwork_group *group);

/* [loop] The job of a member was delivered. */
void group_on_done(struct evwork_job *job, int status);
/* [loop] The context has died, or the loop closes. */
void group_on_death(struct evwork_watch *watch, int status);
/* [loop] The loop is freed by force. */
void group_on_lost(struct evwork_watch *watch);
void group_lose_join(struct letter *letter);
/* [loop] Ends a member that never ran, and starts those that may. */
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

/* [any] Hands a member that is counted as running to its pool. `kept`: it has waited. */
int group_submit(struct evwork_group *group, struct evwork_member *member, bool kept);
/* [any, under the lock] Something that waits is to be ended or started. What waits
 * keeps the loop. */
void group_post_ends_locked(struct evwork_group *group);
/* [any, under the lock] Without members and join, when the loop takes none any more. */
void group_lose_locked(struct evwork_group *group);

/*
 * [any, under the lock] A member is through. If that was the last and the group is
 * joined, the join is posted; `own` is how the caller holds the loop. True: the join
 * has taken that hold over.
 */
bool group_leave_locked(struct evwork_group *group, bool own);

#endif
