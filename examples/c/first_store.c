/*
 * A first store, in C: two checkpoints go in from memory, and are looked at in every way.
 *
 *   cc -std=c11 -I Sources/CkptABI/include examples/c/first_store.c -L "$(dirname "$(tools/library)")" -lckpt -o first_store
 *   ./first_store DIRECTORY
 *
 * DIRECTORY is made and must not hold a store yet.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt.h"

/* Ends the program when a call of the library has failed, and says what was wrong and what to do about it. */
static void check(ckpt_status status)
{
    if (status == CKPT_OK) return;
    /* Both are of this thread's last failure, until it calls the library again. */
    fprintf(stderr, "%s: %s\n", ckpt_status_name(status), ckpt_error_message());
    if (*ckpt_error_hint()) fprintf(stderr, "hint: %s\n", ckpt_error_hint());
    exit(1);
}

/* A model of two tensors, as a training has it in memory. */
struct model {
    float weight[4][3];
    float bias[4];
};

/*
 * Takes `model` in as `run` at `step`. A safetensors file is the length of its header in eight bytes, the header, which is JSON, and the
 * tensors one after the other. The library reads it from pieces, so the tensors need not be copied to stand behind their header.
 */
static void ingest(ckpt_store *store, const char *run, uint64_t step, const struct model *model, double loss)
{
    char json[256];
    int count = snprintf(
        json, sizeof json,
        "{\"bias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,%zu]},"
        "\"weight\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[%zu,%zu]}}",
        sizeof model->bias, sizeof model->bias, sizeof model->bias + sizeof model->weight);
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)count >> (8 * i));

    const ckpt_piece pieces[] = {
        {length, sizeof length}, {json, (uint64_t)count}, {model->bias, sizeof model->bias}, {model->weight, sizeof model->weight}};
    const char *config = "{\"model_type\": \"two tensors\"}\n";
    const ckpt_piece config_piece = {config, strlen(config)};
    const ckpt_file files[] = {
        {.path = "config.json", .pieces = &config_piece, .piece_count = 1},
        {.path = "model.safetensors", .pieces = pieces, .piece_count = sizeof pieces / sizeof *pieces},
    };

    /* CKPT_INIT: all zero, which is what the command does, and the structure's size. */
    ckpt_ingest_options options = CKPT_INIT(ckpt_ingest_options);
    const char *names[] = {"loss"};
    options.metric_names = names;
    options.metric_values = &loss;
    options.metric_count = 1;

    char *result;
    check(ckpt_ingest_files(
        store, run, step, files, sizeof files / sizeof *files, /* joins */ NULL, 0, /* is_piece */ 0, &options,
        /* progress */ NULL, NULL, &result));
    ckpt_free(result);
}

