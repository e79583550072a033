/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A ring all-reduce, written by hand on put_signal and signal_wait_until, against the library's.
 *
 * The vector is cut into as many chunks as there are chips. First every chunk travels once round the ring and each
 * chip adds its own part (reduce-scatter); then the finished chunks travel round once more (all-gather):
 *
 *     step 0   chip 0 ── chunk 0 ──► chip 1 ── chunk 1 ──► chip 2 ── chunk 2 ──► chip 0
 *     step 1   chip 0 ── chunk 2 ──► chip 1 ── chunk 0 ──► chip 2 ── chunk 1 ──► chip 0
 *
 * Sums that arrive must not overwrite what the chip has yet to add, so they come into SLOTS slots beside the
 * vector, and the sender waits until the receiver has taken an older one out: `taken` is the back-pressure.
 * Finished chunks go straight to their places: a chunk is finished only when the receiver has given its part, so it
 * has no more use for what lies there.
 *
 * All three signals count up and are never reset. They are strong: a count of n says that the first n puts have
 * arrived, whichever signal was quicker.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { CHIPS = 4, SLOTS = 2, CALLS_MAX = 200, CALLS_MIN = 7 };

/* ---- the ring ------------------------------------------------------------------------------------------- */

struct ring {
    tsm_ctx *c;
    uint32_t rank, size, next, before;
    tsm_sym data, slots; /* the vector; sums that come from the one before */
    tsm_sym come, placed,
        taken; /* signals: sums, finished chunks, and slots of the next one that are free again */
    uint64_t slot_bytes;
    uint64_t sums, chunks; /* sent so far; as many have come */
};

/* Elements in front of chunk n; all of them for n = the number of chips. */
static uint64_t chunk_begin(const struct ring *r, uint64_t count, uint32_t n)
{
    return count * n / r->size;
}

/* Puts chunk n of the own vector to `to` in the next chip's window. */
static int pass_on(struct ring *r, uint64_t count, uint32_t n, tsm_sym to, tsm_sym signal)
{
    uint64_t first = chunk_begin(r, count, n), last = chunk_begin(r, count, n + 1);
    const uint32_t *own = tsm_ptr(r->c, r->data, r->rank);
    return tsm_put_signal(r->c, to, own + first, (last - first) * 4, signal, 1,
                          TSM_SIGNAL_ADD | TSM_SIGNAL_STRONG, r->next);
}

/* Adds what is in the slot to chunk n of the own vector. */
static void add_chunk(const struct ring *r, uint64_t count, int dtype, uint32_t n, tsm_sym slot)
{
    uint64_t first = chunk_begin(r, count, n), last = chunk_begin(r, count, n + 1);
    void *own = tsm_ptr(r->c, tsm_offset(r->data, first * 4), r->rank);
    const void *sum = tsm_ptr(r->c, slot, r->rank);
    if (dtype == TSM_F32) {
        for (uint64_t i = 0; i < last - first; i++) {
            ((float *)own)[i] += ((const float *)sum)[i];
        }
    } else {
        for (uint64_t i = 0; i < last - first; i++) {
            ((uint32_t *)own)[i] += ((const uint32_t *)sum)[i];
        }
    }
}

/* Sums `count` 4-byte elements of all chips, in place. */
static int ring_all_reduce(struct ring *r, uint64_t count, int dtype)
{
    uint32_t n = r->size;
    int rc = 0;
    for (uint32_t step = 0; step + 1 < n && rc == 0; step++, r->sums++) {
        tsm_sym slot = tsm_offset(r->slots, r->sums % SLOTS * r->slot_bytes);
        uint32_t mine = (r->rank + n - step) % n, theirs = (mine + n - 1) % n;
        if (r->sums >= SLOTS) {
            rc = tsm_signal_wait_until(r->c, r->taken, TSM_GE, r->sums + 1 - SLOTS, NULL, -1);
        }
        rc = rc != 0 ? rc : pass_on(r, count, mine, slot, r->come);
        rc = rc != 0 ? rc : tsm_signal_wait_until(r->c, r->come, TSM_GE, r->sums + 1, NULL, -1);
        if (rc == 0) {
            add_chunk(r, count, dtype, theirs, slot);
            rc = tsm_signal(r->c, r->taken, 1, TSM_SIGNAL_ADD, r->before);
        }
    }
    for (uint32_t step = 0; step + 1 < n && rc == 0; step++, r->chunks++) {
        uint32_t mine = (r->rank + 1 + n - step) % n;
        tsm_sym place = tsm_offset(r->data, chunk_begin(r, count, mine) * 4);
        rc = pass_on(r, count, mine, place, r->placed);
        rc = rc != 0 ? rc : tsm_signal_wait_until(r->c, r->placed, TSM_GE, r->chunks + 1, NULL, -1);
    }
    return rc;
}

