/* Cross-entropy and dice of bilinearly upsampled logits, without ever holding the upsampled map.
 *
 * One unit of work is a band of output rows of one image. Its few rows of low-resolution logits are
 * laid out pixel-major (classes last, padded to PAD), each output row is one vertical blend, each
 * output pixel one horizontal blend that lives in registers and the first-level cache. The gradient
 * with respect to the low-resolution logits is gathered on the way back along the same two blends.
 * Classes that occur in an image come first in its layout, so that dice touches only those.
 *
 * Every unit writes its own slots and sums are taken in a fixed order: the result does not depend
 * on how many threads share the units. Compiled once per machine by ssa/losses/native.py.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
#define PAD 16
#define LOWEST ((REAL)-1e30)

typedef struct {
    const REAL *logits;            /* (B, K, h, w) */
    const int32_t *labels;         /* (B, H, W) */
    const int32_t *y0, *y1, *x0, *x1; /* source rows (H) and columns (W) of each output row, column */
    const REAL *ly, *lx;           /* share of y1 and x1 */
    int32_t *order, *slot;         /* (B, K) class at a place of the layout, and its inverse */
    int64_t *area;                 /* (B, K) pixels of each class */
    int64_t *found;                /* (B, 3): valid pixels, labels out of range, present classes */
    double *ce;                    /* (units) */
    double *inter, *mass;          /* (units, Kp) dice sums, by place */
    const REAL *on_inter, *on_mass;/* (B, Kp) derivative of the dice sum, by place */
    REAL *bands;                   /* (units, band_rows, w, Kp) gradient of cross-entropy, by unit */
    REAL *slopes, *own;            /* the same of Σσ(x) over all pixels, over each class's own */
    REAL *grad;                    /* (B, K, h, w) */
    int64_t B, K, Kp, h, w, H, W, ignore, unit_rows, units_per_image, band_rows;
    int64_t want_ce, want_dice, want_grad;
} Task;

#ifdef DOUBLE
static inline REAL exp_(REAL x) { return exp(x); }
#else
/* exp by Cody and Waite's reduction and a polynomial of degree 5 (relative error below 2e-7);
 * plain arithmetic, so that the compiler vectorises it; NaN stays NaN. Beyond ±60 it is that of
 * ±60: what is made of smaller numbers would be denormal, and those take a hundred times as long. */
static inline float exp_(float x) {
    union { float f; int32_t i; } bits;
    x = x < -60.0f ? -60.0f : x;
    x = x > 60.0f ? 60.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 · 2^23: rounds to the nearest integer */
    bits.f = shifted;
    int32_t exponent = bits.i - 0x4B400000;
    float n = shifted - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    bits.i = (exponent + 127) << 23;
    return p * bits.f;
}
#endif

static int64_t round_up(int64_t n) { return (n + PAD - 1) / PAD * PAD; }

static REAL *scratch(int64_t count) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (size_t)(count > 0 ? count : 1) * sizeof(REAL))) return NULL;
    return memory;
}

static void band_of(const Task *t, int64_t unit, int64_t *first, int64_t *last, int64_t *low,
                    int64_t *rows) {
    int64_t part = unit % t->units_per_image;
    *first = part * t->unit_rows;
    *last = *first + t->unit_rows < t->H ? *first + t->unit_rows : t->H;
    *low = t->y0[*first];
    *rows = t->y1[*last - 1] - *low + 1;
}

/* Which classes an image has, and the layout of its channels. */
static void count(const Task *t, int64_t image) {
    const int32_t *labels = t->labels + image * t->H * t->W;
    int64_t *area = t->area + image * t->K, *found = t->found + image * 3;
    int32_t *order = t->order + image * t->K, *slot = t->slot + image * t->K;
    int64_t valid = 0, wrong = 0, place = 0;
    memset(area, 0, (size_t)t->K * sizeof(int64_t));
    for (int64_t i = 0; i < t->H * t->W; i++) {
        int32_t label = labels[i];
        if (label == t->ignore) continue;
        if (label < 0 || label >= t->K) { wrong++; continue; }
        area[label]++;
        valid++;
    }
    for (int64_t k = 0; k < t->K; k++) if (area[k] > 0) order[place++] = (int32_t)k;
    found[0] = valid; found[1] = wrong; found[2] = place;
    for (int64_t k = 0; k < t->K; k++) if (area[k] == 0) order[place++] = (int32_t)k;
    for (int64_t j = 0; j < t->K; j++) slot[order[j]] = (int32_t)j;
}

