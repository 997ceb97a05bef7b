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
  private var waiting: [(Int, CheckedContinuation<Void, Never>)] = []
  package private(set) var value = 0

  package init() {}

  package func add(_ count: Int = 1) {
    value += count
    for (_, waiter) in waiting.filter({ $0.0 <= value }) { waiter.resume() }
    waiting.removeAll { $0.0 <= value }
  }

  package func reaches(_ count: Int) async {
    if value >= count { return }
    await withCheckedContinuation { waiting.append((count, $0)) }
  }
}
