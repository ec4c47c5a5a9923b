/* SPDX-License-Identifier: BSD-3-Clause */
#include "guard/breaker_window.h"

#include <errno.h>
#include <string.h>

int breaker_window_init(struct breaker_window *window, int size, int64_t slot_ns)
{
	memset(window, 0, sizeof(*window));
	window->size = size;
	window->slot_ns = slot_ns;
	if (slot_ns)
		window->slots = sys_alloc((size_t)size * sizeof(*window->slots));
	else
		window->outcomes = sys_alloc((size_t)size);
	return window->slots || window->outcomes ? 0 : -ENOMEM;
}

void breaker_window_fini(struct breaker_window *window)
{
	sys_free(window->slots);
	sys_free(window->outcomes);
}

void breaker_window_clear(struct breaker_window *window, int64_t now_ns)
{
	memset(&window->sum, 0, sizeof(window->sum));
	window->at = 0;
	if (window->slots)
		memset(window->slots, 0, (size_t)window->size * sizeof(*window->slots));
	window->slot_end_ns = sys_time_add(now_ns, window->slot_ns);
}

static void tally_subtract(struct tally *from, const struct tally *tally)
{
	from->calls -= tally->calls;
	from->failures -= tally->failures;
	from->slow -= tally->slow;
}

void breaker_window_expire(struct breaker_window *window, int64_t now_ns)
{
	int64_t passed;

	if (!window->slots || now_ns < window->slot_end_ns)
		return;
	/* So many slots have ended; of more than there are all are empty. */
	passed = (now_ns - window->slot_end_ns) / window->slot_ns + 1;
	window->slot_end_ns = sys_time_add(window->slot_end_ns,
		sys_time_mul(passed, window->slot_ns));
	for (passed = passed < window->size ? passed : window->size; passed > 0; passed--) {
		struct tally *slot;

		window->at = window->at + 1 < window->size ? window->at + 1 : 0;
		slot = &window->slots[window->at];
		tally_subtract(&window->sum, slot);
		memset(slot, 0, sizeof(*slot));
	}
}

static void record_last(struct breaker_window *window, unsigned marks)
{
	uint8_t *place = &window->outcomes[window->at];

	window->at = window->at + 1 < window->size ? window->at + 1 : 0;
	if (window->sum.calls == (uint64_t)window->size) {
		struct tally oldest = { 0 };

		tally_add(&oldest, *place);
		tally_subtract(&window->sum, &oldest);
	}
	*place = (uint8_t)marks;
	tally_add(&window->sum, marks);
}

void breaker_window_record(struct breaker_window *window, unsigned marks, int64_t now_ns)
{
	if (!window->slots) {
		record_last(window, marks);
		return;
	}
	breaker_window_expire(window, now_ns);
	tally_add(&window->slots[window->at], marks);
	tally_add(&window->sum, marks);
}
