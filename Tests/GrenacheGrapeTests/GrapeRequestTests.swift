import GrenacheAccess
import GrenacheIO
import Testing

@testable import GrenacheDHT
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
        == .success(.announce(key: Array(name.utf8), port: UInt16(port), address: nil)))
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

  @Test("P13 a body in UTF-16 or UTF-32 is none: its depth would not be known")
  func encodings() {
    let invalid = GrapeRequest.Refusal.failure(status: 500, "ERR_GRAPE_PAYLOAD_INVALID")
    for nested in [1, 30_000] {
      let text =
        "{\"data\":" + String(repeating: "[", count: nested) + String(repeating: "]", count: nested)
        + "}"
      for width in [2, 4] {
        for isBigEndian in [false, true] {
          let body = text.utf8.flatMap { byte in
            let zeros = [UInt8](repeating: 0, count: width - 1)
            return isBigEndian ? zeros + [byte] : [byte] + zeros
          }
          #expect(GrapeRequest.parse(target: "/lookup", body: body) == .failure(invalid))
        }
      }
    }
    #expect(
      GrapeRequest.parse(
        target: "/lookup", body: Array("{\"data\":\"".utf8) + [0xff] + [0x22, 0x7d])
        == .failure(invalid))
  }

  @Test("other paths", arguments: ["/", "/lookup/", "/lookup?x=1", "/LOOKUP", "/announce/x"])
  func paths(_ path: String) {
    #expect(parse(path, "{\"data\":\"a\"}") == .failure(.error("ERR_REQ_NOTFOUND")))
  }

  @Test("a body that is null")
  func null() {
    guard case .failure(.failure(500, _)) = parse("/lookup", "null") else {
      Issue.record("null was taken")
      return
    }
  }

  @Test("where an announced service is; what is no address counts for nothing")
  func addresses() {
    let address = SocketAddress(ip: "10.1.2.3", port: 5)
    for path in ["/announce", "/withdraw"] {
      let parsed = parse(path, "{\"data\":[\"svc\",5,\"10.1.2.3\"]}")
      if path == "/announce" {
        #expect(parsed == .success(.announce(key: Array("svc".utf8), port: 5, address: address)))
      } else {
        #expect(parsed == .success(.withdraw(key: Array("svc".utf8), port: 5, address: address)))
      }
    }
    #expect(
      parse("/announce", "{\"data\":[\"svc\",5,\"host\"]}")
        == .success(.announce(key: Array("svc".utf8), port: 5, address: nil)))
  }
}

@Suite("The grape's API: values")
struct GrapeValueTests {
  private func parse(_ target: String, _ data: String) -> Result<GrapeRequest, GrapeRequest.Refusal>
  {
    GrapeRequest.parse(target: target, body: Array("{\"data\":\(data)}".utf8))
  }

  private static let k = String(repeating: "Ab", count: 32)
  private static let sig = String(repeating: "01", count: 64)

  @Test(
    "what is wrong with a put, checked in the order of existing grapes",
    arguments: [
      ("{}", "opts.v not given"), ("5", "opts.v not given"), ("[]", "opts.v not given"),
      ("{\"v\":null}", "Cannot read properties of null (reading 'length')"),
      (
        "\"\(String(repeating: "x", count: 1_000))\"",
        "v must be less than 1000 bytes in put()"
      ),
      (
        "\"\(String(repeating: "é", count: 500))\"", "v must be less than 1000 bytes in put()"
      ),
      ("{\"v\":\"x\",\"cas\":\"1\"}", "opts.cas must be an integer if provided"),
      (
        "{\"v\":\"x\",\"k\":\"abcd\"}", "opts.k ed25519 public key must be 32 bytes"
      ),
      ("{\"v\":\"x\",\"k\":5}", "opts.k ed25519 public key must be 32 bytes"),
      (
        "{\"v\":\"x\",\"k\":\"\(k)\"}",
        "opts.sign function or options.sig signature is required for mutable put"
      ),
      (
        "{\"v\":\"x\",\"k\":\"\(k)\",\"sig\":\"\(sig)\",\"salt\":\"\(String(repeating: "s", count: 65))\"}",
        "opts.salt is > 64 bytes long"
      ),
      (
        "{\"v\":\"x\",\"k\":\"\(k)\",\"sig\":\"\(sig)\"}",
        "opts.seq not provided for a mutable update"
      ),
      (
        "{\"v\":\"x\",\"k\":\"\(k)\",\"sig\":\"\(sig)\",\"seq\":\"1\"}",
        "opts.seq not an integer"
      ),
    ])
  func putErrors(_ data: String, _ text: String) {
    #expect(parse("/put", data) == .failure(.error(text)))
  }

