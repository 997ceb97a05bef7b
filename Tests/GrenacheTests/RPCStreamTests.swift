import Grenache
import GrenacheAccess
import GrenacheTransport
import Logging
import TestSupport
import Testing

@Suite("Streams over HTTPS", .timeLimit(.minutes(1)))
struct RPCStreamTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private static let echoStream = RPCService(stream: "rpc_test") { _, stream in
    for try await part in stream.incoming { try await stream.write(part) }
  }

  private func withWorker<Result: Sendable>(
    _ service: RPCService,
    configure: @Sendable (inout PeerRPCServerConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (Endpoint, PeerRPCClient) async throws -> Result
  ) async throws -> Result {
    let client = try await directClient(try authority.client())
    return try await withServer(
      [service], tls: try authority.worker("rpc_test"), configure: configure
    ) { worker in try await body(worker, client) }
  }

  private func code<Value>(_ body: () async throws -> Value) async -> GrenacheError? {
    await #expect(throws: GrenacheError.self) { try await body() }
  }

  @Test("2.5 MiB there and back, while both directions move")
  func echoes() async throws {
    try await withWorker(Self.echoStream) { worker, client in
      let part = [UInt8](repeating: 0x61, count: 1 << 16)
      let count = try await client.stream("rpc_test", to: worker) { stream in
        async let sent: Void = {
          for _ in 0..<40 { try await stream.write(part) }
          await stream.finish()
        }()
        var count = 0
        for try await bytes in try await stream.incoming() { count += bytes.count }
        try await sent
        return count
      }
      #expect(count == 40 << 16)
    }
  }

  @Test(
    "a handler may answer a stream with one JSON value, in an envelope, when it has read it all")
  func reply() async throws {
    let service = RPCService(stream: "rpc_test") { _, stream in
      var count = 0
      for try await part in stream.incoming { count += part.count }
      try await stream.replyRaw(Array("{\"bytes\":\(count)}".utf8))
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let raw = try await RawHTTP(to: worker, tls: try authority.client())
      let answer = try await raw.post("12345", [("_gr", "[\"some-rid\",\"rpc_test\"]")])
      #expect(answer == "[\"some-rid\",null,{\"bytes\":5}]")
    }
  }

  @Test("the handler sees the metadata; what is more than a call may have is not sent")
  func metadata() async throws {
    let service = RPCService(stream: "rpc_test") { request, stream in
      try await stream.write(Array((request.metadata["trace"] ?? "none").utf8))
    }
    try await withWorker(service) { worker, client in
      let text = try await client.stream("rpc_test", metadata: ["trace": "7é"], to: worker) {
        var text: [UInt8] = []
        for try await bytes in try await $0.incoming() { text += bytes }
        return text
      }
      #expect(text == Array("7é".utf8))
      let long = String(repeating: "x", count: RPCCallOptions.metadataBytesMax)
      let error = await code {
        try await client.stream("rpc_test", metadata: ["a": long], to: worker) { _ in }
      }
      #expect(error?.code == .invalidPayload)
    }
  }

  @Test("a worker that streams counts as busy: calls go to another one until the stream is over")
  func busy() async throws {
    let service = RPCService("rpc_test") { (payload: Int, _) in
      payload
    } stream: { _, stream in
      for try await part in stream.incoming { try await stream.write(part) }
    }
    let fleet = try await WorkerFleet([service, service], authority: authority)
    let client = fleet.client
    func called(_ count: Int) async throws -> Set<Endpoint> {
      var workers: Set<Endpoint> = []
      for _ in 0..<count { workers.insert(try await client.requestRaw("rpc_test", [0x31]).worker) }
      return workers
    }
    // Until both are connected to.
    while try await called(1).union(called(1)).count < 2 {}
    let during = try await client.stream("rpc_test") { stream in
      try await stream.write([1])
      for try await _ in try await stream.incoming() { break }
      return (stream.worker, try await called(20))
    }
    #expect(during.1.count == 1 && !during.1.contains(during.0))
    let after = try await called(100)
    #expect(after.count == 2)
    await fleet.stop()
  }

  @Test("the handler sees who asks, the action and answers before the request has ended")
  func context() async throws {
    let service = RPCService(stream: "rpc_test") { request, stream in
      let who = request.identity?.names.map(\.description).joined() ?? "nobody"
      try await stream.write(Array("\(request.action ?? "none") by \(who)".utf8))
    }
    try await withWorker(service) { worker, client in
      let text = try await client.stream("rpc_test", action: "list", to: worker) { stream in
        var text: [UInt8] = []
        for try await bytes in try await stream.incoming() { text += bytes }
        return String(decoding: text, as: UTF8.self)
      }
      #expect(text == "list by DNS:client.test")
    }
  }

  @Test("an error before any byte is the caller's to read; one after breaks the stream")
  func faults() async throws {
    let service = RPCService(stream: "rpc_test") { request, stream in
      if request.action == "late" { try await stream.write([1, 2, 3]) }
      throw RPCFault("no")
    }
    try await withWorker(service) { worker, client in
      let early = await code {
        try await client.stream("rpc_test", to: worker) { _ = try await $0.incoming() }
      }
      #expect(early?.code == .remoteError)
      #expect(early?.message == "no")
      let late = await code {
        try await client.stream("rpc_test", action: "late", to: worker) { stream in
          for try await _ in try await stream.incoming() {}
        }
      }
      #expect(late?.code == .connectionLost)
    }
  }

  @Test("a service that is not there, that takes no streams, or is not allowed")
  func refused() async throws {
    try await withWorker(
      Self.echoStream, configure: { $0.access = AccessControl(AccessPolicy([])) }
    ) { worker, client in
      let denied = await code {
        try await client.stream("rpc_test", to: worker) { stream in
          await stream.finish()
          for try await bytes in try await stream.incoming() { Issue.record("\(bytes)") }
        }
      }
      #expect(denied?.code == .notPermitted)
    }
    try await withWorker(echo) { worker, client in
      let answer = await code {
        try await client.stream("rpc_test", to: worker) { stream in
          await stream.finish()
          _ = try await stream.incoming()
        }
      }
      #expect(answer?.code == .invalidReply)
    }
    try await withWorker(Self.echoStream) { worker, client in
      let answer = await code {
        try await client.requestRaw("rpc_test", [0x31], to: worker)
      }
      #expect(answer?.message.hasPrefix("ERR_STREAM_ONLY") == true)
    }
  }

  @Test("a caller that goes away in the middle of a stream makes no line at the level of errors")
  func quietLeave() async throws {
    let log = LogRecorder()
    let (begun, failed) = (Tally(), Tally())
    let service = RPCService(stream: "rpc_test") { _, stream in
      await begun.add()
      do {
        for try await _ in stream.incoming {}
      } catch {
        await failed.add()
        throw error
      }
    }
    var configuration = PeerRPCServerConfiguration(port: 0, tls: try authority.worker("rpc_test"))
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .seconds(10)
    let server = PeerRPCServer(configuration, services: [service], logger: log.logger)
    let client = try await directClient(try authority.client())
    let (addresses, listening) = AsyncStream.makeStream(of: Endpoint.self)
    let running = Task { try await server.run { listening.yield(Endpoint($0)) } }
    var iterator = addresses.makeAsyncIterator()
    let worker = try #require(await iterator.next())
    try await client.stream("rpc_test", to: worker) { stream in
      try await stream.write([1])
      await begun.reaches(1)
    }
    await failed.reaches(1)
    running.cancel()
    try await running.value
    try await eventually("a line in the log") { log.level(of: "a call was cancelled") != nil }
    #expect(log.level(of: "a call was cancelled") == .debug)
    #expect(log.level(of: "a handler failed") == nil)
  }

  @Test("streams count among the calls that a service answers at once")
  func overloaded() async throws {
    let (begun, ended) = (Tally(), Tally())
    var service = RPCService(stream: "rpc_test") { _, stream in
      await begun.add()
      do { for try await _ in stream.incoming {} } catch {}
      await ended.add()
    }
    service.callsMax = 1
    try await withWorker(service) { worker, client in
      try await client.stream("rpc_test", to: worker) { stream in
        try await stream.write([1])
        await begun.reaches(1)
        let error = await code {
          try await client.stream("rpc_test", to: worker) { second in
            await second.finish()
            _ = try await second.incoming()
          }
        }
        #expect(error?.code == .overloaded)
        #expect(await begun.value == 1)
        await stream.finish()
        for try await _ in try await stream.incoming() {}
      }
      await ended.reaches(1)
      try await client.stream("rpc_test", to: worker) { try await $0.write([1]) }
      await begun.reaches(2)
    }
  }

  @Test("leaving the stream cancels the handler")
  func cancellation() async throws {
    let (cancelled, cancelling) = AsyncStream.makeStream(of: Bool.self)
    let service = RPCService(stream: "rpc_test") { _, stream in
      do { for try await _ in stream.incoming {} } catch {}
      cancelling.yield(Task.isCancelled)
    }
    try await withWorker(service) { worker, client in
      try await client.stream("rpc_test", to: worker) { try await $0.write([1]) }
      for await isCancelled in cancelled {
        #expect(isCancelled)
        break
      }
    }
  }
}
