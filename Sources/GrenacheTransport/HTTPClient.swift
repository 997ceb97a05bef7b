package import GrenacheFraming
package import GrenacheIO
package import GrenacheTLS

/// The limits of an HTTP client.
package struct HTTPClientConfiguration: Hashable, Sendable {
  /// What a response may hold.
  package var http = HTTPLimits()
  package var stream = ByteStreamLimits()
  /// Connections to one destination on one loop; more requests wait (default 8).
  package var connectionsPerDestinationMax = 8
  /// Requests to one destination that may wait for a connection (default 1,000).
  package var waitingMax = 1_000
  /// How long connecting to a destination may take, of the time that a request has (default: all of it).
  package var connectTimeout: Duration?
  /// How long an idle connection is kept (default 30 s; a server that closes sooner is noticed).
  package var idleTimeout = Duration.seconds(30)
  /// The body of a streamed response, in all (default: no limit, since nothing of it is kept).
  package var streamedBodyBytesMax = Int.max
  /// What may wait for the reader of a stream before the server is no longer read from (default
  /// 64 KiB, and what one read brings).
  package var streamBufferBytesMax = 64 << 10
  /// What may wait of a stream's request before its writer waits (default 256 KiB): what is encrypted in one go
  /// holds up the others of the loop.
  package var streamOutputBytesMax = 256 << 10
  /// How long a stream may go without a byte in either direction (default 60 s).
  package var streamIdleTimeout = Duration.seconds(60)
  /// Streams of one client at once, each with a connection of its own (default 256).
  package var streamsMax = 256

  package init() {}
}