static int ring_init(struct ring *r, tsm_ctx *c)
{
    tsm_sym signals;
    uint64_t bytes;
    memset(r, 0, sizeof(*r));
    r->c = c;
    r->rank = tsm_rank(c);
    r->size = tsm_size(c);
    r->next = (r->rank + 1) % r->size;
    r->before = (r->rank + r->size - 1) % r->size;
    int rc = tsm_buffer(c, "data", &r->data, NULL);
    rc = rc != 0 ? rc : tsm_buffer(c, "slots", &r->slots, &bytes);
    rc = rc != 0 ? rc : tsm_buffer(c, "signals", &signals, NULL);
    if (rc == 0) {
        r->slot_bytes = bytes / SLOTS;
        r->come = signals;
        r->placed = tsm_offset(signals, 8);
        r->taken = tsm_offset(signals, 16);
    }
    return rc;
}

/* ---- the task: both all-reduces, checked and timed ---------------------------------------------------------- */

struct row { /* of the table; written by rank 0 */
    double ring_us, library_us;
    double
        apart; /* the largest difference of the two, relative to the sum of the absolute values */
};

static tsm_callable compare;

/* What rank r has at place i in this call: an integer, or a small fraction. */
static uint32_t bits_of(uint32_t rank, uint64_t i, uint64_t call, int dtype)
{
    uint32_t x = (uint32_t)(i * 2654435761u + rank * 40503u + call * 69069u);
    float f = ((float)(x >> 8 & 2047) - 1000) / 7;
    x ^= x >> 15;
    if (dtype == TSM_F32) {
        memcpy(&x, &f, sizeof(x));
    }
    return x;
}

static void fill(uint32_t *data, uint32_t rank, uint64_t count, uint64_t call, int dtype)
{
    for (uint64_t i = 0; i < count; i++) {
        data[i] = bits_of(rank, i, call, dtype);
    }
}

/* Integers: all three equal. Floats: the ring adds each chunk in another order, so each may be off by a rounding
 * per addition. Returns the largest difference, or -1 when something is wrong. */
static double check(const uint32_t *ring, const uint32_t *library, uint32_t ranks, uint64_t count,
                    uint64_t call, int dtype)
{
    double apart = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t whole = 0;
        double sum = 0, size = 0;
        float a, b;
        for (uint32_t r = 0; r < ranks; r++) {
            uint32_t x = bits_of(r, i, call, dtype);
            float f;
            memcpy(&f, &x, sizeof(f));
            whole += x;
            sum += dtype == TSM_F32 ? (double)f : 0;
            size += dtype == TSM_F32 ? fabs((double)f) : 0;
        }
        memcpy(&a, &ring[i], sizeof(a));
        memcpy(&b, &library[i], sizeof(b));
        if (dtype != TSM_F32 && (ring[i] != whole || library[i] != whole)) {
            return -1;
        }
        if (dtype == TSM_F32 && (fabs((double)a - sum) > ranks * (double)FLT_EPSILON * size ||
                                 fabs((double)b - sum) > ranks * (double)FLT_EPSILON * size)) {
            return -1;
        }
        if (dtype == TSM_F32 && size > 0) {
            apart = fmax(apart, fabs((double)a - (double)b) / size);
        }
    }
    return apart;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint64_t count)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[count / 2];
}

/* Tensor: the row. Scalars: elements, dtype, calls. */
static int run_compare(tsm_task *task)
{
    static double ring_us[CALLS_MAX], library_us[CALLS_MAX];
    tsm_ctx *c = tsm_task_domain(task, 0);
    uint64_t count = tsm_task_scalar(task, 0), calls = tsm_task_scalar(task, 2);
    int dtype = (int)tsm_task_scalar(task, 1);
    double apart = 0;
    struct ring ring;
    tsm_sym other;
    int rc = ring_init(&ring, c);
    rc = rc != 0 ? rc : tsm_buffer(c, "other", &other, NULL);
    for (uint64_t call = 0; call < calls && rc == 0; call++) {
        uint32_t *a = tsm_ptr(c, ring.data, ring.rank), *b = tsm_ptr(c, other, ring.rank);
        fill(a, ring.rank, count, call, dtype);
        fill(b, ring.rank, count, call, dtype);
        rc = tsm_barrier(c);
        double begin = now_us();
        rc = rc != 0 ? rc : ring_all_reduce(&ring, count, dtype);
        rc = rc != 0 ? rc : tsm_barrier(c); /* else the first to be done would tell the time */
        ring_us[call] = now_us() - begin;
        begin = now_us();
        rc = rc != 0 ? rc : tsm_all_reduce(c, other, other, count, dtype, TSM_SUM);
        rc = rc != 0 ? rc : tsm_barrier(c);
        library_us[call] = now_us() - begin;
        if (rc == 0 && (call == 0 || call + 1 == calls)) {
            double now_apart = check(a, b, ring.size, count, call, dtype);
            if (now_apart < 0) {
                return tsm_fail(task, "rank %u: a sum of call %llu is wrong", ring.rank,
                                (unsigned long long)call);
            }
            apart = fmax(apart, now_apart);
        }
    }
    if (rc == 0 && ring.rank == 0) {
        struct row *row = tsm_task_data(task, 0);
        *row = (struct row){median(ring_us, calls), median(library_us, calls), apart};
    }
    return rc;
}

