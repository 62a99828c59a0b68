// Large blocks that a running backward has allocated and that no saved tensor explains: gradients
// on their way through the graph. When nothing else is left to move they leave, too: in their
// place, since an operator may have read their address already. Their pages become those of a
// file, which is slow and never wrong.
//
// Only the thread that runs the backward lends them, in the middle of an allocation of its own and
// not while it shares an operator with others; so nobody writes to them meanwhile. What outlives
// its backward is not lent any more: somebody else may be writing to it then.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "tier.h"

namespace ithaca {

class LooseBlocks {
 public:
  // Notes a block, if a backward runs in this thread. Its number; 0 if it does not count as one.
  std::uint64_t add(void* data, std::int64_t size);
  // Before the block is freed. False: its pages could not be made its own, so it must not be.
  bool remove(std::uint64_t number);

  // Lends blocks, the oldest first, but for those at `others`, until `missing` bytes have left.
  // Calls `lent` with the address of each and its bytes. Returns their sum.
  std::int64_t lend(Tier& tier, std::int64_t missing, const std::unordered_set<void*>& others,
                    const std::function<void(void*, std::int64_t)>& lent);
  // Before the tier ends: the bytes are in memory again. Calls `back` with the address of each.
  void take_back(const std::function<void(void*)>& back);

 private:
  struct Block {
    std::int64_t pages() const { return size / DiskIo::kBlock * DiskIo::kBlock; }
    bool lend(Tier& to);
    bool take_back();

    char* data;
    std::int64_t size;
    int task;
    std::thread::id thread;
    Tier* tier = nullptr;  // of the extent
    Extent extent;
    bool lent = false, leaving = false, refused = false;
  };

  std::mutex mutex_;
  std::condition_variable settled_;
  std::map<std::uint64_t, Block> blocks_;
  std::uint64_t next_ = 1;
};

}  // namespace ithaca
