/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The ground: memory and the seam to the operating system.
 */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define MS SYS_NS_PER_MS

/* Memory. */

struct heap {
	int allocated, released;
	bool fails;
};

static void *heap_allocate(size_t size, void *arg)
{
	struct heap *heap = arg;

	if (heap->fails)
		return NULL;
	heap->allocated++;
	return malloc(size);
}

static void heap_release(void *memory, void *arg)
{
	((struct heap *)arg)->released++;
	free(memory);
}

static struct evwork_allocator heap_allocator(struct heap *heap)
{
	struct evwork_allocator allocator = {
		heap_allocate, heap_release, heap
	};

	return allocator;
}

/* A plugged-in allocator gives and takes all memory, until NULL restores malloc
 * and friends, S-GEN-14. */
START_TEST(allocator_is_used)
{
	struct heap heap = { 0 };
	struct evwork_allocator allocator = heap_allocator(&heap);
	struct evwork_clock *clock;
	void *memory;

	ck_assert_int_eq(evwork_set_allocator(&allocator), 0);
	/* The struct was copied. */
	memset(&allocator, 0, sizeof(allocator));
	ck_assert_int_eq(evwork_clock_new(1, &clock), 0);
	ck_assert_int_eq(heap.allocated, 1);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
	ck_assert_int_eq(heap.released, 1);

	memory = sys_alloc(10);
	ck_assert_ptr_nonnull(memory);
	sys_free(memory);
	ck_assert_int_eq(heap.allocated, 2);
	ck_assert_int_eq(heap.released, 2);

	ck_assert_int_eq(evwork_set_allocator(NULL), 0);
	ck_assert_int_eq(evwork_clock_new(1, &clock), 0);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
	ck_assert_int_eq(heap.allocated, 2);
	ck_assert_int_eq(heap.released, 2);
}
END_TEST

/* A plugged-in allocator that has no memory makes -ENOMEM of the call and leaves
 * the output alone, S-GEN-14. */
START_TEST(allocator_may_fail)
{
	struct heap heap = { .fails = true };
	struct evwork_allocator allocator = heap_allocator(&heap);
	struct evwork_clock *clock = (struct evwork_clock *)&heap;

	ck_assert_int_eq(evwork_set_allocator(&allocator), 0);
	ck_assert_int_eq(evwork_clock_new(1, &clock), -ENOMEM);
	ck_assert_ptr_eq(clock, &heap);
	ck_assert_int_eq(evwork_set_allocator(NULL), 0);
}
END_TEST

/* The allocator cannot be changed while the library holds memory from it, and
 * goes on to be used after the refusal, S-GEN-14. */
START_TEST(allocator_busy)
{
	struct heap heap = { 0 }, other = { 0 };
	struct evwork_allocator allocator = heap_allocator(&heap);
	struct evwork_allocator another = heap_allocator(&other);
	struct evwork_clock *clock;

	ck_assert_int_eq(evwork_set_allocator(&allocator), 0);
	ck_assert_int_eq(evwork_clock_new(1, &clock), 0);
	ck_assert_int_eq(evwork_set_allocator(&another), -EBUSY);
	ck_assert_int_eq(evwork_set_allocator(NULL), -EBUSY);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
	ck_assert_int_eq(heap.released, 1);
	ck_assert_int_eq(evwork_set_allocator(&another), 0);
	ck_assert_int_eq(evwork_set_allocator(NULL), 0);
	ck_assert_int_eq(other.allocated + other.released, 0);
}
END_TEST

/* An allocator without one of its functions is malformed, even while memory is
 * held, and nothing is changed, S-GEN-14 and S-GEN-4. */
START_TEST(allocator_malformed)
{
	struct heap heap = { 0 };
	struct evwork_allocator missing[2];
	struct evwork_clock *clock;
	int i;

	for (i = 0; i < 2; i++)
		missing[i] = heap_allocator(&heap);
	missing[0].allocate = NULL;
	missing[1].release = NULL;
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(evwork_set_allocator(&missing[i]), -EINVAL);
	ck_assert_int_eq(evwork_clock_new(1, &clock), 0);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(evwork_set_allocator(&missing[i]), -EINVAL);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
	ck_assert_int_eq(heap.allocated + heap.released, 0);
}
END_TEST

/* Blocks are counted, cleared memory is clear, and any call can be made to fail,
 * S-CRASH-8. */
START_TEST(memory_is_counted_and_injected)
{
	size_t before = sys_blocks();
	unsigned char *memory = sys_zalloc(100);
	unsigned char zeros[100] = { 0 };

	ck_assert_mem_eq(memory, zeros, 100);
	ck_assert_uint_eq(sys_blocks(), before + 1);
	sys_free(memory);
	ck_assert_uint_eq(sys_blocks(), before);
	fault_start(SYS_MEMORY, 1, true);
	ck_assert_ptr_null(sys_alloc(1));
	ck_assert_ptr_null(sys_zalloc(1));
	ck_assert_int_eq(fault_stop(), 2);
	ck_assert_uint_eq(sys_blocks(), before);
}
END_TEST

