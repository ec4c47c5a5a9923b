/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_ORDER_H
#define TREESUM_ORDER_H

/*
 * The road of the files, a pipeline: walked, read and hashed on workers, printed on the
 * loop in the order of the walk. All calls on the loop's thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

#include "treesum_console.h"
#include "treesum_hash.h"
#include "treesum_out.h"
#include "treesum_walk.h"

struct order {
	struct evwork_loop *loop;
	struct evwork_pipeline *pipeline;
	struct walk *walk;
	struct hash *hash;
	struct out *out;
	struct console *console;
	bool first_error_ends;     /* set before order_start(), if wanted */
	int64_t asked;             /* lines that were asked for and have not come */
	bool cut;                  /* no more files */
	bool done;                 /* the pipeline has ended */
	bool faulty;               /* something could not be read */
	bool failed;               /* it could not go on */
	uint64_t files, bytes;     /* printed */
	void (*ended)(struct order *order);
};

/*
 * Makes ready to sum what is under root. `ended` is called once after
 * order_start(), when everything is printed or, after a stop, when no work is
 * left. order is zeroed before; order_fini() is fine on one that is half made or
 * zero, but not between start and end.
 */
int order_init(struct order *order, struct evwork_loop *loop, const char *root,
	struct console *console, void (*ended)(struct order *order));
void order_fini(struct order *order);

int order_start(struct order *order, int threads);

/* Stops early: what runs is asked to end, what is not written is forgotten. */
void order_stop(struct order *order);

#endif
