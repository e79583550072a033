/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Submitting: what is refused, by name and without a trace; what arrives in the task; where a task goes that names no
 * chip, and where its outputs are.
 */
#include "graph_help.h"

enum { A = 1, B, C };

/* ---- refusals ---- */

/* What a bad call may be made of. */
struct place {
    tsm_orch *o;
    tsm_domain *domain, *released;
    uint8_t *window, *stale;
    void *chip0, *chip1, *freed;
    tsm_task_id last;
};

/* A call that is right, in pieces, before a case spoils it. */
struct parts {
    struct tsm_call call;
    struct tsm_tensor tensors[2];
    uint64_t scalars[2];
    tsm_domain *domains[2];
    tsm_task_id after[2];
};

static void no_dtype(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].dtype = 0;
}

static void high_dtype(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].dtype = 14;
}

static void bad_tag(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[0].tag = 6;
}

static void nine_dims(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].ndim = 9;
}

static void huge_shape(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].ndim = 2;
    p->tensors[1].shape[0] = UINT64_C(1) << 40;
    p->tensors[1].shape[1] = UINT64_C(1) << 41;
}

static void huge_element_count(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].dtype = TSM_F64;
    p->tensors[1].shape[0] = UINT64_C(0x2000000000000001);
}

static void huge_stride(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].stride_given = 1;
    p->tensors[1].strides[0] = INT64_MAX;
}

static void stride_beyond(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].stride_given = 1;
    p->tensors[1].strides[0] = MEMORY_BYTES / 63 + 1;
}

static void stride_before(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].stride_given = 1;
    p->tensors[1].strides[0] = -1;
}

static void null_input(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].data = NULL;
}

static void null_untagged(struct parts *p, const struct place *at)
{
    null_input(p, at);
    p->tensors[1].tag = 0;
}

static void null_inout(struct parts *p, const struct place *at)
{
    null_input(p, at);
    p->tensors[1].tag = TSM_INOUT;
}

static void null_existing(struct parts *p, const struct place *at)
{
    null_input(p, at);
    p->tensors[1].tag = TSM_OUTPUT_EXISTING;
}

static void null_no_dep(struct parts *p, const struct place *at)
{
    null_input(p, at);
    p->tensors[1].tag = TSM_NO_DEP;
}

static void null_output_with_strides(struct parts *p, const struct place *at)
{
    null_input(p, at);
    p->tensors[1].tag = TSM_OUTPUT;
    p->tensors[1].stride_given = 1;
    p->tensors[1].strides[0] = 1;
}

static void foreign_address(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].data = p;
}

static void wild_address(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].data = (void *)(UINTPTR_MAX - 7);
}

static void beyond_allocation(struct parts *p, const struct place *at)
{
    (void)at;
    p->tensors[1].data = world.memory + MEMORY_BYTES - 63;
}

static void freed_memory(struct parts *p, const struct place *at)
{
    p->tensors[1].data = at->freed;
}

static void other_chip(struct parts *p, const struct place *at)
{
    p->tensors[1].data = at->chip1;
}

static void sub_on_chip(struct parts *p, const struct place *at)
{
    p->call.chip = TSM_SUB;
    p->tensors[1].data = at->chip1;
}

static void any_on_two_chips(struct parts *p, const struct place *at)
{
    p->call.chip = TSM_ANY_CHIP;
    p->tensors[0].data = at->chip0;
    p->tensors[1].data = at->chip1;
}

static void stale_window(struct parts *p, const struct place *at)
{
    p->tensors[1].data = at->stale;
}

static void beyond_window(struct parts *p, const struct place *at)
{
    p->tensors[1].data = at->window + 4096 - 63;
}

static void released_domain(struct parts *p, const struct place *at)
{
    p->domains[1] = at->released;
}

static void null_domain(struct parts *p, const struct place *at)
{
    (void)at;
    p->domains[1] = NULL;
}

static void chip_too_high(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.chip = 4711;
}

static void chip_is_host(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.chip = TSM_HOST;
}

