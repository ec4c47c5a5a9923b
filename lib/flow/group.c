/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Groups, from the outside: making, adding members, asking and freeing. How members
 * end and what they decide is in group_end.c, the join in group_join.c.
 */

#include "flow/group.h"

#include <errno.h>
#include <string.h>

#include "run/job.h"
#include "run/pool.h"

void evwork_member_init(struct evwork_member *member, evwork_run_fn run,
	evwork_member_done_fn done)
{
	memset(member, 0, sizeof(*member));
	evwork_job_init(&member->job, run, NULL);
	member->done = done;
}

static bool options_valid(const struct evwork_group_options *options)
{
	switch (options->policy) {
	case EVWORK_ALL:
	case EVWORK_COLLECT:
	case EVWORK_ANY:
		break;
	case EVWORK_UNTIL:
		if (!options->until)
			return false;
		break;
	case EVWORK_QUORUM:
		if (options->quorum < 1 || options->quorum > options->members)
			return false;
		break;
	default:
		return false;
	}
	return options->limit >= 0;
}

/* The loop was freed by force: see group_on_lost. */
static void lose_ends(struct letter *letter)
{
	(void)letter;
}

static void set_options(struct evwork_group *group, const struct evwork_group_options *options)
{
	group->policy = options->policy;
	group->until = options->until;
	group->until_arg = options->until_arg;
	group->drop = options->drop;
	group->quorum = options->quorum;
	group->most = options->policy == EVWORK_QUORUM ? options->members : SIZE_MAX;
	group->limit = options->limit ? options->limit : -1;
	group->pool = group->lane->pool;
	evwork_watch_init(&group->watch, group_on_death);
	group->watch._lost = group_on_lost;
	group->made_in = fork_here();
	letter_init(&group->ends, "the end of a member that has not run", group_on_ends, lose_ends);
	letter_init(&group->join, "the join of a group", group_on_join, group_lose_join);
}

static int make(struct evwork_group *group, struct evwork_ctx *parent)
{
	int rc = sys_mutex_init(&group->mutex);

	if (rc)
		return rc;
	rc = sys_cond_init(&group->over_changed);
	if (rc)
		goto no_cond;
	rc = evwork_ctx_new(parent, &group->ctx);
	if (rc)
		goto no_ctx;
	rc = evwork_ctx_after(group->ctx, group->loop, &group->watch);
	group->watched = rc == 0;
	if (rc == 0)
		return 0;
	evwork_ctx_unref(group->ctx);
no_ctx:
	sys_cond_fini(&group->over_changed);
no_cond:
	sys_mutex_fini(&group->mutex);
	return rc;
}

int evwork_group_new(struct evwork_loop *loop, const struct evwork_group_options *options,
	struct evwork_group **ret_group)
{
	static const struct evwork_group_options defaults;
	struct evwork_group *group;
	struct evwork_lane *lane;
	int rc;

	if (!options)
		options = &defaults;
	if (!loop || !ret_group || !options_valid(options))
		return -EINVAL;
	lane = options->lane ? options->lane : loop->lane;
	if (!lane)
		return -EINVAL;
	if (atomic_load(&loop->closing))
		return -ESHUTDOWN;      /* before -ENOMEM */
	group = sys_zalloc(sizeof(*group));
	if (!group)
		return -ENOMEM;
	group->loop = loop;
	group->thread = loop->thread;
	group->lane = lane;
	set_options(group, options);
	rc = make(group, options->ctx);
	if (rc) {
		sys_free(group);
		return rc;
	}
	*ret_group = group;
	return 0;
}

/* Adding. */

/* Whether a member can be told apart from one that is on its way or unfit. */
static int check_member(const struct evwork_group *group, const struct evwork_member *member)
{
	uint32_t state;

	if (!group || !member || !member->job.run)
		return -EINVAL;
	/* Of what is on its way these fields are the group's. */
	state = job_state(&member->job);
	if (__atomic_load_n(&member->_group, __ATOMIC_ACQUIRE) || job_phase_of(state) != JOB_IDLE)
		return -EBUSY;
	if (member->job.drop || (state & JOB_DETACH) || member->job.ctx)
		return -EINVAL;
	return 0;
}

