internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// A call on its way to some worker.
struct RPCCall: Sendable {
  var service: String
  var payload: [UInt8]
  var deadline: MonotonicTime
  var options: RPCCallOptions
  /// Whether the worker of the options is one that a lookup has found.
  var isWorkerFound = false
  /// How often the client had been closed when the call began.
  var closings = 0
  /// Whether there are others that may be called in place of one that cannot be connected to.
  var hasOthers = false

  /// When an attempt that begins now has to be over.
  var limit: MonotonicTime {
    guard let time = options.attemptTimeout else { return deadline }
    return min(deadline, .now() + time)
  }

  /// How long to wait from now for a connection.
  func connectLimit(within limit: MonotonicTime, _ timeout: Duration) -> MonotonicTime {
    Self.connectLimit(of: deadline, within: limit, timeout, hasOthers: hasOthers)
  }

  /// How long to wait from now for a connection: where there are others, half of the time is left for them.
  static func connectLimit(
    of deadline: MonotonicTime, within limit: MonotonicTime, _ timeout: Duration, hasOthers: Bool
  ) -> MonotonicTime {
    let now = MonotonicTime.now()
    let most = min(limit, now + timeout)
    return hasOthers && deadline > now ? min(most, now + (deadline - now) / 2) : most
  }

  /// - Throws: `invalidPayload` for a call that is larger, as it would be sent, than one may be.
  func checkSize(_ bytes: Int, _ bytesMax: Int) throws(GrenacheError) {
    guard bytes > bytesMax else { return }
    throw GrenacheError(
      .invalidPayload, "the call of \(service) has \(bytes) bytes, more than \(bytesMax)")
  }
}

/// One worker as a client knows it: its connections, and how it has behaved lately.
final class RPCWorker: RPCCandidate {
  /// What it is called for; a connection carries calls of one service alone.
  let service: String
  private let destination: Destination
  private let context: TLSContext?
  private let configuration: PeerRPCClientConfiguration
  private let http: RPCHTTPCaller
  private var connections: [RPCClientConnection] = []
  /// What makes the connection that is being made.
  private var connecting: Task<Void, Never>?
  private var isClosed = false
  /// Who waits for the connection that is being made.
  private var waiting: [Waiter] = []
  /// Who knows which other workers there are; told when a connection has been made.
  private weak var core: RPCClientCore?
  var standing: WorkerStanding
  private var generator = FastGenerator()

  private struct Waiter {
    let promise: LoopPromise<ConnectOutcome>
    /// Whether another worker will do as well.
    let mayMove: Bool
  }
  private enum ConnectOutcome {
    case connected
    case failed(TransportError)
    /// Another worker is connected, which may be called; or a call to this one is connecting by itself.
    case elsewhere
  }

  init(
    _ destination: Destination, for service: String, context: TLSContext?, http: RPCHTTPCaller,
    configuration: PeerRPCClientConfiguration, core: RPCClientCore
  ) {
    self.core = core
    self.service = service
    self.destination = destination
    self.context = context
    self.http = http
    self.configuration = configuration
    standing = WorkerStanding(sitOutTime: configuration.sitOutTime)
  }

  var endpoint: Endpoint { destination.endpoint }

  var isUnused: Bool {
    standing.callsInFlight == 0 && connecting == nil && !connections.contains(where: \.isOpen)
  }

  /// Whether a call needs no connecting, as far as is known.
  var isWarm: Bool {
    configuration.transport == .https ? standing.isReached : connections.contains(where: \.isOpen)
  }

  var isConnecting: Bool { connecting != nil }

  // MARK: Calls

