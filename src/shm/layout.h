/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Every layout that more than one process touches. docs/shm.md has the pictures.
 *
 * The arena is one address range, at the same place in every process of a worker, in four memfds:
 *
 *   ctl    w: orchestrator    head, ring heads, callables, descriptors, rings
 *   pages  w: see below       keeper page, one page per place, claim words of the pool
 *   hints  w: everybody       bells, sleep flags, sleeper masks
 *   data   w: everybody       chip heaps, host memory, windows
 *
 * A *place* is a chip (0..chips-1) or a sub worker (chips..chips+subs-1). A place writes its own page and
 * nobody else's; subs also write the claim words. What a process may not write it has mapped from a
 * read-only descriptor. A reader of a page takes a word once, then checks it.
 *
 * Who writes what, and who pairs with whom:
 *
 *   record.stamp      orchestrator (ring_publish, release) -> place (ring_ready, acquire)
 *   ring_head.published  orchestrator (release, after the stamp) -> keeper, subs, wait graph (acquire)
 *   proc_page.done    place (timeline_advance, release, after its mark) -> everybody (timeline_read, acquire).
 *                     The timeline: records up to this number are done on this place
 *   pool_slot.claim   a sub (compare-and-swap) -> other subs, its replacement
 *   pool_slot.done    the claiming sub (release) -> everybody (acquire): number << 1 | failed
 *   mark.run          place or keeper (release, after the rest of the mark) -> whoever waited (acquire)
 *   keeper_page.aborts[slot]  keeper -> everybody: the run in this slot has failed
 *   ctl_head.aborts[slot]     orchestrator -> everybody: the same, raised by the program's side
 *   ctl_head.cancels[slot]    orchestrator (run last, release) -> keeper (acquire): whose tasks lose their processes, and when
 *
 * A run has the slot run % RUN_SLOTS while it is in flight. A slot holds the number of the run it speaks of,
 * so a word left by an earlier run says nothing about a later one.
 */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "shm/call.h"
#include "shm/tuning.h"

#define ARENA_MAGIC UINT64_C(0x314d5f4d4f534e41) /* "ANSOM_M1" */
enum {
    ARENA_VERSION = 2,
    LINE = 64,
    RUN_SLOTS = 64,
    CHIPS_MAX = 1024,
    SUBS_MAX = 1024,
    PLACES_MAX = CHIPS_MAX + SUBS_MAX,
    RECORD_BYTES_MAX = 65536,
    EVENTS = 1024, /* in the recorder of one process */
    MARK_TEXT = 192,
    FAIL_DATA_MAX = 32768, /* TSM_FAIL_DATA_MAX */
    PAGE_ALIGN = 65536
};

/* A place in a wait: 24 bits of it. WAIT_DATA: the record reads what the awaited task writes. */
enum { PLACE_POOL = 0x00ffffff, PLACE_MASK = 0x00ffffff };
#define WAIT_DATA 0x80000000u

