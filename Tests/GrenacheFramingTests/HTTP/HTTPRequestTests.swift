import TestSupport
import Testing

@testable import GrenacheFraming

private func request(_ fields: String..., line: String = "POST / HTTP/1.1") -> [UInt8] {
  Array((([line, "Host: a"] + fields).joined(separator: "\r\n") + "\r\n\r\n").utf8)
}

private func status(_ input: [UInt8], limits: HTTPLimits = HTTPLimits()) -> Int? {
  if case .error(let status)? = parseRequests(input, limits: limits).last { return status }
  return nil
}

private func status(_ text: String) -> Int? { status(Array(text.utf8)) }

@Suite("RFC 9112 §3 Request line")
struct RequestLineTests {
  @Test(
    "the four forms of a target",
    arguments: [
      "GET / HTTP/1.1", "GET /a/b?c=d&e=%20 HTTP/1.1", "GET http://a/b HTTP/1.1",
      "OPTIONS * HTTP/1.1", "CONNECT a:80 HTTP/1.1", "PURGE /x HTTP/1.0",
    ])
  func accepted(_ line: String) {
    #expect(status(request(line: line)) == nil)
  }

  @Test(
    "what is no request line",
    arguments: [
      ("GET  / HTTP/1.1", 400), ("GET / HTTP/1.1 ", 400), (" GET / HTTP/1.1", 400),
      ("GET /a b HTTP/1.1", 400), ("GET / HTTP/2.0", 505), ("GET / HTTP/1.2", 505),
      ("GET / http/1.1", 400), ("GET /", 400), ("GET * HTTP/1.1", 400), ("G@T / HTTP/1.1", 400),
      ("GET a HTTP/1.1", 400), ("GET /\u{7f} HTTP/1.1", 400), ("GET /ä HTTP/1.1", 400),
      ("GET / HTTP/1.1x", 400), ("CONNECT / HTTP/1.1", 400), ("GET /\" HTTP/1.1", 400),
    ])
  func refused(_ line: String, _ expected: Int) {
    #expect(status(request(line: line)) == expected)
  }

  @Test("one empty line before a request is forgiven, §2.2")
  func emptyLine() {
    #expect(status("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") == nil)
  }

  @Test("Host comes exactly once in HTTP/1.1, §3.2")
  func host() {
    #expect(status("GET / HTTP/1.1\r\n\r\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n") == 400)
    #expect(status("GET / HTTP/1.0\r\n\r\n") == nil)
  }
}

@Suite("RFC 9112 §5 Field syntax")
struct FieldTests {
  @Test(
    "what is no field line",
    arguments: [
      "A : b", "A\t: b", ": b", "A b: c", "A\u{0}: b", "A: b\u{0}c", "A: b\u{1}", "A: b\rc",
      " folded", "\tfolded", "A", "A(: b", "A: \u{7f}", "Ä: b",
    ])
  func refused(_ line: String) {
    #expect(status(request(line)) == 400)
  }

  @Test("a bare line feed ends no line, §2.2")
  func bareLF() {
    #expect(status("GET / HTTP/1.1\nHost: a\n\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a\r\n\n") == 400)
  }

  @Test("white space around a value is not part of it")
  func trimming() {
    let events = parseRequests(request("X: \t a b \t"))
    guard case .head(_, _, _, let fields, _)? = events.first else {
      Issue.record("no head")
      return
    }
    #expect(fields == ["Host: a", "X: a b"])
  }
}