static void chip_very_low(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.chip = INT32_MIN;
}

static void after_none(struct parts *p, const struct place *at)
{
    (void)at;
    p->after[1] = 0;
}

static void after_nonsense(struct parts *p, const struct place *at)
{
    (void)at;
    p->after[1] = 12345;
}

static void after_the_future(struct parts *p, const struct place *at)
{
    p->after[1] = at->last + 1;
}

static void after_unknown_chip(struct parts *p, const struct place *at)
{
    (void)at;
    p->after[1] = UINT64_C(2000) << 48 | 1;
}

static void after_no_group(struct parts *p, const struct place *at)
{
    (void)at;
    p->after[1] = UINT64_C(0xfffe) << 48 | 99;
}

static void after_no_sub(struct parts *p, const struct place *at)
{
    (void)at;
    p->after[1] = UINT64_C(0xffff) << 48 | 99;
}

static void negative_limit(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.limit_ns = -5;
}

static void no_callable(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.callable.value = 0;
}

static void foreign_callable(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.callable.value ^= UINT64_C(1) << 60;
}

static void no_tensors(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.tensors = NULL;
}

static void no_scalars(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.scalars = NULL;
}

static void no_domains(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.domains = NULL;
}

static void no_after(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.after = NULL;
}

static uint64_t many_scalars[10000];

static void record_too_large(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.scalars = many_scalars;
    p->call.scalar_count = 8192;
}

static void counts_too_large(struct parts *p, const struct place *at)
{
    (void)at;
    p->call.tensor_count = UINT32_MAX;
}

static const struct refusal {
    void (*spoil)(struct parts *p, const struct place *at);
    int code;
    const char *text, *text2;
} refusals[] = {
    {no_dtype, TSM_EINVAL, "tensor 1", "dtype is 0"},
    {high_dtype, TSM_EINVAL, "tensor 1", "dtype is 14"},
    {bad_tag, TSM_EINVAL, "tensor 0", "tag is 6"},
    {nine_dims, TSM_EINVAL, "tensor 1", "ndim is 9"},
    {huge_shape, TSM_EINVAL, "tensor 1", "shape[1] is 2199023255552"},
    {huge_element_count, TSM_EINVAL, "tensor 1", "shape[0] is 2305843009213693953"},
    {huge_stride, TSM_EINVAL, "tensor 1", "strides"},
    {stride_beyond, TSM_ERANGE, "tensor 1", "beyond"},
    {stride_before, TSM_ERANGE, "tensor 1", "64 bytes"},
    {null_input, TSM_EINVAL, "tensor 1", "data is NULL"},
    {null_untagged, TSM_EINVAL, "tensor 1", "data is NULL"},
    {null_inout, TSM_EINVAL, "tensor 1", "data is NULL"},
    {null_existing, TSM_EINVAL, "tensor 1", "data is NULL"},
    {null_no_dep, TSM_EINVAL, "tensor 1", "data is NULL"},
    {null_output_with_strides, TSM_EINVAL, "tensor 1", "strides"},
    {foreign_address, TSM_ERANGE, "tensor 1", "not memory of this worker"},
    {wild_address, TSM_ERANGE, "tensor 1", "0xfffffffffffffff8"},
    {beyond_allocation, TSM_ERANGE, "tensor 1", "64 bytes"},
    {freed_memory, TSM_ERANGE, "tensor 1", "not in memory that is allocated"},
    {other_chip, TSM_EINVAL, "tensor 1", "chip 1"},
    {sub_on_chip, TSM_EINVAL, "tensor 1", "sub"},
    {any_on_two_chips, TSM_EINVAL, "tensor 1", "chip 1"},
    {stale_window, TSM_ESTALE, "tensor 1", "released"},
    {beyond_window, TSM_ERANGE, "tensor 1", "4033"},
    {released_domain, TSM_ESTALE, "domain 1", "'old'"},
    {null_domain, TSM_EINVAL, "domain 1", "not a domain"},
    {chip_too_high, TSM_EINVAL, "chip", "4711"},
    {chip_is_host, TSM_EINVAL, "chip", "-3"},
    {chip_very_low, TSM_EINVAL, "chip", "-2147483648"},
    {after_none, TSM_EINVAL, "after[1]", "0"},
    {after_nonsense, TSM_EINVAL, "after[1]", "0x3039"},
    {after_the_future, TSM_EINVAL, "after[1]", "0x1"},
    {after_unknown_chip, TSM_EINVAL, "after[1]", "0x7d0"},
    {after_no_group, TSM_EINVAL, "after[1]", "0xfffe"},
    {after_no_sub, TSM_EINVAL, "after[1]", "0xffff"},
    {negative_limit, TSM_EINVAL, "limit_ns", "-5"},
    {no_callable, TSM_EINVAL, "callable", ""},
    {foreign_callable, TSM_EINVAL, "callable", ""},
    {no_tensors, TSM_EINVAL, "tensor_count is 2", "NULL"},
    {no_scalars, TSM_EINVAL, "scalar_count is 2", "NULL"},
    {no_domains, TSM_EINVAL, "domain_count is 2", "NULL"},
    {no_after, TSM_EINVAL, "after", "NULL"},
    {record_too_large, TSM_EINVAL, "8192 scalars", "65536"},
    {counts_too_large, TSM_EINVAL, "tensor", "4294967295"},
};