#define LAYOUT_FIELD(type, offset, field)                                                          \
    _Static_assert(offsetof(struct type, field) == (offset), #type "." #field " has moved")
#define LAYOUT_SIZE(type, bytes)                                                                   \
    _Static_assert(sizeof(struct type) == (bytes), "size of struct " #type)

/* ---- ctl ---------------------------------------------------------------------------------------- */

/* Constant once the worker is started. Offsets are from the start of the arena. */
struct arena_info {
    uint64_t magic;
    uint32_t version;
    uint32_t chips;
    uint32_t subs;
    uint32_t mask_words; /* u64 words in one sleeper mask */
    uint64_t base;       /* address of the arena */
    uint64_t bytes;
    uint64_t ctl_bytes, pages_offset, pages_bytes, hints_offset, hints_bytes, data_offset,
        data_bytes;
    uint64_t ring_heads_offset, rings_offset, callables_offset, callables_bytes;
    uint64_t desc_offset, desc_bytes;  /* descriptors and strings, given out by the orchestrator */
    uint64_t page_bytes;               /* stride of the process pages */
    uint64_t pool_offset;              /* claim words, in pages */
    uint64_t masks_offset;             /* in hints */
    uint64_t heaps_offset, heap_bytes; /* chip c's heap is at heaps_offset + c * heap_bytes */
    uint64_t host_offset, host_bytes;
    uint64_t windows_offset, windows_bytes;
    uint64_t ring_bytes, pool_slots;
    uint32_t orchestrator_pid;
    uint32_t spin; /* loops to spin before the first yield */
    struct tuning tuning;
    uint64_t chaos; /* seed of chaos mode; 0: off */
};
LAYOUT_SIZE(arena_info, 288);

/* What a process waits for, for its wakers and for the wait graph. w: the process that waits. A seqlock:
 * version is odd while the rest changes; kind WAIT_NOTHING when it runs. */
enum wait_kind {
    WAIT_NOTHING,
    WAIT_RING,    /* its own ring: record number `value` */
    WAIT_WORD,    /* timeline of `place`, or done word of pool record `value`, >= value */
    WAIT_POOL,    /* a sub: its own ring or a ready record of the pool */
    WAIT_SIGNAL,  /* the 64-bit word at `address` compares with value */
    WAIT_SIGNALS, /* one of `place` such words, `address` the first: only its owner knows them all */
    WAIT_STATE    /* the orchestrator: children or keeper */
};
struct wait_record {
    a32 version;
    a32 kind;
    a32 place;
    a32 compare;
    a64 value;
    a64 address;
    a64 since_ns;
    a64 deadline_ns; /* 0: none */
    a64 domain;      /* WAIT_SIGNAL, WAIT_SIGNALS: id of the domain */
    a64 task;        /* the task it waits in or for, 0: none */
    a32 rank;
    a32 looked; /* bell << 1 | 1 once it has looked with asleep 1 and found nothing; not of the seqlock */
    a64 run;
    uint8_t reserved[48];
};
LAYOUT_SIZE(wait_record, 128);

/* A run that was cancelled. What of it still runs at kill_ns loses its process. */
struct cancel {
    a64 run; /* 0: none; written last (release) */
    a64 kill_ns;
};
LAYOUT_SIZE(cancel, 16);

enum worker_state { WORKER_NEW, WORKER_READY, WORKER_FAILED, WORKER_CLOSED };
/* w: orchestrator */
struct ctl_head {
    struct arena_info info;
    a32 shutdown; /* 1: children leave when they next look; 2: the keeper kills them */
    a32 state;    /* of the worker: enum worker_state */
    a64 reserved0[3];
    struct wait_record wait;
    a64 aborts[RUN_SLOTS];
    a64 runs;            /* number of the newest run */
    a64 callable_count;  /* entries of the callable table ever used */
    a64 pool_head;       /* pool records below this number are done */
    uint8_t program[40]; /* name of the program */
    struct cancel cancels[RUN_SLOTS];
};
LAYOUT_FIELD(ctl_head, 320, wait);
LAYOUT_FIELD(ctl_head, 1024, cancels);

/* w: orchestrator. A byte ring: record number n, or the RECORD_WRAP in front of it, starts at index[n % slots] (in
 * 64-byte units), known as soon as record n - 1 is published. */
struct ring_head {
    a64 published;  /* number of the newest record; they count from 1 */
    uint64_t bytes; /* power of two */
    uint64_t slots; /* bytes / 64 */
    uint64_t data_offset, index_offset;
    uint8_t reserved[24];
};
LAYOUT_SIZE(ring_head, LINE);

/* Record: this line, then waits, tensor offsets, tensors, scalars, domains; a multiple of 64 bytes. The place
 * polls `stamp` for the record's number: flag and small record arrive in one line. */
enum record_kind {
    RECORD_TASK = 1,
    RECORD_WRAP, /* the record with this number is at offset 0 */
    RECORD_LOAD, /* resolve callable `callable` now */
    RECORD_ZERO  /* scalars: address, bytes */
};
struct record {
    a64 stamp;
    uint32_t bytes;
    uint16_t kind;
    uint16_t wait_count;
    uint64_t task;
    uint64_t run;
    uint32_t callable; /* index */
    uint16_t tensor_count;
    uint16_t scalar_count;
    uint16_t domain_count;
    uint16_t member;
    uint16_t members;
    uint16_t reserved;
    int64_t limit_ns;
    uint32_t blocks;
    uint32_t generation; /* of the callable */
};
LAYOUT_SIZE(record, LINE);

struct record_wait {
    uint32_t place; /* PLACE_MASK bits, WAIT_DATA */
    uint32_t run;   /* low bits of the producer's run */
    uint64_t value;
};
LAYOUT_SIZE(record_wait, 16);

/* Followed by shape[ndim] (u64) and strides[ndim] (i64). */
struct record_tensor {
    uint64_t data;
    uint8_t dtype, tag, ndim, reserved[5];
};
LAYOUT_SIZE(record_tensor, 16);

/* A domain argument: where its descriptor is. */
struct record_domain {
    uint64_t desc; /* address */
    uint32_t window, generation;
};
LAYOUT_SIZE(record_domain, 16);

/* w: orchestrator. state is written last; an entry is never reused while a record names it. */
enum callable_state { CALLABLE_FREE, CALLABLE_LIVE, CALLABLE_GONE };
struct callable {
    a32 state;
    a32 generation;
    uint64_t function; /* address (fork), or 0 */
    uint64_t path, symbol,
        name; /* addresses of strings in the descriptor area; path 0: function is used */
    uint64_t symbol_offset; /* from the object's base when symbol is 0 */
    uint64_t loading;       /* address of a callable_loading, 0: nothing is made of data first */
    uint8_t reserved[8];
};
LAYOUT_SIZE(callable, LINE);

/* w: orchestrator, before the callable is live. Addresses in the descriptor area. */
struct callable_loading {
    uint64_t load, unload; /* names of symbols of the callable's object; unload 0: none */
    uint64_t data, bytes;
};
LAYOUT_SIZE(callable_loading, 32);

/* w: orchestrator, before a record names it; unchanged until the domain is freed. Followed by, at the
 * offsets given (from this struct): device contexts (one per rank), base[] , members[], buffers[]. */
struct domain_desc {
    uint64_t id;
    uint32_t window;     /* index of the lease */
    uint32_t generation; /* of the lease */
    uint32_t size;
    uint32_t buffer_count;
    uint64_t window_bytes; /* real */
    uint64_t stride;       /* window and synchronisation area */
    uint64_t base;         /* address of rank 0's window; rank r's is base + r * stride */
    uint64_t devices_offset, bases_offset, members_offset, buffers_offset;
    char name[64];
    uint8_t reserved[48];
};
LAYOUT_SIZE(domain_desc, 192);

struct desc_buffer {
    char name[64];
    uint64_t offset, bytes, count;
    uint32_t dtype, reserved;
};
LAYOUT_SIZE(desc_buffer, 96);

/* ---- pages --------------------------------------------------------------------------------------- */

/* Why a run failed or was skipped, at one process. w: the owner of the page, once per run. */
struct mark {
    a64 run; /* written last (release) */
    uint64_t
        first_bad; /* number of its first record that failed or was skipped: all later ones of the run too */
    uint64_t when_ns;
    uint64_t task;
    int32_t code; /* TSM_E..., 0: only skipped, the cause is elsewhere */
    int32_t sys_errno;
    int32_t detail;
    int32_t place;
    a64 skipped;
    uint64_t data_bytes; /* of the owner's fail_data for this slot */
    char text[MARK_TEXT];
};
LAYOUT_SIZE(mark, 256);

/* One thing a process did. Written in place, oldest overwritten; `end` last. */
enum event_kind { EVENT_NONE, EVENT_TASK, EVENT_WAIT, EVENT_ZERO };
struct event {
    a64 begin, end; /* clock_ticks */
    a64 task;       /* or domain id */
    a32 kind;
    a32 callable; /* or the place waited for */
};
LAYOUT_SIZE(event, 32);

struct recorder {
    a64 count;          /* events ever written */
    uint64_t ticks, ns; /* anchor: clock_ticks and clock_ns at the same moment, at start */
    uint8_t reserved[40];
    struct event events[EVENTS];
};

/* w: the place. done and begun are lines of their own: they are what others poll. */
struct proc_page {
    a64 done;
    a64 marks; /* marks ever made: changes before done passes a failure */
    uint8_t reserved0[48];

    a64 begun;      /* number of the record (chip) or pool record (sub) it has begun */
    a64 begun_task; /* 0 between tasks */
    a64 begun_run;
    a64 begun_ns;    /* only with a time limit */
    a64 deadline_ns; /* 0: none */
    a32 begun_callable;
    a32 reserved1;
    a64 begun_ticks; /* clock_ticks */
    uint8_t reserved2[8];

    struct wait_record wait;

    a32 ready; /* enum ready */
    a32 life;  /* which process of this place it is, from 1 */
    a64 tasks, skipped, sleeps, wakes;
    a32 load_failed; /* the last RECORD_LOAD failed: text in `text` */
    a32 reserved3;
    a64 lost; /* tasks that could not be loaded, or that a process of this place died in: not among `tasks` */
    uint8_t reserved4[8];
    char text[448]; /* why it is not ready, or could not load */

    struct mark mark[RUN_SLOTS];
    struct recorder recorder;
    /* What a task gave to tsm_fail_data, by slot; written before the mark. Read by the orchestrator alone. */
    uint8_t fail_data[RUN_SLOTS][FAIL_DATA_MAX];
};
enum ready { READY_NOT, READY_YES, READY_FAILED };
LAYOUT_FIELD(proc_page, 64, begun);
LAYOUT_FIELD(proc_page, 128, wait);
LAYOUT_FIELD(proc_page, 256, ready);
LAYOUT_FIELD(proc_page, 768, mark);

/* w: keeper */
enum child_state { CHILD_NONE, CHILD_ALIVE, CHILD_DEAD };
struct child {
    a32 pid;
    a32 state;
    a32 life;
    a32 deaths;
    a32 how; /* 1: signal, 2: exit */
    a32 code;
    a64 died_ns;
    a64 task; /* begun when it died, 0: idle */
    uint8_t reserved[24];
};
LAYOUT_SIZE(child, LINE);

enum keeper_state {
    KEEPER_STARTING,
    KEEPER_READY,
    KEEPER_START_FAILED,
    KEEPER_FAILED,
    KEEPER_CLOSED
};
struct keeper_page {
    a32 state;
    a32 pid;
    a64 deaths;   /* of children, ever */
    a64 replaced; /* equal to deaths when all dead ones have been replaced */
    a64 start_ns;
    int32_t error_code, error_errno, error_place, reserved0;
    uint8_t reserved[16];
    char text[448];
    a64 aborts[RUN_SLOTS];
    struct mark mark[RUN_SLOTS];
    struct child child[PLACES_MAX];
};
LAYOUT_FIELD(keeper_page, 512, aborts);

/* w: the sub that claims. claim = number << 16 | sub + 1 */
struct pool_slot {
    a64 claim;
    a64 done; /* number << 1 | failed */
    uint8_t reserved[48];
};
LAYOUT_SIZE(pool_slot, LINE);

/* ---- hints ---------------------------------------------------------------------------------------- */

/* w: everybody. Of place p, and of the orchestrator at index places. A wrong value costs a wake-up or
 * makes a needless one, never an order. */
struct hint {
    a32 bell;
    a32 asleep; /* 1: about to sleep or asleep on the bell; 2: rung, by who made it 2 */
    uint8_t reserved[56];
};
LAYOUT_SIZE(hint, LINE);

struct hints_head {
    a32 faults_fired; /* bits of base/fault.h */
    uint8_t reserved[60];
};
LAYOUT_SIZE(hints_head, LINE);

/* ---- windows -------------------------------------------------------------------------------------- */

/*
 * Behind every window, at the end of its stride: the library's own state for collectives. For n ranks:
 *
 *   sync_head        who has aborted the domain (w: any member), and the member's own words
 *   sync_peer[n]             w: the member. What it has sent to and taken from each rank
 *   credit[n], a line each   w: rank r writes credit[r]: how much of what it was sent it has taken
 *   stage[STAGE_SLOTS]       w: the member; read by its peers
 *   channel[n][depth]        w: rank r writes channel[r]: its messages to this member, number % depth
 *
 * A channel is a queue of one-line messages from one rank to one other; all collectives, of the domain and of every
 * sub-group, are made of them. Messages of a pair are numbered from 1 in each life of the lease. A stamp is generation
 * and number in one word, so what an earlier owner of the lease left says nothing to a later one, and nothing here
 * is ever zeroed. The model is tests/model/channel.pml.
 *
 *   sync_message.stamp  sender (release, after the rest) -> receiver (acquire)
 *   credit              receiver (release, after it has read the message and what it points to) -> sender (acquire)
 */
enum {
    SYNC_PAYLOAD = 32,  /* bytes that travel in the message */
    STAGE_SLOTS = 8,    /* payloads that were copied out of the window, for peers to read */
    STAGE_BYTES = 4096, /* each */
    STAMP_NUMBER = 44,  /* bits of a stamp for the number; the others are the generation's lowest */
    CHANNEL_DEPTH_MAX = 8, /* powers of two */
    CHANNEL_DEPTH_MIN = 2
};
#define STAMP_NUMBERS ((UINT64_C(1) << STAMP_NUMBER) - 1)
#define STAMP_GENERATIONS (UINT64_MAX >> STAMP_NUMBER)

struct sync_message {
    a64 stamp;
    uint64_t call;          /* what the sender calls: struct call */
    uint64_t count;         /* elements; or a hash of several counts */
    uint32_t places, group; /* hashes of dst and src, and of the sub-group */
    uint8_t payload[SYNC_PAYLOAD];
};
LAYOUT_SIZE(sync_message, LINE);

struct sync_head {
    a64 aborted; /* w: any member, once: generation << STAMP_NUMBER | rank + 1 << 32 | code */
    uint8_t reserved0[56];
    uint64_t generation; /* w: the member: the one that its sync_peers speak of */
    struct call call;    /* w: the member: its newest */
    uint8_t reserved1[32];
};
LAYOUT_SIZE(sync_head, 2 * LINE);

/* Numbers of messages. w: the member, for itself. */
struct sync_peer {
    uint64_t sent;                /* the newest message to that rank */
    uint64_t taken;               /* the newest one from it */
    uint64_t posted;              /* the newest one that its credit says is taken */
    uint64_t acked;               /* the newest one to that rank known to be taken */
    uint64_t lent;                /* the newest one to that rank that points into the window */
    uint64_t staged[STAGE_SLOTS]; /* the newest one to that rank that points into the slot */
    uint8_t reserved[24];
};
LAYOUT_SIZE(sync_peer, 2 * LINE);

struct sync_credit {
    a64 taken; /* stamp of the newest message that its writer has taken */
    uint8_t reserved[56];
};
LAYOUT_SIZE(sync_credit, LINE);

/* Where the parts are, from the begin of the area; all of them begin on a line. */
static inline uint32_t sync_depth(uint32_t ranks)
{
    return ranks <= 32 ? CHANNEL_DEPTH_MAX : ranks <= 64 ? 4 : CHANNEL_DEPTH_MIN;
}

static inline uint64_t sync_credit_offset(uint32_t ranks)
{
    return sizeof(struct sync_head) + (uint64_t)ranks * sizeof(struct sync_peer);
}

static inline uint64_t sync_stage_offset(uint32_t ranks)
{
    return sync_credit_offset(ranks) + (uint64_t)ranks * sizeof(struct sync_credit);
}

static inline uint64_t sync_channel_offset(uint32_t ranks)
{
    return sync_stage_offset(ranks) + STAGE_SLOTS * STAGE_BYTES;
}

static inline uint64_t sync_bytes(uint32_t ranks)
{
    return sync_channel_offset(ranks) +
           (uint64_t)ranks * sync_depth(ranks) * sizeof(struct sync_message);
}

#endif
