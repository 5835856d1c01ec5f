/* The kernels of backward passes and optimizers. */
#include <math.h>
#include <string.h>

#include "ckernels.h"

#define CK_SOURCE "backward.inc"
#define CK_PORTABLE_LANES 8
#include "each_instruction_set.inc"

CK_CHOOSE(backward)