static int grow_locked(struct evwork_group *group)
{
	size_t capacity = group->capacity ? group->capacity * 2 : 8;
	struct group_record *records;

	if (group->count < group->capacity)
		return 0;
	if (capacity > SIZE_MAX / sizeof(*records))
		return -ENOMEM;
	records = sys_alloc(capacity * sizeof(*records));
	if (!records)
		return -ENOMEM;
	if (group->count)
		memcpy(records, group->records, group->count * sizeof(*records));
	sys_free(group->records);
	group->records = records;
	group->capacity = capacity;
	return 0;
}

/* Whoever comes when others wait already waits, too: the oldest goes first. */
static bool must_wait_locked(const struct evwork_group *group)
{
	return group->limit > 0 &&
		(group->running >= (size_t)group->limit || group->waiting.head);
}

/* The checks that need the lock, in the order of S-GEN-4; `entered` is what the loop
 * said, and err is the context's. */
static int check_locked(struct evwork_group *group, struct evwork_pool *pool, int entered,
	int err, bool try)
{
	if (entered == -ESHUTDOWN || pool_refuses(pool))
		return -ESHUTDOWN;
	if (group->count - group->unused >= group->most)
		return -ERANGE;
	if (err)
		return err;
	if (group->limit == 0 || (try && must_wait_locked(group)))
		return -EAGAIN;
	return entered ? entered : grow_locked(group);
}

/* The member belongs to the group from now on. */
static void accept_locked(struct evwork_group *group, struct evwork_member *member)
{
	struct group_record *record = &group->records[group->count];

	record->state = EVWORK_MEMBER_ACTIVE;
	record->status = 0;
	record->result = NULL;
	member->index = group->count++;
	member->result = NULL;
	member->_flags = 0;
	/* Nor does it remember that its job ran in an earlier use. */
	job_set_state(&member->job, JOB_IDLE);
	__atomic_store_n(&member->_group, group, __ATOMIC_RELEASE);
	if (group_lane_of(group, member)->pool != group->pool)
		group->pools = true;
	group->active++;
}

/* The pool has refused the member: as if it had never come. */
static void take_back_locked(struct evwork_group *group, struct evwork_member *member, int rc)
{
	group->running--;
	if (member->index == group->count - 1) {
		group->count--;
	} else {
		group->unused++;
		group->records[member->index].state = EVWORK_MEMBER_NOT_RUN;
		group->records[member->index].status = rc;
	}
	__atomic_store_n(&member->_group, NULL, __ATOMIC_RELEASE);
	/* Others may have come to wait for its end. */
	if (group->waiting.head)
		group_post_ends_locked(group);
}

/* The member may start at once. *ret_kept: the join has taken over the hold. Once the
 * member is submitted, or has left, the group may be freed. */
static int go_now(struct evwork_group *group, struct evwork_member *member, bool own,
	bool *ret_kept)
{
	int rc = group_submit(group, member, false);

	if (rc) {
		sys_lock(&group->mutex);
		take_back_locked(group, member, rc);
		*ret_kept = group_leave_locked(group, own);
		sys_unlock(&group->mutex);
	}
	return rc;
}

/* Under the lock: the member is refused, or waits, or is to be submitted. */
static int admit_locked(struct evwork_group *group, struct evwork_member *member, bool own,
	bool *ret_wait)
{
	int rc = 0;

	*ret_wait = must_wait_locked(group);
	if (*ret_wait)
		rc = lane_keep(group_lane_of(group, member));
	if (rc)
		return rc;
	accept_locked(group, member);
	if (*ret_wait) {
		member->_flags = own ? MEMBER_OWN : 0;
		LIST_APPEND(&group->waiting, member, _next, _prev);
	} else {
		group->running++;
	}
	return 0;
}

/*
 * The call holds the loop, so that it does not close before what the call may have to
 * post; a member that waits takes that hold over. And it holds the pool, which must be
 * closed after the join that may follow (S-DLV-15). Both under the lock: only of a group
 * that has not ended they are surely there.
 */
static int go(struct evwork_group *group, struct evwork_member *member, bool try)
{
	int rc = check_member(group, member), err, entered;
	bool own = false, kept = false, wait = false;
	struct evwork_loop *loop;
	struct evwork_pool *pool;

	if (rc)
		return rc;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	/* Not under the lock: a deadline that has passed ends jobs. */
	err = evwork_ctx_err(group->ctx);
	sys_lock(&group->mutex);
	if (group->sealed || group->ending) {
		sys_unlock(&group->mutex);
		return -ESHUTDOWN;
	}
	loop = group->loop;
	pool = group_lane_of(group, member)->pool;
	pool_enter(pool, 1);
	entered = loop_enter(loop, &own);
	rc = check_locked(group, pool, entered, err, try);
	if (rc == 0)
		rc = admit_locked(group, member, own, &wait);
	sys_unlock(&group->mutex);
	if (rc == 0 && wait)
		kept = true;
	else if (rc == 0)
		rc = go_now(group, member, own, &kept);
	if (entered == 0 && !kept)
		loop_leave(loop, own);
	pool_leave(pool, 1);
	return rc;
}

