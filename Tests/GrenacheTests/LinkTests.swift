import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

/// A grape's API that answers as a test says and counts what it is asked.
struct FakeGrape: Sendable {
  typealias Answer = @Sendable (_ path: String, _ count: Int) async -> (status: Int, body: String)

  static func with<Result>(
    _ tls: TLSConfiguration, answer: @escaping Answer, stream: HTTPStreamHandler? = nil,
    _ body: (Endpoint, _ asked: @escaping @Sendable () -> Int) async throws -> Result
  ) async throws -> Result {
    let asked = Mutex(0)
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(tls),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { request in
          let count = asked.withLock { value in
            value += 1
            return value
          }
          let (status, body) = await answer(request.target, count)
          return HTTPServerResponse(HTTPStatus(code: status), body: Array(body.utf8))
        },
        stream: { request in
          guard request.fields.has("application/x-ndjson", in: "Accept") else { return nil }
          return stream
        }),
      group: EventLoopGroup(count: 1), logger: quietLogger)
    do {
      let result = try await body(Endpoint(server.localAddress)) { asked.withLock { $0 } }
      await server.shutDown(within: .zero)
      return result
    } catch {
      await server.shutDown(within: .zero)
      throw error
    }
  }
}

@Suite("Link", .timeLimit(.minutes(2)))
struct LinkTests {
  let authority: TestAuthority
  let nobody = Endpoint(host: "127.0.0.1", port: 1)

  init() throws { authority = try TestAuthority() }

  private func link(
    _ grapes: [Endpoint], configure: (inout LinkConfiguration) -> Void = { _ in }
  ) async throws -> Link {
    var configuration = LinkConfiguration(grapes: grapes, tls: try authority.client())
    configure(&configuration)
    return try await Link(configuration, logger: quietLogger)
  }

  private func withGrape<Result>(
    answer: @escaping FakeGrape.Answer,
    _ body: (Endpoint, _ asked: @escaping @Sendable () -> Int) async throws -> Result
  ) async throws -> Result {
    try await FakeGrape.with(try authority.host(), answer: answer, body)
  }

