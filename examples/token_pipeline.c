/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tokens pass through three chips, each a stage with a state of its own:
 *
 *     text ──► chip 0 ──words──► chip 1 ──numbers──► chip 2 ──► number and guess of every word
 *              cut               number              guess
 *
 * Chip 0 cuts a text into words; chip 1 numbers them in the order in which it first sees them; chip 2 learns which word
 * follows which and guesses each word before it looks. A token that is lost, doubled or out of order changes the rest.
 *
 * Between two stages there are SLOTS slots in the receiver's window, and two signals that only grow. `come`, in
 * the receiver's window, counts the tokens put there. `taken`, in the sender's window, counts those taken out again:
 * the sender's credit, given back half of the slots at a time. Nobody overruns anybody, and nobody waits for
 * more than it has to.
 *
 *     token_pipeline [TEXT]
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { STAGES = 3, SLOTS = 8, REPEATS = 20, WORD_MAX = 48, WORDS_MAX = 1 << 16 };

/* 64 bytes: one line from chip to chip. */
struct token {
    uint32_t length; /* of the word; 0: no more */
    uint32_t number; /* of the word, from the second stage on */
    uint64_t place;  /* in the text: 0, 1, ... */
    char word[WORD_MAX];
};

/* What comes out. */
struct result {
    uint32_t number, guess;
};

/* ---- the stages: plain C, also run one after the other to compare ----------------------------------------- */

struct cutter {
    const char *text, *at;
    int repeats; /* how often the text begins anew */
    uint64_t words;
};

/* The next word in lower case; a token of length 0 at the end. */
static void cut(struct cutter *c, struct token *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->place = c->words++;
    while (*c->at || c->repeats > 0) {
        if (!*c->at) {
            c->at = c->text;
            c->repeats--;
        }
        for (; *c->at && !isalnum((unsigned char)*c->at); c->at++) {
        }
        for (; isalnum((unsigned char)*c->at); c->at++) {
            if (ret->length < WORD_MAX) {
                ret->word[ret->length++] = (char)tolower((unsigned char)*c->at);
            }
        }
        if (ret->length > 0) {
            return;
        }
    }
}

struct numberer {
    struct {
        char word[WORD_MAX];
        uint32_t number; /* 0: free */
    } table[2 * WORDS_MAX];
    uint32_t count;
};

/* Words beyond WORDS_MAX are all number 0. */
static void number(struct numberer *n, struct token *token)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (uint32_t i = 0; i < token->length; i++) {
        h = (h ^ (uint8_t)token->word[i]) * 16777619u;
    }
    h %= 2 * WORDS_MAX;
    while (n->table[h].number && memcmp(n->table[h].word, token->word, WORD_MAX) != 0) {
        h = (h + 1) % (2 * WORDS_MAX);
    }
    if (!n->table[h].number && n->count + 1 < WORDS_MAX) {
        memcpy(n->table[h].word, token->word, WORD_MAX);
        n->table[h].number = ++n->count;
    }
    token->number = n->table[h].number;
}

struct guesser {
    struct {
        uint32_t number, votes; /* the word that followed most, if there is a majority */
    } next[WORDS_MAX];
    uint32_t before;
};

static struct result guess(struct guesser *g, const struct token *token)
{
    struct result result = {token->number, g->next[g->before].number};
    if (result.guess == token->number) {
        g->next[g->before].votes++;
    } else if (g->next[g->before].votes > 0) {
        g->next[g->before].votes--;
    } else {
        g->next[g->before].number = token->number;
        g->next[g->before].votes = 1;
    }
    g->before = token->number;
    return result;
}

/* ---- from one stage to the next ------------------------------------------------------------------------------ */

struct link {
    tsm_ctx *c;
    tsm_sym slots, come, taken; /* the slots and both signals are in every window: named once */
    uint64_t sent, received;
    uint64_t held_up; /* times that there was no credit */
};

static int link_init(struct link *l, tsm_ctx *c)
{
    tsm_sym signals;
    memset(l, 0, sizeof(*l));
    l->c = c;
    int rc = tsm_buffer(c, "slots", &l->slots, NULL);
    rc = rc != 0 ? rc : tsm_buffer(c, "signals", &signals, NULL);
    if (rc == 0) {
        l->come = signals;
        l->taken = tsm_offset(signals, sizeof(uint64_t));
    }
    return rc;
}

static tsm_sym slot_of(const struct link *l, uint64_t n)
{
    return tsm_offset(l->slots, n % SLOTS * sizeof(struct token));
}

/* Waits for credit, then puts the token into the next chip's window and counts it there: not before it, and all those
 * before it, have arrived (strong). */
