/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_CTX_H
#define EVWORK_CTX_H

/*
 * Contexts: cancellation, deadlines and values that travel with a request.
 *
 * A context is alive, then for ever dead with one error (-ECANCELED or
 * -ETIMEDOUT) and one cause (S-CTX-2). Contexts form a tree: when one dies,
 * everything below it that was alive dies with the same error and cause before
 * the call that killed it returns (S-CTX-7); nothing beside or above it is
 * touched (S-CTX-9). Deadlines also pass lazily: evwork_ctx_err() on any thread
 * sees -ETIMEDOUT from the instant on, even while the loop is stalled (S-CTX-10).
 *
 *	struct evwork_ctx *ctx;
 *	evwork_ctx_with_timeout(server_ctx, loop, 250, 0, &ctx);
 *	request->job.ctx = ctx;
 *	evwork_submit(loop, &request->job);
 *	...
 *	evwork_ctx_cancel(ctx, 0);      // the client has left
 *	evwork_ctx_unref(ctx);
 *
 * Every call here is [any] (S-CTX-20). Contexts are reference counted; the
 * creating call gives the caller one reference. A parent lives as long as its
 * children, and a context as long as jobs and watches that use it (S-CTX-17).
 * Where a context is taken, NULL is the background: never dead, no deadline,
 * no values (S-CTX-1).
 */

#include <stddef.h>

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_ctx;
struct evwork_loop;

/* evwork_ctx_background: the background by name. ref and unref ignore it. */
struct evwork_ctx *evwork_ctx_background(void);

/*
 * evwork_ctx_new makes a child of parent that can be cancelled. A child of a
 * dead parent is born dead with the parent's error and cause (S-CTX-6).
 * -EINVAL: ret_ctx is NULL. -ENOMEM.
 */
int evwork_ctx_new(struct evwork_ctx *parent, struct evwork_ctx **ret_ctx);

/*
 * evwork_ctx_with_timeout makes a child that dies of -ETIMEDOUT timeout_ms
 * after now; evwork_ctx_with_deadline one that does at deadline_ns on the clock
 * of loop. A timeout <= 0 or a past deadline makes a context that is born dead
 * (S-CTX-5); a deadline not earlier than the parent's adds nothing (S-CTX-4).
 * `cause` is what evwork_ctx_cause() says when this deadline is what killed
 * it; 0 means the error itself. The context holds a timer on loop until it is
 * dead (S-CTX-18). A timer that was set from the loop's thread keeps the loop
 * alive, see evwork/loop.h.
 * -EINVAL: ret_ctx is NULL; or loop is NULL and the deadline is earlier than the
 * parent's and still to come. -ESHUTDOWN: loop is closing. -ENOMEM.
 */
int evwork_ctx_with_timeout(struct evwork_ctx *parent, struct evwork_loop *loop,
	int64_t timeout_ms, int cause, struct evwork_ctx **ret_ctx);
int evwork_ctx_with_deadline(struct evwork_ctx *parent, struct evwork_loop *loop,
	int64_t deadline_ns, int cause, struct evwork_ctx **ret_ctx);

/*
 * evwork_ctx_with_value makes a child that answers `key` with `value`. Keys
 * compare by address; use the address of a static variable. `destroy` (may be
 * NULL) is called once with the value when the context is freed, on the thread
 * of the last unref, with no lock held (S-CTX-16).
 * -EINVAL: key or ret_ctx is NULL. -ENOMEM. In both cases destroy is not called.
 */
int evwork_ctx_with_value(struct evwork_ctx *parent, const void *key, void *value,
	void (*destroy)(void *value), struct evwork_ctx **ret_ctx);

/*
 * evwork_ctx_detached makes a context that inherits the values of parent and
 * nothing else: it is alive even if parent is dead, and does not die with it.
 * With a timeout of its own it is the shield for clean-up (S-CTX-12).
 * -EINVAL: ret_ctx is NULL. -ENOMEM.
 */
