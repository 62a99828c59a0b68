// Chordless cycles and induced paths of many graphs, as lists of vertices and as counts per pair.
//
// Knows neither Python nor torch. Everything is a pure function of its arguments, whatever the
// number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "graph.h"

namespace ithaca {

// How long the longest structures of a graph are that are looked for.
struct Reach {
  std::int32_t path;
  std::int32_t cycle;
  friend bool operator==(const Reach&, const Reach&) = default;
};

// The longest lengths, at most those of `wanted`, at which the searches stay within `budget`: the
// number of induced paths (each in both directions), and that of the induced paths a search for
// cycles from every vertex follows. Both numbers depend on the graph alone, not on its labels, so
// isomorphic graphs have the same reach. 0 where nothing fits; a budget of 0 is none.
Reach reach(const Graph& graph, Reach wanted, std::int64_t budget);

// Vertices of cells, behind each other; those of cell i begin at first[i]. Numbered through the
// batch. The cells of graph g begin at cell owner[g].
struct Cells {
  std::vector<std::int64_t> first{0}, owner{0};
  std::vector<std::int32_t> vertex;
  std::vector<std::int32_t> reach;  // [graphs]
};

// Every chordless cycle of 3..longest vertices once, in order around the cycle from its smallest.
Cells chordless_cycles(const GraphBatch& graphs, int longest, std::int64_t budget, int threads);
// Every induced path of 1..longest edges once, from its smaller end.
Cells induced_paths(const GraphBatch& graphs, int longest, std::int64_t budget, int threads);

// What is counted for an ordered pair (v, u) of vertices of one graph; a row of the table:
//   distance, at most hops; hops + 1 if it is longer
//   paths[l]      l = 1..path: induced paths from v to u with l edges
//   cycles[l][d]  l = 3..cycle, d = 0..l/2: chordless cycles of length l through both, d steps
//                 apart along the cycle
//   beside[t], before[t]  for each type of edge: neighbours w of u as far from v as u is, and one
//                 step nearer; 0 beyond hops
struct ProfileShape {
  std::int32_t path, cycle, hops, edge_types;

  std::int32_t paths() const { return 1; }
  std::int32_t cycles() const { return 1 + path; }
  std::int32_t cycle_column(int length, int apart) const;
  std::int32_t beside() const { return cycle_column(cycle + 1, 0); }
  std::int32_t before() const { return beside() + edge_types; }
  std::int32_t columns() const { return before() + edge_types; }
};

// The pairs with anything to count or within `hops`, sorted by v, then u. Those of v begin at
// first[v]; `row` is the pair's row of `table`, which holds each distinct row once, ascending.
struct Profiles {
  ProfileShape shape;
  std::vector<std::int64_t> first{0};
  std::vector<std::int32_t> other, row, table;
  std::vector<Reach> reach;  // [graphs]
};

Profiles chordless_profiles(const GraphBatch& graphs, ProfileShape shape, std::int64_t budget,
                            int threads);

}  // namespace ithaca
