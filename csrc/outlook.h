// What a step still needs at most, from each use of a saved tensor on, as the last step under the
// same plan did.
//
// Knows neither Python nor torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

namespace ithaca {

class Outlook {
 public:
  static constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::max();

  // A step begins.
  void begin();
  // The next use of a saved tensor, under `plan`; at most `bytes` were there since the one before.
  void use(const void* plan, std::int64_t bytes);
  // All uses were: at most `bytes` were there since the last one. Remembers the step.
  void end(std::int64_t bytes);
  // Bytes that will be there at most until all uses were; kUnknown if no such step was seen.
  std::int64_t needed() const;

 private:
  static constexpr std::size_t kMost = 256;  // plans

  std::map<const void*, std::vector<std::int64_t>> known_;
  std::vector<std::int64_t> seen_;
  const void* plan_ = nullptr;
  std::size_t uses_ = 0;
};

}  // namespace ithaca