static int send_token(struct link *l, const struct token *token)
{
    int rc = 0;
    if (l->sent >= SLOTS) {
        uint64_t needed = l->sent + 1 - SLOTS;
        l->held_up += tsm_signal_test(l->c, l->taken, TSM_GE, needed, NULL) == 0;
        rc = tsm_signal_wait_until(l->c, l->taken, TSM_GE, needed, NULL, -1);
    }
    rc = rc != 0 ? rc
                 : tsm_put_signal(l->c, slot_of(l, l->sent), token, sizeof(*token), l->come, 1,
                                  TSM_SIGNAL_ADD | TSM_SIGNAL_STRONG, tsm_rank(l->c) + 1);
    l->sent++;
    return rc;
}

static int receive_token(struct link *l, struct token *ret)
{
    int rc = tsm_signal_wait_until(l->c, l->come, TSM_GT, l->received, NULL, -1);
    const struct token *slot = tsm_ptr(l->c, slot_of(l, l->received), tsm_rank(l->c));
    if (rc != 0) {
        return rc;
    }
    *ret = *slot;
    l->received++;
    return l->received % (SLOTS / 2) == 0
               ? tsm_signal(l->c, l->taken, SLOTS / 2, TSM_SIGNAL_ADD, tsm_rank(l->c) - 1)
               : 0;
}

/* ---- the tasks: one on each chip ------------------------------------------------------------------------------ */

/* Written by the chips where the program sees it. */
struct report {
    uint64_t tokens, held_up[STAGES];
    uint32_t words;
};

static int run_cut(tsm_task *t)
{
    struct cutter c = {tsm_task_data(t, 0), tsm_task_data(t, 0), REPEATS - 1, 0};
    struct report *report = tsm_task_data(t, 1);
    struct link link;
    struct token token;
    int rc = link_init(&link, tsm_task_domain(t, 0));
    do {
        cut(&c, &token);
        rc = rc != 0 ? rc : send_token(&link, &token);
    } while (rc == 0 && token.length > 0);
    report->held_up[0] = link.held_up;
    return rc;
}

static int run_number(tsm_task *t)
{
    struct numberer *n = tsm_task_data(t, 0); /* the chip's own memory */
    struct report *report = tsm_task_data(t, 1);
    struct link link;
    struct token token;
    int rc = link_init(&link, tsm_task_domain(t, 0));
    memset(n, 0, sizeof(*n));
    do {
        rc = rc != 0 ? rc : receive_token(&link, &token);
        if (rc == 0 && token.length > 0) {
            number(n, &token);
        }
        rc = rc != 0 ? rc : send_token(&link, &token);
    } while (rc == 0 && token.length > 0);
    report->held_up[1] = link.held_up;
    report->words = n->count;
    return rc;
}

static int run_guess(tsm_task *t)
{
    struct guesser *g = tsm_task_data(t, 0);
    struct report *report = tsm_task_data(t, 1);
    struct result *results = tsm_task_data(t, 2);
    struct link link;
    struct token token;
    int rc = link_init(&link, tsm_task_domain(t, 0));
    memset(g, 0, sizeof(*g));
    while ((rc = rc != 0 ? rc : receive_token(&link, &token)) == 0 && token.length > 0) {
        if (token.place + 1 != link.received) {
            return tsm_fail(t, "token %llu came as number %llu", (unsigned long long)token.place,
                            (unsigned long long)link.received - 1);
        }
        results[token.place] = guess(g, &token);
    }
    report->tokens = link.received - 1;
    return rc;
}

/* ---- the orchestration function and the program ------------------------------------------------------------------ */

struct job {
    tsm_callable stages[STAGES];
    char *text; /* these three are host buffers */
    struct result *results;
    struct report *report;
    uint64_t text_bytes, tokens;
};

static struct tsm_tensor bytes_of(void *data, uint64_t bytes, enum tsm_tag tag)
{
    return (struct tsm_tensor){
        .data = data, .dtype = TSM_U8, .tag = (uint8_t)tag, .ndim = 1, .shape = {bytes}};
}

/* The stages wait for each other inside, so they are one group. */
static int orchestrate(tsm_orch *orch, void *arg)
{
    const struct job *job = arg;
    static const int chips[STAGES] = {0, 1, 2};
    const struct tsm_buffer_spec buffers[] = {
        {.name = "slots", .bytes = SLOTS * sizeof(struct token)},
        {.name = "signals", .dtype = TSM_U64, .count = 2}};
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "stages",
                                   .chips = chips,
                                   .chip_count = STAGES,
                                   .window_bytes = 4096,
                                   .buffers = buffers,
                                   .buffer_count = 2};
    struct tsm_tensor report = bytes_of(job->report, sizeof(*job->report), TSM_OUTPUT_EXISTING);
    struct tsm_tensor tensors[STAGES][3] = {
        {bytes_of(job->text, job->text_bytes, TSM_INPUT), report},
        {bytes_of(NULL, sizeof(struct numberer), TSM_OUTPUT), report},
        {bytes_of(NULL, sizeof(struct guesser), TSM_OUTPUT), report,
         bytes_of(job->results, job->tokens * sizeof(struct result), TSM_OUTPUT_EXISTING)}};
    struct tsm_call members[STAGES];
    tsm_domain *domain;
    int rc = tsm_domain_alloc(orch, &opts, &domain);
    for (int i = 0; i < STAGES && rc == 0; i++) {
        members[i] = (struct tsm_call){.callable = job->stages[i],
                                       .chip = chips[i],
                                       .tensors = tensors[i],
                                       .tensor_count = i < 2 ? 2 : 3,
                                       .domains = &domain,
                                       .domain_count = 1};
    }
    return rc != 0 ? rc : tsm_submit_group(orch, members, STAGES, NULL);
}

