// Products of many rows of activations with quantised weights, in integers as decode has them:
//   quantized_tile<T, K>   Y = X W^T + bias
// A chunk of the blocks of a row at a time. Its activations are packed once; its weights become a
// panel that has a row in each lane, so that there are no sums across lanes.
#pragma once
#include "quantized.h"
#include "tile.h"

namespace sc {

// With VNNI two products of bytes take half as long as one of floats; without it longer.
#if defined(__AVX512VNNI__)
template <class T>
constexpr bool multiplies_integers = is_quantized<T>;
#else
template <class T>
constexpr bool multiplies_integers = false;
#endif

constexpr int FOURS = BLOCK / 4;  // of a block: what a lane holds of a row
constexpr int PANEL_VECTORS = 2, PANEL_LANES = PANEL_VECTORS * LANES;

// A chunk of V blocks of a row of activations.
template <int V>
struct PackedChunk {
    int8_t high[V * BLOCK], low[V * BLOCK];
    // Of each group; x ~ scale (128 high + low).
    float scales[2 * V];
    int32_t left_out[2 * V];  // what dot4 leaves out of 128 high + low, by 128
    float below[2 * V];       // what bytes leave out, scaled
};

template <class T, int V>
inline void pack_chunk(PackedChunk<V>& to, const float* x, int64_t left) {
    pack_chunk<V>(to.high, to.low, to.scales, x, left);
    for (int g = 0; g < 2 * V; ++g) {
        int32_t sum = 0;
        for (int v = 0; v < V; ++v)
            for (int i = 0; i < GROUP / V; ++i) {
                const int at = v * BLOCK + g * (GROUP / V) + i;
                sum += 128 * to.high[at] + to.low[at];
            }
        to.left_out[g] = (MIDDLE - 128) / 128 * sum;
        to.below[g] = UNKNOWN<T::LOW> * to.scales[g] * static_cast<float>(sum);
    }
}

// A chunk of V blocks, from b on, of the rows row(0), .. row(PANEL_LANES - 1).
template <int V>
struct Panel {
    vi weights[V * FOURS][PANEL_VECTORS];
    vf scales[2 * V][PANEL_VECTORS];