/// An HTTP/1.1 client with kept connections, confined to its loop.
package final class HTTPClient {
  private let context: TLSContext?
  private let configuration: HTTPClientConfiguration
  private var streamCount = 0
  /// How often the client has been closed: a request that began before goes no further.
  private var closings = 0
  /// Connections that have a request under way.
  private var active: [ObjectIdentifier: HTTPClientConnection] = [:]
  private var pools: [Destination: Pool] = [:]

  /// Connections to one destination.
  private struct Pool {
    var idle: [HTTPClientConnection] = []
    /// Connections that exist or are being made.
    var count = 0
    /// Whether the last one that was begun has come about.
    var isReached = false
    var waiting = WaitingLine<Waiter>()
  }

  /// A request that waits for its turn. What it gets then nobody who came later can take.
  private final class Waiter: WaitsInLine {
    enum Turn {
      /// A connection, or the place of one that is gone.
      case place
      case closed
    }
    let promise = LoopPromise<Turn>()
    var connection: HTTPClientConnection?
    var isOver: Bool { promise.isOver }
  }

  /// - Parameter context: the certificates; `nil` connects in the clear.
  package init(context: TLSContext?, configuration: HTTPClientConfiguration = .init()) {
    self.context = context
    self.configuration = configuration
  }

  /// Sends `request` and returns the whole response, all by `deadline`.
  ///
  /// A kept connection that turns out to be closed before any byte of the answer is replaced by a new
  /// one, provided that `isRetryable` says that the request may reach the server twice.
  ///
  /// - Parameters:
  ///   - connectDeadline: when a connection that is begun now has to be there, if sooner: asked when one
  ///     is begun, for the wait in a row of others is none for a connection.
  ///   - mayRepeat: asked before a request that is retryable is sent again.
  ///   - prepare: adds what is known only when a connection is there, such as the time left.
  package func send(
    _ request: HTTPClientRequest, to destination: Destination, by deadline: MonotonicTime,
    isRetryable: Bool, connectingBy connectDeadline: (() -> MonotonicTime)? = nil,
    mayRepeat: () -> Bool = { true }, on loop: isolated EventLoop,
    prepare: ((inout HTTPClientRequest) -> Void)? = nil
  ) async throws(TransportError) -> HTTPClientResponse {
    let began = closings
    while true {
      let (connection, isReused) = try await connection(
        to: destination, since: began, by: deadline, connectingBy: connectDeadline, on: loop)
      guard closings == began else {
        // While the connection was being made.
        connection.close(on: loop)
        release(connection, to: destination, on: loop)
        throw Self.closed
      }
      active[ObjectIdentifier(connection)] = connection
      var request = request
      prepare?(&request)
      do {
        let response = try await connection.send(request, by: deadline, on: loop)
        release(connection, to: destination, on: loop)
        return response
      } catch {
        connection.close(on: loop)
        release(connection, to: destination, on: loop)
        guard isReused, isRetryable, error.code == .connectionClosed,
          !connection.hasReceivedBytes, mayRepeat()
        else { throw error }
        // The others have been kept as long: the next connection is a new one.
        closeIdle(to: destination, on: loop)
      }
    }
  }

  /// Makes a connection to `destination` and keeps it for the next request, where there is none.
  ///
  /// - Returns: whether there is one now; not where one is being made for somebody else.
  package func connect(
    to destination: Destination, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> Bool {
    let began = closings
    if let pool = pools[destination] { return pool.isReached }
    pools[destination] = Pool(count: 1)
    let connection = try await open(to: destination, by: deadline, on: loop)
    if closings != began { connection.close(on: loop) }
    release(connection, to: destination, on: loop)
    if closings != began { throw Self.closed }
    return true
  }

  /// Sends the head of `request` and leaves its body and the response to a stream, over a connection
  /// of its own: whoever opens it closes it.
  ///
  /// - Parameters:
  ///   - deadline: for connecting and the handshake.
  ///   - ended: called once, when the stream is over or none has come about.
  package func openStream(
    _ request: HTTPClientRequest, to destination: Destination, by deadline: MonotonicTime,
    ended: @escaping () -> Void = {}, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientStream {
    guard streamCount < configuration.streamsMax else {
      ended()
      throw TransportError(
        .limitReached, stage: .connect, message: "\(streamCount) streams are open already")
    }
    streamCount += 1
    var limit = deadline
    if let time = configuration.connectTimeout { limit = min(limit, .now() + time) }
    return HTTPClientStream(
      try await HTTPClientExchange.open(
        request, to: destination, context: context, configuration: configuration, by: limit,
        ended: {
          self.streamCount -= 1
          ended()
        }, on: loop),
      on: loop)
  }

  /// Closes every connection; requests that are under way or wait for a connection fail, and those that
  /// come later make connections anew. Streams belong to those who have opened them.
  package func close(on loop: isolated EventLoop) {
    closings += 1
    for destination in pools.keys {
      // First of all: what closes now makes no room for them.
      while let turn = nextWaiting(for: destination) { turn.promise.fulfil(.closed, on: loop) }
      closeIdle(to: destination, on: loop)
    }
    for connection in active.values { connection.abort(on: loop) }
  }

  /// Destinations to which there are connections, or for whose connections somebody waits.
  var destinationCount: Int { pools.count }

  private static var closed: TransportError { .closed("this client has been closed", peer: nil) }

  private func closeIdle(to destination: Destination, on loop: isolated EventLoop) {
    while let kept = pools[destination]?.idle.popLast() {
      kept.close(on: loop)
      connectionGone(to: destination, on: loop)
    }
  }

  /// Forgets the connections that have closed while nobody used them: a destination may never be
  /// asked for again.
  private func sweep(on loop: isolated EventLoop) {
    for (destination, pool) in pools where !pool.idle.allSatisfy(\.isUsable) {
      pools[destination]?.idle.removeAll { !$0.isUsable }
      for _ in 0..<(pool.idle.count - (pools[destination]?.idle.count ?? 0)) {
        connectionGone(to: destination, on: loop)
      }
    }
  }

  private func connection(
    to destination: Destination, since began: Int, by deadline: MonotonicTime,
    connectingBy connectDeadline: (() -> MonotonicTime)?, on loop: isolated EventLoop
  ) async throws(TransportError) -> (HTTPClientConnection, isReused: Bool) {
    let connectDeadline = { min(deadline, connectDeadline?() ?? deadline) }
    guard closings == began else { throw Self.closed }
    while let kept = pools[destination]?.idle.popLast() {
      if kept.isUsable { return (kept, true) }
      connectionGone(to: destination, on: loop)
    }
    // What is decided here is noted before the next `await`: others may run at each.
    if pools[destination, default: Pool()].count < configuration.connectionsPerDestinationMax {
      pools[destination, default: Pool()].count += 1
      return (try await open(to: destination, by: connectDeadline(), on: loop), false)
    }
    let turn = try queue(for: destination)
    try await wait(for: turn, destination, by: deadline, on: loop)
    // What closed meanwhile leaves its place.
    if let kept = turn.connection, kept.isUsable { return (kept, true) }
    return (try await open(to: destination, by: connectDeadline(), on: loop), false)
  }

  /// - Precondition: the connection that is made is counted already.
  private func open(
    to destination: Destination, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientConnection {
    var limit = deadline
    if let time = configuration.connectTimeout { limit = min(limit, .now() + time) }
    sweep(on: loop)
    do {
      let connection = try await HTTPClientConnection.open(
        to: destination, context: context, configuration: configuration, by: limit, on: loop)
      pools[destination]?.isReached = true
      return connection
    } catch {
      pools[destination]?.isReached = false
      connectionGone(to: destination, on: loop)
      throw error
    }
  }

  private func queue(
    for destination: Destination
  ) throws(TransportError) -> Waiter {
    let waiting = pools[destination]?.waiting.count ?? 0
    guard waiting < configuration.waitingMax else {
      throw TransportError(
        .limitReached, stage: .connect,
        message: "\(waiting) requests to \(destination.endpoint) wait already")
    }
    let turn = Waiter()
    pools[destination]?.waiting.append(turn)
    return turn
  }

  private func wait(
    for turn: Waiter, _ destination: Destination, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) {
    let outcome = await turn.promise.wait(until: deadline, on: loop)
    do throws(TransportError) {
      let what = "no free connection to \(destination.endpoint)"
      guard try outcome.value(.connect, what, peer: nil) == .place else { throw Self.closed }
    } catch {
      // Whoever does not wait any more must not count as one who does; whom `close` has told has left the line.
      if case .value = outcome {} else { pools[destination]?.waiting.giveUp() }
      forgetIfUnused(destination)
      throw error
    }
  }

  private func release(
    _ connection: HTTPClientConnection, to destination: Destination, on loop: isolated EventLoop
  ) {
    active[ObjectIdentifier(connection)] = nil
    if connection.isUsable {
      if let next = nextWaiting(for: destination) {
        next.connection = connection
        return next.promise.fulfil(.place, on: loop)
      }
      connection.becomeIdle(on: loop)
      pools[destination]?.idle.append(connection)
    } else {
      connection.close(on: loop)
      connectionGone(to: destination, on: loop)
    }
  }

  private func connectionGone(to destination: Destination, on loop: isolated EventLoop) {
    if let next = nextWaiting(for: destination) { return next.promise.fulfil(.place, on: loop) }
    guard let count = pools[destination]?.count else { return }
    pools[destination]?.count = count - 1
    forgetIfUnused(destination)
  }

  private func forgetIfUnused(_ destination: Destination) {
    if let pool = pools[destination], pool.count <= 0, pool.waiting.count == 0 {
      pools[destination] = nil
    }
  }

  /// The request that has waited longest of those that still do.
  private func nextWaiting(for destination: Destination) -> Waiter? {
    pools[destination]?.waiting.popFirst()
  }
}
