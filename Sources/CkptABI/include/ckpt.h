/*
 * ckpt.h: the C interface of ckpt, a store of checkpoints.
 *
 * Conventions
 *
 * - Every function that can fail returns a `ckpt_status`; on anything but CKPT_OK its out-parameters are as they were, and
 *   `ckpt_error_message` says on the same thread what was wrong.
 * - Out-parameters come last. Those named `json` and `text` are given strings of their own, ended by a NUL: give them back with
 *   `ckpt_free`. Documents are those that the command prints with `--json`: members may be added, never removed or renamed.
 * - Handles are opaque. One that was closed, was never made or is of another kind is refused with CKPT_BAD_HANDLE: none is looked
 *   behind. Closing NULL does nothing.
 * - Strings are UTF-8 and end with a NUL. Text or a pointer that cannot be is refused with CKPT_BAD_ARGUMENT. Where a pointer and a
 *   count go together, count elements can be read or written there: that is the caller's word, as in all of C.
 * - Structures whose first member is `struct_size` are filled with zeros and then `struct_size = sizeof(it)`, by `CKPT_INIT`: so a newer library knows
 *   what an older program gave it.
 * - A message is one line: of names that have line breaks in them, or other control characters, it shows question marks.
 *
 * Threads and processes
 *
 * Every function may be called from any thread, on the same handles too; only closing a handle, or giving back what it lent, is for when no other
 * thread is using it. Readers never wait; writers wait for the store's lock. After `fork` handles go on working in the child, whatever other threads
 * of the parent were doing: a store is opened there again when it is first used. A child that was forked
 * in a progress callback must not return from it. Signals are left alone.
 */
#ifndef CKPT_H
#define CKPT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version and errors ---------------------------------------------------------------------------------------------- */

/* Raised when a program that was compiled against an older header would no longer work. */
#define CKPT_ABI_VERSION 1

#ifdef __cplusplus
#define CKPT_INIT(structure) ([] { structure ckpt_made{}; ckpt_made.struct_size = sizeof(structure); return ckpt_made; }())
#else
#define CKPT_INIT(structure) ((structure){.struct_size = sizeof(structure)})
#endif

typedef int32_t ckpt_status;
enum {
    CKPT_OK = 0,
    CKPT_FAILED = 1,        /* something else, as the message says */
    CKPT_NO_STORE = 2,      /* no store at this path */
    CKPT_NO_SUCH_REF = 3,   /* no such snapshot, tensor, probe or file */
    CKPT_BAD_INPUT = 4,     /* a file or a value that is not what it should be */
    CKPT_CONFLICT = 5,      /* something else is there already, or needs it */
    CKPT_INCOMPLETE = 6,    /* a checkpoint that is still being written */
    CKPT_LOCKED = 7,        /* another process writes; the wait was too long */
    CKPT_DAMAGED = 8,       /* what was read is not what was written */
    CKPT_INCOMPATIBLE = 9,  /* a store or a rule of a newer ckpt */
    CKPT_DISK_FULL = 10,
    CKPT_INTERRUPTED = 11,  /* the progress callback said so */
    CKPT_BAD_HANDLE = 12,
    CKPT_BAD_ARGUMENT = 13,
};

/* CKPT_ABI_VERSION of the library that is there. */
int32_t ckpt_abi_version(void);

/* The version of ckpt, such as "0.1.0". For ever valid. */
const char *ckpt_version(void);

/* "ok", "no such ref" and so on; "unknown" for any other number. For ever valid. */
const char *ckpt_status_name(ckpt_status status);

/*
 * What the last failure on this thread was: one line that names the file, the tensor, the byte. Empty before the first.
 * Valid until the next call of a function of this library on this thread.
 */
const char *ckpt_error_message(void);

/* What to do about it; empty when there is nothing to say. As `ckpt_error_message`. */
const char *ckpt_error_hint(void);

/* Gives back a string or a memory block that a function of this library has given. NULL is nothing. */
void ckpt_free(void *given);

/*
 * Called a few times a second on the thread that made the call, with bytes done and bytes in all, which may both be zero.
 * Anything but zero stops the call, which then returns CKPT_INTERRUPTED and has changed nothing but what was committed before.
 */
typedef int32_t (*ckpt_progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);

/* ---- Stores ----------------------------------------------------------------------------------------------------------- */

typedef struct ckpt_store ckpt_store;

