import Foundation
import TestSupport
import Testing

@testable import GrenacheIO

/// Accepts connections and keeps them, reading nothing unless told to echo.
private final class Acceptor: ListenSocketDelegate {
  let listener: ListenSocket
  private let echoes: Bool
  private(set) var peers: [Peer] = []

  init(_ address: SocketAddress, echoes: Bool, on loop: isolated EventLoop) throws {
    listener = try ListenSocket(address)
    self.echoes = echoes
    try listener.start(self, on: loop)
  }

  func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop) {
    let peer = Peer(StreamSocket(descriptor: descriptor, remoteAddress: remote), echoes: echoes)
    peers.append(peer)
    try? peer.socket.setReading(echoes, on: loop)
  }

  func stop(on loop: isolated EventLoop) {
    listener.stop(on: loop)
    for peer in peers { peer.socket.close(on: loop) }
  }
}

/// One end of a connection: gathers what it receives.
private final class Peer: StreamSocketDelegate {
  let socket: StreamSocket
  private let echoes: Bool
  private(set) var received: [UInt8] = []
  private(set) var drainedCount = 0
  private(set) var failure: SystemCallError?
  private var expected = Int.max
  let arrived = LoopPromise<Void>()

  init(_ socket: StreamSocket, echoes: Bool) {
    self.socket = socket
    self.echoes = echoes
    socket.delegate = self
  }

  func expect(_ count: Int) { expected = count }

  func socketReadable(on loop: isolated EventLoop) {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    do {
      switch try buffer.withUnsafeMutableBytes({ try socket.receive(into: $0) }) {
      case .bytes(let count) where echoes:
        try buffer[..<count].withUnsafeBytes { try socket.send($0, on: loop) }
      case .bytes(let count):
        received += buffer[..<count]
        if received.count >= expected { arrived.fulfil((), on: loop) }
      case .wouldBlock:
        break
      case .endOfStream:
        socket.close(on: loop)
        arrived.fulfil((), on: loop)
      }
    } catch {
      socket.close(on: loop)
      arrived.fulfil((), on: loop)
    }
  }

  func socketDrained(on loop: isolated EventLoop) { drainedCount += 1 }
  func socketTurnEnded(on loop: isolated EventLoop) {}
  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    failure = error
    arrived.fulfil((), on: loop)
  }
}

/// A port that swallows packets: its queue of connections is full, and the kernel drops what else comes.
private final class BlackHole {
  let address: SocketAddress
  private var descriptors: [Int32] = []

  init() throws {
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
    let listener = socket(AF_INET, kind, 0)
    descriptors.append(listener)
    try #require(SocketAddress.loopback(port: 0).withSystemAddress { bind(listener, $0, $1) } == 0)
    try #require(listen(listener, 0) == 0)
    address = try #require(SocketAddress.filled { getsockname(listener, $0, $1) })
    for _ in 0..<4 {
      let filler = socket(AF_INET, kind, 0)
      descriptors.append(filler)
      _ = address.withSystemAddress { connect(filler, $0, $1) }
    }
  }

  deinit {
    for descriptor in descriptors { close(descriptor) }
  }
}

@Suite("TCP sockets", .timeLimit(.minutes(1)))
struct StreamSocketTests {
  /// A loop of the test's own, so that what is left in it can be counted.
  let loop: EventLoop

  init() throws { loop = try EventLoopGroup(count: 1).next() }

  @Test(
    "bytes go both ways, over IPv4 and IPv6, in pieces that the kernel does not take at once",
    arguments: ["127.0.0.1", "::1"])
  func echo(_ ip: String) async throws {
    let address = try #require(SocketAddress(ip: ip, port: 0))
    let sent = (0..<4_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    let (received, backlog, drained) = try await Self.echo(sent, at: address, on: loop)
    #expect(received == sent)
    #expect(backlog > 0)
    #expect(drained > 0)
    #expect(await loop.run { $0.core.sourceCount } == 0)
  }

  private static func echo(
    _ bytes: [UInt8], at address: SocketAddress, on loop: isolated EventLoop
  ) async throws -> (received: [UInt8], backlog: Int, drained: Int) {
    let acceptor = try Acceptor(address, echoes: true, on: loop)
    let server = try #require(acceptor.listener.localAddress)
    let socket = try await StreamSocket.connect(to: server, by: .now() + .seconds(5), on: loop)
    let peer = Peer(socket, echoes: false)
    try socket.setReading(true, on: loop)
    peer.expect(bytes.count)
    // Else a kernel may take them all.
    socket.limitSendBuffer(to: 64 << 10)
    try bytes.withUnsafeBytes { try socket.send($0, on: loop) }
    let backlog = socket.backlogBytes
    _ = await peer.arrived.wait(until: .now() + .seconds(20), on: loop)
    socket.close(on: loop)
    acceptor.stop(on: loop)
    return (peer.received, backlog, peer.drainedCount)
  }

  @Test("a port on which nobody listens refuses at once")
  func refused() async throws {
    let error = await #expect(throws: SystemCallError.self) {
      try await Self.connect(.loopback(port: 1), within: .seconds(5), on: loop)
    }
    #expect(error?.errno == ECONNREFUSED)
    #expect(await loop.run { $0.core.sourceCount } == 0)
  }

