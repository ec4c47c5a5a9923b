/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the walk to the printed line.
 *
 *	walk ──► read ──► hash ──► print ──► descriptor
 *	         8192       32     8192
 *
 * Each queue is bounded, and each step waits when the next queue is full, so memory is
 * bounded however large the tree is. Between read and hash travel the pieces, so this
 * queue is short. That in front of print is much longer: results wait there for the
 * files before them, and so one huge file leaves the other workers enough to do.
 *
 * What cannot be read travels on in its place, and is told where its line would be.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "treesum_order.h"

#define PATHS 8192       /* about 100 bytes each */
#define PIECES 32        /* 128 KiB each at most */
#define LINES 8192       /* about 150 bytes each */
#define ASK 256          /* lines asked for at once */

/* The item of the pipeline is a pointer to one of these. */
struct file {
	int status;              /* 0, or what went wrong */
	struct piece *piece;     /* that was read and is to be hashed */
	uint64_t bytes;
	unsigned char digest[HASH_LENGTH];
	char path[];
};

static void file_free(struct file *file)
{
	piece_free(file->piece);
	free(file);
}

static void file_drop(void *item, void *arg)
{
	(void)arg;
	file_free(*(struct file **)item);
}

/* ---- on workers ---- */

static int file_emit(struct evwork_emitter *out, struct file *file)
{
	int rc = evwork_emit(out, &file);

	if (rc)
		file_free(file);
	return rc;
}

static int path_emit(struct evwork_emitter *out, const char *path, int error)
{
	size_t length = strlen(path) + 1;
	struct file *file = calloc(1, sizeof(*file) + length);

	if (!file)
		return -ENOMEM;
	memcpy(file->path, path, length);
	file->status = -error;
	return file_emit(out, file);
}

static int walk(struct evwork_emitter *out, void *arg)
{
	struct order *order = arg;
	int rc = 0;

	while (!rc && evwork_emit_room(out) > 0) {
		const char *path = NULL;
		int error = 0, event = walk_next(order->walk, &path, &error);

		if (event < 0)
			return event;
		if (event == WALK_END)
			return EVWORK_SOURCE_END;
		if (event == WALK_DIRECTORY)
			break;
		rc = path_emit(out, path, event == WALK_FAULT ? error : 0);
	}
	return rc ? rc : EVWORK_SOURCE_MORE;
}

static int read_first(struct evwork_emitter *out, void *item, void *arg)
{
	struct file *file = *(struct file **)item;

	(void)arg;
	if (!file->status)
		file->status = piece_first(file->path, &file->piece);
	return file_emit(out, file);
}

static int digest(struct evwork_emitter *out, void *item, void *arg)
{
	struct file *file = *(struct file **)item;
	struct order *order = arg;

	if (!file->status)
		file->status = hash_pieces(order->hash, out, file->piece, file->digest, &file->bytes);
	piece_free(file->piece);
	file->piece = NULL;
	return file_emit(out, file);
}

/* ---- on the loop ---- */

static void end_if_over(struct order *order)
{
	if (order->done && out_is_empty(order->out))
		order->ended(order);
}

/* No more files; what was printed is still written. */
static void cut(struct order *order)
{
	if (!order->cut)
		(void)evwork_pipeline_stop(order->pipeline); /* -EALREADY: done is to come */
	order->cut = true;
}

void order_stop(struct order *order)
{
	out_discard(order->out);
	cut(order);
	end_if_over(order);
}

/* It cannot go on: memory or the output has failed. Said once. */
static void fail(struct order *order, const char *what, int error)
{
	if (!order->failed)
		console_report(order->console, what, error);
	order->failed = true;
	out_discard(order->out);
	cut(order);
}

/* Asks for more lines if there is room for them in the output. */
static void ask(struct order *order)
{
	if (!order->cut && order->asked == 0 && out_has_room(order->out) &&
	    !evwork_pipeline_request(order->pipeline, ASK))
		order->asked = ASK;
}

static void file_print(struct order *order, struct file *file)
{
	int rc;

	if (file->status) {
		order->faulty = true;
		console_report(order->console, file->path, -file->status);
		if (order->first_error_ends)
			cut(order);
		return;
	}
	order->files++;
	order->bytes += file->bytes;
	console_yield(order->console);
	rc = out_line(order->out, file->digest, sizeof(file->digest), file->path);
	if (rc)
		fail(order, "output", -rc);
}

static void print(struct evwork_pipeline *pipeline, void *item, void *arg)
{
	struct file *file = *(struct file **)item;
	struct order *order = arg;

	(void)pipeline;
	order->asked--;
	file_print(order, file);
	file_free(file);
	ask(order);
}

static void done(struct evwork_pipeline *pipeline, int status, void *arg)
{
	struct order *order = arg;

	(void)pipeline;
	order->done = true;
	if (status && !order->cut)
		fail(order, "walk", -status);
	end_if_over(order);
}

static void written(int error, void *arg)
{
	struct order *order = arg;

	if (error)
		fail(order, "write error", error);
	ask(order);
	end_if_over(order);
}

/* ---- its life ---- */

int order_init(struct order *order, struct evwork_loop *loop, const char *root,
	struct console *console, void (*ended)(struct order *order))
{
	int rc;

	order->loop = loop;
	order->console = console;
	order->ended = ended;
	rc = out_new(evwork_loop_base(loop), STDOUT_FILENO, written, order, &order->out);
	if (!rc)
		rc = walk_new(root, &order->walk);
	return rc ? rc : hash_new(&order->hash);
}

void order_fini(struct order *order)
{
	(void)evwork_pipeline_free(order->pipeline);
	hash_free(order->hash);
	walk_free(order->walk);
	out_free(order->out);
}

int order_start(struct order *order, int threads)
{
	struct evwork_stage stages[] = {
		{ .run = read_first, .width = threads, .queue = PATHS },
		{ .run = digest, .width = threads, .queue = PIECES },
	};
	struct evwork_pipeline_options options = {
		.source = walk, .stages = stages, .stage_count = 2, .item = print,
		.window = LINES, .demand = 1, .done = done, .arg = order,
		.item_size = sizeof(struct file *), .drop = file_drop,
	};
	int rc;

	for (size_t i = 0; i < options.stage_count; i++) {
		stages[i].item_size = sizeof(struct file *);
		stages[i].drop = file_drop;
	}
	rc = evwork_pipeline_start(order->loop, &options, &order->pipeline);
	if (!rc)
		ask(order);
	return rc;
}