/* ---- the orchestration function and the program --------------------------------------------------------------- */

static const uint64_t counts[] = {16, 1024, 65536, 1 << 20};
static const int dtypes[] = {TSM_U32, TSM_F32};
enum { COUNTS = 4, DTYPES = 2 };

static int submit_row(tsm_orch *orch, uint64_t count, int dtype, struct row *row)
{
    static const int chips[CHIPS] = {0, 1, 2, 3};
    uint64_t calls = (4u << 20) / (count * 4);
    calls = calls > CALLS_MAX ? CALLS_MAX : calls < CALLS_MIN ? CALLS_MIN : calls;
    uint64_t slots = SLOTS * ((count + CHIPS - 1) / CHIPS);
    const struct tsm_buffer_spec buffers[] = {{.name = "data", .dtype = dtype, .count = count},
                                              {.name = "other", .dtype = dtype, .count = count},
                                              {.name = "slots", .dtype = dtype, .count = slots},
                                              {.name = "signals", .dtype = TSM_U64, .count = 3}};
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "ring",
                                   .chips = chips,
                                   .chip_count = CHIPS,
                                   .window_bytes = (2 * count + slots) * 4 + 24,
                                   .buffers = buffers,
                                   .buffer_count = 4};
    const uint64_t scalars[] = {count, (uint64_t)dtype, calls};
    struct tsm_tensor out = {.data = row,
                             .dtype = TSM_U8,
                             .tag = TSM_OUTPUT_EXISTING,
                             .ndim = 1,
                             .shape = {sizeof(*row)}};
    struct tsm_call members[CHIPS];
    tsm_domain *domain;
    int rc = tsm_domain_alloc(orch, &opts, &domain);
    for (int chip = 0; chip < CHIPS && rc == 0; chip++) {
        members[chip] = (struct tsm_call){.callable = compare,
                                          .chip = chip,
                                          .tensors = &out,
                                          .tensor_count = chip == 0,
                                          .scalars = scalars,
                                          .scalar_count = 3,
                                          .domains = &domain,
                                          .domain_count = 1};
    }
    rc = rc != 0 ? rc : tsm_submit_group(orch, members, CHIPS, NULL);
    return rc != 0 ? rc : tsm_domain_release(domain); /* freed when the group is done */
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    struct row *rows = arg;
    int rc = 0;
    for (int i = 0; i < COUNTS * DTYPES && rc == 0; i++) {
        rc = submit_row(orch, counts[i / DTYPES], dtypes[i % DTYPES], &rows[i]);
    }
    return rc;
}

static void print_rows(const struct row *rows)
{
    printf(
        "All-reduce and a barrier over %d chips, median of %d to %d calls. Every sum was checked."
        "\n\n",
        CHIPS, CALLS_MIN, CALLS_MAX);
    printf("    bytes   type   ring by hand   tsm_all_reduce   ratio   results\n");
    for (int i = 0; i < COUNTS * DTYPES; i++) {
        const struct row *r = &rows[i];
        printf("%9llu   %4s   %9.1f us   %11.1f us   %5.1f   ",
               (unsigned long long)counts[i / DTYPES] * 4, tsm_dtype_name(dtypes[i % DTYPES]),
               r->ring_us, r->library_us, r->ring_us / r->library_us);
        if (dtypes[i % DTYPES] == TSM_F32) {
            printf("apart by at most %.0e, the order of adding\n", r->apart);
        } else {
            printf("equal\n");
        }
    }
}

int main(void)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = CHIPS};
    struct tsm_error error;
    tsm_worker *worker;
    void *rows;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "ring_all_reduce: %s\n", error.text);
        return 1;
    }
    int rc = tsm_register(worker, "compare", run_compare, &compare);
    rc = rc != 0 ? rc : tsm_worker_start(worker);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, sizeof(struct row) * COUNTS * DTYPES, &rows);
    rc = rc != 0 ? rc : tsm_worker_run(worker, orchestrate, rows);
    if (rc == 0) {
        print_rows(rows);
    } else {
        fprintf(stderr, "ring_all_reduce: %s\n", tsm_worker_error(worker)->text);
    }
    tsm_worker_destroy(worker);
    return rc == 0 ? 0 : 1;
}
