/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hash table with chains. Its entries are moved from one table to another when
 * texts are put together, so merging allocates next to nothing; and it copes with
 * too few buckets, so that growing them may fail.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fanout_words.h"

#define ROOM_MIN 64u

struct word {
	struct word *next;
	uint64_t times;
	uint64_t hash;
	size_t length;
	char text[];             /* ends in a NUL */
};

/* ---- letters ---- */

static int letters_add(struct letters *letters, const char *bytes, size_t length)
{
	size_t room = letters->room ? letters->room : 32;

	while (room - letters->length < length)
		room *= 2;
	if (room != letters->room) {
		char *moved = realloc(letters->bytes, room);

		if (!moved)
			return -ENOMEM;
		letters->bytes = moved;
		letters->room = room;
	}
	if (length > 0)
		memcpy(letters->bytes + letters->length, bytes, length);
	letters->length += length;
	return 0;
}

static void letters_fini(struct letters *letters)
{
	free(letters->bytes);
	*letters = (struct letters){ 0 };
}

static bool is_letter(char byte)
{
	return (unsigned char)((byte | 0x20) - 'a') < 26;
}

/* ---- the table ---- */

/* FNV-1a: words are short, and nobody attacks this table. */
static uint64_t hash_of(const char *bytes, size_t length)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
	return hash ^ (hash >> 32); /* the low bits choose the bucket */
}

/* On average one word a bucket. */
static int table_grow(struct words *words)
{
	size_t room = words->room ? 2 * words->room : ROOM_MIN;
	struct word **buckets;

	if (words->count < words->room)
		return 0;
	buckets = calloc(room, sizeof(*buckets));
	if (!buckets)
		return words->room ? 0 : -ENOMEM;
	for (size_t i = 0; i < words->room; i++) {
		for (struct word *word = words->buckets[i], *next; word; word = next) {
			struct word **bucket = &buckets[word->hash & (room - 1)];

			next = word->next;
			word->next = *bucket;
			*bucket = word;
		}
	}
	free(words->buckets);
	words->buckets = buckets;
	words->room = room;
	return 0;
}

/* Where the word is linked, or would be. */
static struct word **table_find(struct words *words, const char *text, size_t length,
	uint64_t hash)
{
	struct word **link = &words->buckets[hash & (words->room - 1)];

	while (*link && ((*link)->hash != hash || (*link)->length != length
			|| memcmp((*link)->text, text, length) != 0))
		link = &(*link)->next;
	return link;
}

static int table_count(struct words *words, const char *text, size_t length)
{
	uint64_t hash = hash_of(text, length);
	struct word **link, *word;

	if (table_grow(words))
		return -ENOMEM;
	link = table_find(words, text, length, hash);
	if (!*link) {
		word = calloc(1, sizeof(*word) + length + 1);
		if (!word)
			return -ENOMEM;
		memcpy(word->text, text, length);
		word->length = length;
		word->hash = hash;
		*link = word;
		words->count++;
	}
	(*link)->times++;
	return 0;
}

/* Takes over a word of another table. */
static void table_take(struct words *words, struct word *word)
{
	struct word **link = table_find(words, word->text, word->length, word->hash);

	if (*link) {
		(*link)->times += word->times;
		free(word);
		return;
	}
	word->next = NULL;
	*link = word;
	words->count++;
}

static void table_swap(struct words *left, struct words *right)
{
	struct words saved = *left;

	left->buckets = right->buckets;
	left->room = right->room;
	left->count = right->count;
	right->buckets = saved.buckets;
	right->room = saved.room;
	right->count = saved.count;
}

/* The smaller table goes into the larger one: counts have no order. */
static int table_merge(struct words *words, struct words *from)
{
	if (words->count < from->count)
		table_swap(words, from);
	for (size_t i = 0; i < from->room; i++) {
		while (from->buckets[i]) {
			struct word *word = from->buckets[i];

			if (table_grow(words))
				return -ENOMEM;
			from->buckets[i] = word->next;
			from->count--;
			table_take(words, word);
		}
	}
	return 0;
}

/* ---- the text ---- */

/* Where the next letter goes. */
static struct letters *open_end(struct words *words)
{
	return words->cut ? &words->tail : &words->head;
}

/* The text goes on with something that is no letter. */
static int word_end(struct words *words)
{
	int rc = 0;

	if (words->cut && words->tail.length > 0)
		rc = table_count(words, words->tail.bytes, words->tail.length);
	if (rc)
		return rc;
	words->cut = true;
	words->tail.length = 0;
	return 0;
}

int words_feed(struct words *words, char *bytes, size_t length)
{
	size_t at = 0;

	while (at < length) {
		size_t from = at;
		int rc;

		for (; at < length && is_letter(bytes[at]); at++)
			bytes[at] |= 0x20;
		rc = at > from ? letters_add(open_end(words), bytes + from, at - from) : 0;
		if (!rc && at < length)
			rc = word_end(words);
		if (rc)
			return rc;
		at++;
	}
	return 0;
}

int words_append(struct words *words, struct words *next)
{
	int rc = letters_add(open_end(words), next->head.bytes, next->head.length);

	if (!rc && next->cut) {
		rc = word_end(words);
		if (!rc)
			rc = letters_add(&words->tail, next->tail.bytes, next->tail.length);
		if (!rc)
			rc = table_merge(words, next);
	}
	if (!rc)
		words_fini(next);
	return rc;
}

/*
 * Like tr(1), which leaves one empty line, the empty word, in front of a text that does
 * not begin with a letter.
 */
int words_end(struct words *words)
{
	const char *head = words->head.length > 0 ? words->head.bytes : "";
	int rc = 0;

	if (words->cut || words->head.length > 0)
		rc = table_count(words, head, words->head.length);
	if (!rc && words->tail.length > 0)
		rc = table_count(words, words->tail.bytes, words->tail.length);
	return rc;
}

static int by_frequency(const void *left, const void *right)
{
	const struct word *one = *(const struct word *const *)left;
	const struct word *other = *(const struct word *const *)right;

	if (one->times != other->times)
		return one->times > other->times ? -1 : 1;
	return strcmp(one->text, other->text);
}

int words_print(const struct words *words, size_t most, FILE *stream)
{
	const struct word **sorted = calloc(words->count + 1, sizeof(*sorted));
	size_t count = 0;
	int rc = 0;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < words->room; i++)
		for (const struct word *word = words->buckets[i]; word; word = word->next)
			sorted[count++] = word;
	qsort(sorted, count, sizeof(*sorted), by_frequency);
	for (size_t i = 0; i < count && i < most && !rc; i++)
		if (fprintf(stream, "%7" PRIu64 " %s\n", sorted[i]->times, sorted[i]->text) < 0)
			rc = -errno;
	free(sorted);
	return rc;
}

void words_fini(struct words *words)
{
	for (size_t i = 0; i < words->room; i++)
		for (struct word *word = words->buckets[i], *next; word; word = next) {
			next = word->next;
			free(word);
		}
	free(words->buckets);
	letters_fini(&words->head);
	letters_fini(&words->tail);
	*words = (struct words){ 0 };
}
