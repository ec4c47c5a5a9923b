/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FANOUT_WORDS_H
#define FANOUT_WORDS_H

/*
 * The words of a text and how often each occurs. A word is a run of the letters
 * a to z, A to Z counts as a to z, and everything else is what is between words.
 *
 * The text comes in pieces, and a piece may end in the middle of a word. So what
 * touches its two ends is kept apart from what is counted, and two pieces can be
 * put together in whatever order they were counted:
 *
 *	"...ly, the cat sat on the m" + "at. The e..."
 *	 head   {the cat sat on the}  tail head {the} tail
 *
 * Not for several threads at once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct word;

struct letters {
	char *bytes;
	size_t length;
	size_t room;
};

/* All zero is the empty text. */
struct words {
	struct letters head;     /* before the first byte that is no letter */
	struct letters tail;     /* after the last one */
	bool cut;                /* there was one; till then all is head */
	struct word **buckets;
	size_t room;             /* of buckets, a power of two or 0 */
	size_t count;            /* distinct words */
};

/* Adds bytes at the end of the text, and folds them to lower case in place. -ENOMEM. */
int words_feed(struct words *words, char *bytes, size_t length);

/* Adds another text at the end, which is empty afterwards. -ENOMEM. */
int words_append(struct words *words, struct words *next);

/* The text is complete: what is at its ends are words, too. -ENOMEM. */
int words_end(struct words *words);

/* Prints the most frequent words, at most so many, as `uniq -c` does; words that are
 * as frequent in the order of their bytes. -ENOMEM, or the error of the stream. */
int words_print(const struct words *words, size_t most, FILE *stream);

void words_fini(struct words *words);

#endif
