// What moves bytes between a device and the host: torch's own interface for streams and events,
// which every backend implements, and copies. Built without the headers of any backend.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdint>
#include <memory>

namespace ithaca {

class Engine {
 public:
  using Guard = c10::impl::DeviceGuardImplInterface;
  virtual ~Engine() = default;

  virtual c10::Device device() const = 0;
  // Streams and events.
  virtual const Guard& guard() const = 0;
  // Puts a copy between the device and memory of `host_memory` into a stream; throws c10::Error if
  // that cannot be done. `out`: to the host.
  virtual void copy(const c10::Stream& stream, void* to, const void* from, std::int64_t size,
                    bool out) = 0;
  // Host memory that copies run from and to at full speed, and that the device can use by the same
  // address, slowly; null if there is none. From a page on.
  virtual std::shared_ptr<char> host_memory(std::int64_t size) = 0;
};

// A device that torch drives: CUDA, or any other with streams.
class Accelerator final : public Engine {
 public:
  explicit Accelerator(c10::Device device);

  c10::Device device() const override { return device_; }
  const Guard& guard() const override { return guard_; }
  void copy(const c10::Stream& stream, void* to, const void* from, std::int64_t size,
            bool out) override;
  std::shared_ptr<char> host_memory(std::int64_t size) override;

 private:
  const c10::Device device_;
  const Guard& guard_;
};

}  // namespace ithaca
