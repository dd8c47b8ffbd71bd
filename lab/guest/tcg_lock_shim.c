/* Preloaded into QEMU 7.2 so that COLO survives its first checkpoint under TCG.
 *
 * The COLO thread saves guest RAM without the big lock (migration/colo.c,
 * colo_do_checkpoint_transaction). With TCG that path reaches run_on_cpu (softmmu/cpus.c), which
 * waits on a condition variable and names the big lock as its mutex, although its thread does not
 * hold it. POSIX leaves the outcome open; with glibc the wait returns owning a lock that nobody
 * will ever release, and QEMU hangs. Here such a wait is a short sleep instead: the caller loops on
 * its condition anyway. With KVM the path is never taken, so the shim is not loaded there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef int (*cond_wait)(pthread_cond_t *, pthread_mutex_t *);

static cond_wait wait_of_libc;
static __thread pid_t self;

__attribute__((constructor)) static void bind_libc(void)
{
    /* Named, because a plain dlsym may find the version from before 2.3.2, whose condition is laid out otherwise. */
    wait_of_libc = (cond_wait)dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    const struct timespec millisecond = { 0, 1000000 };

    if (!self)
        self = syscall(SYS_gettid);
    if (mutex->__data.__owner == self)
        return wait_of_libc(condition, mutex);
    nanosleep(&millisecond, NULL);
    return 0;
}