  /// Makes a call and notes how it went.
  ///
  /// - Parameter mayRepeat: asked before the call is sent again over a new connection, because the kept
  ///   one turned out to be closed.
  func call(
    _ call: RPCCall, by limit: MonotonicTime, mayRepeat: () -> Bool, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    guard !Task.isCancelled else {
      throw GrenacheError(.cancelled, "the call of \(call.service) was cancelled")
    }
    // Late in a row of calls, or handed on by a handler that has no time left: nobody begins it any more.
    guard limit > .now() else {
      throw GrenacheError(.deadlineExceeded, "the call of \(call.service) had no time left")
    }
    standing.callsInFlight += 1
    defer { standing.callsInFlight -= 1 }
    var isSent = false
    do throws(GrenacheError) {
      let reply: RPCReply
      if configuration.transport == .https {
        reply = try await http.call(
          call, to: destination, by: limit, mayRepeat: mayRepeat, on: loop)
      } else {
        guard let connection = try await connection(for: call, by: limit, on: loop) else {
          throw GrenacheError(
            .connectedElsewhere, "another worker of \(call.service) was connected to sooner")
        }
        isSent = true
        reply = try await connection.call(call, by: limit, on: loop)
      }
      standing.noteAnswer()
      return reply
    } catch {
      if error.cause?.stage == .transfer { isSent = true }
      standing.note(error.code, isSent: isSent, at: .now(), using: &generator)
      throw error
    }
  }

