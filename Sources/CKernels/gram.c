/* Products with a matrix and its transpose. */
#include <string.h>

#include "ckernels.h"

#define CK_QUOTE(name) #name
#define CK_TEXT(name) CK_QUOTE(name)

#define CK_SOURCE "gram.inc"
#define CK_PORTABLE_LANES 4
#include "each_instruction_set.inc"

CK_CHOOSE(gram)
