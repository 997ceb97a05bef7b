import Foundation
import Grenache
import GrenacheAccess
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import Synchronization
import TestSupport
import Testing

/// Sends requests as they are to a worker, over mutual TLS or in the clear.
struct RawHTTP: Sendable {
  private let client: LoopBound<HTTPClient>
  private let destination: Destination

  init(to worker: Endpoint, tls: TLSConfiguration?) async throws {
    let context = try tls.map { try TLSContext($0) }
    client = try await EventLoopGroup.shared().next().run { loop in
      LoopBound(HTTPClient(context: context), on: loop)
    }
    destination = Destination(worker, verification: .service("rpc_test"))
  }

  func post(
    _ body: [UInt8], _ fields: HTTPFields = [], method: HTTPMethod = .post, path: String = "/"
  ) async throws -> HTTPClientResponse {
    try await Self.send(
      HTTPClientRequest(method, path, fields: fields, body: body), client, destination,
      on: client.loop)
  }

  func post(_ body: String, _ fields: HTTPFields = []) async throws -> String {
    String(decoding: try await post(Array(body.utf8), fields).body, as: UTF8.self)
  }

  private static func send(
    _ request: HTTPClientRequest, _ client: LoopBound<HTTPClient>, _ destination: Destination,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientResponse {
    try await client.get(on: loop).send(
      request, to: destination, by: .now() + .seconds(10), isRetryable: true, on: loop)
  }
}

@Suite("HTTPS RPC, as existing peers speak it", .timeLimit(.minutes(1)))
struct HTTPSRPCTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func client(
    configure: @Sendable (inout PeerRPCClientConfiguration) -> Void = { _ in }
  ) async throws -> PeerRPCClient {
    try await directClient(try authority.client()) { configuration in
      configuration.transport = .https
      configure(&configuration)
    }
  }

