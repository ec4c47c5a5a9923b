/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * How members end, and what that means for the rest. All ends are on the loop's
 * thread, so their order is that of delivery; the lock is for those who add members
 * and ask meanwhile.
 */

#include <errno.h>

#include "flow/group.h"
#include "run/ctx.h"
#include "run/job.h"
#include "run/pool.h"

int group_submit(struct evwork_group *group, struct evwork_member *member, bool kept)
{
	struct evwork_job *job = &member->job;
	int rc;

	job->ctx = group->ctx;
	job->done = group_on_done;
	if (!job->lane) {
		job->lane = group->lane;
		member->_flags |= MEMBER_LENT_LANE;
	}
	rc = kept ? submit_kept(group->loop, job) : evwork_submit(group->loop, job);
	if (rc) {
		job->ctx = NULL;
		job->done = NULL;
		if (member->_flags & MEMBER_LENT_LANE)
			job->lane = NULL;
		member->_flags &= ~(unsigned)MEMBER_LENT_LANE;
	}
	return rc;
}

/* Starting members that wait. */

static struct evwork_member *next_waiting_locked(struct evwork_group *group)
{
	struct evwork_member *member = group->waiting.head;

	if (!member || (group->limit > 0 && group->running >= (size_t)group->limit))
		return NULL;
	LIST_REMOVE(&group->waiting, member, _next, _prev);
	group->running++;
	return member;
}

void group_post_ends_locked(struct evwork_group *group)
{
	if (!group->ends_posted) {
		group->ends_posted = true;
		mailbox_post(group->loop->box, &group->ends.mail);
	}
}

/* The member is to end without having run, in a later turn. Its hold on the loop stays
 * until then. */
static void end_unstarted_locked(struct evwork_group *group, struct evwork_member *member,
	int status)
{
	member->_status = status;
	LIST_APPEND(&group->unstarted, member, _next, _prev);
	group_post_ends_locked(group);
}

static void end_all_waiting_locked(struct evwork_group *group, int status)
{
	struct evwork_member *member;

	while ((member = group->waiting.head)) {
		LIST_REMOVE(&group->waiting, member, _next, _prev);
		end_unstarted_locked(group, member, status);
	}
}

/* The pool has refused a member that had waited. */
static void refused(struct evwork_group *group, struct evwork_member *member, int rc)
{
	sys_lock(&group->mutex);
	group->running--;
	if (rc == -EAGAIN && group->running > 0) {
		/* First again, for the next end. */
		LIST_PREPEND(&group->waiting, member, _next, _prev);
	} else {
		/* It was accepted before the pool closed, and so ends as what is queued in
		 * the pool (S-SHUT-1). */
		end_unstarted_locked(group, member, rc == -ESHUTDOWN ? -ECANCELED : rc);
	}
	sys_unlock(&group->mutex);
}

/* What a member that waits or was to be ended holds, but for the loop. */
static void give_up_kept(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;

	lane_unkeep(lane);
	pool_leave(pool, 1);
}

/* Only here on the loop's thread: a hold that is the loop's own can be given up nowhere
 * else. */
static void start_waiting(struct evwork_group *group)
{
	struct evwork_member *member;

	for (;;) {
		int err = evwork_ctx_err(group->ctx), rc;
		struct evwork_lane *lane;
		bool own;

		sys_lock(&group->mutex);
		if (err)
			end_all_waiting_locked(group, err);
		member = next_waiting_locked(group);
		sys_unlock(&group->mutex);
		if (!member)
			return;
		/* Now that it is the pool's, what it holds is remembered here. */
		lane = group_lane_of(group, member);
		own = (member->_flags & MEMBER_OWN) != 0;
		rc = group_submit(group, member, true);
		if (rc == 0) {
			give_up_kept(lane);
			loop_leave(group->loop, own);
			continue;
		}
		refused(group, member, rc);
		if (rc == -EAGAIN)
			return;
	}
}

/* Deciding. */

/* Notes an end that counts for the policy; true if the rest is to be cancelled. The
 * context was alive before. */
