/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fanout DIR: the most frequent words of all regular files under DIR, byte for byte
 * what this prints:
 *
 *	find DIR -type f -print0 | LC_ALL=C sort -z | xargs -0 cat |
 *	LC_ALL=C tr A-Z a-z | LC_ALL=C tr -cs a-z '\n' | LC_ALL=C sort | uniq -c |
 *	LC_ALL=C sort -k1,1nr -k2 | head -n 10
 *
 * It shows fan-out and fan-in with evwork_map. The first map counts: each file is an
 * element, and gets a table of its own, so that workers share nothing. The next ones
 * merge: each element is a pair of neighbours, of which the right one is added to the
 * left one, and there are half as many each time:
 *
 *	files     0   1   2   3   4
 *	          └─┬─┘   └─┬─┘   │        stride 1
 *	            0       2     4
 *	            └───┬───┘     │        stride 2
 *	                0         4
 *	                └────┬────┘        stride 4
 *	                     0
 *
 * As cat puts no newline between files, the last letters of a file and the first of the
 * next one are one word. So neighbours must stay neighbours: that is why the list of
 * files is sorted, and why the merge is a tree over that list. In front of everything
 * tr may leave an empty word. See fanout_words.h.
 *
 *	fanout.c            list of files, maps, Ctrl-C, exit status
 *	fanout_words.c      words and how often each occurs
 *	treesum_walk.c      a directory tree in the order of its paths
 *
 * Exit status: 0, 1 if something could not be read or written, 2 for a mistake in the
 * arguments, 130 after Ctrl-C. A second Ctrl-C kills, and so does one while the list of
 * files is still being made.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for optind and O_NOFOLLOW under -std=c11 */
#endif
#define _FILE_OFFSET_BITS 64 /* large files on small machines */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include <evwork.h>

#include "command_line.h"
#include "fanout_words.h"
#include "treesum_walk.h"

/* Large enough that system calls do not count, small enough for the cache. */
#define PIECE (64 * 1024)

#define EXIT_INTERRUPTED (128 + SIGINT)

struct arguments {
	const char *root;
	uint64_t most;           /* words to print */
	uint64_t workers;        /* 0: one per CPU */
};

struct file {
	char *path;
	struct words words;      /* of this file, and later of those merged into it */
};

struct fanout {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct event *interrupt;
	struct evwork_map *map;  /* the one under way */
	struct file *files;
	size_t count;
	size_t room;
	size_t stride;           /* of the merge under way */
	bool interrupted;
	bool faulty;             /* something could not be read */
	int error;               /* why the maps ended early, a status */
};

/* Errors of one file are told and the rest is done. */
static void fault(struct fanout *fanout, const char *path, int error)
{
	(void)fprintf(stderr, "fanout: %s: %s\n", path, strerror(error));
	fanout->faulty = true;
}

/* ---- the list of files ---- */

static int file_add(struct fanout *fanout, const char *path)
{
	if (fanout->count == fanout->room) {
		size_t room = fanout->room ? 2 * fanout->room : 256;
		struct file *files = realloc(fanout->files, room * sizeof(*files));

		if (!files)
			return -ENOMEM;
		fanout->files = files;
		fanout->room = room;
	}
	fanout->files[fanout->count] = (struct file){ .path = strdup(path) };
	if (!fanout->files[fanout->count].path)
		return -ENOMEM;
	fanout->count++;
	return 0;
}

static int files_list(struct fanout *fanout, const char *root)
{
	struct walk *walk;
	const char *path;
	int event, error, rc = walk_new(root, &walk);

	if (rc)
		return rc;
	while (!rc && (event = walk_next(walk, &path, &error)) != WALK_END) {
		if (event == WALK_FILE)
			rc = file_add(fanout, path);
		else if (event == WALK_FAULT)
			fault(fanout, path, error);
		else if (event < 0)
			rc = event;
	}
	walk_free(walk);
	return rc;
}

/* ---- on a worker ---- */

/* Between two pieces it asks whether to go on, so Ctrl-C works within huge files. */
static int pieces_count(struct evwork_map *map, int fd, struct words *words)
{
	char piece[PIECE];

	for (;;) {
		int rc = evwork_ctx_err(evwork_map_ctx(map));
		ssize_t got;

		if (rc)
			return rc;
		got = read(fd, piece, sizeof(piece));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : 0;
		rc = words_feed(words, piece, (size_t)got);
		if (rc)
			return rc;
	}
}

/*
 * In the meantime the name may have come to mean something else: a link is not
 * followed, and opening a FIFO must not wait for its writer.
 */
static int file_count(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct file *file = item;
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int rc;

	(void)index;
	(void)result;
	if (fd < 0)
		return -errno;
	rc = pieces_count(map, fd, &file->words);
	(void)close(fd); /* nothing was written */
	return rc;
}

static int pair_merge(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct fanout *fanout = evwork_map_arg(map);
	size_t left = 2 * fanout->stride * index;
	size_t right = left + fanout->stride;

	(void)item;
	(void)result;
	return words_append(&fanout->files[left].words, &fanout->files[right].words);
}

/* ---- on the loop ---- */

static void merge_done(struct evwork_map *map, int status, void *arg);

/* Takes away what keeps the loop running; dispatch then returns. */
static void maps_end(struct fanout *fanout, int status)
{
	fanout->error = status;
	(void)event_del(fanout->interrupt);
}

/* How many files have a right neighbour at this distance. */
static size_t pairs(size_t count, size_t stride)
{
	return count > stride ? (count - stride - 1) / (2 * stride) + 1 : 0;
}

