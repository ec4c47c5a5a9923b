/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the walk to the printed line.
 *
 *	walk ──step──► window (listed → hashing → hashed) ──► out ──► descriptor
 *
 * The window is a list of files in the order of their paths. The walk adds to
 * its end, a few files with each step; jobs hash what is in it, in any order
 * of ending; what is hashed at its front is printed. Each of these three waits
 * when what is behind it is full, so memory is bounded however large the tree
 * is:
 *
 * - printing waits while the output has no room,
 * - hashing waits while its lane is full: submit says -EAGAIN,
 * - walking waits while the window has no room for another step.
 *
 * Whatever makes room (a job that ends, bytes that are written) calls advance(),
 * which tries all three. The window is much longer than the lane's queue, so that
 * one huge file at its front leaves the other workers enough to do.
 *
 * The walk has a lane of higher priority: its next step is always more urgent
 * than one more file, as it is what keeps the workers busy.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "treesum_order.h"

#define WINDOW 8192      /* files, about 400 bytes each */
#define QUEUE 512        /* jobs that wait for a worker */
#define STEP_FILES 64    /* a step ends after so many files … */
#define STEP_READS 16    /* … or after so many directories */

struct file {
	struct evwork_job job;
	struct order *order;
	struct file *next;
	bool through;            /* can be printed */
	int status;              /* then: 0 or what went wrong */
	uint64_t bytes;
	unsigned char digest[HASH_LENGTH];
	char path[];
};

static void advance(struct order *order);

/* ---- on a worker ---- */

static int file_hash(struct evwork_job *job)
{
	struct file *file = EVWORK_CONTAINER(job, struct file, job);

	return hash_file(file->order->hash, job, file->path, file->digest, &file->bytes);
}

static int step_add(struct step *step, const char *path, int error)
{
	size_t length = strlen(path) + 1;
	struct file *file = calloc(1, sizeof(*file) + length);

	if (!file)
		return -ENOMEM;
	memcpy(file->path, path, length);
	file->order = step->order;
	file->through = error != 0;
	file->status = -error;
	if (step->last)
		step->last->next = file;
	else
		step->first = file;
	step->last = file;
	step->count++;
	return 0;
}

static int step_walk(struct evwork_job *job)
{
	struct step *step = EVWORK_CONTAINER(job, struct step, job);
	int reads = 0;
	int rc = 0;

	while (!rc && !step->ended && step->count < STEP_FILES && reads < STEP_READS) {
		const char *path = NULL;
		int error = 0;
		int event = walk_next(step->walk, &path, &error);

		if (event < 0)
			return event;
		if (event == WALK_END)
			step->ended = true;
		else if (event == WALK_DIRECTORY)
			reads++;
		else
			rc = step_add(step, path, event == WALK_FAULT ? error : 0);
		if (!rc)
			rc = evwork_job_err(job);
	}
	return rc;
}

/* ---- on the loop ---- */

static void stop(struct order *order)
{
	if (order->stopped)
		return;
	order->stopped = true;
	out_discard(order->out);
	(void)evwork_ctx_cancel(order->ctx, 0); /* cannot be dead: only this kills it */
}

/* It cannot go on: memory or the output has failed. Said once. */
static void fail(struct order *order, const char *what, int error)
{
	if (!order->failed)
		console_report(order->console, what, error);
	order->failed = true;
	stop(order);
}

static void file_done(struct evwork_job *job, int status)
{
	struct file *file = EVWORK_CONTAINER(job, struct file, job);
	struct order *order = file->order;

	file->through = true;
	file->status = status;
	order->hashing--;
	if (!status) {
		order->files++;
		order->bytes += file->bytes;
	}
	advance(order);
}

/* What a step found before it was stopped or failed is in the window, too. */
static void step_done(struct evwork_job *job, int status)
{
	struct step *step = EVWORK_CONTAINER(job, struct step, job);
	struct order *order = step->order;

	order->walking = false;
	order->walked = step->ended;
	order->window += step->count;
	if (step->first) {
		if (order->last)
			order->last->next = step->first;
		else
			order->first = step->first;
		order->last = step->last;
		if (!order->unsent)
			order->unsent = step->first;
	}
	step->first = step->last = NULL;
	step->count = 0;
	if (status && !order->stopped)
		fail(order, "walk", -status);
	advance(order);
}