int evwork_group_go(struct evwork_group *group, struct evwork_member *member)
{
	return go(group, member, false);
}

int evwork_group_try_go(struct evwork_group *group, struct evwork_member *member)
{
	return go(group, member, true);
}

int evwork_group_set_limit(struct evwork_group *group, int limit)
{
	int rc = 0;

	if (!group)
		return -EINVAL;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	sys_lock(&group->mutex);
	if (group->active)
		rc = -EBUSY;
	else
		group->limit = limit;
	sys_unlock(&group->mutex);
	return rc;
}

/* Asking. */

int evwork_group_cancel(struct evwork_group *group, int cause)
{
	return group ? evwork_ctx_cancel(group->ctx, cause) : -EINVAL;
}

struct evwork_ctx *evwork_group_ctx(struct evwork_group *group)
{
	return group ? group->ctx : NULL;
}

struct evwork_group *evwork_group_of(const struct evwork_member *member)
{
	return member ? __atomic_load_n(&member->_group, __ATOMIC_ACQUIRE) : NULL;
}

size_t evwork_group_count(struct evwork_group *group)
{
	size_t count;

	if (!group || group_is_inherited(group))
		return 0;
	sys_lock(&group->mutex);
	count = group->count;
	sys_unlock(&group->mutex);
	return count;
}

int evwork_group_member(struct evwork_group *group, size_t index, int *ret_status)
{
	int state = -ENOENT;

	if (!group)
		return -EINVAL;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	sys_lock(&group->mutex);
	if (index < group->count) {
		state = group->records[index].state;
		if (ret_status)
			*ret_status = group->records[index].status;
	}
	sys_unlock(&group->mutex);
	return state;
}

int evwork_group_take(struct evwork_group *group, size_t index, void **ret_result)
{
	int rc = -ENOENT;

	if (!group || !ret_result)
		return -EINVAL;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	sys_lock(&group->mutex);
	if (index < group->count && group->records[index].result) {
		*ret_result = group->records[index].result;
		group->records[index].result = NULL;
		rc = 0;
	}
	sys_unlock(&group->mutex);
	return rc;
}

int evwork_group_winner(struct evwork_group *group, size_t *ret_index)
{
	int rc = -ENOENT;

	if (!group || !ret_index)
		return -EINVAL;
	if (group_is_inherited(group))
		return -ESHUTDOWN;
	sys_lock(&group->mutex);
	if (group->won) {
		*ret_index = group->winner;
		rc = 0;
	}
	sys_unlock(&group->mutex);
	return rc;
}

void group_destroy(struct evwork_group *group)
{
	sys_free(group->records);
	evwork_ctx_unref(group->ctx);
	sys_cond_fini(&group->over_changed);
	sys_mutex_fini(&group->mutex);
	sys_free(group);
}

static void drop_results(struct evwork_group *group)
{
	size_t i;

	for (i = 0; group->drop && i < group->count; i++)
		if (group->records[i].result)
			group->drop(group->records[i].result);
}

int evwork_group_free(struct evwork_group *group)
{
	bool inside, busy, later;

	if (!group)
		return 0;
	if (group_is_inherited(group)) {
		/* Its locks stay as they are. */
		sys_free(group->records);
		evwork_ctx_unref(group->ctx);
		sys_free(group);
		return 0;
	}
	/* Only the loop's thread asks for `calling`. */
	inside = pthread_equal(group->thread, pthread_self()) && group->calling;
	sys_lock(&group->mutex);
	busy = (!group->over && !inside) || group->waiters;
	sys_unlock(&group->mutex);
	if (busy)
		return -EBUSY;
	drop_results(group);
	sys_lock(&group->mutex);
	later = inside || (group->lost && group->watched);
	group->doomed = later;
	sys_unlock(&group->mutex);
	if (!later)
		group_destroy(group);
	return 0;
}
