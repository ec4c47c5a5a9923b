/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GRACEFUL_REQUEST_H
#define GRACEFUL_REQUEST_H

/*
 * One request of graceful: a line that becomes a group of jobs, and its reply.
 *
 *	hash TEXT       ok and 64 hexadecimal digits: 16 of each of four slow SHA-256
 *	                sums, of TEXT with 0, 1, 2 or 3 in front
 *	sum N N N...    ok and the sum
 *
 *	busy            there was no room for it
 *	timeout         it took too long, waiting included
 *	cancelled       the server was told to hurry
 *	error WHY       it makes no sense
 *
 * All on the thread of the loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

struct request;

typedef void (*request_done_fn)(struct request *request, void *arg);

struct request_options {
	struct evwork_loop *loop;
	int64_t timeout_ms;
	uint64_t rounds;         /* each sum is that of the one before, so many times */
};

/*
 * Starts what the line asks for. The request may be answered when this returns; if it
 * is not, done is called later, once, even if ctx has died: then all its jobs are over,
 * and never before that. -ENOMEM: there is no request.
 */
int request_start(const struct request_options *options, struct evwork_ctx *ctx,
	const char *line, request_done_fn done, void *arg, struct request **ret_request);

/* The reply, a line with its newline; NULL while there is none. The request's own. */
const char *request_reply(const struct request *request);

/* For whoever keeps requests in a queue. */
struct request **request_next(struct request *request);

/* Of a request that is answered. */
void request_free(struct request *request);

#endif
