/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_BREAKER_WINDOW_H
#define GUARD_BREAKER_WINDOW_H

#include "base/sys.h"

/*
 * What a breaker remembers of past outcomes: the last N of them, or those of the last k
 * slots of time. Plain arithmetic: no clock, no lock, and no memory but at the beginning.
 */

struct tally {
	uint64_t calls, failures, slow;
};

struct breaker_window {
	int size;                /* N or k */
	int64_t slot_ns;         /* 0: counts outcomes */
	struct tally sum;        /* of all that is in the window */
	int at;                  /* where the next outcome goes, or the slot of now */
	int64_t slot_end_ns;     /* when that slot is over */
	uint8_t *outcomes;       /* the last N, a ring: bits of enum breaker_mark */
	struct tally *slots;     /* the last k, a ring */
};

enum breaker_mark { MARK_FAILURE = 1, MARK_SLOW = 2 };

/* -ENOMEM. */
int breaker_window_init(struct breaker_window *window, int size, int64_t slot_ns);
void breaker_window_fini(struct breaker_window *window);

/* Forgets all; the first slot begins at now_ns. */
void breaker_window_clear(struct breaker_window *window, int64_t now_ns);

/* Lets what has become too old at now_ns go. A time before the present slot counts as in
 * it. For windows of outcomes now_ns is not looked at, in the next one neither. */
void breaker_window_expire(struct breaker_window *window, int64_t now_ns);
void breaker_window_record(struct breaker_window *window, unsigned marks, int64_t now_ns);

static inline void tally_add(struct tally *tally, unsigned marks)
{
	tally->calls++;
	tally->failures += (marks & MARK_FAILURE) != 0;
	tally->slow += (marks & MARK_SLOW) != 0;
}

#endif