  @Test("an address that swallows packets costs the deadline and no more")
  func blackHole() async throws {
    let hole = try BlackHole()
    let start = MonotonicTime.now()
    let error = await #expect(throws: SystemCallError.self) {
      try await Self.connect(hole.address, within: .milliseconds(100), on: loop)
    }
    #expect(error?.errno == ETIMEDOUT)
    #expect(MonotonicTime.now() - start >= .milliseconds(100))
    #expect(await loop.run { $0.core.sourceCount } == 0)
  }

  @Test("cancelling the task ends an attempt")
  func cancelled() async throws {
    let loop = loop
    let hole = try BlackHole()
    let address = hole.address
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      _ = try await Self.connect(address, within: .seconds(20), on: loop)
    }
    let error = await #expect(throws: SystemCallError.self) { try await task.value }
    #expect(error?.errno == ECANCELED)
    #expect(await loop.run { $0.core.sourceCount } == 0)
  }

  @Test(
    "a connection to a peer that vanishes without a word ends: keep-alive and user timeout are on")
  func vanished() async throws {
    #expect(try await Self.options(on: loop) == [1, 15, 5, 3, 30_000])
  }

  private static func options(on loop: isolated EventLoop) async throws -> [Int32] {
    let acceptor = try Acceptor(.loopback(port: 0), echoes: false, on: loop)
    let server = try #require(acceptor.listener.localAddress)
    let socket = try await StreamSocket.connect(to: server, by: .now() + .seconds(5), on: loop)
    let tcp = Int32(IPPROTO_TCP)
    let values = [
      (SOL_SOCKET, SO_KEEPALIVE), (tcp, TCP_KEEPIDLE), (tcp, TCP_KEEPINTVL), (tcp, TCP_KEEPCNT),
      (tcp, TCP_USER_TIMEOUT),
    ].map { level, name in
      var value: Int32 = 0
      var size = socklen_t(4)
      _ = getsockopt(socket.descriptor, level, name, &value, &size)
      return value
    }
    socket.close(on: loop)
    acceptor.stop(on: loop)
    return values
  }

  @Test("a peer that resets the connection is noticed without reading")
  func reset() async throws {
    #expect(try await Self.reset(on: loop) != nil)
  }

  private static func reset(on loop: isolated EventLoop) async throws -> SystemCallError? {
    let acceptor = try Acceptor(.loopback(port: 0), echoes: false, on: loop)
    let server = try #require(acceptor.listener.localAddress)
    let socket = try await StreamSocket.connect(to: server, by: .now() + .seconds(5), on: loop)
    let peer = Peer(socket, echoes: false)
    try socket.setReading(false, on: loop)
    try await eventually { !acceptor.peers.isEmpty }
    // Unread bytes at the other end turn its close into a reset.
    try [UInt8](repeating: 1, count: 100).withUnsafeBytes { try socket.send($0, on: loop) }
    acceptor.stop(on: loop)
    _ = await peer.arrived.wait(until: .now() + .seconds(5), on: loop)
    socket.close(on: loop)
    return peer.failure
  }

  private static func connect(
    _ address: SocketAddress, within time: Duration, on loop: isolated EventLoop
  ) async throws(SystemCallError) -> LoopBound<StreamSocket> {
    let socket = try await StreamSocket.connect(to: address, by: .now() + time, on: loop)
    return LoopBound(socket, on: loop)
  }
}

@Suite("UDP sockets", .timeLimit(.minutes(1)))
struct DatagramSocketTests {
  private final class Receiver: DatagramSocketDelegate {
    private(set) var datagrams: [[UInt8]] = []
    let expected: Int
    let arrived = LoopPromise<Void>()

    init(expecting count: Int) { expected = count }

    func received(_ datagram: Span<UInt8>, from source: SocketAddress, on loop: isolated EventLoop)
    {
      datagrams.append(datagram.withUnsafeBufferPointer(Array.init))
      if datagrams.count == expected { arrived.fulfil((), on: loop) }
    }
  }

  @Test(
    "datagrams keep their boundaries, empty and largest ones too", arguments: ["127.0.0.1", "::1"])
  func boundaries(_ ip: String) async throws {
    let loop = try EventLoopGroup.shared().next()
    let address = try #require(SocketAddress(ip: ip, port: 0))
    let sizes = [0, 1, 1_200, DatagramSocket.datagramBytesMax]
    let received = try await Self.exchange(sizes, at: address, on: loop)
    #expect(received.map(\.count) == sizes)
  }

