/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_FETCHMANY_FETCH_H
#define EXAMPLES_FETCHMANY_FETCH_H

/* One URL, from its turn at its host to its line of output. */

#include <stddef.h>
#include <stdint.h>

#include <evwork.h>

#include "fetchmany_host.h"
#include "fetchmany_request.h"

/* What all share. */
struct fetches {
	struct client client;
	struct hosts hosts;
	struct evwork_ctx *ctx;              /* when it dies all end */
	struct evwork_retry_policy *policy;
	struct evwork_budget *copy_budget;   /* of second copies */
	int copies;                          /* 1, or 2 with hedges */
	int64_t hedge_ms;
	void (*room)(void *arg);             /* a fetch that was under way has ended */
	void *arg;
	size_t active;
	uint64_t ok, failed, cancelled;
	uint64_t launched, refused, won;     /* second copies; refused by their budget */
};

/* Gets a URL, which is copied, and prints its line when that has ended; at once if it is none
 * that can be got, which room is not called for. */
void fetch_begin(struct fetches *fetches, const char *url);

#endif
