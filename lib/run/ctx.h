/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_CTX_H
#define RUN_CTX_H

#include "base/fork.h"
#include "base/list.h"
#include "run/timer.h"
#include "evwork/ctx.h"
#include "evwork/job.h"

/*
 * What a context tells when it dies: anything that must know at once, under the
 * lock of the tree, such as a thread that waits for room in a queue.
 */
struct ctx_hook {
	void (*died)(struct ctx_hook *hook, int err);
	struct ctx_hook *next, *prev;
};

/*
 * One lock for a whole tree: death must reach every descendant before the call
 * that caused it returns, whatever other threads do to the tree meanwhile.
 */
struct ctx_tree {
	unsigned made_in;         /* fork_here() when it was made */
	sys_mutex mutex;
	atomic_uint refs;         /* contexts that belong to it */
};

struct evwork_ctx {
	/* Fixed at creation. */
	struct ctx_tree *tree;
	struct evwork_ctx *parent;          /* dies with it; NULL for a root */
	struct evwork_ctx *values;          /* where value look-ups go on: a ref */
	struct evwork_ctx *expires;         /* whose deadline this is: itself, an ancestor, NULL */
	int64_t deadline_ns;                /* effective; EVWORK_NEVER */
	struct evwork_clock *clock;         /* of the deadline */
	int timeout_cause;
	bool own_deadline;
	const void *key;
	void *value;
	void (*destroy)(void *value);

	atomic_uint refs;
	/* Written once under the tree's lock, cause before err: release, with the
	 * acquire of everyone who asks. */
	_Atomic int err;
	_Atomic int cause;

	/* Covered by the tree's lock. */
	LIST_OF(struct evwork_ctx) children;        /* alive ones */
	struct evwork_ctx *next, *prev;             /* in the parent's children */
	bool linked;
	LIST_OF(struct evwork_job) jobs;            /* queued, or running and detachable */
	LIST_OF(struct evwork_watch) watches;
	LIST_OF(struct ctx_hook) hooks;
	struct evwork_loop *loop;                   /* has the timer; NULL once it is gone */
	struct evwork_timer timer;
};

static inline bool ctx_is_background(const struct evwork_ctx *ctx)
{
	return !ctx || !ctx->tree;
}

/* Whether it was made before this process was forked: then its tree's lock may not be
 * taken. Not for the background. */
static inline bool ctx_is_inherited(const struct evwork_ctx *ctx)
{
	return ctx->tree->made_in != fork_here();
}

static inline void ctx_lock(struct evwork_ctx *ctx) { sys_lock(&ctx->tree->mutex); }
static inline void ctx_unlock(struct evwork_ctx *ctx) { sys_unlock(&ctx->tree->mutex); }

/* Under the lock of the tree. The lazy deadline is not looked at. */
static inline int ctx_err_locked(struct evwork_ctx *ctx)
{
	return atomic_load_explicit(&ctx->err, memory_order_relaxed);
}

/*
 * Jobs of a context. A queued job is in the context's list, so that its death
 * ends the job at once; a running one only if it can be detached. ctx_start_job
 * is asked by the worker: 0, or the error the context died of. With `keep` the
 * job stays in the list and is marked as running, in one step.
 */
void ctx_add_job_locked(struct evwork_ctx *ctx, struct evwork_job *job);
int ctx_start_job(struct evwork_ctx *ctx, struct evwork_job *job, bool keep);
void ctx_remove_job(struct evwork_ctx *ctx, struct evwork_job *job);

/*
 * For threads that wait, with a hook on the context: until when they may, and whether
 * the wait is over. The deadline holds even while its loop stalls; one on a manual
 * clock comes through that loop, by the hook.
 */
static inline int64_t ctx_wait_limit(const struct evwork_ctx *ctx)
{
	return ctx_is_background(ctx) || ctx->clock ? EVWORK_NEVER : ctx->deadline_ns;
}

static inline bool ctx_wait_is_over(const struct evwork_ctx *ctx, int64_t limit)
{
	/* Acquire: pairs with the release of who killed it. */
	return (!ctx_is_background(ctx) &&
		atomic_load_explicit(&ctx->err, memory_order_acquire)) ||
		(limit != EVWORK_NEVER && sys_now() >= limit);
}

/* Whether the context is dead, or would be if somebody looked: for those who hold locks,
 * under which no context may be killed. */
bool ctx_is_over(const struct evwork_ctx *ctx);

/* Hooks: see struct ctx_hook. Adding gives the error if the context is dead. */
int ctx_add_hook(struct evwork_ctx *ctx, struct ctx_hook *hook);
void ctx_remove_hook(struct evwork_ctx *ctx, struct ctx_hook *hook);

/* [loop] The timer of the context has been taken out of the heap: pins the context
 * (under the loop's lock), and ends it (without). */
bool ctx_timer_pin(struct evwork_timer *timer);
void ctx_timer_expired(struct evwork_timer *timer);

/* [loop] The loop closes: the context pinned by ctx_timer_pin gives up its timer. */
void ctx_timer_forget(struct evwork_timer *timer);

/* [loop] The loop closes: ends the watch with -ECANCELED if it is still the first
 * of the pending ones. No lock is held. */
void watch_end(struct evwork_loop *loop, struct evwork_watch *watch, struct evwork_ctx *ctx);

/* [any, under the loop's lock] The watch is in no list any more. */
void watch_set_idle(struct evwork_watch *watch);

/* [any] evwork_ctx_after without the look at the clock, for checked arguments. */
int watch_set(struct evwork_ctx *ctx, struct evwork_loop *loop, struct evwork_watch *watch);

/*
 * [loop] Sets an idle watch on no context, only to be told if the loop is freed by force: on a
 * loop that closes, too, which it keeps. If the close has still to begin it is called for it,
 * as any other.
 */
void watch_set_for_loss(struct evwork_loop *loop, struct evwork_watch *watch);

/* [any] The watch, set with these, is to be called with 0, unless it was fired before.
 * The caller keeps it from being set anew, and ctx, meanwhile. */
void watch_fire(struct evwork_loop *loop, struct evwork_ctx *ctx, struct evwork_watch *watch);

/* States of a watch. */
enum { WATCH_IDLE, WATCH_PENDING, WATCH_FIRED, WATCH_CALLING };

#endif
