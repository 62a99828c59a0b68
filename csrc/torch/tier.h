// Where bytes go that leave a device's memory, and how they come back.
//
// Copies are of two kinds. Some happen in the order of the device: they are only put into one of
// its streams, and whoever uses or reuses the memory makes the device wait, not the program. The
// others are done by threads, which say when they have ended.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "../disk_io.h"

namespace ithaca {

class Mark;  // a place in a stream of a device

// The copies of one storage that happen in the device's order, as far as anybody has to wait.
struct Copies {
  std::shared_ptr<Mark> out, in;
  explicit operator bool() const { return out != nullptr || in != nullptr; }
};

// Real times on a device whose work is late: stamps are put into its stream and read at the end.
class Clock {
 public:
  virtual ~Clock() = default;
  // Forgets all stamps; waits are stamped as long as it is on.
  virtual void restart(bool on) = 0;
  // The number of a stamp at this place of the stream.
  virtual std::int64_t stamp() = 0;
  // Nanoseconds between the first stamp and each; waits for the last.
  virtual std::vector<std::int64_t> read() = 0;
  // The stamps around each place at which the device waited for a copy.
  virtual std::vector<std::pair<std::int64_t, std::int64_t>> waits() const = 0;
};

// What the tests break on purpose.
enum class Mutation : std::int64_t {
  kNone,
  kEarlyReload,
  kNoVersionCheck,
  kWrongOffset,
  kUseBeforeArrival,    // of copies in the device's order: nobody waits for what comes
  kReuseBeforeLeaving,  // memory is written to while its bytes are still on their way out
  kCopyBeforeCompute,   // a copy does not wait for the operator that makes what it copies
  kWrongPages,          // what leaves in its place comes back as its neighbour in the file
  kWrongOperator,       // what one operator made is made again by another one
  kKeepAliases,         // of earlier steps: whoever looks at a storage looks at all of them
};

class Tier {
 public:
  using Done = std::function<void(int error)>;
  static inline Mutation mutation = Mutation::kNone;
  enum class Ends {
    kInOrder,  // in the device's order; `done` is not called
    kLater,    // when `done` is called, by another thread
    kRefused,  // it could not be begun; `done` is not called
  };

  virtual ~Tier() = default;

  // Room for `size` bytes; none (false) when the limit would be passed. `far`: in what lies behind,
  // if there is anything and it has room.
  virtual Extent take(std::int64_t size, bool far) = 0;
  // `copies` may still be under way.
  virtual void give_back(Extent extent, const Copies& copies) = 0;
  virtual Ends write(const char* memory, std::int64_t size, Extent extent, Copies& copies,
                     Done done) = 0;
  virtual Ends read(char* memory, std::int64_t size, Extent extent, Copies& copies, Done done) = 0;

  // Before the bytes in memory are used: they have arrived.
  virtual void before_use(const Copies&) {}
  // Before the memory is used for something else: its bytes have left, or have arrived.
  virtual void before_reuse(const Copies&) {}
  // Whether before_reuse would wait for nothing.
  virtual bool settled(const Copies&) { return true; }
  // Whether tensors that are saved now are used in the order that copies follow.
  virtual bool in_step() { return true; }

  // The bytes of an extent as memory that the device can read and write, slowly; or null. It
  // stays as long as it is held, also without the tier.
  virtual std::shared_ptr<void> map(Extent extent) = 0;
  // The same in the place of memory that stays where it is; false where that cannot be.
  virtual bool map_at(Extent, void*, std::int64_t) { return false; }

  virtual DiskIo* disk() { return nullptr; }
  virtual Clock* clock() { return nullptr; }
};

// Straight to the disk.
class DiskTier final : public Tier {
 public:
  explicit DiskTier(std::unique_ptr<DiskIo> disk) : disk_(std::move(disk)) {}

  Extent take(std::int64_t size, bool) override { return disk_->take(size); }
  void give_back(Extent extent, const Copies&) override { disk_->give_back(extent); }
  Ends write(const char* memory, std::int64_t size, Extent extent, Copies&, Done done) override {
    disk_->submit({DiskIo::Kind::kWrite, const_cast<char*>(memory), size, extent.offset,
                   std::move(done)});
    return Ends::kLater;
  }
  Ends read(char* memory, std::int64_t size, Extent extent, Copies&, Done done) override {
    disk_->submit({DiskIo::Kind::kRead, memory, size, extent.offset, std::move(done)});
    return Ends::kLater;
  }
  std::shared_ptr<void> map(Extent extent) override {
    void* memory = disk_->map(extent);
    if (memory == nullptr) return nullptr;
    return {memory, [size = extent.size](void* mapped) { DiskIo::unmap(mapped, size); }};
  }
  bool map_at(Extent extent, void* memory, std::int64_t size) override {
    if (mutation == Mutation::kWrongPages && extent.offset > 0) extent.offset -= DiskIo::kBlock;
    return disk_->map_at(extent, memory, size);
  }
  DiskIo* disk() override { return disk_.get(); }

 private:
  std::unique_ptr<DiskIo> disk_;
};

}  // namespace ithaca
