/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "rival.h"

static void *rival_run(void *arg)
{
	struct rival *rival = arg;
	int round, now;

	chance_seed(rival->stream);
	for (round = 1;; round++) {
		while ((now = atomic_load(&rival->round)) != round) {
			if (now < 0)
				return NULL;
			sys_yield();
		}
		if (!rival->prompt)
			dawdle();
		rival->act(rival->arg);
		atomic_store(&rival->finished, round);
	}
}

void rival_start(struct rival *rival, void (*act)(void *arg), void *arg, uint64_t stream)
{
	memset(rival, 0, sizeof(*rival));
	rival->act = act;
	rival->arg = arg;
	rival->stream = stream;
	ck_assert_int_eq(pthread_create(&rival->thread, NULL, rival_run, rival), 0);
}

void rival_go(struct rival *rival, int round)
{
	atomic_store(&rival->round, round);
}

bool rival_finished(struct rival *rival, int round)
{
	return atomic_load(&rival->finished) == round;
}

void rival_await(struct rival *rival, int round)
{
	while (!rival_finished(rival, round))
		sys_yield();
}

void rival_end(struct rival *rival)
{
	atomic_store(&rival->round, -1);
	ck_assert_int_eq(pthread_join(rival->thread, NULL), 0);
}

void rivals_go(struct rival *rivals, int count, int round)
{
	int i;

	for (i = 0; i < count; i++)
		rival_go(&rivals[i], round);
}

bool rivals_finished(struct rival *rivals, int count, int round)
{
	int i;

	for (i = 0; i < count; i++)
		if (!rival_finished(&rivals[i], round))
			return false;
	return true;
}

void rivals_end(struct rival *rivals, int count)
{
	int i;

	/* All are told first: none waits for the end of another one. */
	rivals_go(rivals, count, -1);
	for (i = 0; i < count; i++)
		rival_end(&rivals[i]);
}