  private func withWorker<Result: Sendable>(
    _ services: [RPCService] = [hello],
    configure: @Sendable (inout PeerRPCServerConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (Endpoint, RawHTTP) async throws -> Result
  ) async throws -> Result {
    let tls = try authority.client()
    return try await withServer(
      services, tls: try authority.worker("*"), configure: configure
    ) { worker in
      try await body(worker, try await RawHTTP(to: worker, tls: tls))
    }
  }

  @Test("hello is answered with world, compressed or not, and both sides know who it was")
  func call() async throws {
    try await withWorker { worker, _ in
      for compresses in [false, true] {
        let client = try await client { $0.compressesHTTP = compresses }
        let reply = try await client.requestRaw("rpc_test", Array("\"hello\"".utf8), to: worker)
        #expect(reply.result == Array("\"world\"".utf8))
        #expect(reply.identity != nil)
        #expect(reply.negotiated?.version == "TLSv1.3")
      }
    }
  }

  @Test("200 calls at once over a few kept connections complete")
  func many() async throws {
    try await withWorker([echo]) { worker, _ in
      let client = try await client { $0.httpConnectionsPerWorkerMax = 4 }
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for number in 0..<200 {
          group.addTask {
            let text = Array("\(number)".utf8)
            return try await client.requestRaw("rpc_test", text, to: worker).result == text
          }
        }
        for try await isRight in group { #expect(isRight) }
      }
    }
  }

  @Test(
    "§1.4 the envelope of the body is answered with its own identifier, whatever it is",
    arguments: [
      ("[\"r1\",\"rpc_test\",\"hello\"]", "[\"r1\",null,\"world\"]"),
      (" [ 7 , \"rpc_test\" , \"hello\" , 1 ] ", "[7,null,\"world\"]"),
      ("[{\"a\":1},\"rpc\\u005ftest\",\"hello\"]", "[{\"a\":1},null,\"world\"]"),
      ("[\"r1\",\"other\",1]", "[\"r1\",\"ERR_SERVICE_NOT_FOUND: other\",null]"),
      ("[\"r1\",\"rpc_test\",1]", "[\"r1\",\"the payload is not what rpc_test takes\",null]"),
      ("{}", "[null,\"ERR_SERVICE_NOT_FOUND: null\",null]"),
      ("5", "[null,\"ERR_SERVICE_NOT_FOUND: null\",null]"),
    ])
  func envelope(_ body: String, _ expected: String) async throws {
    try await withWorker { _, raw in
      let answer1 = try await raw.post(body)
      #expect(answer1 == expected)
    }
  }

  @Test(
    "§2 what is no call is answered with 400, and the connection goes on",
    arguments: ["", "null", "0", "false", "\"\"", "[1", "hello", "[\"a\",\"b\",1]x"])
  func unparseable(_ body: String) async throws {
    try await withWorker { _, raw in
      let answer2 = try await raw.post(Array(body.utf8))
      #expect(answer2.status == .badRequest)
      let answer3 = try await raw.post("[\"r1\",\"rpc_test\",\"hello\"]")
      #expect(answer3 == "[\"r1\",null,\"world\"]")
    }
  }

  @Test("any method and path will do")
  func methods() async throws {
    try await withWorker { _, raw in
      let body = Array("[1,\"rpc_test\",\"hello\"]".utf8)
      let reply = try await raw.post(body, method: .put, path: "/any?x=1")
      #expect(reply.status == .ok)
      #expect(reply.body == Array("[1,null,\"world\"]".utf8))
    }
  }

  @Test(
    "_gr overrides identifier and key, the payload stays that of the body; null is no _gr",
    arguments: [
      ("[\"g\",\"rpc_test\"]", "[\"g\",null,\"world\"]"),
      ("[\"g\"]", "[\"g\",\"ERR_SERVICE_NOT_FOUND: null\",null]"),
      ("null", "[\"r1\",\"ERR_SERVICE_NOT_FOUND: x\",null]"),
    ])
  func requestField(_ field: String, _ expected: String) async throws {
    try await withWorker { _, raw in
      let answer4 = try await raw.post("[\"r1\",\"x\",\"hello\"]", [("_gr", field)])
      #expect(answer4 == expected)
    }
  }

  @Test(
    "a _gr that is not JSON is answered with 500 and these 35 bytes",
    arguments: ["", "[", "x", "[1] 2"])
  func badRequestField(_ field: String) async throws {
    try await withWorker { _, raw in
      let reply = try await raw.post(
        Array("[1,\"rpc_test\",\"hello\"]".utf8), [("_gr", field)])
      #expect(reply.status == .internalServerError)
      #expect(
        String(decoding: reply.body, as: UTF8.self) == "[null, \"ERR_HEADER_PARSE_GR\", null]")
      #expect(reply.body.count == 35)
    }
  }

  @Test("_a and _ar reach the handler; what is no JSON counts as {}")
  func action() async throws {
    let service = RPCService("rpc_test") { (_: Int, request: RPCRequest) -> [String] in
      [request.action ?? "none", String(decoding: request.actionArguments, as: UTF8.self)]
    }
    try await withWorker([service]) { _, raw in
      let body = "[1,\"rpc_test\",1]"
      let answer5 = try await raw.post(body)
      #expect(answer5 == "[1,null,[\"none\",\"{}\"]]")
      let both: HTTPFields = [("_a", "reply"), ("_ar", "[1,2]")]
      let answer6 = try await raw.post(body, both)
      #expect(answer6 == "[1,null,[\"reply\",\"[1,2]\"]]")
      let answer7 = try await raw.post(body, [("_ar", "[1")])
      #expect(answer7 == "[1,null,[\"none\",\"{}\"]]")
    }
  }

