/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Pipelines of random shape against a sequential program. What each stage does with an item
 * follows from the item, so what comes out is known: exactly, where order is kept. Of
 * every item it is noted how it ended, and of each stage how many calls ran at once.
 * EVWORK_STRESS_SEED repeats a run's choices, EVWORK_STRESS_CASE one case of it.
 */

#include "stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#define CASES 6000
#define STAGES_MOST 8
#define FAN_MOST 3
#define SOURCE_MOST 60
/* So many items can come of one pipeline; shapes that could make more are thinned. */
#define ITEMS_MOST 20000

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ (x >> 33);
}

/* The name says where it came from, the ticket is another for each that was emitted. */
struct item {
	uint64_t name;
	uint32_t ticket;
};

enum how { RUNS, STOPS, CANCELS_IN_STAGE, CANCELS_CTX, HOWS };

struct shape {
	int number;
	int stages, widths[STAGES_MOST], queues[STAGES_MOST], batches[STAGES_MOST];
	bool unordered[STAGES_MOST];
	int waits[STAGES_MOST];
	int window, threads, source_count, burst;
	int fail_one_in;            /* 0: nothing fails */
	int source_fails_at;        /* -1: it does not */
	int fans[STAGES_MOST];      /* most outputs for one */
	bool demand, push, skip;
	enum how how;
	int stop_at;                /* the delivery, or call, at which it is stopped */
	bool lingers;
};

static atomic_char ends[ITEMS_MOST * (STAGES_MOST + 2)];

struct trial;

struct position {
	struct trial *trial;
	int index;
	atomic_int running;
};

struct trial {
	struct world *world;
	struct shape shape;
	struct evwork_pipeline *pipeline;
	struct evwork_ctx *ctx;
	struct position positions[STAGES_MOST];
	bool keeps_order;
	int64_t bound;

	/* As the sequential program has it. */
	uint64_t expected[ITEMS_MOST];
	size_t expected_count, expected_failed;
	int expected_status;

	atomic_char *ends;          /* of each ticket */
	pthread_t thread;
	atomic_uint tickets;
	_Atomic int64_t alive, peak;
	atomic_int consumed, dropped, refused, wrong, calls;
	atomic_bool cancelled;
	int source_at, source_running;
	uint64_t delivered[ITEMS_MOST];
	size_t delivered_count;
	int64_t asked;
	bool stopped, in_item, may_push, ended;
	int dones, status;
	struct evwork_pipeline_stats stats;
};

/* What a stage does with an item: how many come of it, and whether it fails after so many. */
static int outputs_of(const struct shape *shape, int stage, uint64_t name, int *ret_rc)
{
	uint64_t draw = mix(name * 31 + (uint64_t)stage + 1);
	int most = shape->fans[stage], count = (int)(draw % (uint64_t)(most + 1));

	/* Most stages hand on what they get. */
	if (most <= 1)
		count = most == 1 || draw % 8 ? 1 : 0;
	*ret_rc = shape->fail_one_in && (draw >> 20) % (uint64_t)shape->fail_one_in == 0 ?
		-(int)(1000 + (draw >> 40) % 1000) : 0;
	return count;
}

static uint64_t name_of(uint64_t parent, int stage, int number)
{
	return mix(parent * 1000003 + (uint64_t)stage * 101 + (uint64_t)number + 7);
}

/* The sequential program. False if it makes too much. */
static bool follow(struct trial *trial, int stage, uint64_t name)
{
	int i, count, rc;

	if (stage == trial->shape.stages) {
		if (trial->expected_count == ITEMS_MOST)
			return false;
		trial->expected[trial->expected_count++] = name;
		return true;
	}
	count = outputs_of(&trial->shape, stage, name, &rc);
	for (i = 0; i < count && !trial->expected_status; i++)
		if (!follow(trial, stage + 1, name_of(name, stage, i)))
			return false;
	if (rc && !trial->expected_status) {
		trial->expected_failed++;
		if (!trial->shape.skip)
			trial->expected_status = rc;
	}
	return true;
}

static bool follow_all(struct trial *trial)
{
	int i;

	for (i = 0; i < trial->shape.source_count && !trial->expected_status; i++) {
		if (i == trial->shape.source_fails_at) {
			trial->expected_failed++;
			trial->expected_status = -77;
		} else if (!follow(trial, 0, mix((uint64_t)i + 1))) {
			return false;
		}
	}
	return true;
}

