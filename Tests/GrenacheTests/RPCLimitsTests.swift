import Grenache
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

/// A service whose calls wait for a gate, cancelled or not, and that counts them.
final class GatedService: Sendable {
  let begun = Tally()
  let cancelled = Tally()
  let refused = Tally()
  private let gate = Tally()
  private let now = Mutex(0)
  private let most = Mutex(0)

  /// The most calls that were with their handlers at the same time.
  var atOnce: Int { most.withLock { $0 } }

  var service: RPCService {
    RPCService(raw: "rpc_test") { request in
      let count = self.now.withLock { count in
        count += 1
        return count
      }
      self.most.withLock { $0 = max($0, count) }
      await self.begun.add()
      await withTaskCancellationHandler {
        await self.gate.reachesThoughCancelled(1)
      } onCancel: {
        Task { await self.cancelled.add() }
      }
      self.now.withLock { $0 -= 1 }
      return request.payload
    }
  }

  func open() async { await gate.add() }

  /// Makes a call; counts it if it is turned away.
  func call(
    _ client: PeerRPCClient, _ worker: Endpoint, within time: Duration = .seconds(30)
  ) async -> GrenacheError? {
    do throws(GrenacheError) {
      _ = try await client.requestRaw("rpc_test", [0x31], to: worker, within: time)
      return nil
    } catch {
      if error.code == .overloaded { await refused.add() }
      return error
    }
  }
}

