internal import GrenacheFraming
package import GrenacheIO
package import GrenacheTLS
package import Logging

/// What a server does with what comes in.
package struct HTTPServerHandlers: Sendable {
  /// Answers a request; runs on the connection's loop until it suspends.
  package var respond: @Sendable (HTTPServerRequest) async -> HTTPServerResponse
  /// Decides by its head whether a request is streamed: the handler that takes it so, or `nil` to have
  /// the whole request handed to `respond`.
  package var stream: (@Sendable (HTTPServerRequest) -> HTTPStreamHandler?)?
  /// A request with this field is cancelled when its client closes, even if only its direction.
  package var cancellationField: String?
  /// Whether who asks may have a WebSocket, and else is answered 403; everybody may where it is `nil`.
  package var admitsToWebSocket: (@Sendable (HTTPServerRequest) -> Bool)?
  /// Makes the handler of a new WebSocket, or `nil` to refuse the upgrade with 404.
  package var openWebSocket:
    @Sendable (HTTPServerRequest, isolated EventLoop) -> (any WebSocketHandler)?

  package init(
    respond: @escaping @Sendable (HTTPServerRequest) async -> HTTPServerResponse,
    stream: (@Sendable (HTTPServerRequest) -> HTTPStreamHandler?)? = nil,
    openWebSocket:
      @escaping @Sendable (HTTPServerRequest, isolated EventLoop) -> (any WebSocketHandler)? = {
        _, _ in nil
      }
  ) {
    self.respond = respond
    self.stream = stream
    self.openWebSocket = openWebSocket
  }
}

/// An HTTPS and WSS server on one port (HTTP/1.1 by RFC 9112, WebSocket by RFC 6455).
///
/// One loop accepts and deals the connections out to the loops of the group in turn; from then on a
/// connection stays on its loop.
package final class HTTPServer: Sendable {
  /// The address that the server listens on, with the port that the kernel chose.
  package let localAddress: SocketAddress

  private let acceptor: LoopBound<Acceptor>
  private let shards: [LoopBound<HTTPServerShard>]

  /// Binds, listens and serves.
  ///
  /// - Parameter context: the certificates; `nil` serves in the clear, which callers allow only
  ///   behind an option that says so.
  /// - Throws: `TransportError` when the address cannot be bound.
  package init(
    on address: SocketAddress, context: TLSContext?, configuration: HTTPServerConfiguration,
    handlers: HTTPServerHandlers, group: EventLoopGroup, logger: Logger
  ) async throws(TransportError) {
    var shards: [LoopBound<HTTPServerShard>] = []
    let perLoop = max(1, configuration.connectionsMax / group.loops.count)
    for loop in group.loops {
      let shard = await loop.run { loop in
        let shard = HTTPServerShard(
          configuration: configuration, context: context, handlers: handlers,
          connectionsMax: perLoop, logger: logger)
        return LoopBound(shard, on: loop)
      }
      shards.append(shard)
    }
    self.shards = shards
    do {
      let shards = shards
      acceptor = try await group.next().run { loop throws(SystemCallError) in
        let connectionsMax = configuration.connectionsMax
        return LoopBound(
          try Acceptor(address, shards: shards, connectionsMax: connectionsMax, on: loop), on: loop)
      }
    } catch {
      throw TransportError(.listenFailed, stage: .listen, message: error.description)
    }
    let acceptor = acceptor
    localAddress = await acceptor.loop.run { loop in
      acceptor.get(on: loop).localAddress ?? address
    }
  }

  /// Stops accepting, closes what is idle, lets what is being answered finish, tells WebSockets that
  /// the server goes away, and after `grace` breaks off the rest; whether the task is cancelled or not.
  package func shutDown(within grace: Duration) async {
    // In a task of its own: a cancelled one would not wait for anything.
    await Task { await self.drain(within: grace) }.value
  }

  private func drain(within grace: Duration) async {
    let acceptor = acceptor
    await acceptor.loop.run { loop in acceptor.get(on: loop).stop(on: loop) }
    await withTaskGroup { group in
      for shard in shards {
        group.addTask { await HTTPServer.drain(shard, within: grace, loop: shard.loop) }
      }
    }
  }

  /// The open connections, all loops together.
  package var connectionCount: Int {
    get async {
      var count = 0
      for shard in shards {
        count += await shard.loop.run { loop in shard.get(on: loop).connectionCount }
      }
      return count
    }
  }

  private static func drain(
    _ shard: LoopBound<HTTPServerShard>, within grace: Duration, loop: isolated EventLoop
  ) async {
    await shard.get(on: loop).drain(within: grace, on: loop)
  }
}

/// Accepts connections on one loop and hands them to the shards in turn.
private final class Acceptor: ListenSocketDelegate {
  private let socket: ListenSocket
  private var turn = 0
  private let shards: [LoopBound<HTTPServerShard>]

  init(
    _ address: SocketAddress, shards: [LoopBound<HTTPServerShard>], connectionsMax: Int,
    on loop: isolated EventLoop
  ) throws(SystemCallError) {
    socket = try ListenSocket(address)
    socket.reserveDescriptors(connectionsMax)
    self.shards = shards
    try socket.start(self, on: loop)
  }

  var localAddress: SocketAddress? { socket.localAddress }

  func stop(on loop: isolated EventLoop) {
    socket.stop(on: loop)
  }

  func accepted(
    _ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop
  ) {
    let shard = shards[turn % shards.count]
    turn &+= 1
    if shard.loop === loop {
      shard.get(on: loop).accept(descriptor, remote, on: loop)
    } else {
      Task { await shard.loop.run { shard.get(on: $0).accept(descriptor, remote, on: $0) } }
    }
  }
}
