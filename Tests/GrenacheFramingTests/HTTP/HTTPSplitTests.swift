import TestSupport
import Testing

@testable import GrenacheFraming

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
