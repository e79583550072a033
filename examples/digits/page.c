/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Writes the page about the trainings: one HTML file with inline SVG, which loads nothing.
 */
#include <math.h>
#include <stdio.h>

#include "digits.h"

enum {
    WIDTH = 920,    /* of every drawing, in its own units */
    LAST_STEPS = 6, /* of a training, on its time line */
    ROWS_MAX = 8,   /* chips on a time line */
    SHOWN = 12      /* held-out images */
};

/* A part of a drawing that maps values to places. y grows upwards; log_y: y is given as its logarithm. */
struct axes {
    double left, top, width, height;
    double x0, x1, y0, y1;
};

static double place_x(const struct axes *a, double x)
{
    return a->left + (x - a->x0) / (a->x1 - a->x0) * a->width;
}

static double place_y(const struct axes *a, double y)
{
    return a->top + a->height - (y - a->y0) / (a->y1 - a->y0) * a->height;
}

/* 1, 2 or 5 times a power of ten: the step of about `count` ticks over `range`. */
static double tick_step(double range, int count)
{
    double power = pow(10, floor(log10(range / count)));
    double rest = range / count / power;
    return power * (rest > 5 ? 10 : rest > 2 ? 5 : rest > 1 ? 2 : 1);
}

static const char style[] =
    ":root{color-scheme:light dark;--paper:#fff;--ink:#1c2530;--soft:#5b6876;--line:#dde3e9;"
    "--compute:#3f74b5;--wait:#e9b45b;--update:#c2403a;--domain:#9fd0bd;--held:#1f7a5c;"
    "--run0:#a9c8ea;--run1:#e08a2e;--run2:#1c2530;--run3:#b0468f}"
    "@media(prefers-color-scheme:dark){:root{--paper:#14191f;--ink:#e4e9ee;--soft:#9aa7b4;"
    "--line:#2d3641;--compute:#5b93d6;--wait:#c99742;--update:#f0776f;--domain:#2f6b57;"
    "--held:#6fd0ae;--run0:#41658c;--run1:#e8994a;--run2:#f2f5f8;--run3:#dd84c0}}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}"
    "main{max-width:920px;margin:0 auto;padding:28px 20px}"
    "h1{font-size:25px;line-height:1.25;margin:0 0 8px}"
    "h2{font-size:18px;margin:34px 0 4px}p{margin:6px 0 12px;max-width:76ch}"
    "footer,figcaption,.note{color:var(--soft);font-size:13px}footer{margin-top:34px}"
    "figure{margin:14px 0 0;overflow-x:auto}"
    "svg{display:block;width:100%;min-width:680px;height:auto;font:12px system-ui,sans-serif}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;"
    "width:100%;margin-top:14px}"
    "th,td{text-align:right;padding:4px 0 4px 14px;border-bottom:1px solid var(--line);"
    "white-space:nowrap}th{font-weight:600;font-size:13px;vertical-align:bottom}"
    ".groups th{text-align:center;color:var(--soft);font-weight:400;border:0;padding-bottom:0}"
    "th:first-child,td:first-child{padding-left:0;text-align:left}a{color:inherit}"
    "text{fill:var(--ink)}.soft{fill:var(--soft)}.bold{font-weight:600}"
    ".mid{text-anchor:middle}.end{text-anchor:end}"
    ".grid{stroke:var(--line);fill:none}.curve{fill:none;stroke-linejoin:round}"
    ".compute{fill:var(--compute)}.wait{fill:var(--wait)}.update{fill:var(--update)}"
    ".domain{fill:var(--domain)}.held{fill:var(--held)}.ink{fill:var(--ink)}"
    ".wrong{fill:var(--update);font-weight:600}"
    ".run0{stroke:var(--run0)}.run1{stroke:var(--run1)}.run2{stroke:var(--run2)}"
    ".run3{stroke:var(--run3)}";

/* ---- the table ---------------------------------------------------------------------------------- */

static double loss_of(const struct training *tr, int step)
{
    return (double)tr->stats[step * tr->chips].loss;
}

