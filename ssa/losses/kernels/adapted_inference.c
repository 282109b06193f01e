/* Inference of the deployed SSA classifier: two sweeps over an image's features, tile by tile.
 *
 * Sweep 1 (CENTRES): a tile of positions is laid out once, its position encoding is computed, its
 * coarse logits are one product, both softmaxes are taken in the cache, and two products add the
 * tile to the sums behind the semantic and the spatial centres. The softmax over positions is taken
 * against the running maximum of each class; sums are rescaled where it rises. COMBINE adds up the
 * units of an image. Between the sweeps PyTorch adapts the prototypes (K × D, small).
 * Sweep 2 (DECIDE): the embedded features are made again (cheaper than keeping them), multiplied
 * with the image's prototypes and divided by their norm on the way out.
 *
 * No map is ever held, whatever the image's size. An image has a fixed number of units with sums of
 * their own: the result does not depend on how many threads share them. Single precision only; the
 * reference is SSAClassifier._decide. Compiled once per machine by ssa/losses/native.py.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define ACROSS 4
#elif defined(__AVX__)
#define LANES 8
#define ACROSS 2
#elif defined(__aarch64__)
#define LANES 4
#define ACROSS 4
#else
#define LANES 4
#define ACROSS 2
#endif
#define DOWN 6            /* rows of a block of products */
#define PAD 16            /* classes are padded to a multiple */
#define TILE 256          /* positions of a tile, about */
#define AHEAD 8           /* channels that are asked for ahead of their use */
#define LOWEST (-1e30f)

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct {
    const float *features;      /* (B, D, h, w) */
    const float *taps;          /* (D, 9) depth-wise 3×3 convolution, or NULL */
    const float *taps_bias;     /* (D) */
    const float *table;         /* (D, h, w) position encoding that is the same for all, or NULL */
    const float *coarse_weight; /* (D, Kp) */
    const float *coarse_bias;   /* (Kp), very low where there is no class */
    float *semantic, *spatial;  /* (B, units, Dp, Kp) sums of features, of position encodings */
    float *mass;                /* (B, units, Kp) Σ softmax over classes */
    float *highest, *total;     /* (B, units, Kp) maximum, and Σ exp(coarse − maximum) */
    const float *prototypes;    /* (B, D, K) */
    float *logits;              /* (B, K, h, w) */
    int64_t B, D, Dp, K, Kp, h, w, units;
    int64_t want_semantic;
    int64_t want_spatial;       /* 0 no, 1 softmax over positions, 2 softmax over classes */
    int64_t cosine;
} Task;

/* Positions y0 … y0+rows−1 × x0 … x0+columns−1 of an image. */
typedef struct { int64_t y0, rows, x0, columns; } Tile;

typedef struct {
    float *x, *position, *coarse, *weight; /* (Dp, stride) twice, (positions, Kp) twice */
    float *lines, *nothing, *row, *scale;
    int32_t *mask_left, *mask_right;       /* by column of the tile: 0 where that side is beyond */
    int64_t stride, line;
} Scratch;

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* exp by Cody and Waite's reduction (relative error below 2e-7); 0 below exp(−80), so that no
 * denormal number enters a product; NaN stays NaN. */
