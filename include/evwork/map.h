/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_MAP_H
#define EVWORK_MAP_H

/*
 * Fan-out and fan-in over an array: one function for every element, on the workers,
 * and one callback when all is done.
 *
 *	static int thumbnail(struct evwork_map *map, size_t index, void *item, void *result)
 *	{
 *		return scale(item, result);         // on a worker
 *	}
 *
 *	struct evwork_map_options options = {
 *		.items = photos, .count = n, .item_size = sizeof(*photos),
 *		.result_size = sizeof(struct thumbnail),
 *		.fn = thumbnail, .done = page_done, .arg = page,
 *	};
 *	evwork_map_start(loop, &options, &map);
 *
 * Elements are handed to workers in ranges that take some tens of microseconds, so
 * that a million elements of 50 ns scale with the workers, and one of a millisecond is
 * a range of its own. A map is a group of at most `width` members, jobs that each work
 * on one range after another (see evwork/group.h), and ends as one: done comes after
 * the last of them has really ended.
 */

#include <stddef.h>

#include <evwork/group.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_map;

/*
 * On a worker, once for each index (S-FAN-2). item is that of the array, which fn may
 * change in place; NULL if there is no array. result is the index's own slot of
 * result_size bytes, all zero; NULL if result_size is 0. Returns 0 or an error, which may
 * be any number but INT_MIN.
 */
typedef int (*evwork_map_fn)(struct evwork_map *map, size_t index, void *item, void *result);

/* On the thread of the loop, once; the map may be freed in it. */
typedef void (*evwork_map_done_fn)(struct evwork_map *map, int status, void *arg);

enum evwork_map_errors {
	EVWORK_MAP_STOP,        /* the first error ends the map, and its context */
	EVWORK_MAP_COLLECT      /* every index is tried */
};

/* All zero means the defaults, where there is one. */
struct evwork_map_options {
	void *items;            /* stays yours, and must stay until done (S-FAN-4) */
	size_t item_size;
	size_t count;
	size_t result_size;     /* 0: no results are kept */
	evwork_map_fn fn;       /* must be set */
	evwork_map_done_fn done;
	void *arg;
	enum evwork_map_errors errors;
	/* How many elements may be worked on at once; 0: as many as the pool has
	 * workers. More than there are elements or workers is fine. */
	int width;
	/* The most elements of a range; 0: as many as a range's time allows. 1 for
	 * elements whose cost differs wildly. */
	size_t grain;
	struct evwork_ctx *ctx;     /* parent of the map's own; NULL: background */
	struct evwork_lane *lane;   /* NULL: the default lane of the loop's pool */
};

/*
 * evwork_map_start [any] starts a map (S-FAN-1). The options are copied, the array is
 * not. Without elements done comes in a later turn, with 0. If the lane has no room for
 * all members of the map, those that it took do all the work.
 *
 * The status that done gets is the first that applies:
 * -EOWNERDEAD if work crashed;
 * with EVWORK_MAP_STOP, the first error in time that came while ctx was alive;
 * -ECANCELED or -ETIMEDOUT if ctx died or the map was cancelled before the last member
 *	had ended, with what was done so far (S-FAN-6);
 * the same if the pool or the timeout of the lane ended a member, and for that something
 *	was left out;
 * the error of the lowest index that failed; or 0.
 *
 * -EINVAL: loop, options, fn or ret_map is NULL, width is negative, errors is none,
 * items is NULL while item_size and count are not 0, or there is no lane.
 * -ERANGE: the results would not fit into memory that can be addressed.
 * -ENOMEM, and what evwork_group_go() says. In each case done does not come; the loop
 * may need one more turn before it can be freed.
 */
int evwork_map_start(struct evwork_loop *loop, const struct evwork_map_options *options,
	struct evwork_map **ret_map);

/* evwork_map_cancel [any]: elements that were not begun are left out; those that are
 * worked on see it in evwork_map_ctx().
 * -EINVAL: map is NULL. -EALREADY: it was cancelled or stopped, or has ended. */
int evwork_map_cancel(struct evwork_map *map, int cause);

/* evwork_map_wait [wait] waits for the end, and stores the status that done gets if
 * ret_status is not NULL; see evwork_group_wait(). */
int evwork_map_wait(struct evwork_map *map, int *ret_status);

/* evwork_map_free [any], from done too. NULL is fine. -EBUSY: done has not started,
 * see evwork_group_free(). */
int evwork_map_free(struct evwork_map *map);

/* evwork_map_arg, evwork_map_ctx [any]: the arg of the options; the map's own context,
 * which fn may ask whether to stop. NULL for NULL. */
void *evwork_map_arg(struct evwork_map *map);
struct evwork_ctx *evwork_map_ctx(struct evwork_map *map);

/*
 * [any], in done and after it (S-FAN-3). evwork_map_state tells how an index ended:
 * EVWORK_MEMBER_OK, EVWORK_MEMBER_FAILED, whatever the error was, or
 * EVWORK_MEMBER_NOT_RUN. It stores what fn returned, or 0 if that was not called, if
 * ret_status is not NULL.
 * -EINVAL: map is NULL. -ENOENT: there is no such index. -EBUSY: the map has not ended.
 * evwork_map_result: the slot of an index that ended well, else NULL; the map's own.
 * evwork_map_failed: how many indexes failed; 0 before the end, and for NULL.
 */
int evwork_map_state(struct evwork_map *map, size_t index, int *ret_status);
void *evwork_map_result(struct evwork_map *map, size_t index);
size_t evwork_map_failed(struct evwork_map *map);

#ifdef __cplusplus
}
#endif

#endif
