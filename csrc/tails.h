// A bound of induced paths by sizes alone: no search.
//
// An induced path that ends in v goes on to one of the c neighbours of v in its pool, the vertices
// that touch none of the path before v; whichever is taken, all c leave the pool. So the paths that
// go on from a pool of f vertices by at most s steps are at most
//   tails(s, f) = max over c = 1..f of c (1 + tails(s - 1, f - c)),   tails(0, f) = 0,
// about 3^(f / 3), however dense the graph is.
//
// Knows neither Python nor torch.
#pragma once

#include <cstdint>

#include "graph.h"

namespace ithaca {

inline constexpr int kPool = 64;  // the largest pool that the bound is known for

// At least the number of induced paths of 1..longest edges, each in both directions, of a graph of
// at most kPool + 1 vertices; infinity for larger ones.
double most_induced_paths(const Graph& graph, int longest);

}  // namespace ithaca