  @Test("what is put: strings, and what else JSON can say")
  func put() {
    for (data, value) in [
      ("\"hello world\"", "11:hello world"), ("{\"v\":\"x\"}", "1:x"), ("{\"v\":123}", "i123e"),
      ("{\"v\":[1,\"two\"]}", "li1e3:twoe"), ("{\"v\":{\"b\":1,\"a\":2}}", "d1:ai2e1:bi1ee"),
      ("{\"v\":true}", "i1e"), ("{\"v\":\"\",\"k\":null}", "0:"),
      ("\"\(String(repeating: "x", count: 999))\"", "999:" + String(repeating: "x", count: 999)),
    ] {
      #expect(
        parse("/put", data)
          == .success(.put(DHTItem(value: Array(value.utf8)), compareAndSwap: nil)), "\(data)")
    }
    let mutable = parse(
      "/put",
      "{\"v\":\"x\",\"k\":\"\(Self.k)\",\"sig\":\"\(Self.sig)\",\"seq\":3,\"cas\":2,\"salt\":\"[1]\"}"
    )
    let signature = DHTItem.Signature(
      publicKey: [UInt8](repeating: 0xab, count: 32), salt: Array("[1]".utf8), sequence: 3,
      signature: [UInt8](repeating: 1, count: 64))
    #expect(
      mutable
        == .success(
          .put(DHTItem(value: Array("1:x".utf8), signature: signature), compareAndSwap: 2)))
  }

  @Test(
    "seq and cas are whole numbers of 64 bits: none is rounded on its way",
    arguments: [
      ("9007199254740993", 9_007_199_254_740_993), ("9223372036854775807", Int64.max),
      ("-9223372036854775808", Int64.min), ("9223372036854775808", nil), ("4005.0", 4_005),
      ("4005.5", nil), ("1e3", 1_000), ("1e300", nil), ("0", 0), ("true", nil), ("-1", -1),
    ] as [(String, Int64?)])
  func wholeNumbers(_ text: String, _ expected: Int64?) {
    let data = "\"v\":\"x\",\"k\":\"\(Self.k)\",\"sig\":\"\(Self.sig)\""
    let bySequence = parse("/put", "{\(data),\"seq\":\(text)}")
    let bySwap = parse("/put", "{\(data),\"seq\":1,\"cas\":\(text)}")
    guard let expected else {
      #expect(bySequence == .failure(.error("opts.seq not an integer")))
      #expect(bySwap == .failure(.error("opts.cas must be an integer if provided")))
      return
    }
    if case .success(.put(let item, _)) = bySequence {
      #expect(item.signature?.sequence == expected)
    } else {
      Issue.record("\(bySequence)")
    }
    if case .success(.put(_, let swap)) = bySwap {
      #expect(swap == expected)
    } else {
      Issue.record("\(bySwap)")
    }
  }

  @Test("a value that others could not read is not put")
  func unreadable() {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + "1" + String(repeating: "]", count: depth)
    }
    guard case .success(.put(let item, nil)) = parse("/put", "{\"v\":\(nested(29))}") else {
      Issue.record("29 levels were refused")
      return
    }
    #expect(Bencode(decoding: item.value.span) != nil)
    for depth in [30, 33, 61] {
      #expect(
        parse("/put", "{\"v\":\(nested(depth))}")
          == .failure(.error("v is nested too deep or has too many parts")))
    }
  }

  @Test("nothing at all: the texts of existing grapes, bare")
  func missing() {
    func text(_ path: String, _ body: String) -> GrapeRequest.Refusal? {
      guard case .failure(let refusal) = GrapeRequest.parse(target: path, body: Array(body.utf8))
      else { return nil }
      return refusal
    }
    for (path, name) in [("/put", "k"), ("/get", "salt")] {
      #expect(
        text(path, "{}")
          == .failure(
            status: 500, "Cannot read properties of undefined (reading '\(name)')"))
      #expect(
        text(path, "{\"data\":null}")
          == .failure(status: 500, "Cannot read properties of null (reading '\(name)')"))
    }
  }

  @Test("what is no target is a value that is not there, or an error")
  func getErrors() {
    for data in ["\"\"", "\"zz\"", "\"abcd\"", "{\"hash\":\"zz\"}", "{\"hash\":\"\"}"] {
      #expect(parse("/get", data) == .failure(.empty), "\(data)")
    }
    for data in ["5", "{}", "{\"hash\":5}", "{\"hash\":null}", "[1]", "true"] {
      #expect(parse("/get", data) == .failure(.error("ERR_GRAPE_GENERIC")), "\(data)")
    }
  }

  @Test("a target in either case, a salt, and without the own store")
  func get() {
    let target = [UInt8](repeating: 0xab, count: 20)
    let hex = String(repeating: "aB", count: 20)
    #expect(
      parse("/get", "\"\(hex)\"")
        == .success(.get(target: target, salt: nil, usesOwnStore: true)))
    #expect(
      parse("/get", "{\"hash\":\"\(hex)\",\"salt\":\"\\\"abc\\\"\",\"cache\":false}")
        == .success(.get(target: target, salt: Array("\"abc\"".utf8), usesOwnStore: false)))
  }

  @Test("answers: the members in the order of existing grapes")
  func json() throws {
    let id = try #require(NodeID([UInt8](repeating: 0x11, count: 20)))
    let ids = String(repeating: "11", count: 20)
    var result = DHTGetResult(item: DHTItem(value: Array("2:a\"".utf8)), id: id, token: nil)
    #expect(
      GrapeValue.json(result, salt: nil) == "{\"id\":\"\(ids)\",\"token\":null,\"v\":\"a\\\"\"}")
    result.token = [0xfe]
    #expect(
      GrapeValue.json(result, salt: nil)
        == "{\"id\":\"\(ids)\",\"token\":\"fe\",\"v\":\"a\\\"\"}")
    result.item.signature = DHTItem.Signature(
      publicKey: [1], salt: [], sequence: 7, signature: [2])
    #expect(
      GrapeValue.json(result, salt: [0x73])
        == "{\"id\":\"\(ids)\",\"k\":\"01\",\"seq\":7,\"sig\":\"02\",\"token\":\"fe\","
        + "\"v\":\"a\\\"\",\"salt\":\"s\"}")
    result.token = nil
    #expect(
      GrapeValue.json(result, salt: nil)
        == "{\"id\":\"\(ids)\",\"token\":null,\"v\":\"a\\\"\",\"sig\":\"02\",\"k\":\"01\",\"seq\":7}"
    )
  }

  @Test("values that are no strings, as JavaScript turns them into texts")
  func texts() {
    #expect(GrapeValue.text(.integer(123)) == "123")
    #expect(GrapeValue.text(.list([.integer(1), Bencode("two")])) == "1,two")
    #expect(GrapeValue.text(.dictionary([:])) == "[object Object]")
    #expect(GrapeValue.text(.bytes([0xff])) == "\u{fffd}")
  }
}

@Suite("What a grape logs")
struct GrapeLogTests {
  @Test("P42 nobody forges lines of the log with a service's name")
  func quoting() {
    #expect("rest:util:net é日本".quotedForLog == "rest:util:net é日本")
    #expect("a\nb\r\u{1b}[2J".quotedForLog == "a\\u{a}b\\u{d}\\u{1b}[2J")
    #expect("\u{202e}\u{2028}\u{85}\0".quotedForLog == "\\u{202e}\\u{2028}\\u{85}\\u{0}")
  }
}
