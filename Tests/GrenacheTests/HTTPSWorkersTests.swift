import GrenacheIO
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Workers of calls over HTTPS", .timeLimit(.minutes(1)))
struct HTTPSWorkersTests {
  let authority: TestAuthority
  let one: [UInt8] = [0x31]

  init() throws { authority = try TestAuthority() }

  /// The workers that answer, called one call after the other, until all of `all` have or it takes too long.
  private func called(_ client: PeerRPCClient, until all: Set<Endpoint>) async throws
    -> Set<Endpoint>
  {
    var seen: Set<Endpoint> = []
    let deadline = ContinuousClock.now + .seconds(20)
    while seen != all, ContinuousClock.now < deadline {
      seen.insert(try await client.requestRaw("rpc_test", one, options: .idempotent).worker)
    }
    return seen
  }

  @Test("calls go to all workers, to one that comes later, and to one that comes back")
  func spread() async throws {
    let fleet = try await WorkerFleet(
      [echo, echo], authority: authority,
      configure: {
        $0.transport = .https
        $0.sitOutTime = .milliseconds(50)
      })
    let both = Set(fleet.workers.map(\.endpoint))
    #expect(try await called(fleet.client, until: both) == both)
    // One is gone, and there again at the same address.
    let port = try #require(fleet.workers.first?.endpoint.port)
    await fleet.workers[0].stop()
    #expect(
      try await called(fleet.client, until: [fleet.workers[1].endpoint])
        .contains(fleet.workers[1].endpoint))
    let again = try await RunningWorker(
      [echo], tls: try authority.worker("rpc_test"), configure: { $0.port = port })
    #expect(try await called(fleet.client, until: both) == both)
    await again.stop()
    await fleet.stop()
  }

  @Test("a call that has waited for its turn for longer than connecting may take connects then")
  func turn() async throws {
    let (begun, gate) = (Tally(), Tally())
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reaches(1)
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { [one] worker in
      let client = try await directClient(try authority.client()) {
        $0.transport = .https
        $0.httpConnectionsPerWorkerMax = 1
        $0.connectTimeout = .milliseconds(800)
      }
      let first = Task {
        await grenacheError {
          _ = try await client.requestRaw(
            "rpc_test", one, to: worker, within: .milliseconds(1_200))
        }
      }
      await begun.reaches(1)
      async let second = client.requestRaw("rpc_test", one, to: worker, within: .seconds(30))
      // Its connection closes with it, and the next call has to make another one.
      #expect(await first.value?.code == .deadlineExceeded)
      await begun.reaches(2)
      await gate.add()
      #expect(try await second.result == one)
      await client.close()
    }
  }

  @Test("calls that ran out of time before they were sent say nothing of their worker")
  func queued() async throws {
    let begun = Tally()
    let gate = Tally()
    let slow = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reaches(1)
      return request.payload
    }
    let fleet = try await WorkerFleet(
      [slow], authority: authority,
      configure: {
        $0.transport = .https
        $0.httpConnectionsPerWorkerMax = 1
        $0.sitOutTime = .seconds(20)
      })
    let client = fleet.client
    let held = Task { try await client.requestRaw("rpc_test", [0x31], within: .seconds(30)) }
    await begun.reaches(1)
    for _ in 0..<WorkerStanding.timeoutsMax {
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", one, within: .milliseconds(30))
      }
      #expect(error?.code == .deadlineExceeded)
    }
    let group = await client.core.loop.run { loop in
      client.core.get(on: loop).sitsOut("rpc_test", at: .now())
    }
    #expect(group == [false])
    await gate.add()
    _ = try await held.value
    await fleet.stop()
  }
}

@Suite("What is not sent", .timeLimit(.minutes(1)))
struct NotSentTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "P32 a call with no time left is not sent", arguments: [RPCTransport.wss, .https],
    [Duration.zero, .seconds(-1)])
  func late(_ transport: RPCTransport, _ time: Duration) async throws {
    let begun = Mutex(0)
    let service = RPCService(raw: "rpc_test") { request in
      begun.withLock { $0 += 1 }
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      _ = try await client.requestRaw("rpc_test", [0x31], to: worker)
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", [0x31], to: worker, within: time)
      }
      #expect(error?.code == .deadlineExceeded)
      // Behind it, over the same connection.
      _ = try await client.requestRaw("rpc_test", [0x31], to: worker)
      #expect(begun.withLock { $0 } == 2)
      await client.close()
    }
  }

  @Test(
    "text that is not UTF-8 neither goes out as a payload nor as a raw reply",
    arguments: [RPCTransport.wss, .https])
  func text(_ transport: RPCTransport) async throws {
    let bad: [UInt8] = [0x22, 0xff, 0x22]
    let service = RPCService(raw: "rpc_test") { request in
      request.payload == [0x31] ? bad : request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      let unsent = await grenacheError {
        _ = try await client.requestRaw("rpc_test", bad, to: worker)
      }
      #expect(unsent?.code == .invalidPayload)
      let mapped = await grenacheError { _ = try await client.mapRaw("rpc_test", bad) }
      #expect(mapped?.code == .invalidPayload)
      let unanswered = await grenacheError {
        _ = try await client.requestRaw("rpc_test", [0x31], to: worker)
      }
      #expect(unanswered?.code == .remoteError)
      // The connection has taken no harm.
      let fine = Array("\"é\"".utf8)
      #expect(try await client.requestRaw("rpc_test", fine, to: worker).result == fine)
      await client.close()
    }
  }

  /// Nested more deeply with each level.
  private indirect enum Tree: Encodable {
    case leaf
    case node(Tree)

    func encode(to encoder: any Encoder) throws {
      var container = encoder.unkeyedContainer()
      if case .node(let inner) = self { try container.encode(inner) }
    }
  }

  @Test("P13 a coded reply that is nested too deeply is an error, at once")
  func depth() async throws {
    let service = RPCService("rpc_test") { (depth: Int, _) in
      (1..<depth).reduce(Tree.leaf) { tree, _ in .node(tree) }
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      let most = Array("\(JSONScanner.depthMax - 1)".utf8)
      _ = try await client.requestRaw("rpc_test", most, to: worker)
      let error = await grenacheError {
        let more = Array("\(JSONScanner.depthMax + 1)".utf8)
        _ = try await client.requestRaw("rpc_test", more, to: worker)
      }
      #expect(error?.code == .remoteError)
      await client.close()
    }
  }

  @Test("a message that names a call and is no reply ends that call, at once")
  func noReply() async throws {
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(authority.worker("rpc_test")),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.notFound) },
        openWebSocket: { _, _ in NoReplyHandler() }),
      group: EventLoopGroup(count: 1), logger: quietLogger)
    let client = try await directClient(try authority.client())
    let error = await grenacheError {
      _ = try await client.requestRaw(
        "rpc_test", [0x31], to: Endpoint(server.localAddress), within: .seconds(50))
    }
    #expect(error?.code == .invalidReply)
    await client.close()
    await server.shutDown(within: .zero)
  }
}

/// Answers each call with its identifier and nothing that follows from that.
private final class NoReplyHandler: WebSocketHandler {
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    guard let envelope = RPCRequestEnvelope(payload, checksUTF8: false) else { return }
    let rid = envelope.rid.bytes(in: payload)
    for text in ["{}", "[\"999\",nul]", "[\(String(decoding: rid, as: UTF8.self)),nul,"] {
      connection.send(.text, Array(text.utf8).span, on: loop)
    }
  }
}