  @Test("grc-compress: the reply is compressed when the word is anywhere in the field")
  func compression() async throws {
    try await withWorker { _, raw in
      let text = Array("[1,\"rpc_test\",\"hello\"]".utf8)
      let limits = InflateLimits(outputBytesMax: 1_000)
      for body in [text, try Gzip.encode(text.span)] {
        let reply = try await raw.post(body, [("grc-compress", "x-gzip")])
        #expect(reply.status == .ok)
        #expect(reply.fields["Content-Encoding"] == nil)
        let inflated = try Gzip.decode(reply.body.span, limits: limits)
        #expect(inflated == Array("[1,null,\"world\"]".utf8))
      }
      let unsaid = try await raw.post(try Gzip.encode(text.span))
      #expect(unsaid.status == .badRequest)
      let broken = try await raw.post([0x1f, 0x8b, 0, 0], [("grc-compress", "gzip")])
      #expect(broken.status == .badRequest)
    }
  }

  @Test("P7 a body that inflates beyond the limit is refused", arguments: [0, 1])
  func bomb(_ excess: Int) async throws {
    try await withWorker([echo], configure: { $0.transport.http.bodyBytesMax = 10_000 }) { _, raw in
      let open = Array("[1,\"rpc_test\",\"".utf8)
      let close = Array("\"]".utf8)
      let fill = [UInt8](
        repeating: 0x78, count: 10_000 - open.count - close.count + excess)
      let body = try Gzip.encode((open + fill + close).span)
      let reply = try await raw.post(body, [("grc-compress", "gzip")])
      #expect(reply.status == (excess == 0 ? .ok : .contentTooLarge))
    }
  }

  @Test("P26 a policy decides over HTTPS, too")
  func policy() async throws {
    let access = AccessControl(AccessPolicy([]))
    try await withWorker(configure: { $0.access = access }) { worker, raw in
      let answer8 = try await raw.post("[1,\"rpc_test\",\"hello\"]")
      #expect(
        answer8
          == "[1,\"ERR_NOT_PERMITTED: rpc_test\",null]")
      let client = try await client()
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", Array("1".utf8), to: worker)
      }
      #expect(error?.code == .notPermitted)
    }
  }

  @Test("P20 a worker of another service gets no byte of the call")
  func impostor() async throws {
    try await withServer([hello], tls: try authority.worker("other")) { worker in
      let client = try await client()
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", Array("\"hello\"".utf8), to: worker)
      }
      #expect(error?.code == .workerNotTrusted)
      #expect(error?.cause?.tls?.code == .nameMismatch)
    }
  }

  @Test("one port answers WSS, HTTPS and, where that is allowed, both in the clear")
  func onePort() async throws {
    let payload = Array("\"hello\"".utf8)
    let plaintext = LinkConfiguration.insecurePlaintext(
      grapes: [Endpoint(host: "127.0.0.1", port: 1)])
    try await withWorker(
      configure: { $0.acceptsInsecurePlaintextBesideTLS = true }
    ) { worker, _ in
      for transport in [RPCTransport.wss, .https] {
        for isPlain in [false, true] {
          let link =
            isPlain
            ? try await Link(plaintext, logger: quietLogger)
            : try await Link(
              LinkConfiguration(grapes: [worker], tls: try authority.client()), logger: quietLogger)
          var configuration = PeerRPCClientConfiguration()
          configuration.transport = transport
          let client = await PeerRPCClient(link: link, configuration: configuration)
          let reply = try await client.requestRaw("rpc_test", payload, to: worker)
          #expect(reply.result == Array("\"world\"".utf8))
          #expect((reply.identity == nil) == isPlain)
          await client.close()
        }
      }
    }
  }

  @Test("without that, a caller in the clear gets nothing; with a policy of its own, no right")
  func plaintextRefused() async throws {
    let link = try await Link(
      .insecurePlaintext(grapes: [Endpoint(host: "127.0.0.1", port: 1)]), logger: quietLogger)
    let client = await PeerRPCClient(link: link)
    let payload = Array("\"hello\"".utf8)
    try await withWorker { worker, _ in
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", payload, to: worker)
      }
      #expect(error?.code == .workerUnreachable)
    }
    let access = AccessControl(
      AccessPolicy([
        .init("one", allow: [.call], on: .patterns(["*"]), to: [.dns("client.test")])
      ]))
    try await withWorker(
      configure: {
        $0.acceptsInsecurePlaintextBesideTLS = true
        $0.access = access
      }
    ) { worker, raw in
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", payload, to: worker)
      }
      #expect(error?.code == .notPermitted)
      let answer9 = try await raw.post("[1,\"rpc_test\",\"hello\"]")
      #expect(answer9 == "[1,null,\"world\"]")
    }
  }
}

