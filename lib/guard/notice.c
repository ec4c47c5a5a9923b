/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The watch waits on the background, so it is called only when it was fired, or when the
 * loop closes. While it is set the loop is not freed, and who finds a loop here under the
 * lock may use it: it is forgotten under the same lock, before the close goes on.
 */

#include "guard/notice.h"

#include <errno.h>

#include "base/fork.h"
#include "run/ctx.h"
#include "run/loop.h"

/* [loop] From here on any thread may free the owner. */
static void forget_loop_locked(struct notice *notice)
{
	if (notice->loop)
		loop_stop_alarm(notice->loop, &notice->alarm);
	notice->loop = NULL;
}

/* made_in is what fork_here() was before the callback. A child that was made in it may have
 * freed the owner, and another thread may have had its lock. */
static void leave_callback(struct notice *notice, unsigned made_in)
{
	bool ended;

	if (made_in != fork_here())
		return;
	sys_lock(notice->mutex);
	notice->calling = false;
	ended = notice->ended;
	sys_unlock(notice->mutex);
	if (ended)
		notice->destroy(notice);
}

bool notice_enter(struct notice *notice)
{
	bool entered;

	sys_lock(notice->mutex);
	entered = !notice->calling;
	notice->calling = true;
	sys_unlock(notice->mutex);
	return entered;
}

void notice_leave(struct notice *notice, bool entered, unsigned made_in)
{
	if (entered)
		leave_callback(notice, made_in);
}

static void on_watch(struct evwork_watch *watch, int status)
{
	struct notice *notice = EVWORK_CONTAINER(watch, struct notice, watch);
	unsigned made_in = fork_here();
	bool last;

	sys_lock(notice->mutex);
	notice->calling = true;
	/* Set again before tell is called, as the loop could be freed in that. */
	last = status != 0 || watch_set(NULL, notice->loop, watch) != 0;
	if (last)
		forget_loop_locked(notice);
	sys_unlock(notice->mutex);
	notice->tell(notice, last);
	leave_callback(notice, made_in);
}

/* The loop is freed by force. */
static void on_lost(struct evwork_watch *watch)
{
	struct notice *notice = EVWORK_CONTAINER(watch, struct notice, watch);

	sys_lock(notice->mutex);
	forget_loop_locked(notice);
	sys_unlock(notice->mutex);
	if (notice->lost)
		notice->lost(notice);
}

static void on_alarm(struct evwork_timer *timer, int status)
{
	struct notice *notice = EVWORK_CONTAINER(timer, struct notice, alarm);
	unsigned made_in = fork_here();

	(void)status;
	sys_lock(notice->mutex);
	notice->calling = true;
	sys_unlock(notice->mutex);
	notice->ring(notice);
	leave_callback(notice, made_in);
}

int notice_begin(struct notice *notice, struct evwork_loop *loop)
{
	int rc;

	evwork_watch_init(&notice->watch, on_watch);
	notice->watch._lost = on_lost;
	evwork_timer_init(&notice->alarm, on_alarm);
	notice->calling = notice->ended = false;
	/* Under the lock: the loop may close, and forget, at once. */
	sys_lock(notice->mutex);
	notice->loop = loop;
	rc = watch_set(NULL, loop, &notice->watch);
	if (rc)
		notice->loop = NULL;
	sys_unlock(notice->mutex);
	return rc;
}

void notice_raise_locked(struct notice *notice)
{
	if (!notice->loop)
		return;
	watch_fire(notice->loop, NULL, &notice->watch);
	/* Another thread may have fired it before, which keeps no loop alive. */
	if (loop_is_here(notice->loop))
		loop_keep_alive(notice->loop);
}

void notice_alarm_locked(struct notice *notice, int64_t due_ns)
{
	if (notice->loop)
		loop_set_alarm(notice->loop, &notice->alarm, due_ns);
}

bool notice_may_end(struct notice *notice)
{
	bool may;

	sys_lock(notice->mutex);
	may = !notice->loop || loop_is_here(notice->loop);
	sys_unlock(notice->mutex);
	return may;
}

int notice_end(struct notice *notice)
{
	bool calling;

	sys_lock(notice->mutex);
	if (notice->loop && !loop_is_here(notice->loop)) {
		sys_unlock(notice->mutex);
		return -EPERM;
	}
	if (notice->loop)
		evwork_ctx_stop(&notice->watch);
	forget_loop_locked(notice);
	calling = notice->calling;
	notice->ended = calling;
	sys_unlock(notice->mutex);
	if (!calling)
		notice->destroy(notice);
	return 0;
}
