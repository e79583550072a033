/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Who is who in a domain: the same chips in several domains at once.
 *
 * Ranks are dense and follow the order in which the chips are named, so a chip has another rank in each domain, or none.
 * Its windows are different memory: what chip 2 does in one domain is not seen in the others.
 */
#include <math.h>
#include <stdio.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { CHIPS = 3, DOMAINS = 3, MEMBERS = 2, COUNT = 256, NO_RANK = -1 };
static const double tolerance = 1e-3;

static const struct {
    const char *name;
    int chips[MEMBERS];
} plan[DOMAINS] = {{"left", {0, 2}}, {"right", {1, 2}}, {"turned", {2, 0}}};

static tsm_callable look, add_up;

/* What both sides found out. */
static struct {
    int rank[DOMAINS][CHIPS];            /* as the program sees it */
    int32_t (*rank_inside)[CHIPS];       /* as the tasks see it: a host buffer, [DOMAINS][CHIPS] */
    const float *x[DOMAINS];             /* chip 2's buffer in each domain */
    float sums[DOMAINS][MEMBERS][COUNT]; /* by rank */
    int not_a_member;                    /* what asking for chip 1 in the first domain gave */
} found;

/* ---- the tasks ------------------------------------------------------------------------------------------- */

/* On every chip: which rank am I? A domain that it is no member of is NULL to it. Tensors: a number for each domain. */
static int run_look(tsm_task *task)
{
    for (uint32_t d = 0; d < tsm_task_domain_count(task); d++) {
        const tsm_ctx *c = tsm_task_domain(task, d);
        int32_t *rank = tsm_task_data(task, d);
        *rank = c ? (int32_t)tsm_rank(c) : NO_RANK;
    }
    return 0;
}

/* What chip `chip` gives in domain `d`. */
static double value_of(int chip, int d, int i)
{
    return i + 100 * chip + 1000 * d;
}

/* On the members of one domain. Scalar: which one it is. */
static int run_add_up(tsm_task *task)
{
    tsm_ctx *c = tsm_task_domain(task, 0);
    tsm_sym x;
    int rc = tsm_buffer(c, "x", &x, NULL);
    if (rc != 0) {
        return rc;
    }
    float *mine = tsm_ptr(c, x, tsm_rank(c));
    for (int i = 0; i < COUNT; i++) {
        mine[i] = (float)value_of(tsm_task_chip(task), (int)tsm_task_scalar(task, 0), i);
    }
    return tsm_all_reduce(c, x, x, COUNT, TSM_F32, TSM_SUM);
}

/* ---- the orchestration function ------------------------------------------------------------------------------ */

static int allocate(tsm_orch *orch, int d, tsm_domain **ret)
{
    const struct tsm_buffer_spec x = {.name = "x", .dtype = TSM_F32, .count = COUNT};
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = plan[d].name,
                                   .chips = plan[d].chips,
                                   .chip_count = MEMBERS,
                                   .window_bytes = COUNT * sizeof(float),
                                   .buffers = &x,
                                   .buffer_count = 1};
    return tsm_domain_alloc(orch, &opts, ret);
}

/* The rank of each chip, asked from here; and chip 2's buffer. */
static int map_ranks(tsm_domain *domain, int d)
{
    struct tsm_tensor x;
    for (int chip = 0; chip < CHIPS; chip++) {
        struct tsm_domain_context context;
        int rc = tsm_domain_context(domain, chip, &context);
        if (rc != 0 && rc != TSM_ENOENT) { /* ENOENT: that chip is no member */
            return rc;
        }
        found.rank[d][chip] = rc == 0 ? (int)context.rank : NO_RANK;
        found.not_a_member = d == 0 && chip == 1 ? rc : found.not_a_member;
    }
    int rc = tsm_domain_buffer(domain, 2, "x", &x);
    found.x[d] = rc == 0 ? x.data : NULL;
    return rc;
}

static int submit_look(tsm_orch *orch, int chip, tsm_domain **domains)
{
    struct tsm_tensor ranks[DOMAINS];
    struct tsm_call call = {.callable = look,
                            .chip = chip,
                            .tensors = ranks,
                            .tensor_count = DOMAINS,
                            .domains = domains,
                            .domain_count = DOMAINS};
    for (int d = 0; d < DOMAINS; d++) {
        ranks[d] = (struct tsm_tensor){
            .data = &found.rank_inside[d][chip], .dtype = TSM_I32, .tag = TSM_OUTPUT_EXISTING};
    }
    return tsm_submit(orch, &call, NULL);
}