@Suite("RFC 9112 §6 Message body: nothing ambiguous")
struct SmugglingTests {
  @Test(
    "lengths that contradict or cannot be told",
    arguments: [
      (["Content-Length: 1", "Content-Length: 1"], 400),
      (["Content-Length: 1", "Content-Length: 2"], 400), (["Content-Length: 1, 1"], 400),
      (["Content-Length: +1"], 400), (["Content-Length: -1"], 400), (["Content-Length: 0x1"], 400),
      (["Content-Length: 1 1"], 400), (["Content-Length:"], 400), (["Content-Length: 1a"], 400),
      (["Content-Length: ١"], 400), (["Content-Length: 99999999999999999999"], 413),
      (["Content-Length: 9223372036854775807"], 413), (["Content-Length: 1e1"], 400),
      (["Transfer-Encoding: chunked", "Content-Length: 1"], 400),
      (["Content-Length: 1", "Transfer-Encoding: chunked"], 400),
      (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
      (["Transfer-Encoding: chunked, chunked"], 501), (["Transfer-Encoding: gzip, chunked"], 501),
      (["Transfer-Encoding: identity"], 501), (["Transfer-Encoding: xchunked"], 501),
      (["Transfer-Encoding: chunked;a=b"], 501), (["Transfer-Encoding:\u{0b}chunked"], 400),
      (["Transfer-Encoding: \"chunked\""], 501), (["Transfer-Encoding:"], 501),
      (["Transfer_Encoding: chunked", "Transfer-Encoding : chunked"], 400),
      (["Expect: 200-ok"], 417),
    ])
  func refused(_ fields: [String], _ expected: Int) {
    let text = (["POST / HTTP/1.1", "Host: a"] + fields).joined(separator: "\r\n") + "\r\n\r\n"
    #expect(status(text) == expected)
  }

  @Test("Transfer-Encoding has no place in HTTP/1.0, §6.1")
  func http10() {
    #expect(status(request("Transfer-Encoding: chunked", line: "POST / HTTP/1.0")) == 400)
  }

  @Test(
    "what is no chunk, §7.1",
    arguments: [
      ("0x1\r\na\r\n0\r\n\r\n", 400), ("+1\r\na\r\n0\r\n\r\n", 400), (" 1\r\na\r\n0\r\n\r\n", 400),
      ("1 \r\na\r\n0\r\n\r\n", 400), ("\r\na\r\n0\r\n\r\n", 400), ("g\r\n", 400), ("-1\r\n", 400),
      ("1\r\nab\r\n0\r\n\r\n", 400), ("1\r\na\n0\r\n\r\n", 400), ("1\na\r\n0\r\n\r\n", 400),
      ("1;a\u{1}\r\na\r\n0\r\n\r\n", 400), ("ffffffffffffffff1\r\n", 413),
      ("7fffffffffffffff\r\n", 413), ("0\r\nbad trailer\r\n\r\n", 400),
      ("0\r\nA: \u{0}\r\n\r\n", 400), ("1\r\na\r0\r\n\r\n", 400),
    ])
  func chunks(_ body: String, _ expected: Int) {
    #expect(status(request("Transfer-Encoding: chunked") + Array(body.utf8)) == expected)
  }

  @Test(
    "chunk sizes in any case, extensions and trailers are taken",
    arguments: [
      "5\r\nhello\r\n0\r\n\r\n", "0005\r\nhello\r\n0\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
      "5;a=b;c\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    ])
  func chunked(_ body: String) {
    let events = parseRequests(request("Transfer-Encoding: chunked") + Array(body.utf8))
    #expect(events.dropFirst() == [.body(Array("hello".utf8)), .end])
  }
}

@Suite("HTTP limits, at and one past each")
struct HTTPLimitTests {
  @Test("head, lines and fields")
  func head() {
    let one = request("X: \(String(repeating: "a", count: 100))")
    #expect(status(one, limits: HTTPLimits(headBytesMax: one.count)) == nil)
    #expect(status(one, limits: HTTPLimits(headBytesMax: one.count - 1)) == 431)
    #expect(status(one, limits: HTTPLimits(lineBytesMax: 105)) == nil)
    #expect(status(one, limits: HTTPLimits(lineBytesMax: 104)) == 431)
    #expect(status(one, limits: HTTPLimits(fieldsMax: 2)) == nil)
    #expect(status(one, limits: HTTPLimits(fieldsMax: 1)) == 431)
    let long = request(line: "GET /\(String(repeating: "a", count: 100)) HTTP/1.1")
    #expect(status(long, limits: HTTPLimits(lineBytesMax: 116)) == nil)
    #expect(status(long, limits: HTTPLimits(lineBytesMax: 115)) == 414)
  }

  @Test("an endless head is refused before it is complete, whatever it consists of")
  func endless() {
    for piece in ["a", "a: b\r\n"] {
      let text = "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: piece, count: 20_000)
      #expect(status(text) == 431)
    }
  }

  @Test("bodies, announced and chunked")
  func body() {
    let limits = HTTPLimits(bodyBytesMax: 5)
    let hello = Array("hello".utf8)
    #expect(status(request("Content-Length: 5") + hello, limits: limits) == nil)
    #expect(status(request("Content-Length: 6"), limits: limits) == 413)
    let chunked = request("Transfer-Encoding: chunked")
    #expect(status(chunked + Array("5\r\nhello\r\n0\r\n\r\n".utf8), limits: limits) == nil)
    #expect(status(chunked + Array("5\r\nhello\r\n1\r\n".utf8), limits: limits) == 413)
  }

  @Test("chunk lines and trailers")
  func chunkLines() {
    let limits = HTTPLimits(chunkLineBytesMax: 10, trailerBytesMax: 20)
    let start = request("Transfer-Encoding: chunked")
    func status(_ body: String) -> Int? {
      GrenacheFramingTests.status(start + Array(body.utf8), limits: limits)
    }
    #expect(status("1;abcdef\r\na\r\n0\r\n\r\n") == nil)
    #expect(status("1;abcdefg\r\na\r\n0\r\n\r\n") == 400)
    #expect(status("0\r\nA: bcdefghijklmnopq\r\n\r\n") == 431)
    #expect(status("0\r\nA: bcdefghijklm\r\n\r\n") == nil)
  }
}

@Suite("HTTP/1.1: any split of the input gives the same events")
struct HTTPSplitTests {
  static let requests = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\na\r\n"
      + "0123456789\r\n0\r\nT: r\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nBad : x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
  ]
  static let responses = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 204 \r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      + "3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "HTTP/1.1 xyz\r\n\r\n",
  ]

  @Test("whole, byte by byte, and at random places")
  func splits() {
    for (texts, parse) in [
      (Self.requests, { parseRequests($0, cuts: $1) }),
      (Self.responses, { parseResponses($0, cuts: $1) }),
    ] {
      for (number, text) in texts.enumerated() {
        let input = Array(text.utf8)
        let whole = parse(input, [])
        #expect(!whole.isEmpty)
        #expect(parse(input, Array(1..<input.count)) == whole)
        for seed in 0..<50 {
          var generator = SeededGenerator(seed: UInt64(seed * 100 + number))
          let cuts = (0..<5).map { _ in Int.random(in: 0...input.count, using: &generator) }
          #expect(parse(input, cuts) == whole, "seed \(seed), vector \(number)")
        }
      }
    }
  }

  @Test("mutated input: no trap, always an end")
  func mutations() {
    var generator = SeededGenerator(seed: 7)
    let vectors = Self.requests.map { Array($0.utf8) }
    let others = Self.responses.map { Array($0.utf8) }
    for round in 0..<30_000 {
      let isRequest = round % 2 == 0
      var input = (isRequest ? vectors : others).randomElement(using: &generator) ?? []
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<input.count, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: input[index] = UInt8.random(in: 0...255, using: &generator)
        case 1: input.remove(at: index)
        default: input.insert(input[input.count - 1 - index], at: index)
        }
        if input.isEmpty { input = [0] }
      }
      let cut = Int.random(in: 0...input.count, using: &generator)
      let whole = isRequest ? parseRequests(input) : parseResponses(input)
      let split = isRequest ? parseRequests(input, cuts: [cut]) : parseResponses(input, cuts: [cut])
      #expect(whole == split, "round \(round)")
    }
  }
}

