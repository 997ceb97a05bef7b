import Foundation
import Grenache
import GrenacheAccess
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@Suite("RPC over WSS with mutual TLS", .timeLimit(.minutes(2)))
struct RPCTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("hello is answered with world, and both sides know who it was")
  func call() async throws {
    let service = RPCService("rpc_test") { (payload: String, request: RPCRequest) -> [String] in
      [payload, request.identity?.names.map(\.description).joined() ?? "nobody"]
    }
    let client = try await directClient(try authority.client())
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let reply = try await client.requestRaw("rpc_test", Array("\"hello\"".utf8), to: worker)
      let result = try JSONDecoder().decode([String].self, from: Data(reply.result))
      #expect(result == ["hello", "DNS:client.test"])
      #expect(reply.identity?.services == ["rpc_test"])
      #expect(reply.negotiated?.version == "TLSv1.3")
    }
  }

  @Test(
    "payloads of all sizes come back as they were", arguments: [0, 1, 125, 126, 70_000, 900_000])
  func sizes(_ count: Int) async throws {
    let payload = Array("\"\(String(repeating: "x", count: count))\"".utf8)
    let client = try await directClient(try authority.client())
    try await withServer([echo], tls: try authority.worker("rpc_test")) { worker in
      let reply = try await client.requestRaw("rpc_test", payload, to: worker)
      #expect(reply.result == payload)
    }
  }

  @Test("1,000 calls at once over a few connections complete")
  func thousand() async throws {
    let client = try await directClient(try authority.client())
    try await withServer([echo], tls: try authority.worker("rpc_test")) { worker in
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for number in 0..<1_000 {
          group.addTask {
            let reply = try await client.requestRaw(
              "rpc_test", Array("\(number)".utf8), to: worker)
            return reply.result == Array("\(number)".utf8)
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
    }
  }

  @Test("an error of a handler answers that call and no other")
  func faults() async throws {
    let service = RPCService("rpc_test") { (payload: Int, _) -> Int in
      if payload == 1 { throw RPCFault("no ones") }
      if payload == 2 { throw CancellationError() }
      return payload
    }
    let client = try await directClient(try authority.client())
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      for (payload, message) in [
        ("1", "no ones"), ("2", "ERR_INTERNAL: the call failed"),
        ("\"x\"", "the payload is not what rpc_test takes"),
      ] {
        let error = await #expect(throws: GrenacheError.self) {
          try await client.requestRaw("rpc_test", Array(payload.utf8), to: worker)
        }
        #expect(error?.code == .remoteError)
        #expect(error?.message == message)
      }
      let reply = try await client.requestRaw("rpc_test", [0x33], to: worker)
      #expect(reply.result == [0x33])
    }
  }

  @Test("P26 a policy decides for each service, and a change counts from the next call on")
  func policy() async throws {
    let access = AccessControl(
      AccessPolicy([
        .init("one", allow: [.call], on: .patterns(["one"]), to: [.dns("client.test")])
      ]))
    let services = ["one", "two"].map { name in RPCService(raw: name) { $0.payload } }
    let client = try await directClient(try authority.client())
    try await withServer(
      services, tls: try authority.worker("*"), configure: { $0.access = access }
    ) { worker in
      let payload = Array("1".utf8)
      let one = try await client.requestRaw("one", payload, to: worker)
      #expect(one.result == payload)
      let denied = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("two", payload, to: worker)
      }
      #expect(denied?.code == .notPermitted)
      #expect(denied?.message == "ERR_NOT_PERMITTED: two")
      access.policy = .byCertificate
      let two = try await client.requestRaw("two", payload, to: worker)
      #expect(two.result == payload)
      access.policy = AccessPolicy([])
      let none = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("one", payload, to: worker)
      }
      #expect(none?.code == .notPermitted)
    }
  }

  @Test("P39 a shutdown lets calls finish that are being answered, and turns later ones away")
  func shutdown() async throws {
    let (started, starting) = AsyncStream.makeStream(of: Void.self)
    let gate = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      starting.yield()
      await gate.reachesThoughCancelled(1)
      return request.payload
    }
    let payload = Array("[1]".utf8)
    let (addresses, listening) = AsyncStream.makeStream(of: Endpoint.self)
    var configuration = PeerRPCServerConfiguration(port: 0, tls: try authority.worker("rpc_test"))
    configuration.host = "127.0.0.1"
    let server = PeerRPCServer(configuration, services: [service], logger: quietLogger)
    let running = Task {
      try await server.run { listening.yield(Endpoint($0)) }
    }
    var iterator = addresses.makeAsyncIterator()
    let worker = try #require(await iterator.next())
    let client = try await directClient(try authority.client())
    let call = Task { try await client.requestRaw("rpc_test", payload, to: worker) }
    for await _ in started { break }
    // A cancelled task shuts down in order, too.
    running.cancel()
    var refused: GrenacheError?
    while refused == nil {
      do throws(GrenacheError) {
        _ = try await client.requestRaw("rpc_test", payload, to: worker, within: .milliseconds(50))
      } catch {
        if error.code != .deadlineExceeded { refused = error }
      }
    }
    #expect(refused?.code == .workerUnreachable)
    #expect(refused?.isRetryable == true)
    await gate.add()
    #expect(try await call.value.result == payload)
    try await running.value
  }

  @Test("P39 the time of a shutdown counts from its beginning: withdrawing takes its share of it")
  func shutdownWithoutGrape() async throws {
    let begun = Tally()
    let gate = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reachesThoughCancelled(1)
      return request.payload
    }
    try await FakeGrape.with(
      try authority.host(),
      answer: { path, _ in
        if path == "/withdraw" { await gate.reaches(1) }
        return (200, "1")
      }
    ) { grape, _ in
      let link = try await Link(
        LinkConfiguration(grapes: [grape], tls: try authority.client()), logger: quietLogger)
      var configuration = PeerRPCServerConfiguration(port: 0, tls: try authority.worker("rpc_test"))
      configuration.host = "127.0.0.1"
      configuration.drainTimeout = .seconds(2)
      let server = PeerRPCServer(
        configuration, services: [service], link: link, logger: quietLogger)
      let (addresses, listening) = AsyncStream.makeStream(of: Endpoint.self)
      let running = Task { try await server.run { listening.yield(Endpoint($0)) } }
      var iterator = addresses.makeAsyncIterator()
      let worker = try #require(await iterator.next())
      let client = try await directClient(try authority.client())
      let call = Task { try? await client.requestRaw("rpc_test", [0x31], to: worker) }
      await begun.reaches(1)
      let start = ContinuousClock.now
      running.cancel()
      try await running.value
      // The withdrawal gives up after two seconds, when the calls have had theirs.
      #expect(ContinuousClock.now - start < .seconds(3.5))
      await gate.add()
      _ = await call.value
      await client.close()
      await link.close()
    }
  }
}
