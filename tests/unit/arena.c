/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/shm/arena.c: sealed memory, the same addresses everywhere, and what a confined process cannot write. Test process;
 * its children are the confined ones. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/arena_help.h"

enum { CHIPS = 3, SUBS = 2, PLACES = CHIPS + SUBS, WENT_WELL = 0, REFUSED = 40 };

/* Runs probe in a child that was confined to `place`; what became of it: exit status, or minus the signal. */
static int confined(struct arena *a, uint32_t place, int (*probe)(struct arena *a, void *arg),
                    void *arg)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        if (arena_confine(a, place) != 0) {
            _exit(99);
        }
        _exit(probe(a, arg));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int poke(struct arena *a, void *at)
{
    (void)a;
    *(volatile uint8_t *)at = 77;
    return WENT_WELL;
}

static int peek(struct arena *a, void *at)
{
    (void)a;
    return *(volatile uint8_t *)at == 55 ? WENT_WELL : 1;
}

static int make_writable(struct arena *a, void *at)
{
    (void)a;
    uintptr_t page = (uintptr_t)at & ~(uintptr_t)4095;
    return mprotect((void *)page, 4096, PROT_READ | PROT_WRITE) == 0 ? WENT_WELL
           : errno == EACCES                                         ? REFUSED
                                                                     : 1;
}

static void assert_read_only(struct arena *a, uint32_t place, void *at)
{
    *(uint8_t *)at = 55;
    assert_int_equal(confined(a, place, peek, at), WENT_WELL);
    assert_int_equal(confined(a, place, poke, at), -SIGSEGV);
    assert_int_equal(confined(a, place, make_writable, at), REFUSED);
    assert_int_equal(*(uint8_t *)at, 55);
    *(uint8_t *)at = 0;
}

static void assert_writable(struct arena *a, uint32_t place, void *at)
{
    *(uint8_t *)at = 0;
    assert_int_equal(confined(a, place, poke, at), WENT_WELL);
    assert_int_equal(*(uint8_t *)at, 77);
    *(uint8_t *)at = 0;
}

static void a_confined_process_writes_its_page_hints_and_data(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, CHIPS, SUBS);
    const struct arena_info in = a.ctl->info;
    for (uint32_t place = 0; place < PLACES; place++) {
        uint8_t *page = (uint8_t *)arena_page(&a, place);
        assert_writable(&a, place, page);
        assert_writable(&a, place, page + sizeof(struct proc_page) - 1);
        assert_writable(&a, place, a.hints);
        assert_writable(&a, place, arena_mask(&a, PLACES));
        assert_writable(&a, place, arena_at(&a, in.heaps_offset));
        assert_writable(&a, place, arena_at(&a, in.host_offset));
        assert_writable(&a, place, arena_at(&a, in.windows_offset + in.windows_bytes - 1));
    }
    assert_writable(&a, CHIPS, &a.pool[0]);
    assert_writable(&a, PLACES - 1, &a.pool[a.pool_mask]);
    arena_destroy(&a);
}

static void a_confined_process_cannot_write_what_schedules_it(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, CHIPS, SUBS);
    const struct arena_info in = a.ctl->info;
    for (uint32_t place = 0; place < PLACES; place++) {
        for (uint32_t other = 0; other < PLACES; other++) {
            if (other != place) {
                uint8_t *page = (uint8_t *)arena_page(&a, other);
                assert_read_only(&a, place, page);
                assert_read_only(&a, place, page + a.page_bytes - 1);
            }
        }
        assert_read_only(&a, place, a.ctl->program);
        assert_read_only(&a, place, &a.ctl->aborts[5]);
        assert_read_only(&a, place, arena_at(&a, in.rings_offset + place * in.ring_bytes));
        assert_read_only(&a, place, arena_at(&a, in.desc_offset));
        assert_read_only(&a, place, a.callables);
        assert_read_only(&a, place, a.keeper->text);
        assert_read_only(&a, place, &a.keeper->child[place]);
    }
    for (uint32_t chip = 0; chip < CHIPS; chip++) {
        assert_read_only(&a, chip, &a.pool[1]);
    }
    arena_destroy(&a);
}

static int count_memfds(struct arena *a, void *arg)
{
    (void)arg;
    for (int i = 0; i < ARENA_FDS; i++) {
        if (a->fd[i] != -1 || a->ro_fd[i] != -1) {
            return 1;
        }
    }
    for (int fd = 0; fd < 256; fd++) {
        char path[40];
        char target[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 0 && (target[n] = 0, strstr(target, "memfd:transom"))) {
            return 1;
        }
    }
    return WENT_WELL;
}

static void a_confined_process_has_no_descriptor_to_map_again(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, CHIPS, SUBS);
    assert_int_equal(confined(&a, 0, count_memfds, NULL), WENT_WELL);
    assert_int_equal(confined(&a, CHIPS, count_memfds, NULL), WENT_WELL);
    arena_destroy(&a);
}

