/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Maps. As many members of a group as may run at once claim ranges of indexes from one
 * counter until none is left. How long a range is a member finds out by its own clock:
 * as many elements as took RANGE_NS before, but never more than its share of half of
 * what is left, so that all come to the end together.
 *
 * Each index is claimed once, by the compare-and-swap on `next`, and its status and
 * result are written by the member that claimed it only. That these are seen in
 * done follows from the end of the member, so they need no order of their own.
 */

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "flow/group.h"
#include "run/ctx.h"
#include "run/pool.h"
#include "evwork/map.h"

/* Long against claiming a range, short against the time in which others wait. */
#define RANGE_NS INT64_C(50000)

/* Statuses as they are kept, of what was claimed: 0 is not run. */
#define KEPT_OK INT_MIN

struct runner {
	struct evwork_member member;
	struct evwork_map *map;
};

struct evwork_map {
	struct evwork_group *group;
	void *items;
	size_t item_size, count, result_size, grain;
	evwork_map_fn fn;
	evwork_map_done_fn done;
	void *arg;
	enum evwork_map_errors errors;
	int *statuses;
	char *results;
	atomic_bool ended;              /* set on the loop before done */
	int status;                     /* what done gets */
	bool refused;                   /* nobody knows it: it goes with its group */

	sys_mutex mutex;                /* covers the errors */
	size_t first_failed;
	int first_error;                /* of the lowest index */
	int stopped_by;                 /* the first error in time, 0: none; or after a death */
	size_t failed;

	/* Claimed by all members: apart from what they only read. */
	char pad[64];
	_Atomic size_t next;
	atomic_bool stop;
	atomic_bool left_out;           /* part of a range that was claimed */
	char pad_end[64];

	size_t width;
	struct runner runners[];
};

/* How many elements to claim: `speed` is how many take RANGE_NS, as far as known. */
static size_t range(const struct evwork_map *map, size_t left, size_t speed)
{
	size_t share = left / (2 * map->width) + 1;
	size_t most = map->grain ? map->grain : SIZE_MAX;

	if (speed < most)
		most = speed;
	return share < most ? share : most;
}

/* Claims a range from *ret_first on; returns its length, 0 if nothing is left. */
static size_t claim(struct evwork_map *map, size_t speed, size_t *ret_first)
{
	/* Relaxed: the counter hands out numbers, and nothing else hangs on it. */
	size_t first = atomic_load_explicit(&map->next, memory_order_relaxed);
	size_t length;

	do {
		if (first == map->count)
			return 0;
		length = range(map, map->count - first, speed);
	} while (!atomic_compare_exchange_weak_explicit(&map->next, &first, first + length,
			memory_order_relaxed, memory_order_relaxed));
	*ret_first = first;
	return length;
}

static void note_error(struct evwork_map *map, size_t index, int status)
{
	bool alive = evwork_ctx_err(evwork_group_ctx(map->group)) == 0, first = false;

	sys_lock(&map->mutex);
	if (map->failed++ == 0 || index < map->first_failed) {
		map->first_failed = index;
		map->first_error = status;
	}
	if (map->errors == EVWORK_MAP_STOP && !map->stopped_by && alive) {
		/* Before others are cancelled for it, and say so (S-GRP-7). */
		map->stopped_by = status;
		first = true;
	}
	sys_unlock(&map->mutex);
	if (map->errors == EVWORK_MAP_STOP)
		/* Relaxed: who sees it late does a little more. */
		atomic_store_explicit(&map->stop, true, memory_order_relaxed);
	if (first)
		evwork_group_cancel(map->group, status);
}

/* One element; its status is kept. */
static void run_one(struct evwork_map *map, size_t index, void *item, void *result)
{
	int status = map->fn(map, index, item, result);

	if (status == 0) {
		map->statuses[index] = KEPT_OK;
		return;
	}
	map->statuses[index] = status;
	if (result)
		memset(result, 0, map->result_size);
	note_error(map, index, status);
}

/*
 * Whether to go on is asked for each element, as a range that was claimed when elements
 * were quick may take long. So the clock is not looked at: a deadline shows here once
 * the loop has seen it pass, and else at the end of the range.
 */
