internal import Foundation
internal import Glibc
internal import Synchronization

/// Reads from a descriptor on a thread of its own, since standard input may let itself be waited for.
package enum BlockingReader {
  /// Why nothing could be read.
  package struct Failure: Error, CustomStringConvertible {
    package var number: Int32
    package var description: String {
      "it cannot be read: \(StandardStreams.text(ofError: number))"
    }
  }

  /// At most `bytesMax` bytes, as soon as there are some; none at the end, and when the task is cancelled
  /// (what is read after that is lost: it is for commands that end).
  package static func read(_ descriptor: Int32, bytesMax: Int) async throws(Failure) -> [UInt8] {
    let handover = Handover()
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        guard handover.wait(continuation) else { return }
        Thread.detachNewThread { handover.finish(readNow(descriptor, bytesMax)) }
      }
    } onCancel: {
      handover.finish(.success([]))
    }
    return try result.get()
  }

  private static func readNow(_ descriptor: Int32, _ bytesMax: Int) -> Result<[UInt8], Failure> {
    var bytes = [UInt8](repeating: 0, count: bytesMax)
    while true {
      let count = unsafe Glibc.read(descriptor, &bytes, bytesMax)
      if count >= 0 {
        bytes.removeLast(bytesMax - count)
        return .success(bytes)
      }
      switch errno {
      case EINTR: continue
      case EAGAIN: StandardStreams.wait(for: descriptor, POLLIN)
      default: return .failure(Failure(number: errno))
      }
    }
  }
}

/// What one thread hands over to a task that waits for it, or gives up.
private final class Handover: Sendable {
  private typealias Outcome = Result<[UInt8], BlockingReader.Failure>

  private enum State {
    case idle
    case waiting(CheckedContinuation<Outcome, Never>)
    case over
  }
  private let state = Mutex(State.idle)

  /// - Returns: false when it was given up already; the continuation is resumed then.
  func wait(
    _ continuation: CheckedContinuation<Result<[UInt8], BlockingReader.Failure>, Never>
  ) -> Bool {
    let isOver = state.withLock { state in
      if case .over = state { return true }
      state = .waiting(continuation)
      return false
    }
    if isOver { continuation.resume(returning: .success([])) }
    return !isOver
  }

  /// The first call counts.
  func finish(_ outcome: Result<[UInt8], BlockingReader.Failure>) {
    let waiting = state.withLock { state -> CheckedContinuation<Outcome, Never>? in
      defer { state = .over }
      if case .waiting(let continuation) = state { return continuation }
      return nil
    }
    waiting?.resume(returning: outcome)
  }
}