static void memory_is_sealed_against_resizing(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, 1, 0);
    for (int i = 0; i < ARENA_FDS; i++) {
        int seals = fcntl(a.fd[i], F_GET_SEALS);
        assert_int_equal(seals, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        assert_int_equal(ftruncate(a.fd[i], 0), -1);
        assert_int_equal(errno, EPERM);
    }
    assert_int_equal(fcntl(a.ro_fd[ARENA_CTL], F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(a.ro_fd[ARENA_PAGES], F_GETFL) & O_ACCMODE, O_RDONLY);
    arena_destroy(&a);
}

static void parts_do_not_overlap(void **state)
{
    (void)state;
    struct arena a;
    static const uint32_t sizes[][2] = {{1, 0}, {1, 1}, {63, 0}, {64, 0}, {63, 1}, {300, 100}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        help_arena(&a, sizes[i][0], sizes[i][1]);
        const struct arena_info *in = &a.ctl->info;
        uint8_t *base = a.base;
        uint64_t mask_bytes = ((a.mask_words + 7) & ~7u) * UINT64_C(8);
        assert_true(a.mask_words * 64 > a.places);
        assert_true((uint8_t *)(a.keeper + 1) <= a.pages);
        assert_true(a.pages + a.places * a.page_bytes <= (uint8_t *)a.pool);
        assert_true((uint8_t *)(a.pool + in->pool_slots) <= base + in->hints_offset);
        assert_true((uint8_t *)&a.hints[a.places + 1] <= (uint8_t *)a.masks);
        assert_true((uint8_t *)a.masks + (a.places + 1) * mask_bytes <= base + in->data_offset);
        assert_true(in->desc_offset + in->desc_bytes <= in->ctl_bytes);
        assert_int_equal(in->windows_offset % PAGE_ALIGN, 0);
        assert_true(in->windows_offset + in->windows_bytes <= in->bytes);
        arena_destroy(&a);
    }
}

static void too_small_an_arena_says_what_is_needed(void **state)
{
    (void)state;
    struct arena a;
    struct tsm_error err;
    struct arena_sizes sizes = {.chips = 1,
                                .arena_bytes = 1 << 20,
                                .ring_bytes = HELP_RING_BYTES,
                                .windows_bytes = 1 << 20};
    assert_int_equal(arena_create(&a, &sizes, &err), TSM_ENOSPC);
    assert_non_null(strstr(err.text, "1048576"));
    arena_destroy(&a);
    memset(&a, 0, sizeof(a));
    arena_destroy(&a);
}

static void moved_arena_has_all_at_its_new_place(void **state)
{
    (void)state;
    struct arena a;
    struct tsm_error err;
    help_arena(&a, CHIPS, SUBS);
    uint8_t *old = a.base;
    uint64_t heaps = a.ctl->info.heaps_offset;
    memcpy(arena_at(&a, heaps), "abc", 4);
    memcpy(a.ctl->program, "prog", 5);
    assert_int_equal(arena_move(&a, &err), 0);
    assert_ptr_not_equal(a.base, old);
    assert_int_equal(a.ctl->info.base, (uintptr_t)a.base);
    assert_string_equal(arena_at(&a, heaps), "abc");
    assert_string_equal((char *)a.ctl->program, "prog");
    assert_ptr_equal(a.ctl, a.base);
    arena_destroy(&a);
}

static int attach_again(const struct arena *a, bool unmap)
{
    struct arena b;
    if (unmap) {
        munmap(a->base, a->bytes);
    }
    int rc = arena_attach(&b, (uint64_t)(uintptr_t)a->base, a->bytes, a->fd, a->ro_fd);
    if (rc != 0) {
        return errno == EADDRINUSE ? 2 : errno == EPROTO ? 3 : 4;
    }
    bool same = b.base == a->base && b.pool == a->pool && b.hints == a->hints &&
                b.rings == a->rings && b.places == a->places && b.pool_mask == a->pool_mask;
    strcpy(b.keeper->text, "from the other");
    return same ? WENT_WELL : 1;
}

static int attached_in_a_child(const struct arena *a, bool unmap)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(attach_again(a, unmap));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static void another_process_attaches_at_the_same_address_or_not_at_all(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, CHIPS, SUBS);
    assert_int_equal(attached_in_a_child(&a, true), WENT_WELL);
    assert_string_equal(a.keeper->text, "from the other");
    assert_int_equal(attached_in_a_child(&a, false), 2);
    a.ctl->info.version++;
    assert_int_equal(attached_in_a_child(&a, true), 3);
    a.ctl->info.version--;
    a.ctl->info.base += 4096;
    assert_int_equal(attached_in_a_child(&a, true), 3);
    arena_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_confined_process_writes_its_page_hints_and_data),
        TEST(a_confined_process_cannot_write_what_schedules_it),
        TEST(a_confined_process_has_no_descriptor_to_map_again),
        TEST(memory_is_sealed_against_resizing),
        TEST(parts_do_not_overlap),
        TEST(too_small_an_arena_says_what_is_needed),
        TEST(moved_arena_has_all_at_its_new_place),
        TEST(another_process_attaches_at_the_same_address_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