/* Rows [low, low + rows) of an image's logits, pixel-major, the first `channels` places. */
static void lay_out(const Task *t, int64_t image, int64_t low, int64_t rows, int64_t channels,
                    REAL *out) {
    int64_t padded = round_up(channels);
    for (int64_t j = 0; j < padded; j++) {
        const REAL *from = NULL;
        if (j < t->K)
            from = t->logits + ((image * t->K + t->order[image * t->K + j]) * t->h + low) * t->w;
        for (int64_t i = 0; i < rows * t->w; i++) out[i * padded + j] = from ? from[i] : LOWEST;
    }
}

/* A loop over channels; their number is a multiple of PAD, which spares the compiler a remainder. */
#define PRAGMA(text) _Pragma(#text)
#define LANES(n) ((n) & ~(int64_t)(PAD - 1))
#define EACH_CHANNEL(k, n) PRAGMA(omp simd) for (int64_t k = 0; k < LANES(n); k++)

static void blend(const REAL *a, const REAL *b, REAL share, int64_t n, REAL *out) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = a[i] + share * (b[i] - a[i]);
}

/* Rows of gradient back to the two source rows they came from. */
static void spread(REAL *a, REAL *b, const REAL *from, REAL share, int64_t n) {
    if (a == b) {
        for (int64_t i = 0; i < n; i++) a[i] += from[i];
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        a[i] += ((REAL)1 - share) * from[i];
        b[i] += share * from[i];
    }
}

/* The layout's place of each pixel's class in a row of labels, -1 where a pixel is not valid. */
static void places_of(const Task *t, int64_t image, int64_t Y, int32_t *places) {
    const int32_t *labels = t->labels + (image * t->H + Y) * t->W, *slot = t->slot + image * t->K;
    for (int64_t X = 0; X < t->W; X++) {
        int32_t label = labels[X];
        int valid = label != t->ignore && label >= 0 && label < t->K;
        places[X] = valid ? slot[label] : -1;
    }
}

/* What the labels add to a row of gradient: `by[X]` (or `by_all`) at each pixel's own class. Apart
 * from the vector loops, which would wait for every such scalar store. */
static void mark(const Task *t, const int32_t *places, const REAL *by, REAL by_all, int64_t channels,
                 REAL *back) {
    for (int64_t X = 0; X < t->W; X++) {
        if (places[X] < 0) continue;
        REAL value = by ? by[X] : by_all, share = t->lx[X];
        back[t->x0[X] * channels + places[X]] += ((REAL)1 - share) * value;
        back[t->x1[X] * channels + places[X]] += share * value;
    }
}

/* Pixels whose softmax masses (each from 1 to K) are multiplied before one logarithm is taken. */
#define LOG_EVERY 24

/* Cross-entropy, its gradient, the sums behind dice, and the gradients of those sums: what factors
 * they get is known once the whole image is summed. */
