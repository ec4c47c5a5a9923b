/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_ATTEMPT_H
#define GUARD_ATTEMPT_H

#include "run/mailbox.h"
#include "evwork/retry.h"

/*
 * One attempt of an operation, on a worker or on the loop; what retries and hedges are made
 * of. Whose it is keeps the loop meanwhile (see loop_enter), and keeps the attempt until
 * ended or lost is called.
 */
struct evwork_attempt {
	/* Given by whose it is. */
	const struct evwork_op *op;
	struct evwork_loop *loop;
	int number;
	int place;                    /* in the array that it is in */
	void (*ended)(struct evwork_attempt *attempt, int status);  /* on the loop */
	void (*lost)(struct evwork_attempt *attempt);    /* on any thread: the loop was freed by force */

	bool withdrawn;               /* a budget was asked for it, and has to be told of its end */
	struct evwork_ctx *ctx;
	struct evwork_job job;        /* of run */
	struct letter letter;         /* of start: it was ended */
	atomic_int phase;
	int status;
	/* Written by the operation before it ends; its end orders it. */
	bool permanent, pushed_back;
	int64_t delay_ms;
};

/*
 * [loop, in a callback] Begins; ended or lost is called once, but not if this returns an
 * error: that is the end of it then. ctx is the parent of its own.
 */
int attempt_begin(struct evwork_attempt *attempt, struct evwork_ctx *ctx, int64_t timeout_ms);

/* [any] The attempt has ended or will not begin: gives back what was withdrawn for it, once.
 * The budget may be NULL if nothing was. */
void attempt_give_back(struct evwork_attempt *attempt, struct evwork_budget *budget);

bool op_valid(const struct evwork_op *op);

/* What no policy retries, and what it does by default. */
bool status_is_final(int status);
bool status_is_retryable(int status);

#endif
