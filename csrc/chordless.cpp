#include "chordless.h"

#include <algorithm>
#include <utility>

#include "blocks.h"
#include "chordless_search.h"
#include "tails.h"

namespace ithaca {

namespace {

// Whether even a tree in which everybody has as many neighbours as the vertex with the most has no
// more walks than `budget` that never turn back at once.
bool degrees_fit(const Graph& graph, int longest, std::int64_t budget) {
  std::int64_t most = 0;
  for (std::int32_t v = 0; v < graph.size; ++v) most = std::max(most, graph.degree(v));
  double walks = static_cast<double>(graph.size) * static_cast<double>(most), total = walks;
  for (int length = 2; length <= longest && total <= static_cast<double>(budget); ++length) {
    walks *= static_cast<double>(most - 1);
    total += walks;
  }
  return total <= static_cast<double>(budget);
}

// Whether a bound of the induced paths with at most `longest` edges that needs no search is within
// the budget: that of tails.h, or walks that never turn back at once, counted by their last edge.
bool walks_fit(const Graph& graph, int longest, std::int64_t budget) {
  if (degrees_fit(graph, longest, budget)) return true;
  if (most_induced_paths(graph, longest) <= static_cast<double>(budget)) return true;
  const std::int64_t base = graph.size == 0 ? 0 : graph.first[0];
  const auto edges = static_cast<std::size_t>(graph.size == 0 ? 0 : graph.first[graph.size] - base);
  // ends[v]: walks of the present length that end in v; last[e]: those that end with edge e.
  std::vector<double> last(edges, 1.0), then(edges), ends(static_cast<std::size_t>(graph.size));
  auto total = static_cast<double>(edges);
  for (int length = 2; length <= longest; ++length) {
    std::fill(ends.begin(), ends.end(), 0.0);
    // Edge e = (v, w) at w's place in v's list stands for the walk v -> w.
    for (std::int32_t v = 0; v < graph.size; ++v) {
      for (std::int64_t e = graph.first[v]; e < graph.first[v + 1]; ++e) {
        const std::int32_t w = graph.neighbour[e];
        ends[static_cast<std::size_t>(w)] += last[static_cast<std::size_t>(e - base)];
      }
    }
    double grown = 0;
    for (std::int32_t v = 0; v < graph.size; ++v) {
      for (std::int64_t e = graph.first[v]; e < graph.first[v + 1]; ++e) {
        const std::int32_t w = graph.neighbour[e];
        const auto back = static_cast<std::size_t>(
            std::lower_bound(graph.begin(w), graph.end(w), v) - graph.neighbour - base);
        then[static_cast<std::size_t>(e - base)] = ends[static_cast<std::size_t>(v)] - last[back];
        grown += then[static_cast<std::size_t>(e - base)];
      }
    }
    last.swap(then);
    total += grown;
    if (total > static_cast<double>(budget)) return false;
  }
  return total <= static_cast<double>(budget);
}

// The longest length up to `wanted` whose count, which grows with it, is at most `budget`.
template <class Count>
std::int32_t longest_within(std::int32_t shortest, std::int32_t wanted, std::int64_t budget,
                            Count&& count) {
  if (wanted < shortest) return 0;
  if (count(wanted) <= budget) return wanted;
  std::int32_t fits = 0;
  for (std::int32_t length = shortest; length < wanted && count(length) <= budget; ++length) {
    fits = length;
  }
  return fits;
}

std::int32_t cycle_reach(const Graph& graph, std::int32_t wanted, std::int64_t budget) {
  if (budget == 0 || (wanted >= 3 && walks_fit(graph, wanted - 2, budget))) {
    return wanted < 3 ? 0 : wanted;
  }
  std::int32_t fits = 0;
  search(graph, [&](auto&& found) {
    fits = longest_within(3, wanted, budget,
                          [&](int length) { return found.count_prefixes(length, budget); });
  });
  return fits;
}

std::int32_t path_reach(const Graph& graph, std::int32_t wanted, std::int64_t budget) {
  if (budget == 0 || (wanted >= 1 && walks_fit(graph, wanted, budget))) return wanted;
  std::int32_t fits = 0;
  search(graph, [&](auto&& found) {
    fits = longest_within(1, wanted, budget,
                          [&](int length) { return found.count_paths(length, budget); });
  });
  return fits;
}

void append(Cells& cells, const std::int32_t* path, std::size_t length, std::int32_t start) {
  const std::size_t at = cells.vertex.size();
  cells.vertex.resize(at + length);
  for (std::size_t i = 0; i < length; ++i) cells.vertex[at + i] = path[i] + start;
  cells.first.push_back(static_cast<std::int64_t>(at + length));
}

// Finds the cells of blocks of graphs, many at a time, and puts them behind each other in order.
template <class Find>
Cells gathered(const GraphBatch& graphs, int threads, Find&& find) {
  std::vector<Cells> parts = in_blocks<Cells>(graphs.count(), threads, [&](Block block) {
    Cells cells;
    for (std::int64_t g = block.begin; g < block.end; ++g) {
      find(graphs.graph(g), static_cast<std::int32_t>(graphs.start(g)), cells);
      cells.owner.push_back(static_cast<std::int64_t>(cells.first.size()) - 1);
    }
    return cells;
  });
  if (parts.size() == 1) return std::move(parts[0]);
  Cells all;
  for (const Cells& part : parts) {
    const auto vertices = static_cast<std::int64_t>(all.vertex.size());
    const auto cells = static_cast<std::int64_t>(all.first.size()) - 1;
    all.vertex.insert(all.vertex.end(), part.vertex.begin(), part.vertex.end());
    all.reach.insert(all.reach.end(), part.reach.begin(), part.reach.end());
    for (std::size_t i = 1; i < part.first.size(); ++i) {
      all.first.push_back(part.first[i] + vertices);
    }
    for (std::size_t i = 1; i < part.owner.size(); ++i) all.owner.push_back(part.owner[i] + cells);
  }
  return all;
}

}  // namespace

Reach reach(const Graph& graph, Reach wanted, std::int64_t budget) {
  return {path_reach(graph, wanted.path, budget), cycle_reach(graph, wanted.cycle, budget)};
}

Cells chordless_cycles(const GraphBatch& graphs, int longest, std::int64_t budget, int threads) {
  return gathered(graphs, threads, [=](const Graph& graph, std::int32_t start, Cells& cells) {
    const std::int32_t fits = cycle_reach(graph, longest, budget);
    cells.reach.push_back(fits);
    if (fits < 3) return;
    search(graph, [&](auto&& found) {
      found.cycles(fits, [&](const std::int32_t* path, int length) {
        append(cells, path, static_cast<std::size_t>(length), start);
      });
    });
  });
}

Cells induced_paths(const GraphBatch& graphs, int longest, std::int64_t budget, int threads) {
  return gathered(graphs, threads, [=](const Graph& graph, std::int32_t start, Cells& cells) {
    const std::int32_t fits = path_reach(graph, longest, budget);
    cells.reach.push_back(fits);
    search(graph, [&](auto&& found) {
      for (std::int32_t v = 0; v < graph.size; ++v) {
        found.paths(v, fits, [&](const std::int32_t* path, int length) {
          if (v < path[length]) append(cells, path, static_cast<std::size_t>(length) + 1, start);
        });
      }
    });
  });
}

}  // namespace ithaca