static int forward_unit(const Task *t, int64_t unit) {
    int64_t image = unit / t->units_per_image, first, last, low, rows;
    band_of(t, unit, &first, &last, &low, &rows);
    const int64_t Kp = t->Kp, w = t->w, wide = w * Kp;
    const int64_t present = t->found[image * 3 + 2];
    const int64_t Pp = t->want_dice ? round_up(present) : 0;
    const int64_t channels = t->want_ce ? t->K : present;
    const int64_t Cp = round_up(channels); /* = Kp where cross-entropy is wanted */
    const int grad = t->want_ce && t->want_grad, slope = Pp && t->want_grad;
    const int64_t narrow = w * Pp, band_size = t->band_rows * wide;
    REAL *memory = scratch(rows * w * Cp + 4 * wide + 3 * Kp + t->W);
    int32_t *places = malloc((size_t)t->W * sizeof(int32_t));
    if (!memory || !places) { free(memory); free(places); return 1; }
    REAL *restrict source = memory, *restrict row = source + rows * w * Cp;
    REAL *restrict back = row + wide, *restrict all = back + wide, *restrict theirs = all + wide;
    REAL *restrict x = theirs + wide, *restrict e = x + Kp, *restrict mass_row = e + Kp;
    REAL *restrict mine = mass_row + Kp;
    REAL *band = grad ? t->bands + unit * band_size : NULL;
    REAL *slopes = slope ? t->slopes + unit * band_size : NULL;
    REAL *own = slope ? t->own + unit * band_size : NULL;
    double *mass = t->mass + unit * Kp, *inter = t->inter + unit * Kp, ce = 0;
    lay_out(t, image, low, rows, channels, source);
    if (grad) memset(band, 0, (size_t)band_size * sizeof(REAL));
    if (slope) {
        memset(slopes, 0, (size_t)(t->band_rows * narrow) * sizeof(REAL));
        memset(own, 0, (size_t)(t->band_rows * narrow) * sizeof(REAL));
    }

    for (int64_t Y = first; Y < last; Y++) {
        double product = 1;
        int64_t factors = 0;
        places_of(t, image, Y, places);
        blend(source + (t->y0[Y] - low) * w * Cp, source + (t->y1[Y] - low) * w * Cp, t->ly[Y],
              w * Cp, row);
        if (grad) memset(back, 0, (size_t)wide * sizeof(REAL));
        if (Pp) memset(mass_row, 0, (size_t)Pp * sizeof(REAL));
        if (slope) {
            memset(all, 0, (size_t)narrow * sizeof(REAL));
            memset(theirs, 0, (size_t)narrow * sizeof(REAL));
        }
        for (int64_t X = 0; X < t->W; X++) {
            const REAL *restrict a = row + t->x0[X] * Cp, *restrict b = row + t->x1[X] * Cp;
            const REAL share = t->lx[X];
            const int32_t place = places[X];
            if (t->want_ce && place >= 0) {
                REAL highest = LOWEST, total = 0;
#pragma omp simd reduction(max : highest)
                for (int64_t k = 0; k < LANES(Kp); k++) {
                    REAL value = a[k] + share * (b[k] - a[k]);
                    x[k] = value;
                    highest = value > highest ? value : highest;
                }
#pragma omp simd reduction(+ : total)
                for (int64_t k = 0; k < LANES(Kp); k++) {
                    REAL value = exp_(x[k] - highest);
                    e[k] = value;
                    total += value;
                }
                ce += (double)(highest - x[place]);
                product *= (double)total;
                if (++factors == LOG_EVERY) {
                    ce += log(product);
                    product = 1;
                    factors = 0;
                }
                if (grad) {
                    REAL *g0 = back + t->x0[X] * Kp, *g1 = back + t->x1[X] * Kp;
                    const REAL scale = (REAL)1 / total, to1 = share * scale, to0 = scale - to1;
                    if (share == 0) {
                        EACH_CHANNEL(k, Kp) g0[k] += scale * e[k];
                    } else {
                        EACH_CHANNEL(k, Kp) g0[k] += to0 * e[k];
                        EACH_CHANNEL(k, Kp) g1[k] += to1 * e[k];
                    }
                }
            }
            if (Pp) {
                EACH_CHANNEL(k, Pp) {
                        REAL value = a[k] + share * (b[k] - a[k]);
                        value = (REAL)1 / ((REAL)1 + exp_(-value));
                        e[k] = value;
                        mass_row[k] += value;
                    }
                if (place >= 0) inter[place] += (double)e[place];
                if (slope) {
                    REAL *g0 = all + t->x0[X] * Pp, *g1 = all + t->x1[X] * Pp;
                    const REAL to0 = (REAL)1 - share;
                    mine[X] = place < 0 ? 0 : e[place] * ((REAL)1 - e[place]);
                    EACH_CHANNEL(k, Pp) g0[k] += to0 * (e[k] - e[k] * e[k]);
                    if (share != 0)
                        EACH_CHANNEL(k, Pp) g1[k] += share * (e[k] - e[k] * e[k]);
                }
            }
        }
        ce += log(product);
        for (int64_t k = 0; k < Pp; k++) mass[k] += (double)mass_row[k];
        if (grad) {
            mark(t, places, NULL, (REAL)-1, Kp, back);
            spread(band + (t->y0[Y] - low) * wide, band + (t->y1[Y] - low) * wide, back, t->ly[Y],
                   wide);
        }
        if (slope) {
            const int64_t up = (t->y0[Y] - low) * narrow, down = (t->y1[Y] - low) * narrow;
            mark(t, places, mine, 0, Pp, theirs);
            spread(slopes + up, slopes + down, all, t->ly[Y], narrow);
            spread(own + up, own + down, theirs, t->ly[Y], narrow);
        }
    }
    t->ce[unit] = ce;
    free(places);
    free(memory);
    return 0;
}

