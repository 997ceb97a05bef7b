/// A result that one piece of code on a loop waits for and another one on the same loop provides.
///
/// Waiting ends with the result, at a deadline, or when the waiting task is cancelled, whichever
/// comes first; what comes later is dropped. The promise is its own timer: one object a wait.
package final class LoopPromise<Value: Sendable>: LoopTimer {
  /// How a wait ended.
  package enum Outcome: Sendable {
    case value(Value)
    case timedOut
    case cancelled
  }

  private enum State {
    case pending
    case waiting(CheckedContinuation<Outcome, Never>)
    case over(Outcome)
  }
  private var state = State.pending

  /// Whether the wait has ended, or will end as soon as it begins.
  package var isOver: Bool {
    if case .over = state { true } else { false }
  }

  /// Provides the result; without effect when the wait is over.
  package func fulfil(_ value: Value, on loop: isolated EventLoop) {
    end(.value(value), on: loop)
  }

  /// Waits, once, for the result: until `deadline` at the latest.
  package func wait(until deadline: MonotonicTime, on loop: isolated EventLoop) async -> Outcome {
    if case .over(let outcome) = state { return outcome }
    loop.core.arm(self, at: deadline)
    let bound = LoopBound(self, on: loop)
    return await withTaskCancellationHandler {
      return await withCheckedContinuation { continuation in
        // Only because it names the loop does this closure, and the one around it, stay on it.
        loop.preconditionIsolated()
        if case .over(let outcome) = state {
          continuation.resume(returning: outcome)
        } else {
          state = .waiting(continuation)
        }
      }
    } onCancel: {
      Task { await bound.loop.run { loop in bound.get(on: loop).end(.cancelled, on: loop) } }
    }
  }

  package override func fired(on loop: isolated EventLoop) {
    end(.timedOut, on: loop)
  }

  private func end(_ outcome: Outcome, on loop: isolated EventLoop) {
    switch state {
    case .pending:
      loop.core.cancel(self)
      state = .over(outcome)
    case .waiting(let continuation):
      loop.core.cancel(self)
      state = .over(outcome)
      continuation.resume(returning: outcome)
    case .over:
      break
    }
  }
}
