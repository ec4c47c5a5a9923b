/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_CONSOLE_H
#define TREESUM_CONSOLE_H

/*
 * Standard error: messages, and for long runs on a terminal a line of progress
 * that never mixes with what else is printed. All calls on the loop's thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

#include "treesum_out.h"

struct console {
	struct evwork_timer timer;
	struct evwork_loop *loop;
	const struct out *shared;  /* the output, if it goes to a terminal, too */
	bool shown;                /* the cursor is at the end of a progress line */
	const uint64_t *files;     /* what progress tells */
	const uint64_t *bytes;
};

/*
 * Shows progress from now on if standard error is a terminal, but nothing for
 * the first half second. out and the counters are read until console_stop().
 */
int console_start(struct console *console, struct evwork_loop *loop, const struct out *out,
	const uint64_t *files, const uint64_t *bytes);

/* Takes the progress line away. Fine on a console that was never started. */
void console_stop(struct console *console);

/* Lines will be added to the output: makes room on a shared terminal. */
void console_yield(struct console *console);

/* "treesum: PATH: why" */
void console_report(struct console *console, const char *path, int error);

#endif
