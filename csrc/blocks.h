// Work on many items in blocks, on several threads, with the results in the order of the items.
//
// Knows neither Python nor torch.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace ithaca {

struct Block {
  std::int64_t begin, end;
};

// work(block) for blocks that cover 0..count, at least one; what it returns, in order. The first
// exception of a thread is thrown here, after all have ended.
template <class Result, class Work>
std::vector<Result> in_blocks(std::int64_t count, int threads, Work&& work) {
  const std::int64_t size =
      threads <= 1 ? std::max<std::int64_t>(count, 1)
                   : std::clamp<std::int64_t>(count / (8 * threads), 1, 4096);
  const std::int64_t blocks = std::max<std::int64_t>((count + size - 1) / size, 1);
  std::vector<Result> results(static_cast<std::size_t>(blocks));
  if (blocks == 1) {
    results[0] = work(Block{0, count});
    return results;
  }
  std::atomic<std::int64_t> next{0};
  std::mutex guard;
  std::exception_ptr failure;
  auto run = [&] {
    for (std::int64_t b = next++; b < blocks; b = next++) {
      try {
        results[static_cast<std::size_t>(b)] =
            work(Block{b * size, std::min(count, (b + 1) * size)});
      } catch (...) {
        const std::lock_guard<std::mutex> held(guard);
        if (!failure) failure = std::current_exception();
        next = blocks;
      }
    }
  };
  std::vector<std::thread> crew;
  for (int t = 1; t < threads; ++t) crew.emplace_back(run);
  run();
  for (std::thread& one : crew) one.join();
  if (failure) std::rethrow_exception(failure);
  return results;
}

}  // namespace ithaca