static inline float exp_(float x) {
    union { float f; int32_t i; } bits;
    float clipped = x < -80.0f ? -80.0f : x;
    clipped = clipped > 88.0f ? 88.0f : clipped;
    float shifted = clipped * 1.44269504f + 12582912.0f;
    bits.f = shifted;
    int32_t exponent = bits.i - 0x4B400000;
    float n = shifted - 12582912.0f;
    float r = (clipped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    bits.i = (exponent + 127) << 23;
    return x < -80.0f ? 0.0f : p * bits.f;
}

/* c[i, :] (+)= Σ_d a[i, d] b[d, :] for one block of `down` rows and `across` vectors that lives in
 * registers; with factors, each column is multiplied by its own. */
static inline __attribute__((always_inline)) void block(
    const int down, const int across, int64_t depth, const float *restrict a, int64_t a_row,
    int64_t a_depth, const float *restrict b, int64_t b_depth, float *restrict c, int64_t c_row,
    int add, const float *restrict factors) {
    Vector sum[DOWN][ACROSS];
#pragma GCC unroll 8
    for (int i = 0; i < down; i++)
#pragma GCC unroll 8
        for (int j = 0; j < across; j++) sum[i][j] = (Vector){0};
    for (int64_t d = 0; d < depth; d++) {
        Vector right[ACROSS];
#pragma GCC unroll 8
        for (int j = 0; j < across; j++) right[j] = *(const Vector *)(b + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < down; i++) {
            const float left = a[i * a_row];
#pragma GCC unroll 8
            for (int j = 0; j < across; j++) sum[i][j] += left * right[j];
        }
        a += a_depth;
        b += b_depth;
    }
#pragma GCC unroll 8
    for (int i = 0; i < down; i++)
#pragma GCC unroll 8
        for (int j = 0; j < across; j++) {
            Vector *to = (Vector *)(c + i * c_row + j * LANES);
            if (factors) sum[i][j] *= *(const Vector *)(factors + j * LANES);
            if (add) sum[i][j] += *to;
            *to = sum[i][j];
        }
}

/* Whole rows of the image where some fit a tile, else parts of one row. */
static int64_t tile_columns(const Task *t) { return least(t->w, TILE + TILE / 2); }
static int64_t tile_rows(const Task *t) {
    return t->w > tile_columns(t) ? 1 : (TILE / t->w > 1 ? TILE / t->w : 1);
}
static int64_t tiles_across(const Task *t) {
    return (t->w + tile_columns(t) - 1) / tile_columns(t);
}
static int64_t tiles_of(const Task *t) {
    return tiles_across(t) * ((t->h + tile_rows(t) - 1) / tile_rows(t));
}
static Tile tile_at(const Task *t, int64_t index) {
    Tile tile;
    tile.y0 = index / tiles_across(t) * tile_rows(t);
    tile.x0 = index % tiles_across(t) * tile_columns(t);
    tile.rows = least(tile_rows(t), t->h - tile.y0);
    tile.columns = least(tile_columns(t), t->w - tile.x0);
    return tile;
}

static int prepare(const Task *t, Scratch *s) {
    int64_t positions = round_up(tile_rows(t) * tile_columns(t), DOWN);
    s->stride = round_up(positions + LANES, 16);
    if (s->stride % 32 == 0) s->stride += 16; /* rows of a tile must not share their cache sets */
    s->line = round_up(tile_columns(t) + 2 + LANES, 16);
    int64_t maps = t->Dp * s->stride, classes = positions * t->Kp;
    int64_t lines = (tile_rows(t) + 2) * s->line;
    int64_t count = 2 * maps + 2 * classes + lines + 3 * s->line + s->stride + 2 * t->Kp;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, (size_t)count * sizeof(float))) return 1;
    memset(memory, 0, (size_t)count * sizeof(float));
    s->x = memory;
    s->position = s->x + maps;
    s->coarse = s->position + maps;
    s->weight = s->coarse + classes;
    s->lines = s->weight + classes;
    s->nothing = s->lines + lines;
    s->mask_left = (int32_t *)(s->nothing + s->line);
    s->mask_right = s->mask_left + s->line;
    s->row = s->nothing + 3 * s->line;
    s->scale = s->row + s->stride;
    return 0;
}

/* Short runs: a call of memcpy would cost as much as the copy. */
static inline void copy(const float *from, int64_t count, float *to) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) *(Vector *)(to + i) = *(const Vector *)(from + i);
    for (; i < count; i++) to[i] = from[i];
}

/* A channel's part of a tile. */
static void copy_tile(const Task *t, const Tile *tile, const float *from, float *to) {
    for (int64_t r = 0; r < tile->rows; r++)
        copy(from + (tile->y0 + r) * t->w + tile->x0, tile->columns, to + r * tile->columns);
}