/* to += the bands' sum of one low-resolution row. */
static void add_bands(const Task *t, const REAL *bands, int64_t image, int64_t y, int64_t channels,
                      REAL *restrict to) {
    int64_t first, last, low, rows, line = t->w * channels;
    for (int64_t part = 0; part < t->units_per_image && channels; part++) {
        int64_t unit = image * t->units_per_image + part;
        band_of(t, unit, &first, &last, &low, &rows);
        if (y < low || y >= low + rows) continue;
        const REAL *band = bands + unit * t->band_rows * t->w * t->Kp + (y - low) * line;
        for (int64_t i = 0; i < line; i++) to[i] += band[i];
    }
}

/* One low-resolution row of a gradient: the sum over its bands, back in the classes' order. */
static int collect_row(const Task *t, int64_t index, int64_t dice) {
    int64_t image = index / t->h, y = index % t->h;
    const int64_t channels = dice ? t->found[image * 3 + 2] : t->K, padded = round_up(channels);
    const int64_t line = t->w * padded;
    const int32_t *order = t->order + image * t->K;
    const REAL *on_mass = t->on_mass + image * t->Kp, *on_inter = t->on_inter + image * t->Kp;
    REAL *sum = scratch(2 * line), *own = sum + line;
    if (!sum) return 1;
    memset(sum, 0, (size_t)(2 * line) * sizeof(REAL));
    add_bands(t, dice ? t->slopes : t->bands, image, y, padded, sum);
    if (dice) add_bands(t, t->own, image, y, padded, own);
    for (int64_t j = 0; j < t->K; j++) {
        REAL *to = t->grad + ((image * t->K + order[j]) * t->h + y) * t->w;
        if (j >= channels)
            memset(to, 0, (size_t)t->w * sizeof(REAL));
        else if (dice)
            for (int64_t i = 0; i < t->w; i++)
                to[i] = on_mass[j] * sum[i * padded + j] + on_inter[j] * own[i * padded + j];
        else
            for (int64_t i = 0; i < t->w; i++) to[i] = sum[i * padded + j];
    }
    free(sum);
    return 0;
}

enum { COUNT, FORWARD, COLLECT_CE, COLLECT_DICE };

/* Take units of a phase until none is left; several threads may share one `next`. */
int ssa_run(const Task *t, int64_t phase, int64_t *next) {
    int64_t units = t->B * t->units_per_image;
    if (phase == COUNT) units = t->B;
    if (phase == COLLECT_CE || phase == COLLECT_DICE) units = t->B * t->h;
    for (;;) {
        int64_t unit = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
        if (unit >= units) return 0;
        int failed = 0;
        if (phase == COUNT) count(t, unit);
        if (phase == FORWARD) failed = forward_unit(t, unit);
        if (phase == COLLECT_CE) failed = collect_row(t, unit, 0);
        if (phase == COLLECT_DICE) failed = collect_row(t, unit, 1);
        if (failed) return 1;
    }
}

int64_t ssa_task_size(void) { return (int64_t)sizeof(Task); }
int64_t ssa_pad(void) { return PAD; }
