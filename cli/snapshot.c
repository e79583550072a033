/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Opening the memory of a live worker (snapshot.h). Runs in the command line tool, possibly as root over
 * processes of other users: what is behind a descriptor, every size and every offset is checked before use,
 * and a memory that could still shrink under the mapping is refused. docs/man/transom.1.
 */
#include "cli/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

/* No offset or size of an arena comes near; sums of a few of them cannot overflow. */
#define BYTES_MAX (UINT64_C(1) << 60)

static bool fail(struct text *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct text *why, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why->s, sizeof(why->s), format, ap);
    va_end(ap);
    return false;
}

/* ---- finding keepers ---- */

static bool is_keeper(pid_t pid)
{
    char path[64];
    char name[32] = "";
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) {
        return false;
    }
    bool named = fgets(name, sizeof(name), f) && strcmp(name, "transom-keeper\n") == 0;
    bool mine = fstat(fileno(f), &st) == 0 && (geteuid() == 0 || st.st_uid == geteuid());
    fclose(f);
    return named && mine;
}

static int compare_pids(const void *a, const void *b)
{
    pid_t x = *(const pid_t *)a;
    pid_t y = *(const pid_t *)b;
    return (x > y) - (x < y);
}

int snapshot_find(pid_t **ret)
{
    DIR *proc = opendir("/proc");
    pid_t *list = NULL;
    int count = 0;
    if (!proc) {
        return -1;
    }
    for (const struct dirent *e; (e = readdir(proc)) != NULL;) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);
        if (*end != '\0' || pid <= 0 || !is_keeper((pid_t)pid)) {
            continue;
        }
        pid_t *grown = realloc(list, ((size_t)count + 1) * sizeof(*list));
        if (!grown) {
            free(list);
            closedir(proc);
            return -1;
        }
        list = grown;
        list[count++] = (pid_t)pid;
    }
    closedir(proc);
    if (count > 0) {
        qsort(list, (size_t)count, sizeof(*list), compare_pids);
    }
    *ret = list;
    return count;
}

/* ---- its memory ---- */

/* Opens the memfd `name` of a process read-only; -1 with errno. */
static int open_memfd(pid_t pid, const char *name)
{
    char folder[64];
    char wanted[64];
    int fd = -1;
    snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
    snprintf(wanted, sizeof(wanted), "/memfd:%s (deleted)", name);
    DIR *fds = opendir(folder);
    if (!fds) {
        return -1;
    }
    errno = ENOENT;
    for (const struct dirent *e; fd < 0 && (e = readdir(fds)) != NULL;) {
        char path[400];
        char target[128];
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length < 0) {
            continue;
        }
        target[length] = '\0';
        if (strcmp(target, wanted) == 0) {
            fd = sys_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        }
    }
    int saved = errno;
    closedir(fds);
    errno = saved;
    return fd;
}

/* Size of a memfd that can no longer shrink, 0 for anything else: a page that goes away under a mapping
 * would end this process. */
static uint64_t sealed_bytes(int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    return (uint64_t)st.st_size;
}

static bool map_memfd(pid_t pid, const char *name, void **ret, uint64_t *ret_bytes,
                      struct text *why)
{
    int fd = open_memfd(pid, name);
    if (fd < 0) {
        return fail(why, "its memory (%s) cannot be opened: %s", name, strerror(errno));
    }
    uint64_t bytes = sealed_bytes(fd);
    void *map = bytes != 0 ? sys_mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    int saved = errno;
    sys_close(fd);
    if (bytes == 0) {
        return fail(why, "its memory (%s) is not that of a worker", name);
    }
    if (!map) {
        return fail(why, "its memory (%s) cannot be mapped: %s", name, strerror(saved));
    }
    *ret = map;
    *ret_bytes = bytes;
    return true;
}

/* ---- checks ---- */

static bool inside(uint64_t offset, uint64_t bytes, uint64_t start, uint64_t end)
{
    return offset % LINE == 0 && offset < BYTES_MAX && bytes < BYTES_MAX && offset >= start &&
           offset + bytes <= end;
}

static uint64_t places_offset(const struct arena_info *in)
{
    uint64_t end = in->pages_offset + sizeof(struct keeper_page);
    return (end + PAGE_ALIGN - 1) / PAGE_ALIGN * PAGE_ALIGN;
}