/* Ask for channel d's part of a tile and the lines around it ahead of its use: a tile is short runs
 * far apart, which the processor does not foresee. */
static void foresee(const Task *t, const Tile *tile, const float *features, int64_t d) {
    if (d >= t->D) return;
    const int64_t around = t->taps ? 1 : 0, area = t->h * t->w;
    int64_t y = tile->y0 - around, end = tile->y0 + tile->rows + around;
    y = y < 0 ? 0 : y;
    end = least(end, t->h);
    for (; y < end; y++) {
        const float *line = features + d * area + y * t->w + tile->x0;
        for (int64_t x = 0; x < tile->columns; x += 16) __builtin_prefetch(line + x);
    }
}

/* Every block of c (rows × columns); columns is a multiple of LANES. Where the rows are no multiple
 * of DOWN the last block overlaps the one before it (never with `add`: there they are padded). */
static void product(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_row,
                    int64_t a_depth, const float *b, int64_t b_depth, float *c, int64_t c_row,
                    int add, const float *factors) {
    for (int64_t j = 0; j < columns;) {
        int64_t vectors = least((columns - j) / LANES, ACROSS);
        const float *factor = factors ? factors + j : NULL;
        for (int64_t i = 0; i < rows;) {
            const int down = rows < DOWN ? 1 : DOWN;
            if (down == DOWN && i > rows - DOWN) i = rows - DOWN;
            const float *left = a + i * a_row, *right = b + j;
            float *to = c + i * c_row + j;
#define CASE(d, v)                                                                              \
    if (down == d && vectors == v)                                                              \
        block(d, v, depth, left, a_row, a_depth, right, b_depth, to, c_row, add, factor);
            CASE(DOWN, 1) CASE(DOWN, 2) CASE(1, 1) CASE(1, 2)
#if ACROSS > 2
            CASE(DOWN, 3) CASE(DOWN, 4) CASE(1, 3) CASE(1, 4)
#endif
            i += down;
        }
        j += vectors * LANES;
    }
}

/* The depth-wise 3×3 convolution of a channel's tile; the channel itself goes to `plain`, or is
 * added where `plain` is NULL. Lines are read where they lie, with what is beyond the map masked;
 * only a line whose vectors would leave the tensor is copied first. */
static __attribute__((noinline)) void encode(const Task *t, const Tile *tile, const Scratch *s, const float *from,
                   const float *taps, float bias, float *plain, float *to) {
    const float *begin = t->features, *end = begin + t->B * t->D * t->h * t->w;
    const int64_t reach = round_up(tile->columns, LANES) + 1;
    const float *lines[3];
    for (int64_t r = -1; r <= tile->rows; r++) {
        const int64_t y = tile->y0 + r;
        const float *source = from + y * t->w + tile->x0;
        lines[0] = r > -1 ? lines[1] : NULL;
        lines[1] = r > -1 ? lines[2] : NULL;
        if (y < 0 || y >= t->h) {
            lines[2] = s->nothing;
        } else if (source - begin < 1 || end - source < reach) {
            /* beyond the columns stand finite numbers of a former line: masked, or not used */
            float *line = s->lines + (r + 1) * s->line;
            copy(source, tile->columns, line + 1);
            line[0] = tile->x0 > 0 ? source[-1] : 0;
            line[tile->columns + 1] =
                tile->x0 + tile->columns < t->w ? source[tile->columns] : 0;
            lines[2] = line;
        } else {
            lines[2] = source - 1;
        }
        if (r < 1) continue;
        const float *above = lines[0], *line = lines[1], *below = lines[2];
        const int64_t row = (r - 1) * tile->columns;
        /* What a last vector writes beyond its row is overwritten by the next, or lies in the
         * stride's slack. */
        for (int64_t x = 0; x < tile->columns; x += LANES) {
#define AT(p, k) (*(const Vector *)((p) + x + (k)))
#define UNLESS_BEYOND(v, mask) ((Vector)((Mask)(v) & *(const Mask *)((mask) + x)))
            const Vector own = AT(line, 1);
            Vector left = taps[0] * AT(above, 0) + taps[3] * AT(line, 0) + taps[6] * AT(below, 0);
            Vector sum = taps[1] * AT(above, 1) + taps[4] * own + taps[7] * AT(below, 1) + bias;
            Vector right = taps[2] * AT(above, 2) + taps[5] * AT(line, 2) + taps[8] * AT(below, 2);
            sum += UNLESS_BEYOND(left, s->mask_left) + UNLESS_BEYOND(right, s->mask_right);
            if (plain)
                *(Vector *)(plain + row + x) = own;
            else
                sum += own;
            *(Vector *)(to + row + x) = sum;
        }
    }
}