static void file_print(struct order *order, struct file *file)
{
	int rc;

	if (file->status) {
		order->faulty = true;
		console_report(order->console, file->path, -file->status);
		return;
	}
	console_yield(order->console);
	rc = out_line(order->out, file->digest, sizeof(file->digest), file->path);
	if (rc)
		fail(order, "output", -rc);
}

static struct file *window_take(struct order *order)
{
	struct file *file = order->first;

	order->first = file->next;
	if (!order->first)
		order->last = NULL;
	if (order->unsent == file)
		order->unsent = file->next;
	order->window--;
	return file;
}

static void print(struct order *order)
{
	while (!order->stopped && order->first && order->first->through
	       && out_has_room(order->out)) {
		struct file *file = window_take(order);

		file_print(order, file);
		free(file);
	}
}

/* Full means that many jobs are on their way; the end of one brings us back. */
static void hash(struct order *order)
{
	while (!order->stopped && order->unsent) {
		struct file *file = order->unsent;

		if (!file->through) {
			int rc;

			evwork_job_init(&file->job, file_hash, file_done);
			file->job.ctx = order->ctx;
			file->job.lane = order->hash_lane;
			rc = evwork_submit(order->loop, &file->job);
			if (rc == -EAGAIN)
				return;
			if (rc) {
				fail(order, "submit", -rc);
				return;
			}
			order->hashing++;
		}
		order->unsent = file->next;
	}
}

static void walk(struct order *order)
{
	int rc;

	if (order->stopped || order->walking || order->walked
	    || order->window + STEP_FILES > WINDOW)
		return;
	rc = evwork_submit(order->loop, &order->step.job);
	if (rc)
		fail(order, "submit", -rc);
	else
		order->walking = true;
}

static bool at_end(const struct order *order)
{
	if (order->walking || order->hashing)
		return false;
	if (order->stopped)
		return true;
	return order->walked && !order->first && out_is_empty(order->out);
}

static void advance(struct order *order)
{
	print(order);
	hash(order);
	walk(order);
	if (at_end(order))
		order->ended(order);
}

static void written(int error, void *arg)
{
	struct order *order = arg;

	if (error)
		fail(order, "write error", error);
	advance(order);
}

/* ---- its life ---- */

static int lanes_new(struct order *order)
{
	struct evwork_pool *pool = evwork_loop_pool(order->loop);
	struct evwork_lane_options walk_options = { 0 }, hash_options = { 0 };
	int rc;

	walk_options.name = "walk";
	walk_options.priority = 1;
	walk_options.queue_limit = 1;
	rc = evwork_lane_new(pool, &walk_options, &order->walk_lane);
	if (rc)
		return rc;
	hash_options.name = "hash";
	hash_options.queue_limit = QUEUE;
	return evwork_lane_new(pool, &hash_options, &order->hash_lane);
}

int order_init(struct order *order, struct evwork_loop *loop, const char *root,
	struct console *console, void (*ended)(struct order *order))
{
	int rc;

	order->loop = loop;
	order->console = console;
	order->ended = ended;
	rc = out_new(evwork_loop_base(loop), STDOUT_FILENO, written, order, &order->out);
	if (!rc)
		rc = walk_new(root, &order->step.walk);
	if (!rc)
		rc = hash_new(&order->hash);
	if (!rc)
		rc = evwork_ctx_new(NULL, &order->ctx);
	if (!rc)
		rc = lanes_new(order);
	if (rc)
		return rc;
	evwork_job_init(&order->step.job, step_walk, step_done);
	order->step.job.ctx = order->ctx;
	order->step.job.lane = order->walk_lane;
	order->step.order = order;
	return 0;
}

/* The lanes go with their pool if they are still there then. */
void order_fini(struct order *order)
{
	while (order->first)
		free(window_take(order));
	(void)evwork_lane_free(order->hash_lane);
	(void)evwork_lane_free(order->walk_lane);
	evwork_ctx_unref(order->ctx);
	hash_free(order->hash);
	walk_free(order->step.walk);
	out_free(order->out);
}

int order_start(struct order *order)
{
	int rc = evwork_submit(order->loop, &order->step.job);

	order->walking = rc == 0;
	return rc;
}

void order_stop(struct order *order)
{
	stop(order);
	advance(order);
}
