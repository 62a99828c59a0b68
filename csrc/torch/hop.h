// The second hop: from a device to the disk and back, through a few pieces of pinned memory, by a
// thread of its own. Whoever waits for it waits for the thread, not in the device's order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../disk_io.h"
#include "streams.h"
#include "tier.h"

namespace ithaca {

class DiskHop {
 public:
  DiskHop(const Streams& streams, std::unique_ptr<DiskIo> disk);
  // Ends after the requests that are waiting have been served.
  ~DiskHop();
  DiskHop(const DiskHop&) = delete;
  DiskHop& operator=(const DiskHop&) = delete;

  void submit(DiskIo::Request request);
  DiskIo& disk() { return *disk_; }

 private:
  struct Slot;
  static constexpr std::int64_t kPiece = 4 << 20;
  static constexpr int kSlots = 4;

  void serve();
  int write(const DiskIo::Request& request);
  int read(const DiskIo::Request& request);
  void begin(Slot& slot, DiskIo::Kind kind, std::int64_t size, std::int64_t offset);
  int wait(Slot& slot);
  int wait_all();

  const Streams& streams_;
  const std::unique_ptr<DiskIo> disk_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<DiskIo::Request> reads_, writes_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ithaca
