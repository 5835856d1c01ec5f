/* Calls of the operating system that Swift cannot make or that differ between Linux and macOS. */
#ifndef CK_PLATFORM_H
#define CK_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

/* Processors this process may run on: follows taskset and cpusets. At least 1. */
int ck_processor_count(void);

/* Shares all blocks of `source` with the empty file `target` where the file system can (FICLONE; 0), else
   returns errno with `target` unchanged. */
int ck_clone_file(int target, int source);

/* Tells the C library's allocator to keep large freed blocks for reuse, up to 256 MiB, where it can be told. */
void ck_keep_freed_memory(void);

/* Asks for large pages for memory that is not yet touched, where the system has such. Only a wish. */
void ck_wish_large_pages(void *start, size_t count);

/* Whether the system has all pages of mapped memory in memory: a touch of them then waits for no disk, and meets none of its errors. */
int ck_is_resident(const void *start, size_t count);

/* memcpy for what is too large to be used from the caches soon: it is written past them, which spares memory a read of what is overwritten. A plain
   memcpy where the processor has no such stores. */
void ck_copy_streaming(void *target, const void *source, size_t count);

/* Tells the processor that this thread waits for another. */
static inline void ck_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Makes file data, and on macOS the drive's cache, durable. Returns 0 or errno. */
int ck_sync_file(int descriptor);

/* Gives the file system the space of bytes of a file back, which then read as zeros; the file stays as long as it is. Where there is a
   hole already nothing happens. Returns 0 or errno. */
int ck_punch_hole(int descriptor, long long offset, long long count);

#endif
