/*
 * Children of a process that is busy with a store: they are forked while its threads ingest, read and open, and use the handles they have
 * from it. What a fork stops half way in one thread (a lock that is held, a lock file, a pool whose threads are not there any more) must not
 * stop the child.
 *
 *   fork DIRECTORY [CHILDREN]      prints one line; exits with 1 when a child fails, dies or takes more than 20 seconds
 */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ckpt.h"

enum { tensors = 12, tensor_bytes = 192 << 10, header_room = 2048, patience = 20 };

static ckpt_store *store;
static ckpt_snapshot *packed, *imaged;
static char store_path[4096];
static atomic_bool is_over;
static atomic_int ingested, read_count;

#define CHECK(call)                                                                                                                   \
    do {                                                                                                                              \
        ckpt_status check_status = (call);                                                                                            \
        if (check_status != CKPT_OK) {                                                                                                \
            fprintf(stderr, "fork.c:%d: %s: %s (%s)\n", __LINE__, ckpt_status_name(check_status), ckpt_error_message(), ckpt_error_hint()); \
            _exit(1);                                                                                                                 \
        }                                                                                                                             \
    } while (0)

#define EXPECT(condition)                                                   \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "fork.c:%d: not so: %s\n", __LINE__, #condition); \
            _exit(1);                                                       \
        }                                                                   \
    } while (0)

/* Numbers as a training has them: most of them as at step 0, some moved. */
static void fill(uint8_t *bytes, int tensor, uint32_t step)
{
    uint32_t state = 12345u + (uint32_t)tensor;
    for (size_t i = 0; i < tensor_bytes; i += 4) {
        state = state * 1664525u + 1013904223u;
        uint32_t word = (state & 0x807fff00u) | 0x3c000000u;
        if (state >> 28 == (step & 15)) word ^= step << 8;
        memcpy(bytes + i, &word, 4);
    }
}

struct model {
    uint8_t header[8 + header_room];
    size_t header_count;
    uint8_t bytes[tensors][tensor_bytes];
};

static struct model *make_model(uint32_t step)
{
    struct model *model = malloc(sizeof *model);
    EXPECT(model != NULL);
    char *json = (char *)model->header + 8;
    int count = sprintf(json, "{");
    for (int i = 0; i < tensors; i++) {
        fill(model->bytes[i], i, step);
        count += sprintf(
            json + count, "%s\"t%02d\":{\"dtype\":\"F32\",\"shape\":[%d,64],\"data_offsets\":[%d,%d]}", i ? "," : "", i, tensor_bytes / 256,
            i * tensor_bytes, (i + 1) * tensor_bytes);
    }
    count += sprintf(json + count, "}");
    for (int i = 0; i < 8; i++) model->header[i] = (uint8_t)((uint64_t)count >> 8 * i);
    model->header_count = 8 + (size_t)count;
    return model;
}

static void ingest(const char *run, uint32_t step, int without_image)
{
    struct model *model = make_model(step);
    ckpt_piece pieces[] = {{model->header, model->header_count}, {model->bytes, sizeof model->bytes}};
    ckpt_file file = {.path = "model.safetensors", .pieces = pieces, .piece_count = 2};
    ckpt_ingest_options options = CKPT_INIT(ckpt_ingest_options);
    options.without_image = without_image;
    char *json;
    CHECK(ckpt_ingest_files(store, run, step, &file, 1, NULL, 0, 0, &options, NULL, NULL, &json));
    ckpt_free(json);
    free(model);
}

static void check_reads(ckpt_snapshot *snapshot, uint32_t step)
{
    struct model *model = make_model(step);
    uint8_t *read = malloc(sizeof model->bytes);
    EXPECT(read != NULL);
    ckpt_read reads[tensors];
    for (int i = 0; i < tensors; i++) {
        reads[i] = (ckpt_read){.buffer = read + (size_t)i * tensor_bytes, .count = tensor_bytes};
        char name[8];
        sprintf(name, "t%02d", i);
        CHECK(ckpt_snapshot_find(snapshot, name, &reads[i].index));
    }
    CHECK(ckpt_snapshot_read(snapshot, reads, tensors, NULL, NULL));
    EXPECT(memcmp(read, model->bytes, sizeof model->bytes) == 0);
    free(read);
    free(model);
}

static void check_map(ckpt_snapshot *snapshot, uint32_t step)
{
    static const int tensor = 3;
    uint8_t *expected = malloc(tensor_bytes);
    EXPECT(expected != NULL);
    fill(expected, tensor, step);
    size_t index, count;
    ckpt_view *view;
    const void *bytes;
    CHECK(ckpt_snapshot_find(snapshot, "t03", &index));
    CHECK(ckpt_snapshot_map(snapshot, index, &view, &bytes, &count));
    EXPECT(count == tensor_bytes && memcmp(bytes, expected, tensor_bytes) == 0);
    CHECK(ckpt_view_close(view));
    free(expected);
}