/* Makes an empty store in the directory `path`. CKPT_CONFLICT when there is one. */
ckpt_status ckpt_store_create(const char *path);

/* Opens the store in the directory `path`. Writers wait `lock_timeout` seconds for others, 0 or more. */
ckpt_status ckpt_store_open(const char *path, double lock_timeout, ckpt_store **store);

/* Snapshots of it that are open stay so. */
ckpt_status ckpt_store_close(ckpt_store *store);

/* All steps of `run`, or of all runs where it is NULL, as `ckpt log --json`: an array, by run and step. */
ckpt_status ckpt_store_history(ckpt_store *store, const char *run, char **json);

/* As `ckpt stats --json`. */
ckpt_status ckpt_store_stats(ckpt_store *store, char **json);

/* The figures of a snapshot, as an object: those its trainer wrote, and those it was given. */
ckpt_status ckpt_store_metrics(ckpt_store *store, const char *ref, char **json);
ckpt_status ckpt_store_set_metric(ckpt_store *store, const char *ref, const char *name, double value);

ckpt_status ckpt_store_tag(ckpt_store *store, const char *ref, const char *tag);
ckpt_status ckpt_store_untag(ckpt_store *store, const char *tag);

/* A pinned snapshot has an image and is never pruned. */
ckpt_status ckpt_store_pin(ckpt_store *store, const char *ref);
ckpt_status ckpt_store_unpin(ckpt_store *store, const char *ref);

/* Takes a snapshot out of the history. CKPT_CONFLICT while it is pinned or tagged. */
ckpt_status ckpt_store_remove(ckpt_store *store, const char *ref);

/* The directory of the snapshot's image, made when there is none: the checkpoint's own files, to be read only. */
ckpt_status ckpt_store_path(ckpt_store *store, const char *ref, char **text);

/* Writes the snapshot's files to `directory`, which must not be there. */
ckpt_status ckpt_store_export(ckpt_store *store, const char *ref, const char *directory, ckpt_progress progress, void *context);

/* The bytes of a small file of the snapshot, such as config.json; give `bytes` back with `ckpt_free`. */
ckpt_status ckpt_store_file(ckpt_store *store, const char *ref, const char *path, uint8_t **bytes, size_t *count);

/*
 * Checks the store at `path`: pages, records, counts, every block and every image; with `quick` nothing is decoded. CKPT_OK
 * whatever it finds, which is as `ckpt verify --json` has it.
 */
ckpt_status ckpt_store_verify(const char *path, int32_t quick, ckpt_progress progress, void *context, char **json);

/*
 * Drops snapshots that `policy` does not keep: a JSON object as `ckpt prune --policies` shows one, such as
 * {"keep_last": 3, "keep_every": 1000}. Of the `run_count` runs named, or of all where that is 0. With `dry_run` nothing is
 * changed. As `ckpt prune --json`.
 */
ckpt_status ckpt_store_prune(
    ckpt_store *store, const char *policy, const char *const *runs, size_t run_count, int32_t dry_run, ckpt_progress progress, void *context,
    char **json);

/* ---- Snapshots and tensors -------------------------------------------------------------------------------------------- */

typedef struct ckpt_snapshot ckpt_snapshot;
typedef struct ckpt_view ckpt_view;

/* A tensor of a snapshot. What it points to is lent: valid until the snapshot is closed. */
typedef struct ckpt_tensor {
    size_t struct_size;
    const char *name;
    const char *file;        /* relative to the checkpoint */
    const char *part;        /* "weights" or "optimizer" */
    const char *dtype;       /* as safetensors writes it: "BF16", "F32", "F8_E4M3", ... */
    uint32_t bits;           /* of an element */
    uint32_t rank;
    const uint64_t *shape;   /* rank numbers */
    const uint64_t *strides; /* rank numbers, in elements; NULL when contiguous in row-major order */
    uint64_t byte_count;     /* of its elements, side by side */
    uint64_t file_offset;    /* of its first element, in its file: in the image's copy of it, and in an export's */
} ckpt_tensor;

/* Opens the snapshot that `ref` names: "run@step", "run" (its newest), "run~2", a tag, or the beginning of an id. */
ckpt_status ckpt_snapshot_open(ckpt_store *store, const char *ref, ckpt_snapshot **snapshot);
ckpt_status ckpt_snapshot_close(ckpt_snapshot *snapshot);

