/* The kernels of forward passes. */
#include <math.h>
#include <string.h>

#include "ckernels.h"

#define CK_SOURCE "forward.inc"
#define CK_PORTABLE_LANES 8
#include "each_instruction_set.inc"

CK_CHOOSE(forward)