/* Prints the member `name` of each object of a JSON document that begins at `json`. A program would use a JSON library. */
static void print_members(const char *json, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    for (const char *found = strstr(json, key); found; found = strstr(found + 1, key)) {
        const char *value = found + strlen(key);
        value += strspn(value, " ");
        size_t length = *value == '"' ? strcspn(value + 1, "\"") + 2 : strcspn(value, ",}]\n ");
        printf("  %s %.*s\n", name, (int)length, value);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: first_store DIRECTORY\n");
        return 64;
    }
    if (ckpt_abi_version() != CKPT_ABI_VERSION) {
        fprintf(stderr, "this program and libckpt %s do not fit together\n", ckpt_version());
        return 1;
    }

    /* A store is a directory. Writers wait up to 30 seconds for others. */
    ckpt_store *store;
    check(ckpt_store_create(argv[1]));
    check(ckpt_store_open(argv[1], 30, &store));

    struct model model;
    for (int i = 0; i < 4; i++) {
        model.bias[i] = 0.5f * (float)i;
        for (int j = 0; j < 3; j++) model.weight[i][j] = (float)(10 * i + j);
    }
    ingest(store, "demo", 100, &model, 2.5);
    model.weight[2][1] += 0.25f;
    ingest(store, "demo", 200, &model, 1.75);

    /* What is in it. Documents are JSON, as the command prints them with --json. */
    char *json;
    check(ckpt_store_history(store, "demo", &json));
    printf("history:\n");
    print_members(json, "ref");
    ckpt_free(json);
    check(ckpt_store_metrics(store, "demo@200", &json));
    printf("metrics of demo@200:\n");
    print_members(json, "loss");
    ckpt_free(json);

    /* A snapshot, by one of its names: here the run's newest. */
    ckpt_snapshot *snapshot;
    size_t count;
    check(ckpt_snapshot_open(store, "demo", &snapshot));
    check(ckpt_snapshot_tensor_count(snapshot, &count));
    printf("tensors of demo:\n");
    for (size_t i = 0; i < count; i++) {
        ckpt_tensor tensor = CKPT_INIT(ckpt_tensor);
        check(ckpt_snapshot_tensor(snapshot, i, &tensor));
        printf("  %s: %s [", tensor.name, tensor.dtype);
        for (uint32_t d = 0; d < tensor.rank; d++) printf("%s%" PRIu64, d ? ", " : "", tensor.shape[d]);
        printf("], %" PRIu64 " bytes of %s\n", tensor.byte_count, tensor.file);
    }

    /* In place: nothing is read before it is touched. No alignment is promised, so values are copied out. */
    size_t index;
    ckpt_view *view;
    const void *bytes;
    check(ckpt_snapshot_find(snapshot, "weight", &index));
    check(ckpt_snapshot_map(snapshot, index, &view, &bytes, &count));
    printf("weight, mapped:\n");
    for (size_t row = 0; row < 4; row++) {
        float values[3];
        memcpy(values, (const char *)bytes + row * sizeof values, sizeof values);
        printf("  %g %g %g\n", values[0], values[1], values[2]);
    }
    check(ckpt_view_close(view));

    /* Read: for snapshots without an image too, and for stretches of any number of tensors at once. */
    float row[3];
    const ckpt_read read = {.index = index, .offset = 2 * sizeof row, .buffer = row, .count = sizeof row};
    check(ckpt_snapshot_read(snapshot, &read, 1, NULL, NULL));
    printf("row 2 of weight, read: %g %g %g\n", row[0], row[1], row[2]);
    check(ckpt_snapshot_close(snapshot));

    /* What moved from one to the other, tensor by tensor. Such a document has a row for each tensor that is not the same. */
    ckpt_diff_options diff = CKPT_INIT(ckpt_diff_options);
    diff.by = CKPT_BY_TENSOR;
    check(ckpt_diff(store, "demo@100", store, "demo@200", &diff, NULL, NULL, &json));
    printf("from demo@100 to demo@200:\n");
    print_members(json, "name");
    print_members(json, "identical");
    ckpt_free(json);

    /* What a policy would drop. Without the dry run it is dropped. */
    check(ckpt_store_prune(store, "{\"keep_last\": 1}", NULL, 0, /* dry_run */ 1, NULL, NULL, &json));
    printf("of each run the last one kept:\n");
    print_members(json, "ref");
    print_members(json, "kept");
    ckpt_free(json);

    /* Errors have a status for programs, and a message and often a hint for people. The message stays until the thread's next call. */
    ckpt_status status = ckpt_snapshot_open(store, "demo@300", &snapshot);
    if (status == CKPT_NO_SUCH_REF) printf("%s: %s\n", ckpt_status_name(status), ckpt_error_message());
    status = ckpt_store_open("/nowhere/at/all", 0, &store);
    if (status != CKPT_OK) printf("%s: %s\n  hint: %s\n", ckpt_status_name(status), ckpt_error_message(), ckpt_error_hint());

    /* A call that failed has left `store` as it was. */
    check(ckpt_store_close(store));
    return 0;
}
