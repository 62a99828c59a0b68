// The three streams that a memory session uses on a device, and the order between them: compute,
// which is the program's own, and one for copies each way.
//
// Nothing here makes the program wait but `synchronize`.
#pragma once

#include <c10/core/Stream.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine.h"
#include "tier.h"

namespace ithaca {

enum class Lane { kCompute, kOut, kIn };

// A place in a stream: reached when all that was put in before it has been done.
class Mark {
 public:
  Mark(std::shared_ptr<Engine> engine, const c10::Stream& stream, bool timed);
  ~Mark();
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  bool reached() const;
  void* event() const { return event_; }

 private:
  const std::shared_ptr<Engine> engine_;
  const c10::DeviceIndex device_;
  void* event_ = nullptr;
};
using MarkPtr = std::shared_ptr<Mark>;

class Streams {
 public:
  // Compute is the stream that is current for this thread now.
  explicit Streams(std::shared_ptr<Engine> engine);

  MarkPtr mark(Lane lane, bool timed = false) const;
  // What is put into `lane` from here on waits for the mark. Null: for nothing.
  void wait(Lane lane, const MarkPtr& mark) const;
  // The same for the stream that is current for this thread.
  void wait_here(const MarkPtr& mark) const;
  // Waits for everything.
  void synchronize() const;
  void synchronize(const MarkPtr& mark) const;
  void copy(Lane lane, void* to, const void* from, std::int64_t size) const;
  // Nanoseconds from one to the other; both are timed and reached.
  std::int64_t between(const MarkPtr& first, const MarkPtr& second) const;
  // Whether the current stream of this thread is compute.
  bool on_compute() const;
  Engine& engine() const { return *engine_; }

 private:
  const c10::Stream& stream(Lane lane) const;

  const std::shared_ptr<Engine> engine_;
  const c10::Stream compute_, out_, in_;
};

// Real times of the compute stream.
class StreamClock final : public Clock {
 public:
  explicit StreamClock(const Streams& streams) : streams_(streams) {}

  void restart(bool on) override;
  bool on() const { return on_; }
  std::int64_t stamp() override;
  std::vector<std::int64_t> read() override;
  std::vector<std::pair<std::int64_t, std::int64_t>> waits() const override { return waits_; }
  // Makes compute wait, with a stamp before and behind while the clock is on.
  void wait(const MarkPtr& mark);

 private:
  const Streams& streams_;
  std::vector<MarkPtr> stamps_;
  std::vector<std::pair<std::int64_t, std::int64_t>> waits_;
  std::atomic<bool> on_{false};
};

}  // namespace ithaca
