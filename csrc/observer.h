// Follows a step: which segment runs (phase, module, micro-batch slot, visit), a rolling hash of
// what ran in it, and the number of every save. Detailed, it also keeps a log with times and bytes.
//
// Knows neither Python nor torch. One step runs in one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace ithaca {

enum class Phase : std::int64_t { kForward, kBackward, kOptimizer };

// A saved tensor or a place: slot | segment | visit | ordinal, from the highest bits down.
using Key = std::uint64_t;

// The name of what is saved while the observer is quiet.
constexpr Key kUnnamed = ~Key{0};

// One run of a segment. `module` is twice a module's number, or one more for what its parent does
// after it: so a module that does not run renames nothing outside of itself.
struct Run {
  Phase phase;
  std::int64_t slot, module, visit;
  std::int64_t operators = 0, saves = 0;
  std::uint64_t hash = 0;

  Key key(std::int64_t ordinal = 0) const {
    return static_cast<Key>(slot & 0x1ff) << 54 | static_cast<Key>(module & 0x3fffff) << 32 |
           static_cast<Key>(visit & 0xfff) << 20 | static_cast<Key>(ordinal & 0xfffff);
  }
};

enum class What : std::int64_t {
  kRun, kSave, kAlias, kUse, kReleased, kFreed, kEnd, kReplay, kReplayed, kNoted, kCheap
};

// The state at one moment of a detailed step. Bytes; nanoseconds since the step began.
struct Moment {
  What what;
  std::int64_t run;  // index
  Key key;           // of the saved tensor
  Key other;         // of the storage's first save, for an alias; bytes of the storage, for a save
  std::int64_t look;  // dtype, rank, bucket
  std::int64_t ns, waited_ns, allocated, peak, managed, operators;
  std::int64_t net_freed;  // given up for the budget, less what was read back, so far
};

class Observer {
 public:
  // A new step; the next root call has slot 0.
  void begin(bool detailed);
  void op(const char* name) {
    const std::uint64_t word = word_of(name);
    if (word == kOurs) return;
    mix(word);
    ++current_->operators;
  }
  void enter(std::int64_t module);
  void leave();
  // The next save in the current segment; `look` is mixed into its hash.
  Key save(std::int64_t look);
  // Backward reads what was saved under `key`.
  void use(Key key);
  void optimizer();
  // While quiet, operators are not counted: copies and replays of our own.
  void quiet(bool on) { quiet_ += on ? 1 : -1; }
  bool is_quiet() const { return quiet_ > 0; }

  void detail() { detailed_ = true; }
  bool detailed() const { return detailed_; }
  void log(Moment moment) {
    moment.run = static_cast<std::int64_t>(runs_.size()) - 1;
    moments_.push_back(moment);
  }
  const std::vector<Run>& runs() const { return runs_; }
  const std::vector<Moment>& moments() const { return moments_; }
  std::vector<Moment>& moments() { return moments_; }
  const Run& current() const { return *current_; }
  // Of everything since `begin`.
  std::uint64_t hash() const;
  std::int64_t operators() const;
  std::int64_t runs_begun() const { return static_cast<std::int64_t>(runs_.size()); }

 private:
  static constexpr std::uint64_t kOurs = 0;  // operators of this library

  void start(Phase phase, std::int64_t slot, std::int64_t module);
  void mix(std::uint64_t word) {
    current_->hash = (current_->hash ^ word) * 0x9e3779b97f4a7c15u;
    current_->hash ^= current_->hash >> 29;
  }
  std::uint64_t word_of(const char* name);

  std::vector<Run> runs_;
  Run outside_{Phase::kForward, 0, 0, 0};
  Run* current_ = &outside_;
  std::vector<std::int64_t> stack_;
  std::unordered_map<Key, std::int64_t> visits_;
  std::vector<Moment> moments_;
  std::int64_t slot_ = -1;
  int quiet_ = 0;
  bool detailed_ = false;
  // Hashes of names are found by address. Names of operators stay where they are; those of nodes
  // of autograd are made anew each time, so what is found is compared.
  struct Name {
    std::string text;
    std::uint64_t word = 0;
  };
  std::vector<Name> names_ = std::vector<Name>(4096);
};

}  // namespace ithaca
