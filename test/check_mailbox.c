/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The mailbox by itself: who wakes a sleeping loop, and when that may wait. The test
 * plays the loop; each post here has one mark to find, and stress at the end finds
 * the orders that nobody thought of.
 */

#include "support.h"

#include <poll.h>
#include <pthread.h>

#include "run/mailbox.h"

/* Longer than any test takes, and short enough to wait for. */
#define NEVER_NS (INT64_C(3600000) * SYS_NS_PER_MS)
#define SOON_NS (2 * SYS_NS_PER_MS)

static struct mailbox *box;

static void setup(void)
{
	ck_assert_int_eq(mailbox_new(EVWORK_NOTIFY_DEFAULT, &box), 0);
}

static void teardown(void)
{
	mailbox_close(box);
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

static bool woken(void)
{
	return readable(mailbox_fd(box), 0);
}

/* Posts for one that owes nothing; true if it then owes a settle. */
static bool held(struct evwork_mail *mail, int64_t ns, bool patient)
{
	return mailbox_post_held(box, mail, (struct hold){ .ns = ns, .most_ns = ns,
		.patient = patient });
}

/* The same for one that owes already. */
static void held_again(struct evwork_mail *mail, int64_t ns, bool patient)
{
	ck_assert(mailbox_post_held(box, mail, (struct hold){ .ns = ns, .most_ns = ns,
		.patient = patient, .owes = true }));
}

/* What the loop does when it comes: nothing may be left of the wake-up. */
static void take(const struct evwork_mail *const expected[], int count)
{
	struct evwork_mail *mail = mailbox_take(box);
	int i;

	mailbox_clear(box);
	for (i = 0; i < count; i++, mail = mail->_next)
		ck_assert_ptr_eq(mail, expected[i]);
	ck_assert_ptr_null(mail);
}

static bool can_hold(void)
{
	if (mailbox_hold_fd(box) >= 0)
		return true;
	support_note("no timerfd here: wake-ups are never held back");
	return false;
}

/* S-DLV-3: of many posts to a sleeping loop the first wakes it; the mail comes in the
 * order in which it was posted. */
START_TEST(first_post_wakes)
{
	struct evwork_mail a, b;

	ck_assert(!woken());
	mailbox_post(box, &a);
	ck_assert(woken());
	mailbox_clear(box);
	mailbox_post(box, &b);
	ck_assert(!woken());
	take((const struct evwork_mail *[]){ &a, &b }, 2);
	ck_assert(mailbox_sleep(box));
	mailbox_post(box, &a);
	ck_assert(woken());
	ck_assert(!mailbox_sleep(box));
	take((const struct evwork_mail *[]){ &a }, 1);
}
END_TEST

/* S-DLV-3: a held post leaves the wake-up to its poster, who gives it with settle. */
START_TEST(settle_wakes)
{
	struct evwork_mail a, b, c;

	if (!can_hold())
		return;
	ck_assert(held(&a, NEVER_NS, _i));
	held_again(&b, NEVER_NS, !_i);
	ck_assert(held(&c, NEVER_NS, _i));
	ck_assert(!woken());
	mailbox_settle(box);
	ck_assert(woken());
	take((const struct evwork_mail *[]){ &a, &b, &c }, 3);
	ck_assert(mailbox_sleep(box));
	mailbox_settle(box);
	ck_assert(!woken());
}
END_TEST

/* S-DLV-3: anyone in a hurry wakes a loop that another holds, once; the poster that
 * owes the wake-up gives no second one. */
START_TEST(hurry_ends_hold)
{
	struct evwork_mail a, b;

	if (!can_hold())
		return;
	ck_assert(held(&a, NEVER_NS, _i));
	mailbox_post(box, &b);
	ck_assert(woken());
	take((const struct evwork_mail *[]){ &a, &b }, 2);
	ck_assert(mailbox_sleep(box));
	mailbox_settle(box);
	ck_assert(!woken());
}
END_TEST

/* S-DLV-3: if the poster does not come back, the timer wakes the loop. */
START_TEST(hold_ends_by_itself)
{
	struct evwork_mail a;

	if (!can_hold())
		return;
	ck_assert(held(&a, SOON_NS, _i));
	ck_assert(readable(mailbox_hold_fd(box), -1));
	mailbox_clear_hold(box);
	ck_assert(!readable(mailbox_hold_fd(box), 0));
	take((const struct evwork_mail *[]){ &a }, 1);
	mailbox_settle(box);
	ck_assert(!woken());
}
END_TEST

/* S-DLV-3: a loop that is awake may sleep on patient mail; the timer wakes it. */
START_TEST(nap_ends_by_itself)
{
	struct evwork_mail a, b;

	if (!can_hold())
		return;
	take(NULL, 0);
	ck_assert(mailbox_calm(box));
	ck_assert(held(&a, SOON_NS, true));
	held_again(&b, SOON_NS, true);
	ck_assert(mailbox_calm(box));
	ck_assert(!mailbox_sleep(box));
	ck_assert(mailbox_nap(box));
	ck_assert(!mailbox_empty(box));
	ck_assert(readable(mailbox_hold_fd(box), -1));
	ck_assert(!woken());
	take((const struct evwork_mail *[]){ &a, &b }, 2);
	mailbox_settle(box);
}
END_TEST

/* S-DLV-3: mail that cannot wait ends a nap at once, patient mail does not. */
START_TEST(hurry_ends_nap)
{
	struct evwork_mail a, b, c;

	if (!can_hold())
		return;
	take(NULL, 0);
	ck_assert(held(&a, NEVER_NS, true));
	ck_assert(mailbox_nap(box));
	held_again(&b, NEVER_NS, true);
	ck_assert(!woken());
	mailbox_post(box, &c);
	ck_assert(woken());
	take((const struct evwork_mail *[]){ &a, &b, &c }, 3);
	mailbox_settle(box);
	ck_assert(!woken());
}
END_TEST

/* S-DLV-3: a poster of patient mail that has nothing more to do ends the nap, or keeps
 * the loop from it. */
START_TEST(settle_ends_patience)
{
	struct evwork_mail a;

	if (!can_hold())
		return;
	take(NULL, 0);
	ck_assert(held(&a, NEVER_NS, true));
	if (_i)
		ck_assert(mailbox_nap(box));
	mailbox_settle(box);
	ck_assert_int_eq(woken(), _i);
	ck_assert(!mailbox_calm(box) && !mailbox_nap(box));
	take((const struct evwork_mail *[]){ &a }, 1);
}
END_TEST

/* S-DLV-3: of several who post to one loop, the one who grants the least decides. */
START_TEST(shortest_hold_counts)
{
	struct evwork_mail a, b;

	if (!can_hold())
		return;
	ck_assert(held(&a, SOON_NS, false));
	take((const struct evwork_mail *[]){ &a }, 1);
	mailbox_clear_hold(box);
	ck_assert(held(&a, SOON_NS, true));
	ck_assert(held(&b, NEVER_NS, true));
	ck_assert(mailbox_nap(box));
	ck_assert(readable(mailbox_hold_fd(box), -1));
	take((const struct evwork_mail *[]){ &a, &b }, 2);
	mailbox_settle(box);
	mailbox_settle(box);
	mailbox_settle(box);
}
END_TEST

/* S-DLV-3: a loop does not sleep if there is anything that cannot wait, whether that
 * came before or after what can. */
START_TEST(no_nap_on_urgent_mail)
{
	struct evwork_mail a, b;

	if (!can_hold())
		return;
	take(NULL, 0);
	ck_assert(!mailbox_nap(box));
	ck_assert(held(&a, NEVER_NS, true));
	mailbox_post(box, &b);
	ck_assert(!mailbox_calm(box) && !mailbox_nap(box));
	take((const struct evwork_mail *[]){ &a, &b }, 2);
	mailbox_settle(box);
	mailbox_post(box, &a);
	ck_assert(!held(&b, NEVER_NS, true));
	ck_assert(!mailbox_calm(box) && !mailbox_nap(box));
	take((const struct evwork_mail *[]){ &a, &b }, 2);
	ck_assert(!held(&a, NEVER_NS, false));
	ck_assert(!mailbox_calm(box) && !mailbox_nap(box));
	take((const struct evwork_mail *[]){ &a }, 1);
}
END_TEST

/* Two threads post at random: in a hurry, held, patient. */
#define POSTERS 2
#define LETTERS 64

struct poster {
	pthread_t thread;
	uint32_t random;
	int rounds;
	struct {
		struct evwork_mail mail;
		atomic_bool posted;
	} letter[LETTERS];
};

static uint32_t roll(struct poster *poster, uint32_t sides)
{
	poster->random = poster->random * 1664525u + 1013904223u;
	return (poster->random >> 16) % sides;
}

static void *poster_main(void *arg)
{
	struct poster *poster = arg;
	int round;

	for (round = 0; round < poster->rounds; round++) {
		struct evwork_mail *mail = &poster->letter[round % LETTERS].mail;
		/* Of who owes a wake-up now and then one never comes: the timer must. */
		bool owes;

		while (atomic_load(&poster->letter[round % LETTERS].posted))
			sys_yield();
		atomic_store(&poster->letter[round % LETTERS].posted, true);
		if (roll(poster, 8) == 0) {
			mailbox_post(box, mail);
			continue;
		}
		owes = held(mail, 50000, roll(poster, 4) != 0);
		if (owes) {
			while (roll(poster, 4))
				sys_yield();
			mailbox_settle(box);
		}
	}
	return NULL;
}

/* Until something comes, or the loop may look again. */
static void sleep_as_loop(void)
{
	struct pollfd fds[2] = {
		{ .fd = mailbox_fd(box), .events = POLLIN },
		{ .fd = mailbox_hold_fd(box), .events = POLLIN }
	};

	ck_assert_int_gt(poll(fds, 2, -1), 0);
	if (fds[0].revents)
		mailbox_clear(box);
	if (fds[1].revents)
		mailbox_clear_hold(box);
}

static int take_some(void)
{
	struct evwork_mail *mail = mailbox_take(box), *next;
	int count;

	for (count = 0; mail; count++, mail = next) {
		atomic_bool *posted = (atomic_bool *)(void *)(mail + 1);

		next = mail->_next;
		ck_assert(atomic_load(posted));
		atomic_store(posted, false);
	}
	return count;
}

/* S-DLV-3: whatever the order of posts, holds, naps and wake-ups, everything comes once,
 * and the loop, which sleeps without a limit, is always woken. */
START_TEST(nothing_is_slept_through)
{
	static struct poster posters[POSTERS];
	int rounds = 100000 / support_slow(), i, taken = 0;

	if (!can_hold())
		return;
	memset(posters, 0, sizeof(posters));
	for (i = 0; i < POSTERS; i++) {
		posters[i].random = 7u + (uint32_t)i;
		posters[i].rounds = rounds;
		ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, poster_main,
			&posters[i]), 0);
	}
	while (taken < POSTERS * rounds) {
		taken += take_some();
		if (taken < POSTERS * rounds && (mailbox_sleep(box) || mailbox_nap(box)))
			sleep_as_loop();
	}
	for (i = 0; i < POSTERS; i++)
		ck_assert_int_eq(pthread_join(posters[i].thread, NULL), 0);
	ck_assert(mailbox_empty(box));
}
END_TEST

static Suite *mailbox_suite(void)
{
	Suite *suite = suite_create("mailbox");
	TCase *tcase = support_case(suite, "wake-ups");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, first_post_wakes);
	tcase_add_loop_test(tcase, settle_wakes, 0, 2);
	tcase_add_loop_test(tcase, hurry_ends_hold, 0, 2);
	tcase_add_loop_test(tcase, hold_ends_by_itself, 0, 2);
	tcase_add_test(tcase, nap_ends_by_itself);
	tcase_add_test(tcase, hurry_ends_nap);
	tcase_add_loop_test(tcase, settle_ends_patience, 0, 2);
	tcase_add_test(tcase, shortest_hold_counts);
	tcase_add_test(tcase, no_nap_on_urgent_mail);
	tcase_add_test(tcase, nothing_is_slept_through);
	return suite;
}

int main(void)
{
	return support_run(mailbox_suite());
}
