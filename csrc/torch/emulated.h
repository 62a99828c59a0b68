// A device that is not there, for tests on a machine without one: its memory is the host's, its
// compute stream is the program itself, and its other streams are threads that copy.
//
// Late, uneven, slow and failing copies happen on purpose. It also tells what a real device would
// not: a copy that was put into a stream without an order to what was computed before.
#pragma once

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "engine.h"

namespace ithaca {

class Emulated final : public Engine, private c10::impl::DeviceGuardImplInterface {
 public:
  Emulated();
  ~Emulated() override;
  Emulated(const Emulated&) = delete;
  Emulated& operator=(const Emulated&) = delete;

  c10::Device device() const override { return c10::Device(c10::kCPU); }
  const Guard& guard() const override { return *this; }
  void copy(const c10::Stream& stream, void* to, const void* from, std::int64_t size,
            bool out) override;
  std::shared_ptr<char> host_memory(std::int64_t size) override;

  // What goes wrong. All zero: nothing.
  std::atomic<std::int64_t> delay_us{0};    // before every copy
  std::atomic<std::int64_t> uneven{0};      // not zero: delays are drawn, from nothing to double
  std::atomic<std::int64_t> failures{0};    // so many copies cannot be begun; below 0: none can
  std::atomic<std::int64_t> no_memory{0};   // not zero: the host has no more to pin
  // Bytes a second, out and in; 0 is no limit.
  std::array<std::atomic<std::int64_t>, 2> speed{};

  // Copies that do not come behind everything that was computed before they were asked for.
  std::int64_t unordered() const { return unordered_; }
  std::int64_t copies() const { return copies_; }

 private:
  struct Event;
  struct Work;
  struct Stream;

  c10::DeviceType type() const override { return c10::kCPU; }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override;
  c10::Stream getNewStream(c10::Device, int priority) const override;
  c10::Stream exchangeStream(c10::Stream) const override { return getStream(device()); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex index,
              c10::EventFlag flag) const override;
  void block(void* event, const c10::Stream& stream) const override;
  bool queryEvent(void* event) const override;
  void synchronizeEvent(void* event) const override;
  void destroyEvent(void* event, c10::DeviceIndex index) const noexcept override;
  double elapsedTime(void* first, void* second, c10::DeviceIndex index) const override;

  void serve(Stream& stream) const;
  void transfer(const Work& work) const;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable std::vector<std::unique_ptr<Stream>> streams_;  // 0 would be compute
  mutable std::mt19937_64 drawn_;
  mutable std::array<std::int64_t, 2> due_ns_{};
  mutable std::atomic<std::int64_t> unordered_{0}, copies_{0};
  mutable std::int64_t computed_ = 1;  // grows as the program goes on
};

}  // namespace ithaca