/* Reads and writes its two tensors of 64 bytes. */
static void make_parts(struct parts *p, const struct place *at, int chip)
{
    memset(p, 0, sizeof(*p));
    p->tensors[0] = VIEW(world.memory + 1024, 64, TSM_INOUT);
    p->tensors[1] = VIEW(world.memory, 64, TSM_INPUT);
    p->domains[0] = p->domains[1] = at->domain;
    p->after[0] = p->after[1] = at->last;
    p->call = (struct tsm_call){.callable = world.note,
                                .chip = chip,
                                .tensors = p->tensors,
                                .tensor_count = 2,
                                .scalars = p->scalars,
                                .scalar_count = 2,
                                .domains = p->domains,
                                .domain_count = 2,
                                .after = p->after,
                                .after_count = 2};
}

static bool is_same(const struct tsm_stats *a, const struct tsm_stats *b)
{
    return a->tasks == b->tasks && a->waits == b->waits && a->waits_elided == b->waits_elided &&
           a->ranges == b->ranges && a->heap_bytes == b->heap_bytes &&
           a->domains_live == b->domains_live;
}

static void check_refusal(const struct place *at, const struct refusal *r, bool group)
{
    struct parts good;
    struct parts bad;
    tsm_task_id id = 4711;
    make_parts(&good, at, 1);
    make_parts(&bad, at, 0);
    r->spoil(&bad, at);
    good.tensors[0] = VIEW(NULL, 64, TSM_OUTPUT);
    struct tsm_call calls[2] = {good.call, bad.call};
    struct tsm_stats before = stats_now();
    int rc = group ? tsm_submit_group(at->o, calls, 2, &id) : tsm_submit(at->o, &bad.call, &id);
    struct tsm_stats after = stats_now();
    if (rc != r->code || !is_same(&before, &after)) {
        print_error("refusal %d%s\n", (int)(r - refusals), group ? " in a group" : "");
    }
    assert_code(world.w, rc, r->code);
    assert_text(world.w, r->text);
    assert_text(world.w, r->text2);
    assert_true(is_same(&before, &after));
    assert_int_equal(id, 4711);
    assert_null(good.tensors[0].data);
}

static void make_place(tsm_orch *o, struct place *at)
{
    static const int chips[] = {0, 1};
    memset(at, 0, sizeof(*at));
    at->o = o;
    at->domain = make_domain(o, "d", chips, 2, 4096);
    at->window = window_of(at->domain, 1);
    at->released = make_domain(o, "old", chips, 2, 4096);
    at->stale = window_of(at->released, 0);
    assert_int_equal(tsm_domain_release(at->released), 0);
    assert_code(world.w, tsm_alloc(o, 0, 4096, &at->chip0), 0);
    assert_code(world.w, tsm_alloc(o, 1, 4096, &at->chip1), 0);
    assert_code(world.w, tsm_malloc(o, TSM_HOST, 4096, &at->freed), 0);
    assert_code(world.w, tsm_free(o, TSM_HOST, at->freed), 0);
}

