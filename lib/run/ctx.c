/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The context tree.
 *
 *	alive ──cancel, deadline, death of the parent──► dead (err, cause)
 *
 * All contexts that can die with each other share one tree object and its lock.
 * Killing walks the tree from the killed node downwards, each node before its
 * children, so that a child is never seen dead while its parent reads alive
 * (S-CTX-8): err is stored with release and read with acquire, and the parent's
 * store comes first. Dead nodes are unlinked from their parents at once; only
 * alive ones are ever walked.
 *
 * Locks: a tree's lock is taken before a pool's and a loop's. Nothing of the
 * user runs under any of them.
 *
 * The deadline is kept twice. The loop's timer kills the context that owns the
 * deadline when it is due; and whoever asks for err after that instant kills it
 * himself, since workers must not depend on a busy loop (S-CTX-10).
 */

#include "run/ctx.h"

#include "base/clock.h"
#include "run/job.h"
#include "run/loop.h"

/* The background has no tree; every call looks for that first. */
static struct evwork_ctx background = { .deadline_ns = EVWORK_NEVER };

struct evwork_ctx *evwork_ctx_background(void)
{
	return &background;
}

static void tree_unref(struct ctx_tree *tree)
{
	/* Release and acquire: all others are through with the lock. */
	if (atomic_fetch_sub_explicit(&tree->refs, 1, memory_order_acq_rel) == 1) {
		if (tree->made_in == fork_here())
			sys_mutex_fini(&tree->mutex);
		sys_free(tree);
	}
}

struct evwork_ctx *evwork_ctx_ref(struct evwork_ctx *ctx)
{
	/* Relaxed: the caller has a reference already. */
	if (!ctx_is_background(ctx))
		atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

static void unlink_locked(struct evwork_ctx *ctx)
{
	if (ctx->linked) {
		LIST_REMOVE(&ctx->parent->children, ctx, next, prev);
		ctx->linked = false;
	}
}

static void stop_timer_locked(struct evwork_ctx *ctx)
{
	if (ctx->loop) {
		ctx_timer_stop(ctx->loop, &ctx->timer);
		ctx->loop = NULL;
	}
}

/* Frees one context whose last reference is gone; returns the one it held: the
 * next to give up. A loop instead of recursion: chains are long (S-CTX-19). */
static struct evwork_ctx *free_one(struct evwork_ctx *ctx)
{
	struct evwork_ctx *next = ctx->values;
	struct ctx_tree *tree = ctx->tree;

	/* The lists of an inherited tree are never walked again. */
	if (!ctx_is_inherited(ctx)) {
		sys_lock(&tree->mutex);
		unlink_locked(ctx);
		stop_timer_locked(ctx);
		sys_unlock(&tree->mutex);
	}
	if (ctx->destroy)
		ctx->destroy(ctx->value);
	sys_free(ctx);
	tree_unref(tree);
	return next;
}

void evwork_ctx_unref(struct evwork_ctx *ctx)
{
	/* Release what this thread did; acquire what others did before freeing. */
	while (!ctx_is_background(ctx) &&
	       atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) == 1)
		ctx = free_one(ctx);
}

/* Death. */

static void bury_locked(struct evwork_ctx *ctx, int err, int cause, struct job_chain *ended)
{
	struct evwork_job *job, *next_job;
	struct evwork_watch *watch;
	struct ctx_hook *hook;

	/* Cause before err: who sees err sees the cause, too. */
	atomic_store_explicit(&ctx->cause, cause, memory_order_relaxed);
	atomic_store_explicit(&ctx->err, err, memory_order_release);
	unlink_locked(ctx);
	stop_timer_locked(ctx);
	for (job = ctx->jobs.head; job; job = next_job) {
		next_job = job->_ctx_next;
		if (job_stop_by_ctx(job, err)) {
			LIST_REMOVE(&ctx->jobs, job, _ctx_next, _ctx_prev);
			job_chain_add(ended, job);
		}
	}
	while ((watch = ctx->watches.head)) {
		LIST_REMOVE(&ctx->watches, watch, _next, _prev);
		loop_fire_watch(watch->_loop, watch, err);
	}
	for (hook = ctx->hooks.head; hook; hook = hook->next)
		hook->died(hook, err);
}

/* The outcome for a node that dies now: its own deadline may have passed first. */
static void fate(const struct evwork_ctx *ctx, int64_t now, int *err, int *cause)
{
	if (ctx->own_deadline && ctx->deadline_ns <= now) {
		*err = -ETIMEDOUT;
		*cause = ctx->timeout_cause ? ctx->timeout_cause : -ETIMEDOUT;
	}
}

/*
 * Kills ctx and all below it; false if it was dead. Children of a killed node move
 * up to be walked next: the stack is the list itself, threaded through `next`.
 */
