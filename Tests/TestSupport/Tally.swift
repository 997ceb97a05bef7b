internal import Synchronization

/// Something that happens once, seen from anywhere.
package final class Flag: Sendable {
  private let value = Atomic<Bool>(false)

  package init() {}

  package var isSet: Bool { value.load(ordering: .acquiring) }
  package func set() { value.store(true, ordering: .releasing) }
}

/// A number that tests await.
package actor Tally {
  private struct Waiting {
    var count: Int
    var continuation: CheckedContinuation<Void, Never>
  }
  private var waiting: [Int: Waiting] = [:]
  private var lastWaiting = 0
  package private(set) var value = 0

  package init() {}

  package func add(_ count: Int = 1) {
    value += count
    for (number, one) in waiting where one.count <= value {
      waiting[number] = nil
      one.continuation.resume()
    }
  }

  /// Waits until it is `count`, or until the task is cancelled, as a test's is at its time limit.
  ///
  /// - Returns: whether it is.
  @discardableResult
  package func reaches(_ count: Int) async -> Bool {
    lastWaiting += 1
    let number = lastWaiting
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        guard value < count, !Task.isCancelled else { return continuation.resume() }
        waiting[number] = Waiting(count: count, continuation: continuation)
      }
    } onCancel: {
      Task { await self.giveUp(number) }
    }
    return value >= count
  }

  /// The same for handlers that do not heed cancellation.
  package func reachesThoughCancelled(_ count: Int) async {
    _ = await Task { await reaches(count) }.value
  }

  private func giveUp(_ number: Int) {
    waiting.removeValue(forKey: number)?.continuation.resume()
  }
}
