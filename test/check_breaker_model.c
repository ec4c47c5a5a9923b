/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A breaker against a plain model of one that keeps every outcome and counts anew each
 * time, over a million random outcomes in random configurations; and breakers that many
 * threads use at once. EVWORK_STRESS_SEED repeats a run of the first kind.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "breaker_scene.h"

/* The model. */

enum { HISTORY = 512, PERMITS = 24 };

struct outcome { bool failure, slow; int64_t at; };

struct model {
	struct evwork_breaker_options options;     /* with all values set */
	enum evwork_breaker_state state;
	uint64_t generation, transitions;
	int64_t now, began, until;                 /* until: -1 for never */
	struct outcome history[HISTORY];           /* of this generation, the last ones */
	int count;                                 /* how many are there */
	int row, admitted, out, openings;
	uint64_t success, failure, slow, ignored, stale, refused;
};

static void model_enter(struct model *model, enum evwork_breaker_state state)
{
	model->generation++;
	model->state = state;
	model->began = model->now;
	model->until = -1;
	model->count = model->row = model->admitted = model->out = 0;
	if (state == EVWORK_BREAKER_CLOSED)
		model->openings = 0;
	if (state == EVWORK_BREAKER_OPEN) {
		double wait = (double)model->options.open_ms * (double)MS;
		double cap = (double)model->options.open_max_ms * (double)MS;
		int i;

		for (i = 0; i < model->openings && wait < cap; i++)
			wait *= model->options.open_factor;
		model->openings++;
		model->until = model->now + (int64_t)(wait < cap ? wait : cap);
	}
	if (state == EVWORK_BREAKER_HALF_OPEN && model->options.half_open_ms)
		model->until = model->now + model->options.half_open_ms * MS;
}

static void model_move(struct model *model, enum evwork_breaker_state state)
{
	model_enter(model, state);
	model->transitions++;
}

static void model_advance(struct model *model)
{
	if (model->until < 0 || model->now < model->until)
		return;
	model_move(model, model->state == EVWORK_BREAKER_OPEN ? EVWORK_BREAKER_HALF_OPEN :
		model->options.undecided_closes ? EVWORK_BREAKER_CLOSED : EVWORK_BREAKER_OPEN);
}

static int model_acquire(struct model *model)
{
	int rc = 0;

	model_advance(model);
	if (model->state == EVWORK_BREAKER_OPEN || model->state == EVWORK_BREAKER_FORCED_OPEN)
		rc = -EHOSTDOWN;
	else if (model->state == EVWORK_BREAKER_HALF_OPEN &&
		 model->admitted == model->options.trials)
		rc = -EBUSY;
	if (rc == 0 && model->state == EVWORK_BREAKER_HALF_OPEN) {
		model->admitted++;
		model->out++;
	}
	model->refused += rc != 0;
	return rc;
}

static int smaller(int a, int b)
{
	return a < b ? a : b;
}

/* Whether the outcome is in the window now; age counts from the newest, which is 0. */
static bool in_window(const struct model *model, int age)
{
	const struct evwork_breaker_options *options = &model->options;
	int64_t slot = options->slot_ms * MS;

	if (model->state == EVWORK_BREAKER_HALF_OPEN)
		return true;
	if (!slot)
		return age < options->window;
	return (model->history[model->count - 1 - age].at - model->began) / slot >
		(model->now - model->began) / slot - options->window;
}

static void model_rates(const struct model *model, double *failures, double *slow)
{
	const struct evwork_breaker_options *options = &model->options;
	int needed = model->state == EVWORK_BREAKER_HALF_OPEN ?
		smaller(options->min_calls, options->trials) : options->slot_ms ?
		options->min_calls : smaller(options->min_calls, options->window);
	int age, calls = 0, failed = 0, slowly = 0;

	for (age = 0; age < model->count && in_window(model, age); age++) {
		calls++;
		failed += model->history[model->count - 1 - age].failure;
		slowly += model->history[model->count - 1 - age].slow;
	}
	*failures = calls < needed ? -1 : 100.0 * failed / calls;
	*slow = calls < needed ? -1 : 100.0 * slowly / calls;
}

