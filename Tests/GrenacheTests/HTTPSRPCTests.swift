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
    let begun = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("other")) { worker in
      let client = try await client()
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", Array("\"hello\"".utf8), to: worker)
      }
      #expect(error?.code == .workerNotTrusted)
      #expect(error?.cause?.tls?.code == .nameMismatch)
      #expect(await begun.value == 0)
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
    // Who is opened to "anyone" is known by name; in the clear only what is open altogether is.
    for rule in [
      AccessPolicy.Rule("one", allow: [.call], on: .patterns(["*"]), to: [.dns("client.test")]),
      .init("some", allow: [.call], on: .patterns(["rpc_test"]), to: [.anyone]),
      .init("more", allow: [.call], on: .patterns(["*", "rpc_test"]), to: [.anyone]),
    ] {
      let access = AccessControl(AccessPolicy([rule]))
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