/* The columns of a tile whose left or right neighbour is beyond the map. */
static void mask_edges(const Task *t, const Tile *tile, const Scratch *s) {
    for (int64_t x = 0; x < tile->columns; x++) {
        s->mask_left[x] = tile->x0 + x > 0 ? -1 : 0;
        s->mask_right[x] = tile->x0 + x + 1 < t->w ? -1 : 0;
    }
}

/* p = softmax over classes into `weight`, exp(coarse − highest) back into `coarse`. */
static __attribute__((noinline)) void soften(const Task *t, const Scratch *s, int64_t positions, int want_classes,
                   float *restrict mass, float *restrict highest, float *restrict total,
                   float *restrict spatial) {
    const int64_t Kp = t->Kp & ~(int64_t)(PAD - 1);
    const float *restrict bias = t->coarse_bias;
    float *restrict scale = s->scale;
    float *restrict top = scale + Kp;
    if (highest) {
        int rises = 0;
        memcpy(top, highest, (size_t)Kp * sizeof(float));
        for (int64_t n = 0; n < positions; n++) {
            const float *restrict m = s->coarse + n * Kp;
#pragma omp simd
            for (int64_t k = 0; k < Kp; k++) top[k] = m[k] > top[k] ? m[k] : top[k];
        }
#pragma omp simd reduction(| : rises)
        for (int64_t k = 0; k < Kp; k++) {
            rises |= top[k] > highest[k];
            scale[k] = exp_(highest[k] - top[k]);
            total[k] *= scale[k];
            highest[k] = top[k];
        }
        if (rises)
            for (int64_t d = 0; d < t->D; d++) {
                float *restrict sums = spatial + d * Kp;
#pragma omp simd
                for (int64_t k = 0; k < Kp; k++) sums[k] *= scale[k];
            }
    }
    for (int64_t n = 0; n < positions; n++) {
        float *restrict m = s->coarse + n * Kp, *restrict p = s->weight + n * Kp;
        if (want_classes) {
            float peak = LOWEST, sum = 0;
#pragma omp simd reduction(max : peak)
            for (int64_t k = 0; k < Kp; k++) {
                float value = m[k] + bias[k];
                p[k] = value;
                peak = value > peak ? value : peak;
            }
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < Kp; k++) {
                float value = exp_(p[k] - peak);
                p[k] = value;
                sum += value;
            }
            const float share = 1.0f / sum;
#pragma omp simd
            for (int64_t k = 0; k < Kp; k++) {
                p[k] *= share;
                mass[k] += p[k];
            }
        }
        if (highest) {
#pragma omp simd
            for (int64_t k = 0; k < Kp; k++) {
                float value = exp_(m[k] - highest[k]);
                m[k] = value;
                total[k] += value;
            }
        }
    }
}

