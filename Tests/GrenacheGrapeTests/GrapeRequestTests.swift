import Testing

@testable import GrenacheGrape

@Suite("The grape's API: what a request asks for")
struct GrapeRequestTests {
  private func parse(_ target: String, _ body: String) -> Result<GrapeRequest, GrapeRequest.Refusal>
  {
    GrapeRequest.parse(target: target, body: Array(body.utf8))
  }

  @Test(
    "announce",
    arguments: [
      ("[\"svc\",4001]", "svc", 4001), ("[\"svc\",4001,\"more\"]", "svc", 4001),
      ("[\"svc\",4005.0]", "svc", 4005), ("[\"svc\",0]", "svc", 0), ("[\"\",1]", "", 1),
      ("[[65,66],1]", "AB", 1), ("[\"sérvice\",65535]", "sérvice", 65535),
    ])
  func announce(_ data: String, _ name: String, _ port: Int) {
    #expect(
      parse("/announce", "{\"rid\":\"x\",\"data\":\(data)}")
        == .success(.announce(key: Array(name.utf8), port: UInt16(port))))
  }

  @Test(
    "what is wrong with an announcement",
    arguments: [
      ("{}", "ERR_GRAPE_ANNOUNCE"), ("{\"data\":null}", "ERR_GRAPE_ANNOUNCE"),
      ("{\"data\":\"svc\"}", "ERR_GRAPE_ANNOUNCE"), ("[]", "ERR_GRAPE_ANNOUNCE"),
      ("{\"data\":[\"svc\"]}", "ERR_GRAPE_SERVICE_PORT"), ("5", "ERR_GRAPE_ANNOUNCE"),
      ("{\"data\":[\"svc\",\"1\"]}", "ERR_GRAPE_SERVICE_PORT"),
      ("{\"data\":[\"svc\",1.5]}", "ERR_GRAPE_SERVICE_PORT"),
      ("{\"data\":[\"svc\",true]}", "ERR_GRAPE_SERVICE_PORT"),
      ("{\"data\":[\"svc\",-1]}", "ERR_GRAPE_SERVICE_PORT"),
      ("{\"data\":[\"svc\",70000]}", "ERR_GRAPE_SERVICE_PORT"),
      ("{\"data\":[\"svc\",1e300]}", "ERR_GRAPE_SERVICE_PORT"),
    ])
  func announceErrors(_ body: String, _ text: String) {
    #expect(parse("/announce", body) == .failure(.error(text)))
  }

  @Test("a name that is none", arguments: ["5", "null", "{}", "[true]"])
  func names(_ name: String) {
    guard
      case .failure(.failure(500, _)) = parse("/announce", "{\"data\":[\(name),1]}")
    else {
      Issue.record("\(name) was taken")
      return
    }
  }

  @Test(
    "lookup",
    arguments: [
      "{\"data\":\"\"}", "{\"data\":5}", "{\"data\":[]}", "{}", "5", "\"x\"", "[1]", "true",
    ])
  func lookupErrors(_ body: String) {
    #expect(parse("/lookup", body) == .failure(.error("ERR_GRAPE_LOOKUP")))
  }

  @Test("a lookup takes a name")
  func lookup() {
    #expect(parse("/lookup", "{\"data\":\"a\"}") == .success(.lookup(key: [0x61])))
  }

  @Test(
    "what is no request at all",
    arguments: ["", "x", "{", "{\"data\":\"a\"", "{'data':1}", "\u{0}"])
  func invalid(_ body: String) {
    for path in ["/lookup", "/announce", "/nowhere"] {
      #expect(parse(path, body) == .failure(.failure(status: 500, "ERR_GRAPE_PAYLOAD_INVALID")))
    }
  }

  @Test("P13 nesting is bounded before anything is decoded")
  func depth() {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(parse("/lookup", nested(64)) == .failure(.error("ERR_GRAPE_LOOKUP")))
    let invalid = GrapeRequest.Refusal.failure(status: 500, "ERR_GRAPE_PAYLOAD_INVALID")
    #expect(parse("/lookup", nested(65)) == .failure(invalid))
    #expect(parse("/lookup", String(repeating: "[", count: 8_000)) == .failure(invalid))
  }

  @Test("other paths", arguments: ["/", "/lookup/", "/lookup?x=1", "/LOOKUP", "/announce/x"])
  func paths(_ path: String) {
    #expect(parse(path, "{\"data\":\"a\"}") == .failure(.error("ERR_REQ_NOTFOUND")))
  }

  @Test("null, put and get")
  func others() {
    guard case .failure(.failure(500, _)) = parse("/lookup", "null") else {
      Issue.record("null was taken")
      return
    }
    for path in ["/put", "/get"] {
      guard case .failure(.error(let text)) = parse(path, "{\"data\":{\"v\":\"x\"}}") else {
        Issue.record("\(path) was taken")
        return
      }
      #expect(text.hasPrefix("ERR_GRAPE_NOT_SUPPORTED"))
    }
  }
}