/* Its id, 64 digits and a NUL. */
ckpt_status ckpt_snapshot_id(ckpt_snapshot *snapshot, char id[65]);

/* {"id", "files": [{"path", "bytes", "part", "directory"}], "dropped": [part], "image"}. */
ckpt_status ckpt_snapshot_describe(ckpt_snapshot *snapshot, char **json);

/* What the headers of its safetensors files say besides their tensors: {file: {name: text}}. */
ckpt_status ckpt_snapshot_metadata(ckpt_snapshot *snapshot, char **json);

/* Tensors are numbered from 0, file by file, by name in each. */
ckpt_status ckpt_snapshot_tensor_count(ckpt_snapshot *snapshot, size_t *count);
ckpt_status ckpt_snapshot_tensor(ckpt_snapshot *snapshot, size_t index, ckpt_tensor *tensor);

/* The number of the tensor `name`, or "file:name". Weights are looked through first. CKPT_NO_SUCH_REF when there is none. */
ckpt_status ckpt_snapshot_find(ckpt_snapshot *snapshot, const char *name, size_t *index);

/*
 * The tensor's bytes in place, in the mapped image: nothing is read or copied. `count` is from its first to its last element. They may be read until
 * the view is closed, also when the snapshot and the store are closed, or the image is dropped. No alignment is promised.
 * CKPT_CONFLICT when the snapshot has no image: `ckpt_store_path` makes one, `ckpt_snapshot_read` needs none.
 */
ckpt_status ckpt_snapshot_map(ckpt_snapshot *snapshot, size_t index, ckpt_view **view, const void **bytes, size_t *count);
ckpt_status ckpt_view_close(ckpt_view *view);

/* A stretch of a tensor's elements in row-major order, and where it goes. */
typedef struct ckpt_read {
    size_t index;     /* of the tensor */
    uint64_t offset;  /* in bytes, of the first that is read */
    void *buffer;
    uint64_t count;   /* bytes */
} ckpt_read;

/*
 * Reads from the image where there is one, else from the packed blocks; on all processors, whatever sizes the stretches have.
 * When it fails buffers hold nothing of use.
 */
ckpt_status ckpt_snapshot_read(ckpt_snapshot *snapshot, const ckpt_read *reads, size_t count, ckpt_progress progress, void *context);

/* ---- Ingest ----------------------------------------------------------------------------------------------------------- */

enum { CKPT_PACK_DELTA = 0, CKPT_PACK_DENSE = 1, CKPT_PACK_RAW = 2 };

typedef struct ckpt_ingest_options {
    size_t struct_size;
    const char *parent;               /* the snapshot it was trained from; NULL: the run's step before */
    const char *const *tags;
    size_t tag_count;
    const char *const *metric_names;  /* metric_count figures that the snapshot is given */
    const double *metric_values;
    size_t metric_count;
    int32_t packing;                  /* CKPT_PACK_... */
    int32_t pin;
    int32_t leaves_out_optimizer;
    int32_t without_image;
    int32_t replaces;                 /* what stands at this run and step */
    uint32_t optimizer_keep;          /* after it the run keeps so many optimizer states; 0: all */
} ckpt_ingest_options;

/* Bytes of memory. */
typedef struct ckpt_piece {
    const void *bytes;
    uint64_t count;
} ckpt_piece;

/* A file of a checkpoint. */
typedef struct ckpt_file {
    const char *path;          /* its name in the checkpoint, "/" between directories */
    const char *location;      /* where it is on disk; NULL: it is `pieces`, end to end */
    const ckpt_piece *pieces;
    size_t piece_count;
} ckpt_file;

/*
 * Takes the checkpoints at `path` in, as `ckpt ingest PATH --json`: an array with an object for each. `run` NULL: told by the directory; `step` NULL:
 * by its name. `options` may be NULL.
 */
ckpt_status ckpt_ingest_path(
    ckpt_store *store, const char *path, const char *run, const uint64_t *step, const ckpt_ingest_options *options, ckpt_progress progress,
    void *context, char **json);

/*
 * Takes a checkpoint in that is `file_count` files in memory or on disk, as `run` at `step`. One commit makes it visible; when it fails nothing has
 * changed. What the files name must stay as it is until the call returns.
 *
 * Of a training of several processes each takes in its own files as a piece, under a run of its own and with `is_piece`; the last names
 * those as `joins` ("run@step"): their files join the snapshot, and the pieces leave the history in the same commit.
 */
