/* SPDX-License-Identifier: BSD-3-Clause */
#include "guard/attempt.h"

#include <errno.h>

#include "run/loop.h"

/* Of an attempt that was given to start. OUT becomes ENDED by whoever ends it. */
enum { PHASE_JOB, PHASE_OUT, PHASE_ENDED };

bool op_valid(const struct evwork_op *op)
{
	return !op->run != !op->start;
}

bool status_is_final(int status)
{
	switch (-status) {
	case ECANCELED: case EINVAL: case ERANGE: case ESHUTDOWN: case EHOSTDOWN: case EOWNERDEAD:
		return true;
	}
	return false;
}

bool status_is_retryable(int status)
{
	switch (-status) {
	case EAGAIN: case ETIMEDOUT: case ECONNREFUSED: case ECONNRESET: case EPIPE:
	case EHOSTUNREACH: case ENETUNREACH:
		return true;
	}
	return false;
}

static void release_ctx(struct evwork_attempt *attempt)
{
	evwork_ctx_unref(attempt->ctx);
	attempt->ctx = NULL;
}

static void end(struct evwork_attempt *attempt, int status)
{
	release_ctx(attempt);
	attempt->ended(attempt, status);
}

static void lose(struct evwork_attempt *attempt)
{
	release_ctx(attempt);
	attempt->lost(attempt);
}

static struct evwork_attempt *of_job(struct evwork_job *job)
{
	return EVWORK_CONTAINER(job, struct evwork_attempt, job);
}

static int on_run(struct evwork_job *job)
{
	struct evwork_attempt *attempt = of_job(job);

	return attempt->op->run(attempt, attempt->op->arg);
}

static void on_done(struct evwork_job *job, int status)
{
	end(of_job(job), status);
}

static void on_drop(struct evwork_job *job)
{
	lose(of_job(job));
}

static void on_open(struct letter *letter)
{
	struct evwork_attempt *attempt = EVWORK_CONTAINER(letter, struct evwork_attempt, letter);

	end(attempt, attempt->status);
}

static void on_lose(struct letter *letter)
{
	lose(EVWORK_CONTAINER(letter, struct evwork_attempt, letter));
}

static int begin_job(struct evwork_attempt *attempt)
{
	evwork_job_init(&attempt->job, on_run, on_done);
	/* Called only where the loop was freed by force: it is not marked as detachable. */
	attempt->job.drop = on_drop;
	attempt->job.ctx = attempt->ctx;
	attempt->job.lane = attempt->op->lane;
	return evwork_submit(attempt->loop, &attempt->job);
}

int attempt_begin(struct evwork_attempt *attempt, struct evwork_ctx *ctx, int64_t timeout_ms)
{
	int rc = 0;

	attempt->permanent = attempt->pushed_back = false;
	atomic_init(&attempt->phase, attempt->op->run ? PHASE_JOB : PHASE_OUT);
	if (timeout_ms)
		rc = evwork_ctx_with_timeout(ctx, attempt->loop, timeout_ms, 0, &attempt->ctx);
	else
		attempt->ctx = evwork_ctx_ref(ctx);
	if (rc)
		return rc;
	if (attempt->op->run) {
		rc = begin_job(attempt);
		if (rc)
			release_ctx(attempt);
		return rc;
	}
	letter_init(&attempt->letter, "an operation of an attempt", on_open, on_lose);
	attempt->op->start(attempt, attempt->op->arg);
	return 0;
}

void attempt_give_back(struct evwork_attempt *attempt, struct evwork_budget *budget)
{
	if (!attempt->withdrawn)
		return;
	attempt->withdrawn = false;
	evwork_budget_give_back(budget);
}

int evwork_attempt_end(struct evwork_attempt *attempt, int status)
{
	int phase = PHASE_OUT;

	if (!attempt)
		return -EINVAL;
	if (attempt->loop->inherited)
		return -ESHUTDOWN;
	/* Relaxed: of several who end it one wins; the mailbox passes on the rest. */
	if (!atomic_compare_exchange_strong_explicit(&attempt->phase, &phase, PHASE_ENDED,
			memory_order_relaxed, memory_order_relaxed))
		return phase == PHASE_ENDED ? -EALREADY : -EINVAL;
	attempt->status = status;
	mailbox_post(attempt->loop->box, &attempt->letter.mail);
	return 0;
}

struct evwork_ctx *evwork_attempt_ctx(struct evwork_attempt *attempt)
{
	return attempt ? attempt->ctx : NULL;
}

struct evwork_job *evwork_attempt_job(struct evwork_attempt *attempt)
{
	return attempt && attempt->op->run ? &attempt->job : NULL;
}

int evwork_attempt_number(struct evwork_attempt *attempt)
{
	return attempt ? attempt->number : 0;
}

int evwork_attempt_permanent(struct evwork_attempt *attempt)
{
	if (!attempt)
		return -EINVAL;
	attempt->permanent = true;
	return 0;
}

int evwork_attempt_push_back(struct evwork_attempt *attempt, int64_t delay_ms)
{
	if (!attempt)
		return -EINVAL;
	attempt->pushed_back = true;
	attempt->delay_ms = delay_ms;
	return 0;
}