/* The pipeline. */

static void wrong(struct trial *trial, int what)
{
	atomic_fetch_or(&trial->wrong, what);
}

static void linger(const struct trial *trial, uint64_t name)
{
	uint64_t i;

	if (!trial->shape.lingers)
		return;
	for (i = mix(name + 5) % 200; i > 0; i--)
		sys_relax();
}

/* The item has ended in one way or another: only once. */
static void end_item(struct trial *trial, const struct item *item, atomic_int *counter)
{
	if (atomic_exchange(&trial->ends[item->ticket], 1) != 0)
		wrong(trial, 1);
	atomic_fetch_sub(&trial->alive, 1);
	if (counter)
		atomic_fetch_add(counter, 1);
}

static int emit(struct trial *trial, struct evwork_emitter *out, uint64_t name)
{
	struct item item = { .name = name, .ticket = atomic_fetch_add(&trial->tickets, 1) };
	int64_t alive = atomic_fetch_add(&trial->alive, 1) + 1, peak = atomic_load(&trial->peak);
	int rc;

	while (alive > peak && !atomic_compare_exchange_weak(&trial->peak, &peak, alive))
		;
	rc = out ? evwork_emit(out, &item) : evwork_pipeline_push(trial->pipeline, &item);
	if (rc) {
		if (rc != (out ? -EPIPE : -EAGAIN) && !(rc == -EPIPE))
			wrong(trial, 2);
		end_item(trial, &item, &trial->refused);
	}
	return rc;
}

static int source(struct evwork_emitter *out, void *arg)
{
	struct trial *trial = arg;
	const struct shape *shape = &trial->shape;
	int i, rc = 0;

	if (trial->source_running++)
		wrong(trial, 4);
	if (evwork_emit_room(out) < 1)
		wrong(trial, 8);
	for (i = 0; i < shape->burst && trial->source_at < shape->source_count && rc == 0; i++) {
		if (trial->source_at == shape->source_fails_at)
			rc = -77;
		else
			rc = emit(trial, out, mix((uint64_t)trial->source_at + 1));
		trial->source_at++;
	}
	trial->source_running--;
	if (rc)
		return rc;
	return trial->source_at == shape->source_count ? EVWORK_SOURCE_END : EVWORK_SOURCE_MORE;
}

/* One item of a call: emits what comes of it, and ends it. */
static int process(struct position *position, struct evwork_emitter *out, const struct item *item)
{
	struct trial *trial = position->trial;
	int i, rc, count = outputs_of(&trial->shape, position->index, item->name, &rc);

	linger(trial, item->name);
	for (i = 0; i < count; i++)
		if (emit(trial, out, name_of(item->name, position->index, i)) != 0)
			break;
	end_item(trial, item, &trial->consumed);
	return rc;
}

static void enter(struct position *position)
{
	struct trial *trial = position->trial;
	const struct shape *shape = &trial->shape;

	if (atomic_fetch_add(&position->running, 1) >= shape->widths[position->index])
		wrong(trial, 16);
	if (atomic_fetch_add(&trial->calls, 1) != shape->stop_at)
		return;
	if (shape->how == CANCELS_IN_STAGE && evwork_pipeline_cancel(trial->pipeline) == 0)
		atomic_store(&trial->cancelled, true);
	if (shape->how == CANCELS_CTX && evwork_ctx_cancel(trial->ctx, 0) == 0)
		atomic_store(&trial->cancelled, true);
}

static int run(struct evwork_emitter *out, void *item, void *arg)
{
	struct position *position = arg;
	int rc;

	enter(position);
	rc = process(position, out, item);
	atomic_fetch_sub(&position->running, 1);
	return rc;
}

static int run_batch(struct evwork_emitter *out, void *items, size_t count, void *arg)
{
	struct position *position = arg;
	struct trial *trial = position->trial;
	struct item *item = items;
	int rc = 0, each;
	size_t i;

	enter(position);
	if (count < 1 || count > (size_t)trial->shape.batches[position->index])
		wrong(trial, 32);
	for (i = 0; i < count; i++) {
		if (rc && !trial->shape.skip) {
			/* As a sequential program that has stopped. */
			end_item(trial, &item[i], &trial->consumed);
			continue;
		}
		each = process(position, out, &item[i]);
		rc = rc ? rc : each;
	}
	atomic_fetch_sub(&position->running, 1);
	return rc;
}

