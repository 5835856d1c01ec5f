/* Private to CKernels. */
#ifndef CK_AVX2_H
#define CK_AVX2_H

#include "ckernels.h"

#if defined(__x86_64__)
/* Run only where the processor has AVX2, FMA, F16C, BMI and BMI2. */
const ck_kernels *ck_avx2_kernels(void);
#endif

#endif
