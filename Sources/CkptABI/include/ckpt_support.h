/* What the Swift side of the library needs of C. Not part of its interface. */
#ifndef CKPT_SUPPORT_H
#define CKPT_SUPPORT_H

#include <stddef.h>

/* Keeps what went wrong for this thread; cut at 4,095 bytes, between characters, with question marks for
   control characters. */
void ck_error_set(const char *message, const char *hint);

#endif