  @Test("lookups at the same time share one request, and later ones its result for a while")
  func coalescing() async throws {
    try await withGrape(answer: { _, _ in (200, #"["10.0.0.1:5","10.0.0.2:6"]"#) }) {
      grape, asked in
      let link = try await link([grape]) { $0.cacheAge = .seconds(60) }
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<100 { group.addTask { try await link.lookup("rpc_test").count } }
        for try await count in group { #expect(count == 2) }
      }
      #expect(asked() == 1)
      _ = try await link.lookup("other")
      #expect(asked() == 2)
    }
  }

  @Test("an empty result is not kept: a new worker is seen at once")
  func emptyResult() async throws {
    try await withGrape(answer: { _, count in (200, count == 1 ? "[]" : #"["10.0.0.1:5"]"#) }) {
      grape, asked in
      let link = try await link([grape])
      #expect(try await link.lookup("rpc_test") == [])
      #expect(try await link.lookup("rpc_test") == [Endpoint(host: "10.0.0.1", port: 5)])
    }
  }

  @Test("a result is looked up anew when it is too old")
  func age() async throws {
    try await withGrape(answer: { _, count in (200, #"["10.0.0.1:\#(count)"]"#) }) { grape, _ in
      let link = try await link([grape]) { $0.cacheAge = .zero }
      for port in 1...3 {
        #expect(try await link.lookup("rpc_test").first?.port == UInt16(port))
      }
    }
  }

  @Test("a dead grape is passed over, and the one that answered is asked first from then on")
  func failover() async throws {
    try await withGrape(answer: { _, _ in (200, "[]") }) { grape, asked in
      let link = try await link([nobody, grape])
      for _ in 0..<3 { #expect(try await link.lookup("rpc_test") == []) }
      #expect(asked() == 3)
    }
  }

  @Test(
    "a grape that is broken is passed over, and not asked first from then on",
    arguments: [(200, "hello"), (200, ""), (200, "{}"), (500, "boom"), (503, "")])
  func brokenGrape(_ status: Int, _ body: String) async throws {
    try await withGrape(answer: { _, _ in (status, body) }) { broken, askedBroken in
      try await withGrape(answer: { path, _ in
        (200, path == "/lookup" ? #"["10.0.0.1:5"]"# : "1")
      }) { grape, _ in
        let link = try await link([broken, grape])
        #expect(try await link.lookup("rpc_test").count == 1)
        #expect(try await link.announce("rpc_test", port: 5) == 1)
        #expect(askedBroken() == 1)
        // Only a withdrawal is told to all of them.
        #expect(try await link.withdraw("rpc_test", port: 5))
        #expect(askedBroken() == 2)
      }
    }
  }

  @Test(
    "what a grape refuses is not asked of the next one",
    arguments: [
      (200, #""ERR_GRAPE_GENERIC""#), (403, "no"), (413, "ERR_GRAPE_PAYLOAD_SIZE"),
    ])
  func refusal(_ status: Int, _ body: String) async throws {
    try await withGrape(answer: { _, _ in (status, body) }) { refusing, _ in
      try await withGrape(answer: { _, _ in (200, "1") }) { grape, asked in
        let link = try await link([refusing, grape])
        await #expect(throws: GrenacheError.self) { try await link.announce("rpc_test", port: 5) }
        #expect(asked() == 0)
      }
    }
  }

  @Test(
    "a grape that has too much to do: the next one is asked, a put as well; else it is overloaded")
  func overloaded() async throws {
    let pair = try ItemKeyPair()
    let target = ItemTarget(publicKey: pair.publicKey, salt: "")
    for text in ["ERR_GRAPE_OVERLOADED", ""] {
      try await withGrape(answer: { _, _ in (503, #"{"error":"\#(text)"}"#) }) { busy, asked in
        let link = try await link([busy, busy])
        let error = await #expect(throws: GrenacheError.self) {
          try await link.announce("rpc_test", port: 5)
        }
        #expect(error?.code == .overloaded && error?.isRetryable == true)
        #expect(asked() == 2)
        try await withGrape(answer: { _, _ in (200, "\"\(target)\"") }) { grape, _ in
          let link = try await self.link([busy, grape])
          let code: GrenacheError.Code?
          do throws(GrenacheError) {
            _ = try await link.put("text", signedBy: pair, sequence: 1)
            code = nil
          } catch {
            code = error.code
          }
          // Without the grape's own word it may have been stored.
          #expect(code == (text.isEmpty ? .grapeRefused : nil))
        }
      }
    }
  }

  @Test("a grape that does not answer costs the time of one attempt, then the next is asked")
  func slowGrape() async throws {
    let gate = Tally()
    try await withGrape(answer: { _, _ in
      await gate.reaches(1)
      return (200, "[]")
    }) { slow, _ in
      try await withGrape(answer: { _, _ in (200, #"["10.0.0.1:5"]"#) }) { grape, _ in
        let link = try await link([slow, grape]) { $0.attemptTimeout = .seconds(1) }
        #expect(try await link.lookup("rpc_test").count == 1)
      }
      await gate.add()
    }
  }

  @Test("no grape at all is an error that names one and why")
  func unreachable() async throws {
    let link = try await link([nobody, nobody])
    let error = await #expect(throws: GrenacheError.self) { try await link.lookup("rpc_test") }
    #expect(error?.code == .grapeUnreachable)
    #expect(error?.isRetryable == true)
    #expect(error?.description.contains("127.0.0.1:1") == true)
    await #expect(throws: GrenacheError.self) {
      try await Link(LinkConfiguration(grapes: [], tls: try authority.client()))
    }
  }

  @Test("a grape that cannot prove who it is gets no request")
  func untrusted() async throws {
    let stranger = try TestAuthority().host()
    try await FakeGrape.with(stranger, answer: { _, _ in (200, "[]") }) { grape, asked in
      let link = try await link([grape])
      let error = await #expect(throws: GrenacheError.self) { try await link.lookup("rpc_test") }
      #expect(error?.code == .grapeUnreachable)
      #expect(error?.cause?.tls?.code != nil)
      #expect(asked() == 0)
    }
  }

  @Test(
    "answers that are none are refused with what was said",
    arguments: [
      (200, #""ERR_GRAPE_GENERIC""#), (200, "hello"), (200, ""), (200, "{}"), (200, "[5]"),
      (500, "boom"), (302, "elsewhere"),
    ])
  func refused(_ status: Int, _ body: String) async throws {
    try await withGrape(answer: { _, _ in (status, body) }) { grape, _ in
      let link = try await link([grape])
      let error = await #expect(throws: GrenacheError.self) { try await link.lookup("rpc_test") }
      #expect(error?.code == .grapeRefused)
      if status != 200 { #expect(error?.message.contains(body) == true) }
    }
  }

  @Test("workers that are no addresses are left out, the others stay")
  func oddWorkers() async throws {
    let body = #"["10.0.0.1:5","10.0.0.1","10.0.0.1:0","10.0.0.1:65536",":5","a b:5","[::1]:7"]"#
    try await withGrape(answer: { _, _ in (200, body) }) { grape, _ in
      let link = try await link([grape])
      let found = try await link.lookup("rpc_test")
      #expect(found == [Endpoint(host: "10.0.0.1", port: 5), Endpoint(host: "::1", port: 7)])
    }
  }

  @Test("names are no workers: a grape does not choose what this side's resolver is asked for")
  func names() async throws {
    let body = #"["localhost:5","evil.example.org:5","127.1:6","10.0.0.1:5"]"#
    try await withGrape(answer: { _, _ in (200, body) }) { grape, _ in
      let link = try await link([grape])
      #expect(try await link.lookup("rpc_test") == [Endpoint(host: "10.0.0.1", port: 5)])
    }
  }

  @Test("as many workers as the limit are taken, the others left out", arguments: [100, 101])
  func manyWorkers(_ count: Int) async throws {
    let workers = (1...count).map { Endpoint(host: "10.0.0.1", port: UInt16($0)) }
    let body = "[\(workers.map { "\"\($0)\"" }.joined(separator: ","))]"
    try await withGrape(answer: { _, _ in (200, body) }) { grape, _ in
      let link = try await link([grape])
      #expect(try await link.lookup("rpc_test") == Array(workers.prefix(100)))
    }
  }

  @Test("announcing: the number of nodes, an error's text")
  func announce() async throws {
    for (body, stored) in [("2", 2), (#""No nodes to query""#, 0)] {
      try await withGrape(answer: { _, _ in (200, body) }) { grape, _ in
        let link = try await link([grape])
        #expect(try await link.announce("rpc_test", port: 5) == stored)
      }
    }
    try await withGrape(answer: { _, _ in (200, #""ERR_GRAPE_GENERIC""#) }) { grape, _ in
      let link = try await link([grape])
      let error = await #expect(throws: GrenacheError.self) {
        try await link.announce("rpc_test", port: 5)
      }
      #expect(error?.code == .grapeRefused)
      #expect(error?.message.contains("ERR_GRAPE_GENERIC") == true)
    }
  }

  @Test("announcing goes on until the task is cancelled")
  func keepAnnouncing() async throws {
    let (announced, continuation) = AsyncStream.makeStream(of: String.self)
    try await withGrape(answer: { path, _ in
      continuation.yield(path)
      return (200, "1")
    }) { grape, _ in
      let link = try await link([grape]) { $0.announceInterval = .milliseconds(20) }
      let task = Task { await link.keepAnnouncing("rpc_test", port: 5) }
      var count = 0
      for await path in announced {
        #expect(path == "/announce")
        count += 1
        if count == 3 { break }
      }
      task.cancel()
      await task.value
    }
  }

  @Test("a scope announces before its body and withdraws behind it, however that ends")
  func announcing() async throws {
    let paths = Mutex<[String]>([])
    try await withGrape(answer: { path, _ in
      paths.withLock { $0.append(path) }
      return (200, "1")
    }) { grape, _ in
      let link = try await link([grape])
      let seen = try await link.announcing("rpc_test", port: 4_001) {
        paths.withLock { $0 }
      }
      #expect(seen.first == "/announce")
      #expect(paths.withLock { $0.last } == "/withdraw")
      await #expect(throws: CancellationError.self) {
        try await link.announcing("rpc_test", port: 4_001) { throw CancellationError() }
      }
      #expect(paths.withLock { $0.filter { $0 == "/withdraw" }.count } == 2)
    }
  }

  @Test(
    "an existing grape knows no withdrawal; an error of announcing comes out of the scope",
    arguments: ["\"ERR_REQ_NOTFOUND\"", "\"ERR_GRAPE_SERVICE_PORT\""])
  func announcingRefused(_ body: String) async throws {
    try await withGrape(answer: { _, _ in (200, body) }) { grape, _ in
      let link = try await link([grape])
      let error = await #expect(throws: GrenacheError.self) {
        try await link.announcing("rpc_test", port: 4_001) { Issue.record("it ran") }
      }
      #expect(error?.code == .grapeRefused)
      if body.contains("REQ_NOTFOUND") {
        #expect(try await !link.withdraw("rpc_test", port: 4_001))
      }
    }
  }

  @Test("a deadline and a cancelled task end a lookup")
  func deadline() async throws {
    let gate = Tally()
    try await withGrape(answer: { _, _ in
      await gate.reaches(1)
      return (200, "[]")
    }) { grape, asked in
      let link = try await link([grape])
      let late = await #expect(throws: GrenacheError.self) {
        try await link.lookup("a", within: .milliseconds(50))
      }
      #expect(late?.code == .deadlineExceeded)
      let before = asked()
      let task = Task { try await link.lookup("b", within: .seconds(50)) }
      try await eventually { asked() > before }
      task.cancel()
      let cancelled = await #expect(throws: GrenacheError.self) { try await task.value }
      #expect(cancelled?.code == .cancelled)
      await gate.add()
    }
  }
}

@Suite("Link: workers as grapes find them", .timeLimit(.minutes(2)))
struct FoundWorkersTests {
  let authority: TestAuthority
  private let one = Endpoint(host: "10.0.0.1", port: 5)
  private let two = Endpoint(host: "10.0.0.2", port: 6)

  init() throws { authority = try TestAuthority() }

  private func link(
    _ grapes: [Endpoint], configure: (inout LinkConfiguration) -> Void = { _ in }
  ) async throws -> Link {
    var configuration = LinkConfiguration(grapes: grapes, tls: try authority.client())
    configure(&configuration)
    return try await Link(configuration, logger: quietLogger)
  }

  private func all(_ found: FoundWorkers) async throws -> [Endpoint] {
    try await found.reduce(into: []) { $0.append($1) }
  }

  /// A grape that tells one worker at once, in two pieces, and the rest when `more` says so.
  private func withGrape(
    more: AsyncStream<Void>, ended: Flag = Flag(), breaksOff: Bool = false,
    _ body: (Endpoint) async throws -> Void
  ) async throws {
    try await FakeGrape.with(
      try authority.host(), answer: { _, _ in (500, "a streamed lookup was wanted") },
      stream: { request, parts, writer in
        defer { ended.set() }
        do {
          for try await _ in parts {}
          try await writer.start(.ok, fields: [("Content-Type", "application/x-ndjson")])
          for text in ["[\"10.0.0.", "1:5\"]\n"] { try await writer.write(Array(text.utf8)) }
          for await _ in more { break }
          if breaksOff || Task.isCancelled { return await writer.abort() }
          try await writer.write(Array("[\"10.0.0.1:5\",\"10.0.0.2:6\"]\n[]\n".utf8))
        } catch {
          await writer.abort()
        }
      }
    ) { grape, _ in try await body(grape) }
  }

  @Test("the first worker comes while the grape still looks for others; each comes once")
  func streamed() async throws {
    let (more, release) = AsyncStream.makeStream(of: Void.self)
    try await withGrape(more: more) { grape in
      let link = try await link([grape])
      var workers = link.workers(of: "rpc_test").makeAsyncIterator()
      #expect(try await workers.next() == one)
      release.finish()
      #expect(try await workers.next() == two)
      #expect(try await workers.next() == nil)
      #expect(try await link.lookup("rpc_test") == [one, two], "it is remembered")
      #expect(try await all(link.workers(of: "rpc_test")) == [one, two])
    }
  }

  @Test("who takes the first and goes ends the lookup")
  func first() async throws {
    let (more, release) = AsyncStream.makeStream(of: Void.self)
    let ended = Flag()
    try await withGrape(more: more, ended: ended) { grape in
      let link = try await link([grape])
      for try await worker in link.workers(of: "rpc_test") {
        #expect(worker == one)
        break
      }
      try await eventually("the lookup's end") { ended.isSet }
    }
    release.finish()
  }

  @Test("a grape that breaks off in the middle is replaced by the next one, perhaps an old one")
  func brokenOff() async throws {
    let (more, release) = AsyncStream.makeStream(of: Void.self)
    release.finish()
    try await withGrape(more: more, breaksOff: true) { broken in
      try await FakeGrape.with(
        try authority.host(), answer: { _, _ in (200, #"["10.0.0.1:5","10.0.0.2:6"]"#) }
      ) { old, asked in
        let link = try await link([broken, old])
        #expect(try await all(link.workers(of: "rpc_test")) == [one, two])
        #expect(asked() == 1)
      }
      let error = await #expect(throws: GrenacheError.self) {
        try await all(link([broken]).workers(of: "rpc_test"))
      }
      #expect(error?.code == .grapeUnreachable)
    }
  }

  @Test(
    "an old grape's whole answer is as good, and so are its errors",
    arguments: [
      (200, #"["10.0.0.1:5","10.0.0.2:6"]"#, nil), (200, "[]", nil),
      (200, #""ERR_GRAPE_LOOKUP""#, .grapeRefused), (200, "", .grapeRefused),
      (403, "no", .notPermitted), (429, "ERR_GRAPE_CALLER_LIMIT", .overloaded),
      (503, "later", .overloaded), (500, "boom", .grapeRefused),
    ] as [(Int, String, GrenacheError.Code?)])
  func oldGrape(_ status: Int, _ body: String, _ code: GrenacheError.Code?) async throws {
    try await FakeGrape.with(try authority.host(), answer: { _, _ in (status, body) }) {
      grape, _ in
      let found = try await link([grape]).workers(of: "rpc_test")
      guard let code else {
        #expect(try await all(found) == (body == "[]" ? [] : [one, two]))
        return
      }
      let error = await #expect(throws: GrenacheError.self) { try await all(found) }
      #expect(error?.code == code)
    }
  }

  @Test("a deadline ends it, and so does a cancelled task")
  func deadline() async throws {
    let (more, release) = AsyncStream.makeStream(of: Void.self)
    try await withGrape(more: more) { grape in
      let link = try await link([grape])
      var late = link.workers(of: "rpc_test", within: .seconds(2)).makeAsyncIterator()
      #expect(try await late.next() == one)
      let error = await #expect(throws: GrenacheError.self) { try await late.next() }
      #expect(error?.code == .deadlineExceeded)
      let task = Task { try await all(link.workers(of: "rpc_test")) }
      task.cancel()
      let cancelled = await #expect(throws: GrenacheError.self) { try await task.value }
      #expect(cancelled?.code == .cancelled)
    }
    release.finish()
  }

  @Test("workers up to the limit, and not one more", arguments: [100, 101])
  func limit(_ count: Int) async throws {
    let workers = (1...count).map { Endpoint(host: "10.0.0.1", port: UInt16($0)) }
    let body = "[\(workers.map { "\"\($0)\"" }.joined(separator: ","))]"
    try await FakeGrape.with(try authority.host(), answer: { _, _ in (200, body) }) { grape, _ in
      let link = try await link([grape])
      #expect(try await all(link.workers(of: "rpc_test")) == Array(workers.prefix(100)))
    }
  }

  @Test("lines: whatever the pieces they come in; one at the limit, and one past it")
  func lines() {
    let text = Array("[1]\n\n[2]\n[3".utf8)
    for size in 1...text.count {
      var answer = GrapeAnswer(isInLines: true)
      var lines: [String] = []
      for start in stride(from: 0, to: text.count, by: size) {
        let isTaken = answer.append(Array(text[start..<min(start + size, text.count)]))
        #expect(isTaken)
        while let line = answer.nextLine() { lines.append(String(decoding: line, as: UTF8.self)) }
      }
      #expect(lines == ["[1]", "", "[2]"] && answer.rest == Array("[3".utf8))
    }
    for isInLines in [true, false] {
      var answer = GrapeAnswer(isInLines: isInLines)
      let most = answer.append([UInt8](repeating: 0x20, count: GrapeAnswer.lineBytesMax))
      let more = answer.append([0x20])
      #expect(most && !more)
    }
    var answer = GrapeAnswer(isInLines: true)
    let most = answer.append([UInt8](repeating: 0x0a, count: GrapeAnswer.linesMax))
    while answer.nextLine() != nil {}
    let more = answer.append([0x0a])
    #expect(most && !more)
  }
}

@Suite("Lookup cache")
struct LookupCacheTests {
  private let here = [Endpoint(host: "10.0.0.1", port: 1)]

  @Test("entries up to the limit are kept; one past it pushes out the one that expires first")
  func limit() {
    var cache = LookupCache(age: .seconds(10), entriesMax: 3)
    for number in 0..<4 {
      let now = MonotonicTime(nanoseconds: UInt64(number))
      cache.store(here, of: "\(number)", at: now)
    }
    let now = MonotonicTime(nanoseconds: 5)
    #expect(cache.count == 3)
    #expect(cache.endpoints(of: "0", at: now) == nil)
    for number in 1..<4 { #expect(cache.endpoints(of: "\(number)", at: now) == here) }
  }

  @Test("an entry ends with its age, to the nanosecond")
  func age() {
    var cache = LookupCache(age: .nanoseconds(10), entriesMax: 3)
    cache.store(here, of: "a", at: MonotonicTime(nanoseconds: 100))
    #expect(cache.endpoints(of: "a", at: MonotonicTime(nanoseconds: 109)) == here)
    #expect(cache.endpoints(of: "a", at: MonotonicTime(nanoseconds: 110)) == nil)
  }

  @Test("what is too old before its time is as old as then, and no younger for being told again")
  func expiry() {
    var cache = LookupCache(age: .nanoseconds(10), entriesMax: 3)
    func endpoints(at now: UInt64, staleBy: Duration = .zero) -> [Endpoint]? {
      cache.endpoints(of: "a", at: MonotonicTime(nanoseconds: now), staleBy: staleBy)
    }
    cache.expire("a", at: MonotonicTime(nanoseconds: 100))
    #expect(cache.count == 0)
    cache.store(here, of: "a", at: MonotonicTime(nanoseconds: 100))
    cache.expire("a", at: MonotonicTime(nanoseconds: 105))
    cache.expire("a", at: MonotonicTime(nanoseconds: 108))
    #expect(endpoints(at: 105) == nil)
    #expect(endpoints(at: 124, staleBy: .nanoseconds(20)) == here)
    #expect(endpoints(at: 125, staleBy: .nanoseconds(20)) == nil)
    cache.store(here, of: "a", at: MonotonicTime(nanoseconds: 130))
    #expect(endpoints(at: 139) == here)
  }
}
