/* Preloaded into QEMU before 11.0 so that COLO survives its first checkpoint under TCG.
 *
 * The COLO thread saves guest RAM without the big lock (migration/colo.c,
 * colo_do_checkpoint_transaction). With TCG that path reaches run_on_cpu (softmmu/cpus.c), which
 * waits on a condition variable and names the big lock as its mutex, although its thread does not
 * hold it. POSIX leaves the outcome open; with glibc the wait returns owning a lock that nobody
 * will ever release, and QEMU hangs. Here such a wait is a short sleep instead: the caller loops on
 * its condition anyway.
 *
 * Work is queued for a vCPU without the lock then, too, so the vCPU may look for work, be woken, and
 * wait, in this order: nobody wakes it again, and the checkpoint never ends. So no wait is longer
 * than a moment: a condition may seem signalled for no reason (POSIX), and QEMU looks each time at
 * what it waits for. The deadline names its clock: pthread_cond_timedwait measures by the condition's, which is
 * CLOCK_MONOTONIC in QEMU 10.0, where a deadline by CLOCK_REALTIME lies decades ahead.
 *
 * With KVM the path is never taken, so the shim is not loaded there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int (*cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);

static cond_clockwait wait_of_libc;
static __thread pid_t self;

/* The longest wait. */
#define MOMENT_NS 20000000

__attribute__((constructor)) static void bind_libc(void)
{
    wait_of_libc = (cond_clockwait)dlsym(RTLD_NEXT, "pthread_cond_clockwait");
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    const struct timespec millisecond = { 0, 1000000 };
    struct timespec until;
    int error;

    if (!self)
        self = syscall(SYS_gettid);
    if (mutex->__data.__owner != self) {
        nanosleep(&millisecond, NULL);
        return 0;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += MOMENT_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    error = wait_of_libc(condition, mutex, CLOCK_MONOTONIC, &until);
    return error == ETIMEDOUT ? 0 : error;
}
