/* Threads, and what threads share, in a process that may be forked at any time. */
#ifndef CK_PROCESSES_H
#define CK_PROCESSES_H

/* Locks of the process that are free in a child of fork, whatever threads of the parent were doing: a fork waits for them. Not to be
   held while another is taken. */
enum ck_shared_lock { ck_lock_environments, ck_lock_handles, ck_shared_locks };
void ck_shared_lock(enum ck_shared_lock lock);
void ck_shared_unlock(enum ck_shared_lock lock);

/* Takes an exclusive lock that belongs to the open file, not to the process: OFD locks on Linux, flock on macOS. Ends with
   `ck_unlock_file`, and when the process ends, however it does. A child of fork does not have it: what it has inherited of the descriptor is
   closed there, else the lock would last as long as the child. Returns 0, or errno (EAGAIN when another holds it). */
int ck_lock_file(int descriptor);

/* To be called before the descriptor is closed. */
void ck_unlock_file(int descriptor);

/* Starts a thread that takes no signals, which calls `body` with `context`. Returns what `ck_thread_join` is to be called with, or NULL
   when there can be no more threads. */
typedef struct ck_thread ck_thread;
ck_thread *ck_thread_start(void (*body)(void *context), void *context);
void ck_thread_join(ck_thread *thread);

#endif
