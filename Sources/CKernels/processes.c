#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "processes.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#if !defined(__linux__)
#include <sys/file.h>
#endif

static pthread_mutex_t locks[ck_shared_locks] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

/* Descriptors of files that are locked. One beyond the room is unlocked like any other, but a child keeps it. */
enum { locked_room = 256 };
static int locked[locked_room];
static int locked_count;
static pthread_mutex_t locked_lock = PTHREAD_MUTEX_INITIALIZER;

static void before_fork(void) {
    for (int i = 0; i < ck_shared_locks; i++) pthread_mutex_lock(&locks[i]);
    pthread_mutex_lock(&locked_lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&locked_lock);
    for (int i = 0; i < ck_shared_locks; i++) pthread_mutex_unlock(&locks[i]);
}

static void after_fork_in_child(void) {
    /* The number stays taken, by nothing: it may be closed again by who thinks it is the lock. */
    int nothing = locked_count > 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    for (int i = 0; i < locked_count; i++) {
        if (nothing < 0 || dup2(nothing, locked[i]) < 0) close(locked[i]);
        else fcntl(locked[i], F_SETFD, FD_CLOEXEC);
    }
    if (nothing >= 0) close(nothing);
    locked_count = 0;
    after_fork();
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(before_fork, after_fork, after_fork_in_child); }

void ck_shared_lock(enum ck_shared_lock lock) { pthread_mutex_lock(&locks[lock]); }
void ck_shared_unlock(enum ck_shared_lock lock) { pthread_mutex_unlock(&locks[lock]); }

#if defined(__linux__)
static int change_lock(int descriptor, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    if (fcntl(descriptor, F_OFD_SETLK, &lock) == 0) return 0;
    return errno == EACCES ? EAGAIN : errno;
}
#endif

int ck_lock_file(int descriptor) {
    pthread_mutex_lock(&locked_lock);
#if defined(__linux__)
    int code = change_lock(descriptor, F_WRLCK);
#else
    int code = flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
#endif
    if (code == 0 && locked_count < locked_room) locked[locked_count++] = descriptor;
    pthread_mutex_unlock(&locked_lock);
    return code;
}

void ck_unlock_file(int descriptor) {
    pthread_mutex_lock(&locked_lock);
    for (int i = 0; i < locked_count; i++) {
        if (locked[i] == descriptor) {
            locked[i] = locked[--locked_count];
            break;
        }
    }
#if defined(__linux__)
    change_lock(descriptor, F_UNLCK);
#else
    flock(descriptor, LOCK_UN);
#endif
    pthread_mutex_unlock(&locked_lock);
}

struct ck_thread {
    pthread_t thread;
    void (*body)(void *context);
    void *context;
};

static void *run(void *given) {
    ck_thread *thread = given;
    thread->body(thread->context);
    return NULL;
}

ck_thread *ck_thread_start(void (*body)(void *context), void *context) {
    ck_thread *thread = malloc(sizeof *thread);
    if (!thread) return NULL;
    thread->body = body;
    thread->context = context;
    /* Signals are for the threads of the program. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&thread->thread, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0) return thread;
    free(thread);
    return NULL;
}

void ck_thread_join(ck_thread *thread) {
    pthread_join(thread->thread, NULL);
    free(thread);
}
