/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * halo: blurs a photograph on several chips, each of which holds one tile of it.
 *
 * The blur goes over the image many times, and each time a pixel needs its neighbours, so before every half of a
 * pass a chip sends the edge of its tile to the chips beside it, which keep it as the *halo* of their own tiles:
 *
 *        rank 0        │        rank 1
 *                  ┌───┼───┐
 *       ...  tile  │ edge  │ tile ...      across: columns go to the left and to the right (strided put,
 *                  └───┼───┘               then a signal)
 *     ───────────────  │  ──────────────   down: rows go up and down (put with signal)
 *        rank 2        │        rank 3
 *
 * The chips form a grid. Each makes two sub-groups of the domain: the chips of its line, with which it exchanges
 * columns, and those of its column, with which it exchanges rows.
 *
 * Each halo has two slots, for odd and even passes. A neighbour's edge for one pass tells that it has read the halo of
 * the pass before, so the slot of two passes ago is free: the signals that carry the data are the back-pressure, too.
 *
 * This file is all there is of Transom. Beside it: blur.c, the arithmetic; image.c, the files.
 *
 *     halo [IMAGE.pgm [BLURRED.pgm]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <transom/task.h>
#include <transom/transom.h>

#include "halo.h"

enum { PASSES = 20, CHIPS = 4 };

/* The sides of a tile; that of the neighbour which touches it is side ^ 1. */
enum side { LEFT, RIGHT, ABOVE, BELOW, SIDES };
static const char *const side_names[SIDES] = {"left", "right", "above", "below"};

static tsm_callable blur;

/* ---- the task: runs on every chip, in a process of its own --------------------------------------------- */

/* A chip, its neighbours and its places in the windows. */
struct place {
    tsm_ctx *group[SIDES]; /* the sub-group in which that neighbour is, NULL when there is none */
    uint32_t neighbour[SIDES];
    tsm_sym halo[SIDES]; /* two slots each */
    uint64_t slot_bytes[SIDES];
    tsm_sym arrived; /* a signal for each side: passes whose halo has come */
    tsm_ctx *domain;
};

static int find_neighbours(struct place *p, uint32_t columns)
{
    uint32_t x = tsm_rank(p->domain) % columns, y = tsm_rank(p->domain) / columns;
    uint32_t lines = tsm_size(p->domain) / columns;
    tsm_ctx *line, *column;
    int rc = tsm_split_strided(p->domain, y * columns, 1, columns, &line);
    rc = rc != 0 ? rc : tsm_split_strided(p->domain, x, columns, lines, &column);
    if (rc != 0) {
        return rc;
    }
    p->group[LEFT] = x > 0 ? line : NULL;
    p->group[RIGHT] = x + 1 < columns ? line : NULL;
    p->group[ABOVE] = y > 0 ? column : NULL;
    p->group[BELOW] = y + 1 < lines ? column : NULL;
    p->neighbour[LEFT] = x - 1;
    p->neighbour[RIGHT] = x + 1;
    p->neighbour[ABOVE] = y - 1;
    p->neighbour[BELOW] = y + 1;
    return 0;
}

static int find_places(struct place *p)
{
    int rc = tsm_buffer(p->domain, "arrived", &p->arrived, NULL);
    for (int side = 0; side < SIDES && rc == 0; side++) {
        rc = tsm_buffer(p->domain, side_names[side], &p->halo[side], &p->slot_bytes[side]);
        p->slot_bytes[side] /= 2;
    }
    return rc;
}

static tsm_sym slot_of(const struct place *p, int side, uint64_t pass)
{
    return tsm_offset(p->halo[side], pass % 2 * p->slot_bytes[side]);
}

static tsm_sym signal_of(const struct place *p, int side)
{
    return tsm_offset(p->arrived, (uint64_t)side * sizeof(uint64_t));
}

/* The edge of the tile becomes the halo of the neighbour on this side. The signal counts edges, and is strong: n of
 * them say that all puts of the first n edges have arrived, whatever order the hardware prefers. */
static int send_edge(const struct place *p, const struct tile *t, int side, uint64_t pass)
{
    const int count_up = TSM_SIGNAL_ADD | TSM_SIGNAL_STRONG;
    tsm_ctx *group = p->group[side];
    uint32_t to = p->neighbour[side];
    tsm_sym halo = slot_of(p, side ^ 1, pass), signal = signal_of(p, side ^ 1);
    uint64_t bytes = RADIUS * sizeof(sample);
    if (!group) {
        return 0;
    }
    if (side == ABOVE || side == BELOW) { /* whole rows with their border lie in one piece */
        const sample *rows = tile_row(t, side == ABOVE ? 0 : t->height - RADIUS) - RADIUS;
        return tsm_put_signal(group, halo, rows, (uint64_t)t->pitch * bytes, signal, 1, count_up,
                              to);
    }
    const sample *columns = tile_row(t, 0) + (side == LEFT ? 0 : t->width - RADIUS);
    int rc = tsm_iput(group, halo, 1, columns, (uint64_t)t->pitch / RADIUS, bytes,
                      (uint64_t)t->height, to);
    return rc != 0 ? rc : tsm_signal(group, signal, 1, count_up, to);
}

/* Waits for the halo on this side and lays it around the tile. */
static int receive_halo(const struct place *p, const struct tile *t, int side, uint64_t pass)
{
    int rc = tsm_signal_wait_until(p->domain, signal_of(p, side), TSM_GE, pass, NULL, -1);
    const sample *halo = tsm_ptr(p->domain, slot_of(p, side, pass), tsm_rank(p->domain));
    if (rc != 0) {
        return rc;
    }
    if (side == ABOVE || side == BELOW) {
        memcpy(tile_row(t, side == ABOVE ? -RADIUS : t->height) - RADIUS, halo,
               (size_t)t->pitch * RADIUS * sizeof(sample));
        return 0;
    }
    for (int y = 0; y < t->height; y++) {
        memcpy(tile_row(t, y) + (side == LEFT ? -RADIUS : t->width), &halo[y * RADIUS],
               RADIUS * sizeof(sample));
    }
    return 0;
}

/* The edge of the image: what is beyond it looks like it. */
static void repeat_edge(const struct tile *t, int side)
{
    for (int i = 1; i <= RADIUS; i++) {
        if (side == ABOVE || side == BELOW) {
            memcpy(tile_row(t, side == ABOVE ? -i : t->height - 1 + i),
                   tile_row(t, side == ABOVE ? 0 : t->height - 1),
                   (size_t)t->width * sizeof(sample));
            continue;
        }
        for (int y = 0; y < t->height; y++) {
            sample *row = tile_row(t, y);
            row[side == LEFT ? -i : t->width - 1 + i] = row[side == LEFT ? 0 : t->width - 1];
        }
    }
}

/* Sends two opposite edges, then takes the halos on both sides. */
static int exchange(const struct place *p, const struct tile *t, int side, uint64_t pass)
{
    int rc = send_edge(p, t, side, pass);
    rc = rc != 0 ? rc : send_edge(p, t, side + 1, pass);
    for (int i = side; i <= side + 1 && rc == 0; i++) {
        if (p->group[i]) {
            rc = receive_halo(p, t, i, pass);
        } else {
            repeat_edge(t, i);
        }
    }
    return rc;
}

/* Tensors: the part of the photograph, where the blurred one goes, and memory for two tiles. */
static int run_blur(tsm_task *task)
{
    struct place p = {.domain = tsm_task_domain(task, 0)};
    struct tsm_tensor in, out;
    int rc;
    if ((rc = tsm_task_tensor(task, 0, &in)) != 0 || (rc = tsm_task_tensor(task, 1, &out)) != 0 ||
        (rc = find_neighbours(&p, (uint32_t)tsm_task_scalar(task, 0))) != 0 ||
        (rc = find_places(&p)) != 0) {
        return rc;
    }
    int height = (int)in.shape[0], width = (int)in.shape[1];
    struct tile a = {width, height, tile_pitch(width), tsm_task_data(task, 2)};
    struct tile b = {width, height, tile_pitch(width), tsm_task_data(task, 3)};
    tile_load(&a, in.data, in.strides[0]);
    for (uint64_t pass = 1; pass <= PASSES; pass++) {
        if ((rc = exchange(&p, &a, LEFT, pass)) != 0) {
            return rc;
        }
        blur_across(&b, &a);
        if ((rc = exchange(&p, &b, ABOVE, pass)) != 0) {
            return rc;
        }
        blur_down(&a, &b);
    }
    tile_store(&a, out.data, out.strides[0]);
    return 0;
}

/* ---- the orchestration function: runs here, says what the chips are to do -------------------------------- */

struct job {
    int lines, columns;          /* of the grid of chips */
    struct image photo, blurred; /* their pixels are in host buffers */
};

/* Where the n-th of `parts` parts of a length begins: they differ by one at most. */
static int begin_of(int length, int parts, int n)
{
    return length * n / parts;
}

/* Part (x, y) of an image as a view of it: the graph sees exactly these bytes. */
static struct tsm_tensor view(const struct image *image, const struct job *job, int x, int y,
                              enum tsm_tag tag)
{
    int left = begin_of(image->width, job->columns, x);
    int right = begin_of(image->width, job->columns, x + 1);
    int top = begin_of(image->height, job->lines, y);
    int bottom = begin_of(image->height, job->lines, y + 1);
    return (struct tsm_tensor){.data = &image->pixels[top * image->width + left],
                               .dtype = TSM_U8,
                               .tag = (uint8_t)tag,
                               .ndim = 2,
                               .stride_given = 1,
                               .shape = {(uint64_t)(bottom - top), (uint64_t)(right - left)},
                               .strides = {image->width, 1}};
}

/* Room for the halos of the largest tile. */
static int allocate_domain(tsm_orch *orch, const struct job *job, tsm_domain **ret)
{
    static const int chips[CHIPS] = {0, 1, 2, 3};
    int width = (job->photo.width + job->columns - 1) / job->columns;
    int height = (job->photo.height + job->lines - 1) / job->lines;
    uint64_t across = 2 * RADIUS * (uint64_t)height,
             down = 2 * RADIUS * (uint64_t)tile_pitch(width);
    struct tsm_buffer_spec buffers[SIDES + 1] = {
        [SIDES] = {.name = "arrived", .dtype = TSM_U64, .count = SIDES}};
    for (int side = 0; side < SIDES; side++) {
        buffers[side] =
            (struct tsm_buffer_spec){.name = side_names[side],
                                     .dtype = TSM_U16,
                                     .count = side == LEFT || side == RIGHT ? across : down};
    }
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "tiles",
                                   .chips = chips,
                                   .chip_count = (uint32_t)(job->lines * job->columns),
                                   .window_bytes = 4 * (across + down) + SIDES * sizeof(uint64_t),
                                   .buffers = buffers,
                                   .buffer_count = SIDES + 1};
    return tsm_domain_alloc(orch, &opts, ret);
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    const struct job *job = arg;
    const uint64_t columns = (uint64_t)job->columns;
    struct tsm_call members[CHIPS];
    struct tsm_tensor tensors[CHIPS][4];
    tsm_domain *domain;
    int rc = allocate_domain(orch, job, &domain);
    int count = job->lines * job->columns;
    for (int chip = 0; chip < count && rc == 0; chip++) {
        struct tsm_tensor *t = tensors[chip];
        int x = chip % job->columns, y = chip / job->columns;
        t[0] = view(&job->photo, job, x, y, TSM_INPUT);
        t[1] = view(&job->blurred, job, x, y, TSM_OUTPUT_EXISTING);
        uint64_t samples = tile_samples((int)t[0].shape[1], (int)t[0].shape[0]);
        t[2] = t[3] = (struct tsm_tensor){/* no address: the runtime allocates it on the chip */
                                          .dtype = TSM_U16,
                                          .tag = TSM_OUTPUT,
                                          .ndim = 1,
                                          .shape = {samples}};
        members[chip] = (struct tsm_call){.callable = blur,
                                          .chip = chip,
                                          .tensors = t,
                                          .tensor_count = 4,
                                          .scalars = &columns,
                                          .scalar_count = 1,
                                          .domains = &domain,
                                          .domain_count = 1};
    }
    return rc != 0 ? rc : tsm_submit_group(orch, members, (uint32_t)count, NULL);
}

