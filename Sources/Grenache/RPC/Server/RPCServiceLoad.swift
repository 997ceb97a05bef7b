internal import Synchronization

/// How many calls of a service are being answered, on all loops together.
package final class RPCServiceLoad: Sendable {
  private let calls = Atomic<Int>(0)

  package init() {}

  /// Counts one call more, unless that would be more than `callsMax`.
  @inline(__always)
  package func enter(_ callsMax: Int) -> Bool {
    if calls.wrappingAdd(1, ordering: .relaxed).oldValue < callsMax { return true }
    calls.wrappingSubtract(1, ordering: .relaxed)
    return false
  }

  @inline(__always)
  package func leave() {
    calls.wrappingSubtract(1, ordering: .relaxed)
  }

  package var count: Int { calls.load(ordering: .relaxed) }
}
