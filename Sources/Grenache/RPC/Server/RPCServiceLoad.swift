internal import Synchronization

/// How many calls of a service are being answered, on all loops together.
final class RPCServiceLoad: Sendable {
  private let calls = Atomic<Int>(0)

  /// Counts one call more, unless that would be more than `callsMax`.
  @inline(__always)
  func enter(_ callsMax: Int) -> Bool {
    if calls.wrappingAdd(1, ordering: .relaxed).oldValue < callsMax { return true }
    calls.wrappingSubtract(1, ordering: .relaxed)
    return false
  }

  @inline(__always)
  func leave() {
    calls.wrappingSubtract(1, ordering: .relaxed)
  }

  var count: Int { calls.load(ordering: .relaxed) }
}
