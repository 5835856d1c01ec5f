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

int ck_zero_bits(const void *words, size_t count, int width) {
    const uint8_t *bytes = words;
    uint64_t all = 0;
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t eight;
        memcpy(&eight, bytes + i, 8);
        all |= eight;
    }
    if (i < count) {
        uint64_t rest = 0;
        memcpy(&rest, bytes + i, count - i);
        all |= rest;
    }
    for (int half = 32; half >= 8 * width; half /= 2) all |= all >> half;
    if (width < 8) all &= ((uint64_t)1 << 8 * width) - 1;
    return all ? __builtin_ctzll(all) : 8 * width;
}
