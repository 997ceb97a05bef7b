import Glibc
import GrenacheIO
import GrenacheTransport
import TestSupport
import Testing

/// A TCP server that misbehaves.
final class HostileServer: ListenSocketDelegate, StreamSocketDelegate {
  enum Manner: Sendable {
    case closesAtOnce
    case resetsAtOnce
    case saysNothing
    case says([UInt8])
    /// Says so once it has heard something.
    case answers([UInt8])
    /// The same, and counts who has connected.
    case counts(Tally)
  }

  private let manner: Manner
  private let listener: ListenSocket
  private var sockets: [StreamSocket] = []
  private(set) var received: [UInt8] = []

  init(_ manner: Manner, on loop: isolated EventLoop) throws {
    self.manner = manner
    listener = try ListenSocket(.loopback(port: 0))
    try listener.start(self, on: loop)
  }

  var endpoint: Endpoint? { listener.localAddress.map(Endpoint.init) }

  func stop(on loop: isolated EventLoop) {
    listener.stop(on: loop)
    for socket in sockets { socket.close(on: loop) }
  }

  func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop) {
    let socket = StreamSocket(descriptor: descriptor, remoteAddress: remote)
    sockets.append(socket)
    switch manner {
    case .closesAtOnce:
      socket.close(on: loop)
    case .answers:
      socket.delegate = self
      try? socket.setReading(true, on: loop)
    case .resetsAtOnce:
      var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
      let size = socklen_t(MemoryLayout<linger>.size)
      _ = setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, size)
      socket.close(on: loop)
    case .saysNothing:
      socket.delegate = self
    case .counts(let tally):
      socket.delegate = self
      Task { await tally.add() }
    case .says(let bytes):
      socket.delegate = self
      try? socket.setReading(true, on: loop)
      bytes.withUnsafeBytes { try? socket.send($0, on: loop) }
    }
  }

  func socketReadable(on loop: isolated EventLoop) {
    var buffer = [UInt8](repeating: 0, count: 4_096)
    for socket in sockets where !socket.isClosed {
      let outcome = buffer.withUnsafeMutableBytes { try? socket.receive(into: $0) }
      switch outcome {
      case .bytes(let count):
        if case .answers(let bytes) = manner, received.isEmpty {
          bytes.withUnsafeBytes { try? socket.send($0, on: loop) }
        }
        received += buffer[..<count]
      case .endOfStream, nil: socket.close(on: loop)
      case .wouldBlock: break
      }
    }
  }

  func socketDrained(on loop: isolated EventLoop) {}
  func socketTurnEnded(on loop: isolated EventLoop) {}
  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {}
}

func withHostileServer(
  _ manner: HostileServer.Manner, _ body: (Endpoint) async throws -> Void
) async throws {
  let loop = try EventLoopGroup.shared().next()
  let server = try await loop.run { loop in
    LoopBound(try HostileServer(manner, on: loop), on: loop)
  }
  let endpoint = await loop.run { loop in server.get(on: loop).endpoint }
  try await body(try #require(endpoint))
  await loop.run { loop in server.get(on: loop).stop(on: loop) }
}

/// The same with several.
func withHostileServers(
  _ count: Int, _ manner: HostileServer.Manner, _ body: ([Endpoint]) async throws -> Void
) async throws {
  guard count > 0 else { return try await body([]) }
  try await withHostileServer(manner) { first in
    try await withHostileServers(count - 1, manner) { try await body([first] + $0) }
  }
}