static void run_range(struct evwork_map *map, size_t first, size_t length)
{
	const _Atomic int *err = &map->group->ctx->err;
	size_t index, item_size = map->item_size, result_size = map->result_size;
	char *item = item_size ? (char *)map->items + first * item_size : NULL;
	char *result = result_size ? map->results + first * result_size : NULL;

	memset(&map->statuses[first], 0, length * sizeof(int));
	if (result)
		memset(result, 0, length * result_size);
	for (index = first; index < first + length; index++) {
		if (atomic_load_explicit(&map->stop, memory_order_relaxed) ||
		    atomic_load_explicit(err, memory_order_relaxed)) {
			atomic_store_explicit(&map->left_out, true, memory_order_relaxed);
			return;
		}
		run_one(map, index, item, result);
		if (item)
			item += item_size;
		if (result)
			result += result_size;
	}
}

/* The work of a member. */
static int run(struct evwork_job *job)
{
	struct evwork_map *map = EVWORK_CONTAINER(job, struct runner, member.job)->map;
	int64_t begun = sys_now(), now;
	size_t first, length, speed = 1;
	int err = 0;

	while (!atomic_load_explicit(&map->stop, memory_order_relaxed) &&
	       (err = evwork_job_err(job)) == 0 && (length = claim(map, speed, &first)) != 0) {
		run_range(map, first, length);
		now = sys_now();
		/* Twice as many at most, as the first may have been the easy ones. */
		if (now - begun < RANGE_NS / 2)
			speed = 2 * length;
		else
			speed = (size_t)((int64_t)length * RANGE_NS / (now - begun)) + 1;
		begun = now;
	}
	return err;
}

static bool tried_all(const struct evwork_map *map)
{
	return atomic_load_explicit(&map->next, memory_order_relaxed) == map->count &&
		!atomic_load_explicit(&map->left_out, memory_order_relaxed);
}

static void on_join(struct evwork_group *group, int status, void *arg)
{
	struct evwork_map *map = arg;

	if (map->refused) {
		evwork_map_free(map);
		return;
	}
	/* A crash comes first, then what ended the map early. A member that the pool ended
	 * for reasons of its own did no harm if the others have left nothing out. */
	if (status != -EOWNERDEAD) {
		if (map->stopped_by)
			status = map->stopped_by;
		else if (status == 0 || (group->decided && tried_all(map)))
			status = map->first_error;
	}
	map->status = status;
	/* Release: pairs with the acquire of who asks, on whatever thread. */
	atomic_store_explicit(&map->ended, true, memory_order_release);
	if (map->done)
		map->done(map, status, map->arg);
}

static int check(struct evwork_loop *loop, const struct evwork_map_options *options)
{
	if (!loop || !options || !options->fn || options->width < 0 ||
	    options->errors < EVWORK_MAP_STOP || options->errors > EVWORK_MAP_COLLECT ||
	    (!options->items && options->item_size && options->count) ||
	    (!options->lane && !loop->lane))
		return -EINVAL;
	if (options->count > SIZE_MAX / sizeof(int) ||
	    (options->result_size && options->count > SIZE_MAX / options->result_size))
		return -ERANGE;
	return 0;
}

static void set_options(struct evwork_map *map, const struct evwork_map_options *options)
{
	map->items = options->items;
	map->item_size = options->item_size;
	map->count = options->count;
	map->result_size = options->result_size;
	map->grain = options->grain;
	map->fn = options->fn;
	map->done = options->done;
	map->arg = options->arg;
	map->errors = options->errors;
}

static void release(struct evwork_map *map)
{
	sys_mutex_fini(&map->mutex);
	sys_free(map->statuses);
	sys_free(map->results);
	sys_free(map);
}

static int make(const struct evwork_map_options *options, size_t width,
	struct evwork_map **ret_map)
{
	struct evwork_map *map = sys_zalloc(sizeof(*map) + width * sizeof(map->runners[0]));
	int rc;