static void model_judge(struct model *model, bool failure)
{
	const struct evwork_breaker_options *options = &model->options;
	double failures, slow;
	bool over;

	model_rates(model, &failures, &slow);
	over = failures >= options->failure_percent || slow >= options->slow_percent;
	if (model->state == EVWORK_BREAKER_CLOSED) {
		if (options->rule == EVWORK_BREAKER_CONSECUTIVE ?
		    model->row >= options->in_a_row : over)
			model_move(model, EVWORK_BREAKER_OPEN);
	} else if (model->state == EVWORK_BREAKER_HALF_OPEN) {
		if (options->trial_rule == EVWORK_BREAKER_CONSECUTIVE ? failure : over)
			model_move(model, EVWORK_BREAKER_OPEN);
		else if (options->trial_rule == EVWORK_BREAKER_CONSECUTIVE ?
			 model->count == options->trials : failures >= 0)
			model_move(model, EVWORK_BREAKER_CLOSED);
	}
}

static void model_report(struct model *model, uint64_t generation, enum evwork_outcome outcome,
	int64_t duration)
{
	bool slow = duration > model->options.slow_ms * MS, failure = outcome == EVWORK_FAILURE;

	model_advance(model);
	if (generation != model->generation) {
		model->stale++;
		return;
	}
	if (model->state == EVWORK_BREAKER_DISABLED)
		return;
	if (model->state == EVWORK_BREAKER_HALF_OPEN)
		model->out--;
	if (outcome == EVWORK_IGNORE) {
		model->ignored++;
		if (model->state == EVWORK_BREAKER_HALF_OPEN)
			model->admitted--;
		return;
	}
	model->success += !failure;
	model->failure += failure;
	model->slow += slow;
	model->row = failure ? model->row + 1 : 0;
	if (model->count == HISTORY) {
		memmove(&model->history[0], &model->history[HISTORY / 2],
			HISTORY / 2 * sizeof(model->history[0]));
		model->count = HISTORY / 2;
	}
	model->history[model->count++] = (struct outcome) { failure, slow, model->now };
	model_judge(model, failure);
}

static bool model_set(struct model *model, enum evwork_breaker_state state)
{
	model_advance(model);
	if ((model->state == EVWORK_BREAKER_CLOSED && state == EVWORK_BREAKER_HALF_OPEN) ||
	    (model->state == EVWORK_BREAKER_METRICS_ONLY &&
	     (state == EVWORK_BREAKER_OPEN || state == EVWORK_BREAKER_HALF_OPEN)))
		return false;
	if (state == model->state)
		model_enter(model, state);
	else
		model_move(model, state);
	return true;
}

static void draw_options(struct evwork_breaker_options *options)
{
	static const double percents[] = { 0.001, 20, 50, 75, 100 };

	memset(options, 0, sizeof(*options));
	options->initial = chance(4) ? EVWORK_BREAKER_CLOSED : (enum evwork_breaker_state)chance(6);
	options->rule = (enum evwork_breaker_rule)(chance(4) == 0);
	options->trial_rule = (enum evwork_breaker_rule)chance(2);
	options->slot_ms = chance(2) ? 0 : 1 + chance(20);
	options->window = 1 + chance(options->slot_ms ? 5 : 30);
	options->min_calls = 1 + chance(20);
	options->in_a_row = 1 + chance(6);
	options->trials = 1 + chance(8);
	options->failure_percent = percents[chance(5)];
	options->slow_percent = percents[chance(5)];
	options->slow_ms = 1 + chance(10);
	options->open_ms = 1 + chance(20);
	options->open_factor = chance(2) ? 1 : 2;
	options->open_max_ms = 1 + chance(100);
	options->half_open_ms = chance(2) ? 0 : 1 + chance(30);
	options->undecided_closes = chance(2);
}

struct held { struct evwork_breaker_permit permit; uint64_t generation; };