/* ---- the program ------------------------------------------------------------------------------------------ */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int count_differences(const uint8_t *a, const uint8_t *b, size_t count)
{
    int differ = 0;
    for (size_t i = 0; i < count; i++) {
        differ += a[i] != b[i];
    }
    return differ;
}

/* Blurs on one grid of chips after the other. Returns how many pixels were wrong, or -1. */
static int blur_on_grids(tsm_worker *worker, struct job *job, const uint8_t *plain)
{
    static const int grids[][2] = {{1, 1}, {1, 2}, {3, 1}, {1, 3}, {2, 2}, {4, 1}};
    size_t count = (size_t)job->photo.width * (size_t)job->photo.height;
    uint8_t *one_chip = malloc(count);
    int wrong = one_chip ? 0 : -1;
    printf("grid of chips   largest tile       ms   other than on one chip   than a plain loop\n");
    for (size_t i = 0; i < sizeof(grids) / sizeof(grids[0]) && wrong >= 0; i++) {
        job->lines = grids[i][0];
        job->columns = grids[i][1];
        memset(job->blurred.pixels, 0, count);
        double begin = now_ms();
        if (tsm_worker_run(worker, orchestrate, job) != 0) {
            wrong = -1;
            break;
        }
        double took = now_ms() - begin;
        if (i == 0) {
            memcpy(one_chip, job->blurred.pixels, count);
        }
        int other = count_differences(job->blurred.pixels, one_chip, count);
        int than_plain = count_differences(job->blurred.pixels, plain, count);
        wrong += other + than_plain;
        printf("    %d x %d         %4d x %-4d  %7.1f   %15d pixels   %10d pixels\n", job->lines,
               job->columns, (job->photo.width + job->columns - 1) / job->columns,
               (job->photo.height + job->lines - 1) / job->lines, took, other, than_plain);
    }
    free(one_chip);
    return wrong;
}