static bool decide_locked(struct evwork_group *group, size_t index, int status)
{
	size_t left;

	switch (group->policy) {
	case EVWORK_ALL:
		group->decided = status != 0;
		group->decision = status;
		break;
	case EVWORK_ANY:
		group->decided = group->won = status == 0;
		group->winner = index;
		group->decision = 0;
		break;
	case EVWORK_QUORUM:
		left = group->most - group->succeeded - group->failed;
		group->decided = group->succeeded >= group->quorum ||
			group->succeeded + left < group->quorum;
		group->decision = group->succeeded >= group->quorum ? 0 : group->first_error;
		break;
	default:
		break;
	}
	return group->decided;
}

/* Writes down how a member ended; true if the rest is to be cancelled, with *ret_cause.
 * A result that nobody will get is left in *ret_unwanted. */
static bool record(struct evwork_group *group, struct evwork_member *member, int status,
	bool ran, int err, int *ret_cause, void **ret_unwanted)
{
	struct group_record *record;
	bool stop = false;

	sys_lock(&group->mutex);
	record = &group->records[member->index];
	record->status = status;
	if (!ran)
		record->state = EVWORK_MEMBER_NOT_RUN;
	else if (status == 0)
		record->state = EVWORK_MEMBER_OK;
	else
		record->state = err && status == err ? EVWORK_MEMBER_CANCELLED :
			EVWORK_MEMBER_FAILED;
	*ret_unwanted = NULL;
	if (status == 0)
		record->result = member->result;
	else
		*ret_unwanted = member->result;
	if (status == 0)
		group->succeeded++;
	else
		group->failed++;
	if (status && !group->first_error)
		group->first_error = status;
	*ret_cause = group->first_error;
	if (status == -EOWNERDEAD && ran) {
		stop = !group->crashed;
		group->crashed = true;
		*ret_cause = status;
	} else if (!group->decided && !group->crashed && !err) {
		stop = decide_locked(group, member->index, status);
	}
	sys_unlock(&group->mutex);
	return stop;
}

/* Asks the user's predicate; true if the rest is to be cancelled. */
static bool until(struct evwork_group *group, size_t index, int status, bool alive)
{
	unsigned made_in = group->made_in;
	bool stop = group->until(group, index, status, group->until_arg) != 0 && alive;

	if (made_in != fork_here())
		return false;
	sys_lock(&group->mutex);
	stop = stop && !group->decided && !group->crashed;
	if (stop)
		group->decided = true;
	sys_unlock(&group->mutex);
	return stop;
}

/* A member has ended: it is written down, the rest perhaps cancelled, and done called.
 * False in a child that was made in one of the user's functions: there the group may
 * not be touched any more, nor anything that it keeps. */
static bool end_member(struct evwork_group *group, struct evwork_member *member, int status,
	bool ran)
{
	unsigned made_in = group->made_in;
	/* As it is before anything that this end does. */
	int err = evwork_ctx_err(group->ctx), cause;
	evwork_member_done_fn done = member->done;
	void *unwanted;
	bool stop = record(group, member, status, ran, err, &cause, &unwanted);

	if (group->policy == EVWORK_UNTIL && until(group, member->index, status, err == 0))
		stop = true;
	if (made_in == fork_here() && stop)
		evwork_ctx_cancel(group->ctx, cause);
	if (made_in == fork_here() && unwanted && group->drop)
		group->drop(unwanted);
	if (made_in != fork_here())
		return false;
	__atomic_store_n(&member->_group, NULL, __ATOMIC_RELEASE);
	if (done)
		done(member, status);
	return made_in == fork_here();
}

/* After the end: the next may start, or the join come. */
static void leave(struct evwork_group *group, bool ran_in_pool)
{
	struct evwork_loop *loop = group->loop;
	bool kept;

	/* What this posts must find the loop open. */
	loop_enter_following(loop);
	sys_lock(&group->mutex);
	if (ran_in_pool)
		group->running--;
	if (group->waiting.head) {
		sys_unlock(&group->mutex);
		start_waiting(group);
		sys_lock(&group->mutex);
	}
	/* What kills the context after the last end changes nothing any more. */
	group->death = atomic_load_explicit(&group->ctx->err, memory_order_acquire);
	kept = group_leave_locked(group, true);
	/* From here on another thread may free a group that was lost. */
	sys_unlock(&group->mutex);
	if (!kept)
		loop_leave(loop, true);
}