static void compare(struct evwork_breaker *breaker, struct model *model)
{
	struct evwork_breaker_metrics metrics;
	double failures, slow;

	model_advance(model);
	model_rates(model, &failures, &slow);
	evwork_breaker_metrics(breaker, &metrics);
	expect(metrics.state == model->state, "%d %d", metrics.state, model->state);
	expect(metrics.success == model->success, "at %lld", (long long)model->now);
	expect(metrics.failure == model->failure, "at %lld", (long long)model->now);
	expect(metrics.slow == model->slow, "at %lld", (long long)model->now);
	expect(metrics.ignored == model->ignored, "at %lld", (long long)model->now);
	expect(metrics.stale == model->stale, "at %lld", (long long)model->now);
	expect(metrics.not_permitted == model->refused, "at %lld", (long long)model->now);
	expect(metrics.transitions == model->transitions, "at %lld", (long long)model->now);
	expect(metrics.failure_percent == failures, "%f %f", metrics.failure_percent, failures);
	expect(metrics.slow_percent == slow, "%f %f", metrics.slow_percent, slow);
	expect(metrics.trials_out == model->out, "%d %d", metrics.trials_out, model->out);
	expect(metrics.open_until_ns == (model->state == EVWORK_BREAKER_OPEN ? model->until : 0),
		"at %lld", (long long)model->now);
}

static void report_held(struct held *held, struct model *model, enum evwork_outcome outcome)
{
	int64_t duration = chance(20) * MS;
	bool again = chance(50) == 0;

	if (outcome == EVWORK_IGNORE && chance(2))
		evwork_breaker_drop(&held->permit);
	else
		expect(evwork_breaker_report(&held->permit, outcome, duration) == 0, " ");
	model_report(model, held->generation, outcome, duration);
	if (again)
		expect(evwork_breaker_report(&held->permit, outcome, duration) == -EALREADY, " ");
	held->generation = 0;
}

static void one_step(struct evwork_breaker *breaker, struct evwork_clock *clock,
	struct model *model, struct held *held, int bad)
{
	int64_t pass = chance(3) ? 0 : chance(4) ? chance(5) * MS : chance(100) * MS + chance(3) - 1;
	enum evwork_breaker_state state = (enum evwork_breaker_state)chance(6);

	pass = pass < 0 ? 0 : pass;
	evwork_clock_jump(clock, pass);
	model->now += pass;
	if (chance(500) == 0)
		expect((evwork_breaker_set(breaker, state) == 0) == model_set(model, state), " ");
	if (chance(2000) == 0)
		expect(evwork_breaker_set(breaker, EVWORK_BREAKER_CLOSED) == 0 &&
			model_set(model, EVWORK_BREAKER_CLOSED), " ");
	if (held->generation) {
		report_held(held, model, chance(10) == 0 ? EVWORK_IGNORE :
			chance(100) < bad ? EVWORK_FAILURE : EVWORK_SUCCESS);
	} else {
		int rc = evwork_breaker_acquire(breaker, &held->permit), wanted = model_acquire(model);

		expect(rc == wanted, "%d %d", rc, wanted);
		held->generation = rc == 0 ? model->generation : 0;
	}
}

/* A breaker and a model for some outcomes; returns how many. */
static uint64_t one_run(void)
{
	struct held held[PERMITS] = { { { 0 }, 0 } };
	struct evwork_breaker_options options;
	struct evwork_breaker *breaker;
	struct evwork_clock *clock;
	static struct model model;
	int step, i, bad = chance(100);

	memset(&model, 0, sizeof(model));
	draw_options(&options);
	ck_assert_int_eq(evwork_clock_new(0, &clock), 0);
	model.options = options;
	model_enter(&model, options.initial);
	options.clock = clock;
	ck_assert_int_eq(evwork_breaker_new(&options, &breaker), 0);
	for (step = 0; step < 5000; step++) {
		one_step(breaker, clock, &model, &held[chance(PERMITS)], bad);
		compare(breaker, &model);
	}
	/* S-BRK-3: nothing is outstanding once all is reported. */
	for (i = 0; i < PERMITS; i++)
		if (held[i].generation)
			report_held(&held[i], &model, EVWORK_IGNORE);
	compare(breaker, &model);
	expect(model.out == 0, "%d", model.out);
	ck_assert_int_eq(evwork_breaker_free(breaker), 0);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
	return model.success + model.failure + model.ignored + model.stale;
}

/* S-BRK-1 to S-BRK-9, S-BRK-11 to S-BRK-16, S-OBS-6: as the model does. */
START_TEST(as_the_model)
{
	uint64_t outcomes = 0, wanted = SANITIZED || support_slow() > 1 ? 50000 : 1000000;

	chance_seed(0);
	while (outcomes < wanted)
		outcomes += one_run();
}
END_TEST