/* The system. */

/* Sums and products of times stop at the ends, S-GEN-9. */
START_TEST(time_saturates)
{
	ck_assert_int_eq(sys_time_add(2, 3), 5);
	ck_assert_int_eq(sys_time_add(INT64_MAX, 1), INT64_MAX);
	ck_assert_int_eq(sys_time_add(INT64_MAX, INT64_MAX), INT64_MAX);
	ck_assert_int_eq(sys_time_add(INT64_MIN, -1), INT64_MIN);
	ck_assert_int_eq(sys_time_add(INT64_MAX, INT64_MIN), -1);
	ck_assert_int_eq(sys_time_mul(7, SYS_NS_PER_MS), 7000000);
	ck_assert_int_eq(sys_time_mul(INT64_MAX, SYS_NS_PER_MS), INT64_MAX);
	ck_assert_int_eq(sys_time_mul(INT64_MIN, SYS_NS_PER_MS), INT64_MIN);
	ck_assert_int_eq(sys_time_mul(INT64_MIN, -1), INT64_MAX);
	ck_assert_int_eq(sys_time_mul(0, INT64_MIN), 0);
}
END_TEST

/* The count of CPUs is at least one and obeys the affinity mask, S-POOL-7. */
START_TEST(cpus_obey_affinity)
{
	ck_assert_int_ge(sys_cpu_count(), 1);
#ifdef __linux__
	cpu_set_t all, one;
	int cpu = 0;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	ck_assert_int_le(sys_cpu_count(), CPU_COUNT(&all));
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	ck_assert_int_eq(sys_cpu_count(), 1);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(all), &all), 0);
	if (CPU_COUNT(&all) == 1)
		support_note("one CPU only: the affinity mask could not be narrowed");
#endif
}
END_TEST

struct parked {
	struct sys_parker parker;
	struct gate gate;
	bool token;
};

static void *park_without_end(void *arg)
{
	struct parked *parked = arg;

	gate_pass(&parked->gate);
	parked->token = sys_park(&parked->parker, INT64_MAX);
	return NULL;
}

/* A token that comes before the sleep is kept and taken once; without one the
 * sleep lasts at least to its end; a sleeper is woken, S-GEN-11. */
START_TEST(parker_keeps_a_token)
{
	struct parked parked = { .token = false };
	pthread_t thread;
	int64_t until;

	ck_assert_int_eq(sys_parker_init(&parked.parker), 0);
	sys_unpark(&parked.parker);
	sys_unpark(&parked.parker);
	ck_assert(sys_park(&parked.parker, INT64_MAX));
	until = sys_now() + 2 * MS;
	ck_assert(!sys_park(&parked.parker, until));
	ck_assert_int_ge(sys_now(), until);
	ck_assert(!sys_park(&parked.parker, 0));

	gate_init(&parked.gate);
	gate_open(&parked.gate);
	ck_assert_int_eq(pthread_create(&thread, NULL, park_without_end, &parked), 0);
	gate_await(&parked.gate, 1);
	sys_unpark(&parked.parker);
	pthread_join(thread, NULL);
	ck_assert(parked.token);
	gate_fini(&parked.gate);
	sys_parker_fini(&parked.parker);
}
END_TEST

/* Descriptors are close-on-exec and non-blocking, S-GEN-16. */
START_TEST(descriptors_are_tame)
{
	int fds[4] = { -1, -1, -1, -1 }, i, rc;

	ck_assert_int_eq(sys_pipe(fds), 0);
	rc = sys_eventfd(&fds[2]);
	ck_assert(rc == 0 || rc == -ENOSYS);
	rc = sys_timerfd(&fds[3]);
	ck_assert(rc == 0 || rc == -ENOSYS);
	for (i = 0; i < 4; i++) {
		if (fds[i] < 0)
			continue;
		ck_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		ck_assert(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
		sys_close(fds[i]);
	}
	sys_close(-1);
}
END_TEST

static bool readable(int fd, int timeout_ms)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	return poll(&poller, 1, timeout_ms) == 1;
}

/* Tokens written into a full pipe do not block, and one drain takes all there
 * are, S-DLV-4. */
START_TEST(tokens_fill_a_pipe)
{
	char byte = 0;
	int fds[2], i;

	ck_assert_int_eq(sys_pipe(fds), 0);
	while (write(fds[1], &byte, 1) == 1)
		;
	for (i = 0; i < 3; i++)
		sys_token_write(fds[1], 1);
	ck_assert(readable(fds[0], 0));
	sys_token_drain(fds[0], 1);
	ck_assert(!readable(fds[0], 0));
	sys_token_drain(fds[0], 1);
	sys_token_write(fds[1], 1);
	ck_assert(readable(fds[0], 0));
	sys_close(fds[0]);
	sys_close(fds[1]);
}
END_TEST

