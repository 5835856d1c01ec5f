#include "ckpt.h"
#include "ckpt_support.h"

#include <string.h>

/* Storage of the thread's own: an error on one is none on another. Swift has none that a C caller's threads could use. */
enum { capacity = 4096 };
static _Thread_local char message[capacity];
static _Thread_local char hint[capacity];

static void keep(char *place, const char *text)
{
    size_t count = strlen(text);
    if (count >= capacity) {
        count = capacity - 1;
        while (count > 0 && ((unsigned char)text[count] & 0xC0) == 0x80) count--;
    }
    /* One line, whatever a path or the name of a tensor has in it. */
    for (size_t i = 0; i < count; i++) place[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? '?' : text[i];
    place[count] = 0;
}

void ck_error_set(const char *new_message, const char *new_hint)
{
    keep(message, new_message);
    keep(hint, new_hint);
}

const char *ckpt_error_message(void) { return message; }

const char *ckpt_error_hint(void) { return hint; }