static int refuse_all(tsm_orch *o, void *arg)
{
    struct place at;
    struct parts good;
    (void)arg;
    make_place(o, &at);
    at.last = give(
        o, (struct job){.chip = 0, .gate = 1, .tensors = {VIEW(world.memory, 64, TSM_OUTPUT)}});
    for (uint32_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        check_refusal(&at, &refusals[i], false);
        /* Chips of a group are looked at before its members. */
        if (!strstr(refusals[i].text, "chip") && refusals[i].spoil != sub_on_chip &&
            refusals[i].spoil != any_on_two_chips) {
            check_refusal(&at, &refusals[i], true);
            assert_text(world.w, "member 1: ");
        }
    }
    assert_code(world.w, tsm_submit(o, NULL, NULL), TSM_EINVAL);
    /* What was held all the while is not disturbed, nor is the order behind it. */
    make_parts(&good, &at, 1);
    good.scalars[SCALAR_VALUE] = B;
    good.call.scalar_count = 0;
    assert_code(world.w, tsm_submit(o, &good.call, NULL), 0);
    give(o, (struct job){
                .chip = 1, .value = A, .tensors = {VIEW(world.memory + 1024, 64, TSM_INPUT)}});
    assert_false(has_begun(A));
    open_gate(1);
    return 0;
}

static void a_bad_value_is_refused_by_name_and_nothing_has_happened(void **state)
{
    (void)state;
    world_open(2, 1);
    world_run(refuse_all, NULL);
    assert_true(has_begun(A));
    world_close();
}

static int refuse_groups(tsm_orch *o, void *arg)
{
    (void)arg;
    struct tsm_call calls[5];
    void *rest = NULL;
    for (int i = 0; i < 5; i++) {
        calls[i] = (struct tsm_call){.callable = world.note, .chip = i % 4};
    }
    struct tsm_stats before = stats_now();
    assert_code(world.w, tsm_submit_group(o, calls, 0, NULL), TSM_EINVAL);
    assert_code(world.w, tsm_submit_group(o, NULL, 2, NULL), TSM_EINVAL);
    assert_code(world.w, tsm_submit_group(o, calls, 5, NULL), TSM_EINVAL);
    assert_text(world.w,
                world.chips == 4 ? "5 members, but there are 4 chips" : "chip 0 is named twice");
    calls[2].chip = 0;
    assert_code(world.w, tsm_submit_group(o, calls, 3, NULL), TSM_EINVAL);
    assert_text(world.w, "member 2: chip 0 is named twice");
    calls[2].chip = TSM_SUB;
    assert_code(world.w, tsm_submit_group(o, calls, 3, NULL), TSM_EINVAL);
    assert_text(world.w, "member 2");
    calls[2].chip = TSM_ANY_CHIP;
    assert_code(world.w, tsm_submit_group(o, calls, 3, NULL), TSM_EINVAL);
    assert_text(world.w, "member 2: chip is -1");
    for (int i = 0; i < 5; i++) {
        calls[i].chip = TSM_SUB;
    }
    assert_code(world.w, tsm_submit_group(o, calls, 3, NULL), TSM_EINVAL);
    assert_text(world.w, "3 sub tasks, but there are 2");
    /* The second member's output finds no memory: the first one's is given back. */
    struct tsm_tensor outputs[2] = {VIEW(NULL, 4096, TSM_OUTPUT), VIEW(NULL, 4096, TSM_OUTPUT)};
    struct tsm_stats empty = stats_now();
    assert_code(world.w, tsm_malloc(o, 1, 64u << 20, &rest), 0);
    struct tsm_stats full = stats_now();
    for (int i = 0; i < 2; i++) {
        calls[i] = (struct tsm_call){
            .callable = world.note, .chip = i, .tensors = &outputs[i], .tensor_count = 1};
    }
    assert_code(world.w, tsm_submit_group(o, calls, 2, NULL), TSM_ENOSPC);
    assert_text(world.w, "the heap of chip 1");
    assert_null(outputs[0].data);
    struct tsm_stats after = stats_now();
    assert_true(is_same(&full, &after));
    assert_code(world.w, tsm_free(o, 1, rest), 0);
    after = stats_now();
    assert_true(is_same(&empty, &after) && is_same(&before, &after));
    return 0;
}