int evwork_ctx_detached(struct evwork_ctx *parent, struct evwork_ctx **ret_ctx);

/* Both accept NULL. The last unref frees; it cancels nothing (S-CTX-17). ref
 * returns its argument. */
struct evwork_ctx *evwork_ctx_ref(struct evwork_ctx *ctx);
void evwork_ctx_unref(struct evwork_ctx *ctx);

/*
 * evwork_ctx_cancel kills ctx and everything below it with -ECANCELED and the
 * given cause; 0 makes the error the cause. If the deadline has passed already
 * the context dies of -ETIMEDOUT instead (S-CTX-10) and the call says -EALREADY.
 * Callbacks follow in later turns of their loops (S-GEN-3).
 * -EINVAL: ctx is NULL or the background. -EALREADY: it was dead (S-CTX-3).
 */
int evwork_ctx_cancel(struct evwork_ctx *ctx, int cause);

/*
 * evwork_ctx_err: 0 while alive, then for ever -ECANCELED or -ETIMEDOUT. Cheap
 * enough for inner loops: one atomic load, and one look at the clock where
 * there is a deadline (S-POOL-13).
 */
int evwork_ctx_err(struct evwork_ctx *ctx);

/* evwork_ctx_cause: 0 while alive, then why it died, see S-CTX-11. */
int evwork_ctx_cause(struct evwork_ctx *ctx);

/* evwork_ctx_deadline: when it will die at the latest, or EVWORK_NEVER. */
int64_t evwork_ctx_deadline(struct evwork_ctx *ctx);

/*
 * evwork_ctx_value looks key up in ctx and its ancestors; the nearest wins, and
 * a stored NULL counts. Returns 1 and stores the value, or 0 if there is none.
 * -EINVAL: key or ret_value is NULL.
 */
int evwork_ctx_value(struct evwork_ctx *ctx, const void *key, void **ret_value);

/*
 * A watch calls a function on a loop after a context died. The struct is the
 * caller's, must stay until its callback starts or evwork_ctx_stop() returned 1,
 * and is the caller's again when its callback starts (S-GEN-7).
 */
struct evwork_watch;

/* On the watch's loop. status: the error of the context, or -ECANCELED if the
 * loop was closed first. */
typedef void (*evwork_watch_fn)(struct evwork_watch *watch, int status);

struct evwork_watch {
	evwork_watch_fn fn;
	/* Private. */
	struct evwork_watch *_next, *_prev;
	struct evwork_ctx *_ctx;
	struct evwork_loop *_loop;
	struct evwork_watch *_loop_next, *_loop_prev;
	uint64_t _order;
	uint32_t _state;
	int _status;
	void (*_lost)(struct evwork_watch *watch);
};

/* evwork_watch_init prepares a watch; needed once, before its first use. */
void evwork_watch_init(struct evwork_watch *watch, evwork_watch_fn fn);

/*
 * evwork_ctx_after calls watch->fn once on the thread of loop after ctx died,
 * never inside the call that kills it; on a ctx that is dead already in the next
 * turn. Several watches of one context run in the order of registration
 * (S-CTX-13). On the background it waits until it is stopped or the loop closes.
 * -EINVAL: watch, its fn or loop is NULL. -EBUSY: the watch is pending.
 * -ESHUTDOWN: loop is closing.
 */
int evwork_ctx_after(struct evwork_ctx *ctx, struct evwork_loop *loop,
	struct evwork_watch *watch);

/*
 * evwork_ctx_stop returns 1 if it kept the callback from running, and 0 if that
 * had run, was running, had been stopped or was never set (S-CTX-14). It never
 * waits for a callback that runs (S-CTX-15). The watch's loop must exist while this
 * call runs. -EINVAL: watch is NULL.
 */
int evwork_ctx_stop(struct evwork_watch *watch);

#ifdef __cplusplus
}
#endif

#endif
