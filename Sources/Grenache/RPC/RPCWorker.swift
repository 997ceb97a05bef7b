internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// One worker as a client knows it: its connections, and how it has behaved lately.
final class RPCWorker {
  private let destination: Destination
  private let context: TLSContext?
  private let configuration: PeerRPCClientConfiguration
  private var connections: [RPCClientConnection] = []
  private var connecting = 0
  /// Who waits for the connection that is being made.
  private var waiting: [LoopPromise<TransportError?>] = []
  private var failures = 0
  private var sitsOutUntil = MonotonicTime(nanoseconds: 0)

  init(
    _ destination: Destination, context: TLSContext?, configuration: PeerRPCClientConfiguration
  ) {
    self.destination = destination
    self.context = context
    self.configuration = configuration
  }

  var callsInFlight: Int { connections.reduce(waiting.count) { $0 + $1.callsInFlight } }
  var isUnused: Bool { connecting == 0 && !connections.contains(where: \.isOpen) }

  func isReady(at now: MonotonicTime) -> Bool { now >= sitsOutUntil }

  /// The open connection with the fewest calls, or a new one.
  ///
  /// While a first connection is being made, everybody waits for it; another one is made only when
  /// those that are open are busy.
  func connection(
    by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> RPCClientConnection {
    connections.removeAll { !$0.isOpen }
    let mayOpen = connections.count + connecting < configuration.connectionsPerWorkerMax
    if let best = leastBusy {
      if best.callsInFlight >= configuration.callsPerConnection, mayOpen, connecting == 0 {
        startConnecting(on: loop)
      }
      return best
    }
    let promise = LoopPromise<TransportError?>()
    waiting.append(promise)
    if connecting == 0 { startConnecting(on: loop) }
    switch await promise.wait(until: deadline, on: loop) {
    case .value(let failure):
      if let failure { throw failure }
      guard let connection = leastBusy else {
        throw TransportError(
          .connectionClosed, stage: .connect, message: "\(destination.endpoint) closed at once")
      }
      return connection
    case .timedOut:
      throw TransportError(
        .timedOut, stage: .connect, message: "no connection to \(destination.endpoint) in time")
    case .cancelled:
      throw TransportError(
        .cancelled, stage: .connect, message: "the caller's task was cancelled")
    }
  }

  func close(on loop: isolated EventLoop) {
    for connection in connections { connection.close(on: loop) }
    connections = []
  }

  /// Connects in a task of its own and by a deadline of its own: the connection serves every caller,
  /// whoever of them gives up.
  private func startConnecting(on loop: isolated EventLoop) {
    connecting += 1
    let deadline = loop.core.now + configuration.connectTimeout
    Task {
      let failure = await connect(by: deadline, on: loop)
      connecting -= 1
      if failure == nil { failures = 0 } else { sitOut(from: .now()) }
      let waiting = self.waiting
      self.waiting = []
      for promise in waiting { promise.fulfil(failure, on: loop) }
    }
  }

  private func connect(
    by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async -> TransportError? {
    let connection = RPCClientConnection(
      worker: destination.endpoint, idleTimeout: configuration.idleTimeout)
    do throws(TransportError) {
      let webSocket = try await WebSocketClient.connect(
        to: destination, context: context, limits: configuration.webSocket, handler: connection,
        by: deadline, on: loop)
      connection.attach(webSocket, on: loop)
      connections.append(connection)
      return nil
    } catch {
      return error
    }
  }

  private var leastBusy: RPCClientConnection? {
    connections.filter(\.isOpen).min { $0.callsInFlight < $1.callsInFlight }
  }

  private func sitOut(from now: MonotonicTime) {
    failures = min(failures + 1, 16)
    let time = min(configuration.sitOutTime * (1 << (failures - 1)), RPCClientCore.sitOutMax)
    sitsOutUntil = now + time
  }
}
