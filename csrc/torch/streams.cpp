#include "streams.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cmath>

namespace ithaca {

Mark::Mark(std::shared_ptr<Engine> engine, const c10::Stream& stream, bool timed)
    : engine_(std::move(engine)), device_(stream.device_index()) {
  const auto flag = timed ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT;
  engine_->guard().record(&event_, stream, device_, flag);
}

Mark::~Mark() { engine_->guard().destroyEvent(event_, device_); }

bool Mark::reached() const { return engine_->guard().queryEvent(event_); }

Streams::Streams(std::shared_ptr<Engine> engine)
    : engine_(std::move(engine)),
      compute_(engine_->guard().getStream(engine_->device())),
      out_(engine_->guard().getNewStream(engine_->device())),
      in_(engine_->guard().getNewStream(engine_->device())) {}

const c10::Stream& Streams::stream(Lane lane) const {
  return lane == Lane::kCompute ? compute_ : lane == Lane::kOut ? out_ : in_;
}

MarkPtr Streams::mark(Lane lane, bool timed) const {
  return std::make_shared<Mark>(engine_, stream(lane), timed);
}

void Streams::wait(Lane lane, const MarkPtr& mark) const {
  if (!mark) return;
  engine_->guard().block(mark->event(), stream(lane));
}

void Streams::wait_here(const MarkPtr& mark) const {
  if (!mark || mark->reached()) return;
  engine_->guard().block(mark->event(), engine_->guard().getStream(engine_->device()));
}

void Streams::synchronize() const {
  for (const Lane lane : {Lane::kOut, Lane::kIn}) synchronize(mark(lane));
}

void Streams::synchronize(const MarkPtr& mark) const {
  if (mark) engine_->guard().synchronizeEvent(mark->event());
}

void Streams::copy(Lane lane, void* to, const void* from, std::int64_t size) const {
  engine_->copy(stream(lane), to, from, size, lane == Lane::kOut);
}

std::int64_t Streams::between(const MarkPtr& first, const MarkPtr& second) const {
  return std::llround(1e6 * engine_->guard().elapsedTime(first->event(), second->event(),
                                                         engine_->device().index()));
}

bool Streams::on_compute() const {
  return engine_->guard().getStream(engine_->device()) == compute_;
}

void StreamClock::restart(bool on) {
  stamps_.clear();
  waits_.clear();
  on_ = on;
}

std::int64_t StreamClock::stamp() {
  stamps_.push_back(streams_.mark(Lane::kCompute, /*timed=*/true));
  return static_cast<std::int64_t>(stamps_.size()) - 1;
}

std::vector<std::int64_t> StreamClock::read() {
  std::vector<std::int64_t> times;
  if (stamps_.empty()) return times;
  streams_.synchronize(stamps_.back());
  for (const MarkPtr& stamp : stamps_) {
    times.push_back(streams_.between(stamps_.front(), stamp));
  }
  return times;
}

void StreamClock::wait(const MarkPtr& mark) {
  if (!mark || mark->reached()) return;
  const std::int64_t before = on_ ? stamp() : 0;
  streams_.wait(Lane::kCompute, mark);
  if (on_) waits_.emplace_back(before, stamp());
}

}  // namespace ithaca
