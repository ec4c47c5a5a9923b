/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_OUT_H
#define TREESUM_OUT_H

/*
 * Standard output as a citizen of the event loop: lines are collected and
 * written when the descriptor takes them, so that a reader that is slow or
 * asleep stalls neither the workers nor Ctrl-C. All calls on the loop's thread.
 */

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct out;

/*
 * Called after something was written, with 0, or once with the errno after
 * which nothing more will be written. Never called inside a call below.
 */
typedef void (*out_fn)(int error, void *arg);

/* Takes no ownership of fd. -ENOMEM, or the negated errno of looking at fd. */
int out_new(struct event_base *base, int fd, out_fn fn, void *arg, struct out **ret_out);
void out_free(struct out *out);

/* One line of sha256sum(1). -ENOMEM. */
int out_line(struct out *out, const unsigned char *digest, size_t length, const char *path);

/* Is there room for another line? (More lines than that are not lost.) */
bool out_has_room(const struct out *out);
bool out_is_empty(const struct out *out);

/* Forgets what has not been written and writes nothing from now on. */
void out_discard(struct out *out);

/*
 * Puts name in *ret_text the way sha256sum escapes it, without the leading
 * backslash; the caller frees it. Returns 1 if it differs from name, else 0, or
 * -ENOMEM.
 */
int out_escape(const char *name, char **ret_text);

#endif
