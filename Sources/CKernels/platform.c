#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

int ck_is_resident(const void *start, size_t count) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    enum { pages = 512 };
    uintptr_t first = (uintptr_t)start / page * page;
    const uintptr_t end = (uintptr_t)start + count;
    while (first < end) {
        size_t here = (end - first + page - 1) / page;
        if (here > pages) here = pages;
#if defined(__APPLE__)
        char states[pages];
#else
        unsigned char states[pages];
#endif
        if (mincore((void *)first, here * page, states) != 0) return 0;
        for (size_t index = 0; index < here; index++)
            if (!(states[index] & 1)) return 0;
        first += here * page;
    }
    return 1;
}

void ck_copy_streaming(void *target, const void *source, size_t count) {
#if defined(__SSE2__)
    enum { line = 64, ahead = 1024 };
    char *to = target;
    const char *from = source;
    /* Whole lines alone are written past the caches. */
    size_t head = (line - (uintptr_t)to % line) % line;
    if (head > count) head = count;
    memcpy(to, from, head);
    size_t done = head;
    for (; count - done >= line; done += line) {
        const __m128i *in = (const __m128i *)(from + done);
        __m128i *out = (__m128i *)(to + done);
        /* A hint: past the end it is nothing. */
        _mm_prefetch(from + done + ahead, _MM_HINT_NTA);
        __m128i a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1), c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
    }
    /* Such stores are seen by others in no order before this. */
    _mm_sfence();
    memcpy(to + done, from + done, count - done);
#else
    memcpy(target, source, count);
#endif
}