static void drop_in_stage(void *item, void *arg)
{
	struct trial *trial = ((struct position *)arg)->trial;

	end_item(trial, item, &trial->dropped);
}

static void drop_at_sink(void *item, void *arg)
{
	struct trial *trial = arg;

	end_item(trial, item, &trial->dropped);
}

static void ask(struct trial *trial)
{
	int n = chance(5) + 1, rc = evwork_pipeline_request(trial->pipeline, n);

	if (rc == 0)
		trial->asked += n;
	else if (rc != -EALREADY)
		wrong(trial, 64);
}

static void deliver(struct evwork_pipeline *pipeline, void *arg_item, void *arg)
{
	struct trial *trial = arg;
	struct item *item = arg_item;

	if (trial->in_item || trial->stopped || trial->dones ||
	    !pthread_equal(pthread_self(), trial->thread))
		wrong(trial, 128);
	trial->in_item = true;
	if (trial->delivered_count < ITEMS_MOST)
		trial->delivered[trial->delivered_count++] = item->name;
	if (trial->shape.demand && (int64_t)trial->delivered_count > trial->asked)
		wrong(trial, 256);
	end_item(trial, item, NULL);
	if (trial->shape.how == STOPS && (int)trial->delivered_count == trial->shape.stop_at + 1) {
		if (evwork_pipeline_stop(pipeline) != 0 && !atomic_load(&trial->cancelled))
			wrong(trial, 512);
		trial->stopped = true;
	} else if (trial->shape.demand && chance(2)) {
		ask(trial);
	}
	trial->in_item = false;
}

static void on_room(struct evwork_pipeline *pipeline, void *arg)
{
	struct trial *trial = arg;

	(void)pipeline;
	if (trial->may_push || trial->dones)
		wrong(trial, 1024);
	trial->may_push = true;
}

static void on_done(struct evwork_pipeline *pipeline, int status, void *arg)
{
	struct trial *trial = arg;

	trial->dones++;
	trial->status = status;
	if (evwork_pipeline_stats(pipeline, &trial->stats) != 0 ||
	    evwork_pipeline_free(pipeline) != 0 || trial->in_item)
		wrong(trial, 2048);
}

/* What the loop's side does between turns. */
static void attend(struct trial *trial)
{
	const struct shape *shape = &trial->shape;
	int rc = 0;

	if (shape->demand && (int64_t)trial->delivered_count == trial->asked)
		ask(trial);
	while (shape->push && trial->may_push && rc == 0 &&
	       trial->source_at < shape->source_count) {
		rc = emit(trial, NULL, mix((uint64_t)trial->source_at + 1));
		trial->source_at += rc == 0;
		trial->may_push = rc == 0;
	}
	if (shape->push && trial->source_at == shape->source_count && !trial->ended) {
		rc = evwork_pipeline_end(trial->pipeline);
		trial->ended = true;
		if (rc != 0 && rc != -EPIPE)
			wrong(trial, 4096);
	}
}

/* Shapes. */

static void draw_stages(struct shape *shape)
{
	int i, widest = 0;

	shape->stages = chance(STAGES_MOST + 1);
	for (i = 0; i < shape->stages; i++) {
		shape->widths[i] = chance(2) ? 1 : chance(4) + 1;
		shape->queues[i] = chance(16) + 1;
		shape->unordered[i] = chance(8) == 0;
		shape->batches[i] = chance(5) == 0 ? chance(6) + 1 : 0;
		shape->waits[i] = shape->batches[i] ? chance(2) : 0;
		shape->fans[i] = widest < 3 && chance(3) == 0 ? FAN_MOST : chance(2);
		widest += shape->fans[i] == FAN_MOST;
	}
}

