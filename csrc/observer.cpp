#include "observer.h"

#include <cstring>

#include "hash.h"

namespace ithaca {

std::uint64_t Observer::word_of(const char* name) {
  Name& known = names_[reinterpret_cast<std::uintptr_t>(name) / 8 % names_.size()];
  if (known.text != name) {
    const bool ours = std::strncmp(name, "ithaca::", 8) == 0;
    known = {name, ours ? kOurs : hash128(name, std::strlen(name), 0).low | 1};
  }
  return known.word;
}

void Observer::begin(bool detailed) {
  runs_.clear();
  stack_.clear();
  visits_.clear();
  moments_.clear();
  slot_ = -1;
  detailed_ = detailed;
  start(Phase::kForward, 0, 0);
}

void Observer::start(Phase phase, std::int64_t slot, std::int64_t module) {
  Run run{phase, slot, module, 0};
  const Key counted = run.key(static_cast<std::int64_t>(phase) + 1);
  run.visit = visits_[counted]++;
  runs_.push_back(run);
  current_ = &runs_.back();
}

void Observer::enter(std::int64_t module) {
  if (module == 0) {
    stack_.clear();  // of a call that ended in an exception
    ++slot_;
  }
  stack_.push_back(module);
  start(Phase::kForward, slot_ < 0 ? 0 : slot_, 2 * module);
}

void Observer::leave() {
  if (stack_.empty()) return;
  const std::int64_t left = stack_.back();
  stack_.pop_back();
  start(Phase::kForward, slot_ < 0 ? 0 : slot_, 2 * left + 1);
}

Key Observer::save(std::int64_t look) {
  mix(static_cast<std::uint64_t>(look) + 1);
  return current_->key(current_->saves++);
}

void Observer::use(Key key) {
  const auto slot = static_cast<std::int64_t>(key >> 54);
  const auto module = static_cast<std::int64_t>(key >> 32 & 0x3fffff);
  if (current_->phase != Phase::kBackward || current_->module != module ||
      current_->slot != slot) {
    start(Phase::kBackward, slot, module);
  }
}

void Observer::optimizer() {
  if (current_->phase != Phase::kOptimizer) start(Phase::kOptimizer, slot_ < 0 ? 0 : slot_, 0);
}

std::uint64_t Observer::hash() const {
  std::uint64_t sum = 0;
  for (const Run& run : runs_) {
    const std::uint64_t words[] = {sum, run.key(static_cast<std::int64_t>(run.phase)), run.hash,
                                   static_cast<std::uint64_t>(run.operators)};
    sum = hash128(words, sizeof words, 0).low;
  }
  return sum;
}

std::int64_t Observer::operators() const {
  std::int64_t sum = 0;
  for (const Run& run : runs_) sum += run.operators;
  return sum;
}

}  // namespace ithaca
