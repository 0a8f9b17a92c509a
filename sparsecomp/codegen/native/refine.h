// Scores of a sketch once more, for the listed rows, with what the refinement says of them.
#pragma once
#include "sketch.h"
#include "turns.h"

namespace sc {

// The sizes of the refinement of a sketch of rows of K weights: a row is LINES cache lines.
template <int K>
struct RefinedSizes {
    static constexpr int FINE = SketchSizes<K, 2>::FINE, COARSE = K - FINE, STREAM = 32;
    static constexpr int LINE = 64, SCALE = LINE - 2, AXES = SCALE * 4;  // of a line
    static constexpr int LINES = COARSE <= STREAM ? 1 : (COARSE - STREAM + AXES - 1) / AXES;
    static constexpr int64_t BYTES = LINES * LINE, TABLE = 64;
    static_assert(COARSE > 0);
};

// Activations in the order in which the codes of a row meet them. 8 bytes of a line are a stream of
// 32 axes: shifted, a vector has in each byte a window that ends at the same place of it.
template <int K>
class RefinedInput {
    using R = RefinedSizes<K>;
    static constexpr int PLACES = 4, PARTS = R::LINE / VECTOR_BYTES;  // vectors of a line

public:
    explicit RefinedInput(const float* x) {
        for (int line = 0; line < R::LINES; ++line) {
            float padded[4 * R::LINE] = {};  // in place of the scale, too, are zeros
            const int first = line * R::AXES, count = min(R::COARSE - first, R::AXES);
            std::memcpy(padded, x + R::FINE + first, count * sizeof *x);
            int8_t plain[4 * R::LINE];
            const SharedScale of = round_codes(plain, padded, 4 * R::LINE);
            for (int i = 0; i < 4 * R::LINE; ++i)
                codes_[line][i % PLACES][i / PLACES] = plain[i];
            scales_[line] = of.scale;
            middle_[line] = of.scale * LEVEL_MIDDLE * of.total;
        }
    }

    // The product with a row, as the parts of a sum over lanes.
    vf operator()(const char* row, const Levels& levels) const {
        vf out{};
        for (int line = 0; line < R::LINES; ++line, row += R::LINE) {
            vi sums[2] = {};
            for (int p = 0; p < PARTS; ++p) {
                const vq stream = load_bytes<vq>(row + p * VECTOR_BYTES);
                each_constant<PLACES>([&](auto j) SC_ALWAYS {
                    constexpr int J = j, END = 2 * (J + 1);
                    const vq windows =
                        END < WINDOW ? stream << (WINDOW - END) : stream >> (END - WINDOW);
                    const auto x = load_bytes<vi>(codes_[line][J] + p * VECTOR_BYTES);
                    sums[J % 2] = add_dot4(sums[J % 2], levels(bits_as<vi>(windows)), x);
                });
            }
            const uint32_t bits = load_bytes<bf16>(row + R::SCALE).bits;
            const float scale = bits_as<float>(bits << 16);
            out += __builtin_convertvector(sums[0] + sums[1], vf) * (scale * scales_[line]) -
                   scale * middle_[line] / LANES;
        }
        return out;
    }

private:
    int8_t codes_[R::LINES][PLACES][R::LINE];
    float scales_[R::LINES], middle_[R::LINES];
};

// This worker's share of y[N]: the scores of the listed rows with the refinement's products by
// x[0..K), those of the others plus offset.
template <int N, int K>
inline void refine_listed(float* __restrict y, const float* __restrict x, const char* refinement,
                          const float* __restrict scores, float offset,
                          const int32_t* __restrict list, int worker, int workers) {
    using R = RefinedSizes<K>;
    const RefinedInput<K> product(x);
    const Levels levels(refinement);
    auto row = [&](int64_t n) SC_ALWAYS { return refinement + R::TABLE + n * R::BYTES; };
    auto ask = [&](int64_t n) SC_ALWAYS { prefetch<R::BYTES>(row(n)); };
    auto copy = [&](int64_t n0, int64_t n1) SC_ALWAYS {
        for (int64_t n = n0; n < n1; ++n) y[n] = scores[n] + offset;
    };
    auto read = [&](const int32_t* at, int64_t count) SC_ALWAYS {
        vf sums[4];
        for (int64_t r = 0; r < 4; ++r) sums[r] = product(row(at[min(r, count - 1)]), levels);
        const quad found = hsum4(sums[0], sums[1], sums[2], sums[3]);
        for (int64_t r = 0; r < count; ++r) y[at[r]] = scores[at[r]] + found[r];
    };
    take_turns<N, 32>(list, worker, workers, ask, copy, read);
}

}  // namespace sc