static void write_difference(FILE *f, double difference)
{
    if (difference == 0) {
        fprintf(f, "<td>0</td>");
        return;
    }
    int power = (int)floor(log10(difference));
    fprintf(f, "<td>%.1f&thinsp;&middot;&thinsp;10<sup>&minus;%d</sup></td>",
            difference / pow(10, power), -power);
}

static void write_table(FILE *f, const struct training *trainings, int count)
{
    fprintf(f,
            "<div class=wide><table><tr class=groups><th><th><th><th colspan=5>median of a step, "
            "&micro;s<th colspan=2>largest difference to the first row</tr>"
            "<tr><th>chips<th>held-out<br>accuracy<th>final<br>loss<th>whole step"
            "<th>gradient<th>all-reduce<th>update<th>allocate,<br>release"
            "<th>weight<th>loss</tr>\n");
    for (int i = 0; i < count; i++) {
        const struct training *tr = &trainings[i];
        const double times[] = {tr->step_us, tr->compute_us, tr->waiting_us, tr->update_us,
                                tr->allocation_us};
        fprintf(f, "<tr><td>%d<td>%.2f&thinsp;%%<td>%.4f", tr->chips, tr->accuracy,
                loss_of(tr, tr->steps - 1));
        for (size_t k = 0; k < sizeof(times) / sizeof(*times); k++) {
            fprintf(f, "<td>%.*f", times[k] < 100 ? 1 : 0, times[k]);
        }
        write_difference(f, tr->weight_difference);
        write_difference(f, tr->loss_difference);
        fprintf(f, "</tr>\n");
    }
    fprintf(f, "</table></div><p class=note>Gradient, all-reduce and update are means over the "
               "chips. The all-reduce is nearly all waiting for the slowest chip; with more chips "
               "than cores the chips take turns, and that is waiting too.</p>\n");
}

/* ---- the loss curves ------------------------------------------------------------------------------ */

static void write_x_axis(FILE *f, const struct axes *a, int ticks, const char *label)
{
    double bottom = a->top + a->height;
    double step = tick_step(a->x1 - a->x0, ticks);
    for (double x = 0; x <= a->x1 * 1.0001; x += step) {
        fprintf(f, "<text class='soft mid' x=%.1f y=%.1f>%g</text>\n", place_x(a, x), bottom + 17,
                x);
    }
    fprintf(f, "<text class='soft mid' x=%.1f y=%.1f>%s</text>\n", a->left + a->width / 2,
            bottom + 35, label);
}

static void write_y_tick(FILE *f, const struct axes *a, double y, const char *text)
{
    fprintf(
        f, "<path class=grid d='M%.1f %.1fh%.1f'/><text class='soft end' x=%.1f y=%.1f>%s</text>\n",
        a->left, place_y(a, y), a->width, a->left - 7, place_y(a, y) + 4, text);
}

static void write_loss_tick(FILE *f, const struct axes *a, double loss)
{
    char text[32];
    snprintf(text, sizeof(text), "%g", loss);
    if (log10(loss) >= a->y0 && log10(loss) <= a->y1) {
        write_y_tick(f, a, log10(loss), text);
    }
}

static void write_loss(FILE *f, const struct axes *a, const struct training *trainings, int count)
{
    static const double widths[] = {7, 3.5, 1.2, 1};
    for (double power = 1e-9; power < 1e3; power *= 10) {
        write_loss_tick(f, a, power);
        if (a->y1 - a->y0 < 3) {
            write_loss_tick(f, a, 2 * power);
            write_loss_tick(f, a, 5 * power);
        }
    }
    for (int i = 0; i < count; i++) {
        const struct training *tr = &trainings[i];
        fprintf(f, "<path class='curve run%d' stroke-width=%.1f d='", i % 4, widths[i % 4]);
        for (int step = 0; step < tr->steps; step++) {
            fprintf(f, "%s%.1f %.1f", step ? "L" : "M", place_x(a, step + 1),
                    place_y(a, log10(fmax(loss_of(tr, step), 1e-9))));
        }
        double y = a->top + 14 + 19 * i;
        double x = a->left + a->width - 80;
        fprintf(f,
                "'/><path class='curve run%d' stroke-width=%.1f d='M%.1f %.1fh26'/>"
                "<text x=%.1f y=%.1f>%d chip%s</text>\n",
                i % 4, widths[i % 4], x, y, x + 34, y + 4, tr->chips, tr->chips == 1 ? "" : "s");
    }
    fprintf(f, "<text class=bold x=%.1f y=%.1f>Mean loss of the training images</text>\n",
            a->left - 30, a->top - 14);
    write_x_axis(f, a, 6, "step");
}

