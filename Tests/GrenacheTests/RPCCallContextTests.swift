import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("Metadata of calls", .timeLimit(.minutes(1)))
struct RPCMetadataTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "metadata reaches the handler, over both transports", arguments: [RPCTransport.wss, .https])
  func metadata(_ transport: RPCTransport) async throws {
    let service = RPCService("rpc_test") { (_: Int, request: RPCRequest) -> [String: String] in
      request.metadata
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      var options = RPCCallOptions()
      options.worker = worker
      options.metadata = ["trace": "7", "quote": "\"\u{e9}\n"]
      let seen: [String: String] = try await client.request("rpc_test", 1, options: options)
      #expect(seen == options.metadata)
      for (count, isRight) in [(32, true), (33, false)] {
        options.metadata = Dictionary(uniqueKeysWithValues: (0..<count).map { ("\($0)", "x") })
        let error = await grenacheError {
          let _: [String: String] = try await client.request("rpc_test", 1, options: options)
        }
        #expect((error == nil) == isRight)
        #expect(isRight || error?.code == .invalidPayload)
      }
    }
  }

  @Test(
    "metadata of the limit, as it is sent, reaches the handler; one byte more fails with a typed error",
    arguments: [RPCTransport.wss, .https], ["x", "\"", "\u{1}", "\u{e9}", "\u{7f}"])
  func metadataLimit(_ transport: RPCTransport, _ filler: String) async throws {
    let service = RPCService("rpc_test") { (_: Int, request: RPCRequest) -> [String: String] in
      request.metadata
    }
    var element: [UInt8] = []
    RPCCallContext.append(metadata: ["a": filler], to: &element)
    let fillerBytes = element.count - #"{"a":""}"#.utf8.count
    let room = RPCCallOptions.metadataBytesMax - #"{"a":""}"#.utf8.count
    let largest =
      String(repeating: filler, count: room / fillerBytes)
      + String(repeating: "x", count: room % fillerBytes)
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      var options = RPCCallOptions()
      options.worker = worker
      for (value, isRight) in [
        (largest, true), (largest + "x", false), (String(repeating: filler, count: 8_200), false),
      ] {
        options.metadata = ["a": value]
        var seen: [String: String]?
        let error = await grenacheError {
          seen = try await client.request("rpc_test", 1, options: options)
        }
        #expect(seen == (isRight ? options.metadata : nil))
        #expect(error?.code == (isRight ? nil : .invalidPayload))
      }
      await client.close()
    }
  }
}

@Suite("The extension's envelope")
struct RPCCallContextTests {
  @Test(
    "the fourth element",
    arguments: [
      ("{\"t\":2500}", 2500, [:]), ("{}", nil, [:]), ("null", nil, [:]), ("7", nil, [:]),
      ("{ \"t\" : 1 , \"x\" : [{}] }", 1, [:]), ("{\"t\":-1}", nil, [:]),
      ("{\"t\":1e3}", nil, [:]), ("{\"t\":\"5\"}", nil, [:]), ("{\"t\":9999999999}", nil, [:]),
      ("{\"m\":{\"a\":\"b\\n\",\"c\":5},\"t\":9}", 9, ["a": "b\n"]), ("{\"m\":[1]}", nil, [:]),
    ] as [(String, UInt32?, [String: String])])
  func parse(_ text: String, _ timeout: UInt32?, _ metadata: [String: String]) {
    let bytes = Array("[\(text)]".utf8)
    let context = RPCCallContext(bytes.span, at: 1..<(bytes.count - 1))
    #expect(context.timeoutMs == timeout)
    #expect(context.metadata == metadata)
  }

  @Test("metadata of the limits is taken; one entry or one byte more, and there is none")
  func metadataLimits() {
    func taken(_ text: String) -> Int {
      RPCCallContext(timeout: nil, metadata: text).metadata.count
    }
    for (count, expected) in [(32, 32), (33, 0)] {
      let entries = (0..<count).map { "\"\($0)\":\"x\"" }.joined(separator: ",")
      #expect(taken("{\(entries)}") == expected)
    }
    let room = RPCCallContext.metadataBytesMax - #"{"a":""}"#.utf8.count
    for (excess, expected) in [(0, 1), (1, 0)] {
      #expect(taken("{\"a\":\"\(String(repeating: "x", count: room + excess))\"}") == expected)
    }
  }

  @Test("what is written is read again")
  func roundTrip() {
    let metadata = ["a": "\"", "b": "\u{1}\u{1F600}"]
    var bytes: [UInt8] = []
    RPCCallContext.append(timeoutMs: 4_294_967, metadata: metadata, to: &bytes)
    let context = RPCCallContext(bytes.span, at: 0..<bytes.count)
    #expect(context.timeoutMs == 4_294_967)
    #expect(context.metadata == metadata)
  }

  @Test(
    "cancelling",
    arguments: [
      ("{\"cancel\":\"17\"}", "\"17\""), (" { \"cancel\" : 7 }", "7"), ("{\"cancel\":\"1\"", nil),
      ("{\"other\":\"1\"}", nil), ("{}", nil), ("[\"cancel\"]", nil),
    ] as [(String, String?)])
  func cancel(_ text: String, _ id: String?) {
    let bytes = Array(text.utf8)
    let range = RPCCallContext.cancelledID(bytes.span)
    #expect(range.map { String(decoding: bytes[$0], as: UTF8.self) } == id)
  }
}
