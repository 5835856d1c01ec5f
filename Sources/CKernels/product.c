/* Dense products. */
#include <string.h>

#include "ckernels.h"

/* Of k, what the rows of A in use hold in the first-level cache, and how far those rows are apart. */
enum { inner_block = 384, inner_stride = inner_block + 16 };

#define CK_SOURCE "product.inc"
#define CK_PORTABLE_LANES 4
#include "each_instruction_set.inc"

CK_CHOOSE(product)