static void *ingest_in_a_loop(void *run)
{
    for (uint32_t step = 1; !atomic_load(&is_over); step++) {
        ingest(run, step, (int)step % 2);
        atomic_fetch_add(&ingested, 1);
        /* Who waits for the store's lock looks whether it is free every 20 ms: it must be for longer than that. */
        usleep(150000);
    }
    return NULL;
}

static void *read_in_a_loop(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over)) {
        check_reads(packed, 1);
        check_map(imaged, 2);
        /* A store of its own each time: what opening and closing holds is held often. */
        ckpt_store *own;
        ckpt_snapshot *snapshot;
        CHECK(ckpt_store_open(store_path, 30, &own));
        CHECK(ckpt_snapshot_open(own, "packed", &snapshot));
        CHECK(ckpt_store_close(own));
        check_reads(snapshot, 1);
        CHECK(ckpt_snapshot_close(snapshot));
        atomic_fetch_add(&read_count, 1);
    }
    return NULL;
}

static void *child_thread(void *unused)
{
    (void)unused;
    check_reads(packed, 1);
    return NULL;
}

static void be_child(int number)
{
    char run[32];
    check_reads(packed, 1);
    check_map(imaged, 2);
    sprintf(run, "child-%d", number);
    ingest(run, 7, 1);
    char *json;
    CHECK(ckpt_store_history(store, run, &json));
    EXPECT(strstr(json, run) != NULL);
    ckpt_free(json);
    /* Threads of its own, and a child of its own. */
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, child_thread, NULL) == 0);
    check_reads(packed, 1);
    EXPECT(pthread_join(thread, NULL) == 0);
    if (number % 5 == 0) {
        pid_t grandchild = fork();
        EXPECT(grandchild >= 0);
        if (grandchild == 0) {
            check_reads(packed, 1);
            _exit(0);
        }
        int status;
        while (waitpid(grandchild, &status, 0) < 0) EXPECT(errno == EINTR);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHECK(ckpt_snapshot_close(packed));
    CHECK(ckpt_snapshot_close(imaged));
    CHECK(ckpt_store_close(store));
    EXPECT(ckpt_store_close(store) == CKPT_BAD_HANDLE);
    _exit(0);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 64;
    int children = argc > 2 ? atoi(argv[2]) : 20;
    if (children < 1) return 64;
    alarm(300);
    snprintf(store_path, sizeof store_path, "%s", argv[1]);
    CHECK(ckpt_store_create(store_path));
    CHECK(ckpt_store_open(store_path, 60, &store));
    ingest("packed", 0, 1);
    ingest("packed", 1, 1);
    ingest("imaged", 2, 0);
    CHECK(ckpt_snapshot_open(store, "packed@1", &packed));
    CHECK(ckpt_snapshot_open(store, "imaged", &imaged));

    pthread_t threads[4];
    EXPECT(pthread_create(&threads[0], NULL, ingest_in_a_loop, "first") == 0);
    EXPECT(pthread_create(&threads[1], NULL, ingest_in_a_loop, "second") == 0);
    EXPECT(pthread_create(&threads[2], NULL, read_in_a_loop, NULL) == 0);
    EXPECT(pthread_create(&threads[3], NULL, read_in_a_loop, NULL) == 0);

    /* A few at a time: who waits for the store's lock behind many others does not hang. */
    enum { together = 4 };
    struct { pid_t id; int number; double begun; } living[together];
    unsigned seed = (unsigned)getpid();
    int failures = 0, count = 0, next = 0;
    while (next < children || count > 0) {
        if (next < children && count < together) {
            usleep((useconds_t)(rand_r(&seed) % 20000));
            pid_t id = fork();
            EXPECT(id >= 0);
            if (id == 0) be_child(next);
            living[count].id = id;
            living[count].number = next++;
            living[count++].begun = now();
        }
        for (int i = 0; i < count; i++) {
            int status = 0;
            pid_t ended = waitpid(living[i].id, &status, WNOHANG);
            if (ended == 0 && now() < living[i].begun + patience) continue;
            if (ended == 0) {
                fprintf(stderr, "child %d (%d) hangs\n", living[i].number, (int)living[i].id);
                if (getenv("CKPT_FORK_STOPS")) pause(); /* for a debugger */
                kill(living[i].id, SIGKILL);
                waitpid(living[i].id, &status, 0);
                failures++;
            } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                fprintf(stderr, "child %d: %s %d\n", living[i].number, WIFSIGNALED(status) ? "signal" : "exit status",
                        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
                failures++;
            }
            living[i--] = living[--count];
        }
        usleep(2000);
    }
    atomic_store(&is_over, 1);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    EXPECT(atomic_load(&ingested) > 0 && atomic_load(&read_count) > 0);
    char *report;
    CHECK(ckpt_store_verify(store_path, 0, NULL, NULL, &report));
    EXPECT(strstr(report, "\"ok\":true") != NULL || strstr(report, "\"ok\": true") != NULL);
    ckpt_free(report);
    CHECK(ckpt_store_close(store));
    printf("%d of %d children did what they should\n", children - failures, children);
    return failures != 0;
}