ckpt_status ckpt_ingest_files(
    ckpt_store *store, const char *run, uint64_t step, const ckpt_file *files, size_t file_count, const char *const *joins, size_t join_count,
    int32_t is_piece, const ckpt_ingest_options *options, ckpt_progress progress, void *context, char **json);

/* ---- Differences ------------------------------------------------------------------------------------------------------ */

enum { CKPT_BY_TENSOR = 0, CKPT_BY_LAYER = 1, CKPT_BY_KIND = 2 };

typedef struct ckpt_diff_options {
    size_t struct_size;
    int32_t by;         /* CKPT_BY_... */
    int32_t full;       /* units in the last place, rows and columns too */
    int32_t norms;      /* of every row and column; with full and by tensor */
    uint32_t spectrum;  /* so many singular values of each matrix's difference, up to 64; by tensor */
    const char *only;   /* a glob of names; NULL: all */
} ckpt_diff_options;

/*
 * What moved from the first to the second, as format-spec/diff-json.md says. Each is a ref of its store, or a path where the store
 * is NULL. `options` may be NULL.
 */
ckpt_status ckpt_diff(
    ckpt_store *first_store, const char *first, ckpt_store *second_store, const char *second, const ckpt_diff_options *options,
    ckpt_progress progress, void *context, char **json);

/* ---- Probes and entropy records --------------------------------------------------------------------------------------- */

typedef struct ckpt_sample {
    const char *id;
    const int32_t *tokens;
    size_t token_count;
    const uint32_t *supervised;  /* range_count pairs, first and past the last: ascending, apart, none from 0 */
    size_t range_count;
} ckpt_sample;

/* Puts a probe of tokens into the store under `name`. An object as `ckpt probe ls --json` has one. */
ckpt_status ckpt_probe_add(ckpt_store *store, const char *name, const ckpt_sample *samples, size_t count, char **json);

/* All probes, as `ckpt probe ls --json`. */
ckpt_status ckpt_probe_list(ckpt_store *store, char **json);

/* The samples of a probe, an array as the rows of `ckpt probe show --json`. */
ckpt_status ckpt_probe_samples(ckpt_store *store, const char *name, char **json);

/* Takes the name from a probe; the last takes its samples and entropy records along. */
ckpt_status ckpt_probe_remove(ckpt_store *store, const char *name);

/*
 * Outputs of a snapshot on samples of a probe, a figure for each supervised token, sample by sample. Columns that a record lacks are NULL.
 * In nats, but for `top1`, the most likely token, and `hard_negatives`, a share.
 */
typedef struct ckpt_outputs {
    size_t struct_size;
    size_t sample_count;
    size_t token_count;           /* of all samples */
    const uint64_t *samples;      /* sample_count places in the probe */
    const uint64_t *starts;       /* sample_count + 1: where each one's figures begin, and the end of the last one's */
    const float *entropy;
    const float *nll;
    const uint32_t *top1;
    const float *kl_strong_weak;
    const float *kl_weak_strong;
    const float *ln_c;
    const float *hard_negatives;
} ckpt_outputs;

/*
 * Adds outputs to the entropy record of `ref` on `probe`. `settings` is a JSON object of texts that make it another record, `provenance`
 * one that says how the figures came about. With the settings {"precision": "f32"} and the columns entropy, nll and top1 it is the record that
 * `ckpt gap` and `ckpt prune` read. A sample that is there already must be the same to the bit. `json`, where it is not NULL, is given
 * an object as the records of `ckpt probe show --json`.
 */
ckpt_status ckpt_entropies_put(
    ckpt_store *store, const char *ref, const char *probe, const char *settings, const char *provenance, const ckpt_outputs *outputs, char **json);

/* What the record has; CKPT_NO_SUCH_REF when there is none. Give it back with `ckpt_outputs_free`. */
ckpt_status ckpt_entropies_get(
    ckpt_store *store, const char *ref, const char *probe, const char *settings, ckpt_outputs *outputs);

/* Gives back what `ckpt_entropies_get` filled. */
void ckpt_outputs_free(ckpt_outputs *outputs);

/* All records, or those of a snapshot or a probe (NULL: of all): an array. */
ckpt_status ckpt_entropies_list(ckpt_store *store, const char *ref, const char *probe, char **json);

#ifdef __cplusplus
}
#endif

#endif