/* Against the first training, step by step. Where there is none the curve is broken. */
static void write_loss_differences(FILE *f, const struct axes *a, const struct training *trainings,
                                   int count)
{
    for (int power = (int)a->y0; power <= (int)a->y1; power++) {
        char text[64];
        snprintf(text, sizeof(text), "10<tspan dy=-4 font-size=9>&minus;%d</tspan>", -power);
        write_y_tick(f, a, power, text);
    }
    for (int i = 1; i < count; i++) {
        const struct training *tr = &trainings[i];
        for (int step = 0; step < tr->steps; step++) {
            double difference = fabs(loss_of(tr, step) - loss_of(&trainings[0], step));
            if (difference > 0) {
                fprintf(f,
                        "<circle class='run%d' fill=none stroke-width=1.3 cx=%.1f cy=%.1f r=1.8 />",
                        i % 4, place_x(a, step + 1), place_y(a, fmax(log10(difference), a->y0)));
            }
        }
        fprintf(f, "\n");
    }
    fprintf(f,
            "<text class=bold x=%.1f y=%.1f>Its difference to the training on %d chip%s</text>\n",
            a->left - 38, a->top - 14, trainings[0].chips, trainings[0].chips == 1 ? "" : "s");
    write_x_axis(f, a, 6, "step");
}

static void write_curves(FILE *f, const struct training *trainings, int count)
{
    double low = HUGE_VAL;
    double high = 0;
    for (int i = 0; i < count; i++) {
        for (int step = 0; step < trainings[i].steps; step++) {
            low = fmin(low, loss_of(&trainings[i], step));
            high = fmax(high, loss_of(&trainings[i], step));
        }
    }
    struct axes loss = {.left = 40,
                        .top = 30,
                        .width = count > 1 ? 400 : WIDTH - 50,
                        .height = 210,
                        .x1 = trainings[0].steps,
                        .y0 = log10(fmax(low, 1e-9) / 1.15),
                        .y1 = log10(high * 1.15)};
    fprintf(f,
            "<h2>Loss</h2><figure><svg viewBox='0 0 %d 285' role=img aria-label='Loss curves'>\n",
            WIDTH);
    write_loss(f, &loss, trainings, count);
    double largest = 1e-9;
    for (int i = 1; i < count; i++) {
        largest = fmax(largest, trainings[i].loss_difference);
    }
    if (count > 1) {
        struct axes difference = loss;
        difference.left = 508;
        difference.y0 = -9;
        difference.y1 = fmax(ceil(log10(largest)), -7);
        write_loss_differences(f, &difference, trainings, count);
    }
    fprintf(f, "</svg></figure>\n");
}

/* ---- the time lines -------------------------------------------------------------------------------- */

static const struct step_stats *stats_of(const struct training *tr, int step, int chip)
{
    return &tr->stats[step * tr->chips + chip];
}

static int first_shown(const struct training *tr)
{
    return tr->steps > LAST_STEPS ? tr->steps - LAST_STEPS : 0;
}

/* When the first chip begins a step. */
static uint64_t begin_of(const struct training *tr, int step)
{
    uint64_t begin = UINT64_MAX;
    for (int chip = 0; chip < tr->chips; chip++) {
        uint64_t t = stats_of(tr, step, chip)->began;
        begin = t < begin ? t : begin;
    }
    return begin;
}

