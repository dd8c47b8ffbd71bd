/* Preloaded into QEMU 7.2 so that COLO survives its first checkpoint under TCG.
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
 * what it waits for.
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

typedef int (*cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static cond_timedwait wait_of_libc;
static __thread pid_t self;

/* The longest wait. */
#define MOMENT_NS 20000000

__attribute__((constructor)) static void bind_libc(void)
{
    /* Named, because a plain dlsym may find the version from before 2.3.2, whose condition is laid out otherwise. */
    wait_of_libc = (cond_timedwait)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
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
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += MOMENT_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    error = wait_of_libc(condition, mutex, &until);
    return error == ETIMEDOUT ? 0 : error;
}
