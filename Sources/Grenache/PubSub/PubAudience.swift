internal import Synchronization

/// How many subscribers a publisher has, on all its loops, and who waits until there are enough.
final class PubAudience: Sendable {
  private struct Waiting {
    var wanted: Int
    var continuation: CheckedContinuation<Void, Never>
  }

  private struct State {
    var count = 0
    var waiting: [Int: Waiting] = [:]
    var ticket = 0
    /// Tickets that were given up before they waited.
    var givenUp: Set<Int> = []
  }
  private let state = Mutex(State())

  var count: Int { state.withLock { $0.count } }

  func change(by difference: Int) {
    let enough = state.withLock { state in
      state.count += difference
      let enough = state.waiting.filter { $0.value.wanted <= state.count }
      for ticket in enough.keys { state.waiting[ticket] = nil }
      return enough.values.map(\.continuation)
    }
    for continuation in enough { continuation.resume() }
  }

  /// Returns when there are so many, or when the task is cancelled.
  func wait(for wanted: Int) async {
    let ticket = state.withLock { state in
      state.ticket += 1
      return state.ticket
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state in
          if state.givenUp.remove(ticket) != nil || state.count >= wanted { return true }
          state.waiting[ticket] = Waiting(wanted: wanted, continuation: continuation)
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      let waiting = state.withLock { state in
        let waiting = state.waiting.removeValue(forKey: ticket)
        if waiting == nil { state.givenUp.insert(ticket) }
        return waiting
      }
      waiting?.continuation.resume()
    }
    // A task that was cancelled when it had been answered already has left its ticket.
    state.withLock { _ = $0.givenUp.remove(ticket) }
  }
}
