/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_ADAPTIVE_H
#define GUARD_ADAPTIVE_H

#include "base/list.h"
#include "guard/notice.h"
#include "evwork/adaptive.h"

/* One call that has ended, as an algorithm sees it. */
struct limit_sample {
	int limit, in_flight;         /* before it ended, itself included */
	bool dropped;
	int64_t rtt_ns;
};

/* The options with the defaults filled in. */
struct limit_config {
	const struct limit_algorithm *algorithm;
	int min, max;
	double ratio;
	int64_t timeout_ns;           /* EVWORK_NEVER: none */
};

/*
 * How a limit moves: plain arithmetic, in limit.c. One that goes by delays keeps what it
 * remembers in here, too, and says so, as a time of 0 tells it nothing (S-ADP-7).
 */
struct limit_algorithm {
	bool needs_rtt;
	/* The new limit, which is then brought between min and max. Not for ignored calls. */
	int (*next)(const struct limit_config *config, const struct limit_sample *sample);
};

extern const struct limit_algorithm limit_aimd, limit_fixed;

int limit_next(const struct limit_config *config, const struct limit_sample *sample);

/* States of tokens, and of waiters. */
enum { TOKEN_IDLE, TOKEN_HELD, TOKEN_ENDED };
enum { WAITER_PARKED, WAITER_GRANTED };

struct evwork_adaptive {
	struct evwork_guard guard;
	/* Fixed at creation. */
	unsigned made_in;             /* fork_here() when it was made */
	struct limit_config config;
	size_t queue_limit;
	enum evwork_adaptive_outcome (*classify)(int status, void *arg);
	evwork_adaptive_limit_fn on_limit;
	void *arg;

	sys_mutex mutex;              /* covers all below; before those of contexts and loops */
	struct evwork_adaptive_metrics counts;    /* gauges included */
	size_t pending;               /* waiters whose callback has not begun */
	LIST_OF(struct evwork_adaptive_waiter) waiters;
	struct notice notice;
	int told;                     /* the limit that was last announced */
};

bool adaptive_inherited(const struct evwork_adaptive *adaptive);
/* Under the lock. Takes one if that is possible now. */
bool adaptive_take_locked(struct evwork_adaptive *adaptive);
void adaptive_give_back_locked(struct evwork_adaptive *adaptive);

/* adaptive_wait.c, under the lock: serves as many as may be. Whoever makes room calls it. */
void adaptive_serve_locked(struct evwork_adaptive *adaptive);

#endif