  /// - Parameter hasOthers: whether there are others that may be connected to in its place.
  func openStream(
    _ service: String, _ fields: HTTPFields, by deadline: MonotonicTime, hasOthers: Bool,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> HTTPClientStream {
    // Whoever streams is as busy as whoever answers a call, for as long as that lasts.
    standing.callsInFlight += 1
    do throws(GrenacheError) {
      let stream = try await http.openStream(
        service, fields, to: destination, by: deadline,
        connectingBy: RPCCall.connectLimit(
          of: deadline, within: deadline, configuration.connectTimeout, hasOthers: hasOthers),
        ended: { self.standing.callsInFlight -= 1 }, on: loop)
      standing.noteAnswer()
      return stream
    } catch {
      let isSent = error.cause?.stage == .transfer
      standing.note(error.code, isSent: isSent, at: .now(), using: &generator)
      throw error
    }
  }

  /// Closes the connections, and the one that is being made; no others are made any more.
  func close(on loop: isolated EventLoop) {
    isClosed = true
    connecting?.cancel()
    for connection in connections { connection.close(on: loop) }
    connections = []
  }

  // MARK: Connections

  /// Connects in the background, if nothing is connected or being connected.
  func warmUp(on loop: isolated EventLoop) {
    guard !isClosed, connecting == nil, !isWarm else { return }
    startConnecting(on: loop)
  }

  /// The open connection with the fewest calls, or a new one.
  ///
  /// While a first connection is being made, everybody waits for it; another one is made only when
  /// those that are open are busy.
  ///
  /// - Returns: `nil` when another worker was connected to meanwhile, and will do as well.
  private func connection(
    for call: RPCCall, by limit: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCClientConnection? {
    if let best = leastBusy {
      if best.callsInFlight >= configuration.callsPerConnection, connecting == nil,
        connections.count(where: \.isOpen) < configuration.connectionsPerWorkerMax
      {
        startConnecting(on: loop)
      }
      return best
    }
    guard !isClosed else { throw GrenacheError(connectingTo: endpoint, for: service, closed) }
    let promise = LoopPromise<ConnectOutcome>()
    waiting.append(Waiter(promise: promise, mayMove: call.options.worker == nil))
    if connecting == nil { startConnecting(on: loop) }
    let connectLimit = call.connectLimit(within: limit, configuration.connectTimeout)
    switch await promise.wait(until: connectLimit, on: loop) {
    case .value(.connected):
      guard let connection = leastBusy else {
        throw GrenacheError(.workerUnreachable, "\(endpoint) closed at once")
      }
      return connection
    case .value(.failed(let failure)):
      throw GrenacheError(connectingTo: endpoint, for: service, failure)
    case .value(.elsewhere):
      return nil
    case .timedOut where call.deadline <= .now():
      throw GrenacheError(.deadlineExceeded, "no connection to \(endpoint) in time")
    case .timedOut:
      let late = TransportError(.timedOut, stage: .connect, message: "no connection in time")
      throw GrenacheError(connectingTo: endpoint, for: service, late)
    case .cancelled:
      throw GrenacheError(.cancelled, "the call of \(service) was cancelled")
    }
  }

  /// Connects in a task of its own and by a deadline of its own: the connection serves every caller,
  /// whoever of them gives up.
  private func startConnecting(on loop: isolated EventLoop) {
    let deadline = loop.core.now + configuration.connectTimeout
    connecting = Task {
      let outcome =
        configuration.transport == .https
        ? await keepConnection(by: deadline, on: loop) : await connect(by: deadline, on: loop)
      connecting = nil
      switch outcome {
      case .connected: standing.noteReached()
      case .failed(let failure):
        standing.noteNotConnected(failure, at: .now(), using: &generator)
      case .elsewhere: return
      }
      let waiting = self.waiting
      self.waiting = []
      for waiter in waiting { waiter.promise.fulfil(outcome, on: loop) }
      if case .connected = outcome { core?.connected(to: self, on: loop) }
    }
  }

  /// Lets those go who wait for a connection here and may be served by another worker, to which there is
  /// one now.
  func moveWaiters(on loop: isolated EventLoop) {
    guard !waiting.isEmpty, leastBusy == nil else { return }
    for waiter in waiting where waiter.mayMove { waiter.promise.fulfil(.elsewhere, on: loop) }
    waiting.removeAll(where: \.mayMove)
  }

  private func connect(
    by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async -> ConnectOutcome {
    let connection = RPCClientConnection(
      worker: destination.endpoint, idleTimeout: configuration.idleTimeout,
      callBytesMax: configuration.callBytesMax)
    var options = configuration.webSocketOptions
    options.subprotocols = configuration.offersExtension ? RPCCallContext.offeredSubprotocols : []
    do throws(TransportError) {
      let webSocket = try await WebSocketClient.connect(
        to: destination, context: context, limits: configuration.webSocket,
        options: options, handler: connection, by: deadline, on: loop)
      connection.attach(webSocket, on: loop)
      guard !isClosed else {
        connection.close(on: loop)
        return .failed(closed)
      }
      connections.removeAll { !$0.isOpen }
      connections.append(connection)
      return .connected
    } catch {
      // Cancelled by closing: of those who wait nobody has cancelled anything.
      return .failed(isClosed ? closed : error)
    }
  }

  /// Connects over HTTPS, for the next call: nobody waits for it.
  private func keepConnection(
    by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async -> ConnectOutcome {
    do throws(TransportError) {
      // Where a call is connecting already, it is for that one to say how it went.
      return try await http.connect(to: destination, by: deadline, on: loop)
        ? .connected : .elsewhere
    } catch {
      return .failed(isClosed ? closed : error)
    }
  }

  private var closed: TransportError {
    TransportError(.connectionClosed, stage: .connect, message: "the client has been closed")
  }

  private var leastBusy: RPCClientConnection? {
    var best: RPCClientConnection?
    for connection in connections where connection.isOpen {
      guard let known = best else {
        best = connection
        continue
      }
      if connection.callsInFlight < known.callsInFlight { best = connection }
    }
    return best
  }
}

extension GrenacheError {
  /// No connection, so that no byte of a call has been sent.
  init(connectingTo worker: Endpoint, for service: String, _ error: TransportError) {
    if error.code == .cancelled {
      self.init(.cancelled, "the call of \(service) was cancelled")
    } else if error.code == .outOfResources {
      self.init(.limitReached, "no connection to \(worker) can be made", cause: error)
    } else if error.tls != nil {
      self.init(
        .workerNotTrusted, "no worker of \(service) at \(worker) can be trusted", cause: error)
    } else {
      self.init(
        .workerUnreachable, "no worker of \(service) at \(worker) can be reached", cause: error)
    }
  }
}