static void centres(const Task *t, int64_t unit, const Scratch *s) {
    const int64_t image = unit / t->units, part = unit % t->units, tiles = tiles_of(t);
    const int64_t first = tiles * part / t->units, last = tiles * (part + 1) / t->units;
    const int64_t D = t->D, Dp = t->Dp, Kp = t->Kp, area = t->h * t->w, sums = Dp * Kp;
    const float *features = t->features + image * D * area;
    const int positions_softmax = t->want_spatial == 1;
    const int classes_softmax = t->want_semantic || t->want_spatial == 2;
    float *semantic = t->want_semantic ? t->semantic + unit * sums : NULL;
    float *spatial = t->want_spatial ? t->spatial + unit * sums : NULL;
    float *mass = t->mass + unit * Kp, *total = t->total + unit * Kp;
    float *highest = t->highest + unit * Kp;
    if (semantic) memset(semantic, 0, (size_t)sums * sizeof(float));
    if (spatial) memset(spatial, 0, (size_t)sums * sizeof(float));
    for (int64_t k = 0; k < Kp; k++) {
        mass[k] = total[k] = 0;
        highest[k] = LOWEST;
    }
    for (int64_t index = first; index < last; index++) {
        const Tile tile = tile_at(t, index);
        const int64_t positions = tile.rows * tile.columns;
        mask_edges(t, &tile, s);
        for (int64_t d = 0; d < D; d++) {
            const float *from = features + d * area;
            float *x = s->x + d * s->stride, *to = s->position + d * s->stride;
            foresee(t, &tile, features, d + AHEAD);
            if (spatial && t->taps) {
                encode(t, &tile, s, from, t->taps + 9 * d, t->taps_bias[d], x, to);
                continue;
            }
            copy_tile(t, &tile, from, x);
            if (spatial) copy_tile(t, &tile, t->table + d * area, to);
        }
        product(round_up(positions, DOWN), Kp, D, s->x, 1, s->stride, t->coarse_weight, Kp,
                s->coarse, Kp, 0, NULL);
        soften(t, s, positions, classes_softmax, mass, positions_softmax ? highest : NULL, total,
               spatial);
        if (semantic)
            product(Dp, Kp, positions, s->x, s->stride, 1, s->weight, Kp, semantic, Kp, 1, NULL);
        if (spatial)
            product(Dp, Kp, positions, s->position, s->stride, 1,
                    positions_softmax ? s->coarse : s->weight, Kp, spatial, Kp, 1, NULL);
    }
}

/* The units of an image into its first one, in their order; then sums become means. */
static void combine(const Task *t, int64_t image, const Scratch *s) {
    const int64_t D = t->D, Kp = t->Kp & ~(int64_t)(PAD - 1), sums = t->Dp * Kp;
    const int64_t base = image * t->units;
    float *restrict mass = t->mass + base * Kp, *restrict total = t->total + base * Kp;
    float *restrict highest = t->highest + base * Kp, *restrict scale = s->scale;
    float *restrict old = s->scale + Kp;
    for (int64_t part = 1; part <= t->units; part++) {
        const int last = part == t->units; /* one more round, which divides */
        const float *more_mass = mass + part * Kp, *more_total = total + part * Kp;
        const float *more_highest = highest + part * Kp;
        if (last) {
#pragma omp simd
            for (int64_t k = 0; k < Kp; k++) {
                mass[k] = 1.0f / (mass[k] + 1e-12f);
                old[k] = t->want_spatial == 1 ? 1.0f / total[k] : mass[k];
            }
        } else {
            for (int64_t k = 0; k < Kp; k++) {
                float top = highest[k] > more_highest[k] ? highest[k] : more_highest[k];
                const int positions = t->want_spatial == 1;
                old[k] = positions ? exp_(highest[k] - top) : 1;
                scale[k] = positions ? exp_(more_highest[k] - top) : 1;
                total[k] = total[k] * old[k] + more_total[k] * scale[k];
                highest[k] = top;
                mass[k] += more_mass[k];
            }
        }
        for (int64_t d = 0; d < D; d++) {
            if (t->want_semantic) {
                float *restrict to = t->semantic + base * sums + d * Kp;
                const float *restrict from = to + part * sums;
                if (last) {
#pragma omp simd
                    for (int64_t k = 0; k < Kp; k++) to[k] *= mass[k];
                } else {
#pragma omp simd
                    for (int64_t k = 0; k < Kp; k++) to[k] += from[k];
                }
            }
            if (t->want_spatial) {
                float *restrict to = t->spatial + base * sums + d * Kp;
                const float *restrict from = to + part * sums;
                if (last) {
#pragma omp simd
                    for (int64_t k = 0; k < Kp; k++) to[k] *= old[k];
                } else {
#pragma omp simd
                    for (int64_t k = 0; k < Kp; k++) to[k] = to[k] * old[k] + from[k] * scale[k];
                }
            }
        }
    }
}

