internal import GrenacheIO
internal import GrenacheTLS

/// The open TLS streams of one context on one loop, whose peers are looked at again after each reload,
/// and each when its certificate, or one above it, comes to its end.
final class TLSStreamRegistry: LoopTimerTarget {
  /// How long one turn of the loop may be taken up by looking: established connections wait for it.
  static let turnBudget = Duration.milliseconds(2)
  /// How often the wall clock is looked at, which may be set.
  static let clockInterval = Duration.seconds(60)

  /// A certificate, and on which side of it this end is: each has its own key usage.
  private struct Peer: Hashable {
    var fingerprint: [UInt8]
    var side: TLSError.Side
  }

  /// What becomes of a peer's connections.
  private enum Verdict {
    /// Until the first of its certificates ends, in seconds since 1970: by other roots that may be another one
    /// than before.
    case goesOn(until: Int64)
    case refused(TLSError)
    case mayDoNothing
  }

  private struct Entry {
    let stream: ByteStream
    /// When its peer's certificate ends, or one above it.
    var validUntil: Int64
  }

  private let context: TLSContext
  private var streams: [ObjectIdentifier: Entry] = [:]
  private var observation: Int?
  /// When the first certificate ends of those that have not, in seconds since 1970.
  private var firstEnd = Int64.max
  private lazy var timer = TargetTimer(self)

  init(_ context: TLSContext) {
    self.context = context
  }

  var isEmpty: Bool { streams.isEmpty }

  func add(_ stream: ByteStream, on loop: isolated EventLoop) {
    let end = stream.identity?.validUntil ?? .max
    streams[ObjectIdentifier(stream)] = Entry(stream: stream, validUntil: end)
    noteEnd(end, on: loop)
    guard observation == nil else { return }
    let registry = LoopBound(self, on: loop)
    observation = context.observe { snapshot in
      Task { await TLSStreamRegistry.recheck(registry, against: snapshot, on: registry.loop) }
    }
  }

  func remove(_ stream: ByteStream, on loop: isolated EventLoop) {
    streams[ObjectIdentifier(stream)] = nil
    guard streams.isEmpty, let observation else { return }
    loop.core.cancel(timer)
    firstEnd = .max
    context.endObservation(observation)
    self.observation = nil
  }

  // MARK: Ends of certificates

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    let now = WallClock.now().seconds
    if firstEnd < now {
      firstEnd = streams.values.lazy.map(\.validUntil).filter { $0 >= now }.min() ?? .max
      let registry = LoopBound(self, on: loop)
      let snapshot = context.current
      Task {
        await TLSStreamRegistry.recheck(
          registry, against: snapshot, endedBefore: now, on: registry.loop)
      }
    }
    armTimer(on: loop)
  }

  private func noteEnd(_ end: Int64, on loop: isolated EventLoop) {
    guard end < firstEnd else { return }
    firstEnd = end
    armTimer(on: loop)
  }

  private func armTimer(on loop: isolated EventLoop) {
    guard firstEnd < .max else { return loop.core.cancel(timer) }
    let wall = WallClock.now()
    // The last second still counts (RFC 5280 §4.1.2.5).
    let (seconds, overflow) = firstEnd.subtractingReportingOverflow(wall.seconds - 1)
    let left = overflow ? Self.clockInterval : .seconds(seconds) - .nanoseconds(wall.nanoseconds)
    loop.core.arm(timer, at: .now() + min(left, Self.clockInterval))
  }

  // MARK: Looking again

  private func judge(
    _ identity: PeerIdentity, _ side: TLSError.Side, by snapshot: TLSSnapshot
  ) -> Verdict {
    do throws(TLSError) {
      let verified = try snapshot.verify(identity.chain, side: side, stage: .recheck)
      guard side == .server, let admits = context.admission, !admits(identity) else {
        return .goesOn(until: verified.validUntil)
      }
      return .mayDoNothing
    } catch {
      return .refused(error)
    }
  }

  private static func recheck(
    _ registry: LoopBound<TLSStreamRegistry>, against snapshot: TLSSnapshot,
    endedBefore end: Int64? = nil, on loop: isolated EventLoop
  ) async {
    await registry.get(on: loop).recheck(against: snapshot, endedBefore: end, on: loop)
  }

  /// Looks at every stream, each certificate once; a later reload overtakes an earlier one.
  ///
  /// - Parameter end: only those whose certificates have ended before then.
  private func recheck(
    against snapshot: TLSSnapshot, endedBefore end: Int64?, on loop: isolated EventLoop
  ) async {
    var verdicts: [Peer: Verdict] = [:]
    var turnEnd = MonotonicTime.now() + Self.turnBudget
    for entry in Array(streams.values) where end.map({ entry.validUntil < $0 }) ?? true {
      guard context.current === snapshot else { return }
      let stream = entry.stream
      guard stream.isOpen, let identity = stream.identity else { continue }
      let side: TLSError.Side = stream.side == .server ? .server : .client
      let peer = Peer(fingerprint: identity.fingerprintSHA256, side: side)
      let verdict = verdicts[peer] ?? judge(identity, side, by: snapshot)
      verdicts[peer] = verdict
      switch verdict {
      case .goesOn(let until):
        streams[ObjectIdentifier(stream)]?.validUntil = until
        noteEnd(until, on: loop)
      case .refused(let error):
        stream.fail(TransportError(error, peer: stream.remoteAddress), on: loop)
      case .mayDoNothing:
        let text = "the access policy allows \(identity.displayName) nothing any more"
        stream.refuse(.closed(text, peer: stream.remoteAddress), on: loop)
      }
      if MonotonicTime.now() > turnEnd {
        await Task.yield()
        turnEnd = .now() + Self.turnBudget
      }
    }
  }
}