@Suite("Writing HTTP")
struct HTTPWriterTests {
  static let connection = HTTPConnectionField(keepsAlive: true, idleSeconds: 5)

  @Test("what is written is read back")
  func roundTrip() throws {
    var output: [UInt8] = []
    try output.appendHTTPRequestHead(
      .post, target: "/x?y", host: "a:1", fields: [("X", "y z")], contentLength: 2)
    output += Array("ab".utf8)
    let events = parseRequests(output)
    #expect(
      events == [
        .head(
          method: "POST", target: "/x?y", status: 200,
          fields: ["Host: a:1", "X: y z", "Content-Length: 2"], keepsAlive: true),
        .body(Array("ab".utf8)), .end,
      ])
  }

  @Test("a response has exactly these fields")
  func response() throws {
    var output: [UInt8] = []
    try output.appendHTTPResponseHead(
      .ok, fields: [], contentLength: 10, date: Array("D".utf8), connection: Self.connection)
    let text = "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
    #expect(String(decoding: output, as: UTF8.self) == text + "Content-Length: 10\r\n\r\n")
  }

  @Test(
    "no field of a caller can split a message",
    arguments: [("X\r\n", "y"), ("X", "y\r\nZ: 1"), ("X", "y\0"), ("X:", "y"), ("", "y")])
  func splitting(_ name: String, _ value: String) {
    var fields = HTTPFields()
    fields.append(name, value)
    var output: [UInt8] = [1]
    #expect(throws: HTTPError.self) {
      try output.appendHTTPResponseHead(
        .ok, fields: fields, contentLength: 0, date: [], connection: Self.connection)
    }
    #expect(throws: HTTPError.self) {
      try output.appendHTTPRequestHead(
        .get, target: "/", host: "a", fields: fields, contentLength: nil)
    }
    #expect(output == [1])
  }

  @Test(
    "dates, RFC 9110 §5.6.7",
    arguments: [
      (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
      (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
      (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
    ])
  func dates(_ seconds: Int64, _ text: String) {
    #expect(String(decoding: HTTPDate.imfFixdate(secondsSince1970: seconds), as: UTF8.self) == text)
  }
}

@Suite("RFC 9112 §6.3 Response body length")
struct ResponseTests {
  @Test("a response to HEAD, and those that never have one, have no body")
  func noBody() {
    let head = Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".utf8)
    #expect(parseResponses(head, to: .head).last == .end)
    #expect(parseResponses(Array("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n".utf8)).last == .end)
  }

  @Test("a stream that ends in the middle is never taken for a whole response")
  func truncation() {
    let whole = Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".utf8)
    for count in 40..<whole.count {
      #expect(parseResponses(Array(whole[..<count])).last == .error(status: 400))
    }
    #expect(parseResponses(whole).last == .end)
  }

  @Test("interim responses are bounded")
  func informational() {
    let one = "HTTP/1.1 103 X\r\n\r\n"
    let final = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    let most = Array((String(repeating: one, count: 16) + final).utf8)
    #expect(parseResponses(most).last == .end)
    let more = Array((String(repeating: one, count: 17) + final).utf8)
    #expect(parseResponses(more).last == .error(status: 400))
  }
}
