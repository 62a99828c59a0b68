// The tier of a device: pinned host memory, in the device's own order, and behind it a disk.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../slab.h"
#include "hop.h"
#include "streams.h"
#include "tier.h"

namespace ithaca {

class PinnedTier final : public Tier {
 public:
  // At most `limit` bytes of host memory; `disk` may be null.
  PinnedTier(std::shared_ptr<Engine> engine, std::int64_t limit, std::unique_ptr<DiskIo> disk);
  ~PinnedTier() override;

  Extent take(std::int64_t size, bool far) override;
  void give_back(Extent extent, const Copies& copies) override;
  Ends write(const char* memory, std::int64_t size, Extent extent, Copies& copies,
             Done done) override;
  Ends read(char* memory, std::int64_t size, Extent extent, Copies& copies, Done done) override;
  void before_use(const Copies& copies) override;
  void before_reuse(const Copies& copies) override;
  bool settled(const Copies& copies) override;
  bool in_step() override { return streams_.on_compute(); }
  std::shared_ptr<void> map(Extent extent) override;

  DiskIo* disk() override { return hop_ ? &hop_->disk() : nullptr; }
  Clock* clock() override { return &clock_; }
  const Slab& slab() const { return slab_; }

  // Of the copies of steps that were timed: bytes, and nanoseconds that they took.
  struct Moved {
    std::int64_t bytes = 0, ns = 0;
  };
  Moved moved(bool out);

 private:
  struct Timed {
    bool out;
    std::int64_t bytes;
    MarkPtr begin, end;
  };
  void copy(Lane lane, void* to, const void* from, std::int64_t size);
  static bool on_disk(Extent extent) { return extent.offset >= kDisk; }
  // Extents from here on are on the disk.
  static constexpr std::int64_t kDisk = std::int64_t{1} << 60;

  const Streams streams_;
  StreamClock clock_;
  std::vector<std::shared_ptr<char>> regions_;
  Slab slab_;
  std::unique_ptr<DiskHop> hop_;
  std::mutex mutex_;  // of what follows
  std::vector<Timed> timed_;
  std::array<Moved, 2> moved_;
};

}  // namespace ithaca