void group_on_done(struct evwork_job *job, int status)
{
	struct evwork_member *member = EVWORK_CONTAINER(job, struct evwork_member, job);
	struct evwork_group *group = member->_group;
	bool ran = evwork_job_ran(job) != 0;

	job->ctx = NULL;
	job->done = NULL;
	if (member->_flags & MEMBER_LENT_LANE)
		job->lane = NULL;
	member->_flags = 0;
	if (end_member(group, member, status, ran))
		leave(group, true);
}

/* The end of a member that never ran. In its done the lane may be freed, but the pool is
 * not closed before the join, if that follows (S-DLV-15). */
static void end_unstarted(struct evwork_group *group, struct evwork_member *member)
{
	struct evwork_lane *lane = group_lane_of(group, member);
	struct evwork_pool *pool = lane->pool;
	bool own = (member->_flags & MEMBER_OWN) != 0;

	member->_flags = 0;
	lane_unkeep(lane);
	loop_leave(group->loop, own);
	if (!end_member(group, member, member->_status, false))
		return;
	leave(group, false);
	pool_leave(pool, 1);
}

void group_on_ends(struct letter *letter)
{
	struct evwork_group *group = EVWORK_CONTAINER(letter, struct evwork_group, ends);
	struct evwork_member *member;

	sys_lock(&group->mutex);
	member = group->unstarted.head;
	if (member)
		LIST_REMOVE(&group->unstarted, member, _next, _prev);
	/* One for each turn of the letter, as each is a callback of its own. */
	group->ends_posted = false;
	if (group->unstarted.head)
		group_post_ends_locked(group);
	sys_unlock(&group->mutex);
	if (member)
		end_unstarted(group, member);
	else
		start_waiting(group);
}

void group_on_death(struct evwork_watch *watch, int status)
{
	struct evwork_group *group = EVWORK_CONTAINER(watch, struct evwork_group, watch);
	bool gone;

	/* If it is the loop that closes: those that run should end soon. */
	evwork_ctx_cancel(group->ctx, 0);
	sys_lock(&group->mutex);
	end_all_waiting_locked(group, status);
	if (group->lost || evwork_ctx_after(NULL, group->loop, &group->watch) != 0) {
		group->closing = true;
		if (!group->joined && group->active == 0)
			group_lose_locked(group);
		/* The loop may still be freed by force. */
		group->watched = !group->lost;
		if (group->watched)
			watch_set_for_loss(group->loop, &group->watch);
	}
	gone = group->doomed;
	sys_unlock(&group->mutex);
	if (gone)
		group_destroy(group);
}

/* Members that have not started hold lane, pool and loop, and the join holds the loop:
 * all that is given back. Nothing else comes of the group. */
void group_on_lost(struct evwork_watch *watch)
{
	struct evwork_group *group = EVWORK_CONTAINER(watch, struct evwork_group, watch);
	struct evwork_loop *loop = group->loop;
	struct evwork_member *member;
	unsigned holds = 0;
	bool gone;

	sys_lock(&group->mutex);
	group->sealed = group->closing = true;
	group->watched = false;
	gone = group->doomed;
	if (group->join_held && !group->join_posted) {
		group->join_held = false;
		holds++;
	}
	while ((member = group->waiting.head ? group->waiting.head : group->unstarted.head)) {
		if (member == group->waiting.head)
			LIST_REMOVE(&group->waiting, member, _next, _prev);
		else
			LIST_REMOVE(&group->unstarted, member, _next, _prev);
		give_up_kept(group_lane_of(group, member));
		holds++;
	}
	sys_unlock(&group->mutex);
	if (gone)
		group_destroy(group);
	while (holds-- > 0)
		loop_leave(loop, true);
}
