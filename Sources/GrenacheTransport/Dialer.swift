internal import GrenacheIO
package import GrenacheTLS

/// How a client reaches a server: where, and who must be there.
package struct Destination: Hashable, Sendable {
  package var endpoint: Endpoint
  /// Who may answer; checked in the handshake, before any byte of a request is sent.
  package var verification: PeerVerification

  package init(_ endpoint: Endpoint, verification: PeerVerification) {
    self.endpoint = endpoint
    self.verification = verification
  }
}

/// Opens client streams: resolves, connects, and starts the handshake.
enum Dialer {
  /// Connects to `destination` by `deadline`, trying its addresses one after the other.
  ///
  /// Each address but the last gets an equal share of the time that is left, so that one that
  /// swallows packets does not use up the deadline of the others.
  static func connect(
    to endpoint: Endpoint, receiveBufferBytes: Int? = nil, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> StreamSocket {
    let addresses: [SocketAddress]
    do {
      let left = deadline - .now()
      addresses = try await Resolver.resolve(endpoint.host, port: endpoint.port, within: left)
    } catch {
      if Task.isCancelled { throw .cancelled(.connect, peer: nil) }
      throw TransportError(.nameNotResolved, stage: .connect, message: error.description)
    }
    return try await connect(
      to: addresses, receiveBufferBytes: receiveBufferBytes, by: deadline, on: loop)
  }

  /// The same for addresses that are known.
  static func connect(
    to addresses: [SocketAddress], receiveBufferBytes: Int? = nil, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> StreamSocket {
    var failure = TransportError(
      .connectFailed, stage: .connect, message: "the name has no address")
    for (index, address) in addresses.enumerated() {
      let share = (deadline - .now()) / (addresses.count - index)
      do {
        return try await StreamSocket.connect(
          to: address, receiveBufferBytes: receiveBufferBytes, by: .now() + share, on: loop)
      } catch {
        failure = TransportError(error, stage: .connect, peer: address)
        if failure.code == .cancelled { break }
      }
    }
    throw failure
  }

  /// A stream over `socket`, not started yet, whose handshake may take until `deadline`.
  ///
  /// A server with more clients than it can shake hands with has them wait in line, with their first
  /// flight sent: who gives up sooner than asked to begins at the end of the line again.
  static func stream(
    over socket: StreamSocket, to destination: Destination, context: TLSContext?,
    limits: ByteStreamLimits, delegate: any ByteStreamDelegate, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) throws(TransportError) -> ByteStream {
    var engine: TLSEngine?
    if let context {
      let host = destination.endpoint.host
      let name = SocketAddress(ip: host, port: 0) == nil ? host : nil
      do {
        engine = try TLSEngine(
          context: context,
          role: .client(
            serverName: name, verification: destination.verification,
            destination: destination.endpoint.description),
          window: LoopBuffers.of(loop).window)
      } catch {
        socket.close(on: loop)
        throw TransportError(error, peer: socket.remoteAddress)
      }
    }
    return ByteStream(
      socket: socket, side: .client, engine: engine,
      limits: limits.connecting(by: deadline, at: loop.core.now), delegate: delegate, on: loop)
  }
}

extension ByteStreamLimits {
  /// The same for a client that may take until `deadline` to connect.
  func connecting(by deadline: MonotonicTime, at now: MonotonicTime) -> ByteStreamLimits {
    var limits = self
    limits.handshakeTimeout = deadline - now
    return limits
  }
}