static bool check_info(const struct arena_info *in, uint64_t ctl_bytes, uint64_t pages_bytes,
                       struct text *why)
{
    if (in->magic != ARENA_MAGIC) {
        return fail(why, "its memory is not that of a worker");
    }
    if (in->version != ARENA_VERSION) {
        return fail(why, "it runs another version of Transom (layout %u, this one reads %d)",
                    in->version, ARENA_VERSION);
    }
    uint64_t places = (uint64_t)in->chips + in->subs;
    uint64_t pages_end = ctl_bytes + pages_bytes;
    if (in->chips == 0 || in->chips > CHIPS_MAX || in->subs > SUBS_MAX ||
        ctl_bytes < sizeof(struct ctl_head) || ctl_bytes > BYTES_MAX || pages_bytes > BYTES_MAX ||
        in->ctl_bytes != ctl_bytes || in->pages_offset != ctl_bytes ||
        in->pages_bytes != pages_bytes || in->page_bytes < sizeof(struct proc_page) ||
        in->page_bytes > BYTES_MAX / PLACES_MAX || in->pool_slots > BYTES_MAX / LINE ||
        (in->pool_slots & (in->pool_slots - 1)) != 0 || in->pool_slots == 0 ||
        !inside(in->ring_heads_offset, (places + 1) * sizeof(struct ring_head),
                sizeof(struct ctl_head), ctl_bytes) ||
        !inside(in->callables_offset, in->callables_bytes, sizeof(struct ctl_head), ctl_bytes) ||
        !inside(places_offset(in), places * in->page_bytes, in->pages_offset, pages_end) ||
        !inside(in->page_bytes, 0, 0, BYTES_MAX) ||
        !inside(in->pool_offset, in->pool_slots * LINE, in->pages_offset, pages_end)) {
        return fail(why, "the description of its memory is damaged");
    }
    return true;
}

static void find_parts(struct snapshot *s)
{
    const struct arena_info *in = &s->info;
    struct arena *a = &s->arena;
    uint8_t *ctl = s->ctl_map;
    uint8_t *pages = s->pages_map;
    a->ctl = s->ctl_map;
    a->keeper = s->pages_map;
    a->pages = pages + (places_offset(in) - in->pages_offset);
    a->pool = (struct pool_slot *)(pages + (in->pool_offset - in->pages_offset));
    a->rings = (struct ring_head *)(ctl + in->ring_heads_offset);
    a->callables = (struct callable *)(ctl + in->callables_offset);
    a->chips = in->chips;
    a->subs = in->subs;
    a->places = in->chips + in->subs;
    a->page_bytes = in->page_bytes;
    a->pool_mask = in->pool_slots - 1;
}

int snapshot_open(struct snapshot *s, pid_t keeper, struct text *why)
{
    uint64_t ctl_bytes = 0;
    uint64_t pages_bytes = 0;
    memset(s, 0, sizeof(*s));
    s->keeper = keeper;
    s->data_fd = -1;
    if (!map_memfd(keeper, "transom-ctl", &s->ctl_map, &ctl_bytes, why)) {
        return -1;
    }
    s->info.ctl_bytes = ctl_bytes;
    if (!map_memfd(keeper, "transom-pages", &s->pages_map, &pages_bytes, why)) {
        snapshot_close(s);
        return -1;
    }
    s->info.pages_bytes = pages_bytes;
    struct arena_info copy = {0};
    if (ctl_bytes >= sizeof(copy)) {
        memcpy(&copy, s->ctl_map, sizeof(copy));
    }
    if (!check_info(&copy, ctl_bytes, pages_bytes, why)) {
        snapshot_close(s);
        return -1;
    }
    s->info = copy;
    find_parts(s);
    s->data_fd = open_memfd(keeper, "transom-data");
    return 0;
}

void snapshot_close(struct snapshot *s)
{
    if (s->ctl_map) {
        sys_munmap(s->ctl_map, s->info.ctl_bytes);
    }
    if (s->pages_map) {
        sys_munmap(s->pages_map, s->info.pages_bytes);
    }
    sys_close(s->data_fd);
    memset(s, 0, sizeof(*s));
    s->data_fd = -1;
}

/* ---- looking ---- */

struct text snapshot_callable(const struct snapshot *s, uint32_t index)
{
    if (index < s->info.callables_bytes / sizeof(struct callable)) {
        uint64_t name = s->arena.callables[index].name;
        uint64_t at = name - s->info.base;
        if (name != 0 && at < s->info.ctl_bytes) {
            return text_clean((const uint8_t *)s->ctl_map + at, s->info.ctl_bytes - at);
        }
    }
    return (struct text){"?"};
}

bool snapshot_word(const struct snapshot *s, uint64_t address, uint64_t *ret)
{
    uint64_t value;
    uint64_t at = address - s->info.base - s->info.data_offset;
    /* Read, not mapped: reading a page that nobody has touched does not make it. */
    if (s->data_fd < 0 || at > INT64_MAX - sizeof(value) ||
        pread(s->data_fd, &value, sizeof(value), (off_t)at) != (ssize_t)sizeof(value)) {
        return false;
    }
    *ret = value;
    return true;
}