/* What a time line shows: the last steps, until the last domain is freed. */
static void find_range(const struct training *tr, uint64_t *ret_begin, uint64_t *ret_end)
{
    uint64_t end = tr->domains[tr->steps - 1].freed;
    for (int chip = 0; chip < tr->chips; chip++) {
        uint64_t t = stats_of(tr, tr->steps - 1, chip)->updated;
        end = t > end ? t : end;
    }
    *ret_begin = begin_of(tr, first_shown(tr));
    *ret_end = end;
}

/* A time line counts milliseconds from `origin`; what began before is cut. At `end` all is over. */
struct time_line {
    struct axes axes;
    uint64_t origin, end;
};

static double place_time(const struct time_line *l, uint64_t t)
{
    return place_x(&l->axes, t < l->origin ? 0 : (double)(t - l->origin) / 1e6);
}

static void write_bar(FILE *f, const struct time_line *l, const char *kind, double y, double height,
                      uint64_t from, uint64_t to, double width_min)
{
    double x = place_time(l, from);
    double width = fmax(place_time(l, to) - x, width_min);
    if (to > l->origin) {
        fprintf(f,
                "<rect class=%s x=%.2f y=%.1f width=%.2f height=%.1f><title>%.1f "
                "&micro;s</title></rect>",
                kind, x, y, width, height, (double)(to - from) / 1e3);
    }
}

static double write_chips(FILE *f, const struct time_line *l, const struct training *tr, double y)
{
    for (int chip = 0; chip < tr->chips && chip < ROWS_MAX; chip++, y += 22) {
        fprintf(f, "<text class=end x=%.1f y=%.1f>chip %d</text>", l->axes.left - 8, y + 13, chip);
        for (int step = first_shown(tr); step < tr->steps; step++) {
            const struct step_stats *s = stats_of(tr, step, chip);
            write_bar(f, l, "compute", y, 18, s->began, s->computed, 0);
            write_bar(f, l, "wait", y, 18, s->computed, s->reduced, 0);
        }
        for (int step = first_shown(tr); step < tr->steps; step++) {
            const struct step_stats *s = stats_of(tr, step, chip);
            write_bar(f, l, "update", y, 18, s->reduced, s->updated, 2);
        }
        fprintf(f, "\n");
    }
    if (tr->chips > ROWS_MAX) {
        fprintf(f, "<text class='soft end' x=%.1f y=%.1f>%d more</text>\n", l->axes.left - 8,
                y + 10, tr->chips - ROWS_MAX);
        y += 16;
    }
    return y;
}

static double write_domains(FILE *f, const struct time_line *l, const struct training *tr, double y)
{
    enum { ROWS = STEPS_AHEAD }; /* as many as can be live at the same time */
    fprintf(f, "<text class=end x=%.1f y=%.1f>domains</text>", l->axes.left - 8, y + 13);
    for (int step = 0; step < tr->steps; step++) {
        const struct domain_life *d = &tr->domains[step];
        uint64_t freed = d->freed ? d->freed : l->end; /* not seen until then */
        double row = y + 19 * (step % ROWS);
        if (freed <= l->origin) {
            continue;
        }
        double x = place_time(l, d->allocated);
        double width = place_time(l, freed) - x;
        write_bar(f, l, "domain", row, 15, d->allocated, freed, 1);
        write_bar(f, l, "held", row, 15, d->allocated, d->released, 2);
        if (width > 34) {
            fprintf(f, "<text class=mid font-size=11 x=%.1f y=%.1f>%llu</text>", x + width / 2,
                    row + 11.5, (unsigned long long)d->id);
        }
    }
    fprintf(f, "\n");
    return y + 19 * ROWS;
}

