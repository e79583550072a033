/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The arena: one address range in four memfds, the same in every process of a worker. Made by the orchestrator
 * before any process exists; narrowed by each chip and sub to what it may write. Nothing in it has a name,
 * so nothing can be left behind. docs/shm.md.
 */
#include "shm/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sys.h"

static const char *const fd_names[ARENA_FDS] = {"transom-ctl", "transom-pages", "transom-hints",
                                                "transom-data"};

static uint64_t align_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

static uint64_t take(uint64_t *offset, uint64_t bytes)
{
    uint64_t at = align_up(*offset, PAGE_ALIGN);
    *offset = at + bytes;
    return at;
}

/* Fills the offsets. The ring of a sub only carries loads, but is as large as the others: untouched
 * memory costs nothing. */
static void lay_out(struct arena_info *in, const struct arena_sizes *s)
{
    uint32_t places = s->chips + s->subs;
    memset(in, 0, sizeof(*in));
    in->magic = ARENA_MAGIC;
    in->version = ARENA_VERSION;
    in->chips = s->chips;
    in->subs = s->subs;
    in->mask_words = (places + 1 + 63) / 64;
    in->ring_bytes = s->ring_bytes;
    in->pool_slots = s->ring_bytes / LINE;
    in->heap_bytes = align_up(s->heap_bytes, PAGE_ALIGN);
    in->host_bytes = align_up(s->host_bytes, PAGE_ALIGN);
    in->windows_bytes = align_up(s->windows_bytes, PAGE_ALIGN);

    uint64_t at = sizeof(struct ctl_head);
    in->ring_heads_offset = take(&at, (places + 1) * sizeof(struct ring_head));
    in->callables_bytes = (UINT64_C(1) << 20) * sizeof(struct callable);
    in->callables_offset = take(&at, in->callables_bytes);
    in->rings_offset = take(&at, (places + 1) * (s->ring_bytes + s->ring_bytes / LINE * 4));
    in->desc_bytes = UINT64_C(2) << 30;
    in->desc_offset = take(&at, in->desc_bytes);
    in->ctl_bytes = align_up(at, PAGE_ALIGN);

    in->pages_offset = in->ctl_bytes;
    at = in->pages_offset + sizeof(struct keeper_page);
    in->page_bytes = align_up(sizeof(struct proc_page), 4096);
    take(&at, 0);
    in->pool_offset = align_up(at, PAGE_ALIGN) + places * in->page_bytes;
    in->pool_offset = align_up(in->pool_offset, PAGE_ALIGN);
    in->pages_bytes = in->pool_offset +
                      align_up(in->pool_slots * sizeof(struct pool_slot), PAGE_ALIGN) -
                      in->pages_offset;

    in->hints_offset = in->pages_offset + in->pages_bytes;
    uint64_t hints = sizeof(struct hints_head) + (places + 1) * sizeof(struct hint);
    in->masks_offset = in->hints_offset + hints;
    hints += (places + 1) * (uint64_t)((in->mask_words + 7) & ~7u) * 8;
    in->hints_bytes = align_up(hints, PAGE_ALIGN);

    in->data_offset = in->hints_offset + in->hints_bytes;
    at = in->data_offset;
    in->heaps_offset = take(&at, s->chips * in->heap_bytes);
    in->host_offset = take(&at, in->host_bytes);
    in->windows_offset = take(&at, in->windows_bytes);
    in->data_bytes = align_up(at, PAGE_ALIGN) - in->data_offset;
    in->bytes = in->data_offset + in->data_bytes;
}

/* Sets the pointers from info; base is mapped. */
static void find_parts(struct arena *a, const struct arena_info *in)
{
    a->ctl = (struct ctl_head *)a->base;
    a->keeper = arena_at(a, in->pages_offset);
    a->pages = arena_at(a, align_up(in->pages_offset + sizeof(struct keeper_page), PAGE_ALIGN));
    a->pool = arena_at(a, in->pool_offset);
    a->hints_head = arena_at(a, in->hints_offset);
    a->hints = (struct hint *)(a->hints_head + 1);
    a->masks = arena_at(a, in->masks_offset);
    a->rings = arena_at(a, in->ring_heads_offset);
    a->callables = arena_at(a, in->callables_offset);
    a->chips = in->chips;
    a->subs = in->subs;
    a->places = in->chips + in->subs;
    a->mask_words = in->mask_words;
    a->page_bytes = in->page_bytes;
    a->pool_mask = in->pool_slots - 1;
    a->spin = in->spin;
}

