#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

void ck_keep_freed_memory(void) {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

#if defined(__linux__)
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

int ck_processor_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int count = CPU_COUNT(&set);
        if (count > 0) return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

void ck_wish_large_pages(void *start, size_t count) { madvise(start, count, MADV_HUGEPAGE); }

int ck_clone_file(int target, int source) { return ioctl(target, FICLONE, source) == 0 ? 0 : errno; }

int ck_sync_file(int descriptor) { return fsync(descriptor) == 0 ? 0 : errno; }

int ck_punch_hole(int descriptor, long long offset, long long count) {
    /* Nothing but a hole: the next data lies behind it, or there is none. */
    off_t data = lseek(descriptor, (off_t)offset, SEEK_DATA);
    if (data < 0 ? errno == ENXIO : data >= offset + count) return 0;
    int result;
    do result = fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)count);
    while (result < 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

#else

void ck_wish_large_pages(void *start, size_t count) {
    (void)start;
    (void)count;
}

int ck_processor_count(void) {
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int ck_clone_file(int target, int source) {
    (void)target, (void)source;
    return ENOTSUP; /* clonefile makes a new name; it cannot fill an open file */
}

int ck_sync_file(int descriptor) {
#if defined(F_FULLFSYNC)
    if (fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
    return fsync(descriptor) == 0 ? 0 : errno;
}

int ck_punch_hole(int descriptor, long long offset, long long count) {
#if defined(F_PUNCHHOLE)
    struct fpunchhole hole = {.fp_offset = offset, .fp_length = count};
    return fcntl(descriptor, F_PUNCHHOLE, &hole) == 0 ? 0 : errno;
#else
    (void)descriptor, (void)offset, (void)count;
    return EOPNOTSUPP;
#endif
}
#endif
