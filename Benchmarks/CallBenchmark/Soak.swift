import ArgumentParser
import Foundation
import Grenache
import GrenacheTLS
import Synchronization

/// Calls over old and new connections while the server's certificates are replaced again and again.
struct Soak: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Replace the server's certificates under load; fails with any call that fails, or with 1 MiB of growth."
  )

  @Option(help: "Seconds.")
  var seconds = 60.0

  func run() async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let authority = try CertificateAuthority()
    let leaf = CertificateAuthority.Leaf(commonName: "worker", services: ["bench"])
    let certificates = "\(folder)/worker"
    try authority.write(leaf, toDirectory: certificates)
    let tls = try authority.configuration(for: .init(commonName: "client", dnsNames: ["client"]))
    let server = try ServerProcess.calls(certificates: certificates)
    defer { server.terminate() }
    let worker = Endpoint(host: "127.0.0.1", port: server.port)
    let tally = Tally()
    let end = ContinuousClock.now + .seconds(seconds)
    var resident = 0
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask { try await Self.callOverOne(worker, tls, tally, until: end) }
      }
      for _ in 0..<2 {
        group.addTask { try await Self.callOverMany(worker, tls, tally, until: end) }
      }
      // Whoever replaces files does so a little slower than the server looks at them.
      while ContinuousClock.now < end {
        try authority.write(leaf, toDirectory: certificates)
        try await Task.sleep(for: .milliseconds(300))
        if resident == 0, ContinuousClock.now > end - .seconds(seconds * 0.9) {
          resident = server.residentBytes
        }
      }
      try await group.waitForAll()
    }
    let (calls, connections, served, failures) = tally.counts
    let growth = (server.residentBytes - resident) / 1024
    print(
      """
      \(calls) calls, \(connections) new connections, \(served) different certificates served, \
      \(failures.count) failures, resident memory \(growth >= 0 ? "+" : "")\(growth) KiB
      """)
    for failure in failures.prefix(5) { print("  \(failure)") }
    // What grows with the number of connections or reloads is a leak.
    guard failures.isEmpty, served > 1, growth < 1024 else { throw ExitCode.failure }
  }

  /// Calls over connections that stay.
  private static func callOverOne(
    _ worker: Endpoint, _ tls: TLSConfiguration, _ tally: Tally,
    until end: ContinuousClock.Instant
  ) async throws {
    let link = try await Link(LinkConfiguration(grapes: [worker], tls: tls), logger: quiet)
    let client = await PeerRPCClient(link: link)
    while ContinuousClock.now < end { await call(client, worker, tally) }
    await client.close()
  }

  /// Calls over a new connection each time.
  private static func callOverMany(
    _ worker: Endpoint, _ tls: TLSConfiguration, _ tally: Tally,
    until end: ContinuousClock.Instant
  ) async throws {
    let link = try await Link(LinkConfiguration(grapes: [worker], tls: tls), logger: quiet)
    while ContinuousClock.now < end {
      let client = await PeerRPCClient(link: link)
      await call(client, worker, tally)
      tally.connected()
      await client.close()
    }
  }

  private static func call(_ client: PeerRPCClient, _ worker: Endpoint, _ tally: Tally) async {
    do {
      let reply = try await client.requestRaw("bench", Array("[1]".utf8), to: worker)
      guard reply.result == Array("[1]".utf8) else { return tally.failed("a wrong reply") }
      tally.called(reply.identity)
    } catch {
      tally.failed("\(error)")
    }
  }
}

/// What has happened so far, counted from anywhere.
private final class Tally: Sendable {
  private struct Counts {
    var calls = 0
    var connections = 0
    var served: Set<[UInt8]> = []
    var failures: [String] = []
  }
  private let state = Mutex(Counts())

  func called(_ identity: PeerIdentity?) {
    state.withLock { counts in
      counts.calls += 1
      if let identity { counts.served.insert(identity.fingerprintSHA256) }
    }
  }

  func connected() { state.withLock { $0.connections += 1 } }

  func failed(_ reason: String) { state.withLock { $0.failures.append(reason) } }

  var counts: (Int, Int, Int, [String]) {
    state.withLock { ($0.calls, $0.connections, $0.served.count, $0.failures) }
  }
}
