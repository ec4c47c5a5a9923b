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

bool group_leave_locked(struct evwork_group *group, bool own)
{
	bool takes;

	if (--group->active > 0)
		return false;
	/* What kills the context from here on changes nothing any more. */
	group->death = atomic_load_explicit(&group->ctx->err, memory_order_acquire);
	if (!group->joined)
		return false;
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
	if (group->count > 0 && group->death)
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
	group->calling = true;
	if (group->join_fn)
		group->join_fn(group, group->status, group->join_arg);
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
	group_stop_watch(group);
	evwork_ctx_cancel(group->ctx, cause);
	call(group);
}

int group_begin(struct evwork_group *group, evwork_join_fn fn, void *arg)
{
	bool own;
	int rc = loop_enter(group->loop, &own);

	if (rc) {
		group->joined = group->ending = group->over = true;
		group_stop_watch(group);
		return rc;
	}
	group->joined = group->join_held = true;
	group->join_own = own;
	group->join_fn = fn;
	group->join_arg = arg;
	group->active = 1;
	return 0;
}

void group_begun(struct evwork_group *group)
{
	sys_lock(&group->mutex);
	group_leave_locked(group, false);
	sys_unlock(&group->mutex);
}

/* Arms the join. The loop counts it from now on, if it still takes anything; a
 * closing one is kept open by the members until their last end. */
static int arm(struct evwork_group *group, evwork_join_fn fn, void *arg)
{
	bool own, entered = loop_enter_always(group->loop, &own) == 0, kept = false;
	int rc = 0;

	sys_lock(&group->mutex);
	if (group->joined) {
		rc = -EALREADY;
	} else if (!entered && group->active == 0) {
		group->joined = group->ending = group->over = true;
		rc = -ESHUTDOWN;
	} else {
		group->joined = true;
		group->join_fn = fn;
		group->join_arg = arg;
		if (entered) {
			group->join_held = kept = true;
			group->join_own = own;
		}
		if (group->active == 0)
			post_join_locked(group);
	}
	sys_unlock(&group->mutex);
	if (rc == -ESHUTDOWN)
		group_stop_watch(group);
	if (entered && !kept)
		loop_leave(group->loop, own);
	return rc;
}

int evwork_group_join(struct evwork_group *group, evwork_join_fn fn, void *arg)
{
	return group ? arm(group, fn, arg) : -EINVAL;
}

int evwork_group_wait(struct evwork_group *group, int *ret_status)
{
	struct worker *here = worker_here();
	int rc;

	if (!group)
		return -EINVAL;
	if (loop_any_here())
		return -EDEADLK;
	sys_lock(&group->mutex);
	/* Members in several pools: this worker's may be one of them. */
	rc = here && (here->pool == group->pool || group->pools) ? -EDEADLK : 0;
	if (rc == 0)
		group->waiters++;
	sys_unlock(&group->mutex);
	if (rc)
		return rc;
	rc = arm(group, NULL, NULL);
	sys_lock(&group->mutex);
	while (rc != -ESHUTDOWN && !group->over)
		sys_cond_wait(&group->over_changed, &group->mutex, EVWORK_NEVER);
	group->waiters--;
	if (ret_status && rc != -ESHUTDOWN)
		*ret_status = group->status;
	sys_unlock(&group->mutex);
	return rc == -ESHUTDOWN ? rc : 0;
}