static bool kill_tree(struct evwork_ctx *ctx, int err, int cause)
{
	struct job_chain ended = { NULL, NULL };
	struct evwork_ctx *at = ctx, *stack = NULL;
	int64_t now;

	ctx_lock(ctx);
	if (ctx_err_locked(ctx)) {
		ctx_unlock(ctx);
		return false;
	}
	now = clock_now(ctx->clock);
	while (at) {
		struct evwork_ctx *child;
		int own_err = err, own_cause = cause;

		if (at->parent && at != ctx) {
			/* Inherit what the parent got, which may have been its own. */
			own_err = ctx_err_locked(at->parent);
			own_cause = atomic_load_explicit(&at->parent->cause,
				memory_order_relaxed);
			fate(at, at->clock == ctx->clock ? now : clock_now(at->clock),
				&own_err, &own_cause);
		}
		bury_locked(at, own_err, own_cause, &ended);
		while ((child = at->children.head)) {
			LIST_REMOVE(&at->children, child, next, prev);
			child->linked = false;
			child->next = stack;
			stack = child;
		}
		at = stack;
		if (at) {
			stack = at->next;
			at->next = NULL;
		}
	}
	ctx_unlock(ctx);
	job_post_all(&ended);
	return true;
}

/* Kills the owner of the deadline if that has passed. */
static bool expire(struct evwork_ctx *ctx)
{
	struct evwork_ctx *owner = ctx->expires;

	if (!owner || ctx_is_inherited(ctx) || clock_now(ctx->clock) < ctx->deadline_ns)
		return false;
	kill_tree(owner, -ETIMEDOUT,
		owner->timeout_cause ? owner->timeout_cause : -ETIMEDOUT);
	return true;
}

int evwork_ctx_err(struct evwork_ctx *ctx)
{
	int err;

	if (ctx_is_background(ctx))
		return 0;
	/* Acquire: pairs with the release in bury_locked. */
	err = atomic_load_explicit(&ctx->err, memory_order_acquire);
	if (err || !ctx->expires || !expire(ctx))
		return err;
	return atomic_load_explicit(&ctx->err, memory_order_acquire);
}

bool ctx_is_over(const struct evwork_ctx *ctx)
{
	if (ctx_is_background(ctx))
		return false;
	/* Acquire: pairs with the release in bury_locked. */
	return atomic_load_explicit(&ctx->err, memory_order_acquire) ||
		(ctx->expires && clock_now(ctx->clock) >= ctx->deadline_ns);
}

int evwork_ctx_cause(struct evwork_ctx *ctx)
{
	if (!evwork_ctx_err(ctx))
		return 0;
	return atomic_load_explicit(&ctx->cause, memory_order_relaxed);
}

int64_t evwork_ctx_deadline(struct evwork_ctx *ctx)
{
	return ctx ? ctx->deadline_ns : EVWORK_NEVER;
}

int evwork_ctx_cancel(struct evwork_ctx *ctx, int cause)
{
	if (ctx_is_background(ctx))
		return -EINVAL;
	if (ctx_is_inherited(ctx))
		return -ESHUTDOWN;
	if (evwork_ctx_err(ctx))
		return -EALREADY;
	return kill_tree(ctx, -ECANCELED, cause ? cause : -ECANCELED) ? 0 : -EALREADY;
}

int evwork_ctx_value(struct evwork_ctx *ctx, const void *key, void **ret_value)
{
	if (!key || !ret_value)
		return -EINVAL;
	for (; !ctx_is_background(ctx); ctx = ctx->values) {
		if (ctx->key == key) {
			*ret_value = ctx->value;
			return 1;
		}
	}
	return 0;
}

/* Jobs of a context. */

void ctx_add_job_locked(struct evwork_ctx *ctx, struct evwork_job *job)
{
	LIST_APPEND(&ctx->jobs, job, _ctx_next, _ctx_prev);
}

static void remove_job_locked(struct evwork_ctx *ctx, struct evwork_job *job)
{
	/* Whoever ended the job first may have taken it out. */
	if (job->_ctx_prev || ctx->jobs.head == job)
		LIST_REMOVE(&ctx->jobs, job, _ctx_next, _ctx_prev);
}

int ctx_start_job(struct evwork_ctx *ctx, struct evwork_job *job, bool keep)
{
	int err;

	evwork_ctx_err(ctx);
	ctx_lock(ctx);
	err = ctx_err_locked(ctx);
	if (err || !keep)
		remove_job_locked(ctx, job);
	else
		job_mark_ran(job);
	ctx_unlock(ctx);
	return err;
}

void ctx_remove_job(struct evwork_ctx *ctx, struct evwork_job *job)
{
	ctx_lock(ctx);
	remove_job_locked(ctx, job);
	ctx_unlock(ctx);
}

int ctx_add_hook(struct evwork_ctx *ctx, struct ctx_hook *hook)
{
	int err;

	if (ctx_is_background(ctx))
		return 0;
	ctx_lock(ctx);
	err = ctx_err_locked(ctx);
	LIST_APPEND(&ctx->hooks, hook, next, prev);
	ctx_unlock(ctx);
	return err;
}

void ctx_remove_hook(struct evwork_ctx *ctx, struct ctx_hook *hook)
{
	if (ctx_is_background(ctx))
		return;
	ctx_lock(ctx);
	LIST_REMOVE(&ctx->hooks, hook, next, prev);
	ctx_unlock(ctx);
}
