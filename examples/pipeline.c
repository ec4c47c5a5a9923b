/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pipeline: the smallest pipeline that does something. A source counts, a stage squares on
 * up to four workers at once, another passes on only every tenth, and the sink on the loop
 * prints and sums, in order.
 *
 *	$ examples/pipeline 50
 *	100 400 900 1600 2500
 *	sum 5500, as it should be
 *
 * Exit status: 0 if the sum is right, 1 if not or if something failed, 2 for a mistake in the
 * argument.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#include <evwork.h>

struct squares {
	uint64_t next, last, sum;
	int status;
};

static int count(struct evwork_emitter *out, void *arg)
{
	struct squares *squares = arg;
	int rc;

	if (squares->next > squares->last)
		return EVWORK_SOURCE_END;
	rc = evwork_emit(out, &squares->next);
	squares->next++;
	return rc ? rc : EVWORK_SOURCE_MORE;
}

static int square(struct evwork_emitter *out, void *item, void *arg)
{
	uint64_t number = *(uint64_t *)item, squared = number * number;

	(void)arg;
	return evwork_emit(out, &squared);
}

/* A stage may emit nothing for an item, or several. */
static int keep_round(struct evwork_emitter *out, void *item, void *arg)
{
	(void)arg;
	return *(uint64_t *)item % 100 == 0 ? evwork_emit(out, item) : 0;
}

static void print(struct evwork_pipeline *pipeline, void *item, void *arg)
{
	struct squares *squares = arg;

	(void)pipeline;
	printf(squares->sum ? " %" PRIu64 : "%" PRIu64, *(uint64_t *)item);
	squares->sum += *(uint64_t *)item;
}

static void done(struct evwork_pipeline *pipeline, int status, void *arg)
{
	((struct squares *)arg)->status = status;
	evwork_pipeline_free(pipeline);
}

static int run(struct squares *squares)
{
	struct evwork_stage stages[] = {
		{ .run = square, .item_size = sizeof(uint64_t), .width = 4 },
		{ .run = keep_round, .item_size = sizeof(uint64_t) },
	};
	struct evwork_pipeline_options options = {
		.source = count, .stages = stages, .stage_count = 2,
		.item_size = sizeof(uint64_t), .item = print, .done = done, .arg = squares,
	};
	struct event_base *base = event_base_new();
	struct evwork_pool *pool = NULL;
	struct evwork_loop *loop = NULL;
	struct evwork_pipeline *pipeline;
	int rc = base ? evwork_pool_new(NULL, &pool) : -1;

	if (rc == 0)
		rc = evwork_loop_new(base, pool, NULL, &loop);
	if (rc == 0)
		rc = evwork_pipeline_start(loop, &options, &pipeline);
	/* Returns when the pipeline has ended. */
	if (rc == 0 && event_base_dispatch(base) < 0)
		rc = -1;
	evwork_loop_free(loop);
	evwork_pool_free(pool);
	if (base)
		event_base_free(base);
	return rc ? rc : squares->status;
}

int main(int argc, char **argv)
{
	struct squares squares = { .next = 1, .last = 50 };
	uint64_t tens, sum;
	char *end = NULL;

	if (argc > 1)
		squares.last = strtoull(argv[1], &end, 10);
	if (argc > 2 || (end && *end) || squares.last > 1000000) {
		fprintf(stderr, "usage: pipeline [NUMBER]    at most 1000000\n");
		return 2;
	}
	if (run(&squares) != 0) {
		fprintf(stderr, "pipeline: it failed\n");
		return 1;
	}
	tens = squares.last / 10;
	sum = 100 * tens * (tens + 1) * (2 * tens + 1) / 6;
	printf("\nsum %" PRIu64 ", %s\n", squares.sum,
		squares.sum == sum ? "as it should be" : "which is wrong");
	return squares.sum == sum ? 0 : 1;
}