static void a_bad_group_is_refused_and_nothing_has_happened(void **state)
{
    (void)state;
    world_open(4, 2);
    world_run(refuse_groups, NULL);
    world_close();
}

static int submit_sub_without(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job j = {.chip = TSM_SUB};
    assert_code(world.w, try_job(o, &j, NULL), TSM_EINVAL);
    assert_text(world.w, "no sub workers");
    return 0;
}

static void a_sub_task_without_subs_is_refused(void **state)
{
    (void)state;
    world_open(1, 0);
    world_run(submit_sub_without, NULL);
    world_close();
}

static tsm_domain *kept;

static int keep_a_domain(tsm_orch *o, void *arg)
{
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = "kept";
    opts.chips = (const int[]){0, 1};
    opts.chip_count = 2;
    opts.window_bytes = 4096;
    opts.keep = 1;
    assert_code(world.w, tsm_domain_alloc(o, &opts, &kept), 0);
    *(uint8_t **)arg = window_of(kept, 1);
    return 0;
}

static int fail_in_window(tsm_orch *o, void *arg)
{
    give(o,
         (struct job){.chip = 0, .fails = true, .tensors = {VIEW(*(uint8_t **)arg, 8, TSM_INPUT)}});
    return 0;
}

static int use_broken_window(tsm_orch *o, void *arg)
{
    struct job j = {.chip = 0, .tensors = {VIEW(*(uint8_t **)arg, 8, TSM_INPUT)}};
    assert_code(world.w, try_job(o, &j, NULL), TSM_ESTALE);
    assert_text(world.w, "tensor 0");
    assert_text(world.w, "broken");
    assert_code(world.w, tsm_copy_to(o, 1, *(uint8_t **)arg, "x", 1), TSM_ESTALE);
    assert_int_equal(tsm_domain_release(kept), 0);
    return 0;
}

static void the_window_of_a_broken_domain_is_refused(void **state)
{
    (void)state;
    uint8_t *window = NULL;
    world_open(2, 0);
    world_run(keep_a_domain, &window);
    assert_code(world.w, tsm_worker_run(world.w, fail_in_window, &window), TSM_ETASK_FAILED);
    world_run(use_broken_window, &window);
    world_close();
}

/* ---- what arrives ---- */

enum { DTYPES = 13 };

/* Tensor i of a call that has one of every dtype. */
static struct tsm_tensor typed(uint32_t i)
{
    struct tsm_tensor t = {.data = world.memory + i * 4096,
                           .dtype = (uint8_t)(i + 1),
                           .tag = (uint8_t)(i % 5 == 1 ? TSM_INOUT : i % 5 + 1),
                           .ndim = (uint8_t)(i % 9),
                           .stride_given = i % 2};
    int64_t step = (int64_t)tsm_dtype_bytes(t.dtype);
    for (uint32_t d = t.ndim; d-- > 0;) {
        t.shape[d] = 1 + (d + i) % 2;
        t.strides[d] = t.stride_given ? step * 2 : 0;
        step *= (int64_t)t.shape[d];
    }
    return t;
}

