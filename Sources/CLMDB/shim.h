#include <lmdb.h>

#if defined(__linux__)
#include <sys/vfs.h>

/* Swift's C library module leaves out <sys/vfs.h>. Returns f_type of the file system `path` lies on, or -1. */
static inline long long clmdb_file_system_type(const char *path) {
    struct statfs status;
    return statfs(path, &status) == 0 ? (long long)(unsigned int)status.f_type : -1;
}
#else
#include <sys/mount.h>
#include <sys/param.h>

/* 0 when `path` lies on a local file system, 1 when not, -1 when that cannot be told. */
static inline long long clmdb_file_system_type(const char *path) {
    struct statfs status;
    return statfs(path, &status) == 0 ? !(status.f_flags & MNT_LOCAL) : -1;
}
#endif
