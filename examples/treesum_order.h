/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_ORDER_H
#define TREESUM_ORDER_H

/*
 * The road of the files: walked on a worker, hashed on many, printed on the
 * loop in the order of the walk. All calls on the loop's thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

#include "treesum_console.h"
#include "treesum_hash.h"
#include "treesum_out.h"
#include "treesum_walk.h"

struct file;
struct order;

/* The walk's next step, a job. It has the walk to itself while it is on its way. */
struct step {
	struct evwork_job job;
	struct walk *walk;
	struct order *order;
	struct file *first, *last; /* what it came upon */
	size_t count;
	bool ended;                /* there is no more */
};

struct order {
	struct evwork_loop *loop;
	struct evwork_lane *walk_lane;
	struct evwork_lane *hash_lane;
	struct evwork_ctx *ctx;    /* everything below dies with it */
	struct hash *hash;
	struct out *out;
	struct console *console;
	struct step step;
	bool walking;              /* step is on its way */
	bool walked;               /* nothing is left to walk */
	struct file *first, *last; /* the window: listed and not yet printed, in order */
	struct file *unsent;       /* in the window, the first without a sum or a job */
	size_t window;
	size_t hashing;            /* jobs on their way */
	bool stopped;
	bool faulty;               /* something could not be read */
	bool failed;               /* it could not go on */
	uint64_t files, bytes;     /* hashed without a fault */
	void (*ended)(struct order *order);
};

/*
 * Makes ready to sum what is under root. `ended` is called once after
 * order_start(), when everything is printed or, after a stop, when no job is
 * left. order is zeroed before; order_fini() is fine on one that is half made or
 * zero, but not between start and end.
 */
int order_init(struct order *order, struct evwork_loop *loop, const char *root,
	struct console *console, void (*ended)(struct order *order));
void order_fini(struct order *order);

int order_start(struct order *order);

/* Stops early: what is queued is cancelled, what runs is asked to end, what is
 * not written is forgotten. If nothing is on its way `ended` is called inside. */
void order_stop(struct order *order);

#endif