static void draw(struct shape *shape, int number)
{
	memset(shape, 0, sizeof(*shape));
	shape->number = number;
	chance_seed((uint64_t)number);
	draw_stages(shape);
	shape->threads = chance(3) + 1;
	shape->window = chance(16) + 1;
	shape->source_count = chance(SOURCE_MOST);
	shape->burst = chance(4) == 0 ? chance(30) : chance(3) + 1;
	if (shape->burst == 0)
		shape->burst = 1;
	shape->push = chance(5) == 0;
	shape->source_fails_at = !shape->push && chance(8) == 0 ? chance(SOURCE_MOST) : -1;
	shape->fail_one_in = chance(2) ? 0 : chance(200) + 1;
	shape->skip = chance(2);
	shape->demand = chance(4) == 0;
	shape->how = chance(2) ? RUNS : (enum how)chance(HOWS);
	shape->stop_at = chance(60);
	shape->lingers = chance(2);
}

static bool keeps_order(const struct shape *shape)
{
	int i;

	for (i = 0; i < shape->stages; i++)
		if (shape->unordered[i] && shape->widths[i] > 1)
			return false;
	return true;
}

/* What S-PIPE-2 says of the items alive inside. */
static int64_t bound_of(const struct shape *shape)
{
	int64_t sum = shape->window + (shape->push ? 1 : shape->burst);
	int i;

	for (i = 0; i < shape->stages; i++) {
		int each = shape->batches[i] ? shape->batches[i] : 1;

		sum += shape->queues[i] + shape->widths[i];
		sum += (int64_t)shape->widths[i] * each * FAN_MOST;
	}
	return sum;
}

static void set_options(struct trial *trial, struct evwork_stage *stages,
	struct evwork_pipeline_options *options)
{
	const struct shape *shape = &trial->shape;
	int i;

	memset(stages, 0, STAGES_MOST * sizeof(*stages));
	memset(options, 0, sizeof(*options));
	for (i = 0; i < shape->stages; i++) {
		trial->positions[i].trial = trial;
		trial->positions[i].index = i;
		atomic_store(&trial->positions[i].running, 0);
		stages[i].arg = &trial->positions[i];
		stages[i].item_size = sizeof(struct item);
		stages[i].drop = drop_in_stage;
		stages[i].width = shape->widths[i];
		stages[i].queue = shape->queues[i];
		stages[i].unordered = shape->unordered[i];
		stages[i].batch = shape->batches[i];
		stages[i].batch_wait_ms = shape->waits[i];
		if (shape->batches[i])
			stages[i].run_batch = run_batch;
		else
			stages[i].run = run;
	}
	options->source = shape->push ? NULL : source;
	options->stages = stages;
	options->stage_count = (size_t)shape->stages;
	options->item_size = sizeof(struct item);
	options->item = deliver;
	options->drop = drop_at_sink;
	options->window = shape->window;
	options->done = on_done;
	options->room = shape->push ? on_room : NULL;
	options->arg = trial;
	options->policy = shape->skip ? EVWORK_PIPELINE_SKIP : EVWORK_PIPELINE_STOP;
	options->demand = shape->demand;
	options->ctx = trial->ctx;
}

/* Judging. */