static int look_at_tensors(tsm_task *t)
{
    const struct tsm_tensor *sent = (const struct tsm_tensor *)(uintptr_t)tsm_task_scalar(t, 0);
    if (tsm_task_tensor_count(t) != DTYPES + 1) {
        return tsm_fail(t, "%u tensors", tsm_task_tensor_count(t));
    }
    for (uint32_t i = 0; i < DTYPES; i++) {
        struct tsm_tensor got;
        int64_t step = (int64_t)tsm_dtype_bytes(sent[i].dtype);
        if (tsm_task_tensor(t, i, &got) != 0 || got.data != sent[i].data ||
            got.dtype != sent[i].dtype || got.tag != sent[i].tag || got.ndim != sent[i].ndim ||
            tsm_task_data(t, i) != got.data) {
            return tsm_fail(t, "tensor %u", i);
        }
        for (uint32_t d = got.ndim; d-- > 0;) {
            int64_t stride = sent[i].stride_given ? sent[i].strides[d] : step;
            if (got.shape[d] != sent[i].shape[d] || got.strides[d] != stride) {
                return tsm_fail(t, "tensor %u, dimension %u", i, d);
            }
            step *= (int64_t)got.shape[d];
        }
    }
    struct tsm_tensor empty;
    int rc = tsm_task_tensor(t, DTYPES, &empty);
    if (rc != 0 || empty.ndim != 3 || empty.shape[1] != 0 || empty.tag != TSM_INPUT || empty.data) {
        return tsm_fail(t, "the empty tensor");
    }
    return tsm_task_tensor(t, DTYPES + 1, &empty) == TSM_ERANGE && !tsm_task_data(t, DTYPES + 1)
               ? 0
               : tsm_fail(t, "one more tensor");
}

static int look_at_the_rest(tsm_task *t)
{
    const struct tsm_call *sent = (const struct tsm_call *)(uintptr_t)tsm_task_scalar(t, 0);
    if (tsm_task_scalar_count(t) != sent->scalar_count || tsm_task_tensor_count(t) != 0 ||
        tsm_task_domain_count(t) != 0 || tsm_task_scalar(t, sent->scalar_count) != 0) {
        return tsm_fail(t, "counts");
    }
    if (tsm_task_f32(t, 1) != -1.5f || tsm_task_f64(t, 2) != 1e300) {
        return tsm_fail(t, "%f %f", (double)tsm_task_f32(t, 1), tsm_task_f64(t, 2));
    }
    for (uint32_t i = 3; i < sent->scalar_count; i++) {
        if (tsm_task_scalar(t, i) != UINT64_C(0x0123456789abcdef) * i) {
            return tsm_fail(t, "scalar %u", i);
        }
    }
    if (tsm_task_blocks(t) != (sent->blocks ? sent->blocks : 1) || tsm_task_member(t) != 0 ||
        tsm_task_members(t) != 1 || tsm_task_chip(t) != sent->chip || tsm_task_run(t) == 0) {
        return tsm_fail(t, "the call");
    }
    return 0;
}

static tsm_callable look_callable, rest_callable;

static int send_tensors(tsm_orch *o, void *arg)
{
    (void)arg;
    /* What the task compares with is in a host buffer; an address in a scalar is not looked at. */
    struct tsm_tensor *sent = (struct tsm_tensor *)(void *)(world.memory + MEMORY_BYTES - 8192);
    struct tsm_call call = {
        .callable = look_callable, .tensors = sent, .tensor_count = DTYPES + 1, .scalar_count = 1};
    uint64_t scalar = (uint64_t)(uintptr_t)sent;
    for (uint32_t i = 0; i < DTYPES; i++) {
        sent[i] = typed(i);
    }
    /* Empty: no address, an unusual shape, tag 0. */
    sent[DTYPES] =
        (struct tsm_tensor){.dtype = TSM_F16, .ndim = 3, .shape = {UINT64_MAX / 2, 0, 7}};
    sent[DTYPES].shape[0] = 1u << 20;
    call.scalars = &scalar;
    for (call.chip = TSM_SUB; call.chip < 2; call.chip++) {
        assert_code(world.w, tsm_submit(o, &call, NULL), 0);
    }
    return 0;
}

