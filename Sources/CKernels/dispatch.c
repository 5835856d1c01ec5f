#include <math.h>
#include <string.h>

#include "avx2.h"
#include "ckernels.h"

const ck_kernels *ck_active_kernels(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
        && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return ck_avx2_kernels();
#endif
    return ck_portable_kernels();
}

double ck_sampled_entropy(const uint8_t *bytes, size_t count) {
    enum { run = 64, runs = 64 };
    uint32_t histogram[256] = {0};
    size_t sampled = 0;
    if (count <= (size_t)run * runs) {
        for (size_t i = 0; i < count; i++) histogram[bytes[i]]++;
        sampled = count;
    } else {
        size_t step = (count - run) / (runs - 1);
        for (size_t r = 0; r < runs; r++) {
            for (size_t i = 0; i < run; i++) histogram[bytes[r * step + i]]++;
        }
        sampled = (size_t)run * runs;
    }
    if (sampled == 0) return 0;
    double bits = 0;
    for (int i = 0; i < 256; i++) {
        if (histogram[i]) bits -= histogram[i] * log2((double)histogram[i] / (double)sampled);
    }
    return bits / (double)sampled;
}

int ck_is_constant(const uint8_t *bytes, size_t count) {
    return count < 2 || memcmp(bytes, bytes + 1, count - 1) == 0;
}
