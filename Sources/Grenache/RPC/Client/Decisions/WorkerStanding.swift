package import GrenacheIO
package import GrenacheTransport

/// How a worker has behaved towards one client: whether it answers, how busy it is, and until when it is
/// passed over. Time and chance are given.
///
///     ready → (a failure) sitting out → ready; with each failure in a row it sits out twice as long
package struct WorkerStanding {
  /// The longest time that a failing worker is passed over.
  package static let sitOutMax = Duration.seconds(30)

  private let sitOutTime: Duration
  /// So many calls in a row that were not answered in time say that a worker hangs; fewer may say more
  /// of the caller's deadline.
  package static let timeoutsMax = 3
  private var failures = 0
  private var timeouts = 0
  /// Whether it has been connected to, or has answered, since it failed last.
  private(set) var isReached = false
  /// The calls that are with this worker.
  package var callsInFlight = 0
  private(set) var sitsOutUntil = MonotonicTime(nanoseconds: 0)

  /// - Parameter sitOutTime: how long it sits out after a first failure.
  package init(sitOutTime: Duration) {
    self.sitOutTime = sitOutTime
  }

  func isReady(at now: MonotonicTime) -> Bool { now >= sitsOutUntil }

  package mutating func noteReached() { isReached = true }

  /// It could not be connected to. What this side is short of says nothing of the worker.
  package mutating func noteNotConnected(
    _ error: TransportError, at now: MonotonicTime,
    using generator: inout some RandomNumberGenerator
  ) {
    guard error.code != .outOfResources else { return }
    sitOut(from: now, using: &generator)
  }

  package mutating func noteAnswer() {
    isReached = true
    if failures != 0 { failures = 0 }
    if timeouts != 0 { timeouts = 0 }
  }

  /// An error of the worker's own is an answer; one that it could not be reached for makes it sit out.
  ///
  /// - Parameter isSent: whether the call has been sent: what ran out of time before says nothing of how the
  ///   worker answers.
  package mutating func note(
    _ code: GrenacheError.Code, isSent: Bool, at now: MonotonicTime,
    using generator: inout some RandomNumberGenerator
  ) {
    switch code {
    case .workerUnreachable, .workerNotTrusted, .connectionLost, .overloaded, .invalidReply:
      sitOut(from: now, using: &generator)
    case .remoteError, .notPermitted:
      noteAnswer()
    case .deadlineExceeded where isSent:
      timeouts += 1
      if timeouts >= Self.timeoutsMax { sitOut(from: now, using: &generator) }
    default:
      break
    }
  }

  /// Makes it sit out, a quarter longer or shorter by chance, so that many clients do not come back at
  /// once. Of calls that fail at once the first counts.
  package mutating func sitOut(
    from now: MonotonicTime, using generator: inout some RandomNumberGenerator
  ) {
    isReached = false
    guard now >= sitsOutUntil else { return }
    timeouts = 0
    failures = min(failures + 1, 16)
    let time = min(sitOutTime * (1 << (failures - 1)), Self.sitOutMax)
    sitsOutUntil = now + time * Double.random(in: 0.75...1.25, using: &generator)
  }
}

/// A worker among which a call's destination is chosen.
package protocol RPCCandidate: AnyObject {
  var standing: WorkerStanding { get set }
  /// Whether a call needs no connecting, as far as is known.
  var isWarm: Bool { get }
  var isConnecting: Bool { get }
}
