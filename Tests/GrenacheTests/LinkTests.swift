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
    _ tls: TLSConfiguration, answer: @escaping Answer,
    _ body: (Endpoint, _ asked: @escaping @Sendable () -> Int) async throws -> Result
  ) async throws -> Result {
    let asked = Mutex(0)
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(tls),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(respond: { request in
        let count = asked.withLock { value in
          value += 1
          return value
        }
        let (status, body) = await answer(request.target, count)
        return HTTPServerResponse(HTTPStatus(code: status), body: Array(body.utf8))
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

@Suite("Link")
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
        #expect(try await link.withdraw("rpc_test", port: 5))
        #expect(askedBroken() == 1)
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

  @Test("a grape that does not answer costs the time of one attempt, then the next is asked")
  func slowGrape() async throws {
    try await withGrape(answer: { _, _ in
      try? await Task.sleep(for: .seconds(3))
      return (200, "[]")
    }) { slow, _ in
      try await withGrape(answer: { _, _ in (200, #"["10.0.0.1:5"]"#) }) { grape, _ in
        let link = try await link([slow, grape]) { $0.attemptTimeout = .seconds(1) }
        #expect(try await link.lookup("rpc_test").count == 1)
      }
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
    try await withGrape(answer: { _, _ in
      try? await Task.sleep(for: .milliseconds(500))
      return (200, "[]")
    }) { grape, _ in
      let link = try await link([grape])
      let late = await #expect(throws: GrenacheError.self) {
        try await link.lookup("a", within: .milliseconds(50))
      }
      #expect(late?.code == .deadlineExceeded)
      let task = Task { try await link.lookup("b") }
      task.cancel()
      let cancelled = await #expect(throws: GrenacheError.self) { try await task.value }
      #expect(cancelled?.code == .cancelled)
    }
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
