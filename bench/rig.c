/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* A worker to be measured (rig.h). The tasks run in the chips, the rest in the benchmark's process. */
#include "rig.h"

#include <limits.h>
#include <string.h>

#include "futex.h"

enum { ADDED_MAX = 4 };

static int task_empty(tsm_task *t)
{
    (void)t;
    return 0;
}

static int task_hold(tsm_task *t)
{
    a32 *gate = tsm_task_data(t, 0);
    uint32_t closed = (uint32_t)tsm_task_scalar(t, 0);
    while (a32_acquire(gate) == closed) { /* pairs with rig_open */
        futex_sleep(gate, closed, NULL);
    }
    return 0;
}

static int task_stamp(tsm_task *t)
{
    uint64_t *clocks = tsm_task_data(t, 0);
    clocks[tsm_task_scalar(t, 0)] = clock_ns();
    return 0;
}

static int task_pin(tsm_task *t)
{
    pin_self((uint32_t)tsm_task_scalar(t, 0));
    return 0;
}

static int task_dirty(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym start;
    if (!c || tsm_at(c, 0, &start) != 0) {
        return tsm_fail(t, "no window");
    }
    memset(tsm_ptr(c, start, tsm_rank(c)), 1, tsm_task_scalar(t, 0));
    return 0;
}

static void must(const struct rig *r, int rc, const char *what)
{
    bench_must(rc, what, rc ? tsm_worker_error(r->worker)->text : "");
}

static struct {
    const char *name;
    tsm_task_fn *fn;
    tsm_callable *ret;
} added[ADDED_MAX];
static uint32_t added_count;

void rig_add(const char *name, tsm_task_fn *fn, tsm_callable *ret)
{
    bench_must(added_count == ADDED_MAX, "too many callables", name);
    added[added_count].name = name;
    added[added_count].fn = fn;
    added[added_count++].ret = ret;
}

void rig_start(struct rig *r, uint32_t chips, const struct tsm_worker_opts *opts)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct tsm_error err;
    void *shared;
    if (opts) {
        o = *opts;
    }
    o.chips = chips;
    memset(r, 0, sizeof(*r));
    r->chips = chips;
    cores();
    err.text[0] = 0;
    bench_must(tsm_worker_create(&o, &r->worker, &err), "create", err.text);
    must(r, tsm_register(r->worker, "empty", task_empty, &r->empty), "register");
    must(r, tsm_register(r->worker, "hold", task_hold, &r->hold), "register");
    must(r, tsm_register(r->worker, "stamp", task_stamp, &r->stamp), "register");
    must(r, tsm_register(r->worker, "pin", task_pin, &r->pin), "register");
    must(r, tsm_register(r->worker, "dirty", task_dirty, &r->dirty), "register");
    for (uint32_t i = 0; i < added_count; i++) {
        must(r, tsm_register(r->worker, added[i].name, added[i].fn, added[i].ret), "register");
    }
    added_count = 0;
    must(r, tsm_worker_start(r->worker), "start");
    must(r, tsm_buffer_create(r->worker, 4096, &shared), "buffer");
    r->gate = shared;
    r->clocks = (uint64_t *)((uint8_t *)shared + 2048);
}

struct pinning {
    struct rig *rig;
    uint32_t first;
};

static int submit_pins(tsm_orch *orch, void *arg)
{
    const struct pinning *p = arg;
    for (uint32_t c = 0; c < p->rig->chips; c++) {
        uint64_t core = (p->first + c) % cores();
        struct tsm_call call = {
            .callable = p->rig->pin, .chip = (int)c, .scalars = &core, .scalar_count = 1};
        rig_submit(p->rig, orch, &call);
    }
    return 0;
}

void rig_pin(struct rig *r, uint32_t first)
{
    struct pinning p = {r, first};
    rig_run(r, submit_pins, &p);
}

void rig_stop(struct rig *r)
{
    must(r, tsm_worker_close(r->worker), "close");
    tsm_worker_destroy(r->worker);
    r->worker = NULL;
}

void rig_run(struct rig *r, tsm_orch_fn *fn, void *arg)
{
    must(r, tsm_worker_run(r->worker, fn, arg), "run");
}

tsm_task_id rig_submit(struct rig *r, tsm_orch *orch, const struct tsm_call *call)
{
    tsm_task_id id;
    must(r, tsm_submit(orch, call, &id), "submit");
    return id;
}

void rig_hold(struct rig *r, tsm_orch *orch, uint32_t chips)
{
    uint64_t closed = a32_load(r->gate);
    for (uint32_t c = 0; c < chips; c++) {
        struct tsm_tensor gate = {.data = r->gate, .dtype = TSM_U32, .tag = TSM_NO_DEP};
        struct tsm_call call = {.callable = r->hold,
                                .chip = (int)c,
                                .tensors = &gate,
                                .tensor_count = 1,
                                .scalars = &closed,
                                .scalar_count = 1};
        rig_submit(r, orch, &call);
    }
}

void rig_open(struct rig *r)
{
    a32_add_full(r->gate, 1);
    for (uint32_t c = 0; c < r->chips; c++) {
        futex_wake(r->gate, 1);
    }
}
