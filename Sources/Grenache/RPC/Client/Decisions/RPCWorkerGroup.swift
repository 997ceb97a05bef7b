package import GrenacheIO
package import GrenacheTransport

/// The workers of one service as the last lookup found them; time and chance are given.
///
/// Some of them are kept warm: connected, with calls shared among them. Each call goes to the less busy
/// of two of those, drawn by chance. Who fails sits out for a while.
package final class RPCWorkerGroup<Worker: RPCCandidate> {
  /// In the order in which they came to be known, whatever the order of what lookups find.
  package private(set) var endpoints: [Endpoint] = []
  package private(set) var workers: [Worker] = []
  /// What may be sent again: one service in trouble does not use up what others have.
  package var retries: RetryBudget
  private var found: [Endpoint] = []
  private let warmMax: Int

  package init(warmMax: Int, retries: RetryBudget) {
    self.warmMax = max(1, warmMax)
    self.retries = retries
  }

  /// Takes over what a lookup has found; cheap when nothing has changed.
  package func update(_ found: [Endpoint], make: (Endpoint) -> Worker) {
    guard found != self.found else { return }
    self.found = found
    let there = Set(found)
    let known = Set(endpoints)
    endpoints = endpoints.filter(there.contains) + found.filter { !known.contains($0) }
    workers = endpoints.map(make)
  }

  /// The worker for the next call, none of `tried`; `nil` when all have been tried.
  ///
  /// A worker that is not connected is named to be connected to meanwhile, if fewer than the limit are:
  /// calls wait for a connection only while there is none, and then for the first of two. Of those that
  /// are connected beyond the limit, since some had failed for a while, the ones known longest are called,
  /// and the others' connections idle out.
  package func choose(
    avoiding tried: [Worker], at now: MonotonicTime,
    using generator: inout some RandomNumberGenerator
  ) -> (worker: Worker, warmUp: Worker?)? {
    var warm = TwoDrawn()
    var connecting = TwoDrawn()
    var cold = TwoDrawn()
    var out: Worker?
    var connectedOrConnecting = 0
    for worker in workers {
      if worker.isWarm || worker.isConnecting { connectedOrConnecting += 1 }
      if tried.contains(where: { $0 === worker }) { continue }
      if !worker.standing.isReady(at: now) {
        let sitsOutUntil = worker.standing.sitsOutUntil
        if out.map({ sitsOutUntil < $0.standing.sitsOutUntil }) ?? true { out = worker }
      } else if worker.isWarm {
        if warm.count < warmMax { warm.add(worker, using: &generator) }
      } else if worker.isConnecting {
        connecting.add(worker, using: &generator)
      } else {
        cold.add(worker, using: &generator)
      }
    }
    if let chosen = warm.lessBusy(using: &generator) {
      let hasRoom = connectedOrConnecting < warmMax
      return (chosen, hasRoom ? cold.lessBusy(using: &generator) : nil)
    }
    if let chosen = connecting.lessBusy(using: &generator) {
      let hasRoom = connectedOrConnecting < warmMax
      return (chosen, hasRoom ? cold.lessBusy(using: &generator) : nil)
    }
    guard let chosen = cold.lessBusy(using: &generator) else { return out.map { ($0, nil) } }
    let hasRoom = connectedOrConnecting + 1 < warmMax
    return (chosen, hasRoom ? cold.other(than: chosen) : nil)
  }

  /// Two of any number, each with the same chance (reservoir sampling).
  private struct TwoDrawn {
    private var first: Worker?
    private var second: Worker?
    private(set) var count = 0

    mutating func add(_ worker: Worker, using generator: inout some RandomNumberGenerator) {
      count += 1
      switch count {
      case 1: first = worker
      case 2: second = worker
      default:
        switch Int.random(in: 0..<count, using: &generator) {
        case 0: first = worker
        case 1: second = worker
        default: break
        }
      }
    }

    func other(than chosen: Worker) -> Worker? {
      first === chosen ? second : first
    }

    func lessBusy(using generator: inout some RandomNumberGenerator) -> Worker? {
      guard let first, let second else { return first }
      let (one, other) = (first.standing.callsInFlight, second.standing.callsInFlight)
      if one == other { return Bool.random(using: &generator) ? first : second }
      return other < one ? second : first
    }
  }
}