static void merge_start(struct fanout *fanout)
{
	struct evwork_map_options options = { 0 };
	int rc;

	options.count = pairs(fanout->count, fanout->stride);
	options.fn = pair_merge;
	options.done = merge_done;
	options.arg = fanout;
	if (options.count == 0 || fanout->interrupted) {
		maps_end(fanout, 0);
		return;
	}
	rc = evwork_map_start(fanout->loop, &options, &fanout->map);
	if (rc)
		maps_end(fanout, rc);
}

static void merge_done(struct evwork_map *map, int status, void *arg)
{
	struct fanout *fanout = arg;

	(void)evwork_map_free(map); /* in its done that cannot fail */
	fanout->stride *= 2;
	if (status)
		maps_end(fanout, status);
	else
		merge_start(fanout);
}

/* A file that could not be read to its end counts as far as it was, as with cat. */
static void count_done(struct evwork_map *map, int status, void *arg)
{
	struct fanout *fanout = arg;

	(void)status; /* that of the first file that failed, and told with it */
	for (size_t i = 0; i < fanout->count && !fanout->interrupted; i++) {
		int error;

		if (evwork_map_state(map, i, &error) != EVWORK_MEMBER_OK)
			fault(fanout, fanout->files[i].path, -error);
	}
	(void)evwork_map_free(map); /* in its done that cannot fail */
	fanout->stride = 1;
	merge_start(fanout);
}

static int count_start(struct fanout *fanout)
{
	struct evwork_map_options options = { 0 };

	options.items = fanout->files;
	options.item_size = sizeof(*fanout->files);
	options.count = fanout->count;
	options.fn = file_count;
	options.done = count_done;
	options.arg = fanout;
	options.errors = EVWORK_MAP_COLLECT;
	options.grain = 1; /* files differ wildly in size */
	return evwork_map_start(fanout->loop, &options, &fanout->map);
}

static void on_interrupt(evutil_socket_t signal, short what, void *arg)
{
	struct fanout *fanout = arg;

	(void)signal;
	(void)what;
	(void)event_del(fanout->interrupt); /* the next one has its usual effect */
	fanout->interrupted = true;
	(void)evwork_map_cancel(fanout->map, 0); /* -EALREADY: its done is to come */
}

/* ---- set-up ---- */

static int fanout_init(struct fanout *fanout, const struct arguments *arguments)
{
	struct evwork_pool_options options = { 0 };
	int rc = files_list(fanout, arguments->root);

	if (rc)
		return rc;
	options.name = "fanout";
	options.threads = (int)arguments->workers;
	fanout->base = event_base_new();
	if (!fanout->base)
		return -ENOMEM;
	rc = evwork_pool_new(&options, &fanout->pool);
	if (!rc)
		rc = evwork_loop_new(fanout->base, fanout->pool, NULL, &fanout->loop);
	if (rc)
		return rc;
	fanout->interrupt = evsignal_new(fanout->base, SIGINT, on_interrupt, fanout);
	if (!fanout->interrupt || event_add(fanout->interrupt, NULL))
		return -ENOMEM;
	return 0;
}

static int fanout_run(struct fanout *fanout, size_t most)
{
	int rc = count_start(fanout);

	if (rc)
		return rc;
	if (event_base_dispatch(fanout->base) < 0)
		return -EIO;
	if (fanout->error || fanout->interrupted || fanout->count == 0)
		return fanout->error;
	rc = words_end(&fanout->files[0].words);
	if (!rc)
		rc = words_print(&fanout->files[0].words, most, stdout);
	return rc;
}

/* Ends a fanout in any state in which no map is under way. */
static int fanout_fini(struct fanout *fanout)
{
	int rc, pool_rc;

	if (fanout->interrupt)
		event_free(fanout->interrupt);
	rc = evwork_loop_free(fanout->loop);
	pool_rc = evwork_pool_free(fanout->pool);
	if (fanout->base)
		event_base_free(fanout->base);
	for (size_t i = 0; i < fanout->count; i++) {
		words_fini(&fanout->files[i].words);
		free(fanout->files[i].path);
	}
	free(fanout->files);
	return rc ? rc : pool_rc;
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: fanout [-w WORKERS] [-n TOP] [--] DIR\n"
	"Prints the words that are most frequent in the regular files under DIR. Words are\n"
	"made of the letters a to z; A to Z count as these.\n"
	"  -w WORKERS  threads that count, 1 to 1024; one per CPU if not given\n"
	"  -n TOP      how many words; 10 if not given\n"
	"  -h          this text\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'n':
		return number_parse(text, 0, SIZE_MAX, &arguments->most);
	case 'w':
		return number_parse(text, 1, EVWORK_THREADS_MAX, &arguments->workers);
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "fanout", .usage = usage, .options = "hn:w:", .operands = 1,
		.set = argument_set
	};
	struct arguments arguments = { .most = 10 };
	struct fanout fanout = { 0 };
	int status = command_line_parse(&line, argc, argv, &arguments);
	int rc, end;

	if (status >= 0)
		return status;
	arguments.root = argv[optind];
	rc = fanout_init(&fanout, &arguments);
	if (!rc)
		rc = fanout_run(&fanout, (size_t)arguments.most);
	if (rc)
		(void)fprintf(stderr, "fanout: %s\n", evwork_strerror(rc));
	end = fanout_fini(&fanout);
	if (end)
		(void)fprintf(stderr, "fanout: end: %s\n", evwork_strerror(end));
	if (fclose(stdout) && !rc) { /* some file systems are full only now */
		rc = -errno;
		(void)fprintf(stderr, "fanout: write error: %s\n", strerror(errno));
	}
	if (fanout.interrupted)
		return EXIT_INTERRUPTED;
	return rc || end || fanout.faulty ? EXIT_FAILURE : EXIT_SUCCESS;
}
