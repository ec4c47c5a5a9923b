/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Making contexts, and the timer of those that have a deadline of their own. A new
 * context is complete before it is linked under its parent, so nobody can kill half
 * of one.
 */

#include "run/ctx.h"

#include "base/clock.h"
#include "run/loop.h"

static struct ctx_tree *tree_new(void)
{
	struct ctx_tree *tree = fork_notice() == 0 ? sys_zalloc(sizeof(*tree)) : NULL;

	if (tree && sys_mutex_init(&tree->mutex) != 0) {
		sys_free(tree);
		tree = NULL;
	}
	if (tree) {
		tree->made_in = fork_here();
		atomic_init(&tree->refs, 0);
	}
	return tree;
}

/*
 * Makes a context below parent, or a root that only looks up values there. It is
 * not linked yet, so nobody can kill it before it is complete.
 */
static struct evwork_ctx *ctx_make(struct evwork_ctx *parent, bool detached)
{
	struct evwork_ctx *ctx = sys_zalloc(sizeof(*ctx));

	if (ctx_is_background(parent))
		parent = NULL;
	if (!ctx)
		return NULL;
	ctx->tree = parent && !detached ? parent->tree : tree_new();
	if (!ctx->tree) {
		sys_free(ctx);
		return NULL;
	}
	atomic_fetch_add_explicit(&ctx->tree->refs, 1, memory_order_relaxed);
	atomic_init(&ctx->refs, 1);
	ctx->values = evwork_ctx_ref(parent);
	ctx->parent = detached ? NULL : parent;
	ctx->deadline_ns = EVWORK_NEVER;
	if (ctx->parent) {
		ctx->expires = parent->expires;
		ctx->deadline_ns = parent->deadline_ns;
		ctx->clock = parent->clock;
	}
	return ctx;
}

/* Puts a complete context under its parent, or lets it be born dead. */
static void ctx_link(struct evwork_ctx *ctx)
{
	struct evwork_ctx *parent = ctx->parent;
	int err;

	if (!parent)
		return;
	evwork_ctx_err(parent);
	ctx_lock(ctx);
	err = ctx_err_locked(parent);
	if (err) {
		atomic_store_explicit(&ctx->cause,
			atomic_load_explicit(&parent->cause, memory_order_relaxed),
			memory_order_relaxed);
		atomic_store_explicit(&ctx->err, err, memory_order_release);
	} else {
		LIST_APPEND(&parent->children, ctx, next, prev);
		ctx->linked = true;
	}
	ctx_unlock(ctx);
}

static bool parent_inherited(const struct evwork_ctx *parent)
{
	return !ctx_is_background(parent) && ctx_is_inherited(parent);
}

static int make_under(struct evwork_ctx *parent, bool detached, struct evwork_ctx **ret_ctx)
{
	if (parent_inherited(parent))
		return -ESHUTDOWN;
	*ret_ctx = ctx_make(parent, detached);
	return *ret_ctx ? 0 : -ENOMEM;
}

int evwork_ctx_new(struct evwork_ctx *parent, struct evwork_ctx **ret_ctx)
{
	struct evwork_ctx *ctx;
	int rc = ret_ctx ? make_under(parent, false, &ctx) : -EINVAL;

	if (rc)
		return rc;
	ctx_link(ctx);
	*ret_ctx = ctx;
	return 0;
}

int evwork_ctx_detached(struct evwork_ctx *parent, struct evwork_ctx **ret_ctx)
{
	struct evwork_ctx *ctx;
	int rc = ret_ctx ? make_under(parent, true, &ctx) : -EINVAL;

	if (rc)
		return rc;
	*ret_ctx = ctx;
	return 0;
}

int evwork_ctx_with_value(struct evwork_ctx *parent, const void *key, void *value,
	void (*destroy)(void *value), struct evwork_ctx **ret_ctx)
{
	struct evwork_ctx *ctx;
	int rc = key && ret_ctx ? make_under(parent, false, &ctx) : -EINVAL;

	if (rc)
		return rc;
	ctx->key = key;
	ctx->value = value;
	ctx->destroy = destroy;
	ctx_link(ctx);
	*ret_ctx = ctx;
	return 0;
}