static int send_the_rest(tsm_orch *o, void *arg)
{
    (void)arg;
    struct tsm_call *sent = (struct tsm_call *)(void *)world.memory;
    static const uint32_t counts[] = {3, 4, 100, 8184};
    for (uint32_t k = 0; k < 4; k++) {
        many_scalars[0] = (uint64_t)(uintptr_t)&sent[k];
        many_scalars[1] = tsm_scalar_f32(-1.5f);
        many_scalars[2] = tsm_scalar_f64(1e300);
        for (uint32_t i = 3; i < counts[k]; i++) {
            many_scalars[i] = UINT64_C(0x0123456789abcdef) * i;
        }
        sent[k] = (struct tsm_call){.callable = rest_callable,
                                    .chip = (int)k % 2,
                                    .scalars = many_scalars,
                                    .scalar_count = counts[k],
                                    .blocks = k * 1000};
        assert_code(world.w, tsm_submit(o, &sent[k], NULL), 0);
        memset(many_scalars, 0, sizeof(many_scalars)); /* borrowed for the call only */
    }
    return 0;
}

static void every_dtype_and_eight_dimensions_arrive_as_sent(void **state)
{
    (void)state;
    world_make(2, 1);
    look_callable = harness_register(world.w, "look_at_tensors", look_at_tensors);
    rest_callable = harness_register(world.w, "look_at_the_rest", look_at_the_rest);
    world_start();
    world_run(send_tensors, NULL);
    world_run(send_the_rest, NULL);
    world_close();
}

/* ---- outputs without an address ---- */

static int fill(tsm_task *t)
{
    struct tsm_tensor x;
    int rc = tsm_task_tensor(t, 0, &x);
    if (rc == 0 && x.data) {
        memset(x.data, (int)tsm_task_scalar(t, 0), x.shape[0]);
    }
    return rc;
}

static int expect(tsm_task *t)
{
    struct tsm_tensor x;
    int rc = tsm_task_tensor(t, 0, &x);
    for (uint64_t i = 0; rc == 0 && i < x.shape[0]; i++) {
        if (((uint8_t *)x.data)[i] != tsm_task_scalar(t, 0)) {
            return tsm_fail(t, "byte %llu", (unsigned long long)i);
        }
    }
    return rc;
}

static tsm_callable fill_callable, expect_callable;

static struct tsm_call on(tsm_callable callable, int chip, struct tsm_tensor *t,
                          const uint64_t *value)
{
    return (struct tsm_call){.callable = callable,
                             .chip = chip,
                             .tensors = t,
                             .tensor_count = 1,
                             .scalars = value,
                             .scalar_count = 1};
}

static int found_outputs(tsm_orch *o, void *arg)
{
    (void)arg;
    static const int places[] = {0, 1, TSM_SUB};
    static const uint64_t values[] = {11, 22, 33};
    struct tsm_tensor t[3];
    uint8_t byte = 0;
    uint64_t held = stats_now().heap_bytes;
    for (uint32_t i = 0; i < 3; i++) {
        t[i] = VIEW(NULL, 1000, TSM_OUTPUT);
        struct tsm_call call = on(fill_callable, places[i], &t[i], &values[i]);
        assert_code(world.w, tsm_submit(o, &call, NULL), 0);
        assert_non_null(t[i].data);
        assert_int_equal((uintptr_t)t[i].data % 64, 0);
        t[i].tag = TSM_INPUT;
        call = on(expect_callable, places[i], &t[i], &values[i]);
        assert_code(world.w, tsm_submit(o, &call, NULL), 0);
        /* On the chip it ran on; a sub's is host memory. */
        int chip = places[i] == TSM_SUB ? TSM_HOST : places[i];
        assert_code(world.w, tsm_copy_from(o, chip, &byte, (uint8_t *)t[i].data + 999, 1), 0);
        assert_int_equal(byte, values[i]);
    }
    assert_int_equal(stats_now().heap_bytes - held, 3000);
    struct tsm_call members[2] = {on(fill_callable, 0, &t[0], &values[0]),
                                  on(fill_callable, 1, &t[1], &values[1])};
    t[0] = t[1] = VIEW(NULL, 64, TSM_OUTPUT);
    assert_code(world.w, tsm_submit_group(o, members, 2, NULL), 0);
    assert_code(world.w, tsm_copy_from(o, 0, &byte, t[0].data, 1), 0);
    assert_code(world.w, tsm_copy_from(o, 1, &byte, t[1].data, 1), 0);
    assert_int_equal(byte, 22);
    /* Nothing to write needs no memory. */
    struct tsm_tensor none = VIEW(NULL, 0, TSM_OUTPUT);
    struct tsm_call call = on(fill_callable, 0, &none, &values[0]);
    assert_code(world.w, tsm_submit(o, &call, NULL), 0);
    assert_null(none.data);
    return 0;
}