/* Copies the photograph to where the chips see it, and begins. */
static int run(tsm_worker *worker, const struct image *photo, const uint8_t *plain,
               const char *save_as)
{
    struct job job = {.photo = *photo, .blurred = *photo};
    size_t count = (size_t)photo->width * (size_t)photo->height;
    if (tsm_register(worker, "blur", run_blur, &blur) != 0 || tsm_worker_start(worker) != 0 ||
        tsm_buffer_create(worker, count, (void **)&job.photo.pixels) != 0 ||
        tsm_buffer_create(worker, count, (void **)&job.blurred.pixels) != 0) {
        return -1;
    }
    memcpy(job.photo.pixels, photo->pixels, count);
    int wrong = blur_on_grids(worker, &job, plain);
    if (wrong >= 0 && save_as && image_write(save_as, &job.blurred) != 0) {
        return -1;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : EXAMPLE_DIR "/camera.pgm";
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = CHIPS};
    struct tsm_error error;
    struct image photo;
    tsm_worker *worker = NULL;
    int wrong = -1;
    if (image_read(path, &photo) != 0) {
        return 1;
    }
    uint8_t *plain = malloc((size_t)photo.width * (size_t)photo.height);
    if (photo.width < CHIPS * RADIUS || photo.height < CHIPS * RADIUS) {
        fprintf(stderr, "halo: %s: the tiles would be smaller than their halos\n", path);
    } else if (!plain || blur_plain(&photo, PASSES, plain) != 0) {
        fprintf(stderr, "halo: no memory\n");
    } else if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "halo: %s\n", error.text);
    } else {
        printf("A photograph of %d x %d pixels, blurred %d times, in tiles with halo exchange.\n\n",
               photo.width, photo.height, PASSES);
        wrong = run(worker, &photo, plain, argc > 2 ? argv[2] : NULL);
        if (wrong < 0) {
            fprintf(stderr, "halo: %s\n", tsm_worker_error(worker)->text);
        }
    }
    tsm_worker_destroy(worker);
    free(photo.pixels);
    free(plain);
    return wrong == 0 ? 0 : 1;
}