static int submit_add_up(tsm_orch *orch, int d, tsm_domain *domain)
{
    const uint64_t number = (uint64_t)d;
    struct tsm_tensor x[MEMBERS];
    struct tsm_call members[MEMBERS];
    int rc = 0;
    for (int r = 0; r < MEMBERS && rc == 0; r++) {
        members[r] = (struct tsm_call){.callable = add_up,
                                       .chip = plan[d].chips[r],
                                       .tensors = &x[r],
                                       .tensor_count = 1,
                                       .scalars = &number,
                                       .scalar_count = 1,
                                       .domains = &domain,
                                       .domain_count = 1};
        rc = tsm_domain_tensor(domain, (uint32_t)r, "x", 0, TSM_REST, TSM_OUTPUT_EXISTING, &x[r]);
    }
    return rc != 0 ? rc : tsm_submit_group(orch, members, MEMBERS, NULL);
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    (void)arg;
    tsm_domain *domains[DOMAINS];
    int rc = 0;
    for (int d = 0; d < DOMAINS && rc == 0; d++) {
        rc = allocate(orch, d, &domains[d]);
        rc = rc != 0 ? rc : map_ranks(domains[d], d);
    }
    for (int chip = 0; chip < CHIPS && rc == 0; chip++) {
        rc = submit_look(orch, chip, domains);
    }
    for (int d = 0; d < DOMAINS && rc == 0; d++) {
        rc = submit_add_up(orch, d, domains[d]);
    }
    for (int d = DOMAINS - 1; d >= 0;
         d--) { /* backwards: when the first are read, all have been written */
        for (uint32_t r = 0; r < MEMBERS && rc == 0; r++) {
            struct tsm_tensor x;
            rc = tsm_domain_tensor(domains[d], r, "x", 0, TSM_REST, TSM_INPUT, &x);
            rc = rc != 0 ? rc
                         : tsm_copy_from(orch, plan[d].chips[r], found.sums[d][r], x.data,
                                         sizeof(found.sums[d][r]));
        }
    }
    return rc;
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

/* Of the sums of a domain, from plain ones. */
static double largest_difference(int d)
{
    double off = 0;
    for (int r = 0; r < MEMBERS; r++) {
        for (int i = 0; i < COUNT; i++) {
            double sum = value_of(plan[d].chips[0], d, i) + value_of(plan[d].chips[1], d, i);
            off = fmax(off, fabs((double)found.sums[d][r][i] - sum));
        }
    }
    return off;
}

/* Whether chip 2's buffers have no byte in common. */
static int buffers_are_distinct(void)
{
    for (int d = 0; d < DOMAINS; d++) {
        for (int e = 0; e < d; e++) {
            if (found.x[d] < found.x[e] + COUNT && found.x[e] < found.x[d] + COUNT) {
                return 0;
            }
        }
    }
    return 1;
}

/* Whether program and tasks see the ranks that the order of the names says. */
static int ranks_are_right(void)
{
    for (int d = 0; d < DOMAINS; d++) {
        for (int chip = 0; chip < CHIPS; chip++) {
            int rank = plan[d].chips[0] == chip ? 0 : plan[d].chips[1] == chip ? 1 : NO_RANK;
            if (found.rank[d][chip] != rank || found.rank_inside[d][chip] != rank) {
                return 0;
            }
        }
    }
    return 1;
}

/* Prints the table; returns whether all is right. */
static int report(void)
{
    int right = ranks_are_right(), distinct = buffers_are_distinct();
    printf("domain   chips   chip 0   chip 1   chip 2   x of chip 2      sums are off by\n");
    for (int d = 0; d < DOMAINS; d++) {
        printf("%-6s   %d, %d    ", plan[d].name, plan[d].chips[0], plan[d].chips[1]);
        for (int chip = 0; chip < CHIPS; chip++) {
            char cell[16] = "-";
            if (found.rank[d][chip] != NO_RANK) {
                snprintf(cell, sizeof(cell), "rank %d", found.rank[d][chip]);
            }
            printf("%-6s   ", cell);
        }
        printf("%-14p   %g\n", (const void *)found.x[d], largest_difference(d));
        right &= largest_difference(d) <= tolerance;
    }
    printf("\nThe tasks on the chips see %s ranks. ", ranks_are_right() ? "the same" : "OTHER");
    printf("Chip 2 has %s x in each domain.\n", distinct ? "another" : "THE SAME");
    printf("Asking for chip 1 in domain left gives %s.\n", tsm_code_name(found.not_a_member));
    return right && distinct && found.not_a_member == TSM_ENOENT;
}

int main(void)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = CHIPS};
    uint64_t ranks_bytes = DOMAINS * sizeof(*found.rank_inside);
    struct tsm_error error;
    tsm_worker *worker;
    int right = 0;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "domain_rank_map: %s\n", error.text);
        return 1;
    }
    int rc = tsm_register(worker, "look", run_look, &look);
    rc = rc != 0 ? rc : tsm_register(worker, "add_up", run_add_up, &add_up);
    rc = rc != 0 ? rc : tsm_worker_start(worker);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, ranks_bytes, (void **)&found.rank_inside);
    rc = rc != 0 ? rc : tsm_worker_run(worker, orchestrate, NULL);
    if (rc == 0) {
        right = report();
    } else {
        fprintf(stderr, "domain_rank_map: %s\n", tsm_worker_error(worker)->text);
    }
    tsm_worker_destroy(worker);
    return rc == 0 && right ? 0 : 1;
}
