#include "tails.h"

#include <algorithm>
#include <array>
#include <limits>

#include "chordless_search.h"

namespace ithaca {

namespace {

using Tails = std::array<std::array<double, kPool + 1>, kLongest + 1>;  // [steps][pool]

Tails all_tails() {
  Tails most{};
  for (std::size_t steps = 1; steps < most.size(); ++steps) {
    for (std::size_t pool = 1; pool <= kPool; ++pool) {
      for (std::size_t taken = 1; taken <= pool; ++taken) {
        const double then = 1.0 + most[steps - 1][pool - taken];
        most[steps][pool] = std::max(most[steps][pool], static_cast<double>(taken) * then);
      }
    }
  }
  return most;
}

}  // namespace

double most_induced_paths(const Graph& graph, int longest) {
  if (graph.size > kPool + 1) return std::numeric_limits<double>::infinity();
  if (longest < 1) return 0.0;
  static const Tails most = all_tails();
  const auto steps = static_cast<std::size_t>(longest - 1);
  double total = 0.0;
  for (std::int32_t v = 0; v < graph.size; ++v) {
    const auto around = static_cast<std::size_t>(graph.degree(v));
    const auto pool = static_cast<std::size_t>(graph.size - 1) - around;
    total += static_cast<double>(around) * (1.0 + most[steps][pool]);
  }
  return total;
}

}  // namespace ithaca
