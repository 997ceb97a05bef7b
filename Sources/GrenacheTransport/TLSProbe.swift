package import GrenacheIO
package import GrenacheTLS

/// Looks at the TLS of a server: connects, shakes hands, and says what it saw.
package enum TLSProbe {
  /// How long a server may take to refuse this side's certificate after its own part of the handshake
  /// (in TLS 1.3 a client is done before its certificate has been looked at).
  static let refusalTime = Duration.milliseconds(500)

  /// What was seen.
  package struct Report: Sendable {
    /// What was agreed on; `nil` when the handshake failed.
    package var negotiated: TLSNegotiation?
    /// Who the server says it is, believed or not.
    package var presented: PeerIdentity?
    /// Why a connection like this one would fail.
    package var failure: TransportError?
    /// Whether a second connection resumed the session of the first; `nil` when there was no first.
    package var resumes: Bool?
  }

  /// Probes `destination` by `deadline`; a second time after a success, for the resumption.
  package static func run(
    _ destination: Destination, context: TLSContext, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async -> Report {
    var report = await shakeHands(destination, context: context, by: deadline, on: loop)
    guard report.failure == nil else { return report }
    let again = await shakeHands(destination, context: context, by: deadline, on: loop)
    report.resumes = again.negotiated?.isResumed ?? false
    return report
  }

  private static func shakeHands(
    _ destination: Destination, context: TLSContext, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async -> Report {
    let probe = Probe()
    do throws(TransportError) {
      let socket = try await Dialer.connect(to: destination.endpoint, by: deadline, on: loop)
      let stream = try Dialer.stream(
        over: socket, to: destination, context: context, limits: ByteStreamLimits(),
        delegate: probe, by: deadline, on: loop)
      stream.start(on: loop)
      return await probe.report(stream, by: deadline, on: loop)
    } catch {
      return Report(failure: error)
    }
  }

  private final class Probe: ByteStreamDelegate {
    private let opened = LoopPromise<Void>()
    private let closed = LoopPromise<TransportError?>()

    func report(
      _ stream: ByteStream, by deadline: MonotonicTime, on loop: isolated EventLoop
    ) async -> Report {
      var report = Report()
      guard case .value = await opened.wait(until: deadline, on: loop) else {
        report.failure = TransportError(
          .timedOut, stage: .handshake, message: "no end of the handshake by the deadline",
          peer: stream.remoteAddress)
        stream.close(on: loop)
        return report
      }
      let patience = min(deadline, .now() + TLSProbe.refusalTime)
      if case .value(let error) = await closed.wait(until: patience, on: loop) {
        report.failure =
          error ?? .closed("the server closed the connection at once", peer: stream.remoteAddress)
      }
      report.negotiated = stream.negotiated
      report.presented = stream.presentedIdentity
      stream.close(on: loop)
      return report
    }

    func streamOpened(on loop: isolated EventLoop) { opened.fulfil((), on: loop) }

    func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
      bytes.count
    }

    func streamEnded(on loop: isolated EventLoop) { closed.fulfil(nil, on: loop) }

    func streamDrained(on loop: isolated EventLoop) {}

    func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
      closed.fulfil(error, on: loop)
      opened.fulfil((), on: loop)
    }
  }
}