/* The same without chips. Returns the number of tokens. */
static uint64_t run_serial(const char *text, struct result *results)
{
    struct numberer *n = calloc(1, sizeof(*n));
    struct guesser *g = calloc(1, sizeof(*g));
    struct cutter c = {text, text, REPEATS - 1, 0};
    struct token token = {0};
    uint64_t tokens = 0;
    while (n && g && (cut(&c, &token), token.length > 0)) {
        number(n, &token);
        results[tokens++] = guess(g, &token);
    }
    free(n);
    free(g);
    return tokens;
}

/* The whole file with a 0 behind it; the caller frees it. NULL with a message. */
static char *read_text(const char *path, uint64_t *ret_bytes)
{
    FILE *f = fopen(path, "rb");
    long end = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    char *text = end >= 0 ? calloc(1, (size_t)end + 1) : NULL;
    if (text) {
        rewind(f);
        *ret_bytes = fread(text, 1, (size_t)end, f) + 1;
    } else {
        perror(path);
    }
    if (f) {
        fclose(f);
    }
    return text;
}

static int run(tsm_worker *worker, struct job *job, const char *text)
{
    static tsm_task_fn *const functions[STAGES] = {run_cut, run_number, run_guess};
    static const char *const names[STAGES] = {"cut", "number", "guess"};
    uint64_t results_bytes = (job->tokens + 1) * sizeof(struct result);
    int rc = 0;
    for (int i = 0; i < STAGES && rc == 0; i++) {
        rc = tsm_register(worker, names[i], functions[i], &job->stages[i]);
    }
    if (rc != 0 || (rc = tsm_worker_start(worker)) != 0 ||
        (rc = tsm_buffer_create(worker, job->text_bytes, (void **)&job->text)) != 0 ||
        (rc = tsm_buffer_create(worker, results_bytes, (void **)&job->results)) != 0 ||
        (rc = tsm_buffer_create(worker, sizeof(*job->report), (void **)&job->report)) != 0) {
        return rc;
    }
    memcpy(job->text, text, job->text_bytes);
    return tsm_worker_run(worker, orchestrate, job);
}

/* Returns 0 when the results are those of the plain loop. */
static int report(const struct job *job, const struct result *serial, double seconds)
{
    const struct report *r = job->report;
    uint64_t differ = r->tokens != job->tokens, right = 0;
    for (uint64_t i = 0; i < job->tokens; i++) {
        differ += memcmp(&job->results[i], &serial[i], sizeof(serial[i])) != 0;
        right += job->results[i].guess == job->results[i].number;
    }
    printf("%llu words passed through %d chips in %.0f ms; %u are different ones.\n",
           (unsigned long long)r->tokens, STAGES, seconds * 1e3, r->words);
    printf("The third chip guessed %.0f %% of them. %llu results differ from a plain loop.\n",
           100.0 * (double)right / (double)(job->tokens ? job->tokens : 1),
           (unsigned long long)differ);
    printf("With %d slots between two chips, the first waited %llu times for credit, the second "
           "%llu times.\n",
           SLOTS, (unsigned long long)r->held_up[0], (unsigned long long)r->held_up[1]);
    return differ == 0 ? 0 : 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = STAGES};
    struct tsm_error error;
    struct job job = {0};
    tsm_worker *worker = NULL;
    int status = 1;
    char *text = read_text(argc > 1 ? argv[1] : EXAMPLE_DIR "/../README.md", &job.text_bytes);
    if (!text) {
        return 1;
    }
    struct result *serial = calloc(job.text_bytes * REPEATS, sizeof(*serial));
    if (!serial) {
        perror("token_pipeline");
    } else if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "token_pipeline: %s\n", error.text);
    } else {
        job.tokens = run_serial(text, serial);
        double begin = now();
        if (run(worker, &job, text) == 0) {
            status = report(&job, serial, now() - begin);
        } else {
            fprintf(stderr, "token_pipeline: %s\n", tsm_worker_error(worker)->text);
        }
    }
    tsm_worker_destroy(worker);
    free(serial);
    free(text);
    return status;
}
