// Runs the budget and the disk by themselves, for the sanitizers: many threads charge and release
// under a cap that is never passed, and many transfers of odd sizes come back as they went.
#include <sys/types.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "budget.h"
#include "disk_io.h"
#include "headroom.h"
#include "observer.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "budget_test: %s\n", what);
    ++failures;
  }
}

void check_budget() {
  ithaca::Budget budget;
  budget.set_cap(1000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&budget, t] {
      for (int i = 0; i < 20000; ++i) {
        const std::int64_t size = 1 + (i * 37 + t) % 400;
        if (budget.charge(size)) budget.release(size);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect(budget.allocated() == 0, "everything was released");
  expect(budget.peak() <= 1000, "the peak is above the cap");
  expect(!budget.charge(1001), "more than the cap was granted");
}

int run(ithaca::DiskIo& disk, ithaca::DiskIo::Kind kind, std::vector<char>& bytes,
        std::int64_t offset) {
  std::promise<int> done;
  auto error = done.get_future();
  disk.submit({kind, bytes.data(), static_cast<std::int64_t>(bytes.size()), offset,
               [&done](int result) { done.set_value(result); }});
  return error.get();
}

// Memory whose pages become those of the file, and its own again.
void check_exchange(const ithaca::DiskIo& disk, ithaca::Extent extent, std::vector<char>& bytes) {
  const auto pages = static_cast<std::int64_t>(bytes.size()) / ithaca::DiskIo::kBlock *
                     ithaca::DiskIo::kBlock;
  if (pages == 0) return;
  void* memory = std::aligned_alloc(ithaca::DiskIo::kBlock, static_cast<std::size_t>(pages));
  expect(disk.map_at(extent, memory, pages), "the pages could not be exchanged");
  expect(std::memcmp(memory, bytes.data(), static_cast<std::size_t>(pages)) == 0,
         "the exchanged pages differ");
  static_cast<char*>(memory)[0] = static_cast<char>(bytes[0] + 1);
  expect(ithaca::DiskIo::unmap_at(memory, pages), "the pages could not be given back");
  expect(static_cast<char*>(memory)[0] == 0, "memory that came back is not empty");
  std::free(memory);
}

void check_headroom() {
  ithaca::Headroom headroom;
  expect(headroom.left(1 << 30), "no reserve is asked for");
  headroom.set_reserve(4 << 20);
  expect(headroom.left(1), "one byte is not worth a question");
  expect(headroom.left(1 << 30) || ithaca::Headroom::limit() >= 0, "there is no limit");
  expect(!headroom.refuses(), "nothing is refused unless it is told to");
  headroom.refuse_one_in(4, 1);
  int refused = 0;
  for (int i = 0; i < 4000; ++i) refused += headroom.refuses();
  expect(refused > 800 && refused < 1200, "not one in four was refused");
}

void check_disk(const std::string& folder) {
  ithaca::DiskIo disk(folder, 64 << 20, 2);
  disk.faults().longest = 8192;
  for (const std::size_t size : {1u, 511u, 4096u, 4097u, 100000u, 3000001u}) {
    std::vector<char> out(size), in(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 131 + i / 7);
    const ithaca::Extent extent = disk.take(static_cast<std::int64_t>(size));
    expect(static_cast<bool>(extent), "no room");
    expect(run(disk, ithaca::DiskIo::Kind::kWrite, out, extent.offset) == 0, "a write failed");
    expect(run(disk, ithaca::DiskIo::Kind::kRead, in, extent.offset) == 0, "a read failed");
    expect(in == out, "other bytes came back");
    void* seen = disk.map(extent);
    expect(seen != nullptr && std::memcmp(seen, out.data(), size) == 0, "the mapping differs");
    if (seen != nullptr) ithaca::DiskIo::unmap(seen, extent.size);
    check_exchange(disk, extent, out);
    disk.give_back(extent);
  }
  expect(disk.bytes_used() == 0, "extents were lost");
  expect(!disk.take(65 << 20), "the limit was passed");
  disk.faults().failures = -1;
  disk.faults().fail_writes = 28;
  std::vector<char> some(5000);
  expect(run(disk, ithaca::DiskIo::Kind::kWrite, some, 0) == 28, "a full disk went unnoticed");
}

void check_observer() {
  ithaca::Observer one, other;
  for (ithaca::Observer* observer : {&one, &other}) {
    observer->begin(false);
    observer->enter(0);
    for (const std::string name : {"aten::add", "aten::mul"}) observer->op(name.c_str());
    observer->save(7);
    observer->leave();
  }
  expect(one.hash() == other.hash(), "the same step has two hashes");
  other.op("aten::exp");
  expect(one.hash() != other.hash(), "another step has the same hash");
}

}  // namespace

int main() {
  check_budget();
  check_headroom();
  check_disk(".");
  check_observer();
  if (failures == 0) std::puts("budget_test: ok");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
