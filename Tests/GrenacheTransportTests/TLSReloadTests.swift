import Foundation
import GrenacheFraming
import GrenacheIO
import Synchronization
import TestSupport
import Testing

@testable import GrenacheTLS
@testable import GrenacheTransport

@Suite("TLS reload on a running server", .timeLimit(.minutes(1)))
struct TLSReloadTests {
  /// Runs an echo server with `context`, and its reloader, while `body` runs.
  private func withEcho<Result: Sendable>(
    _ context: TLSContext, outcomes: (@Sendable (TLSReloadOutcome) -> Void)? = nil,
    _ body: (HTTPServer) async throws -> Result
  ) async throws -> Result {
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: context, configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.ok) }, openWebSocket: { _, _ in EchoHandler() }),
      group: EventLoopGroup(count: 2), logger: quietLogger)
    let reloader = FileReloader(context, role: "test", logger: quietLogger, report: outcomes)
    let task = Task { await reloader.run() }
    do {
      let result = try await body(server)
      task.cancel()
      await server.shutDown(within: .zero)
      return result
    } catch {
      task.cancel()
      await server.shutDown(within: .zero)
      throw error
    }
  }

  @Test("P21 1,000 reloads under load: every message comes back, every handshake succeeds")
  func underLoad() async throws {
    let authority = try TestAuthority()
    let client = try authority.client()
    let context = try TLSContext(authority.host())
    try await withEcho(context) { server in
      let isOver = Flag()
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<4 {
          group.addTask {
            let probe = try await WebSocketProbe(to: server.localAddress, tls: client)
            var count = 0
            while !isOver.isSet {
              await probe.send([UInt8(truncatingIfNeeded: count)])
              count += 1
              let messages = await probe.messages(count)
              guard messages.last == [UInt8(truncatingIfNeeded: count - 1)] else { return -1 }
            }
            return count
          }
          group.addTask {
            var count = 0
            while !isOver.isSet {
              let probe = try await WebSocketProbe(to: server.localAddress, tls: client)
              await probe.send([1])
              guard await probe.messages(1) == [[1]] else { return -1 }
              await probe.close(.normal)
              count += 1
            }
            return count
          }
        }
        let sets = try (0..<4).map { _ in try authority.host() }
        for number in 0..<1_000 {
          try context.reload(sets[number % sets.count])
          if number % 10 == 0 { await Task.yield() }
        }
        isOver.set()
        for try await count in group { #expect(count > 0) }
      }
    }
  }

  @Test("P22 a peer whose certificate gets revoked loses its connection, the others keep theirs")
  func revocation() async throws {
    let source = try GeneratedCertificates.directory("checks-revocation")
    let folder = try TemporaryFolder(copying: source)
    try folder.remove("crl.pem")
    let context = try TLSContext(.directory(folder.path))
    let loadedAt = Mutex<ContinuousClock.Instant?>(nil)
    let outcome: @Sendable (TLSReloadOutcome) -> Void = { outcome in
      guard case .loaded = outcome else { return }
      loadedAt.withLock { $0 = $0 ?? .now }
    }
    try await withEcho(context, outcomes: outcome) { server in
      let revoked = try await WebSocketProbe(
        to: server.localAddress, tls: try GeneratedCertificates.configuration("revoked"))
      let good = try await WebSocketProbe(
        to: server.localAddress, tls: try GeneratedCertificates.configuration("client"))
      await revoked.send([1])
      #expect(await revoked.messages(1) == [[1]])
      try folder.copy("\(source)/crl.pem")
      #expect(await revoked.closure()?.error != nil)
      // Connections may go before the outcome is told.
      let end = ContinuousClock.now
      try await eventually("loading") { loadedAt.withLock { $0 != nil } }
      let took = end - (loadedAt.withLock { $0 } ?? end)
      #expect(took < .seconds(1), "closed after \(took)")
      await good.send([2])
      #expect(await good.messages(1) == [[2]])
      await #expect(throws: TransportError.self) {
        let again = try await WebSocketProbe(
          to: server.localAddress, tls: try GeneratedCertificates.configuration("revoked"))
        await again.send([1])
        if let error = await again.closure()?.error { throw error }
      }
    }
  }

  @Test(
    "P22 a peer whose certificate ends loses its connection then, on either side",
    arguments: [true, false])
  func expiry(ofClient: Bool) async throws {
    let authority = try TestAuthority()
    var leaf = CertificateAuthority.Leaf(
      commonName: "short", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"])
    leaf.lifetime = .seconds(5)
    let host = try authority.host()
    let client = try authority.client()
    let short = try authority.authority.configuration(for: leaf)
    let start = ContinuousClock.now
    try await withEcho(TLSContext(ofClient ? host : short)) { server in
      let ending = try await WebSocketProbe(to: server.localAddress, tls: ofClient ? short : client)
      let staying = ofClient ? try await WebSocketProbe(to: server.localAddress, tls: client) : nil
      let closure = await ending.closure()
      #expect(closure?.error != nil)
      let lasted = ContinuousClock.now - start
      #expect(lasted > .seconds(3), "closed after \(lasted)")
      await staying?.send([2])
      if let staying { #expect(await staying.messages(1) == [[2]]) }
    }
  }

  @Test(
    "P22 once the root above it is renewed, a peer goes on until its own certificate ends, and no longer"
  )
  func expiryBehindRenewedRoot() async throws {
    let root = try CertificateAuthority(commonName: "root", lifetime: .seconds(4))
    let renewed = try root.renewed(commonName: "root", lifetime: .seconds(1_000))
    var leaf = CertificateAuthority.Leaf(commonName: "short", dnsNames: ["client.test"])
    leaf.lifetime = .seconds(8)
    let authority = try TestAuthority()
    var client = try root.configuration(for: leaf)
    client.roots = .pem(authority.authority.certificatePEM)
    let folder = try TemporaryFolder()
    var host = try authority.host()
    host.roots = .file("\(folder.path)/roots.pem")
    func write(_ root: CertificateAuthority) throws {
      try root.certificatePEM.write(
        toFile: "\(folder.path)/roots.pem", atomically: true, encoding: .utf8)
    }
    try write(root)
    let context = try TLSContext(host)
    let start = ContinuousClock.now
    try await withEcho(context) { server in
      let probe = try await WebSocketProbe(to: server.localAddress, tls: client)
      try write(renewed)
      try context.reload()
      let closure = await probe.closure()
      #expect(closure?.error != nil)
      let lasted = ContinuousClock.now - start
      #expect(lasted > .seconds(6), "closed after \(lasted)")
    }
  }

  @Test("P22 a peer that may do nothing any more loses its connection within a second")
  func lostRight() async throws {
    let authority = try TestAuthority()
    let context = try TLSContext(authority.host())
    try await withEcho(context) { server in
      let client = try await WebSocketProbe(
        to: server.localAddress, tls: try authority.client())
      let worker = try await WebSocketProbe(
        to: server.localAddress, tls: try authority.worker("rpc_test"))
      context.admission = { $0.names != [.dns("client.test")] }
      let start = ContinuousClock.now
      context.recheckConnections()
      let told = WebSocketClosure(
        code: .policyViolation, reason: WebSocketConnection.refusal, error: nil)
      #expect(await client.closure() == told)
      #expect(ContinuousClock.now - start < .seconds(1))
      await worker.send([2])
      #expect(await worker.messages(1) == [[2]])
    }
  }

  @Test("P25 a second connection resumes the session of the first, and says so")
  func resumption() async throws {
    let authority = try TestAuthority()
    try await withEcho(TLSContext(authority.host())) { server in
      var configuration = try authority.client()
      let loop = try EventLoopGroup.shared().next()
      let destination = Destination(
        Endpoint(server.localAddress), verification: .name("127.0.0.1"))
      for resumes in [true, false] {
        if !resumes { configuration.sessions = nil }
        let report = await TLSProbe.run(
          destination, context: try TLSContext(configuration), by: .now() + .seconds(10), on: loop)
        #expect(report.failure == nil)
        #expect(report.resumes == resumes)
      }
    }
  }

  @Test("what nobody can watch is loaded again by the clock")
  func period() async throws {
    let authority = try TestAuthority()
    var configuration = try authority.host()
    configuration.reloadPeriod = .milliseconds(20)
    let (outcomes, continuation) = AsyncStream.makeStream(of: TLSReloadOutcome.self)
    try await withEcho(TLSContext(configuration), outcomes: { continuation.yield($0) }) { _ in
      var iterator = outcomes.makeAsyncIterator()
      for _ in 0..<3 {
        guard case .loaded = await iterator.next() else {
          Issue.record("not loaded")
          return
        }
      }
    }
  }

  @Test("P21 a certificate that was replaced is served within a second")
  func served() async throws {
    let authority = try TestAuthority()
    let folder = try TemporaryFolder()
    let leaf = CertificateAuthority.Leaf(
      commonName: "host", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"])
    try authority.authority.write(leaf, toDirectory: folder.path)
    var configuration = try authority.client()
    configuration.sessions = nil
    let client = configuration
    try await withEcho(try TLSContext(.directory(folder.path))) { server in
      func served() async throws -> [UInt8]? {
        let probe = try await WebSocketProbe(to: server.localAddress, tls: client)
        await probe.close(.normal)
        return await probe.fingerprint
      }
      let before = try #require(try await served())
      try authority.authority.write(leaf, toDirectory: folder.path)
      let new = try #require(CertificateFile("\(folder.path)/cert.pem").certificates.first)
      let start = ContinuousClock.now
      var now: [UInt8]? = before
      while now == before, ContinuousClock.now - start < .seconds(20) { now = try await served() }
      let took = ContinuousClock.now - start
      #expect(now == new.fingerprintSHA256)
      #expect(took < .seconds(1), "served after \(took)")
    }
  }

  @Test("P21 files that change are served soon, and files that cannot be used are reported once")
  func files() async throws {
    let authority = try TestAuthority()
    let folder = try TemporaryFolder()
    let leaf = CertificateAuthority.Leaf(
      commonName: "host", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"])
    try authority.authority.write(leaf, toDirectory: folder.path)
    let context = try TLSContext(.directory(folder.path))
    let (outcomes, continuation) = AsyncStream.makeStream(of: TLSReloadOutcome.self)
    try await withEcho(context, outcomes: { continuation.yield($0) }) { server in
      var iterator = outcomes.makeAsyncIterator()
      let before = context.fingerprintSHA256
      try authority.authority.write(leaf, toDirectory: folder.path)
      guard case .loaded = await iterator.next() else {
        Issue.record("not loaded")
        return
      }
      #expect(context.fingerprintSHA256 != before)
      let current = context.fingerprintSHA256
      try "no key".write(toFile: "\(folder.path)/key.pem", atomically: true, encoding: .utf8)
      guard case .failed(let error) = await iterator.next() else {
        Issue.record("not refused")
        return
      }
      #expect(error.faults.first?.source == "\(folder.path)/key.pem")
      #expect(context.fingerprintSHA256 == current)
      let probe = try await WebSocketProbe(
        to: server.localAddress, tls: try authority.client())
      await probe.send([1])
      #expect(await probe.messages(1) == [[1]])
      try authority.authority.write(leaf, toDirectory: folder.path)
      guard case .loaded = await iterator.next() else {
        Issue.record("not loaded again")
        return
      }
    }
  }

  @Test("P21 what could not be loaded is tried again though no file changes, and told once")
  func triedAgain() async throws {
    let tries = Mutex(0)
    let isLoaded = Flag()
    let (reports, report) = AsyncStream.makeStream(of: String?.self)
    let old: [FileStamp?] = [nil]
    let new = try #require(FileStamp(path: "/proc/self/exe"))
    var reloader = FileReloader(
      "nothing", role: "test", logger: quietLogger, interval: .milliseconds(5),
      present: { [new] }, loaded: { isLoaded.isSet ? [new] : old },
      reload: {
        // At the sixth try what it lacks is there.
        guard
          tries.withLock({
            $0 += 1; return $0
          }) == 6
        else { throw CancellationError() }
        isLoaded.set()
      },
      report: { report.yield($0.map { "\($0)" }) })
    reloader.retryInterval = .milliseconds(20)
    let settled = reloader
    let running = Task { await settled.run() }
    var told: [String?] = []
    for await text in reports {
      told.append(text)
      if text == nil { break }
    }
    #expect(told == ["CancellationError()", nil] && tries.withLock { $0 } == 6)
    running.cancel()
  }

  @Test("P21 a request between loading and the reloader's beginning is not lost")
  func earlyRequest() async throws {
    let (loads, loaded) = AsyncStream.makeStream(of: Void.self)
    let reloader = FileReloader(
      "nothing", role: "test", logger: quietLogger, interval: nil, present: { [] },
      loaded: { [] }, reload: { loaded.yield() })
    Reload.requestAll()
    let running = Task { await reloader.run() }
    for await _ in loads { break }
    running.cancel()
  }
}