static double write_time_line(FILE *f, const struct training *tr, double span_ms, double y)
{
    uint64_t begin, end;
    find_range(tr, &begin, &end);
    struct time_line l = {{70, y, WIDTH - 85, 0, 0, span_ms, 0, 1}, begin, end};
    fprintf(f, "<text class=bold x=0 y=%.1f>%d chip%s</text>", y + 12, tr->chips,
            tr->chips == 1 ? "" : "s");
    double free_x = 0; /* right of the label before */
    for (int step = first_shown(tr); step < tr->steps; step++) {
        double x = place_time(&l, begin_of(tr, step));
        if (x >= free_x) {
            fprintf(f, "<text class=soft x=%.1f y=%.1f>%s%d</text>", x, y + 12,
                    free_x > 0 ? "" : "step ", step + 1);
            free_x = x + (free_x > 0 ? 34 : 60);
        }
    }
    fprintf(f, "\n");
    y = write_chips(f, &l, tr, y + 20);
    y = write_domains(f, &l, tr, y + 4);
    return y + 20;
}

static void write_legend(FILE *f, double y)
{
    static const struct {
        const char *kind, *text;
        int x;
    } items[] = {{"compute", "gradient", 70},
                 {"wait", "all-reduce: waiting, then the sum", 162},
                 {"update", "update", 402},
                 {"held", "domain allocated", 490},
                 {"domain", "released, not yet freed", 632}};
    for (size_t i = 0; i < sizeof(items) / sizeof(*items); i++) {
        fprintf(f, "<rect class=%s x=%d y=%.1f width=12 height=12 /><text x=%d y=%.1f>%s</text>\n",
                items[i].kind, items[i].x, y, items[i].x + 18, y + 10.5, items[i].text);
    }
}

static void write_time_lines(FILE *f, const struct training *trainings, int count)
{
    double span_ms = 1e-3;
    double height = 30;
    for (int i = 0; i < count; i++) {
        uint64_t begin, end;
        find_range(&trainings[i], &begin, &end);
        span_ms = fmax(span_ms, (double)(end - begin) / 1e6);
        int rows = trainings[i].chips < ROWS_MAX ? trainings[i].chips : ROWS_MAX;
        height += 44 + 22 * rows + (trainings[i].chips > rows ? 16 : 0) + 19 * STEPS_AHEAD;
    }
    fprintf(
        f,
        "<h2>The last steps</h2><p>Every step has a domain of its own. It is allocated while the "
        "steps before still run, named by the step, and released at once: no new task can use it. "
        "It is freed when its step is done; the next domain takes its memory. Where a chip shows "
        "nothing, it waits for its next step or for a core.</p>"
        "<figure><svg viewBox='0 0 %d %.0f' role=img aria-label='Time lines'>\n",
        WIDTH, height + 40);
    write_legend(f, 2);
    struct axes axes = {70, 22, WIDTH - 85, height - 22, 0, span_ms, 0, 1};
    double step = tick_step(span_ms, 8);
    for (double ms = 0; ms <= span_ms; ms += step) {
        fprintf(f, "<path class=grid d='M%.1f %.1fv%.1f'/>", place_x(&axes, ms), axes.top,
                axes.height);
    }
    double y = 30;
    for (int i = 0; i < count; i++) {
        y = write_time_line(f, &trainings[i], span_ms, y);
    }
    write_x_axis(f, &axes, 8, "milliseconds since the first of these steps began");
    fprintf(f, "</svg></figure>\n");
}

/* ---- held-out images -------------------------------------------------------------------------------- */

static void write_image(FILE *f, int image, int predicted, double x, double y)
{
    enum { DOT = 7 };
    fprintf(f, "<rect class=grid x=%.1f y=%.1f width=%d height=%d />", x - 1, y - 1, 8 * DOT + 2,
            8 * DOT + 2);
    for (int i = 0; i < PIXELS; i++) {
        if (pixels[image][i] > 0) {
            fprintf(f, "<rect class=ink opacity=%.2f x=%.0f y=%.0f width=%d height=%d />",
                    (double)pixels[image][i], x + i % 8 * DOT, y + i / 8 * DOT, DOT, DOT);
        }
    }
    if (predicted == labels[image]) {
        fprintf(f, "<text class=mid x=%.1f y=%.1f>%d</text>\n", x + 4 * DOT, y + 8 * DOT + 17,
                predicted);
    } else {
        fprintf(f, "<text class='mid wrong' x=%.1f y=%.1f>%d, is %d</text>\n", x + 4 * DOT,
                y + 8 * DOT + 17, predicted, labels[image]);
    }
}