static void an_output_without_an_address_gets_memory_where_its_task_runs(void **state)
{
    (void)state;
    world_make(2, 1);
    fill_callable = harness_register(world.w, "fill", fill);
    expect_callable = harness_register(world.w, "expect", expect);
    world_start();
    uint64_t held = stats_now().heap_bytes;
    world_run(found_outputs, NULL);
    assert_int_equal(stats_now().heap_bytes, held); /* the scope of the run is over */
    world_close();
}

/* ---- any chip ---- */

static int write_chip(tsm_task *t)
{
    *(int *)tsm_task_data(t, 0) = tsm_task_chip(t);
    return 0;
}

static tsm_callable write_chip_callable;

static void give_any(tsm_orch *o, uint32_t slot, void *also)
{
    struct tsm_tensor t[2] = {VIEW(world.memory + slot * 64, 4, TSM_OUTPUT),
                              VIEW(also, 4, TSM_INPUT)};
    struct tsm_call call = {.callable = write_chip_callable,
                            .chip = TSM_ANY_CHIP,
                            .tensors = t,
                            .tensor_count = also ? 2 : 1};
    assert_code(world.w, tsm_submit(o, &call, NULL), 0);
}

static int any_chip(tsm_orch *o, void *arg)
{
    void *own = NULL;
    (void)arg;
    assert_code(world.w, tsm_malloc(o, 1, 64, &own), 0);
    for (uint32_t c = 0; c < world.chips; c++) {
        if (c != 2) {
            give(o, (struct job){.chip = (int)c, .gate = c == 1 ? 2 : 1});
        }
    }
    give_any(o, 0, NULL);
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 4, TSM_READ), 0);
    assert_int_equal(*(int *)world.memory, 2); /* the only idle one */
    give_any(o, 1, own);                       /* its memory decides, busy or not */
    give_any(o, 2, NULL);
    assert_code(world.w, tsm_host_wait(world.w, world.memory + 128, 4, TSM_READ), 0);
    assert_int_equal(*(int *)(void *)(world.memory + 128), 2);
    for (uint32_t c = 0; c < world.chips; c++) {
        if (c != 2) {
            open_gate(c == 1 ? 2 : 1);
        }
    }
    assert_code(world.w, tsm_host_wait(world.w, world.memory + 64, 4, TSM_READ), 0);
    assert_int_equal(*(int *)(void *)(world.memory + 64), 1);
    assert_code(world.w, tsm_free(o, 1, own), 0);
    return 0;
}

static void any_chip_is_the_least_loaded_or_the_one_whose_memory_it_uses(void **state)
{
    (void)state;
    world_make(3, 0);
    write_chip_callable = harness_register(world.w, "write_chip", write_chip);
    world_start();
    world_run(any_chip, NULL);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bad_value_is_refused_by_name_and_nothing_has_happened),
        TEST(a_bad_group_is_refused_and_nothing_has_happened),
        TEST(a_sub_task_without_subs_is_refused),
        TEST(the_window_of_a_broken_domain_is_refused),
        TEST(every_dtype_and_eight_dimensions_arrive_as_sent),
        TEST(an_output_without_an_address_gets_memory_where_its_task_runs),
        TEST(any_chip_is_the_least_loaded_or_the_one_whose_memory_it_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
