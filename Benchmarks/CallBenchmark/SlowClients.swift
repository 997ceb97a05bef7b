import ArgumentParser
import Foundation
import Glibc
import Grenache
import GrenacheIO
import GrenacheTransport

/// What a thousand clients that send their heads a byte a second do to those that are established, how
/// long they stay, and what each costs (P4, P5).
struct SlowClients: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "slow-clients",
    abstract: "Measure paced calls over 16 connections, without and beside slow clients.")

  @Option(help: "Slow clients.")
  var connections = 1_000
  @Option(help: "How many times.")
  var rounds = 3
  @Flag(
    help: """
      Fail when the median of p99 is twice that of calm or more, one costs 1 MiB, or one stays over 11 s.
      """)
  var strict = false

  func run() async throws {
    let calls = try CallsUnderTest(answersPlaintext: true)
    defer { calls.end() }
    var clients: [PeerRPCClient] = []
    for _ in 0..<16 { clients.append(try await calls.client()) }
    _ = try await PacedCalls.run(clients, calls.worker) { try await Task.sleep(for: .seconds(1)) }
    print("established connections   calls   p50 us   p99 us")
    var all: [Round] = []
    for _ in 0..<rounds { all.append(try await measure(calls, clients)) }
    for client in clients { await client.close() }
    let median = PacedCalls.percentile(all.map(\.ratio).sorted(), 50)
    print(String(format: "the median of %d: %.2f (promised: 2)", rounds, median))
    let isGood = !all.isEmpty && median < 2 && all.allSatisfy { $0.isKept && $0.kibibytes < 1024 }
    if strict, !isGood { throw ExitCode.failure }
  }

  /// What one round has shown.
  private struct Round {
    /// p99 beside slow clients, in those of calm.
    var ratio: Double
    /// What a slow client costs.
    var kibibytes: Double
    /// Whether all were cut off in time.
    var isKept: Bool
  }

  private func measure(_ calls: CallsUnderTest, _ clients: [PeerRPCClient]) async throws -> Round {
    let worker = calls.worker
    let calm = try await PacedCalls.run(clients, worker) { try await Task.sleep(for: .seconds(10)) }
    let before = calls.server.residentBytes
    var most = before
    var isKept = false
    let beside = try await PacedCalls.run(clients, worker) {
      let slow = try Self.start(connections, port: worker.port)
      while slow.isRunning {
        most = max(most, calls.server.residentBytes)
        try await Task.sleep(for: .milliseconds(100))
      }
      isKept = slow.terminationStatus == 0
    }
    let ratio = PacedCalls.percentile(beside, 99) / PacedCalls.percentile(calm, 99)
    let each = Double(most - before) / Double(connections) / 1024
    PacedCalls.show("calm", calm)
    PacedCalls.show("beside slow clients", beside)
    print(
      String(
        format: "%d slow clients: p99 %.2f times that of calm, %.1f KiB each", connections, ratio,
        each))
    return Round(ratio: ratio, kibibytes: each, isKept: isKept)
  }

  /// Starts the process of the slow clients; like that of a storm, it runs when nobody else wants to.
  private static func start(_ count: Int, port: UInt16) throws -> Process {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/chrt")
    process.arguments = [
      "--idle", "0", URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().path,
      "slow-header-clients", "--port", "\(port)", "--count", "\(count)",
    ]
    try process.run()
    return process
  }
}

/// The process of the slow clients: says how long they stayed, and fails when one stayed over 11 s.
struct SlowHeaderClients: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "slow-header-clients", shouldDisplay: false)
  @Option var port: UInt16
  @Option var count: Int

  func run() async throws {
    let loop = try EventLoopGroup.shared().next()
    let address = SocketAddress.loopback(port: port)
    let count = count
    let stays = await withTaskGroup(of: Duration?.self) { group in
      for _ in 0..<count {
        group.addTask { await SlowHeaderClient.stay(at: address, on: loop) }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    let longest = stays.compactMap(\.self).max() ?? .zero
    let cutOff = stays.count { $0 != nil }
    print(
      String(
        format: "%d of %d were cut off, the last after %.2f s (promised: 11)", cutOff, count,
        Double(longest.wholeNanoseconds) / 1e9))
    guard cutOff == count, longest <= .seconds(11) else { throw ExitCode.failure }
  }
}

/// Sends a head a byte a second until it is cut off.
private final class SlowHeaderClient: StreamSocketDelegate {
  private let socket: StreamSocket
  private var closed = LoopPromise<Void>()
  private var isClosed = false

  private init(_ socket: StreamSocket) { self.socket = socket }

  /// For how long the server has borne it; `nil` when it could not connect, or was still there after
  /// 20 s.
  static func stay(at address: SocketAddress, on loop: isolated EventLoop) async -> Duration? {
    guard
      let socket = try? await StreamSocket.connect(to: address, by: .now() + .seconds(5), on: loop)
    else { return nil }
    let start = MonotonicTime.now()
    let client = SlowHeaderClient(socket)
    socket.delegate = client
    try? socket.setReading(true, on: loop)
    client.send("GET / HTTP/1.1\r\nX: ", on: loop)
    while MonotonicTime.now() - start < .seconds(20) {
      client.closed = LoopPromise()  // each is waited for once
      if !client.isClosed { _ = await client.closed.wait(until: .now() + .seconds(1), on: loop) }
      if client.isClosed { return MonotonicTime.now() - start }
      client.send("a", on: loop)
    }
    socket.close(on: loop)
    return nil
  }

  private func send(_ text: String, on loop: isolated EventLoop) {
    guard !socket.isClosed else { return }
    Array(text.utf8).withUnsafeBytes { try? socket.send($0, on: loop) }
  }

  private func end(on loop: isolated EventLoop) {
    socket.close(on: loop)
    isClosed = true
    closed.fulfil((), on: loop)
  }

  func socketReadable(on loop: isolated EventLoop) {
    var buffer = [UInt8](repeating: 0, count: 1 << 12)
    let outcome = buffer.withUnsafeMutableBytes { try? socket.receive(into: $0) }
    switch outcome {
    case .bytes, .wouldBlock: break
    case .endOfStream, nil: end(on: loop)
    }
  }

  func socketDrained(on loop: isolated EventLoop) {}
  func socketTurnEnded(on loop: isolated EventLoop) {}
  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) { end(on: loop) }
}