static void decide(const Task *t, int64_t unit, const Scratch *s) {
    const int64_t image = unit / tiles_of(t), index = unit % tiles_of(t);
    const int64_t D = t->D, area = t->h * t->w;
    const float *features = t->features + image * D * area;
    const float *prototypes = t->prototypes + image * t->K * D;
    const Tile tile = tile_at(t, index);
    const int64_t positions = tile.rows * tile.columns, padded = round_up(positions, LANES);
    float *restrict factors = s->row;
    mask_edges(t, &tile, s);
    if (t->cosine) memset(factors, 0, (size_t)padded * sizeof(float));
    for (int64_t d = 0; d < D; d++) {
        const float *from = features + d * area;
        float *restrict to = s->x + d * s->stride;
        foresee(t, &tile, features, d + AHEAD);
        if (t->taps) {
            encode(t, &tile, s, from, t->taps + 9 * d, t->taps_bias[d], NULL, to);
        } else {
            copy_tile(t, &tile, from, to);
            if (t->table) {
                copy_tile(t, &tile, t->table + d * area, s->position);
#pragma omp simd
                for (int64_t n = 0; n < positions; n++) to[n] += s->position[n];
            }
        }
        if (t->cosine) {
#pragma omp simd
            for (int64_t n = 0; n < positions; n++) factors[n] += to[n] * to[n];
        }
    }
    if (t->cosine) {
#pragma omp simd
        for (int64_t n = 0; n < positions; n++)
            factors[n] = 1.0f / sqrtf(factors[n] > 1e-24f ? factors[n] : 1e-24f);
    }
    float *logits = t->logits + image * t->K * area + tile.y0 * t->w + tile.x0;
    const float *factor = t->cosine ? factors : NULL;
    const int64_t whole = positions / LANES * LANES, rest = positions - whole;
    if (whole) product(t->K, whole, D, prototypes, 1, t->K, s->x, s->stride, logits, area, 0, factor);
    if (rest) {
        float *to = s->coarse;
        product(t->K, LANES, D, prototypes, 1, t->K, s->x + whole, s->stride, to, LANES, 0,
                factor ? factor + whole : NULL);
        for (int64_t k = 0; k < t->K; k++)
            memcpy(logits + k * area + whole, to + k * LANES, (size_t)rest * sizeof(float));
    }
}

enum { CENTRES, COMBINE, DECIDE };

/* Take units of a phase until none is left; several threads may share one `next`. */
int ssa_run(const Task *t, int64_t phase, int64_t *next) {
    int64_t units = t->B;
    if (phase == CENTRES) units *= t->units;
    if (phase == DECIDE) units *= tiles_of(t);
    Scratch s;
    if (prepare(t, &s)) return 1;
    for (;;) {
        int64_t unit = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
        if (unit >= units) break;
        if (phase == CENTRES) centres(t, unit, &s);
        if (phase == COMBINE) combine(t, unit, &s);
        if (phase == DECIDE) decide(t, unit, &s);
    }
    free(s.x);
    return 0;
}

int64_t ssa_task_size(void) { return (int64_t)sizeof(Task); }
int64_t ssa_pad(void) { return PAD; }
int64_t ssa_rows(void) { return DOWN; }