/* Tokens written into a full eventfd do not block either, S-DLV-4. */
START_TEST(tokens_fill_an_eventfd)
{
	uint64_t most = UINT64_MAX - 1;
	int fd, rc = sys_eventfd(&fd);

	if (rc == -ENOSYS) {
		support_note("no eventfd");
		return;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(write(fd, &most, sizeof(most)), sizeof(most));
	sys_token_write(fd, sizeof(most));
	ck_assert(readable(fd, 0));
	sys_token_drain(fd, sizeof(most));
	ck_assert(!readable(fd, 0));
	sys_close(fd);
}
END_TEST

/* A timer descriptor becomes readable, not before its time, S-GEN-11. */
START_TEST(timer_descriptor_is_not_early)
{
	int fd, rc = sys_timerfd(&fd);
	int64_t start;

	if (rc == -ENOSYS) {
		support_note("no timerfd");
		return;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert(!readable(fd, 0));
	start = sys_now();
	sys_timerfd_arm(fd, 3 * MS);
	ck_assert(readable(fd, -1));
	ck_assert_int_ge(sys_now() - start, 3 * MS);
	sys_timerfd_arm(fd, 0);
	ck_assert(readable(fd, -1));
	sys_close(fd);
}
END_TEST

static void *tell_mask(void *arg)
{
	pthread_sigmask(SIG_BLOCK, NULL, arg);
	return NULL;
}

/* A thread has asynchronous signals blocked and the signals of faults not; its
 * creator's mask stays as it was, S-GEN-16. */
START_TEST(threads_block_signals)
{
	sigset_t before, after, inside;
	sys_thread thread;
	int signal;

	sigemptyset(&inside);
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	ck_assert_int_eq(sys_thread_create(&thread, 1 << 20, tell_mask, &inside), 0);
	sys_thread_join(thread);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	for (signal = 1; signal < 32; signal++)
		ck_assert_int_eq(sigismember(&before, signal), sigismember(&after, signal));
	ck_assert_int_eq(sigismember(&inside, SIGTERM), 1);
	ck_assert_int_eq(sigismember(&inside, SIGINT), 1);
	ck_assert_int_eq(sigismember(&inside, SIGCHLD), 1);
	ck_assert_int_eq(sigismember(&inside, SIGALRM), 1);
	ck_assert_int_eq(sigismember(&inside, SIGPIPE), 1);
	ck_assert_int_eq(sigismember(&inside, SIGSEGV), 0);
	ck_assert_int_eq(sigismember(&inside, SIGFPE), 0);
}
END_TEST

/* Each kind of call can be made to fail, with its code, and leaves nothing
 * behind, S-CRASH-8. */
START_TEST(calls_fail_on_demand)
{
	struct sys_parker parker;
	sys_thread thread;
	int fds[2] = { -5, -5 };
	sys_mutex mutex;
	sys_cond cond;
	int k, rc;

	fault_start(SYS_CALLS, 1, true);
	ck_assert_ptr_null(sys_alloc(1));
	ck_assert_int_eq(sys_thread_create(&thread, 1 << 20, tell_mask, NULL), -EAGAIN);
	ck_assert_int_eq(sys_mutex_init(&mutex), -ENOMEM);
	ck_assert_int_eq(sys_cond_init(&cond), -ENOMEM);
	ck_assert_int_eq(sys_pipe(fds), -EAGAIN);
	ck_assert_int_ne(sys_eventfd(&fds[0]), 0);
	ck_assert_int_ne(sys_timerfd(&fds[0]), 0);
	ck_assert_int_ge(fault_stop(), 5);
	ck_assert_int_eq(fds[0], -5);
	ck_assert_int_eq(fds[1], -5);
	/* How many locks a parker is made of depends on the system; each may fail. */
	for (k = 1, rc = -ENOMEM; rc != 0; k++) {
		fault_start(SYS_LOCK, k, false);
		rc = sys_parker_init(&parker);
		fault_stop();
		if (rc)
			ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_gt(k, 2);
	sys_parker_fini(&parker);
}
END_TEST
static void add_memory(Suite *suite)
{
	TCase *tcase = support_case(suite, "memory");

	tcase_add_test(tcase, allocator_is_used);
	tcase_add_test(tcase, allocator_may_fail);
	tcase_add_test(tcase, allocator_busy);
	tcase_add_test(tcase, allocator_malformed);
	tcase_add_test(tcase, memory_is_counted_and_injected);
}

static void add_system(Suite *suite)
{
	TCase *tcase = support_case(suite, "system");

	tcase_add_test(tcase, time_saturates);
	tcase_add_test(tcase, cpus_obey_affinity);
	tcase_add_test(tcase, parker_keeps_a_token);
	tcase_add_test(tcase, descriptors_are_tame);
	tcase_add_test(tcase, tokens_fill_a_pipe);
	tcase_add_test(tcase, tokens_fill_an_eventfd);
	tcase_add_test(tcase, timer_descriptor_is_not_early);
	tcase_add_test(tcase, threads_block_signals);
	tcase_add_test(tcase, calls_fail_on_demand);
}

static Suite *suite(void)
{
	Suite *base = suite_create("base_sys");

	add_memory(base);
	add_system(base);
	return base;
}

int main(void)
{
	return support_run(suite());
}