/* Threads. */

enum { THREADS = 4 };

struct crowd;

struct user {
	pthread_t thread;
	struct crowd *crowd;
	uint64_t stream, reported, refused;
};

struct crowd {
	struct user users[THREADS];
	struct world world;
	struct evwork_breaker *breaker;
	int rounds;
	int told;
	enum evwork_breaker_state state;
	bool broken;
};

static void on_transition(struct evwork_breaker *breaker, enum evwork_breaker_state from,
	enum evwork_breaker_state to, void *arg)
{
	struct crowd *crowd = arg;

	(void)breaker;
	crowd->broken |= from != crowd->state || to == from;
	crowd->state = to;
	crowd->told++;
}

static void *use(void *arg)
{
	struct user *user = arg;
	struct crowd *crowd = user->crowd;
	struct evwork_breaker_permit permits[3] = { { 0 } };
	int round, k;

	chance_seed(user->stream);
	for (round = 0; round < crowd->rounds; round++) {
		struct evwork_breaker_permit *permit = &permits[chance(3)];
		int rc = evwork_breaker_acquire(crowd->breaker, permit);

		if (rc == 0)
			continue;
		/* Refused, or held since an earlier round. */
		if (evwork_breaker_report(permit, chance(3) ? EVWORK_SUCCESS :
		    chance(2) ? EVWORK_FAILURE : EVWORK_IGNORE, 0) == 0)
			user->reported++;
		else
			user->refused++;
		if (chance(1000) == 0)
			evwork_breaker_set(crowd->breaker, (enum evwork_breaker_state)chance(3));
	}
	for (k = 0; k < 3; k++)
		if (evwork_breaker_report(&permits[k], EVWORK_IGNORE, 0) == 0)
			user->reported++;
	return NULL;
}

/* S-BRK-3, S-BRK-19, S-GEN-17: all that threads report is counted once, and each change is
 * told once, while they and the loop go on. */
START_TEST(crowds)
{
	struct evwork_breaker_options options = { .window = 8, .min_calls = 8, .open_ms = 1,
		.trials = 3, .half_open_ms = 2, .automatic = 1, .on_transition = on_transition };
	struct evwork_breaker_metrics metrics;
	static struct crowd crowd;
	uint64_t reported = 0, refused = 0;
	int i;

	memset(&crowd, 0, sizeof(crowd));
	world_open(&crowd.world, 1);
	options.loop = crowd.world.loop;
	options.arg = &crowd;
	crowd.rounds = scaled(200000);
	ck_assert_int_eq(evwork_breaker_new(&options, &crowd.breaker), 0);
	for (i = 0; i < THREADS; i++) {
		crowd.users[i].crowd = &crowd;
		crowd.users[i].stream = (uint64_t)i + 1;
		ck_assert_int_eq(pthread_create(&crowd.users[i].thread, NULL, use,
			&crowd.users[i]), 0);
	}
	for (i = 0; i < 200; i++)
		one_pass(crowd.world.base);
	for (i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(crowd.users[i].thread, NULL), 0);
		reported += crowd.users[i].reported;
		refused += crowd.users[i].refused;
	}
	/* Nothing moves it any more. */
	metrics = breaker_metrics(crowd.breaker);
	ck_assert_int_eq(metrics.trials_out, 0);
	ck_assert_uint_eq(metrics.success + metrics.failure + metrics.ignored + metrics.stale,
		reported);
	ck_assert_uint_eq(metrics.not_permitted, refused);
	while (evwork_breaker_set(crowd.breaker, EVWORK_BREAKER_DISABLED) != 0)
		one_pass(crowd.world.base);
	world_run(&crowd.world);
	metrics = breaker_metrics(crowd.breaker);
	ck_assert(!crowd.broken);
	ck_assert_uint_eq((uint64_t)crowd.told, metrics.transitions);
	ck_assert_int_eq(crowd.state, EVWORK_BREAKER_DISABLED);
	ck_assert_int_eq(evwork_breaker_free(crowd.breaker), 0);
	world_close(&crowd.world);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("breaker_model");
	TCase *model = support_case(suite, "model");

	stress_begin();
	tcase_add_test(model, as_the_model);
	tcase_add_test(model, crowds);
	return support_run(suite);
}
