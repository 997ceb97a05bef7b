internal import GrenacheIO
internal import GrenacheTransport

/// The workers of one service as the last lookup found them, confined to the client's loop.
///
/// Some of them are kept warm: connected, with calls shared among them. Each call goes to the less busy
/// of two of those, drawn by chance. Who fails sits out for a while.
final class RPCWorkerGroup {
  private(set) var endpoints: [Endpoint] = []
  private(set) var workers: [RPCWorker] = []
  private let warmMax: Int

  init(warmMax: Int) {
    self.warmMax = max(1, warmMax)
  }

  /// Takes over what a lookup has found; cheap when nothing has changed.
  func update(_ endpoints: [Endpoint], make: (Endpoint) -> RPCWorker) {
    guard endpoints != self.endpoints else { return }
    self.endpoints = endpoints
    workers = endpoints.map(make)
  }

  /// The worker for the next call, none of `tried`; `nil` when all have been tried.
  ///
  /// A worker that is not connected is connected to meanwhile, if fewer than the limit are: calls wait
  /// for a connection only while there is none.
  func choose(
    avoiding tried: [RPCWorker], using generator: inout FastGenerator, on loop: isolated EventLoop
  ) -> RPCWorker? {
    let now = loop.core.now
    var warm = TwoDrawn()
    var connecting = TwoDrawn()
    var cold = TwoDrawn()
    var out: RPCWorker?
    for worker in workers where !tried.contains(where: { $0 === worker }) {
      if !worker.isReady(at: now) {
        if out.map({ worker.sitsOutUntil < $0.sitsOutUntil }) ?? true { out = worker }
      } else if worker.isWarm {
        warm.add(worker, using: &generator)
      } else if worker.isConnecting {
        connecting.add(worker, using: &generator)
      } else {
        cold.add(worker, using: &generator)
      }
    }
    if let chosen = warm.lessBusy(using: &generator) {
      if warm.count + connecting.count < warmMax, let next = cold.lessBusy(using: &generator) {
        next.warmUp(on: loop)
      }
      return chosen
    }
    return connecting.lessBusy(using: &generator) ?? cold.lessBusy(using: &generator) ?? out
  }

  /// Two of any number, each with the same chance (reservoir sampling).
  private struct TwoDrawn {
    private var first: RPCWorker?
    private var second: RPCWorker?
    private(set) var count = 0

    mutating func add(_ worker: RPCWorker, using generator: inout FastGenerator) {
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

    func lessBusy(using generator: inout FastGenerator) -> RPCWorker? {
      guard let first, let second else { return first }
      if first.callsInFlight == second.callsInFlight {
        return Bool.random(using: &generator) ? first : second
      }
      return second.callsInFlight < first.callsInFlight ? second : first
    }
  }
}