/*
 * Sets the timer of a context that is linked and may be dying. The loop is
 * noted under the tree's lock, so death either comes before and the timer is not
 * set, or comes after and stops it.
 */
static int arm(struct evwork_ctx *ctx, struct evwork_loop *loop)
{
	int rc = 0;

	ctx_lock(ctx);
	if (!ctx_err_locked(ctx)) {
		ctx->timer._kind = TIMER_CTX;
		rc = ctx_timer_set(loop, &ctx->timer, ctx->deadline_ns);
		if (rc == 0)
			ctx->loop = loop;
	}
	ctx_unlock(ctx);
	return rc;
}

int evwork_ctx_with_deadline(struct evwork_ctx *parent, struct evwork_loop *loop,
	int64_t deadline_ns, int cause, struct evwork_ctx **ret_ctx)
{
	struct evwork_clock *clock = loop ? loop->clock : NULL;
	struct evwork_ctx *ctx;
	bool earlier;
	int rc = 0;

	if (!ret_ctx)
		return -EINVAL;
	if (parent_inherited(parent) || (loop && loop->inherited))
		return -ESHUTDOWN;
	if (!loop && !ctx_is_background(parent))
		clock = parent->clock;
	earlier = deadline_ns < evwork_ctx_deadline(parent);
	if (earlier && !loop && deadline_ns > clock_now(clock))
		return -EINVAL;
	if (earlier && loop && atomic_load(&loop->closing) && deadline_ns > clock_now(clock))
		return -ESHUTDOWN;
	ctx = ctx_make(parent, false);
	if (!ctx)
		return -ENOMEM;
	if (earlier) {
		ctx->own_deadline = true;
		ctx->deadline_ns = deadline_ns;
		ctx->expires = ctx;
		ctx->clock = clock;
		ctx->timeout_cause = cause;
	}
	ctx_link(ctx);
	if (earlier && !evwork_ctx_err(ctx))
		rc = arm(ctx, loop);
	if (rc) {
		evwork_ctx_unref(ctx);
		return rc;
	}
	*ret_ctx = ctx;
	return 0;
}

int evwork_ctx_with_timeout(struct evwork_ctx *parent, struct evwork_loop *loop,
	int64_t timeout_ms, int cause, struct evwork_ctx **ret_ctx)
{
	struct evwork_clock *clock = loop ? loop->clock : NULL;
	int64_t now;

	if (!loop && !ctx_is_background(parent))
		clock = parent->clock;
	now = clock_now(clock);
	return evwork_ctx_with_deadline(parent, loop,
		sys_time_add(now, sys_time_mul(timeout_ms, SYS_NS_PER_MS)), cause, ret_ctx);
}

/* The loop's side of the timer. */

static bool try_ref(struct evwork_ctx *ctx)
{
	unsigned refs = atomic_load_explicit(&ctx->refs, memory_order_relaxed);

	while (refs != 0)
		if (atomic_compare_exchange_weak_explicit(&ctx->refs, &refs, refs + 1,
				memory_order_relaxed, memory_order_relaxed))
			return true;
	return false;
}

bool ctx_timer_pin(struct evwork_timer *timer)
{
	struct evwork_ctx *ctx = EVWORK_CONTAINER(timer, struct evwork_ctx, timer);

	/* The last unref stops the timer under the loop's lock, which is held here,
	 * before it frees; so the memory is there, if perhaps not for long. */
	return try_ref(ctx);
}

void ctx_timer_forget(struct evwork_timer *timer)
{
	struct evwork_ctx *ctx = EVWORK_CONTAINER(timer, struct evwork_ctx, timer);

	ctx_lock(ctx);
	ctx->loop = NULL;
	ctx_unlock(ctx);
	evwork_ctx_unref(ctx);
}

void ctx_timer_expired(struct evwork_timer *timer)
{
	struct evwork_ctx *ctx = EVWORK_CONTAINER(timer, struct evwork_ctx, timer);

	evwork_ctx_err(ctx);
	ctx_timer_forget(timer);
}
