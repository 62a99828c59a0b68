#include "outlook.h"

#include <algorithm>
#include <utility>

namespace ithaca {

void Outlook::begin() {
  seen_.clear();
  uses_ = 0;
}

void Outlook::use(const void* plan, std::int64_t bytes) {
  if (uses_++ == 0) plan_ = plan;
  seen_.push_back(bytes);
}

void Outlook::end(std::int64_t bytes) {
  if (seen_.empty()) return;
  // What was there up to a use is needed by nobody behind it.
  for (std::size_t i = seen_.size(); i-- > 0;) {
    const std::int64_t before = std::exchange(seen_[i], bytes);
    bytes = std::max(bytes, before);
  }
  if (known_.size() == kMost && known_.count(plan_) == 0) known_.clear();
  known_[plan_] = seen_;
  begin();
}

std::int64_t Outlook::needed() const {
  const auto found = known_.find(plan_);
  if (uses_ == 0 || found == known_.end() || uses_ > found->second.size()) return kUnknown;
  return found->second[uses_ - 1];
}

}  // namespace ithaca