    template <class Row>
    Panel(Row row, int b) {
        vf lanes[LANES];
        for (int p = 0; p < PANEL_VECTORS; ++p) {
            for (int v = 0; v < V; ++v)
                each_constant<VECTORS>([&](auto j) SC_ALWAYS {
                    for (int i = 0; i < LANES; ++i)
                        lanes[i] = bits_as<vf>(block_at(row(p * LANES + i), b + v, j));
                    transpose(lanes);
                    for (int i = 0; i < LANES; ++i)
                        weights[v * FOURS + j * LANES + i][p] = bits_as<vi>(lanes[i]);
                });
            each_vector<2 * V>([&](int g, auto n) SC_ALWAYS {
                for (int i = 0; i < LANES; ++i) {
                    const auto r = row(p * LANES + i);
                    lanes[i] = r.scale() * load(r.steps() + 2 * b + g, n);
                }
                transpose(lanes);
                for (int i = 0; i < n; ++i) scales[g + i][p] = lanes[i];
            });
        }
    }
};

// y[R][PANEL_LANES] += x[R] . the rows of the panel
template <int R, int V>
inline void panel_block(float* y, int64_t ldy, const PackedChunk<V>* x, const Panel<V>& panel) {
    constexpr int IN_BLOCK = 8 / V;  // fours of a group
    vf sums[R][PANEL_VECTORS];
    for (int i = 0; i < R; ++i)
        for (int p = 0; p < PANEL_VECTORS; ++p) sums[i][p] = load(y + i * ldy + p * LANES);
    for (int g = 0; g < 2 * V; ++g) {
        vi products[R][PANEL_VECTORS];
        for (int i = 0; i < R; ++i)
            for (vi& product : products[i]) product = x[i].left_out[g] - vi{};
        auto add = [&](auto bytes) SC_ALWAYS {
            each_constant<GROUP / 4>([&](auto four) SC_ALWAYS {
                const int at = four / IN_BLOCK * FOURS + g * IN_BLOCK + four % IN_BLOCK;
                for (int i = 0; i < R; ++i) {
                    const vi same = load_bytes<int32_t>(bytes(x[i]) + 4 * at) - vi{};
                    for (int p = 0; p < PANEL_VECTORS; ++p)
                        products[i][p] = dot4(products[i][p], bits_as<vb>(panel.weights[at][p]),
                                              bits_as<vb>(same));
                }
            });
        };
        add([](const PackedChunk<V>& of) SC_ALWAYS { return of.high; });
        for (int i = 0; i < R; ++i)
            for (vi& product : products[i]) product <<= 7;
        add([](const PackedChunk<V>& of) SC_ALWAYS { return of.low; });
        for (int i = 0; i < R; ++i)
            for (int p = 0; p < PANEL_VECTORS; ++p) {
                const vf product = __builtin_convertvector(products[i][p], vf);
                sums[i][p] += panel.scales[g][p] * (product * x[i].scales[g] + x[i].below[g]);
            }
    }
    for (int i = 0; i < R; ++i)
        for (int p = 0; p < PANEL_VECTORS; ++p) store(y + i * ldy + p * LANES, sums[i][p]);
}

// y[m][n] = bias[n] and what the outliers of row(0..n) add, n <= LANES; bias may be null.
template <class Row>
inline void outliers_tile(float* y, int64_t ldy, const float* x, int64_t ldx, Row row,
                          const float* bias, int64_t m, int64_t n) {
    vf start{}, values{};
    int64_t places[LANES] = {};
    for (int64_t i = 0; i < n; ++i) {
        const auto r = row(i);
        places[i] = weight_at(r, r.outlier());
        values[i] = r.outlier_value();
        if (bias) start[i] = bias[i];
    }
    for (int64_t i = 0; i < m; ++i) {
        vf lanes;
        for (int j = 0; j < LANES; ++j) lanes[j] = x[i * ldx + places[j]];
        lanes = start + values * lanes;
        std::memcpy(y + i * ldy, &lanes, n * sizeof *y);
    }
}

// Calls add(n, y, ld) for each WIDTH of N columns of Y[m], m <= TILE: y is where they are, for the
// last ones a copy with room for all of them, which is copied back.
template <int WIDTH, class F>
inline void whole_columns(float* Y, int64_t ldy, int64_t m, int64_t N, F&& add) {
    int64_t n = 0;
    for (; n + WIDTH <= N; n += WIDTH) add(n, Y + n, ldy);
    if (n == N) return;
    alignas(64) float part[TILE * WIDTH];
    const int64_t bytes = (N - n) * sizeof *Y;
    for (int64_t i = 0; i < m; ++i) std::memcpy(part + i * WIDTH, Y + i * ldy + n, bytes);
    add(n, part, WIDTH);
    for (int64_t i = 0; i < m; ++i) std::memcpy(Y + i * ldy + n, part + i * WIDTH, bytes);
}

// Y[i][n] = row(n) . X[i][K] + bias[n] for i < m, n < N; row(n) is a SpreadRow<T, K>.
template <class T, int K, class Row>
inline void quantized_tile(float* __restrict Y, int64_t ldy, const float* __restrict X, int64_t ldx,
                           Row row, const float* __restrict bias, int64_t m, int64_t N) {
    for (int64_t n = 0; n < N; n += LANES)
        outliers_tile(Y + n, ldy, X, ldx, [&](int64_t i) { return row(n + i); },
                      bias ? bias + n : nullptr, m, min(LANES, N - n));
    for (int64_t i0 = 0; i0 < m; i0 += TILE) {
        const int64_t rows = min(TILE, m - i0);
        each_chunk<Planes<K>::BLOCKS>([&](int b, auto blocks) {
            PackedChunk<blocks> x[TILE];
            for (int64_t i = 0; i < rows; ++i)
                pack_chunk<T>(x[i], X + (i0 + i) * ldx + b * BLOCK, K - b * BLOCK);
            whole_columns<PANEL_LANES>(
                Y + i0 * ldy, ldy, rows, N, [&](int64_t n, float* y, int64_t ld) {
                    auto row_at = [&](int64_t i) { return row(min(n + i, N - 1)); };
                    const Panel<blocks> panel(row_at, b);
                    for (int64_t i = PANEL_LANES; i < 2 * PANEL_LANES; ++i)
                        prefetch_groups<2 * blocks>(row_at(i), 2 * b);
                    row_blocks<ROWS>(rows, [&](int64_t i, auto r) {
                        panel_block<r>(y + i * ld, ld, x + i, panel);
                    });
                });
        });
    }
}

}  // namespace sc
