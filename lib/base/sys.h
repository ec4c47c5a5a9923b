/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_SYS_H
#define BASE_SYS_H

/*
 * The one seam to the operating system. Everything that can fail there (memory,
 * threads, locks, descriptors) is asked for through this file and nowhere else,
 * so that a test can make any of these calls fail: it sets sys_fault, which is
 * asked before each of them.
 *
 * The functions return 0 or a negated errno code, like the library itself.
 */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For variables of a thread that are looked at on hot paths. The model saves a call
 * for each look from a shared library; the few bytes fit in what every libc keeps
 * free for libraries that are loaded late. */
#define SYS_THREAD_LOCAL __attribute__((tls_model("initial-exec"))) _Thread_local

/* The kinds of calls that can be made to fail. */
enum sys_call {
	SYS_MEMORY,       /* allocate: fails with no memory */
	SYS_THREAD,       /* create a thread: EAGAIN */
	SYS_LOCK,         /* make a mutex or condition variable: ENOMEM */
	SYS_DESCRIPTOR,   /* make a descriptor: EMFILE */
	SYS_CALLS
};

/* Non-zero makes this call fail. NULL, the normal case, lets all pass. Set it
 * while no other thread is inside the library, or make it thread-safe. */
typedef bool (*sys_fault_fn)(enum sys_call call);
extern _Atomic(sys_fault_fn) sys_fault;

/* Memory, from the plugged-in allocator. sys_zalloc clears. */
void *sys_alloc(size_t size);
void *sys_zalloc(size_t size);
void sys_free(void *memory);
/* How many blocks the library holds now; tests use it to find leaks. */
size_t sys_blocks(void);

/* Zero on overflow is not an answer here: both saturate (S-GEN-9). */
static inline int64_t sys_time_add(int64_t a, int64_t b)
{
	int64_t sum;

	if (!__builtin_add_overflow(a, b, &sum))
		return sum;
	return a > 0 ? INT64_MAX : INT64_MIN;
}

static inline int64_t sys_time_mul(int64_t a, int64_t b)
{
	int64_t product;

	if (!__builtin_mul_overflow(a, b, &product))
		return product;
	return (a > 0) == (b > 0) ? INT64_MAX : INT64_MIN;
}

#define SYS_NS_PER_MS INT64_C(1000000)
#define SYS_NS_PER_US INT64_C(1000)

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t sys_now(void);

/* CPUs that this process may use: the affinity mask and the cgroup's quota
 * both count. At least 1. */
int sys_cpu_count(void);
/* Whether another thread could do something while this one looks on: not on one CPU. As
 * it was when this was asked first, and so cheap. */
bool sys_may_spin(void);

/* Random bits for seeds; not for secrets. */
uint64_t sys_random(void);

/*
 * Mutexes. A spinning one tries for a moment before it sleeps, where the system
 * offers that: for short critical sections that threads do meet in. The plain one is
 * quicker where they hardly ever do.
 */
typedef pthread_mutex_t sys_mutex;
#define SYS_MUTEX_STATIC PTHREAD_MUTEX_INITIALIZER
int sys_mutex_init(sys_mutex *mutex);
int sys_mutex_init_spinning(sys_mutex *mutex);
void sys_mutex_fini(sys_mutex *mutex);
static inline void sys_lock(sys_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void sys_unlock(sys_mutex *mutex) { pthread_mutex_unlock(mutex); }

typedef pthread_cond_t sys_cond;
int sys_cond_init(sys_cond *cond);
void sys_cond_fini(sys_cond *cond);
static inline void sys_cond_signal(sys_cond *cond) { pthread_cond_signal(cond); }
static inline void sys_cond_broadcast(sys_cond *cond) { pthread_cond_broadcast(cond); }
/* May return spuriously, as all condition variables may. until_ns is on the
 * clock of sys_now; INT64_MAX waits without end. */
void sys_cond_wait(sys_cond *cond, sys_mutex *mutex, int64_t until_ns);

/*
 * A parker lets one thread sleep until another hands it a token. A token that
 * comes first is kept, so that the sleep it was meant for does not happen. The
 * sleeper may free the parker as soon as it has the token, which is what
 * semaphores are made for; where there is none with a monotonic time limit, a
 * mutex and a condition variable do the same.
 */
struct sys_parker {
#ifdef HAVE_SEM_CLOCKWAIT
	sem_t tokens;
#else
	sys_mutex mutex;
	sys_cond cond;
	unsigned tokens;   /* covered by mutex */
#endif
};
int sys_parker_init(struct sys_parker *parker);
void sys_parker_fini(struct sys_parker *parker);
/* Takes all tokens there are and returns their number; 0 if until_ns passed without
 * one. */
unsigned sys_park(struct sys_parker *parker, int64_t until_ns);
void sys_unpark(struct sys_parker *parker);

/*
 * A thread with all asynchronous signals blocked. stack_size in bytes. The
 * caller's own signal mask is restored before this returns.
 */
typedef pthread_t sys_thread;
int sys_thread_create(sys_thread *ret_thread, size_t stack_size,
	void *(*entry)(void *arg), void *arg);
void sys_thread_join(sys_thread thread);
/* Has these called around each fork from now on: before it and after it in the parent,
 * and in the child. -ENOMEM. */
int sys_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void));

/*
 * Cancellation. No call of this file is a cancellation point: the library's locks and
 * counters would not survive it. sys_no_cancel puts off what comes for the calling
 * thread, and returns what sys_cancel needs to have it as it was.
 */
int sys_no_cancel(void);
void sys_cancel(int before);

/* Calls fn(arg), and ended(arg) only if the thread ends in that: from the unwinding of
 * it, or however the system does it, on the same thread. */
void sys_guarded(void (*fn)(void *arg), void (*ended)(void *arg), void *arg);

/* Names the calling thread; cut to what the system takes. */
void sys_thread_name(const char *name);
size_t sys_stack_min(void);
static inline void sys_yield(void) { sched_yield(); }

/* A place to come back to from any depth of calls on the same thread. The signal mask
 * is not part of it, so setting one is no system call. */
typedef sigjmp_buf sys_jump;
#define sys_jump_set(jump) sigsetjmp(jump, 0)
#define sys_jump_back(jump) siglongjmp(jump, 1)

/* One pause of a spinning thread. */
static inline void sys_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/*
 * Descriptors; all are made close-on-exec and non-blocking. sys_eventfd and
 * sys_timerfd give -ENOSYS where the system or the build has none.
 */
int sys_eventfd(int *ret_fd);
int sys_timerfd(int *ret_fd);
int sys_pipe(int ret_fds[2]);
void sys_close(int fd);
/* Makes a timerfd readable once, ns from now. */
void sys_timerfd_arm(int fd, int64_t ns);
/* Writes a token of `size` bytes; a full descriptor counts as written. */
void sys_token_write(int fd, size_t size);
/* Reads all tokens there are. */
void sys_token_drain(int fd, size_t size);

#endif
