import Glibc
import TestSupport
import Testing

@testable import GrenacheIO
@testable import GrenacheTransport

/// A port whose queue of connections is full: the kernel drops what else comes, so that nobody ever answers.
private final class SilentPort {
  let address: SocketAddress
  private let listener: Int32
  private var fillers: [StreamSocket] = []

  init(on loop: isolated EventLoop) async throws {
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
    let listener = socket(AF_INET, kind, 0)
    self.listener = listener
    try #require(SocketAddress.loopback(port: 0).withSystemAddress { bind(listener, $0, $1) } == 0)
    try #require(listen(listener, 0) == 0)
    address = try #require(SocketAddress.filled { getsockname(listener, $0, $1) })
    // As many as the queue takes, and one for which there is no place.
    for _ in 0..<10 {
      let end = MonotonicTime.now() + .milliseconds(200)
      guard let filler = try? await StreamSocket.connect(to: address, by: end, on: loop) else {
        return
      }
      fillers.append(filler)
    }
    Issue.record("somebody takes connections")
  }

  func close(on loop: isolated EventLoop) {
    for filler in fillers { filler.close(on: loop) }
    Glibc.close(listener)
  }
}

@Suite("A name with several addresses", .timeLimit(.minutes(1)))
struct DialerTests {
  /// Accepts and holds what comes.
  private final class Host: ListenSocketDelegate {
    let socket: ListenSocket
    private var accepted: [StreamSocket] = []

    init(_ address: SocketAddress, on loop: isolated EventLoop) throws {
      socket = try ListenSocket(address)
      try socket.start(self, on: loop)
    }

    func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop) {
      accepted.append(StreamSocket(descriptor: descriptor, remoteAddress: remote))
    }

    func stop(on loop: isolated EventLoop) {
      socket.stop(on: loop)
      for one in accepted { one.close(on: loop) }
    }
  }

  @Test("as localhost has: one of them is listened on, whichever", arguments: ["::1", "127.0.0.1"])
  func oneFamily(_ ip: String) async throws {
    let listening = try #require(SocketAddress(ip: ip, port: 0))
    try await Self.connectToOne(listening, on: EventLoopGroup(count: 1).next())
  }

  private static func connectToOne(
    _ listening: SocketAddress, on loop: isolated EventLoop
  ) async throws {
    let host = try Host(listening, on: loop)
    let address = try #require(host.socket.localAddress)
    let both = ["::1", "127.0.0.1"].compactMap { SocketAddress(ip: $0, port: address.port) }
    let socket = try await Dialer.connect(to: both, by: .now() + .seconds(10), on: loop)
    #expect(socket.remoteAddress == address)
    socket.close(on: loop)
    host.stop(on: loop)
  }

  @Test("one that swallows packets uses up its share of the time and no more", arguments: [2, 4])
  func silentFirst(_ count: Int) async throws {
    try await Self.connectPastSilent(count, on: EventLoopGroup(count: 1).next())
  }

  private static func connectPastSilent(
    _ count: Int, on loop: isolated EventLoop
  ) async throws {
    let silent = try await SilentPort(on: loop)
    let host = try Host(.loopback(port: 0), on: loop)
    let address = try #require(host.socket.localAddress)
    let addresses = [silent.address] + [SocketAddress](repeating: address, count: count - 1)
    let start = MonotonicTime.now()
    let socket = try await Dialer.connect(to: addresses, by: start + .seconds(8), on: loop)
    let took = MonotonicTime.now() - start
    #expect(socket.remoteAddress == address)
    let share = Duration.seconds(8) / count
    #expect(took >= share - .milliseconds(1) && took < share + .seconds(2))
    socket.close(on: loop)
    host.stop(on: loop)
    silent.close(on: loop)
  }

  @Test("nobody listens: the error is that of the last address")
  func nobody() async throws {
    let addresses = ["::1", "127.0.0.1"].compactMap { SocketAddress(ip: $0, port: 1) }
    let error = await Self.failure(of: addresses, on: try EventLoopGroup(count: 1).next())
    #expect(error?.code == .connectFailed && error?.peer == addresses.last)
  }

  private static func failure(
    of addresses: [SocketAddress], on loop: isolated EventLoop
  ) async -> TransportError? {
    do throws(TransportError) {
      let socket = try await Dialer.connect(to: addresses, by: .now() + .seconds(10), on: loop)
      socket.close(on: loop)
      return nil
    } catch {
      return error
    }
  }

  @Test(
    "what this side is short of is not the peer's fault",
    arguments: [EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC])
  func shortage(_ code: Int32) {
    let error = SystemCallError(call: "socket", errno: code)
    #expect(TransportError(error, stage: .connect, peer: nil).code == .outOfResources)
    #expect(TransportError(error, stage: .transfer, peer: nil).code == .connectionClosed)
    let refused = SystemCallError(call: "connect", errno: ECONNREFUSED)
    #expect(TransportError(refused, stage: .connect, peer: nil).code == .connectFailed)
  }
}