static void write_images(FILE *f, const struct training *tr)
{
    int wrong = 0;
    for (int i = 0; i < HELD_OUT; i++) {
        wrong += tr->predicted[i] != labels[TRAINED + i];
    }
    fprintf(
        f,
        "<h2>Held-out images</h2><p>The first %d of the %d, and under each what the training on "
        "%d chip%s takes it for; below, %s that it gets wrong.</p>"
        "<figure><svg viewBox='0 0 %d %d' role=img aria-label='Images and predictions'>\n",
        SHOWN, HELD_OUT, tr->chips, tr->chips == 1 ? "" : "s",
        wrong == 0       ? "none"
        : wrong <= SHOWN ? "all"
                         : "some",
        WIDTH, wrong ? 176 : 86);
    for (int i = 0; i < SHOWN; i++) {
        write_image(f, TRAINED + i, tr->predicted[i], 4 + 77 * i, 4);
    }
    for (int i = 0, shown = 0; i < HELD_OUT && shown < SHOWN; i++) {
        if (tr->predicted[i] != labels[TRAINED + i]) {
            write_image(f, TRAINED + i, tr->predicted[i], 4 + 77 * shown++, 94);
        }
    }
    fprintf(f, "</svg></figure>\n");
}

static void write_head(FILE *f, const struct training *trainings, int count)
{
    fprintf(f,
            "<!doctype html><html lang=en><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width,initial-scale=1'>"
            "<title>Transom: handwritten digits</title><style>%s</style><main>\n"
            "<h1>Handwritten digits, trained on ",
            style);
    for (int i = 0; i < count; i++) {
        fprintf(f, "%s%d", i == 0 ? "" : i == count - 1 ? " and " : ", ", trainings[i].chips);
    }
    fprintf(f,
            " chip%s</h1><p>A softmax classifier with one hidden layer of %d units; %d steps, each "
            "over all %d training images. Every chip holds a part of the images, computes its "
            "gradient, all-reduces it in a domain that exists for this step only, and updates its "
            "own copy of the weights. The number of chips changes nothing but the order in which "
            "floats are added, and so their rounding.</p>\n",
            count == 1 && trainings[0].chips == 1 ? "" : "s", HIDDEN, trainings[0].steps, TRAINED);
}

static void write_foot(FILE *f, const struct training *trainings, int count, uint64_t seed)
{
    fprintf(f, "<footer>Command: <code>digits --chips ");
    for (int i = 0; i < count; i++) {
        fprintf(f, "%s%d", i ? "," : "", trainings[i].chips);
    }
    fprintf(
        f,
        " --steps %d --seed %llu</code><br>Data: E. Alpaydin, C. Kaynak: Optical Recognition of "
        "Handwritten Digits. UCI Machine Learning Repository (1998). "
        "<a href='https://doi.org/10.24432/C50P49'>doi.org/10.24432/C50P49</a>, "
        "<a href='https://creativecommons.org/licenses/by/4.0/'>CC BY 4.0</a></footer>"
        "</main></html>\n",
        trainings[0].steps, (unsigned long long)seed);
}

int page_write(const char *path, const struct training *trainings, int count, uint64_t seed)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        return -1;
    }
    write_head(f, trainings, count);
    write_table(f, trainings, count);
    write_curves(f, trainings, count);
    write_time_lines(f, trainings, count);
    write_images(f, &trainings[count - 1]);
    write_foot(f, trainings, count, seed);
    /* What was lost on the way shows here or when the last of it is written. */
    int lost = ferror(f);
    int rc = fclose(f);
    return lost || rc != 0 ? -1 : 0;
}