static int by_name(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Each that was delivered is one of those that can come, and none came too often. */
static bool is_part_of(uint64_t *part, size_t count, uint64_t *all, size_t all_count)
{
	size_t i, k = 0;

	qsort(part, count, sizeof(*part), by_name);
	qsort(all, all_count, sizeof(*all), by_name);
	for (i = 0; i < count; i++, k++) {
		while (k < all_count && all[k] < part[i])
			k++;
		if (k == all_count || all[k] != part[i])
			return false;
	}
	return true;
}

static void judge_items(struct trial *trial)
{
	const struct shape *shape = &trial->shape;
	int n = shape->number;
	bool whole = trial->status != -ECANCELED;

	if (trial->keeps_order) {
		expect(trial->delivered_count <= trial->expected_count, "case %d", n);
		expect(!whole || trial->delivered_count == trial->expected_count,
			"case %d: %zu of %zu", n, trial->delivered_count, trial->expected_count);
		expect(memcmp(trial->delivered, trial->expected,
			trial->delivered_count * sizeof(uint64_t)) == 0, "case %d", n);
		expect(!whole || trial->status == trial->expected_status, "case %d: %d for %d",
			n, trial->status, trial->expected_status);
		return;
	}
	/* Which of several errors is first depends on who is quickest. */
	if (trial->expected_status) {
		expect(trial->status < 0, "case %d", n);
		return;
	}
	expect(!whole || trial->delivered_count == trial->expected_count, "case %d", n);
	expect(!whole || trial->status == 0, "case %d", n);
	expect(is_part_of(trial->delivered, trial->delivered_count, trial->expected,
		trial->expected_count), "case %d", n);
}

static bool has_batches(const struct shape *shape)
{
	int i;

	for (i = 0; i < shape->stages; i++)
		if (shape->batches[i])
			return true;
	return false;
}

static void judge(struct trial *trial)
{
	const struct shape *shape = &trial->shape;
	const struct evwork_pipeline_stats *stats = &trial->stats;
	int n = shape->number;
	unsigned accepted = atomic_load(&trial->tickets) - (unsigned)atomic_load(&trial->refused);

	expect(atomic_load(&trial->wrong) == 0, "case %d: %d", n, atomic_load(&trial->wrong));
	expect(trial->dones == 1, "case %d", n);
	expect(atomic_load(&trial->alive) == 0, "case %d: %d", n, (int)atomic_load(&trial->alive));
	expect(accepted == (unsigned)(trial->delivered_count + (size_t)atomic_load(&trial->dropped) +
		(size_t)atomic_load(&trial->consumed)), "case %d", n);
	expect(atomic_load(&trial->peak) <= trial->bound, "case %d: %d above %d", n,
		(int)atomic_load(&trial->peak), (int)trial->bound);
	expect(stats->inside == 0, "case %d: %d", n, (int)stats->inside);
	expect(stats->delivered == trial->delivered_count, "case %d", n);
	expect(stats->dropped == (uint64_t)atomic_load(&trial->dropped), "case %d", n);
	expect(stats->peak <= (uint64_t)trial->bound, "case %d", n);
	expect(!trial->stopped || trial->status == -ECANCELED, "case %d", n);
	if (trial->status == -ECANCELED)
		expect(trial->stopped || atomic_load(&trial->cancelled), "case %d", n);
	else if (shape->skip && !trial->expected_status && !has_batches(shape))
		expect(stats->failed == trial->expected_failed, "case %d", n);
	judge_items(trial);
}

static void run_case(struct world *world, int number)
{
	static struct trial trial;
	struct evwork_stage stages[STAGES_MOST];
	struct evwork_pipeline_options options;

	memset(&trial, 0, sizeof(trial));
	draw(&trial.shape, number);
	trial.keeps_order = keeps_order(&trial.shape);
	trial.bound = bound_of(&trial.shape);
	trial.thread = pthread_self();
	trial.may_push = true;
	trial.ends = ends;
	if (!follow_all(&trial))
		return;
	memset(ends, 0, sizeof(ends));
	ck_assert_int_eq(evwork_ctx_new(NULL, &trial.ctx), 0);
	set_options(&trial, stages, &options);
	expect(evwork_pipeline_start(world->loop, &options, &trial.pipeline) == 0,
		"case %d", number);
	while (!trial.dones) {
		attend(&trial);
		event_base_loop(world->base, EVLOOP_NONBLOCK);
		sched_yield();
	}
	judge(&trial);
	evwork_ctx_unref(trial.ctx);
}

static int threads_of(int number)
{
	struct shape shape;

	draw(&shape, number);
	return shape.threads;
}

/* Order, exactly once, the bounds of what is inside and of how many run, errors, stops,
 * demand, and who drops what (S-PIPE-2, -4, -5, -7, -8, -9, -10, -11, -12, S-GEN-18). */
START_TEST(random_shapes)
{
	const char *only = getenv("EVWORK_STRESS_CASE");
	int i, first = 0, count = scaled(CASES);
	struct world worlds[4];

	if (only) {
		first = atoi(only);
		count = 1;
	}
	for (i = 1; i < 4; i++)
		world_open(&worlds[i], i);
	for (i = first; i < first + count; i++)
		run_case(&worlds[threads_of(i)], i);
	for (i = 1; i < 4; i++)
		world_close(&worlds[i]);
}
END_TEST

static Suite *suite(void)
{
	Suite *random = suite_create("pipeline_random");

	tcase_add_test(support_case(random, "random"), random_shapes);
	return random;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
