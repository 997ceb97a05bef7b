internal import GrenacheIO

/// The attempts of one hedged call, as tasks.
final class RPCRace {
  var hedge: RPCHedge<RPCReply>
  var tasks: [Task<Void, Never>] = []
  private var waiter: LoopPromise<Void>?

  init(_ hedge: RPCHedge<RPCReply>) { self.hedge = hedge }

  /// An attempt has ended.
  func ended(_ result: Result<RPCReply, GrenacheError>, on loop: isolated EventLoop) {
    if hedge.ended(result) { waiter?.fulfil((), on: loop) }
  }

  /// Waits until there is something to decide, or until `deadline`.
  ///
  /// - Returns: `false` when the caller has been cancelled.
  func wait(until deadline: MonotonicTime, on loop: isolated EventLoop) async -> Bool {
    let promise = LoopPromise<Void>()
    waiter = promise
    let outcome = await promise.wait(until: deadline, on: loop)
    waiter = nil
    if case .cancelled = outcome { return false }
    return true
  }

  func cancel() {
    for task in tasks { task.cancel() }
  }
}
