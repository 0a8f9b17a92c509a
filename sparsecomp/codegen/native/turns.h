// Workers' turns at a list of rows, and with each listed row all those up to the next.
#pragma once
#include "simd.h"

namespace sc {

// This worker's share of N rows: its turns of the list, and what lies from the first entry of a turn
// to that of the next. Frequent tokens come first in most vocabularies: half of a list may lie in a
// tenth of one, so workers take turns at it.
//   ask(n)         asks for row n, in bursts, AHEAD rows before it is needed
//   pass(n0, n1)   for rows n0..n1, of which only n0 may be listed
//   read(at, n)    for the n <= 4 listed rows at[0..n), after they were passed
// Asked for one by one, between products, rows of a head took a tenth longer.
template <int N, int AHEAD, class Ask, class Pass, class Read>
SC_INLINE void take_turns(const int32_t* __restrict list, int worker, int workers, Ask ask,
                          Pass pass, Read read) {
    constexpr int64_t TURN = 32, BURST = 4;  // rows
    static_assert(AHEAD % BURST == 0);
    const int64_t all = list[0];
    const int32_t* const at = list + 1;
    // Where in the list the j-th row of this worker is.
    auto entry = [&](int64_t j) SC_ALWAYS {
        return (j / TURN * workers + worker) * TURN + j % TURN;
    };
    auto burst = [&](int64_t j) SC_ALWAYS {
        for (int64_t i = entry(j), end = min(i + BURST, all); i < end; ++i) ask(at[i]);
    };
    if (worker == 0) pass(0, all > 0 ? at[0] : N);
    for (int64_t j = 0; j < AHEAD; j += BURST) burst(j);
    for (int64_t j = 0, i; (i = entry(j)) < all; j += BURST) {
        const int64_t end = min(i + BURST, all);
        burst(j + AHEAD);
        pass(at[i], end < all ? at[end] : N);
        read(at + i, end - i);
    }
}

}  // namespace sc
