// A library to be preloaded: the files of one directory fail at a given moment. Linux.
//
//   FAULT_PATH   the directory
//   FAULT_AT     the number of the call that fails, from 1: of those that write to or sync a file below it
//   FAULT_KIND   full   that write and all later ones find the disk full
//                error  that call fails with EIO
//                short  that write writes half of its bytes; a sync fails with EIO
//                kill   the process is killed before that call
//                torn   the process is killed in the middle of that write; before that sync
//                lost   the process is killed before that sync, and the last write since the one before it never came to pass
//   FAULT_LOG    a file that gets the number of calls at the end
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls;
static long at;
static char kind[8];
static char directory[PATH_MAX];

// What the last write replaced, to take it back.
static struct {
    int descriptor;
    off_t offset;
    size_t count;
    off_t size;
    char *before;
} last = {.descriptor = -1};

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_rename)(const char *, const char *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_fallocate = dlsym(RTLD_NEXT, "fallocate");
    real_rename = dlsym(RTLD_NEXT, "rename");
    const char *value = getenv("FAULT_PATH");
    if (value == NULL || realpath(value, directory) == NULL) directory[0] = 0;
    value = getenv("FAULT_AT");
    at = value ? atol(value) : 0;
    value = getenv("FAULT_KIND");
    strncpy(kind, value ? value : "", sizeof kind - 1);
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_LOG");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file == NULL) return;
    fprintf(file, "%ld\n", calls);
    fclose(file);
}

static int is(const char *name) { return strcmp(kind, name) == 0; }

static int is_below(const char *path) {
    size_t count = strlen(directory);
    return count > 0 && strncmp(path, directory, count) == 0 && (path[count] == '/' || path[count] == 0);
}

static int is_watched(int descriptor) {
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t count = readlink(name, path, sizeof path - 1);
    if (count < 0) return 0;
    path[count] = 0;
    return is_below(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

enum answer { GO_ON, HALF, FULL, FAIL };

// What is to become of the next call.
static enum answer count_call(int is_write) {
    pthread_mutex_lock(&lock);
    long number = ++calls;
    pthread_mutex_unlock(&lock);
    if (is("full")) return at > 0 && number >= at && is_write ? FULL : GO_ON;
    if (number != at) return GO_ON;
    if (is("error")) return FAIL;
    if (is("short")) return is_write ? HALF : FAIL;
    if (is("torn") && is_write) return HALF;
    if (is("kill") || is("torn")) die();
    if (is("lost")) {
        if (is_write) {
            // Up to the next sync.
            at++;
        } else {
            if (last.descriptor >= 0) {
                real_pwrite(last.descriptor, last.before, last.count, last.offset);
                struct stat status;
                if (fstat(last.descriptor, &status) == 0 && status.st_size > last.size) real_ftruncate(last.descriptor, last.size);
            }
            die();
        }
    }
    return GO_ON;
}

static void remember(int descriptor, size_t count, off_t offset) {
    if (!is("lost")) return;
    pthread_mutex_lock(&lock);
    free(last.before);
    struct stat status;
    fstat(descriptor, &status);
    last.descriptor = descriptor;
    last.offset = offset;
    last.size = status.st_size;
    last.before = calloc(1, count + 1);
    // Not there yet: zeros, cut off again with the size.
    ssize_t there = pread(descriptor, last.before, count, offset);
    last.count = there > 0 ? (size_t)there : 0;
    pthread_mutex_unlock(&lock);
}

static void forget(void) {
    pthread_mutex_lock(&lock);
    last.descriptor = -1;
    pthread_mutex_unlock(&lock);
}

static int failed(enum answer answer) {
    errno = answer == FULL ? ENOSPC : EIO;
    return -1;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    if (!is_watched(descriptor)) return real_pwrite(descriptor, bytes, count, offset);
    enum answer answer = count_call(1);
    if (answer == FULL || answer == FAIL) return failed(answer);
    if (answer == HALF) {
        ssize_t written = real_pwrite(descriptor, bytes, count > 1 ? count / 2 : 1, offset);
        if (is("torn")) die();
        return written;
    }
    remember(descriptor, count, offset);
    return real_pwrite(descriptor, bytes, count, offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off_t offset) { return pwrite(descriptor, bytes, count, offset); }

ssize_t write(int descriptor, const void *bytes, size_t count) {
    if (!is_watched(descriptor)) return real_write(descriptor, bytes, count);
    enum answer answer = count_call(1);
    if (answer == FULL || answer == FAIL) return failed(answer);
    if (answer == HALF) {
        ssize_t written = real_write(descriptor, bytes, count > 1 ? count / 2 : 1);
        if (is("torn")) die();
        return written;
    }
    remember(descriptor, count, lseek(descriptor, 0, SEEK_CUR));
    return real_write(descriptor, bytes, count);
}

ssize_t pwritev(int descriptor, const struct iovec *pieces, int count, off_t offset) {
    if (!is_watched(descriptor)) return real_pwritev(descriptor, pieces, count, offset);
    enum answer answer = count_call(1);
    if (answer == FULL || answer == FAIL) return failed(answer);
    if (answer == HALF) {
        // The first half of the pieces, or of the only one.
        ssize_t written = count > 1 ? real_pwritev(descriptor, pieces, count / 2, offset)
                                    : real_pwrite(descriptor, pieces[0].iov_base, pieces[0].iov_len / 2, offset);
        if (is("torn")) die();
        return written;
    }
    size_t bytes = 0;
    for (int index = 0; index < count; index++) bytes += pieces[index].iov_len;
    remember(descriptor, bytes, offset);
    return real_pwritev(descriptor, pieces, count, offset);
}

ssize_t pwritev64(int descriptor, const struct iovec *pieces, int count, off_t offset) { return pwritev(descriptor, pieces, count, offset); }

int fsync(int descriptor) {
    if (!is_watched(descriptor)) return real_fsync(descriptor);
    enum answer answer = count_call(0);
    if (answer != GO_ON) return failed(answer);
    forget();
    return real_fsync(descriptor);
}

int fdatasync(int descriptor) {
    if (!is_watched(descriptor)) return real_fdatasync(descriptor);
    enum answer answer = count_call(0);
    if (answer != GO_ON) return failed(answer);
    forget();
    return real_fdatasync(descriptor);
}

int ftruncate(int descriptor, off_t size) {
    if (!is_watched(descriptor)) return real_ftruncate(descriptor, size);
    enum answer answer = count_call(1);
    return answer == GO_ON ? real_ftruncate(descriptor, size) : failed(answer);
}

int ftruncate64(int descriptor, off_t size) { return ftruncate(descriptor, size); }

int fallocate(int descriptor, int mode, off_t offset, off_t count) {
    if (!is_watched(descriptor)) return real_fallocate(descriptor, mode, offset, count);
    enum answer answer = count_call(1);
    // Holes need no room.
    if (answer == FULL && (mode & FALLOC_FL_PUNCH_HOLE)) answer = GO_ON;
    return answer == GO_ON ? real_fallocate(descriptor, mode, offset, count) : failed(answer);
}

int fallocate64(int descriptor, int mode, off_t offset, off_t count) { return fallocate(descriptor, mode, offset, count); }

int rename(const char *from, const char *to) {
    char path[PATH_MAX];
    if (realpath(from, path) == NULL || !is_below(path)) return real_rename(from, to);
    enum answer answer = count_call(1);
    return answer == GO_ON ? real_rename(from, to) : failed(answer);
}