@Suite("P11 Requests cannot pile up", .timeLimit(.minutes(1)))
struct RPCLimitsTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func client(
    isExtended: Bool = true, configure: (inout PeerRPCClientConfiguration) -> Void = { _ in }
  ) async throws -> PeerRPCClient {
    try await directClient(try authority.client()) { configuration in
      configuration.connectionsPerWorkerMax = 1
      if !isExtended { configuration.offersExtension = false }
      configure(&configuration)
    }
  }

  @Test("beyond the calls in flight some wait; one more is turned away, of those who understand it")
  func extended() async throws {
    let gated = GatedService()
    try await withServer(
      [gated.service], tls: try authority.worker("rpc_test"),
      configure: {
        $0.callsPerConnectionMax = 4
        $0.callsWaitingMax = 3
      }
    ) { worker in
      let client = try await client()
      let calls = (0..<8).map { _ in Task { await gated.call(client, worker) } }
      await gated.refused.reaches(1)
      await gated.begun.reaches(4)
      #expect(await gated.begun.value == 4)
      await gated.open()
      var codes: [GrenacheError.Code] = []
      for call in calls { if let error = await call.value { codes.append(error.code) } }
      #expect(codes == [.overloaded])
      #expect(gated.atOnce == 4)
    }
  }

  @Test(
    "back-pressure: with as many waiting as may, the others stay with the peer, and none is lost",
    arguments: [true, false])
  func backPressure(_ isExtended: Bool) async throws {
    let gated = GatedService()
    try await withServer(
      [gated.service], tls: try authority.worker("rpc_test"),
      configure: { configuration in
        configuration.callsPerConnectionMax = 4
        if isExtended {
          configuration.callsWaitingBytesMax = 3
        } else {
          configuration.callsWaitingMax = 3
        }
      }
    ) { worker in
      let client = try await client(isExtended: isExtended)
      let calls = (0..<50).map { _ in Task { await gated.call(client, worker) } }
      await gated.begun.reaches(4)
      await gated.open()
      for call in calls { #expect(await call.value == nil) }
      #expect(gated.atOnce == 4)
      #expect(await gated.begun.value == 50)
    }
  }

  @Test("cancellations are read at the limit; what is cancelled counts until its handler has ended")
  func cancellation() async throws {
    let gated = GatedService()
    try await withServer(
      [gated.service], tls: try authority.worker("rpc_test"),
      configure: {
        $0.callsPerConnectionMax = 2
        $0.callsWaitingMax = 2
      }
    ) { worker in
      let client = try await client()
      let first = (0..<2).map { _ in Task { await gated.call(client, worker) } }
      await gated.begun.reaches(2)
      for call in first { call.cancel() }
      await gated.cancelled.reaches(2)
      // One that waits and is cancelled makes room for another.
      for _ in 0..<4 {
        let error = await gated.call(client, worker, within: .milliseconds(100))
        #expect(error?.code == .deadlineExceeded)
      }
      #expect(await gated.begun.value == 2)
      // So do those that are cancelled in the read that brings others in their place.
      let peer = try await RawPeer(to: worker, tls: try authority.client())
      await peer.say([#"["1","rpc_test",1]"#, #"["2","rpc_test",1]"#])
      await gated.begun.reaches(4)
      await peer.say([
        #"["3","rpc_test",1]"#, #"["4","rpc_test",1]"#, #"{"cancel":"3"}"#, #"{"cancel":"4"}"#,
        #"["5","rpc_test",1]"#, #"["6","rpc_test",1]"#, #"["7","rpc_test",1]"#,
      ])
      await peer.heard.reaches(1)
      #expect(peer.texts == [#"["7","ERR_OVERLOADED: rpc_test",null]"#])
      let last = Task { await gated.call(client, worker) }
      await gated.open()
      #expect(await last.value == nil)
      await peer.heard.reaches(5)
      await peer.close()
      for call in first { #expect(await call.value?.code == .cancelled) }
    }
  }

  @Test(
    "what waits counts as it was sent, identifier and metadata included: up to the limit and at it",
    arguments: ["identifier", "payload", "metadata"], [false, true])
  func waitingBytes(_ part: String, _ isFull: Bool) async throws {
    let long = String(repeating: "x", count: 900)
    let call =
      switch part {
      case "identifier": #"["\#(long)","rpc_test",1]"#
      case "payload": #"["1","rpc_test","\#(long)"]"#
      default: #"["1","rpc_test",1,{"m":{"a":"\#(long)"}}]"#
      }
    let gated = GatedService()
    try await withServer(
      [gated.service], tls: try authority.worker("rpc_test"),
      configure: {
        $0.callsPerConnectionMax = 1
        $0.callsWaitingBytesMax = 4 * call.utf8.count + (isFull ? 0 : 1)
      }
    ) { worker in
      let peer = try await RawPeer(to: worker, tls: try authority.client())
      // One is with its handler, four wait; whether what follows is read its answer says.
      await peer.say([String](repeating: call, count: 5) + [#"["last","nobody",1]"#])
      await gated.begun.reaches(1)
      if !isFull { await peer.heard.reaches(1) }
      await gated.open()
      await peer.heard.reaches(6)
      let isReadAtOnce = peer.texts.first?.hasPrefix(#"["last","#) == true
      #expect(isReadAtOnce == !isFull)
      await peer.close()
    }
  }

  @Test("an identifier of the limit is echoed; a call with one that is longer is not carried out")
  func identifier() async throws {
    let begun = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let peer = try await RawPeer(to: worker, tls: try authority.client())
      let long = String(repeating: "x", count: (1 << 10) - 2)
      await peer.say([#"["\#(long)","rpc_test",1]"#])
      await peer.heard.reaches(1)
      await peer.say([#"["\#(long)x","rpc_test",1]"#, #"["last","rpc_test",1]"#])
      await peer.heard.reaches(3)
      #expect(peer.texts.last == #"["last",null,1]"#)
      #expect(await begun.value == 2)
      await peer.close()
    }
  }

  @Test("P10 pongs do not wait for handlers, nor for calls that wait for them")
  func pongs() async throws {
    let gated = GatedService()
    try await withServer(
      [gated.service], tls: try authority.worker("rpc_test"),
      configure: { $0.callsPerConnectionMax = 1 }
    ) { worker in
      let client = try await client { configuration in
        configuration.webSocketOptions.pingInterval = .milliseconds(200)
        configuration.webSocketOptions.pongTimeout = .seconds(1)
      }
      async let waiting = gated.call(client, worker, within: .seconds(3))
      let error = await gated.call(client, worker, within: .seconds(3))
      #expect(error?.code == .deadlineExceeded)
      #expect(await waiting?.code == .deadlineExceeded)
      await gated.open()
    }
  }
}

@Suite("P11 Replies cannot pile up", .timeLimit(.minutes(1)))
struct RPCOutputTests {
  private static let calls = 300
  private static let replyBytes = 128 << 10

  /// Round trips over another connection of the same loop: what had come before has been looked at.
  private func settle(_ client: PeerRPCClient, _ worker: Endpoint) async throws {
    for _ in 0..<50 { _ = try await client.requestRaw("fast", [0x31], to: worker) }
  }

  @Test(
    "calls of a peer that does not read are not begun, and all are answered when it reads on",
    arguments: [(1, false), (100, false), (4, true), (100, true)])
  func unread(_ callsInFlightMax: Int, _ suspends: Bool) async throws {
    let authority = try TestAuthority()
    let begun = Mutex(0)
    let large = Array("\"\(String(repeating: "x", count: Self.replyBytes))\"".utf8)
    let service = RPCService(raw: "rpc_test") { _ in
      begun.withLock { $0 += 1 }
      if suspends { await Task.yield() }
      return large
    }
    let fast = RPCService(raw: "fast") { $0.payload }
    let worker = try await RunningWorker([service, fast], tls: try authority.worker("*")) {
      $0.callsPerConnectionMax = callsInFlightMax
    }
    let client = try await directClient(try authority.client())
    let peer = try await RawPeer(to: worker.endpoint, tls: try authority.client())
    await peer.stopReading()
    await peer.say((0..<Self.calls).map { "[\"\($0)\",\"rpc_test\",1]" })
    try await eventually { begun.withLock({ $0 }) != 0 }
    try await settle(client, worker.endpoint)
    // What the kernel takes (up to 10 MiB), the high-water mark, and the replies of those that had begun.
    let most = (11 << 20) / Self.replyBytes + (suspends ? callsInFlightMax : 1)
    #expect(begun.withLock { $0 } <= most)
    await peer.readOn()
    await peer.heard.reaches(Self.calls)
    #expect(begun.withLock { $0 } == Self.calls)
    #expect(Set(peer.texts.map { $0.prefix(6) }).count == Self.calls)
    await peer.close()
    await worker.stop()
  }
}

@Suite("Closing a client", .timeLimit(.minutes(1)))
struct ClientCloseTests {
  @Test(
    "calls that have been sent fail as lost and are not sent again, and those that wait do not go on",
    arguments: [RPCTransport.wss, .https])
  func close(_ transport: RPCTransport) async throws {
    let gated = GatedService()
    let fleet = try await WorkerFleet(
      [gated.service, gated.service], authority: try TestAuthority(),
      configure: {
        $0.transport = transport
        $0.httpConnectionsPerWorkerMax = 1
        $0.activeWorkersMax = 1
      })
    let start = ContinuousClock.now
    let calls = (0..<6).map { _ in
      Task {
        await #expect(throws: GrenacheError.self) {
          try await fleet.client.requestRaw(
            "rpc_test", [0x31], within: .seconds(50), options: .idempotent)
        }
      }
    }
    await gated.begun.reaches(transport == .wss ? 6 : 1)
    await fleet.client.close()
    for call in calls { #expect(await call.value?.code == .connectionLost) }
    #expect(ContinuousClock.now - start < .seconds(20))
    #expect(await gated.begun.value <= (transport == .wss ? 6 : 2))
    await gated.open()
    await fleet.stop()
  }
}

@Suite("P9 What is too large is not sent", .timeLimit(.minutes(1)))
struct RPCSizeTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// JSON of so many bytes.
  private func text(_ bytes: Int) -> [UInt8] {
    Array("\"\(String(repeating: "x", count: bytes - 2))\"".utf8)
  }

  @Test(
    "a call of the limit is made; one byte more fails that call alone",
    arguments: [RPCTransport.wss, .https])
  func calls(_ transport: RPCTransport) async throws {
    let gated = GatedService()
    let fast = RPCService(raw: "fast") { _ in [0x31] }
    try await withServer([gated.service, fast], tls: try authority.worker("*")) { worker in
      let client = try await directClient(try authority.client()) {
        $0.transport = transport
        $0.connectionsPerWorkerMax = 1
        // Without the extension, whose element has no fixed length.
        $0.offersExtension = false
      }
      let other = Task { await gated.call(client, worker) }
      await gated.begun.reaches(1)
      // ["1","fast",…] with identifiers of one digit
      let room = (1 << 20) - #"["1","fast",]"#.utf8.count
      let whole = try await client.requestRaw("fast", text(room), to: worker)
      #expect(whole.result == [0x31])
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("fast", text(room + 1), to: worker)
      }
      #expect(error?.code == .invalidPayload)
      await gated.open()
      #expect(await other.value == nil)
    }
  }

  @Test(
    "a reply of the limit is sent; in place of one that is larger the caller gets an error",
    arguments: [RPCTransport.wss, .https])
  func replies(_ transport: RPCTransport) async throws {
    let gated = GatedService()
    let sized = RPCService("sized") { (count: Int, _) -> String in
      if count < 0 { throw RPCFault(String(repeating: "\u{1}", count: -count)) }
      return String(repeating: "x", count: count)
    }
    try await withServer([gated.service, sized], tls: try authority.worker("*")) { worker in
      let client = try await directClient(try authority.client()) {
        $0.transport = transport
        $0.connectionsPerWorkerMax = 1
      }
      let other = Task { await gated.call(client, worker) }
      await gated.begun.reaches(1)
      // ["1",null,"…"] with identifiers of one digit
      let room = (1 << 20) - #"["1",null,""]"#.utf8.count
      let whole = try await client.requestRaw("sized", Array("\(room)".utf8), to: worker)
      #expect(whole.result.count == room + 2)
      for count in [room + 1, 4 << 20, -200_000] {
        let error = await #expect(throws: GrenacheError.self) {
          try await client.requestRaw("sized", Array("\(count)".utf8), to: worker)
        }
        #expect(error?.code == .remoteError)
        #expect(error?.message.hasPrefix("ERR_REPLY_SIZE") == true)
      }
      await gated.open()
      #expect(await other.value == nil)
    }
  }
}
