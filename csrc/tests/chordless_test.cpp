// Runs the searches by themselves, for the sanitizers: against a test of every subset of vertices
// of small random graphs, and on a graph too large for sets of bits.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "chordless.h"
#include "chordless_search.h"
#include "segments.h"
#include "tails.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "chordless_test: %s\n", what);
    ++failures;
  }
}

struct Edges {
  std::int64_t size = 0;
  std::vector<std::int64_t> from, to;
  ithaca::GraphBatch batch() const {
    const std::int64_t starts[] = {0, size};
    return {starts, 1, from.data(), to.data(), nullptr, static_cast<std::int64_t>(from.size())};
  }
};

Edges random_graph(int size, unsigned seed) {
  Edges edges;
  edges.size = size;
  for (int u = 0; u < size; ++u) {
    for (int v = u + 1; v < size; ++v) {
      seed = seed * 1664525u + 1013904223u;
      if ((seed >> 16) % 100 < 40) {
        edges.from.push_back(u);
        edges.to.push_back(v);
      }
    }
  }
  return edges;
}

// Chordless cycles by length: subsets that hang together, and in which each has two neighbours.
std::vector<int> by_subsets(const ithaca::Graph& graph) {
  std::vector<int> counts(static_cast<std::size_t>(graph.size) + 1);
  for (unsigned subset = 0; subset < 1u << graph.size; ++subset) {
    bool two = true;
    for (int v = 0; v < graph.size; ++v) {
      int inside = 0;
      for (const auto* w = graph.begin(v); w != graph.end(v); ++w) inside += subset >> *w & 1;
      if ((subset >> v & 1) && inside != 2) two = false;
    }
    if (!two || subset == 0) continue;
    unsigned reached = subset & -subset;
    for (int round = 0; round < graph.size; ++round) {
      for (int v = 0; v < graph.size; ++v) {
        if (!(reached >> v & 1)) continue;
        for (const auto* w = graph.begin(v); w != graph.end(v); ++w) reached |= 1u << *w & subset;
      }
    }
    if (reached == subset) ++counts[static_cast<std::size_t>(__builtin_popcount(subset))];
  }
  return counts;
}

void check_small() {
  for (unsigned seed = 1; seed < 60; ++seed) {
    const Edges edges = random_graph(4 + static_cast<int>(seed % 7), seed);
    const ithaca::GraphBatch batch = edges.batch();
    const ithaca::Graph graph = batch.graph(0);
    std::vector<int> bits(static_cast<std::size_t>(graph.size) + 1), lists = bits;
    ithaca::BitSearch<1>(graph).cycles(graph.size, [&](const std::int32_t*, int length) {
      ++bits[static_cast<std::size_t>(length)];
    });
    ithaca::ListSearch(graph).cycles(graph.size, [&](const std::int32_t*, int length) {
      ++lists[static_cast<std::size_t>(length)];
    });
    expect(bits == by_subsets(graph), "cycles found with bits differ from those of all subsets");
    expect(lists == bits, "cycles found with lists differ");
    expect(ithaca::BitSearch<2>(graph).count_paths(5, 1 << 20) ==
               ithaca::ListSearch(graph).count_paths(5, 1 << 20),
           "bits and lists count different paths");
    expect(ithaca::BitSearch<1>(graph).count_prefixes(7, 1 << 20) ==
               ithaca::ListSearch(graph).count_prefixes(7, 1 << 20),
           "bits and lists count different prefixes");
    for (int longest = 0; longest < 9; ++longest) {
      const std::int64_t all = ithaca::BitSearch<1>(graph).count_paths(longest, 1 << 20);
      expect(static_cast<double>(all) <= ithaca::most_induced_paths(graph, longest),
             "there are more induced paths than the bound by sizes");
    }
    const ithaca::Profiles one = ithaca::chordless_profiles(batch, {3, 6, 4, 1}, 0, 1);
    expect(one.first.back() == static_cast<std::int64_t>(one.other.size()), "pairs were lost");
  }
}

void check_large() {
  Edges ring;
  ring.size = 5000;
  for (std::int64_t v = 0; v < ring.size; ++v) {
    ring.from.push_back(v);
    ring.to.push_back((v + 1) % ring.size);
    if (v % 10 == 0) {
      ring.from.push_back(v);
      ring.to.push_back((v + 5) % ring.size);
    }
  }
  const ithaca::GraphBatch batch = ring.batch();
  const ithaca::Cells cells = ithaca::chordless_cycles(batch, 8, 1 << 20, 2);
  expect(cells.first.size() == 501, "a ring with 500 chords has 500 cycles of length 6");
  const ithaca::Profiles one = ithaca::chordless_profiles(batch, {4, 8, 4, 1}, 1 << 20, 1);
  const ithaca::Profiles two = ithaca::chordless_profiles(batch, {4, 8, 4, 1}, 1 << 20, 2);
  expect(one.table == two.table && one.row == two.row, "threads change the profile");
}

void check_sums() {
  // Segments of two, none and one member; a table of two rows, three values, two columns.
  const std::int64_t first[] = {0, 2, 2, 3};
  const std::int32_t other[] = {0, 2, 1}, row[] = {1, 0, 1};
  const double table[] = {1, 2, 3, 4}, values[] = {5, 6, 7, 8, 9, 10}, grad[] = {1, 1, 9, 9, 2, 2};
  const ithaca::Members members{first, 3, other, row};
  std::vector<double> sums(6), rows(4);
  ithaca::sum_segments(members, table, values, 2, sums.data());
  ithaca::sum_rows(members, grad, values, 2, rows.data());
  expect(sums == std::vector<double>{24, 44, 0, 0, 21, 32}, "a sum over a segment is wrong");
  expect(rows == std::vector<double>{9, 10, 19, 22}, "a sum over a row is wrong");
}

void check_refusals() {
  const std::int64_t starts[] = {0, 2, 4};
  const std::vector<std::vector<std::int64_t>> bad = {{0, 0}, {0, 2}, {0, 4}};
  for (const auto& edge : bad) {
    bool refused = false;
    try {
      ithaca::GraphBatch(starts, 2, &edge[0], &edge[1], nullptr, 1);
    } catch (const ithaca::GraphError&) {
      refused = true;
    }
    expect(refused, "a bad edge was accepted");
  }
}

}  // namespace

int main() {
  check_small();
  check_large();
  check_sums();
  check_refusals();
  if (failures == 0) std::puts("chordless_test: ok");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
