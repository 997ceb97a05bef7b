internal import Synchronization

/// The requests for which a grape asks the DHT at present, in all and of each caller: nobody can have all
/// of the queries that may be under way at once (P30).
///
/// Who is counted as who, `GrapeCaller` says. What is answered from memory is not counted.
final class RequestsInFlight: Sendable {
  /// Why a request is not begun.
  enum Refusal: Error, Hashable {
    /// Its caller has as many under way as one may have.
    case callerLimit
    /// The grape has as many as it takes, or so many that nobody may have more than are left.
    case overloaded
  }

  private struct State {
    var count = 0
    var byCaller: [GrapeCaller: Int] = [:]
  }
  private let state = Mutex(State())
  private let max: Int
  private let perCallerMax: Int

  /// - Parameter perCallerMax: for one caller; who is not counted elsewhere is not counted by this.
  init(max: Int, perCallerMax: Int) {
    self.max = max
    self.perCallerMax = perCallerMax
  }

  var count: Int { state.withLock { $0.count } }

  /// Counts a request of `caller` until nobody holds the place any more.
  ///
  /// A caller gets no more places than are free: so the many who want all of them share them equally,
  /// and there are always some for whoever has none.
  func enter(_ caller: GrapeCaller) throws(Refusal) -> Place {
    let most = caller.counted == nil ? max : perCallerMax
    try state.withLock { state throws(Refusal) in
      let own = state.byCaller[caller] ?? 0
      guard own < most else { throw .callerLimit }
      guard own < max - state.count else { throw .overloaded }
      state.byCaller[caller] = own + 1
      state.count += 1
    }
    return Place(caller, self)
  }

  private func leave(_ caller: GrapeCaller) {
    state.withLock { state in
      state.count -= 1
      let left = (state.byCaller[caller] ?? 0) - 1
      state.byCaller[caller] = left > 0 ? left : nil
    }
  }

  /// A request that counts for as long as somebody holds this: whoever asked may give up, but what the
  /// DHT was asked for goes on.
  final class Place: Sendable {
    private let caller: GrapeCaller
    private let requests: RequestsInFlight

    fileprivate init(_ caller: GrapeCaller, _ requests: RequestsInFlight) {
      self.caller = caller
      self.requests = requests
    }

    deinit { requests.leave(caller) }
  }
}