  private static func exchange(
    _ sizes: [Int], at address: SocketAddress, on loop: isolated EventLoop
  ) async throws -> [[UInt8]] {
    let receiver = Receiver(expecting: sizes.count)
    let inbound = try DatagramSocket(address)
    let outbound = try DatagramSocket(address)
    try inbound.start(receiver, on: loop)
    let target = try #require(inbound.localAddress)
    for size in sizes {
      let payload = [UInt8](repeating: 7, count: size)
      outbound.send(payload.span, to: target)
    }
    _ = await receiver.arrived.wait(until: .now() + .seconds(5), on: loop)
    inbound.stop(on: loop)
    outbound.stop(on: loop)
    return receiver.datagrams
  }

  @Test(
    "without IPv6 all addresses are those of IPv4; an address that was named is no other, nor any error that one",
    arguments: [
      ("::", EAFNOSUPPORT, "0.0.0.0:7"), ("::1", EAFNOSUPPORT, nil), ("0.0.0.0", EAFNOSUPPORT, nil),
      ("::ffff:0.0.0.0", EAFNOSUPPORT, nil), ("::", EMFILE, nil), ("::", EADDRNOTAVAIL, nil),
    ] as [(String, Int32, String?)])
  func withoutIPv6(_ ip: String, _ code: Int32, _ expected: String?) throws {
    let address = try #require(SocketAddress(ip: ip, port: 7))
    #expect(ListenSocket.substitute(for: address, after: code)?.description == expected)
  }

  @Test("an address that is taken cannot be bound")
  func taken() throws {
    let first = try DatagramSocket(.loopback(port: 0))
    let address = try #require(first.localAddress)
    let error = #expect(throws: SystemCallError.self) { try DatagramSocket(address) }
    #expect(error?.errno == EADDRINUSE)
  }
}

@Suite("Addresses and names")
struct SocketAddressTests {
  @Test(
    "text to address and back (RFC 4291 §2.2, RFC 5952)",
    arguments: [
      ("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7"), ("::", "[::]:7"),
      ("2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:7"), ("::ffff:1.2.3.4", "[::ffff:1.2.3.4]:7"),
    ])
  func text(_ ip: String, _ description: String) {
    #expect(SocketAddress(ip: ip, port: 7)?.description == description)
  }

  @Test(
    "what is no address",
    arguments: [
      "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "[::1]", "::g", "localhost", "1.2.3.4 ",
    ])
  func malformed(_ ip: String) {
    #expect(SocketAddress(ip: ip, port: 7) == nil)
  }

  @Test("mapped addresses and loopback")
  func mapped() throws {
    let mapped = try #require(SocketAddress(ip: "::ffff:127.1.2.3", port: 7))
    #expect(mapped.isLoopback)
    #expect(mapped.unmapped == SocketAddress(ip: "127.1.2.3", port: 7))
    #expect(SocketAddress(ip: "::1", port: 7)?.isLoopback == true)
    for ip in ["128.0.0.1", "::2", "::ffff:128.0.0.1", "7f00::1"] {
      #expect(SocketAddress(ip: ip, port: 7)?.isLoopback == false)
    }
  }

  @Test("localhost resolves, and what has no address says so")
  func resolve() async throws {
    let found = try await Resolver.resolve("localhost", port: 7, within: .seconds(5))
    #expect(found.contains { $0.isLoopback && $0.port == 7 })
    let error = await #expect(throws: ResolutionError.self) {
      try await Resolver.resolve("no-such-host.invalid", port: 7, within: .seconds(5))
    }
    #expect(error?.host == "no-such-host.invalid")
  }
}

@Suite("Descriptors and child processes", .timeLimit(.minutes(1)))
struct DescriptorTests {
  @Test("a socket that is closed while a copy of its descriptor lives is not polled any more")
  func copies() async throws {
    let loop = try EventLoopGroup(count: 1).next()
    let (before, open, closed) = try await Self.closeBesideCopy(on: loop)
    #expect(open == before + 1)
    #expect(closed == before)
  }

  /// Closes a socket of which a copy stays, as in a child between fork and exec; returns how many
  /// descriptors the loop polled before, while it was open, and then.
  private static func closeBesideCopy(
    on loop: isolated EventLoop
  ) async throws -> (before: Int, open: Int, closed: Int) {
    var pair: [Int32] = [0, 0]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
    try #require(socketpair(AF_UNIX, kind, 0, &pair) == 0)
    let copy = dup(pair[0])
    defer {
      close(copy)
      close(pair[1])
    }
    let socket = StreamSocket(descriptor: pair[0], remoteAddress: .loopback(port: 0))
    let before = try polledCount(loop.core.poller)
    try socket.setReading(true, on: loop)
    let open = try polledCount(loop.core.poller)
    socket.close(on: loop)
    return (before, open, try polledCount(loop.core.poller))
  }

  /// How many descriptors the kernel has in an epoll set.
  private static func polledCount(_ poller: Poller) throws -> Int {
    let path = "/proc/self/fdinfo/\(poller.descriptor)"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    return text.split(separator: "\n").filter { $0.hasPrefix("tfd:") }.count
  }
}
