internal import GrenacheIO

/// Several attempts of one call at the same time, of which the first answer counts.
final class RPCRace {
  enum Outcome {
    case decided(Result<RPCReply, GrenacheError>)
    case undecided
    case cancelled
  }

  var tasks: [Task<Void, Never>] = []
  /// Attempts that are under way.
  var runners = 0
  private var result: Result<RPCReply, GrenacheError>?
  private var waiter: LoopPromise<Void>?

  /// An attempt has ended: with an answer, or with an error, which counts when no other is under way.
  func ended(_ result: Result<RPCReply, GrenacheError>, on loop: isolated EventLoop) {
    runners -= 1
    guard self.result == nil else { return }
    if case .failure = result, runners > 0 { return }
    self.result = result
    waiter?.fulfil((), on: loop)
  }

  func wait(until deadline: MonotonicTime, on loop: isolated EventLoop) async -> Outcome {
    if let result { return .decided(result) }
    let promise = LoopPromise<Void>()
    waiter = promise
    let outcome = await promise.wait(until: deadline, on: loop)
    waiter = nil
    if let result { return .decided(result) }
    if case .cancelled = outcome { return .cancelled }
    return .undecided
  }

  func cancel() {
    for task in tasks { task.cancel() }
  }
}
