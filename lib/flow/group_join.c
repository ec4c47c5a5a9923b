/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The join. It is a letter to the loop, posted by the end of the last member of a
 * joined group. A member that was added between that and its opening makes it
 * wait for the next end.
 */

#include <errno.h>

#include "flow/group.h"
#include "run/ctx.h"
#include "run/pool.h"

static void post_join_locked(struct evwork_group *group)
{
	if (!group->join_posted) {
		group->join_posted = true;
		mailbox_post(group->loop->box, &group->join.mail);
	}
}

void group_lose_locked(struct evwork_group *group)
{
	group->sealed = group->ending = group->over = group->lost = true;
}

/* A group that is lost may be freed at once, unless the callback of the watch runs now: it
 * will see that the group is lost. */
static void forget_watch_locked(struct evwork_group *group)
{
	if (evwork_ctx_stop(&group->watch) == 1)
		group->watched = false;
}

bool group_leave_locked(struct evwork_group *group, bool own)
{
	bool takes;

	if (--group->active > 0)
		return false;
	if (!group->joined) {
		if (group->closing) {
			forget_watch_locked(group);
			group_lose_locked(group);
		}
		return false;
	}
	takes = !group->join_held;
	if (takes) {
		group->join_held = true;
		group->join_own = own;
	}
	post_join_locked(group);
	return takes;
}

static int status_locked(const struct evwork_group *group)
{
	if (group->crashed)
		return -EOWNERDEAD;
	if (group->decided)
		return group->decision;
	if (group->death)
		return group->death;
	if (group->policy == EVWORK_UNTIL)
		return 0;
	if (group->first_error)
		return group->first_error;
	return group->policy == EVWORK_ANY || group->policy == EVWORK_QUORUM ? -ENOENT : 0;
}

/* The callback, in which the group may be freed: then that is done here. */
static void call(struct evwork_group *group)
{
	unsigned made_in = group->made_in;

	group->calling = true;
	if (group->join_fn)
		group->join_fn(group, group->status, group->join_arg);
	/* In a child that was made in it nothing of the group is touched. */
	if (made_in != fork_here())
		return;
	group->calling = false;
	if (group->doomed) {
		group_destroy(group);
		return;
	}
	sys_lock(&group->mutex);
	group->over = true;
	sys_cond_broadcast(&group->over_changed);
	/* From here on another thread may free the group. */
	sys_unlock(&group->mutex);
}

void group_on_join(struct letter *letter)
{
	struct evwork_group *group = EVWORK_CONTAINER(letter, struct evwork_group, join);
	bool ending;
	int cause;

	sys_lock(&group->mutex);
	group->join_posted = false;
	ending = group->ending = group->active == 0;
	group->status = status_locked(group);
	cause = group->first_error;
	sys_unlock(&group->mutex);
	if (!ending)
		return;
	loop_leave(group->loop, group->join_own);
	evwork_ctx_stop(&group->watch);
	evwork_ctx_cancel(group->ctx, cause);
	call(group);
}

void group_lose_join(struct letter *letter)
{
	struct evwork_group *group = EVWORK_CONTAINER(letter, struct evwork_group, join);

	/* Who posted it holds the lock, or the loop's thread is alone with it. */
	group->join_held = false;
	loop_leave(group->loop, group->join_own);
}

int group_begin(struct evwork_group *group, evwork_join_fn fn, void *arg)
{
	int rc = loop_enter(group->loop, &group->join_own);

	sys_lock(&group->mutex);
	if (rc) {
		group_lose_locked(group);
	} else {
		group->joined = group->join_held = true;
		group->join_fn = fn;
		group->join_arg = arg;
		group->active = 1;
	}
	sys_unlock(&group->mutex);
	/* If the callback of the watch runs now it sees that the group is lost. */
	if (rc && evwork_ctx_stop(&group->watch) == 1) {
		sys_lock(&group->mutex);
		group->watched = false;
		sys_unlock(&group->mutex);
	}
	return rc;
}

void group_begun(struct evwork_group *group)
{
	sys_lock(&group->mutex);
	group_leave_locked(group, false);
	sys_unlock(&group->mutex);
}

static int check_locked(const struct evwork_group *group)
{
	if (group->lost)
		return -ESHUTDOWN;
	return group->joined ? -EALREADY : 0;
}

/* Arms the join. The loop counts it from now on, if it still takes anything; a
 * closing one is kept open by the members until their last end. */
static int arm_locked(struct evwork_group *group, evwork_join_fn fn, void *arg)
{
	int rc = check_locked(group);

	if (rc)
		return rc;
	/* Under the lock, as a group that has not ended keeps its loop. */
	group->join_held = loop_enter_always(group->loop, &group->join_own) == 0;
	if (!group->join_held && group->active == 0) {
		group_lose_locked(group);
		return -ESHUTDOWN;
	}
	group->joined = true;
	group->join_fn = fn;
	group->join_arg = arg;
	group->sealed = group->active == 0;
	if (group->sealed)
		post_join_locked(group);
	return 0;
}

int evwork_group_join(struct evwork_group *group, evwork_join_fn fn, void *arg)
{
	int rc;

	if (!group)
		return -EINVAL;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	sys_lock(&group->mutex);
	rc = arm_locked(group, fn, arg);
	sys_unlock(&group->mutex);
	return rc;
}

int evwork_group_wait(struct evwork_group *group, int *ret_status)
{
	struct worker *here = worker_here();
	int rc;

	if (!group)
		return -EINVAL;
	if (loop_any_here())
		return -EDEADLK;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	sys_lock(&group->mutex);
	/* Members in several pools: this worker's may be one of them. */
	if (here && (here->pool == group->pool || group->pools))
		rc = -EDEADLK;
	else
		rc = arm_locked(group, NULL, NULL);
	if (rc == 0 || rc == -EALREADY) {
		rc = 0;
		group->waiters++;
		while (!group->over)
			sys_cond_wait(&group->over_changed, &group->mutex, EVWORK_NEVER);
		group->waiters--;
		if (ret_status)
			*ret_status = group->status;
	}
	sys_unlock(&group->mutex);
	return rc;
}