	if (!map)
		return -ENOMEM;
	rc = sys_mutex_init(&map->mutex);
	if (rc) {
		sys_free(map);
		return rc;
	}
	set_options(map, options);
	map->width = width;
	/* Cleared range by range, on the workers: here that would stall the loop. */
	if (map->count)
		map->statuses = sys_alloc(map->count * sizeof(int));
	if (map->count && map->result_size)
		map->results = sys_alloc(map->count * map->result_size);
	if (map->count && (!map->statuses || (map->result_size && !map->results))) {
		release(map);
		return -ENOMEM;
	}
	*ret_map = map;
	return 0;
}

/* At least one member must be accepted, and then does the work alone if need be. */
static int go(struct evwork_map *map)
{
	size_t i;
	int rc;

	for (i = 0; i < map->width; i++) {
		map->runners[i].map = map;
		evwork_member_init(&map->runners[i].member, run, NULL);
		rc = evwork_group_go(map->group, &map->runners[i].member);
		if (rc)
			return i ? 0 : rc;
	}
	return 0;
}

/* No more members than can run at once: the others would take room in the lane, and the
 * end of the map would wait for them. */
static size_t width_of(const struct evwork_map_options *options, const struct evwork_lane *lane)
{
	size_t width = (size_t)lane->pool->threads;

	if (options->width && (size_t)options->width < width)
		width = (size_t)options->width;
	return width < options->count ? width : options->count;
}

int evwork_map_start(struct evwork_loop *loop, const struct evwork_map_options *options,
	struct evwork_map **ret_map)
{
	struct evwork_group_options group = { .policy = EVWORK_ALL };
	struct evwork_map *map;
	int rc = ret_map ? check(loop, options) : -EINVAL;

	if (rc)
		return rc;
	group.ctx = options->ctx;
	group.lane = options->lane ? options->lane : loop->lane;
	rc = make(options, width_of(options, group.lane), &map);
	if (rc)
		return rc;
	rc = evwork_group_new(loop, &group, &map->group);
	if (rc) {
		release(map);
		return rc;
	}
	rc = group_begin(map->group, on_join, map);
	if (rc) {
		evwork_map_free(map);
		return rc;
	}
	rc = go(map);
	if (rc)
		map->refused = true;
	else
		*ret_map = map;
	group_begun(map->group);
	return rc;
}

int evwork_map_cancel(struct evwork_map *map, int cause)
{
	return map ? evwork_group_cancel(map->group, cause) : -EINVAL;
}

int evwork_map_wait(struct evwork_map *map, int *ret_status)
{
	int rc = map ? evwork_group_wait(map->group, NULL) : -EINVAL;

	if (rc == 0 && ret_status)
		*ret_status = map->status;
	return rc;
}

int evwork_map_free(struct evwork_map *map)
{
	int rc = map ? evwork_group_free(map->group) : 0;

	if (map && rc == 0)
		release(map);
	return rc;
}

void *evwork_map_arg(struct evwork_map *map)
{
	return map ? map->arg : NULL;
}

struct evwork_ctx *evwork_map_ctx(struct evwork_map *map)
{
	return map ? evwork_group_ctx(map->group) : NULL;
}

int evwork_map_state(struct evwork_map *map, size_t index, int *ret_status)
{
	int status;

	if (!map)
		return -EINVAL;
	if (index >= map->count)
		return -ENOENT;
	/* Acquire: pairs with the release of on_join, which comes after all ends. */
	if (!atomic_load_explicit(&map->ended, memory_order_acquire))
		return -EBUSY;
	/* Relaxed: the end has been seen. What was not claimed was never written. */
	status = index < atomic_load_explicit(&map->next, memory_order_relaxed) ?
		map->statuses[index] : 0;
	if (ret_status)
		*ret_status = status == KEPT_OK ? 0 : status;
	return status == 0 ? EVWORK_MEMBER_NOT_RUN :
		status == KEPT_OK ? EVWORK_MEMBER_OK : EVWORK_MEMBER_FAILED;
}

void *evwork_map_result(struct evwork_map *map, size_t index)
{
	if (!map || !map->results || evwork_map_state(map, index, NULL) != EVWORK_MEMBER_OK)
		return NULL;
	return map->results + index * map->result_size;
}

size_t evwork_map_failed(struct evwork_map *map)
{
	return map && atomic_load_explicit(&map->ended, memory_order_acquire) ? map->failed : 0;
}