static int map_part(const struct arena *a, uint64_t offset, uint64_t bytes, int prot, int fd,
                    uint64_t fd_offset)
{
    return sys_mmap(a->base + offset, bytes, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)fd_offset)
               ? 0
               : -1;
}

/* The orchestrator writes ctl, hints and data; pages it only reads. The keeper inherits these and maps
 * the pages it needs to write itself. */
static int map_parts(const struct arena *a, const struct arena_info *in)
{
    const int rw = PROT_READ | PROT_WRITE;
    if (map_part(a, 0, in->ctl_bytes, rw, a->fd[ARENA_CTL], 0) != 0 ||
        map_part(a, in->pages_offset, in->pages_bytes, rw, a->fd[ARENA_PAGES], 0) != 0 ||
        map_part(a, in->hints_offset, in->hints_bytes, rw, a->fd[ARENA_HINTS], 0) != 0 ||
        map_part(a, in->data_offset, in->data_bytes, rw, a->fd[ARENA_DATA], 0) != 0) {
        return -1;
    }
    return 0;
}

static int reopen_read_only(int fd)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return sys_open(path, O_RDONLY);
}

static int open_fds(struct arena *a, const struct arena_info *in)
{
    const uint64_t bytes[ARENA_FDS] = {in->ctl_bytes, in->pages_bytes, in->hints_bytes,
                                       in->data_bytes};
    for (int i = 0; i < ARENA_FDS; i++) {
        a->fd[i] = sys_memfd(fd_names[i], bytes[i]);
        if (a->fd[i] < 0) {
            return -1;
        }
        if (i == ARENA_CTL || i == ARENA_PAGES) {
            a->ro_fd[i] = reopen_read_only(a->fd[i]);
            if (a->ro_fd[i] < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static void init_rings(const struct arena *a)
{
    const struct arena_info *in = &a->ctl->info;
    uint64_t slots = in->ring_bytes / LINE;
    uint64_t at = in->rings_offset;
    for (uint32_t i = 0; i <= a->places; i++) {
        a->rings[i].bytes = in->ring_bytes;
        a->rings[i].slots = slots;
        a->rings[i].data_offset = at;
        at += in->ring_bytes;
    }
    for (uint32_t i = 0; i <= a->places; i++) {
        a->rings[i].index_offset = at;
        at += slots * 4;
    }
}

int arena_create(struct arena *a, const struct arena_sizes *sizes, struct tsm_error *err)
{
    struct arena_info in;
    memset(a, 0, sizeof(*a));
    for (int i = 0; i < ARENA_FDS; i++) {
        a->fd[i] = a->ro_fd[i] = -1;
    }
    lay_out(&in, sizes);
    if (sizes->arena_bytes != 0 && sizes->arena_bytes < in.bytes) {
        return error_set(err, TSM_ENOSPC,
                         "arena_bytes is %llu, but heaps, host memory, rings and windows need %llu",
                         (unsigned long long)sizes->arena_bytes, (unsigned long long)in.bytes);
    }
    if (sizes->arena_bytes != 0) {
        in.bytes = sizes->arena_bytes & ~(uint64_t)(PAGE_ALIGN - 1);
    }
    a->bytes = in.bytes;
    a->base =
        sys_mmap(NULL, a->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!a->base) {
        return error_sys(err, TSM_ENOMEM, "cannot reserve %llu bytes of addresses for the arena",
                         (unsigned long long)a->bytes);
    }
    in.base = (uint64_t)(uintptr_t)a->base;
    if (open_fds(a, &in) != 0 || map_parts(a, &in) != 0) {
        int rc = error_sys(err, TSM_ESYS, "cannot make the shared memory of the arena");
        arena_destroy(a);
        return rc;
    }
    memcpy(a->base, &in, sizeof(in));
    find_parts(a, &in);
    init_rings(a);
    return 0;
}

int arena_attach(struct arena *a, uint64_t base, uint64_t bytes, const int fd[ARENA_FDS],
                 const int ro_fd[ARENA_FDS])
{
    memset(a, 0, sizeof(*a));
    memcpy(a->fd, fd, sizeof(a->fd));
    memcpy(a->ro_fd, ro_fd, sizeof(a->ro_fd));
    void *want = (void *)(uintptr_t)base;
    void *got = sys_mmap(want, bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != want) {
        if (got) {
            sys_munmap(got, bytes); /* a kernel that does not know the flag */
        }
        errno = got || errno == EEXIST ? EADDRINUSE : errno;
        return -1;
    }
    struct arena_info in;
    if (pread(fd[ARENA_CTL], &in, sizeof(in), 0) != (ssize_t)sizeof(in) ||
        in.magic != ARENA_MAGIC || in.version != ARENA_VERSION || in.base != base ||
        in.bytes != bytes) {
        sys_munmap(got, bytes);
        errno = EPROTO;
        return -1;
    }
    a->base = got;
    a->bytes = bytes;
    if (map_parts(a, &in) != 0) {
        return -1;
    }
    find_parts(a, &in);
    return 0;
}

int arena_move(struct arena *a, struct tsm_error *err)
{
    struct arena_info in = a->ctl->info;
    uint8_t *old = a->base;
    uint8_t *fresh =
        sys_mmap(NULL, a->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!fresh) {
        return error_sys(err, TSM_ENOMEM, "cannot reserve %llu bytes of addresses for the arena",
                         (unsigned long long)a->bytes);
    }
    in.base = (uint64_t)(uintptr_t)fresh;
    a->base = fresh;
    if (map_parts(a, &in) != 0) {
        int rc = error_sys(err, TSM_ESYS, "cannot map the arena");
        sys_munmap(fresh, a->bytes);
        a->base = old;
        return rc;
    }
    memcpy(fresh, &in, sizeof(in));
    find_parts(a, &in);
    sys_munmap(old, a->bytes);
    return 0;
}

int arena_confine(struct arena *a, uint32_t place)
{
    const struct arena_info in = a->ctl->info;
    const int rw = PROT_READ | PROT_WRITE;
    uint64_t page = (uint64_t)((uint8_t *)arena_page(a, place) - a->base);
    uint64_t pool_bytes = in.pages_offset + in.pages_bytes - in.pool_offset;
    if (map_part(a, 0, in.ctl_bytes, PROT_READ, a->ro_fd[ARENA_CTL], 0) != 0 ||
        map_part(a, in.pages_offset, in.pages_bytes, PROT_READ, a->ro_fd[ARENA_PAGES], 0) != 0 ||
        map_part(a, page, in.page_bytes, rw, a->fd[ARENA_PAGES], page - in.pages_offset) != 0 ||
        (place >= a->chips && map_part(a, in.pool_offset, pool_bytes, rw, a->fd[ARENA_PAGES],
                                       in.pool_offset - in.pages_offset) != 0)) {
        return -1;
    }
    for (int i = 0; i < ARENA_FDS; i++) {
        sys_close(a->fd[i]);
        sys_close(a->ro_fd[i]);
        a->fd[i] = a->ro_fd[i] = -1;
    }
    return 0;
}

/* It can fail for want of memory for the kernel's own tables: that passes. */
static void unmap(uint8_t *from, const uint8_t *to)
{
    for (int i = 0; from < to && i < 2 && sys_munmap(from, (size_t)(to - from)) != 0; i++) {
    }
}

static void forget(struct arena *a)
{
    for (int i = 0; i < ARENA_FDS && a->bytes; i++) {
        sys_close(a->fd[i]);
        sys_close(a->ro_fd[i]);
    }
    memset(a, 0, sizeof(*a));
}

void arena_destroy(struct arena *a)
{
    if (a->base) {
        unmap(a->base, a->base + a->bytes);
    }
    forget(a);
}

void arena_destroy_but_host(struct arena *a)
{
    const struct arena_info in = a->ctl->info;
    uint64_t end = in.host_offset + in.host_bytes;
    /* The mapping keeps the whole memfd: what is not wanted of it would stay with what is. */
    sys_punch(a->fd[ARENA_DATA], 0, in.host_offset - in.data_offset);
    if (in.data_offset + in.data_bytes > end) {
        sys_punch(a->fd[ARENA_DATA], end - in.data_offset, in.data_offset + in.data_bytes - end);
    }
    unmap(a->base, a->base + in.host_offset);
    unmap(a->base + end, a->base + a->bytes);
    forget(a);
}
