package import GrenacheIO
internal import GrenacheTransport

/// How often and how far one call may go.
package struct RPCCallLimits: Hashable, Sendable {
  /// How many workers one call tries to reach.
  package static let reachedMax = 8

  package var isIdempotent: Bool
  package var deadline: MonotonicTime
  /// How often it is sent again.
  package var retriesMax: Int
  /// How often it is asked who announces the service now, once all who are known have been tried.
  package var lookupsMax: Int

  /// - Parameter grapes: how many there are to ask; the first may name those who are long gone.
  package init(isIdempotent: Bool, deadline: MonotonicTime, retriesMax: Int, grapes: Int = 1) {
    self.isIdempotent = isIdempotent
    self.deadline = deadline
    self.retriesMax = retriesMax
    lookupsMax = min(grapes, 2)
  }
}

/// What one call has tried so far and does next. It decides and does nothing itself: time, chance and what
/// came of each attempt are given.
///
///     next → call → (failed → next)* → answered, or fail
package final class RPCCallPlan<Worker: RPCCandidate> {
  /// What to do next.
  package enum Step {
    /// Call a worker; connect to another one meanwhile, where one is named.
    case call(Worker, warmUp: Worker?)
    /// Ask who announces the service now, then `lookedUp`.
    case lookUp
    case fail(GrenacheError)
  }

  private let service: String
  private let limits: RPCCallLimits
  private(set) var tried: [Worker]
  private var retries = 0
  private var failure: GrenacheError?
  /// Why the next attempt counts as a retry.
  private var retryCause: GrenacheError?
  /// Those who were known before the lookup that is asked for.
  private var before: [Endpoint]?
  private var lookups = 0
  private var isLookingUp = false

  /// - Parameter tried: who has been called already.
  package init(_ service: String, _ limits: RPCCallLimits, tried: [Worker] = []) {
    self.service = service
    self.limits = limits
    self.tried = tried
  }

  package func next(
    in group: RPCWorkerGroup<Worker>, at now: MonotonicTime,
    using generator: inout some RandomNumberGenerator
  ) -> Step {
    // The other half of a hedged call is at it, and goes on with what it finds.
    guard !isLookingUp else { return .fail(unreachable) }
    // What has been looked up again and is the same leads nowhere.
    if let before, before == group.endpoints, lookups >= limits.lookupsMax {
      return .fail(unreachable)
    }
    before = nil
    if let choice = group.choose(avoiding: tried, at: now, using: &generator) {
      // Not before there is somebody to send it to: what is never sent again costs nothing.
      if let cause = retryCause {
        guard group.retries.withdraw() else { return .fail(cause) }
        retries += 1
        retryCause = nil
      }
      tried.append(choice.worker)
      return .call(choice.worker, warmUp: choice.warmUp)
    }
    // A fleet that has too much to do is not asked for by each call that it turns away.
    if let cause = retryCause, cause.code == .overloaded { return .fail(cause) }
    // What was known may be old: those who announce the service now are asked, too.
    guard lookups < limits.lookupsMax else { return .fail(unreachable) }
    lookups += 1
    isLookingUp = true
    before = group.endpoints
    return .lookUp
  }

  /// What `lookUp` asked for has been tried, whatever came of it.
  package func lookedUp() { isLookingUp = false }

  /// Whether the call may be sent to a second worker while the first has not answered: if there is one that
  /// has not been called (to look for others is no use while that one may still answer), and within the
  /// budget.
  ///
  /// - Returns: why not; `nil` when it may.
  package func hedge(in group: RPCWorkerGroup<Worker>) -> GrenacheError? {
    let hasOther = group.workers.contains { worker in !tried.contains { $0 === worker } }
    return hasOther && group.retries.withdraw() ? nil : unreachable
  }

  /// An attempt has failed.
  ///
  /// A call that has reached nobody may go to the next worker; one that a worker turned away, too, but
  /// as a retry that counts. One that may have been carried out is sent again only if it is idempotent.
  ///
  /// - Returns: what the call fails with; `nil` when there is a next step.
  package func failed(
    _ error: GrenacheError, at worker: Worker, now: MonotonicTime,
    using generator: inout some RandomNumberGenerator
  ) -> GrenacheError? {
    if error.code == .connectedElsewhere {
      // It was waited for and not asked: if the other one fails, it may be.
      tried.removeAll { $0 === worker }
      return nil
    }
    if error.cause?.tls != nil || failure == nil { failure = error }
    switch error.code {
    case .workerUnreachable where limits.deadline <= now:
      return GrenacheError(
        .deadlineExceeded, "no worker was reached in time", cause: failure?.cause)
    case .workerUnreachable, .workerNotTrusted:
      return tried.count < RPCCallLimits.reachedMax ? nil : error
    case .overloaded:
      guard retries < limits.retriesMax else { return error }
      retryCause = error
      return nil
    case .connectionLost, .deadlineExceeded, .invalidReply:
      guard limits.isIdempotent, limits.deadline > now, retries < limits.retriesMax else {
        return error
      }
      worker.standing.sitOut(from: now, using: &generator)
      retryCause = error
      return nil
    default:
      return error
    }
  }

  /// Who could not prove who it is says more than who was not there.
  var unreachable: GrenacheError {
    failure ?? GrenacheError(.workerUnreachable, "no worker of \(service) is left")
  }
}