@Suite("P26 What is denied is logged, over HTTPS as well", .timeLimit(.minutes(1)))
struct DenialTests {
  @Test("calls and streams that no rule allows: a line a caller and service, not one for each")
  func logged() async throws {
    let authority = try TestAuthority()
    let tls = try authority.client()
    let log = LogRecorder()
    let stream = RPCService(stream: "rpc_stream") { _, _ in }
    try await withServer(
      [hello, stream], tls: try authority.worker("*"), logger: log.logger,
      configure: { $0.access = AccessControl(AccessPolicy([])) }
    ) { worker in
      // Each comes by a connection of its own.
      for _ in 0..<3 {
        let answer = try await RawHTTP(to: worker, tls: tls).post("[1,\"rpc_test\",\"hello\"]")
        #expect(answer == "[1,\"ERR_NOT_PERMITTED: rpc_test\",null]")
        let stream = try await RawHTTP(to: worker, tls: tls)
          .post("", [("_gr", "[\"1\",\"rpc_stream\"]")])
        #expect(stream.contains("ERR_NOT_PERMITTED: rpc_stream"))
      }
    }
    let lines = log.lines("denied: no rule of the access policy allows it")
    #expect(lines.map { $0["service"] } == ["rpc_test", "rpc_stream"], "\(lines)")
    for line in lines {
      #expect(line["right"] == "call")
      let who = line["by"]?.description ?? ""
      #expect(who.contains("client.test"), "\(line)")
    }
  }
}

@Suite("Calls over HTTPS that may have been carried out", .timeLimit(.minutes(1)))
struct HTTPSRetryTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// Two workers that never answer, and who of them has been called.
  private func withFleet(
    configureServer: (inout PeerRPCServerConfiguration) -> Void = { _ in },
    _ body: (WorkerFleet, _ begun: Tally, _ called: @Sendable () -> [Int]) async throws -> Void
  ) async throws {
    let begun = Tally()
    let called = Mutex<[Int]>([])
    let services = (0..<2).map { index in
      RPCService(raw: "rpc_test") { request in
        called.withLock { $0.append(index) }
        await begun.add()
        try await Task.sleep(for: .seconds(60))
        return request.payload
      }
    }
    let fleet = try await WorkerFleet(
      services, authority: authority, configureServer: configureServer,
      configure: { $0.transport = .https })
    try await body(fleet, begun) { called.withLock { $0 } }
    await fleet.stop()
  }

  private func error(_ fleet: WorkerFleet) async -> GrenacheError? {
    await #expect(throws: GrenacheError.self) {
      try await fleet.client.requestRaw("rpc_test", Array("1".utf8), within: .seconds(15))
    }
  }

  @Test("a worker that dies in the middle of a call: the call is not sent to another one")
  func crash() async throws {
    try await withFleet { fleet, begun, called in
      async let failure = error(fleet)
      await begun.reaches(1)
      // Without close_notify: as TLS sees it, the stream has been cut off.
      await fleet.workers[try #require(called().first)].stop()
      let error = await failure
      #expect(error?.code == .connectionLost)
      #expect(called().count == 1)
    }
  }

  @Test("503 for a handler that takes too long: the call is not sent to another worker")
  func unavailable() async throws {
    try await withFleet(configureServer: { $0.transport.handlerDeadline = .milliseconds(300) }) {
      fleet, _, called in
      #expect(await error(fleet)?.code == .invalidReply)
      #expect(called().count == 1)
    }
  }
}

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
    configuration.drainDeadline = .seconds(10)
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
    let end = ContinuousClock.now + .seconds(10)
    while log.level(of: "a call was cancelled") == nil, ContinuousClock.now < end {
      await Task.yield()
    }
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
    service.callsInFlightMax = 1
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
